"""Stories that only Matrix has, on a real homeserver."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import permutations
from typing import Any

import pytest
from sqlmodel import col, select

from bot.adapters.matrix.homeserver import Homeserver
from bot.adapters.matrix.joining import Policy
from bot.adapters.matrix.reading import Account as Me
from bot.adapters.matrix.reading import read
from bot.adapters.matrix.rooms import Room, Rooms
from bot.adapters.matrix.sending import bounded, change, formatted, plain, words
from bot.adapters.telegram import Telegram
from bot.config import Settings
from bot.port import Adapter, Rendered, Undeliverable, Upload
from bot.types import ChatRef, Edited, Said
from storage import ideas
from storage.chats import Chat
from storage.conversation import Cursor
from storage.people import Person
from storage.reactions import Reaction
from tests.adapters.matrix_people import People, Resident
from tests.adapters.matrix_stage import MatrixStage, WatchedMatrix
from tests.adapters.stage import SETTLES, Hurried
from tests.adapters.synapse import Synapse
from tests.adapters.telegram_server import TelegramServer


@asynccontextmanager
async def on_matrix(
    settings: Settings, synapse: Synapse, kind: type[MatrixStage] = MatrixStage, *, encrypted: bool = True, **more: Any
) -> AsyncIterator[MatrixStage]:
    """A running bot with people around it."""
    async with People(synapse) as people:
        account = await synapse.newcomer("labbot")
        async with kind(settings, people, account, encrypted=encrypted, **more) as stage:
            yield stage


@pytest.fixture
async def stage(settings: Settings, synapse: Synapse) -> AsyncIterator[MatrixStage]:
    """A bot whose direct chats and rooms are encrypted, as people's clients make them."""
    async with on_matrix(settings, synapse) as running:
        yield running


@pytest.fixture
async def clear(settings: Settings, synapse: Synapse) -> AsyncIterator[MatrixStage]:
    """The same without encryption."""
    async with on_matrix(settings, synapse, encrypted=False) as running:
        yield running


async def away(stage: MatrixStage) -> None:
    """The bot is off until ``back``."""
    await stage.end()


async def back(stage: MatrixStage) -> None:
    stage.app = stage.build()
    await stage.begin()


async def supports(stage: MatrixStage) -> int:
    return int((await stage.ask(ideas.recount))[1][0])


async def with_idea(stage: MatrixStage, name: str = "anna") -> tuple[Resident, str]:
    """Somebody whose idea is published, and their chat."""
    person = stage.person(name)
    await person.says("/idea A bicycle garage\nA dry place.")
    await person.presses("Send")
    assert "has the number #1" in person.sees
    return stage.residents[name], stage.rooms[name][-1]


# -- coming together ----------------------------------------------------------------------------------------


async def test_an_invitation_is_answered_by_a_welcome(stage: MatrixStage) -> None:
    anna = stage.person("anna")
    await stage.comes(anna.chat)
    [welcome] = anna.screen
    assert "the bot of KoSI-Lab" in welcome.text
    assert "Privacy:" in welcome.text
    assert {"Suggest an idea", "Language", "Help"} <= {*welcome.buttons}
    [answer] = await anna.says("/ideas")
    assert "Privacy:" not in answer.text


async def test_what_was_said_before_the_bot_came_is_answered_after_the_welcome(stage: MatrixStage) -> None:
    await away(stage)
    resident = await stage.resident("anna")
    room = await resident.direct(stage.bot)
    said = await resident.says(room, "!language nonsense")
    stage.enters("anna", room)
    await back(stage)
    await stage.arrives(resident, room)
    await stage.happened(said)
    welcome, answer = stage.person("anna").screen
    assert "the bot of KoSI-Lab" in welcome.text
    assert "I do not speak “nonsense” yet" in answer.text


async def test_an_invitation_that_waits_is_followed_after_a_crash(stage: MatrixStage) -> None:
    await away(stage)
    resident = await stage.resident("anna")
    room = await resident.direct(stage.bot)
    stage.enters("anna", room)
    token = await stage.account_call("GET", "/sync?timeout=0")
    pending = {"since": token["next_batch"], "invites": {room: ["lab.test", resident.user_id]}}

    def store(session: Any) -> None:
        session.get(Cursor, "matrix").value = json.dumps({**pending, "waiting": [], "hinted": {}})

    stage.app = stage.build()
    await stage.ask(store)
    await stage.begin()
    await stage.arrives(resident, room)
    await stage.settled()
    assert "the bot of KoSI-Lab" in stage.person("anna").sees
    direct = await stage.account_call("GET", f"/user/{stage.bot}/account_data/m.direct")
    assert direct == {resident.user_id: [room]}


