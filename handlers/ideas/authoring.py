"""What only an idea's author can do: change it and take it back."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.help import cancel, menu
from handlers.ideas.showing import card_for
from handlers.ideas.suggesting import go_on, headline, offer
from handlers.ideas.words import CANCEL, gone, number_of, tell_team, too_much
from storage import ideas
from storage.ideas import LONGEST_TEXT, NotOpen, NotYours

router = Router()


def is_own(turn: Turn, number: str) -> bool:
    """Whether this person may change the idea now; who may not is told."""
    try:
        ideas.own(turn.db, int(number), turn.person.id)
    except NotOpen:
        turn.toast(gone(number))
    except NotYours:
        turn.toast(T("Only its author can change #{number}.", number=number))
    else:
        return True
    return False


@router.press("idea.edit")
def ask_change(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    turn.ask(
        T(
            "How shall #{number} read now? The first line is its title, what follows its text. "
            "You can also just edit your own message.",
            number=number,
        ),
        CANCEL,
        step="idea.change",
        data={"number": number},
    )


@router.step("idea.change")
def take_change(turn: Turn, text: str) -> None:
    number = str(turn.data["number"])
    title, rest = headline(text)
    if not title or len(rest) > LONGEST_TEXT:
        turn.ask(too_much(rest, LONGEST_TEXT), CANCEL, step="idea.change", data=turn.data)
        return
    turn.done()
    if not is_own(turn, number):
        return
    before = ideas.visible(turn.db, int(number)).text
    idea = ideas.change(turn.db, int(number), turn.person.id, title, rest or before)
    turn.say(T("#{number} is changed.", number=number), Choice(T("View"), "idea.show", (number,)))
    tell_team(turn, idea)


@router.edited
def edited(turn: Turn, text: str) -> bool:
    """Editing the message an idea was written in edits the idea, and the draft while it is one."""
    if turn.message is None:
        return False
    title, rest = headline(text)
    if turn.dialog is not None and turn.data.get("source") == turn.message.id and title:
        if turn.dialog.step == "idea.offer":
            offer(turn, [text, *turn.data["said"][1:]], turn.message.id)
        else:
            go_on(turn, {**turn.data, "title": title}, rest)
        return True
    idea = ideas.from_message(turn.db, turn.chat.id, turn.message.id)
    if idea is None or idea.author_id != turn.person.id or idea.status not in ideas.OPEN:
        return False
    if not title or len(rest) > LONGEST_TEXT:
        turn.say(too_much(rest, LONGEST_TEXT))
        return True
    number = number_of(idea)
    if (title, rest or idea.text) != (idea.title, idea.text):
        changed = ideas.change(turn.db, number, turn.person.id, title, rest or idea.text)
        turn.say(T("#{number} is changed.", number=str(number)), Choice(T("View"), "idea.show", (str(number),)))
        tell_team(turn, changed)
    return True


@router.retracted
def retracted(turn: Turn) -> bool:
    """Taking back the message an idea was written in withdraws the idea, or drops the draft."""
    if turn.message is None or not turn.known:
        return False
    if turn.data.get("source") == turn.message.id:
        cancel(turn)
        return True
    idea = ideas.from_message(turn.db, turn.chat.id, turn.message.id)
    if idea is None or idea.author_id != turn.person.id or idea.status not in ideas.OPEN:
        return False
    withdraw_confirmed(turn, str(idea.id))
    return True


@router.press("idea.withdraw")
def withdraw(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    turn.replace(
        T("Shall #{number} really be withdrawn? Nobody will see it any more.", number=number),
        Choice(T("Yes, withdraw"), "idea.withdraw_confirmed", (number,)),
        Choice(T("No, it stays"), "idea.stays", (number,)),
    )


@router.press("idea.stays")
def stays(turn: Turn, number: str) -> None:
    try:
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))


@router.press("idea.withdraw_confirmed")
def withdraw_confirmed(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    idea = ideas.withdraw(turn.db, int(number), turn.person.id)
    turn.replace(T("#{number} is withdrawn.", number=number), *menu())
    tell_team(turn, idea)
