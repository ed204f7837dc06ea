"""Asking: a poll from its draft to its close, where it stands, what is due, and what is exported."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, insert, or_, select, text, update
from sqlmodel import Session, col
from sqlmodel import select as select_models

from storage.chats import chat_table
from storage.engine import insert_or_nothing
from storage.people import Role
from storage.polls import due, electing, voting
from storage.polls.counting import Kind
from storage.polls.tables import (
    LONGEST_OPTION,
    MOST_OPTIONS,
    Audience,
    Poll,
    Proposal,
    Results,
    Secrecy,
    Status,
    ballot_table,
    elector_table,
    option_table,
    place_table,
    poll_table,
)

MOST_PROPOSALS = 3
"""How many proposals of one person may wait in a poll."""


class CannotAdd(Exception):
    """This option cannot be added: there are enough, it is there already, or the kind knows none."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A poll that is not asked yet; the fields are those of ``Poll``. It lasts as long as ``closes_at`` says."""

    question: str
    options: tuple[str, ...]
    kind: Kind = Kind.SINGLE
    secrecy: Secrecy = Secrecy.OPEN
    audience: Audience = Audience.PLACES
    named: tuple[str, ...] = ()
    results: Results = Results.ALWAYS
    most: int = 1
    quorum: int = 0
    proposals: bool = False
    until_all: bool = False
    closes_at: datetime | None = None


def ask(connection: Connection, draft: Draft, author_id: int, now: datetime, zone: ZoneInfo) -> int:
    """Open a poll; returns its number. Its author may vote, unless it is for some rooms only."""
    number: int = connection.execute(
        insert(poll_table).returning(poll_table.c.id),
        {
            "question": draft.question,
            "kind": draft.kind,
            "secrecy": draft.secrecy,
            "audience": draft.audience,
            "named": ",".join(draft.named),
            # The running count of a secret poll is hidden: two of them would give away the vote in between.
            "results": Results.CLOSED if draft.secrecy is Secrecy.SECRET else draft.results,
            "most": draft.most,
            "quorum": draft.quorum,
            "proposals": draft.proposals,
            "until_all": draft.until_all,
            "author_id": author_id,
            "link": secrets.token_urlsafe(12),
            "status": Status.OPEN,
            "options": len(draft.options),
            "voters": 0,
            "opened_at": now,
            "closes_at": draft.closes_at,
            "remind_at": None if draft.closes_at is None else due.reminder(now, draft.closes_at, zone),
            "reminded": 0,
        },
    ).scalar_one()
    rows = [{"poll_id": number, "position": place, "text": words} for place, words in enumerate(draft.options)]
    connection.execute(insert(option_table), rows)
    if draft.audience is not Audience.ROOMS:
        electing.let_in(connection, number, author_id)
    if draft.secrecy is Secrecy.SECRET:
        voting.new_key(connection, number)
    else:
        poll = voting.rules(connection, number)
        assert poll is not None
        voting.write_tally(connection, poll)
    return number


def find(session: Session, number: int) -> Poll | None:
    """The poll of this number, as it is in the database now."""
    if not 0 < number < 2**31:
        return None
    return session.get(Poll, number, populate_existing=True)


# -- where it stands ----------------------------------------------------------------------------------------


def place(connection: Connection, number: int, chat_id: int) -> None:
    """The poll stands in this chat, too."""
    connection.execute(insert_or_nothing(connection, place_table), {"poll_id": number, "chat_id": chat_id})


def places(connection: Connection, number: int) -> list[int]:
    """The chats where a poll stands."""
    query = select(place_table.c.chat_id).where(place_table.c.poll_id == number).order_by(place_table.c.chat_id)
    return list(connection.execute(query).scalars())


def groups(connection: Connection, chats: Sequence[int]) -> list[int]:
    """Those of some chats that are groups."""
    query = select(chat_table.c.id).where(chat_table.c.id.in_(chats), chat_table.c.private.is_(False))
    return list(connection.execute(query.order_by(chat_table.c.id)).scalars())


class Page(NamedTuple):
    """Some polls of a list, and the number after which it goes on (``None`` at the end)."""

    polls: Sequence[Poll]
    after: int | None


def browse(
    session: Session,
    *,
    person_id: int,
    role: Role,
    chat_id: int | None,
    after: int | None = None,
    most: int = 5,
    words: str = "",
) -> Page:
    """The newest polls somebody can see: in a group those there, in private their own and those they may vote in.

    The team sees all of them in private. ``words`` stand in the question, whatever their case.
    """
    query = select_models(Poll)
    if chat_id is not None:
        here = select(place_table.c.poll_id).where(place_table.c.chat_id == chat_id)
        query = query.where(col(Poll.id).in_(here))
    elif not role.covers(Role.MODERATOR):
        let_in = select(elector_table.c.poll_id).where(elector_table.c.person_id == person_id)
        voted = select(ballot_table.c.poll_id).where(ballot_table.c.person_id == person_id)
        query = query.where(
            or_(
                col(Poll.audience) == Audience.LAB,
                electing.names_group_of(person_id),
                col(Poll.author_id) == person_id,
                col(Poll.id).in_(let_in),
                col(Poll.id).in_(voted),
            )
        )
    if words:
        query = query.where(col(Poll.question).icontains(words, autoescape=True))
    if after is not None:
        query = query.where(col(Poll.id) < after)
    found = session.exec(query.order_by(col(Poll.id).desc()).limit(most + 1)).all()
    shown = found[:most]
    return Page(shown, shown[-1].id if len(found) > most else None)


