"""A strict Telegram Bot API server on loopback: people and groups on one side, the bot on the other, faults in between.

In a test:

    async with TelegramServer() as server:
        bot = telegram.Bot(server.token, base_url=f"{server.url}/bot", base_file_url=f"{server.url}/file/bot")
        ada = server.user(first_name="Ada")
        server.say(ada, server.private(ada), "/start")
        await server.wait_for(lambda: server.sent(ada.id))

As a process, for a bot that is killed: ``python -m tests.adapters.telegram_server --port 8081 --token T``. It prints
its root address on one line; every verb of the user side is then ``POST /control/<verb>`` with the arguments as a JSON
object, or ``await Control(url, session)("say", user=…, chat=…, text=…)``.

A call takes effect when it arrives and the latency delays only its answer: that is the worst case for a client that is
killed while it waits, so repeats are never undercounted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import itertools
import json
import math
import random
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp import web

__all__ = [
    "TOKEN",
    "Call",
    "Chat",
    "Control",
    "File",
    "Message",
    "Query",
    "Rates",
    "TelegramServer",
    "User",
    "parse_html",
]

TOKEN: Final = "110201543:CANARY-never-in-a-log-0123456789abcd"
"""A well-formed token that opens nothing: a test greps all output for it."""

MEGABYTE: Final = 1024 * 1024
UPLOAD_LIMIT: Final = 50 * MEGABYTE
DOWNLOAD_LIMIT: Final = 20 * MEGABYTE
PHOTO_LIMIT: Final = 10 * MEGABYTE
PRESS_LIFETIME: Final = 150.0
UPDATE_LIFETIME: Final = 24 * 3600.0
DELETE_WITHIN: Final = 48 * 3600.0

GROUP_ANONYMOUS_BOT: Final = 1087968824
CHANNEL_BOT: Final = 136817688
TELEGRAM: Final = 777000

# Sent only to a bot that names them.
_OPT_IN: Final = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
_HERE: Final = frozenset({"member", "administrator", "creator", "restricted"})

Json = dict[str, Any]
T = TypeVar("T")


class Refusal(Exception):
    """What the Bot API answers instead of a result."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


def bad(description: str) -> Refusal:
    return Refusal(400, f"Bad Request: {description}")


# --- text ------------------------------------------------------------------------------------------------------------


def units(text: str) -> int:
    """Length in UTF-16 code units, the measure of all Telegram offsets."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


_TAGS: Final = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
}
_NAMED: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_SPECIAL: Final = re.compile(r"[<&]")
_REFERENCE: Final = re.compile(r"&(?:#[xX]([0-9a-fA-F]{1,8})|#([0-9]{1,8})|(lt|gt|amp|quot)(?![A-Za-z]));?")
_SPACE: Final = re.compile(r"\s*")
_TAG_NAME: Final = re.compile(r"[^\s>]*")
_ATTRIBUTE_NAME: Final = re.compile(r"[^\s=>]*")
_NAME_TOKEN: Final = re.compile(r"[A-Za-z0-9.-]*")


def _referenced(match: re.Match[str]) -> str:
    """The character a reference stands for, or the text itself where Telegram leaves it alone."""
    hexadecimal, decimal, name = match.groups()
    if name:
        return _NAMED[name]
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    if code == 0 or code >= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return match.group()
    return chr(code)


def parse_html(source: str) -> tuple[str, list[Json]]:
    """Text and entities of Telegram's HTML; raises Refusal with Telegram's words and byte offsets."""
    if "<" not in source and "&" not in source:
        return source, []

    def unparsed(what: str, at: int | None = None, rest: str = "") -> Refusal:
        where = "" if at is None else f" at byte offset {len(source[:at].encode('utf-8', 'surrogatepass'))}"
        return bad(f"can't parse entities: {what}{where}{rest}")

    size = len(source)
    out: list[str] = []
    length = 0
    position = 0
    opened: list[tuple[str, dict[str, str], int, int]] = []
    entities: list[Json] = []

    def blank(at: int) -> int:
        found = _SPACE.match(source, at)
        return found.end() if found else at

    while special := _SPECIAL.search(source, position):
        begin = special.start()
        if begin > position:
            out.append(source[position:begin])
            length += units(out[-1])
        if source[begin] == "&":
            reference = _REFERENCE.match(source, begin)
            out.append(_referenced(reference) if reference else "&")
            length += units(out[-1])
            position = reference.end() if reference else begin + 1
            continue
        closing = source.startswith("/", begin + 1)
        named = _TAG_NAME.match(source, begin + 2 if closing else begin + 1)
        assert named is not None  # the pattern also matches nothing
        tag, at = named.group().lower(), named.end()
        if closing:
            if not opened:
                raise unparsed("Unexpected end tag", begin)
            at = blank(at)
            if not source.startswith(">", at):
                raise unparsed("Unclosed end tag", begin)
            expected, attributes, offset, first = opened.pop()
            if tag and tag != expected:
                raise unparsed("Unmatched end tag", begin, f', expected "</{expected}>", found "</{tag}>"')
            position = at + 1
            if length > offset:
                entity = _entity(expected, attributes, offset, length - offset, "".join(out[first:]))
                if entity is not None:
                    _nest(entities, entity)
            continue
        if at >= size:
            raise unparsed("Unclosed start tag", begin)
        if tag not in _TAGS:
            raise unparsed(f'Unsupported start tag "{tag}"', begin)
        attributes = {}
        while True:
            at = blank(at)
            if at >= size:
                raise unparsed("Unclosed start tag", begin)
            if source[at] == ">":
                break
            attribute = _ATTRIBUTE_NAME.match(source, at)
            assert attribute is not None  # the pattern also matches nothing
            if not attribute.group():
                raise unparsed(f'Empty attribute name in the tag "{tag}"', begin)
            at = blank(attribute.end())
            if not source.startswith("=", at):
                if tag != "blockquote" or attribute.group().lower() != "expandable":
                    raise unparsed(f'Expected equal sign in declaration of an attribute of the tag "{tag}"', begin)
                attributes["expandable"] = ""
                continue
            at = blank(at + 1)
            if at >= size:
                raise unparsed(f'Unclosed start tag "{tag}"', begin)
            if source[at] in "\"'":
                end = source.find(source[at], at + 1)
                if end < 0:
                    raise unparsed("Unclosed start tag", begin)
                value, at = _REFERENCE.sub(_referenced, source[at + 1 : end]), end + 1
            else:
                token = _NAME_TOKEN.match(source, at)
                assert token is not None  # the pattern also matches nothing
                value = token.group().lower()
                if token.end() < size and source[token.end()] != ">" and not source[token.end()].isspace():
                    raise unparsed("Unexpected end of name token", at)
                at = token.end()
            attributes[attribute.group().lower()] = value
        if tag == "span" and attributes.get("class") != "tg-spoiler":
            raise unparsed('Tag "span" must have class "tg-spoiler"', begin)
        opened.append((tag, attributes, length, len(out)))
        position = at + 1
    out.append(source[position:])
    if opened:
        raise unparsed(f'Can\'t find end tag corresponding to start tag "{opened[-1][0]}"')
    entities.sort(key=lambda entity: (entity["offset"], -entity["length"]))
    for entity in entities:
        if entity["type"] == "code":
            entity.pop("language", None)
    return "".join(out), entities


def _entity(tag: str, attributes: Mapping[str, str], offset: int, length: int, inner: str) -> Json | None:
    entity: Json = {"type": _TAGS[tag], "offset": offset, "length": length}
    if tag == "a":
        url = attributes.get("href") or inner
        mentioned = re.fullmatch(r"tg://user\?id=([0-9]+)", url)
        if mentioned:
            entity["type"] = "text_mention"
            entity["user"] = {"id": int(mentioned.group(1)), "is_bot": False, "first_name": inner}
        elif _host(url) or url.startswith("tg://"):
            entity["url"] = url
        else:
            return None  # Telegram shows a link without a usable address as plain text
    elif tag == "blockquote" and "expandable" in attributes:
        entity["type"] = "expandable_blockquote"
    elif tag == "code" and attributes.get("class", "").startswith("language-"):
        entity["language"] = attributes["class"].removeprefix("language-")
    return entity


def _nest(entities: list[Json], entity: Json) -> None:
    """Adds an entity; code inside pre, or pre inside code, over the same words is one pre with a language."""
    last = entities[-1] if entities else None
    pair = {"pre", "code"}
    if (
        last is not None
        and (last["offset"], last["length"]) == (entity["offset"], entity["length"])
        and {last["type"], entity["type"]} == pair
        and ("language" in last or "language" in entity)
    ):
        last["language"] = last.get("language") or entity.get("language")
        last["type"] = "pre"
    else:
        entities.append(entity)


_FOUND: Final = re.compile(
    r"(?P<url>https?://[^\s<>\"]+)"
    r"|(?<![\w/@.<>])(?P<bot_command>/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?)(?![\w/])"
    r"|(?<![\w@/])(?P<mention>@[A-Za-z0-9_]{4,32})(?!\w)"
)


def found_entities(text: str) -> list[Json]:
    """Commands, mentions and addresses that Telegram marks by itself."""
    if "/" not in text and "@" not in text:
        return []
    return [
        {"type": match.lastgroup, "offset": units(text[: match.start()]), "length": units(match.group())}
        for match in _FOUND.finditer(text)
    ]


def _trimmed(text: str, entities: list[Json]) -> tuple[str, list[Json]]:
    """Telegram cuts white space at both ends of a message."""
    cleaned = text.strip()
    if len(cleaned) == len(text):
        return text, entities
    lead = units(text[: len(text) - len(text.lstrip())])
    end = units(cleaned)
    kept = []
    for entity in entities:
        first = max(entity["offset"] - lead, 0)
        last = min(entity["offset"] - lead + entity["length"], end)
        if last > first:
            kept.append({**entity, "offset": first, "length": last - first})
    return cleaned, kept


def _host(url: str) -> str | None:
    """The host of an http(s) address that Telegram takes in a button, or None."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "." not in host or any(c.isspace() for c in url):
        return None
    return host


# --- what there is ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class User:
    """An account; `started`, `blocked` and `deactivated` say how it stands to the bot."""

    id: int
    first_name: str
    last_name: str | None = None
    username: str | None = None
    language_code: str | None = None
    is_bot: bool = False
    started: bool = False
    blocked: bool = False
    deactivated: bool = False

    def wire(self) -> Json:
        return {
            name: value
            for name in ("id", "is_bot", "first_name", "last_name", "username", "language_code")
            if (value := getattr(self, name)) is not None
        }


