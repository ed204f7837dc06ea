"""The clock: what recurs is called, at once and then again, never twice at a time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.clock import Clock, RealTime
from bot.router import Tick
from bot.turn import Turn
from tests.conftest import SETTLES, Community


class Calls:
    """Notes who is called, and holds calls up while its gate is shut."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at_once = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._came = asyncio.Event()

    async def __call__(self, name: str, handler: Callable[[Turn], None]) -> None:
        self.names.append(name)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self._came.set()
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1

    async def were(self, number: int) -> None:
        while len(self.names) < number:
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), SETTLES)


def nothing(_turn: Turn) -> None:
    return


def scheduler(clock: Clock) -> AsyncIOScheduler:
    return clock._scheduler


async def test_every_tick_is_called_at_the_start_and_again(  # 20 a second, so that nobody waits
) -> None:
    calls = Calls()
    clock = Clock([Tick("often", 0.05 / 60, nothing), Tick("rarely", 60, nothing)], calls)
    clock.start()
    await calls.were(4)
    clock.stop()
    assert calls.names.count("rarely") == 1
    assert calls.names.count("often") >= 3


async def test_a_tick_that_takes_long_is_never_called_twice_at_a_time() -> None:
    calls = Calls()
    calls.gate.clear()
    refused = asyncio.Event()
    clock = Clock([Tick("slow", 0.01 / 60, nothing)], calls)
    scheduler(clock).add_listener(lambda _event: refused.set(), mask=1 << 16)  # EVENT_JOB_MAX_INSTANCES
    clock.start()
    await calls.were(1)
    await asyncio.wait_for(refused.wait(), SETTLES)  # its time has come again, and it was not called
    assert calls.most == 1
    calls.gate.set()
    await calls.were(2)
    clock.stop()
    assert calls.most == 1


async def test_calls_that_were_missed_are_made_once_however_late() -> None:
    clock = Clock([Tick("tick", 1, nothing)], Calls())
    clock.start()
    [job] = scheduler(clock).get_jobs()
    assert job.coalesce is True
    assert job.max_instances == 1
    assert job.misfire_grace_time is None  # however late
    assert str(scheduler(clock).timezone) == "UTC"
    clock.stop()


async def test_a_stop_ends_what_is_under_way_without_a_complaint() -> None:
    calls = Calls()
    calls.gate.clear()
    clock = Clock([Tick("slow", 60, nothing)], calls)
    failures: list[Any] = []
    scheduler(clock).add_listener(failures.append, mask=1 << 13)  # EVENT_JOB_ERROR
    clock.start()
    await calls.were(1)
    clock.stop()
    async with asyncio.timeout(SETTLES):
        while calls.at_once:
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    assert failures == []
    assert calls.names == ["slow"]


async def test_the_labs_own_ticks_run_without_a_failure(lab: Community) -> None:
    with structlog.testing.capture_logs() as logged:
        for tick in lab.app.router.ticks:
            await lab.app.dispatch.tick(tick.name, tick.handler)
    assert logged == []
    assert {tick.name.rpartition(".")[2] for tick in lab.app.router.ticks} >= {"prune", "close_left_chats"}


async def test_real_time_is_utc_and_only_grows() -> None:
    time = RealTime()
    before, earlier = time.now(), time.monotonic()
    await time.sleep(0)
    assert before.tzinfo is UTC
    assert abs((datetime.now(UTC) - before).total_seconds()) < 60
    assert time.monotonic() >= earlier
