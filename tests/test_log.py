"""Logs: one event a line, and never a token or what somebody wrote."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bot import log as logs
from bot.config import Settings
from bot.port import RetryLater, Undeliverable
from bot.types import MessageRef, Said, Unreadable
from tests.conftest import Community
from tests.test_dispatch import failing, happened, lab_with

TELEGRAM = "123456789:AAF-canary_canary_canary_canary_cana"
MATRIX = "syt_Ym90_canarycanarycanary_0abcde"
OWN = "a-token-of-no-known-shape"
CANARY = "Nilpferdgeheimnis"


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """What is set up here ends with the test."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    structlog.get_logger().info("idea.saved", number=42, place="Straße")
    structlog.get_logger().debug("not.shown")
    logging.getLogger("somebody.else").warning("a %s of theirs", "warning")
    first, second = lines(capsys)
    found = json.loads(first)
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "idea.saved", "level": "info", "number": 42, "place": "Straße"}
    assert "Straße" in first
    found = json.loads(second)
    assert (found["event"], found["level"]) == ("a warning of theirs", "warning")


def test_text_is_one_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "warning")
    structlog.get_logger().info("not.shown")
    structlog.get_logger().warning("delivery.later", message=7)
    [line] = lines(capsys)
    assert "delivery.later" in line
    assert "message=7" in line
    assert "\x1b" not in line  # no colours where nobody sees them


def test_libraries_that_would_log_addresses_or_routine_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "debug")
    for name in logs.QUIET:
        logging.getLogger(name).info("https://api.telegram.org/bot123/getUpdates")
        logging.getLogger(f"{name}.part").info("routine")
    assert lines(capsys) == []


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("token", [TELEGRAM, MATRIX, OWN], ids=["telegram", "matrix", "own"])
def test_no_token_is_ever_written(capsys: pytest.CaptureFixture[str], form: str, token: str) -> None:
    logs.configure(form, "debug", [OWN])
    log = structlog.get_logger()
    log.info("event", url=f"https://api.telegram.org/bot{token}/sendMessage")
    log.info(f"in the event {token}", nested={"header": [f"Bearer {token}"]})
    log.bind(bound=token).info("bound", fault=ValueError(token))
    logging.getLogger("somebody.else").error("an address: %s", f"/bot{token}/getMe")
    logging.getLogger("somebody.else").error("a mapping: %s", {"Authorization": f"Bearer {token}"})
    try:
        raise RuntimeError(f"cannot reach /bot{token}/getMe")
    except RuntimeError:
        log.exception("ours")
        logging.getLogger("somebody.else").exception("theirs")
    written = capsys.readouterr().err
    assert token not in written
    assert written.count("[token]") >= 7
    assert "cannot reach /bot[token]/getMe" in written


def test_what_only_looks_a_little_like_a_token_stays(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    structlog.get_logger().info("at 12:30, 2026-11-02T09:00:00, port 127.0.0.1:8080, 123456:short")
    [line] = lines(capsys)
    assert "[token]" not in line


async def test_no_word_of_a_story_is_logged_not_even_when_it_fails(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("text", "debug")
    async with lab_with(settings, failing()) as lab:
        anna = lab.person("anna")
        await anna.says(f"/idea {CANARY} one\n{CANARY} two")
        await anna.presses("Send")
        await anna.says(f"/ideas {CANARY}")
        await anna.says(f"/fail {CANARY}")
        await anna.says(f"/twice {CANARY}")
        await anna.says(f"/statement {CANARY}")
        await anna.says(f"/idea half an emoji \ud83d {CANARY}")
        await _troubled(lab, f"/echo {CANARY}")
        lab.messenger.happen(Unreadable("u-poison", CANARY, "KeyError"))
        lab.messenger.happen(
            Said(**happened(lab, "u-x", anna.chat, "anna"), message=MessageRef(anna.chat, "x"), text=CANARY)
        )
        await lab.settled()
    written = capsys.readouterr()
    logged = written.err + written.out
    assert CANARY not in logged
    assert logged.count("turn.failed") == 4
    assert "delivery.later" in logged
    assert "delivery.impossible" in logged
    assert "update.unreadable" in logged


async def _troubled(lab: Community, words: str) -> None:
    """A delivery that has to wait, and one that is refused."""
    lab.messenger.faults.append(RetryLater(0, "too many requests"))
    await lab.time.pass_until(_saying(lab, words))
    lab.messenger.faults.append(Undeliverable("text is empty"))
    await lab.time.pass_until(_saying(lab, words))


async def _saying(lab: Community, words: str) -> None:
    await lab.person("anna").says(words)
