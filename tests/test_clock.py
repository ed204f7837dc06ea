"""The clock: what recurs is called, at once and then again, never twice at a time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import Connection

from bot.clock import LONGEST_LOOK_AWAY, Clock, RealTime
from bot.router import Due, Router, Tick
from bot.turn import Turn
from tests.conftest import SETTLES, Community, ManualTime


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


def ticking(calls: Calls, *ticks: Tick) -> Clock:
    """A clock for which nothing ever falls due."""
    return Clock(ticks, calls, (), Agenda(ManualTime()), ManualTime())


class Agenda:
    """What is due, by kind; handles one thing a call, and notes when."""

    def __init__(self, time: ManualTime, **at: list[float]) -> None:
        self._time = time
        self._began = time.now()
        self.waiting = at
        self.done: list[tuple[str, float]] = []
        self.looks = 0
        self._looked = asyncio.Event()

    async def looked_at(self, times: int) -> None:
        """Wait until the clock has asked so often."""
        while self.looks < times:
            self._looked.clear()
            await asyncio.wait_for(self._looked.wait(), SETTLES)

    def add(self, kind: str, after: float) -> datetime:
        """One more thing falls due so many seconds after the start."""
        self.waiting[kind] = sorted([*self.waiting[kind], after])
        return self._began + timedelta(seconds=after)

    async def __call__(self, due: Due) -> datetime | None:
        await asyncio.sleep(0)
        self.looks += 1
        self._looked.set()
        now = (self._time.now() - self._began).total_seconds()
        waiting = self.waiting[due.name]
        if waiting and waiting[0] <= now:
            waiting.pop(0)
            self.done.append((due.name, now))
        return self._began + timedelta(seconds=waiting[0]) if waiting else None

    def clock(self) -> Clock:
        """A clock for all of it."""
        return Clock((), Calls(), [Due(kind, never, nothing) for kind in self.waiting], self, self._time)


def never(_connection: Connection) -> None:
    return


def scheduler(clock: Clock) -> AsyncIOScheduler:
    return clock._scheduler


async def test_every_tick_is_called_at_the_start_and_again(  # 20 a second, so that nobody waits
) -> None:
    calls = Calls()
    clock = ticking(calls, Tick("often", 0.05 / 60, nothing), Tick("rarely", 60, nothing))
    clock.start()
    await calls.were(4)
    clock.stop()
    assert calls.names.count("rarely") == 1
    assert calls.names.count("often") >= 3


async def test_a_tick_that_takes_long_is_never_called_twice_at_a_time() -> None:
    calls = Calls()
    calls.gate.clear()
    refused = asyncio.Event()
    clock = ticking(calls, Tick("slow", 0.01 / 60, nothing))
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
    clock = ticking(Calls(), Tick("tick", 1, nothing))
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
    clock = ticking(calls, Tick("slow", 60, nothing))
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


async def test_what_is_due_is_done_at_its_moment_and_not_before() -> None:
    time = ManualTime()
    agenda = Agenda(time, reminder=[7.25, 20.0], poll=[7.25])
    clock = agenda.clock()
    clock.start()
    await time.asleep()
    assert agenda.done == []
    for _ in range(2):
        assert time.next_wake is not None
        time.pass_by(time.next_wake - time.monotonic())
        await asyncio.sleep(0)
        await time.asleep()
    assert agenda.done == [("reminder", 7.25), ("poll", 7.25), ("reminder", 20.0)]
    clock.stop()


async def test_something_earlier_sets_the_alarm_earlier_and_something_later_does_not() -> None:
    time = ManualTime()
    agenda = Agenda(time, poll=[25.0])
    clock = agenda.clock()
    clock.start()
    await time.asleep()
    looks = agenda.looks
    clock.rearm(agenda.add("poll", 28))
    clock.rearm(agenda.add("poll", 3))
    await agenda.looked_at(looks + 1)
    await time.asleep()
    assert time.next_wake == time.monotonic() + 3
    assert agenda.looks == looks + 1
    clock.stop()


async def test_what_nobody_told_the_clock_of_is_found_half_a_minute_later_at_most() -> None:
    time = ManualTime()
    agenda = Agenda(time, poll=[])
    clock = agenda.clock()
    clock.start()
    await time.asleep()
    agenda.add("poll", 1)  # another process has stored it
    time.pass_by(LONGEST_LOOK_AWAY.total_seconds())
    await agenda.looked_at(2)
    await time.asleep()
    assert agenda.done == [("poll", 30.0)]
    clock.stop()


async def test_much_of_one_kind_does_not_hold_up_another() -> None:
    time = ManualTime()
    agenda = Agenda(time, reminder=[0.0] * 5, poll=[0.0, 9.0])
    assert await agenda.clock().catch_up() == time.now() + timedelta(seconds=9)
    assert [kind for kind, _ in agenda.done] == ["reminder", "poll", *["reminder"] * 4]


async def test_who_waits_until_all_is_done_waits_for_what_another_has_begun() -> None:
    """It has claimed the thing already, so that nothing seems to be due any more."""
    claimed, gate, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def handle(_due: Due) -> None:
        if not claimed.is_set():
            claimed.set()
            await gate.wait()
            ended.append("told")

    async def asks() -> None:
        await clock.catch_up()
        ended.append("asked")

    clock = Clock((), Calls(), [Due("reminder", never, nothing)], handle, ManualTime())
    both = asyncio.gather(clock.catch_up(), asks())
    await claimed.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    await both
    assert ended == ["told", "asked"]


class Alarms:
    """A feature with one kind of due thing: moments, in a list instead of rows."""

    def __init__(self) -> None:
        self.moments: list[datetime] = []
        self.router = Router()
        self.router.due(self._next)(self.ring)

    def _next(self, _connection: Connection) -> datetime | None:
        return min(self.moments, default=None)

    def ring(self, turn: Turn) -> None:
        if len(self.moments) == 1:
            turn.due(turn.now + timedelta(seconds=5))
        self.moments.remove(min(self.moments))


async def test_a_due_function_is_a_turn_and_the_clock_hears_what_it_makes_due(lab: Community) -> None:
    alarms, heard = Alarms(), list[datetime]()
    lab.app.dispatch.rearm = heard.append
    [due] = alarms.router.dues
    now = lab.time.now()
    alarms.moments = [now, now + timedelta(seconds=9)]
    assert await lab.app.dispatch.due(due) == now + timedelta(seconds=9)
    assert await lab.app.dispatch.due(due) == now + timedelta(seconds=9)  # nothing is due yet
    assert heard == []
    lab.time.pass_by(9)
    assert await lab.app.dispatch.due(due) is None
    assert heard == [lab.time.now() + timedelta(seconds=5)]


async def test_a_due_function_that_fails_is_logged_and_tried_again_later(lab: Community) -> None:
    def fail(_turn: Turn) -> None:
        raise ValueError("secret words")

    due = Due("tests.fail", lambda _connection: lab.time.now(), fail)
    with structlog.testing.capture_logs() as logged:
        assert await lab.app.dispatch.due(due) == lab.time.now() + timedelta(seconds=30)
    [line] = logged
    assert (line["event"], line["due"], line["error"]) == ("due.failed", "tests.fail", "ValueError")
    assert "secret" not in str(line)


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
