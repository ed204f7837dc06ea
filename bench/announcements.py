"""How near a broadcast comes to what Telegram allows, on the strict server with its limits on, beside a bare loop."""

import argparse
import asyncio
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import Connection, create_engine, text

from bench.throughput import free_port
from storage import chats, people
from storage.engine import migrate, session_in
from storage.people import Role
from tests.adapters.telegram_server import Rates, TelegramServer, User
from tests.faults.process import Labbot

LATENCY = 0.05
NEWS = "Big news for everybody"
FIRST = 1_000_000
ORGANISER = 999_999
FAULTS = (429, 500, "timeout")


@dataclass
class Result:
    """One broadcast: seconds until the last recipient had it, and until 99 % had it."""

    name: str
    people: int
    rate: float
    seconds: float
    most: float
    provoked: int
    missing: int
    twice: int
    replies: list[float]

    @property
    def efficiency(self) -> float:
        """Ideal time by real time; the ideal is one message after the other at the full rate."""
        return (self.people - 1) / self.rate / self.seconds

    @property
    def efficiency_of_most(self) -> float:
        """The same for the first 99 %: what is left out waits for an answer that was lost."""
        return (round(self.people * 0.99) - 1) / self.rate / self.most


def seed(url: str, number: int) -> str:
    """A database with so many people who have started the bot; the code that makes one of them an organiser."""
    migrate(url)
    engine = create_engine(url)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        for person in (ORGANISER, *range(FIRST, FIRST + number - 1)):
            _arrive(connection, str(person), now)
        connection.execute(text("UPDATE person SET notice = 1"))  # they have been told already
        with session_in(connection) as session:
            code = people.invite(session, Role.ORGANISER, now)
            session.commit()
    engine.dispose()
    return code


def _arrive(connection: Connection, external: str, now: datetime) -> None:
    account = people.arrive(connection, "telegram", external, now)
    chats.open_chat(connection, "telegram", external, private=True, locale="en", account_id=account, now=now)


def populate(server: TelegramServer, number: int) -> list[User]:
    """The same people on the messenger."""
    users = [server.user(person, first_name="P") for person in (ORGANISER, *range(FIRST, FIRST + number - 1))]
    for user in users:
        server.private(user)
        user.started = True
    return users


def arrivals(server: TelegramServer, since: float) -> list[tuple[int, float]]:
    """Who has got the news since a moment, and how many seconds after it."""
    return [
        (call.chat or 0, call.time - since)
        for call in server.called("sendMessage")
        if call.time > since and call.code == 200 and call.params.get("text") == NEWS
    ]


@asynccontextmanager
async def lab(
    number: int, rate: float, in_flight: int, **settings: str
) -> AsyncIterator[tuple[TelegramServer, Labbot]]:
    """labbot with so many people, against the strict server, an organiser among them."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        code = seed(f"sqlite:///{folder}/labbot.db", number)
        async with TelegramServer() as server:
            populate(server, number)
            pace = {
                "LABBOT_TELEGRAM_RATE": str(rate),
                "LABBOT_TELEGRAM_CHAT_RATE": "1",
                "LABBOT_TELEGRAM_BULK_IN_FLIGHT": str(in_flight),
            }
            labbot = Labbot(Path(folder), server.url, free_port(), **{**pace, **settings})
            async with labbot:
                server.say(ORGANISER, ORGANISER, f"/claim {code}")
                await server.wait_for(
                    lambda: [m for m in server.outgoing if "Welcome to the team" in (m.text or "")], 30
                )
                yield server, labbot


async def send(server: TelegramServer) -> float:
    """The organiser writes it and presses Send; the moment of the press."""
    server.say(ORGANISER, ORGANISER, f"/announce {NEWS}")
    [preview] = await server.wait_for(lambda: [m for m in server.outgoing if "not sent yet" in (m.text or "")][-1:], 30)
    await asyncio.sleep(3.5)  # what this chat may take in a burst is over
    server.press(ORGANISER, ORGANISER, preview, "Send")
    return server.now()


async def labbot_sends(
    name: str, number: int, rate: float, *, faulty: bool = False, asked: bool = False, seed: int = 7
) -> Result:
    """labbot's broadcast to everybody; the time counts from the press on Send."""
    in_flight = max(8, round(rate * LATENCY * 2))
    async with lab(number, rate, in_flight) as (server, _):
        server.latency = LATENCY
        server.rates = Rates(overall=round(rate))
        began = await send(server)
        asking = asyncio.create_task(ask(server, number)) if asked else None
        if faulty:
            server.flaky(0.01, FAULTS, seed=seed, methods=("sendMessage",))
        deadline = server.now() + number / rate * 4 + 120
        while len({chat for chat, _ in arrivals(server, began)}) < number and server.now() < deadline:
            await asyncio.sleep(0.2)
        if asking is not None:
            asking.cancel()
        return result(name, number, rate, server, began)


