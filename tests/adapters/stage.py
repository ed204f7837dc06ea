"""A stage: the whole bot on one messenger, with people who write, press and see, the same words for every messenger."""

import asyncio
import time as clocks
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import Connection
from sqlmodel import col, func, select

from bot import web
from bot.adapters.memory import Memory
from bot.adapters.playground import Playground
from bot.adapters.telegram import Telegram
from bot.app import App, connect
from bot.clock import RealTime, Time
from bot.config import Settings
from bot.port import Adapter, Rendered, RetryLater, Sent
from bot.types import ChatRef
from storage import outbox, people
from storage.conversation import Failed
from storage.engine import session_in
from storage.outbox import Outbox
from storage.people import Role
from tests.adapters.telegram_server import Chat, Message, TelegramServer, parse_html

SETTLES = 20.0
"""Seconds a story may take to come to rest; only a fault takes so long."""


class Hurried:
    """Time that runs ``times`` as fast as the world's: a pause of seconds is over in milliseconds."""

    def __init__(self, times: float = 50) -> None:
        self.times = times
        self._began = datetime.now(UTC)
        self._zero = clocks.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (clocks.monotonic() - self._zero) * self.times

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.times)


@dataclass(frozen=True, slots=True)
class Line:
    """A message of the bot as somebody sees it now: markup is parsed, ``links`` are payloads of deep links."""

    id: str
    text: str
    buttons: tuple[str, ...]
    links: tuple[str | None, ...]
    revision: int
    question: bool
    reply_to: str | None
    thread: str | None
    file: tuple[str, bytes] | None
    mentions: tuple[str, ...] = ()
    """The accounts that it names, so that it rings for them."""


class Someone:
    """A person in one chat."""

    def __init__(self, stage: "Stage", name: str, chat: ChatRef) -> None:
        self.stage = stage
        self.name = name
        self.chat = chat
        self.said = ""

    async def says(self, words: str, *, reply_to: Line | None = None) -> list[Line]:
        """Write, and see what is new on the screen then."""
        await self.stage.comes(self.chat)
        before = len(self.screen)
        self.said = await self.stage.say(self.name, self.chat, words, None if reply_to is None else reply_to.id)
        await self.stage.settled()
        return self.screen[before:]

    async def sends(self, name: str, content: bytes) -> list[Line]:
        """Send a file, and see what is new on the screen then."""
        await self.stage.comes(self.chat)
        before = len(self.screen)
        await self.stage.send(self.name, self.chat, name, content)
        await self.stage.settled()
        return self.screen[before:]

    async def rewrites(self, words: str) -> list[Line]:
        """Change what they said last, and see what is new then."""
        before = len(self.screen)
        await self.stage.rewrite(self.name, self.chat, self.said, words)
        await self.stage.settled()
        return self.screen[before:]

    async def presses(self, label: str, line: Line | None = None) -> str | None:
        """Press the button whose label begins so, under the newest line that has it. Returns the note shown."""
        target = line or next(
            seen for seen in reversed(self.screen) if any(button.startswith(label) for button in seen.buttons)
        )
        position = next(number for number, button in enumerate(target.buttons) if button.startswith(label))
        return await self.presses_at(target, position)

    async def presses_at(self, line: Line, position: int, revision: int | None = None) -> str | None:
        """Press any position, whatever is there. Returns the note shown."""
        note = await self.stage.press(
            self.name, self.chat, line, position, line.revision if revision is None else revision
        )
        await self.stage.settled()
        return note()

    async def follows(self, label: str, line: Line) -> list[Line]:
        """Follow a link under a line into the private chat with the bot, and see what is new there then."""
        private = self.stage.person(self.name)
        before = len(private.screen)
        await self.stage.follow(self, line, line.buttons.index(label))
        return private.screen[before:]

    def within(self, group: ChatRef) -> "Someone":
        """The same person elsewhere."""
        return Someone(self.stage, self.name, group)

    @property
    def screen(self) -> list[Line]:
        """The bot's messages in this chat, oldest first."""
        return self.stage.lines(self.chat)

    @property
    def sees(self) -> str:
        """The words of the newest one."""
        return self.screen[-1].text

    @property
    def choices(self) -> tuple[str, ...]:
        """The buttons under the newest one."""
        return self.screen[-1].buttons


