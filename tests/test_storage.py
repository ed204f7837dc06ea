"""The database: migrations, one transaction a job, and what its failure means."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import SQLModel

import storage as tables
from storage import conversation
from storage.conversation import cursor_table
from storage.engine import (
    Storage,
    Unavailable,
    current,
    database_failed,
    is_current,
    migrate,
    open_engine,
    savepoint,
    serialise,
    session_in,
)
from storage.ideas import Idea
from storage.people import Person
from tests.conftest import SETTLES

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def put(name: str, value: str = "") -> Callable[[Connection], None]:
    """A job that stores something small."""
    return lambda connection: conversation.set_cursor(connection, name, value)


def stored(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(select(cursor_table.c.adapter, cursor_table.c.value)).all())


def on(engine: str, database: str) -> None:
    if make_url(database).get_backend_name() != engine:
        pytest.skip(f"about {engine}")


def revisions() -> list[str]:
    """The migrations, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def state(database: str) -> tuple[str | None, set[str]]:
    """The revision of a database, and its tables."""
    engine = open_engine(database)
    with engine.connect() as connection:
        found = current(connection), set(inspect(connection).get_table_names()) - {"alembic_version"}
    engine.dispose()
    return found


def counted(database: str) -> set[str]:
    """The tables of a SQLite file that never give a number twice: one that is rebuilt has to say so again."""
    engine = open_engine(database)
    found = set[str]()
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            query = text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
            found = set(connection.execute(query).scalars())
    engine.dispose()
    return found


# -- migrations ---------------------------------------------------------------------------------------------


def test_migrations_go_down_to_nothing_and_up_again(database: str) -> None:
    everything = set(SQLModel.metadata.tables)
    assert state(database) == (revisions()[-1], everything)
    assert is_current(database)
    counting = counted(database)
    for revision in [*revisions()[:-1][::-1], "base"]:
        migrate(database, revision)
        assert state(database)[0] == (None if revision == "base" else revision)
        assert not is_current(database)
    assert state(database) == (None, set())
    for revision in revisions():
        migrate(database, revision)
        assert state(database)[0] == revision
    assert state(database) == (revisions()[-1], everything)
    assert counted(database) == counting
    migrate(database)  # once more changes nothing
    assert is_current(database)


def test_the_tables_are_what_the_models_say(database: str) -> None:
    engine = open_engine(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_a_database_comes_into_being_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'labbot.db'}"
    migrate(url)
    assert is_current(url)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


# -- jobs ---------------------------------------------------------------------------------------------------


async def test_a_job_is_stored_when_it_returns_and_not_at_all_when_it_raises(storage: Storage) -> None:
    def failing(connection: Connection) -> None:
        put("never")(connection)
        raise ValueError("a mistake")

    await storage.run(put("kept"))
    with pytest.raises(ValueError, match="a mistake"):
        await storage.run(failing)
    assert await storage.run(stored) == {"kept": ""}


async def test_jobs_that_wait_together_are_done_in_one_transaction_and_fail_alone(storage: Storage) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        began.set()
        go.wait(SETTLES)

    def failing(connection: Connection) -> None:
        put("never")(connection)
        raise ValueError("a mistake")

    def breaking(connection: Connection) -> None:
        put("never either")(connection)
        connection.execute(insert(cursor_table), {"adapter": "never either", "value": "twice"})

    commits = []
    event.listen(storage.engine, "commit", lambda _connection: commits.append(1))
    first = asyncio.create_task(storage.run(slow))
    await asyncio.to_thread(began.wait, SETTLES)
    jobs = [put("one"), failing, put("two"), breaking, put("three")]
    waiting = [asyncio.create_task(storage.run(job)) for job in jobs]
    await asyncio.sleep(0)  # all of them are asked for
    go.set()
    await first
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None), IntegrityError, type(None)]
    if storage.engine.dialect.name == "sqlite":
        assert len(commits) == 2  # the slow one, and all the others together
    assert await storage.run(stored) == {"one": "", "two": "", "three": ""}