async def test_an_invitation_that_the_policy_does_not_welcome_is_declined(settings: Settings, synapse: Synapse) -> None:
    async with on_matrix(settings, synapse, invites="@olga:elsewhere.example, friends.example") as stage:
        resident = await stage.resident("anna")
        room = await resident.direct(stage.bot)
        await resident.until(lambda: stage.bot in resident.members(room, "leave"))
        assert stage.bot not in resident.members(room)


@pytest.mark.parametrize(
    ("setting", "welcome"),
    [
        ("all", {"@anna:lab.test", "@ben:far.example", "@olga:friends.example"}),
        ("homeserver", {"@anna:lab.test"}),
        ("@ben:far.example , friends.example", {"@ben:far.example", "@olga:friends.example"}),
        ("", set()),
        ("lab.tes", set()),
    ],
)
def test_whose_invitations_are_welcome(setting: str, welcome: set[str]) -> None:
    policy = Policy(setting, "@labbot:lab.test")
    everybody = ("@anna:lab.test", "@ben:far.example", "@olga:friends.example")
    assert {user for user in everybody if policy.welcomes(user)} == welcome


async def test_a_room_that_everybody_has_left_is_left(clear: MatrixStage) -> None:
    room = await clear.group("Nordmarkt", "anna", "ben")
    await clear.settled()
    anna, ben = clear.residents["anna"], clear.residents["ben"]
    await ben.leaves(room.id)
    await clear.happened()
    await anna.leaves(room.id)
    await clear.until(
        lambda session: session.exec(select(Chat).where(Chat.external == room.id, ~col(Chat.active))).all()
    )
    joined = await clear.account_call("GET", "/joined_rooms")
    assert joined == {"joined_rooms": []}


async def test_a_choice_in_a_room_opens_one_private_chat_however_often_it_is_made(clear: MatrixStage) -> None:
    await with_idea(clear)
    group = await clear.group("Nordmarkt", "anna", "ben")
    await clear.person("anna").within(group).says("/ideas 1")
    card = clear.lines(group)[-1]
    ben, there = clear.person("ben"), clear.person("ben").within(group)
    resident = clear.residents["ben"]
    position = card.buttons.index("Discuss it in private")
    await there.presses_at(card, position)
    await there.presses_at(card, position)
    await there.says(f"{position + 1}", reply_to=card)
    [room] = await clear.accepts("ben")
    assert resident.is_encrypted(room)
    assert [line.text[:12] for line in ben.screen] == ["Privacy: I k", "#1 A bicycle", "#1 A bicycle", "#1 A bicycle"]
    assert await clear.accepts("ben") == []
    direct = await clear.account_call("GET", f"/user/{clear.bot}/account_data/m.direct")
    assert direct[resident.user_id] == [room]
    await ben.presses("Support")
    assert await supports(clear) == 1


async def test_a_private_command_in_a_room_is_answered_in_private(clear: MatrixStage) -> None:
    group = await clear.group("Nordmarkt", "anna")
    await clear.settled()
    here = clear.person("anna").within(group)
    [notice] = await here.says("/me")
    assert notice.text.startswith("Privacy:")
    await clear.accepts("anna")
    assert "Others see you as" in clear.person("anna").sees


async def test_nothing_private_is_told_where_a_third_person_was_invited(stage: MatrixStage) -> None:
    resident, room = await with_idea(stage)
    cleo = await stage.resident("cleo")
    await resident.invites_to(room, cleo.user_id)
    await resident.until(lambda: cleo.user_id in resident.members(room, "invite"))
    await stage.happened(resident.state_id(room, "m.room.member", cleo.user_id))
    assert "Hello everybody!" in stage.person("anna").sees
    seen = len(stage.seen(room))
    ben = stage.person("ben")
    await ben.says("/ideas 1")
    await ben.presses("Comment")
    await ben.says("What only anna shall know")
    assert len(stage.seen(room)) == seen
    [chat] = await stage.ask(lambda session: session.exec(select(Chat).where(Chat.external == room)).all())
    assert not chat.private and chat.account_id is None


