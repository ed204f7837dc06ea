"""The playground in a real browser: a long chat, and many who look on."""

import argparse
import asyncio
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.async_api import async_playwright

ROOT = Path(__file__).parent.parent
MARKET = "g-Nachbarschaft Nordmarkt"

ANSWERED = """words => new Promise(answered => {
  const pane = document.querySelector(".pane"), thread = pane.querySelector(".thread"), begun = performance.now();
  new MutationObserver((_, observer) => {
    const newest = thread.lastElementChild;
    if (newest.tagName !== "ARTICLE" || newest.classList.contains("mine") || newest === before) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => answered(performance.now() - begun)));  // it has been painted
  }).observe(thread, { childList: true });
  const before = [...thread.querySelectorAll("article:not(.mine)")].pop();
  pane.querySelector("textarea").value = words;
  pane.querySelector("textarea").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", cancelable: true }));
})"""
"""Milliseconds from the Enter key until the bot's answer is painted."""

OLDER = """() => new Promise(done => {
  const thread = document.querySelector(".pane .thread"), begun = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
  }).observe(thread, { childList: true });
  thread.querySelector(".older").click();
})"""
"""Milliseconds until the older messages are painted."""


def said(numbers: list[float]) -> str:
    ordered = sorted(numbers)
    return (
        f"median {statistics.median(ordered):.0f}, 95 % below {ordered[int(len(ordered) * 0.95)]:.0f}, "
        f"longest {ordered[-1]:.0f} ms"
    )


async def looks(browser: Any, address: str) -> Any:
    """A page in a profile of its own, in Anna's eyes on the neighbours' group."""
    context = await browser.new_context(locale="de-DE", viewport={"width": 1400, "height": 850})
    await context.add_init_script(f"localStorage['labbot.pane.0'] = 'anna|{MARKET}'")
    page = await context.new_page()
    await page.goto(address)
    await page.locator(".pane article").first.wait_for()
    return page


async def answers(page: Any, number: int) -> list[float]:
    return [await page.evaluate(ANSWERED, "/help") for _ in range(number)]


async def hear(address: str, words: bytes, ready: asyncio.Semaphore) -> float:
    """One who looks on, with as little work of its own as can be: when these words came."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    try:
        await reader.readuntil(b"event: hello")
        ready.release()
        await reader.readuntil(words)
        return time.perf_counter()
    finally:
        writer.close()


async def measure(address: str, server: psutil.Process, messages: int, pages: int) -> None:
    async with httpx.AsyncClient(base_url=address) as http, async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = await looks(browser, address)
        await answers(page, 5)
        print(f"a short chat, typed to answered: {said(await answers(page, 100))}")
        await page.context.close()

        for number in range(messages):
            await http.post("/api/say", json={"person": "ben", "chat": MARKET, "text": f"message {number}"})
        print(f"\n{messages} messages in the chat; the server has {server.memory_info().rss >> 20} MiB")
        opened = []
        for _ in range(10):
            page = await looks(browser, address)
            opened.append(await page.evaluate("performance.now()"))
            if len(opened) < 10:
                await page.context.close()
        print(f"open the page: {said(opened)}")
        print(f"typed to answered: {said(await answers(page, 100))}")
        turned = []
        while await page.locator(".pane >> nth=0 >> .older").count():
            turned.append(await page.evaluate(OLDER))
        nodes = await page.evaluate("document.querySelectorAll('*').length")
        articles = await page.locator(".pane >> nth=0 >> article").count()
        print(f"page back {len(turned)} times, to the first message: {said(turned)}")
        print(f"then on the page: {articles} messages, {nodes} elements")
        print(f"typed to answered, from there: {await page.evaluate(ANSWERED, '/help'):.0f} ms")

        ready = asyncio.Semaphore(0)
        hearing = [asyncio.create_task(hear(address, b"to all of you", ready)) for _ in range(pages - 1)]
        for _ in hearing:
            await ready.acquire()
        print(f"\n{pages} open pages, one of them in the browser")
        print(f"typed to answered: {said(await answers(page, 100))}")
        begun = time.perf_counter()
        await http.post("/api/say", json={"person": "ben", "chat": MARKET, "text": "to all of you"})
        print(f"a message is with all others after {1000 * (max(await asyncio.gather(*hearing)) - begun):.0f} ms")
        tabs = [await page.context.new_page() for _ in range(pages - 1)]
        for tab in tabs:
            await tab.goto(address)
        await page.bring_to_front()
        print(f"{pages} tabs of one browser, all shown, typed to answered: {said(await answers(page, 100))}")
        for tab in tabs:  # without a screen every tab counts as shown; on one, all but the foremost are hidden
            await tab.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
        print(f"{pages} tabs of one browser, one shown, typed to answered: {said(await answers(page, 100))}")
        print(f"the server has {server.memory_info().rss >> 20} MiB")
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--pages", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "bot", "demo", "--port", "0", "--data", folder],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            found = re.search(r"http://[\d.:]+", server.stdout.readline())
            assert found
            print(f"{time.perf_counter() - begun:.2f} s from the start until the community is there\n")
            asyncio.run(measure(found[0], psutil.Process(server.pid), asked.messages, asked.pages))
        finally:
            server.terminate()
            server.wait(10)


if __name__ == "__main__":
    main()
