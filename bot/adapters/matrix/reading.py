"""Reading: what an event of a room means to the core."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bot.adapters.matrix.rooms import Room
from bot.adapters.matrix.values import fields, text
from bot.types import Actor, ChatRef, Edited, Ended, File, MessageRef, Pressed, Retracted, Said, Update, Voted

ADAPTER = "matrix"

FILES = ("m.image", "m.file", "m.audio", "m.video")
KEYCAPS = {f"{digit}\u20e3": digit - 1 for digit in range(1, 10)} | {"\U0001f51f": 9}
"""The reactions that mean a number, without the variation selector that some clients leave out, and its position."""

POLL_RESPONSE = ("m.poll.response", "org.matrix.msc3381.poll.response")
POLL_END = ("m.poll.end", "org.matrix.msc3381.poll.end")
"""Answers in a poll, and its end (MSC3381): the stable names, and those that clients send until it is in the spec."""

SETUP = "m.room.power_levels"
"""Whoever may change who may do what in a room may also set up what the bot does there."""

MOST_SELECTIONS = 100
"""Of more selections in one answer the rest is not looked at: a poll has 20 options (MSC3381)."""

_COMMAND = re.compile(r"[!/]([^\W\d]\w{0,31})(?:\s+|$)(.*)", re.DOTALL)
_NUMBER = re.compile(r"[1-9][0-9]?")
_FALLBACK = re.compile(r"\A(?:> .*\n)+\n?")


@dataclass(frozen=True, slots=True)
class Account:
    """Who the bot is: its user id, and the name its profile shows (``None``: none)."""

    user: str
    name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """How people begin a message to it."""
        localpart = self.user.partition(":")[0]
        found = (self.user, self.name, localpart, localpart.removeprefix("@"))
        return tuple(name for name in found if name)


def read(event: Mapping[str, Any], room: Room, me: Account) -> Update | None:
    """What an event means, ``None`` when it is nothing to the bot. Raises whatever a malformed one leads to."""
    sender, id = event["sender"], event["event_id"]
    if not isinstance(sender, str) or not isinstance(id, str) or sender == me.user:
        return None
    content = event.get("content")
    if not isinstance(content, dict) or "state_key" in event:
        return None
    relation = fields(content, "m.relates_to")
    chat = ChatRef(ADAPTER, room.id, _thread(relation))
    happened: dict[str, Any] = {
        "key": id,
        "chat": chat,
        "actor": Actor(sender, admin=room.may(sender, SETUP)),
        "at": when(event.get("origin_server_ts")),
        "private": room.private,
        "title": room.name,
    }
    match event.get("type"):
        case "m.room.message" if relation.get("rel_type") == "m.replace":
            return _edited(content, relation, happened, me)
        case "m.room.message":
            return _said(content, relation, happened, me, MessageRef(chat, id))
        case "m.reaction" if relation.get("rel_type") == "m.annotation":
            return _pressed(relation, happened, id)
        case kind if kind in POLL_RESPONSE and relation.get("rel_type") == "m.reference":
            return _voted(content, relation, happened, id)
        case kind if kind in POLL_END and relation.get("rel_type") == "m.reference" and room.may_redact(sender):
            target = relation.get("event_id")
            return Ended(**happened, message=MessageRef(chat, target)) if isinstance(target, str) else None
        case "m.room.redaction":
            target = content.get("redacts", event.get("redacts"))
            return Retracted(**happened, message=MessageRef(chat, target)) if isinstance(target, str) else None
    return None


def _said(
    content: Mapping[str, Any], relation: Mapping[str, Any], happened: dict[str, Any], me: Account, message: MessageRef
) -> Said | None:
    kind = content.get("msgtype")
    if kind != "m.text" and kind not in FILES:
        return None  # a notice is another bot's, an emote is no message to anybody
    files: tuple[File, ...] = ()
    words = text(content.get("body"))
    if kind in FILES:
        files = (_file(content),)
        name = text(content.get("filename"))
        words = words if name and words != name else ""  # without a caption the body is the file's name
    reply = relation.get("m.in_reply_to")
    answered = reply.get("event_id") if isinstance(reply, dict) and not relation.get("is_falling_back") else None
    if isinstance(answered, str):
        words = _FALLBACK.sub("", words)
    mentions = content.get("m.mentions")
    named = mentions.get("user_ids") if isinstance(mentions, dict) else None
    words, begins = _addressed(words, me)
    mentioned = begins or (isinstance(named, list) and me.user in named)
    command, words = _command(words)
    return Said(
        **happened,
        message=message,
        text=words,
        command=command,
        reply_to=MessageRef(message.chat, answered) if isinstance(answered, str) else None,
        files=files,
        mentioned=mentioned,
    )


def _edited(
    content: Mapping[str, Any], relation: Mapping[str, Any], happened: dict[str, Any], me: Account
) -> Edited | None:
    target, new = relation.get("event_id"), content.get("m.new_content")
    if not isinstance(target, str) or not isinstance(new, dict) or new.get("msgtype") != "m.text":
        return None
    words, _ = _addressed(_FALLBACK.sub("", text(new.get("body"))), me)
    command, words = _command(words)
    return Edited(**happened, message=MessageRef(happened["chat"], target), text=words, command=command)


def _pressed(relation: Mapping[str, Any], happened: dict[str, Any], id: str) -> Pressed | None:
    target = relation.get("event_id")
    position = KEYCAPS.get(text(relation.get("key")).replace("\ufe0f", ""))
    if not isinstance(target, str) or position is None:
        return None
    return Pressed(**happened, message=MessageRef(happened["chat"], target), position=position, mark=id, query=id)


def _voted(content: Mapping[str, Any], relation: Mapping[str, Any], happened: dict[str, Any], id: str) -> Voted | None:
    """An answer in a poll. The options' ids are their numbers (``sending.poll``); what is none spoils the answer."""
    target = relation.get("event_id")
    if not isinstance(target, str):
        return None
    unstable = content.get(POLL_RESPONSE[1])
    selections = content.get("m.selections", unstable.get("answers") if isinstance(unstable, dict) else None)
    positions: tuple[int, ...] | None = None
    if isinstance(selections, list) and all(_NUMBER.fullmatch(text(selection)) for selection in selections):
        positions = tuple(int(selection) - 1 for selection in selections[:MOST_SELECTIONS])
    return Voted(**happened, message=MessageRef(happened["chat"], target), positions=positions, mark=id)


