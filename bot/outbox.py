"""Outbox: delivers until delivered, in order per chat, many chats at once, as fast as the messenger allows."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlmodel import Session

from bot.clock import Time
from bot.metrics import Metrics
from bot.pacer import Pacer
from bot.port import Adapter, Button, Rendered, RetryLater, Sent, Undeliverable, Upload
from bot.types import ChatRef, File, MessageRef
from storage import chats, outbox
from storage.engine import Storage, Unavailable, session_in
from storage.outbox import Due, Outcome

log = structlog.get_logger()
R = TypeVar("R")
Make = Callable[[Session, str, Iterable[str]], bytes]
Fetch = Callable[[File], Awaitable[bytes]]
Named = Callable[[Session, str, str, Iterable[str]], list[str]]

FIRST_RETRY, LONGEST_RETRY = 0.5, 60.0
"""Seconds to wait after the first failed try, and at most; doubled each time, with jitter."""

MOST_TRIES = 50
"""How often one message may fail by itself, some three quarters of an hour, before the others of its chat go on."""

TIMER = 0.001
"""Seconds that a timer may be early; the pacer's average stays exact."""

AHEAD = 2
"""How many messages are read ahead for each one that may be under way."""


class Lane:
    """What waits for one chat, oldest first. While it rests after a failure it holds no rows; they are read again."""

    __slots__ = ("bulk", "failures", "not_before", "rows", "under_way")

    def __init__(self, bulk: bool) -> None:
        self.rows: deque[Due] = deque()
        self.bulk = bulk
        self.failures = 0
        self.not_before = 0.0
        self.under_way = False


