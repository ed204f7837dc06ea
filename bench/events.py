"""Reminders at their hour: lateness idle and in a burst, the event loop, memory; beside APScheduler's ways.

Three ways, each in a process of its own, on SQLite with synchronous=FULL:

- labbot: rows, one alarm, a few hundred rows a transaction, each told through the outbox;
- APScheduler's SQL job store: one job per reminder, stored;
- one job per reminder in memory, as matrix-reminder-bot does it: jobs come from rows at the start, a new reminder is a
  row and a job, and a job that has run deletes its row, each in a transaction of its own (its ``storage.py``).

    python bench/events.py                      all, 100,000 and 1,000,000 pending
    python bench/events.py --pending 10000      a quick look
"""

import argparse
import asyncio
import gc
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

BURST = 10_000
SINGLES = 300
"""Reminders that fall due one by one, for the lateness while nothing else happens."""

GAP = 0.05


class Watch:
    """The longest time the event loop did nothing else."""

    def __init__(self) -> None:
        self.stall = 0.0
        self.stalls: list[float] = []

    async def run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            late = time.perf_counter() - began - 0.002
            self.stalls.append(late)
            self.stall = max(self.stall, late)


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def report(
    way: str, pending: int, idle: list[float], burst: list[float], watch: Watch, fill: float, still: float, busy: float
) -> None:
    """``still`` is the longest stall in a second in which nothing falls due: the machine's own. ``busy`` is the
    processor's time that the burst took, whatever else the machine does."""
    print(
        json.dumps(
            {
                "way": way,
                "pending": pending,
                "idle_p50_ms": round(percentile(idle, 0.5) * 1000, 1),
                "idle_p99_ms": round(percentile(idle, 0.99) * 1000, 1),
                "idle_done": len(idle),
                "burst_p50_s": round(percentile(burst, 0.5), 3),
                "burst_all_s": round(max(burst, default=float("nan")), 3),
                "burst_cpu_s": round(busy, 2),
                "burst_done": len(burst),
                "stall_ms": round(watch.stall * 1000, 1),
                "still_ms": round(still * 1000, 1),
                "stall_p99_ms": round(percentile(watch.stalls, 0.99) * 1000, 1),
                "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "fill_s": round(fill, 1),
            }
        ),
        flush=True,
    )


async def until(done: Callable[[], bool], longest: float) -> None:
    ends = time.monotonic() + longest
    while not done() and time.monotonic() < ends:
        await asyncio.sleep(0.05)


