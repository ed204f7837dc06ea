"""Finding polls: the newest that somebody can see, and one of them by its number."""

import re

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.polls.voting import open_ballot, show
from storage.polls import asking
from storage.polls.tables import Status

router = Router()


@router.command("polls", help=T("See polls; with a number one of them"))
def polls_command(turn: Turn, text: str) -> None:
    if (number := re.fullmatch(r"#?\s*(\d{1,9})", text)) is not None:
        show(turn, number[1])
    else:
        list_polls(turn)


@router.press("polls.list")
def list_polls(turn: Turn, after: str = "") -> None:
    found = asking.browse(
        turn.db,
        person_id=turn.person.id,
        role=turn.person.role,
        chat_id=None if turn.chat.private else turn.chat.id,
        after=int(after) if after else None,
    )
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
        choices.append(Choice(T("More"), "polls.list", (str(found.after),)))
    turn.replace(T("The newest polls:"), *choices)


@router.press("poll.show")
def show_one(turn: Turn, number: str) -> None:
    open_ballot(turn, number)
