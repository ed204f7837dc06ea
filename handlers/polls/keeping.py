"""What time does to polls: their copies are kept true, they close, and those who have not voted are reminded."""

from datetime import timedelta

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Message, T
from handlers.polls.closing import close_now, forget_traces
from handlers.polls.words import card, number_of, subject
from storage.polls import asking, due, voting
from storage.polls.tables import Poll, Status

router = Router()


@router.due(due.next_refresh)
def refresh_polls(turn: Turn) -> None:
    """However many have voted meanwhile, each copy of a poll is changed once."""
    number = due.to_refresh(turn.connection, turn.now)
    if number is not None:
        poll = asking.find(turn.db, number)
        assert poll is not None
        show_everywhere(turn, poll)


def show_everywhere(turn: Turn, poll: Poll) -> None:
    """All copies of a poll show what the database knows."""
    number = number_of(poll)
    options = voting.options(turn.connection, [number])[number]

    def show(private: bool) -> Message:
        return card(turn, poll, options, private)

    turn.edit_everywhere(subject(number), show, live=poll.status == Status.OPEN)


@router.due(due.next_close)
def close_due_polls(turn: Turn) -> None:
    """A poll whose time is over."""
    number = due.to_close(turn.connection, turn.now)
    if number is not None:
        close_now(turn, number)


@router.due(due.next_reminder)
def remind_of_polls(turn: Turn) -> None:
    """Once before the close, whoever has not voted; some hundred at a time."""
    found = due.to_remind(turn.connection, turn.now, turn.lab.catalogues[turn.lab.catalogues.default].zone)
    if found is None or not found[1]:
        return
    number, people = found
    poll = asking.find(turn.db, number)
    assert poll is not None and poll.closes_at is not None
    turn.notify(
        people,
        T(
            "#{number} “{question}” closes on {time}, and you have not voted yet.",
            number=str(number),
            question=poll.question,
            time=poll.closes_at,
        ),
        Choice(T("Vote"), "poll.ballot", (str(number),)),
    )


@router.every(minutes=60)
def forget_votes(turn: Turn) -> None:
    """What was on its way at the close of a secret poll has arrived by now, and goes too."""
    for number in asking.secret_closed_since(turn.connection, turn.now - timedelta(days=1)):
        forget_traces(turn, number)
