"""Votes beside links, erasures and each other: what is decided at the same moment, on PostgreSQL's own locks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session

from storage import chats, people
from storage.chats import chat_table
from storage.engine import Storage
from storage.erasure import erase
from storage.linking import merge
from storage.people import Role
from storage.polls import electing, mirroring, voting
from storage.polls.mirroring import Source
from storage.polls.tables import Audience, Secrecy
from storage.polls.voting import Cast
from tests.conftest import SETTLES
from tests.test_ballots import NOW, asked, some_people

LATER = NOW + timedelta(seconds=2)
Change = Callable[[Session, int, int], None]


@pytest.fixture
async def storage(database: str) -> AsyncIterator[Storage]:
    if "postgresql" not in database:
        pytest.skip("SQLite has one writer")
    opened = Storage(database)
    yield opened
    await opened.close()


async def meanwhile(storage: Storage, change: Callable[[Connection], None], act: Callable[[Connection], None]) -> None:
    """``act`` begins when ``change`` has made its change and not committed it, and waits for its locks."""
    changed = threading.Event()

    def first(connection: Connection) -> None:
        change(connection)
        changed.set()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not connection.execute(waiting).scalar():
            pass

    def second(connection: Connection) -> None:
        assert changed.wait(SETTLES)
        act(connection)

    await asyncio.wait_for(asyncio.gather(storage.run(first), storage.run(second)), SETTLES)


def linked(session: Session, gone: int, kept: int) -> None:
    merge(session, gone, kept, NOW + timedelta(seconds=1))


def erased(session: Session, gone: int, _kept: int) -> None:
    erase(session, gone, True)


@pytest.mark.parametrize("change", [linked, erased])
@pytest.mark.parametrize("had_voted", [True, False])
async def test_a_secret_vote_of_somebody_who_is_no_more_is_not_cast(
    storage: Storage, change: Change, had_voted: bool
) -> None:
    def ask(connection: Connection) -> tuple[int, int, int]:
        kept, gone, author = sorted(some_people(connection, 3))
        number = asked(connection, author, secrecy=Secrecy.SECRET, audience=Audience.LAB)
        for who in (kept, gone) if had_voted else (kept,):
            voting.vote(connection, number, who, (0,), NOW)
        return kept, gone, number

    kept, gone, number = await storage.run(ask)

    def vote(connection: Connection) -> None:
        poll, _may = electing.held_for(connection, number, gone, Role.PARTICIPANT, None) or (None, False)
        assert poll is not None
        _, before = voting.paper(connection, poll, gone)
        voting.cast(connection, poll, gone, before, Cast((1,), "", LATER))

    def go(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            people.hold(session, kept, gone)
            change(session, gone, kept)
            session.commit()

    with pytest.raises(NoResultFound):
        await meanwhile(storage, go, vote)
    assert await storage.run(lambda connection: voting.profile(connection, number)) == {(0,): 1}


async def test_an_answer_taken_back_while_its_person_is_linked_counts_no_more(storage: Storage) -> None:
    def ask(connection: Connection) -> tuple[int, int, int, Source]:
        chats.open_chat(connection, "memory", "g", private=False, locale="de", account_id=None, now=NOW)
        group = connection.execute(select(chat_table.c.id)).scalar_one()
        kept, gone = sorted(some_people(connection, 2))
        number = asked(connection, kept)
        mirroring.begin(connection, number)
        mirroring.answer(connection, number, gone, (1,), NOW, Source(group, "$a"))
        return kept, gone, number, Source(group, "$a")

    kept, gone, number, source = await storage.run(ask)

    def link(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            people.hold(session, kept, gone)
            linked(session, gone, kept)
            session.commit()

    def redact(connection: Connection) -> None:
        assert mirroring.take_back(connection, source, LATER)

    await meanwhile(storage, link, redact)
    assert await storage.run(lambda connection: voting.profile(connection, number)) == {}


async def test_two_who_vote_in_two_polls_in_opposite_order_are_both_counted(storage: Storage) -> None:
    def ask(connection: Connection) -> tuple[list[int], list[int]]:
        voters = some_people(connection, 2)
        return voters, [asked(connection, voters[0]), asked(connection, voters[0])]

    (ada, ben), (one, two) = await storage.run(ask)
    both = threading.Barrier(2)
    met = threading.Event()

    def vote(who: int, first: int, second: int) -> Callable[[Connection], None]:
        def job(connection: Connection) -> None:
            voting.vote(connection, first, who, (0,), NOW)
            if not met.is_set():
                both.wait(SETTLES)
                met.set()
            voting.vote(connection, second, who, (0,), NOW)

        return job

    await asyncio.wait_for(asyncio.gather(storage.run(vote(ada, one, two)), storage.run(vote(ben, two, one))), SETTLES)
    for number in (one, two):
        assert await storage.run(lambda connection, of=number: voting.profile(connection, of)) == {(0,): 2}  # type: ignore[misc]