@dataclasses.dataclass(slots=True)
class File:
    """A stored file; `path` is set once getFile has been called. `size` may claim more than `data` holds."""

    id: str
    unique_id: str
    name: str
    mime: str
    size: int
    data: bytes
    path: str | None = None
    width: int = 0
    height: int = 0

    def wire(self) -> Json:
        return {"file_id": self.id, "file_unique_id": self.unique_id, "file_size": self.size}


@dataclasses.dataclass(slots=True)
class Version:
    """How a message looked before an edit."""

    text: str | None
    entities: list[Json]
    markup: Json | None
    date: int


@dataclasses.dataclass(slots=True)
class Message:
    """One message of a chat. `text` is what is shown (for a file: its caption), `html` is what was sent."""

    chat: Chat
    id: int
    date: int
    sender: User | None
    sender_chat: Chat | None = None
    from_bot: bool = False
    text: str | None = None
    entities: list[Json] = dataclasses.field(default_factory=list)
    html: str | None = None
    markup: Json | None = None
    reply_to: int | None = None
    reply_chat: Chat | None = None
    thread: int | None = None
    file: File | None = None
    photo: bool = False
    edit_date: int | None = None
    edits: list[Version] = dataclasses.field(default_factory=list)
    deleted: bool = False
    silent: bool = False
    preview: bool = True
    extra: Json = dataclasses.field(default_factory=dict)

    @property
    def buttons(self) -> list[list[tuple[str, str]]]:
        """The inline keyboard as rows of (label, callback data or address)."""
        rows = (self.markup or {}).get("inline_keyboard", [])
        return [
            [(button["text"], str(button.get("callback_data", button.get("url", "")))) for button in row]
            for row in rows
        ]

    @property
    def document(self) -> bytes | None:
        return self.file.data if self.file else None

    def wire(self, nested: bool = False) -> Json:
        body: Json = {"message_id": self.id, "date": self.date, "chat": self.chat.wire()}
        if self.sender is not None:
            body["from"] = self.sender.wire()
        if self.sender_chat is not None:
            body["sender_chat"] = self.sender_chat.wire()
        if self.thread is not None:
            body["message_thread_id"] = self.thread
            if self.chat.is_forum:
                body["is_topic_message"] = True
        if self.reply_to is not None and not nested:
            replied = (self.reply_chat or self.chat).messages.get(self.reply_to)
            if replied is not None and not replied.deleted:
                body["reply_to_message"] = replied.wire(nested=True)
        if self.edit_date is not None:
            body["edit_date"] = self.edit_date
        if self.file is not None:
            if self.photo:
                body["photo"] = [{**self.file.wire(), "width": self.file.width, "height": self.file.height}]
            else:
                body["document"] = {**self.file.wire(), "file_name": self.file.name, "mime_type": self.file.mime}
        if self.text is not None:
            words, marks = ("caption", "caption_entities") if self.file else ("text", "entities")
            body[words] = self.text
            if self.entities:
                body[marks] = self.entities
        if self.markup is not None and "inline_keyboard" in self.markup:
            body["reply_markup"] = self.markup
        body.update(self.extra)
        return body

    def record(self) -> Json:
        """Everything a test asks about, for the control interface."""
        return {
            "chat": self.chat.id,
            "message_id": self.id,
            "date": self.date,
            "from": self.sender.id if self.sender else None,
            "from_bot": self.from_bot,
            "text": self.text,
            "entities": self.entities,
            "html": self.html,
            "buttons": self.buttons,
            "markup": self.markup,
            "reply_to": self.reply_to,
            "thread": self.thread,
            "file": None if self.file is None else {**self.file.wire(), "name": self.file.name, "mime": self.file.mime},
            "edits": [{"text": edit.text, "entities": edit.entities, "markup": edit.markup} for edit in self.edits],
            "deleted": self.deleted,
            "silent": self.silent,
            "preview": self.preview,
            **({"extra": self.extra} if self.extra else {}),
        }


@dataclasses.dataclass(slots=True)
class Chat:
    """A private chat, a group, a supergroup or a channel; message ids are counted per chat."""

    id: int
    type: str
    instance: str
    title: str | None = None
    user: User | None = None
    is_forum: bool = False
    bot_status: str = "left"
    ever: bool = False
    statuses: dict[int, str] = dataclasses.field(default_factory=dict)
    threads: dict[int, str] = dataclasses.field(default_factory=dict)
    migrated_to: int | None = None
    messages: dict[int, Message] = dataclasses.field(default_factory=dict)
    sent: list[Message] = dataclasses.field(default_factory=list)
    last_id: int = 0

    def wire(self) -> Json:
        body: Json = {"id": self.id, "type": self.type}
        if self.title is not None:
            body["title"] = self.title
        if self.user is not None:
            body["first_name"] = self.user.first_name
            if self.user.username:
                body["username"] = self.user.username
        if self.is_forum:
            body["is_forum"] = True
        return body

    def record(self) -> Json:
        return {**self.wire(), "bot_status": self.bot_status, "migrated_to": self.migrated_to, "threads": self.threads}


@dataclasses.dataclass(slots=True)
class Answer:
    """One answerCallbackQuery."""

    query: str
    text: str | None
    alert: bool
    time: float


@dataclasses.dataclass(slots=True)
class Query:
    """A button press and how it was answered."""

    id: str
    user: User
    chat: Chat
    message: int
    data: str
    time: float
    answers: list[Answer] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Call:
    """One call of the bot; `code` is what it was answered (None: never answered), `fault` what was done to it."""

    method: str
    params: Json
    time: float
    code: int | None = None
    fault: str | None = None

    @property
    def chat(self) -> int | None:
        """The chat it names, if by number."""
        return _number(self.params.get("chat_id"))


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """Limits on sends and edits, each a number of calls in a sliding window of seconds.

    `private` is 3 in 3 s rather than 1 in 1 s: like the real server it lets a short burst through and holds the average
    of one a second. `jitter` shortens each window a little, since the network delays one request more than the next
    and a client that paces exactly must not be refused for it.
    """

    overall: int = 30
    overall_seconds: float = 1.0
    private: int = 3
    private_seconds: float = 3.0
    group: int = 20
    group_seconds: float = 60.0
    jitter: float = 0.05
    edits: bool = True


