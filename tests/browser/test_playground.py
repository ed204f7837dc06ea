"""The playground in a real browser: what people see, hear and reach with a keyboard."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from bot import web
from bot.demo.community import MARKET
from bot.types import ChatRef
from tests.adapters.test_playground import Visitor, opened
from tests.browser.conftest import Looking, address, at_rest
from tests.browser.film import Film

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ARABIC, HEBREW = "نحتاج مكانا آمنا للدراجات", "שלום לכולם"


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Visitor]:
    """A playground without ideas."""
    async with opened(tmp_path, sqlite_template) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def moved_in(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """The folder of a playground whose people have been busy, to be copied."""
    folder = tmp_path_factory.mktemp("community")
    async with opened(folder, sqlite_template, empty=False):
        return folder


@pytest_asyncio.fixture(loop_scope="session")
async def busy(tmp_path: Path, sqlite_template: Path, moved_in: Path) -> AsyncIterator[Visitor]:
    """A playground whose people have been busy."""
    shutil.copytree(moved_in, tmp_path, dirs_exist_ok=True)
    async with opened(tmp_path, sqlite_template, empty=False) as one:
        yield one


def panes(page: Any) -> tuple[Any, ...]:
    """The windows: Anna's and Rosa's and Ben's, unless somebody looks elsewhere."""
    return tuple(page.locator(".pane").nth(number) for number in range(3))


async def writes(pane: Any, words: str) -> None:
    await pane.locator("textarea").fill(words)
    await pane.locator("textarea").press("Enter")


def choice(pane: Any, label: str) -> Any:
    """The newest button under a message that says so."""
    return pane.locator(".choices").get_by_role("button", name=label, exact=True).last


def tab(pane: Any, name: str) -> Any:
    """The button for somebody's eyes, or for a chat."""
    return pane.locator(".eyes button, .chats button").filter(has_text=name)


async def bodies(pane: Any) -> list[str]:
    found: list[str] = await pane.locator(".body").all_text_contents()
    return found


# -- what one sees ---------------------------------------------------------------------------------------------


async def test_an_idea_is_suggested_supported_and_decided_on_before_ones_eyes(
    busy: Visitor, looking: Looking, pictures: Path
) -> None:
    async with looking(busy, viewport={"width": 1200, "height": 720}) as page:
        film, (anna, rosa, ben) = Film(page), panes(page)
        await film.shoot(2.5)
        for words in ("/idee Skatepark am Hafen", "/idee Skatepark am Hafen\nEin Ort für alle, auch für Kleine."):
            await anna.locator("textarea").fill(words)
            await film.shoot(1)
        await anna.locator("textarea").press("Enter")
        await at_rest(busy, page)
        await film.shoot(2.5)
        await choice(anna, "Absenden").click()
        await at_rest(busy, page)
        await film.shoot(2.5)
        card = rosa.locator("article", has_text="#13 Skatepark am Hafen").first
        await writes(ben, "/ideas 13")
        await at_rest(busy, page)
        await film.shoot(2)
        await choice(ben, "Support").click()
        await ben.locator(".note", has_text="your support for #13 counts").wait_for()
        await at_rest(busy, page)
        await film.shoot(2.5)
        assert "1 person supports it" in await ben.locator("article").last.inner_text()
        await card.get_by_role("button", name="Aufgreifen").click()
        await rosa.locator(".note", has_text="#13").wait_for()
        await at_rest(busy, page)
        await film.shoot(3)
        assert "aufgegriffen" in await card.inner_text()
        assert "#13" in (await bodies(anna))[-1]
        await page.locator("#look input[value=matrix]").check()
        await film.shoot(3)
        film.develop(pictures / "playground.webp")
        assert film.seconds == 20
        assert (pictures / "playground.webp").stat().st_size < 1_500_000