class Outbox:
    """Delivers one messenger's messages.

    It reads ahead a bounded number of rows, so memory does not grow with what waits. A message's place in flight
    is only free again once its outcome is stored: what ``kill -9`` can repeat is what was in flight.
    """

    def __init__(
        self,
        adapter: Adapter,
        storage: Storage,
        make: Make,
        fetch: Fetch,
        time: Time,
        metrics: Metrics,
        named: Named = lambda *_: [],
    ) -> None:
        self.adapter = adapter
        self.storage = storage
        self.make = make
        self.fetch = fetch
        self.named = named
        self.time = time
        self.metrics = metrics
        self.pacer = Pacer(adapter.limits, time)
        self.idle = asyncio.Event()
        self._slots = {False: adapter.limits.in_flight, True: adapter.limits.bulk_in_flight}
        self._flying = {False: 0, True: 0}
        self._lanes: dict[int, Lane] = {}
        self._more = {False: True, True: True}
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._tasks = asyncio.TaskGroup()
        self._outcomes: list[tuple[Lane, Due, Outcome]] = []
        self._has_outcomes = asyncio.Event()
        self._uploading: dict[str, asyncio.Lock] = {}
        self._stopping = False

    def wake(self) -> None:
        """There are new messages."""
        self._more = {False: True, True: True}
        self.idle.clear()
        self._changed.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        async with asyncio.TaskGroup() as self._tasks:
            marking = self._tasks.create_task(self._mark_all())
            await self._deliver_all()
            if self._sends:
                await asyncio.wait(self._sends)
            self._has_outcomes.set()
            await marking

    def stop(self) -> None:
        """Begin nothing new; ``run`` ends when what is under way has its outcome stored."""
        self._stopping = True
        self._changed.set()

    # -- choosing what goes next ----------------------------------------------------------------------------

    async def _deliver_all(self) -> None:
        while not self._stopping:
            self._changed.clear()
            wait = self._start_ready()
            if self._reading is None and self._wants_more():
                self._reading = self._tasks.create_task(self._read_ahead())
            elif self._reading is None and not self._lanes:
                self.idle.set()
            if wait is None:
                await self._changed.wait()
            else:
                await self._sleep_or_change(wait)
        if self._reading is not None:
            await self._reading

    async def _sleep_or_change(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self.time.sleep(seconds))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleeping, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changing.cancel()

    def _start_ready(self) -> float | None:
        """Start every delivery that may begin now; the seconds until the next one may, if time decides."""
        now = self.time.monotonic()
        soonest: float | None = None
        for bulk in (False, True):
            for chat_id, lane in self._lanes.items():
                if self._flying[bulk] >= self._slots[bulk]:
                    break
                if lane.bulk != bulk or lane.under_way:
                    continue
                at = lane.not_before
                if lane.rows:
                    private = lane.rows[0].private
                    at = max(at, self.pacer.ready_at(bulk), self.pacer.chat_ready_at(chat_id, private))
                if at > now + TIMER:
                    soonest = at if soonest is None else min(soonest, at)
                elif not lane.rows:  # it has rested; without room it is read when a place gets free
                    if self._room(lane.bulk) >= self._slots[lane.bulk]:
                        self._more = {False: True, True: True}
                else:
                    self._start(chat_id, lane)
        return None if soonest is None else soonest - now

    def _start(self, chat_id: int, lane: Lane) -> None:
        row = lane.rows[0]
        self.pacer.take(chat_id, row.private)
        lane.under_way = True
        self._flying[lane.bulk] += 1
        task = self._tasks.create_task(self._deliver(lane, row))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    def _room(self, bulk: bool) -> int:
        waiting = sum(1 for lane in self._lanes.values() if lane.bulk == bulk and lane.rows)
        return self._slots[bulk] * AHEAD - waiting

    def _wants_more(self) -> bool:
        return any(self._more[bulk] and self._room(bulk) >= self._slots[bulk] for bulk in (False, True))

    async def _read_ahead(self) -> None:
        now = self.time.monotonic()
        rested = {
            chat
            for chat, lane in self._lanes.items()
            if not lane.rows and not lane.under_way and lane.not_before <= now
        }
        # A chat that gets free while this goes on is left for the next time, when its replies are read first.
        busy = self._lanes.keys() - rested
        rooms = {bulk: self._room(bulk) for bulk in (False, True) if self._more[bulk]}
        wanted = {bulk: room for bulk, room in rooms.items() if room >= self._slots[bulk]}
        self._more.update(dict.fromkeys(wanted, False))
        for bulk, room in wanted.items():
            rows = await self._insist(_reading(self.adapter.name, bulk, list(busy), room))
            self._more[bulk] |= len(rows) == room
            busy |= {row.chat_id for row in rows}
            for row in rows:
                lane = self._lanes.setdefault(row.chat_id, Lane(bulk))
                # Of a broadcast one row a chat is enough: a reply there then waits for that one only.
                if not bulk or not lane.rows:
                    lane.bulk = bulk
                    lane.rows.append(row)
                else:
                    self._more[bulk] = True
        for chat in rested & self._lanes.keys():
            lane = self._lanes[chat]
            if lane.bulk in wanted and not lane.rows and not lane.under_way and lane.not_before <= now:
                del self._lanes[chat]
        self._reading = None
        self._changed.set()

    # -- one delivery ---------------------------------------------------------------------------------------

    async def _deliver(self, lane: Lane, row: Due) -> None:
        try:
            outcome = await self._attempt(lane, row)
        except Exception as error:  # a fault of ours: it must not hold up the chat for ever
            log.error("delivery.failed", adapter=self.adapter.name, message=row.id, error=type(error).__name__)
            self.metrics.deliveries(self.adapter.name, "undeliverable").inc()
            outcome = Outcome(row.id, row.version, outbox.UNDELIVERABLE, error=type(error).__name__)
        self._outcomes.append((lane, row, outcome))
        self._has_outcomes.set()

    async def _attempt(self, lane: Lane, row: Due) -> Outcome:
        chat = ChatRef(self.adapter.name, row.chat, row.thread)
        try:
            external = await self._hand_over(chat, row)
        except RetryLater as error:
            return self._retry(lane, row, error)
        except Undeliverable as error:
            if error.moved_to is not None:
                old, new, name = row.chat, error.moved_to.id, self.adapter.name
                await self._insist(lambda c: chats.move_chat(c, name, old, new))
                lane.rows.clear()  # they name the old chat; they are read again
                return Outcome(row.id, row.version, outbox.PENDING)
            log.info("delivery.impossible", adapter=self.adapter.name, message=row.id, reason=error.reason)
            self.metrics.deliveries(self.adapter.name, "undeliverable").inc()
            if error.gone:
                await self._insist(_ending(row.chat_id, error.reason))
                lane.rows.clear()
            return Outcome(row.id, row.version, outbox.UNDELIVERABLE, error=error.reason)
        self.pacer.accepted()
        self.metrics.deliveries(self.adapter.name, "sent" if row.external is None else "edited").inc()
        self.metrics.delivery_seconds.observe(max(0.0, (self.time.now() - row.queued_at).total_seconds()))
        return Outcome(row.id, row.version, outbox.DELIVERED, external=external)

    async def _hand_over(self, chat: ChatRef, row: Due) -> str | None:
        # The time as well: a database that begins anew counts its rows from one again.
        key = f"{row.id}.{row.version}.{row.queued_at.timestamp():.0f}"
        if row.external is None:
            if row.html is None or (row.poll is not None and row.choices is None):
                return None  # taken back before it was sent, or over before it began
            sent = await self._send(chat, row, key)
            return sent.message.id
        target = MessageRef(chat, row.external)
        if row.html is None:
            await self.adapter.retract(target)
        elif self.adapter.limits.edits:
            await self.adapter.edit(target, await self._rendered(row), key)
        else:
            sent = await self.adapter.send(chat, await self._rendered(row, reply_to=row.external), key)
            return sent.message.id
        return None

    async def _send(self, chat: ChatRef, row: Due, key: str) -> Sent:
        """Send a message; a file that goes to many is uploaded once, and then called what the messenger calls it."""
        file = _passed_on(row)
        if file is None:
            return await self.adapter.send(chat, await self._rendered(row), key)
        name = f"{file.adapter}:{file.id}"
        known = await self._insist(_recalling(self.adapter.name, name))
        if known is not None:
            try:
                return await self.adapter.send(chat, await self._rendered(row, (b"", known)), key)
            except Undeliverable as error:
                if error.gone or error.moved_to is not None:
                    raise
                log.info("upload.forgotten", adapter=self.adapter.name)  # the messenger may not know it any more
        lock = self._uploading.setdefault(name, asyncio.Lock())
        try:
            async with lock:  # the others wait for the first one's upload
                again = await self._insist(_recalling(self.adapter.name, name))
                if again is not None and again != known:
                    return await self.adapter.send(chat, await self._rendered(row, (b"", again)), key)
                sent = await self.adapter.send(chat, await self._rendered(row, (await self.fetch(file), None)), key)
                if sent.file is not None:
                    await self._insist(_remembering(self.adapter.name, name, sent.file, self.time.now()))
                return sent
        finally:
            if not lock.locked():
                self._uploading.pop(name, None)

    async def _rendered(
        self, row: Due, content: tuple[bytes, str | None] | None = None, reply_to: str | None = None
    ) -> Rendered:
        choices: list[list[Any]] = [] if row.choices is None else json.loads(row.choices)
        buttons: tuple[Button, ...] = ()
        numbered = row.poll is None and (row.question or len(choices) > self.adapter.limits.choices)
        if not numbered:
            buttons = tuple(Button(label, url, start) for label, _, _, url, start in choices)
        upload = None
        if row.attachment is not None:
            name, media_type, maker, args = json.loads(row.attachment)
            if maker and content is None:
                content = (await self._insist(_making(self.make, maker, args)), None)
            upload = Upload(name, media_type, *(content or (b"", None)))  # an edit leaves the file as it is
        mentions: tuple[str, ...] = ()
        if row.mentions is not None and row.external is None:
            who, args = json.loads(row.mentions)
            mentions = tuple(await self._insist(_naming(self.named, self.adapter.name, who, args)))
        return Rendered(
            row.html or "",
            buttons,
            row.revision,
            reply_to or row.reply_to,
            question=row.question,
            loud=row.bulk,
            upload=upload,
            numbered=len(choices) if numbered else 0,
            recipient=row.recipient,
            again=row.unsure > 0,
            mentions=mentions,
            poll=row.poll,
        )

    def _retry(self, lane: Lane, row: Due, error: RetryLater) -> Outcome:
        """Wait as long as the messenger says, and longer each time it fails by itself."""
        lane.failures += 1
        backoff = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(lane.failures - 1, 10)) * random.uniform(0.5, 1)
        lost = error.unsure and row.external is None
        wait = error.after if lost else max(error.after, backoff)  # a lost answer comes once, or it is the last one
        if error.everywhere:
            if error.too_fast:
                self.pacer.too_fast()
            self.pacer.pause(wait)
        elif error.too_fast:
            self.pacer.refused(row.chat_id, wait)
        lane.not_before = self.time.monotonic() + wait
        log.warning(
            "delivery.later", adapter=self.adapter.name, message=row.id, reason=error.reason, wait=round(wait, 1)
        )
        self.metrics.deliveries(self.adapter.name, "retried").inc()
        if lane.failures >= MOST_TRIES and not error.everywhere and not error.too_fast:
            self.metrics.deliveries(self.adapter.name, "undeliverable").inc()
            return Outcome(row.id, row.version, outbox.UNDELIVERABLE, error=error.reason)
        # Without the messenger's answer nobody knows whether it has arrived: once more, then the team is told.
        unsure = row.unsure + (1 if lost else 0)
        if unsure >= 2:
            self.metrics.deliveries(self.adapter.name, "unsure").inc()
            return Outcome(row.id, row.version, outbox.UNSURE, error=error.reason, unsure=unsure)
        return Outcome(row.id, row.version, outbox.PENDING, error=error.reason, unsure=unsure)

    # -- storing the outcomes -------------------------------------------------------------------------------

    async def _mark_all(self) -> None:
        """Store outcomes as they come, all that wait in one transaction; only then their chats go on."""
        while True:
            await self._has_outcomes.wait()
            self._has_outcomes.clear()
            taken, self._outcomes = self._outcomes, []
            if taken:
                await self._insist(_marking([outcome for _, _, outcome in taken]))
                for lane, row, outcome in taken:
                    self._settle(lane, row, outcome)
                self._changed.set()
            if self._stopping and not self._sends and not self._outcomes:
                return

    def _settle(self, lane: Lane, row: Due, outcome: Outcome) -> None:
        lane.under_way = False
        self._flying[lane.bulk] -= 1
        if outcome.state == outbox.PENDING:
            lane.rows.clear()  # it may be wanted otherwise by the time it is tried again
        else:
            lane.failures = 0  # however it has ended: the next one has its own tries
            if lane.rows:
                lane.rows.popleft()
        if not lane.rows and outcome.state != outbox.PENDING:
            del self._lanes[row.chat_id]
            self._more = {False: True, True: True}  # of either class, what came while the chat was busy

    async def _insist(self, job: Callable[[Connection], R]) -> R:
        """Try until the database takes it: an outcome that is not stored would be delivered again."""
        wait = FIRST_RETRY
        while True:
            try:
                return await self.storage.run(job)
            except Unavailable as error:
                log.error("database.unavailable", error=str(error), retry_in=wait)
                await self.time.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY)


