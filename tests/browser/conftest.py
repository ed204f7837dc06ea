"""One browser for all stories, and what a page needs to be looked at."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests.adapters.test_playground import Visitor

PATIENCE = 20_000
"""Milliseconds a page may take to show something; only a fault takes so long."""

PICTURES = Path(__file__).parents[2] / "build" / "pictures"
"""Where screenshots are kept."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Looking = Callable[..., AbstractAsyncContextManager[Any]]


def own_browser() -> str | None:
    """A Chromium of the machine's own; ``CHROMIUM`` names another."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def pictures() -> Path:
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Any]:
    """The browser: the machine's own, else Playwright's. Without one there is nothing to see: in CI, a failure."""
    async with async_playwright() as driver:
        path = own_browser()
        if path is None and not Path(driver.chromium.executable_path).exists():
            missing = "there is no browser: make browser"
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        browser = await driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
def looking(chromium: Any, pictures: Path, request: pytest.FixtureRequest) -> Looking:
    """A page on a playground, in a profile of its own. What it complains of is a fault, but what is ``forbidden``."""

    @asynccontextmanager
    async def look(visitor: Visitor, *, forbidden: str = "\0", **more: Any) -> AsyncIterator[Any]:
        likes = {"viewport": {"width": 1400, "height": 850}, "locale": "de-DE", "reduced_motion": "reduce"}
        context = await chromium.new_context(**likes | more)
        try:
            context.set_default_timeout(PATIENCE)
            page = await context.new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            await page.goto(address(visitor))
            await at_rest(visitor, page)
            try:
                yield page
            except BaseException:
                if not page.is_closed():
                    await page.screenshot(path=pictures / f"failed-{request.node.name}.png")
                raise
            assert [words for words in complaints if forbidden not in words] == []
        finally:
            await context.close()

    return look


def address(visitor: Visitor) -> str:
    return f"{visitor.http.base_url}/"


async def at_rest(visitor: Visitor, *pages: Any) -> None:
    """Wait until the bot has answered everything and these pages show it."""
    for page in pages:
        await page.evaluate("last")  # what has been done on it is on its way until then
    await visitor.settled()
    messenger = visitor.stage.messenger
    told = {
        chat: [[message["id"], message["version"]] for message in messenger.messages(chat)]
        for person in messenger.people
        for chat in messenger.open_to(person)
    }
    for page in pages:
        await page.wait_for_function(
            """told => !waiting && !syncing && Object.entries(told).every(
                 ([chat, messages]) => messages.every(([id, version]) =>
                   chats.get(chat)?.messages.some(one => one.id === id && one.version === version)))""",
            arg=told,
        )
