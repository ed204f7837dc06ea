"""The outbox: what is said arrives, in order, once, and as fast as the messenger allows."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from sqlmodel import Session

from bot.adapters.memory import UNLIMITED, Chat, Memory, Seen
from bot.config import Settings
from bot.metrics import Metrics
from bot.outbox import AHEAD, MOST_TRIES, Outbox
from bot.pacer import REFUSED
from bot.port import Limits, Rendered, RetryLater, Sent, Undeliverable
from bot.types import ChatRef, File, MessageRef
from storage import chats, outbox
from storage.chats import chat_table
from storage.engine import Storage, Unavailable
from storage.outbox import DELIVERED, PENDING, UNDELIVERABLE, UNSURE, outbox_table
from tests.conftest import SETTLES, Community, ManualTime, running


class Watched(Memory):
    """The memory messenger, and what it is asked for: how much at a time, when, in which order."""

    def __init__(self, limits: Limits, time: ManualTime) -> None:
        super().__init__(limits=limits, now=time.now)
        self.time = time
        self.under_way = 0
        self.most = 0
        self.keys: list[str] = []
        self.asked: list[tuple[float, str]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.on_asked: Callable[[], None] = lambda: None
        self._began = asyncio.Event()

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        self.keys.append(key)
        with _Flight(self, message):
            sent = await super().send(chat, message, key)
            await self.answers.wait()
        return sent

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        with _Flight(self, message):
            await super().edit(target, message, key)

    async def under_way_are(self, number: int) -> None:
        """Wait until so many deliveries are under way."""
        while self.under_way < number:
            self._began.clear()
            await asyncio.wait_for(self._began.wait(), SETTLES)

    async def asked_are(self, number: int) -> None:
        """Wait until so many deliveries have begun since the start."""
        while len(self.asked) < number:
            self._began.clear()
            await asyncio.wait_for(self._began.wait(), SETTLES)

    def began(self, message: Rendered) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.asked.append((self.time.monotonic(), message.html))
        self.on_asked()
        self._began.set()


class _Flight:
    def __init__(self, messenger: Watched, message: Rendered) -> None:
        self.messenger, self.message = messenger, message

    def __enter__(self) -> None:
        self.messenger.began(self.message)

    def __exit__(self, *_: object) -> None:
        self.messenger.under_way -= 1


def no_files(_session: Session, _maker: str, _args: Iterable[str]) -> bytes:
    raise AssertionError("nobody has asked for a file")


async def no_fetch(_file: File) -> bytes:
    raise AssertionError("nobody has passed a file on")


class Post:
    """The outbox of one messenger, and chats to write to."""

    def __init__(
        self, storage: Storage, limits: Limits = UNLIMITED, make: Any = no_files, fetch: Any = no_fetch
    ) -> None:
        self.storage = storage
        self.time = ManualTime()
        self.messenger = Watched(limits, self.time)
        self.metrics = Metrics()
        self.make = make
        self.outbox = Outbox(self.messenger, storage, make, fetch, self.time, self.metrics)

    async def chat(self, name: str, *, private: bool = True) -> int:
        """A chat that both the messenger and the bot know."""
        external = self.messenger.private(name).id if private else f"g-{name}"
        self.messenger.chats.setdefault(external, Chat(external, private, {name}))

        def job(connection: Connection) -> int:
            now = self.time.now()
            chats.open_chat(connection, "memory", external, private=private, locale="en", account_id=None, now=now)
            query = select(chat_table.c.id).where(chat_table.c.external == external)
            return int(connection.execute(query).scalar_one())

        return await self.storage.run(job)

    async def queue(self, chat: int, *texts: str, bulk: bool = False, **more: Any) -> list[int]:
        """Messages to be sent, and the bot told of them. Returns their ids."""
        now = self.time.now()
        rows = [
            {
                "chat_id": chat,
                "adapter": "memory",
                "bulk": bulk,
                "question": False,
                "html": text,
                "revision": 0,
                "version": 1,
                "state": PENDING,
                "unsure": 0,
                "queued_at": now,
                **more,
            }
            for text in texts
        ]

        def job(connection: Connection) -> list[int]:
            outbox.queue_messages(connection, rows)
            ids = select(outbox_table.c.id).where(outbox_table.c.chat_id == chat).order_by(outbox_table.c.id.desc())
            return list(connection.execute(ids.limit(len(rows))).scalars())[::-1]

        ids = await self.storage.run(job)
        self.outbox.wake()
        return ids

    async def revise(self, row: int, *texts: str | None) -> None:
        """A message shall look otherwise, one change after the other."""
        now = self.time.now()
        for text in texts:
            await self.storage.run(_revising(row, text, now))
        self.outbox.wake()

    async def rests(self) -> None:
        """Wait, and let time pass, until everything is delivered."""
        await self.time.pass_until(self.outbox.idle.wait())

    async def row(self, row: int) -> Any:
        """What is stored of a message."""
        query = select(outbox_table).where(outbox_table.c.id == row)
        return await self.storage.run(lambda connection: connection.execute(query).one())

    async def states(self, rows: Iterable[int]) -> list[str]:
        return [(await self.row(row)).state for row in rows]

    def shows(self, name: str, *, private: bool = True) -> list[str]:
        """What stands in a chat."""
        ref = ChatRef("memory", f"{'p' if private else 'g'}-{name}")
        return [message.html for message in self.messenger.sees(ref)]

    def screen(self, name: str) -> list[Seen]:
        return self.messenger.sees(ChatRef("memory", f"p-{name}"))

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """The outbox at work."""
        running = asyncio.create_task(self.outbox.run())
        try:
            yield
        finally:
            self.messenger.gate.set()
            self.outbox.stop()
            await asyncio.wait_for(running, SETTLES)


def _revising(row: int, text: str | None, now: datetime) -> Callable[[Connection], None]:
    return lambda connection: outbox.revise(connection, row, text, None, now)


@pytest.fixture
def post(storage: Storage) -> Post:
    return Post(storage)


# -- order and concurrency ----------------------------------------------------------------------------------


async def test_messages_of_one_chat_arrive_in_order_while_chats_are_served_side_by_side(post: Post) -> None:
    anna, ben = await post.chat("anna"), await post.chat("ben")
    numbered = [str(number) for number in range(8)]
    async with post.delivering():
        post.messenger.gate.clear()
        await post.queue(anna, *numbered)
        await post.queue(ben, *numbered)
        await post.messenger.under_way_are(2)
        post.messenger.gate.set()
        await post.rests()
    assert post.messenger.most == 2
    assert post.shows("anna") == post.shows("ben") == numbered


async def test_never_more_than_in_flight_are_under_way(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, in_flight=3))
    async with post.delivering():
        post.messenger.gate.clear()
        for name in "abcdefghij":
            await post.queue(await post.chat(name), name)
        await post.messenger.under_way_are(3)
        post.messenger.gate.set()
        await post.rests()
    assert post.messenger.most == 3
    assert [post.shows(name) for name in "abcdefghij"] == [[name] for name in "abcdefghij"]


async def test_only_a_bounded_number_of_messages_is_held_in_memory(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, in_flight=4, bulk_in_flight=2))
    held = []
    post.messenger.on_asked = lambda: held.append(sum(len(lane.rows) for lane in post.outbox._lanes.values()))
    chats = [await post.chat(f"n{number}") for number in range(50)]
    for chat in chats:
        await post.queue(chat, *(["reply"] * 10))
        await post.queue(chat, *(["news"] * 10), bulk=True)
    async with post.delivering():
        await post.rests()
    # One row a chat of a broadcast; of replies at most one reading for each chat that is read ahead.
    assert max(held) <= (4 * AHEAD) ** 2 + 2 * AHEAD < 1000
    assert all(len(post.shows(f"n{number}")) == 20 for number in range(50))


async def test_a_reply_overtakes_a_broadcast(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, bulk_in_flight=2))
    async with post.delivering():
        post.messenger.gate.clear()
        for number in range(20):
            await post.queue(await post.chat(f"n{number}"), "news", bulk=True)
        await post.messenger.under_way_are(2)
        await post.queue(await post.chat("anna"), "reply")
        await post.messenger.under_way_are(3)
        assert post.messenger.asked[-1][1] == "reply"
        post.messenger.gate.set()
        await post.rests()
    assert len(post.messenger.asked) == 21


async def test_a_reply_overtakes_a_broadcast_within_a_chat_too(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        post.messenger.gate.clear()
        await post.queue(anna, "news 1", "news 2", "news 3", "news 4", bulk=True)
        await post.messenger.under_way_are(1)
        await post.queue(anna, "reply 1", "reply 2")
        post.messenger.gate.set()
        await post.rests()
    assert post.shows("anna")[0] == "news 1"
    assert post.shows("anna") == ["news 1", "reply 1", "reply 2", "news 2", "news 3", "news 4"]


async def test_news_queued_while_a_reply_is_under_way_follow_it(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        post.messenger.gate.clear()
        await post.queue(anna, "reply")
        await post.messenger.under_way_are(1)
        await post.queue(anna, "news", bulk=True)
        # The outbox has looked at the news, and found their chat busy, before the other chat's reply begins.
        await post.queue(await post.chat("ben"), "other")
        await post.messenger.under_way_are(2)
        post.messenger.gate.set()
        await post.rests()
    assert post.shows("anna") == ["reply", "news"]


async def test_news_go_at_the_full_rate_and_a_reply_does_not_wait_for_the_last_of_them(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, rate=10.0))
    chats = [await post.chat(f"n{number}") for number in range(24)]
    asker = await post.chat("asker")
    for chat in chats:
        await post.queue(chat, "news", bulk=True)
    async with post.delivering():
        await post.messenger.asked_are(1)
        await post.queue(asker, "reply")
        await post.rests()
    times = [at for at, _ in post.messenger.asked]
    assert all(
        sum(start <= at < start + 1 - 1e-6 for at in times) <= 11 for start in times
    )  # one late timer is forgiven
    assert 2.3 - 1e-6 <= times[-1] - times[0] <= 2.4 + 1e-6
    assert [html for _, html in post.messenger.asked].index("reply") < 12


async def test_a_messenger_that_is_asked_too_fast_is_asked_more_slowly(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, rate=10.0))
    chats = [await post.chat(f"n{number}") for number in range(12)]
    for chat in chats:
        await post.queue(chat, "news", bulk=True)
    post.messenger.faults.append(RetryLater(3, "too many requests", everywhere=True, too_fast=True))
    async with post.delivering():
        await post.rests()
    times = [at for at, _ in post.messenger.asked]
    [pause] = [at for at, (earlier, later) in enumerate(pairwise(times), 1) if later - earlier >= 3]
    rest = times[pause + 1 :]
    assert len(rest) >= 8
    assert rest[-1] - rest[0] > (len(rest) - 2) * 0.1 / 0.99  # one late timer is forgiven


# -- trying again -------------------------------------------------------------------------------------------


async def test_a_failed_delivery_is_tried_again_later_and_later(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.extend([RetryLater(0, "no network")] * 4)
    async with post.delivering():
        await post.queue(anna, "hello")
        await post.rests()
    times = [at for at, _ in post.messenger.asked]
    waits = [later - earlier for earlier, later in pairwise(times)]
    for wait, longest in zip(waits, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= wait <= longest * 1.01
    assert post.shows("anna") == ["hello"]


async def test_the_wait_between_two_tries_does_not_grow_without_end(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.extend([RetryLater(0, "no network")] * 20)
    async with post.delivering():
        await post.queue(anna, "hello")
        await post.rests()
    times = [at for at, _ in post.messenger.asked]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 61


async def test_after_a_message_that_fails_again_and_again_the_next_of_its_chat_has_all_its_tries(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.extend([RetryLater(0, "it breaks on this one")] * (MOST_TRIES + 2))
    async with post.delivering():
        bad, fine = await post.queue(anna, "bad", "fine")
        await post.rests()
    assert await post.states([bad, fine]) == [UNDELIVERABLE, DELIVERED]


async def test_a_chat_that_asks_for_a_pause_gets_it_and_others_go_on(post: Post) -> None:
    anna, ben = await post.chat("anna"), await post.chat("ben")
    post.messenger.faults.append(RetryLater(30, "too many requests"))
    async with post.delivering():
        began = post.time.monotonic()
        await post.queue(anna, "for Anna 1", "for Anna 2")
        await post.time.asleep()  # until the pause is over
        await post.queue(ben, "for Ben")
        await post.messenger.asked_are(2)
        await post.rests()
    at = {html: moment - began for moment, html in post.messenger.asked}
    assert at["for Ben"] == 0
    assert at["for Anna 1"] >= 30
    assert post.shows("anna") == ["for Anna 1", "for Anna 2"]


async def test_a_private_chat_refused_for_its_rate_rests_and_the_others_go_on(post: Post) -> None:
    for number in range(12):
        await post.queue(await post.chat(f"n{number}"), f"news {number}", bulk=True)
    post.messenger.faults.append(RetryLater(30, "too many requests", too_fast=True))
    began = post.time.monotonic()
    async with post.delivering():
        await post.messenger.asked_are(12)  # and no time has passed
        assert post.time.monotonic() == began
        await post.rests()
    assert [(moment - began >= 30, html) for moment, html in post.messenger.asked[12:]] == [(True, "news 0")]


async def test_where_chat_after_chat_is_refused_everything_pauses(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, bulk_in_flight=1))
    for number in range(12):
        await post.queue(await post.chat(f"n{number}"), "news", bulk=True)
    post.messenger.faults.extend([RetryLater(30, "too many requests", too_fast=True)] * REFUSED)
    began = post.time.monotonic()
    async with post.delivering():
        await post.messenger.asked_are(REFUSED)
        await post.rests()
    times = [moment - began for moment, _ in post.messenger.asked]
    assert (times[:REFUSED], len(times)) == ([0] * REFUSED, REFUSED + 12)
    assert min(times[REFUSED:]) >= 30


async def test_a_messenger_that_asks_for_a_pause_gets_it_everywhere(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, in_flight=1))  # so that Ben's turn comes after the refusal
    post.messenger.faults.append(RetryLater(30, "too many requests", everywhere=True))
    await post.queue(await post.chat("anna"), "for Anna")
    await post.queue(await post.chat("ben"), "for Ben")
    began = post.time.monotonic()
    async with post.delivering():
        await post.rests()
    assert post.messenger.asked[0] == (began, "for Anna")
    assert min(moment for moment, _ in post.messenger.asked[1:]) >= began + 30
    assert post.shows("anna") == ["for Anna"]
    assert post.shows("ben") == ["for Ben"]


async def test_a_reply_to_a_chat_that_rests_after_a_failed_broadcast_goes_first(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.append(RetryLater(30, "too many requests"))
    async with post.delivering():
        await post.queue(anna, "news", bulk=True)
        await post.time.asleep()
        await post.queue(anna, "reply")
        await post.rests()
    assert post.shows("anna") == ["reply", "news"]


async def test_a_send_whose_answer_got_lost_is_tried_exactly_once_more(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.extend([RetryLater(0, "the answer got lost", unsure=True)] * 2)
    async with post.delivering():
        first, second = await post.queue(anna, "first", "second")
        await post.rests()
    assert [html for _, html in post.messenger.asked] == ["first", "first", "second"]
    assert await post.states([first, second]) == [UNSURE, DELIVERED]
    assert (await post.row(first)).error == "the answer got lost"


async def test_a_send_that_has_not_left_counts_for_nothing_when_the_answer_gets_lost_later(post: Post) -> None:
    anna = await post.chat("anna")
    sure, unsure = RetryLater(0, "no network"), RetryLater(0, "the answer got lost", unsure=True)
    post.messenger.faults.extend([sure, unsure, sure, sure])
    async with post.delivering():
        [row] = await post.queue(anna, "first")
        await post.rests()
    assert len(post.messenger.asked) == 5
    assert await post.states([row]) == [DELIVERED]


async def test_an_edit_whose_answer_got_lost_is_tried_until_it_is_answered(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        [row] = await post.queue(anna, "before")
        await post.rests()
        post.messenger.faults.extend([RetryLater(0, "the answer got lost", unsure=True)] * 5)
        await post.revise(row, "after")
        await post.rests()
    assert post.shows("anna") == ["after"]
    assert await post.states([row]) == [DELIVERED]


async def test_organisers_read_of_messages_that_may_not_have_arrived(settings: Settings) -> None:
    async with running(settings) as lab:
        mia = await lab.organiser("mia")
        lab.messenger.faults.extend([RetryLater(0, "the answer got lost", unsure=True)] * 2)
        await lab.time.pass_until(asyncio.ensure_future(lab.person("anna").says("/start")))
        await mia.says("/status")
        assert "1 unsure" in mia.sees
        assert "may or may not have arrived: the answer got lost" in mia.sees


# -- edits --------------------------------------------------------------------------------------------------


async def test_many_changes_of_a_message_are_shown_as_one(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        [row] = await post.queue(anna, "0 votes")
        await post.rests()
        post.messenger.gate.clear()
        await post.revise(row, "1 vote")
        await post.messenger.under_way_are(1)
        await post.revise(row, "2 votes", "3 votes", "4 votes")
        post.messenger.gate.set()
        await post.rests()
    [seen] = post.screen("anna")
    assert seen.versions == ["0 votes", "1 vote", "4 votes"]


async def test_a_message_changed_while_it_is_sent_is_changed_afterwards(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        post.messenger.gate.clear()
        [row] = await post.queue(anna, "before")
        await post.messenger.under_way_are(1)
        await post.revise(row, "after")
        post.messenger.gate.set()
        await post.rests()
    [seen] = post.screen("anna")
    assert seen.versions == ["before", "after"]
    stored = await post.row(row)
    assert (stored.state, stored.html) == (DELIVERED, None)


async def test_a_message_changed_before_it_is_sent_is_sent_as_it_is_now(post: Post) -> None:
    [row] = await post.queue(await post.chat("anna"), "before")
    await post.revise(row, "after")
    async with post.delivering():
        await post.rests()
    [seen] = post.screen("anna")
    assert seen.versions == ["after"]


async def test_a_message_taken_back_is_gone_and_one_not_yet_sent_is_never_sent(post: Post) -> None:
    anna = await post.chat("anna")
    async with post.delivering():
        [shown] = await post.queue(anna, "seen")
        await post.rests()
        await post.revise(shown, None)
        await post.rests()
        assert post.shows("anna") == []
    post.outbox = Outbox(post.messenger, post.storage, no_files, no_fetch, post.time, post.metrics)
    [never] = await post.queue(anna, "never seen")
    await post.revise(never, None)
    async with post.delivering():
        await post.rests()
    assert [html for _, html in post.messenger.asked] == ["seen"]
    assert await post.states([shown, never]) == [DELIVERED, DELIVERED]


async def test_where_nothing_can_be_edited_a_new_message_refers_to_the_old_one(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, edits=False))
    anna = await post.chat("anna")
    async with post.delivering():
        [row] = await post.queue(anna, "before")
        await post.rests()
        await post.revise(row, "after")
        await post.rests()
    old, new = post.screen("anna")
    assert (old.html, new.html, new.reply_to) == ("before", "after", old.id)
    assert (await post.row(row)).external == new.id


# -- what cannot be delivered -------------------------------------------------------------------------------


async def test_a_refused_message_ends_only_its_own_row(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.append(Undeliverable("message text is empty"))
    async with post.delivering():
        refused, fine = await post.queue(anna, "refused", "fine")
        await post.rests()
    assert post.shows("anna") == ["fine"]
    assert await post.states([refused, fine]) == [UNDELIVERABLE, DELIVERED]
    assert (await post.row(refused)).error == "message text is empty"


async def test_a_fault_of_ours_does_not_hold_up_the_chat(post: Post) -> None:
    anna = await post.chat("anna")
    post.messenger.faults.append(KeyError("a mistake in the adapter"))
    async with post.delivering():
        broken, fine = await post.queue(anna, "broken", "fine")
        await post.rests()
    assert post.shows("anna") == ["fine"]
    assert await post.states([broken, fine]) == [UNDELIVERABLE, DELIVERED]


async def test_a_chat_that_has_blocked_the_bot_ends_its_own_messages_and_no_others(post: Post) -> None:
    names = [f"n{number}" for number in range(30)]
    chats = {name: await post.chat(name) for name in names}
    blocked = names[::3]
    for name in blocked:
        post.messenger.chats[f"p-{name}"].blocked = True
    rows = {name: await post.queue(chats[name], "news 1", "news 2", bulk=True) for name in names}
    async with post.delivering():
        await post.rests()
    for name in names:
        ended = UNDELIVERABLE if name in blocked else DELIVERED
        assert await post.states(rows[name]) == [ended, ended]
    assert sum(html == "news 2" for _, html in post.messenger.asked) == 20
    inactive = await post.storage.run(
        lambda connection: set(connection.execute(select(chat_table.c.id).where(~chat_table.c.active)).scalars())
    )
    assert inactive == {chats[name] for name in blocked}


async def test_a_chat_goes_while_the_outbox_reads_on(post: Post) -> None:
    # Its lane is empty before its end is stored: it must not be thrown away twice.
    post.messenger.chats["p-anna"] = Chat("p-anna", True, {"anna"}, blocked=True)
    anna = await post.chat("anna")
    async with post.delivering():
        for number in range(20):
            await post.queue(anna, f"news {number}", bulk=True)
            await post.queue(await post.chat(f"n{number}"), "hello", bulk=True)
        await post.rests()
    assert [post.shows(f"n{number}") for number in range(20)] == [["hello"]] * 20


async def test_somebody_who_comes_back_is_written_to_again(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    lab.messenger.chats[anna.chat.id].blocked = True
    await anna.says("/help")
    assert await lab.read(_active(anna.chat)) is False
    lab.messenger.chats[anna.chat.id].blocked = False
    await anna.says("/help")
    assert await lab.read(_active(anna.chat)) is True
    assert "Write your idea" in anna.sees


def _active(chat: ChatRef) -> Callable[[Session], bool]:
    query = select(chat_table.c.active).where(chat_table.c.external == chat.id)
    return lambda session: bool(session.execute(query).scalar_one())


async def test_a_group_with_a_new_id_is_followed(post: Post) -> None:
    group = await post.chat("market", private=False)
    post.messenger.chats["g-market"].moved_to = "g-new"
    post.messenger.chats["g-new"] = Chat("g-new", False, {"anna"})
    async with post.delivering():
        rows = await post.queue(group, "1", "2", "3")
        await post.rests()
    assert post.shows("new", private=False) == ["1", "2", "3"]
    assert await post.states(rows) == [DELIVERED] * 3


# -- stopping and crashing ----------------------------------------------------------------------------------


async def test_a_clean_stop_finishes_what_is_under_way_and_begins_nothing_new(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, in_flight=3))
    rows = [(await post.queue(await post.chat(name), name, f"{name} again"))[0] for name in "abcdefgh"]
    post.messenger.gate.clear()
    running = asyncio.create_task(post.outbox.run())
    await post.messenger.under_way_are(3)
    post.outbox.stop()
    post.messenger.gate.set()
    await asyncio.wait_for(running, SETTLES)
    assert sorted(await post.states(rows)) == [DELIVERED] * 3 + [PENDING] * 5
    assert len(post.messenger.asked) == 3


async def test_a_stop_while_an_outcome_is_being_stored_ends_too(storage: Storage) -> None:
    post = Post(storage)
    free = threading.Event()
    anna, ben = await post.chat("anna"), await post.chat("ben")
    rows = [*await post.queue(anna, "for Anna"), *await post.queue(ben, "for Ben")]
    post.messenger.answers.clear()
    running = asyncio.create_task(post.outbox.run())
    await post.messenger.under_way_are(2)
    busy = [asyncio.create_task(storage.run(lambda _: free.wait(SETTLES))) for _ in range(4)]
    post.messenger.answers.set()
    post.outbox.stop()
    free.set()
    await asyncio.wait_for(running, SETTLES)
    await asyncio.gather(*busy)
    assert await post.states(rows) == [DELIVERED, DELIVERED]


async def test_after_a_crash_only_what_was_in_flight_is_repeated_and_under_the_same_key(storage: Storage) -> None:
    post = Post(storage, replace(UNLIMITED, in_flight=3))
    names = "abcdefgh"
    for name in names:
        await post.queue(await post.chat(name), name)
    running = asyncio.create_task(post.outbox.run())
    post.messenger.answers.clear()  # messages arrive, but the bot does not live to hear of it
    await post.messenger.under_way_are(3)
    in_flight = list(post.messenger.keys)
    running.cancel()
    await asyncio.wait({running}, timeout=SETTLES)
    assert post.messenger.under_way == 0
    post.messenger.answers.set()
    post.outbox = Outbox(post.messenger, storage, no_files, no_fetch, post.time, post.metrics)
    async with post.delivering():
        await post.rests()
    assert sorted(key.rpartition(".")[0] for key in post.messenger.keys) == sorted(
        [*(key.rpartition(".")[0] for key in in_flight), *(f"{number}.1" for number in range(1, 9))]
    )
    assert {*in_flight} <= {key for key in post.messenger.keys if post.messenger.keys.count(key) == 2}
    assert [post.shows(name) for name in names] == [[name] for name in names]


async def test_an_outcome_the_database_does_not_take_is_stored_later(post: Post) -> None:
    anna = await post.chat("anna")
    faults = [Unavailable("database is locked")] * 3

    class Faulty(Storage):
        def __init__(self) -> None:
            self.real = post.storage

        async def run(self, job: Any) -> Any:
            if faults and post.messenger.asked:
                raise faults.pop()
            return await self.real.run(job)

    post.outbox = Outbox(post.messenger, Faulty(), no_files, no_fetch, post.time, post.metrics)
    async with post.delivering():
        rows = await post.queue(anna, "once", "after")
        await post.rests()
    assert post.shows("anna") == ["once", "after"]
    assert len(post.messenger.keys) == 2
    assert await post.states(rows) == [DELIVERED, DELIVERED]


# -- what a message becomes on a messenger ------------------------------------------------------------------


async def test_choices_that_do_not_fit_are_numbered_lines_and_a_typed_number_chooses(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, choices=2)) as lab:
        anna = lab.person("anna")
        await anna.says("/start")
        assert anna.choices == []
        assert "\n1. Suggest an idea\n2. See ideas\n3. What is on\n4. Language" in anna.sees
        await anna.says("4")
        assert "Which language" in anna.sees
        assert sorted(anna.choices) == ["Deutsch", "English"]


async def test_a_long_message_comes_in_parts_and_the_last_one_has_the_choices(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, text=120)) as lab:
        parts = await lab.person("anna").says("/start")
        assert len(parts) > 2
        assert [bool(part.buttons) for part in parts] == [False] * (len(parts) - 1) + [True]
        assert all(len(part.html) <= 120 for part in parts)
        assert await lab.person("anna").presses("Help") == ""


async def test_a_file_is_made_in_the_storage_thread_when_it_is_delivered(storage: Storage) -> None:
    threads = []

    def make(session: Session, maker: str, args: Iterable[str]) -> bytes:
        threads.append(threading.current_thread().name)
        return f"{maker} {' '.join(args)} {session.execute(select(chat_table.c.external)).scalar_one()}".encode()

    post = Post(storage, make=make)
    attachment = json.dumps(["chart.txt", "text/plain", "chart", ["1", "2"]])
    async with post.delivering():
        await post.queue(await post.chat("anna"), "the chart", attachment=attachment)
        await post.rests()
    [seen] = post.screen("anna")
    assert seen.file == ("chart.txt", b"chart 1 2 p-anna")
    assert [name.startswith("storage") for name in threads] == [True]


async def test_a_file_that_cannot_be_made_ends_only_its_message(storage: Storage) -> None:
    def make(_session: Session, _maker: str, _args: Iterable[str]) -> bytes:
        raise ValueError("a mistake in the maker")

    post = Post(storage, make=make)
    anna = await post.chat("anna")
    async with post.delivering():
        [broken] = await post.queue(anna, "the chart", attachment=json.dumps(["c", "text/plain", "chart", []]))
        await post.queue(anna, "fine")
        await post.rests()
    assert post.shows("anna") == ["fine"]
    assert await post.states([broken]) == [UNDELIVERABLE]


async def test_only_a_broadcast_rings(post: Post) -> None:
    rendered: list[tuple[str, bool]] = []

    class Listening(Watched):
        async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
            rendered.append((message.html, message.loud))
            return await super().send(chat, message, key)

    post.messenger = Listening(UNLIMITED, post.time)
    post.outbox = Outbox(post.messenger, post.storage, no_files, no_fetch, post.time, post.metrics)
    anna = await post.chat("anna")
    async with post.delivering():
        await post.queue(anna, "reply")
        await post.queue(anna, "news", bulk=True)
        await post.rests()
    assert sorted(rendered) == [("news", True), ("reply", False)]


# -- what is remembered -------------------------------------------------------------------------------------


async def test_the_words_of_a_delivered_message_are_forgotten(post: Post) -> None:
    async with post.delivering():
        [row] = await post.queue(await post.chat("anna"), "my words")
        await post.rests()
    assert (await post.row(row)).html is None


async def test_old_messages_are_forgotten_but_never_those_still_to_be_delivered(post: Post) -> None:
    anna = await post.chat("anna")
    choices = json.dumps([["Yes", "yes", [], None, None]])
    async with post.delivering():
        [plain] = await post.queue(anna, "plain")
        [pressable] = await post.queue(anna, "pressable", choices=choices)
        await post.rests()
    [waiting] = await post.queue(anna, "waiting")

    async def left_after(kept: Any) -> set[int]:
        now = post.time.now() + kept
        await post.storage.run(lambda connection: outbox.prune(connection, now))
        query = select(outbox_table.c.id)
        return await post.storage.run(lambda connection: set(connection.execute(query).scalars()))

    assert await left_after(outbox.KEEP_DELIVERED * 0.9) == {plain, pressable, waiting}
    assert await left_after(outbox.KEEP_DELIVERED * 1.1) == {pressable, waiting}
    assert await left_after(outbox.KEEP_CHOICES * 1.1) == {waiting}


async def test_the_chat_of_somebody_who_has_left_goes_once_their_goodbye_is_delivered(post: Post) -> None:
    anna = await post.chat("anna")  # nobody's account: whoever it was has erased themselves

    async def chats() -> list[int]:
        await post.storage.run(outbox.close_left_chats)
        query = select(chat_table.c.id)
        return await post.storage.run(lambda connection: list(connection.execute(query).scalars()))

    [row] = await post.queue(anna, "goodbye")
    assert await chats() == [anna]
    await post.storage.run(
        lambda connection: connection.execute(
            update(outbox_table).where(outbox_table.c.id == row).values(state=DELIVERED)
        )
    )
    assert await chats() == []