async def test_whoever_takes_over_a_private_chat_is_told_nothing_of_the_one_before(clear: MatrixStage) -> None:
    resident, room = await with_idea(clear)
    group = await clear.group("Nordmarkt", "anna")
    ben = await clear.resident("ben")
    await resident.invites_to(room, ben.user_id)
    await ben.joins(room)
    await resident.leaves(room)
    clear.enters("ben", room)
    await ben.knows(room, clear.bot)
    await clear.person("anna").within(group).says("/me")
    assert "Others see you as" not in str(clear.seen(room))
    await clear.person("ben").says("/me")
    assert "Others see you as" in str(clear.seen(room))  # as ben is seen


# -- what people say ----------------------------------------------------------------------------------------


async def test_a_command_has_three_forms_in_a_room(clear: MatrixStage) -> None:
    room = await clear.group("Nordmarkt", "anna")
    await clear.settled()
    anna = clear.residents["anna"]
    localpart = clear.bot.partition(":")[0]
    for said in ("!ideas", "/ideas", "!IDEEN", f"{clear.bot}: ideas", f"{localpart} ideas", "kosi-lab, ideas"):
        before = len(clear.lines(room))
        await clear.happened(await anna.says(room.id, said))
        assert clear.lines(room)[before:], said
    before = len(clear.lines(room))
    pill = f'<a href="https://matrix.to/#/{clear.bot}">KoSI-Lab</a>: ideas'
    await clear.happened(await anna.says(room.id, "KoSI-Lab: ideas", html=pill, mentions=[clear.bot]))
    await clear.happened(await anna.says(room.id, "ideas", mentions=[clear.bot]))
    await clear.happened(await anna.says(room.id, "labbot:\nidea A bench\nFor all.".replace("labbot", localpart)))
    first, second, question = clear.lines(room)[before:]
    assert first.text == second.text
    assert "A bench\nFor all." in question.text or "Which topic" in question.text
    before = len(clear.lines(room))
    for said in ("ideas", "!!!", "!wow", "/shrug", "KoSI-Labor: ideas", "labbotology ideas", "What a day"):
        await clear.happened(await anna.says(room.id, said))
    assert clear.lines(room)[before:] == []


async def test_notices_and_emotes_and_own_words_are_never_answered(clear: MatrixStage) -> None:
    anna = clear.person("anna")
    await clear.comes(anna.chat)
    resident, room = clear.residents["anna"], clear.rooms["anna"][0]
    for kind in ("m.notice", "m.emote", "m.location", "org.example.strange"):
        await resident.says(room, "!ideas", msgtype=kind)
    await clear.account_call(
        "PUT", f"/rooms/{room}/send/m.room.message/own", {"msgtype": "m.text", "body": "!ideas", "m.mentions": {}}
    )
    await anna.says("/language nonsense")
    _, own, answer = clear.seen(room)
    assert (own.body, "nonsense" in answer.body) == ("!ideas", True)


async def test_a_reply_chooses_from_the_message_it_answers(stage: MatrixStage) -> None:
    await with_idea(stage)
    ben = stage.person("ben")
    [card] = await ben.says("/ideas 1")
    await ben.says("/help")
    await ben.says("1", reply_to=card)
    assert await supports(stage) == 1


async def test_a_reaction_that_is_taken_back_takes_the_support_back(stage: MatrixStage) -> None:
    await with_idea(stage)
    ben = stage.person("ben")
    [card] = await ben.says("/ideas 1")
    resident, room = stage.residents["ben"], stage.rooms["ben"][0]
    reaction = await resident.reacts(room, card.id, "1⃣")  # some clients leave the variation selector out
    await stage.happened(reaction)
    assert await supports(stage) == 1
    await stage.happened(await resident.redacts(room, reaction))
    assert await supports(stage) == 0
    assert "Your support for #1 is taken back." in [line.text for line in ben.screen]
    assert await stage.ask(lambda session: session.exec(select(Reaction)).all()) == []


async def test_only_whoever_reacted_takes_the_support_back(clear: MatrixStage) -> None:
    await with_idea(clear)
    group = await clear.group("Nordmarkt", "anna", "ben")
    await clear.person("anna").within(group).says("/ideas 1")
    card = clear.lines(group)[-1]
    anna, ben = clear.residents["anna"], clear.residents["ben"]
    reaction = await ben.reacts(group.id, card.id, "1️⃣")
    await clear.happened(reaction)
    assert "1 person supports it." in clear.lines(group)[-1].text
    await clear.happened(await anna.redacts(group.id, reaction))  # she moderates the room
    assert await supports(clear) == 1
    again = await ben.reacts(group.id, card.id, "1️⃣")
    await clear.happened(again)
    await clear.happened(await ben.redacts(group.id, again))
    assert await supports(clear) == 0
    assert "Nobody supports it yet." in clear.lines(group)[-1].text


