"""The Turn: one update, one unit of work; what a handler reads, and what it says."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, Self

from sqlalchemy import Connection
from sqlmodel import Session

from bot.choices import fit
from bot.port import Limits
from bot.text import Catalogue, Catalogues
from bot.types import ChatRef, Choice, Happened, Lines, Message, MessageRef, Pressed, Retracted, Said, T, Text
from storage import chats, conversation, outbox
from storage.engine import session_in
from storage.people import Role

Choices = Sequence[Choice]

MOST_COPIES = 500
"""How many copies of one thing are kept true at once, all groups first; older ones in private chats are left."""


class Where(Enum):
    """Where a command can be used."""

    ANYWHERE = "anywhere"
    PRIVATE = "private"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Registered:
    """A command: its bare name, its line of help, who may use it and where.

    ``admins`` opens it to those, too, who administer the room it is used in. ``instead`` is what others can do.
    """

    name: str
    help: Text
    role: Role
    where: Where
    handler: Callable[..., None]
    admins: bool = False
    instead: Text | None = None


@dataclass(frozen=True, slots=True)
class Lab:
    """What every turn knows of the place: its name, languages, topics, commands, and what each messenger can show.

    ``spoken`` finds a command, by its name in any language, in the words of a message.
    ``public_url`` is where the web app is reached from outside, without a slash at its end; "" when it is not.
    """

    name: str
    catalogues: Catalogues
    topics: Mapping[str, Text]
    commands: Mapping[str, Registered]
    limits: Mapping[str, Limits]
    spoken: re.Pattern[str]
    public_url: str = ""


@dataclass(slots=True)
class Here:
    """The chat a turn happens in."""

    id: int
    ref: ChatRef
    private: bool
    locale: str
    team: bool


@dataclass(slots=True)
class You:
    """The person a turn is about. ``new`` is true in the turn they first appear in."""

    id: int
    pseudonym: str
    role: Role
    notice: int
    stopped: bool
    new: bool = False


@dataclass(slots=True)
class Dialog:
    """The question that is open between a person and the bot in a chat."""

    step: str
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(cls, step: str, data: str | None) -> "Dialog":
        """As its row keeps it."""
        return cls(step, json.loads(data or "{}"))


class Turn:
    """One update, one unit of work.

    Reads: ``now`` (UTC), ``lab``, ``chat``, ``person``, ``dialog``, ``update``, ``message`` (the one this turn is
    about) and ``db``, an ordinary Session in the turn's transaction. Says: ``say``, ``ask``, ``tell``, ``edit``,
    ``toast``. What is said is stored with everything else and delivered after the commit.
    """

    def __init__(
        self,
        connection: Connection,
        lab: Lab,
        now: datetime,
        *,
        chat: Here | None = None,
        person: You | None = None,
        dialog: Dialog | None = None,
        update: Happened | None = None,
        shown: outbox.Shown | None = None,
    ) -> None:
        self.connection = connection
        self.lab = lab
        self.now = now
        self.dialog = dialog
        self.update = update
        self.shown = shown
        self.note: str | None = None
        self._chat = chat
        self._person = person
        self._queued: list[dict[str, Any]] = []
        self.adapters: set[str] = set()
        """The messengers that have something to deliver after this turn."""
        self.due_at: datetime | None = None
        """The earliest time at which something falls due because of this turn."""

    # -- what it reads --------------------------------------------------------------------------------------

    @cached_property
    def db(self) -> Session:
        """An ordinary Session in this turn's transaction; the turn commits, a handler never does."""
        return session_in(self.connection)

    @property
    def chat(self) -> Here:
        """Where it happens. A scheduled turn has no chat."""
        if self._chat is None:
            raise LookupError("this turn happens in no chat")
        return self._chat

    @property
    def person(self) -> You:
        """Whom it is about. A scheduled turn has no person."""
        if self._person is None:
            raise LookupError("this turn has no person")
        return self._person

    @property
    def words(self) -> Catalogue:
        """The words of this chat's language."""
        return self.lab.catalogues[self.chat.locale]

    @property
    def data(self) -> dict[str, Any]:
        """What the open dialog has gathered so far; empty when none is open."""
        return {} if self.dialog is None else self.dialog.data

    @property
    def message(self) -> MessageRef | None:
        """The message that was said, edited or pressed, as its messenger calls it."""
        return getattr(self.update, "message", None)

    @property
    def known(self) -> bool:
        """Whether this turn is about a person: not of whoever has only taken something back, or ended it."""
        return self._person is not None

    def may(self, role: Role) -> bool:
        """Whether this person has this role, or one above it."""
        return self.person.role.covers(role)

    def may_set_up(self, role: Role = Role.ORGANISER) -> bool:
        """Whether this person may choose what happens in this room: by their role in the lab, or as its administrator.

        Only some messengers tell who administers a room; what the lab itself knows is never opened by that.
        """
        return self.may(role) or (not self.chat.private and self.update is not None and self.update.actor.admin)

    @property
    def begins(self) -> bool:
        """Whether the bot may begin a private chat on this messenger."""
        return self.lab.limits[self.chat.ref.adapter].begins

    @property
    def whispers(self) -> bool:
        """Whether whoever presses can be told something that nobody else sees: with buttons, not with reactions."""
        return self.lab.limits[self.chat.ref.adapter].choices > 0

    # -- what it says ---------------------------------------------------------------------------------------

    def say(self, what: Text | Message, *choices: Choice) -> None:
        """Answer in this chat."""
        self._queue(self.chat.id, self.chat.ref, self.chat.locale, _message(what, choices), reply_to=self._answered)

    def ask(self, what: Text | Message, *choices: Choice, step: str, data: Mapping[str, Any] | None = None) -> None:
        """Ask this person and wait for the answer, which goes to the function for ``step``.

        Only this person may press the choices. In a group the messenger opens its reply field for them, where it
        knows whose message this answers; after a press it does not, so the question says how to answer.
        """
        self.wait(step, data)
        message = _message(what, choices)
        if not self.chat.private and self._answered is None:
            hint = T("Please answer by replying to this message.")
            message = replace(message, text=Lines([message.text, hint], "\n\n"))
        self._queue(
            self.chat.id,
            self.chat.ref,
            self.chat.locale,
            message,
            reply_to=self._answered,
            question=not self.chat.private,
            person_id=self.person.id,
        )

    def wait(self, step: str, data: Mapping[str, Any] | None = None) -> None:
        """Wait for this person's answer in this chat, in place of any other open question."""
        kept = dict(data or {})
        self.dialog = Dialog(step, kept)
        conversation.open_dialog(self.connection, self.chat.id, self.person.id, step, kept, self.now)

    def done(self) -> None:
        """The open question is answered, or not asked any more."""
        if self.dialog is not None:
            conversation.close_dialog(self.connection, self.chat.id, self.person.id)
            self.dialog = None

    def tell(self, chat_id: int, what: Text | Message, *choices: Choice, bulk: bool = False) -> None:
        """Say something in another chat, in its own language. Chats that are gone are passed over."""
        place = chats.place(self.connection, chat_id)
        if place is not None and place.active and place.adapter in self.lab.limits:
            ref = ChatRef(place.adapter, place.external, place.thread)
            self._queue(chat_id, ref, place.locale, _message(what, choices), bulk=bulk)

    def tell_all(self, where: Iterable[int], what: Text | Message, *choices: Choice) -> None:
        """Say something in several chats, in each one's language. Chats that are gone are passed over."""
        message = _message(what, choices)
        for chat_id, place in chats.places(self.connection, where):
            if place.active and place.adapter in self.lab.limits:
                ref = ChatRef(place.adapter, place.external, place.thread)
                self._queue(chat_id, ref, place.locale, message, bulk=True)

    def notify(self, people: Iterable[int], what: Text | Message, *choices: Choice) -> None:
        """Tell people something in their private chats, except those who want to hear nothing."""
        message = _message(what, choices)
        fitted: dict[tuple[str, str], tuple[list[str], str | None]] = {}  # many read the same words
        for chat_id, place in chats.private_chats(self.connection, people, self.lab.limits):
            key = place.adapter, place.locale
            if key not in fitted:
                fitted[key] = self._fitted(*key, message)
            ref = ChatRef(place.adapter, place.external, place.thread)
            self._queue(chat_id, ref, place.locale, message, bulk=True, fitted=fitted[key])

    @contextmanager
    def aside(self) -> Iterator["Turn"]:
        """A turn of the same person in their private chat on this messenger, which is begun if there is none."""
        assert self.update is not None
        name, actor = self.chat.ref.adapter, self.update.actor.id
        locale = self.chat.locale
        found = conversation.begin_private(self.connection, name, actor, locale=locale, now=self.now)
        here = Here(found.chat_id, ChatRef(name, found.external), True, found.locale, False)
        dialog = None if found.step is None else Dialog.stored(found.step, found.data)
        with Turn(self.connection, self.lab, self.now, chat=here, person=self.person, dialog=dialog) as turn:
            yield turn
        self.adapters |= turn.adapters

    def broadcast(
        self, adapter: str, locale: str, chats: Sequence[tuple[int, str | None]], what: Text | Message, *choices: Choice
    ) -> list[int]:
        """Say the same in many chats (id and thread) of one messenger and language.

        Returns the ids of the messages, in the order of the chats; of one that takes several parts, the last one's.
        """
        message = _message(what, choices)
        same: dict[str, Any] = {"reply_to": None, "question": False, "person_id": None, "bulk": True}
        fitted = self._fitted(adapter, locale, message)
        rows = [self._rows(chat, adapter, thread, locale, message, **same, fitted=fitted) for chat, thread in chats]
        ids = outbox.queue_and_name(self.connection, [row for parts in rows for row in parts])
        ends, last = [], -1
        for parts in rows:
            last += len(parts)
            ends.append(ids[last])
        return ends

    def parts(self, adapter: str, locale: str, what: Message) -> list[str]:
        """As what messages, in HTML, a messenger shows this; choices that are no buttons there stand in the words."""
        return self._fitted(adapter, locale, what)[0]

    def fits_one(self, adapter: str, locale: str, what: Message) -> bool:
        """Whether a messenger takes this as one message, and its choices as buttons if it has any."""
        one = len(self.parts(adapter, locale, what)) == 1
        return one and len(what.choices) <= (self.lab.limits[adapter].choices or len(what.choices))

    def rewrite(self, adapter: str, locale: str, rows: Iterable[int], what: Text | Message | None) -> None:
        """Many of our messages of one messenger and language shall look so; with ``None`` they shall go away."""
        html, stored = None, None
        if what is not None:
            parts, stored = self._fitted(adapter, locale, _message(what, ()))
            html = parts[-1]
        for row in rows:
            outbox.revise(self.connection, row, html, stored, self.now)
        self.adapters.add(adapter)

    def edit(self, row: int, what: Text | Message, *choices: Choice) -> None:
        """One of our messages in this chat shall look otherwise; many changes at once are shown as one."""
        adapter = self.chat.ref.adapter
        self._revise(row, adapter, *self._fitted(adapter, self.chat.locale, _message(what, choices)))

    def edit_copies(self, subject: str, chat_id: int, what: Text | Message, *choices: Choice) -> None:
        """Every message that shows ``subject`` in a chat shall look otherwise, in that chat's language."""
        for row, adapter, locale in outbox.copies(self.connection, subject, chat_id):
            self._revise(row, adapter, *self._fitted(adapter, locale, _message(what, choices)))

    def edit_everywhere(self, subject: str, show: Callable[[bool], Message], *, live: bool) -> None:
        """Every message that shows ``subject``, in any chat, shall look otherwise; at most ``MOST_COPIES`` of them.

        ``show(private)`` is what it shall be in a private chat, and in a group. ``live`` is news that may be missed:
        a messenger that cannot edit would send each anew, so it is spared them.
        """
        fitted: dict[tuple[str, str, bool], tuple[list[str], str | None]] = {}
        wanted = []
        for row, adapter, locale, private in outbox.everywhere(self.connection, subject, MOST_COPIES):
            limits = self.lab.limits.get(adapter)
            if limits is None or (live and not limits.edits):
                continue
            key = (adapter, locale, private)
            if key not in fitted:
                fitted[key] = self._fitted(adapter, locale, show(private))
            parts, stored = fitted[key]
            wanted.append((row, parts[-1], stored))
            self.adapters.add(adapter)
        outbox.revise_all(self.connection, wanted, self.now)

    def replace(self, what: Text | Message, *choices: Choice) -> None:
        """Show this in place of the message that was pressed; to somebody who typed, and what is too long, say it."""
        message = _message(what, choices)
        if isinstance(self.update, Pressed | Retracted) and self.shown is not None:
            parts, stored = self._fitted(self.chat.ref.adapter, self.chat.locale, message)
            # Reactions stay under a message: where choices are made with them, other choices need another message.
            stays = self.lab.limits[self.chat.ref.adapter].choices == 0 and stored not in (None, self.shown.choices)
            if len(parts) == 1 and not stays:
                self._revise(self.shown.id, self.chat.ref.adapter, parts, stored)
                return
        self.say(message)

    def toast(self, what: Text | Message) -> None:
        """A short note to whoever pressed; to somebody who typed, or reacted in private, it is said."""
        if isinstance(self.update, Pressed) and self.whispers:
            self.note = f"{self.words.plain(_message(what, ()).text)} {self.note or ''}".strip()
        elif self.chat.private or isinstance(self.update, Said):  # a reaction in a room needs no word to everybody
            self.say(what)

    def due(self, at: datetime) -> None:
        """A row of this turn falls due then: the clock shall not look away longer (see ``Router.due``)."""
        self.due_at = at if self.due_at is None else min(at, self.due_at)

    # -- for the dispatcher ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Store what was done and said; after an error, nothing."""
        try:
            if error is None:
                if "db" in self.__dict__:
                    self.db.commit()
                if self._queued:
                    outbox.queue_messages(self.connection, self._queued)
        finally:
            if "db" in self.__dict__:
                self.db.close()

    @property
    def _answered(self) -> str | None:
        """In a group, the message this turn answers, so that everybody sees whom we mean."""
        if self.chat.private or not isinstance(self.update, Said):
            return None
        return self.update.message.id

    def _fitted(
        self, adapter: str, locale: str, message: Message, *, question: bool = False
    ) -> tuple[list[str], str | None]:
        """The parts in which a messenger takes a message, and its choices as a row keeps them."""
        words, limits = self.lab.catalogues[locale], self.lab.limits[adapter]
        labels, stored = _stored(message.choices, words)
        # A question in a group opens the reply field, which leaves no room for buttons.
        most = len(labels) if message.poll is not None else 0 if question else limits.choices
        longest = limits.text if message.attachment is None else limits.caption
        return fit(self._worded(message, words, limits), labels, most, longest, message.listed), stored

    def _worded(self, message: Message, words: Catalogue, limits: Limits) -> str:
        """The words of a message, with commands as this messenger's people write them."""
        html = words.html(message.text)
        return html if limits.sign == "/" else self.lab.spoken.sub(limits.sign, html)

    def _revise(self, row: int, adapter: str, parts: list[str], stored: str | None) -> None:
        # What was sent in parts is known by the last one: it has the choices.
        outbox.revise(self.connection, row, parts[-1], stored, self.now)
        self.adapters.add(adapter)

    def _queue(
        self,
        chat_id: int,
        ref: ChatRef,
        locale: str,
        message: Message,
        *,
        reply_to: str | None = None,
        question: bool = False,
        person_id: int | None = None,
        bulk: bool = False,
        fitted: tuple[list[str], str | None] | None = None,
    ) -> None:
        self._queued += self._rows(
            chat_id,
            ref.adapter,
            ref.thread,
            locale,
            message,
            reply_to=reply_to,
            question=question,
            person_id=person_id,
            bulk=bulk,
            fitted=fitted,
        )

    def _rows(
        self,
        chat_id: int,
        adapter: str,
        thread: str | None,
        locale: str,
        message: Message,
        *,
        reply_to: str | None,
        question: bool,
        person_id: int | None,
        bulk: bool,
        fitted: tuple[list[str], str | None] | None = None,
    ) -> list[dict[str, Any]]:
        """A message as rows of the outbox: one, or more where it is too long for the messenger."""
        parts, stored = fitted or self._fitted(adapter, locale, message, question=question)
        self.adapters.add(adapter)
        rows = []
        for part in parts:
            last = part is parts[-1]
            attachment = message.attachment if last else None
            rows.append(
                {
                    "chat_id": chat_id,
                    "adapter": adapter,
                    "bulk": bulk,
                    "thread": thread,
                    "reply_to": reply_to,
                    "question": question and last,
                    "person_id": person_id,
                    "html": part,
                    "choices": stored if last else None,
                    "revision": 0,
                    "attachment": None
                    if attachment is None
                    else json.dumps([attachment.name, attachment.media_type, attachment.maker, list(attachment.args)]),
                    "mentions": None
                    if message.mentions is None or not last
                    else json.dumps([message.mentions.who, list(message.mentions.args)]),
                    "subject": message.subject if last else None,
                    "poll": message.poll if last else None,
                    "version": 1,
                    "state": outbox.PENDING,
                    "unsure": 0,
                    "queued_at": self.now,
                }
            )
        return rows


def _message(what: Text | Message, choices: Choices) -> Message:
    return what if isinstance(what, Message) else Message(what, tuple(choices))


def _stored(choices: Choices, words: Catalogue) -> tuple[list[str], str | None]:
    """The choices' labels, and the choices as a row keeps them."""
    if not choices:
        return [], None
    labels = [words.plain(choice.label) for choice in choices]
    stored = [
        [label, choice.action, list(choice.args), choice.url, choice.start]
        for label, choice in zip(labels, choices, strict=True)
    ]
    return labels, json.dumps(stored, ensure_ascii=False)
