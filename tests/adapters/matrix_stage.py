"""The stage on Matrix: the bot on a real homeserver, with people who encrypt by the book."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import aiohttp
from sqlmodel import col, select

from bot.adapters.matrix import Login, Matrix
from bot.clock import Time
from bot.config import Settings
from bot.port import Adapter, Rendered, RetryLater, Sent
from bot.types import Batch, ChatRef, Unreadable, Update
from storage.chats import Chat
from storage.conversation import Cursor, Received
from tests.adapters.matrix_people import Line as Event
from tests.adapters.matrix_people import People, Resident
from tests.adapters.stage import SETTLES, Hurried, Line, Someone, Stage
from tests.adapters.synapse import Account

_NUMBERED = re.compile(r"(?s)(.*?)\n\n((?:\d+\. [^\n]*(?:\n|\Z))+)\Z")
_LABEL = re.compile(r"^(\d+)\. ([^\n]*)$", re.MULTILINE)
_COMMAND = re.compile(r"(?<![\w!])!(?=[a-z])")


class WatchedMatrix(Matrix):
    """Matrix, with a look at when a batch is stored, and rooms it does not get through to."""

    def __init__(self, *args: Any, stored: asyncio.Event, hindered: set[str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._stored = stored
        self._hindered = hindered
        self.updates: list[Update | Unreadable] = []

    async def batches(self, cursor: str | None) -> Any:
        batches: AsyncIterator[Batch] = super().batches(cursor)
        async for batch in batches:
            self.updates += batch.updates
            yield batch
            self._stored.set()

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        if chat.id in self._hindered:
            raise RetryLater(5, "later")
        return await super().send(chat, message, key)


class MatrixStage(Stage):
    """The bot on Matrix. People come when they are first needed: their direct chat begins with their first word.

    ``more`` is what else ``Matrix`` takes. Commands are written ``!idea`` there; stories read them as ``/idea``.
    """

    kind: type[WatchedMatrix] = WatchedMatrix
    keeps_choices = True
    notes_in_groups = False

    def __init__(
        self,
        settings: Settings,
        people: People,
        account: Account,
        *,
        encrypted: bool,
        time: Time | None = None,
        beside: Callable[[], list[Adapter]] = list,
        **more: Any,
    ) -> None:
        self.people = people
        self.account = account
        self.bot = account.user_id
        self.mention = account.user_id
        self.encrypted = encrypted
        self.residents: dict[str, Resident] = {}
        self.rooms: dict[str, list[str]] = {}
        """Each person's direct chats with the bot, the newest one last."""
        self._locales: dict[str, str] = {}
        self._inside: dict[str, Resident] = {}
        self._sent: set[str] = set()
        self._files: dict[str, bytes] = {}
        self._stored = asyncio.Event()
        self._hindered: set[str] = set()
        self._pressed: dict[tuple[str, str, str], str] = {}
        self._more = {"rate": 1e6, "burst": 1000, "reactions": False, "poll": 2.0, **more}
        self._beside = beside
        super().__init__(settings, time or Hurried())

    # -- running --------------------------------------------------------------------------------------------

    def adapters(self) -> list[Adapter]:
        login = Login(self.people.synapse.url, self.account.user_id, password=self.account.password)
        self.matrix = self.kind(
            login,
            self.settings.data / "matrix",
            display_name="KoSI-Lab",
            sleep=self.time.sleep,
            stored=self._stored,
            hindered=self._hindered,
            **self._more,
        )
        return [self.matrix, *self._beside()]

    async def begin(self) -> None:
        await super().begin()
        await self.until(lambda session: session.get(Cursor, "matrix"))  # whom it meets later, it greets

    async def until(self, question: Callable[[Any], Any]) -> Any:
        """Wait until the database gives an answer to a question."""
        async with asyncio.timeout(SETTLES):
            while True:
                self._stored.clear()
                if answer := await self.ask(question):
                    return answer
                waiting = asyncio.ensure_future(self._stored.wait())
                assert self._running is not None
                await asyncio.wait((waiting, self._running), timeout=SETTLES, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self._running.done():
                    self._running.result()
                    raise AssertionError("the bot has ended")

    async def handled(self) -> None:
        def all_are(session: Any) -> bool:
            came = set(session.exec(select(Received.key).where(col(Received.key).in_(list(self._sent)))))
            kept = session.exec(select(Cursor.value).where(Cursor.adapter == "matrix")).one()
            return all(key in came or f'"{key}"' in kept for key in self._sent)

        if self._sent:
            await self.until(all_are)
            self._sent.clear()

    async def read(self, *events: str) -> None:
        """Wait until these events are read that had no key before, and what came of them is delivered."""
        await self.until(lambda session: all(session.get(Received, ("matrix", key)) for key in events))
        await self.settled()

    async def rest(self) -> None:
        await super().rest()
        await asyncio.gather(*(resident.catches_up() for resident in {*self._inside.values()}))
        for room, resident in self._inside.items():
            for event in self.seen(room):
                if event.msgtype == "m.file" and event.event_id not in self._files:
                    self._files[event.event_id] = await resident.downloads(event)

    async def happened(self, *events: str) -> None:
        """Wait until these events are handled, and what came of them is delivered."""
        self._sent.update(events)
        await self.settled()

    # -- who is where ---------------------------------------------------------------------------------------

    async def resident(self, name: str) -> Resident:
        """The account of somebody."""
        if name not in self.residents:
            self.residents[name] = await self.people.person(re.sub(r"[^a-z0-9]", "", name) or "x")
        return self.residents[name]

    def person(self, name: str, locale: str = "en") -> Someone:
        self._locales[name] = locale
        return Someone(self, name, ChatRef("matrix", f"~{name}"))

    async def comes(self, chat: ChatRef) -> None:
        owner = chat.id.removeprefix("~")
        if owner == chat.id or owner in self.rooms:
            return
        await self.meets(owner)
        if self._locales[owner] != self.settings.locale:
            await self.say(owner, chat, f"!language {self._locales[owner]}", None)
        await self.settled()

    async def room(self, chat: ChatRef) -> str:
        """The room that a story means."""
        await self.comes(chat)
        return self.rooms[chat.id[1:]][-1] if chat.id.startswith("~") else chat.id

    async def meets(self, name: str) -> str:
        """Somebody invites the bot to a direct chat, and it comes: the room."""
        resident = await self.resident(name)
        room = await resident.direct(self.bot, encrypted=self.encrypted)
        self.enters(name, room)
        await self.arrives(resident, room)
        return room

    def enters(self, name: str, room: str) -> None:
        """Somebody looks at a room, which is their newest direct chat with the bot if it is one."""
        self.rooms.setdefault(name, []).append(room)
        self._inside[room] = self.residents[name]

    async def arrives(self, resident: Resident, room: str) -> None:
        """Wait until the bot is in a room, and knows it."""
        await resident.knows(room, self.bot)
        self._sent.add(resident.state_id(room, "m.room.member", self.bot))
        await self.handled()

    def known_as(self, name: str) -> str:
        return self.residents[name].user_id

    async def group(self, title: str, *names: str) -> ChatRef:
        first, *others = [await self.resident(name) for name in names]
        invited = [self.bot, *(other.user_id for other in others)]
        room = await first.creates(title, invite=invited, encrypted=self.encrypted)
        for other in others:
            await other.joins(room)
        self._inside[room] = first
        await self.arrives(first, room)
        await asyncio.gather(*(other.knows(room, self.bot) for other in others))
        return ChatRef("matrix", room)

    async def topic(self, title: str, *names: str) -> ChatRef:
        group = await self.group(title, *names)
        root = await self.residents[names[0]].says(group.id, "Ideas, please")
        return ChatRef("matrix", group.id, root)

    async def move(self, group: ChatRef, name: str) -> ChatRef:
        resident = self.residents[name]
        moved = await resident.upgrades(group.id, "12")
        await resident.invites_to(moved, self.bot)
        self._inside[moved] = resident
        await self.arrives(resident, moved)
        return ChatRef("matrix", moved)

    async def account_call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the homeserver as the bot's account, beside the bot; ``path`` begins after ``/_matrix/client/v3``."""
        headers = {"Authorization": f"Bearer {self.account.token}"}
        url = f"{self.people.synapse.url}/_matrix/client/v3{path}"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, url, json=body) as response,
        ):
            assert response.status == 200, await response.text()
            return await response.json()

    # -- what people do -------------------------------------------------------------------------------------

    async def say(self, name: str, chat: ChatRef, words: str, reply_to: str | None) -> str:
        room, resident = await self.room(chat), await self.resident(name)
        words = f"!{words[1:]}" if words.startswith("/") else words
        event = await resident.says(room, words, reply_to=reply_to, thread=chat.thread)
        self._sent.add(event)
        return event

    async def send(self, name: str, chat: ChatRef, file: str, content: bytes) -> None:
        room, resident = await self.room(chat), await self.resident(name)
        self._sent.add(await resident.sends_file(room, file, content))

    async def rewrite(self, name: str, chat: ChatRef, message: str, words: str) -> None:
        words = f"!{words[1:]}" if words.startswith("/") else words
        self._sent.add(await self.residents[name].edits(await self.room(chat), message, words))

    async def press(
        self, name: str, chat: ChatRef, line: Line, position: int, revision: int | None
    ) -> Callable[[], str | None]:
        room, resident = await self.room(chat), self.residents[name]
        key = "🔟" if position == 9 else f"{position + 1}\ufe0f\u20e3"
        if (before := self._pressed.pop((name, line.id, key), None)) is not None:
            self._sent.add(await resident.redacts(room, before))  # nobody can react so twice
        self._pressed[name, line.id, key] = await resident.reacts(room, line.id, key)
        self._sent.add(self._pressed[name, line.id, key])
        if not chat.id.startswith("~"):
            return lambda: None
        seen = len(self.lines(chat))
        # A note is a message here, the first one that comes, and without choices.
        return lambda: next((new.text for new in self.lines(chat)[seen:] if not new.buttons), "")

    async def accepts(self, name: str) -> list[str]:
        """Somebody comes to the chats that the bot has begun with them: their rooms."""
        resident = await self.resident(name)
        await resident.catches_up()
        rooms = [room for room in resident.invites if resident.invited_by(room) == self.bot]
        for room in rooms:
            await resident.joins(room)
            self.enters(name, room)
        await self.settled()
        return rooms

    async def follow(self, someone: Someone, line: Line, position: int) -> None:
        group = next(room for room in self._inside if any(seen.event_id == line.id for seen in self.seen(room)))
        await someone.within(ChatRef("matrix", group)).presses_at(line, position)
        await self.accepts(someone.name)

    async def block(self, name: str) -> None:
        room = self.rooms[name][-1]
        await self.residents[name].leaves(room)
        await self.until(
            lambda session: session.exec(select(Chat).where(Chat.external == room, ~col(Chat.active))).all()
        )

    async def unblock(self, name: str) -> None:
        self._hindered.clear()
        await self.meets(name)

    async def hinder(self, name: str) -> None:
        self._hindered.add(self.rooms[name][-1])

    # -- what people see ------------------------------------------------------------------------------------

    def seen(self, room: str) -> list[Event]:
        """The bot's messages in a room, as they are there."""
        return [event for event in self._inside[room].lines(room, self.bot) if not event.redacted]

    def lines(self, chat: ChatRef) -> list[Line]:
        rooms = self.rooms.get(chat.id[1:], []) if chat.id.startswith("~") else [chat.id]
        return [_line(event, self._files.get(event.event_id)) for room in rooms for event in self.seen(room)]

    async def menu(self, locale: str) -> dict[str, str]:
        raise NotImplementedError("Matrix has no menu of commands")

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            for room, resident in self._inside.items():
                for event in resident.lines(room, self.bot):
                    assert event.redacted or event.encrypted is resident.is_encrypted(room), event
                    assert event.redacted or event.mentions is not None, event


