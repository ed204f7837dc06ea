"""Reading Telegram: an update as python-telegram-bot parsed it becomes what happened, or nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import telegram

from bot.adapters.telegram.formatting import between, in_units, typed
from bot.types import Actor, ChatRef, Edited, File, Joined, Left, MessageRef, Moved, Pressed, Said, Update

ADAPTER = "telegram"

ADDRESSED = " \n\t,:"
"""What stands between the bot's name and what is said to it."""

ANONYMOUS = frozenset({1087968824, 136817688, 777000})
"""Accounts Telegram writes in place of a person: anonymous administrators, channels, forwarded channel posts."""

CHOICE = re.compile(r"([0-9]{1,18}):([0-9]{1,3})")
"""``callback_data``: revision and position. Clients can send anything, so it is matched as a whole."""


@dataclass(frozen=True, slots=True)
class Account:
    """The bot's own account, as ``getMe`` tells it."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Words:
    """What was written: a command for this bot, what else was said, and whether the bot was named."""

    text: str
    command: str | None = None
    mentioned: bool = False
    marked: str = ""


def read(update: telegram.Update, me: Account, now: datetime) -> Update | None:
    """What an update means, or ``None`` when it is nothing to the bot. ``now`` dates presses, which have no time."""
    key = str(update.update_id)
    if update.message is not None:
        return _said(key, update.message, me)
    if update.callback_query is not None:
        return _pressed(key, update.callback_query, now)
    if update.edited_message is not None:
        return _edited(key, update.edited_message, me)
    if update.my_chat_member is not None:
        return _membership(key, update.my_chat_member)
    return None


def _said(key: str, message: telegram.Message, me: Account) -> Said | Moved | None:
    actor = _actor(message)
    if actor is None or not _is_conversation(message.chat):
        return None
    chat = _chat(message)
    private = _is_private(message.chat)
    title = _title(message.chat)
    if message.migrate_to_chat_id is not None:
        to = ChatRef(ADAPTER, _number(message.migrate_to_chat_id))
        return Moved(key, chat, actor, message.date, private, to, title=title)
    files = _files(message)
    written = message.text is not None or message.caption is not None
    if not written and not files and not message.effective_attachment:
        return None  # a service message: somebody joined, a title changed, a message was pinned
    words = _words(message, me, private)
    if words is None:
        return None
    return Said(
        key,
        chat,
        actor,
        message.date,
        private,
        MessageRef(chat, _number(message.message_id)),
        words.text,
        words.command,
        _reply_to(message, chat),
        files,
        words.mentioned,
        _quoted(message),
        words.marked,
        title=title,
    )


def _quoted(message: telegram.Message) -> str:
    """The text of the message this one answers."""
    answered = message.reply_to_message
    if answered is None:
        return ""
    text, entities = _written(answered)
    return clean(typed(text, entities) or text)


def _written(message: telegram.Message) -> tuple[str, Sequence[telegram.MessageEntity]]:
    """The text of a message, or what stands beside its file, and what is marked in it."""
    text = message.text if message.text is not None else message.caption or ""
    return text, message.entities or message.caption_entities


def _edited(key: str, message: telegram.Message, me: Account) -> Edited | None:
    actor = _actor(message)
    if actor is None or not _is_conversation(message.chat):
        return None
    if message.text is None and message.caption is None and not _files(message):
        return None  # a live location that moves on
    private = _is_private(message.chat)
    words = _words(message, me, private)
    if words is None:
        return None
    chat = _chat(message)
    at = message.edit_date or message.date
    title = _title(message.chat)
    ref = MessageRef(chat, _number(message.message_id))
    return Edited(key, chat, actor, at, private, ref, words.text, words.command, title=title)


def _pressed(key: str, query: telegram.CallbackQuery, now: datetime) -> Pressed | None:
    message = query.message
    if message is None or not _is_conversation(message.chat):
        return None
    # An inaccessible message (too old, or deleted) still has a chat and an id, and no topic.
    chat = _chat(message) if isinstance(message, telegram.Message) else ChatRef(ADAPTER, _number(message.chat.id))
    actor = Actor(_number(query.from_user.id), _locale(query.from_user))
    choice = CHOICE.fullmatch(query.data or "")
    return Pressed(
        key,
        chat,
        actor,
        now,
        _is_private(message.chat),
        MessageRef(chat, _number(message.message_id)),
        int(choice[2]) if choice else -1,
        int(choice[1]) if choice else None,
        query.id,
        title=_title(message.chat),
    )


def _membership(key: str, change: telegram.ChatMemberUpdated) -> Joined | Left | None:
    """The bot's own standing changed. This update tells it for groups and for people who block or unblock."""
    if not _is_conversation(change.chat):
        return None
    before, after = _can_write(change.old_chat_member), _can_write(change.new_chat_member)
    if before == after:
        return None
    user = change.from_user
    actor = Actor(_number(user.id), _locale(user), user.id in ANONYMOUS)
    happened = Joined if after else Left
    chat = ChatRef(ADAPTER, _number(change.chat.id))
    return happened(key, chat, actor, change.date, _is_private(change.chat), title=_title(change.chat))


