"""Announcements: written once, delivered to everybody, each copy accounted for."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from bot.adapters.memory import UNLIMITED, Seen
from bot.config import Settings
from handlers.announcements.markdown import formatted
from handlers.announcements.sending import TELLING
from storage import erasure, linking
from storage.announcements import ledger, writing
from storage.announcements.writing import Announcement, Status, Wording
from storage.outbox import outbox_table
from storage.people import Account, Person
from tests.adapters.telegram_server import parse_html
from tests.conftest import Community, Resident, running

_o = outbox_table.c


async def crowd(lab: Community, *names: str, locale: str = "en") -> list[Resident]:
    """People who have started the bot."""
    people = [lab.person(name, locale) for name in names]
    for person in people:
        await person.says("/start")
    return people


def copies(person: Resident, words: str) -> list[Seen]:
    """The messages in which somebody sees these words."""
    return [seen for seen in person.screen if words in seen.html]


def report(organiser: Resident, number: int = 1) -> str:
    """What the organiser reads of how far it is."""
    return copies(organiser, f"<b>Announcement {number}</b>")[-1].html


async def ledger_of(lab: Community, number: int = 1) -> Counter[str]:
    """The copies of an announcement by state, which are also what is counted."""

    def look(session: Session) -> Any:
        return session.get_one(Announcement, number), ledger.recount(session, number)

    one, counted = await lab.read(look)
    assert (one.delivered, one.unreachable, one.failed, one.withdrawn) == tuple(
        counted[state] for state in ("delivered", "unreachable", "failed", "withdrawn")
    )
    return Counter(counted)


async def announcement(lab: Community, number: int = 1) -> Announcement:
    found: Announcement = await lab.read(lambda session: session.get_one(Announcement, number))
    return found


async def test_one_line_and_one_press_reach_everybody(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    await lab.person("cleo").says("/stop")
    olga = await lab.organiser("olga")
    shown = await olga.says("/announce The **lab** opens on _Friday_ & <b>Saturday</b>.")
    assert shown[0].html == "The <b>lab</b> opens on <i>Friday</i> &amp; <b>Saturday</b>."
    assert "For everybody: 3 people." in shown[1].html
    assert "Missing: German." in shown[1].html
    assert not copies(ada, "opens on")
    await olga.presses("Send")
    await rests(lab)
    for person in (ada, ben):
        [seen] = copies(person, "opens on")
        assert seen.html == shown[0].html
        assert [button.label for button in seen.buttons] == ["Hear less of this"]
    assert not copies(lab.person("cleo"), "opens on")
    assert await ledger_of(lab) == {"delivered": 3}
    assert (await announcement(lab)).status == Status.DONE
    assert "delivered: 3" in report(olga)
    assert "Memory, English: 3 delivered" in report(olga)


async def sent(lab: Community, olga: Resident, text: str = "Big news") -> None:
    """An announcement to everybody, on its way."""
    await olga.says(f"/announce {text}")
    await olga.presses("Send")
    await lab.later(0)


async def rests(lab: Community, seconds: int = 6) -> None:
    """Let some seconds pass, one after the other."""
    for _ in range(seconds):
        await lab.later(1)


async def test_two_presses_on_send_send_once(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await olga.says("/announce Big news")
    preview = olga.screen[-1]
    lab.messenger.press("olga", olga.chat, preview.id, 0, preview.revision)
    await olga.presses_at(preview, 0)
    assert lab.messenger.notes[-1] == ("olga", "Announcement 1 is sent already.")
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1
    assert await ledger_of(lab) == {"delivered": 2}


async def test_what_another_organiser_has_changed_meanwhile_is_looked_at_once_more(lab: Community) -> None:
    olga, uwe = await lab.organiser("olga"), await lab.organiser("uwe")
    await olga.says("/announce Big news")
    old = olga.screen[-1]
    await lab.read(lambda session: writing.word(session, writing.find(session, 1), "de", "Neues", "Neues"))
    assert await olga.presses_at(old, 0) == "This has changed since. Please look once more."
    assert (await announcement(lab)).status == Status.DRAFT
    await olga.presses("Send")
    await rests(lab)
    assert len(copies(uwe, "Big news")) == 1


async def test_only_organisers_announce_and_old_buttons_know_it(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    await ada.says("/announce Free beer")
    assert ada.sees == "Only the lab's organisers can use /announce."
    olga = await lab.organiser("olga")
    await olga.says("/announce Big news")
    await lab.read(_demote)
    assert await olga.presses("Send") == "Only the lab's organisers can do that."
    assert (await announcement(lab)).status == Status.DRAFT


def _demote(session: Session) -> None:
    for person in session.exec(select(Person)).all():
        person.role = "participant"
        session.add(person)


async def test_each_reads_it_in_their_language_and_what_is_missing_is_said(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    [bea] = await crowd(lab, "bea", locale="de")
    olga = await lab.organiser("olga")
    await olga.says("/announce Big news")
    assert "Missing: German. Who reads that gets it in English." in olga.sees
    await olga.presses("Add it in German")
    await olga.says("Große Neuigkeit")
    assert "Missing" not in olga.sees
    await olga.presses("Send")
    await rests(lab)
    assert len(copies(ada, "Big news")) == len(copies(bea, "Große Neuigkeit")) == 1
    assert "Memory, German: 1 delivered" in report(olga)


async def test_the_preview_shows_it_as_each_messenger_will(networks: Community) -> None:
    limits = networks.app.lab.limits
    assert isinstance(limits, dict)
    limits["other"] = replace(UNLIMITED, choices=0, sign="!")
    olga = await networks.organiser("olga")
    await olga.says("/announce Big news, see /ideas")
    await olga.presses("Add it in German")
    await olga.says("Neues, siehe /ideen")
    await olga.presses("How it looks on Other")
    assert [seen.html for seen in olga.screen[-2:]] == [
        "Neues, siehe !ideen\n\n1. Weniger davon hören",
        "Big news, see !ideas\n\n1. Hear less of this",
    ]
    limits["memory"], limits["other"] = replace(UNLIMITED, choices=0), UNLIMITED
    await olga.says("/announce 1")
    await olga.says("How it looks on Other")
    assert olga.sees == "Big news, see /ideas\n\n[Hear less of this]"
    await olga.says("1")  # the draft is still what is open
    await rests(networks)
    assert copies(olga, "<b>Announcement 1</b>: sent to all")


@pytest.mark.parametrize("signs", [10_000, 4097])
async def test_too_much_is_refused_with_the_count_and_nothing_is_sent(lab: Community, signs: int) -> None:
    olga = await lab.organiser("olga")
    await olga.says(f"/announce {'x' * signs}")
    assert olga.sees == f"That is {signs:,} characters, and 4,096 fit. Can you say it shorter?"
    await olga.says("Short")
    assert "This is announcement 1, not sent yet." in olga.sees
    await olga.says("The rest, which a messenger has cut off and sent after it")
    assert copies(olga, "what you have just written is not part of it")
    assert copies(olga, "Short")[-1].html == "Short"


async def test_a_picture_goes_with_it_uploaded_once_and_then_referred_to(lab: Community) -> None:
    people = await crowd(lab, *(f"p{number}" for number in range(12)))
    olga = await lab.organiser("olga")
    await olga.says("/announce")
    await olga.says("Look", files=[("plan.png", b"picture")])
    await olga.presses("Send")
    await rests(lab)
    assert [copies(person, "Look")[0].file for person in people] == [("plan.png", b"picture")] * 12
    assert lab.messenger.uploads == 1


async def test_a_file_that_a_messenger_does_not_take_is_refused_before_anything_is_sent(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/announce")
    await olga.says("Look", files=[("film.mp4", bytes((1 << 20) + 1))])
    assert olga.sees.startswith("This file is too large for Memory: at most 1 MB.")
    await olga.says("Look", files=[("film.mp4", b"small")])
    assert "not sent yet" in olga.sees


async def test_a_file_leaves_room_for_fewer_words(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says(f"/announce {'x' * 1100}")
    await olga.says("", files=[("plan.png", b"picture")])
    assert any("1,024 fit beside a file" in seen.html for seen in olga.screen)
    assert (await announcement(lab)).file is None


async def test_links_and_an_idea_are_buttons(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    for words in ("/idea A bench\nFor all", "1", "1"):
        await ada.says(words)
    await olga.says("/announce Big news")
    await olga.presses("Add a link")
    await olga.says("Programme javascript:alert(1)")
    assert "an address that begins with https://" in olga.sees
    await olga.says("The programme https://example.org/p")
    await olga.presses("Add an idea")
    await olga.presses("An idea")
    await olga.says("#7")
    assert olga.sees == "I do not find “7”, or it is over. Choose from the list, or write a number."
    await olga.says("#1")
    await olga.presses("Send")
    await rests(lab)
    [seen] = copies(ada, "Big news")
    assert [(button.label, button.url) for button in seen.buttons] == [
        ("See idea #1", None),
        ("The programme", "https://example.org/p"),
        ("Hear less of this", None),
    ]


async def test_it_waits_for_its_time(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await olga.says("/announce Big news")
    await olga.presses("When?")
    for words, answer in (
        ("soon-ish", "I cannot read “soon-ish” as a time."),
        ("2026-11-01 18:00", "That is over already"),
        ("25:00", "an hour that no day has"),
        ("every Tuesday 18:00", "Only one day and hour fit here"),
        ("2028-11-01 18:00", "more than a year away"),
    ):
        await olga.says(words)
        assert answer in olga.sees
        assert olga.choices == ["As soon as I press Send", "Not at night", "Cancel"]
    for words, at in (
        ("9:00", "2026-11-03T08:00"),
        ("18 Uhr", "2026-11-02T17:00"),
        ("1.6. 18 Uhr", "2027-06-01T16:00"),
        ("4.11.", None),
        ("18", "2026-11-04T17:00"),
    ):
        await olga.says(words)
        if at is None:
            assert "And at what time?" in olga.sees
            continue
        assert (await announcement(lab)).starts_at == datetime.fromisoformat(f"{at}+00:00")
        await olga.presses("When?")
    await olga.says("tomorrow 18:00")
    await olga.presses("Send")
    await rests(lab)
    assert not copies(ada, "Big news")
    await lab.later(24 * 3600)
    assert not copies(ada, "Big news")
    await lab.later(10 * 3600)
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1


async def test_at_night_it_waits_for_the_morning(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    lab.time.pass_by(13 * 3600)  # eleven in the evening
    await olga.says("/announce Big news")
    await olga.presses("When?")
    await olga.presses("Not at night")
    await olga.presses("Send")
    await rests(lab)
    assert not copies(ada, "Big news")
    await lab.later(9 * 3600)
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1
    assert not copies(olga, "does not get on")


async def test_a_second_organiser_has_to_agree_where_that_is_wanted(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga, uwe = await lab.organiser("olga"), await lab.organiser("uwe")
    room = lab.group("team", "olga", "uwe", "ada")
    await olga.within(room).says("/language en")
    await olga.within(room).says("/team")
    await olga.says("/announce Big news")
    await olga.presses("A second organiser shall agree")
    await olga.presses("Ask a second organiser")
    old = olga.within(room).screen[-1]
    assert "wants to send this. Does another organiser agree?" in old.html
    await olga.presses("Do not ask any more")
    assert await uwe.within(room).presses("Agree", old) == "This has changed since. Please look once more."
    await olga.presses("Ask a second organiser")
    agree = olga.within(room).screen[-1]
    assert await olga.within(room).presses("Agree", agree) == "You have asked: somebody else has to agree."
    assert await ada.within(room).presses("Agree", agree) == "Only the lab's organisers can do that."
    await rests(lab)
    assert not copies(ada, "Big news")
    await uwe.within(room).presses("Agree", agree)
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1
    assert "delivered: 3" in report(olga)


async def test_who_changes_another_organisers_draft_and_asks_for_consent_cannot_agree_to_it(lab: Community) -> None:
    olga, uwe = await lab.organiser("olga"), await lab.organiser("uwe")
    room = lab.group("team", "olga", "uwe")
    await olga.within(room).says("/language en")
    await olga.within(room).says("/team")
    await olga.says("/announce Big news")
    await olga.presses("A second organiser shall agree")
    await uwe.says("/announce 1")
    await uwe.presses("Change the text")
    await uwe.says("Bigger")
    await uwe.presses("Ask a second organiser")
    agree = olga.within(room).screen[-1]
    assert await uwe.within(room).presses("Agree", agree) == "You have asked: somebody else has to agree."
    await olga.within(room).presses("Agree", agree)
    await rests(lab)
    assert "delivered: 2" in report(uwe)


async def test_who_sends_another_organisers_draft_sees_how_far_it_is(lab: Community) -> None:
    olga, uwe = await lab.organiser("olga"), await lab.organiser("uwe")
    await olga.says("/announce Big news")
    await uwe.says("/announce 1")
    await uwe.presses("Send")
    await rests(lab)
    assert "delivered: 2" in report(uwe)
    assert not copies(olga, "<b>Announcement 1</b>")


# -- for whom -----------------------------------------------------------------------------------------------------


async def test_topics_parts_of_society_supporters_and_rooms_are_audiences(lab: Community) -> None:
    ada, ben, cleo = await crowd(lab, "ada", "ben", "cleo")
    olga = await lab.organiser("olga")
    for words in ("/idea A bench\nFor all", "1", "1"):
        await ada.says(words)
    await ben.says("/ideas 1")
    await ben.presses("Support")
    await cleo.says("/me")
    await cleo.presses("Say whom I speak for")
    await cleo.presses("science")
    await ada.says("/topics")
    await ada.presses("Mobility")
    await ada.presses("at once")
    hearing, deaf = lab.group("hearing", "olga"), lab.group("deaf", "olga")
    await olga.within(hearing).says("/language en")
    await olga.within(hearing).says("/room")
    await olga.within(hearing).presses("what is for everybody")
    for name in ("deaf", "hidden"):
        await olga.within(lab.group(name, "olga")).says(f"/room {name}")
    for text, presses in (
        ("for-mobility", ["For whom", "who follows “Mobility” (1 person)"]),
        ("for-science", ["For whom", "A part of society", "science (1 person)"]),
        ("for-rooms", ["For whom", "the rooms (1 room)"]),
        ("for-named", ["For whom", "Rooms by name", "Also hidden", "Also deaf", "Not hidden", "Done"]),
    ):
        await olga.says(f"/announce {text}")
        for label in presses:
            await olga.presses(label)
        if text == "for-named":
            assert "For the rooms deaf: 1 room." in olga.sees
        await olga.presses("Send")
        await rests(lab, 2)
    await olga.says("/announce for-supporters")
    await olga.presses("For whom")
    await olga.presses("Who supports")
    await olga.says("1")
    await olga.presses("Send")
    await rests(lab, 2)
    got = {
        person.name: [text for text in ("mobility", "science", "supporters", "rooms") if copies(person, f"for-{text}")]
        for person in (ada, ben, cleo)
    }
    assert got == {"ada": ["mobility"], "ben": ["supporters"], "cleo": ["science"]}
    assert [seen.html for seen in olga.within(hearing).screen][-1] == "for-rooms"
    assert not copies(olga.within(deaf), "for-rooms")
    assert copies(olga.within(deaf), "for-named")
    assert not copies(olga.within(hearing), "for-named")


async def test_everybody_is_also_the_rooms_that_want_it_and_nobody_who_came_later(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    room = lab.group("room", "olga")
    await olga.within(room).says("/language en")
    await olga.within(room).says("/room")
    await olga.within(room).presses("what is for everybody")
    await sent(lab, olga)
    [late] = await crowd(lab, "late")
    await rests(lab)
    assert [len(copies(one, "Big news")) for one in (ada, olga.within(room), late)] == [1, 1, 0]
    assert copies(olga.within(room), "Big news")[0].buttons == ()


# -- topics, quiet hours, stop ------------------------------------------------------------------------------------


async def test_a_topic_is_stopped_under_its_announcement(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await ada.says("/topics")
    await ada.presses("Mobility")
    await ada.presses("at once")
    for text in ("first", "second"):
        await olga.says(f"/announce {text}")
        await olga.presses("For whom")
        await olga.presses("who follows “Mobility”")
        await olga.presses("Send")
        await rests(lab)
        if text == "first":
            await ada.presses("Stop “Mobility”")
            assert ada.sees == "You hear no more of “Mobility”."
    assert copies(ada, "first")
    assert not copies(ada, "second")


async def test_a_digest_is_handed_out_in_the_evening(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await ada.says("/topics")
    await ada.presses("what is for everybody")
    await ada.presses("once a day")
    assert "what is for everybody: once a day, at 18:00" in ada.sees
    await sent(lab, olga, "First-one")
    await sent(lab, olga, "Second-one")
    await rests(lab)
    assert not copies(ada, "First-one")
    await lab.later(8 * 3600)  # from ten in the morning to six in the evening
    await rests(lab)
    assert len(copies(ada, "First-one")) == len(copies(ada, "Second-one")) == 1
    assert (await announcement(lab)).status == Status.DONE
    assert not copies(olga, "does not get on")


async def test_a_correction_does_not_bring_a_digest_before_its_time(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await ada.says("/topics")
    await ada.presses("what is for everybody")
    await ada.presses("once a day")
    await sent(lab, olga)
    await rests(lab)
    await corrects(olga, "Bigger")
    await rests(lab)
    assert not copies(ada, "Bigger")
    assert "It goes on at" in report(olga)
    await lab.later(8 * 3600)
    await rests(lab)
    assert [seen.versions for seen in copies(ada, "Bigger")] == [["Bigger"]]


async def corrects(olga: Resident, words: str) -> None:
    """The organiser changes the words of the newest announcement."""
    await olga.presses("Correct it")
    await olga.says(words)
    await olga.presses("Yes, change them")


async def test_quiet_hours_put_it_off(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await ada.says("/topics")
    await ada.presses("Quiet hours")
    for nonsense in ("never", "5-5", "7-99"):
        await ada.says(nonsense)
        assert ada.sees == "Please write two hours of the day, like 21-8."
    await ada.says("9-12")
    assert "Quiet from 9:00 to 12:00." in ada.sees
    await sent(lab, olga)
    await rests(lab)
    assert not copies(ada, "Big news")
    assert copies(olga, "Big news")
    await lab.later(2 * 3600)
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1


async def test_who_stops_while_it_is_being_sent_gets_nothing_more(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    lab.messenger.gate.clear()
    await olga_sends(lab, olga)
    lab.messenger.say("ben", ben.chat, "/stop")
    await lab.messenger.caught_up()
    lab.messenger.gate.set()
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1
    assert not copies(ben, "Big news")
    assert await ledger_of(lab) == {"delivered": 2, "withdrawn": 1}


async def olga_sends(lab: Community, olga: Resident) -> None:
    """Sent, while the messenger holds everything up."""
    lab.messenger.gate.set()
    await olga.says("/announce Big news")
    preview = olga.screen[-1]
    lab.messenger.gate.clear()
    lab.messenger.press("olga", olga.chat, preview.id, 0, preview.revision)
    await lab.messenger.caught_up()
    await lab.app.clock.catch_up()


# -- afterwards ---------------------------------------------------------------------------------------------------


async def test_the_blocked_and_the_vanished_end_quietly_and_are_counted(lab: Community) -> None:
    ada, _, cleo = await crowd(lab, "ada", "ben", "cleo")
    olga = await lab.organiser("olga")
    lab.messenger.block("ben")
    lab.messenger.chats[cleo.chat.id].blocked = True  # the bot does not know it yet
    await sent(lab, olga)
    await rests(lab)
    assert len(copies(ada, "Big news")) == 1
    assert await ledger_of(lab) == {"delivered": 2, "unreachable": 1}
    assert "unreachable: 1" in report(olga)


async def test_a_correction_changes_every_copy(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    await olga.presses("Correct it")
    await olga.says("Bigger <news")
    assert olga.screen[-2].html == "Bigger &lt;news"
    await olga.presses("Yes, change them")
    await rests(lab)
    for person in (ada, ben):
        assert [seen.versions for seen in copies(person, "Bigger")] == [["Big news", "Bigger &lt;news"]]
    assert await ledger_of(lab) == {"delivered": 3}
    assert (await announcement(lab)).status == Status.DONE


async def test_how_far_a_correction_is_counts_the_copies_it_has_reached(lab: Community) -> None:
    await crowd(lab, *(f"p{number}" for number in range(60)))
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    feed_slowly(lab)
    await corrects(olga, "Bigger")
    await lab.later(1)
    assert "0 % (0 of 61)" in report(olga)
    await lab.later(1)
    await olga.says("/status")
    seen_to = re.search(r"Announcement 1: on its way, (\d+) of 61\.", olga.sees)
    assert seen_to is not None and 0 < int(seen_to[1]) < 61


async def test_a_correction_while_it_is_being_sent_reaches_everybody(lab: Community) -> None:
    people = await crowd(lab, *(f"p{number}" for number in range(30)))
    olga = await lab.organiser("olga")
    await olga_sends(lab, olga)

    def correct(session: Session) -> None:
        one = writing.find(session, 1)
        writing.word(session, one, "en", "Bigger", "Bigger")

    await lab.read(correct)
    lab.messenger.gate.set()
    await rests(lab)
    assert all(len(copies(person, "Bigger")) == 1 and not copies(person, "Big news") for person in people)


async def test_taken_back_it_is_gone_everywhere_and_what_is_old_says_so(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    await sent(lab, olga, "first")
    await rests(lab)
    await lab.later(3 * 24 * 3600)
    await sent(lab, olga, "second")
    await rests(lab)
    for number in ("1", "2"):
        await olga.says("/announce")
        await olga.presses(f"Number {number}")
        await olga.presses("Take it back everywhere")
        await olga.presses("Yes, take it back")
        assert "being taken back, 3 left" in report(olga, int(number))
        await rests(lab)
        assert report(olga, int(number)).startswith(f"<b>Announcement {number}</b>: taken back\ntaken back: 3\n")
    for person in (ada, ben):
        assert not copies(person, "first")
        assert not copies(person, "second")
        assert len(copies(person, "The lab has taken this announcement back.")) == 1
    assert await ledger_of(lab, 1) == await ledger_of(lab, 2) == {"withdrawn": 3}


async def test_a_copy_that_was_corrected_since_is_as_old_as_it_was(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    await lab.later(3 * 24 * 3600)
    await corrects(olga, "Bigger")
    await rests(lab)
    await olga.presses("Take it back everywhere")
    await olga.presses("Yes, take it back")
    await rests(lab)
    assert len(copies(ada, "The lab has taken this announcement back.")) == 1  # too old to be deleted


async def held_up(lab: Community, number: int) -> tuple[Resident, list[Resident]]:
    """An announcement on its way to so many, of which the messenger takes none yet."""
    people = await crowd(lab, *(f"p{place}" for place in range(number)))
    olga = await lab.organiser("olga")
    await olga_sends(lab, olga)
    return olga, people


async def test_stopped_while_the_messenger_holds_it_up_it_reaches_nobody_else(lab: Community) -> None:
    olga, people = await held_up(lab, 12)
    await lab.read(_stop)
    await lab.app.clock.catch_up()
    lab.messenger.gate.set()
    await rests(lab, 5)
    assert not any(copies(person, "Big news") for person in people)
    assert await ledger_of(lab) == {"withdrawn": 13}
    assert (await announcement(lab)).status == Status.STOPPED
    assert "\ntaken back: 8, not sent: 5\n" in report(olga)  # eight were with the messenger already


async def test_what_is_just_being_stopped_is_not_sent_by_a_correction(lab: Community) -> None:
    people = await crowd(lab, *(f"p{number}" for number in range(40)))
    olga = await lab.organiser("olga")
    feed_slowly(lab)
    await sent(lab, olga)
    await lab.later(1)

    def stop(session: Session) -> None:
        _stop(session)
        writing.find(session, 1).step_at = lab.time.now() + timedelta(minutes=1)  # nobody looks before

    await lab.read(stop)
    await olga.says("/announce 1")
    await olga.presses("Correct it")
    await olga.says("Bigger")
    assert await olga.presses("Yes") == "It is still being stopped. Please try again in a moment."
    await lab.later(60)
    await rests(lab)
    assert 0 < sum(bool(copies(person, "Big news")) for person in people) < 40
    assert not any(copies(person, "Bigger") for person in people)


def _stop(session: Session) -> None:
    one = writing.find(session, 1)
    ledger.settle(session, one)
    one.status, one.version, one.until = Status.STOPPED, one.version + 1, one.reached
    one.step_at = one.moved_at
    writing.change(session, one)


async def test_a_messenger_that_is_down_for_an_hour_loses_nothing_and_the_organiser_hears_of_it(lab: Community) -> None:
    people = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    lab.messenger.down = True
    await olga_says_and_sends(lab, olga)
    for _ in range(70):
        await lab.minute()
    assert (await announcement(lab)).stalled
    lab.messenger.down = False
    await lab.minute()  # the longest pause between two tries
    await lab.settled()
    await rests(lab)
    assert all(len(copies(person, "Big news")) == 1 for person in people)
    assert len(copies(olga, "does not get on: Memory does not answer, or asks me to wait.")) == 1
    [over] = copies(olga, "goes on, and nothing is lost")
    assert "It stood still from Nov 2, 2026, 10:00\u202fAM to Nov 2, 2026, 11:11\u202fAM" in over.html
    assert "It stood still from" in report(olga)
    assert await ledger_of(lab) == {"delivered": 3}


async def olga_says_and_sends(lab: Community, olga: Resident) -> None:
    lab.messenger.down = False
    await olga.says("/announce Big news")
    preview = olga.screen[-1]
    lab.messenger.down = True
    lab.messenger.press("olga", olga.chat, preview.id, 0, preview.revision)
    await lab.messenger.caught_up()
    await lab.app.clock.catch_up()


def feed_slowly(lab: Community) -> None:
    """Hand over no more than twelve copies at a time, as to a messenger that takes four a second."""
    limits = lab.app.lab.limits
    assert isinstance(limits, dict)
    limits["memory"] = replace(UNLIMITED, rate=4.0)


async def test_when_too_much_is_refused_it_pauses_and_asks(lab: Community) -> None:
    people = await crowd(lab, *(f"p{number}" for number in range(40)))
    olga = await lab.organiser("olga")
    feed_slowly(lab)
    await olga.says("/announce Big news")
    lab.messenger.unwanted = "Big news"
    await olga.presses("Send")
    await rests(lab, 5)
    lab.messenger.unwanted = None
    assert (await announcement(lab)).paused
    failed = (await announcement(lab)).failed
    assert (
        10 <= failed <= 9 + 12 + 12
    )  # one look finds nine, hands over twelve more, and finds those and what was under way
    [asked] = copies(olga, "Announcement 1 is paused: ")
    assert re.fullmatch(r"Announcement 1 is paused: (\d+) copies were refused\.\n\1 failed: refused", asked.html)
    await olga.presses("Go on", asked)
    await rests(lab, 8)
    assert await ledger_of(lab) == {"failed": failed, "delivered": 41 - failed}
    assert sum(bool(copies(person, "Big news")) for person in people) in (40 - failed, 41 - failed)
    assert f"{failed} failed: refused" in report(olga)


async def test_where_choices_are_numbers_they_are_those_of_the_report_and_not_of_the_authors_own_copy(
    settings: Settings,
) -> None:
    async with running(settings, replace(UNLIMITED, choices=0)) as lab:
        olga = await lab.organiser("olga")
        await olga.says("/announce Big news")
        await olga.says("Send")
        await rests(lab)
        assert olga.sees.startswith("<b>Announcement 1</b>: sent to all")
        assert "\n1. Correct it" in olga.sees
        await olga.says("1")
        assert olga.sees == "How shall it read instead? I change every copy that stands.\n\n1. Cancel"


async def test_on_a_slow_messenger_telling_how_far_it_is_takes_little_of_its_rate(lab: Community) -> None:
    limits = lab.app.lab.limits
    assert isinstance(limits, dict)
    limits["memory"] = replace(UNLIMITED, rate=0.2)
    await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    await olga.says("/announce Big news")
    lab.messenger.gate.clear()
    lab.messenger.press("olga", olga.chat, olga.screen[-1].id, 0, olga.screen[-1].revision)
    await lab.messenger.caught_up()
    for _ in range(20):
        lab.time.pass_by(5)
        await lab.app.clock.catch_up()
    [told] = await lab.read(lambda session: session.execute(select(_o.version).where(_o.subject == "progress:1")).all())
    assert told[0] <= 1 + 1 + 20 * 5 * 0.2 * TELLING  # at the beginning twice
    lab.messenger.gate.set()
    await lab.settled()


async def test_pause_go_on_and_stop_are_obeyed_but_for_what_is_with_the_messenger(lab: Community) -> None:
    people = await crowd(lab, *(f"p{number}" for number in range(60)))
    olga = await lab.organiser("olga")
    feed_slowly(lab)

    def reached() -> int:
        return sum(bool(copies(person, "Big news")) for person in people)

    await sent(lab, olga)
    await lab.later(1)
    assert await olga.presses("Pause") == "Paused. What is already with the messenger still arrives."
    halted = reached()
    assert 0 < halted < 60
    await rests(lab, 5)
    assert reached() <= halted + 12
    halted = reached()
    await lab.later(3600)
    assert reached() == halted
    assert "paused" in report(olga)
    await olga.presses("Go on")
    await lab.later(1)
    assert halted < reached() < 60
    await olga.presses("Stop it")
    await rests(lab)
    counted = await ledger_of(lab)
    assert set(counted) == {"delivered", "withdrawn"}
    assert reached() < 60
    assert counted["delivered"] - reached() in (0, 1)  # the organiser's own
    assert (await announcement(lab)).status == Status.STOPPED


async def test_after_a_restart_it_goes_on_where_it_was(lab: Community) -> None:
    _, people = await held_up(lab, 12)
    lab.messenger.gate.set()
    await lab.restart()
    await rests(lab)
    assert all(len(copies(person, "Big news")) == 1 for person in people)
    assert await ledger_of(lab) == {"delivered": 13}


async def test_who_erases_themselves_while_it_is_sent_leaves_the_counts_whole(lab: Community) -> None:
    _, people = await held_up(lab, 6)
    person = people[-1]
    await lab.read(lambda session: erasure.erase(session, _person_of(session, person.name), keep_ideas=False))
    lab.messenger.gate.set()
    await rests(lab)
    one = await announcement(lab)
    assert (one.status, one.recipients, one.pending) == (Status.DONE, 6, 0)


def _person_of(session: Session, name: str) -> int:
    return session.exec(select(Account.person_id).where(Account.external == name)).one()


async def test_two_accounts_that_become_one_person_while_it_waits_get_it_once(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    for person in (ada, ben):
        await person.says("/topics")
        await person.presses("Quiet hours")
        await person.says("9-12")
    await sent(lab, olga)
    await rests(lab)

    def link(session: Session) -> None:
        now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
        linking.merge(session, _person_of(session, "ben"), _person_of(session, "ada"), now)

    await lab.read(link)
    await lab.later(3 * 3600)
    await rests(lab)
    assert len(copies(ada, "Big news")) + len(copies(ben, "Big news")) == 1
    assert await ledger_of(lab) == {"delivered": 2, "withdrawn": 1}


# -- questions ----------------------------------------------------------------------------------------------------


async def test_a_reply_is_a_question_to_the_team_and_the_teams_reply_goes_back(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    room = lab.group("team", "olga", "ada")
    team = olga.within(room)
    await team.says("/language en")
    await team.says("/team")
    await sent(lab, olga)
    await rests(lab)
    [news] = copies(ada, "Big news")
    await ada.says("When exactly, & where?", reply_to=news.id)
    assert "I have passed your question on to the lab's team" in ada.sees
    asked = team.screen[-1]
    assert "Question 1 on announcement 1, by " in asked.html
    assert "When exactly, &amp; where?" in asked.html
    assert "ada" not in asked.html
    await ada.within(room).says("Tomorrow!", reply_to=asked.id)
    assert team.sees == "Only the lab's organisers can do that."
    await team.says("At ten, in the old mill.", reply_to=asked.id)
    assert "It is answered." in copies(team, "Question 1")[0].html
    assert ada.sees == "The lab answers your question:\n\nAt ten, in the old mill."
    await ada.says("Thank you, and until when?", reply_to=ada.screen[-1].id)
    assert "Question 2 on announcement 1" in team.sees
    await ada.says("x" * 2001, reply_to=news.id)
    assert "2,000 fit" in ada.sees


async def test_who_has_stopped_everything_still_gets_the_answer_they_asked_for(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    await ada.says("/stop")
    await ada.says("When?", reply_to=copies(ada, "Big news")[0].id)
    [asked] = copies(olga, "Question 1")
    await olga.says("At ten.", reply_to=asked.id)
    assert ada.sees.endswith("At ten.")
    lab.messenger.block("ada")
    await lab.settled()
    await olga.says("At eleven.", reply_to=asked.id)
    assert olga.sees == "Whoever asked this cannot be reached any more."


async def test_without_a_teams_room_a_question_reaches_whoever_wrote_it(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    await ada.says("When?", reply_to=copies(ada, "Big news")[0].id)
    [asked] = copies(olga, "Question 1")
    await olga.says("At ten.", reply_to=asked.id)
    assert ada.sees.endswith("At ten.")


async def test_a_sentence_soon_after_an_announcement_can_be_a_question_without_being_a_reply(lab: Community) -> None:
    ada, bea = await crowd(lab, "ada", "bea")
    olga = await lab.organiser("olga")
    await ada.says("When does it begin?")
    assert ada.choices == ["Yes, as an idea", "No"]
    await ada.presses("No")
    await sent(lab, olga)
    await rests(lab)
    for words in ("When does it begin?", "And where is that?"):
        await ada.says(words)
        assert ada.choices == ["Yes, as an idea", "Ask the lab", "No"]
    offer = ada.screen[-1]
    await ada.presses("Ask the lab")
    [asked] = copies(olga, "Question 1 on announcement 1")
    assert "When does it begin?\nAnd where is that?" in asked.html
    await olga.says("At ten.", reply_to=asked.id)
    assert ada.sees.endswith("At ten.")
    assert await ada.presses("Ask the lab", offer) == "This question is answered already."
    await lab.later(8 * 24 * 3600)
    await bea.says("When does it begin?")
    assert bea.choices == ["Yes, as an idea", "No"]


async def test_after_weeks_a_question_can_still_be_answered_and_a_rooms_copy_taken_back(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    room = lab.group("room", "olga")
    await olga.within(room).says("/language en")
    await olga.within(room).says("/room")
    await olga.within(room).presses("what is for everybody")
    await sent(lab, olga)
    await rests(lab)
    await ada.says("When?", reply_to=copies(ada, "Big news")[0].id)
    await lab.later(20 * 24 * 3600)
    await lab.tick("prune")
    await olga.says("At ten.", reply_to=copies(olga, "Question 1")[0].id)
    assert ada.sees.endswith("At ten.")
    await olga.says("/announce 1")
    await olga.presses("Take it back everywhere")
    await olga.presses("Yes, take it back")
    await rests(lab)
    assert "taken back: 3" in report(olga)
    assert not copies(olga.within(room), "Big news")


# -- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "html"),
    [
        ("**b** *i* ~~s~~ `c <d>`", "<b>b</b> <i>i</i> <s>s</s> <code>c &lt;d&gt;</code>"),
        ("<u>u</u> <script>x</script> 1 < 2 & 3", "<u>u</u> &lt;script&gt;x&lt;/script&gt; 1 &lt; 2 &amp; 3"),
        ("<b>never closed", "<b>never closed</b>"),
        ("closed too often</b>", "closed too often&lt;/b&gt;"),
        ("**b <i>mixed** up</i>", "<b>b <i>mixed</i></b> up&lt;/i&gt;"),
        ("- one\n- two\n\n1. a\n2. b", "• one\n• two\n\n1. a\n2. b"),
        ("# Title\n\ntext\nnext line", "<b>Title</b>\n\ntext\nnext line"),
        ("> quoted", "<blockquote>quoted</blockquote>"),
        ("[page](https://example.org/?a=1&b=2)", '<a href="https://example.org/?a=1&amp;b=2">page</a>'),
        ("[bad](javascript:alert(1))", "[bad](javascript:alert(1))"),
        ("```\n<code>\n```", "<pre>&lt;code&gt;</pre>"),
        (
            '<a href="https://example.org">x</a> <b onclick="y">z</b>',
            '<a href="https://example.org">x</a> &lt;b onclick=&#34;y&#34;&gt;z&lt;/b&gt;',
        ),
    ],
)
def test_light_formatting_becomes_what_every_messenger_takes(typed: str, html: str) -> None:
    assert formatted(typed) == html


async def test_what_a_messenger_keeps_as_formatting_beside_the_words_goes_along(lab: Community) -> None:
    olga = await lab.organiser("olga")
    shown = await olga.says("/announce Come on Friday", marked="Come on <b>Friday</b>")
    assert shown[0].html == "Come on <b>Friday</b>"
    await olga.presses("Change the text")
    shown = await olga.says("Come on Saturday", marked="Come on <i>Saturday</i>")
    assert shown[0].html == "Come on <i>Saturday</i>"
    await olga.presses("Send")
    await rests(lab)
    await olga.presses("Correct it")
    shown = await olga.says("Come on Sunday", marked="Come on <u>Sunday</u>")
    assert shown[0].html == "Come on <u>Sunday</u>"


@given(st.text(alphabet='<>b/iau*_~`[]()#>-1. \n"&x=', max_size=60))
def test_whatever_is_typed_the_html_is_whole(typed: str) -> None:
    parse_html(formatted(typed))


async def test_a_new_announcement_does_not_take_over_the_draft_that_a_question_is_open_about(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/announce A street party on Saturday")
    await olga.presses("Change the text")
    await olga.says("/announce The lab stays closed on Monday")
    texts = await lab.read(lambda session: [row.text for row in session.exec(select(Wording).order_by("text")).all()])
    assert texts == ["A street party on Saturday", "The lab stays closed on Monday"]


async def test_a_draft_that_nobody_looks_at_for_a_month_goes_and_its_words_come_back(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/announce A street party")
    await olga.says("/announce The lab stays closed")
    await sent(lab, olga, "Big news")
    await rests(lab)
    await lab.later(20 * 24 * 3600)
    await olga.says("/announce 2")
    await lab.later(20 * 24 * 3600)
    await lab.tick("forget_drafts")
    await lab.settled()
    assert olga.sees == (
        "Nobody has looked at the draft of announcement 1 for 30 days, so it is discarded. It said:\n\nA street party"
    )
    for number, seen in (("1", "There is no"), ("2", "not sent yet"), ("3", "sent to all")):
        await olga.says(f"/announce {number}")
        assert seen in olga.sees


async def test_a_draft_is_found_again_and_a_number_is_no_text(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/announce A street party on Saturday")
    await olga.presses("For whom")
    await olga.presses("the rooms (0 people)")
    assert "For the rooms: 0 people.\nSo it reaches nobody. Choose “For whom?”." in olga.sees
    assert "Send" not in olga.choices
    await olga.says("/cancel")
    assert olga.sees == "Cancelled. Nothing was sent. The draft stays: /announce 1"
    await olga.says("/announce")
    await olga.presses("Number 1: not sent yet")
    await olga.presses("For whom")
    await olga.presses("everybody")
    await olga.presses("Send")
    await rests(lab)
    await olga.says("/announce #1")
    assert olga.sees.startswith("<b>Announcement 1</b>: sent to all")
    await olga.says("/announce 2")
    assert olga.sees == "There is no announcement 2."
