"""Answered updates per second of labbot and of bare echo bots, side by side on the same loopback server."""

import argparse
import contextlib
import http.client
import json
import os
import platform
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
TOKEN = "4242424242:" + "A" * 35
TICK = os.sysconf("SC_CLK_TCK")
# Sequential bots answer at most 1/latency updates a second; fewer updates measure that as well, in less time.
SEQUENTIAL_SECONDS = 10
WARM_UP_PERSON = 500_000


class DidNotStart(Exception):
    """The bot could not be measured; the text says why."""


@dataclass(frozen=True)
class Contestant:
    name: str
    command: str
    text: str
    env: tuple[str, ...] = ()
    sequential: bool = False
    stores: bool = False


@dataclass(frozen=True)
class Round:
    contestant: str
    latency_ms: float
    updates: int
    answered: int
    sends: int
    seconds: float
    rate: float
    cpu_us: float
    server_us: float
    memory_mib: float
    others: float


@dataclass
class Results:
    rounds: list[Round] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


class Server:
    """The loopback server as a process of its own, and its controls."""

    def __init__(self, latency_ms: float) -> None:
        command = [sys.executable, str(BENCH / "telegram_loopback.py"), "--latency-ms", str(latency_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().rpartition(" ")[2].strip()
        if not self.address:
            raise SystemExit("the loopback server did not start")
        self.connection = http.client.HTTPConnection(self.address, timeout=60)

    def stats(self) -> dict[str, Any]:
        self.connection.request("GET", "/control/stats")
        answer: dict[str, Any] = json.loads(self.connection.getresponse().read())
        return answer

    def load(self, updates: int, people: int, text: str, first_person: int = 1_000_000) -> None:
        order = {"updates": updates, "people": people, "text": text, "first_person": first_person}
        self.connection.request("POST", "/control/load", json.dumps(order))
        self.connection.getresponse().read()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children it has."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # utime, stime, and those of the children that ended.
        total = sum(int(ticks) for ticks in after_name[11:15]) / TICK
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        return 0.0
    return total


def peak_memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def busy_seconds() -> float:
    """CPU time of everything on the machine: what exceeds bot and server was taken from them by others."""
    user, nice, system, _, _, irq, softirq = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    )
    return (user + nice + system + irq + softirq) / TICK


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end(process: subprocess.Popen[Any]) -> None:
    """Ask politely, then kill; only what was started here, which has a process group of its own."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


@contextlib.contextmanager
def server(latency_ms: float) -> Iterator[Server]:
    running = Server(latency_ms)
    try:
        yield running
    finally:
        running.connection.close()
        end(running.process)


@contextlib.contextmanager
def bot(contestant: Contestant, address: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        values = {
            "api": f"http://{address}",
            "token": TOKEN,
            "root": str(ROOT),
            "data": f"{folder}/data",
            "port": str(free_port()),
        }
        env = {name: value for name, value in os.environ.items() if not name.startswith("LABBOT_")}
        for assignment in contestant.env:
            name, _, value = assignment.partition("=")
            env[name] = value.format(**values)
        log = Path(folder, "log")
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    shlex.split(contestant.command.format(**{name: shlex.quote(v) for name, v in values.items()})),
                    cwd=folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise DidNotStart(str(error)) from error
            try:
                yield process, log
            finally:
                end(process)


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it printed nothing"


def wait_for(
    running: Server, process: subprocess.Popen[bytes], log: Path, number: str, least: int, limit: float
) -> bool:
    """Wait until a number of the server's is reached; false after ``limit`` seconds."""
    give_up = time.monotonic() + limit
    while True:
        if running.stats()[number] >= least:
            return True
        if process.poll() is not None:
            raise DidNotStart(f"ended with status {process.returncode}: {last_line(log)}")
        if time.monotonic() > give_up:
            return False
        # Rare enough to take nothing from the bot; the times themselves come from the server.
        time.sleep(0.1)


def measure(contestant: Contestant, latency_ms: float, options: argparse.Namespace) -> Round:
    updates: int = options.updates
    if contestant.sequential and latency_ms:
        updates = min(updates, int(SEQUENTIAL_SECONDS * 1000 / latency_ms))
    with server(latency_ms) as running, bot(contestant, running.address) as (process, log):
        if not wait_for(running, process, log, "polls", 1, options.start_timeout):
            raise DidNotStart(f"did not poll within {options.start_timeout} s: {last_line(log)}")
        # Imports, first connections and caches are not what is compared. The people of the warm-up do not come again.
        warm_up = min(options.warm_up, updates)
        running.load(warm_up, max(1, warm_up // 4), contestant.text, WARM_UP_PERSON)
        if not wait_for(running, process, log, "answered", warm_up, options.timeout):
            raise DidNotStart(f"answered {running.stats()['answered']} of {warm_up} updates of the warm-up")
        wait_for(running, process, log, "updates_confirmed", warm_up, 10)
        time.sleep(0.5)

        cpu, busy, began = cpu_seconds(process.pid), busy_seconds(), time.monotonic()
        running.load(updates, min(options.people, updates), contestant.text)
        wait_for(running, process, log, "answered", updates, options.timeout)
        # The work is done when the bot has also marked and confirmed what it answered.
        wait_for(running, process, log, "updates_confirmed", updates, 10)
        time.sleep(0.3)
        cpu, busy, wall = cpu_seconds(process.pid) - cpu, busy_seconds() - busy, time.monotonic() - began
        stats = running.stats()
        memory = peak_memory(process.pid)
    answered = stats["answered"]
    if not answered:
        raise DidNotStart("answered nothing")
    seconds = (stats["answered_at"] or stats["last_send_at"]) - stats["first_batch_at"]
    return Round(
        contestant=contestant.name,
        latency_ms=latency_ms,
        updates=updates,
        answered=answered,
        sends=stats["sends"],
        seconds=seconds,
        rate=answered / seconds,
        cpu_us=cpu / answered * 1e6,
        server_us=stats["cpu_seconds"] / max(stats["requests"], 1) * 1e6,
        memory_mib=memory,
        others=max(busy - cpu - stats["cpu_seconds"], 0.0) / wall / (os.cpu_count() or 1),
    )


def measure_in_peace(contestant: Contestant, latency_ms: float, options: argparse.Namespace) -> Round:
    """A round that other work on the machine disturbed is measured again, and the least disturbed one counts."""
    best = measure(contestant, latency_ms, options)
    for _ in range(options.retries):
        if best.others <= options.others:
            break
        print(f"disturbed ({best.others:.0%} of the machine), once more", file=sys.stderr, flush=True)
        best = min(best, measure(contestant, latency_ms, options), key=lambda result: result.others)
    return best


def contestants(options: argparse.Namespace) -> list[Contestant]:
    python = f"{shlex.quote(str(options.peers))}/bin/python"
    ptb = f"{python} {{root}}/bench/peers/echo_ptb.py {{api}} {{token}}"
    aiogram = f"{python} {{root}}/bench/peers/echo_aiogram.py {{api}} {{token}}"
    labbot_env = (
        "LABBOT_TELEGRAM_TOKEN={token}",
        "LABBOT_TELEGRAM_API={api}",
        "LABBOT_DATA={data}",
        "LABBOT_HTTP=127.0.0.1:{port}",
        # Telegram's limits would otherwise be what is measured.
        "LABBOT_TELEGRAM_RATE=100000",
        "LABBOT_TELEGRAM_CHAT_RATE=100000",
        "LABBOT_TELEGRAM_GROUP_RATE=100000",
        *options.labbot_env,
    )
    known = [
        Contestant("ptb", ptb, options.text, sequential=True),
        Contestant("ptb-64", f"{ptb} --concurrent 64", options.text),
        Contestant("aiogram", aiogram, options.text),
        Contestant("aiogram-uvloop", f"{aiogram} --uvloop", options.text),
        Contestant("labbot", options.labbot, options.labbot_text, env=labbot_env, stores=True),
    ]
    chosen = [contestant for contestant in known if contestant.name in options.only]
    if missing := set(options.only) - {contestant.name for contestant in known}:
        raise SystemExit(f"unknown contestants: {', '.join(sorted(missing))}")
    return chosen


def compare(options: argparse.Namespace) -> Results:
    results = Results()
    field_of = contestants(options)
    for latency_ms in options.latency_ms:
        # Interleaved, so that a slow minute of the machine hits all of them.
        for number in range(1, options.rounds + 1):
            for contestant in field_of:
                if contestant.name in results.skipped:
                    continue
                label = f"{latency_ms:g} ms, round {number}, {contestant.name}"
                try:
                    result = measure_in_peace(contestant, latency_ms, options)
                except DidNotStart as error:
                    results.skipped[contestant.name] = str(error)
                    print(f"{label}: skipped: {error}", file=sys.stderr, flush=True)
                    continue
                results.rounds.append(result)
                print(
                    f"{label}: {result.rate:.0f}/s, {result.answered} of {result.updates} answered, "
                    f"{result.cpu_us:.0f} µs of CPU each, others {result.others:.0%}",
                    file=sys.stderr,
                    flush=True,
                )
    return results


def spread(values: list[float]) -> str:
    return f"{min(values):.0f}-{max(values):.0f}"


def table(results: Results, options: argparse.Namespace) -> str:
    setting = (
        f"{options.updates} text messages of {options.people} people in private chats; medians of {options.rounds} "
        f"interleaved rounds; Python {platform.python_version()}, {os.cpu_count()} cores shared by bot and server."
    )
    lines = [
        setting,
        "",
        "| latency | bot | stores | answered/s | min-max | CPU µs/update | min-max | peak MiB | server µs/call |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    notes = []
    for latency_ms in options.latency_ms:
        for contestant in contestants(options):
            rounds = [r for r in results.rounds if (r.contestant, r.latency_ms) == (contestant.name, latency_ms)]
            if not rounds:
                continue
            label = f"{contestant.name} at {latency_ms:g} ms"
            rates, cpus = [r.rate for r in rounds], [r.cpu_us for r in rounds]
            lines.append(
                f"| {latency_ms:g} ms | {contestant.name} | {'yes' if contestant.stores else 'no'} "
                f"| {statistics.median(rates):.0f} | {spread(rates)} | {statistics.median(cpus):.0f} | {spread(cpus)} "
                f"| {max(r.memory_mib for r in rounds):.0f} | {statistics.median(r.server_us for r in rounds):.0f} |"
            )
            if rounds[0].updates != options.updates:
                notes.append(f"{label}: {rounds[0].updates} updates, as it answers one by one.")
            if unanswered := sum(r.updates - r.answered for r in rounds):
                notes.append(f"{label}: {unanswered} updates stayed unanswered.")
            if any(r.sends != r.answered for r in rounds):
                more = sum(r.sends for r in rounds) / sum(r.answered for r in rounds)
                notes.append(f"{label}: {more:.2f} messages sent per answered update.")
    if results.rounds:
        most = max(r.others for r in results.rounds)
        notes.append(f"Other processes took at most {most:.0%} of the machine's CPU time in a round.")
    notes.extend(f"{name} was skipped: {why}" for name, why in results.skipped.items())
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.0, 50.0])
    parser.add_argument("--warm-up", type=int, default=200, help="updates answered before the clock starts")
    parser.add_argument(
        "--only", nargs="+", default=["ptb", "ptb-64", "aiogram", "labbot"], help="also: aiogram-uvloop"
    )
    parser.add_argument("--text", default="Hello, is anybody here?", help="what people write to the echo bots")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers", help="environment of the echo bots")
    parser.add_argument("--labbot", default="{root}/.venv/bin/labbot run", help="command that starts labbot")
    parser.add_argument("--labbot-text", default="/help", help="what people write to labbot")
    parser.add_argument("--labbot-env", nargs="*", default=[], metavar="NAME=VALUE", help="further settings of labbot")
    parser.add_argument("--start-timeout", type=float, default=30.0, help="seconds until the first poll")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds until all is answered")
    parser.add_argument("--others", type=float, default=0.1, help="share of the machine that other work may take")
    parser.add_argument("--retries", type=int, default=3, help="repeats of a round in which it took more")
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    options = parser.parse_args()
    results = compare(options)
    print(table(results, options))
    if options.json:
        options.json.write_text(json.dumps(asdict(results), indent=1))


if __name__ == "__main__":
    main()
