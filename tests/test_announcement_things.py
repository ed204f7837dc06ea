"""What goes with an announcement, and the people of an idea or an event as its audience."""

from typing import Any

import sqlalchemy
from sqlmodel import Session

from bot.adapters.memory import Seen
from storage.announcements import writing
from storage.events.tables import Event
from storage.polls import asking
from storage.polls.tables import Audience, Poll
from tests.conftest import Community, Resident
from tests.test_announcements import copies, crowd, rests
from tests.test_ballots import BERLIN
from tests.test_events import LINE, announces, comes


def labels(seen: Seen) -> list[str]:
    return [button.label for button in seen.buttons]


async def sends(lab: Community, olga: Resident, kind: str, number: str) -> None:
    """The draft that is open, with something that goes along, to everybody."""
    await olga.presses("Add an idea")
    await olga.presses(kind)
    await olga.says(f"#{number}")
    await olga.presses("Send")
    await rests(lab)


async def test_whoever_reads_of_an_event_says_there_that_they_come(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    [seen] = copies(ada, "See you there")
    assert seen.html.startswith("See you there\n\n<b>#1 Repair café</b>\n")
    assert "Nordmarkt 1" in seen.html
    assert labels(seen) == ["I come", "About the event", "Hear less of this"]
    note = await ada.presses("I come", seen)
    assert note is not None and "You come" in note
    await olga.says("/events 1")
    assert "1" in olga.sees
    await olga.presses("Organise")
    await ben.presses("About the event", copies(ben, "See you there")[0])
    assert "Repair café" in ben.sees


async def test_an_event_that_is_cancelled_meanwhile_takes_no_answers_from_the_copies(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    lab.time.pass_by(60 * 24 * 3600)  # it is over
    note = await ada.presses("I come", copies(ada, "See you there")[0])
    assert note is not None and "it is over" in note


async def moves(lab: Community, **more: object) -> None:
    """The event is planned otherwise, and somebody looks whether that matters."""

    def change(session: Session) -> None:
        event = session.get_one(Event, 1)
        for name, value in more.items():
            setattr(event, name, value)
        session.add(event)

    await lab.read(change)
    await lab.tick("notice_changes")
    await lab.settled()


async def test_when_the_event_that_goes_along_changes_one_press_changes_the_copies(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    await moves(lab)
    assert not copies(olga, "has changed")
    await moves(lab, place="Old mill")
    await moves(lab)
    [told] = copies(olga, "What goes with announcement 1 has changed.")
    assert "Place: Old mill\n\nThe copies still show it as it was." in told.html
    assert "Nordmarkt 1" in copies(ada, "See you there")[0].html
    await olga.presses("Change the copies")
    await rests(lab)
    [seen] = copies(ada, "See you there")
    assert "Place: Old mill" in seen.html
    assert labels(seen) == ["I come", "About the event", "Hear less of this"]
    await moves(lab, status="cancelled")
    await olga.presses("Change the copies")
    await rests(lab)
    [seen] = copies(ada, "See you there")
    assert seen.html == "See you there\n\n<b>#1 Repair café</b>\n<b>This event is cancelled.</b>"
    assert labels(seen) == ["Hear less of this"]
    assert len(seen.versions) == 3


async def test_an_event_that_has_taken_place_as_announced_is_no_change(lab: Community) -> None:
    await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    lab.time.pass_by(60 * 24 * 3600)
    await moves(lab)
    assert not copies(olga, "has changed")


async def test_when_an_event_takes_more_room_than_before_no_word_of_the_copies_is_lost(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says(f"/announce Begin {'x' * 3870} end")
    await sends(lab, olga, "An event", number)
    [before] = [seen.html for seen in copies(ada, "Begin x")]
    await moves(lab, place="y" * 200)
    await olga.presses("Change the copies")
    assert olga.sees == "That is 3,880 characters, and 3,828 fit. Can you say it shorter?"
    await lab.read(lambda session: writing.word(session, writing.find(session, 1), "de", "Neu", "Neu"))
    await olga.presses("Correct it")
    await olga.presses("Deutsch")
    await olga.says("Ganz neu")
    await olga.presses("Yes, change them")
    await rests(lab)
    assert [seen.html for seen in copies(ada, "Begin x")] == [before]  # in English it does not fit
    assert not copies(ada, "yyy")
    await olga.presses("Correct it")
    await olga.presses("English")
    await olga.says("Short")
    await olga.presses("Yes, change them")
    await rests(lab)
    assert copies(ada, "Short")[0].html.endswith("y" * 200)


async def test_that_the_bot_says_it_in_other_words_is_no_change(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    lab.settings = lab.settings.model_copy(update={"locale": "en"})
    await lab.restart()
    await moves(lab)
    assert not copies(olga, "has changed")
    await moves(lab, place="Hafen 7")
    assert len(copies(olga, "has changed")) == 1


async def test_a_look_for_changes_holds_no_announcement_that_has_none(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce See you there")
    await sends(lab, olga, "An event", number)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    engine = await lab.read(lambda session: session.get_bind().engine)
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    try:
        await lab.tick("notice_changes")
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", note)
    assert any("attached_as IS NOT NULL" in statement for statement in asked)
    assert not any("FOR UPDATE" in statement for statement in asked)  # SQLite never says it: it has one writer


async def test_a_poll_that_is_closed_early_is_told_and_the_copies_say_so(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")

    def ask(session: Session) -> None:
        draft = asking.Draft("Which evening?", ("Tue", "Wed"), audience=Audience.LAB)
        asking.ask(session.connection(), draft, 1, lab.time.now(), BERLIN)

    await lab.read(ask)
    await olga.says("/announce Have your say")
    await sends(lab, olga, "A poll", "1")
    await olga.says("/close 1")
    await lab.tick("notice_changes")
    await lab.settled()
    await olga.presses("Change the copies")
    await rests(lab)
    [seen] = copies(ada, "Have your say")
    assert seen.html.endswith("<b>#1 Which evening?</b>\nPoll #1 is closed.")


async def test_a_poll_is_voted_on_from_every_copy_by_those_who_may(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")

    def ask(session: Session) -> None:
        for question, who in (("Which evening?", Audience.LAB), ("Whose turn?", Audience.TEAM)):
            draft = asking.Draft(question, ("Tue", "Wed"), audience=who)
            asking.ask(session.connection(), draft, 1, lab.time.now(), BERLIN)
        session.commit()

    await lab.read(ask)
    await olga.says("/announce Have your say")
    await sends(lab, olga, "A poll", "1")
    [seen] = copies(ada, "Have your say")
    assert "<b>#1 Which evening?</b>" in seen.html
    await ada.presses("Vote", seen)
    await ada.presses("Wed")
    assert (await lab.read(lambda session: session.get_one(Poll, 1))).voters == 1
    await olga.says("/announce For the team")
    await sends(lab, olga, "A poll", "2")
    before = len(ben.screen)
    await ben.presses("Vote", copies(ben, "For the team")[0])
    assert not any("Tue" in seen.html for seen in ben.screen[before:])


async def test_a_poll_for_groups_warns_its_sender_and_tells_its_readers(lab: Community) -> None:
    _, ben = await crowd(lab, "ada", "ben")  # Ada has asked
    olga = await lab.organiser("olga")

    def ask(session: Session) -> None:
        asking.ask(session.connection(), asking.Draft("Which evening?", ("Tue", "Wed")), 1, lab.time.now(), BERLIN)
        session.commit()

    await lab.read(ask)
    await olga.says("/announce Have your say")
    await olga.presses("Add an idea")
    await olga.presses("A poll")
    await olga.says("#1")
    assert "\nPoll #1 is only for people in its groups. The others cannot vote.\n" in olga.sees
    await olga.presses("Send")
    await rests(lab)
    note = await ben.presses("Vote", copies(ben, "Have your say")[0])
    assert note == "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there."


async def test_from_a_room_a_poll_for_groups_is_opened_without_the_link_that_lets_in(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    hearing, theirs = lab.group("hearing", "olga", "ada"), lab.group("theirs", "ben")
    await olga.within(hearing).says("/language en")
    await olga.within(hearing).says("/room")
    await olga.within(hearing).presses("what is for everybody")
    await ben.within(theirs).says("/poll Which evening? | Tue | Wed")
    link = (await lab.read(lambda session: session.get_one(Poll, 1))).link
    await olga.says("/announce Have your say")
    await sends(lab, olga, "A poll", "1")
    [copy] = copies(ada.within(hearing), "Have your say")
    assert [button.start for button in copy.buttons] == ["poll-1"]
    assert link not in str(ada.within(hearing).screen)
    for payload in ("poll-1", "poll-2"):
        await ada.says(f"/start {payload}")
    assert [seen.html for seen in ada.screen[-2:]] == [
        "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there.",
        "There is no poll #2.",
    ]
    await ben.within(theirs).presses("Wed")
    await ben.says("/start poll-1")
    assert await ben.presses("Tue") == "Your vote in #1: 1. Tue"


async def test_a_poll_for_some_rooms_only_does_not_go_along(lab: Community) -> None:
    await crowd(lab, "ada")
    olga = await lab.organiser("olga")

    def ask(session: Session) -> None:
        for question, who in (("For these rooms?", Audience.ROOMS), ("For all?", Audience.LAB)):
            asking.ask(
                session.connection(), asking.Draft(question, ("A", "B"), audience=who), 1, lab.time.now(), BERLIN
            )
        session.commit()

    await lab.read(ask)
    await olga.says("/announce Have your say")
    await olga.presses("Add an idea")
    await olga.presses("A poll")
    assert olga.choices == ["#2 For all?", "Cancel"]
    await olga.says("#1")
    assert olga.sees == "Poll #1 is only for the rooms where it stands, so it cannot go along. Which one?"


async def test_what_goes_along_counts_as_words(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    await olga.says("/announce " + "a" * (lab.messenger.limits.text - 10))
    await olga.presses("Add an idea")
    await olga.presses("An event")
    await olga.says(f"#{number}")
    assert any("Can you say it shorter?" in seen.html for seen in olga.screen[-3:])
    assert "not sent yet" in olga.sees
    assert "Without the event" not in labels(olga.screen[-1])


async def test_those_who_come_may_come_or_wait_are_audiences(lab: Community) -> None:
    ada, ben, cleo, dora, eva = await crowd(lab, "ada", "ben", "cleo", "dora", "eva")
    olga = await lab.organiser("olga")
    number = await announces(olga, f"{LINE} | 1")
    await comes(ada, number)
    await comes(ben, number, "Maybe")
    await comes(cleo, number)  # there was one place
    await comes(dora, number, "I cannot")
    for text, choice in (
        ("for-yes", "who comes, event #1 (1 person)"),
        ("for-maybe", "who comes or may come, event #1 (2 people)"),
        ("for-waiting", "who is on the waiting list, event #1 (1 person)"),
        ("for-all", "who comes, may come or waits, event #1 (3 people)"),
    ):
        await olga.says(f"/announce {text}")
        await olga.presses("For whom")
        await olga.presses("Who takes part in an event")
        await olga.says(f"#{number}")
        await olga.presses(choice)
        assert "event #1" in olga.sees
        await olga.presses("Send")
        await rests(lab, 2)
    got = {
        person.name: [text for text in ("yes", "maybe", "waiting", "all") if copies(person, f"for-{text}")]
        for person in (ada, ben, cleo, dora, eva)
    }
    assert got == {
        "ada": ["yes", "maybe", "all"],
        "ben": ["maybe", "all"],
        "cleo": ["waiting", "all"],
        "dora": [],
        "eva": [],
    }
