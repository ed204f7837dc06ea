"""Ten kills of the bot and two of its homeserver during 1,000 messages in an encrypted room: what came of it."""

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storage.engine import migrate
from tests.adapters.synapse import Synapse
from tests.faults.test_kill_matrix import story


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--outages", type=int, default=2)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="labbot-kills-"))
    try:
        migrate(f"sqlite:///{folder / 'labbot.db'}")
        home = folder / "homeserver"
        home.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with Synapse(home) as synapse:
            outcome = asyncio.run(
                story(
                    folder,
                    port,
                    synapse,
                    messages=options.messages,
                    kills=options.kills,
                    outages=options.outages,
                )
            )
    finally:
        shutil.rmtree(folder)
    twice = sum(number - 1 for number in outcome.answers.values())
    print(
        f"{options.messages} messages, {options.kills} kills of the bot, {options.outages} of the homeserver in "
        f"{outcome.seconds:.0f} s: {options.messages - len(outcome.answers)} unanswered, {twice} answered twice, "
        f"{'all in order' if outcome.in_order else 'NOT in order'}"
    )


if __name__ == "__main__":
    main()
