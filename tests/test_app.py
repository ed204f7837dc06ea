"""The whole bot: how it starts, says how it is, and ends."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import pytest
import structlog
from pydantic import SecretStr

from bot.__main__ import _check, _run
from bot.adapters.memory import Memory
from bot.app import LAG_EVERY, SILENCE, App, connect
from bot.config import Settings
from bot.port import Command, Refused, RetryLater, Undeliverable
from bot.types import Batch
from storage.engine import Storage, Unavailable
from tests.adapters.telegram_server import TelegramServer
from tests.conftest import SETTLES, Community, ManualTime


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as server:
        yield server


@pytest.fixture
def on_telegram(settings: Settings, telegram: TelegramServer) -> Settings:
    """Settings of a lab on the Telegram server of the test."""
    return settings.model_copy(
        update={
            "telegram_token": SecretStr(telegram.token),
            "telegram_api": telegram.url,
            "http": "127.0.0.1:0",
            "locale": "en",
        }
    )


async def test_it_runs_until_it_is_told_to_stop(on_telegram: Settings, telegram: TelegramServer) -> None:
    ada = telegram.user(first_name="Ada")
    running = asyncio.create_task(_run(on_telegram))
    telegram.start(ada)
    await telegram.wait_for(lambda: telegram.sent(ada.id), timeout=SETTLES)
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, SETTLES) == 0


async def test_a_messenger_that_refuses_the_account_ends_it(on_telegram: Settings) -> None:
    wrong = on_telegram.model_copy(update={"telegram_token": SecretStr("999999999:no-token-of-anybody-at-all")})
    with structlog.testing.capture_logs() as logged:
        assert await asyncio.wait_for(_run(wrong), SETTLES) == 1
    [line] = [line for line in logged if line["event"] == "messenger.refused"]
    assert "LABBOT_TELEGRAM_TOKEN" in line["reason"]


async def test_check_finds_nothing_wrong_with_a_lab_that_works(
    on_telegram: Settings, telegram: TelegramServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _check(on_telegram) == []
    said = capsys.readouterr().out
    assert "database: answers, tables are up to date" in said
    assert "telegram: answers, we are " in said
    assert telegram.token not in said


async def test_one_messenger_that_refuses_does_not_end_the_others(settings: Settings) -> None:
    class Refusing(Memory):
        async def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
            if self.name == "other":
                raise Refused("a wrong token")
            yield Batch((), None)

    time = ManualTime()
    well, ill = Memory(now=time.now), Refusing("other")
    app = App(settings, [well, ill], time=time)
    stop = asyncio.Event()
    running = asyncio.create_task(app.run(stop))
    anna = well.private("anna", "en")
    well.say("anna", anna, "/start")
    await asyncio.wait_for(well.caught_up(), SETTLES)
    await asyncio.wait_for(app.outboxes["memory"].idle.wait(), SETTLES)
    assert well.sees(anna)
    assert not running.done()
    stop.set()
    assert await asyncio.wait_for(running, SETTLES) is True


async def test_a_fault_of_the_outbox_ends_the_bot_instead_of_silencing_it(settings: Settings) -> None:
    class Broken(Storage):
        async def run(self, job: Callable[..., object]) -> object:  # type: ignore[override]
            if "_reading" in job.__qualname__:
                raise LookupError("no such table: outbox")
            return await super().run(job)

    app = App(settings, [Memory()], time=ManualTime(), storage=Broken(settings.database))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(app.run(asyncio.Event()), SETTLES)
    assert caught.group_contains(LookupError, match="no such table")


# -- the menu -----------------------------------------------------------------------------------------------


class Menu(Memory):
    """A messenger whose menu fails a few times."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)
        self.shown = asyncio.Event()
        self.refused = asyncio.Event()

    async def publish(self, commands: Sequence[Command]) -> None:
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Undeliverable):
                self.refused.set()
            raise failure
        await super().publish(commands)
        self.shown.set()


