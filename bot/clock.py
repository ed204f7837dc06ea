"""Clock: what time it is, and what happens because it passes. Jobs are code, due things are rows."""

import asyncio
import contextlib
import time as clocks
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.router import Tick
from bot.turn import Turn

Do = Callable[[str, Callable[[Turn], None]], Awaitable[None]]


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
    """Calls every recurring function when its minutes are over, and once at the start.

    APScheduler runs in UTC with its memory job store. A call that is late is made once, and never twice at a time.
    """

    def __init__(self, ticks: Iterable[Tick], do: Do) -> None:
        self._do = do
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

    def stop(self) -> None:
        """Call nothing more."""
        self._scheduler.shutdown(wait=False)
