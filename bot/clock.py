"""Clock: what time it is, and what happens because it passes. Jobs are code, due things are rows."""

import asyncio
import contextlib
import time as clocks
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.router import Due, Tick
from bot.turn import Turn

LONGEST_LOOK_AWAY = timedelta(seconds=30)
"""How long nobody asks what is due: the machine's clock may jump, another process may store something."""

Do = Callable[[str, Callable[[Turn], None]], Awaitable[None]]
Handle = Callable[[Due], Awaitable[datetime | None]]


class Time(Protocol):
    """Where the time comes from; tests bring their own."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow, for measuring and pacing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class RealTime:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return clocks.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Clock:
    """Calls every recurring function when its minutes are over, and once at the start; and what is due when it is.

    What recurs is APScheduler's, in UTC with its memory job store. A call that is late is made once, and never twice
    at a time. For what is due there is one alarm, set to the earliest of all: ``rearm`` sets it earlier.
    """

    def __init__(self, ticks: Iterable[Tick], do: Do, dues: Iterable[Due], handle: Handle, time: Time) -> None:
        self._do = do
        self._dues = list(dues)
        self._handle = handle
        self._time = time
        self._alarm: datetime | None = None
        self._earlier = asyncio.Event()
        self._looking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        for tick in ticks:
            self._scheduler.add_job(
                self._call,
                "interval",
                args=(tick.name, tick.handler),
                minutes=tick.minutes,
                id=tick.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )

    async def _call(self, name: str, handler: Callable[[Turn], None]) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the stop: APScheduler would report it as a failure
            await self._do(name, handler)

    def start(self) -> None:
        """Begin, in the running loop."""
        self._scheduler.start()
        if self._dues:
            self._watching = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Call nothing more."""
        self._scheduler.shutdown(wait=False)
        if self._watching is not None:
            self._watching.cancel()

    def rearm(self, at: datetime) -> None:
        """Something falls due then."""
        if self._alarm is None or at < self._alarm:
            self._earlier.set()

    async def catch_up(self) -> datetime | None:
        """Let everything be done that is due, a batch of each kind in turn; when the next is, ``None`` for never."""
        following: datetime | None = None
        async with self._looking:  # whoever comes second finds what the first has done told, and not only stored
            waiting = self._dues
            while waiting:
                again = []
                for due in waiting:
                    at = await self._handle(due)
                    if at is not None and at <= self._time.now():
                        again.append(due)
                    elif at is not None:
                        following = at if following is None else min(at, following)
                waiting = again
        return following

    async def _watch(self) -> None:
        while True:
            self._alarm = None  # whoever stores something meanwhile may be too late for this look
            self._earlier.clear()
            following = await self.catch_up()
            now = self._time.now()
            self._alarm = now + LONGEST_LOOK_AWAY
            if following is not None:
                self._alarm = min(self._alarm, following)
            pause = asyncio.ensure_future(self._time.sleep((self._alarm - now).total_seconds()))
            earlier = asyncio.ensure_future(self._earlier.wait())
            try:
                await asyncio.wait((pause, earlier), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
                earlier.cancel()