class _Shown(HTMLParser):
    """Formatted words as a client shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in ("b", "i", "u", "s", "code", "pre", "a", "blockquote", "br"), tag
        if tag == "br":
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def shown(event: Event) -> str:
    """The words of a message; with and without markup they are the same."""
    if event.html is None:
        return event.body
    assert event.content["format"] == "org.matrix.custom.html"
    parser = _Shown()
    parser.feed(event.html)
    parser.close()
    words = "".join(parser.words)
    assert set(words.split()) <= set(event.body.split()), (words, event.body)
    return words


def _slashed(words: str) -> str:
    return _COMMAND.sub("/", words)


def _choices(words: str, lines: str) -> Iterator[str]:
    """The choices by their numbers: those of the lines below, and before them what stands in the words already."""
    below = {int(number): label for number, label in _LABEL.findall(lines)}
    listed = {int(number): label for number, label in _LABEL.findall(words)}
    for number in range(1, max(below) + 1):
        yield below.get(number) or listed[number]


def _line(event: Event, file: bytes | None) -> Line:
    text = _slashed(shown(event))
    question = event.msgtype == "m.text" and event.reply_to is not None
    numbered = None if question else _NUMBERED.fullmatch(text)
    labels = () if numbered is None else tuple(_choices(numbered[1], numbered[2]))
    return Line(
        event.event_id,
        text if numbered is None else numbered[1],
        labels,
        (None,) * len(labels),
        0,
        question,
        event.reply_to,
        event.thread,
        None if file is None else (str(event.content["filename"]), file),
        tuple(event.mentions or ()),
    )
