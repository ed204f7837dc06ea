"""What Telegram's refusals mean for a message: later, or never."""

import re

from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, TelegramError

from bot.adapters.telegram.request import Flood, NotSent, Overtaken, Unavailable, Unclear
from bot.port import RetryLater, Undeliverable
from bot.types import ChatRef

GONE = ("chat not found", "peer_id_invalid", "group chat was deleted", "user is deactivated", "input_user_deactivated")
"""Refusals of a bad request (400) after which the whole chat can no longer be written to."""

OUTAGE = 5.0
"""Seconds after which a short outage of Telegram, or of the way to it, should be over."""

GATEWAY = frozenset({502, 503, 504})


def says(error: TelegramError, *phrases: str) -> bool:
    """Whether Telegram's description holds one of these phrases. There are no error codes finer than HTTP's."""
    description = error.message.lower()
    return any(phrase in description for phrase in phrases)


def reason(error: TelegramError) -> str:
    """Telegram's description in one line. What it quotes is left out: it may quote the message."""
    if type(error) in (TelegramError, NetworkError):
        return "unexpected fault"  # the library's own words, which may hold a URL and so the token
    return re.sub(r'"[^"]*"', '"…"', " ".join(error.message.split()))[:200]


def rejected_token(error: InvalidToken) -> str:
    """What an operator reads when Telegram does not accept the token."""
    return f"Telegram does not accept LABBOT_TELEGRAM_TOKEN ({reason(error)})"


def translate(error: TelegramError, chat: ChatRef) -> RetryLater | Undeliverable:
    """The port's error for a refusal of something meant for ``chat``.

    Telegram does not tell whether 429 is about the chat or about the bot. In a group it is taken for the group's
    own limit of 20 messages a minute, which is reached long before the bot's 30 a second. In a private chat,
    where labbot stays far below one message a second, it may be either; the pacer finds out (``Pacer.refused``).
    """
    match error:
        case Flood():
            return RetryLater(error.after, reason(error), too_fast=not is_group(chat))
        case ChatMigrated():
            return Undeliverable("the group has a new id", moved_to=ChatRef(chat.adapter, str(error.new_chat_id)))
        case Forbidden():
            return Undeliverable(reason(error), gone=True)
        case InvalidToken():
            # A revoked token is replaced by an operator; until then nothing may be given up.
            return RetryLater(60, rejected_token(error), everywhere=True)
        case NotSent():
            return RetryLater(2, reason(error), everywhere=True)
        case Overtaken():
            return RetryLater(0, reason(error), unsure=True)
        case Unclear():
            return RetryLater(OUTAGE, reason(error), unsure=True)
        case Unavailable():
            gateway = error.status in GATEWAY
            after = OUTAGE if gateway else 0
            return RetryLater(after, reason(error), unsure=error.status == 504, everywhere=gateway)
        case BadRequest():
            return Undeliverable(reason(error), gone=says(error, *GONE))
        case _:
            return RetryLater(30, reason(error), unsure=True)


def is_group(chat: ChatRef) -> bool:
    """Groups have negative ids, people positive ones."""
    return chat.id.startswith("-")
