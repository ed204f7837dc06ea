"""The composition root: builds each part once and runs them together."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, text

from bot import web
from bot.clock import Clock, RealTime, Time
from bot.config import Settings
from bot.dispatch import Dispatch
from bot.metrics import Metrics
from bot.outbox import Outbox
from bot.port import Adapter, Refused, RetryLater, Undeliverable
from bot.text import Catalogues
from bot.turn import Lab
from bot.types import File, T, Text, Verbatim
from handlers import assemble
from handlers.events.calendar import feed, version
from storage import outbox
from storage.engine import Storage, Unavailable, session_in

log = structlog.get_logger()

TOPICS: Mapping[str, Text] = {
    "mobility": T("Mobility"),
    "housing": T("Housing"),
    "work": T("Work"),
    "neighbourhood": T("Neighbourhood"),
    "other": T("Something else"),
}
"""The topics of a lab that has not listed its own."""

PATIENCE = 3.0
"""Seconds that what is under way may take after the stop."""

SILENCE = 180.0
"""Seconds without any answer after which a messenger counts as unreachable."""

LAG_EVERY = 5.0
"""Seconds between two looks at how late the event loop is."""


class App:
    """One running bot: its storage, its messengers, and what moves between them."""

    def __init__(
        self,
        settings: Settings,
        adapters: Sequence[Adapter],
        *,
        time: Time | None = None,
        storage: Storage | None = None,
    ) -> None:
        """Raises ``ValueError`` when a setting does not fit what is there (no such language)."""
        self.settings = settings
        self.time = time or RealTime()
        self.metrics = Metrics()
        self.router = assemble()
        catalogues = Catalogues(settings.locale, settings.zone)
        self.router.speak(catalogues)
        self.adapters = {adapter.name: adapter for adapter in adapters}
        self._feeds: dict[str, tuple[str, bytes]] = {}
        self.lab = Lab(
            settings.name,
            catalogues,
            {topic: TOPICS.get(topic, Verbatim(topic)) for topic in settings.topics or TOPICS},
            self.router.commands,
            {name: adapter.limits for name, adapter in self.adapters.items()},
            self.router.spoken(),
            settings.public_url,
        )
        self.storage = storage or Storage(settings.database)
        self.outboxes = {
            name: Outbox(
                adapter, self.storage, self.router.make, self._fetch, self.time, self.metrics, self.router.named
            )
            for name, adapter in self.adapters.items()
        }
        self.dispatch = Dispatch(self.storage, self.router, self.lab, self.time, self.metrics, self._wake, self._rearm)
        self.clock = Clock(self.router.ticks, self.dispatch.tick, self.router.dues, self.dispatch.due, self.time)

    def _wake(self, adapter: str) -> None:
        if adapter in self.outboxes:
            self.outboxes[adapter].wake()

    async def _fetch(self, file: File) -> bytes:
        """A file that somebody sent, from the messenger it was sent on. Raises as ``Adapter.fetch`` does."""
        source = self.adapters.get(file.adapter)
        if source is None:
            raise RetryLater(60, "the messenger of this file is not connected")
        return b"".join([chunk async for chunk in source.fetch(file)])

    def _rearm(self, at: datetime) -> None:
        self.clock.rearm(at)

    async def run(self, stop: asyncio.Event) -> bool:
        """Run until ``stop`` is set. False when every messenger has refused our account."""
        delivering = [asyncio.create_task(outbox.run()) for outbox in self.outboxes.values()]
        receiving = [asyncio.create_task(self._receive(adapter)) for adapter in self.adapters.values()]
        others = [asyncio.create_task(self._publish(adapter)) for adapter in self.adapters.values()] + [
            asyncio.create_task(self._watch_lag())
        ]
        stopping = asyncio.create_task(stop.wait())
        self.clock.start()
        log.info("labbot.running", messengers=sorted(self.adapters))
        try:
            running: set[asyncio.Task[Any]] = {stopping, *delivering, *receiving}
            while stopping in running and running & {*receiving}:
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    if task in delivering or not isinstance(task.exception(), Refused | None):
                        task.result()  # neither ends by itself: pass its error on
            return stopping not in running
        finally:
            await self._end(delivering, [*receiving, *others, stopping])

    async def _end(self, delivering: Sequence[asyncio.Task[None]], others: Sequence[asyncio.Task[Any]]) -> None:
        """Take in nothing new, let what is under way finish and be noted, then close everything."""
        self.clock.stop()
        for task in others:
            task.cancel()
        for outbox_ in self.outboxes.values():
            outbox_.stop()
        _, late = await asyncio.wait(delivering, timeout=PATIENCE) if delivering else (set(), set())
        for task in late:
            task.cancel()
        await asyncio.gather(*delivering, *others, return_exceptions=True)
        for adapter in self.adapters.values():
            await adapter.close()
        await self.storage.close()
        log.info("labbot.stopped", unfinished=len(late))

    async def _receive(self, adapter: Adapter) -> None:
        try:
            await self.dispatch.receive_all(adapter)
        except Refused as error:
            log.error("messenger.refused", adapter=adapter.name, reason=str(error))
            raise

    async def _publish(self, adapter: Adapter) -> None:
        wait = 1.0
        while True:
            try:
                await adapter.publish(self.router.menu(self.lab.catalogues))
                return
            except RetryLater as error:
                await self.time.sleep(max(wait, error.after))
                wait = min(wait * 2, 300.0)
            except Undeliverable as error:
                log.warning("menu.refused", adapter=adapter.name, reason=error.reason)
                return

    async def _watch_lag(self) -> None:
        while True:
            due = self.time.monotonic() + LAG_EVERY
            await self.time.sleep(LAG_EVERY)
            self.metrics.loop_lag.set(max(0.0, self.time.monotonic() - due))
            for name, adapter in self.adapters.items():
                if adapter.answered_at is not None:
                    self.metrics.last_poll(name).set(adapter.answered_at)
            with contextlib.suppress(Unavailable):
                counts = await self.storage.run(outbox.count)
                for name in self.adapters:
                    self.metrics.outbox_pending(name).set(counts.get((name, outbox.PENDING), 0))

    async def health(self) -> web.Health:
        """Whether the database and every messenger answer."""
        checks: dict[str, str] = {}
        try:
            await self.storage.run(lambda connection: connection.execute(text("SELECT 1")))
            checks["database"] = "ok"
        except Unavailable:
            checks["database"] = "unavailable"
        now = datetime.now(UTC).timestamp()
        for name, adapter in self.adapters.items():
            if adapter.answered_at is None:
                checks[name] = "not reached yet"
            elif now - adapter.answered_at > SILENCE:
                checks[name] = "silent"
            else:
                checks[name] = "ok"
        return web.Health(all(state == "ok" for state in checks.values()), checks)

    async def calendar(self, name: str) -> bytes | None:
        """The calendar of this name: "" is the lab's own, else a topic's, else a person's secret; ``None`` for none."""

        def job(connection: Connection) -> bytes | None:
            with session_in(connection) as session:
                now = self.time.now()
                if name != "" and name not in self.lab.topics:
                    return feed(session, self.lab.name, name, (), now)
                # Anybody may ask for these, as often as they like.
                current, (known, content) = version(session, now), self._feeds.get(name, ("", b""))
                if known != current:
                    content = feed(session, self.lab.name, name, list(self.lab.topics), now) or b""
                    self._feeds[name] = (current, content)
                return content

        return await self.storage.run(job)


