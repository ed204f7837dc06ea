"""Receiving: long polling that outlasts every fault, and updates that are understood one by one."""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
import telegram
from telegram.error import Conflict, InvalidToken, TelegramError

from bot.adapters.telegram.faults import reason, rejected_token
from bot.adapters.telegram.reading import Account, read
from bot.adapters.telegram.request import Flood, Request, Unclear
from bot.port import Refused
from bot.types import Unreadable, Update

log = structlog.get_logger()
T = TypeVar("T")

ALLOWED = ("message", "edited_message", "callback_query", "my_chat_member")
BATCH = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
MARGIN = 10.0
"""Seconds beyond the poll's own timeout before a silent connection counts as dead."""

NAMED_AGAIN = 600.0
"""Seconds after which a rival for the token is named again: while two take turns, every second poll fails."""


class Patience:
    """Asks until Telegram answers, with exponential backoff and jitter between half a second and half a minute."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]], random: Callable[[], float]) -> None:
        self.sleep = sleep
        self.answered_at: float | None = None
        self._random = random
        self._named_at: float | None = None

    async def outlast(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, however long it takes; raises ``Refused`` when the token is not accepted."""
        attempt = 0
        rivals = False
        while True:
            try:
                answer = await ask()
            except InvalidToken as error:
                raise Refused(rejected_token(error)) from None
            except TelegramError as error:
                pause = self._pause(attempt, error)
                attempt += 1
                rivals = isinstance(error, Conflict)
                if not rivals:
                    log.warning("telegram.poll_failed", fault=reason(error), attempt=attempt, pause=round(pause, 1))
                elif self._named_at is None or time.monotonic() - self._named_at > NAMED_AGAIN:
                    self._named_at = time.monotonic()
                    log.error("telegram.conflict", fault="another process polls with this token", said=reason(error))
                await self.sleep(pause)
            else:
                self.answered_at = time.time()
                if attempt and not rivals:
                    log.info("telegram.recovered", attempts=attempt)
                return answer

    def _pause(self, attempt: int, error: TelegramError) -> float:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 10)) * (0.5 + self._random() / 2)
        return max(pause, error.after) if isinstance(error, Flood) else pause


class Poll:
    """One ``getUpdates`` after another, over connections nothing else uses."""

    def __init__(self, request: Request, timeout: int, margin: float) -> None:
        self._request = request
        self._timeout = timeout
        self._margin = margin

    async def ask(self, offset: int | None) -> list[Any]:
        """Updates from ``offset`` on, which confirms all before it.

        A request that stays silent beyond its time is cancelled and its connection dropped: a half-open connection
        would otherwise wait for ever. Raises TelegramError.
        """
        parameters: dict[str, Any] = {"limit": BATCH, "timeout": self._timeout, "allowed_updates": ALLOWED}
        if offset is not None:
            parameters["offset"] = offset
        try:
            async with asyncio.timeout(self._timeout + self._margin):
                updates = await self._request.call("getUpdates", parameters)
        except TimeoutError:
            await self._request.reset()
            raise Unclear("the poll got no answer in time") from None
        if not isinstance(updates, list):
            raise Unclear("getUpdates did not answer with a list")
        return updates


def offset_of(cursor: str | None) -> int | None:
    """A stored cursor as an offset; one that is none starts from what Telegram still keeps."""
    if cursor is None:
        return None
    if cursor.isascii() and cursor.isdecimal():
        return int(cursor)
    log.warning("telegram.cursor_ignored")
    return None


def next_offset(updates: Sequence[Any]) -> int | None:
    """The offset that confirms these updates, ``None`` when none of them has an id.

    Only this batch is looked at: after a week of silence ids start anew, perhaps at a lower one.
    """
    ids = [update_id for update in updates if (update_id := _id(update)) is not None]
    return max(ids) + 1 if ids else None


class Raw(Mapping[str, str]):
    """Updates as they came but nameless, by key. JSON is written only for the one that is looked up."""

    def __init__(self, updates: Mapping[str, Any]) -> None:
        self._updates = updates

    def __getitem__(self, key: str) -> str:
        return kept(self._updates[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._updates)

    def __len__(self) -> int:
        return len(self._updates)


NAMES = frozenset({"first_name", "last_name", "username", "phone_number", "vcard", "author_signature"})
"""What tells who somebody is beside their number; it is not kept, not even with an update that failed."""


def kept(update: Any) -> str:
    """An update as JSON, without anybody's name."""
    try:
        return json.dumps(_nameless(update))
    except RecursionError:
        return '"nested too deeply to be kept"'


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(inner) for key, inner in value.items() if key not in NAMES}
    return [_nameless(inner) for inner in value] if isinstance(value, list) else value


def understand(updates: Sequence[Any], me: Account) -> tuple[list[Update | Unreadable], Raw]:
    """What happened, in order, and each update as it came. What is nothing to the bot is left out."""
    now = datetime.now(UTC)
    happened: list[Update | Unreadable] = []
    raw: dict[str, Any] = {}
    for update in updates:
        key = _key(update)
        raw[key] = update
        try:
            if _id(update) is None:
                raise ValueError("the update has no id")
            read_as = read(telegram.Update.de_json(update), me, now)
        except Exception as error:
            # Whatever a malformed update does to the parser, the ones after it must come through.
            # Its name only: the parser's words may quote somebody's.
            happened.append(Unreadable(key, kept(update), type(error).__name__))
        else:
            if read_as is not None:
                happened.append(read_as)
    return happened, Raw(raw)


def _id(update: Any) -> int | None:
    update_id = update.get("update_id") if isinstance(update, dict) else None
    return update_id if type(update_id) is int and update_id >= 0 else None


def _key(update: Any) -> str:
    update_id = _id(update)
    if update_id is not None:
        return str(update_id)
    return "unreadable-" + hashlib.sha256(kept(update).encode()).hexdigest()[:16]
