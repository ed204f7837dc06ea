"""On Matrix, killed at any moment, both the bot and its homeserver: no message unanswered, and no answer twice."""

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.adapters.matrix_people import People, Resident
from tests.adapters.synapse import Synapse
from tests.faults.process import LabbotOnMatrix

NUMBER = re.compile(r"#(\d+)")

PEOPLE = 3
AHEAD = 20
"""How many questions may be without an answer while new ones are asked: the kills are to hit work under way."""


def _complete(resident: Resident, room: str) -> bool:
    return len(resident.members(room)) == PEOPLE + 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. ``answers`` are the numbers asked for, as often as they were answered."""

    answers: Counter[int]
    in_order: bool
    seconds: float
    log: list[str]


class Room:
    """An encrypted room of people and the bot, and what was answered there so far."""

    def __init__(self, id: str, people: list[Resident], bot: str) -> None:
        self.id = id
        self.people = people
        self.bot = bot

    def answers(self) -> list[int]:
        """The numbers that the bot has answered, as the first of them sees it."""
        lines = self.people[0].lines(self.id, self.bot)
        assert all(line.encrypted for line in lines)
        assert all(line.readable for line in lines)
        return [int(found[1]) for line in lines if (found := NUMBER.search(line.body))]

    def has_answered(self, number: int) -> bool:
        """Whether so many questions have an answer."""
        return len(set(self.answers())) >= number

    async def asks(self, messages: int) -> list[int]:
        """So many questions, each with a number of its own; the numbers in the order in which the room has them."""
        asked = 0
        while asked < messages:
            await self.people[0].until(partial(self.has_answered, asked - AHEAD), 60)
            await self.people[asked % PEOPLE].says(self.id, f"!ideas {100_000 + asked}")
            asked += 1
        await self.people[0].until(partial(self.has_answered, messages), 60)
        return [100_000 + number for number in range(messages)]


async def story(folder: Path, port: int, synapse: Synapse, *, messages: int, kills: int, outages: int) -> Outcome:
    """People ask, while the bot is killed ``kills`` times and the homeserver ``outages`` times."""
    account = await synapse.register("labbot")
    async with People(synapse) as people, LabbotOnMatrix(folder, synapse.url, account, port) as labbot:
        residents = [await people.person(f"resident{number}") for number in range(PEOPLE)]
        id = await residents[0].creates(
            "Garden", invite=[account.user_id, *(resident.user_id for resident in residents[1:])], encrypted=True
        )
        for resident in residents[1:]:
            await resident.joins(id)
        for resident in residents:
            await resident.until(partial(_complete, resident, id), 60)
        room = Room(id, residents, account.user_id)
        began = time.monotonic()
        asking = asyncio.create_task(room.asks(messages))
        dice = random.Random(20_261_122)
        moments = sorted(dice.sample(range(messages // 20, messages * 9 // 10), kills + outages))
        hits = ["kill"] * kills + ["outage"] * outages
        dice.shuffle(hits)
        for moment, hit in zip(moments, hits, strict=True):
            await residents[1].until(partial(room.has_answered, moment), 60)
            if hit == "kill":
                await labbot.kill()
                await labbot.start()
            else:
                synapse.kill()
                await asyncio.to_thread(synapse.start)
        asked = await asking
        # Whatever would still come twice comes before the answer to this.
        await residents[0].says(id, "!ideas 999999")
        await residents[0].until(lambda: 999_999 in room.answers(), 60)
        answers = [number for number in room.answers() if number != 999_999]
        seconds = time.monotonic() - began
        assert await labbot.stop() == 0
    return Outcome(Counter(answers), answers == asked, seconds, labbot.lines)


async def test_kills_of_the_bot_and_of_its_homeserver_leave_nothing_unanswered_and_repeat_nothing(
    folder: Path, synapse_installed: None, unused_tcp_port: int
) -> None:
    home = folder / "homeserver"
    home.mkdir()
    with Synapse(home) as synapse:
        outcome = await story(folder, unused_tcp_port, synapse, messages=60, kills=3, outages=1)
    print(f"\n60 messages, three kills and an outage in {outcome.seconds:.1f} s")
    assert set(outcome.answers) == set(range(100_000, 100_060))
    assert set(outcome.answers.values()) == {1}
    assert outcome.in_order
    assert not [line for line in outcome.log if "Traceback" in line]
