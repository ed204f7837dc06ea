"""Patience: asking until the homeserver answers."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bot.port import RetryLater

log = structlog.get_logger()
T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


class Patience:
    """Asks until the homeserver answers, with backoff and jitter between half a second and half a minute."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]], random: Callable[[], float]) -> None:
        self.sleep = sleep
        self._random = random

    async def outlast(
        self, ask: Callable[[], Awaitable[T]], longest: float = LONGEST_PAUSE, tries: int | None = None
    ) -> T:
        """The answer, however long it takes. Only ``Refused`` and ``Rejected`` are passed on.

        With ``tries`` it gives up after so many, or once half a minute is over: then ``RetryLater`` is passed on too.
        """
        attempt = 0
        began = time.monotonic()
        while True:
            try:
                answer = await ask()
            except RetryLater as error:
                if tries is not None and (attempt + 1 >= tries or time.monotonic() - began > LONGEST_PAUSE):
                    raise
                pause = min(longest, FIRST_PAUSE * 2.0 ** min(attempt, 12)) * (0.5 + self._random() / 2)
                pause = max(pause, error.after)
                attempt += 1
                log.warning("matrix.call_failed", fault=error.reason, attempt=attempt, pause=round(pause, 1))
                await self.sleep(pause)
            else:
                if attempt:
                    log.info("matrix.recovered", attempts=attempt)
                return answer