async def labbot(folder: Path, pending: int) -> None:
    """The whole bot on the memory messenger: claimed means told, in the outbox, and stored."""
    from sqlalchemy import insert

    from bot.adapters.memory import UNLIMITED, Memory
    from bot.app import App
    from bot.config import Settings
    from bot.router import Due
    from storage.chats import Chat
    from storage.engine import migrate, session_in
    from storage.events import planning, reminding
    from storage.events.planning import Plan
    from storage.events.tables import Kind, Outcome, Reminder, Rsvp, State
    from storage.people import Account, Person

    settings = Settings(_env_file=None, data=folder, database_url=f"sqlite:///{folder}/bench.db", locale="en")  # type: ignore[call-arg]
    migrate(settings.database)
    # It takes what is told as fast as Telegram does: who delivers faster takes the processor from those who claim.
    telegram = replace(UNLIMITED, rate=30.0, chat_rate=1.0, group_rate=20 / 60, in_flight=64, bulk_in_flight=8)
    app = App(settings, [Memory(limits=telegram, now=lambda: datetime.now(UTC))])
    began = time.monotonic()
    now = datetime.now(UTC)

    def fill(connection: object) -> int:
        with session_in(connection) as session:  # type: ignore[arg-type]
            wall = (now + timedelta(days=60)).replace(tzinfo=None)
            plan = Plan("Walk", wall, 60, "other", "en", "Europe/Berlin")
            [event] = planning.create(session, plan, None, now)
            planning.publish(session, [event], now)
            people = range(1, BURST + SINGLES + 1)
            session.execute(
                insert(Person),
                [
                    {
                        "id": n,
                        "pseudonym": f"P{n}",
                        "handle": f"p{n}",
                        "role": "participant",
                        "notice": 1,
                        "created_at": now,
                    }
                    for n in people
                ],
            )
            session.execute(
                insert(Account),
                [
                    {"id": n, "person_id": n, "adapter": "memory", "external": f"a{n}", "created_at": now}
                    for n in people
                ],
            )
            session.execute(
                insert(Chat),
                [
                    {
                        "id": n, "adapter": "memory", "external": f"p-a{n}", "private": True, "account_id": n,
                        "locale": "en", "active": True, "team": False, "created_at": now,
                    }
                    for n in people
                ],
            )  # fmt: skip
            session.execute(
                insert(Rsvp),
                [
                    {"event_id": event.number, "person_id": n, "state": State.YES, "companions": 0, "names": "",
                     "line": 0, "said": "", "at": now}
                    for n in people
                ],
            )  # fmt: skip
            later = now + timedelta(days=30)
            for start in range(0, pending, 50_000):
                session.execute(
                    insert(Reminder),
                    [
                        {
                            "event_id": event.number, "person_id": n % len(people) + 1, "kind": Kind.REMIND,
                            "ahead": 60, "note": "", "due_at": later + timedelta(seconds=n), "state": Outcome.PENDING,
                        }
                        for n in range(start, min(start + 50_000, pending))
                    ],
                )  # fmt: skip
            session.commit()
            return event.number

    number = await app.storage.run(fill)
    filled = time.monotonic() - began
    told: list[float] = []
    taken: list[datetime] = []
    claim, handle = reminding.claim, app.clock._handle

    def claiming(session: object, at: datetime, most: int) -> list[reminding.Claimed]:
        found = claim(session, at, most)  # type: ignore[arg-type]
        taken.extend(each.due_at for each in found)
        return found

    async def handling(what: Due) -> datetime | None:
        """What was claimed is done when its transaction is committed."""
        following = await handle(what)
        seen = datetime.now(UTC)
        told.extend((seen - at).total_seconds() for at in taken)
        taken.clear()
        return following

    reminding.claim, app.clock._handle = claiming, handling  # type: ignore[assignment]
    stop = asyncio.Event()
    gc.collect()
    gc.freeze()  # as ``labbot run`` does it
    running = asyncio.create_task(app.run(stop))
    await asyncio.sleep(1)
    watch = Watch()
    watching = asyncio.create_task(watch.run())

    def due(connection: object, at: Callable[[int], datetime], people: range) -> None:
        with session_in(connection) as session:  # type: ignore[arg-type]
            rows = [
                {"event_id": number, "person_id": n, "kind": Kind.REMIND, "ahead": 30, "note": "", "due_at": at(n),
                 "state": Outcome.PENDING}
                for n in people
            ]  # fmt: skip
            session.execute(insert(Reminder), rows)
            session.commit()

    base = datetime.now(UTC) + timedelta(seconds=1)
    singles = range(BURST + 1, BURST + SINGLES + 1)
    await app.storage.run(
        lambda connection: due(connection, lambda n: base + timedelta(seconds=(n - BURST) * GAP), singles)
    )
    app.clock.rearm(base)
    await until(lambda: len(told) >= SINGLES, 60)
    idle, told[:] = list(told), []
    watch.stall, watch.stalls = 0.0, []
    base = datetime.now(UTC) + timedelta(seconds=5)
    await app.storage.run(lambda connection: due(connection, lambda _: base, range(1, BURST + 1)))
    watch.stall, watch.stalls = 0.0, []
    await asyncio.sleep(1)
    still = watch.stall
    app.clock.rearm(base)
    await asyncio.sleep(max(0.0, (base - datetime.now(UTC)).total_seconds() - 0.1))
    watch.stall, watch.stalls, busy = 0.0, [], time.process_time()
    await until(lambda: len(told) >= BURST, 120)
    busy = time.process_time() - busy
    report("labbot", pending, idle, told, watch, filled, still, busy)
    watching.cancel()
    stop.set()
    await running


