"""A person with a client that is not ours: matrix-js-sdk under Node, which is what Element Web is made of.

async with JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=True) as anna:
    room = await anna.direct(bot.user_id)
    await anna.until(lambda: bot.user_id in anna.members(room))
    await anna.says(room, "!help")
    [answer] = await anna.hears(room, bot.user_id)
"""

import asyncio
import contextlib
import itertools
import json
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tests.adapters.synapse import Account

HERE: Final = Path(__file__).parent / "js"
INSTALLED: Final = HERE / "node_modules" / "ready"
"""There once `make test` has fetched what the client is made of."""

PATIENCE: Final = 30.0
"""Seconds any wait may take; only a fault takes so long."""

T = TypeVar("T")


def is_installed() -> bool:
    """Whether there is a Node and what the client needs."""
    return shutil.which("node") is not None and INSTALLED.exists()


@dataclass(frozen=True, slots=True)
class Shown:
    """An event as the client shows it: ``failure`` is why it cannot be read, None where it can."""

    event_id: str
    room: str
    sender: str
    type: str
    state_key: str | None
    content: dict[str, Any]
    encrypted: bool
    failure: str | None

    @property
    def body(self) -> str:
        """The plain words."""
        return str(self.content.get("body", ""))


class JsClient:
    """One account on one device that has cross-signed itself; ``only_signed`` gives keys only to devices that have."""

    def __init__(self, url: str, account: Account, *, only_signed: bool) -> None:
        self.url = url
        self.user_id = account.user_id
        self.account = account
        self.only_signed = only_signed
        self._events: defaultdict[str, dict[str, Shown]] = defaultdict(dict)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "node", "client.mjs", cwd=HERE, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=1024 * 1024
        )
        self._reading = asyncio.create_task(self._read(self._process))
        try:
            await self._do(
                "start",
                url=self.url,
                user_id=self.user_id,
                device_id=self.account.device_id,
                token=self.account.token,
                only_signed=self.only_signed,
            )
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        assert self._process is not None and self._reading is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            told = json.loads(line)
            if "event" in told:
                event = Shown(**told["event"])
                self._events[event.room][event.event_id] = event
            elif not (answer := self._answers.pop(told["id"])).done():
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]))
                else:
                    answer.set_result(told["result"])
            self._tell()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError("the client has ended"))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _do(self, name: str, **details: Any) -> Any:
        assert self._process is not None and self._process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": name, **details}).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def direct(self, user_id: str) -> str:
        """Begin an encrypted direct chat: the room's id."""
        return str(await self._do("direct", user_id=user_id))

    async def joins(self, room: str) -> None:
        """Accept an invitation."""
        await self._do("join", room=room)

    async def says(self, room: str, words: str) -> str:
        """Send a text: its event id."""
        return str(await self._do("say", room=room, words=words))

    async def polls(self, room: str) -> list[dict[str, Any]]:
        """The polls of a room as the library understands them."""
        return list(await self._do("polls", room=room))

    async def answers(self, room: str, poll: str, *ids: str) -> str:
        """Answer in a poll: the event's id."""
        return str(await self._do("answer", room=room, poll=poll, ids=list(ids)))

    async def trusts(self, user_id: str, device_id: str) -> bool:
        """Whether the client takes this device for one that its owner has cross-signed."""
        return bool(await self._do("trusts", user_id=user_id, device_id=device_id))

    def members(self, room: str) -> set[str]:
        """Who is there, as last seen."""
        memberships = {
            event.state_key: event.content.get("membership")
            for event in self._events[room].values()
            if event.type == "m.room.member" and event.state_key is not None
        }
        return {user for user, membership in memberships.items() if membership == "join"}

    def lines(self, room: str, sender: str | None = None) -> list[Shown]:
        """The messages of a room as they are shown, read or not; an edit is one of its own."""
        return [
            event
            for event in self._events[room].values()
            if event.state_key is None
            and (event.encrypted or event.type == "m.room.message")
            and sender in (None, event.sender)
        ]

    async def hears(self, room: str, sender: str, number: int = 1) -> list[Shown]:
        """Wait until somebody has said so much that can be read: what they have said."""

        def heard() -> list[Shown]:
            lines = [
                line for line in self.lines(room, sender) if line.failure is None and line.type == "m.room.message"
            ]
            return lines if len(lines) >= number else []

        return await self.until(heard)

    async def happens(self) -> None:
        """Wait until something is shown that was not there, for a moment at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.5)

    async def until(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Wait until a condition is true: what it then is."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := condition()):
                    await self._news.wait()
                return found
        except TimeoutError:
            shown = [event for events in self._events.values() for event in events.values()]
            raise AssertionError(f"it did not come; {self.user_id} sees {shown[-20:]}") from None