def result(name: str, number: int, rate: float, server: TelegramServer, began: float) -> Result:
    first: dict[int, float] = {}
    for chat, at in (moments := arrivals(server, began)):
        first.setdefault(chat, at)
    times = sorted(first.values())
    most = times[min(len(times), round(number * 0.99)) - 1]
    twice = len(moments) - len(first)
    waits, WAITS[:] = list(WAITS), []
    return Result(name, number, rate, times[-1], most, server.refused_429, number - len(first), twice, waits)


WAITS: list[float] = []


async def ask(server: TelegramServer, number: int) -> None:
    """Somebody asks something five times a second; how long each waits for the answer."""
    dice = random.Random(1)
    while True:
        person = dice.randrange(FIRST, FIRST + number - 1)
        began = time.monotonic()
        seen = len(server.outgoing)
        server.say(person, person, "/privacy")
        while not any(one.chat.id == person and one.text != NEWS for one in server.outgoing[seen:]):
            await asyncio.sleep(0.002)
        WAITS.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, 0.2 - (time.monotonic() - began)))


async def ptb_sends(number: int, rate: float, peer: str) -> Result:
    """The tutorials' loop; the time counts from its first message."""
    async with TelegramServer() as server:
        populate(server, number)
        server.latency = LATENCY
        server.rates = Rates(overall=round(rate))
        command = [
            *(peer, str(Path(__file__).parent / "peers" / "broadcast_ptb.py"), server.url, server.token),
            *("--first", str(ORGANISER), "--people", str(number), "--rate", str(rate), "--text", NEWS),
        ]
        process = await asyncio.create_subprocess_exec(*command)
        await process.wait()
        moments = arrivals(server, 0.0)
        if not moments:
            raise SystemExit("the peer has sent nothing; see --peer")
        return result("python-telegram-bot", number, rate, server, min(at for _, at in moments) - 1e-6)


def show(results: list[Result]) -> None:
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} cores, server's latency {LATENCY * 1000:g} ms\n")
    print("| bot | recipients | rate | seconds | efficiency | of the first 99 % | provoked 429 | missing | twice |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in results:
        print(
            f"| {one.name} | {one.people} | {one.rate:g}/s | {one.seconds:.1f} | {one.efficiency:.3f} "
            f"| {one.efficiency_of_most:.3f} | {one.provoked} | {one.missing} | {one.twice} |"
        )
    for one in results:
        if one.replies:
            ordered = sorted(one.replies)
            print(
                f"\nReplies during it ({len(ordered)}): median {statistics.median(ordered) * 1000:.0f} ms, "
                f"p99 {ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))] * 1000:.0f} ms"
            )


async def memory(number: int) -> None:
    """What a process holds in the middle of a small and at the end of a large broadcast."""
    async with lab(number, 100_000, 32, LABBOT_TELEGRAM_CHAT_RATE="1000") as (server, labbot):
        began = await send(server)
        resident: dict[int, float] = {}
        early = number // 10
        while len(resident) < 2:
            sent = len(arrivals(server, began))
            for mark in (early, number):
                if sent >= mark and mark not in resident:
                    status = Path(f"/proc/{labbot.pid}/status").read_text()
                    resident[mark] = int(status.split("VmRSS:")[1].split()[0]) / 1024
            await asyncio.sleep(0.5)
        grown = resident[number] - resident[early]
        print(
            f"\nResident after {early} recipients {resident[early]:.1f} MiB, after {number} {resident[number]:.1f}: "
            f"{grown / (number - early) * 100_000:+.1f} MiB per 100,000"
        )


async def main(options: argparse.Namespace) -> None:
    results = []
    for number, rate in options.runs:
        for faulty in (False, True):
            label = "labbot, 1 % faults" if faulty else "labbot"
            results.append(await labbot_sends(label, number, rate, faulty=faulty))
            show(results[-1:])
        if options.peer:
            results.append(await ptb_sends(number, rate, options.peer))
            show(results[-1:])
    if options.runs:
        number, rate = options.runs[-1]
        results.append(await labbot_sends("labbot, asked meanwhile", number, rate, asked=True))
        show(results)
    if options.memory:
        await memory(options.memory)


def _run(words: str) -> tuple[int, float]:
    number, _, rate = words.partition("@")
    return int(number), float(rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--runs", type=_run, nargs="*", default=[(600, 30.0), (3000, 300.0)], help="recipients@rate")
    parser.add_argument("--peer", default=".venv-peers/bin/python", help="the python that has the peer; empty: none")
    parser.add_argument(
        "--memory", type=int, default=50_000, help="recipients of the broadcast whose memory is measured"
    )
    asyncio.run(main(parser.parse_args()))
