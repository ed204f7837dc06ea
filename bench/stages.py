"""Where the processor's time goes: microseconds of each stage of one update, on SQLite with full durability.

Runs the stages one after the other in one process against the loopback server, so that none waits for another:
parse (bytes of getUpdates to ``bot.types``), transaction (find chat, person and dialog, run the handler, queue the
reply, commit), read (rows due), send (HTTP on loopback, answer parsed), mark (outcome stored).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.adapters.telegram import Telegram
from bot.adapters.telegram.reading import Account
from bot.adapters.telegram.receiving import understand
from bot.app import App
from bot.config import Settings
from bot.port import Button, Rendered
from bot.types import Batch, ChatRef
from storage import outbox
from storage.engine import migrate
from storage.outbox import DELIVERED, Outcome

ROOT = Path(__file__).parent.parent
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def updates(first: int, number: int, people: int, text: str) -> list[dict[str, Any]]:
    """Raw text messages of some people in private chats, as getUpdates delivers them."""
    found = []
    for update_id in range(first, first + number):
        person = 1000 + update_id % people
        user = {"id": person, "is_bot": False, "first_name": f"P{person}", "language_code": "de"}
        command = text.split()[0]
        found.append(
            {
                "update_id": update_id,
                "message": {
                    "message_id": update_id,
                    "from": user,
                    "chat": {"id": person, "type": "private", "first_name": f"P{person}"},
                    "date": 1780000000,
                    "text": text,
                    "entities": [{"type": "bot_command", "offset": 0, "length": len(command)}],
                },
            }
        )
    return found


async def main(number: int, text: str) -> None:
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "telegram_loopback.py")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int("".join(sign for sign in server.stdout.readline().rpartition(":")[2] if sign.isdigit()))
    telegram = Telegram(TOKEN, f"http://127.0.0.1:{port}", rate=1e9, chat_rate=1e9, group_rate=1e9)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/labbot.db"
        migrate(url)
        app = App(Settings(database_url=url, data=Path(folder), telegram_token=None), [telegram])
        me = Account(4242, "loopback_bot")
        figures: dict[str, float] = {}
        for phase in ("warm-up", "measured"):
            first = 1 if phase == "warm-up" else number + 1
            raw = [json.dumps(updates(first + at, 25, 500, text)) for at in range(0, number, 25)]
            batches: list[Batch] = []

            def parse(raw: list[str] = raw, batches: list[Batch] = batches) -> None:
                for page in raw:
                    happened, kept = understand(json.loads(page), me)
                    batches.append(Batch(happened, "1", kept))

            figures["parse"] = _cpu(parse, number)
            engine = app.storage.engine
            now = datetime.now(UTC)

            def transact(batches: list[Batch] = batches, now: datetime = now) -> None:
                for batch in batches:
                    with engine.begin() as connection:
                        app.dispatch._transact(connection, "telegram", batch, now)

            figures["transaction"] = _cpu(transact, number)
            rows: list[outbox.Due] = []

            def read(rows: list[outbox.Due] = rows) -> None:
                while len(rows) < number:
                    with engine.begin() as connection:
                        rows += outbox.due(connection, "telegram", False, [], number)

            figures["read"] = _cpu(read, number)
            message = Rendered("Hallo!", tuple(Button(label) for label in ("Ja", "Nein", "Zurück")), 0)
            gate = asyncio.Semaphore(64)

            async def send(chat: str, key: str, message: Rendered = message, gate: asyncio.Semaphore = gate) -> None:
                async with gate:
                    await telegram.send(ChatRef("telegram", chat), message, key)

            began = time.thread_time()
            await asyncio.gather(*(send(row.chat, str(row.id)) for row in rows[:number]))
            figures["send"] = (time.thread_time() - began) / number * 1e6

            def mark(rows: list[outbox.Due] = rows) -> None:
                for at in range(0, len(rows), 25):
                    outcomes = [Outcome(row.id, row.version, DELIVERED, "1") for row in rows[at : at + 25]]
                    with engine.begin() as connection:
                        outbox.mark(connection, outcomes)

            figures["mark"] = _cpu(mark, number)
        await telegram.close()
        await app.storage.close()
    server.terminate()
    server.wait()
    print(f"{number} updates with the text {text!r}, 25 a transaction, CPU microseconds each:\n")
    print("| stage | µs | share |\n|---|---:|---:|")
    total = sum(figures.values())
    for stage, value in figures.items():
        print(f"| {stage} | {value:.0f} | {value / total:.0%} |")
    print(f"| all | {total:.0f} | |")


def _cpu(work: Callable[[], None], number: int) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) / number * 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--text", default="/start")
    options = parser.parse_args()
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(main(options.updates, options.text))
