"""The playground in a real browser: what people see, hear and reach with a keyboard."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright

from tests.adapters.test_playground import opened

pytestmark = pytest.mark.browser

PATIENCE = 10_000
"""Milliseconds a page may take to show something."""


def browser_path() -> str | None:
    """A Chromium of the machine's own; ``CHROMIUM`` names another."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.fixture(autouse=True)
def _browser() -> None:
    """Without a browser there is nothing to see: for CI that is a failure."""
    downloaded = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright")).expanduser()
    if browser_path() is None and not any(downloaded.glob("chromium*")):
        missing = "there is no browser; one of: apt-get install chromium, .venv/bin/playwright install chromium"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots are kept: ``PICTURES``, else with the test's own files."""
    folder = Path(os.environ.get("PICTURES", tmp_path / "pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def looking(address: str, **more: Any) -> AsyncIterator[Any]:
    """A page on the playground, in a browser of its own; whatever it complains of is a fault."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        context = await browser.new_context(**{"viewport": {"width": 1400, "height": 850}, "locale": "de-DE"} | more)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        await page.goto(address)
        await page.locator("article").first.wait_for()
        try:
            yield page
        finally:
            await browser.close()
        assert complaints == []


def address_of(visitor: Any) -> str:
    return str(visitor.http.base_url)


async def writes(pane: Any, words: str) -> None:
    await pane.locator("textarea").fill(words)
    await pane.locator("textarea").press("Enter")


async def test_an_idea_is_suggested_supported_and_decided_on_before_ones_eyes(
    tmp_path: Path, sqlite_template: Path, pictures: Path
) -> None:
    async with opened(tmp_path, sqlite_template, empty=False) as visitor, looking(address_of(visitor)) as page:
        anna, rosa, ben = (page.locator(".pane").nth(number) for number in range(3))
        await page.screenshot(path=pictures / "playground-light.png")
        await writes(anna, "/idee Skatepark am Hafen\nEin Ort für alle.")
        await anna.get_by_role("button", name="Absenden", exact=True).first.click()
        card = rosa.locator("article").last
        await card.get_by_text("Skatepark am Hafen").wait_for()
        await writes(ben, "/ideas 13")
        await ben.locator("article").last.get_by_role("button", name="Support", exact=True).click()
        await ben.get_by_text("your support for #13 counts").wait_for()
        await ben.locator("article").last.get_by_text("1 person supports it").wait_for()
        await card.get_by_role("button", name="Aufgreifen").click()
        await card.get_by_text("aufgegriffen").wait_for()
        before = await anna.locator(".body").all_text_contents()
        await page.reload()
        await page.locator("article").first.wait_for()
        assert (await anna.locator(".body").all_text_contents())[-3:] == before[-3:]


async def test_another_tab_sees_the_same_and_a_script_stays_text(tmp_path: Path, sqlite_template: Path) -> None:
    words = "<script>document.title = 'pwned'</script><img src=x onerror=alert(1)>"
    async with opened(tmp_path, sqlite_template) as visitor, looking(address_of(visitor)) as page:
        others = [await page.context.new_page() for _ in range(7)]  # more than a browser's six connections
        for other in others:
            await other.goto(address_of(visitor))
            await other.locator("article").first.wait_for()
        await writes(page.locator(".pane").first, words)
        await others[-1].locator(".pane").first.get_by_text(words).wait_for()
        assert await page.locator(".thread script, .thread img").count() == 0
        assert await page.title() == "labbot: die Spielwiese"


async def test_a_keyboard_is_enough(tmp_path: Path, sqlite_template: Path) -> None:
    async with opened(tmp_path, sqlite_template, empty=False) as visitor, looking(address_of(visitor)) as page:
        anna = page.locator(".pane").first
        for _ in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.classList.contains('write')"):
                break
        await page.keyboard.press("Enter")
        for words, answer in (
            ("/idee Skatepark am Hafen", "Magst du in ein, zwei Sätzen"),
            ("Ein Ort für alle.", "Welches Thema passt?"),
            ("1", "So geht sie raus"),
            ("1", "hat die Nummer #13"),
        ):
            await page.keyboard.type(words)
            await page.keyboard.press("Enter")
            await anna.locator("article").last.get_by_text(answer).wait_for()


async def test_older_messages_come_when_asked_for(tmp_path: Path, sqlite_template: Path) -> None:
    async with opened(tmp_path, sqlite_template) as visitor:
        chat = visitor.stage.messenger.private("anna")
        for number in range(120):
            visitor.stage.messenger.say("anna", chat, f"{number}")
        await visitor.settled()
        async with looking(address_of(visitor)) as page:
            anna = page.locator(".pane").first
            while await anna.locator(".older").count():
                before = await anna.locator("article").count()
                await anna.locator(".older").click()
                await anna.locator("article").nth(before).wait_for()
            shown = await anna.locator("article.mine .body").all_text_contents()
            assert shown == [str(number) for number in range(120)]


@pytest.mark.parametrize("width", [320, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(
    tmp_path: Path, sqlite_template: Path, pictures: Path, width: int, scheme: str
) -> None:
    as_they_like = {"viewport": {"width": width, "height": 850}, "color_scheme": scheme, "reduced_motion": "reduce"}
    async with (
        opened(tmp_path, sqlite_template, empty=False) as visitor,
        looking(address_of(visitor), bypass_csp=True, **as_they_like) as page,  # axe itself is a script of another's
    ):
        for look in ("telegram", "matrix"):
            await page.locator(f"#look input[value={look}]").check()
            await page.screenshot(path=pictures / f"playground-{look}-{scheme}-{width}.png")
            found = await Axe().run(page)
            assert found.response["violations"] == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
