"""The pacer: never faster than a messenger allows, and not slower than needed."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.adapters.memory import UNLIMITED
from bot.pacer import CHAT_WINDOW, CREEP, GROUP_WINDOW, REFUSED, SLOWER, SLOWEST, Pacer
from bot.port import Limits
from tests.conftest import ManualTime

TELEGRAM = replace(UNLIMITED, rate=30.0, chat_rate=1.0, group_rate=0.33)


class Post:
    """Sends as soon as the pacer lets it, and notes when."""

    def __init__(self, limits: Limits = TELEGRAM) -> None:
        self.time = ManualTime()
        self.pacer = Pacer(limits, self.time)
        self.sent: list[float] = []

    def send(self, chat: int = 0, *, private: bool = True) -> float:
        """Wait until this may go, and let it go. Returns the moment."""
        ready = max(self.pacer.ready_at(), self.pacer.chat_ready_at(chat, private))
        self.time.pass_by(max(0.0, ready - self.time.monotonic()))
        self.pacer.take(chat, private)
        self.sent.append(self.time.monotonic())
        return self.sent[-1]


def most_within(times: list[float], window: float) -> int:
    """The most that went within any stretch of this length."""
    return max(sum(start <= time < start + window - 1e-6 for time in times) for start in times)


def test_over_all_chats_there_is_no_burst_even_after_silence() -> None:
    post = Post()
    post.time.pass_by(3600)
    for chat in range(300):
        post.send(chat)
    assert most_within(post.sent, 1) <= 31  # the spacing forgives one timer that is late
    assert post.sent[-1] - post.sent[0] >= 298 / 30
    assert post.sent[-1] - post.sent[0] <= 299 / 30 + 1e-6


def test_what_a_silence_has_saved_may_go_at_once_where_the_messenger_allows_it() -> None:
    post = Post(replace(UNLIMITED, rate=0.2, burst=8))
    post.time.pass_by(3600)
    for chat in range(30):
        post.send(chat)
    assert post.sent.count(post.sent[0]) == 9  # the spacing forgives one timer that is late
    assert post.sent[-1] - post.sent[0] == pytest.approx(21 / 0.2)
    post.time.pass_by(10)
    before = len(post.sent)
    for chat in range(30, 33):
        post.send(chat)
    assert [time - post.sent[before] for time in post.sent[before:]] == pytest.approx([0, 0, 5])


def test_a_late_timer_costs_no_throughput() -> None:
    post = Post()
    for chat in range(300):
        post.send(chat)
        post.time.pass_by(0.02)  # less than the spacing of 33 ms
    assert post.sent[-1] - post.sent[0] <= 299 / 30 + 0.02


def test_a_complaint_slows_down_once_for_all_that_was_under_way_and_the_pace_creeps_up_again() -> None:
    post = Post()
    post.send(1)
    for _ in range(8):  # in flight together
        post.pacer.too_fast()
        post.pacer.pause(2)
    assert post.pacer.pace == SLOWER
    post.time.pass_by(2)
    sent = [post.send(chat) for chat in range(2, 32)]
    assert 29 / 30 < sent[-1] - sent[0] <= 29 / 30 / SLOWER
    assert post.pacer.pace > SLOWER
    post.time.pass_by((1 - SLOWER) / CREEP)
    assert post.pacer.pace == 1.0


def test_however_often_it_complains_the_bot_goes_on_at_a_tenth() -> None:
    post = Post()
    for _ in range(100):
        post.pacer.too_fast()
    assert post.pacer.pace == SLOWEST
    sent = [post.send(chat) for chat in range(11)]
    assert 2.5 < sent[-1] - sent[0] <= 10 / 3 + 1e-6


def test_a_pause_holds_up_everything_until_it_is_over() -> None:
    post = Post()
    post.send(1)
    began = post.time.monotonic()
    post.pacer.pause(12)
    post.pacer.pause(3)  # a shorter one does not end a longer one
    assert post.send(2) >= began + 12
    assert post.send(3) >= began + 12


def test_a_chat_that_is_refused_again_and_again_says_nothing_of_the_others() -> None:
    post = Post()
    for _ in range(10):
        post.pacer.refused(1, 30)
    assert post.pacer.pace == 1.0
    assert post.pacer.ready_at() <= post.time.monotonic()


def test_refusals_far_from_each_other_are_each_chats_own() -> None:
    post = Post()
    for chat in range(100):
        post.pacer.refused(chat, 30)
        for _ in range(40):
            post.pacer.accepted()
    assert post.pacer.pace == 1.0
    assert post.pacer.ready_at() <= post.time.monotonic()


def test_several_chats_refused_almost_in_a_row_are_the_bots_own_limit() -> None:
    post = Post()
    for chat in range(REFUSED):
        assert post.pacer.pace == 1.0
        post.pacer.refused(chat, 5)
        post.pacer.accepted()
    assert post.pacer.pace == 1.0  # in between some were taken
    began = post.time.monotonic()
    post.pacer.refused(REFUSED, 5)
    assert post.pacer.pace == SLOWER
    post.pacer.refused(REFUSED + 1, 9)  # it was under way: its pause is kept, for the pace it is the same
    assert post.pacer.pace == SLOWER
    assert post.send(9) >= began + 9


@pytest.mark.parametrize("shut", [True, False], ids=["all is refused for a while", "only what is too much"])
def test_a_limit_of_the_bot_below_ours_is_found_by_few_refusals_and_kept(shut: bool) -> None:
    post, until = Post(), 0.0
    refused: list[float] = []
    taken: list[float] = []
    for chat in range(3000):
        now = post.send(chat)
        if now < until or sum(at > now - 1 for at in taken[-20:]) == 20:
            if shut and now >= until:
                until = now + 1
            refused.append(now)
            post.pacer.refused(chat, 1)
        else:
            taken.append(now)
            post.pacer.accepted()
    assert len(refused) < len(post.sent) / 12
    assert sum(at > post.sent[-1] - 60 for at in refused) < 80


@settings(deadline=None)
@given(
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    rate=st.floats(0.05, 20),
    private=st.booleans(),
    overall=st.floats(0.5, 100),
)
def test_in_one_chat_no_window_ever_holds_more_than_its_share(
    pauses: list[float], rate: float, private: bool, overall: float
) -> None:
    post = Post(replace(UNLIMITED, rate=overall, chat_rate=rate, group_rate=rate))
    window = CHAT_WINDOW if private else GROUP_WINDOW
    for pause in pauses:
        post.time.pass_by(pause)
        post.send(7, private=private)
    assert most_within(post.sent, window) <= max(1, round(rate * window))


@settings(deadline=None)
@given(chats=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2)), min_size=2, max_size=80))
def test_over_all_chats_no_second_holds_more_than_the_rate(chats: list[tuple[int, float]]) -> None:
    post = Post(replace(UNLIMITED, rate=5.0))
    for chat, pause in chats:
        post.time.pass_by(pause)
        post.send(chat)
    assert most_within(post.sent, 1) <= 6
    assert all(later >= earlier for earlier, later in pairwise(post.sent))


def test_telegrams_group_takes_twenty_a_minute() -> None:
    post = Post()
    for _ in range(40):
        post.send(1, private=False)
    assert most_within(post.sent, 60) == 20


def test_two_chats_do_not_wait_for_each_other() -> None:
    post = Post(replace(TELEGRAM, rate=float("inf")))
    for _ in range(3):
        post.send(1)
    began = post.time.monotonic()
    assert post.send(2) == began
    assert post.send(1) == began + CHAT_WINDOW


def test_quiet_chats_are_forgotten() -> None:
    post = Post(replace(TELEGRAM, rate=float("inf")))
    for chat in range(10_000):
        post.send(chat)
    post.time.pass_by(CHAT_WINDOW + 1)  # so soon, or a broadcast's chats would add up
    post.send(1)
    assert sum(map(len, post.pacer._chats.values())) == 1
    for chat in range(10_000):
        post.send(chat, private=False)
    post.time.pass_by(GROUP_WINDOW + 1)
    post.send(1, private=False)
    assert sum(map(len, post.pacer._chats.values())) == 2


async def test_time_in_tests_wakes_sleepers_in_order() -> None:
    time = ManualTime()
    woken: list[int] = []

    async def sleeper(number: int, seconds: float) -> None:
        await time.sleep(seconds)
        woken.append(number)

    tasks = [asyncio.create_task(sleeper(number, seconds)) for number, seconds in ((1, 3.0), (2, 1.0), (3, 2.0))]
    await time.asleep(3)
    time.pass_by(0.5)
    assert woken == []
    await time.pass_until(asyncio.gather(*tasks))
    assert woken == [2, 3, 1]
