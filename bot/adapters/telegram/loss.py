"""Calls that will never be answered, known by those that overtake them."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

Exchange = Callable[[Callable[[], None]], Coroutine[Any, Any, bytes]]
"""Makes a call; it calls what it is given when the request is written to its connection."""

OVERTAKEN = 3
"""So many that were written later must have been answered: TCP's three duplicate acknowledgements (RFC 5681, 3.2)."""

LEAST = 0.75
"""Seconds a call has at least, however fast the others are."""

TWICE = 2
"""A call has this many times what the slowest answer of late took; as RACK's window, it grows by what came late after
all (RFC 8985, 3.3.2)."""

FADING = 600.0
"""Seconds in which half of the slowest answer is forgotten. By time, not by answers: a chat that is slow once in a
while is slow in a busy hour, too."""

LISTENED = 32
"""To so many calls that are given up the bot goes on listening, to learn how late an answer can be."""


class _Call:
    __slots__ = ("begun", "deadline", "overtaken", "stood", "turn")

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self.turn = 0
        self.begun = 0.0
        self.stood = 0.0
        self.deadline = deadline
        self.overtaken = 0


class Loss:
    """Tells lost answers from late ones, after the loss detection of TCP (RACK, RFC 8985).

    A call is lost when several that were written after it have been answered and it takes far longer than any of late.
    While a whole server stalls, nothing overtakes: then nothing is given up, and so nothing is said twice. Such a
    silence of everything says nothing of single calls: it does not count as time that they took.
    """

    def __init__(self, least: float = LEAST, clock: Callable[[], float] = time.monotonic) -> None:
        self._least = least
        self._clock = clock  # asyncio's own is the same
        self._open: dict[int, _Call] = {}
        self._written = 0
        self._slowest = 0.0
        self._slowest_at = 0.0
        self._heard = 0.0
        self._stood = 0.0
        self._listening: set[asyncio.Task[Any]] = set()

    @property
    def patience(self) -> float:
        """Seconds after which an overtaken call is lost."""
        faded = self._slowest * math.exp2((self._slowest_at - self._clock()) / FADING)
        return max(self._least, TWICE * faded)

    async def watch(self, exchange: Exchange) -> bytes:
        """What the exchange brings. Raises ``TimeoutError`` when it is lost; whatever it raises itself is no answer.

        Its time begins when it is written: what waits for a connection has not been said, and cannot be lost.
        """
        deadline = asyncio.timeout(None)
        call = _Call(deadline)

        def written() -> None:
            self._written += 1
            call.turn, call.begun, call.stood = self._written, self._clock(), self._stood
            self._open[call.turn] = call

        task = asyncio.create_task(exchange(written))
        try:
            async with deadline:
                await asyncio.wait((task,))
        except TimeoutError:
            if not task.done():
                self._listen(task, call)
                raise
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._open.pop(call.turn, None)
        answer = task.result()
        self._break_silence()
        self._answered(call)
        self._overtake(call.turn)
        return answer

    def close(self) -> None:
        """Listen no longer to what was given up."""
        for task in self._listening:
            task.cancel()

    def _break_silence(self) -> None:
        """An answer: for how long was there none, though several more calls than this one waited?"""
        now = self._clock()
        waits = next(islice(self._open.values(), OVERTAKEN - 1, None), None)
        if waits is not None:
            self._stood += max(0.0, now - max(self._heard, waits.begun) - self._least)
        self._heard = now

    def _answered(self, call: _Call) -> None:
        now = self._clock()
        took = now - call.begun - (self._stood - call.stood)
        if TWICE * took > self.patience:
            self._slowest, self._slowest_at = took, now

    def _overtake(self, turn: int) -> None:
        for other, call in self._open.items():
            if other > turn:
                break
            call.overtaken += 1
            if call.overtaken == OVERTAKEN:
                call.deadline.reschedule(call.begun + (self._stood - call.stood) + self.patience)

    def _listen(self, task: asyncio.Task[bytes], call: _Call) -> None:
        if len(self._listening) >= LISTENED:
            task.cancel()
            return

        def heard(done: asyncio.Task[bytes]) -> None:
            self._listening.discard(done)
            if not done.cancelled() and done.exception() is None:
                self._answered(call)

        self._listening.add(task)
        task.add_done_callback(heard)