async def apscheduler(folder: Path, pending: int, stored: bool) -> None:
    """One job per reminder; the job notes that it ran, and in memory deletes its row."""
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    store = SQLAlchemyJobStore(f"sqlite:///{folder}/jobs.db") if stored else MemoryJobStore()
    scheduler = AsyncIOScheduler(jobstores={"default": store}, timezone=UTC)
    began = time.monotonic()
    scheduler.start(paused=True)
    later = datetime.now(UTC) + timedelta(days=30)
    if stored:  # its own way, one transaction a job, would take hours: the same rows, written at once
        import pickle

        scheduler.add_job(remind, "date", run_date=later, args=(0.0,), id="model", misfire_grace_time=None)
        model = store.lookup_job("model")
        with store.engine.begin() as connection:
            for start in range(0, pending, 50_000):
                rows = []
                for n in range(start, min(start + 50_000, pending)):
                    at = later + timedelta(seconds=n)
                    state = model.__getstate__() | {"id": str(n), "next_run_time": at}
                    rows.append({"id": str(n), "next_run_time": at.timestamp(), "job_state": pickle.dumps(state)})
                connection.execute(store.jobs_t.insert(), rows)
    else:
        ROWS.append(sqlite3.connect(folder / "rows.db", isolation_level=None))
        ROWS[0].execute("CREATE TABLE reminder (room_id TEXT, text TEXT, start_time TEXT)")
        ROWS[0].execute("CREATE UNIQUE INDEX reminder_room_id_text ON reminder(room_id, text)")
        ROWS[0].execute("BEGIN")
        ROWS[0].executemany("INSERT INTO reminder VALUES ('!room', ?, '')", ((str(n),) for n in range(pending)))
        ROWS[0].execute("COMMIT")
        for n in range(pending):
            at = later + timedelta(seconds=n)
            scheduler.add_job(remind_of_row, "date", run_date=at, args=(0.0, str(n)), misfire_grace_time=None)

    def add(name: str, at: datetime) -> None:
        more = {"run_date": at, "misfire_grace_time": None, "id": name}
        if stored:
            scheduler.add_job(remind, "date", args=(at.timestamp(),), **more)
        else:
            ROWS[0].execute("INSERT INTO reminder VALUES ('!room', ?, '')", (name,))
            scheduler.add_job(remind_of_row, "date", args=(at.timestamp(), name), **more)

    filled = time.monotonic() - began
    scheduler.resume()
    watch = Watch()
    watching = asyncio.create_task(watch.run())
    base = datetime.now(UTC) + timedelta(seconds=5 if pending < 500_000 else 60)
    for n in range(SINGLES):
        at = base + timedelta(seconds=n * GAP)
        add(f"single{n}", at)
        await asyncio.sleep(0)
    await until(lambda: len(LATE) >= SINGLES, 120)
    idle, LATE[:] = list(LATE), []
    scheduler.pause()
    base = datetime.now(UTC) + timedelta(seconds=60)
    adding = time.monotonic()
    for n in range(BURST):
        add(f"burst{n}", base)
        if time.monotonic() - adding > 50:
            break
        await asyncio.sleep(0)
    scheduler.resume()
    await asyncio.sleep(max(0.0, (base - datetime.now(UTC)).total_seconds() - 1.5))
    watch.stall, watch.stalls = 0.0, []
    await asyncio.sleep(1)
    still = watch.stall
    watch.stall, watch.stalls, busy = 0.0, [], time.process_time()
    await until(lambda: len(LATE) >= min(BURST, n + 1), 120)
    report(
        "APScheduler, SQL job store" if stored else "one job per reminder",
        pending,
        idle,
        LATE,
        watch,
        filled,
        still,
        time.process_time() - busy,
    )
    watching.cancel()
    scheduler.shutdown(wait=False)


LATE: list[float] = []
ROWS: list[sqlite3.Connection] = []


def remind(due: float) -> None:
    """A job."""
    LATE.append(time.time() - due)


async def remind_of_row(due: float, name: str) -> None:
    """A job, in the event loop, that deletes its row."""
    ROWS[0].execute("DELETE FROM reminder WHERE room_id = '!room' AND text = ?", (name,))
    LATE.append(time.time() - due)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--way", choices=["labbot", "stored", "memory"])
    given = parser.parse_args()
    if given.way is None:
        for pending in given.pending:
            for way in ("labbot", "stored", "memory"):
                command = [sys.executable, __file__, "--way", way, "--pending", str(pending)]
                subprocess.run(command, check=False, timeout=900)
        return
    import logging

    import structlog

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="labbot-bench-") as folder:
        work = (
            labbot(Path(folder), given.pending[0])
            if given.way == "labbot"
            else apscheduler(Path(folder), given.pending[0], given.way == "stored")
        )
        asyncio.run(work)


if __name__ == "__main__":
    main()