def _command(words: str) -> tuple[str | None, str]:
    match = _COMMAND.fullmatch(words.strip())
    return (match[1], match[2].strip()) if match else (None, words)


def _addressed(words: str, me: Account) -> tuple[str, bool]:
    """The words without the bot's name at their beginning, and whether it was there."""
    for name in me.names:
        if words[: len(name)].casefold() == name.casefold():
            rest = words[len(name) :]
            if rest[:1] in (":", ",") or not rest:
                return rest[1:].strip(), True
            if rest[:1].isspace() and name.startswith("@"):
                return rest.strip(), True
    return words, False


def _file(content: Mapping[str, Any]) -> File:
    info = fields(content, "info")
    size = info.get("size")
    return File(
        ADAPTER,
        file_id(content),
        text(content.get("filename")) or text(content.get("body")) or "file",
        text(info.get("mimetype")) or "application/octet-stream",
        size if type(size) is int and size >= 0 else None,
    )


def file_id(content: Mapping[str, Any]) -> str:
    """What ``fetch`` needs of a file: its address, and in an encrypted room the keys that open it, as JSON."""
    sealed = content.get("file")
    if isinstance(sealed, dict):
        return json.dumps({name: sealed.get(name) for name in ("url", "key", "iv", "hashes")})
    return json.dumps({"url": text(content.get("url"))})


def _thread(relation: Mapping[str, Any]) -> str | None:
    root = relation.get("event_id")
    return root if relation.get("rel_type") == "m.thread" and isinstance(root, str) else None


def when(milliseconds: Any) -> datetime:
    """A server's time; never later than now, since servers may say anything."""
    now = datetime.now(UTC)
    if type(milliseconds) is not int or milliseconds < 0:
        return now
    try:
        return min(now, datetime.fromtimestamp(milliseconds / 1000, UTC))
    except (OverflowError, ValueError, OSError):
        return now


NAMES = frozenset({"displayname", "avatar_url", "prev_content"})
"""What tells who somebody is beside their id; it is not kept, not even with an event that failed."""


def kept(event: Any) -> str:
    """An event as JSON, without anybody's name."""
    try:
        return json.dumps(_nameless(event))
    except (RecursionError, ValueError):
        return '"it cannot be kept"'


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(inner) for key, inner in value.items() if key not in NAMES}
    return [_nameless(inner) for inner in value] if isinstance(value, list) else value
