"""Which calls are given up as lost, and that a stall of everything gives up none."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from bot.adapters.telegram.loss import FADING, LISTENED, OVERTAKEN, TWICE, Loss


class Line:
    """Calls side by side, answered by hand."""

    def __init__(self, least: float = 0.0) -> None:
        self.now = time.monotonic()
        self.loss = Loss(least, lambda: self.now)
        self.answers: list[asyncio.Future[bytes]] = []
        self.calls: list[asyncio.Task[bytes]] = []

    async def begins(self, number: int = 1, connected: asyncio.Event | None = None) -> None:
        for _ in range(number):
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self.answers.append(answer)
            self.calls.append(asyncio.create_task(self.loss.watch(partial(_exchange, answer, connected))))
            await settled()

    async def answers_to(self, *calls: int) -> None:
        for call in calls:
            self.answers[call].set_result(b"%d" % call)
            await settled()

    def lost(self) -> list[int]:
        return [at for at, call in enumerate(self.calls) if call.done() and call.exception() is not None]


async def _exchange(
    answer: asyncio.Future[bytes], connected: asyncio.Event | None, written: Callable[[], None]
) -> bytes:
    if connected is not None:
        await connected.wait()
    written()
    return await answer


async def settled() -> None:
    """Everything that is due now has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_call_is_lost_when_three_that_began_later_have_been_answered() -> None:
    line = Line()
    await line.begins(1 + OVERTAKEN)
    await line.answers_to(1, 2)
    assert line.lost() == []
    await line.answers_to(3)
    assert line.lost() == [0]
    assert isinstance(line.calls[0].exception(), TimeoutError)
    assert [await call for call in line.calls[1:]] == [b"1", b"2", b"3"]


@pytest.mark.asyncio
async def test_what_waits_for_a_connection_is_not_overtaken_before_it_is_written() -> None:
    line, connected = Line(), asyncio.Event()
    await line.begins(connected=connected)
    await line.begins(2 * OVERTAKEN)
    await line.answers_to(*range(1, 1 + OVERTAKEN))
    assert line.lost() == []
    connected.set()  # and what was written before it says nothing about it
    await settled()
    await line.answers_to(*range(1 + OVERTAKEN, 1 + 2 * OVERTAKEN))
    assert line.lost() == []
    await line.begins(OVERTAKEN)
    await line.answers_to(*range(1 + 2 * OVERTAKEN, 1 + 3 * OVERTAKEN))
    assert line.lost() == [0]


@pytest.mark.asyncio
async def test_a_stall_of_everything_gives_up_nothing() -> None:
    line = Line()
    await line.begins(20)
    await line.answers_to(*range(20))
    assert line.lost() == []


@pytest.mark.asyncio
async def test_what_is_overtaken_but_takes_no_longer_than_others_do_is_waited_for() -> None:
    line = Line(least=60)
    await line.begins(10)
    await line.answers_to(*range(9, -1, -1))
    assert line.lost() == []


@pytest.mark.asyncio
async def test_calls_that_fail_overtake_nothing() -> None:
    line = Line()
    await line.begins(5)
    for answer in line.answers[1:]:
        answer.set_exception(ConnectionError())
    await settled()
    assert not line.calls[0].done()
    line.calls[0].cancel()


@pytest.mark.asyncio
async def test_an_answer_that_comes_after_all_makes_it_more_patient() -> None:
    line = Line()
    await line.begins(1 + OVERTAKEN)
    await line.answers_to(1, 2, 3)
    assert line.lost() == [0]
    line.now += 5
    await line.answers_to(0)
    assert line.loss.patience == TWICE * 5


@pytest.mark.asyncio
async def test_how_slow_an_answer_can_be_is_forgotten_by_time_however_many_come_fast() -> None:
    line = Line()
    await line.begins()
    line.now += 4
    await line.answers_to(0)
    await line.begins(3000)
    await line.answers_to(*range(1, 3001))
    assert line.loss.patience == TWICE * 4
    line.now += FADING
    assert line.loss.patience == TWICE * 2


@pytest.mark.asyncio
async def test_a_stall_of_everything_makes_it_no_more_patient_and_gives_up_nothing_when_it_ends() -> None:
    line = Line(least=1)
    await line.begins(10)
    line.now += 40
    await line.answers_to(*range(9, -1, -1))  # in whatever order
    assert line.lost() == []
    assert line.loss.patience == TWICE * 1  # what is left of the silence
    await line.begins(OVERTAKEN)
    for call in range(10 + OVERTAKEN, 20 + OVERTAKEN):
        await line.begins()
        line.now += 0.5
        await line.answers_to(call)
    await line.answers_to(10)  # others were answered all the time: this one is slow itself
    assert line.loss.patience == TWICE * 5


@pytest.mark.asyncio
async def test_a_pause_in_which_nothing_is_asked_is_no_stall() -> None:
    line = Line(least=1)
    await line.begins()
    await line.answers_to(0)
    line.now += 3600
    await line.begins(OVERTAKEN + 1)
    line.now += 5
    await line.answers_to(4, 3)
    await line.begins(OVERTAKEN)
    line.now += 0.5
    await line.answers_to(5, 6, 7)
    line.now += 5
    await line.answers_to(1)
    assert line.loss.patience == TWICE * 6.5  # without the four seconds in which all waited


@pytest.mark.asyncio
async def test_to_what_is_given_up_it_listens_on_only_so_often() -> None:
    line = Line()
    await line.begins(2 * LISTENED)
    await line.begins(OVERTAKEN)
    await line.answers_to(*range(2 * LISTENED, 2 * LISTENED + OVERTAKEN))
    assert len(line.lost()) == 2 * LISTENED
    assert sum(answer.cancelled() for answer in line.answers) == LISTENED
    line.loss.close()
    await settled()
    assert sum(answer.cancelled() for answer in line.answers) == 2 * LISTENED