async def test_the_menu_is_shown_as_soon_as_the_messenger_takes_it(settings: Settings) -> None:
    messenger = Menu(RetryLater(1, "no network"), RetryLater(30, "too many requests"))
    community = Community(settings, [messenger], ManualTime())
    began = community.time.monotonic()
    await community.begin()
    await community.time.pass_until(messenger.shown.wait())
    assert community.time.monotonic() - began >= 31
    await community.end()
    assert {command.name for command in messenger.menu} >= {"idee", "idea", "help"}


async def test_a_menu_the_messenger_refuses_is_only_a_warning(settings: Settings) -> None:
    messenger = Menu(Undeliverable("BOT_COMMAND_INVALID"))
    community = Community(settings, [messenger], ManualTime())
    with structlog.testing.capture_logs() as logged:
        await community.begin()
        await asyncio.wait_for(messenger.refused.wait(), SETTLES)
        await community.person("anna").says("/start")
        await community.end()
    assert [line["reason"] for line in logged if line["event"] == "menu.refused"] == ["BOT_COMMAND_INVALID"]


# -- how it is ----------------------------------------------------------------------------------------------


async def test_it_says_what_is_well_and_what_is_not(settings: Settings) -> None:
    silent, new, well = Memory("silent"), Memory("new"), Memory("well")
    now = datetime.now(UTC).timestamp()
    silent.answered_at, well.answered_at = now - SILENCE - 1, now
    app = App(settings, [silent, new, well])
    health = await app.health()
    assert health.ok is False
    assert health.checks == {"database": "ok", "silent": "silent", "new": "not reached yet", "well": "ok"}
    silent.answered_at = new.answered_at = now
    assert (await app.health()).ok is True

    class Gone(Storage):
        async def run(self, _job: object) -> None:  # type: ignore[override]
            raise Unavailable("database is locked")

    gone = Gone(settings.database)
    broken = await App(settings, [well], storage=gone).health()
    assert (broken.ok, broken.checks) == (False, {"database": "unavailable", "well": "ok"})
    await gone.close()
    await app.storage.close()


async def test_its_metrics_tell_of_delays_and_of_what_waits(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    lab.messenger.faults.append(RetryLater(3600, "too many requests"))
    lab.messenger.say("anna", anna.chat, "/help")
    await lab.time.asleep(3)  # the watch, the clock's alarm, and the outbox
    lab.time.pass_by(LAG_EVERY + 2)
    await lab.time.asleep(3)

    def shown(name: str, **labels: str) -> float | None:
        return lab.app.metrics.registry.get_sample_value(name, labels)

    assert shown("labbot_loop_lag_seconds") == 2
    assert shown("labbot_outbox_pending", adapter="memory") == 1
    assert shown("labbot_last_poll_timestamp_seconds", adapter="memory") == lab.messenger.answered_at
    assert shown("labbot_updates_total", adapter="memory", kind="said") == 2
    assert shown("labbot_deliveries_total", adapter="memory", outcome="retried") == 1
    assert (shown("labbot_transaction_seconds_count") or 0) >= 2
    lab.time.pass_by(3600)
    await lab.time.pass_until(asyncio.ensure_future(lab.settled()))


async def test_a_lab_may_have_topics_of_its_own(settings: Settings) -> None:
    app = App(settings.model_copy(update={"topics": ("mobility", "Parks & Pools")}), [])
    words = app.lab.catalogues["de"]
    assert [words.plain(label) for label in app.lab.topics.values()] == ["Mobilität", "Parks & Pools"]
    await app.storage.close()


# -- connecting ---------------------------------------------------------------------------------------------


async def test_only_messengers_whose_settings_are_there_are_connected(settings: Settings) -> None:
    assert connect(settings) == ([], [])
    token = {"telegram_token": SecretStr("123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11")}
    [adapter], hooks = connect(settings.model_copy(update={**token, "telegram_in_flight": 5}))
    assert (adapter.name, adapter.limits.in_flight, hooks) == ("telegram", 5, [])
    await adapter.close()
    [adapter], [hook] = connect(settings.model_copy(update={**token, "telegram_webhook": "https://lab.example/hook"}))
    assert hook.secret_header == "X-Telegram-Bot-Api-Secret-Token"
    assert hook.path.startswith("/")
    await adapter.close()
