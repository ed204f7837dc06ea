"""People: the welcome, the notice, language, roles, and leaving without a trace."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlmodel import Session, SQLModel, select, update

from bot.types import ChatRef
from handlers.people import EXPORTED, NOTICE_VERSION
from storage import erasure, people, rooms
from storage.announcements import asking, subscribing, writing
from storage.announcements.ledger import Delivery
from storage.chats import Chat
from storage.engine import open_engine
from storage.events import places, planning, reminding
from storage.events.tables import State
from storage.outbox import Outbox
from storage.people import Account, Person, Role
from storage.polls import asking as polls
from storage.polls import mirroring, voting
from storage.polls.asking import Draft
from storage.polls.tables import Secrecy
from tests.conftest import Community, Resident

HOUR, DAY = 3600.0, 86400.0

WRONG = "This code does not work: it is wrong, used or too old. After five wrong codes, wait an hour."


def everything(session: Session) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    return {
        name: [dict(row) for row in session.execute(table.select()).mappings()]
        for name, table in SQLModel.metadata.tables.items()
    }


async def group_of(lab: Community, *members: str) -> ChatRef:
    """A group, in the lab's language."""
    group = lab.group("neighbours", *members)
    await lab.settled()
    return group


async def pseudonym_of(lab: Community, who: Resident) -> str:
    """The name others see somebody by."""
    found: str = await lab.read(
        lambda session: session.exec(select(Person.pseudonym).join(Account).where(Account.external == who.name)).one()
    )
    return found


# -- the welcome and the notice -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "welcome", "notice"),
    [
        ("de", "Hallo! Ich bin der Bot von KoSI-Lab.", "Datenschutz: Ich speichere die Nummer deines Kontos"),
        ("de-AT", "Hallo! Ich bin der Bot von KoSI-Lab.", "Datenschutz: Ich speichere die Nummer deines Kontos"),
        ("en-GB", "Hello! I am the bot of KoSI-Lab.", "Privacy: I keep the number of your account"),
        ("tlh", "Hallo! Ich bin der Bot von KoSI-Lab.", "Datenschutz: Ich speichere die Nummer deines Kontos"),
    ],
)
async def test_start_welcomes_with_the_notice_in_ones_own_language(
    lab: Community, locale: str, welcome: str, notice: str
) -> None:
    anna = lab.person("anna", locale)
    await anna.says("/start")
    [seen] = anna.screen
    assert seen.html.startswith(welcome)
    assert notice in seen.html
    assert len(anna.choices) == 5


