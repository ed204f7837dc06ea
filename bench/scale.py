"""What grows with the community: memory and time to the first poll with many people and many rows waiting."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import insert

from storage.chats import Chat
from storage.engine import migrate, open_engine
from storage.outbox import Outbox
from storage.people import Account, Person

ROOT = Path(__file__).parent.parent
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def fill(url: str, people: int, waiting: int) -> None:
    """A community that has been there for a while, and messages that were not delivered yet."""
    now = datetime.now(UTC)
    engine = open_engine(url)
    for first in range(1, people + 1, 5000):
        ids = range(first, min(first + 5000, people + 1))
        with engine.begin() as connection:
            connection.execute(
                insert(Person),
                [
                    {"id": n, "pseudonym": f"P {n}", "handle": f"p {n}", "role": "participant", "notice": 1,
                     "created_at": now}
                    for n in ids
                ],
            )  # fmt: skip
            connection.execute(
                insert(Account),
                [{"id": n, "person_id": n, "adapter": "telegram", "external": str(n), "created_at": now} for n in ids],
            )
            connection.execute(
                insert(Chat),
                [
                    {"id": n, "adapter": "telegram", "external": str(n), "private": True, "account_id": n,
                     "locale": "de", "active": True, "team": False, "created_at": now}
                    for n in ids
                ],
            )  # fmt: skip
            connection.execute(
                insert(Outbox),
                [
                    {"chat_id": n, "adapter": "telegram", "bulk": True, "question": False, "html": "Hallo",
                     "revision": 0, "version": 1, "state": "pending", "unsure": 0, "queued_at": now}
                    for n in ids
                    if n <= waiting
                ]
                or [
                    {"chat_id": ids[0], "adapter": "telegram", "bulk": True, "question": False, "html": None,
                     "revision": 0, "version": 1, "state": "delivered", "unsure": 0, "queued_at": now}
                ],
            )  # fmt: skip
    engine.dispose()


def measure(people: int, waiting: int, seconds: float) -> None:
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "telegram_loopback.py")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int("".join(sign for sign in server.stdout.readline().rpartition(":")[2] if sign.isdigit()))
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/labbot.db"
        migrate(url)
        if people:
            fill(url, people, waiting)
        environment = {
            **os.environ,
            "LABBOT_DATA": folder,
            "LABBOT_TELEGRAM_TOKEN": TOKEN,
            "LABBOT_TELEGRAM_API": f"http://127.0.0.1:{port}",
            "LABBOT_HTTP": "127.0.0.1:0",
        }
        began = time.monotonic()
        bot = subprocess.Popen([str(Path(sys.executable).parent / "labbot"), "run"], env=environment, stderr=-3)
        stats: dict[str, float] = {}
        while stats.get("first_poll_at") is None and time.monotonic() - began < 60:
            time.sleep(0.02)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/control/stats") as answer:
                stats = json.load(answer)
        first_poll = stats["first_poll_at"] - began
        time.sleep(seconds)
        memory = psutil.Process(bot.pid).memory_info().rss / 2**20
        bot.terminate()
        bot.wait()
    server.terminate()
    server.wait()
    print(f"| {people:,} | {waiting:,} | {first_poll:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="how long it runs before its memory is read")
    options = parser.parse_args()
    print("| people known | messages waiting | seconds from start to first poll | resident MiB |")
    print("|---:|---:|---:|---:|")
    for people, waiting in ((0, 0), (100_000, 0), (100_000, 100_000)):
        measure(people, waiting, options.seconds)
