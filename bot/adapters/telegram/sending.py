"""Writing Telegram: a rendered message as parameters of the Bot API."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import structlog
import telegram

from bot.adapters.telegram.faults import is_group
from bot.port import Button, Command, Rendered, Undeliverable, Upload
from bot.types import ChatRef

log = structlog.get_logger()

ROW_BUTTONS = 3
ROW_CHARACTERS = 30
"""What still reads well side by side on a narrow phone."""

TOAST = 200
PHOTO_BYTES = 10 * 1024 * 1024
PHOTO_TYPES = frozenset({"image/png", "image/jpeg"})
COMMAND_NAME = re.compile(r"[a-z0-9_]{1,32}")
MOST_COMMANDS = 100
LONGEST_HELP = 256


def number(text: str) -> int:
    """An id of Telegram's as the number it is. Raises ``Undeliverable`` for another messenger's id."""
    try:
        return int(text)
    except ValueError:
        raise Undeliverable("this is no id of Telegram's") from None


def parameters(chat: ChatRef, message: Rendered, username: str) -> dict[str, Any]:
    """What sending as text and sending as a file have in common.

    Telegram takes one ``reply_markup`` only: a message with buttons cannot open the reply field as well.
    In groups nothing rings unless it is meant to; in private everything is meant for the one who reads.
    """
    shared: dict[str, Any] = {"chat_id": number(chat.id), "parse_mode": "HTML"}
    group = is_group(chat)
    if message.buttons:
        shared["reply_markup"] = keyboard(message, username)
    elif message.question and group and message.reply_to is not None:  # else it would open for everybody
        shared["reply_markup"] = {"force_reply": True, "selective": True}
    if message.reply_to is not None:
        shared["reply_parameters"] = {"message_id": number(message.reply_to), "allow_sending_without_reply": True}
    if group and not message.loud:
        shared["disable_notification"] = True
    return shared


def keyboard(message: Rendered, username: str) -> dict[str, Any]:
    """Buttons in rows. On the wire goes only which version of the choices, and which of them."""
    buttons = message.buttons
    return {
        "inline_keyboard": [
            [_button(buttons[position], message.revision, position, username) for position in row]
            for row in rows([button.label for button in buttons])
        ]
    }


def rows(labels: Sequence[str]) -> list[list[int]]:
    """Positions of the labels, row by row: short ones side by side, a long one alone."""
    laid: list[list[int]] = []
    room = 0
    for position, label in enumerate(labels):
        if laid and len(laid[-1]) < ROW_BUTTONS and len(label) <= room:
            laid[-1].append(position)
        else:
            laid.append([position])
            room = ROW_CHARACTERS
        room -= len(label)
    return laid


def _button(button: Button, revision: int, position: int, username: str) -> dict[str, str]:
    if button.url is not None:
        return {"text": button.label, "url": button.url}
    if button.start is not None:
        return {"text": button.label, "url": f"https://t.me/{username}?start={quote(button.start, safe='')}"}
    return {"text": button.label, "callback_data": f"{revision}:{position}"}


def member(answer: Any) -> str | None:
    """The first name of somebody who is in the group, by the answer to ``getChatMember``; ``None`` of anybody else."""
    user = answer.get("user") if isinstance(answer, dict) else None
    if not isinstance(user, dict) or user.get("is_bot"):
        return None
    here = answer.get("status") in ("creator", "administrator", "member") or answer.get("is_member") is True
    name = user.get("first_name")
    return name if here and isinstance(name, str) and name.strip() else None


def mention(account: str, name: str) -> str:
    """A link to somebody's account, which rings for them."""
    return f'<a href="tg://user?id={number(account)}">{escape(name)}</a>'


def toast(note: str) -> str:
    """A note short enough to pop up."""
    return note if len(note) <= TOAST else note[: TOAST - 1].rstrip() + "…"


def file_kind(upload: Upload) -> str:
    """Whether a file goes out as a "photo", to be seen at once, or as a "document"."""
    return "photo" if upload.media_type in PHOTO_TYPES and len(upload.content) <= PHOTO_BYTES else "document"


def known_file(upload: Upload) -> tuple[str, str] | None:
    """What to send in place of the content: kind and file id, when it was uploaded before.

    Kept as "photo:…" or "document:…", since Telegram does not send one again as the other.
    """
    if not upload.sent_as:
        return None
    kind, _, known = upload.sent_as.partition(":")
    return (kind, known) if kind in {"photo", "document"} else (file_kind(upload), upload.sent_as)


def file_id(result: Any, kind: str) -> str | None:
    """What Telegram calls the file it was sent, in the answer to ``sendPhoto`` or ``sendDocument``."""
    sent = result.get(kind)
    if isinstance(sent, list) and sent:
        sent = sent[-1]
    found = sent.get("file_id") if isinstance(sent, dict) else None
    return found if isinstance(found, str) else None


def menus(commands: Sequence[Command]) -> dict[str | None, list[telegram.BotCommand]]:
    """The menu of each two-letter language; the first locale's is also everybody else's, under ``None``."""
    laid: dict[str | None, list[telegram.BotCommand]] = {}
    first = commands[0].locale if commands else ""
    for command in commands:
        if not command.everyone:
            continue
        if not COMMAND_NAME.fullmatch(command.name) or not command.help:
            log.warning("telegram.command_skipped", name=command.name)
            continue
        entry = telegram.BotCommand(command.name, command.help[:LONGEST_HELP])
        language = re.split("[-_]", command.locale)[0].lower()
        if command.locale == first:
            laid.setdefault(None, []).append(entry)
        if re.fullmatch("[a-z]{2}", language):
            laid.setdefault(language, []).append(entry)
    return {language: entries[:MOST_COMMANDS] for language, entries in laid.items()}
