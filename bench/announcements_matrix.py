"""How near a broadcast comes to what a homeserver allows: Synapse with raised limits, and with its own."""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import create_engine, text

from bench.throughput import free_port
from bot.adapters.matrix.adapter import SYNAPSE_BURST, SYNAPSE_RATE
from storage import chats, people
from storage.engine import migrate, session_in
from storage.people import Role
from tests.adapters.matrix_people import People, Resident
from tests.adapters.synapse import Account, Synapse
from tests.faults.process import LabbotOnMatrix

NEWS = "Big news for everybody"
AT_ONCE = 8
"""People who settle in at the same time."""


class Homeserver(Synapse):
    """Synapse with raised limits; with ``limited`` messages have those of Synapse itself."""

    def __init__(self, folder: Path, *, limited: bool) -> None:
        self.rated = limited
        super().__init__(folder)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self.rated:
            del settings["rc_message"]
        return settings


class Home:
    """A homeserver, labbot on it, and people who have each begun a private chat with it; not encrypted."""

    def __init__(self, synapse: Synapse, bot: Account, labbot: LabbotOnMatrix, organiser: Resident, room: str) -> None:
        self.synapse = synapse
        self.bot = bot
        self.labbot = labbot
        self.organiser = organiser
        self.room = room
        self.people = 0

    async def said(self, words: str) -> None:
        """Wait until labbot has said this to the organiser."""
        lines = self.organiser.lines
        await self.organiser.until(lambda: any(words in line.body for line in lines(self.room, self.bot.user_id)), 60)

    async def send(self) -> float:
        """The organiser writes the announcement and chooses Send; when that was (Unix time)."""
        await self.organiser.says(self.room, f"!announce {NEWS}")
        await self.said("not sent yet")
        await self.organiser.says(self.room, "Send")
        return time.time()

    def copies(self, since: float) -> dict[str, list[float]]:
        """When a copy arrived in each room, in seconds since a moment, by the homeserver's own database."""
        query = (
            "SELECT e.room_id, e.origin_server_ts, j.json FROM events e JOIN event_json j USING (event_id) "
            "WHERE e.type = 'm.room.message' AND e.sender = ? AND e.origin_server_ts >= ?"
        )
        found: dict[str, list[float]] = defaultdict(list)
        database = f"file:{self.synapse.folder / 'homeserver.db'}?mode=ro"
        with closing(sqlite3.connect(database, uri=True, timeout=10)) as connection:
            for room, moment, event in connection.execute(query, (self.bot.user_id, since * 1000)):
                body = json.loads(event)["content"].get("body", "")
                if body.startswith(NEWS) and "not sent yet" not in body:
                    found[room].append(moment / 1000 - since)
        return found

    async def arrived(self, since: float, number: int, patience: float) -> dict[str, list[float]]:
        """Wait until so many rooms have a copy."""
        until = time.monotonic() + patience
        while len(copies := self.copies(since)) < number and time.monotonic() < until:
            await asyncio.sleep(0.5)
        return copies


@asynccontextmanager
async def home(number: int, *, limited: bool, **settings: str) -> AsyncIterator[Home]:
    """A homeserver on which labbot may do as much as it likes until everybody is there."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "homeserver").mkdir()
        migrate(f"sqlite:///{folder / 'labbot.db'}")
        with Homeserver(folder / "homeserver", limited=limited) as synapse:
            bot = await synapse.register("labbot")
            await synapse.lift_limits(bot.user_id)
            labbot = LabbotOnMatrix(folder, synapse.url, bot, free_port())
            async with labbot, People(synapse) as residents:
                organiser = await residents.person("olga")
                await synapse.lift_limits(organiser.user_id)
                room = await organiser.direct(bot.user_id, encrypted=False)
                rooms = await _settle(synapse, bot, number - 1)
                await _joined(synapse, bot, number)
                await labbot.stop()
                code = seed(f"sqlite:///{folder / 'labbot.db'}", rooms)
                await labbot.start()
                here = Home(synapse, bot, labbot, organiser, room)
                await organiser.says(room, f"!claim {code}")
                await here.said("Welcome to the team")
                await labbot.stop()
                labbot.environment |= settings  # from now on it keeps to its rate
                await labbot.start()
                if limited:
                    path = f"/_synapse/admin/v1/users/{bot.user_id}/override_ratelimit"
                    await synapse.administer("DELETE", path)
                yield here


async def _settle(synapse: Synapse, bot: Account, number: int) -> dict[str, str]:
    """People who have invited the bot into a private chat: their rooms, and who is in them."""
    places = asyncio.Semaphore(AT_ONCE)
    rooms: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:

        async def one(person: int) -> None:
            async with places:
                account = await synapse.register(f"p{person}")
                body = {"preset": "private_chat", "is_direct": True, "invite": [bot.user_id]}
                headers = {"Authorization": f"Bearer {account.token}"}
                url = f"{synapse.url}/_matrix/client/v3/createRoom"
                async with session.post(url, json=body, headers=headers) as response:
                    rooms[(await response.json())["room_id"]] = account.user_id

        await asyncio.gather(*(one(person) for person in range(number)))
    return rooms


async def _joined(synapse: Synapse, bot: Account, number: int) -> None:
    headers = {"Authorization": f"Bearer {bot.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.get(f"{synapse.url}/_matrix/client/v3/joined_rooms") as response:
                if len((await response.json())["joined_rooms"]) >= number:
                    return
            await asyncio.sleep(0.5)


def seed(url: str, rooms: dict[str, str]) -> str:
    """All of them have started the bot; a code that makes an organiser."""
    engine = create_engine(url)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        known: dict[str, Any] = {"private": True, "locale": "en", "now": now}
        for room, person in rooms.items():
            account = people.arrive(connection, "matrix", person, now)
            chats.open_chat(connection, "matrix", room, account_id=account, **known)
        connection.execute(text("UPDATE person SET notice = 1"))
        with session_in(connection) as session:
            code = people.invite(session, Role.ORGANISER, now)
            session.commit()
    engine.dispose()
    return code


async def measured(number: int, rate: float, *, limited: bool) -> str:
    """One broadcast, as a line of the table."""
    burst = SYNAPSE_BURST if limited else 1
    settings = {"LABBOT_MATRIX_RATE": str(rate), "LABBOT_MATRIX_BURST": str(burst)}
    async with home(number, limited=limited, **settings) as here:
        if limited:
            await asyncio.sleep(burst / rate)  # what preparing it has used up is saved again
        began = await here.send()
        ideal = max(0, number - burst) / rate
        copies = await here.arrived(began, number, ideal * 3 + 60)
        seconds = max(moments[0] for moments in copies.values())
        refused = len(here.labbot.with_words("too fast"))
        twice = sum(len(moments) - 1 for moments in copies.values())
    limits = "Synapse's own" if limited else "raised"
    return (
        f"| {limits} | {number} | {rate:g}/s | {seconds:.1f} | {ideal / seconds:.3f} | {refused} "
        f"| {number - len(copies)} | {twice} |"
    )


async def main(options: argparse.Namespace) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores shared with Synapse\n")
    print("| limits | recipients | rate | seconds | efficiency | provoked 429 | missing | twice |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print(await measured(options.people, options.rate, limited=False), flush=True)
    if options.few:
        print(await measured(options.few, SYNAPSE_RATE, limited=True), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--people", type=int, default=300, help="recipients where the limits are raised")
    parser.add_argument("--rate", type=float, default=30.0, help="messages a second there")
    parser.add_argument("--few", type=int, default=60, help="recipients with Synapse's own limits; 0: not measured")
    asyncio.run(main(parser.parse_args()))
