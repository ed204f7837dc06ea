"""``labbot run`` as a process of its own, to be stopped, killed and listened to."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from sqlmodel import Session

from storage.engine import open_engine
from tests.adapters.synapse import Account
from tests.adapters.telegram_server import TOKEN, TelegramServer

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0
"""Seconds any wait may take; only a fault takes so long."""


class Labbot:
    """One lab: a folder with its database, and one process at a time that runs it. ``lines`` is all it has logged."""

    def __init__(self, folder: Path, api: str, port: int, token: str = TOKEN, **settings: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LABBOT_")},
            "LABBOT_DATA": str(folder),
            "LABBOT_LOCALE": "en",
            "LABBOT_HTTP": f"127.0.0.1:{port}",
            "LABBOT_TELEGRAM_TOKEN": token,
            "LABBOT_TELEGRAM_API": api,
            "LABBOT_TELEGRAM_RATE": "10000",
            "LABBOT_TELEGRAM_CHAT_RATE": "1000",
            "LABBOT_TELEGRAM_GROUP_RATE": "1000",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("\n".join(self.lines[-40:]))
        await self.kill()

    async def start(self) -> None:
        """Start the process; it may not be ready yet."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bot", "run"),
            cwd=self.folder,  # no .env of a developer's
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self._news.set()

    async def logs(self, words: str, times: int = 1) -> list[str]:
        """Wait until so many lines hold these words."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.with_words(words)) < times:
                self._news.clear()
                await self._news.wait()
        return found

    def with_words(self, words: str) -> list[str]:
        """The lines that hold these words."""
        return [line for line in self.lines if words in line]

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None and self._reading is not None
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
            await self._reading
        return code

    async def stop(self) -> int:
        """Ask it to stop, as systemd and Docker do; the exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """Kill it, if it runs."""
        if self.running:
            self.send(signal.SIGKILL)
        if self._process is not None:
            await self.ended()

    @contextmanager
    def database(self) -> Iterator[Session]:
        """A look at the database."""
        engine = open_engine(f"sqlite:///{self.folder / 'labbot.db'}")
        try:
            with Session(engine) as session:
                yield session
        finally:
            engine.dispose()


class LabbotOnMatrix(Labbot):
    """The same on Matrix, with rates that only the homeserver's own limits."""

    def __init__(self, folder: Path, homeserver: str, account: Account, port: int, **settings: str) -> None:
        super().__init__(folder, "", port)
        telegram = [name for name in self.environment if name.startswith("LABBOT_TELEGRAM_")]
        for name in telegram:
            del self.environment[name]
        self.environment |= {
            "LABBOT_MATRIX_HOMESERVER": homeserver,
            "LABBOT_MATRIX_USER": account.user_id,
            "LABBOT_MATRIX_PASSWORD": account.password,
            "LABBOT_MATRIX_RATE": "10000",
            "LABBOT_MATRIX_BURST": "10000",
            "LABBOT_MATRIX_REACTIONS": "0",
            **settings,
        }


async def serving(server: TelegramServer) -> None:
    """Wait until a bot asks for updates and has taken all there are."""
    await server.wait_for(lambda: server.polling and not server.pending, PATIENCE)


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A lab's folder, with all tables."""
    shutil.copy(sqlite_template, tmp_path / "labbot.db")
    return tmp_path
