"""The webhook's inbox: requests wait here until what they brought is stored."""

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from bot.adapters.telegram.receiving import BATCH
from bot.adapters.telegram.request import decode

LARGEST_BODY = 1024 * 1024
MOST_WAITING = 1000


def secret_for(token: str) -> str:
    """The secret Telegram repeats with each request: the same after a restart, and no way back to the token."""
    return hmac.new(token.encode(), b"labbot webhook", hashlib.sha256).hexdigest()


class Inbox:
    """Gathers what webhook requests bring into batches, and answers them once a batch is stored.

    Telegram sends the next update of a chat only after the one before was answered, so order holds.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._waiting: deque[tuple[Any, asyncio.Future[HTTPStatus]]] = deque()
        self._unanswered: set[asyncio.Future[HTTPStatus]] = set()
        self._arrived = asyncio.Event()
        self._closed = False

    async def receive(self, secret: str | None, body: bytes) -> int:
        """Take one request and return the status to answer with, 200 only after the core has stored it."""
        if secret is None or not hmac.compare_digest(secret.encode("utf-8", "replace"), self._secret):
            return HTTPStatus.FORBIDDEN
        if len(body) > LARGEST_BODY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        try:
            update = decode(body)
        except (ValueError, RecursionError):
            return HTTPStatus.BAD_REQUEST
        if not isinstance(update, dict):
            return HTTPStatus.BAD_REQUEST
        if self._closed or len(self._unanswered) >= MOST_WAITING:
            return HTTPStatus.SERVICE_UNAVAILABLE
        answer: asyncio.Future[HTTPStatus] = asyncio.get_running_loop().create_future()
        self._unanswered.add(answer)
        answer.add_done_callback(self._unanswered.discard)
        self._waiting.append((update, answer))
        self._arrived.set()
        return await answer

    @asynccontextmanager
    async def gathered(self) -> AsyncIterator[list[Any]]:
        """The next updates. Leaving the block answers 200, leaving it by an exception 503: Telegram sends again."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        status = HTTPStatus.SERVICE_UNAVAILABLE
        try:
            yield [update for update, _ in taken]
            status = HTTPStatus.OK
        finally:
            for _, answer in taken:
                if not answer.done():
                    answer.set_result(status)

    def close(self) -> None:
        """Send every waiting request away, to be repeated later."""
        self._closed = True
        for answer in list(self._unanswered):
            if not answer.done():
                answer.set_result(HTTPStatus.SERVICE_UNAVAILABLE)