async def test_a_database_that_fails_at_the_commit_fails_every_job_of_it(database: str) -> None:
    on("sqlite", database)
    storage = Storage(database)
    began, go = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        began.set()
        go.wait(SETTLES)

    def refuse(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql("INSERT INTO dialog VALUES (1, 1, 's', '{}', '2026-01-01')")  # of nobody, nowhere

    first = asyncio.create_task(storage.run(slow))
    await asyncio.to_thread(began.wait, SETTLES)
    waiting = [asyncio.create_task(storage.run(job)) for job in (put("one"), refuse, put("two"))]
    await asyncio.sleep(0)
    go.set()
    await first
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [IntegrityError] * 3
    assert await storage.run(stored) == {}
    await storage.close()


async def test_a_locked_database_is_unavailable_and_says_so_without_the_statement(database: str) -> None:
    on("sqlite", database)
    storage = Storage(database)
    await storage.run(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 1"))
    somebody = sqlite3.connect(str(make_url(database).database), isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"^database is locked$"):
        await storage.run(put("one"))
    somebody.rollback()
    somebody.close()
    await storage.run(put("one"))
    assert await storage.run(stored) == {"one": ""}
    await storage.close()


async def test_a_database_that_is_gone_is_unavailable_and_comes_back(database: str) -> None:
    on("postgresql", database)
    storage = Storage(database)
    await storage.run(put("before"))

    def vanish(connection: Connection) -> None:
        put("never")(connection)
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable) as caught:
        await storage.run(vanish)
    assert "terminat" in str(caught.value)
    assert "SELECT" not in str(caught.value)
    assert await storage.run(stored) == {"before": ""}
    await storage.close()
    nobody = Storage(str(make_url("postgresql+psycopg://nobody@127.0.0.1:1/nothing")))
    with pytest.raises(Unavailable, match="connection"):
        await nobody.run(stored)
    await nobody.close()


async def test_a_mistake_in_a_statement_is_the_jobs_own(storage: Storage) -> None:
    with pytest.raises(Exception, match="nowhere") as caught:
        await storage.run(lambda connection: connection.execute(text("SELECT nothing FROM nowhere")))
    assert not isinstance(caught.value, Unavailable)
    assert not database_failed(caught.value)


async def test_whoever_asked_and_left_does_not_disturb_the_others(storage: Storage) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        began.set()
        go.wait(SETTLES)
        put("slow")(connection)

    leaving = asyncio.create_task(storage.run(slow))
    await asyncio.to_thread(began.wait, SETTLES)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    go.set()
    await storage.run(put("other"))
    await storage.close()
    engine = open_engine(storage.engine.url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        assert stored(connection) == {"slow": "", "other": ""}
    engine.dispose()


async def test_closing_finishes_the_jobs_that_wait(database: str) -> None:
    storage = Storage(database)
    began, go = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        began.set()
        go.wait(SETTLES)

    jobs = [asyncio.create_task(storage.run(slow))]
    await asyncio.to_thread(began.wait, SETTLES)
    jobs += [asyncio.create_task(storage.run(put(str(number)))) for number in range(150)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(storage.close())
    go.set()
    await closing
    assert all(job.done() for job in jobs)
    await asyncio.gather(*jobs)
    engine = open_engine(database)
    with engine.connect() as connection:
        assert len(stored(connection)) == 150
    engine.dispose()


async def test_turns_of_one_chat_wait_for_each_other_on_postgresql(database: str) -> None:
    on("postgresql", database)
    storage = Storage(database)
    order: list[str] = []
    holds, asks, go = threading.Event(), threading.Event(), threading.Event()

    def first(connection: Connection) -> None:
        serialise(connection, ["memory:anna", "memory:ben"])
        holds.set()
        go.wait(SETTLES)
        order.append("first")

    def second(connection: Connection) -> None:
        asks.set()
        serialise(connection, ["memory:ben", "memory:anna"])
        order.append("second")

    def other(connection: Connection) -> None:
        serialise(connection, ["memory:eve"])
        order.append("other")

    def waiting(connection: Connection) -> int:
        found = connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        return int(found.scalar_one())

    one = asyncio.create_task(storage.run(first))
    await asyncio.to_thread(holds.wait, SETTLES)
    two = asyncio.create_task(storage.run(second))
    await asyncio.to_thread(asks.wait, SETTLES)
    async with asyncio.timeout(SETTLES):
        while not await storage.run(waiting):  # the server says that the second one waits
            pass
    await storage.run(other)  # another chat goes on meanwhile
    go.set()
    await asyncio.gather(one, two)
    assert order == ["other", "first", "second"]
    await storage.close()


# -- savepoints and sessions --------------------------------------------------------------------------------


async def test_what_fails_inside_a_savepoint_is_undone_and_the_rest_stays(storage: Storage) -> None:
    def failing(connection: Connection) -> None:
        with savepoint(connection):
            put("inside")(connection)
            raise ValueError("a mistake")

    def job(connection: Connection) -> None:
        put("before")(connection)
        with pytest.raises(ValueError, match="a mistake"):
            failing(connection)
        with savepoint(connection):
            put("after")(connection)

    await storage.run(job)
    assert await storage.run(stored) == {"before": "", "after": ""}


async def test_a_session_hands_over_what_it_commits_and_takes_back_the_rest(storage: Storage) -> None:
    def person(handle: str) -> Person:
        return Person(pseudonym=handle, handle=handle, created_at=NOW)

    def job(connection: Connection) -> None:
        with session_in(connection) as session:
            session.add(person("kept"))
            session.commit()
        with session_in(connection) as session:
            session.add(person("dropped"))
            session.flush()

    await storage.run(job)
    handles = select(SQLModel.metadata.tables["person"].c.handle)
    assert await storage.run(lambda connection: list(connection.execute(handles).scalars())) == ["kept"]


def test_what_follows_a_failure_of_the_database_is_that_failure() -> None:
    full, no_savepoint = sqlite3.OperationalError("database or disk is full"), sqlite3.OperationalError("no savepoint")
    full.sqlite_errorcode, no_savepoint.sqlite_errorcode = sqlite3.SQLITE_FULL, sqlite3.SQLITE_ERROR
    first = OperationalError("INSERT", None, full)
    second = OperationalError("ROLLBACK TO", None, no_savepoint)
    assert not database_failed(second)
    second.__context__ = ValueError("in between")
    second.__context__.__context__ = first
    assert database_failed(second)
    assert database_failed(Unavailable("gone"))
    assert not database_failed(ValueError("a mistake"))


# -- promises -----------------------------------------------------------------------------------------------


async def test_sqlite_is_durable_and_keeps_its_keys(database: str) -> None:
    on("sqlite", database)
    storage = Storage(database)

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert await storage.run(pragmas) == ["wal", 2, 1]  # 2 is FULL
    await storage.close()


async def test_a_key_that_leads_nowhere_is_refused(storage: Storage) -> None:
    row = {"chat_id": 7, "person_id": 7, "step": "s", "data": "{}", "asked_at": NOW}
    with pytest.raises(IntegrityError):
        await storage.run(lambda connection: connection.execute(insert(conversation.dialog_table), row))


@pytest.mark.parametrize("table", sorted(SQLModel.metadata.tables))
async def test_a_number_is_never_given_twice(table: str, database: str) -> None:
    found = SQLModel.metadata.tables[table]
    if "id" not in found.c:
        pytest.skip("its rows have no number")
    engine = open_engine(database)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            created = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{table}'").scalar_one()
            assert "AUTOINCREMENT" in created
        else:
            query = text("SELECT pg_get_serial_sequence(:name, 'id')")
            assert connection.execute(query, {"name": f'public."{table}"'}).scalar_one()
    engine.dispose()


async def test_the_number_of_an_idea_that_is_gone_is_not_given_to_another(storage: Storage) -> None:
    def idea(connection: Connection) -> int | None:
        with session_in(connection) as session:
            made = Idea(title="t", topic="other", words="t", created_at=NOW)
            session.add(made)
            session.commit()
            return made.id

    first = await storage.run(idea)
    await storage.run(lambda connection: connection.execute(text("DELETE FROM idea")))
    assert await storage.run(idea) == (first or 0) + 1


async def test_an_error_of_the_database_does_not_hold_peoples_words(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(insert(cursor_table), {"adapter": "secret words", "value": "more secret words"})

    with pytest.raises(IntegrityError) as caught:
        await storage.run(job)
    said = str(caught.value)
    if storage.engine.dialect.name == "postgresql":  # the server's detail quotes the key; only the type is logged
        said = said.partition("DETAIL")[0]
    assert "secret" not in said


async def test_times_are_kept_in_utc_and_naive_ones_refused(storage: Storage) -> None:
    def job(connection: Connection) -> datetime:
        with session_in(connection) as session:
            session.add(Person(pseudonym="a", handle="a", created_at=datetime.fromisoformat("2026-07-01T12:00+02:00")))
            session.commit()
        created: datetime = connection.execute(select(SQLModel.metadata.tables["person"].c.created_at)).scalar_one()
        return created

    assert await storage.run(job) == datetime(2026, 7, 1, 10, 0, tzinfo=UTC)

    def naive(connection: Connection) -> None:
        with session_in(connection) as session:
            session.add(Person(pseudonym="b", handle="b", created_at=datetime(2026, 7, 1)))  # noqa: DTZ001
            session.commit()

    with pytest.raises(Exception, match=r"(?i)timezone|naive"):
        await storage.run(naive)
