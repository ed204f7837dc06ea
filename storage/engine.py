"""The database: one transaction per job, in a thread of its own, on SQLite and on PostgreSQL; what tables share."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlmodel import Session, SQLModel

R = TypeVar("R")
Job = Callable[[Connection], R]

SQLITE_WAIT = 30.0
"""Seconds a transaction waits for somebody else's lock on the SQLite file before it fails."""

CLOSING_WAIT = 1.0
"""Seconds a job may still take when the storage is closed. What is not committed by then never happened."""

DEADLOCKS = 3
"""How often a transaction that PostgreSQL ends to let another one go on is made again at once."""

_GROUP = 64
_POOL = 4


class Unavailable(Exception):
    """The database cannot work now (locked, full, gone): nothing of the job was stored; try again later."""


def database_failed(error: BaseException) -> bool:
    """Whether the database itself has failed, and with it the whole transaction; a job lets such an error pass.

    SQLite calls a mistake in a statement (SQLITE_ERROR) operational as well: that is the job's own.
    """
    first = _first(error)
    return isinstance(first, OperationalError | InterfaceError | Unavailable) and not _is_mistake(first)


class Storage:
    """Runs jobs, plain functions of a ``Connection``, each in a transaction that is committed when it returns.

    On SQLite one thread does all of them, and jobs that wait together are committed together, each behind a
    savepoint of its own. On PostgreSQL a few threads work side by side with a transaction each; jobs that must
    not run at once take ``serialise``.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._owes = False
        self._group = _GROUP if self.engine.dialect.name == "sqlite" else 1
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        workers = 1 if self.engine.dialect.name == "sqlite" else _POOL
        self._threads = [
            threading.Thread(target=self._work, name=f"storage-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, job: Job[R]) -> R:
        """Do ``job`` and commit. Raises ``Unavailable`` when the database failed, else what the job raised."""
        loop = asyncio.get_running_loop()
        task = _Task(job, loop, loop.create_future())
        self._queue.put(task)
        result: R = await task.future
        return result

    async def close(self) -> None:
        """Finish the jobs that wait, then let go of the database; one that is locked is not waited for."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, CLOSING_WAIT)
        if not any(thread.is_alive() for thread in self._threads):
            self.engine.dispose()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            tasks = [task]
            while len(tasks) < self._group and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)
                    break
                tasks.append(following)
            self._transact(tasks)

    def _transact(self, tasks: "list[_Task]", again: int = DEADLOCKS) -> None:
        done: list[tuple[_Task, Any, BaseException | None]] = []
        try:
            with self.engine.begin() as connection:
                for task in tasks:
                    try:
                        if len(tasks) == 1:
                            result = task.job(connection)
                        else:
                            with connection.begin_nested():
                                result = task.job(connection)
                        done.append((task, result, None))
                    except Exception as error:
                        if len(tasks) == 1 or database_failed(error):
                            raise
                        done.append((task, None, error))
                self._owes |= connection.info.pop(_OVERWRITE, False)
            if self._owes:
                self._overwrite()
        except Exception as error:
            if again and _is_deadlock(error):
                self._transact(tasks, again - 1)
                return
            answer = Unavailable(_reason(error)) if database_failed(error) else error
            done = [(task, None, answer) for task in tasks]
        _answer(done)

    def _overwrite(self) -> None:
        """Bring the write-ahead log into the file and empty it: it still holds the pages as they were before.

        While somebody else reads the file that is not possible; then it is tried again after the next transaction.
        """
        driver: Any = self.engine.raw_connection()
        try:
            driver.execute("PRAGMA busy_timeout = 10")
            busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._owes = bool(busy)
            driver.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT * 1000:.0f}")
        finally:
            driver.close()


class _Task:
    __slots__ = ("future", "job", "loop")

    def __init__(self, job: Job[Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self.job = job
        self.loop = loop
        self.future = future


def _answer(done: Iterable[tuple[_Task, Any, BaseException | None]]) -> None:
    def settle(outcomes: list[tuple[_Task, Any, BaseException | None]]) -> None:
        for task, result, error in outcomes:
            if task.future.done():  # whoever asked has gone
                continue
            if error is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(error)

    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Task, Any, BaseException | None]]] = {}
    for outcome in done:
        loops.setdefault(outcome[0].loop, []).append(outcome)
    for loop, outcomes in loops.items():
        try:
            loop.call_soon_threadsafe(settle, outcomes)
        except RuntimeError:  # the loop has ended, nobody waits for the answer
            continue