async def test_a_reload_keeps_everything(busy: Visitor, looking: Looking) -> None:
    async with looking(busy) as page:
        anna, rosa, ben = panes(page)
        await writes(anna, "Uns fehlt ein Skatepark")
        await tab(rosa, "Ben").click()
        await tab(ben, MARKET).click()
        await page.locator("#look input[value=matrix]").check()
        await page.locator("#clock button", has_text="Tag").click()
        await page.locator("#time", has_text="geht vor").wait_for()
        await at_rest(busy, page)
        before = [await pane.inner_text() for pane in (anna, rosa, ben)]
        assert "Skatepark" in before[0]
        await page.reload()
        await at_rest(busy, page)
        assert [await pane.inner_text() for pane in (anna, rosa, ben)] == before
        assert await page.locator("#look input[value=matrix]").is_checked()
        await page.locator("#time", has_text="geht vor").wait_for()


async def test_another_tab_sees_the_same_and_a_script_stays_text(visitor: Visitor, looking: Looking) -> None:
    words = "<script>document.title = 'pwned'</script><img src=x onerror=alert(1)>"
    async with looking(visitor) as page:
        others = [await page.context.new_page() for _ in range(7)]  # more than a browser's six connections
        for other in others:
            await other.goto(address(visitor))
        await at_rest(visitor, *others)
        await writes(panes(page)[0], f"/idee {words}\nEin Text dazu.")
        await at_rest(visitor, page, *others)
        shown = await bodies(panes(others[-1])[0])
        assert shown[0] == f"/idee {words}\nEin Text dazu."
        assert words in shown[-1]
        assert await page.locator(".thread script, .thread img").count() == 0
        assert await page.title() == "labbot: die Spielwiese"
        await page.close()  # the one that listened for all
        await writes(panes(others[0])[2], "/start")
        await at_rest(visitor, *others)


async def test_what_happens_while_the_page_catches_up_is_not_missed(visitor: Visitor, looking: Looking) -> None:
    async def late(route: Any) -> None:
        answer = await route.fetch()
        visitor.stage.messenger.say("rosa", ChatRef("playground", f"g-{MARKET}"), "Gerade eben")
        await page.wait_for_function("() => meanwhile.length > 0")  # a bare expression is what the page forbids
        await route.fulfill(response=answer)

    async with looking(visitor) as page:
        anna = panes(page)[0]
        await tab(anna, MARKET).click()
        await page.route("**/api/state*", late)
        visitor.stage.messenger.tell("hello", {})  # as after a lost connection
        await anna.get_by_text("Gerade eben").wait_for()


async def test_a_tab_that_is_hidden_draws_only_when_it_is_looked_at(visitor: Visitor, looking: Looking) -> None:
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with looking(visitor) as page, looking(visitor) as behind:
        await behind.evaluate(hide, True)
        await writes(panes(page)[0], "/start")
        await at_rest(visitor, page)
        assert await bodies(panes(behind)[0]) == []
        await behind.evaluate(hide, False)
        await at_rest(visitor, behind)
        assert await bodies(panes(behind)[0]) == await bodies(panes(page)[0])


async def test_what_somebody_edits_or_takes_back_changes_before_the_others_eyes(
    visitor: Visitor, looking: Looking
) -> None:
    async with looking(visitor) as page, looking(visitor) as elsewhere:
        anna, rosa, _ = panes(page)
        await writes(anna, "/idee Fahrradgarage\nEin Ort fehlt.")
        await at_rest(visitor, page)
        await choice(anna, "Absenden").click()
        await at_rest(visitor, page, elsewhere)
        said = anna.locator("article.mine").last
        await said.get_by_role("button", name="Ändern").click()
        await anna.locator("textarea").fill("/idee Fahrradhaus\nEin Ort fehlt.")
        await anna.get_by_role("button", name="Senden").click()
        await at_rest(visitor, page, elsewhere)
        assert "geändert" in await said.inner_text()
        for team in (rosa, panes(elsewhere)[1]):
            card = await team.locator("article").last.inner_text()
            assert "#1 Fahrradhaus" in card
            assert "geändert" in card
        await said.get_by_role("button", name="Zurücknehmen").click()
        await at_rest(visitor, page, elsewhere)
        there = panes(elsewhere)[0].locator("article.mine").last
        assert "Diese Nachricht wurde zurückgenommen." in await there.inner_text()


