"""One poll in three groups on Telegram and three rooms on Matrix, one of them encrypted; many accounts, fewer people.

    async with on_both(settings, synapse) as stage:
        report = await tell(stage, Crowd.of(accounts=300, people=260))

Both messengers are servers of their own, and everything is done as people do it: they link their accounts by codes,
press, write, react, and tap on Matrix's own poll. Whoever has two accounts votes with both.
"""

import asyncio
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp

from bot.adapters.telegram import Telegram
from bot.config import Settings
from bot.port import Adapter
from bot.types import ChatRef
from storage import people
from storage.people import Role
from storage.polls import voting
from storage.polls.counting import Content
from storage.polls.tables import Poll
from tests.adapters import matrix_polls
from tests.adapters.matrix_people import People, Resident
from tests.adapters.matrix_stage import MatrixStage
from tests.adapters.stage import SETTLES, Hurried, Line
from tests.adapters.synapse import Account, Synapse
from tests.adapters.telegram_server import Message, TelegramServer

OPTIONS = ("Tue", "Wed", "Thu")
AT_ONCE, PORTION = 8, 40
"""How many on Matrix act at the same moment, and before the bot has done its part."""

T = TypeVar("T")

YES = "Yes, both accounts are mine"


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many vote with an account on Telegram only, on Matrix only, on both; how many are in the encrypted room."""

    telegram: int
    matrix: int
    both: int
    encrypted: int

    @classmethod
    def of(cls, accounts: int, people: int) -> Self:
        """So many accounts of so many people; a sixth of those on Matrix are in the encrypted room."""
        both = accounts - people
        alone = people - both
        telegram = round(alone * 0.6)
        matrix = alone - telegram
        return cls(telegram, matrix, both, max(2, (matrix + both) // 6))

    @property
    def people(self) -> int:
        return self.telegram + self.matrix + self.both


@dataclass(slots=True)
class Report:
    """What was there at the end: ballots, what each copy of the poll shows, what the result is, and seconds by part."""

    ballots: dict[Content, int] = field(default_factory=dict)
    expected: dict[Content, int] = field(default_factory=dict)
    voters: int = 0
    true: bool = False
    copies: list[dict[str, int]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Both(MatrixStage):
    """The bot on Matrix and on Telegram at once."""

    server: TelegramServer

    async def handled(self) -> None:
        await super().handled()
        await self.server.wait_for(lambda: self.server.polling and not self.server.pending, SETTLES)


@asynccontextmanager
async def on_both(settings: Settings, synapse: Synapse) -> AsyncIterator[Both]:
    """A running bot on both messengers."""
    clock = Hurried(1)  # a code is good for ten minutes
    async with TelegramServer(clock=lambda: clock.now().timestamp()) as server, People(synapse) as there:

        def telegram() -> list[Adapter]:
            fast: dict[str, Any] = {"rate": 1e6, "chat_rate": 1e6, "group_rate": 1e6}
            return [Telegram(server.token, server.url, **fast, poll_timeout=1, call_timeout=1.0, sleep=clock.sleep)]

        account = await synapse.newcomer("labbot")
        stage = Both(settings, there, account, encrypted=False, time=clock, beside=telegram)
        stage.server = server
        async with stage:
            yield stage


class Visitor:
    """Somebody on Matrix who does what needs no keys: goes into rooms in the clear, writes, reacts, answers."""

    def __init__(self, url: str, account: Account, session: aiohttp.ClientSession) -> None:
        self.user_id = account.user_id
        self._url = f"{url}/_matrix/client/v3"
        self._headers = {"Authorization": f"Bearer {account.token}"}
        self._session = session
        self._transactions = itertools.count()

    async def call(self, method: str, path: str, body: Any) -> Any:
        async with self._session.request(method, self._url + path, json=body, headers=self._headers) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def joins(self, room: str) -> None:
        await self.call("POST", f"/join/{room}", {})

    async def direct(self, user_id: str, *, encrypted: bool = False) -> str:
        """Begin a direct chat in the clear: its id."""
        assert not encrypted
        body = {"preset": "trusted_private_chat", "is_direct": True, "invite": [user_id]}
        return str((await self.call("POST", "/createRoom", body))["room_id"])

    async def sends(self, room: str, kind: str, content: Any) -> str:
        path = f"/rooms/{room}/send/{kind}/{next(self._transactions)}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def says(self, room: str, words: str) -> str:
        return await self.sends(room, "m.room.message", {"msgtype": "m.text", "body": words})

    async def reacts(self, room: str, event_id: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.sends(room, "m.reaction", {"m.relates_to": relation})


@dataclass(slots=True)
class Voter:
    """A person: an account on Telegram in a group, one on Matrix in a room, or both."""

    telegram: int | None = None
    group: int = 0
    matrix: Visitor | Resident | None = None
    room: int = 0
    choice: int = 0


async def tell(stage: Both, crowd: Crowd, seed: int = 7) -> Report:
    """The whole story."""
    dice, report, began = random.Random(seed), Report(), time.monotonic()

    def lap(part: str) -> None:
        nonlocal began
        report.seconds[part] = time.monotonic() - began
        began = time.monotonic()

    async with aiohttp.ClientSession() as session:
        olga = await stage.organiser("olga")
        resident = stage.residents["olga"]
        rooms = [await _room(stage, resident, number) for number in range(3)]
        tilo = await _organiser(stage)
        groups = [stage.server.group(f"Group {number}") for number in range(3)]
        for group in groups:
            stage.server.join(tilo, group)
            stage.server.add_bot(group, tilo)
        await stage.settled()
        lap("rooms")
        voters = await _gather(stage, crowd, session, rooms, groups)
        lap("accounts")
        await _link(stage, [voter for voter in voters if voter.telegram is not None and voter.matrix is not None])
        lap("links")
        for room in rooms:
            here = olga.within(ChatRef("matrix", room))
            await here.says("/language English")
            await here.says("/room")
            await here.presses("Polls also as the app's own")
            await here.says(f"/poll Which evening? | {' | '.join(OPTIONS)}" if room == rooms[0] else "/poll 1")
        for group in groups:
            stage.server.say(tilo, group, "/language English")
            stage.server.say(tilo, group, "/poll 1")
        await stage.settled()
        lap("poll")
        ballots = _Ballots(stage, resident, rooms, groups, dice)
        pairs = [voter for voter in voters if voter.telegram is not None and voter.matrix is not None]
        late = {id(voter): ("telegram", "matrix")[number % 2] for number, voter in enumerate(pairs)}
        first = [(voter, way) for voter in voters for way in _ways(voter) if late.get(id(voter)) != way]
        dice.shuffle(first)
        await ballots.cast(first)
        await ballots.cast([(voter, late[id(voter)]) for voter in pairs])
        lap("votes")
        for voter in voters:
            report.expected[voter.choice,] = report.expected.get((voter.choice,), 0) + 1
        report.ballots = await stage.ask(lambda s: dict(voting.profile(s.connection(), 1)))
        report.voters = (await stage.ask(lambda s: s.get_one(Poll, 1))).voters
        report.true = await stage.ask(lambda s: voting.kept(s.connection()) == voting.recount(s.connection()))
        await _shown(lambda: all(sum(copy.values()) == crowd.people for copy in ballots.copies()), resident)
        report.copies = ballots.copies()
        lap("copies")
        await olga.within(ChatRef("matrix", rooms[0])).says("/close 1")
        await resident.catches_up()
        report.results = ballots.results()
        report.ended = [matrix_polls.polls(resident, room, stage.bot)[-1].ends for room in rooms]
        lap("result")
    return report


def _ways(voter: Voter) -> Iterable[str]:
    return [way for way in ("telegram", "matrix") if getattr(voter, way) is not None]


async def _organiser(stage: Both) -> int:
    """Somebody on Telegram who has claimed the role."""
    code = await stage.ask(lambda session: people.invite(session, Role.ORGANISER, stage.time.now()))
    tilo = stage.server.user(first_name="Tilo", language_code="en").id
    stage.server.say(tilo, stage.server.private(tilo), f"/claim {code}")
    await stage.settled()
    return tilo


async def _room(stage: Both, resident: Resident, number: int) -> str:
    """A room that everybody may come into; the last of three is encrypted."""
    room = await resident.creates(f"Room {number}", encrypted=number == 2, invite=[stage.bot], preset="public_chat")
    stage._inside[room] = resident
    await stage.arrives(resident, room)
    return room


async def _gather(
    stage: Both, crowd: Crowd, session: aiohttp.ClientSession, rooms: Sequence[str], groups: Sequence[Any]
) -> list[Voter]:
    """Everybody, in their groups and rooms; who sits in the encrypted room has a device with keys."""
    voters = [Voter() for _ in range(crowd.people)]
    for number, voter in enumerate(voters[: crowd.telegram + crowd.both]):
        voter.telegram = stage.server.user(first_name=f"t{number}", language_code="en").id
        voter.group = number % 3
        stage.server.join(voter.telegram, groups[voter.group])
    on_matrix = voters[crowd.telegram :]

    async def comes(number: int, voter: Voter) -> None:
        voter.room = 2 if number < crowd.encrypted else number % 2
        if voter.room == 2:
            voter.matrix = await stage.people.person(f"m{number}")
        else:
            account = await stage.people.synapse.newcomer(f"m{number}")
            voter.matrix = Visitor(stage.people.synapse.url, account, session)
        await voter.matrix.joins(rooms[voter.room])

    await _few([partial(comes, number, voter) for number, voter in enumerate(on_matrix)])
    await stage.settled()
    return voters


async def _few(deeds: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Some at a time: what came of each."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(deed: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await deed()

    return list(await asyncio.gather(*map(one, deeds)))


async def _handled(stage: Both, deeds: Sequence[Callable[[], Awaitable[str]]]) -> None:
    """Some do something on Matrix at a time, and the bot has done its part before the next ones come."""
    for start in range(0, len(deeds), PORTION):
        await stage.happened(*await _few(deeds[start : start + PORTION]))


async def _link(stage: Both, pairs: Sequence[Voter]) -> None:
    """Each pair of accounts becomes one person: a code on Telegram, typed on Matrix, a yes on both."""
    server = stage.server

    def newest(user: int) -> Message:
        return server.sent(server.private(user))[-1]

    telegram = [voter.telegram for voter in pairs if voter.telegram is not None]
    for user in telegram:
        server.say(user, server.private(user), "/link")
    await stage.settled()
    codes = []
    for user in telegram:
        code = re.search(r"\b[0-9a-z]{5}-[0-9a-z]{5}\b", newest(user).text or "")
        assert code is not None
        codes.append(code[0])

    rooms: dict[int, str] = {}

    async def asks(voter: Voter, code: str) -> str:
        assert voter.matrix is not None
        rooms[id(voter)] = await voter.matrix.direct(stage.bot, encrypted=False)
        return await voter.matrix.says(rooms[id(voter)], f"!link {code}")

    async def agrees(voter: Voter) -> str:
        assert voter.matrix is not None
        return await voter.matrix.says(rooms[id(voter)], YES)

    await _handled(stage, [partial(asks, voter, code) for voter, code in zip(pairs, codes, strict=True)])
    await _handled(stage, [partial(agrees, voter) for voter in pairs])
    for user in telegram:
        message = newest(user)
        [data] = [data for row in message.buttons for label, data in row if label == YES]
        server.press(user, server.private(user), message, data)
    await stage.settled()


class _Ballots:
    """How people vote, and what the copies of the poll show."""

    def __init__(
        self, stage: Both, resident: Resident, rooms: Sequence[str], groups: Sequence[Any], dice: random.Random
    ) -> None:
        self.stage = stage
        self.resident = resident
        self.rooms = rooms
        self.groups = groups
        self.dice = dice
        self.cards = [self._card(stage.lines(ChatRef("matrix", room))).id for room in rooms]
        self.own = [matrix_polls.polls(resident, room, stage.bot)[-1].event_id for room in rooms]

    @staticmethod
    def _card(lines: Sequence[Line]) -> Line:
        return next(line for line in reversed(lines) if line.text.startswith("#1 Which evening?\n"))

    async def cast(self, votes: Sequence[tuple[Voter, str]]) -> None:
        """These people vote, each by one of their accounts, one way or another."""
        deeds: list[Callable[[], Awaitable[str]]] = []
        for number, (voter, way) in enumerate(votes):
            voter.choice = self.dice.randrange(len(OPTIONS))
            if way == "telegram":
                assert voter.telegram is not None
                group = self.groups[voter.group]
                card = next(m for m in self.stage.server.sent(group) if (m.text or "").startswith("#1 Which"))
                [data] = [d for row in card.buttons for label, d in row if label == OPTIONS[voter.choice]]
                self.stage.server.press(voter.telegram, group, card, data)
            else:
                deeds.append(self._on_matrix(voter, number % 3))
        await self.stage.settled()
        await _handled(self.stage, deeds)

    def _on_matrix(self, voter: Voter, way: int) -> Callable[[], Awaitable[str]]:
        who, room, choice = voter.matrix, self.rooms[voter.room], voter.choice + 1
        assert who is not None
        if way == 0:
            return partial(who.says, room, f"!vote 1 {choice}")
        if way == 1:
            return partial(who.reacts, room, self.cards[voter.room], f"{choice}\ufe0f\u20e3")
        return partial(matrix_polls.answers, who, room, self.own[voter.room], f"{choice}")

    def copies(self) -> list[dict[str, int]]:
        """The votes by option, as each copy of the poll shows them."""
        texts = [self._card(self.stage.lines(ChatRef("matrix", room))).text for room in self.rooms]
        for group in self.groups:
            texts += [m.text or "" for m in self.stage.server.sent(group) if (m.text or "").startswith("#1 Which")]
        return [{option: int(n) for option, n in re.findall(r"\d\. (\w+)\s+(\d+) votes?,", text)} for text in texts]

    def results(self) -> list[str]:
        """The words of the result, wherever it is told."""
        head = "The result of #1"
        told = [line.text for room in self.rooms for line in self.stage.lines(ChatRef("matrix", room))]
        told += [message.text or "" for group in self.groups for message in self.stage.server.sent(group)]
        return [words for words in told if words.startswith(head)]


async def _shown(condition: Callable[[], bool], resident: Resident) -> None:
    """Wait until the copies are refreshed."""
    async with asyncio.timeout(SETTLES):
        while not condition():
            await resident.catches_up()
            await asyncio.sleep(0.02)
