"""Calls that will never be answered, known by those that overtake them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

OVERTAKEN = 3
"""So many calls that began later must have been answered: TCP's three duplicate acknowledgements (RFC 5681, 3.2)."""

LEAST = 0.75
"""Seconds a call has at least, however fast the others are."""

TWICE = 2
"""A call has this many times what the slowest answer of late took; as RACK's window, it grows by what came late after
all (RFC 8985, 3.3.2)."""

FADING = 0.9995
"""What remains of the slowest answer with each further one: half of it after some 1,400."""

LISTENED = 32
"""To so many calls that are given up the bot goes on listening, to learn how late an answer can be."""


class _Call:
    __slots__ = ("begun", "deadline", "overtaken")

    def __init__(self, begun: float, deadline: asyncio.Timeout) -> None:
        self.begun = begun
        self.deadline = deadline
        self.overtaken = 0


class Loss:
    """Tells lost answers from late ones, after the loss detection of TCP (RACK, RFC 8985).

    A call is lost when several that began after it have been answered and it takes far longer than any of late. While a
    whole server stalls, nothing overtakes: then nothing is given up, and so nothing is said twice.
    """

    def __init__(self, least: float = LEAST) -> None:
        self._least = least
        self._open: dict[int, _Call] = {}
        self._begun = 0
        self._slowest = 0.0
        self._listening: set[asyncio.Task[Any]] = set()

    @property
    def patience(self) -> float:
        """Seconds after which an overtaken call is lost."""
        return max(self._least, TWICE * self._slowest)

    async def watch(self, exchange: Coroutine[Any, Any, bytes]) -> bytes:
        """What the exchange brings. Raises ``TimeoutError`` when it is lost; whatever it raises itself is no answer."""
        clock = asyncio.get_running_loop().time
        self._begun += 1
        turn, begun = self._begun, clock()
        task = asyncio.create_task(exchange)
        deadline = asyncio.timeout(None)
        try:
            async with deadline:
                self._open[turn] = _Call(begun, deadline)
                await asyncio.wait((task,))
        except TimeoutError:
            if not task.done():
                self._listen(task, begun)
                raise
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._open.pop(turn, None)
        answer = task.result()
        self._answered(clock() - begun)
        self._overtake(turn)
        return answer

    def close(self) -> None:
        """Listen no longer to what was given up."""
        for task in self._listening:
            task.cancel()

    def _answered(self, took: float) -> None:
        self._slowest = max(took, self._slowest * FADING)

    def _overtake(self, turn: int) -> None:
        for other, call in self._open.items():
            if other > turn:
                break
            call.overtaken += 1
            if call.overtaken == OVERTAKEN:
                call.deadline.reschedule(call.begun + self.patience)

    def _listen(self, task: asyncio.Task[bytes], begun: float) -> None:
        if len(self._listening) >= LISTENED:
            task.cancel()
            return

        def heard(done: asyncio.Task[bytes]) -> None:
            self._listening.discard(done)
            if not done.cancelled() and done.exception() is None:
                self._answered(done.get_loop().time() - begun)

        self._listening.add(task)
        task.add_done_callback(heard)