async def test_what_has_not_been_read_is_marked_until_it_is(visitor: Visitor, looking: Looking) -> None:
    market = ChatRef("playground", f"g-{MARKET}")
    async with looking(visitor) as page:
        anna, _, ben = panes(page)
        await tab(anna, MARKET).click()
        await tab(ben, "labbot").click()
        visitor.stage.messenger.say("rosa", market, "Guten Morgen")
        visitor.stage.messenger.say("rosa", market, "Wer kommt heute?")
        await at_rest(visitor, page)
        badge = tab(ben, MARKET).locator(".badge")
        await badge.filter(has_text="ungelesen").wait_for()
        assert await tab(anna, MARKET).locator(".badge").count() == 0
        await page.reload()
        await at_rest(visitor, page)
        ben = panes(page)[2]
        await badge.wait_for()
        await tab(ben, MARKET).click()
        await badge.wait_for(state="detached")


async def test_what_is_typed_fast_arrives_in_the_order_it_was_typed(visitor: Visitor, looking: Looking) -> None:
    lines = [f"Zeile {number}" for number in range(10)]
    begun, slow = [], asyncio.Event()

    async def wait_at_first(route: Any) -> None:
        begun.append(route)
        await slow.wait()
        await route.continue_()

    async with looking(visitor) as page:
        anna = panes(page)[0]
        await tab(anna, MARKET).click()
        await page.route("**/api/say", wait_at_first)
        async with page.expect_request("**/api/say"):
            await writes(anna, lines[0])
        for line in lines[1:]:
            await writes(anna, line)
        assert len(begun) == 1  # the others wait for the slow one
        slow.set()
        await anna.get_by_text(lines[-1]).wait_for()
        assert [words for words in await bodies(anna) if words in lines] == lines


async def test_numbers_and_reactions_do_what_buttons_do(visitor: Visitor, looking: Looking) -> None:
    async with looking(visitor) as page:
        anna, rosa, _ = panes(page)
        await page.locator("#look input[value=matrix]").check()
        await writes(anna, "!idee Fahrradgarage\nEin Ort fehlt.")
        await at_rest(visitor, page)
        answer = anna.locator("article").last
        assert "1. Absenden" in await answer.inner_text()
        await answer.get_by_role("button", name="1 wählen: Absenden").click()
        await at_rest(visitor, page)
        card = rosa.locator("article", has_text="#1 Fahrradgarage").first
        await card.get_by_role("button", name="Antworten", exact=True).last.click()
        await writes(rosa, "2")  # in reply, as a group has it
        await at_rest(visitor, page)
        assert "aufgegriffen" in await card.inner_text()
        await page.locator("#look input[value=telegram]").check()
        assert await card.get_by_role("button", name="Ist umgesetzt").count() == 1


async def test_the_clock_goes_on_for_all_who_look(visitor: Visitor, looking: Looking) -> None:
    async with looking(visitor) as page, looking(visitor) as elsewhere:
        for _ in range(2):
            await page.locator("#clock button", has_text="Tag").click()
        await elsewhere.locator("#time", has_text="geht vor").wait_for()
        await writes(panes(page)[0], "/start")
        await at_rest(visitor, page, elsewhere)
        answered = datetime.fromisoformat((await visitor.sees("p-anna"))[-1]["at"])
        assert timedelta(hours=47) < answered - datetime.now(UTC) <= timedelta(hours=48)
        shown = await panes(elsewhere)[0].locator("article .who").last.inner_text()
        assert answered.astimezone().strftime("%d.%m.%y") in shown
        await page.locator("#clock button", has_text="Jetzt").click()
        await elsewhere.locator("#time:not(:has-text('geht vor'))").wait_for()


async def test_an_empty_one_says_how_to_begin(visitor: Visitor, looking: Looking) -> None:
    async with looking(visitor) as page:
        anna = panes(page)[0]
        assert "/start" in await anna.locator(".empty").inner_text()
        await anna.get_by_role("button", name="Befehle").click()
        await anna.locator(".menu").get_by_role("button", name="/idee").first.click()
        assert await anna.locator("textarea").input_value() in ("/idee ", "/ideen ")


