"""The playground: the whole bot behind a web page, over a real socket on loopback."""

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from bot import web
from bot.__main__ import app as command_line
from bot.adapters.playground import WORDS
from bot.adapters.playground.markup import tree
from bot.adapters.playground.messenger import BEHIND, PAGE, Playground
from bot.adapters.playground.site import FOLDER
from bot.config import BadSettings
from bot.demo.community import IDEAS, MARKET, TEAM
from bot.demo.playground import JOURNAL, Stage, is_loopback, settings_in
from bot.types import ChatRef
from storage import ideas
from storage.engine import session_in

SETTLES = 20.0
MOVES_IN = 60.0
"""Seconds a community may take to move in: it says and presses five hundred things, each stored safely."""


class Visitor:
    """A page in a browser: asks, and hears what happens."""

    def __init__(self, http: httpx.AsyncClient, stage: Stage) -> None:
        self.http = http
        self.stage = stage
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.listening = asyncio.Event()
        self._more = asyncio.Event()

    async def listen(self) -> None:
        """Hear the events until the stream ends."""
        async with self.http.stream("GET", "/api/events", timeout=None) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.heard.append((kind, json.loads(line.removeprefix("data: "))))
                    self.listening.set()
                    self._more.set()

    async def hears(self, kind: str, words: str = "") -> dict[str, Any]:
        """Wait for an event that holds these words."""
        async with asyncio.timeout(SETTLES):
            while True:
                for what, data in self.heard:
                    if what == kind and words in json.dumps(data, ensure_ascii=False):
                        return data
                self._more.clear()
                await self._more.wait()

    async def posts(self, path: str, **data: Any) -> httpx.Response:
        return await self.http.post(f"/api/{path}", json=data)

    async def says(self, person: str, text: str, chat: str | None = None, **more: Any) -> httpx.Response:
        answer = await self.posts("say", person=person, chat=chat or f"p-{person}", text=text, **more)
        await self.settled()
        return answer

    async def presses(self, person: str, label: str, chat: str | None = None) -> httpx.Response:
        """Press the choice that begins so, under the newest message that has it."""
        place = chat or f"p-{person}"
        for message in reversed(await self.sees(place)):
            for position, button in enumerate(message.get("buttons", [])):
                if button["label"].startswith(label):
                    answer = await self.posts(
                        "press",
                        person=person,
                        chat=place,
                        message=message["id"],
                        position=position,
                        revision=message["revision"],
                    )
                    await self.settled()
                    return answer
        raise AssertionError(f"nothing says {label}")

    async def settled(self) -> None:
        async with asyncio.timeout(SETTLES):
            await self.stage.messenger.caught_up()
            await self.stage.app.outboxes["playground"].idle.wait()
            await self.stage.app.dispatch.answered()

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get("/api/state", params={"locale": "de-DE"})).json()
        return found

    async def sees(self, chat: str) -> list[dict[str, Any]]:
        """The newest messages of a chat."""
        [found] = [one for one in (await self.state())["chats"] if one["id"] == chat]
        messages: list[dict[str, Any]] = found["messages"]
        return messages


@asynccontextmanager
async def opened(folder: Path, template: Path, *, empty: bool = True) -> AsyncIterator[Visitor]:
    """A playground on a folder, with somebody who looks on."""
    settings = settings_in(folder)
    if not (folder / "labbot.db").exists():
        shutil.copy(template, folder / "labbot.db")
    stage = Stage(settings)
    stop, ready = asyncio.Event(), asyncio.Event()
    async with web.serve(stage.site, "127.0.0.1", 0) as port:
        running = asyncio.create_task(stage.run(stop, ready, empty=empty))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait((waiting, running), timeout=MOVES_IN, return_when=asyncio.FIRST_COMPLETED)
            assert ready.is_set() or running.done()
            if running.done():
                running.result()
            visitor = Visitor(http, stage)
            listening = asyncio.create_task(visitor.listen())
            await asyncio.wait_for(visitor.listening.wait(), SETTLES)
            try:
                yield visitor
            finally:
                stop.set()
                await running
                await listening  # the end of the bot is the end of the stream


@pytest.fixture
async def visitor(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Visitor]:
    """Somebody in a playground without ideas."""
    async with opened(tmp_path, sqlite_template) as one:
        yield one


def words_of(message: dict[str, Any]) -> str:
    def plain(nodes: list[Any]) -> str:
        return "".join(node if isinstance(node, str) else plain(node["children"]) for node in nodes)

    return plain(message["body"])


# -- the page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/playground.css", "text/css"),
        ("/playground.js", "javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/nothing", "text/plain"),
    ],
)
async def test_every_answer_forbids_what_the_page_does_not_need(visitor: Visitor, path: str, kind: str) -> None:
    answer = await visitor.http.get(path)
    assert kind in answer.headers["content-type"]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_has_nothing_inline_and_nothing_from_other_hosts() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", page)
    for file in FOLDER.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text