class _Window:
    """A sliding window; once it has refused, it stays shut until the announced pause is over."""

    __slots__ = ("jitter", "limit", "paused_until", "seconds", "times")

    def __init__(self, limit: int, seconds: float, jitter: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.jitter = jitter
        self.times: deque[float] = deque()
        self.paused_until = -math.inf

    def wait(self, now: float) -> int:
        """Whole seconds to wait, 0 if there is room."""
        if self.paused_until - now > self.jitter:
            return math.ceil(self.paused_until - now)
        while self.times and now - self.times[0] >= self.seconds - self.jitter:
            self.times.popleft()
        if len(self.times) < self.limit:
            return 0
        seconds = max(1, math.ceil(self.times[0] + self.seconds - now))
        self.paused_until = now + seconds
        return seconds


@dataclasses.dataclass(slots=True)
class _Fault:
    method: str
    kind: str
    times: int
    retry_after: int | None
    chat: int | None
    description: str | None


_KINDS: Final = frozenset({"timeout", "cut_before", "cut_after", "timeout_after", "garbage"})
_REASONS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _kind(kind: int | str) -> str:
    name = str(kind)
    if name not in _KINDS and not (name.isdecimal() and 400 <= int(name) <= 599):
        raise ValueError(f"unknown fault {name!r}: an HTTP code or one of {', '.join(sorted(_KINDS))}")
    return name


@dataclasses.dataclass(slots=True)
class _Pending:
    """An update that is not confirmed yet."""

    id: int
    update: Any
    lane: int
    time: float
    press: bool
    done: bool = False


# --- parameters ------------------------------------------------------------------------------------------------------


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    return None


class _Params:
    """The parameters of a call, whichever way they came; a value of a wrong type is refused, an unknown name is not."""

    __slots__ = ("files", "values")

    def __init__(self, values: Json, files: Mapping[str, tuple[str, str, bytes]]) -> None:
        self.values = values
        self.files = files

    def _wrong(self, name: str, kind: str) -> Refusal:
        return bad(f'field "{name}" must be of type {kind}')

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "String")

    def integer(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None:
            raise self._wrong(name, "Integer")
        return number

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if isinstance(value, bool):
            return value
        if value is None:
            return False
        word = str(value).lower()
        if word in ("true", "yes", "1"):
            return True
        if word in ("false", "no", "0", ""):
            return False
        raise self._wrong(name, "Boolean")

    def _json(self, name: str, what: str) -> Any:
        value = self.values.get(name)
        if isinstance(value, str):
            if not value:
                return None
            try:
                return json.loads(value)
            except ValueError:
                raise bad(f"can't parse {what} JSON object") from None
        return value

    def record(self, name: str, what: str) -> Json | None:
        value = self._json(name, what)
        if value is None or isinstance(value, dict):
            return value
        raise bad(f"can't parse {what}: expected an Object")

    def array(self, name: str, what: str) -> list[Any] | None:
        value = self._json(name, what)
        if value is None or isinstance(value, list):
            return value
        raise bad(f"can't parse {what}: expected an Array")


def _words(params: _Params, name: str, entities_name: str) -> tuple[str, list[Json]]:
    """What will be shown, and its marks."""
    source = (params.text(name) or "").replace("\r", "")
    mode = (params.text("parse_mode") or "").lower()
    if mode == "html":
        shown, entities = parse_html(source)
    elif mode in ("", "none"):
        shown = source
        entities = _given_entities(params.array(entities_name, "entities") or [], units(source))
    else:
        # labbot writes HTML only, so that a Markdown mode could only be a mistake.
        raise bad("unsupported parse_mode")
    shown, entities = _trimmed(shown, entities)
    found = found_entities(shown)
    if found and entities:
        # Nothing is marked inside a link or code, as on the real server.
        taken = [entity for entity in entities if entity["type"] in _OPAQUE]
        found = [entity for entity in found if not any(_overlap(entity, other) for other in taken)]
        entities = sorted(entities + found, key=lambda entity: (entity["offset"], -entity["length"]))
    return shown, entities or found


_OPAQUE: Final = frozenset({"code", "pre", "text_link", "text_mention", "bot_command", "mention", "url"})


def _overlap(one: Json, other: Json) -> bool:
    return bool(one["offset"] < other["offset"] + other["length"] and other["offset"] < one["offset"] + one["length"])


def _given_entities(given: list[Any], length: int) -> list[Json]:
    for entity in given:
        if not isinstance(entity, dict):
            raise bad("can't parse entities: expected an Object")
        offset, size = _number(entity.get("offset")), _number(entity.get("length"))
        if offset is None or size is None or offset < 0 or size < 1 or offset + size > length:
            raise bad("can't parse entities: entity has a wrong position")
    return given


_SPECIAL_BUTTONS: Final = (
    "web_app",
    "login_url",
    "switch_inline_query",
    "switch_inline_query_current_chat",
    "switch_inline_query_chosen_chat",
    "copy_text",
    "callback_game",
    "pay",
)


def _inline_button(button: object) -> Json:
    if not isinstance(button, dict):
        raise bad("can't parse inline keyboard button: InlineKeyboardButton must be an Object")
    label = button.get("text")
    if not isinstance(label, str):
        raise bad("can't parse inline keyboard button: Can't find field \"text\"")
    if not label.strip():
        raise bad("can't parse inline keyboard button: inline keyboard button text must be non-empty")
    kinds = [name for name in ("callback_data", "url", *_SPECIAL_BUTTONS) if button.get(name) is not None]
    if not kinds:
        raise bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    if len(kinds) > 1:
        raise bad("BUTTON_TYPE_INVALID")
    if kinds[0] == "callback_data":
        data = button["callback_data"]
        if not isinstance(data, str) or not 1 <= len(data.encode()) <= 64:
            raise bad("BUTTON_DATA_INVALID")
    elif kinds[0] == "url":
        url = button["url"]
        if not isinstance(url, str) or not (url.startswith("tg://") or _host(url)):
            raise bad(f"inline keyboard button URL '{url}' is invalid: Wrong HTTP URL")
    return button


def _markup(params: _Params, inline_only: bool = False) -> Json | None:
    markup = params.record("reply_markup", "reply keyboard markup")
    if not markup:
        return None
    if "inline_keyboard" in markup:
        rows = markup["inline_keyboard"]
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise bad('field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays')
        kept = [[_inline_button(button) for button in row] for row in rows if row]
        if sum(map(len, kept)) > 100:
            raise bad("reply markup is too long")
        return {"inline_keyboard": kept} if kept else None
    if inline_only:
        raise bad("inline keyboard expected")
    if "keyboard" in markup:
        rows = markup["keyboard"]
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise bad('field "keyboard" of the ReplyKeyboardMarkup must be an Array of Arrays')
        for button in itertools.chain.from_iterable(rows):
            label = button.get("text") if isinstance(button, dict) else button
            if not isinstance(label, str) or not label:
                raise bad("can't parse keyboard button: KeyboardButton text must be non-empty")
    elif markup.get("remove_keyboard") is not True and markup.get("force_reply") is not True:
        raise bad("object expected as reply markup")
    placeholder = markup.get("input_field_placeholder")
    if placeholder is not None and (not isinstance(placeholder, str) or not 1 <= len(placeholder) <= 64):
        raise bad("input field placeholder must be 1-64 characters long")
    return markup


def _picture(data: bytes) -> tuple[int, int]:
    """Width and height of a picture; only PNG tells them without decoding."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith((b"\xff\xd8\xff", b"GIF8")) or data[8:12] == b"WEBP":
        return 800, 600
    raise bad("IMAGE_PROCESS_FAILED")


_RIGHTS: Final = (
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
    "can_pin_messages",
    "can_manage_topics",
)
_PERMISSIONS: Final = (
    "can_send_messages",
    "can_send_audios",
    "can_send_documents",
    "can_send_photos",
    "can_send_videos",
    "can_send_video_notes",
    "can_send_voice_notes",
    "can_send_polls",
    "can_send_other_messages",
    "can_add_web_page_previews",
    "can_change_info",
    "can_invite_users",
    "can_pin_messages",
    "can_manage_topics",
    "can_edit_tag",
    "can_react_to_messages",
)


def _member(user: User, status: str) -> Json:
    body: Json = {"user": user.wire(), "status": status}
    if status == "administrator":
        body |= {"can_be_edited": False, "is_anonymous": False, **dict.fromkeys(_RIGHTS, True)}
    elif status == "creator":
        body["is_anonymous"] = False
    elif status == "kicked":
        body["until_date"] = 0
    elif status == "restricted":
        body |= {"is_member": True, "until_date": 0, **dict.fromkeys(_PERMISSIONS, False)}
    return body


_SCOPES: Final = {
    "default": (),
    "all_private_chats": (),
    "all_group_chats": (),
    "all_chat_administrators": (),
    "chat": ("chat_id",),
    "chat_administrators": ("chat_id",),
    "chat_member": ("chat_id", "user_id"),
}
_ACTIONS: Final = frozenset(
    {
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    }
)
_NOT_MODIFIED: Final = (
    "message is not modified: specified new message content and reply markup are exactly the same"
    " as a current content and reply markup of the message"
)
_CONFLICT: Final = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_WEBHOOK_ACTIVE: Final = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
_BAD_GATEWAY: Final = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    "<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)
_BOT_PATH: Final = re.compile(r"/bot([^/]*)/([A-Za-z]+)/?")
_FILE_PATH: Final = re.compile(r"/file/bot([^/]*)/(.+)")
_TOKEN: Final = re.compile(r"[0-9]+:[A-Za-z0-9_-]{20,}")


class TelegramServer:
    """The whole of Telegram that a bot can see.

    `clock` gives wall time in seconds; `skip` moves it on. `latency` is seconds added to each answer. `rates` may be
    True for the defaults. Leaving the context raises what crashed inside the server, so that a fault of the server
    itself never looks like a refusal.
    """

    def __init__(
        self,
        token: str = TOKEN,
        *,
        latency: float = 0.0,
        rates: bool | Rates = False,
        clock: Callable[[], float] = time.time,
        username: str = "labbot_test_bot",
        port: int = 0,
    ) -> None:
        self.token = token
        self.latency = latency
        self.clock = clock
        self.privacy = True
        self.query_lifetime = PRESS_LIFETIME
        self.webhook_retry = 0.05
        self.url = ""
        self.port = port
        self.bot = User(int(token.partition(":")[0]), "labbot", username=username, is_bot=True)
        self.users: dict[int, User] = {
            self.bot.id: self.bot,
            GROUP_ANONYMOUS_BOT: User(GROUP_ANONYMOUS_BOT, "Group", username="GroupAnonymousBot", is_bot=True),
            CHANNEL_BOT: User(CHANNEL_BOT, "Channel", username="Channel_Bot", is_bot=True),
            TELEGRAM: User(TELEGRAM, "Telegram"),
        }
        self.chats: dict[int, Chat] = {}
        self.files: dict[str, File] = {}
        self.queries: dict[str, Query] = {}
        self.outgoing: list[Message] = []
        self.answers: list[Answer] = []
        self.calls: list[Call] = []
        self.crashes: list[Exception] = []
        self.refused_429 = 0
        self.refused_409 = 0
        self.hasty = 0
        self.confirmed = 0
        self.allowed_updates: list[str] = []
        self.webhook: Json | None = None
        self.descriptions: dict[tuple[str, str], str] = {}
        self._calls: dict[str, list[Call]] = {}
        self._rates: Rates | None = None
        self._overall: _Window | None = None
        self._windows: dict[int, _Window] = {}
        self._announced: dict[int | None, float] = {}
        self._skipped = 0.0
        self._faults: list[_Fault] = []
        self._flaky: tuple[float, list[str], random.Random, frozenset[str]] | None = None
        self._pending: deque[_Pending] = deque()
        self._update_id = 700_000_000
        # Beyond 32 bits, so that a column too small for an id shows.
        self._user_ids = itertools.count(5_000_000_001)
        self._group_ids = itertools.count(4_000_001)
        self._supergroup_ids = itertools.count(2_000_000_001)
        self._serial = itertools.count(1)
        self._commands: dict[tuple[str, int, int, str], list[Json]] = {}
        self._paths: dict[str, File] = {}
        self._poll: asyncio.Future[str] | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._lanes: dict[int, deque[_Pending]] = {}
        self._lane_tasks: dict[int, asyncio.Task[None]] = {}
        self._connections = asyncio.Semaphore(40)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self.rates = rates
        self._methods: dict[str, Callable[[_Params], Any]] = {
            name.lower(): method
            for name, method in {
                "getMe": self._get_me,
                "setWebhook": self._set_webhook,
                "deleteWebhook": self._delete_webhook,
                "getWebhookInfo": self._get_webhook_info,
                "sendMessage": self._send_message,
                "sendPhoto": lambda params: self._send_file(params, "photo"),
                "sendDocument": lambda params: self._send_file(params, "document"),
                "editMessageText": self._edit_text,
                "editMessageCaption": self._edit_caption,
                "editMessageReplyMarkup": self._edit_markup,
                "deleteMessage": self._delete_message,
                "deleteMessages": self._delete_messages,
                "answerCallbackQuery": self._answer_callback_query,
                "setMyCommands": self._set_my_commands,
                "getMyCommands": self._get_my_commands,
                "deleteMyCommands": self._delete_my_commands,
                "setMyName": lambda params: self._describe(params, "name", 64),
                "setMyDescription": lambda params: self._describe(params, "description", 512),
                "setMyShortDescription": lambda params: self._describe(params, "short_description", 120),
                "getMyName": lambda params: self._described(params, "name"),
                "getMyDescription": lambda params: self._described(params, "description"),
                "getMyShortDescription": lambda params: self._described(params, "short_description"),
                "getChat": self._get_chat,
                "getChatMember": self._get_chat_member,
                "getChatMemberCount": self._get_chat_member_count,
                "getChatAdministrators": self._get_chat_administrators,
                "getFile": self._get_file,
                "leaveChat": self._leave_chat,
                "sendChatAction": self._send_chat_action,
                "close": lambda params: True,
                "logOut": lambda params: True,
            }.items()
        }
        self._verbs: dict[str, Callable[..., Any]] = self._control_verbs()

    # --- running -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=UPLOAD_LIMIT + 2 * MEGABYTE)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Handlers end with their client, so that a poller that was killed does not stay the current poller.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._poll is not None and not self._poll.done():
            self._poll.cancel()
        await self._stop_lanes()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self.crashes and error is None:
            raise self.crashes[0]

    @property
    def rates(self) -> Rates | None:
        """The limits that are enforced, if any."""
        return self._rates

    @rates.setter
    def rates(self, rates: bool | Rates | None) -> None:
        self._rates = rates if isinstance(rates, Rates) else Rates() if rates else None
        self._windows.clear()
        self._overall = None
        if self._rates is not None:
            self._overall = _Window(self._rates.overall, self._rates.overall_seconds, self._rates.jitter)

    def now(self) -> float:
        return self.clock() + self._skipped

    def skip(self, seconds: float) -> float:
        """Lets time pass at once; returns the new time."""
        self._skipped += seconds
        return self.now()

    async def wait_for(self, predicate: Callable[[], T], timeout: float = 5.0) -> T:
        """The first true value of predicate, asked again whenever something has happened; raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout):
                while not (value := predicate()):
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            last = ", ".join(f"{call.method}:{call.fault or call.code}" for call in self.calls[-8:])
            raise TimeoutError(
                f"nothing of the kind within {timeout} s; the last calls were: {last or 'none'}"
            ) from None
        return value

    def _touch(self) -> None:
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # --- the people's side -------------------------------------------------------------------------------------------

    def user(
        self,
        id: int | None = None,
        first_name: str = "Ada",
        language_code: str | None = None,
        *,
        last_name: str | None = None,
        username: str | None = None,
        is_bot: bool = False,
    ) -> User:
        """A new account, or the known one with this id."""
        if id is not None and id in self.users:
            return self.users[id]
        user = User(next(self._user_ids) if id is None else id, first_name, last_name, username, language_code, is_bot)
        self.users[user.id] = user
        return user

    def private(self, user: User | int) -> Chat:
        """The private chat with the bot; the bot may write in it once the person has said something."""
        person = self._user(user)
        chat = self.chats.get(person.id)
        if chat is None:
            chat = self._new_chat(person.id, "private", user=person)
            chat.bot_status, chat.ever = "member", True
        return chat

    def group(self, title: str, supergroup: bool = True, forum: bool = False, id: int | None = None) -> Chat:
        """A group without the bot; see add_bot."""
        if forum and not supergroup:
            raise ValueError("only a supergroup has topics")
        if id is None:
            id = -1_000_000_000_000 - next(self._supergroup_ids) if supergroup else -next(self._group_ids)
        return self._new_chat(id, "supergroup" if supergroup else "group", title=title, is_forum=forum)

    def channel(self, title: str) -> Chat:
        return self._new_chat(-1_000_000_000_000 - next(self._supergroup_ids), "channel", title=title)

    def _new_chat(self, id: int, type: str, **more: Any) -> Chat:
        # Decimal digits with a sign, as on the real server: not to be taken for a chat id.
        instance = str(-((id * 2_654_435_761) % 9_000_000_000_000_000_000) - 1)
        chat = Chat(id, type, instance, **more)
        self.chats[id] = chat
        return chat

    def topic(self, chat: Chat | int, name: str, user: User | int | None = None) -> int:
        """A new topic of a forum; returns its message_thread_id."""
        place = self._chat(chat)
        if not place.is_forum:
            raise ValueError("only a forum has topics")
        author = self.user(first_name="Topic author") if user is None else self._user(user)
        thread = place.last_id + 1
        place.threads[thread] = name
        self._service(place, author, thread=thread, forum_topic_created={"name": name, "icon_color": 7322096})
        return thread

    def say(
        self,
        user: User | int,
        chat: Chat | int,
        text: str,
        reply_to: Message | int | None = None,
        thread: int | None = None,
    ) -> Message:
        """A person writes; in a private chat the first message starts the bot."""
        author, place = self._user(user), self._chat(chat)
        return self._written(place, author, text, reply_to=reply_to, thread=thread)

    def start(self, user: User | int, payload: str = "") -> Message:
        """Presses Start, also by a deep link."""
        return self.say(user, self.private(user), f"/start {payload}".rstrip())

    def say_anonymously(
        self, chat: Chat | int, text: str, reply_to: Message | int | None = None, thread: int | None = None
    ) -> Message:
        """An administrator who hides behind the group."""
        place = self._chat(chat)
        author = self.users[GROUP_ANONYMOUS_BOT]
        return self._written(place, author, text, reply_to=reply_to, thread=thread, sender_chat=place)

    def channel_post(
        self, chat: Chat | int, text: str, channel: Chat | int | None = None, linked: bool = True
    ) -> Message:
        """A post of the linked channel arrives in its group, or (linked=False) a person writes there as a channel."""
        place = self._chat(chat)
        source = self.channel(f"{place.title} channel") if channel is None else self._chat(channel)
        extra: Json = {"is_automatic_forward": True} if linked else {}
        author = self.users[TELEGRAM if linked else CHANNEL_BOT]
        return self._written(place, author, text, sender_chat=source, extra=extra)

    def send_file(
        self,
        user: User | int,
        chat: Chat | int,
        name: str,
        data: bytes,
        mime: str = "application/octet-stream",
        caption: str | None = None,
        *,
        photo: bool = False,
        size: int | None = None,
        reply_to: Message | int | None = None,
    ) -> Message:
        """A person sends a file; `size` claims more bytes than there are, for files too big to make."""
        file = self._store(name, mime, data, photo, size)
        return self._written(self._chat(chat), self._user(user), caption, reply_to=reply_to, file=file, photo=photo)

    def edit(self, user: User | int, message: Message | int, text: str, chat: Chat | int | None = None) -> Message:
        """A person changes the own message (a number needs the chat, if it is not the private one)."""
        author = self._user(user)
        edited = self._message(message, author.id if chat is None else chat)
        if edited.sender is not author or edited.deleted:
            raise ValueError("only an own message can be edited")
        self._change(edited, text, found_entities(text), edited.markup)
        if self._hears(edited):
            self._emit("edited_message", edited.wire(), edited.chat.id)
        return edited

    def press(
        self,
        user: User | int,
        chat: Chat | int,
        message: Message | int,
        button: str,
        *,
        inaccessible: bool = False,
        anyway: bool = False,
    ) -> str:
        """Presses a button by its label or its data; returns the query's id, see `queries`.

        `anyway` sends `button` as data although the message has no such button (an old screen, a forged press).
        """
        person, place = self._user(user), self._chat(chat)
        pressed = self._message(message, place)
        if anyway:
            data = button
        else:
            choices = list(itertools.chain.from_iterable((pressed.markup or {}).get("inline_keyboard", [])))
            matching = [
                c for c in choices if c.get("callback_data") is not None and button in (c["text"], c["callback_data"])
            ]
            if not matching or pressed.deleted:
                raise LookupError(f"no button {button!r} among {[c['text'] for c in choices]}")
            data = matching[0]["callback_data"]
        query = Query(str(person.id << 20 | next(self._serial)), person, place, pressed.id, data, self.now())
        self.queries[query.id] = query
        shown: Json = pressed.wire()
        if inaccessible or pressed.deleted:
            shown = {"chat": place.wire(), "message_id": pressed.id, "date": 0}
        body: Json = {
            "id": query.id,
            "from": person.wire(),
            "message": shown,
            "chat_instance": place.instance,
            "data": data,
        }
        if self._present(place):
            self._emit("callback_query", body, place.id)
        return query.id

    def block(self, user: User | int) -> None:
        """Stops the bot."""
        self._blocking(self._user(user), True)

    def unblock(self, user: User | int) -> None:
        self._blocking(self._user(user), False)

    def _blocking(self, user: User, blocked: bool) -> None:
        if user.blocked == blocked:
            return
        user.blocked = blocked
        was, is_now = ("member", "kicked") if blocked else ("kicked", "member")
        self._my_chat_member(self.private(user), user, was, is_now)

    def deactivate(self, user: User | int) -> None:
        """The account is deleted; the bot is not told."""
        self._user(user).deactivated = True

    def add_bot(self, chat: Chat | int, by: User | int, administrator: bool = False) -> None:
        place, person = self._chat(chat), self._user(by)
        place.statuses.setdefault(person.id, "member")
        was, place.bot_status, place.ever = place.bot_status, "administrator" if administrator else "member", True
        self._my_chat_member(place, person, was, place.bot_status)
        if was not in _HERE:
            self._service(place, person, new_chat_members=[self.bot.wire()])

    def promote_bot(self, chat: Chat | int, by: User | int, status: str = "administrator") -> None:
        """Changes the bot's standing: administrator, member, or restricted (it may not write)."""
        place = self._chat(chat)
        was, place.bot_status = place.bot_status, status
        self._my_chat_member(place, self._user(by), was, status)

    def kick_bot(self, chat: Chat | int, by: User | int | None = None) -> None:
        place = self._chat(chat)
        person = self.user(first_name="Administrator") if by is None else self._user(by)
        was, place.bot_status = place.bot_status, "kicked"
        self._my_chat_member(place, person, was, "kicked")

    def join(self, user: User | int, chat: Chat | int, status: str = "member") -> None:
        """A person comes into a group; an administrator or creator by status."""
        self._membership(self._user(user), self._chat(chat), status)

    def leave(self, user: User | int, chat: Chat | int) -> None:
        self._membership(self._user(user), self._chat(chat), "left")

    def _membership(self, user: User, chat: Chat, status: str) -> None:
        was = chat.statuses.get(user.id, "left")
        chat.statuses[user.id] = status
        if was not in _HERE and status in _HERE:
            self._service(chat, user, new_chat_members=[user.wire()])
        elif was in _HERE and status not in _HERE:
            self._service(chat, user, left_chat_member=user.wire())
        if chat.bot_status == "administrator" and was != status:
            self._emit("chat_member", self._member_change(chat, user, user, was, status), chat.id)

    def migrate(self, chat: Chat | int) -> Chat:
        """A group becomes a supergroup; returns it. The old id is dead from now on."""
        old = self._chat(chat)
        if old.type != "group" or old.migrated_to is not None:
            raise ValueError("only a basic group migrates, and once")
        new = self.group(old.title or "")
        new.bot_status, new.ever, new.statuses = old.bot_status, True, dict(old.statuses)
        owner = self.users[GROUP_ANONYMOUS_BOT]
        self._service(old, owner, sender_chat=old, migrate_to_chat_id=new.id)
        old.migrated_to = new.id
        self._service(new, owner, sender_chat=new, migrate_from_chat_id=old.id)
        return new

    def retitle(self, chat: Chat | int, title: str, by: User | int) -> None:
        place = self._chat(chat)
        place.title = title
        self._service(place, self._user(by), new_chat_title=title)

    def inject(self, update: Any) -> int:
        """Puts any JSON among the updates, valid or not; returns its id. The allowed kinds are not asked."""
        if isinstance(update, dict):
            given = update.get("update_id")
            if isinstance(given, int) and not isinstance(given, bool) and given > self._update_id:
                self._update_id = given - 1
        return self._enqueue(update, 0, press=isinstance(update, dict) and "callback_query" in update)

    def jump(self, update_id: int) -> None:
        """Numbers the next update so, lower too: after a quiet week the real server begins anywhere."""
        self._pending.clear()
        self._update_id = update_id - 1

    # --- what happened -----------------------------------------------------------------------------------------------

    def sent(self, chat: Chat | int | None = None) -> Sequence[Message]:
        """What the bot sent to a chat (or to all), oldest first, deleted ones too."""
        if chat is None:
            return self.outgoing
        place = chat if isinstance(chat, Chat) else self.chats.get(chat)
        return [] if place is None else place.sent

    def called(self, method: str) -> Sequence[Call]:
        """The calls of one method, oldest first."""
        return self._calls.setdefault(method.lower(), [])

    def message(self, chat: Chat | int, message_id: int) -> Message:
        return self._message(message_id, chat)

    def menu(self, language: str = "", scope: str = "default", chat: int = 0, user: int = 0) -> list[tuple[str, str]]:
        """The commands as set for exactly this scope and language."""
        return [(c["command"], c["description"]) for c in self._commands.get((scope, chat, user, language), [])]

    @property
    def polling(self) -> bool:
        """Whether a long poll is open."""
        return self._poll is not None

    @property
    def pending(self) -> list[Any]:
        """The updates that are not confirmed yet."""
        return [item.update for item in self._pending if not item.done and not self._expired(item)]

    # --- faults ------------------------------------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        kind: int | str,
        times: int = 1,
        retry_after: int | None = None,
        chat: Chat | int | None = None,
        description: str | None = None,
    ) -> None:
        """The next `times` calls of a method ("*": any), of one chat if given, meet a fault.

        An HTTP code: answered with it and not applied (502 as a proxy's HTML page). "timeout": neither applied nor
        answered. "cut_before": the connection closes, not applied. "cut_after": applied, then the connection closes.
        "timeout_after": applied, never answered. "garbage": applied, and the answer is half of its JSON.
        """
        number = chat.id if isinstance(chat, Chat) else chat
        self._faults.append(_Fault(method.lower(), _kind(kind), times, retry_after, number, description))

    def flaky(
        self,
        rate: float,
        kinds: Iterable[int | str] = (500, 502, "cut_after"),
        seed: int = 0,
        methods: Iterable[str] = (),
    ) -> None:
        """From now on each call (of these methods, if any) meets one of the faults with this probability."""
        chosen = frozenset(name.lower() for name in methods)
        self._flaky = (rate, [_kind(kind) for kind in kinds], random.Random(seed), chosen) if rate > 0 else None

    def heal(self) -> None:
        """Ends all faults."""
        self._faults.clear()
        self._flaky = None

    def _fault_for(self, call: Call) -> _Fault | None:
        method = call.method.lower()
        for fault in self._faults:
            if fault.method in ("*", method) and (fault.chat is None or fault.chat == call.chat):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        if self._flaky is not None:
            rate, kinds, dice, methods = self._flaky
            if (not methods or method in methods) and dice.random() < rate:
                return _Fault(method, dice.choice(kinds), 0, 1, None, None)
        return None

    # --- finding -----------------------------------------------------------------------------------------------------

    def _user(self, user: User | int) -> User:
        return user if isinstance(user, User) else self.users[user]

    def _chat(self, chat: Chat | int) -> Chat:
        return chat if isinstance(chat, Chat) else self.chats[chat]

    def _message(self, message: Message | int, chat: Chat | int) -> Message:
        return message if isinstance(message, Message) else self._chat(chat).messages[message]

    # --- writing -----------------------------------------------------------------------------------------------------

    def _written(
        self,
        chat: Chat,
        author: User,
        text: str | None,
        *,
        reply_to: Message | int | None = None,
        thread: int | None = None,
        sender_chat: Chat | None = None,
        file: File | None = None,
        photo: bool = False,
        extra: Json | None = None,
    ) -> Message:
        if chat.migrated_to is not None:
            raise ValueError("this group has become a supergroup")
        if chat.type == "private":
            if chat.user is not author:
                raise ValueError("a private chat belongs to somebody else")
            if author.blocked:
                if text is None or not text.startswith("/start"):
                    raise ValueError("who has blocked the bot must unblock it first")
                self.unblock(author)
            author.started = True
        elif sender_chat is None:
            chat.statuses.setdefault(author.id, "member")
        reply = reply_to.id if isinstance(reply_to, Message) else reply_to
        replied = None if reply is None else chat.messages[reply]
        if thread is not None and thread not in chat.threads:
            raise ValueError("there is no such topic")
        if replied is not None and thread is None:
            # In a supergroup without topics, too, a reply carries the id of its thread, which is not one to send to.
            thread = replied.thread or (replied.id if chat.type == "supergroup" and not chat.is_forum else None)
        message = self._add(
            chat,
            author,
            text=text,
            entities=found_entities(text) if text else [],
            html=text,
            reply_to=reply,
            thread=thread,
            sender_chat=sender_chat,
            file=file,
            photo=photo,
            extra=extra or {},
        )
        if self._hears(message):
            self._emit("message", message.wire(), chat.id)
        return message

    def _add(self, chat: Chat, sender: User | None, **more: Any) -> Message:
        chat.last_id += 1
        message = Message(chat, chat.last_id, int(self.now()), sender, **more)
        chat.messages[message.id] = message
        return message

    def _service(
        self, chat: Chat, sender: User, thread: int | None = None, sender_chat: Chat | None = None, **extra: Any
    ) -> Message:
        message = self._add(chat, sender, thread=thread, sender_chat=sender_chat, extra=extra)
        if self._present(chat):
            self._emit("message", message.wire(), chat.id)
        return message

    def _change(self, message: Message, text: str | None, entities: list[Json], markup: Json | None) -> None:
        message.edits.append(Version(message.text, message.entities, message.markup, message.edit_date or message.date))
        message.text, message.entities, message.markup = text, entities, markup
        message.edit_date = int(self.now())

    def _present(self, chat: Chat) -> bool:
        if chat.type == "private":
            return chat.user is not None and not chat.user.blocked
        return chat.bot_status in _HERE

    def _hears(self, message: Message) -> bool:
        """What reaches a bot in privacy mode: commands for it, answers to it, mentions; everything in private."""
        chat = message.chat
        if not self._present(chat):
            return False
        if chat.type == "private" or not self.privacy or chat.bot_status == "administrator":
            return True
        text = message.text or ""
        name = f"@{self.bot.username}".lower()
        commands = [e for e in message.entities if e["type"] == "bot_command" and e["offset"] == 0]
        if commands:
            _, at, addressee = text[: commands[0]["length"]].partition("@")
            if not at or f"@{addressee}".lower() == name:
                return True
        if message.reply_to is not None and chat.messages[message.reply_to].from_bot:
            return True
        mentions = {match.group().lower() for match in _FOUND.finditer(text) if match.lastgroup == "mention"}
        return name in mentions

    def _member_change(self, chat: Chat, by: User, who: User, was: str, status: str) -> Json:
        return {
            "chat": chat.wire(),
            "from": by.wire(),
            "date": int(self.now()),
            "old_chat_member": _member(who, was),
            "new_chat_member": _member(who, status),
        }

    def _my_chat_member(self, chat: Chat, by: User, was: str, status: str) -> None:
        if was != status:
            self._emit("my_chat_member", self._member_change(chat, by, self.bot, was, status), chat.id)

    def _store(self, name: str, mime: str, data: bytes, photo: bool, size: int | None = None) -> File:
        width, height = _picture(data) if photo else (0, 0)
        serial = next(self._serial)
        secret = base64.urlsafe_b64encode(f"labbot-file-{serial:012d}-{len(data):012d}".encode()).decode().rstrip("=")
        real = len(data) if size is None else size
        file = File(f"BQACAgIAAx{secret}", f"AgAD{serial:08x}", name, mime, real, data, None, width, height)
        self.files[file.id] = file
        return file

    # --- updates -----------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, body: Json, lane: int) -> None:
        if kind not in self.allowed_updates if self.allowed_updates else kind in _OPT_IN:
            return
        self._enqueue({kind: body}, lane, press=kind == "callback_query")

    def _enqueue(self, update: Any, lane: int, press: bool) -> int:
        self._update_id += 1
        if isinstance(update, dict):
            update = {"update_id": self._update_id, **update}
        item = _Pending(self._update_id, update, lane, self.now(), press)
        self._pending.append(item)
        if self.webhook is not None:
            self._queue_delivery(item)
        elif self._poll is not None and not self._poll.done():
            self._poll.set_result("")
        self._touch()
        return item.id

    def _expired(self, item: _Pending) -> bool:
        return self.now() - item.time > (PRESS_LIFETIME if item.press else UPDATE_LIFETIME)

    def _ready(self, limit: int) -> list[Any]:
        """The oldest updates; what has waited too long is never shown again."""
        batch: list[Any] = []
        pending = self._pending
        while pending and (pending[0].done or self._expired(pending[0])):
            pending.popleft()
        for item in pending:
            if len(batch) == limit:
                break
            if not item.done and not self._expired(item):
                batch.append(item.update)
        return batch

    def _confirm(self, offset: int) -> None:
        """Forgets what lies below the offset.

        An offset beyond the next update is one from before the numbers began anew: the real server then ignores it
        and gives the oldest update, so that a client which keeps its offset loses nothing.
        """
        pending = self._pending
        if offset < 0:
            while len(pending) > -offset:
                self.confirmed = pending.popleft().id
        elif offset <= self._update_id + 1:
            while pending and pending[0].id < offset:
                self.confirmed = pending.popleft().id

    async def _get_updates(self, params: _Params) -> list[Any]:
        offset = params.integer("offset") or 0
        limit = params.integer("limit")
        limit = 100 if limit is None else min(max(limit, 1), 100)
        timeout = min(max(params.integer("timeout") or 0, 0), 50)
        allowed = params.array("allowed_updates", "allowed updates")
        if self.webhook is not None:
            raise self._conflict(_WEBHOOK_ACTIVE)
        if allowed is not None:
            self.allowed_updates = [kind for kind in allowed if isinstance(kind, str)]
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(_CONFLICT)
            self._poll = None
        self._confirm(offset)
        batch = self._ready(limit)
        if batch or not timeout:
            return batch
        poll = self._poll = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                conflict = await poll
        except TimeoutError:
            return []
        finally:
            if self._poll is poll:
                self._poll = None
                self._touch()
        if conflict:
            raise self._conflict(conflict)
        return self._ready(limit)

    def _conflict(self, description: str) -> Refusal:
        self.refused_409 += 1
        return Refusal(409, description)

    # --- webhook -----------------------------------------------------------------------------------------------------

    def _set_webhook(self, params: _Params) -> bool:
        url = params.text("url") or ""
        if not url:
            return self._delete_webhook(params)
        secret = params.text("secret_token") or ""
        connections = params.integer("max_connections") or 40
        allowed = params.array("allowed_updates", "allowed updates")
        parts = urlsplit(url)
        loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not loopback:
            if parts.scheme != "https":
                raise bad("bad webhook: An HTTPS URL must be provided for webhook")
            if (parts.port or 443) not in (443, 80, 88, 8443):
                raise bad("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        elif parts.scheme not in ("http", "https"):
            raise bad("bad webhook: An HTTPS URL must be provided for webhook")
        if secret and not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret):
            raise bad("secret token contains unallowed characters")
        if allowed is not None:
            self.allowed_updates = [kind for kind in allowed if isinstance(kind, str)]
        if params.flag("drop_pending_updates"):
            self._pending.clear()
        if self._poll is not None and not self._poll.done():
            self._poll.set_result("Conflict: terminated by setWebhook request")
            self._poll = None
        self._cancel_lanes()
        self.webhook = {"url": url, "secret": secret, "connections": min(max(connections, 1), 100)}
        self._connections = asyncio.Semaphore(self.webhook["connections"])
        for item in self._pending:
            if not item.done:
                self._queue_delivery(item)
        return True

    def _delete_webhook(self, params: _Params) -> bool:
        self._cancel_lanes()
        self.webhook = None
        if params.flag("drop_pending_updates"):
            self._pending.clear()
        return True

    def _get_webhook_info(self, params: _Params) -> Json:
        hook = self.webhook or {}
        info: Json = {
            "url": hook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self.pending),
        }
        if hook:
            info |= {"max_connections": hook["connections"], "ip_address": "127.0.0.1"}
        if "error" in hook:
            info |= {"last_error_date": hook["error_date"], "last_error_message": hook["error"]}
        if self.allowed_updates:
            info["allowed_updates"] = self.allowed_updates
        return info

    def _queue_delivery(self, item: _Pending) -> None:
        """One lane for each chat: its updates arrive in order, different chats at the same time."""
        lane = self._lanes.setdefault(item.lane, deque())
        lane.append(item)
        if item.lane not in self._lane_tasks:
            self._lane_tasks[item.lane] = asyncio.get_running_loop().create_task(self._run_lane(item.lane, lane))

    async def _run_lane(self, number: int, lane: deque[_Pending]) -> None:
        try:
            while lane:
                item = lane[0]
                pause = self.webhook_retry
                while not self._expired(item) and not await self._deliver(item):
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
                item.done = True
                self.confirmed = max(self.confirmed, item.id)
                lane.popleft()
                while self._pending and self._pending[0].done:
                    self._pending.popleft()
                self._touch()
        finally:
            if self._lanes.get(number) is lane:
                del self._lanes[number]
                self._lane_tasks.pop(number, None)

    async def _deliver(self, item: _Pending) -> bool:
        hook = self.webhook
        if hook is None:
            return False
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        headers = {"Content-Type": "application/json"}
        if hook["secret"]:
            headers["X-Telegram-Bot-Api-Secret-Token"] = hook["secret"]
        body = json.dumps(item.update)
        try:
            async with (
                self._connections,
                self._session.post(
                    hook["url"], data=body, headers=headers, ssl=False, timeout=aiohttp.ClientTimeout(60)
                ) as response,
            ):
                answer = await response.read()
                if 200 <= response.status < 300:
                    self._answered_webhook(answer)
                    return True
                error = f"Wrong response from the webhook: {response.status} {response.reason}"
        except (aiohttp.ClientError, TimeoutError) as failure:
            error = "Connection refused" if isinstance(failure, aiohttp.ClientConnectorError) else "Connection closed"
        hook["error"], hook["error_date"] = error, int(self.now())
        self._touch()
        return False

    def _answered_webhook(self, answer: bytes) -> None:
        """A bot may call one method by its answer; what came of it, it never learns."""
        try:
            body = json.loads(answer)
        except ValueError:
            return
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return
        name = body.pop("method")
        call = self._note(name, body)
        method = self._methods.get(name.lower())
        if method is None:
            call.code = 400
            return
        try:
            method(_Params(body, {}))
            call.code = 200
        except Refusal as refusal:
            call.code = refusal.code
        self._touch()

    def _cancel_lanes(self) -> list[asyncio.Task[None]]:
        tasks = list(self._lane_tasks.values())
        self._lanes.clear()
        self._lane_tasks.clear()
        for task in tasks:
            task.cancel()
        return tasks

    async def _stop_lanes(self) -> None:
        for task in self._cancel_lanes():
            with suppress(asyncio.CancelledError):
                await task

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            path = request.path
            if path.startswith("/control/"):
                return await self._control(request, path.removeprefix("/control/"))
            if matched := _FILE_PATH.fullmatch(path):
                return self._download(matched.group(1), matched.group(2))
            if matched := _BOT_PATH.fullmatch(path):
                return await self._answer(request, matched.group(1), matched.group(2))
            return _refused(Refusal(404, "Not Found"))
        except Exception as crash:
            if isinstance(crash, ConnectionError):
                raise
            self.crashes.append(crash)
            return _refused(Refusal(500, f"Internal Server Error: {crash!r}"))

    def _admitted(self, token: str) -> Refusal | None:
        if not _TOKEN.fullmatch(token):
            return Refusal(404, "Not Found")
        return None if token == self.token else Refusal(401, "Unauthorized")

    def _download(self, token: str, path: str) -> web.Response:
        if refusal := self._admitted(token):
            return _refused(refusal)
        file = self._paths.get(path)
        if file is None:
            return _refused(Refusal(404, "Not Found"))
        return web.Response(body=file.data, content_type="application/octet-stream")

    async def _answer(self, request: web.Request, token: str, name: str) -> web.StreamResponse:
        if refusal := self._admitted(token):
            return _refused(refusal)
        if (request.content_length or 0) > UPLOAD_LIMIT + MEGABYTE:
            async for _ in request.content.iter_chunked(MEGABYTE):
                pass  # read to the end, or the client sees a broken pipe instead of the answer
            self._note(name, {}).code = 413
            return _refused(Refusal(413, "Request Entity Too Large"))
        try:
            params = await _read(request)
        except Refusal as refusal:
            self._note(name, {}).code = refusal.code
            return _refused(refusal)
        call = self._note(name, params.values)
        fault = self._fault_for(call)
        if fault is not None:
            call.fault = fault.kind
            if fault.kind.isdecimal():
                call.code = int(fault.kind)
                self._touch()
                await self._delay()
                return self._failed(call, fault)
            if fault.kind in ("timeout", "cut_before"):
                self._touch()
                return await self._cut(request, hang=fault.kind == "timeout")
        response = await self._apply(name, params, call)
        self._touch()
        await self._delay()
        if fault is None:
            return response
        if fault.kind == "garbage":
            body = response.body
            assert isinstance(body, bytes)
            return web.Response(body=body[: len(body) // 2], content_type="application/json")
        call.code = None
        return await self._cut(request, hang=fault.kind == "timeout_after")

    def _note(self, name: str, values: Json) -> Call:
        call = Call(name, values, self.now())
        self.calls.append(call)
        self._calls.setdefault(name.lower(), []).append(call)
        self._touch()
        return call

    async def _apply(self, name: str, params: _Params, call: Call) -> web.Response:
        lowered = name.lower()
        try:
            if lowered == "getupdates":
                result: Any = await self._get_updates(params)
            elif method := self._methods.get(lowered):
                result = method(params)
            else:
                raise bad(f"method {name} is not served here")
        except Refusal as refusal:
            call.code = refusal.code
            return _refused(refusal)
        call.code = 200
        return _json({"ok": True, "result": result})

    async def _delay(self) -> None:
        if self.latency > 0:
            await asyncio.sleep(self.latency)

    def _failed(self, call: Call, fault: _Fault) -> web.Response:
        code = int(fault.kind)
        if code == 502:
            return web.Response(status=502, text=_BAD_GATEWAY, content_type="text/html")
        if code == 429:
            seconds = fault.retry_after or 1
            self._announced[fault.chat] = self.now() + seconds
            return _refused(Refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds))
        return _refused(Refusal(code, fault.description or _REASONS.get(code, "Error")))

    async def _cut(self, request: web.Request, hang: bool) -> web.Response:
        if hang:
            await self._closing.wait()  # or until the client leaves, which cancels the handler
        if request.transport is not None:
            request.transport.close()
        return web.Response()  # goes nowhere

    # --- rates -------------------------------------------------------------------------------------------------------

    def _admit(self, chat: Chat, edit: bool = False) -> None:
        """Counts a send or an edit, or refuses it."""
        now = self.now()
        if self._announced:
            for scope in (None, chat.id):
                # A pause that a fault has announced is not enforced, but ignoring it is counted.
                if self._announced.get(scope, -math.inf) - now > 0.05:
                    self.hasty += 1
                    break
        rates = self._rates
        if rates is None or self._overall is None or (edit and not rates.edits):
            return
        window = self._windows.get(chat.id)
        if window is None:
            limit = (
                (rates.private, rates.private_seconds) if chat.type == "private" else (rates.group, rates.group_seconds)
            )
            window = self._windows[chat.id] = _Window(*limit, rates.jitter)
        seconds = max(window.wait(now), self._overall.wait(now))
        if seconds:
            self.refused_429 += 1
            raise Refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
        window.times.append(now)
        self._overall.times.append(now)

    # --- the bot's side ----------------------------------------------------------------------------------------------

    def _known(self, params: _Params, name: str = "chat_id") -> Chat:
        """The chat a call names, if the bot has ever seen it and is still in it."""
        value = params.values.get(name)
        if value is None or value == "":
            raise bad("chat_id is empty")
        number = _number(value)
        if number is None:
            if not isinstance(value, str):
                raise bad(f'field "{name}" must be of type Integer or String')
            raise bad("chat not found")
        chat = self.chats.get(number)
        if chat is None or not chat.ever:
            user = self.users.get(number)
            if user is None:
                raise bad("chat not found")
            if user.is_bot:
                raise Refusal(403, "Forbidden: bot can't send messages to bots")
            chat = self.private(user)
        if chat.migrated_to is not None:
            raise Refusal(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.migrated_to,
            )
        if chat.type != "private" and chat.bot_status not in _HERE:
            kind = "group" if chat.type == "group" else f"{chat.type}"
            if chat.bot_status == "kicked":
                raise Refusal(403, f"Forbidden: bot was kicked from the {kind} chat")
            raise Refusal(403, f"Forbidden: bot is not a member of the {kind} chat")
        return chat

    def _writable(self, params: _Params) -> Chat:
        chat = self._known(params)
        user = chat.user
        if user is not None:
            if user.deactivated:
                raise Refusal(403, "Forbidden: user is deactivated")
            if user.blocked:
                raise Refusal(403, "Forbidden: bot was blocked by the user")
            if not user.started:
                raise Refusal(403, "Forbidden: bot can't initiate conversation with a user")
        elif chat.bot_status == "restricted":
            raise bad("not enough rights to send text messages to the chat")
        return chat

    def _get_me(self, params: _Params) -> Json:
        return {
            **self.bot.wire(),
            "can_join_groups": True,
            "can_read_all_group_messages": not self.privacy,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    def _send_message(self, params: _Params) -> Json:
        text, entities = _words(params, "text", "entities")
        if not text:
            raise bad("message text is empty")
        if units(text) > 4096:
            raise bad("message is too long")
        return self._send(params, text, entities, params.text("text"), None, False)

    def _send_file(self, params: _Params, field: str) -> Json:
        caption, entities = _words(params, "caption", "caption_entities")
        if units(caption) > 1024:
            raise bad("message caption is too long")
        markup = _markup(params)  # looked at before the upload is read
        file = self._given_file(params, field)
        return self._send(params, caption or None, entities, params.text("caption"), file, field == "photo", markup)

    def _given_file(self, params: _Params, field: str) -> File:
        photo = field == "photo"
        given = params.text(field)
        upload = params.files.get(field)
        if upload is None and given is not None and given.startswith("attach://"):
            upload = params.files.get(given.removeprefix("attach://"))
            if upload is None:
                raise bad("attached file not found")
        if upload is not None:
            name, mime, data = upload
            if not data:
                raise bad("file must be non-empty")
            if len(data) > UPLOAD_LIMIT:
                raise Refusal(413, "Request Entity Too Large")
            if photo and len(data) > PHOTO_LIMIT:
                raise bad(
                    f"file of size {len(data)} bytes is too big for a photo; the maximum size is {PHOTO_LIMIT} bytes"
                )
            return self._store(name, mime, data, photo)
        if not given:
            raise bad(f"there is no {field} in the request")
        if given.startswith(("http://", "https://")):
            raise bad("failed to get HTTP URL content")
        file = self.files.get(given)
        if file is None:
            raise bad("wrong remote file identifier specified: Wrong string length")
        if photo != bool(file.width):
            raise bad(f"can't use file of type {'Document' if photo else 'Photo'} as {field.capitalize()}")
        return file

    def _send(
        self,
        params: _Params,
        text: str | None,
        entities: list[Json],
        html: str | None,
        file: File | None,
        photo: bool,
        markup: Json | None = None,
    ) -> Json:
        if file is None:
            markup = _markup(params)
        silent = params.flag("disable_notification")
        preview = params.record("link_preview_options", "link preview options") or {}
        off = bool(preview.get("is_disabled")) or params.flag("disable_web_page_preview")
        chat = self._writable(params)
        reply_to, reply_chat = self._reply(params, chat)
        thread = params.integer("message_thread_id")
        if thread is not None and thread not in chat.threads:
            raise bad("message thread not found")
        if thread is None and reply_to is not None and chat.is_forum and reply_chat is None:
            thread = chat.messages[reply_to].thread
        self._admit(chat)
        message = self._add(
            chat,
            self.bot,
            from_bot=True,
            text=text,
            entities=entities,
            html=html,
            markup=markup,
            reply_to=reply_to,
            reply_chat=reply_chat,
            thread=thread,
            file=file,
            photo=photo,
            silent=silent,
            preview=not off,
        )
        chat.sent.append(message)
        self.outgoing.append(message)
        return message.wire()

    def _reply(self, params: _Params, chat: Chat) -> tuple[int | None, Chat | None]:
        reply = params.record("reply_parameters", "reply parameters")
        if reply is None:
            number = params.integer("reply_to_message_id")
            if number is None:
                return None, None
            reply = {"message_id": number, "allow_sending_without_reply": params.flag("allow_sending_without_reply")}
        number = _number(reply.get("message_id"))
        if number is None:
            raise bad("can't parse reply parameters: Can't find field \"message_id\"")
        place: Chat | None = chat
        if reply.get("chat_id") is not None:
            place = self.chats.get(_number(reply["chat_id"]) or 0)
        replied = place.messages.get(number) if place else None
        if replied is None or replied.deleted:
            if reply.get("allow_sending_without_reply"):
                return None, None
            raise bad("message to be replied not found")
        quote = reply.get("quote")
        if quote and str(quote) not in (replied.text or ""):
            raise bad("QUOTE_TEXT_INVALID")
        return number, None if place is chat else place

    def _editable(self, params: _Params) -> Message:
        if params.values.get("inline_message_id"):
            raise bad("inline message not found")
        if params.values.get("chat_id") is None or params.values.get("message_id") is None:
            raise bad("message identifier is not specified")
        number = params.integer("message_id")
        chat = self._writable(params)
        message = chat.messages.get(number or 0)
        if message is None or message.deleted:
            raise bad("message to edit not found")
        other_markup = message.markup is not None and "inline_keyboard" not in message.markup
        if not message.from_bot or other_markup:
            raise bad("message can't be edited")
        return message

    def _edited(self, message: Message, text: str | None, entities: list[Json], markup: Json | None) -> Json:
        if (text, entities, markup) == (message.text, message.entities, message.markup):
            raise bad(_NOT_MODIFIED)
        self._admit(message.chat, edit=True)
        self._change(message, text, entities, markup)
        return message.wire()

    def _edit_text(self, params: _Params) -> Json:
        text, entities = _words(params, "text", "entities")
        if not text:
            raise bad("message text is empty")
        if units(text) > 4096:
            raise bad("MESSAGE_TOO_LONG")
        markup = _markup(params, inline_only=True)
        message = self._editable(params)
        if message.file is not None:
            raise bad("there is no text in the message to edit")
        body = self._edited(message, text, entities, markup)
        message.html = params.text("text")
        return body

    def _edit_caption(self, params: _Params) -> Json:
        caption, entities = _words(params, "caption", "caption_entities")
        if units(caption) > 1024:
            raise bad("MEDIA_CAPTION_TOO_LONG")
        markup = _markup(params, inline_only=True)
        message = self._editable(params)
        if message.file is None:
            raise bad("there is no caption in the message to edit")
        body = self._edited(message, caption or None, entities, markup)
        message.html = params.text("caption")
        return body

    def _edit_markup(self, params: _Params) -> Json:
        markup = _markup(params, inline_only=True)
        message = self._editable(params)
        return self._edited(message, message.text, message.entities, markup)

    def _deletable(self, chat: Chat, number: int | None) -> Message:
        message = chat.messages.get(number or 0)
        if message is None or message.deleted:
            raise bad("message to delete not found")
        if not message.from_bot and chat.type != "private" and chat.bot_status != "administrator":
            raise bad("message can't be deleted")
        if self.now() - message.date > DELETE_WITHIN and chat.bot_status != "administrator":
            raise bad("message can't be deleted for everyone")
        return message

    def _delete_message(self, params: _Params) -> bool:
        number = params.integer("message_id")
        if number is None:
            raise bad("message identifier is not specified")
        self._deletable(self._known(params), number).deleted = True
        return True

    def _delete_messages(self, params: _Params) -> bool:
        numbers = params.array("message_ids", "message identifiers")
        if not numbers:
            raise bad("message identifiers are not specified")
        if len(numbers) > 100:
            raise bad("too many message identifiers specified")
        chat = self._known(params)
        for number in numbers:
            with suppress(Refusal):  # what cannot be found is skipped
                self._deletable(chat, _number(number)).deleted = True
        return True

    def _answer_callback_query(self, params: _Params) -> bool:
        number = params.text("callback_query_id") or ""
        text = params.text("text")
        alert = params.flag("show_alert")
        if text is not None and units(text) > 200:
            raise bad("MESSAGE_TOO_LONG")
        query = self.queries.get(number)
        if query is None or self.now() - query.time > self.query_lifetime:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        answer = Answer(number, text, alert, self.now())
        query.answers.append(answer)
        self.answers.append(answer)
        return True

    def _scope(self, params: _Params) -> tuple[str, int, int, str]:
        scope = params.record("scope", "bot command scope") or {"type": "default"}
        kind = str(scope.get("type"))
        if kind not in _SCOPES:
            raise bad("can't parse BotCommandScope: Unsupported type specified")
        numbers = [_number(scope.get(name)) for name in _SCOPES[kind]]
        if None in numbers:
            raise bad("can't parse BotCommandScope: chat or user identifier expected")
        if numbers and numbers[0] not in self.chats:
            raise bad("chat not found")
        language = params.text("language_code") or ""
        if language and not re.fullmatch(r"[a-z]{2}", language):
            raise bad("invalid language code specified")
        chat, user = [*(number or 0 for number in numbers), 0, 0][:2]
        return kind, chat, user, language

    def _set_my_commands(self, params: _Params) -> bool:
        key = self._scope(params)
        commands = params.array("commands", "list of commands")
        if commands is None:
            raise bad("can't parse commands: expected an Array")
        if len(commands) > 100:
            raise bad("BOT_COMMANDS_TOO_MUCH")
        for command in commands:
            if not isinstance(command, dict):
                raise bad("can't parse BotCommand: expected an Object")
            name, description = command.get("command"), command.get("description")
            if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]{1,32}", name):
                raise bad("BOT_COMMAND_INVALID")
            if not isinstance(description, str) or not 1 <= units(description.strip()) <= 256:
                raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
        if commands:
            self._commands[key] = [{"command": c["command"], "description": c["description"]} for c in commands]
        else:
            self._commands.pop(key, None)
        return True

    def _get_my_commands(self, params: _Params) -> list[Json]:
        return self._commands.get(self._scope(params), [])

    def _delete_my_commands(self, params: _Params) -> bool:
        self._commands.pop(self._scope(params), None)
        return True

    def _describe(self, params: _Params, field: str, limit: int) -> bool:
        words = params.text(field) or ""
        if units(words) > limit:
            raise bad(f"{field.replace('_', ' ')} is too long")
        self.descriptions[field, params.text("language_code") or ""] = words
        return True

    def _described(self, params: _Params, field: str) -> Json:
        return {field: self.descriptions.get((field, params.text("language_code") or ""), "")}

    def _get_chat(self, params: _Params) -> Json:
        chat = self._known(params)
        gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
        return {
            **chat.wire(),
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys(gifts, False),
        }

    def _standing(self, chat: Chat, user: User) -> str:
        if user is self.bot:
            return chat.bot_status
        return chat.statuses.get(user.id, "member" if chat.user is user else "left")

    def _get_chat_member(self, params: _Params) -> Json:
        chat = self._known(params)
        number = params.integer("user_id")
        user = self.users.get(number or 0)
        if user is None:
            raise bad("invalid user_id specified" if number is None else "user not found")
        return _member(user, self._standing(chat, user))

    def _get_chat_member_count(self, params: _Params) -> int:
        chat = self._known(params)
        return 2 if chat.type == "private" else 1 + sum(status in _HERE for status in chat.statuses.values())

    def _get_chat_administrators(self, params: _Params) -> list[Json]:
        chat = self._known(params)
        if chat.type == "private":
            raise bad("there are no administrators in the private chat")
        chosen = ("administrator", "creator")
        found = [_member(self.users[number], status) for number, status in chat.statuses.items() if status in chosen]
        return found + ([_member(self.bot, chat.bot_status)] if chat.bot_status == "administrator" else [])

    def _get_file(self, params: _Params) -> Json:
        number = params.text("file_id")
        file = self.files.get(number or "")
        if file is None:
            raise bad("invalid file_id" if number else "file_id not specified")
        if file.size > DOWNLOAD_LIMIT:
            raise bad("file is too big")
        if file.path is None:
            suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", file.name)
            kind = "photos" if file.width else "documents"
            file.path = f"{kind}/file_{len(self._paths)}{suffix.group() if suffix else ''}"
            self._paths[file.path] = file
        return {**file.wire(), "file_path": file.path}

    def _leave_chat(self, params: _Params) -> bool:
        chat = self._known(params)
        if chat.type == "private":
            raise bad("chat member status can't be changed in private chats")
        was, chat.bot_status = chat.bot_status, "left"
        self._my_chat_member(chat, self.bot, was, "left")
        return True

    def _send_chat_action(self, params: _Params) -> bool:
        if params.text("action") not in _ACTIONS:
            raise bad("wrong parameter action in request")
        self._writable(params)
        return True

    # --- control over HTTP -------------------------------------------------------------------------------------------

    def _control_verbs(self) -> dict[str, Callable[..., Any]]:
        shared = (
            self.user,
            self.private,
            self.group,
            self.channel,
            self.topic,
            self.say,
            self.start,
            self.say_anonymously,
            self.channel_post,
            self.edit,
            self.press,
            self.block,
            self.unblock,
            self.deactivate,
            self.add_bot,
            self.promote_bot,
            self.kick_bot,
            self.join,
            self.leave,
            self.migrate,
            self.retitle,
            self.inject,
            self.jump,
            self.sent,
            self.called,
            self.message,
            self.menu,
            self.fail,
            self.flaky,
            self.heal,
            self.skip,
        )
        return {
            **{verb.__name__: verb for verb in shared},
            "send_file": lambda data, **more: self.send_file(data=base64.b64decode(data), **more),
            "calls": lambda since=0: self.calls[since:],
            "queries": lambda: list(self.queries.values()),
            "pending": lambda: self.pending,
            "messages": lambda chat: list(self._chat(chat).messages.values()),
            "file": lambda file_id: base64.b64encode(self.files[file_id].data).decode(),
            "counts": self._counts,
            "configure": self._configure,
            "wait": self._wait,
        }

    def _counts(self) -> Json:
        return {
            "calls": dict(Counter(call.method for call in self.calls)),
            "sent": len(self.outgoing),
            "answers": len(self.answers),
            "pending": len(self.pending),
            "polling": self.polling,
            "confirmed": self.confirmed,
            "refused_429": self.refused_429,
            "refused_409": self.refused_409,
            "hasty": self.hasty,
            "crashes": [repr(crash) for crash in self.crashes],
        }

    def _configure(self, **settings: Any) -> Json:
        """Sets latency (seconds), rates (true, false or fields of Rates), privacy, query_lifetime."""
        for name, value in settings.items():
            if name == "rates":
                self.rates = Rates(**value) if isinstance(value, dict) else bool(value)
            elif name in ("latency", "privacy", "query_lifetime", "webhook_retry"):
                setattr(self, name, value)
            else:
                raise ValueError(f"there is no setting {name!r}")
        return {"latency": self.latency, "rates": self.rates, "privacy": self.privacy}

    async def _wait(
        self,
        chat: int | None = None,
        contains: str = "",
        count: int = 1,
        method: str | None = None,
        timeout: float = 5.0,
    ) -> Sequence[Message | Call]:
        """Waits for `count` messages of the bot (in a chat, with these words), or for calls of a method."""

        def found() -> Sequence[Message | Call]:
            if method is not None:
                matching: Sequence[Message | Call] = [c for c in self.called(method) if chat is None or c.chat == chat]
            else:
                matching = [m for m in self.sent(chat) if not contains or contains in (m.text or "")]
            return matching if len(matching) >= count else []

        return await self.wait_for(found, timeout)

    async def _control(self, request: web.Request, verb: str) -> web.Response:
        method = self._verbs.get(verb)
        if method is None:
            return _json({"error": f"there is no verb {verb!r}", "verbs": sorted(self._verbs)}, 404)
        try:
            raw = await request.read()
            arguments = json.loads(raw) if raw else {name: _literal(value) for name, value in request.query.items()}
            result = method(**arguments)
            if asyncio.iscoroutine(result):
                result = await result
            return _json({"result": _plain(result)})
        except TimeoutError as late:
            return _json({"error": str(late)}, 408)
        except (LookupError, TypeError, ValueError, Refusal) as wrong:
            return _json({"error": f"{type(wrong).__name__}: {wrong}"}, 400)


def _literal(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _plain(value: Any) -> Any:
    """A value of the in-process interface as JSON."""
    if isinstance(value, Message | Chat):
        return value.record()
    if isinstance(value, User):
        return {**value.wire(), "started": value.started, "blocked": value.blocked, "deactivated": value.deactivated}
    if isinstance(value, Query):
        answers = [dataclasses.asdict(answer) for answer in value.answers]
        return {
            "id": value.id,
            "user": value.user.id,
            "chat": value.chat.id,
            "message": value.message,
            "data": value.data,
            "time": value.time,
            "answers": answers,
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")


def _refused(refusal: Refusal) -> web.Response:
    body: Json = {"ok": False, "error_code": refusal.code, "description": refusal.description}
    if refusal.parameters:
        body["parameters"] = refusal.parameters
    response = _json(body, refusal.code)
    if "retry_after" in refusal.parameters:
        response.headers["Retry-After"] = str(refusal.parameters["retry_after"])
    return response


async def _read(request: web.Request) -> _Params:
    """Query string, JSON, form and multipart are all the same to the Bot API."""
    values: Json = dict(request.query)
    files: dict[str, tuple[str, str, bytes]] = {}
    kind = request.content_type
    if kind == "multipart/form-data":
        try:
            form = await request.post()
        except web.HTTPRequestEntityTooLarge:
            raise Refusal(413, "Request Entity Too Large") from None
        for name, value in form.items():
            if isinstance(value, web.FileField):
                files[name] = (value.filename, value.content_type, value.file.read())
            elif isinstance(value, str):
                values[name] = value
    elif kind == "application/json":
        try:
            body = json.loads(await request.read() or b"{}")
        except ValueError:
            raise bad("can't parse JSON object") from None
        if not isinstance(body, dict):
            raise bad("can't parse JSON object: expected an Object")
        values.update(body)
    elif kind == "application/x-www-form-urlencoded":
        values.update(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))
    return _Params(values, files)


class Control:
    """Drives a server that runs as another process: ``await control("say", user=1, chat=1, text="/start")``."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def __call__(self, verb: str, **arguments: Any) -> Any:
        """The verb's result; raises TimeoutError or ValueError with the server's words."""
        async with self._session.post(f"{self._url}/control/{verb}", json=arguments) as response:
            body = await response.json()
            if response.status == 200:
                return body["result"]
            if response.status == 408:
                raise TimeoutError(body["error"])
            raise ValueError(body["error"])


async def _main(port: int, token: str, latency: float, rates: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with TelegramServer(token, latency=latency, rates=rates, port=port) as server:
        print(server.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.adapters.telegram_server", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the address is printed")
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds added to each answer")
    parser.add_argument("--rates", action="store_true", help="enforce Telegram's rate limits")
    given = parser.parse_args()
    asyncio.run(_main(given.port, given.token, given.latency / 1000, given.rates))
