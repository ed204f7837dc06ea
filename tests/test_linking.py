"""Linking: two accounts become one person, both say yes, and part again."""

import asyncio
import re
import threading
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, func, text
from sqlmodel import Session, SQLModel, col, select, update

from bot.adapters.memory import UNLIMITED, Memory
from bot.config import Settings
from storage import erasure, ideas, linking, people
from storage.announcements.ledger import Delivery
from storage.chats import Chat
from storage.conversation import Dialog
from storage.engine import Storage, session_in
from storage.ideas import Idea
from storage.linking import Link, Over, WrongCode
from storage.people import Account, Attempt, Person, Role
from storage.polls.tables import Poll
from tests.conftest import SETTLES, Community, ManualTime, Resident
from tests.test_announcements import rests, sent

NOW = ManualTime().now()
OVER = "This request is over. Nothing was linked by it. /link begins anew."
WRONG = "This code does not work: it is wrong, used, or older than 10 minutes. /link makes a new one."
SURE = "Yes, it is mine and gets my rights"
YES, NO = "Yes, both accounts are mine", "No, leave it as it is"


async def code_of(who: Resident) -> str:
    """A new code, as its owner reads it."""
    await who.says("/link")
    [code] = re.findall(r"<code>(\S+)</code>", who.sees)
    return str(code)


async def asked(first: Resident, second: Resident) -> None:
    """Both read the question."""
    await second.says(f"/link {await code_of(first)}")


async def linked(first: Resident, second: Resident) -> None:
    """Both have said yes."""
    await asked(first, second)
    for who in (second, first):
        await who.presses(YES)
        if SURE in who.choices:
            await who.presses(SURE)


async def person_of(lab: Community, who: Resident) -> Person:
    """The person behind an account."""
    query = select(Person).join(Account).where(Account.adapter == who.chat.adapter, Account.external == who.name)
    found: Person = await lab.read(lambda session: session.exec(query).one())
    return found


async def everybody(lab: Community) -> list[tuple[str, list[str]]]:
    """Each person's pseudonym and accounts."""
    found: list[tuple[str, list[str]]] = await lab.read(
        lambda session: [(line.pseudonym, list(line.accounts)) for line in people.export(session)]
    )
    return found


async def suggests(who: Resident, title: str, name: str | None = None) -> None:
    await who.says(f"/idea {title}\nBecause.")
    if name is not None:
        await who.presses("Sign with a name")
        await who.says(name)
    await who.presses("Send")


async def supports(who: Resident, number: int) -> None:
    await who.says(f"/ideas {number}")
    await who.presses("Support")


async def counts_are_true(lab: Community) -> None:
    def check(session: Session) -> None:
        stored = {idea.id: (idea.supports, idea.comments) for idea in session.exec(select(Idea)).all()}
        assert stored == ideas.recount(session)

    await lab.read(check)


@pytest.fixture
def anna(networks: Community) -> Resident:
    """Anna on the first messenger."""
    return networks.person("anna", on="memory")


@pytest.fixture
def anni(networks: Community) -> Resident:
    """Anna again, on the second messenger, under another id."""
    return networks.person("anni", on="other")


# -- becoming one -------------------------------------------------------------------------------------------