def test_the_page_uses_the_words_there_are() -> None:
    page, script = (FOLDER / "index.html").read_text(), (FOLDER / "playground.js").read_text()
    used = set(re.findall(r'data-word="(\w+)"', page)) | set(re.findall(r'\b(?:word|act)\("(\w+)"', script))
    assert used == set(WORDS)


async def test_the_page_speaks_the_readers_language(visitor: Visitor) -> None:
    german = await visitor.state()
    assert (german["locale"], german["words"]["hour"]) == ("de", "+1 Stunde")
    english = (await visitor.http.get("/api/state?locale=en-GB")).json()
    assert (english["locale"], english["words"]["hour"]) == ("en", "+1 hour")
    assert "{name}" in english["words"]["message"]


# -- writing, pressing, editing --------------------------------------------------------------------------------


async def test_who_writes_is_answered_in_an_event(visitor: Visitor) -> None:
    answer = await visitor.says("anna", "/start")
    assert answer.json()["body"] == ["/start"]
    assert (await visitor.hears("message", "KoSI-Lab"))["author"] is None
    said = await visitor.hears("message", '"/start"')
    assert (said["author"], said["chat"], said["place"]) == ("anna", "p-anna", 0)


async def test_an_idea_goes_from_anna_to_the_team_and_its_decision_back(visitor: Visitor) -> None:
    await visitor.says("anna", "/idee Fahrradgarage\nEin trockener Ort fehlt.")
    await visitor.presses("anna", "Absenden")
    card = await visitor.hears("message", "Aufgreifen")
    assert card["chat"] == f"g-{TEAM}"
    await visitor.presses("rosa", "Aufgreifen", f"g-{TEAM}")
    await visitor.hears("message", "aufgegriffen")
    [edited] = [message for message in await visitor.sees(f"g-{TEAM}") if message["id"] == card["id"]]
    assert edited["version"] > 0
    assert edited["place"] == card["place"]


async def test_a_press_is_answered_with_a_note_and_the_message_changes_where_it_stands(visitor: Visitor) -> None:
    await visitor.says("anna", "/idee Fahrradgarage\nEin trockener Ort fehlt.")
    await visitor.presses("anna", "Absenden")
    await visitor.says("ben", "/ideas 1")
    card = (await visitor.sees("p-ben"))[-1]
    await visitor.presses("ben", "Support")
    note = await visitor.hears("note", "#1")
    assert (note["person"], note["chat"]) == ("ben", "p-ben")
    after = (await visitor.sees("p-ben"))[-1]
    assert (after["id"], after["version"]) == (card["id"], 1)
    assert "1 person supports" in words_of(after)


async def test_markup_that_somebody_writes_stays_words(visitor: Visitor) -> None:
    words = "<script>alert(1)</script> <b>fett</b> &amp; <img src=x onerror=alert(1)>"
    await visitor.says("anna", f"/idee {words}\nText dazu")
    said, *_, shown = await visitor.sees("p-anna")
    assert said["body"] == [f"/idee {words}\nText dazu"]
    assert words in words_of(shown)
    assert {node["tag"] for node in shown["body"] if isinstance(node, dict)} == {"b"}


async def test_who_edits_their_message_edits_the_idea(visitor: Visitor) -> None:
    said = (await visitor.says("anna", "/idee Fahrradgarage\nEin Ort fehlt.")).json()
    await visitor.presses("anna", "Absenden")
    answer = await visitor.posts(
        "edit", person="anna", chat="p-anna", message=said["id"], text="/idee Fahrradhaus\nEin Ort fehlt."
    )
    assert answer.status_code == 200
    await visitor.settled()
    await visitor.hears("message", "#1 Fahrradhaus")
    answer = await visitor.posts("retract", person="anna", chat="p-anna", message=said["id"])
    assert answer.status_code == 200
    assert (await visitor.sees("p-anna"))[0]["gone"] is True


async def test_an_exclamation_mark_begins_a_command_as_on_matrix(visitor: Visitor) -> None:
    await visitor.says("ben", "!help")
    said, *_, answer = await visitor.sees("p-ben")
    assert said["body"] == ["!help"]
    assert "/idea" in words_of(answer)


async def test_in_a_group_a_number_in_reply_chooses(visitor: Visitor) -> None:
    await visitor.says("anna", "/idee Fahrradgarage\nEin Ort fehlt.")
    await visitor.presses("anna", "Absenden")
    [card] = [message for message in await visitor.sees(f"g-{TEAM}") if "Aufgreifen" in json.dumps(message)]
    await visitor.says("rosa", "2", f"g-{TEAM}", reply_to=card["id"])
    [card] = [message for message in await visitor.sees(f"g-{TEAM}") if message["id"] == card["id"]]
    assert "aufgegriffen" in words_of(card)


