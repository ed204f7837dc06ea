"""Finding polls: the newest that somebody can see, one of them by its number, and for the team who votes for what."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T, Text, Verbatim
from handlers.polls import reading
from handlers.polls.opening import open_ballot, show
from handlers.polls.words import in_numbers, may_decide, number_of, turnout
from storage.people import Role
from storage.polls import asking, voting
from storage.polls.counting import Kind
from storage.polls.tables import LONGEST_QUESTION, Poll, Results, Secrecy, Status

router = Router()

VOTERS = 30
"""How many voters with their ballots are listed at once."""


@router.command("polls", help=T("See polls; with a number one of them, with words those"))
def polls_command(turn: Turn, text: str) -> None:
    if (number := reading.number(text)) is not None:
        offer_what_to_do(turn, number)
        show(turn, number)
    else:
        list_polls(turn, words=text[:LONGEST_QUESTION])


@router.press("polls.list")
def list_polls(turn: Turn, after: str = "", words: str = "") -> None:
    found = asking.browse(
        turn.db,
        person_id=turn.person.id,
        role=turn.person.role,
        chat_id=None if turn.chat.private else turn.chat.id,
        after=int(after) if after else None,
        words=words,
    )
    if not found.polls and words:
        turn.replace(T("I find no poll with “{words}”. /polls shows the newest.", words=words))
        return
    if not found.polls:
        turn.replace(T("There is no poll yet. Ask one: /poll Question? | A | B"))
        return
    choices = [
        Choice(
            T("#{number} {question}", number=str(poll.id), question=poll.question)
            if poll.status == Status.OPEN
            else T("#{number} {question} (closed)", number=str(poll.id), question=poll.question),
            "poll.show",
            (str(poll.id),),
        )
        for poll in found.polls
    ]
    if found.after is not None:
        choices.append(Choice(T("More"), "polls.list", (str(found.after), words)))
    turn.replace(T("Polls with “{words}”:", words=words) if words else T("The newest polls:"), *choices)


@router.press("poll.show")
def show_one(turn: Turn, number: str) -> None:
    offer_what_to_do(turn, number)
    open_ballot(turn, number)


def offer_what_to_do(turn: Turn, number: str) -> None:
    """In private, to the team and who has asked; before the card, whose choices are those that a typed number means."""
    poll = asking.find(turn.db, int(number)) if turn.chat.private and number.isdecimal() else None
    if poll is None:
        return
    choices = []
    if poll.status == Status.OPEN and may_decide(turn, poll):
        choices.append(Choice(T("Close it"), "poll.close", (number,)))
    if poll.status == Status.CLOSED and poll.outcome is None and may_decide(turn, poll):
        choices.append(Choice(T("Say what happens now"), "poll.outcome", (number,)))
    if may_see_votes(turn, poll):
        choices.append(Choice(T("Who votes for what"), "poll.who", (number,)))
    if choices:
        turn.say(T("What you can do about poll #{number}:", number=number), *choices)


# -- who votes for what -------------------------------------------------------------------------------------


def may_see_votes(turn: Turn, poll: Poll) -> bool:
    """Whether somebody can look up each ballot: the lab's team, unless the poll is secret."""
    return poll.secrecy != Secrecy.SECRET and turn.may(Role.MODERATOR) and turn.chat.private


@router.press("poll.who")
def list_voters(turn: Turn, number: str, after: str = "0") -> None:
    poll = asking.find(turn.db, int(number))
    if poll is None or not may_see_votes(turn, poll):
        turn.toast(T("Only the lab's team can see that, in private."))
        return
    if poll.status == Status.OPEN and poll.results != Results.ALWAYS:  # of the team, too, some still have to vote
        turn.toast(T("Who votes for what is shown after the close."))
        return
    kind, page = Kind(poll.kind), voting.voters(turn.connection, number_of(poll), VOTERS + 1, int(after))
    options = voting.options(turn.connection, [number_of(poll)])[number_of(poll)]
    lines: list[Text] = [
        T("<b>#{number} {question}</b>", number=number, question=poll.question),
        *(Verbatim(f"{place}. {option}") for place, option in enumerate(options, 1)),
        Verbatim(""),
        *(Verbatim(f"{voter.pseudonym}: {in_numbers(kind, voter.content)}") for voter in page[:VOTERS]),
    ]
    if not page:
        lines.append(turnout(poll))
    more = [Choice(T("More"), "poll.who", (number, str(page[VOTERS - 1].person_id)))] if len(page) > VOTERS else []
    turn.say(Lines(lines), *more)
