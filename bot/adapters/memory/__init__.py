"""A whole messenger inside the process: what people say and see, for tests and the terminal demo."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from bot.port import MOST_MENTIONED, Button, Command, Limits, Rendered, RetryLater, Sent, Undeliverable, Upload
from bot.types import (
    Actor,
    Batch,
    ChatRef,
    Edited,
    Ended,
    File,
    Happened,
    Joined,
    Left,
    MessageRef,
    Moved,
    Pressed,
    Retracted,
    Said,
    Unreadable,
    Update,
    Voted,
)

UNLIMITED = Limits(
    choices=24,
    text=4096,
    caption=1024,
    edits=True,
    rate=float("inf"),
    chat_rate=1e6,
    group_rate=1e6,
    in_flight=16,
    bulk_in_flight=4,
    upload=1 << 20,
    download=1 << 20,
)


@dataclass(slots=True)
class Seen:
    """A message as it stands in a chat; ``versions`` are all the texts it has shown, oldest first.

    ``poll`` is how many of its buttons can be chosen in the messenger's own poll that it is; 0 when that is over.
    """

    id: str
    html: str
    author: str | None = None
    buttons: tuple[Button, ...] = ()
    revision: int = 0
    reply_to: str | None = None
    thread: str | None = None
    question: bool = False
    file: tuple[str, bytes] | None = None
    mentions: tuple[str, ...] = ()
    versions: list[str] = field(default_factory=list)
    poll: int | None = None
    gone: bool = False


@dataclass(slots=True)
class Chat:
    """A conversation: who is in it, and what stands in it."""

    id: str
    private: bool
    members: set[str]
    title: str | None = None
    messages: list[Seen] = field(default_factory=list)
    blocked: bool = False
    moved_to: str | None = None


class Memory:
    """The messenger. Its log of updates outlives the bot, so a bot that stops can start again on it.

    ``faults`` are raised by the next deliveries, oldest first; a fault may be a function that is given the
    delivery and raises or lets it pass. ``gate`` holds deliveries up while it is not set, while it is ``down`` none
    gets through, and new messages with the words ``unwanted`` are not taken.
    """

    def __init__(
        self, name: str = "memory", limits: Limits = UNLIMITED, now: Callable[[], datetime] | None = None
    ) -> None:
        self.name = name
        self.limits = limits
        self.answered_at: float | None = None
        self.now = now or (lambda: datetime.now(UTC))
        self.chats: dict[str, Chat] = {}
        self.administrators: set[tuple[str, str]] = set()
        """Chat and person: who may set up which group."""
        self.notes: list[tuple[str, str]] = []
        self.menu: list[Command] = []
        self.files: dict[str, bytes] = {}
        self.faults: deque[Exception | Callable[[str], None]] = deque()
        self.gate = asyncio.Event()
        self.gate.set()
        self.sends = 0
        self.uploads = 0
        self.down = False
        self.unwanted: str | None = None
        self._delivered: dict[str, str] = {}
        self._log: list[Update | Unreadable] = []
        self._confirmed = 0
        self._ids = count(1)
        self._locales: dict[str, str | None] = {}
        self._changed = asyncio.Event()
        self._caught_up = asyncio.Event()

    # -- what people do -------------------------------------------------------------------------------------

    def private(self, person: str, locale: str | None = None) -> ChatRef:
        """The private chat of a person with the bot."""
        self._locales.setdefault(person, locale)
        self.chats.setdefault(f"p-{person}", Chat(f"p-{person}", True, {person}))
        return ChatRef(self.name, f"p-{person}")

    def group(self, name: str, *members: str) -> ChatRef:
        """A group with the bot in it; ``members[0]`` has added it."""
        chat = self.chats.setdefault(f"g-{name}", Chat(f"g-{name}", False, set(members), name))
        ref = ChatRef(self.name, chat.id)
        self._log_update(Joined(*self._happened(ref, members[0])))
        return ref

    def say(
        self,
        person: str,
        chat: ChatRef,
        text: str,
        *,
        reply_to: str | None = None,
        files: Sequence[tuple[str, bytes]] = (),
        anonymous: bool = False,
        marked: str = "",
    ) -> str:
        """Write a message; ``/x`` is a command, ``@bot`` names the bot. Returns the message's id."""
        message = f"{next(self._ids)}"
        self.chats[chat.id].messages.append(Seen(message, text, person))
        command, rest = _command(text)
        mentioned = "@bot" in rest
        sent = []
        for name, content in files:
            self.files[f"{message}-{name}"] = content
            sent.append(File(self.name, f"{message}-{name}", name, "application/octet-stream", len(content)))
        self._log_update(
            Said(
                *self._happened(chat, person, anonymous),
                message=MessageRef(chat, message),
                text=rest.replace("@bot", "").strip() if mentioned else rest,
                command=command,
                reply_to=None if reply_to is None else MessageRef(chat, reply_to),
                files=tuple(sent),
                mentioned=mentioned,
                quoted=next((seen.html for seen in self.chats[chat.id].messages if seen.id == reply_to), ""),
                marked=marked,
            )
        )
        return message

    def press(self, person: str, chat: ChatRef, message: str, position: int, revision: int | None = None) -> None:
        """Choose the choice at a position (from 0); ``revision`` is what the screen showed."""
        query = f"q{next(self._ids)}"
        self._log_update(
            Pressed(
                *self._happened(chat, person),
                message=MessageRef(chat, message),
                position=position,
                revision=revision,
                query=query,
            )
        )

    def react(self, person: str, chat: ChatRef, message: str, position: int) -> str:
        """Choose with a reaction, which stays to be seen; ``retract_own`` of the id returned takes it back."""
        mark = f"{next(self._ids)}"
        self._log_update(
            Pressed(*self._happened(chat, person), message=MessageRef(chat, message), position=position, mark=mark)
        )
        return mark

    def vote(
        self, person: str, chat: ChatRef, message: str, positions: tuple[int, ...] | None, at: datetime | None = None
    ) -> str:
        """Answer in the messenger's own poll, sent at a time; ``retract_own`` of the id returned takes it back."""
        mark = f"{next(self._ids)}"
        key, place, actor, now, private = self._happened(chat, person)
        self._log_update(Voted(key, place, actor, at or now, private, MessageRef(chat, message), positions, mark))
        return mark

    def end_poll(self, person: str, chat: ChatRef, message: str) -> None:
        """End the messenger's own poll that a message of the bot's is."""
        self._log_update(Ended(*self._happened(chat, person), message=MessageRef(chat, message)))

    def edit_own(self, person: str, chat: ChatRef, message: str, text: str) -> None:
        """Change a message a person has written."""
        command, rest = _command(text)
        self._log_update(Edited(*self._happened(chat, person), MessageRef(chat, message), rest, command))

    def retract_own(self, person: str, chat: ChatRef, message: str) -> None:
        """Take back a message a person has written."""
        self._log_update(Retracted(*self._happened(chat, person), MessageRef(chat, message)))

    def block(self, person: str) -> None:
        """Block the bot in the private chat."""
        chat = self.private(person)
        self.chats[chat.id].blocked = True
        self._log_update(Left(*self._happened(chat, person)))

    def unblock(self, person: str) -> None:
        """Let the bot write again."""
        chat = self.private(person)
        self.chats[chat.id].blocked = False
        self._log_update(Joined(*self._happened(chat, person)))

    def move(self, chat: ChatRef, person: str, to: str) -> ChatRef:
        """A group goes on under another id."""
        old = self.chats[chat.id]
        new = ChatRef(self.name, to)
        self.chats[to] = Chat(to, False, old.members, old.title)
        old.moved_to = to
        self._log_update(Moved(*self._happened(chat, person), to=new))
        return new

    def happen(self, update: Update | Unreadable) -> None:
        """Any update at all, even one that has been there before."""
        self._log.append(update)
        self._changed.set()

    def sees(self, chat: ChatRef) -> list[Seen]:
        """The bot's messages that stand in a chat."""
        return [message for message in self.chats[chat.id].messages if message.author is None and not message.gone]

    async def caught_up(self) -> None:
        """Wait until the bot has handled everything that has happened."""
        while self._confirmed < len(self._log):
            self._caught_up.clear()
            await self._caught_up.wait()

    def _happened(
        self, chat: ChatRef, person: str, anonymous: bool = False
    ) -> tuple[str, ChatRef, Actor, datetime, bool]:
        actor = Actor(person, self._locales.get(person), anonymous, (chat.id, person) in self.administrators)
        return f"u{next(self._ids)}", chat, actor, self.now(), self.chats[chat.id].private

    def _log_update(self, update: Happened) -> None:
        self.happen(replace(update, title=self.chats[update.chat.id].title))  # type: ignore[arg-type]

    # -- the port -------------------------------------------------------------------------------------------

    async def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
        position = int(cursor or 0)
        while True:
            self._confirmed = position
            self.answered_at = self.now().timestamp()
            self._caught_up.set()
            while position >= len(self._log):
                self._changed.clear()
                await self._changed.wait()
            updates = self._log[position : position + 100]
            position += len(updates)
            raw = {update.key: repr(update) for update in updates}
            yield Batch(updates, str(position), raw)

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        self.sends += 1
        await self.gate.wait()
        if key in self._delivered:  # like Matrix's transaction ids: a repeated send is one message
            return Sent(MessageRef(chat, self._delivered[key]))
        self._fault(key)
        if self.unwanted is not None and self.unwanted in message.html:
            raise Undeliverable("refused")
        place = self._open(chat)
        file, name = self._taken(message.upload)
        named = () if place.private else tuple(who for who in message.mentions if who in place.members)
        named = named[:MOST_MENTIONED]
        html = "\n\n".join([message.html, ", ".join(named)]) if named else message.html
        seen = Seen(
            f"{next(self._ids)}",
            html,
            None,
            message.buttons,
            message.revision,
            message.reply_to,
            chat.thread,
            message.question,
            file,
            named,
            [html],
            message.poll,
        )
        place.messages.append(seen)
        self._delivered[key] = seen.id
        return Sent(MessageRef(chat, seen.id), name)

    def _taken(self, upload: Upload | None) -> tuple[tuple[str, bytes] | None, str | None]:
        """A file that was sent: what it holds, and what it is called when it is sent again."""
        if upload is None:
            return None, None
        if upload.sent_as is not None:
            if upload.sent_as not in self.files:
                raise Undeliverable("wrong file identifier")
            return (upload.name, self.files[upload.sent_as]), upload.sent_as
        self.uploads += 1
        name = f"upload-{self.uploads}"
        self.files[name] = upload.content
        return (upload.name, upload.content), name

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        await self.gate.wait()
        self._fault(key)
        seen = self._find(target)
        seen.html, seen.buttons, seen.revision = message.html, message.buttons, message.revision
        seen.versions.append(message.html)
        if message.poll is not None and not message.buttons:
            seen.poll = 0

    async def retract(self, target: MessageRef) -> None:
        self._fault("")
        self._find(target).gone = True

    async def acknowledge(self, press: Pressed, note: str) -> None:
        self.notes.append((press.actor.id, note))

    async def fetch(self, file: File) -> AsyncIterator[bytes]:
        if file.id not in self.files or len(self.files[file.id]) > self.limits.download:
            raise Undeliverable("the file is too large or gone")
        content = self.files[file.id]
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    async def publish(self, commands: Sequence[Command]) -> None:
        self.menu = list(commands)

    async def check(self) -> str:
        return self.name

    async def close(self) -> None:
        return

    def _fault(self, key: str) -> None:
        if self.down:
            raise RetryLater(2, "no connection", everywhere=True)
        if self.faults:
            fault = self.faults.popleft()
            if isinstance(fault, Exception):
                raise fault
            fault(key)

    def _open(self, chat: ChatRef) -> Chat:
        place = self.chats.get(chat.id)
        if place is None and self.limits.begins:
            raise Undeliverable("a private chat begins", moved_to=self.private(chat.id))
        if place is None:
            raise Undeliverable("chat not found", gone=True)
        if place.blocked:
            raise Undeliverable("blocked", gone=True)
        if place.moved_to is not None:
            raise Undeliverable("moved", moved_to=ChatRef(self.name, place.moved_to))
        return place

    def _find(self, target: MessageRef) -> Seen:
        for message in self._open(target.chat).messages:
            if message.id == target.id and not message.gone:
                return message
        raise Undeliverable("message not found")


def _command(text: str) -> tuple[str | None, str]:
    match = re.match(r"/([a-z_äöüß]+)(?:\s+|$)", text, re.IGNORECASE)
    return (None, text) if match is None else (match[1].lower(), text[match.end() :])