async def test_who_reacts_to_other_peoples_words_stays_unknown(clear: MatrixStage) -> None:
    group = await clear.group("Nordmarkt", "anna", "ben")
    await clear.settled()
    anna, ben = clear.residents["anna"], clear.residents["ben"]
    said = await anna.says(group.id, "Who comes tomorrow? 1 yes, 2 no")
    await clear.happened(said, await ben.reacts(group.id, said, "1️⃣"), await anna.reacts(group.id, said, "2️⃣"))
    known = await clear.ask(lambda session: len(session.exec(select(Person)).all()))
    assert known == 1  # who has invited the bot
    assert len(clear.lines(group)) == 1


async def test_the_notice_is_not_lost_on_who_presses_first_in_a_room(clear: MatrixStage) -> None:
    await with_idea(clear)
    group = await clear.group("Nordmarkt", "anna", "ben")
    await clear.person("anna").within(group).says("/ideas 1")
    ben = clear.person("ben").within(group)
    await ben.presses("Support", clear.lines(group)[-1])
    assert await supports(clear) == 1
    [notice, _] = await ben.says("/ideas 1")
    assert notice.text.startswith("Privacy:")


async def test_an_edit_is_no_new_command_and_a_redaction_withdraws_the_idea(stage: MatrixStage) -> None:
    olga = await stage.organiser("olga")
    team = await stage.group("Team", "olga")
    await olga.within(team).says("/team")
    anna = stage.person("anna")
    await anna.says("/idea A garage\nFor all.")
    source = anna.said
    await anna.presses("Send")
    assert "#1 A garage" in stage.lines(team)[-1].text
    [changed] = await anna.rewrites("/idea A warm garage\nFor all.")
    assert changed.text == "#1 is changed."
    assert "#1 A warm garage" in stage.lines(team)[-1].text
    await stage.happened(await stage.residents["anna"].redacts(stage.rooms["anna"][0], source))
    assert anna.sees == "#1 is withdrawn."
    assert stage.lines(team)[-1].text == "#1 is withdrawn."


# -- what the bot says --------------------------------------------------------------------------------------


async def test_answers_are_silent_and_questions_and_news_ring_for_whom_they_are(clear: MatrixStage) -> None:
    anna, room = await with_idea(clear)
    assert {line.msgtype for line in clear.seen(room)} == {"m.notice"}
    assert {line.mentions for line in clear.seen(room)} == {frozenset()}
    group = await clear.group("Nordmarkt", "ben")
    ben = clear.person("ben").within(group)
    await ben.says("/ideas 1")
    await ben.says("/idea")
    resident = clear.residents["ben"]
    notice, card, question = clear.seen(group.id)[-3:]
    assert (card.msgtype, card.mentions) == ("m.notice", frozenset())
    assert (question.msgtype, question.mentions) == ("m.text", frozenset({resident.user_id}))
    assert question.first["m.relates_to"] == {"m.in_reply_to": {"event_id": ben.said}}
    assert notice.msgtype == "m.notice"
    await ben.presses("Support", clear.lines(group)[-2])
    edited = clear.seen(group.id)[-2]
    assert (edited.edits, edited.mentions) == (1, frozenset())
    private = clear.person("ben")
    await private.says("/ideas 1")
    await private.presses("Comment")
    await private.says("Where?")
    await clear.settled()
    news = clear.seen(room)[-1]
    assert "Where?" in news.body
    assert (news.msgtype, news.mentions) == ("m.text", frozenset({anna.user_id}))


