"""Nobody means well: nonsense for updates, wrong tokens, no network, a locked database, a full disk."""

import asyncio
import json
import re
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlmodel import select
from structlog.testing import capture_logs
from telegram.error import Conflict

from bot.adapters.telegram.reading import Account
from bot.adapters.telegram.receiving import Patience, understand
from bot.adapters.telegram.request import decode
from bot.config import Settings
from bot.types import Unreadable
from storage import ideas
from storage.conversation import Failed
from storage.engine import Storage, Unavailable
from storage.outbox import DELIVERED, Outbox
from tests.adapters.stage import MemoryStage
from tests.adapters.telegram_server import TOKEN, Chat, TelegramServer, User
from tests.faults.hostile import CANARY, REAL, Hostile
from tests.faults.process import PATIENCE, Labbot, serving

ME = Account(110_201_543, "labbot_test_bot")
IDEA = "/idea Eine Fahrradgarage am Nordmarkt\nTrocken und abschliessbar."


def test_the_parser_outlasts_ten_thousand_hostile_updates() -> None:
    plain = [{"update_id": number, **update} for number, update in enumerate(REAL)]
    assert not [update for update in understand(plain, ME)[0] if isinstance(update, Unreadable)]
    hostile = list(Hostile(20_261_122).updates(10_000))
    happened, raw = understand(hostile, ME)
    assert len([update for update in happened if isinstance(update, Unreadable)]) > 1000
    assert len([update for update in happened if not isinstance(update, Unreadable)]) > 1000
    for update in happened:
        assert json.loads(raw[update.key]) is not Ellipsis
        if isinstance(update, Unreadable):
            assert CANARY not in update.error
        else:
            assert re.fullmatch(r"-?\d+", update.chat.id)
            assert re.fullmatch(r"-?\d+", update.actor.id)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\0", b"9" * 5000])