async def test_each_line_runs_in_the_direction_of_its_script(visitor: Visitor, looking: Looking) -> None:
    async with looking(visitor) as page:
        anna, _, ben = panes(page)
        await anna.locator("textarea").fill(ARABIC)
        assert await anna.locator("textarea").evaluate("field => field.matches(':dir(rtl)')")
        await anna.locator("textarea").press("Enter")
        await writes(ben, HEBREW)
        await at_rest(visitor, page)
        for pane, locale in ((anna, "de"), (ben, "en")):
            said, answer = pane.locator("article .body").first, pane.locator("article .body").last
            assert await said.evaluate("body => body.matches(':dir(rtl)')")
            assert await answer.evaluate("body => body.matches(':dir(ltr)')")
            assert await answer.evaluate("body => body.closest('[lang]').lang") == locale
        await writes(anna, f"/idee {ARABIC}\nEin Ort, an dem Räder trocken stehen.")
        await at_rest(visitor, page)
        title, text = await anna.locator("article .body").last.evaluate(
            """(body, words) => words.map(part => {
                 const walk = document.createTreeWalker(body, NodeFilter.SHOW_TEXT), range = document.createRange();
                 for (let node; (node = walk.nextNode());) {
                   const at = node.data.indexOf(part);
                   if (at >= 0) { range.setStart(node, at); range.setEnd(node, at + part.length); }
                 }
                 const line = range.getBoundingClientRect(), around = body.getBoundingClientRect();
                 return [line.left - around.left, around.right - line.right].map(Math.round);
               })""",
            [ARABIC, "Ein Ort"],
        )
        assert title[1] <= 1 < title[0]
        assert text[0] <= 1 < text[1]


@pytest.mark.parametrize("width", [320, 1400])
async def test_a_language_from_right_to_left_turns_the_page(
    visitor: Visitor, looking: Looking, pictures: Path, width: int
) -> None:
    async def in_arabic(route: Any) -> None:
        answer = await route.fetch()
        state = await answer.json() | {"locale": "ar"}
        state["people"][0]["locale"] = "ar"
        await route.fulfill(response=answer, json=state)

    async with looking(visitor, viewport={"width": width, "height": 850}) as page:
        await page.route("**/api/state*", in_arabic)
        await page.reload()
        await writes(panes(page)[0], ARABIC)
        await at_rest(visitor, page)
        await page.screenshot(path=pictures / f"playground-arabic-{width}.png")
        assert await page.locator("html").get_attribute("dir") == "rtl"
        assert await panes(page)[0].locator("article.mine").first.get_attribute("lang") == "ar"
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        box = await panes(page)[0].bounding_box()
        assert box["x"] + box["width"] > width - 40  # the first window is the rightmost one


# -- long chats ------------------------------------------------------------------------------------------------


async def test_a_long_chat_is_paged_through_and_the_page_stays_small(visitor: Visitor, looking: Looking) -> None:
    market, number = ChatRef("playground", f"g-{MARKET}"), 500
    for line in range(number):
        visitor.stage.messenger.say("rosa", market, f"{line}")
    async with looking(visitor) as page:
        anna = panes(page)[0]
        await tab(anna, MARKET).click()
        found: list[str] = []
        while True:
            shown = await bodies(anna)
            assert len(shown) <= 300
            found = [words for words in shown if words not in found] + found
            if not await anna.locator(".older").count():
                break
            first = await anna.locator("article").first.get_attribute("data-message")
            await anna.locator(".older").click()
            await anna.locator(f"article:not([data-message='{first}'])").first.wait_for()
            await anna.locator(f"article[data-message='{first}']").wait_for()
            await page.wait_for_function(
                "first => document.querySelector('.pane article').dataset.message !== first", arg=first
            )
        assert found[1:] == [str(line) for line in range(number)]  # the first is the bot's greeting
        visitor.stage.messenger.say("rosa", market, "Neues")
        await tab(anna, MARKET).locator(".badge").wait_for()
        assert "Neues" not in await bodies(anna)
        await anna.get_by_role("button", name="Zu den neuesten Nachrichten").click()
        await anna.get_by_text("Neues").wait_for()
        await tab(anna, MARKET).locator(".badge").wait_for(state="detached")