async def test_an_answer_in_a_thread_names_it_for_every_client(clear: MatrixStage) -> None:
    topic = await clear.topic("Forum", "anna")
    anna = clear.person("anna").within(topic)
    await anna.says("/ideas")
    root, answer = topic.thread, clear.seen(topic.id)[-1]
    relation = {"rel_type": "m.thread", "event_id": root, "is_falling_back": False}
    assert answer.first["m.relates_to"] == {**relation, "m.in_reply_to": {"event_id": anna.said}}


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_choices_are_offered_as_reactions_where_that_is_wanted(
    settings: Settings, synapse: Synapse, encrypted: bool
) -> None:
    async with on_matrix(settings, synapse, encrypted=encrypted, reactions=True) as stage:
        anna = stage.person("anna")
        await stage.comes(anna.chat)
        resident, room = stage.residents["anna"], stage.rooms["anna"][0]
        offered = {f"{n}\ufe0f\u20e3": {stage.bot} for n in range(1, len(anna.choices) + 1)}
        await resident.sees(room, anna.screen[0].id, lambda line: line.reactions == offered)
        await anna.presses("Help")
        assert "Write your idea to me" in anna.sees


async def test_without_room_in_the_rate_choices_are_lines_only(stage: MatrixStage) -> None:
    anna = stage.person("anna")
    await stage.comes(anna.chat)
    await anna.says("/help")
    assert [line.reactions for line in stage.seen(stage.rooms["anna"][0])] == [{}, {}]
    assert "!idea: Suggest an idea" in stage.seen(stage.rooms["anna"][0])[-1].body


