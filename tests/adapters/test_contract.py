"""The contract: the same stories on every messenger, with everything but the messenger's own servers real."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from sqlmodel import Session, select

from bot.adapters.telegram.webhook import secret_for
from bot.config import Settings
from bot.types import ChatRef
from storage import ideas, rooms
from storage.chats import Chat
from storage.events import places, planning, reminding
from storage.events.planning import Plan
from storage.events.tables import Kind, State
from storage.ideas import LONGEST_COMMENT, LONGEST_TEXT
from storage.outbox import DELIVERED, UNDELIVERABLE, UNSURE, Outbox
from storage.people import Account
from tests.adapters.matrix_people import People
from tests.adapters.matrix_stage import MatrixStage
from tests.adapters.stage import (
    SETTLES,
    Hurried,
    Line,
    MemoryStage,
    PlaygroundStage,
    PunctualStage,
    Someone,
    Stage,
    TelegramStage,
    WebhookStage,
)
from tests.adapters.synapse import Synapse
from tests.adapters.telegram_server import TOKEN, TelegramServer, units

OUT_OF_DATE = "This button is out of date. Write /help for the menu."

STRANGE = {
    "markup": '<b>bold</b> & <a href="https://evil.example">x</a> <script>alert(1)</script> &amp; &lt; </b> <',
    "statement": "Robert'); DROP TABLE idea;-- \" \\ %s %(n)s {0} {title} {{}} $1",
    "right to left": "\u202eمرحبا بالعالم\u202c \u2067abc\u2069 שלום עולם 123",
    "zero width": "a\u200bb\u200d\u200cc\ufeff\u2060d \u00ad e\u0301\u0327 \U000e0041",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🧑🏽‍🚒" * 4,
}
"""Words that are neither markup, nor statements, nor templates, whatever they look like."""


WITH_BUTTONS = ("memory", "playground", "telegram", "webhook")
with_buttons = pytest.mark.parametrize("stage", WITH_BUTTONS, indirect=True)


MESSENGERS = (*WITH_BUTTONS, "matrix", "matrix-encrypted")


def on_each(name: str, words: Sequence[str], ids: Sequence[str]) -> pytest.MarkDecorator:
    """Each of these words on each messenger; only the first where words go the same way as on another one."""
    cases = [
        pytest.param(stage, word, id=f"{stage}-{id}")
        for stage in MESSENGERS
        for word, id in list(zip(words, ids, strict=True))[: 1 if stage in ("webhook", "matrix-encrypted") else None]
    ]
    return pytest.mark.parametrize(("stage", name), cases, indirect=["stage"])


@pytest.fixture(params=MESSENGERS)
async def stage(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Stage]:
    """A running bot on each messenger."""
    if request.param == "memory":
        async with MemoryStage(settings) as memory:
            yield memory
        return
    if request.param == "playground":
        async with PlaygroundStage(settings) as playground:
            yield playground
        return
    if request.param.startswith("matrix"):
        synapse: Synapse = request.getfixturevalue("synapse")
        async with People(synapse) as people:
            account, encrypted = await synapse.newcomer("labbot"), request.param == "matrix-encrypted"
            async with MatrixStage(settings, people, account, encrypted=encrypted) as matrix:
                yield matrix
        return
    time = Hurried()
    async with TelegramServer(clock=lambda: time.now().timestamp()) as server:
        if request.param == "telegram":
            async with TelegramStage(settings, server, time) as polling:
                yield polling
        else:
            async with WebhookStage(_hooked(settings, server), server, time) as hooked:
                yield hooked


@pytest.fixture
async def telegram(settings: Settings) -> AsyncIterator[TelegramStage]:
    """A running bot on Telegram only."""
    time = Hurried()
    async with (
        TelegramServer(clock=lambda: time.now().timestamp()) as server,
        TelegramStage(settings, server, time) as polling,
    ):
        yield polling


def _hooked(settings: Settings, server: TelegramServer) -> Settings:
    host, port = settings.http_address
    return settings.model_copy(
        update={
            "telegram_token": _secret(server.token),
            "telegram_api": server.url,
            "telegram_webhook": f"http://{host}:{port}/telegram",
            "telegram_rate": 1e6,
            "telegram_chat_rate": 1e6,
            "telegram_group_rate": 1e6,
        }
    )


def _secret(token: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(token)


def noted(stage: Stage, words: str) -> str | None:
    """What somebody is told who has pressed in a group."""
    return words if stage.notes_in_groups else None


async def published(stage: Stage) -> list[tuple[str, str, str, int, int]]:
    """Title, text, topic, supports and comments of every idea."""
    found = await stage.ask(lambda session: list(ideas.export(session)))
    return [(idea.title, idea.text, idea.topic, idea.supports, idea.comments) for idea in found]


async def with_idea(stage: Stage, name: str = "anna", words: str = "A bicycle garage\nA dry place.") -> Someone:
    """Somebody whose idea is published."""
    person = stage.person(name)
    await person.says(f"/idea {words}")
    await person.presses("Send")
    assert "has the number #" in person.sees
    return person


# -- the same on every messenger ----------------------------------------------------------------------------


async def test_the_first_contact_is_a_welcome_with_a_notice_and_a_menu(stage: Stage) -> None:
    anna = stage.person("anna")
    [welcome] = await anna.says("/start")
    assert "the bot of KoSI-Lab" in welcome.text
    assert "Privacy:" in welcome.text
    assert welcome.buttons == ("Suggest an idea", "See ideas", "What is on", "Language", "Help")
    [menu] = await anna.says("Hm?")
    assert menu.buttons == welcome.buttons
    assert "Was möchtest du tun?" in (await stage.person("bernd", "de").says("Hm?"))[-1].text


async def test_an_idea_grows_step_by_step_by_its_buttons(stage: Stage) -> None:
    anna = stage.person("anna")
    await anna.says("/start")
    await anna.presses("Suggest an idea")
    await anna.says("A bicycle garage")
    assert "Good idea!" in anna.sees
    await anna.presses("Skip")
    await anna.presses("Housing")
    assert "This is how it goes out" in anna.sees
    await anna.presses("Sign with a name")
    await anna.says("Anna A.")
    await anna.presses("Send")
    assert anna.sees == "Your idea has the number #1. I will tell you when something happens."
    assert anna.choices == ("View", "Change", "Withdraw")
    assert await published(stage) == [("A bicycle garage", "", "housing", 0, 0)]
    await anna.presses("View")
    assert "By Anna A.," in anna.sees


async def test_an_idea_grows_step_by_step_by_typed_numbers(stage: Stage) -> None:
    anna = stage.person("anna")
    await anna.says("/start")
    for words, answer in (
        ("1", "What is your idea"),
        ("A bicycle garage", "Good idea!"),
        ("For everybody", "Which topic fits?"),
        ("2.", "This is how it goes out"),
        ("1", "Your idea has the number #1"),
        ("1", "#1 A bicycle garage"),
    ):
        await anna.says(words)
        assert answer in anna.sees
    assert await published(stage) == [("A bicycle garage", "For everybody", "housing", 0, 0)]


async def test_a_press_supports_and_the_card_that_was_pressed_shows_it(stage: Stage) -> None:
    await with_idea(stage)
    ben = stage.person("ben")
    await ben.says("/ideas 1")
    lines = len(ben.screen)
    assert "Nobody supports it yet." in ben.sees
    assert await ben.presses("Support") is not None
    assert len(ben.screen) == lines + 2 * stage.keeps_choices  # the note, and the card with other choices
    assert "1 person supports it." in ben.sees
    assert ben.choices[0] == "Take my support back"
    assert await ben.presses("Take my support back") == "Your support for #1 is taken back."
    assert "Nobody supports it yet." in ben.sees
    assert (await stage.ask(ideas.recount))[1] == (0, 0)


async def test_a_plain_message_becomes_an_idea(stage: Stage) -> None:
    anna = stage.person("anna")
    await anna.says("The market square needs more benches")
    assert "Shall this become an idea" in anna.sees
    await anna.presses("Yes, as an idea")
    await anna.presses("Skip")
    await anna.presses("Mobility")
    await anna.presses("Send")
    assert await published(stage) == [("The market square needs more benches", "", "mobility", 0, 0)]
    [changed] = await anna.rewrites("The market square needs three benches")
    assert changed.text == "#1 is changed."


@with_buttons  # what stays to be pressed under a message of Matrix means for ever what it meant at first
async def test_stale_and_forged_presses_are_answered_and_do_nothing(stage: Stage) -> None:
    await with_idea(stage)
    ben = stage.person("ben")
    await ben.says("/ideas 1")
    card = ben.screen[-1]
    await ben.presses("Support", card)
    for position, revision in ((0, card.revision), (99, None), (0, 99), (999, 10**17)):
        assert await ben.presses_at(card, position, revision) == OUT_OF_DATE
    assert [row[3] for row in await published(stage)] == [1]
    assert (await stage.ask(ideas.recount))[1] == (1, 0)


async def test_a_question_in_a_group_opens_the_reply_field_and_a_reply_answers_it(stage: Stage) -> None:
    group = await stage.group("Nordmarkt", "anna", "ben")
    await stage.settled()
    anna, ben = stage.person("anna").within(group), stage.person("ben").within(group)
    [_, question] = await anna.says("/idea")
    assert question.question
    assert question.reply_to == anna.said
    assert question.buttons == ()
    assert await ben.says("It is mine!", reply_to=question) == []
    [question] = await anna.says("A bicycle garage", reply_to=question)
    assert question.question
    assert "\n1. Skip" in question.text
    [question] = await anna.says("1", reply_to=question)
    [preview] = await anna.says("2", reply_to=question)
    assert "\n1. Send\n" in preview.text
    [sent] = await anna.says("1", reply_to=preview)
    assert "has the number #1" in sent.text
    assert await published(stage) == [("A bicycle garage", "", "housing", 0, 0)]


async def test_another_persons_question_in_a_group_is_not_ours_to_answer(stage: Stage) -> None:
    group = await stage.group("Nordmarkt", "anna", "ben")
    await stage.settled()
    anna, ben = stage.person("anna").within(group), stage.person("ben").within(group)
    await anna.says("/idea A garage\nFor all.")
    preview = anna.screen[-1]
    assert await ben.presses_at(preview, 0) == noted(stage, "This question is for somebody else.")
    [answer] = await ben.says("1", reply_to=preview)
    assert answer.text == "This question is for somebody else."
    assert await published(stage) == []
    await anna.says("1", reply_to=preview)
    [card] = (await anna.says("/ideas 1"))[-1:]
    assert await ben.presses("Support", card) == noted(
        stage,
        "Thank you, your support for #1 counts. I keep your account's number and your choice, under a pseudonym. "
        "More: /privacy",
    )
    assert await anna.presses("Support", anna.screen[-1]) == noted(stage, "Thank you, your support for #1 counts.")
    assert "2 people support it." in anna.sees


async def test_a_link_under_a_groups_card_leads_to_the_card_in_private(stage: Stage) -> None:
    await with_idea(stage)
    group = await stage.group("Nordmarkt", "anna", "ben")
    await stage.settled()
    await stage.person("anna").within(group).says("/ideas 1")
    card = stage.lines(group)[-1]
    ben = stage.person("ben")
    [notice, seen] = await ben.follows("Discuss it in private", card)
    assert notice.text.startswith("Privacy:")
    assert seen.text == card.text
    assert seen.buttons[:2] == ("Support", "Comment")


async def test_editing_the_original_message_edits_the_idea(stage: Stage) -> None:
    anna = stage.person("anna")
    await anna.says("/idea A garage\nFor all.")
    await anna.rewrites("/idea A dry garage\nFor all of us.")
    assert "A dry garage" in anna.sees
    await anna.presses("Send")
    assert await published(stage) == [("A dry garage", "For all of us.", "other", 0, 0)]
    [changed] = await anna.rewrites("/idea A warm garage\nFor everybody.")
    assert changed.text == "#1 is changed."
    assert await published(stage) == [("A warm garage", "For everybody.", "other", 0, 0)]


async def test_who_blocks_the_bot_is_left_alone_and_welcome_back(stage: Stage) -> None:
    stage.forgives = {UNDELIVERABLE}
    if isinstance(stage, TelegramStage):
        stage.refusable = {"sendMessage"}
    anna = await with_idea(stage)
    ben = stage.person("ben")
    await ben.says("/ideas 1")
    await stage.hinder("anna")
    await ben.presses("Comment")
    await stage.say("ben", ben.chat, "Where shall it stand?", None)
    await stage.handled()
    assert await stage.ask(lambda session: _states(session, "Where shall it stand?")) == ["pending"]
    seen = len(anna.screen)
    await stage.block("anna")
    await stage.settled()
    await _comments(ben, "And when?")
    assert len(anna.screen) == seen
    states = await stage.ask(lambda session: sorted(session.exec(select(Outbox.state).distinct())))
    assert states == [DELIVERED, UNDELIVERABLE]
    await stage.unblock("anna")
    [card] = (await anna.says("/ideas 1"))[-1:]
    assert "2 comments." in card.text
    await _comments(ben, "At last!")
    assert "At last!" in anna.sees


async def _comments(person: Someone, words: str) -> None:
    await person.presses("Comment")
    await person.says(words)


def _states(session: Any, words: str) -> list[str]:
    return list(session.exec(select(Outbox.state).where(Outbox.html.contains(words))))  # type: ignore[union-attr]


async def test_a_group_that_moves_stays_the_teams_room(stage: Stage) -> None:
    olga = await stage.organiser("olga")
    room = await stage.group("Team", "olga")
    await stage.settled()
    await olga.within(room).says("/team")
    assert "the team's room now" in stage.lines(room)[-1].text
    moved = await stage.move(room, "olga")
    await stage.settled()
    await with_idea(stage)
    assert "#1 A bicycle garage" in stage.lines(moved)[-1].text
    await olga.within(moved).presses("Take it up")
    assert "The lab says: taken up" in stage.lines(moved)[-1].text
    assert "already" in (await olga.within(moved).says("/team"))[-1].text


async def test_what_is_asked_in_a_topic_is_answered_in_the_topic(stage: Stage) -> None:
    olga = await stage.organiser("olga")
    topic = await stage.topic("Forum", "olga", "anna")
    await stage.settled()
    anna = stage.person("anna").within(topic)
    [*_, question] = await anna.says("/idea A garage")
    [question] = await anna.says("1", reply_to=question)
    assert {line.thread for line in anna.screen[1:]} == {topic.thread}
    await olga.within(topic).says("/team")
    await with_idea(stage, "ben", "More trees\nEverywhere.")
    card = stage.lines(topic)[-1]
    assert "#1 More trees" in card.text
    assert card.thread == topic.thread


async def test_a_long_message_is_split_and_its_last_part_has_the_buttons(stage: Stage) -> None:
    anna = await with_idea(stage)
    said = [f"{number}" * LONGEST_COMMENT for number in range(5)]
    await anna.presses("View")
    for words in said:
        await _comments(anna, words)
    await anna.says("/ideas 1")
    before = len(anna.screen)
    await anna.presses("Read comments")
    parts = anna.screen[before:]
    assert len(parts) == 2
    assert all(units(part.text) <= 4096 for part in parts)
    assert all(words in parts[0].text + parts[1].text for words in said)
    assert (parts[0].buttons, parts[1].buttons) == ((), ("Comment", "View"))


async def test_what_is_stored_about_somebody_arrives_as_a_file(stage: Stage) -> None:
    anna = await with_idea(stage, words=f"{STRANGE['right to left']}\n{STRANGE['emoji']}")
    await anna.says("/me")
    await anna.presses("Export as a file")
    line = anna.screen[-1]
    assert line.text == "This is everything that is stored about you."
    assert line.file is not None
    name, content = line.file
    assert name == "labbot.json"
    assert [idea["text"] for idea in json.loads(content)["idea"]] == [STRANGE["emoji"]]


async def test_a_calendar_file_of_an_organiser_becomes_an_event(stage: Stage) -> None:
    olga, anna = await stage.organiser("olga"), stage.person("anna")
    starts = (stage.time.now() + timedelta(days=3)).strftime("%Y%m%dT180000Z")
    entry = ["BEGIN:VEVENT", "UID:walk", f"DTSTART:{starts}", "DURATION:PT2H", "SUMMARY:Walk", "END:VEVENT"]
    calendar = "\r\n".join(["BEGIN:VCALENDAR", *entry, "END:VCALENDAR", ""]).encode()
    [refusal] = (await anna.sends("lab.ics", calendar))[-1:]
    assert refusal.text == "Only the lab's organisers can send me such a file."
    [preview] = await olga.sends("lab.ics", calendar)
    assert "1 new event:" in preview.text
    await olga.presses("Publish")
    [card] = (await anna.says("/events 1"))[-1:]
    assert "#1 Walk" in card.text
    assert (await olga.sends("lab.ics", calendar))[-1].text == "There is nothing new in this file."
    assert "too large for me" in (await olga.sends("lab.ics", b"x" * 300_000))[-1].text


async def test_a_groups_reminder_names_those_in_it_who_come_and_want_it(stage: Stage) -> None:
    names = ("anna", "ben", "cleo", "dora")
    crowd = [stage.person(name) for name in names]
    for person in crowd:
        await person.says("/start")
    group = await stage.group("Nordmarkt", "anna", "ben", "dora")  # cleo is not in it
    await stage.settled()

    def comes(session: Session) -> None:
        now = stage.time.now()
        plan = Plan("Walk", (now + timedelta(days=2)).replace(tzinfo=None), 60, "other", "en", "Europe/Berlin")
        [event] = planning.create(session, plan, None, now)
        planning.publish(session, [event], now)
        for name in names:
            account = session.exec(select(Account).where(Account.external == stage.known_as(name))).one()
            planning.attendee(session, account.person_id).mention = name != "ben"
            places.answer(session, event.number, account.person_id, State.YES if name != "dora" else State.MAYBE, now)
        [chat] = session.exec(select(Chat.id).where(Chat.external == group.id)).all()
        assert chat is not None
        rooms.hear(session.connection(), chat, rooms.EVENTS, True)
        reminding.note(session, event, Kind.REMIND, now, chat_id=chat)

    await stage.ask(comes)
    await stage.app.clock.catch_up()
    await stage.settled()
    reminder = stage.lines(group)[-1]
    assert "#1 Walk" in reminder.text
    assert "3 " in reminder.text  # come; nobody's name is needed to understand it
    assert reminder.mentions == (stage.known_as("anna"),)


@with_buttons  # Matrix has no menu of commands
async def test_the_messengers_own_menu_speaks_every_language(stage: Stage) -> None:
    await stage.person("anna").says("/start")
    german, english = await stage.menu("de"), await stage.menu("en")
    assert "idee" in german and "idea" in english
    assert german["idee"] != english["idea"] == "Suggest an idea to your community"
    assert not {"status", "team"} & {*german, *english}


@on_each("words", [*STRANGE.values()], [*STRANGE])
async def test_strange_words_arrive_as_they_are_in_every_field(stage: Stage, words: str) -> None:
    anna = stage.person("anna")
    line = " ".join(words.split())
    await anna.says(f"/idea {words}\n{words}\n{words}")
    assert f"{line}\n{words}\n{words}" in anna.sees
    await anna.presses("Sign with a name")
    await anna.says(words)
    if anna.choices == ():  # no name: it has no letters, or too many signs
        await anna.says("Anna")
    await anna.presses("Send")
    await anna.presses("View")
    assert f"#1 {line}\n\n{words}\n{words}\n\n" in anna.sees
    ben = stage.person("ben")
    await ben.says("/ideas 1")
    await _comments(ben, words)
    assert words in anna.sees
    await anna.presses("View")
    await anna.presses("Read comments")
    assert words in anna.sees
    await ben.says(f"/ideas {words[:40]}")
    assert words[:40].strip() in ben.sees
    for command in ("language", "claim", "start", "help", "status", "nonsense"):
        assert await ben.says(f"/{command} {words}")
    await ben.says("/me")
    await ben.presses("Choose a pseudonym")
    await ben.says(words)
    await ben.says("/cancel")
    group = await stage.group(words, "ben")
    await stage.settled()
    assert await ben.within(group).says(f"{stage.mention} {words}")
    assert await published(stage) == [(line, f"{words}\n{words}", "other", 0, 1)]


@on_each("sign", ["😀", "&", "<", "ﷺ", "\u200b"], ["emoji", "ampersand", "bracket", "ligature", "zero width"])
async def test_the_longest_words_arrive_or_are_asked_for_again(stage: Stage, sign: str) -> None:
    anna = stage.person("anna")
    await anna.says("/idea")
    await anna.says(sign * 4096)
    assert "Can you say it shorter?" in anna.sees
    fitting = _fitting(sign, LONGEST_TEXT)
    await anna.says(fitting)
    await anna.presses("Housing")
    await anna.presses("Send")
    [(title, text, *_)] = await published(stage)
    assert text == fitting
    ben = stage.person("ben")
    card = await ben.says("/ideas 1")
    assert [words in _joined(card) for words in (title, text, "Nobody supports it")] == [True] * 3
    before = len(ben.screen)
    await ben.presses("Support")
    card = ben.screen[before:] or ben.screen[-1:]
    assert [words in _joined(card) for words in (title, text, "1 person")] == [True] * 3
    await ben.presses("Comment")
    before = len(ben.screen)
    await ben.says(sign * 4096)
    assert len(ben.screen) == before + 1
    assert await stage.ask(ideas.recount) == {1: (1, 0)}
    for _ in range(5):
        await ben.says(_fitting(sign, LONGEST_COMMENT))
        await ben.presses("View")
        await ben.presses("Comment")
    await ben.says("/cancel")
    await ben.says("/ideas 1")
    before = len(ben.screen)
    await ben.presses("Read comments")
    assert _joined(ben.screen[before:]).count(_fitting(sign, LONGEST_COMMENT)) == 5


def _joined(lines: list[Line]) -> str:
    return "".join(line.text for line in lines)


def _fitting(sign: str, most: int) -> str:
    return sign * (most // units(sign))


# -- on Telegram only ---------------------------------------------------------------------------------------


async def test_ten_people_at_once_provoke_no_429_at_telegrams_own_rates(settings: Settings) -> None:
    async with TelegramServer(rates=True) as server:
        settings = settings.model_copy(update={"telegram_token": _secret(server.token), "telegram_api": server.url})
        async with PunctualStage(settings, server) as stage:
            crowd = [stage.person(f"citizen {number}") for number in range(10)]
            for person in crowd:
                await stage.say(person.name, person.chat, "/start", None)
                await stage.say(person.name, person.chat, "/idea A bench\nIn the shade.", None)
                await stage.say(person.name, person.chat, "1", None)
                await stage.say(person.name, person.chat, "/ideas 1", None)
            await stage.settled()
            for person in crowd:
                assert [line.text[:9] for line in person.screen] == ["Hello! I ", "This is h", "Your idea", "#1 A benc"]
            notes = [await stage.press(person.name, person.chat, person.screen[-1], 0, 0) for person in crowd]
            await stage.settled()
            assert {note() for note in notes} == {"Thank you, your support for #1 counts."}
            assert (await stage.ask(ideas.recount))[1] == (10, 0)
            assert (server.refused_429, server.hasty) == (0, 0)


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, "timeout", "cut_before"])
async def test_what_telegram_did_not_take_is_sent_again_once(telegram: TelegramStage, fault: int | str) -> None:
    anna = telegram.person("anna")
    telegram.server.fail("sendMessage", fault, times=1, retry_after=7)
    assert len(await anna.says("/start")) == 1
    await telegram.restart()
    assert len(anna.screen) == 1


@pytest.mark.parametrize("fault", ["cut_after", "timeout_after", "garbage"])
async def test_an_answer_that_got_lost_repeats_a_message_at_most_once(telegram: TelegramStage, fault: str) -> None:
    telegram.forgives = {UNSURE}
    olga, anna = await telegram.organiser("olga"), telegram.person("anna")
    telegram.server.fail("sendMessage", fault, times=9, chat=int(anna.chat.id))
    assert len(await anna.says("/start")) == 2
    await telegram.restart()
    await telegram.settled()
    assert len(anna.screen) == 2
    [status] = await olga.says("/status")
    assert "Telegram: 0 waiting, 0 undeliverable, 1 unsure" in status.text
    assert "may or may not have arrived" in status.text
    telegram.server.heal()
    assert len(await anna.says("/start")) == 1


@pytest.mark.parametrize("fault", [429, 500, 502, "timeout", "cut_before", "cut_after", "timeout_after", "garbage"])
async def test_an_edit_is_seen_in_the_end(telegram: TelegramStage, fault: int | str) -> None:
    telegram.refusable = {"editMessageText"}  # the message already looks so
    await with_idea(telegram)
    ben = telegram.person("ben")
    await ben.says("/ideas 1")
    telegram.server.fail("editMessageText", fault, times=3, retry_after=7)
    await ben.presses("Support")
    assert "1 person supports it." in ben.sees
    assert len(ben.screen) == 2


@pytest.mark.parametrize("fault", [429, 500, 502, "timeout", "cut_before", "cut_after", "timeout_after", "garbage"])
async def test_a_fault_while_receiving_loses_and_repeats_nothing(telegram: TelegramStage, fault: int | str) -> None:
    # A poll that is open already meets no fault, the two after it do.
    telegram.server.fail("getUpdates", fault, times=2, retry_after=7)
    crowd = [telegram.person(f"citizen {number}") for number in range(5)]
    for person in crowd:
        await telegram.say(person.name, person.chat, "/idea A bench\nIn the shade.", None)
        await telegram.say(person.name, person.chat, "1", None)
    await telegram.settled()
    for person in crowd:
        assert [line.text[:9] for line in person.screen] == ["Privacy: ", "This is h", "Your idea"]
    assert len(await published(telegram)) == 5


@pytest.mark.parametrize("fault", [500, "timeout", "cut_after", "garbage"])
async def test_a_press_counts_although_its_note_is_lost(telegram: TelegramStage, fault: int | str) -> None:
    await with_idea(telegram)
    ben = telegram.person("ben")
    await ben.says("/ideas 1")
    telegram.server.fail("answerCallbackQuery", fault)
    await ben.presses("Support")
    assert "1 person supports it." in ben.sees


async def test_everybody_is_answered_although_every_fifth_call_fails(telegram: TelegramStage) -> None:
    telegram.forgives, telegram.refusable = {UNSURE}, {"editMessageText"}
    telegram.server.flaky(0.2, (500, 502, "cut_after", "garbage"), seed=7)
    crowd = [telegram.person(f"citizen {number}") for number in range(20)]
    for person in crowd:
        await telegram.say(person.name, person.chat, "/idea A bench\nIn the shade.", None)
        await telegram.say(person.name, person.chat, "1", None)
    await telegram.settled()
    telegram.server.heal()
    assert len(await published(telegram)) == 20
    for person in crowd:
        texts = [line.text for line in person.screen]
        assert all(2 >= sum(text.startswith(start) for text in texts) >= 1 for start in ("Privacy", "This is", "Your"))
        assert [text[:7] for text in dict.fromkeys(texts)] == ["Privacy", "This is", "Your id"]


async def test_a_group_that_moved_unnoticed_is_found_by_the_next_message(telegram: TelegramStage) -> None:
    telegram.refusable = {"sendMessage"}  # the refusal that tells the new id
    olga = await telegram.organiser("olga")
    room = await telegram.group("Team", "olga")
    await telegram.settled()
    await olga.within(room).says("/team")
    await telegram.end()
    moved = await telegram.move(room, "olga")
    telegram.server.jump(900_000_000)  # a day later, what told of it is no longer kept
    telegram.app = telegram.build()
    await telegram.begin()
    await with_idea(telegram)
    assert "#1 A bicycle garage" in telegram.lines(moved)[-1].text
    states = await telegram.ask(lambda session: set(session.exec(select(Outbox.state))))
    assert states == {DELIVERED}


async def test_an_account_that_is_gone_without_a_word_ends_only_its_own_messages(telegram: TelegramStage) -> None:
    telegram.forgives, telegram.refusable = {UNDELIVERABLE}, {"sendMessage"}
    anna = await with_idea(telegram)
    ben, olga = telegram.person("ben"), await telegram.organiser("olga")
    for person in (ben, olga):
        await person.says("/ideas 1")
        await person.presses("Follow")
    telegram.server.deactivate(int(anna.chat.id))
    seen = len(anna.screen)
    await _comments(ben, "Where shall it stand?")
    assert "Where shall it stand?" in olga.sees
    await _comments(ben, "And when?")
    assert len(anna.screen) == seen
    assert len([call for call in telegram.server.called("sendMessage") if call.code == 403]) == 1
    [status] = await olga.says("/status")
    assert "Telegram: 0 waiting, 1 undeliverable, 0 unsure" in status.text


async def test_a_press_under_a_message_out_of_reach_is_answered(telegram: TelegramStage) -> None:
    await with_idea(telegram)
    server, ben = telegram.server, telegram.person("ben")
    await ben.says("/ideas 1")
    number, card = int(ben.chat.id), int(ben.screen[-1].id)
    queries = [
        server.press(number, number, card, "0:0", inaccessible=True),
        server.press(number, number, card, "'; DROP TABLE idea;--", anyway=True),
        server.press(number, number, int(ben.said), "0:0", anyway=True),
    ]
    await telegram.settled()
    answers = [server.queries[query].answers[0].text for query in queries]
    assert answers == ["Thank you, your support for #1 counts.", OUT_OF_DATE, OUT_OF_DATE]


async def test_a_webhook_is_answered_only_after_the_commit_and_only_with_its_secret(settings: Settings) -> None:
    time = Hurried()
    async with TelegramServer(clock=lambda: time.now().timestamp()) as server:
        settings = _hooked(settings, server)
        async with WebhookStage(settings, server, time) as stage, aiohttp.ClientSession() as client:
            anna = stage.person("anna")
            await anna.says("/start")
            address = settings.telegram_webhook or ""
            server.webhook = None  # from here on this story is the one that knocks
            update = {**_said(anna.chat, 9_000_001, "/idea A garage\nFor all."), "update_id": 1}
            for secret in (None, "", "wrong", TOKEN, secret_for(TOKEN)[:-1]):
                headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
                async with client.post(address, json=update, headers=headers) as response:
                    assert response.status == 403
            right = {"X-Telegram-Bot-Api-Secret-Token": secret_for(TOKEN)}
            held, go = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()

            def hold(_connection: object) -> None:
                loop.call_soon_threadsafe(held.set)
                go.wait(SETTLES)

            holding = asyncio.create_task(stage.app.storage.run(hold))
            await held.wait()
            knocking = asyncio.create_task(_knock(client, address, update, right))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(knocking), 0.3)
            async with client.get(address.replace("/telegram", "/metrics")) as alive:
                assert alive.status == 200
            go.set()
            assert await knocking == 200
            await holding
            assert await _knock(client, address, update, right) == 200  # sent again: it is not done again
            for box in stage.app.outboxes.values():
                await box.idle.wait()
            assert [line.text[:9] for line in anna.screen] == ["Hello! I ", "This is h"]
            server.webhook = {"url": ""}


async def _knock(client: aiohttp.ClientSession, address: str, update: object, headers: dict[str, str]) -> int:
    async with client.post(address, json=update, headers=headers) as response:
        return response.status


def _said(chat: ChatRef, message: int, text: str) -> dict[str, Any]:
    person = int(chat.id)
    return {
        "message": {
            "message_id": message,
            "date": 1_795_000_000,
            "chat": {"id": person, "type": "private", "first_name": "anna"},
            "from": {"id": person, "is_bot": False, "first_name": "anna", "language_code": "en"},
            "text": text,
            "entities": [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}],
        }
    }