def connect(settings: Settings, *, reset_cross_signing: bool = False) -> tuple[list[Adapter], list[web.Hook]]:
    """The messengers whose settings are there, and the doors they knock on.

    ``reset_cross_signing`` replaces keys of the Matrix account that labbot does not hold.
    """
    adapters: list[Adapter] = []
    hooks: list[web.Hook] = []
    if "telegram" in settings.messengers and settings.telegram_token is not None:
        from bot.adapters.telegram import Telegram  # a messenger that is not used costs no memory

        telegram = Telegram(
            settings.telegram_token.get_secret_value(),
            settings.telegram_api,
            settings.telegram_webhook,
            settings.telegram_in_flight,
            settings.telegram_bulk_in_flight,
            rate=settings.telegram_rate,
            chat_rate=settings.telegram_chat_rate,
            group_rate=settings.telegram_group_rate,
        )
        adapters.append(telegram)
        if settings.telegram_webhook:
            hooks.append(web.Hook(telegram.webhook_path, "X-Telegram-Bot-Api-Secret-Token", telegram.receive))
    if "matrix" in settings.messengers and settings.matrix_homeserver is not None:
        from bot.adapters.matrix import Login, Matrix

        login = Login(
            settings.matrix_homeserver,
            settings.matrix_user,
            None if settings.matrix_password is None else settings.matrix_password.get_secret_value(),
            None if settings.matrix_token is None else settings.matrix_token.get_secret_value(),
        )
        adapters.append(
            Matrix(
                login,
                settings.matrix_folder,
                invites=settings.matrix_invites,
                rate=settings.matrix_rate,
                burst=settings.matrix_burst,
                reactions=settings.matrix_reactions,
                reset=reset_cross_signing,
                display_name=settings.name,
            )
        )
    return adapters, hooks