def _can_write(member: telegram.ChatMember) -> bool:
    if isinstance(member, telegram.ChatMemberRestricted):
        return member.is_member and member.can_send_messages
    return member.status in {"member", "administrator", "creator"}


def _actor(message: telegram.Message) -> Actor | None:
    """Who wrote; ``None`` for bots, which are never answered."""
    user, instead = message.from_user, message.sender_chat
    if user is None:
        return None if instead is None else Actor(_number(instead.id), anonymous=True)
    anonymous = instead is not None or user.id in ANONYMOUS
    if user.is_bot and not anonymous:
        return None
    return Actor(_number(user.id), _locale(user), anonymous)


def _number(value: object) -> str:
    """An id as text. The library does not look: what is no number is not to reach the core."""
    if type(value) is not int:
        raise TypeError("an id that is no number")
    return str(value)


def _locale(user: telegram.User) -> str | None:
    return user.language_code if isinstance(user.language_code, str) else None


def _is_private(chat: telegram.Chat) -> bool:
    return chat.type == "private"


def _is_conversation(chat: telegram.Chat) -> bool:
    return chat.type in {"private", "group", "supergroup"}


def _chat(message: telegram.Message) -> ChatRef:
    thread = message.message_thread_id if message.is_topic_message else None
    return ChatRef(ADAPTER, _number(message.chat.id), None if thread is None else _number(thread))


def _title(chat: telegram.Chat) -> str | None:
    return None if chat.title is None else clean(chat.title)


def _reply_to(message: telegram.Message, chat: ChatRef) -> MessageRef | None:
    answered = message.reply_to_message
    # Everything in a topic formally answers the message that opened the topic.
    if answered is None or (chat.thread is not None and str(answered.message_id) == chat.thread):
        return None
    return MessageRef(chat, _number(answered.message_id))


def _words(message: telegram.Message, me: Account, private: bool) -> Words | None:
    """What the message says; ``None`` when it is a command for another bot."""
    text, entities = _written(message)
    begin, mentioned = 0, False
    for entity in entities:
        if entity.type == "bot_command" and entity.offset == 0:
            name, _, owner = _cut(text, entity)[1:].partition("@")
            if owner and owner.lower() != me.username.lower():
                return None
            rest = clean(between(in_units(text), entity.length)).strip()
            marked = clean(typed(text, entities, entity.length)).strip()
            return Words(rest, clean(name.lower()), bool(owner) and not private, marked)
    if not private:
        for entity in entities:
            if _names(entity, text, me):
                mentioned = True
                if entity.offset == 0:
                    begin = entity.length
                break
    words = text if begin == 0 else between(in_units(text), begin).lstrip(ADDRESSED)
    marked = typed(text, entities, begin)
    return Words(clean(words), mentioned=mentioned, marked=clean(marked if begin == 0 else marked.lstrip(ADDRESSED)))


def _names(entity: telegram.MessageEntity, text: str, me: Account) -> bool:
    if entity.type == "text_mention":
        return entity.user is not None and entity.user.id == me.id
    return entity.type == "mention" and _cut(text, entity).lower() == f"@{me.username.lower()}"


def _cut(text: str, entity: telegram.MessageEntity) -> str:
    """The part of the text an entity covers; offsets count UTF-16 units."""
    return between(in_units(text), entity.offset, entity.offset + entity.length)


def clean(text: str) -> str:
    """Text that every database takes: no half characters, no NUL."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "")


def _files(message: telegram.Message) -> tuple[File, ...]:
    if message.photo:
        return (_file(message.photo[-1], "photo.jpg", "image/jpeg"),)  # the largest comes last
    if message.voice is not None:
        return (_file(message.voice, "voice.ogg", "audio/ogg"),)
    for sent, name, media_type in (
        (message.document, "document", "application/octet-stream"),
        (message.audio, "audio.mp3", "audio/mpeg"),
        (message.video, "video.mp4", "video/mp4"),
    ):
        if sent is not None:
            return (_file(sent, name, media_type),)
    return ()


def _file(sent: Any, name: str, media_type: str) -> File:
    """A file by reference. python-telegram-bot checks no types, and what is no text or number is not told."""
    told, kind, size = getattr(sent, "file_name", None), getattr(sent, "mime_type", None), sent.file_size
    return File(
        ADAPTER,
        str(sent.file_id),
        clean(told) if isinstance(told, str) and told else name,
        clean(kind) if isinstance(kind, str) and kind else media_type,
        size if isinstance(size, int) else None,
    )
