"""Mirroring: a poll that also stands somewhere as the messenger's own (MSC3381), and the answers given there.

Whatever somebody answers in such a poll is kept until its close, by number or in the messenger's own poll: the latest
answer is their ballot, and one that is taken back gives way to the one before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.polls import electing, voting
from storage.polls.counting import Content
from storage.polls.tables import answer_table, poll_table
from storage.polls.voting import Closed, Rules, read, written

MOST_ANSWERS = 50
"""How many of a person's answers in a poll are kept; older ones cannot come back."""


class Source(NamedTuple):
    """Where an answer in the messenger's own poll stands: the chat, and what the messenger calls it."""

    chat_id: int
    external: str


def begin(connection: Connection, number: int) -> None:
    """From now on people may answer this poll in a messenger's own, too."""
    connection.execute(update(poll_table).where(poll_table.c.id == number).values(mirrored=True))


def selected(positions: Sequence[int] | None, options: int, most: int) -> Content | None:
    """What an answer in the messenger's own poll says; ``None`` when it takes back, or is spoiled (MSC3381).

    One option that is unknown spoils it; what is more than ``most`` does not count, and what is said twice counts once.
    """
    if not positions or not all(0 <= position < options for position in positions):
        return None
    return tuple(sorted({*positions[:most]}))


def answer(
    connection: Connection,
    number: int,
    person_id: int,
    content: Content | None,
    at: datetime,
    source: Source | None = None,
) -> Content | None:
    """Somebody answers, or with ``None`` takes back; returns what their ballot says then.

    That may be something else: the latest answer counts, by when it was sent (``at``). One without a ``source`` was
    given by number: it cannot be taken back like a message, so none before it is needed any more. Raises ``Closed``
    once the poll is, or for what was sent at the second of closing or later; and ``Unfit``.
    """
    poll = voting.rules(connection, number, locked=True)
    if poll is None or poll.is_over(at):
        raise Closed(number)
    known = _known(connection, poll, person_id)
    final = [one.at for one in known if one.external is None]
    if not final or final[0] <= at:
        over = [one for one in known if one.at <= at] if source is None else []
        kept = [one for one in known if one not in over]
        over += kept[: max(0, len(kept) + 1 - MOST_ANSWERS)]
        if over:
            connection.execute(_DROP, {"ids": [one.id for one in over]})
        _keep(connection, poll, person_id, content, at, source)
        new = _Answer(0, None, None if content is None else written(content), at)
        known = sorted([*(one for one in known if one not in over), new], key=lambda one: one.at)
    return _settle(connection, poll, person_id, known, at)


def take_back(connection: Connection, source: Source, now: datetime) -> bool:
    """An answer in the messenger's own poll is taken back: the one before it counts again. False when it was none.

    A result stands: after the close nothing changes.
    """
    row = connection.execute(_GIVEN, {"chat": source.chat_id, "external": source.external}).first()
    if row is None:
        return False
    poll = voting.rules(connection, row.poll_id, locked=True)
    assert poll is not None
    row = connection.execute(_GIVEN, {"chat": source.chat_id, "external": source.external}).first()
    if row is not None and not poll.is_over(now):  # read again: whose it is may have changed before the poll was held
        connection.execute(_DROP, {"ids": [row.id]})
        electing.let_in(connection, poll.id, row.person_id)
        _settle(connection, poll, row.person_id, _answers(connection, poll, row.person_id), now)
    return True


def end(connection: Connection, number: int) -> None:
    """The poll is closed: nobody needs to know any more what somebody had answered before."""
    connection.execute(delete(answer_table).where(answer_table.c.poll_id == number))


def merge(connection: Connection, gone: int, kept: int, now: datetime) -> int:
    """One person's answers are another's from now on, and the latest counts; returns how often both had a ballot."""
    theirs = answer_table.c.person_id == gone
    polls = select(answer_table.c.poll_id).where(or_(theirs, answer_table.c.person_id == kept)).distinct()
    doubles = 0
    for number in sorted(connection.execute(polls).scalars()):
        poll = voting.rules(connection, number, locked=True)
        if poll is None or poll.is_over(now):
            continue
        for person_id in (gone, kept):
            _known(connection, poll, person_id)
        doubles += len([person_id for person_id in (gone, kept) if voting.own(connection, poll, person_id)]) == 2
        connection.execute(update(answer_table).where(theirs, answer_table.c.poll_id == number).values(person_id=kept))
        voting.withdraw(connection, number, gone, now)
        _settle(connection, poll, kept, _answers(connection, poll, kept), now)
    connection.execute(update(answer_table).where(theirs).values(person_id=kept))
    return doubles


class _Answer(NamedTuple):
    id: int
    external: str | None
    content: str | None
    at: datetime


_ANSWERS = (
    select(answer_table.c.id, answer_table.c.external, answer_table.c.content, answer_table.c.at)
    .where(answer_table.c.poll_id == bindparam("poll"), answer_table.c.person_id == bindparam("person"))
    .order_by(answer_table.c.at, answer_table.c.id)
)
_GIVEN = select(answer_table.c.id, answer_table.c.poll_id, answer_table.c.person_id).where(
    answer_table.c.chat_id == bindparam("chat"), answer_table.c.external == bindparam("external")
)
_DROP = delete(answer_table).where(answer_table.c.id.in_(bindparam("ids", expanding=True)))


def _answers(connection: Connection, poll: Rules, person_id: int) -> list[_Answer]:
    """What somebody has answered, the oldest first; of two at the same time the one that came first."""
    return [_Answer(*row) for row in connection.execute(_ANSWERS, {"poll": poll.id, "person": person_id})]


def _known(connection: Connection, poll: Rules, person_id: int) -> list[_Answer]:
    """The same; a ballot from before the poll was mirrored is noted now."""
    found = _answers(connection, poll, person_id)
    if not found and (cast := voting.own(connection, poll, person_id)) is not None:
        _keep(connection, poll, person_id, cast.content, cast.at, None)
        found = _answers(connection, poll, person_id)
    return found


_KEEP = {
    name: dialect.insert(answer_table).on_conflict_do_nothing()  # it may have come days ago
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def _keep(
    connection: Connection, poll: Rules, person_id: int, content: Content | None, at: datetime, source: Source | None
) -> None:
    row = {
        "poll_id": poll.id,
        "person_id": person_id,
        "chat_id": None if source is None else source.chat_id,
        "external": None if source is None else source.external,
        "content": None if content is None else written(content),
        "at": at,
    }
    connection.execute(_KEEP[connection.dialect.name], row)


def _settle(
    connection: Connection, poll: Rules, person_id: int, answers: Sequence[_Answer], now: datetime
) -> Content | None:
    """The latest of somebody's answers is their ballot."""
    if not answers or answers[-1].content is None:
        voting.withdraw(connection, poll.id, person_id, answers[-1].at if answers else now)
        return None
    content = read(answers[-1].content)
    voting.vote(connection, poll.id, person_id, content, answers[-1].at)
    return content
