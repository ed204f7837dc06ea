"""Dispatch: what happened is handled once, as a whole or not at all, and nothing holds up the rest."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import make_url
from sqlmodel import Session

from bot.adapters.memory import UNLIMITED, Memory
from bot.config import Settings
from bot.dispatch import BACKOFF
from bot.port import RetryLater
from bot.router import Router
from bot.turn import Turn
from bot.types import (
    Actor,
    Batch,
    ChatRef,
    Choice,
    Edited,
    Left,
    MessageRef,
    Moved,
    Retracted,
    Said,
    T,
    Unreadable,
    Verbatim,
)
from storage import conversation, engine, ideas, outbox
from storage.chats import chat_table
from storage.conversation import cursor_table, failed_table
from storage.outbox import outbox_table
from storage.people import Account, Person
from tests.conftest import Community, ManualTime, Resident

person_table = engine.table_of(Person)
SORRY = "Something went wrong on my side."
OUT_OF_DATE = "This button is out of date. Write /help for the menu."


@asynccontextmanager
async def lab_with(settings: Settings, extra: Router, messenger: Memory | None = None) -> AsyncIterator[Community]:
    """A running lab that can do something more."""
    time = ManualTime()
    community = Community(settings, [messenger or Memory(limits=UNLIMITED, now=time.now)], time)
    community.app.router.include(extra)
    community.app.router.speak(community.app.lab.catalogues)
    await community.begin()
    try:
        yield community
    finally:
        await community.end()


def failing() -> Router:
    """A feature with mistakes in it, and one that works."""
    router = Router()

    @router.command("fail", help=T("Fail"))
    def fail(turn: Turn, words: str) -> None:
        person = turn.db.get_one(Person, turn.person.id)
        person.name = "never stored"
        turn.db.add(person)
        turn.db.flush()
        turn.wait("never.asked", {})
        turn.say(Verbatim(words))
        raise ValueError(f"a mistake with {words}")

    @router.command("twice", help=T("Break a rule of the database"))
    def twice(turn: Turn, _words: str) -> None:
        for _ in range(2):
            turn.db.add(Account(person_id=turn.person.id, adapter="a", external="b", created_at=turn.now))
        turn.say(T("never said"))

    @router.command("statement", help=T("Make a mistake in a statement"))
    def statement(turn: Turn, _words: str) -> None:
        turn.db.execute(text("SELECT nothing FROM nowhere"))

    @router.command("echo", help=T("Say it again"))
    def echo(turn: Turn, words: str) -> None:
        turn.say(Verbatim(words), Choice(T("Again"), "echo", (words,)), Choice(T("Fail"), "fail"))

    @router.press("echo")
    def again(turn: Turn, words: str) -> None:
        turn.toast(Verbatim(f"pressed {words}"))

    @router.press("fail")
    def fail_pressed(_turn: Turn) -> None:
        raise ValueError("a mistake in a press")

    return router


@pytest.fixture
async def shaky(settings: Settings) -> AsyncIterator[Community]:
    async with lab_with(settings, failing()) as community:
        yield community


async def met(lab: Community, name: str, locale: str = "en") -> Resident:
    """Somebody who has been welcomed, and whose screen has one message."""
    person = lab.person(name, locale)
    await person.says("/start")
    return person


def failed(session: Session) -> list[tuple[str, str, str, int | None]]:
    columns = failed_table.c
    query = select(columns.key, columns.raw, columns.error, columns.person_id).order_by(columns.id)
    return [tuple(row) for row in session.execute(query)]


def count(table: Any) -> Callable[[Session], int]:
    return lambda session: session.execute(select(func.count()).select_from(table)).scalar_one()


def happened(lab: Community, key: str, chat: ChatRef, actor: str, private: bool = True) -> dict[str, Any]:
    return {"key": key, "chat": chat, "actor": Actor(actor, "en"), "at": lab.time.now(), "private": private}


# -- once, and in order -------------------------------------------------------------------------------------


async def test_an_update_delivered_twice_is_handled_once(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    said = Said(
        **happened(shaky, "same", anna.chat, "anna"), message=MessageRef(anna.chat, "1"), text="hi", command="echo"
    )
    shaky.messenger.happen(said)
    shaky.messenger.happen(said)  # in the same batch
    await shaky.settled()
    shaky.messenger.happen(said)  # and in a later one
    await shaky.settled()
    assert [message.html for message in anna.screen][1:] == ["hi"]


async def test_updates_of_one_chat_are_handled_in_order(shaky: Community) -> None:
    anna, ben = await met(shaky, "anna"), await met(shaky, "ben")
    for number in range(150):  # more than one batch
        shaky.messenger.say("anna", anna.chat, f"/echo {number}")
        shaky.messenger.say("ben", ben.chat, f"/echo {number}")
    await shaky.settled()
    assert [message.html for message in anna.screen][1:] == [str(number) for number in range(150)]
    assert [message.html for message in ben.screen][1:] == [str(number) for number in range(150)]


async def test_the_cursor_is_stored_with_the_effects_before_a_batch_is_confirmed(settings: Settings) -> None:
    confirmed: list[tuple[str | None, str | None, int]] = []
    engine = create_engine(settings.database)

    class Confirming(Memory):
        async def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
            async for batch in super().batches(cursor):
                yield batch
                with engine.connect() as connection:  # the next one is asked for: now this one counts as confirmed
                    stored = connection.execute(select(cursor_table.c.value)).scalar_one()
                    said = connection.execute(select(func.count()).select_from(outbox_table)).scalar_one()
                confirmed.append((batch.cursor, stored, said))

    time = ManualTime()
    async with lab_with(settings, failing(), Confirming(now=time.now)) as lab:
        await lab.person("anna").says("/echo one")
        await lab.person("anna").says("/echo two")
    engine.dispose()
    assert [(cursor, stored) for cursor, stored, _ in confirmed] == [("1", "1"), ("2", "2")]
    assert confirmed[0][2] < confirmed[1][2]


async def test_what_was_stored_and_not_confirmed_comes_again_and_changes_nothing(settings: Settings) -> None:
    cursors: list[str | None] = []

    class Forgetful(Memory):
        async def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
            cursors.append(cursor)
            async for batch in super().batches(None):  # it has heard of no confirmation
                yield batch

    time = ManualTime()
    async with lab_with(settings, Router(), Forgetful(now=time.now)) as lab:
        anna = lab.person("anna")
        await anna.says("/idea A bicycle garage\nFor everybody.")
        await anna.presses("Send")
        before = [message.html for message in anna.screen]
        await lab.restart()
        await lab.settled()
        assert [message.html for message in anna.screen] == before
        assert len(await lab.read(lambda session: list(ideas.export(session)))) == 1
    assert cursors == [None, "2"]


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "apology"), [("en", SORRY), ("de", "Bei mir ist etwas schiefgegangen.")], ids=["en", "de"]
)
async def test_a_failing_handler_leaves_nothing_but_the_raw_update_and_an_apology(
    shaky: Community, locale: str, apology: str
) -> None:
    anna = await met(shaky, "anna", locale)
    [reply] = await anna.says("/fail my words")
    assert apology in reply.html
    [(_, raw, error, person)] = await shaky.read(failed)
    assert "my words" in raw
    assert error.startswith("ValueError at tests/test_dispatch.py:")
    assert "my words" not in error
    stored = await shaky.read(lambda session: session.execute(select(person_table.c.id, person_table.c.name)).one())
    assert stored == (person, None)
    assert await shaky.read(count(conversation.dialog_table)) == 0


async def test_the_first_message_ever_is_kept_as_its_authors_when_it_fails(shaky: Community) -> None:
    await shaky.person("anna").says("/fail")
    [(_, _, _, person)] = await shaky.read(failed)
    assert person == await shaky.read(lambda session: session.execute(select(person_table.c.id)).scalar_one())


@pytest.mark.parametrize("command", ["/fail", "/twice", "/statement"])
async def test_a_failure_does_not_take_the_other_updates_of_its_batch_along(shaky: Community, command: str) -> None:
    anna, ben, eve = await met(shaky, "anna"), await met(shaky, "ben"), await met(shaky, "eve")
    for person, words in ((anna, "/echo one"), (eve, command), (ben, "/echo two"), (eve, "/echo three")):
        shaky.messenger.say(person.name, person.chat, words)
    await shaky.settled()
    assert anna.sees == "one"
    assert ben.sees == "two"
    assert [message.html.startswith(SORRY) for message in eve.screen] == [False, True, False]
    assert len(await shaky.read(failed)) == 1


async def test_a_failing_press_is_answered_with_an_apology(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    await anna.says("/echo hello")
    note = await anna.presses("Fail")
    assert note is not None
    assert note.startswith(SORRY)


async def test_words_the_database_cannot_hold_are_a_failure_like_any_other(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    await anna.says("/idea half an emoji \ud83d and no more")
    assert SORRY in anna.sees
    [reply] = await anna.says("/echo still here")
    assert reply.html == "still here"


async def test_what_cannot_be_read_is_kept_and_passed_over(shaky: Community) -> None:
    anna = shaky.person("anna")
    with structlog.testing.capture_logs() as logs:
        shaky.messenger.happen(Unreadable("poison", "{\ud83d \x00 secret words", "KeyError"))
        await anna.says("/echo hello")
    assert anna.sees == "hello"
    [(key, raw, error, person)] = await shaky.read(failed)
    assert (key, error, person) == ("poison", "KeyError", None)
    assert "secret words" in raw
    [line] = [line for line in logs if line["event"] == "update.unreadable"]
    assert line["update"] == "poison"
    assert "secret" not in str(line)
    shown = shaky.app.metrics.registry.get_sample_value("labbot_unreadable_updates_total", {"adapter": "memory"})
    assert shown == 1


async def test_an_update_that_cannot_even_be_kept_holds_up_nobody(shaky: Community) -> None:
    anna = shaky.person("anna")
    with structlog.testing.capture_logs() as logs:
        shaky.messenger.happen(
            Said(
                **happened(shaky, "u-eve", anna.chat, "half an emoji \ud83d"),
                message=MessageRef(anna.chat, "1"),
                text="hello",
            )
        )
        await anna.says("/echo hello")
    assert anna.sees == "hello"
    assert await shaky.read(failed) == []
    assert [line["error"] for line in logs if line["event"] == "turn.failed"] == ["UnicodeEncodeError"] * 3


async def test_even_a_failing_apology_holds_up_nobody(shaky: Community) -> None:
    anna = shaky.person("anna")
    nowhere = ChatRef("elsewhere", "p-eve")  # a messenger this lab does not have: nothing can be said there
    with structlog.testing.capture_logs() as logs:
        shaky.messenger.happen(
            Said(**happened(shaky, "u-eve", nowhere, "eve"), message=MessageRef(nowhere, "1"), text="", command="help")
        )
        await anna.says("/echo hello")
    assert anna.sees == "hello"
    assert [key for key, *_ in await shaky.read(failed)] == ["u-eve"]
    assert [line["error"] for line in logs if line["event"] == "turn.failed"] == ["KeyError", "KeyError"]


async def test_a_failing_tick_is_logged_takes_its_effects_along_and_is_called_again(shaky: Community) -> None:
    anna = shaky.person("anna")
    await anna.says("/help")
    calls = []

    def tick(turn: Turn) -> None:
        calls.append(turn.now)
        turn.tell(1, Verbatim(f"tick {len(calls)}"))
        if len(calls) == 1:
            raise ValueError("secret words")

    with structlog.testing.capture_logs() as logs:
        await shaky.app.dispatch.tick("tests.tick", tick)
        await shaky.app.dispatch.tick("tests.tick", tick)
        await shaky.settled()
    assert anna.sees == "tick 2"
    assert [message.html for message in anna.screen if message.html.startswith("tick")] == ["tick 2"]
    [line] = [line for line in logs if line["event"] == "tick.failed"]
    assert (line["tick"], line["error"]) == ("tests.tick", "ValueError")
    assert line["where"].startswith("tests/test_dispatch.py:")
    assert "secret" not in str(line)


# -- the database fails -------------------------------------------------------------------------------------


@pytest.fixture
def on_sqlite(settings: Settings) -> Path:
    """The file of the database; what is about SQLite's locks and pages is tested there only."""
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        pytest.skip("about SQLite")
    assert url.database is not None
    return Path(url.database)


