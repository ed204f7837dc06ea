"""The bot's side of Matrix against the scripted homeserver, and a core that keeps what comes as the real one does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bot.adapters.matrix import Login, Matrix
from bot.port import Rendered
from bot.types import ChatRef, Said, Unreadable, Update
from tests.adapters.homeserver import PASSWORD, PATIENCE, Homeserver

ANNA = "@anna:lab.test"

T = TypeVar("T")


class Pauses:
    """Sleeps that end at once; how long each was meant to be, in seconds."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._news = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self._news.set()
        await asyncio.sleep(0)

    async def number(self, least: int) -> None:
        """Wait until there were so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.taken) < least:
                self._news.clear()
                await self._news.wait()


class Core:
    """Stores each update once, and the cursor with it. Entered again it is the next process, which knows only that.

    ``fails_after`` is how many updates it stores before it stops for good; what the adapter then still does is lost.
    """

    def __init__(self, server: Homeserver, folder: Path, *, fails_after: int | None = None, **more: Any) -> None:
        self.server = server
        self.folder = folder
        self.pauses = Pauses()
        self.cursor: str | None = None
        self.updates: list[Update | Unreadable] = []
        self.came = 0
        self.fails_after = fails_after
        self.failed = asyncio.Event()
        self.refused: BaseException | None = None
        self._keys: set[str] = set()
        self._more = {"poll": 0.2, "sleep": self.pauses, **more}
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        login = Login(self.server.url, self.server.user_id, PASSWORD)
        self.adapter = Matrix(login, self.folder / "matrix", **self._more)
        self._task = asyncio.create_task(self._receive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        ended = await asyncio.gather(self._task, return_exceptions=True)
        await self.adapter.close()
        if error is None and not isinstance(ended[0], asyncio.CancelledError | None) and ended[0] is not self.refused:
            raise ended[0]

    async def _receive(self) -> None:
        try:
            async with aclosing(self.adapter.batches(self.cursor)) as batches:
                async for batch in batches:
                    if self.fails_after is not None and self.came + len(batch.updates) > self.fails_after:
                        self.failed.set()
                        await asyncio.get_running_loop().create_future()
                    self.came += len(batch.updates)
                    new = [update for update in batch.updates if update.key not in self._keys]
                    self.updates += new
                    self._keys |= {update.key for update in new}
                    self.cursor = batch.cursor or self.cursor
                    self._news.set()
        except BaseException as error:
            self.refused = error
            raise
        finally:
            self._news.set()

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait until a condition is true, which what has come decides; what it then is."""
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                if self._task.done():
                    self._task.result()
                    raise AssertionError("receiving has ended")
                self._news.clear()
                await self._news.wait()
            return found

    async def ready(self) -> None:
        """Wait until the first sync is behind it."""
        await self.until(lambda: self.cursor is not None)

    async def ended(self) -> BaseException | None:
        """Wait until receiving ends; with which error."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self._task])
        return self.refused

    @property
    def words(self) -> list[str]:
        """What was said, in the order in which it came."""
        return [update.text for update in self.updates if isinstance(update, Said)]

    async def send(self, room: str, words: str = "Hello", key: str = "1.1") -> str:
        """Send a message; its id."""
        return (await self.adapter.send(ChatRef("matrix", room), Rendered(words), key)).message.id


@asynccontextmanager
async def started(server: Homeserver, folder: Path, **more: Any) -> AsyncIterator[Core]:
    """A core that has the first sync behind it."""
    async with Core(server, folder, **more) as core:
        await core.ready()
        yield core