async def test_a_file_can_be_taken_along(visitor: Visitor) -> None:
    await visitor.says("ben", "/start")
    await visitor.says("ben", "/me")
    await visitor.presses("ben", "Export")
    [message] = [message for message in await visitor.sees("p-ben") if message["file"]]
    answer = await visitor.http.get(f"/api/chats/p-ben/files/{message['id']}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert (await visitor.http.get("/api/chats/p-ben/files/999999")).status_code == 404


# -- who may ask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8090"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.1"},
        {"Host": "[::1"},
        {"Host": ""},
    ],
)
async def test_another_site_is_refused(visitor: Visitor, headers: dict[str, str]) -> None:
    said = {"person": "anna", "chat": "p-anna", "text": "/start"}
    assert (await visitor.http.post("/api/say", json=said, headers=headers)).status_code in (400, 403)
    assert (await visitor.http.get("/api/state", headers=headers)).status_code in (400, 403)
    assert await visitor.sees("p-anna") == []


async def test_a_form_of_another_site_is_refused(visitor: Visitor) -> None:
    answer = await visitor.http.post(
        "/api/say", content=b'{"person":"anna","chat":"p-anna","text":"/start"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415


async def test_the_page_itself_can_be_linked_to_but_its_data_cannot(visitor: Visitor) -> None:
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await visitor.http.get("/", headers=linked)).status_code == 200
    assert (await visitor.http.get("/api/state", headers=linked)).status_code == 403


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("say", {"person": "nobody", "chat": "p-anna", "text": "hello"}, 404),
        ("say", {"person": "ben", "chat": "p-anna", "text": "hello"}, 404),
        ("say", {"person": "ben", "chat": f"g-{TEAM}", "text": "hello"}, 404),
        ("say", {"person": "anna", "chat": "p-anna", "text": "  "}, 400),
        ("say", {"person": "anna", "chat": "p-anna", "text": "x" * 4097}, 400),
        ("say", {"person": "anna", "chat": "p-anna", "text": 7}, 400),
        ("say", {"person": "anna", "chat": "p-anna", "text": "x" * 70_000}, 413),
        ("press", {"person": "anna", "chat": "p-anna", "message": "1", "position": "0", "revision": 0}, 400),
        ("press", {"person": "anna", "chat": "p-anna", "message": "99", "position": 0, "revision": 0}, 404),
        ("edit", {"person": "anna", "chat": "p-anna", "message": "99", "text": "x"}, 404),
        ("clock", {"hours": -1}, 400),
        ("clock", {"hours": 1e99}, 400),
    ],
)
async def test_what_makes_no_sense_is_refused(visitor: Visitor, path: str, data: dict[str, Any], status: int) -> None:
    assert (await visitor.posts(path, **data)).status_code == status
    assert await visitor.sees("p-anna") == []


async def test_nobody_edits_what_another_wrote(visitor: Visitor) -> None:
    said = (await visitor.says("anna", "Hallo", f"g-{MARKET}")).json()
    answer = await visitor.posts("edit", person="ben", chat=f"g-{MARKET}", message=said["id"], text="Tschüss")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        *((host, True) for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.5", "example.org")),
    ],
)
def test_only_loopback_is_for_this_machine_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_another_address_has_to_be_asked_for_knowingly() -> None:
    answer = CliRunner().invoke(command_line, ["demo", "--host", "0.0.0.0", "--port", "0"])
    assert answer.exit_code == 2
    assert "--i-know" in answer.output
    assert answer.output.count("\n") == 1


def test_a_port_that_is_taken_is_named_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = CliRunner().invoke(command_line, ["demo", "--port", str(port)])
    assert answer.exit_code == 2
    assert str(port) in answer.output


# -- time, pages, memory ---------------------------------------------------------------------------------------


async def test_the_clock_goes_on_a_day_and_comes_back(visitor: Visitor) -> None:
    ticked: list[str] = []
    tick = visitor.stage.app.dispatch.tick

    async def noting(name: str, handler: Any) -> None:
        ticked.append(name)
        await tick(name, handler)

    visitor.stage.app.dispatch.tick = noting  # type: ignore[method-assign]
    before = visitor.stage.messenger.now()
    assert (await visitor.posts("clock", hours=24)).json()["ahead"] == 86400
    assert timedelta(hours=24) <= visitor.stage.messenger.now() - before < timedelta(hours=24, minutes=1)
    assert sorted(ticked) == sorted(tick.name for tick in visitor.stage.app.router.ticks)
    assert (await visitor.hears("clock"))["ahead"] == 86400
    await visitor.posts("clock", hours=1)
    assert (await visitor.state())["clock"]["ahead"] == 90000
    assert (await visitor.posts("clock", hours=None)).json()["ahead"] == 0


