"""The demo in the browser: the bot on the playground, on a database that is thrown away or kept."""

import asyncio
import contextlib
import errno
import ipaddress
import signal
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bot import web
from bot.adapters.playground import WORDS, Playground, create
from bot.app import App
from bot.clock import RealTime
from bot.config import BadSettings, Settings, read_settings
from bot.demo.community import GROUPS, PEOPLE, Neighbourhood
from storage.engine import migrate

JOURNAL = "playground.jsonl"
"""The messenger's own file beside the database."""


PORT = 8090
"""Where the page is served when nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page is served (``None``: port 8090, or any free one), and whether to open a browser on it."""

    host: str
    port: int | None
    browser: bool


class ShiftedTime(RealTime):
    """The machine's clock, set ahead. Only the time of day moves: pauses and pacing go on as they are."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Hand:
    """Moves the clock of a running bot: whatever recurs is called then, as if its time had come, and what is due."""

    def __init__(self, time: ShiftedTime, app: App) -> None:
        self._time = time
        self._app = app

    @property
    def ahead(self) -> timedelta:
        return self._time.ahead

    async def turn(self, by: timedelta | None) -> None:
        self._time.ahead = timedelta() if by is None else self._time.ahead + by
        for tick in self._app.router.ticks:
            await self._app.dispatch.tick(tick.name, tick.handler)
        await self._app.clock.catch_up()


class Stage:
    """The bot, the messenger, the clock and the page, put together."""

    def __init__(self, settings: Settings, host: str = "127.0.0.1") -> None:
        self.time = ShiftedTime()
        self.messenger = Playground(PEOPLE, settings.data / JOURNAL, self.time.now)
        self.app = App(settings, [self.messenger], time=self.time)
        self.site = create(self.messenger, Hand(self.time, self.app), self._speak, host)

    def _speak(self, tag: str | None) -> tuple[str, Mapping[str, str]]:
        catalogues = self.app.lab.catalogues
        locale = catalogues.best(tag)
        return locale, {key: catalogues[locale].plain(text) for key, text in WORDS.items()}

    async def run(self, stop: asyncio.Event, ready: asyncio.Event, *, empty: bool = False) -> None:
        """Run the bot until ``stop``. ``ready`` is set once the community has moved in."""
        known = await self.messenger.replay()
        running = asyncio.create_task(self.app.run(stop))
        try:
            if not known:
                for title, members in GROUPS:
                    self.messenger.group(title, *members)
                moving = asyncio.create_task(Neighbourhood(self.app, self.messenger, self.time).move_in(empty=empty))
                await asyncio.wait((moving, running), return_when=asyncio.FIRST_COMPLETED)
                if moving.done():
                    moving.result()
                moving.cancel()
            ready.set()
            await running
        finally:
            stop.set()
            await running


def settings_in(folder: Path) -> Settings:
    """The settings of the invented lab. Raises ``BadSettings`` when the folder holds a real one."""
    if (folder / "labbot.db").exists() and not (folder / JOURNAL).exists():
        raise BadSettings(f"--data: {folder} holds a lab that is no playground; choose another folder")
    return read_settings(
        _env_file=None,
        data=folder,
        database_url="",
        name="KoSI-Lab",
        locale="de",
        topics=(),
        adapters=(),
        telegram_token=None,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def play(settings: Settings, place: Place, *, empty: bool) -> None:
    """Serve the playground until it is stopped. Raises ``BadSettings`` when the address cannot be used."""
    migrate(settings.database)
    stop, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stage = Stage(settings, place.host)
    async with contextlib.AsyncExitStack() as stack:
        try:
            wanted = PORT if place.port is None else place.port
            port = await stack.enter_async_context(web.serve(stage.site, place.host, wanted))
        except OSError as error:
            if place.port is not None or error.errno != errno.EADDRINUSE:
                reason = error.strerror or error
                raise BadSettings(f"--host, --port: {place.host}:{wanted} cannot be used: {reason}") from None
            port = await stack.enter_async_context(web.serve(stage.site, place.host, 0))
        running = asyncio.create_task(stage.run(stop, ready, empty=empty))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not running.done():
            address = f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{port}/"
            print(f"The playground is open: {address}   (Ctrl-C ends it)", flush=True)
            if place.browser:
                await asyncio.to_thread(webbrowser.open, address)
        await running