def _reading(adapter: str, bulk: bool, busy: list[int], most: int) -> Callable[[Connection], list[Due]]:
    return lambda connection: outbox.due(connection, adapter, bulk, busy, most)


def _marking(outcomes: list[Outcome]) -> Callable[[Connection], None]:
    return lambda connection: outbox.mark(connection, outcomes)


def _ending(chat_id: int, reason: str) -> Callable[[Connection], None]:
    return lambda connection: outbox.chat_is_gone(connection, chat_id, reason)


def _passed_on(row: Due) -> File | None:
    """The file that somebody sent and this message takes along, if it does."""
    if row.attachment is None:
        return None
    name, media_type, maker, args = json.loads(row.attachment)
    if maker:
        return None
    adapter, external = args
    return File(adapter, external, name, media_type)


def _recalling(adapter: str, file: str) -> Callable[[Connection], str | None]:
    return lambda connection: outbox.sent_as(connection, adapter, file)


def _remembering(adapter: str, file: str, name: str, now: datetime) -> Callable[[Connection], None]:
    return lambda connection: outbox.remember_upload(connection, adapter, file, name, now)


def _making(make: Make, maker: str, args: Iterable[str]) -> Callable[[Connection], bytes]:
    def job(connection: Connection) -> bytes:
        with session_in(connection) as session:
            return make(session, maker, args)

    return job


def _naming(named: Named, adapter: str, who: str, args: Iterable[str]) -> Callable[[Connection], list[str]]:
    def job(connection: Connection) -> list[str]:
        with session_in(connection) as session:
            return named(session, adapter, who, args)

    return job