# -- everybody -------------------------------------------------------------------------------------------------


async def test_a_keyboard_is_enough(busy: Visitor, looking: Looking) -> None:
    async with looking(busy) as page:
        anna = panes(page)[0]

        async def tab_to(what: str) -> None:
            for _ in range(60):
                await page.keyboard.press("Tab")
                if await page.evaluate(f"document.activeElement.matches({what!r})"):
                    return
            raise AssertionError(f"no way to {what}")

        await tab_to(".write")
        await page.keyboard.press("Enter")
        for words, answer in (
            ("/idee Skatepark am Hafen", "Magst du in ein, zwei Sätzen"),
            ("Ein Ort für alle.", "Welches Thema passt?"),
            ("1", "So geht sie raus"),
            ("1", "hat die Nummer #13"),
        ):
            await page.keyboard.type(words)
            await page.keyboard.press("Enter")
            await at_rest(busy, page)
            assert answer in await anna.locator("article").last.inner_text()
        await page.keyboard.press("Shift+Tab")  # the commands
        for _ in range(6):
            await page.keyboard.press("Shift+Tab")
            if await page.evaluate("document.activeElement.textContent") == "Ansehen":
                break
        await page.keyboard.press("Enter")
        await at_rest(busy, page)
        assert "#13 Skatepark am Hafen" in await anna.locator("article").last.inner_text()


@pytest.mark.parametrize("width", [320, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(busy: Visitor, looking: Looking, pictures: Path, width: int, scheme: str) -> None:
    size = {"viewport": {"width": width, "height": 850}}
    async with looking(busy, bypass_csp=True, color_scheme=scheme, **size) as page:  # axe itself is another's script
        for look in ("matrix", "telegram"):
            await page.locator(f"#look input[value={look}]").check()
            await page.screenshot(path=pictures / f"playground-{look}-{scheme}-{width}.png")
            found = await Axe().run(page)
            assert found.response["violations"] == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


# -- nobody else -----------------------------------------------------------------------------------------------


async def test_the_page_runs_no_script_but_its_own(visitor: Visitor, looking: Looking) -> None:
    async with looking(visitor, forbidden="Content Security Policy") as page:
        await page.evaluate(
            """() => {
                 const inline = document.createElement("script");
                 inline.textContent = "window.pwned = 1";
                 document.body.append(inline);
                 const button = document.createElement("button");
                 button.setAttribute("onclick", "window.pwned = 2");
                 document.body.append(button);
                 button.click();
               }"""
        )
        assert await page.evaluate("window.pwned") is None


async def test_another_sites_page_gets_and_does_nothing(visitor: Visitor, looking: Looking) -> None:
    theirs = Starlette(routes=[Route("/", lambda _: HTMLResponse("<p>Hello"))])
    async with looking(visitor) as page, web.serve(theirs, "127.0.0.1", 0) as port:
        hostile = await page.context.new_page()
        await hostile.goto(f"http://127.0.0.1:{port}/")
        said = '{"person":"anna","chat":"p-anna","text":"/start"}'
        read = await hostile.evaluate(
            """async ([address, said]) => {
                 const tries = [
                   fetch(`${address}api/say`, { method: "POST", mode: "no-cors", body: said }),
                   fetch(`${address}api/say`, {
                     method: "POST", body: said, headers: { "Content-Type": "application/json" },
                   }),
                   fetch(`${address}api/state`),
                 ];
                 return (await Promise.allSettled(tries)).filter(({ value }) => value?.ok).length;
               }""",
            [address(visitor), said],
        )
        assert read == 0
        async with hostile.expect_navigation() as gone:
            await hostile.evaluate(
                """([address, said]) => {
                     const form = document.createElement("form"), field = document.createElement("input");
                     Object.assign(form, { method: "post", action: `${address}api/say`, enctype: "text/plain" });
                     Object.assign(field, { name: said.slice(0, -2), value: '"}' });
                     form.append(field);
                     document.body.append(form);
                     form.submit();
                   }""",
                [address(visitor), said],
            )
        assert (await gone.value).status == 403
        await at_rest(visitor, page)
        assert await visitor.sees("p-anna") == []