async def test_after_the_first_message_only_the_accounts_number_is_stored(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    rows = await lab.read(everything)
    [person] = rows["person"]
    [account] = rows["account"]
    [chat] = rows["chat"]
    assert (person["name"], person["group"], person["locale"], person["role"]) == (None, None, None, "participant")
    assert person["notice"] == NOTICE_VERSION
    assert (account["adapter"], account["external"]) == ("memory", "anna")
    assert (chat["external"], chat["locale"]) == ("p-anna", "de")
    for table in ("idea", "support", "follow", "comment", "dialog", "attempt", "failed"):
        assert rows[table] == []


async def test_whoever_does_not_start_with_start_reads_the_notice_first_and_once(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("We need more benches at the lake.")
    [notice, offer] = anna.screen
    assert notice.html.startswith("Privacy: ")
    assert offer.html == "Shall this become an idea for everybody to see?"
    await anna.presses("No")
    await anna.says("/help")
    await anna.says("/start idea-1")
    assert len([seen for seen in anna.screen if "Privacy: " in seen.html]) == 1


async def test_a_changed_notice_is_shown_to_everybody_again(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    await lab.read(lambda session: session.execute(update(Person).values(notice=NOTICE_VERSION - 1)))
    await anna.says("/ideas")
    assert [seen.html.startswith("Privacy: ") for seen in anna.screen[1:]] == [True, False]
    await anna.says("/ideas")
    assert len([seen for seen in anna.screen[1:] if seen.html.startswith("Privacy: ")]) == 1


async def test_who_presses_first_in_a_group_gets_the_notice_as_a_note(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    group = await group_of(lab, "anna", "ben")
    await anna.within(group).says("/ideas 1")
    in_group = ben.within(group)
    shown = len(in_group.screen)
    note = await in_group.presses("Unterstützen")
    assert note is not None
    assert "Ich speichere die Nummer deines Kontos und deine Wahl" in note
    assert "Danke, deine Unterstützung für #1 zählt." in note
    assert await in_group.presses("Unterstützen") == "Du unterstützt #1 schon."
    assert len(in_group.screen) == shown


async def test_start_in_a_group_shows_the_notice_too(lab: Community) -> None:
    group = await group_of(lab, "anna")
    anna = lab.person("anna").within(group)
    [notice, hello] = await anna.says("/start")
    assert notice.html.startswith("Datenschutz: ")
    assert hello.html.startswith("Hallo! Mit /idee")
    assert len(await anna.says("/start")) == 1


async def test_of_those_who_only_talk_to_each_other_in_a_group_nothing_is_stored(lab: Community) -> None:
    group = await group_of(lab, "anna", "ben")
    ben = lab.person("ben").within(group)
    written = lab.messenger.say("ben", group, "Hi Anna, shall we meet at the lake?")
    await ben.says("At six?", reply_to=written)
    lab.messenger.edit_own("ben", group, written, "Hi Anna, shall we meet at the bench?")
    lab.messenger.retract_own("ben", group, written)
    await lab.settled()
    assert [row["external"] for row in (await lab.read(everything))["account"]] == ["anna"]  # who added the bot
    await ben.says("@bot hello")
    assert [row["external"] for row in (await lab.read(everything))["account"]] == ["anna", "ben"]


async def test_a_deep_link_shows_its_idea_after_the_notice(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    await ben.says("/start idea-1")
    [notice, card] = ben.screen
    assert notice.html.startswith("Privacy: ")
    assert "<b>#1 A bench</b>" in card.html
    assert "Comment" in ben.choices
    await ben.says("/start idea-77")
    assert ben.sees == "There is no idea #77, or it was withdrawn."
    await ben.says("/start idea-x'; DROP TABLE person")
    assert ben.sees.startswith("There is no idea #")


async def test_a_command_for_the_private_chat_leads_there_from_a_group(lab: Community) -> None:
    group = await group_of(lab, "anna")
    anna = lab.person("anna")
    await anna.within(group).says("/me")
    [button] = anna.within(group).screen[-1].buttons
    assert anna.within(group).sees == "Das geht in unserem privaten Chat."
    await anna.says(f"/start {button.start}")
    assert "Others see you as" in anna.sees


async def test_an_unknown_payload_is_an_ordinary_start(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start from-the-poster")
    assert "Hello! I am the bot of KoSI-Lab." in anna.sees
    await anna.says("/start status")
    assert "Hello! I am the bot of KoSI-Lab." in anna.sees


async def test_privacy_says_what_is_kept_and_for_how_long(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    await anna.says("/datenschutz")
    assert "30 Tage" in anna.sees
    assert "/stopp" in anna.sees


# -- language -----------------------------------------------------------------------------------------------


async def test_the_language_is_chosen_by_button(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    await anna.presses("Sprache")
    assert anna.choices == ["Deutsch", "English"]
    await anna.presses("English")
    assert anna.sees == "From now on I speak English here."
    assert anna.choices[0] == "Suggest an idea"
    await anna.says("/idee Eine Bank")
    assert anna.sees.startswith("Good idea!")


@pytest.mark.parametrize("words", ["deutsch", "German", "de", "DEUTSCH", " german "])
async def test_the_language_is_chosen_by_name(lab: Community, words: str) -> None:
    anna = lab.person("anna")
    await anna.says(f"/language {words}")
    assert anna.sees == "Ab jetzt spreche ich hier Deutsch."
    await anna.says("/sprache Englisch")
    assert anna.sees == "From now on I speak English here."


async def test_a_language_i_do_not_speak_gets_the_list(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/language Klingon <b>")
    assert anna.sees == "I do not speak “Klingon &lt;b&gt;” yet. Choose one of these:"
    await anna.says("deutsch")
    assert anna.sees == "Ab jetzt spreche ich hier Deutsch."


async def test_only_organisers_choose_a_groups_language_and_people_keep_theirs(lab: Community) -> None:
    anna, olga = lab.person("anna"), await lab.organiser("olga")
    group = await group_of(lab, "anna", "olga")
    await anna.within(group).says("/language english")
    assert anna.within(group).sees == "Die Sprache einer Gruppe kann nur das Team des Labs ändern."
    await anna.within(group).says("/sprache")
    menu = anna.within(group).screen[-1]
    assert await anna.within(group).presses("English", menu) == (
        "Die Sprache einer Gruppe kann nur das Team des Labs ändern."
    )
    await olga.within(group).presses("English", menu)
    assert menu.html == "From now on I speak English here."
    await anna.within(group).says("/help")
    assert anna.within(group).sees.startswith("This is what I can do here:")
    ben = lab.person("ben", "de")
    await ben.within(group).says("/ideas")
    assert "There is nothing here yet." in ben.within(group).sees
    await ben.says("/ideen")
    assert "Hier ist noch nichts." in ben.sees


# -- help ---------------------------------------------------------------------------------------------------


def commands_in(html: str) -> set[str]:
    return {line.split(":")[0] for line in html.splitlines() if line.startswith("/")}


async def test_help_lists_what_this_person_may_do_here(lab: Community) -> None:
    anna, olga = lab.person("anna"), await lab.organiser("olga")
    everybody = {"/cancel", "/events", "/help", "/idea", "/ideas", "/language", "/privacy", "/start", "/stop"}
    everybody |= {"/close", "/poll", "/polls", "/vote"}
    await anna.says("/help")
    assert commands_in(anna.sees) == everybody | {"/claim", "/link", "/me", "/topics"}
    await olga.says("/help")
    private, in_groups = olga.sees.split("\n\nOnly in a group:\n")
    assert commands_in(private) == everybody | {"/announce", "/claim", "/event", "/link", "/me", "/status", "/topics"}
    assert commands_in(in_groups) == {"/room", "/team"}
    group = await group_of(lab, "anna", "olga")
    await olga.within(group).says("/language en")
    await anna.within(group).says("/help")
    assert commands_in(anna.within(group).sees) == everybody
    await olga.within(group).says("/help")
    assert commands_in(olga.within(group).sees) == everybody | {"/event", "/room", "/status", "/team"}
    assert olga.within(group).choices == []


async def test_help_names_the_commands_in_the_readers_language(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/hilfe")
    assert anna.sees.splitlines()[2].startswith("/termine: ")
    assert {"/idee", "/ideen", "/sprache", "/ich", "/stopp", "/datenschutz"} <= commands_in(anna.sees)
    assert anna.choices[0] == "Idee vorschlagen"


async def test_an_unknown_command_leads_to_help(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    await anna.says("/frobnicate <b>")
    assert anna.sees == "I do not know the command /frobnicate. Write /help to see what I can do."


async def test_cancel_leaves_the_open_question(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/cancel")
    assert anna.sees == "There is no open question."
    await anna.says("/idea")
    await anna.says("/abbrechen")
    assert anna.sees == "Cancelled. Nothing was sent."
    await anna.says("A bench")
    assert anna.sees == "What would you like to do?"


# -- roles --------------------------------------------------------------------------------------------------


async def invited(lab: Community, role: Role = Role.ORGANISER) -> str:
    code: str = await lab.read(lambda session: people.invite(session, role, lab.time.now()))
    return code


async def role_of(lab: Community, who: Resident) -> str:
    found: str = await lab.read(
        lambda session: session.exec(select(Person.role).join(Account).where(Account.external == who.name)).one()
    )
    return found


async def test_a_code_makes_one_person_an_organiser_once(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    code = await invited(lab)
    assert code not in str(await lab.read(everything))
    await anna.says(f"/claim {code}")
    assert anna.sees == "Welcome to the team! You are organiser now. /help shows what is new for you."
    await ben.says(f"/claim {code}")
    assert ben.sees == WRONG
    assert (await role_of(lab, anna), await role_of(lab, ben)) == ("organiser", "participant")


async def test_a_code_may_be_typed_with_capitals_and_spaces(lab: Community) -> None:
    anna = lab.person("anna")
    code = await invited(lab)
    await anna.says(f"/claim  {code[:4].upper()} {code[4:10]}\u00a0{code[10:]} ")
    assert await role_of(lab, anna) == "organiser"


async def test_a_code_can_be_given_when_asked(lab: Community) -> None:
    anna = lab.person("anna", "de")
    code = await invited(lab)
    await anna.says("/claim")
    assert anna.sees == "Welchen Code hast du bekommen?"
    await anna.says("ups")
    assert "Dieser Code gilt nicht" in anna.sees
    assert anna.choices == ["Abbrechen"]
    await anna.says(code)
    assert "Willkommen im Team!" in anna.sees
    await anna.says(code)
    assert anna.sees == "Was möchtest du tun?"


async def test_a_code_works_for_seven_days(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    first, second = await invited(lab), await invited(lab)
    lab.time.pass_by(7 * DAY - 1)
    await anna.says(f"/claim {first}")
    assert await role_of(lab, anna) == "organiser"
    lab.time.pass_by(1)
    await ben.says(f"/claim {second}")
    assert ben.sees == WRONG


async def test_five_wrong_codes_an_hour_are_enough(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    code = await invited(lab)
    for attempt in range(5):
        await anna.says(f"/claim wrong{attempt}")
    await anna.says(f"/claim {code}")
    assert anna.sees == WRONG
    lab.time.pass_by(HOUR + 1)
    for attempt in range(4):
        await anna.says(f"/claim wrong{attempt}")
    await anna.says(f"/claim {code}")
    assert await role_of(lab, anna) == "organiser"
    other = await invited(lab)
    await ben.says(f"/claim {other}")  # somebody else's tries are their own
    assert await role_of(lab, ben) == "organiser"


async def test_a_lower_code_takes_nothing_away(lab: Community) -> None:
    anna = await lab.organiser("anna", Role.LEAD)
    await anna.says(f"/claim {await invited(lab, Role.MODERATOR)}")
    assert "You are lab lead now." in anna.sees
    assert await role_of(lab, anna) == "lead"


async def test_a_code_is_not_taken_in_a_group(lab: Community) -> None:
    code = await invited(lab)
    group = await group_of(lab, "anna")
    anna = lab.person("anna")
    await anna.within(group).says(f"/claim {code}")
    assert anna.within(group).sees == "Das geht in unserem privaten Chat."
    assert await role_of(lab, anna) == "participant"
    await anna.says(f"/claim {code}")
    assert await role_of(lab, anna) == "organiser"


# -- stopping -----------------------------------------------------------------------------------------------


async def test_stop_silences_and_start_resumes(lab: Community) -> None:
    anna, ben = lab.person("anna", "de"), lab.person("ben")
    await anna.says("/idee Eine Bank\nZum Ausruhen.")
    await anna.presses("Absenden")
    await anna.says("/stopp")
    assert anna.sees.startswith("Erledigt: Ab jetzt antworte ich dir nur noch")
    told = []
    for words in ("First", "Second"):
        before = len(anna.screen)
        await ben.says("/ideas 1")
        await ben.presses("Comment")
        await ben.says(words)
        told.append(len(anna.screen) - before)
        await anna.says("/start")
    assert told == [0, 1]


async def test_stop_still_answers_and_a_deep_link_does_not_undo_it(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/stop")
    await anna.says("/start idea-1")
    assert "There is no idea #1" in anna.sees
    stopped = await lab.read(lambda session: session.exec(select(Person.stopped_at)).one())
    assert stopped == lab.time.now()
    await anna.says("/start")
    assert await lab.read(lambda session: session.exec(select(Person.stopped_at)).one()) is None


async def test_stop_leaves_the_open_question(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea")
    await anna.says("/stop")
    await anna.says("Good morning")
    assert anna.sees == "What would you like to do?"


# -- what is stored about me --------------------------------------------------------------------------------


async def test_me_shows_what_is_stored(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/idee Eine Bank\nZum Ausruhen.")
    await anna.presses("Mit Namen")
    await anna.says("Anna")
    await anna.presses("Absenden")
    await anna.presses("Ansehen")
    await anna.presses("Unterstützen")
    await anna.says("/ich")
    pseudonym = await pseudonym_of(lab, anna)
    assert anna.sees.splitlines() == [
        f"Andere sehen dich als „{pseudonym}“.",
        "Name, mit dem du unterschreibst: Anna",
        "Rolle: Teilnahme",
        "Du hast nicht gesagt, für wen du sprichst.",
        "Ideen: 1. Unterstützt: 1. Kommentare: 0. Gefolgt: 1.",
        "Gestellte Umfragen: 0. Stimmen unter deinem Namen: 0.",
        "Konten: Memory.",
        "Dabei seit 02.11.2026.",
    ]
    await anna.presses("Meinen Namen vergessen")
    assert "Du hast mir keinen Namen genannt." in anna.sees
    assert "Meinen Namen vergessen" not in anna.choices
    await anna.says("#1")
    assert f"Von {pseudonym}" in anna.sees


async def test_a_pseudonym_can_be_chosen(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    await anna.says("/me")
    await anna.presses("Choose a pseudonym")
    await anna.says("  Blue \n Heron ")
    assert anna.sees == "Others see you as “Blue Heron” now."
    await ben.says("/ideas 1")
    assert "By Blue Heron" in ben.sees
    await anna.says("/me")
    await anna.presses("Choose a pseudonym")
    await anna.says("blue heron")  # one's own name may be written otherwise
    assert anna.sees == "Others see you as “blue heron” now."


@pytest.mark.parametrize(
    "look_alike",
    [
        "Grüner Turm",
        "GRÜNER TURM",
        "grüner   turm",
        "Gru\u0308ner Turm",
        "Ｇｒüner Turm",
        "Grü\u200bner\u2060 Turm",
        "Grü\u034fner Turm",
        "Grüner Turm.",
        "Grüner\u3164 Turm",
        "Grüner\u00a0Turm",
    ],
)
async def test_nobody_takes_somebody_elses_pseudonym_or_one_that_looks_like_it(lab: Community, look_alike: str) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    for who, name in ((anna, "Grüner Turm"), (ben, look_alike)):
        await who.says("/me")
        await who.presses("Choose a pseudonym")
        await who.says(name)
    assert ben.sees == "Somebody else has that one already. Which other one?"
    await ben.says("Roter Turm")
    assert await pseudonym_of(lab, ben) == "Roter Turm"
    assert await pseudonym_of(lab, anna) == "Grüner Turm"


@pytest.mark.parametrize("unfit", ["", "12345", "x" * 41, "\u200b\u2060", "🙂", "\u3164"])
async def test_a_pseudonym_needs_letters_that_one_can_see(lab: Community, unfit: str) -> None:
    anna = lab.person("anna")
    await anna.says("/me")
    before = await pseudonym_of(lab, anna)
    await anna.presses("Choose a pseudonym")
    await anna.says(unfit)
    assert anna.sees == "Please use 1 to 40 characters, with letters."
    await anna.presses("Cancel")
    assert await pseudonym_of(lab, anna) == before


@pytest.mark.parametrize("name", ["KoSI-Lab", "KOSI-LAB", "das Lab", "the lab", "the lab's team"])
async def test_nobody_calls_themselves_the_lab(lab: Community, name: str) -> None:
    anna = lab.person("anna")
    await anna.says("/me")
    await anna.presses("Choose a pseudonym")
    await anna.says(name)
    assert anna.sees == "Somebody else has that one already. Which other one?"


async def test_another_pseudonym_is_invented(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/me")
    before = await pseudonym_of(lab, anna)
    await anna.presses("Another invented one")
    after = await pseudonym_of(lab, anna)
    assert after != before
    assert f"Others see you as “{after}”." in anna.sees


async def test_one_says_whom_one_speaks_for_and_need_not(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/ich")
    await anna.presses("Sagen, für wen")
    await anna.says("Wissenschaft")
    assert "Du sprichst für: Wissenschaft" in anna.sees
    await anna.presses("Sagen, für wen")
    await anna.presses("Das möchte ich nicht sagen")
    assert "Du hast nicht gesagt, für wen du sprichst." in anna.sees


def test_everybody_has_a_pseudonym_of_their_own(database: str) -> None:
    engine = open_engine(database)
    with engine.begin() as connection:
        for number in range(300):
            people.arrive(connection, "memory", f"{number}", datetime(2026, 11, 2, tzinfo=UTC))
        names = list(connection.execute(select(Person.pseudonym)).scalars())
    engine.dispose()
    assert len({people.handle_of(name) for name in names}) == 300
    assert all(people.proper_name(name) == name for name in names)


# -- taking everything along, and leaving -------------------------------------------------------------------


async def lives(lab: Community, who: Resident) -> None:
    """Leave a row in every table a person can have rows in."""
    ben = lab.person("ben")
    await ben.says("/idea A pond\nFor the ducks.")
    await ben.presses("Send")
    await who.says("/idea A secret garden\nBehind the mill.")
    await who.presses("Sign with a name")
    await who.says("Anna Muster")
    await who.presses("Send")
    for number in ("1", "2"):
        await who.says(f"/ideas {number}")
        assert who.choices[0] == "Support"
        who.messenger.react(who.name, who.chat, who.screen[-1].id, 0)
        await lab.settled()
        await who.presses("Comment")
        await who.says("Between you and me")
    await who.says("/ideas 1")
    await who.presses("Follow")
    await who.says("/claim wrong")
    await who.says("/link")
    group = await group_of(lab, who.name, "ben")
    await who.within(group).says("/idea Half a thought")
    lab.messenger.say(who.name, who.chat, "/ideas 99999999999999999999")
    await lab.read(
        lambda session: session.execute(
            text(
                "INSERT INTO failed (adapter, key, person_id, raw, error, at) "
                "SELECT 'memory', 'x', person_id, 'Anna Muster', 'ValueError', created_at FROM account "
                "WHERE external = 'anna'"
            )
        )
    )
    person, chat = await ids_of(lab, who)
    await lab.read(lambda session: hear_and_announce(session, person, chat))
    await lab.settled()
    await lab.read(lambda session: takes_part_in_polls(session, who.name))
    person, chat = await ids_of(lab, who)
    await lab.read(lambda session: meets(session, person, lab.time.now()))
    await who.says("/idea Another thought")


def takes_part_in_polls(session: Session, name: str) -> None:
    """Ask, vote and propose an option; the poll stands in the private chat."""
    account = session.exec(select(Account).where(Account.external == name)).one()
    chat = session.exec(select(Chat.id).where(Chat.account_id == account.id)).one()
    assert chat is not None
    connection, person, now = session.connection(), account.person_id, account.created_at
    for secrecy in Secrecy:
        draft = Draft("Which evening?", ("Tue", "Wed"), secrecy=secrecy, proposals=True)
        number = polls.ask(connection, draft, person, now, ZoneInfo("UTC"))
        polls.place(connection, number, chat)
        voting.vote(connection, number, person, (1,), now)
        if secrecy is Secrecy.OPEN:
            mirroring.begin(connection, number)
            mirroring.answer(connection, number, person, (0,), now, mirroring.Source(chat, "$answer"))
        polls.propose(session, number, person, "Thu", now)


def hear_and_announce(session: Session, person: int, chat: int) -> None:
    """An announcement of theirs that has come back to them, a question about it, and what they want to hear."""
    now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    one = writing.draft(session, author_id=person, chat_id=chat, locale="en", now=now)
    session.add(
        Delivery(announcement_id=one.number, chat_id=chat, person_id=person, adapter="memory", state="delivered")
    )
    asking.ask(session, one.number, person, "Where?", now)
    subscribing.subscribe(session, person, "mobility", subscribing.Often.NOW)
    subscribing.be_quiet(session, person, (21, 8))
    rooms.hear(session.connection(), chat, "mobility", True)


def meets(session: Session, person: int, now: datetime) -> None:
    """Somebody has announced an event and comes to it."""
    plan = planning.Plan("A walk", datetime(2026, 12, 5, 18), 60, "other", "en", "Europe/Berlin")  # noqa: DTZ001
    [event] = planning.create(session, plan, person, now)
    planning.publish(session, [event], now)
    answered = places.answer(session, event.number, person, State.YES, now)
    reminding.plan(session, event, answered.rsvp, now)
    planning.attendee(session, person)


def referring(rows: dict[str, list[dict[str, Any]]], person: int, chat: int) -> list[tuple[str, str]]:
    """Every table and column that refers to a person or their private chat."""
    found = []
    for name, table in SQLModel.metadata.tables.items():
        for key in table.foreign_keys:
            target = {"person": person, "chat": chat}.get(key.column.table.name)
            if target is not None and any(row[key.parent.name] == target for row in rows[name]):
                found.append((name, key.parent.name))
    return found


async def ids_of(lab: Community, who: Resident) -> tuple[int, int]:
    """The ids of a person and of their private chat."""
    rows = await lab.read(everything)
    [account] = [row for row in rows["account"] if row["external"] == who.name]
    [chat] = [row for row in rows["chat"] if row["account_id"] == account["id"]]
    return account["person_id"], chat["id"]


async def test_the_export_is_a_file_with_all_rows(lab: Community) -> None:
    anna = lab.person("anna")
    await lives(lab, anna)
    await anna.says("/me")
    await anna.presses("Export as a file")
    person, chat = await ids_of(lab, anna)
    file = anna.screen[-1].file
    assert file is not None
    name, content = file
    assert name == "labbot.json"
    exported = json.loads(content)
    rows = await lab.read(everything)
    for table in EXPORTED:
        ours = [
            row
            for row in rows[table]
            if (table == "person" and row["id"] == person)
            or (table == "chat" and row["id"] == chat)
            or person in (row.get("person_id"), row.get("author_id"))
            or row.get("chat_id") == chat
        ]
        assert ours
        assert len(exported[table]) == len(ours), table
    assert exported["person"][0]["name"] == "Anna Muster"
    assert exported["comment"][0]["text"] == "Between you and me"
    assert "ducks" not in content.decode()


def refers_to_people(table: str) -> bool:
    """Whether a table refers to people, directly or by their chats or accounts."""
    keys = SQLModel.metadata.tables[table].foreign_keys
    return table == "person" or any(key.column.table.name in ("person", "account", "chat") for key in keys)


def test_no_table_is_forgotten_by_erasure_or_by_the_export() -> None:
    assert set(erasure.RULES) == set(SQLModel.metadata.tables)
    for table, rule in erasure.RULES.items():
        assert refers_to_people(table) == (not isinstance(rule, str)), table
        assert refers_to_people(table) == (table in EXPORTED), table


@pytest.mark.parametrize("keep", [True, False])
async def test_nothing_refers_to_who_has_erased_themselves(lab: Community, keep: bool) -> None:
    anna = lab.person("anna")
    await lives(lab, anna)
    person, chat = await ids_of(lab, anna)
    before = referring(await lab.read(everything), person, chat)
    assert {table for table, _ in before} >= {
        "account", "idea", "support", "follow", "comment", "dialog", "failed", "outbox", "attempt", "link", "reaction",
        "poll", "poll_place", "ballot", "elector", "proposal",
    }  # fmt: skip
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They stay" if keep else "They go, too")
    assert anna.sees == "Everything about you is erased. Thank you for having been here. /start begins anew."
    rows = await lab.read(everything)
    assert referring(rows, person, chat) == [("outbox", "chat_id")]  # the goodbye
    await lab.tick("close_left_chats")
    rows = await lab.read(everything)
    assert referring(rows, person, chat) == []
    assert "Anna Muster" not in str(rows)
    assert "p-anna" not in str(rows)
    assert [row["external"] for row in rows["account"]] == ["ben"]
    assert ("secret garden" in str(rows["idea"])) == keep
    assert [row["author_id"] is None for row in rows["idea"] if row["id"] == 2] == ([True] if keep else [])
    assert str(rows["comment"]).count("Between you and me") == (2 if keep else 0)


async def test_the_chat_goes_only_after_the_goodbye(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/me")
    await anna.presses("Erase everything")
    lab.messenger.gate.clear()
    lab.messenger.press("anna", anna.chat, anna.screen[-1].id, 0, anna.screen[-1].revision)
    await lab.messenger.caught_up()
    await lab.tick("close_left_chats")
    assert len((await lab.read(everything))["chat"]) == 1
    lab.messenger.gate.set()
    await lab.settled()
    assert "erased" in anna.sees
    await lab.tick("close_left_chats")
    rows = await lab.read(everything)
    assert (rows["chat"], rows["outbox"], rows["person"]) == ([], [], [])


async def test_who_would_rather_stay_stays(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("I would rather stay")
    assert "Others see you as" in anna.sees
    assert len((await lab.read(everything))["person"]) == 1


@pytest.mark.parametrize("ticked", [True, False])
async def test_who_has_left_can_begin_anew_as_somebody_new(lab: Community, ticked: bool) -> None:
    anna = await lab.organiser("anna")
    old, _ = await ids_of(lab, anna)
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They stay")
    if ticked:
        await lab.tick("close_left_chats")
    await anna.says("/start")
    assert "Privacy: " in anna.sees
    new, _ = await ids_of(lab, anna)
    assert new != old
    assert await role_of(lab, anna) == "participant"
    await lab.tick("close_left_chats")
    await anna.says("/help")
    assert anna.sees.startswith("Write your idea to me")


@pytest.mark.parametrize("ticked", [True, False])
async def test_an_old_button_does_not_bring_back_who_has_left(lab: Community, ticked: bool) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    menu = anna.screen[-1]
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They go, too")
    if ticked:
        await lab.tick("close_left_chats")
    assert await anna.presses("See ideas", menu) == "This button is out of date. Write /help for the menu."
    assert (await lab.read(everything))["person"] == []


@pytest.mark.parametrize("what", ["They stay", "They go, too"])
async def test_the_teams_cards_forget_an_author_who_leaves(lab: Community, what: str) -> None:
    olga = await lab.organiser("olga")
    group = lab.group("team", "olga")
    await lab.settled()
    await olga.within(group).says("/language en")
    await olga.within(group).says("/team")
    anna = lab.person("anna")
    await anna.says("/idea A secret garden\nBehind the mill.")
    await anna.presses("Send")
    card = olga.within(group).screen[-1]
    assert f"By {await pseudonym_of(lab, anna)}" in card.html
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses(what)
    if what == "They stay":
        assert "By someone" in card.html
    else:
        assert (card.html, card.buttons) == ("#1 is withdrawn.", ())


# -- export -------------------------------------------------------------------------------------------------


async def test_the_export_of_people_has_one_line_each(lab: Community) -> None:
    anna, olga = lab.person("anna", "de"), await lab.organiser("olga")
    await anna.says("/sprache deutsch")
    lines = await lab.read(lambda session: [line._asdict() for line in people.export(session, page=1)])
    assert [list(line) for line in lines] == [["id", "pseudonym", "roles", "locale", "accounts", "created_at"]] * 2
    assert lines == [
        {
            "id": number,
            "pseudonym": await pseudonym_of(lab, who),
            "roles": [role],
            "locale": locale,
            "accounts": ["memory"],
            "created_at": lab.time.now(),
        }
        for number, who, role, locale in ((1, olga, "organiser", None), (2, anna, "participant", "de"))
    ]


async def test_the_title_of_an_erased_idea_is_on_no_stored_button(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea Zeppelinhafen\nFor everybody.")
    await anna.presses("Send")
    await ben.says("/ideas")
    assert "Zeppelinhafen" in ben.choices[0]
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They go, too")
    kept = await lab.read(lambda session: session.exec(select(Outbox.choices)).all())
    assert not [choices for choices in kept if choices and "Zeppelinhafen" in choices]
