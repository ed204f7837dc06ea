"""Finding polls: the newest that somebody can see, and one of them by its number."""

import re

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.polls.opening import open_ballot, show
from handlers.polls.words import may_decide
from storage.polls import asking
from storage.polls.tables import LONGEST_QUESTION, Status

router = Router()


@router.command("polls", help=T("See polls; with a number one of them, with words those"))
def polls_command(turn: Turn, text: str) -> None:
    if (number := re.fullmatch(r"#?\s*(\d{1,9})", text)) is not None:
        offer_to_close(turn, number[1])
        show(turn, number[1])
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
    offer_to_close(turn, number)
    open_ballot(turn, number)


def offer_to_close(turn: Turn, number: str) -> None:
    """In private, for whoever decides about it; before the card, whose choices a typed number means then."""
    poll = asking.find(turn.db, int(number)) if turn.chat.private and number.isdecimal() else None
    if poll is not None and poll.status == Status.OPEN and may_decide(turn, poll):
        turn.say(T("You can close poll #{number}:", number=number), Choice(T("Close it"), "poll.close", (number,)))
