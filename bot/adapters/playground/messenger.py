"""The messenger behind the page: the memory messenger, which tells who looks on what happens, and keeps a journal."""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from bot.adapters.memory import UNLIMITED, Memory, Seen
from bot.adapters.playground.markup import tree
from bot.port import Button, Command, Rendered, Sent, Upload
from bot.types import Batch, ChatRef, MessageRef, Pressed

NAME = "playground"

PAGE = 50
"""How many messages the page is given at once."""

BEHIND = 1000
"""How many events a page may be behind; one that is slower starts anew."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose eyes one can look through."""

    id: str
    name: str
    locale: str
    organiser: bool = False


@dataclass(slots=True)
class Trace:
    """What the page shows of a message beyond its words: its place in the chat, when it came, how often it changed."""

    chat: str
    place: int
    at: datetime
    version: int = 0


class Playground(Memory):
    """The memory messenger with people to look through, listeners, and a journal.

    ``journal`` is a file to which everything that happens is added, one JSON list a line; ``replay`` brings it
    back, so that messages, their ids and the log of updates fit to the database that is kept beside it. With
    ``None`` nothing is kept.
    """

    def __init__(
        self,
        people: Sequence[Person] = (),
        journal: Path | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(NAME, replace(UNLIMITED), now)
        self.people = {person.id: person for person in people}
        self.names = {person.id: person.name for person in people}
        self.run = secrets.token_hex(8)
        self._path = journal
        self._file: TextIO | None = None
        self._traces: dict[str, Trace] = {}
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._closed = False
        self._at = self.now()
        for person in people:
            self.private(person.id, person.locale)

    # -- the journal ----------------------------------------------------------------------------------------

    async def replay(self) -> bool:
        """Bring back what the journal holds, and go on writing it. False if there was nothing in it."""
        if self._path is None:
            return False
        told = self._path.read_bytes() if self._path.exists() else b""
        whole = told[: told.rfind(b"\n") + 1]  # a line that was cut off never happened
        clock = self.now
        try:
            for line in whole.splitlines():
                what, at, args = json.loads(line)
                moment = datetime.fromisoformat(at)
                self.now = lambda moment=moment: moment  # type: ignore[misc]
                await self._again(what, args)
        finally:
            self.now = clock
        self._path.write_bytes(whole)
        self._file = self._path.open("a", encoding="utf-8")
        if not whole:
            self._note("run", [self.run])
        return bool(whole)

    async def _again(self, what: str, args: list[Any]) -> None:
        match what, args:
            case "run", [run]:
                self.run = run
            case "private", [person, locale]:
                self.private(person, locale)
            case "group", [name, *members]:
                self.group(name, *members)
            case "say", [person, chat, text, reply_to]:
                self.say(person, ChatRef(self.name, *chat), text, reply_to=reply_to)
            case "press", [person, chat, *rest]:
                self.press(person, ChatRef(self.name, *chat), *rest)
            case "edit_own", [person, chat, message, text]:
                self.edit_own(person, ChatRef(self.name, *chat), message, text)
            case "retract_own", [person, chat, message]:
                self.retract_own(person, ChatRef(self.name, *chat), message)
            case "send", [chat, message, key]:
                await self.send(ChatRef(self.name, *chat), _rendered(message), key)
            case "edit", [chat, external, message, key]:
                await self.edit(MessageRef(ChatRef(self.name, *chat), external), _rendered(message), key)
            case "retract", [chat, external]:
                await self.retract(MessageRef(ChatRef(self.name, *chat), external))
            case _:
                raise ValueError(f"the journal tells of {what}, which is unknown")

    def _note(self, what: str, args: Sequence[Any]) -> None:
        self._at = self.now()
        if self._file is not None:
            self._file.write(json.dumps([what, self._at.isoformat(), args], ensure_ascii=False) + "\n")
            self._file.flush()

    # -- what people do -------------------------------------------------------------------------------------

    def private(self, person: str, locale: str | None = None) -> ChatRef:
        if f"p-{person}" not in self.chats:
            self._note("private", [person, locale])
        return super().private(person, locale)

    def group(self, name: str, *members: str) -> ChatRef:
        self._note("group", [name, *members])
        return super().group(name, *members)

    def say(self, person: str, chat: ChatRef, text: str, *, reply_to: str | None = None, **more: Any) -> str:
        """Write a message; as on Matrix, ``!x`` is a command too."""
        self._note("say", [person, _place(chat), text, reply_to])
        sent = re.sub(r"^!(?=[^\W\d_])", "/", text)
        message = super().say(person, chat, sent, reply_to=reply_to, **more)
        seen = self.chats[chat.id].messages[-1]
        seen.html, seen.reply_to = text, reply_to
        self._arrived(chat, seen)
        return message

    def press(self, person: str, chat: ChatRef, message: str, position: int, revision: int | None = None) -> None:
        self._note("press", [person, _place(chat), message, position, revision])
        super().press(person, chat, message, position, revision)

    def edit_own(self, person: str, chat: ChatRef, message: str, text: str) -> None:
        self._note("edit_own", [person, _place(chat), message, text])
        super().edit_own(person, chat, message, re.sub(r"^!(?=[^\W\d_])", "/", text))
        self._message(chat, message).html = text
        self._changed_to_see(message)

    def retract_own(self, person: str, chat: ChatRef, message: str) -> None:
        self._note("retract_own", [person, _place(chat), message])
        super().retract_own(person, chat, message)
        self._message(chat, message).gone = True
        self._changed_to_see(message)

    # -- the port -------------------------------------------------------------------------------------------

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        sent = await super().send(chat, message, key)
        if sent.message.id not in self._traces:
            seen = self.chats[chat.id].messages[-1]
            self._note("send", [_place(chat), _plain(replace(message, html=seen.html)), key])
            self._arrived(chat, self.chats[chat.id].messages[-1])
        return sent

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        await super().edit(target, message, key)
        self._note("edit", [_place(target.chat), target.id, _plain(message), key])
        self._changed_to_see(target.id)

    async def retract(self, target: MessageRef) -> None:
        await super().retract(target)
        self._note("retract", [_place(target.chat), target.id])
        self._changed_to_see(target.id)

    async def acknowledge(self, press: Pressed, note: str) -> None:
        await super().acknowledge(press, note)
        if note:
            self.tell("note", {"person": press.actor.id, "chat": press.chat.id, "text": note})

    async def publish(self, commands: Sequence[Command]) -> None:
        await super().publish(commands)
        self.tell("hello", {})

    async def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
        self._closed = False
        async for batch in super().batches(cursor):
            yield batch

    async def close(self) -> None:
        self._closed = True
        for queue in list(self._listeners):
            self._end(queue)
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- who looks on ---------------------------------------------------------------------------------------

    def listen(self) -> asyncio.Queue[str | None]:
        """Everything that happens from now on, as server-sent events; ``None`` is the end."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(BEHIND)
        if self._closed:
            queue.put_nowait(None)
        else:
            self._listeners.add(queue)
        return queue

    def forget(self, queue: asyncio.Queue[str | None]) -> None:
        """This one listens no more."""
        self._listeners.discard(queue)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every listener; one that does not keep up is cut off and begins anew."""
        if not self._listeners:
            return
        event = f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._end(queue)

    def _end(self, queue: asyncio.Queue[str | None]) -> None:
        self._listeners.discard(queue)
        while queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    def open_to(self, person: str) -> list[str]:
        """The chats a person is in: the private one first."""
        chats = [chat for chat in self.chats.values() if person in chat.members]
        return [chat.id for chat in sorted(chats, key=lambda chat: not chat.private)]

    def messages(self, chat: str, before: int | None = None) -> list[dict[str, Any]]:
        """The last messages of a chat, or those before a place, oldest first."""
        all_ = self.chats[chat].messages
        end = len(all_) if before is None else max(0, min(before, len(all_)))
        return [self._view(seen) for seen in all_[max(0, end - PAGE) : end]]

    def find(self, chat: str, message: str) -> Seen | None:
        """A message that stands in a chat."""
        trace = self._traces.get(message)
        if trace is None or trace.chat != chat:
            return None
        seen = self.chats[chat].messages[trace.place]
        return None if seen.gone else seen

    def _message(self, chat: ChatRef, message: str) -> Seen:
        return self.chats[chat.id].messages[self._traces[message].place]

    def _arrived(self, chat: ChatRef, seen: Seen) -> None:
        self._traces[seen.id] = Trace(chat.id, len(self.chats[chat.id].messages) - 1, self._at)
        self._show(seen)

    def _changed_to_see(self, message: str) -> None:
        trace = self._traces[message]
        trace.version += 1
        self._show(self.chats[trace.chat].messages[trace.place])

    def _show(self, seen: Seen) -> None:
        if self._listeners:
            self.tell("message", self._view(seen))

    def _view(self, seen: Seen) -> dict[str, Any]:
        trace = self._traces[seen.id]
        view: dict[str, Any] = {
            "id": seen.id,
            "chat": trace.chat,
            "place": trace.place,
            "at": trace.at.isoformat(),
            "version": trace.version,
            "author": seen.author,
            "gone": seen.gone,
        }
        if seen.gone:
            return view
        return view | {
            "body": tree(seen.html) if seen.author is None else [seen.html],
            "buttons": [{"label": button.label, "url": button.url, "start": button.start} for button in seen.buttons],
            "revision": seen.revision,
            "reply_to": seen.reply_to,
            "question": seen.question,
            "file": None if seen.file is None else seen.file[0],
        }


def _place(chat: ChatRef) -> list[str | None]:
    return [chat.id, chat.thread]


def _plain(message: Rendered) -> dict[str, Any]:
    """A message as the journal keeps it."""
    upload = message.upload
    return {
        "html": message.html,
        "buttons": [[button.label, button.url, button.start] for button in message.buttons],
        "revision": message.revision,
        "reply_to": message.reply_to,
        "question": message.question,
        "upload": upload and [upload.name, upload.media_type, base64.b64encode(upload.content).decode()],
    }


def _rendered(plain: dict[str, Any]) -> Rendered:
    upload = plain["upload"]
    return Rendered(
        plain["html"],
        tuple(Button(*button) for button in plain["buttons"]),
        plain["revision"],
        plain["reply_to"],
        plain["question"],
        upload=upload and Upload(upload[0], upload[1], base64.b64decode(upload[2])),
    )