def _reason(error: BaseException) -> str:
    """What the driver said, without the statement and its parameters (they hold people's words)."""
    first = _first(error)
    said = str(first.orig if isinstance(first, DBAPIError) else first)
    return said.splitlines()[0] if said else type(first).__name__


def _first(error: BaseException) -> BaseException:
    """The failure behind one that looks like a mistake: after a full disk there is no savepoint to go back to."""
    before: BaseException | None = error
    while before is not None and _is_mistake(error):
        before = before.__context__
        if isinstance(before, DBAPIError):
            error = before
    return error


def _is_mistake(error: BaseException) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None) if isinstance(error, DBAPIError) else None
    return code == sqlite3.SQLITE_ERROR


def _is_deadlock(error: BaseException) -> bool:
    first = _first(error)
    return isinstance(first, DBAPIError) and getattr(first.orig, "sqlstate", None) == "40P01"


def open_engine(url: str) -> Engine:
    """An engine with the settings labbot relies on. A SQLite file is created with its folder."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            with suppress(OSError):  # then the file cannot be opened either, and SQLite says so
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(
            parsed, hide_parameters=True, connect_args={"timeout": SQLITE_WAIT, "check_same_thread": False}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, hide_parameters=True, pool_size=_POOL, max_overflow=1, pool_pre_ping=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would otherwise begin only before the first write
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def session_in(connection: Connection) -> Session:
    """An ordinary Session inside a transaction of somebody else's.

    ``commit`` hands over what it did to that transaction, ``close`` without it takes it back.
    """
    return Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """What is done inside is done as a whole, or, when it raises, not at all; the transaction goes on.

    SQLAlchemy's own savepoints cost 50 µs each; one surrounds every update, so this one speaks to the driver (1 µs).
    They may not be nested, and a Session used inside must be closed inside.
    """
    cursor = connection.connection.cursor()
    _or_lost(cursor, "SAVEPOINT update_")
    try:
        yield
    except BaseException as error:
        if not database_failed(error):
            _or_lost(cursor, "ROLLBACK TO SAVEPOINT update_")
            _or_lost(cursor, "RELEASE SAVEPOINT update_")
        raise
    _or_lost(cursor, "RELEASE SAVEPOINT update_")


def _or_lost(cursor: Any, statement: str) -> None:
    """A full disk or a lost connection ends the whole transaction, and its savepoints with it."""
    try:
        cursor.execute(statement)
    except Exception as error:
        raise Unavailable(f"the transaction is lost: {error}") from error


def serialise(connection: Connection, names: Iterable[str]) -> None:
    """Let nobody else work on these names until the transaction ends.

    Takes PostgreSQL's advisory locks in a fixed order, so that two jobs never wait for each other; on SQLite
    the one writer does it already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"names": sorted(set(names))})


def overwrite_deleted(connection: Connection) -> None:
    """What this transaction deletes shall be gone from the disk as well, as far as that is in our hands.

    SQLite overwrites it in its file (``secure_delete``), and empties its write-ahead log after the commit.
    PostgreSQL keeps old rows until it vacuums by itself, and its own log as long as it is set to.
    """
    if connection.dialect.name == "sqlite":
        connection.info[_OVERWRITE] = True


_OVERWRITE = "overwrite_deleted"
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:names AS text[])) AS name")


def migrate(url: str, revision: str = "head") -> None:
    """Bring the tables to a revision of ``storage/migrations``, upwards or (by its name) downwards."""
    engine = open_engine(url)
    config = _alembic()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config)
        newer = revision == "head" or _is_newer(script, revision, current(connection))
        connection.rollback()  # each migration begins a transaction of its own
        if newer:
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)
    engine.dispose()


def is_current(url: str) -> bool:
    """Whether the tables are at the newest revision."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return current(connection) == ScriptDirectory.from_config(_alembic()).get_current_head()
    finally:
        engine.dispose()


def current(connection: Connection) -> str | None:
    """The revision the tables are at, ``None`` for an empty database."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _is_newer(script: ScriptDirectory, revision: str, than: str | None) -> bool:
    if revision == "base":
        return False
    newer = [entry.revision for entry in script.iterate_revisions("head", than or "base")]
    return revision in newer


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


# -- tables --------------------------------------------------------------------------------------------------


def table_of(model: type[SQLModel]) -> Table:
    """The Core table of a model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def partial(condition: str) -> dict[str, Any]:
    """Index only the rows for which ``condition`` holds, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def insert_or_nothing(connection: Connection, table: Any) -> Any:
    """``INSERT … ON CONFLICT DO NOTHING`` in the database's own dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()