# -- options that voters propose ----------------------------------------------------------------------------


def propose(session: Session, number: int, person_id: int, words: str, now: datetime) -> Proposal:
    """A voter would like another option. Raises ``Closed`` or ``CannotAdd``."""
    poll = voting.rules(session.connection(), number, locked=True)
    if poll is None or poll.is_over(now):
        raise voting.Closed(number)
    _check_room(session.connection(), poll, words)
    waiting = session.exec(
        select_models(Proposal).where(Proposal.poll_id == number, Proposal.person_id == person_id)
    ).all()
    if len(waiting) >= MOST_PROPOSALS or any(same(words, proposal.text) for proposal in waiting):
        raise CannotAdd(words)
    made = Proposal(poll_id=number, person_id=person_id, text=words)
    session.add(made)
    session.flush()
    return made


def accept(session: Session, proposal: Proposal, now: datetime) -> None:
    """A proposal becomes an option; the ballots so far stay as they are. Raises ``Closed`` or ``CannotAdd``."""
    connection = session.connection()
    poll = voting.rules(connection, proposal.poll_id, locked=True)
    if poll is None or poll.is_over(now):
        raise voting.Closed(proposal.poll_id)
    _check_room(connection, poll, proposal.text)
    connection.execute(insert(option_table), {"poll_id": poll.id, "position": poll.options, "text": proposal.text})
    connection.execute(update(poll_table).where(poll_table.c.id == poll.id).values(options=poll.options + 1))
    make_stale(connection, poll.id)
    if poll.secrecy is not Secrecy.SECRET:
        voting.write_tally(connection, poll._replace(options=poll.options + 1))
    session.delete(proposal)
    session.flush()


def decline(session: Session, proposal: Proposal) -> None:
    """A proposal does not become an option."""
    session.delete(proposal)
    session.flush()


def _check_room(connection: Connection, poll: voting.Rules, words: str) -> None:
    present = voting.options(connection, [poll.id]).get(poll.id, [])
    known = any(same(words, option) for option in present)
    if known or len(present) >= MOST_OPTIONS or not words or width(words) > LONGEST_OPTION:
        raise CannotAdd(words)
    if poll.kind in (Kind.CONSENT, Kind.RESISTANCE):  # who has voted has said nothing about it
        raise CannotAdd(words)


def same(one: str, other: str) -> bool:
    """Whether two options would be read as one."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def width(words: str) -> int:
    """The length of a text in UTF-16 code units."""
    return len(words.encode("utf-16-le", "surrogatepass")) // 2


def make_stale(connection: Connection, number: int) -> None:
    """A poll's copies are to be refreshed, at once."""
    connection.execute(update(poll_table).where(poll_table.c.id == number).values(refresh_at=voting.LONG_AGO))


def show_name(connection: Connection, person_id: int) -> None:
    """Somebody is called otherwise from now on: the open polls that show who has voted are to say so, at once."""
    theirs = select(ballot_table.c.poll_id).where(ballot_table.c.person_id == person_id)
    shown = (poll_table.c.secrecy == Secrecy.OPEN, poll_table.c.status == Status.OPEN, poll_table.c.id.in_(theirs))
    connection.execute(update(poll_table).where(*shown).values(refresh_at=voting.LONG_AGO))


def secret_closed_since(connection: Connection, since: datetime) -> list[int]:
    """The secret polls that were closed then or later."""
    query = select(poll_table.c.id).where(poll_table.c.secrecy == text("'secret'"), poll_table.c.closed_at >= since)
    return list(connection.execute(query).scalars())


# -- people leave -------------------------------------------------------------------------------------------


def forget_author(connection: Connection, person_id: int) -> None:
    """What a person has asked stays, asked by nobody."""
    connection.execute(update(poll_table).where(poll_table.c.author_id == person_id).values(author_id=None))


def forget_places(connection: Connection, chats: Any) -> None:
    """No poll stands in these chats any more."""
    connection.execute(delete(place_table).where(place_table.c.chat_id.in_(chats)))


# -- export -------------------------------------------------------------------------------------------------


class PollLine(NamedTuple):
    """One line of ``labbot export polls``. ``votes`` are what the kind counts; ``None`` while they are hidden."""

    number: int
    question: str
    kind: str
    secrecy: str
    status: str
    options: list[dict[str, Any]]
    voters: int
    closes_at: datetime | None


def export(session: Session, page: int = 500) -> Iterator[PollLine]:
    """Every poll, in keyset pages of ``page``. Who voted how is in none of them."""
    last = 0
    query = select_models(Poll).order_by(col(Poll.id)).limit(page)
    while found := session.exec(query.where(col(Poll.id) > last)).all():
        connection = session.connection()
        numbers = [poll.id for poll in found if poll.id is not None]
        options = voting.options(connection, numbers)
        tallies = voting.tallies(connection, numbers)
        session.commit()  # whoever reads slowly holds up nobody
        for poll in found:
            assert poll.id is not None
            last = poll.id
            hidden = poll.secrecy == Secrecy.SECRET and poll.status == Status.OPEN
            shown = [
                {"label": label, "votes": None if hidden else tallies[last].get((place, 0), 0)}
                for place, label in enumerate(options.get(last, []))
            ]
            yield PollLine(
                last, poll.question, poll.kind, poll.secrecy, poll.status, shown, poll.voters, poll.closes_at
            )
