"""One idea: its card, supporting and following it."""

from collections.abc import Callable

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Message, Pressed, T, Text
from handlers.ideas.words import body, decisions, gone, meeting
from storage import ideas
from storage.ideas import NotOpen, Order
from storage.people import Role

router = Router()


@router.press("idea.show")
def show(turn: Turn, number: str) -> None:
    try:
        turn.say(card_for(turn, number))
    except NotOpen:
        if isinstance(turn.update, Pressed):
            turn.toast(gone(number))
        else:
            turn.say(gone(number), Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))


def card_for(turn: Turn, number: str) -> Message:
    """The card as this person sees it here. Raises ``NotOpen``."""
    if not number.isdecimal():
        raise NotOpen(number)
    team = turn.chat.private and turn.may(Role.MODERATOR)
    if team and (hidden := ideas.hidden(turn.db, int(number))) is not None:
        return Message(body(turn, hidden), tuple(decisions(hidden.idea)))
    person = turn.person.id if turn.chat.private else None
    card = ideas.card(turn.db, int(number), person)
    if not turn.chat.private:
        return Message(
            body(turn, card),
            (
                Choice(T("Support"), "idea.support", (number,)),
                Choice(T("Take my support back"), "idea.unsupport", (number,)),
                Choice(T("Discuss it in private"), start=f"idea-{number}"),
            ),
        )
    choices = [
        Choice(T("Take my support back"), "idea.unsupport", (number,))
        if card.supported
        else Choice(T("Support"), "idea.support", (number,)),
        Choice(T("Comment"), "idea.comment", (number,)),
    ]
    if card.idea.comments:
        choices.append(Choice(T("Read comments ({n})", n=card.idea.comments), "idea.comments", (number,)))
    choices.append(
        Choice(T("Unfollow"), "idea.unfollow", (number,))
        if card.followed
        else Choice(T("Follow"), "idea.follow", (number,))
    )
    if card.own:
        choices.append(Choice(T("Change"), "idea.edit", (number,)))
        choices.append(Choice(T("Withdraw"), "idea.withdraw", (number,)))
    if team:
        choices.append(Choice(T("Answer"), "idea.answer", (number,)))
        choices += decisions(card.idea)
    if turn.may(Role.ORGANISER):
        choices.append(meeting(card.idea))
    choices.append(Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))
    return Message(body(turn, card), tuple(choices))


@router.press("idea.support", undo="idea.unsupport")
def support(turn: Turn, number: str) -> None:
    def note() -> Text:
        if ideas.support(turn.db, int(number), turn.person.id, turn.now):
            return T("Thank you, your support for #{number} counts.", number=number)
        return T("You support #{number} already.", number=number)

    change(turn, number, note)


@router.press("idea.unsupport")
def unsupport(turn: Turn, number: str) -> None:
    def note() -> Text:
        if ideas.unsupport(turn.db, int(number), turn.person.id):
            return T("Your support for #{number} is taken back.", number=number)
        return T("You do not support #{number}.", number=number)

    change(turn, number, note)


def change(turn: Turn, number: str, make: Callable[[], Text]) -> None:
    """Do something about an idea, note what it was, and show the card as it is then."""
    try:
        note = make()
        card = card_for(turn, number)
    except NotOpen:
        turn.toast(gone(number))
        return
    turn.toast(note)
    turn.replace(card)


@router.press("idea.follow", undo="idea.unfollow")
def follow(turn: Turn, number: str) -> None:
    try:
        ideas.visible(turn.db, int(number))
        ideas.follow(turn.db, int(number), turn.person.id, turn.now)
        turn.toast(T("I will tell you when something happens with #{number}.", number=number))
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))


@router.press("idea.unfollow")
def unfollow(turn: Turn, number: str) -> None:
    ideas.unfollow(turn.db, int(number), turn.person.id)
    turn.toast(T("You no longer hear of #{number}.", number=number))
    try:
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))
