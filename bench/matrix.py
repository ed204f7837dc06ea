"""From message sent to reply decrypted: labbot, a bare matrix-nio echo and maubot's echo on the same Synapse."""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
sys.path.insert(0, str(ROOT))

from storage.engine import migrate  # noqa: E402
from tests.adapters.matrix_people import People, Resident  # noqa: E402
from tests.adapters.synapse import Account, Synapse  # noqa: E402

NUMBER = re.compile(r"#?(\d{6})")
WARM_UP = 5

Start = Callable[[Path, str, Account], subprocess.Popen[bytes]]


def spawn(command: list[str], folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LABBOT_")} | settings
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def labbot(folder: Path, url: str, account: Account) -> subprocess.Popen[bytes]:
    migrate(f"sqlite:///{folder / 'labbot.db'}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return spawn(
        [sys.executable, "-m", "bot", "run"],
        folder,
        PYTHONPATH=str(ROOT),
        LABBOT_DATA=str(folder),
        LABBOT_LOCALE="en",
        LABBOT_HTTP=f"127.0.0.1:{port}",
        LABBOT_MATRIX_HOMESERVER=url,
        LABBOT_MATRIX_USER=account.user_id,
        LABBOT_MATRIX_PASSWORD=account.password,
        # Synapse's limits are lifted, and each reaction would be one more message to wait for.
        LABBOT_MATRIX_RATE="10000",
        LABBOT_MATRIX_BURST="10000",
        LABBOT_MATRIX_REACTIONS="0",
    )


def nio(peers: Path) -> Start:
    def start(folder: Path, url: str, account: Account) -> subprocess.Popen[bytes]:
        echo = str(BENCH / "peers" / "echo_nio.py")
        login = [account.user_id, account.device_id, account.token, str(folder)]
        return spawn([str(peers / "bin" / "python"), echo, url, *login], folder)

    return start


def maubot(peers: Path) -> Start:
    def start(folder: Path, url: str, account: Account) -> subprocess.Popen[bytes]:
        config = {
            "user": {
                "credentials": {
                    "id": account.user_id,
                    "homeserver": url,
                    "access_token": account.token,
                    "device_id": account.device_id,
                },
                "sync": True,
                "autojoin": True,
                "displayname": "disable",
                "avatar_url": "disable",
                "ignore_initial_sync": False,
                "ignore_first_sync": False,
            },
            "database": f"sqlite:{folder / 'maubot.db'}",
            "logging": {
                "version": 1,
                "handlers": {"err": {"class": "logging.StreamHandler"}},
                "root": {"level": "INFO", "handlers": ["err"]},
            },
        }
        # YAML is a superset of JSON.
        (folder / "config.yaml").write_text(json.dumps(config))
        for name in ("maubot.yaml", "echo_maubot.py"):
            shutil.copy(BENCH / "peers" / "maubot_echo" / name, folder / name)
        return spawn([str(peers / "bin" / "python"), "-m", "maubot.standalone"], folder, PYTHONPATH=str(folder))

    return start


@dataclass
class Contestant:
    """A bot that runs, somebody who writes to it, and what was measured."""

    name: str
    asks: str
    bot: Account
    person: Resident
    process: subprocess.Popen[bytes]
    rooms: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    bursts: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    lost: int = 0
    disordered: int = 0
    next: int = 100_000

    async def ask(self, room: str) -> int:
        self.next += 1
        number = self.next
        await self.person.says(room, self.asks.format(number=number))
        return number

    def answers(self, room: str) -> dict[int, float]:
        """When each answer arrived, in the order in which they stand in the room."""
        found: dict[int, float] = {}
        for line in self.person.lines(room, self.bot.user_id):
            if line.readable and (number := NUMBER.search(line.body)) is not None:
                found.setdefault(int(number[1]), line.arrived)
        return found

    async def greet(self, room: str) -> None:
        """Ask until there is an answer: a bot whose keys are not published yet cannot read the first question."""
        for _ in range(4):
            with contextlib.suppress(AssertionError):
                await self.one(room, 10)
                return
        raise SystemExit(f"{self.name} does not answer")

    async def one(self, room: str, patience: float = 30) -> float:
        began = time.monotonic()
        number = await self.ask(room)
        await self.person.until(lambda: number in self.answers(room), patience)
        return self.answers(room)[number] - began

    async def measure(self, sequential: int, burst: int) -> None:
        times = [await self.one(self.rooms[0]) for _ in range(sequential)]
        self.latencies += times
        self.medians.append(statistics.median(times))
        asked: dict[str, list[int]] = defaultdict(list)

        async def hurry(room: str) -> None:
            for _ in range(burst):
                asked[room].append(await self.ask(room))

        cpu = cpu_seconds(self.process.pid)
        began = time.monotonic()
        await asyncio.gather(*(hurry(room) for room in self.rooms))
        with contextlib.suppress(AssertionError):
            await self.person.until(
                lambda: all(set(asked[room]) <= self.answers(room).keys() for room in self.rooms), 60
            )
        ended = [self.answers(room).get(number) for room in self.rooms for number in asked[room]]
        self.lost += ended.count(None)
        self.bursts.append(max(at for at in ended if at is not None) - began)
        self.cpu.append(cpu_seconds(self.process.pid) - cpu)
        for room in self.rooms:
            order = [number for number in self.answers(room) if number in set(asked[room])]
            self.disordered += order != sorted(order)


def cpu_seconds(pid: int) -> float:
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


async def compare(options: argparse.Namespace, folder: Path, synapse: Synapse) -> list[Contestant]:
    starts: dict[str, tuple[Start, str]] = {
        "labbot": (labbot, "!ideas {number}"),
        "nio": (nio(options.peers), "echo {number}"),
        "maubot": (maubot(options.peers), "echo {number}"),
    }
    contestants: list[Contestant] = []
    async with People(synapse) as people:
        try:
            for name in options.only:
                start, asks = starts[name]
                own = folder / name
                own.mkdir()
                bot = await synapse.register(name)
                process = start(own, synapse.url, bot)
                contestant = Contestant(name, asks, bot, await people.person(f"asks.{name}"), process)
                contestants.append(contestant)
                for number in range(options.rooms):
                    room = await contestant.person.creates(f"Room {number}", invite=[bot.user_id], encrypted=True)
                    await contestant.person.until(
                        lambda c=contestant, room=room: bot.user_id in c.person.members(room), options.patience
                    )
                    contestant.rooms.append(room)
                for room in contestant.rooms:  # keys are exchanged, caches are warm
                    await contestant.greet(room)
                for _ in range(WARM_UP):
                    await contestant.one(contestant.rooms[0])
            for number in range(1, options.rounds + 1):
                # Interleaved, so that a slow minute of the machine hits all of them.
                for contestant in contestants:
                    await contestant.measure(options.sequential, options.burst)
                    print(
                        f"round {number}, {contestant.name}: {contestant.medians[-1] * 1000:.0f} ms, "
                        f"burst {contestant.bursts[-1]:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
        except BaseException:
            for contestant in contestants:
                log = (folder / contestant.name / "log").read_text(errors="replace")
                print(f"--- {contestant.name}\n{log[-2000:]}", file=sys.stderr)
            raise
        finally:
            for contestant in contestants:
                os.killpg(contestant.process.pid, signal.SIGKILL)
                contestant.process.wait()
    return contestants


def table(contestants: list[Contestant], options: argparse.Namespace) -> str:
    number = options.rooms * options.burst
    lines = [
        f"{options.rounds} interleaved rounds of {options.sequential} messages one after the other, and of {number} "
        f"over {options.rooms} encrypted rooms at once; Python {platform.python_version()}, {os.cpu_count()} cores "
        "shared by the bots, Synapse and the people.",
        "",
        f"| bot | median ms | p99 ms | {number} at once, s | answered/s | CPU ms each | lost | rooms out of order |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in contestants:
        p99 = statistics.quantiles(one.latencies, n=100)[98]
        burst = statistics.median(one.bursts)
        lines.append(
            f"| {one.name} | {statistics.median(one.medians) * 1000:.0f} | {p99 * 1000:.0f} | {burst:.2f} "
            f"| {number / burst:.1f} | {statistics.median(one.cpu) / number * 1000:.1f} | {one.lost} "
            f"| {one.disordered} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["labbot", "nio", "maubot"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequential", type=int, default=40, help="messages a round, each after the last one's reply")
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--burst", type=int, default=10, help="messages a room and round, all rooms at once")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds until a bot has joined a room")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers", help="environment of the echo bots")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="labbot-bench-"))
    try:
        (folder / "synapse").mkdir()
        with Synapse(folder / "synapse") as synapse:
            print(table(asyncio.run(compare(options, folder, synapse)), options))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
