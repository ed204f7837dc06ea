"""The command line: run, check, migrate, invite, announcements, export, demo."""

import asyncio
import contextlib
import csv
import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import structlog
import typer
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from bot import log as logs
from bot.config import BadSettings, Settings, prepare_data, read_settings

if TYPE_CHECKING:
    from storage.announcements.writing import Announcement

app = typer.Typer(
    help="The chat bot of a social innovation lab: one community, any messenger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
log = structlog.get_logger()

BAD_SETTINGS = 2
"""The exit code of a bad configuration; the systemd unit does not restart after it."""


class Export(StrEnum):
    """What can be exported."""

    ANNOUNCEMENTS = "announcements"
    IDEAS = "ideas"
    EVENTS = "events"
    PEOPLE = "people"
    POLLS = "polls"


class Format(StrEnum):
    """How it is exported."""

    JSON = "json"
    CSV = "csv"


class Invited(StrEnum):
    """The roles an invitation can give."""

    MODERATOR = "moderator"
    ORGANISER = "organiser"
    LEAD = "lead"


NO_MESSENGER = (
    "LABBOT_TELEGRAM_TOKEN, LABBOT_MATRIX_HOMESERVER: no messenger is set up; "
    "@BotFather on Telegram gives a token, any homeserver an account"
)


@app.command()
def run(
    reset_cross_signing: Annotated[
        bool,
        typer.Option("--reset-cross-signing", help="Replace keys of the Matrix account that labbot does not hold."),
    ] = False,
) -> None:
    """Run the bot until it is stopped."""
    settings = _settings()
    if not settings.messengers:
        _bad(NO_MESSENGER)
    with _alone(settings):
        _migrated(settings)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            sys.exit(runner.run(_run(settings, reset_cross_signing)))


async def _run(settings: Settings, reset_cross_signing: bool = False) -> int:
    from bot import web
    from bot.app import App, connect

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    adapters, hooks = connect(settings, reset_cross_signing=reset_cross_signing)
    try:
        bot = App(settings, adapters)
    except ValueError as error:
        print(f"LABBOT_LOCALE: {error}", file=sys.stderr)
        return BAD_SETTINGS
    host, port = settings.http_address
    site = web.create(bot.metrics.registry, bot.health, hooks, bot.calendar)
    async with AsyncExitStack() as serving:
        try:
            await serving.enter_async_context(web.serve(site, host, port))
        except OSError as error:
            print(f"LABBOT_HTTP: {settings.http} cannot be used: {error.strerror or error}", file=sys.stderr)
            return BAD_SETTINGS
        # What is there now stays to the end: looking through all of it again and again, the collector of garbage would
        # stop everything for up to a tenth of a second each time.
        gc.collect()
        gc.freeze()
        return 0 if await bot.run(stop) else 1


@app.command()
def check() -> None:
    """Say what is configured, and whether the database and each messenger answer."""
    settings = _settings()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        faults = runner.run(_check(settings))
    for fault in faults:
        print(f"fault: {fault}")
    sys.exit(1 if faults else 0)


async def _check(settings: Settings) -> list[str]:
    from bot.app import connect
    from bot.port import Refused, RetryLater
    from bot.text import Catalogues
    from storage.engine import is_current

    faults = []
    print(f"lab: {settings.name}, language {settings.locale}, time zone {settings.timezone}")
    try:
        Catalogues(settings.locale, settings.zone)
    except ValueError as error:
        faults.append(f"LABBOT_LOCALE: {error}")
    print(f"data: {settings.data.resolve()}")
    try:
        current = is_current(settings.database)
        later = "" if current or not settings.migrate else "; labbot run sees to that"
        print(f"database: answers, tables are {'up to date' if current else 'not up to date'}{later}")
        if not current and not settings.migrate:
            faults.append("LABBOT_DATABASE_URL: the tables are not up to date; run: labbot migrate")
    except DBAPIError as error:
        faults.append(f"LABBOT_DATABASE_URL: the database does not answer: {_first_line(error)}")
    adapters, _ = connect(settings)
    if not adapters:
        faults.append(NO_MESSENGER)
    for adapter in adapters:
        try:
            print(f"{adapter.name}: answers, we are {await adapter.check()}")
        except (Refused, RetryLater) as error:
            faults.append(f"{adapter.name}: {error}")
        finally:
            await adapter.close()
    return faults


@app.command()
def migrate() -> None:
    """Bring the database's tables up to date."""
    settings = _settings()
    _migrate(settings)
    print("the tables are up to date")


@app.command()
def invite(role: Annotated[Invited, typer.Argument()] = Invited.ORGANISER) -> None:
    """Print a code that makes somebody an organiser, once: they write /claim CODE to the bot."""
    from storage import people
    from storage.people import Role

    settings = _settings()
    _migrated(settings)
    with _session(settings) as session:
        code = people.invite(session, Role(role.value), datetime.now(UTC))
        session.commit()
    print(code)


@app.command()
def export(what: Export, format: Annotated[Format, typer.Option("--format")] = Format.JSON) -> None:
    """Print announcements, events, ideas, polls or people, one JSON object a line, or as CSV."""
    from storage import ideas, people
    from storage.announcements import writing
    from storage.events import listing
    from storage.polls import asking

    settings = _settings()
    _migrated(settings)
    with _session(settings) as session:
        exported: dict[Export, Callable[[Session], Iterator[NamedTuple]]] = {
            Export.ANNOUNCEMENTS: writing.export,
            Export.IDEAS: ideas.export,
            Export.EVENTS: listing.export,
            Export.PEOPLE: people.export,
            Export.POLLS: asking.export,
        }
        rows = exported[what](session)
        try:
            _print_rows(rows, format)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command()
def announcements(
    watch: Annotated[bool, typer.Option(help="Stay until everything has been sent.")] = True,
) -> None:
    """Show how far announcements are: a live bar in a terminal, one line each elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from storage.announcements import ledger, writing

    settings = _settings()
    _migrated(settings)
    console = Console()
    with _session(settings) as session:
        found = [one for one in writing.newest(session, 20) if one.status not in writing.UNSENT]
        session.commit()
        if not (watch and console.is_terminal and any(one.step_at or one.paused for one in found)):
            for one in reversed(found):
                print(_announced(one))
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with contextlib.suppress(KeyboardInterrupt), Progress(*columns, console=console) as bars:
            shown: dict[int, TaskID] = {}
            while True:
                moving = [one for one in writing.newest(session, 20) if one.status not in writing.UNSENT]
                for one in reversed(moving):
                    if one.number not in shown and (one.step_at or one.paused):
                        shown[one.number] = bars.add_task("")
                    if one.number in shown:
                        done = one.recipients - ledger.left(session, one)
                        bars.update(
                            shown[one.number], description=_announced(one), total=one.recipients, completed=done
                        )
                going = any(one.step_at for one in moving)
                session.commit()
                session.expire_all()  # and nothing is read before the next look: that would hold up the bot
                if not going:
                    return
                time.sleep(0.5)


def _announced(one: "Announcement") -> str:
    return (
        f"{one.number}: {'paused' if one.paused else one.status}, {one.delivered} delivered, "
        f"{one.unreachable} unreachable, {one.failed} failed, {one.pending} pending of {one.recipients}"
    )


def _print_rows(rows: Iterable[NamedTuple], form: Format) -> None:
    writer = None
    for row in rows:
        line = row._asdict()
        if form is Format.JSON:
            print(json.dumps(line, ensure_ascii=False, default=_plain))
            continue
        if writer is None:
            writer = csv.DictWriter(sys.stdout, line.keys())
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in line.items()})


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _cell(value: Any) -> Any:
    """A CSV cell; text that a spreadsheet would take for a formula is made harmless (OWASP, CSV injection)."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        parts = [": ".join(map(str, part.values())) if isinstance(part, dict) else part for part in value]
        return _cell(("; " if isinstance(value[0], dict) else " ").join(parts)) if value else ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


@app.command()
def demo(
    terminal: Annotated[bool, typer.Option("--terminal", help="Talk in this terminal instead, as two people.")] = False,
    data: Annotated[Path | None, typer.Option(help="Keep everything in this folder; else it is thrown away.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Begin without invented ideas.")] = False,
    host: Annotated[str, typer.Option(help="The address to serve on; beyond this machine only with --i-know.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; 8090 or any free one.")] = None,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Whoever reaches the address can be anybody in the playground.")
    ] = False,
) -> None:
    """Open the playground in the browser: the whole bot in an invented community, no account needed."""
    from bot.demo import playground
    from bot.demo import terminal as in_terminal

    if not playground.is_loopback(host):
        if not i_know:
            _bad(f"--host: {host} is reached by others too, who could be anybody in the playground; add --i-know")
        print(f"Warning: whoever reaches {host} can be anybody in this playground.", file=sys.stderr)
    logs.configure("text", "error")
    if terminal:
        _played(in_terminal.play())
        return
    with tempfile.TemporaryDirectory(prefix="labbot-demo-") as folder:
        try:
            settings = playground.settings_in(data or Path(folder))
            prepare_data(settings)
        except BadSettings as error:
            _bad(str(error))
        os.umask(0o077)
        with _alone(settings):
            place = playground.Place(host, port, sys.stdin.isatty())
            _played(playground.play(settings, place, empty=empty))


