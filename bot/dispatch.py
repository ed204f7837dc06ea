"""Dispatch: a batch of updates becomes one transaction; only then is the batch confirmed."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from bot.clock import Time
from bot.metrics import Metrics
from bot.port import Adapter, RetryLater, Undeliverable
from bot.router import LARGEST_FILE, OUT_OF_DATE, Due, Router
from bot.turn import Dialog, Here, Lab, Turn, You
from bot.types import (
    Batch,
    Edited,
    Ended,
    File,
    Garbled,
    Left,
    Moved,
    Pressed,
    Retracted,
    Said,
    T,
    Unreadable,
    Update,
    Voted,
)
from storage import chats, conversation, outbox, people
from storage.engine import Storage, Unavailable, database_failed, savepoint, serialise
from storage.people import Role

log = structlog.get_logger()
R = TypeVar("R")

SORRY = T("Something went wrong on my side. Your message is kept and somebody will look at it. Please try again.")
BACKOFF = (0.5, 30.0)
"""First and longest wait, in seconds, while the database is unavailable."""

FETCHING = 5.0
"""Seconds that the files of a batch may take; what is not there by then is asked for again."""

AFTER_FAILURE = timedelta(seconds=30)
"""When a function that has failed on what is due is tried again."""


@dataclass(slots=True)
class Done:
    """What a batch has led to: presses to answer, messengers with something to deliver, failures to report."""

    notes: list[tuple[Pressed, str]] = field(default_factory=list)
    adapters: set[str] = field(default_factory=set)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    due_at: datetime | None = None

    def take(self, turn: Turn) -> None:
        """What one of its turns has led to."""
        self.adapters |= turn.adapters
        if turn.due_at is not None:
            self.due_at = turn.due_at if self.due_at is None else min(turn.due_at, self.due_at)


class Dispatch:
    """Turns what happened into stored effects.

    After the commit ``wake`` is called with each messenger that has new messages, and ``rearm`` with the time at
    which something new falls due.
    """

    def __init__(
        self,
        storage: Storage,
        router: Router,
        lab: Lab,
        time: Time,
        metrics: Metrics,
        wake: Callable[[str], None],
        rearm: Callable[[datetime], None],
    ) -> None:
        self.storage = storage
        self.router = router
        self.lab = lab
        self.time = time
        self.metrics = metrics
        self.wake = wake
        self.rearm = rearm
        self._answers: set[asyncio.Task[None]] = set()

    async def receive_all(self, adapter: Adapter) -> None:
        """Handle everything that happens on a messenger, from the stored cursor on, until cancelled."""
        cursor = await self._insist(lambda connection: conversation.cursor(connection, adapter.name))
        async with contextlib.aclosing(adapter.batches(cursor)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                await self.receive(adapter, batch)

    async def receive(self, adapter: Adapter, batch: Batch) -> None:
        """Handle one batch: when this returns, all of it is stored, and the next one may be asked for."""
        batch = await self._with_files(adapter, batch)
        now = self.time.now()
        began = self.time.monotonic()
        done = await self._insist(lambda connection: self._transact(connection, adapter.name, batch, now))
        self.metrics.transaction_seconds.observe(self.time.monotonic() - began)
        for kind, number in done.kinds.items():
            self.metrics.updates(adapter.name, kind).inc(number)
        for pressed, note in done.notes:
            task = asyncio.create_task(self._acknowledge(adapter, pressed, note))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
        for key, error, where in done.failures:
            log.error("turn.failed", adapter=adapter.name, update=key, error=error, where=where)
            self.metrics.turn_failures(adapter.name).inc()
        for key, error in done.unreadable:
            log.warning("update.unreadable", adapter=adapter.name, update=key, error=error)
            self.metrics.unreadable_updates(adapter.name).inc()
        self._announce(done)

    async def _with_files(self, adapter: Adapter, batch: Batch) -> Batch:
        """The batch with the bytes of the files that a function reads, as far as they can be had in time.

        Before the transaction, so that nothing of it needs a row: after a crash the messenger sends the update again.
        """
        wanted = [
            (place, update, reader.role)
            for place, update in enumerate(batch.updates)
            if isinstance(update, Said) and (reader := self.router.reader(update)) is not None
        ]
        if not wanted:
            return batch

        def allowed(connection: Connection) -> list[tuple[int, Said]]:
            found = []
            for place, update, role in wanted:
                known = conversation.frame(connection, adapter.name, update.chat.id, update.actor.id)
                if known is not None and known.role is not None and Role(known.role).covers(role):
                    found.append((place, update))
            return found

        fetching = {
            asyncio.create_task(self._fetch(adapter, update.files[0])): (place, update)
            for place, update in await self._insist(allowed)
        }
        if fetching:
            late = asyncio.create_task(self.time.sleep(FETCHING))
            everything = asyncio.ensure_future(asyncio.wait(fetching))
            try:
                await asyncio.wait((everything, late), return_when=asyncio.FIRST_COMPLETED)
            finally:  # also at a stop: the adapter is closed next
                for task in (late, everything, *fetching):
                    task.cancel()
                await asyncio.gather(late, everything, *fetching, return_exceptions=True)
        updates = list(batch.updates)
        for task, (place, update) in fetching.items():
            if not task.cancelled():
                updates[place] = replace(update, files=(task.result(), *update.files[1:]))
        return replace(batch, updates=updates)

    async def _fetch(self, adapter: Adapter, file: File) -> File:
        """A file with its bytes; without, when it cannot be had, and with its size when it is too large."""
        content = b""
        try:
            if file.size is None or file.size <= LARGEST_FILE:
                async with contextlib.aclosing(adapter.fetch(file)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        content += chunk
                        if len(content) > LARGEST_FILE:
                            return replace(file, size=len(content))
                return replace(file, content=content)
        except (RetryLater, Undeliverable) as error:
            log.info("file.not_fetched", adapter=adapter.name, reason=error.reason)
        except Exception as error:  # one file must not hold up the batch for ever
            log.error("file.failed", adapter=adapter.name, error=type(error).__name__, where=_where(error))
        return file

    def _announce(self, done: Done) -> None:
        """After the commit: somebody may have to deliver, and the clock to look earlier."""
        for name in done.adapters:
            self.wake(name)
        if done.due_at is not None:
            self.rearm(done.due_at)

    async def answered(self) -> None:
        """Wait until every press so far has been answered."""
        if self._answers:
            await asyncio.wait(self._answers)

    async def tick(self, name: str, handler: Callable[[Turn], None]) -> None:
        """Let a scheduled function do its turn; one that fails is logged and called again next time."""

        def job(connection: Connection) -> Done:
            done = Done()
            self._scheduled(connection, handler, done)
            return done

        try:
            self._announce(await self.storage.run(job))
        except Exception as error:
            log.error("tick.failed", tick=name, error=type(error).__name__, where=_where(error))

    async def due(self, due: Due) -> datetime | None:
        """Let a function handle some of what is due, if anything is; when it has to be called next.

        One process does it at a time. One that fails is logged and tried again half a minute later.
        """

        def job(connection: Connection) -> tuple[datetime | None, Done]:
            done = Done()
            at = due.next_due(connection)
            if at is not None and at <= self.time.now():
                serialise(connection, [due.name])
                self._scheduled(connection, due.handler, done)
                at = due.next_due(connection)
            return at, done

        try:
            at, done = await self.storage.run(job)
            self._announce(done)
            return at
        except Exception as error:
            log.error("due.failed", due=due.name, error=type(error).__name__, where=_where(error))
            return self.time.now() + AFTER_FAILURE

    def _scheduled(self, connection: Connection, handler: Callable[[Turn], None], done: Done) -> None:
        """A turn that nobody's message began."""
        with Turn(connection, self.lab, self.time.now()) as turn:
            handler(turn)
        done.take(turn)

    async def _insist(self, job: Callable[[Connection], R]) -> R:
        """Try until the database takes it: nothing is confirmed to the messenger before."""
        wait, longest = BACKOFF
        while True:
            try:
                return await self.storage.run(job)
            except Unavailable as error:
                log.error("database.unavailable", error=str(error), retry_in=wait)
                await self.time.sleep(wait * random.uniform(0.5, 1))
                wait = min(wait * 2, longest)

    def _transact(self, connection: Connection, adapter: str, batch: Batch, now: datetime) -> Done:
        done = Done()
        chats = (f"{adapter}:{update.chat.id}" for update in batch.updates if not isinstance(update, Unreadable))
        serialise(connection, chats)
        new = conversation.unseen(connection, adapter, [update.key for update in batch.updates], now)
        for update in batch.updates:
            if update.key not in new:
                continue
            new.discard(update.key)  # the same one may be there twice
            kind = type(update).__name__.lower()
            done.kinds[kind] = done.kinds.get(kind, 0) + 1
            if isinstance(update, Unreadable):
                self._keep(connection, adapter, update, update.raw, update.error, now, done)
                done.unreadable.append((update.key, update.error))
            else:
                self._handle(connection, adapter, update, batch, now, done)
        if batch.cursor is not None:
            conversation.set_cursor(connection, adapter, batch.cursor)
        return done

    def _handle(
        self, connection: Connection, adapter: str, update: Update, batch: Batch, now: datetime, done: Done
    ) -> None:
        """One turn behind a savepoint: what it does is kept as a whole, or not at all."""
        try:
            self._in_turn(connection, adapter, update, now, done, lambda turn: self.router.respond(turn, update))
        except Exception as error:
            if database_failed(error):
                raise  # the whole batch is tried again
            done.failures.append((update.key, type(error).__name__, _where(error)))
            if isinstance(update, Said | Pressed):
                try:
                    self._in_turn(connection, adapter, update, now, done, lambda turn: turn.toast(SORRY))
                except Exception as again:  # not even an apology may hold up the others
                    if database_failed(again):
                        raise
                    done.failures.append((update.key, type(again).__name__, _where(again)))
            # After the apology, since that is where somebody new becomes known: what is kept goes when they go.
            fault = f"{type(error).__name__} at {_where(error)}"
            self._keep(connection, adapter, update, batch.raw.get(update.key, ""), fault, now, done)

    def _keep(
        self,
        connection: Connection,
        adapter: str,
        update: Update | Unreadable,
        raw: str,
        fault: str,
        now: datetime,
        done: Done,
    ) -> None:
        """Keep an update that failed; one that no database takes must not hold up the others either."""
        try:
            with savepoint(connection):
                found = None
                if not isinstance(update, Unreadable):
                    found = conversation.frame(connection, adapter, update.chat.id, update.actor.id)
                person = None if found is None else found.person_id
                conversation.keep_failed(connection, adapter, update.key, person, raw, fault, now)
        except Exception as error:
            if database_failed(error):
                raise
            done.failures.append((update.key, type(error).__name__, _where(error)))

    def _in_turn(
        self,
        connection: Connection,
        adapter: str,
        update: Update,
        now: datetime,
        done: Done,
        act: Callable[[Turn], None],
    ) -> None:
        with savepoint(connection):
            turn = self._turn(connection, adapter, update, now)
            if turn is None:
                if isinstance(update, Pressed):  # whoever pressed waits for an answer
                    words = self.lab.catalogues[self.lab.catalogues.best(update.actor.locale)]
                    done.notes.append((update, words.plain(OUT_OF_DATE)))
                return
            with turn:
                act(turn)
            done.take(turn)
            if isinstance(update, Pressed):
                done.notes.append((update, turn.note or ""))

    def _turn(self, connection: Connection, adapter: str, update: Update, now: datetime) -> Turn | None:
        """The turn of an update, or ``None`` where there is nobody to answer."""
        if isinstance(update, Moved):
            chats.move_chat(connection, adapter, update.chat.id, update.to.id)
            return None
        found = conversation.frame(connection, adapter, update.chat.id, update.actor.id)
        if isinstance(update, Left):
            if found is not None:
                outbox.chat_is_gone(connection, found.chat_id, "the chat is gone")
            return None
        new = found is None or found.person_id is None
        nobody = update.actor.anonymous
        if new and found is not None and isinstance(update, Retracted | Ended):
            nobody, new = True, False  # a moderator, say: what they do in their room counts, whoever they are
        if new:
            if not self._addressed(connection, update, found):
                return None
            found = self._meet(connection, adapter, update, found, now)
        assert found is not None
        if not found.active:
            chats.set_active(connection, found.chat_id, True)
        if found.private and not update.private:  # somebody has been invited to what was a private chat
            chats.open_up(connection, found.chat_id)
        if found.private and update.private and found.owner != found.account_id and not nobody:
            # Somebody has come into a private chat, and whose it was has left: what waits is not for them.
            outbox.drop_waiting(connection, found.chat_id, "somebody else is there now")
            chats.set_owner(connection, found.chat_id, found.account_id)
        chat = Here(found.chat_id, update.chat, update.private, found.locale, found.team)
        if nobody:
            return Turn(connection, self.lab, now, chat=chat, update=update)
        assert found.person_id is not None and found.pseudonym is not None and found.role is not None
        if update.private and not found.latest:
            chats.set_latest(connection, found.chat_id, found.person_id)
        person = You(
            found.person_id,
            found.pseudonym,
            Role(found.role),
            found.notice or 0,
            found.stopped_at is not None,
            new,
        )
        dialog = None if found.step is None else Dialog.stored(found.step, found.data)
        return Turn(connection, self.lab, now, chat=chat, person=person, dialog=dialog, update=update)

    def _addressed(self, connection: Connection, update: Update, found: conversation.Frame | None) -> bool:
        """Whether somebody we do not know turns to us; of those who only talk to each other nothing is stored."""
        match update:
            case Said():
                if update.private or update.mentioned or self.router.knows(update.command or ""):
                    return True
                if found is None or update.reply_to is None:
                    return False
                return outbox.shown(connection, found.chat_id, update.reply_to.id) is not None
            case Pressed() | Voted():
                if update.private or update.actor.anonymous or found is None:
                    return False  # in private, they have erased themselves
                return outbox.shown(connection, found.chat_id, update.message.id) is not None
            case Edited() | Retracted() | Ended():
                return False
            case Garbled():
                return update.private or found is not None
        return True

    def _meet(
        self,
        connection: Connection,
        adapter: str,
        update: Update,
        found: conversation.Frame | None,
        now: datetime,
    ) -> conversation.Frame | None:
        """Remember a chat or a person that has not been here before: the ids, and nothing else."""
        account = None if found is None else found.account_id
        if account is None and not update.actor.anonymous:
            account = people.arrive(connection, adapter, update.actor.id, now)
        if found is None:
            chats.open_chat(
                connection,
                adapter,
                update.chat.id,
                private=update.private,
                locale=self.lab.catalogues.best(update.actor.locale if update.private else None),
                account_id=account if update.private else None,
                now=now,
            )
        elif update.private and found.owner is None:
            chats.set_owner(connection, found.chat_id, account)
        return conversation.frame(connection, adapter, update.chat.id, update.actor.id)

    async def _acknowledge(self, adapter: Adapter, pressed: Pressed, note: str) -> None:
        await adapter.acknowledge(pressed, note)


def _where(error: BaseException) -> str:
    """File and line of an error, without its message, which may hold somebody's words."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file:
            place = f"{'/'.join(file.split('/')[-2:])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
