"""Twenty kills of the bot while 5,000 reminders fall due, on the strict Telegram server: what came of it."""

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storage.engine import migrate
from tests.faults.test_reminders import BULK_IN_FLIGHT, story


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="labbot-kills-"))
    try:
        migrate(f"sqlite:///{folder / 'labbot.db'}")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        outcome = asyncio.run(story(folder, port, people=options.people, kills=options.kills))
    finally:
        shutil.rmtree(folder)
    told = outcome.told
    print(
        f"{options.people} reminders, {options.kills} kills in {outcome.seconds:.0f} s: "
        f"{options.people - len(told)} missing, {told.total() - len(told)} sent twice "
        f"({options.kills * BULK_IN_FLIGHT} in flight at most), {max(told.values())} times at most"
    )


if __name__ == "__main__":
    main()
