"""``kill -9`` again and again during one broadcast: who has not got it, and who twice."""

import argparse
import asyncio
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import announcements, announcements_matrix
from tests.faults.process import Labbot

IN_FLIGHT = 8
PATIENCE = 300.0
"""Seconds without a new copy after which the rest counts as lost."""


async def kill(labbot: Labbot, copies: Callable[[], dict[str, int]], number: int, kills: int) -> str:
    """Kill it at ``kills`` moments spread over the broadcast; ``copies`` tells how many each chat has."""
    moments = sorted(random.Random(3).sample(range(number // 20, number * 19 // 20), kills))
    for moment in moments:
        while len(copies()) < moment:
            await asyncio.sleep(0.05)
        await labbot.kill()
        await labbot.start()
    before, still = 0, 0.0
    while (now := len(copies())) < number and still < PATIENCE:
        still = 0.0 if now > before else still + 0.5
        before = now
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)  # what would come twice still comes
    found = copies()
    repeats = sum(times - 1 for times in found.values())
    return (
        f"{number} recipients, {kills} times kill -9: {number - len(found)} missing, {repeats} repeated, "
        f"{repeats / max(1, kills):.1f} a kill ({IN_FLIGHT} in flight)"
    )


async def on_telegram(number: int, kills: int) -> str:
    """Against the strict server, which has no idempotency key, as Telegram has none."""
    async with announcements.lab(number, 1000, IN_FLIGHT, LABBOT_TELEGRAM_CHAT_RATE="1000") as (server, labbot):
        server.latency = 0.02
        began = await announcements.send(server)

        def copies() -> dict[str, int]:
            found: dict[str, int] = {}
            for chat, _ in announcements.arrivals(server, began):
                found[str(chat)] = found.get(str(chat), 0) + 1
            return found

        return f"Telegram: {await kill(labbot, copies, number, kills)}"


async def on_matrix(number: int, kills: int) -> str:
    """Against Synapse, where a send repeated under its transaction id is one event."""
    async with announcements_matrix.home(number, limited=False) as here:
        began = await here.send()
        return "Matrix: " + await kill(
            here.labbot, lambda: {room: len(at) for room, at in here.copies(began).items()}, number, kills
        )


async def main(options: argparse.Namespace) -> None:
    if options.telegram:
        print(await on_telegram(options.telegram, options.kills), flush=True)
    if options.matrix:
        print(await on_matrix(options.matrix, options.kills), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--telegram", type=int, default=10_000, help="recipients there; 0: not measured")
    parser.add_argument("--matrix", type=int, default=400, help="recipients there; 0: not measured")
    asyncio.run(main(parser.parse_args()))