async def test_two_accounts_become_one_person_after_both_have_said_yes(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await anna.says("/start")
    await anni.says("/start")
    old = (await person_of(networks, anna)).pseudonym
    new = (await person_of(networks, anni)).pseudonym
    await asked(anna, anni)
    for who, here, there in ((anni, new, old), (anna, old, new)):
        assert "Shall these two accounts become one person?" in who.sees
        messengers = ("Other", "Memory") if who is anni else ("Memory", "Other")
        assert f"This account: “{here}”, {messengers[0]}, participant." in who.sees
        assert f"The other account: “{there}”, {messengers[1]}, participant." in who.sees
        assert f"All of it will stand under “{old}”" in who.sees
        assert "Careful" not in who.sees
        assert who.choices == [NO, YES]
    await anni.presses(YES)
    assert anni.sees == "Noted. Now say yes on the other account, too (Memory), within 10 minutes."
    assert len(await everybody(networks)) == 2
    await anna.presses(YES)
    assert anna.sees.startswith(f"Done: your accounts are one person, “{old}”.")
    assert anni.sees.startswith(f"Done: your accounts are one person, “{old}”.")
    assert await everybody(networks) == [(old, ["memory", "other"])]
    await anni.says("/me")
    assert f"Others see you as “{old}”." in anni.sees
    assert "Accounts: Memory, Other." in anni.sees


async def test_what_both_have_done_comes_together_and_counts_once(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    ben = networks.person("ben")
    for title in ("A bench", "A pond", "A tree"):
        await suggests(ben, title)
    await suggests(anni, "A roof")
    await suggests(anna, "A lamp")
    for who, numbers in ((anna, (1, 2)), (anni, (2, 3))):
        for number in numbers:
            await supports(who, number)
            await who.presses("Follow")
    await anni.says("/ideas 1")
    await anni.presses("Comment")
    await anni.says("With a roof.")
    await linked(anna, anni)
    for who in (anna, anni):
        assert "Ideas: 2. Supported: 3. Comments: 1. Followed: 5." in who.sees
        assert "2 things that both had done count once now." in who.sees
    await counts_are_true(networks)
    kept = await networks.read(lambda db: db.exec(select(Idea.supports).order_by(col(Idea.id))).all())
    assert kept == [1, 1, 1, 0, 0]
    await anna.says("/ideas 2")
    assert await anna.presses("Take my support back") == "Your support for #2 is taken back."
    assert "Nobody supports it yet." in anna.sees
    await anni.says("/ideas 5")
    assert "Withdraw" in anni.choices  # made on the first messenger, withdrawn on the second
    await counts_are_true(networks)


async def test_what_becomes_of_votes_is_told(networks: Community, anna: Resident, anni: Resident) -> None:
    street = anna.within(networks.group("street", "anna", "ben"))
    ben = networks.person("ben")
    await networks.settled()
    for words in ("/umfrage Welcher Abend? | Di | Mi", "/umfrage Welche Farbe? | Rot | Blau", "/umfrage Noch etwas?"):
        await ben.within(street.chat).says(words)
    found = await networks.read(lambda db: db.exec(select(Poll)).all())
    links = {poll.id: f"/start poll_{poll.id}_{poll.link}" for poll in found}
    for number, who, choice in ((1, anna, "1"), (1, anni, "2"), (2, anni, "1"), (3, anna, "1"), (3, anni, "1")):
        await who.says(links[number])
        await who.says(f"/vote {number} {choice}")
    await ben.within(street.chat).says("/close 3")  # its result stands, with both
    await asked(anna, anni)
    assert "Polls asked: 0. Votes that bear your name: 3." in anni.sees
    assert "Polls asked: 0. Votes that bear your name: 2." in anna.sees
    for who in (anni, anna):
        await who.presses(YES)
    for who in (anna, anni):
        assert "Polls asked: 0. Votes that bear your name: 3." in who.sees
        assert "In 1 poll both had voted: the latest vote counts." in who.sees
        assert "that both had done" not in who.sees


async def test_two_accounts_on_one_messenger_can_be_one_person_as_well(networks: Community, anna: Resident) -> None:
    work = networks.person("anna-at-work")
    await linked(anna, work)
    assert [accounts for _, accounts in await everybody(networks)] == [["memory", "memory"]]


async def test_polls_show_at_once_what_somebody_is_called_who_is_linked_renamed_or_gone(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await anna.says("/me")  # she is the older one
    older = (await person_of(networks, anna)).pseudonym
    here = anni.within(networks.group("street", "anni", on="other"))
    await networks.settled()
    await networks.read(lambda session: session.connection().exec_driver_sql("UPDATE chat SET locale = 'en'"))
    await here.says("/poll Which evening? | Tue | Wed")
    await here.presses("Wed")
    await networks.later(3)
    card = here.screen[-1]
    assert f"Voted: {(await person_of(networks, anni)).pseudonym} (2)" in card.html
    alarm: list[datetime] = []
    networks.app.dispatch.rearm = alarm.append  # what has to be looked at at once is told to the clock

    async def shown_at_once() -> str:
        assert networks.time.now() in alarm
        alarm.clear()
        await networks.later(0)
        return card.html

    await linked(anna, anni)
    assert f"Voted: {older} (2)" in await shown_at_once()
    await anna.says("/me")
    await anna.presses("Choose a pseudonym")
    await anna.says("Nina")
    assert "Voted: Nina (2)" in await shown_at_once()
    await anna.says("/me")
    await anna.presses("Another invented one")
    assert "Voted: Nina" not in await shown_at_once()
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They go, too")
    assert "Nobody has voted yet." in await shown_at_once()


async def test_a_chain_of_links_is_one_person(networks: Community, anna: Resident, anni: Resident) -> None:
    third = networks.person("anna3", on="other")
    for who in (anna, anni, third):
        await who.says("/start")
    old = (await person_of(networks, anna)).pseudonym
    await linked(third, anni)
    await linked(third, anna)  # the older one joins last, and stays
    assert await everybody(networks) == [(old, ["memory", "other", "other"])]
    assert "Accounts: Memory, Other, Other." not in third.sees
    await third.says("/me")
    assert "Accounts: Memory, Other, Other." in third.sees


async def test_the_link_holds_after_a_restart_in_the_middle(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await asked(anna, anni)
    await networks.restart()
    await anna.presses(YES)
    await networks.restart()
    await anni.presses(YES)
    assert len(await everybody(networks)) == 1


async def test_the_code_can_be_typed_when_asked_with_capitals_and_look_alikes(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    code = (await code_of(anna)).upper().replace("1", "l").replace("0", "O").replace("-", " - ")
    await anni.says("/me")
    await anni.presses("Link another account")
    await anni.presses("I have a code already")
    await anni.says("no idea")
    assert anni.sees == WRONG
    await anni.says(code)
    assert anni.choices == [NO, YES]
    await anni.says("2")
    await anna.says("2")
    assert len(await everybody(networks)) == 1


async def test_each_chat_keeps_its_language(networks: Community, anni: Resident) -> None:
    anna = networks.person("anna", "de")
    await anna.says("/verbinden")
    [code] = re.findall(r"/verbinden (\S+)$", anna.sees.split("\n")[0])
    await anni.says(f"/link {code}")
    await anna.says("Ja, beide Konten gehören mir")
    assert anna.sees == "Notiert. Sag jetzt auch mit dem anderen Konto Ja (Other), innerhalb von 10 Minuten."
    await anni.presses(YES)
    assert anna.sees.startswith("Geschafft: Deine Konten sind ein Mensch")
    assert anni.sees.startswith("Done: your accounts are one person")


async def test_in_a_group_it_leads_to_the_private_chat(networks: Community, anna: Resident) -> None:
    group = networks.group("neighbours", "anna")
    await networks.settled()
    await anna.within(group).says("/link")
    [button] = anna.within(group).screen[-1].buttons
    await anna.says(f"/start {button.start}")
    assert "Your code: " in anna.sees


async def test_a_messenger_without_buttons_asks_by_numbers_and_says_how_a_command_begins(settings: Settings) -> None:
    time = ManualTime()
    plain = replace(UNLIMITED, choices=0, sign="!", begins=True)
    lab = Community(settings, [Memory(now=time.now), Memory("other", plain, time.now)], time)
    await lab.begin()
    anna, anni = lab.person("anna"), lab.person("anni", on="other")
    group = lab.group("neighbours", "anni", on="other")
    await lab.settled()
    await anni.says("/start")
    await anni.within(group).says("/link")  # the code comes in the private chat
    assert all("<code>" not in seen.html for seen in anni.within(group).screen)
    [code] = re.findall(r"<code>(\S+)</code>", anni.sees)
    assert f"write: !link {code}" in anni.sees
    assert "A command begins so: Memory /, Other !" in anni.sees
    await anna.says(f"/link {code}")
    assert anni.sees.endswith(f"1. {NO}\n2. {YES}")
    await anna.presses(YES)
    await anni.says("2")
    assert anni.screen[-1].html.startswith("Done: your accounts are one person")
    assert len(await everybody(lab)) == 1
    await lab.end()


async def test_a_reaction_can_be_taken_back_after_linking(networks: Community, anna: Resident, anni: Resident) -> None:
    await suggests(anna, "A bench")
    await asked(anna, anni)
    questions = [who.screen[-1] for who in (anna, anni)]
    await anni.says("/ideas 1")
    card = anni.screen[-1]
    mark = anni.messenger.react("anni", anni.chat, card.id, 0)
    await networks.settled()
    for who, question in zip((anna, anni), questions, strict=True):
        await who.presses(YES, question)
    assert await networks.read(lambda db: db.get_one(Idea, 1).supports) == 1
    anni.messenger.retract_own("anni", anni.chat, mark)
    await networks.settled()
    assert await networks.read(lambda db: db.get_one(Idea, 1).supports) == 0


# -- who one is afterwards ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer", "signed"),
    [
        ("Anna Muster", "Anna", ["Anna Muster", "pseudonym"]),
        ("Anna", "Anna", ["Anna", "Anna"]),
        (None, "Anna", ["pseudonym", "Anna"]),
        ("Anna", None, ["Anna", "pseudonym"]),
    ],
)
async def test_a_name_never_comes_to_stand_under_an_idea_it_did_not_stand_under(
    networks: Community, anna: Resident, anni: Resident, older: str | None, newer: str | None, signed: list[str]
) -> None:
    for who, title, name in ((anna, "A bench", older), (anni, "A pond", newer)):
        await suggests(who, title, name or "Nobody Else")
        if name is None:
            await who.says("/me")
            await who.presses("Forget my name")
    pseudonym = (await person_of(networks, anna)).pseudonym
    await linked(anna, anni)
    cards = await networks.read(lambda db: [ideas.card(db, number, None).author for number in (1, 2)])
    assert cards == [pseudonym if name == "pseudonym" else name for name in signed]


async def test_the_cards_in_the_teams_room_show_who_the_author_is_now(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    olga = await networks.organiser("olga")
    group = networks.group("team", "olga")
    await networks.settled()
    await olga.within(group).says("/language en")
    await olga.within(group).says("/team")
    await anna.says("/start")
    await suggests(anni, "A pond")
    card = olga.within(group).screen[-1]
    await linked(anna, anni)
    assert f"By {(await person_of(networks, anna)).pseudonym}" in card.html
    assert olga.within(group).screen[-1] is card  # nobody has got a role: the team is told nothing


@pytest.mark.parametrize("which", [0, 1])
async def test_who_has_asked_for_silence_anywhere_has_it_and_is_told(
    networks: Community, anna: Resident, anni: Resident, which: int
) -> None:
    await anna.says("/start")
    await anni.says("/start")
    await (anna, anni)[which].says("/stop")
    await linked(anna, anni)
    assert "I do not write to you on my own, since you have said /stop." in anna.sees
    assert (await person_of(networks, anna)).stopped_at is not None
    await anna.says("/start")
    assert (await person_of(networks, anni)).stopped_at is None


async def test_an_older_notice_is_shown_again(networks: Community, anna: Resident, anni: Resident) -> None:
    await anna.says("/start")
    await asked(anna, anni)
    before = update(Person).where(col(Person.id) == (await person_of(networks, anni)).id).values(notice=0)
    await anni.presses(YES)
    await networks.read(lambda db: db.execute(before))
    await anna.presses(YES)
    await anna.says("/ideas")
    assert any(seen.html.startswith("Privacy: ") for seen in anna.screen[-2:])


async def test_news_come_to_the_messenger_that_was_used_last(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await suggests(anna, "A bench")
    await linked(anna, anni)
    ben = networks.person("ben")
    for last, other in ((anna, anni), (anni, anna), (anna, anni)):
        await last.says("/help")
        before = len(other.screen)
        await ben.says("/ideas 1")
        await ben.presses("Comment")
        await ben.says("With a roof.")
        assert "With a roof." in last.sees
        assert len(other.screen) == before
    networks.messengers["memory"].block("anna")
    await networks.settled()
    await ben.says("/ideas 1")
    await ben.presses("Comment")
    await ben.says("And a lamp.")
    assert "And a lamp." in anni.sees  # where they can still be reached


async def test_an_open_question_stays_open(networks: Community, anna: Resident, anni: Resident) -> None:
    await asked(anna, anni)
    question = anni.screen[-1]
    await anni.says("/idea")
    await anna.presses(YES)
    await anni.presses(YES, question)
    await anni.says("A bench\nOne can rest there.")
    await anni.presses("Send")
    [idea] = await networks.read(lambda db: db.exec(select(Idea)).all())
    assert idea.author_id == (await person_of(networks, anna)).id


async def test_a_question_that_both_were_asked_in_one_group_is_asked_once(networks: Community, anna: Resident) -> None:
    work = networks.person("anna2")
    group = networks.group("neighbours", "anna", "anna2")
    await networks.settled()
    for who in (anna, work):
        await who.within(group).says("/idea Half a thought")
    await linked(anna, work)
    open_ = await networks.read(lambda db: db.exec(select(Dialog)).all())
    assert [dialog.person_id for dialog in open_] == [(await person_of(networks, anna)).id]


# -- roles --------------------------------------------------------------------------------------------------


async def test_an_organiser_reads_that_the_other_account_gets_their_rights(networks: Community, anni: Resident) -> None:
    olga = await networks.organiser("olga")
    group = networks.group("team", "olga")
    await networks.settled()
    await olga.within(group).says("/language en")
    await olga.within(group).says("/team")
    await asked(anni, olga)  # somebody made them type a code
    lines = olga.sees.split("\n\n")
    assert lines[1] == (
        "<b>Careful: whoever uses the other account gets your rights.</b> They will be organiser, as you are, and act "
        "in the name of the lab."
    )
    assert "Did somebody else send you this code, or ask you for yours? Then say no:" in lines[2]
    assert olga.choices[0] == NO
    assert "Together you are organiser, as the other account is now." in anni.sees
    await anni.presses(YES)
    assert (await person_of(networks, anni)).role == Role.PARTICIPANT
    await olga.presses(YES)
    other = (await person_of(networks, anni)).pseudonym
    assert olga.sees == (
        f"<b>“{other}” (Other) will be organiser.</b> Do you have that account before you, on a device of your own?"
    )
    assert olga.choices == [NO, SURE]
    assert (await person_of(networks, anni)).role == Role.PARTICIPANT
    await olga.presses(SURE)
    assert (await person_of(networks, anni)).role == Role.ORGANISER
    assert "Role: organiser" in anni.sees
    pseudonym = (await person_of(networks, olga)).pseudonym
    assert olga.within(group).sees == (
        f"“{pseudonym}” has linked another account (Other), which is organiser now, too. Does that surprise you? "
        "Then ask them."
    )


async def test_a_role_that_comes_between_two_times_yes_is_not_given_away(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await asked(anna, anni)
    question = anni.screen[-1]
    await anni.presses(YES)
    code = await networks.read(lambda session: people.invite(session, Role.LEAD, networks.time.now()))
    await anni.says(f"/claim {code}")
    assert await anna.presses(YES) == "Something has changed meanwhile. Please read it once more."
    assert "The other account: " in anna.sees and "lab lead." in anna.sees
    await anna.presses(YES)
    assert len(await everybody(networks)) == 2  # what was agreed to was something else
    note = await anni.presses_at(question, 0)  # an old button: their yes can be taken back
    assert note is not None
    assert len(await everybody(networks)) == 2


async def test_a_pseudonym_that_changes_after_the_question_is_asked_about_again(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await asked(anna, anni)
    question = anna.screen[-1]
    await anna.says("/me")
    await anna.presses("Choose a pseudonym")
    await anna.says("Blue Heron")
    assert await anni.presses(YES) == "Something has changed meanwhile. Please read it once more."
    assert "“Blue Heron”" in anni.sees
    await anni.presses(YES)
    assert await anna.presses(YES, question) == "Something has changed meanwhile. Please read it once more."
    await anna.presses(YES, question)
    assert await everybody(networks) == [("Blue Heron", ["memory", "other"])]


# -- codes --------------------------------------------------------------------------------------------------


async def test_a_code_is_stored_as_a_digest_only(networks: Community, anna: Resident) -> None:
    code = await code_of(anna)
    dump = str(
        await networks.read(
            lambda db: [list(db.execute(table.select()).all()) for table in SQLModel.metadata.tables.values()]
        )
    )
    assert code not in dump and code.replace("-", "") not in dump


async def test_a_code_works_once_and_for_ten_minutes(networks: Community, anna: Resident, anni: Resident) -> None:
    eve = networks.person("eve")
    code = await code_of(anna)
    networks.time.pass_by(10 * 60)
    await anni.says(f"/link {code}")
    assert anni.sees == WRONG
    code = await code_of(anna)
    networks.time.pass_by(10 * 60 - 1)
    await anni.says(f"/link {code}")
    assert anni.choices == [NO, YES]
    await eve.says(f"/link {code}")
    assert eve.sees == WRONG
    networks.time.pass_by(10 * 60 - 1)
    await anni.presses(YES)
    networks.time.pass_by(1)
    await anna.presses(YES)
    assert anna.sees == OVER
    assert len(await everybody(networks)) == 3
    await networks.tick("prune")
    assert await networks.read(lambda db: db.exec(select(Link)).all()) == []


async def test_a_new_code_ends_the_one_before(networks: Community, anna: Resident, anni: Resident) -> None:
    old = await code_of(anna)
    await code_of(anna)
    await anni.says(f"/link {old}")
    assert anni.sees == WRONG


async def test_a_code_can_be_taken_back(networks: Community, anna: Resident, anni: Resident) -> None:
    code = await code_of(anna)
    await anna.presses("Take the code back")
    await anni.says(f"/link {code}")
    assert anni.sees == WRONG


async def test_ones_own_code_stays_good(networks: Community, anna: Resident, anni: Resident) -> None:
    code = await code_of(anna)
    await anna.says(f"/link {code}")
    assert anna.sees == "This code was made for this person: you. Write it to me from another account of yours."
    await anni.says(f"/link {code}")
    await anni.presses(YES)
    await anna.presses(YES)
    code = await code_of(anna)
    await anni.says(f"/link {code}")  # they are one person already
    assert anni.sees == "This code was made for this person: you. Write it to me from another account of yours."


async def test_after_five_wrong_codes_one_has_to_wait_and_reads_how_long(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    for number in range(20):
        await anni.says(f"/link wrong-{number}")
        if number < 5:
            assert anni.sees == WRONG
            networks.time.pass_by(60)
        else:
            assert anni.sees == "These were too many wrong codes. In 55 minutes you can try again."
    assert await networks.read(lambda db: db.exec(select(func.count()).select_from(Attempt)).one()) == 5
    await anni.says(f"/link {await code_of(anna)}")  # a right one neither
    assert "too many wrong codes" in anni.sees
    code = await networks.read(lambda session: people.invite(session, Role.LEAD, networks.time.now()))
    await anni.says(f"/claim {code}")
    assert (await person_of(networks, anni)).role == Role.PARTICIPANT
    networks.time.pass_by(55 * 60)
    await anni.says(f"/link {await code_of(anna)}")
    assert anni.choices == [NO, YES]


async def test_neither_linking_nor_parting_gives_more_tries(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    for number in range(3):
        await anni.says(f"/link wrong-{number}")
    await linked(anna, anni)
    for number in range(2):
        await anna.says(f"/link wrong-{number}")
    await anna.says("/link x")
    assert "too many wrong codes" in anna.sees
    await anni.says("/me")
    await anni.presses("Unlink an account")
    await anni.presses("Other")
    await anni.presses("Part them")
    for who in (anna, anni):
        await who.says("/link x")
        assert "too many wrong codes" in who.sees


@pytest.mark.parametrize("code", ["", "-", "x" * 4000, "'; DROP TABLE link; --", "\u0000", "１２３４５", "🙂"])
async def test_a_strange_code_is_a_wrong_one(networks: Community, anna: Resident, code: str) -> None:
    await anna.says(f"/link -{code}")
    assert anna.sees == WRONG


def test_codes_have_fifty_bits_and_no_signs_that_look_alike() -> None:
    assert len(set(linking._SIGNS)) ** (2 * linking._HALF) == 2**50
    assert not set("ilou") & set(linking._SIGNS)


# -- no, and over -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
async def test_one_no_is_enough(networks: Community, anna: Resident, anni: Resident, which: int) -> None:
    await asked(anna, anni)
    says_no, other = (anna, anni)[which], (anna, anni)[1 - which]
    question = other.screen[-1]
    await other.presses(YES)
    await says_no.presses(NO)
    assert says_no.sees == "All right, nothing is linked. The code no longer works."
    assert other.sees == "The other account has said no: nothing is linked."
    assert (question.html, question.buttons) == (OVER, ())
    assert len(await everybody(networks)) == 2


async def test_a_yes_can_be_taken_back(networks: Community, anna: Resident, anni: Resident) -> None:
    await asked(anna, anni)
    await anna.presses(YES)
    await anna.presses("I take my yes back")
    await anni.says("/help")
    assert len(await everybody(networks)) == 2
    assert await networks.read(lambda db: db.exec(select(Link)).all()) == []


@pytest.mark.parametrize("which", [0, 1])
async def test_who_erases_themselves_meanwhile_is_not_linked(
    networks: Community, anna: Resident, anni: Resident, which: int
) -> None:
    await asked(anna, anni)
    leaves, stays = (anna, anni)[which], (anna, anni)[1 - which]
    question = stays.screen[-1]
    await leaves.presses(YES)
    await leaves.says("/me")
    await leaves.presses("Erase everything")
    await leaves.presses("They go, too")
    await stays.presses(YES, question)
    assert question.html == OVER
    assert [accounts for _, accounts in await everybody(networks)] == [[stays.chat.adapter]]


async def test_whoever_asks_a_third_person_ends_what_they_asked_before(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    third = networks.person("third")
    await asked(anna, anni)
    first = anna.screen[-1]
    await asked(third, anni)
    await anna.presses(YES, first)
    assert first.html == OVER
    await third.presses(YES)
    await anni.presses(YES)
    pseudonyms = dict(await everybody(networks))
    assert pseudonyms[(await person_of(networks, third)).pseudonym] == ["other", "memory"]


async def test_a_button_of_an_old_request_says_nothing_about_a_new_one(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    eve = networks.person("eve")
    await asked(anna, eve)
    old = anna.screen[-1]
    await asked(anna, anni)
    await anna.presses(YES, old)
    assert old.html == OVER
    await anni.presses(YES)
    assert len(await everybody(networks)) == 3


async def test_a_forged_press_is_out_of_date(networks: Community, anna: Resident, anni: Resident) -> None:
    eve = networks.person("eve")
    await eve.says("/start")
    await asked(anna, anni)
    question = anna.screen[-1]
    networks.messenger.press("eve", anna.chat, question.id, 1, question.revision)  # in somebody else's chat
    await networks.settled()
    await anni.presses(YES)
    assert len(await everybody(networks)) == 3


# -- parting ------------------------------------------------------------------------------------------------


async def test_an_account_that_leaves_is_a_person_of_its_own_and_what_was_done_stays(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await suggests(anni, "A pond")
    await supports(anni, 1)
    await linked(anna, anni)
    old = (await person_of(networks, anna)).pseudonym
    await anna.says("/me")
    await anna.presses("Unlink an account")
    assert [label.split(",")[0] for label in anna.choices] == ["Other", "Memory", "None"]
    assert anna.choices[1].endswith(": this one")
    await anna.presses("Other")
    assert f"stays with “{old}” on Memory. That cannot be undone." in anna.sees
    await anna.presses("Part them")
    new = (await person_of(networks, anni)).pseudonym
    assert new != old
    assert anna.sees == f"The account on Other goes its own way now. You are “{old}”, participant."
    assert anni.sees == (
        f"This account is a person of its own now: “{new}”, participant. What it had done before stays with “{old}”."
    )
    await anni.says("/me")
    assert "Ideas: 0. Supported: 0." in anni.sees
    assert "Unlink an account" not in anni.choices
    await anna.says("/me")
    assert "Ideas: 1. Supported: 1." in anna.sees
    await supports(anni, 1)
    await counts_are_true(networks)
    await linked(anni, anna)  # and together again
    assert [pseudonym for pseudonym, _ in await everybody(networks)] == [old]
    await counts_are_true(networks)


async def test_everybody_leaves_with_the_role_they_brought(networks: Community, anni: Resident) -> None:
    olga = await networks.organiser("olga")
    await linked(olga, anni)
    assert (await person_of(networks, anni)).role == Role.ORGANISER
    await anni.says("/me")
    await anni.presses("Unlink an account")  # whoever was let in puts the organiser out
    await anni.presses("Memory")
    assert "Memory: organiser." in anni.sees and "participant." in anni.sees
    await anni.presses("Part them")
    assert (await person_of(networks, anni)).role == Role.PARTICIPANT
    assert (await person_of(networks, olga)).role == Role.ORGANISER
    await anni.says("/status")
    assert anni.sees == "Only the lab's organisers can use /status."


async def test_a_role_that_was_taken_away_does_not_come_back_by_parting(networks: Community, anni: Resident) -> None:
    olga = await networks.organiser("olga")
    await linked(olga, anni)
    await networks.read(lambda db: db.execute(update(Person).values(role=Role.PARTICIPANT)))
    lea = await networks.organiser("lea", Role.LEAD)
    await linked(olga, lea)
    await olga.says("/me")
    await olga.presses("Unlink an account")
    await olga.presses(next(label for label in olga.choices if label.endswith(": this one")))
    await olga.presses("Part them")
    assert (await person_of(networks, olga)).role == Role.PARTICIPANT
    assert (await person_of(networks, lea)).role == Role.LEAD


async def test_a_role_claimed_while_linked_is_the_claimers(networks: Community, anna: Resident, anni: Resident) -> None:
    await linked(anna, anni)
    code = await networks.read(lambda session: people.invite(session, Role.MODERATOR, networks.time.now()))
    await anni.says(f"/claim {code}")
    await anna.says("/me")
    assert "Role: moderator" in anna.sees
    await anna.presses("Unlink an account")
    await anna.presses("Memory")
    await anna.presses("Part them")
    assert (await person_of(networks, anni)).role == Role.MODERATOR
    assert (await person_of(networks, anna)).role == Role.PARTICIPANT


async def test_only_ones_own_account_can_be_parted_and_never_the_last(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await linked(anna, anni)
    await anna.says("/me")
    await anna.presses("Unlink an account")
    await anna.presses("Other")
    question = anna.screen[-1]
    await anni.says("/me")
    await anni.presses("Unlink an account")
    await anni.presses("Other")
    await anni.presses("Part them")
    await anna.presses("Part them", question)
    assert question.html == "This account is not linked with you any more."
    assert len(await everybody(networks)) == 2


async def test_an_open_question_in_the_leaving_accounts_chat_stays_its_own(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await linked(anna, anni)
    await anni.says("/idea A pond")
    await anna.says("/me")
    await anna.presses("Unlink an account")
    await anna.presses("Other")
    await anna.presses("Part them")
    [dialog] = await networks.read(lambda db: db.exec(select(Dialog)).all())
    assert dialog.person_id == (await person_of(networks, anni)).id


async def test_what_was_announced_in_the_leaving_accounts_chat_was_announced_to_it(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await linked(anna, anni)
    await anni.says("/help")
    olga = await networks.organiser("olga")
    await sent(networks, olga)
    await rests(networks)
    await anna.says("/me")
    await anna.presses("Unlink an account")
    await anna.presses("Other")
    await anna.presses("Part them")
    query = select(Delivery.person_id).where(Delivery.adapter == "other")
    assert await networks.read(lambda db: db.exec(query).all()) == [(await person_of(networks, anni)).id]


# -- export and erasure -------------------------------------------------------------------------------------


async def test_erasing_erases_both_accounts_and_says_goodbye_in_both_chats(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await suggests(anni, "A pond")
    await linked(anna, anni)
    await anna.says("/me")
    await anna.presses("Export as a file")
    file = anna.screen[-1].file
    assert file is not None
    for word in (b"p-anna", b"p-anni", b'"external": "anni"', b"A pond"):
        assert word in file[1]
    await anna.says("/me")
    await anna.presses("Erase everything")
    assert "That goes for all your accounts: Other, Memory." in anna.sees
    await anna.presses("They go, too")
    for who in (anna, anni):
        assert who.sees == "Everything about you is erased. Thank you for having been here. /start begins anew."
    await networks.tick("close_left_chats")
    left = await networks.read(
        lambda db: {
            name: len(db.execute(table.select()).all())
            for name, table in SQLModel.metadata.tables.items()
            if name not in ("received", "cursor", "invite")
        }
    )
    assert set(left.values()) == {0}, left


async def test_an_export_that_waits_while_accounts_are_linked_is_everything(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    await anna.says("/start")
    await suggests(anni, "A pond")
    await asked(anna, anni)
    await anna.presses(YES)
    question = anni.screen[-1]
    await anni.says("/me")
    networks.messengers["other"].gate.clear()
    button = next(number for number, choice in enumerate(anni.screen[-1].buttons) if "Export" in choice.label)
    networks.messengers["other"].press("anni", anni.chat, anni.screen[-1].id, button, anni.screen[-1].revision)
    networks.messengers["other"].press("anni", anni.chat, question.id, 1, question.revision)
    await networks.messengers["other"].caught_up()
    networks.messengers["other"].gate.set()
    await networks.settled()
    [content] = [seen.file[1] for seen in anni.screen if seen.file is not None]
    assert b"A pond" in content


# -- at the same moment -------------------------------------------------------------------------------------


async def test_both_say_yes_at_the_same_moment(networks: Community, anna: Resident, anni: Resident) -> None:
    await asked(anna, anni)
    for who in (anna, anni):
        who.messenger.press(who.name, who.chat, who.screen[-1].id, 1, who.screen[-1].revision)
    await networks.settled()
    assert len(await everybody(networks)) == 1
    for who in (anna, anni):
        assert who.sees.startswith("Done: your accounts are one person")


async def test_two_who_type_each_others_codes_at_the_same_moment_are_asked_once(
    networks: Community, anna: Resident, anni: Resident
) -> None:
    codes = [await code_of(who) for who in (anna, anni)]
    for who, code in ((anna, codes[1]), (anni, codes[0])):
        who.messenger.say(who.name, who.chat, f"/link {code}")
    await networks.settled()
    assert await networks.read(lambda db: db.exec(select(func.count()).select_from(Link)).one()) == 1
    for who in (anna, anni):
        question = next(seen for seen in reversed(who.screen) if any(b.label == YES for b in seen.buttons))
        await who.presses(YES, question)
    assert len(await everybody(networks)) == 1


class Pair:
    """Two people with a private chat each, one of whom has typed the other's code."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.people: list[int] = []
        self.chats: list[int] = []
        self.number = 0

    async def run(self, question: Any) -> Any:
        """Ask the database with a function of a Session, in a transaction of its own."""

        def job(connection: Connection) -> Any:
            with session_in(connection) as session:
                answer = question(session)
                session.commit()
                return answer

        return await self.storage.run(job)

    async def side_by_side(self, first: Any, second: Any) -> list[Any]:
        """Let ``second`` begin when ``first`` has done all and not committed yet. Returns what both came to."""
        on_postgresql = self.storage.engine.dialect.name == "postgresql"
        done, go = threading.Event(), threading.Event()

        def held(session: Session) -> Any:
            answer = first(session)
            done.set()
            if on_postgresql:
                go.wait(SETTLES)
            return answer

        def waiting(session: Session) -> int:
            return int(session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())

        one = asyncio.create_task(self.run(held))
        await asyncio.to_thread(done.wait, SETTLES)
        two = asyncio.create_task(self.run(second))
        if on_postgresql:
            async with asyncio.timeout(SETTLES):
                while not await self.run(waiting):  # the server says that the second one waits
                    pass
        go.set()
        return list(await asyncio.gather(one, two, return_exceptions=True))

    def agree(self, which: int) -> Any:
        """One of the two says yes."""

        def job(session: Session) -> Any:
            request = linking.request(session, self.number, self.people[which], NOW)
            return linking.agree(session, request, request.terms, NOW)

        return job


@pytest.fixture
async def pair(storage: Storage) -> Pair:
    made = Pair(storage)

    def begin(session: Session) -> None:
        for name in ("anna", "anni"):
            account = people.arrive(session.connection(), name, name, NOW)
            chat = Chat(adapter=name, external=name, private=True, account_id=account, locale="en", created_at=NOW)
            session.add(chat)
            session.flush()
            made.people.append(session.get_one(Account, account).person_id)
            made.chats.append(chat.id or 0)
        _, code = linking.offer(session, made.people[0], made.chats[0], NOW)
        made.number = linking.take(session, made.people[1], made.chats[1], code, NOW)

    await made.run(begin)
    return made


async def test_the_second_yes_waits_for_the_first_and_they_are_linked_once(pair: Pair) -> None:
    first, second = await pair.side_by_side(pair.agree(0), pair.agree(1))
    assert first is None
    assert second.kept == pair.people[0]
    assert isinstance((await asyncio.gather(pair.run(pair.agree(1)), return_exceptions=True))[0], Over)
    assert await pair.run(lambda db: db.exec(select(Person.id)).all()) == [pair.people[0]]


async def test_of_two_who_type_one_code_at_once_one_gets_it(pair: Pair) -> None:
    others: list[int] = []

    def begin(session: Session) -> str:
        for name in ("ben", "eve"):
            people.arrive(session.connection(), "memory", name, NOW)
        others.extend(session.exec(select(Account.person_id).where(Account.adapter == "memory")).all())
        return linking.offer(session, pair.people[0], pair.chats[0], NOW)[1]

    code = await pair.run(begin)

    def take(which: int) -> Any:
        return lambda session: linking.take(session, others[which], pair.chats[1], code, NOW)

    first, second = await pair.side_by_side(take(0), take(1))
    assert isinstance(first, int)
    assert isinstance(second, WrongCode)


async def test_what_is_done_while_accounts_are_linked_is_not_lost(pair: Pair) -> None:
    await pair.run(pair.agree(0))

    def begin(session: Session) -> int:
        idea = ideas.submit(
            session, author_id=pair.people[0], title="A bench", text="", topic="other", named=False, now=NOW
        )
        ideas.support(session, idea.id or 0, pair.people[0], NOW)
        return idea.id or 0

    number = await pair.run(begin)
    supported, merged = await pair.side_by_side(
        lambda session: ideas.support(session, number, pair.people[1], NOW), pair.agree(1)
    )
    assert (supported, merged.twice) == (True, 1)
    assert await pair.run(lambda db: db.get_one(Idea, number).supports) == 1
    assert (await pair.run(ideas.recount))[number] == (1, 0)


async def test_who_erases_themselves_at_the_moment_of_the_second_yes_is_erased_or_told(pair: Pair) -> None:
    await pair.run(pair.agree(0))

    def erase(session: Session) -> bool:
        there = bool(people.hold(session, pair.people[1]))
        if there:
            erasure.erase(session, pair.people[1], keep_ideas=False)
        return there

    erased, agreed = await pair.side_by_side(erase, pair.agree(1))
    assert erased
    assert isinstance(agreed, Over)


async def test_who_is_linked_a_moment_before_they_erase_themselves_is_told(pair: Pair) -> None:
    await pair.run(pair.agree(0))
    merged, there = await pair.side_by_side(pair.agree(1), lambda session: people.hold(session, pair.people[1]))
    assert merged.kept == pair.people[0]
    assert there == {}


async def test_two_who_part_the_same_accounts_at_once_leave_nobody_without_one(pair: Pair) -> None:
    await pair.run(pair.agree(0))
    await pair.run(pair.agree(1))
    accounts = await pair.run(lambda db: db.exec(select(Account.id).order_by(col(Account.id))).all())

    def part(which: int) -> Any:
        return lambda session: linking.unlink(session, accounts[which], pair.people[0], NOW)

    first, second = await pair.side_by_side(part(0), part(1))
    assert not isinstance(first, Exception)
    assert isinstance(second, Over)
    owners = await pair.run(lambda db: db.exec(select(Account.person_id)).all())
    assert len(set(owners)) == 2


# -- no table is forgotten ----------------------------------------------------------------------------------


def test_every_table_says_what_happens_when_two_become_one() -> None:
    assert set(linking.RULES) == set(SQLModel.metadata.tables)
    for table in SQLModel.metadata.sorted_tables:
        names = any(key.column.table.name == "person" for key in table.foreign_keys) or table.name == "person"
        assert names != isinstance(linking.RULES[table.name], str), table.name


def test_people_go_last_since_others_refer_to_them() -> None:
    order = [table for table, rule in linking.RULES.items() if not isinstance(rule, str)]
    assert order[-1] == "person"