class Stage(ABC):
    """A running bot on one messenger. ``forgives`` lists the outbox states that a story may leave behind.

    ``keeps_choices`` says that a message keeps its choices for ever, so that other ones come with a new message;
    ``notes_in_groups`` that whoever presses in a group is told what came of it, and nobody else.
    """

    mention: str
    keeps_choices = False
    notes_in_groups = True

    def __init__(self, settings: Settings, time: Time | None = None) -> None:
        self.settings = settings
        self.time = time or Hurried()
        self.forgives: set[str] = set()
        self.app = self.build()
        self._stop = asyncio.Event()
        self._running: asyncio.Task[bool] | None = None

    # -- running --------------------------------------------------------------------------------------------

    @abstractmethod
    def adapters(self) -> list[Adapter]:
        """New adapters for a new bot."""

    def build(self) -> App:
        """A new bot on the same messenger and database."""
        return App(self.settings, self.adapters(), time=self.time)

    async def begin(self) -> None:
        """Start the bot."""
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.app.run(self._stop))

    async def end(self) -> None:
        """Stop the bot cleanly."""
        self._stop.set()
        if self._running is not None:
            await asyncio.wait_for(self._running, SETTLES)

    async def restart(self) -> None:
        """Stop the bot and start a new one."""
        await self.end()
        self.app = self.build()
        await self.begin()

    async def settled(self) -> None:
        """Wait until all that happened is handled and all that was said is delivered."""
        assert self._running is not None
        waiting = asyncio.create_task(self.rest())
        await asyncio.wait((waiting, self._running), timeout=SETTLES, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            waiting.cancel()
            self._running.result()
        if not waiting.done():
            waiting.cancel()
            raise AssertionError("the story did not come to rest")
        await waiting

    async def rest(self) -> None:
        """Wait for the bot, whatever happens to it."""
        await self.handled()
        for box in self.app.outboxes.values():
            await box.idle.wait()
        await self.app.dispatch.answered()

    @abstractmethod
    async def handled(self) -> None:
        """Wait until everything that happened is confirmed to the messenger."""

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        trouble = None if error is not None else await self.ask(self._trouble)
        await self.end()
        assert not trouble, trouble

    def _trouble(self, session: Any) -> list[str]:
        """What should not be there at the end of a story."""
        failed = [f"failed: {row.error}" for row in session.exec(select(Failed)).all()]
        counts = session.exec(select(Outbox.state, func.count()).group_by(col(Outbox.state))).all()
        allowed = {outbox.DELIVERED, *self.forgives}
        return failed + [f"{number} {state}" for state, number in counts if state not in allowed]

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask the database (or change it) with a function of a Session."""

        def job(connection: Connection) -> Any:
            with session_in(connection) as session:
                answer = question(session)
                session.commit()
                return answer

        return await self.app.storage.run(job)

    async def organiser(self, name: str) -> Someone:
        """Somebody who has claimed the role as everybody claims it."""
        code = await self.ask(lambda session: people.invite(session, Role.ORGANISER, self.time.now()))
        person = self.person(name)
        await person.says(f"/claim {code}")
        return person

    # -- what people do -------------------------------------------------------------------------------------

    @abstractmethod
    def person(self, name: str, locale: str = "en") -> Someone:
        """Somebody in their private chat with the bot."""

    @abstractmethod
    def known_as(self, name: str) -> str:
        """What the messenger calls somebody."""

    async def comes(self, chat: ChatRef) -> None:  # noqa: B027
        """Somebody meets the bot, where that is needed before a first word in private."""

    @abstractmethod
    async def group(self, title: str, *names: str) -> ChatRef:
        """A group of these people; the first one has added the bot."""

    @abstractmethod
    async def topic(self, title: str, *names: str) -> ChatRef:
        """A topic of a group of these people with the bot in it."""

    @abstractmethod
    async def move(self, group: ChatRef, name: str) -> ChatRef:
        """The group goes on under another id."""

    @abstractmethod
    async def say(self, name: str, chat: ChatRef, words: str, reply_to: str | None) -> str: ...

    @abstractmethod
    async def send(self, name: str, chat: ChatRef, file: str, content: bytes) -> None: ...

    @abstractmethod
    async def rewrite(self, name: str, chat: ChatRef, message: str, words: str) -> None: ...

    @abstractmethod
    async def press(
        self, name: str, chat: ChatRef, line: Line, position: int, revision: int | None
    ) -> Callable[[], str | None]:
        """Press; what is returned tells the note that was shown, once it was."""

    async def follow(self, someone: Someone, line: Line, position: int) -> None:
        """Follow the link at a position under a line."""
        payload = line.links[position]
        assert payload is not None
        await self.person(someone.name).says(f"/start {payload}")

    @abstractmethod
    async def block(self, name: str) -> None: ...

    @abstractmethod
    async def unblock(self, name: str) -> None: ...

    @abstractmethod
    async def hinder(self, name: str) -> None:
        """What is sent to this person fails for now, until they block and unblock the bot."""

    # -- what people see ------------------------------------------------------------------------------------

    @abstractmethod
    def lines(self, chat: ChatRef) -> list[Line]: ...

    @abstractmethod
    async def menu(self, locale: str) -> dict[str, str]:
        """The messenger's own list of commands, as a client in this language shows it."""


class _Hindering(Memory):
    """A memory messenger that does not get through to some chats."""

    def __init__(self) -> None:
        super().__init__()
        self.hindered: set[str] = set()

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        if chat.id in self.hindered:
            raise RetryLater(5, "later")
        return await super().send(chat, message, key)


class MemoryStage(Stage):
    """The bot on the memory messenger."""

    mention = "@bot"

    def __init__(self, settings: Settings, time: Time | None = None, messenger: _Hindering | None = None) -> None:
        self.messenger = messenger or _Hindering()
        super().__init__(settings, time)

    def adapters(self) -> list[Adapter]:
        return [self.messenger]

    async def handled(self) -> None:
        await self.messenger.caught_up()

    def person(self, name: str, locale: str = "en") -> Someone:
        return Someone(self, name, self.messenger.private(name, locale))

    def known_as(self, name: str) -> str:
        return name

    async def group(self, title: str, *names: str) -> ChatRef:
        return self.messenger.group(title, *names)

    async def topic(self, title: str, *names: str) -> ChatRef:
        return ChatRef(self.messenger.name, (await self.group(title, *names)).id, "7")

    async def move(self, group: ChatRef, name: str) -> ChatRef:
        return self.messenger.move(group, name, f"{group.id}-moved")

    async def say(self, name: str, chat: ChatRef, words: str, reply_to: str | None) -> str:
        return self.messenger.say(name, chat, words, reply_to=reply_to)

    async def send(self, name: str, chat: ChatRef, file: str, content: bytes) -> None:
        self.messenger.say(name, chat, "", files=[(file, content)])

    async def rewrite(self, name: str, chat: ChatRef, message: str, words: str) -> None:
        self.messenger.edit_own(name, chat, message, words)

    async def press(
        self, name: str, chat: ChatRef, line: Line, position: int, revision: int | None
    ) -> Callable[[], str | None]:
        before = len(self.messenger.notes)
        self.messenger.press(name, chat, line.id, position, revision)
        return lambda: next(iter(note for who, note in self.messenger.notes[before:] if who == name), None)

    async def block(self, name: str) -> None:
        self.messenger.block(name)

    async def unblock(self, name: str) -> None:
        self.messenger.hindered.clear()
        self.messenger.unblock(name)

    async def hinder(self, name: str) -> None:
        self.messenger.hindered.add(self.person(name).chat.id)

    def lines(self, chat: ChatRef) -> list[Line]:
        return [
            Line(
                seen.id,
                parse_html(seen.html)[0],
                tuple(button.label for button in seen.buttons),
                tuple(button.start for button in seen.buttons),
                seen.revision,
                seen.question,
                seen.reply_to,
                seen.thread,
                seen.file,
                seen.mentions,
            )
            for seen in self.messenger.sees(chat)
        ]

    async def menu(self, locale: str) -> dict[str, str]:
        menu = self.messenger.menu
        return {command.name: command.help for command in menu if command.everyone and command.locale == locale}


class _HinderingPlayground(_Hindering, Playground):
    """The same of the playground."""


class PlaygroundStage(MemoryStage):
    """The bot on the messenger behind the web page."""

    def __init__(self, settings: Settings, time: Time | None = None) -> None:
        super().__init__(settings, time, _HinderingPlayground())


class TelegramStage(Stage):
    """The bot on Telegram, by long polling. ``refusable`` names the methods that Telegram may refuse in a story."""

    def __init__(self, settings: Settings, server: TelegramServer, time: Time | None = None) -> None:
        self.server = server
        self.mention = f"@{server.bot.username}"
        self.refusable: set[str] = set()
        self._people: dict[str, int] = {}
        super().__init__(settings, time)

    def adapters(self) -> list[Adapter]:
        return [
            Telegram(
                self.server.token,
                self.server.url,
                rate=1e6,
                chat_rate=1e6,
                group_rate=1e6,
                poll_timeout=1,
                poll_margin=0.2,
                call_timeout=1.0,
                sleep=self.time.sleep,
            )
        ]

    async def handled(self) -> None:
        await self.server.wait_for(lambda: self.server.polling and not self.server.pending, SETTLES)

    def person(self, name: str, locale: str = "en") -> Someone:
        if name not in self._people:
            self._people[name] = self.server.user(first_name=name, language_code=locale).id
        return Someone(self, name, _ref(self.server.private(self._people[name])))

    def known_as(self, name: str) -> str:
        return str(self._people[name])

    async def group(self, title: str, *names: str) -> ChatRef:
        return _ref(self._gathered(self.server.group(title, supergroup=False), *names))

    async def topic(self, title: str, *names: str) -> ChatRef:
        chat = self._gathered(self.server.group(title, forum=True), *names)
        return _ref(chat, self.server.topic(chat, "Ideas", self._people[names[0]]))

    def _gathered(self, chat: Chat, *names: str) -> Chat:
        for name in names:
            self.person(name)
            self.server.join(self._people[name], chat)
        self.server.add_bot(chat, self._people[names[0]])
        return chat

    async def move(self, group: ChatRef, name: str) -> ChatRef:
        return _ref(self.server.migrate(int(group.id)))

    async def say(self, name: str, chat: ChatRef, words: str, reply_to: str | None) -> str:
        reply = None if reply_to is None else int(reply_to)
        thread = None if chat.thread is None else int(chat.thread)
        return str(self.server.say(self._people[name], int(chat.id), words, reply, thread).id)

    async def send(self, name: str, chat: ChatRef, file: str, content: bytes) -> None:
        self.server.send_file(self._people[name], int(chat.id), file, content, "text/calendar")

    async def rewrite(self, name: str, chat: ChatRef, message: str, words: str) -> None:
        self.server.edit(self._people[name], int(message), words, int(chat.id))

    async def press(
        self, name: str, chat: ChatRef, line: Line, position: int, revision: int | None
    ) -> Callable[[], str | None]:
        query = self.server.press(self._people[name], int(chat.id), int(line.id), f"{revision}:{position}", anyway=True)

        def note() -> str | None:
            answers = self.server.queries[query].answers
            assert len(answers) <= 1
            return answers[0].text or "" if answers else None

        return note

    async def block(self, name: str) -> None:
        self.server.block(self._people[name])

    async def unblock(self, name: str) -> None:
        self.server.heal()
        self.server.unblock(self._people[name])

    async def hinder(self, name: str) -> None:
        self.server.fail("sendMessage", 500, times=1_000_000, chat=self._people[name])

    def lines(self, chat: ChatRef) -> list[Line]:
        return [_line(message) for message in self.server.sent(int(chat.id)) if not message.deleted]

    async def menu(self, locale: str) -> dict[str, str]:
        in_groups = await self.server.wait_for(lambda: self.server.menu(locale, "all_group_chats"), SETTLES)
        assert in_groups == self.server.menu(locale, "all_private_chats")
        return dict(in_groups)

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            refused = {call.method for call in self.server.calls if call.fault is None and call.code not in (200, None)}
            assert refused <= self.refusable, refused
            assert (self.server.refused_429, self.server.hasty) == (0, 0)


class WebhookStage(TelegramStage):
    """The bot on Telegram, by webhook through its own web app, put together as ``labbot run`` does it."""

    def __init__(self, settings: Settings, server: TelegramServer, time: Time | None = None) -> None:
        self._serving = AsyncExitStack()
        self._hooks: Sequence[web.Hook] = ()
        super().__init__(settings, server, time)

    def adapters(self) -> list[Adapter]:
        adapters, self._hooks = connect(self.settings)
        return adapters

    async def begin(self) -> None:
        site = web.create(self.app.metrics.registry, self.app.health, self._hooks)
        await self._serving.enter_async_context(web.serve(site, *self.settings.http_address))
        await super().begin()

    async def end(self) -> None:
        await super().end()
        await self._serving.aclose()

    async def handled(self) -> None:
        await self.server.wait_for(lambda: self.server.webhook and not self.server.pending, SETTLES)


class PunctualStage(TelegramStage):
    """The bot on Telegram as it is set up by default: real time, and Telegram's real rates."""

    def __init__(self, settings: Settings, server: TelegramServer) -> None:
        super().__init__(settings, server, RealTime())

    def adapters(self) -> list[Adapter]:
        return connect(self.settings)[0]


def _ref(chat: Chat, thread: int | None = None) -> ChatRef:
    return ChatRef("telegram", str(chat.id), None if thread is None else str(thread))


def _line(message: Message) -> Line:
    buttons = [button for row in message.buttons for button in row]
    data = [value.partition(":")[0] for _, value in buttons if not value.startswith("https://")]
    return Line(
        str(message.id),
        message.text or "",
        tuple(label for label, _ in buttons),
        tuple(_payload(value) for _, value in buttons),
        int(data[0]) if data else 0,
        bool((message.markup or {}).get("force_reply")),
        None if message.reply_to is None else str(message.reply_to),
        None if message.thread is None else str(message.thread),
        None if message.file is None else (message.file.name, message.file.data),
        tuple(str(entity["user"]["id"]) for entity in message.entities if entity["type"] == "text_mention"),
    )


def _payload(address: str) -> str | None:
    return parse_qs(urlsplit(address).query)["start"][0] if address.startswith("https://t.me/") else None