async def test_a_chat_of_ten_thousand_messages_comes_in_pages(visitor: Visitor) -> None:
    messenger, chat = visitor.stage.messenger, ChatRef("playground", f"g-{MARKET}")
    for number in range(10_000):
        messenger.say("anna", chat, f"message {number}")
    [found] = [one for one in (await visitor.state())["chats"] if one["id"] == chat.id]
    assert len(found["messages"]) == PAGE
    assert found["messages"][-1]["body"] == ["message 9999"]
    first = found["messages"][0]["place"]
    older = (await visitor.http.get(f"/api/chats/{chat.id}/messages", params={"before": first})).json()["messages"]
    assert [message["place"] for message in older] == list(range(first - PAGE, first))
    assert (await visitor.http.get(f"/api/chats/{chat.id}/messages?before=0")).json() == {"messages": []}
    assert (await visitor.http.get(f"/api/chats/{chat.id}/messages?before=x")).status_code == 400
    assert (await visitor.http.get("/api/chats/g-none/messages?before=9")).status_code == 404
    await visitor.settled()


async def test_a_page_that_does_not_keep_up_is_cut_off_and_begins_anew() -> None:
    messenger = Playground()
    queue = messenger.listen()
    for number in range(BEHIND + 5):
        messenger.tell("note", {"number": number})
    last = None
    while not queue.empty():
        last = queue.get_nowait()
    assert last is None


async def test_the_seeded_community_is_busy(tmp_path: Path, sqlite_template: Path) -> None:
    async with opened(tmp_path, sqlite_template, empty=False) as visitor:
        found = await visitor.stage.app.storage.run(_everything)
        assert [(row.title, row.supports, row.comments) for row in found] == [
            (idea.title, idea.supports, len(idea.comments)) for idea in IDEAS
        ]
        assert len({row.created_at for row in found}) == len(IDEAS)
        assert found[1].status == "taken_up"
        assert (await visitor.state())["clock"]["ahead"] == 0
        assert await visitor.sees("p-anna")
        assert len(await visitor.sees(f"g-{TEAM}")) >= len(IDEAS)


async def test_an_empty_one_has_an_organiser_and_a_room_but_no_ideas(visitor: Visitor) -> None:
    assert await visitor.stage.app.storage.run(_everything) == []
    assert await visitor.sees("p-anna") == []
    assert await visitor.sees(f"g-{TEAM}")
    await visitor.says("rosa", "/status")
    assert "0" in words_of((await visitor.sees("p-rosa"))[-1])


async def test_a_kept_playground_goes_on_where_it_was(tmp_path: Path, sqlite_template: Path) -> None:
    async with opened(tmp_path, sqlite_template) as visitor:
        await visitor.says("anna", "/idee Fahrradgarage\nEin Ort fehlt.")
        before = await visitor.state()
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('["say", "2026-')  # a line that was cut off by a crash
    async with opened(tmp_path, sqlite_template) as visitor:
        after = await visitor.state()
        assert (after["run"], after["chats"]) == (before["run"], before["chats"])
        await visitor.presses("anna", "Absenden")
        assert "#1" in words_of((await visitor.sees("p-anna"))[-1])
        await visitor.says("ben", "/ideas 1")
        assert "Fahrradgarage" in words_of((await visitor.sees("p-ben"))[-1])


def test_a_real_labs_folder_is_never_played_in(tmp_path: Path) -> None:
    (tmp_path / "labbot.db").touch()
    with pytest.raises(BadSettings, match="no playground"):
        settings_in(tmp_path)


def _everything(connection: Any) -> list[Any]:
    with session_in(connection) as session:
        return sorted(ideas.export(session), key=lambda row: row.number)


# -- markup ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("a &lt;b&gt; &amp; c", ["a <b> & c"]),
        ("<b>x<i>y</i></b>", [{"tag": "b", "children": ["x", {"tag": "i", "children": ["y"]}]}]),
        ('<a href="https://a.de/?x=1&amp;y">l</a>', [{"tag": "a", "href": "https://a.de/?x=1&y", "children": ["l"]}]),
        ('<a href="javascript:alert(1)">l</a>', [{"tag": "a", "children": ["l"]}]),
        ("<script>alert(1)</script>", ["<script>alert(1)</script>"]),
        ("<img src=x onerror=y>", ["<img src=x onerror=y>"]),
        ("<!-- x --></b> <", ["<!-- x --></b> <"]),
        ("<b>open", [{"tag": "b", "children": ["open"]}]),
    ],
)
def test_only_the_small_html_becomes_markup(html: str, shown: list[Any]) -> None:
    assert tree(html) == shown