async def test_a_locked_database_delays_a_message_and_loses_and_doubles_nothing(
    shaky: Community, on_sqlite: Path
) -> None:
    anna = await met(shaky, "anna")
    await anna.says("/echo before")
    await shaky.app.storage.run(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 10"))
    somebody = sqlite3.connect(on_sqlite, isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    with structlog.testing.capture_logs() as logs:
        shaky.messenger.say("anna", anna.chat, "/echo during")
        for _ in range(4):  # half a second, one, two, four at most
            await shaky.time.asleep(3)  # the watch over the loop, the alarm, and dispatch
            shaky.time.pass_by(4)
            await shaky.time.asleep(2)
        await shaky.time.asleep(3)
        assert anna.sees == "before"
        somebody.rollback()
        somebody.close()
        shaky.time.pass_by(BACKOFF[1])
        await shaky.settled()
    assert [message.html for message in anna.screen][1:] == ["before", "during"]
    lines = [line for line in logs if line["event"] == "database.unavailable"]
    assert {line["error"] for line in lines} == {"database is locked"}
    waits = [line["retry_in"] for line in lines]
    assert waits == [0.5 * 2**number for number in range(len(waits))]
    assert 3 <= len(waits) <= 6
    assert await shaky.read(failed) == []


async def test_a_full_disk_delays_a_message_and_loses_and_doubles_nothing(shaky: Community, on_sqlite: Path) -> None:
    anna, ben = await met(shaky, "anna"), await met(shaky, "ben")
    await anna.says("/echo before")
    words = "x" * 50_000  # needs pages that are not there

    def pages(most: int | None) -> Callable[[Any], None]:
        def job(connection: Any) -> None:
            number = most or connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 2
            connection.exec_driver_sql(f"PRAGMA max_page_count = {number}")

        return job

    await shaky.app.storage.run(pages(None))
    with structlog.testing.capture_logs() as logs:
        shaky.messenger.say("ben", ben.chat, "/echo first")
        shaky.messenger.say("anna", anna.chat, f"/echo {words}")
        shaky.messenger.say("ben", ben.chat, "/echo second")
        for _ in range(3):
            await shaky.time.asleep(3)
            shaky.time.pass_by(4)
            await shaky.time.asleep(2)
        await shaky.time.asleep(3)
        assert anna.sees == "before"
        await shaky.app.storage.run(pages(10**6))
        await shaky.time.pass_until(asyncio.ensure_future(shaky.settled()))
    assert "".join(message.html for message in anna.screen[2:]) == words
    assert [message.html for message in ben.screen if len(message.html) < 9] == ["first", "second"]
    lines = [line for line in logs if line["event"] == "database.unavailable"]
    assert {line["error"] for line in lines} == {"database or disk is full"}
    assert await shaky.read(failed) == []
    assert not [line for line in logs if line["event"] == "turn.failed"]


# -- buttons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [-1, 2, 10**9])
async def test_a_position_that_is_not_there_is_out_of_date(shaky: Community, position: int) -> None:
    anna = await met(shaky, "anna")
    [message] = await anna.says("/echo hello")
    assert await anna.presses_at(message, position) == OUT_OF_DATE


async def test_a_button_of_an_older_version_of_the_message_is_out_of_date(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    [message] = await anna.says("/echo hello")
    assert await anna.presses_at(message, 0, revision=7) == OUT_OF_DATE
    assert await anna.presses_at(message, 0) == "pressed hello"


async def test_a_button_of_a_question_to_somebody_else_does_nothing(lab: Community) -> None:
    group = lab.group("market", "anna", "ben")
    anna, ben = lab.person("anna").within(group), lab.person("ben").within(group)
    await anna.says("/idea")
    question = anna.screen[-1]
    assert question.buttons or question.question
    before = await lab.read(count(conversation.dialog_table))
    lab.messenger.press("ben", group, question.id, 0, 0)
    await lab.settled()
    assert lab.messenger.notes[-1] == ("ben", "Diese Frage gilt jemand anderem.")
    assert await lab.read(count(conversation.dialog_table)) == before == 1
    assert ben.screen[-1] is question


async def test_a_button_of_somebody_elses_chat_is_out_of_date(shaky: Community) -> None:
    anna, ben = await met(shaky, "anna"), await met(shaky, "ben")
    [message] = await anna.says("/echo hello")
    assert await ben.presses_at(message, 0) == OUT_OF_DATE


async def test_a_press_after_a_restart_works(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    menu = anna.screen[-1]
    await lab.restart()
    await anna.presses("Language", menu)
    assert "Which language" in anna.sees


async def test_a_press_on_a_forgotten_message_is_out_of_date(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    [message] = await anna.says("/echo hello")
    later = shaky.time.now() + outbox.KEEP_CHOICES + timedelta(days=1)
    await shaky.app.storage.run(lambda connection: outbox.prune(connection, later))
    assert await anna.presses_at(message, 0) == OUT_OF_DATE


async def test_a_press_on_a_message_from_before_leaving_is_out_of_date(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/help")
    menu = anna.screen[-1]
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They go, too")
    note = await anna.presses_at(menu, 0)
    assert note is not None
    assert OUT_OF_DATE in note


async def test_a_choice_whose_action_is_no_more_is_out_of_date(settings: Settings) -> None:
    async with lab_with(settings, failing()) as before:
        anna = await met(before, "anna")
        [message] = await anna.says("/echo hello")
        messenger = before.messenger
    async with lab_with(settings, Router(), messenger) as after:
        messenger.press("anna", anna.chat, message.id, 0, message.revision)
        await after.settled()
    assert messenger.notes[-1] == ("anna", OUT_OF_DATE)


async def test_a_messenger_that_cannot_tell_the_version_is_believed(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    [message] = await anna.says("/echo hello")
    shaky.messenger.press("anna", anna.chat, message.id, 0, None)
    await shaky.settled()
    assert shaky.messenger.notes[-1] == ("anna", "pressed hello")


# -- chats --------------------------------------------------------------------------------------------------


async def test_a_change_in_an_unknown_chat_is_ignored(shaky: Community) -> None:
    stranger = ChatRef("memory", "p-stranger")
    common = happened(shaky, "u-1", stranger, "stranger")
    shaky.messenger.happen(Edited(**common, message=MessageRef(stranger, "1"), text="changed"))
    shaky.messenger.happen(Retracted(**{**common, "key": "u-2"}, message=MessageRef(stranger, "1")))
    shaky.messenger.happen(Left(**{**common, "key": "u-3"}))
    shaky.messenger.happen(Moved(**{**common, "key": "u-4"}, to=ChatRef("memory", "p-other")))
    await shaky.settled()
    assert await shaky.read(count(chat_table)) == 0
    assert await shaky.read(count(Person)) == 0
    assert await shaky.read(failed) == []


async def test_a_group_is_greeted_and_a_person_who_unblocks_is_not(lab: Community) -> None:
    group = lab.group("market", "anna")
    await lab.settled()
    assert [message.html[:16] for message in lab.messenger.sees(group)] == ["Hallo zusammen! "]
    anna = lab.person("anna")
    lab.messenger.unblock("anna")
    await lab.settled()
    assert anna.screen == []


async def test_what_waits_for_a_chat_ends_when_it_is_left(shaky: Community) -> None:
    anna = await met(shaky, "anna")
    shaky.messenger.faults.append(RetryLater(30, "too many requests"))
    shaky.messenger.say("anna", anna.chat, "/echo waiting")
    await shaky.time.asleep(3)  # the watch over the loop, the alarm, and the outbox
    shaky.messenger.block("anna")
    await shaky.time.pass_until(asyncio.ensure_future(shaky.settled()))
    states = await shaky.read(
        lambda session: list(session.execute(select(outbox_table.c.state).order_by(outbox_table.c.id)).scalars())
    )
    assert states == ["delivered", "undeliverable"]
    assert await shaky.read(lambda session: session.execute(select(chat_table.c.active)).scalar_one()) is False


@pytest.mark.parametrize("known", [True, False])
async def test_what_waits_for_a_private_chat_is_not_told_to_somebody_who_takes_it_over(
    shaky: Community, known: bool
) -> None:
    anna = await met(shaky, "anna")
    if known:
        await met(shaky, "ben")
    shaky.messenger.faults.append(RetryLater(30, "too many requests"))
    shaky.messenger.say("anna", anna.chat, "/echo what only anna shall know")
    await shaky.time.asleep(3)  # the watch over the loop, the alarm, and the outbox
    shaky.messenger.say("ben", anna.chat, "/echo mine")
    await shaky.messenger.caught_up()
    await shaky.time.pass_until(asyncio.ensure_future(shaky.settled()))
    assert "what only anna shall know" not in str(anna.screen)
    assert "mine" in anna.sees
    account = engine.table_of(Account)
    owner = select(account.c.external).join(chat_table, chat_table.c.account_id == account.c.id)
    owners = await shaky.read(
        lambda session: list(session.execute(owner.where(chat_table.c.external == anna.chat.id)).scalars())
    )
    assert owners == ["ben"]


async def test_a_group_that_moves_takes_everything_along(lab: Community) -> None:
    mia = await lab.organiser("mia")
    group = lab.group("team", "mia", "anna")
    await mia.within(group).says("/team")
    new = lab.messenger.move(group, "mia", "g-super")
    await lab.settled()
    anna = lab.person("anna")
    await anna.says("/idea A bicycle garage\nFor everybody.")
    await anna.presses("Send")
    assert "A bicycle garage" in lab.messenger.sees(new)[-1].html
    assert await lab.read(count(chat_table)) == 3


async def test_a_group_that_wrote_under_its_new_id_before_the_move_was_told_is_one_group(lab: Community) -> None:
    mia = await lab.organiser("mia")
    group = lab.group("team", "mia", "anna")
    await mia.within(group).says("/team")
    await lab.person("anna").within(group).says("/idea")  # an open question
    lab.messenger.chats["g-super"] = replace(lab.messenger.chats[group.id], id="g-super", messages=[])
    new = ChatRef("memory", "g-super")
    await lab.person("anna").within(new).says("/idea A garage")  # and a newer one, of the same person
    assert await lab.read(count(chat_table)) == 3
    lab.messenger.happen(Moved(**happened(lab, "u-move", group, "mia", private=False), to=new))
    await lab.settled()
    query = select(chat_table.c.external, chat_table.c.team).order_by(chat_table.c.external)
    assert await lab.read(lambda session: session.execute(query).all()) == [("g-super", True), ("p-mia", False)]
    assert await lab.read(count(conversation.dialog_table)) == 1


async def test_who_writes_as_the_group_is_told_so_and_gets_no_rights(lab: Community) -> None:
    group = lab.group("market", "anna")
    await lab.settled()
    anna = lab.person("anna").within(group)
    lab.messenger.say("group", group, "/idea A garage", anonymous=True)
    await lab.settled()
    assert lab.messenger.sees(group)[-1].html.startswith("Ich kann nicht erkennen")
    before = len(anna.screen)
    lab.messenger.say("group", group, "just talking", anonymous=True)
    await lab.settled()
    assert len(anna.screen) == before
    assert await lab.read(lambda session: list(ideas.export(session))) == []