def _played(play: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(play)
        except BadSettings as error:
            _bad(str(error))


# -- what the commands share --------------------------------------------------------------------------------


def _settings() -> Settings:
    """The settings, with logs and data folder ready."""
    try:
        settings = read_settings()
        prepare_data(settings)
    except BadSettings as error:
        _bad(str(error))
    form, _, level = settings.log.partition(":")
    token = settings.telegram_token
    logs.configure(form, level or "info", [token.get_secret_value()] if token is not None else [])
    os.umask(0o077)  # the database and its journals are for this user only
    return settings


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Keep a second process off this lab: both would deliver the same outbox. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    with (settings.data / "labbot.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _bad(f"LABBOT_DATA: another labbot is running on {settings.data}")
        yield


def _migrated(settings: Settings) -> None:
    """Bring the tables up to date, unless the operator does it."""
    from storage.engine import is_current

    if settings.migrate:
        _migrate(settings)
        return
    try:
        if is_current(settings.database):
            return
        print("LABBOT_MIGRATE: is 0 and the tables are not up to date; run: labbot migrate", file=sys.stderr)
    except DBAPIError as error:
        print(f"LABBOT_DATABASE_URL: the database does not answer: {_first_line(error)}", file=sys.stderr)
    sys.exit(1)


def _migrate(settings: Settings) -> None:
    from storage.engine import migrate as bring_up_to_date

    try:
        bring_up_to_date(settings.database)
    except DBAPIError as error:
        print(f"LABBOT_DATABASE_URL: the database does not answer: {_first_line(error)}", file=sys.stderr)
        sys.exit(1)
    except CommandError as error:
        print(f"LABBOT_DATABASE_URL: the tables are from another version of labbot: {error}", file=sys.stderr)
        sys.exit(1)


def _session(settings: Settings) -> Session:
    from storage.engine import open_engine

    return Session(open_engine(settings.database), expire_on_commit=False)


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).splitlines()[0] if str(error.orig) else type(error).__name__


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop


def _bad(line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(BAD_SETTINGS)


def cli() -> None:
    """The entry point ``labbot``."""
    app()


if __name__ == "__main__":
    cli()