def test_an_answer_that_is_no_json_is_a_plain_fault(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested|Expecting|Exceeds"):
        decode(body)


async def test_hostile_updates_among_real_ones_lose_nothing(folder: Path, unused_tcp_port: int) -> None:
    async with (
        TelegramServer() as server,
        Labbot(folder, server.url, unused_tcp_port, LABBOT_LOG="text:debug") as labbot,
    ):
        await serving(server)
        people = [_person(server) for _ in range(30)]
        for update in Hostile(7).updates(100):  # some without an id, or with a strange one
            server.inject(update if isinstance(update, dict) and _is_plausible(update.get("update_id")) else [update])
        for number, update in enumerate(Hostile(8).updates(1500, honest_ids=True)):
            server.inject(update)
            if number % 50 == 0:
                person, chat = people[number // 50]
                server.say(person, chat, IDEA)
        for person, chat in people:
            server.say(person, chat, "1")
        await _answered(server, *(chat for _, chat in people), words="Your idea has the number")
        await serving(server)
        assert [len(server.sent(chat)) for _, chat in people] == [3] * 30
        assert await labbot.stop() == 0
        with labbot.database() as session:
            titles = [idea.title for idea in ideas.export(session)]
            assert titles.count("Eine Fahrradgarage am Nordmarkt") == 30
            assert len(session.exec(select(Failed)).all()) > 500
        _assert_discreet(labbot, server)
        assert not labbot.with_words("Traceback")


def _is_plausible(number: object) -> bool:
    return type(number) is int and 0 <= number < 10**9


async def test_a_batch_that_no_database_takes_is_kept_and_passed_over(settings_here: Settings) -> None:
    # An adapter that lets half a character through must not end the bot.
    async with MemoryStage(settings_here) as stage:
        anna = stage.person("anna")
        await anna.says("/start")
        stage.messenger.happen(Unreadable("u-strange", "\ud800", "ValueError"))
        broken = stage.person("\ud800broken")
        await stage.say(broken.name, broken.chat, "/start \ud800", None)
        await anna.says("/help")
        assert "Hello" not in anna.sees
        assert len(anna.screen) == 2
        await stage.ask(lambda session: [session.delete(row) for row in session.exec(select(Failed))])


# -- the account --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["110201543:CANARY-of-another-bot-0123456789abcdef", "12345678:too-short-0"])
async def test_a_wrong_token_ends_the_bot_with_one_line_that_names_the_setting(
    folder: Path, unused_tcp_port: int, token: str
) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port, token) as labbot:
        assert await labbot.ended() == 1
        [line] = labbot.with_words("LABBOT_TELEGRAM_TOKEN")
        assert "does not accept" in line
        assert not labbot.with_words("Traceback")
        assert not labbot.with_words(token.partition(":")[2])
        assert len(labbot.with_words("[error")) == 1


async def test_a_token_revoked_while_running_ends_the_bot_and_loses_nothing(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        anna, chat = _person(server)
        server.fail("*", 401, times=1_000_000)
        server.say(anna, chat, IDEA)
        assert await labbot.ended() == 1
        [line] = labbot.with_words("messenger.refused")
        assert "LABBOT_TELEGRAM_TOKEN" in line
        server.heal()
        await labbot.start()
        await _answered(server, chat, words="This is how it goes out")
        await serving(server)
        assert len(chat.sent) == 2
        _assert_discreet(labbot, server)


async def test_two_bots_with_one_token_say_so_once_each(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Any
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    async with (
        TelegramServer() as server,
        Labbot(folder, server.url, unused_tcp_port_factory()) as one,
        Labbot(elsewhere, server.url, unused_tcp_port_factory()) as two,
    ):
        await one.logs("telegram.conflict")
        await two.logs("telegram.conflict")
        await server.wait_for(lambda: server.refused_409 >= 6, PATIENCE)
        for number in range(5):
            anna, chat = _person(server)
            server.say(anna, chat, f"/start {number}")
            await _answered(server, chat, words="Hello!")
        await two.stop()
        for labbot in (one, two):
            assert len(labbot.with_words("telegram.conflict")) == 1
            assert "another process polls with this token" in labbot.with_words("telegram.conflict")[0]
        anna, chat = _person(server)
        server.say(anna, chat, IDEA)
        await _answered(server, chat, words="This is how it goes out")
        await serving(server)
        assert len(chat.sent) == 2
        _assert_discreet(one, server)


async def test_a_fight_over_a_token_fills_no_log() -> None:
    asked = 0

    async def at_once(_seconds: float) -> None:
        return

    async def ask() -> int:
        nonlocal asked
        asked += 1
        if asked % 3:
            raise Conflict("terminated by other getUpdates request")
        return asked

    patience = Patience(at_once, lambda: 0.0)
    with capture_logs() as logs:
        assert [await patience.outlast(ask) for _ in range(100)][-1] == 300
    assert len(logs) == 1


async def test_a_second_bot_on_the_same_data_does_not_start(folder: Path, unused_tcp_port_factory: Any) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port_factory()) as one:
        await serving(server)
        async with Labbot(folder, server.url, unused_tcp_port_factory()) as two:
            assert await two.ended() == 2
            [line] = two.lines
            assert line.startswith("LABBOT_DATA: ")
        anna, chat = _person(server)
        server.say(anna, chat, "/start")
        await _answered(server, chat, words="Hello!")
        assert server.refused_409 == 0
        await one.kill()
        await one.start()  # the lock of a process that was killed holds nobody up
        await serving(server)


# -- the network --------------------------------------------------------------------------------------------


async def test_without_a_network_at_the_start_it_waits_longer_and_longer_and_then_answers(
    folder: Path, unused_tcp_port_factory: Any
) -> None:
    port = unused_tcp_port_factory()
    began = time.monotonic()
    async with Labbot(folder, f"http://127.0.0.1:{port}", unused_tcp_port_factory()) as labbot:
        lines = await labbot.logs("telegram.poll_failed", 3)
        pauses = [float(pause) for line in lines for pause in re.findall(r"pause=([0-9.]+)", line)]
        assert pauses[0] <= 0.5 < pauses[2] <= 2
        assert "no connection" in lines[0]
        assert len(labbot.with_words("telegram.")) <= 2 + (time.monotonic() - began) / 0.25
        async with TelegramServer(port=port) as server:
            anna, chat = _person(server)
            server.say(anna, chat, "/start")
            await _answered(server, chat, words="Hello!")
            await server.wait_for(lambda: server.menu("de", "all_group_chats"), PATIENCE)
            assert len(labbot.with_words("telegram.recovered")) == 1
            assert await labbot.stop() == 0
            _assert_discreet(labbot, server)
    assert not labbot.with_words("Traceback")


async def test_a_server_that_goes_away_and_comes_back_gets_everything(
    folder: Path, unused_tcp_port_factory: Any
) -> None:
    async with (
        TelegramServer(latency=0.1) as server,
        Labbot(folder, server.url, unused_tcp_port_factory()) as labbot,
    ):
        await serving(server)
        people = [_person(server) for _ in range(100)]
        for person, chat in people:
            server.say(person, chat, IDEA)
        await server.wait_for(lambda: server.outgoing, PATIENCE)
        await server.__aexit__(None, None, None)
        cut = len(server.outgoing)  # their answers may be lost: these alone may come twice
        await labbot.logs("telegram.poll_failed", 2)
        await server.__aenter__()
        await _answered(server, *(chat for _, chat in people), words="This is how it goes out")
        await serving(server)
        assert 0 <= len(server.outgoing) - 200 <= cut
        assert max(len(chat.sent) for _, chat in people) <= 3
        _assert_discreet(labbot, server)


# -- the database -------------------------------------------------------------------------------------------


async def test_a_database_locked_for_five_seconds_holds_up_answers_and_loses_none(
    folder: Path, unused_tcp_port: int
) -> None:
    async with (
        TelegramServer() as server,
        Labbot(folder, server.url, unused_tcp_port) as labbot,
        aiohttp.ClientSession() as client,
    ):
        await serving(server)
        people = [_person(server) for _ in range(20)]
        with _locked(folder):
            for person, chat in people:
                server.say(person, chat, IDEA)
                server.say(person, chat, "1")
            with pytest.raises(TimeoutError):
                await server.wait_for(lambda: server.outgoing, 5)
            async with client.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as response:
                assert response.status == 200  # it is not the bot that stands still
        await _answered(server, *(chat for _, chat in people), words="Your idea has the number")
        await serving(server)
        assert [len(chat.sent) for _, chat in people] == [3] * 20
        assert await labbot.stop() == 0
        _assert_discreet(labbot, server)
    assert not labbot.with_words("Traceback")


async def test_a_stop_does_not_wait_for_a_locked_database(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        anna, chat = _person(server)
        with _locked(folder):
            server.say(anna, chat, IDEA)
            await server.wait_for(lambda: not server.polling, PATIENCE)
            began = time.monotonic()
            assert await labbot.stop() == 0
            seconds = time.monotonic() - began
            print(f"\nstopped in {seconds:.2f} s while the database was locked")
            assert seconds < 5
        await labbot.start()
        await _answered(server, chat, words="This is how it goes out")
        await serving(server)
        assert len(chat.sent) == 2
    assert not labbot.with_words("Traceback")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Somebody else writes to the database and takes their time."""
    other = sqlite3.connect(folder / "labbot.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


async def test_a_disk_that_takes_nothing_more_holds_up_answers_and_loses_none(
    folder: Path, unused_tcp_port: int
) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        people = [_person(server) for _ in range(20)]
        _, most = resource.prlimit(labbot.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(labbot.pid, resource.RLIMIT_FSIZE, (1, most))
        for person, chat in people:
            server.say(person, chat, IDEA)
            server.say(person, chat, "1")
        lines = await labbot.logs("database.unavailable", 3)
        assert all("disk I/O error" in line or "full" in line for line in lines)
        assert server.outgoing == []
        resource.prlimit(labbot.pid, resource.RLIMIT_FSIZE, (most, most))
        await _answered(server, *(chat for _, chat in people), words="Your idea has the number")
        await serving(server)
        assert [len(chat.sent) for _, chat in people] == [3] * 20
        assert await labbot.stop() == 0
        with labbot.database() as session:
            assert len(list(ideas.export(session))) == 20
            assert session.exec(select(Failed)).all() == []
            assert set(session.exec(select(Outbox.state))) == {DELIVERED}
        _assert_discreet(labbot, server)
    assert not labbot.with_words("Traceback")


async def test_a_database_that_is_full_takes_all_once_there_is_room_again(settings_here: Settings) -> None:
    async with MemoryStage(settings_here) as stage:
        anna = stage.person("anna")
        await anna.says("/start")
        await stage.app.storage.run(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1"))
        crowd = [stage.person(f"citizen {number}") for number in range(200)]
        for person in crowd:
            await stage.say(person.name, person.chat, "/idea A bench\n" + "In the shade. " * 100, None)
            await stage.say(person.name, person.chat, "1", None)
        waiting = asyncio.create_task(stage.settled())
        with capture_logs() as logs:
            async with asyncio.timeout(PATIENCE):
                while len(logs) < 3:
                    await asyncio.wait({waiting}, timeout=0.01)
        assert not waiting.done()
        assert {(line["event"], line["error"]) for line in logs} == {
            ("database.unavailable", "database or disk is full")
        }
        assert [len(person.screen) for person in crowd] == [0] * len(crowd)
        while not await _has_room_again(stage.app.storage):
            pass
        await waiting
        assert {len(person.screen) for person in crowd} == {3}
        assert len(await stage.ask(lambda session: list(ideas.export(session)))) == 200


async def _has_room_again(storage: Storage) -> bool:
    try:
        await storage.run(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1000000"))
    except Unavailable:  # it shared its transaction with an update that found no room
        return False
    return True


@pytest.fixture
def settings_here(folder: Path) -> Settings:
    """The folder's lab, for a bot inside this process."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data=folder,
        database_url=f"sqlite:///{folder / 'labbot.db'}",
        name="KoSI-Lab",
        locale="en",
    )


# -- what people do -----------------------------------------------------------------------------------------


async def test_messages_that_have_vanished_are_answered_all_the_same(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        anna, chat = _person(server)
        group = server.group("Nordmarkt")
        server.add_bot(group, anna)
        await _answered(server, group, words="Hello everybody!")
        # Gone before the answer comes: it stands alone then.
        server.say(anna, group, "/idea").deleted = True
        question = (await server.wait_for(lambda: _with(server, group, "What is your idea"), PATIENCE))[-1]
        assert question.reply_to is None
        # Their answer is to a question that has been deleted; it is no answer to us, and the next one is.
        question.deleted = True
        server.say(anna, group, "A garage", reply_to=question)
        server.say(anna, group, "/idea A garage\nFor all.")
        await _answered(server, group, words="This is how it goes out")
        # A press under a card that is gone when it shall be changed.
        server.say(anna, chat, IDEA)
        await _answered(server, chat, words="This is how it goes out")
        await _delivered(labbot)
        query = server.press(anna, chat, chat.sent[-1], "Send")
        chat.sent[-1].deleted = True
        await server.wait_for(lambda: server.queries[query].answers, PATIENCE)
        await serving(server)
        server.say(anna, chat, "/ideas 1")
        await _answered(server, chat, words="#1 Eine Fahrradgarage am Nordmarkt")
        assert await labbot.stop() == 0
        assert len(labbot.with_words("delivery.impossible")) == 1
        _assert_discreet(labbot, server)
    assert not labbot.with_words("Traceback")


async def test_a_button_works_after_a_kill_and_belongs_to_who_was_asked(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        (anna, chat), (ben, _) = _person(server), _person(server)
        group = server.group("Nordmarkt")
        server.join(ben, group)
        server.add_bot(group, anna)
        server.say(anna, group, IDEA)
        await _answered(server, group, words="This is how it goes out")
        server.say(anna, chat, IDEA)
        await _answered(server, chat, words="This is how it goes out")
        await _delivered(labbot)
        await labbot.kill()
        # Pressed while nobody is there; then, after the start, by another person.
        own = server.press(anna, chat, chat.sent[-1], "Send")
        await labbot.start()
        others = server.press(ben, group, group.sent[-1], "0:0", anyway=True)
        await server.wait_for(lambda: server.queries[own].answers and server.queries[others].answers, PATIENCE)
        assert server.queries[others].answers[0].text == "This question is for somebody else."
        await server.wait_for(lambda: chat.sent[-1].edits, PATIENCE)
        assert (chat.sent[-1].text or "").startswith("Your idea has the number #1")
        assert [len(query.answers) for query in server.queries.values()] == [1, 1]
        _assert_discreet(labbot, server)


async def _delivered(labbot: Labbot) -> None:
    """Wait until the bot has noted that all it had to say was delivered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with labbot.database() as session:
                if set(session.exec(select(Outbox.state))) == {DELIVERED}:
                    return
            await asyncio.sleep(0)


# -- what the stories share ---------------------------------------------------------------------------------


def _person(server: TelegramServer) -> tuple[User, Chat]:
    user = server.user(first_name="Adelheid", language_code="en")
    return user, server.private(user)


def _with(server: TelegramServer, chat: Chat, words: str) -> list[Any]:
    return [message for message in server.sent(chat) if words in (message.text or "")]


async def _answered(server: TelegramServer, *chats: Chat, words: str) -> None:
    await server.wait_for(lambda: all(_with(server, chat, words) for chat in chats), PATIENCE)


def _assert_discreet(labbot: Labbot, server: TelegramServer) -> None:
    """In all the process has ever said there is no token, and nothing anybody has written."""
    output = "\n".join(labbot.lines)
    assert TOKEN.partition(":")[2] not in output
    assert CANARY not in output
    written = {
        line
        for chat in server.chats.values()
        for message in chat.messages.values()
        for line in (message.text or "").splitlines()
        if len(line) >= 12
    }
    assert [line for line in written if line in output] == []
    assert not [user for user in server.users.values() if not user.is_bot and str(user.id) in output]
