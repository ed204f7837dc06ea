"""Router: which function answers a command, a press, an answer, or the passing of time."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlmodel import Session

from bot.choices import chosen, typed_number
from bot.port import Command
from bot.text import Catalogues
from bot.turn import Registered, Turn, Where
from bot.types import (
    Choice,
    Edited,
    Ended,
    File,
    Garbled,
    Joined,
    Lines,
    N,
    Pressed,
    Retracted,
    Said,
    T,
    Text,
    Update,
    Voted,
)
from storage import outbox, people, reactions
from storage.people import Role

Handler = Callable[..., None]
Maker = Callable[..., bytes]
Who = Callable[..., Iterable[int]]

LARGEST_FILE = 256 * 1024
"""Bytes of a file that a function can be given."""

OUT_OF_DATE = T("This button is out of date. Write /help for the menu.")


@dataclass(frozen=True, slots=True)
class Tick:
    """A function the clock calls, every so many minutes."""

    name: str
    minutes: float
    handler: Callable[[Turn], None]


@dataclass(frozen=True, slots=True)
class Due:
    """A function the clock calls when the earliest of its rows falls due; ``next_due`` tells when that is."""

    name: str
    next_due: Callable[[Connection], datetime | None]
    handler: Callable[[Turn], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """A function for files of one kind, and who may send them."""

    media_type: str
    ending: str
    role: Role
    handler: Handler


class Duplicate(Exception):
    """Two functions claim the same command, step, press or place."""


class Router:
    """A table of functions. Each feature fills one of its own; ``include`` merges them into one."""

    def __init__(self) -> None:
        self.commands: dict[str, Registered] = {}
        self.presses: dict[str, Handler] = {}
        self.undos: dict[str, str] = {}
        self.steps: dict[str, Handler] = {}
        self.counting: set[str] = set()
        self.makers: dict[str, Maker] = {}
        self.whos: dict[str, Who] = {}
        self.ticks: list[Tick] = []
        self.dues: list[Due] = []
        self.replies: dict[str, Handler] = {}
        self.readers: dict[str, Reader] = {}
        self.singles: dict[str, Handler] = {}
        self.edits: list[Callable[[Turn, str], bool]] = []
        self.retractions: list[Callable[[Turn], bool]] = []
        self._names: dict[str, str] = {}

    # -- registration ---------------------------------------------------------------------------------------

    def command(
        self,
        name: str,
        *,
        help: Text,
        role: Role = Role.PARTICIPANT,
        where: Where = Where.ANYWHERE,
        admins: bool = False,
        instead: Text | None = None,
    ) -> Callable[[Handler], Handler]:
        """``f(turn, text)`` answers ``/name text``. The catalogues translate the name as well.

        ``instead`` tells those without the role what they can do.
        """

        def register(handler: Handler) -> Handler:
            _put(self.commands, name, Registered(name, help, role, where, handler, admins, instead))
            return handler

        return register

    def press(self, action: str, *, undo: str | None = None) -> Callable[[Handler], Handler]:
        """``f(turn, *args)`` answers a choice made with ``Choice(label, action, args)``.

        ``undo`` is the action, with the same arguments, for somebody who takes back the reaction they chose with.
        """
        if undo is not None:
            _put(self.undos, action, undo)
        return self._into(self.presses, action)

    def step(self, name: str, *, numbers: bool = False) -> Callable[[Handler], Handler]:
        """``f(turn, text)`` answers what a person writes after ``turn.ask(…, step=name)``.

        With ``numbers`` the answer may be one: then it does not mean a choice under our last message.
        """
        if numbers:
            self.counting.add(name)
        return self._into(self.steps, name)

    def reply(self, kind: str) -> Callable[[Handler], Handler]:
        """``f(turn, text, which)`` answers a reply to a message of ours about ``kind:which`` (``Message.subject``)."""
        return self._into(self.replies, kind)

    def file(self, media_type: str, ending: str, *, role: Role = Role.PARTICIPANT) -> Callable[[Handler], Handler]:
        """``f(turn, content, name)`` is given the bytes of a file of this kind that somebody sends in private.

        Messengers often know no better type than ``application/octet-stream``: then the name's ``ending`` tells. A
        file of somebody without the ``role`` is not fetched; one that cannot be had is answered here.
        """

        def register(handler: Handler) -> Handler:
            _put(self.readers, media_type, Reader(media_type, ending, role, handler))
            return handler

        return register

    def maker(self, name: str) -> Callable[[Maker], Maker]:
        """``f(session, *args)`` makes the bytes of an ``Attachment`` when it is delivered."""
        return self._into(self.makers, name)

    def mentioned(self, name: str) -> Callable[[Who], Who]:
        """``f(session, *args)`` tells the people whom a message with ``Mentions`` names, when it is delivered."""
        return self._into(self.whos, name)

    def every(self, *, minutes: float) -> Callable[[Handler], Handler]:
        """``f(turn)`` is called again and again."""

        def register(handler: Handler) -> Handler:
            self.ticks.append(Tick(f"{handler.__module__}.{handler.__qualname__}", minutes, handler))
            return handler

        return register

    def due(self, next_due: Callable[[Connection], datetime | None]) -> Callable[[Handler], Handler]:
        """``f(turn)`` handles some of the rows that are due, and is called again while more are.

        ``next_due(connection)`` is the earliest time at which one is (UTC), by one indexed query, ``None`` for never.
        A call is one transaction, so it takes a bounded number of rows, and leaves none of those due. Whoever stores
        a row says so: ``turn.due(at)``.
        """

        def register(handler: Handler) -> Handler:
            self.dues.append(Due(f"{handler.__module__}.{handler.__qualname__}", next_due, handler))
            return handler

        return register

    def notice(self, handler: Handler) -> Handler:
        """``f(turn)`` comes before everything a person does; it tells what they have to know first."""
        _put(self.singles, "notice", handler)
        return handler

    def otherwise(self, handler: Handler) -> Handler:
        """``f(turn, text)`` answers what is neither a command nor a choice nor an answer."""
        _put(self.singles, "otherwise", handler)
        return handler

    def joined(self, handler: Handler) -> Handler:
        """``f(turn)`` greets a chat the bot has come into, or come back to."""
        _put(self.singles, "joined", handler)
        return handler

    def garbled(self, handler: Handler) -> Handler:
        """``f(turn)`` tells a chat that something written there could not be read."""
        _put(self.singles, "garbled", handler)
        return handler

    def voted(self, handler: Handler) -> Handler:
        """``f(turn)`` takes an answer in the messenger's own poll that is ``turn.shown``."""
        _put(self.singles, "voted", handler)
        return handler

    def ended(self, handler: Handler) -> Handler:
        """``f(turn)`` hears that somebody has ended the messenger's own poll that is ``turn.shown``."""
        _put(self.singles, "ended", handler)
        return handler

    def edited(self, handler: Callable[[Turn, str], bool]) -> Callable[[Turn, str], bool]:
        """``f(turn, text)`` takes the new text of a message; True when the message was its own."""
        self.edits.append(handler)
        return handler

    def retracted(self, handler: Callable[[Turn], bool]) -> Callable[[Turn], bool]:
        """``f(turn)`` hears of a message that was taken back; True when the message was its own.

        Whoever has taken it back may be nobody we know (``turn.known``).
        """
        self.retractions.append(handler)
        return handler

    def include(self, other: "Router") -> None:
        """Take over another router's functions. Raises ``Duplicate``."""
        for mine, theirs in (
            (self.commands, other.commands),
            (self.presses, other.presses),
            (self.undos, other.undos),
            (self.steps, other.steps),
            (self.makers, other.makers),
            (self.whos, other.whos),
            (self.replies, other.replies),
            (self.readers, other.readers),
            (self.singles, other.singles),
        ):
            for name, value in theirs.items():
                _put(mine, name, value)
        self.counting |= other.counting
        self.ticks += other.ticks
        self.dues += other.dues
        self.edits += other.edits
        self.retractions += other.retractions

    def speak(self, catalogues: Catalogues) -> None:
        """Learn the commands' names in every language. Raises ``Duplicate`` when two have the same."""
        self._names = {name: name for name in self.commands}
        for name in self.commands:
            for alias in catalogues.aliases(name):
                if self._names.get(alias, name) != name:
                    raise Duplicate(f"“/{alias}” is both “/{name}” and “/{self._names[alias]}”")
                self._names[alias] = name

    def knows(self, command: str) -> bool:
        """Whether this is a command's name, in any language."""
        return _folded(command) in self._names

    def reader(self, update: Update) -> Reader | None:
        """Who reads the file that comes with this update, if anybody does."""
        if not isinstance(update, Said) or not update.private or not update.files:
            return None
        kind, name = update.files[0].media_type.partition(";")[0].strip().lower(), update.files[0].name.lower()
        for reader in self.readers.values():
            if kind == reader.media_type or name.endswith(reader.ending):
                return reader
        return None

    def spoken(self) -> re.Pattern[str]:
        """The sign before a command's name, in any language, where it stands in a text."""
        names = "|".join(sorted(map(re.escape, self._names), key=len, reverse=True))
        return re.compile(rf"(?<![\w/<:.])/(?=(?:{names})\b)")

    def menu(self, catalogues: Catalogues) -> list[Command]:
        """The commands for the messengers' own menus, in every language, the lab's first."""
        locales = sorted(catalogues, key=lambda locale: locale != catalogues.default)
        return [
            Command(
                catalogues[locale].gettext(command.name),
                catalogues[locale].plain(command.help),
                locale,
                command.role is Role.PARTICIPANT,
            )
            for locale in locales
            for command in self.commands.values()
        ]

    def _into(self, table: dict[str, Any], name: str) -> Callable[[Any], Any]:
        def register(handler: Any) -> Any:
            _put(table, name, handler)
            return handler

        return register

    # -- answering ------------------------------------------------------------------------------------------

    def respond(self, turn: Turn, update: Update) -> None:
        """Find the function for an update and call it."""
        match update:
            case Said() if update.actor.anonymous:
                self._anonymous(turn, update)
            case Said():
                self._said(turn, update)
            case Pressed():
                self._pressed(turn, update)
            case Edited():
                any(handler(turn, update.text) for handler in self.edits)
            case Voted() | Ended():
                turn.shown = outbox.shown(turn.connection, turn.chat.id, update.message.id)
                if turn.shown is not None and turn.shown.poll is not None:
                    self.singles["voted" if isinstance(update, Voted) else "ended"](turn)
            case Retracted():
                if not self._undo(turn, update):
                    any(handler(turn) for handler in self.retractions)
            case Joined():
                self.singles["joined"](turn)
            case Garbled():
                self.singles["garbled"](turn)

    def _anonymous(self, turn: Turn, said: Said) -> None:
        """A group or a channel speaks: it has no rights and no votes, so it is asked to speak as a person."""
        if said.command is not None and self.knows(said.command):
            turn.say(T("I cannot tell who you are, because you write as the group. Please write as yourself."))

    def _said(self, turn: Turn, said: Said) -> None:
        if said.command is not None:
            self._command(turn, said.command, said.text)
            return
        first, *rest = said.text.split(maxsplit=1) or [""]
        if said.mentioned and self.knows(first):
            self._command(turn, first, "".join(rest))
            return
        # With words beside it, while a question is open, a file is part of the answer.
        if (reader := self.reader(said)) is not None and (turn.dialog is None or not said.text):
            self._read(turn, reader, said.files[0])
            return
        meant = None
        if said.reply_to is not None:
            turn.shown = outbox.shown(turn.connection, turn.chat.id, said.reply_to.id)
            meant = None if turn.shown is None else self._meant(turn.shown.subject)
        answers_us = turn.chat.private or turn.shown is not None
        asks = meant is not None or (turn.shown is not None and turn.shown.choices is not None)
        if turn.chat.private and not asks and len(said.text) <= 64:
            turn.shown = outbox.shown_last(turn.connection, turn.chat.id, turn.dialog is not None)
        if answers_us and (choice := self._typed(turn, said.text)) is not None:
            self._choose(turn, choice)
        elif meant is not None:
            self._notice(turn)
            handler, which = meant
            handler(turn, said.text.strip(), which)
        elif answers_us and turn.dialog is not None and turn.dialog.step in self.steps and self._asked(turn):
            self._notice(turn)
            turn.shown = None
            self.steps[turn.dialog.step](turn, said.text.strip())
        elif answers_us and turn.dialog is None and (most := self._beyond(turn, said.text)):
            turn.say(N("There is only choice {n} here.", "Choose from 1 to {n} here.", n=most))
        elif turn.chat.private or said.mentioned:
            self._notice(turn)
            turn.shown = None
            self.singles["otherwise"](turn, said.text.strip())

    def _read(self, turn: Turn, reader: Reader, file: File) -> None:
        self._notice(turn)
        if not turn.may(reader.role):
            turn.say(T("Only the lab's organisers can send me such a file."))
        elif file.content is not None:
            reader.handler(turn, file.content, file.name)
        elif file.size is not None and file.size > LARGEST_FILE:
            turn.say(T("This file is too large for me to read: {most} KB fit.", most=LARGEST_FILE // 1024))
        else:
            turn.say(T("I could not fetch this file. Please send it once more."))

    def _meant(self, subject: str | None) -> tuple[Handler, str] | None:
        """Who answers replies to a message of ours about this, and about which one it is."""
        kind, _, which = (subject or "").partition(":")
        handler = self.replies.get(kind)
        return None if handler is None else (handler, which)

    def _asked(self, turn: Turn) -> bool:
        """In a group, a reply answers a question only when the question was put to this person."""
        return turn.chat.private or (turn.shown is not None and turn.shown.person_id == turn.person.id)

    def _command(self, turn: Turn, name: str, text: str) -> None:
        command = self.commands.get(self._names.get(_folded(name), ""))
        if command is None:
            if turn.chat.private:
                self._notice(turn)
                turn.say(T("I do not know the command /{name}. Write /help to see what I can do.", name=name))
            return
        self._notice(turn)
        if not (turn.may_set_up(command.role) if command.admins else turn.may(command.role)):
            refusal = T("Only the lab's organisers can use /{name}.", name=name)
            turn.say(refusal if command.instead is None else Lines([refusal, command.instead], " "))
        elif command.where is Where.PRIVATE and not turn.chat.private and turn.begins:
            with turn.aside() as private:
                command.handler(private, text.strip())
        elif command.where is Where.PRIVATE and not turn.chat.private:
            turn.say(
                T("That works in our private chat."),
                Choice(T("Open the private chat"), start=command.name),
            )
        elif command.where is Where.GROUP and turn.chat.private:
            turn.say(T("That works in a group. Write /{name} there.", name=name))
        else:
            command.handler(turn, text.strip())

    def _typed(self, turn: Turn, text: str) -> int | None:
        if turn.shown is None or turn.shown.choices is None:
            return None
        if turn.dialog is not None and turn.dialog.step in self.counting and typed_number(text) is not None:
            return None
        return chosen(text, [label for label, *_ in json.loads(turn.shown.choices)])

    def _beyond(self, turn: Turn, text: str) -> int:
        """How many choices there are under ``turn.shown`` for a typed number that is none of them, else 0."""
        if turn.shown is None or turn.shown.choices is None or typed_number(text) is None:
            return 0
        return len(json.loads(turn.shown.choices))

    def _pressed(self, turn: Turn, pressed: Pressed) -> None:
        turn.shown = outbox.shown(turn.connection, turn.chat.id, pressed.message.id)
        if turn.shown is None or turn.shown.choices is None or pressed.revision not in (None, turn.shown.revision):
            turn.toast(OUT_OF_DATE)
            return
        self._choose(turn, pressed.position)

    def _undo(self, turn: Turn, retracted: Retracted) -> bool:
        """A reaction is taken back: do what undoes it. False when it was no reaction of this person's to us."""
        if not turn.known:
            return False
        external = retracted.message.id
        found = reactions.take_back(turn.connection, turn.chat.id, external, turn.person.id)
        if found is None:
            return False
        message, action, args = found
        turn.shown = outbox.shown(turn.connection, turn.chat.id, message)
        self.presses[action](turn, *args)
        return True

    def _choose(self, turn: Turn, position: int) -> None:
        """Do what a choice under ``turn.shown`` means, if it is there and this person may."""
        shown = turn.shown
        stored = [] if shown is None or shown.choices is None else json.loads(shown.choices)
        if not 0 <= position < len(stored):
            turn.toast(OUT_OF_DATE)
            return
        _, action, args, url, start = stored[position]
        if shown is not None and shown.person_id not in (None, turn.person.id):
            turn.toast(T("This question is for somebody else."))
        elif url is not None:
            turn.say(T("Here is the page: {url}", url=url))
        elif start is not None and turn.begins:
            self._notice(turn)
            with turn.aside() as private:
                self.commands["start"].handler(private, start)
        elif start is not None:
            turn.say(T("Write me in our private chat: /start {payload}", payload=start))
        elif action in self.presses:
            self._notice(turn)
            if isinstance(turn.update, Pressed) and turn.update.mark is not None and action in self.undos:
                mark, message = turn.update.mark, turn.update.message.id
                reactions.note(
                    turn.connection, turn.chat.id, mark, turn.person.id, message, self.undos[action], args, turn.now
                )
            self.presses[action](turn, *args)
        else:
            turn.toast(OUT_OF_DATE)

    def _notice(self, turn: Turn) -> None:
        if "notice" in self.singles:
            self.singles["notice"](turn)

    def make(self, session: Session, maker: str, args: Iterable[str]) -> bytes:
        """The bytes of an attachment."""
        return self.makers[maker](session, *args)

    def named(self, session: Session, adapter: str, who: str, args: Iterable[str]) -> list[str]:
        """The accounts on a messenger of the people whom a message names."""
        return people.known_as(session, adapter, self.whos[who](session, *args))


_FOLDED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


def _folded(name: str) -> str:
    """A command's name as people type it, as messengers' menus take it: “/einlösen” is “/einloesen”."""
    return name.lower().translate(_FOLDED)


def _put(table: dict[str, Any], name: str, value: Any) -> None:
    if name in table:
        raise Duplicate(f"“{name}” is claimed twice")
    table[name] = value