WORST = {
    "ligature": "ﷺ" * 3990,
    "emoji": "😀" * 1995,
    "escaped": "&amp;" * 3990,
    "quotes": "&#34;" * 3990,
    "controls": "\x01" * 3989 + "x",
    "lines": "x\n" * 1995,
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_the_longest_messages_fit_whatever_they_are_made_of(
    settings: Settings, synapse: Synapse, encrypted: bool
) -> None:
    async with on_matrix(settings, synapse, encrypted=encrypted) as stage:
        await stage.comes(stage.person("anna").chat)
        resident, room = stage.residents["anna"], stage.rooms["anna"][0]
        for name, html in WORST.items():
            message = Rendered(f"<b>{html}</b>")
            sent = await stage.matrix.send(ChatRef("matrix", room), message, f"k-{name}")
            seen = await resident.sees(room, sent.message.id)
            assert seen.readable and seen.body == plain(message.html)
            await stage.matrix.edit(sent.message, Rendered(f"<i>{html}</i>"), f"e-{name}")
            await resident.sees(room, sent.message.id, lambda line: line.edits == 1 and "<i>" in (line.html or ""))


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_a_file_that_somebody_sent_is_read_as_it_was(
    settings: Settings, synapse: Synapse, encrypted: bool
) -> None:
    async with on_matrix(settings, synapse, encrypted=encrypted) as stage:
        await stage.comes(stage.person("anna").chat)
        resident, room = stage.residents["anna"], stage.rooms["anna"][0]
        data = bytes(range(256)) * 999
        sent = await resident.sends_file(room, "plan.pdf", data, "application/pdf")
        await stage.happened(sent)
        [said] = [update for update in stage.matrix.updates if isinstance(update, Said) and update.key == sent]
        [file] = said.files
        assert (file.name, file.media_type, file.size, said.text) == ("plan.pdf", "application/pdf", len(data), "")
        assert b"".join([chunk async for chunk in stage.matrix.fetch(file)]) == data
        upload = Upload("plan.txt", "text/plain", b"To the river")
        back_again = await stage.matrix.send(ChatRef("matrix", room), Rendered("A plan", upload=upload), "file")
        line = await resident.sees(room, back_again.message.id)
        assert ("file" in line.content) is encrypted
        assert (line.body, line.content["filename"]) == ("A plan", "plan.txt")
        assert await resident.downloads(line) == b"To the river"


# -- encryption ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_what_came_without_its_key_is_answered_when_the_key_comes(stage: MatrixStage, restarted: bool) -> None:
    anna = stage.person("anna")
    await stage.comes(anna.chat)
    resident, room = stage.residents["anna"], stage.rooms["anna"][0]
    resident.withholds = True
    before = len(anna.screen)
    first = await resident.says(room, "!language first")
    second = await resident.says(room, "!language second")
    await stage.happened(first, second)
    hints = [line.text for line in anna.screen[before:] if "without its key" in line.text]
    assert len(hints) == 1
    if restarted:
        await stage.restart()
    before = len(anna.screen)
    await resident.gives_keys(room)
    await stage.read(first, second)
    assert ["first" in anna.screen[before].text, "second" in anna.screen[before + 1].text] == [True, True]
    assert len(anna.screen) == before + 2


class Hiding(Homeserver):
    """A homeserver that does not tell any more which rooms are encrypted."""

    def __init__(self, told: list[Any], hides: bool = False) -> None:
        super().__init__("http://127.0.0.1:1", "")
        self.told = told
        self.hides = hides

    async def state(self, room: str) -> list[Any]:
        return [event for event in self.told if not (self.hides and event["type"] == "m.room.encryption")]


async def test_a_room_that_was_encrypted_once_is_so_for_ever() -> None:
    server = Hiding([_state("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})])
    kept: list[str] = []
    rooms = Rooms(server, "@labbot:lab.test", [], kept.extend)
    assert (await rooms.get("!a")).encrypted
    assert kept == ["!a"]
    server.hides = True
    rooms.forget("!a")
    assert (await rooms.get("!a")).encrypted
    assert (await Rooms(server, "@labbot:lab.test", kept, kept.extend).get("!a")).encrypted
    assert not (await rooms.get("!b")).encrypted


class Deceived(WatchedMatrix):
    """The bot on a homeserver that from now on hides that rooms are encrypted."""

    async def _connect(self) -> Any:
        here = await super()._connect()
        ask = here.homeserver.state

        async def hiding(room: str) -> list[Any]:
            return [event for event in await ask(room) if event["type"] != "m.room.encryption"]

        here.homeserver.state = hiding  # type: ignore[method-assign]
        return here


async def test_nothing_is_said_in_the_clear_when_the_homeserver_hides_the_encryption(stage: MatrixStage) -> None:
    anna = stage.person("anna")
    await stage.comes(anna.chat)
    room, resident = stage.rooms["anna"][0], stage.residents["anna"]
    await stage.end()
    stage.kind = Deceived
    stage.app = stage.build()
    # Before the first sync of this start, and before anything is known of the room.
    sent = await stage.matrix.send(ChatRef("matrix", room), Rendered("A secret"), "before")
    line = await resident.sees(room, sent.message.id)
    assert line.encrypted and line.body == "A secret"
    await stage.begin()
    assert len(await anna.says("/ideas")) == 1


async def test_a_device_that_nobody_signed_would_be_deaf_to_todays_clients(stage: MatrixStage) -> None:
    strict = await stage.people.person("strict", only_signed=True)
    stage.residents["strict"] = strict
    anna = stage.person("strict")
    assert "Suggest an idea" in (await anna.says("/help"))[-1].buttons


# -- gaps and restarts --------------------------------------------------------------------------------------


async def test_all_that_was_said_while_the_bot_was_off_is_answered_in_order(clear: MatrixStage) -> None:
    much = {"anna": 130, "ben": 40}  # more and less than one sync tells
    for name in much:
        await clear.comes(clear.person(name).chat)
    await away(clear)
    said = [
        await clear.residents[name].says(clear.rooms[name][0], f"!language x{number}")
        for name in much
        for number in range(much[name])
    ]
    await back(clear)
    await clear.happened(*said)
    for name in much:
        answers = [line.text.partition("“")[2].partition("”")[0] for line in clear.person(name).screen[1:]]
        assert answers == [f"x{number}" for number in range(much[name])]


# -- rooms --------------------------------------------------------------------------------------------------


async def test_a_room_that_only_claims_to_go_on_for_the_teams_gets_nothing(clear: MatrixStage) -> None:
    olga = await clear.organiser("olga")
    team = await clear.group("Team", "olga")
    await olga.within(team).says("/team")
    mallory = await clear.resident("mallory")
    claims = {"predecessor": {"room_id": team.id, "event_id": "$x"}}
    room = await mallory.creates("Team", invite=[clear.bot], creation_content=claims)
    clear.enters("mallory", room)
    await clear.arrives(mallory, room)
    await with_idea(clear)
    assert [line.body[:16] for line in clear.seen(room)] == ["Hello everybody!"]
    assert "#1 A bicycle garage" in clear.lines(team)[-1].text
    assert clear.bot in clear.residents["olga"].members(team.id)


def _state(kind: str, content: Any, key: str = "", sender: str = "@olga:lab.test") -> dict[str, Any]:
    return {"type": kind, "state_key": key, "sender": sender, "content": content}


def _room(*state: dict[str, Any]) -> Room:
    room = Room("!a", "@labbot:lab.test")
    for event in state:
        room.apply(event)
    return room


def test_a_demoted_moderator_has_no_power_any_more() -> None:
    create = _state("m.room.create", {"room_version": "11"})
    room = _room(create, _state("m.room.power_levels", {"users": {"@ben:lab.test": 50, "@olga:lab.test": 100}}))
    assert room.may("@ben:lab.test", "m.room.topic")
    room.apply(_state("m.room.power_levels", {"users": {"@olga:lab.test": 100}}))
    assert not room.may("@ben:lab.test", "m.room.topic")
    assert room.may("@olga:lab.test", "m.room.topic")


def test_somebody_who_is_listed_may_what_their_level_allows() -> None:
    room = _room(
        _state("m.room.create", {"room_version": "10"}),
        _state("m.room.power_levels", {"users": {"@ben:lab.test": 50}, "events": {"m.room.power_levels": 100}}),
    )
    assert room.may("@ben:lab.test", "m.room.name")
    assert not room.may("@ben:lab.test", "m.room.power_levels")


def test_creators_stand_above_all_levels_from_version_12_on() -> None:
    levels = _state("m.room.power_levels", {"users": {"@ben:lab.test": 100}, "events": {"m.room.power_levels": 150}})
    content = {"additional_creators": ["@cleo:lab.test"]}
    old = _room(_state("m.room.create", {"room_version": "11", **content}), levels)
    new = _room(_state("m.room.create", {"room_version": "12", **content}), levels)
    people = ("@olga:lab.test", "@cleo:lab.test", "@ben:lab.test")
    assert [old.may(user, "m.room.power_levels") for user in people] == [False, False, False]
    assert [new.may(user, "m.room.power_levels") for user in people] == [True, True, False]


@pytest.mark.parametrize("version", [{}, {"room_version": "12"}, {"room_version": 12}, {"room_version": "org.x"}])
def test_without_power_levels_the_creator_is_the_one_who_may(version: dict[str, Any]) -> None:
    room = _room(_state("m.room.create", version))
    assert room.level("@olga:lab.test") >= 100
    assert room.level("@ben:lab.test") == 0


@pytest.mark.parametrize(
    "levels", [{"users": {"@ben:lab.test": "100"}}, {"users": [], "users_default": "100"}, {"users_default": 100.0}]
)
def test_power_levels_of_old_rooms_may_be_text(levels: dict[str, Any]) -> None:
    assert _room(_state("m.room.power_levels", levels)).may("@ben:lab.test", "m.room.topic")


@pytest.mark.parametrize("levels", [{"users": {"@ben:lab.test": True}}, {"users": "x"}, {"users_default": None}])
def test_power_levels_that_make_no_sense_give_no_power(levels: dict[str, Any]) -> None:
    assert not _room(_state("m.room.power_levels", levels)).may("@ben:lab.test", "m.room.topic")


@pytest.mark.parametrize("version", ["10", "12"])
def test_who_may_close_a_room_does_not_depend_on_the_order_of_its_state(version: str) -> None:
    create = _state("m.room.create", {"room_version": version})
    levels = _state("m.room.power_levels", {"users": {"@ben:lab.test": 50}, "events": {"m.room.tombstone": 50}})
    named = [_state("m.room.canonical_alias", {"alias": "#x:lab.test"}), _state("m.room.name", {"name": "Lab"})]
    for sender, successor in (("@ben:lab.test", "!next:lab.test"), ("@eve:lab.test", None)):
        tombstone = _state("m.room.tombstone", {"replacement_room": "!next:lab.test"}, sender=sender)
        for state in permutations([create, levels, tombstone, *named]):
            assert (_room(*state).successor, _room(*state).name) == (successor, "Lab")


def test_an_invitation_is_about_ourselves_only() -> None:
    room = _room(
        _state("m.room.member", {"membership": "join", "is_direct": True}, "@olga:lab.test"),
        _state("m.room.member", {"membership": "invite"}, "@labbot:lab.test"),
        _state("m.room.name", {"name": "Nordmarkt"}),
    )
    assert not room.private
    room.apply(_state("m.room.member", {"membership": "join", "is_direct": True}, "@labbot:lab.test"))
    assert room.private


# -- reading and writing events -----------------------------------------------------------------------------

ME = Me("@labbot:lab.test", "KoSI-Lab")


def _said(body: str, **more: Any) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": body, **more}
    return {"type": "m.room.message", "event_id": "$1", "sender": "@anna:lab.test", "content": content}


def test_a_quotation_that_older_clients_put_before_a_reply_is_not_part_of_it() -> None:
    relation = {"m.in_reply_to": {"event_id": "$0"}}
    update = read(_said("> <@labbot:lab.test> 1. Yes\n> 2. No\n\n2", **{"m.relates_to": relation}), _room(), ME)
    assert isinstance(update, Said)
    assert update.text == "2" and update.reply_to is not None and update.reply_to.id == "$0"


def test_in_a_thread_the_reply_that_old_clients_need_is_none() -> None:
    relation = {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$0"},
    }
    update = read(_said("!ideas", **{"m.relates_to": relation}), _room(), ME)
    assert isinstance(update, Said)
    assert (update.command, update.chat.thread, update.reply_to) == ("ideas", "$root", None)


def test_an_edit_tells_the_whole_new_text() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$0"}
    new = {"msgtype": "m.text", "body": "!idea B"}
    update = read(_said("* !idea B", **{"m.new_content": new, "m.relates_to": relation}), _room(), ME)
    assert isinstance(update, Edited)
    assert (update.message.id, update.command, update.text) == ("$0", "idea", "B")


def test_mentions_are_always_there_and_nobody_is_named_by_an_edit() -> None:
    said = Rendered("<b>Now</b>", loud=True)
    content = change("$0", said)
    assert content["m.mentions"] == content["m.new_content"]["m.mentions"] == {}
    assert words(said)["msgtype"] == "m.text"


def test_words_are_the_same_with_and_without_markup() -> None:
    html = '<b>A &amp; B</b>\n<blockquote>one\ntwo</blockquote><a href="https://x.example/">there</a> &lt;i&gt;'
    assert plain(html) == "A & B\n> one\n> two\nthere (https://x.example/) <i>"
    assert formatted(html) == (
        '<b>A &amp; B</b><br><blockquote>one<br>two</blockquote><a href="https://x.example/">there</a> &lt;i&gt;'
    )


def test_what_no_homeserver_takes_is_not_sent() -> None:
    with pytest.raises(Undeliverable):
        bounded({"body": "x" * 50_000}, encrypted=True)
    bounded({"body": "x" * 50_000}, encrypted=False)


# -- both messengers ----------------------------------------------------------------------------------------


class BothStage(MatrixStage):
    """The bot on Matrix and on Telegram at once."""

    server: TelegramServer

    async def handled(self) -> None:
        await super().handled()
        await self.server.wait_for(lambda: self.server.polling and not self.server.pending, SETTLES)


async def test_one_community_whichever_messenger_people_use(settings: Settings, synapse: Synapse) -> None:
    time = Hurried()
    async with TelegramServer(clock=lambda: time.now().timestamp()) as server:

        def telegram() -> list[Adapter]:
            fast: dict[str, Any] = {"rate": 1e6, "chat_rate": 1e6, "group_rate": 1e6}
            return [Telegram(server.token, server.url, **fast, poll_timeout=1, call_timeout=1.0, sleep=time.sleep)]

        BothStage.server = server
        async with on_matrix(settings, synapse, BothStage, time=time, beside=telegram) as stage:
            olga = await stage.organiser("olga")
            team = await stage.group("Team", "olga")
            here = olga.within(team)
            await here.says("/team")
            await here.says("/language Deutsch")
            tilo, tara = server.user(first_name="tilo").id, server.user(first_name="tara").id
            server.say(tilo, server.private(tilo), "/idea A bicycle garage\nA dry place.")
            await stage.settled()
            server.say(tilo, server.private(tilo), "1")
            await stage.settled()
            card = stage.lines(team)[-1]
            assert "#1 A bicycle garage" in card.text
            assert "Thema: " in card.text and "Noch unterstützt sie niemand" in card.text
            server.say(tara, server.private(tara), "/ideas 1")
            await stage.settled()
            server.say(tara, server.private(tara), "1")
            cleo = stage.person("cleo")
            await cleo.says("/ideas 1")
            await cleo.presses("Support")
            assert (await stage.ask(ideas.recount))[1] == (2, 0)
            assert "2 people support it." in cleo.sees
            await here.says("/ideas 1")
            assert "2 Menschen unterstützen sie" in here.sees
            await here.presses("Aufgreifen", card)
            [decided] = [line for line in stage.lines(team) if line.id == card.id]
            assert "Das Lab sagt: aufgegriffen" in decided.text
            texts = [message.text or "" for message in server.sent(tilo)]
            assert any("#1" in text and "taken up" in text for text in texts), texts
