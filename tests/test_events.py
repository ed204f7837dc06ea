"""Events: announcing one, a list of places over all messengers, the waiting list, reminders, and what follows."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import ImageFont
from sqlalchemy import Connection
from sqlalchemy import event as events
from sqlmodel import Session, col, select

from bot.adapters.memory import Memory, Seen
from bot.app import App
from bot.types import ChatRef
from handlers.events.picture import shows
from storage import linking
from storage.chats import Chat
from storage.engine import Storage, session_in
from storage.events import listing, places, planning, reminding
from storage.events.places import TooMany
from storage.events.planning import Plan
from storage.events.tables import Attendee, Event, Kind, Outcome, Reminder, Rsvp, State
from storage.outbox import Outbox
from storage.people import Account, Person
from tests.conftest import Community, Resident

HOUR, DAY = 3600.0, 86400.0
LINE = "Repair café | 2026-12-05 18:00 | Nordmarkt 1"


async def recounted(lab: Community) -> None:
    """The counts that are kept are those that counting gives."""

    def check(session: Session) -> None:
        for event in session.exec(select(Event)).all():
            kept = {count: getattr(event, count) for count in places.COUNTED.values()}
            assert kept == places.recount(session, event.number)

    await lab.read(check)


@pytest.fixture
async def lab(lab: Community) -> AsyncIterator[Community]:
    """A running lab; at the end of every story its counts are true."""
    yield lab
    await recounted(lab)


async def announces(who: Resident, line: str) -> str:
    """Announce an event in one line, and publish it. Returns its number."""
    await who.says(f"/event {line}")
    await who.presses("Publish")
    found = re.search(r"#(\d+)", who.sees)
    assert found is not None, who.sees
    return found[1]


async def opens(who: Resident, number: str) -> Seen:
    """Have the card of an event shown."""
    await who.says(f"/events {number}")
    return who.screen[-1]


async def comes(who: Resident, number: str, answer: str = "I come") -> str | None:
    """Open the card and answer. Returns the note shown."""
    return await who.presses(answer, await opens(who, number))


async def organises(who: Resident, number: str, choice: str) -> None:
    """Choose something under “Organise”."""
    await who.presses("Organise", await opens(who, number))
    await who.presses(choice)


def texts(who: Resident) -> str:
    """All that stands on somebody's screen."""
    return "\n".join(seen.html for seen in who.screen)


async def group(lab: Community, *members: str) -> ChatRef:
    """A group that speaks English."""
    chat = lab.messenger.group("market", *members)
    await lab.settled()
    await lab.read(lambda session: planning_locale(session))
    return chat


def planning_locale(session: Session) -> None:
    from storage.chats import Chat

    for chat in session.exec(select(Chat).where(Chat.private == False)).all():  # noqa: E712
        chat.locale = "en"
        session.add(chat)


# -- announcing ---------------------------------------------------------------------------------------------


async def test_an_event_is_announced_step_by_step_and_its_day_is_shown_back(lab: Community) -> None:
    olga = await lab.organiser("olga", locale="de")
    await olga.says("/termin")
    await olga.says("Repaircafé")
    await olga.says("30. Februar 18 Uhr")
    assert "„30. Februar 18 Uhr“ verstehe ich nicht als Zeit. Schreib es so: 5.12." in olga.sees
    await olga.says("nächsten Freitag")
    assert "Und um wie viel Uhr?" in olga.sees
    await olga.says("18–21")
    assert "Freitag, 6. November 2026, 18:00–21:00" in olga.sees
    await olga.presses("Ja")
    await olga.says("Nordmarkt 1")
    await olga.presses("Weglassen")
    await olga.says("zwanzig")
    assert olga.sees == (
        "Schreib bitte eine Zahl von 1 bis 100.000, oder 0: Alle können kommen. Mit /abbrechen hörst du auf."
    )
    assert olga.choices == []  # a number is a number of places here
    await olga.says("20 Plätze")
    await olga.presses("Nachbarschaft")
    await olga.presses("Barrierefreiheit")
    await olga.presses("stufenlos")
    await olga.presses("Fertig")
    assert "Barrierefrei: stufenlos" in olga.sees
    await olga.presses("Veröffentlichen")
    anna = lab.person("anna")
    card = await opens(anna, "1")
    assert "Friday, November 6, 2026, 6:00\u202fPM–9:00\u202fPM" in card.html
    assert "20 places are left" in card.html
    assert "Language: German." in card.html
    assert "Accessible: step-free" in card.html


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("gestern 18 Uhr", "That is over already"),
        ("29.3.2027 25 Uhr", "has an hour that no day has"),
        ("28.3.2027 02:30", "there is no such hour"),
        ("5.12. 20:00-19:00", "It would end before it begins"),
        ("every Tuesday 18:00", "A series needs an end"),
        ("5.12.2031 18:00", "more than three years away"),
        ("tomorrow", "And at what time?"),
        ("half past six", "And on which day?"),
        ("Friday, 5.12., 18:00", "The date is another day of the week: Saturday, December 5, 2026."),
        ("1.5. to 1.9. 18:00", "That lasts longer than a month."),
    ],
)
async def test_a_time_that_cannot_be_gets_a_clear_answer_and_the_question_stays(
    lab: Community, words: str, answer: str
) -> None:
    olga = await lab.organiser("olga")
    await olga.says(f"/event Walk | {words} | Park")
    assert answer in olga.sees
    await olga.says("5.12. 18:00")
    assert "Saturday, December 5, 2026" in olga.sees


async def test_day_and_hour_may_come_one_after_the_other_in_either_order(lab: Community) -> None:
    olga = await lab.organiser("olga", locale="de")
    for first, then in (
        ("Freitag", "halb sieben"),
        ("Freitag", "um sieben"),
        ("18–21 Uhr", "Freitag"),
        ("um 7", "Freitag"),
    ):
        await olga.says(f"/termin Lesekreis | {first} | Haus")
        await olga.says(then)
        assert "Freitag, 6. November 2026, " in olga.sees, (first, then)
    for end in ("10 mal", "bis Ende März"):
        await olga.says("/termin Lesekreis | jeden Montag | Haus")
        await olga.says("halb sieben")
        assert olga.sees.startswith("Eine Reihe braucht ein Ende")
        await olga.says(end)
        assert "Montag, 9. November 2026, 18:30–20:30" in olga.sees, end
    await olga.says("/termin Freizeit | Freitag 18 Uhr bis Sonntag 14 Uhr | Haus")
    assert "Freitag, 6. November 2026, 18:00 – Sonntag, 8. November 2026, 14:00" in olga.sees
    await olga.says("/termin Fest | 12. bis 13. Dezember ganztägig | Haus")
    assert "Samstag, 12. Dezember 2026 – Sonntag, 13. Dezember 2026" in olga.sees


@pytest.mark.parametrize(
    ("first", "then", "read"),
    [
        ("every Tuesday 18:00", "10", "10 times"),
        ("every Tuesday 18:00", "until 1.12.", "5 times"),
        ("every Tuesday 18:00", "1.12.", "5 times"),
        ("Friday", "6-8", "I cannot read “6-8” as a time"),
    ],
)
async def test_what_a_time_lacks_is_the_next_answer_and_nothing_else(
    lab: Community, first: str, then: str, read: str
) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/event")
    await olga.says("Repair café")
    await olga.says(first)
    await olga.says(then)
    assert read in olga.sees


async def test_a_day_without_its_dot_is_no_hour_of_the_day_before(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await organises(olga, await announces(olga, LINE), "Move to another time")
    await olga.says("6.12")
    assert "And at what time?" in olga.sees
    await olga.says("19")
    assert "December 6, 2026" in olga.sees
    assert "7:00" in olga.sees


async def test_a_number_that_cannot_be_is_refused_and_the_complaint_names_what_it_is_about(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/event Walk | 5.12. 18:00 | Park | -5")
    assert olga.sees.startswith("Number of places: Please write a number from 1")
    await olga.says("−5")
    assert olga.sees.startswith("Please write a number from 1")
    await olga.says("5")
    await olga.presses("Leave it out")
    await olga.presses("Neighbourhood")
    assert "Places: 5" in olga.sees


async def test_an_hour_that_comes_twice_is_the_first_and_says_so(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, "Night walk | 31.10.2027 02:30 | Park")
    assert "The clock shows this hour twice that night" in (await opens(olga, number)).html
    begins = await lab.read(lambda session: session.get_one(Event, 1).starts_at)
    assert begins == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


async def test_only_organisers_announce_and_a_draft_is_seen_by_them_alone(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await anna.says(f"/event {LINE}")
    assert anna.sees == (
        "Only the lab's organisers can use /event. "
        "/events shows you what is on; what you would like to see you write to me as an /idea."
    )
    team = await group(lab, "olga")
    await olga.within(team).says("/team")
    await olga.says(f"/event {LINE}")
    assert "It goes to the groups that hear of such events (0), to the team's room, and to all who" in olga.sees
    await olga.presses("Keep as a draft")
    await opens(anna, "1")
    assert anna.sees == "There is no event #1, or it is over."
    await olga.says("/events")
    await olga.presses("Draft #1")
    await olga.presses("Organise")
    await olga.presses("Publish")
    assert "Repair café" in (await opens(anna, "1")).html


async def test_what_is_no_time_leaves_the_one_that_was_understood_to_be_confirmed(lab: Community) -> None:
    olga = await lab.organiser("olga")
    for words in ("/event", "Repair café", "next Friday 18:00", "Nordmarkt 1"):
        await olga.says(words)
    assert olga.sees.startswith("I cannot read “Nordmarkt 1” as a time.")
    assert "Friday, November 6, 2026, 6:00" in olga.sees
    await olga.presses("Yes")
    assert olga.sees == "Where is it?"


async def test_an_organisers_card_keeps_its_choices_and_of_a_cancelled_event_nothing_is_offered(
    lab: Community,
) -> None:
    olga, uwe, anna = await lab.organiser("olga"), await lab.organiser("uwe"), lab.person("anna")
    number = await announces(olga, LINE)
    published = olga.screen[-1]
    theirs, hers = await opens(uwe, number), await opens(anna, number)
    await organises(olga, number, "Change: Place")
    await olga.says("Town hall")
    await lab.later(1)  # cards follow a moment later
    assert "Town hall" in theirs.html and "Town hall" in hers.html
    assert "Organise" in [button.label for button in theirs.buttons]
    assert "Organise" not in [button.label for button in hers.buttons]
    await uwe.presses("Organise", theirs)
    await organises(olga, number, "Cancel the event")
    await olga.presses("Yes")
    assert "Organise" not in [button.label for button in (await opens(uwe, number)).buttons]
    assert await olga.presses("Organise", published) == "“Repair café” is cancelled: nothing can be changed any more."


async def test_a_group_hears_what_becomes_of_an_event_whose_card_it_sees(lab: Community) -> None:
    olga, ben = await lab.organiser("olga"), lab.person("ben")
    chat = await group(lab, "olga", "ben")
    number = await announces(olga, LINE)
    there = ben.within(chat)
    await there.says(f"/events {number}")
    await there.presses("I come")  # he has never written to the bot in private
    before = len(there.screen)
    await organises(olga, number, "Move to another time")
    await olga.says("6.12.2026 18:00")
    await olga.presses("Yes")
    await lab.later(1)
    [moved] = there.screen[before:]
    assert moved.html.startswith("“Repair café” has another time:\n\nSunday, December 6, 2026")
    assert [button.label for button in moved.buttons] == ["I come", "Maybe", "I cannot come"]
    await organises(olga, number, "Cancel the event")
    await olga.presses("Yes")
    await lab.later(1)
    [_, cancelled] = there.screen[before:]
    assert cancelled.html.startswith("“Repair café” is cancelled. It would have been:")
    assert not cancelled.buttons and cancelled.file is None


async def test_groups_and_people_who_want_to_hear_of_a_new_event(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    await ben.says("/start")
    await anna.says("/events")
    await anna.presses("My calendar, and news")
    await anna.presses("Tell me of new events")
    chat = await group(lab, "olga", "anna")
    await anna.within(chat).says("/events")
    assert "What this group hears" not in anna.within(chat).choices
    await olga.within(chat).says("/events")
    await olga.within(chat).presses("What this group hears")
    await olga.within(chat).presses("every new event")
    number = await announces(olga, LINE)
    await lab.later(0)
    assert anna.sees.startswith(f"<b>#{number} Repair café</b>")
    assert olga.within(chat).sees.startswith(f"<b>#{number} Repair café</b>")
    assert "Repair" not in texts(ben)
    assert await anna.within(chat).presses("I come") == "You come."
    assert "1 comes." in olga.within(chat).sees


# -- places -------------------------------------------------------------------------------------------------


async def test_yes_brings_a_calendar_file_and_can_be_changed_without_the_old_message(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, f"{LINE} | 10")
    await comes(anna, number)
    assert anna.screen[-1].file is not None
    assert anna.screen[-1].file[0] == "event-1.ics"
    await anna.says(f"/events {number} +2")
    assert "You come, and bring 2 more." in anna.sees
    await anna.says(f"/events {number} maybe")
    assert anna.sees == "You may come."
    await anna.says(f"/events {number} no")
    assert "Nobody has said yes yet. 10 places are left." in (await opens(anna, number)).html
    await anna.says("1")
    assert "You come." in texts(anna)


async def test_companions_may_have_names_which_only_organisers_see(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, f"{LINE} | 4")
    await comes(anna, number)
    for words in ("jo", "+two"):
        await anna.says(f"/events {number} {words}")
        assert anna.sees == "I did not understand that. Write /events 1 yes, no, maybe or +2."
    await anna.says(f"/events {number} +1 Bo")
    await organises(olga, number, "Guests")
    assert "Coming: 2. Maybe: 0. Waiting: 0." in olga.sees
    assert "+1 · Bo" in olga.sees
    await anna.says(f"/events {number} I come!")
    await anna.presses("Bring somebody")
    await anna.says("two")
    assert "How many do you bring?" in anna.sees
    await anna.says("+2 Ali and Eva")
    await anna.says(f"/events {number} +4")
    assert anna.sees == "You can bring 3 more at most."
    card = await opens(ben, number)
    assert "3 come. 1 place is left." in card.html
    assert "Ali" not in card.html
    await organises(olga, number, "Guests")
    assert "Ali and Eva" in olga.sees
    await ben.presses("I come", card)
    assert await ben.presses("I come", card) == "You come."


async def test_the_waiting_list_is_fair_and_a_place_is_held_for_the_next(lab: Community) -> None:
    olga = await lab.organiser("olga")
    anna, ben, cleo, dora = (lab.person(name) for name in ("anna", "ben", "cleo", "dora"))
    number = await announces(olga, f"{LINE} | 1")
    await comes(anna, number)
    assert await comes(ben, number) == "You wait for a place: number 1 in the line."
    assert await comes(cleo, number) == "You wait for a place: number 2 in the line."
    await anna.says(f"/events {number} no")
    assert "a place has become free for you" in ben.sees
    card = (await opens(dora, number)).html
    assert "1 place, none left. 1 waits for a place. 1 place is kept for the waiting list." in card
    await dora.says(f"/events {number} +1")
    assert dora.sees == "There is room for you alone: you cannot bring anybody."
    assert await comes(dora, number) == "You wait for a place: number 2 in the line."  # it is held, not free
    await lab.later(DAY)
    assert "is no longer held for you" in ben.sees
    assert "a place has become free for you" in cleo.sees
    assert await cleo.presses("I come") == "You come."
    assert "number 1 in the line" in (await opens(dora, number)).html
    await cleo.says(f"/events {number} no")
    await dora.presses("I cannot come")
    assert "1 place is left" in (await opens(ben, number)).html


async def test_a_party_that_is_next_and_too_large_is_asked_once_whether_it_comes_with_fewer(lab: Community) -> None:
    olga = await lab.organiser("olga")
    anna, ben, cleo, dora = (lab.person(name) for name in ("anna", "ben", "cleo", "dora"))
    number = await announces(olga, f"{LINE} | 3")
    for who in (anna, dora):
        await comes(who, number)
    await ben.says(f"/events {number} +2")
    assert "number 1 in the line" in texts(ben)
    await comes(cleo, number)
    await dora.says(f"/events {number} no")
    await lab.later(0)
    assert "You are next, and 2 places are free. That is too few for all of you." in ben.sees
    assert ben.choices == ["I come alone", "+1"]
    before = len(ben.screen)
    await dora.says(f"/events {number} yes")  # now last in the line, and nothing is free for her
    await lab.later(60)
    assert len(ben.screen) == before
    assert "a place has become free" not in texts(cleo)  # nobody passes whoever is next
    assert await ben.presses("+1") == "You come, and bring 1 more."
    found = await lab.read(lambda session: session.get_one(Event, 1))
    assert (found.going, found.waiting, found.free) == (3, 2, 0)


async def test_whoever_cannot_be_told_is_passed_over_and_keeps_their_number(lab: Community) -> None:
    olga = await lab.organiser("olga")
    anna, ben, cleo = (lab.person(name) for name in ("anna", "ben", "cleo"))
    number = await announces(olga, f"{LINE} | 1")
    for who in (anna, ben, cleo):
        await comes(who, number)
    lab.messenger.block("ben")
    await lab.settled()
    await anna.says(f"/events {number} no")
    assert "a place has become free for you" in cleo.sees
    states = await lab.read(lambda session: [rsvp.state for rsvp in session.exec(select(Rsvp).order_by("line")).all()])
    assert states == ["no", "waiting", "offered"]


async def test_the_last_place_is_given_once_whoever_presses_at_the_same_time(lab: Community) -> None:
    olga = await lab.organiser("olga")
    people = [lab.person(f"p{number}") for number in range(8)]
    number = await announces(olga, f"{LINE} | 3")
    cards = [await opens(who, number) for who in people]
    for who, card in zip(people, cards, strict=True):
        lab.messenger.press(who.name, who.chat, card.id, 0, card.revision)
    await lab.settled()
    found = await lab.read(lambda session: session.get_one(Event, 1))
    assert (found.going, found.waiting) == (3, 5)


async def test_two_processes_give_the_last_place_to_exactly_one(storage: Storage, database: str) -> None:
    now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    other = Storage(database)

    def prepare(connection: Connection) -> int:
        with session_in(connection) as session:
            for name in range(12):
                session.add(Person(pseudonym=str(name), handle=str(name), created_at=now))
            plan = Plan("Walk", datetime(2026, 12, 5, 18), 60, "other", "en", "Europe/Berlin", capacity=1)  # noqa: DTZ001
            [event] = planning.create(session, plan, None, now)
            planning.publish(session, [event], now)
            session.commit()
            return event.number

    number = await storage.run(prepare)

    def say_yes(person: int) -> Callable[[Connection], str]:
        def job(connection: Connection) -> str:
            with session_in(connection) as session:
                state = places.answer(session, number, person, State.YES, now).rsvp.state
                session.commit()
                return str(state)

        return job

    jobs: list[Awaitable[str]] = [(storage if person % 2 else other).run(say_yes(person)) for person in range(1, 13)]
    states = await asyncio.gather(*jobs)
    await other.close()
    assert sorted(states) == ["waiting"] * 11 + ["yes"]


async def test_more_places_go_to_those_who_wait_and_fewer_than_given_out_are_refused(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, f"{LINE} | 1")
    await comes(anna, number)
    await comes(ben, number)
    await organises(olga, number, "Change: Number of places")
    await olga.says("2")
    await lab.later(0)  # what is due is told by the clock
    assert "a place has become free for you" in ben.sees
    await organises(olga, number, "Change: Number of places")
    await olga.says("1")
    assert olga.sees == "2 places are given out already."


async def test_after_the_deadline_one_can_only_leave(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, LINE)
    await organises(olga, number, "Change: Deadline")
    await olga.says("3.12. 12:00")
    await comes(anna, number)
    await lab.later(31 * DAY + 12 * HOUR)
    assert await comes(ben, number) == (
        "It was possible to say so until the deadline. You can still say that you cannot come."
    )
    assert await comes(anna, number, "I cannot come") == "You do not come."


async def test_too_few_come_and_the_organiser_cancels_and_everybody_is_told(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, LINE)
    await organises(olga, number, "Change: Smallest number")
    await olga.says("5")
    await comes(anna, number)
    await comes(ben, number, "Maybe")
    await lab.later(32 * DAY + 10 * HOUR)
    assert olga.sees.startswith("“Repair café” needs at least 5, and 1 comes.")
    await olga.presses("Cancel it and tell everybody")
    await lab.later(0)
    for who in (anna, ben):
        assert who.sees.startswith("“Repair café” is cancelled.")
    assert anna.screen[-1].file is not None
    assert b"STATUS:CANCELLED" in anna.screen[-1].file[1]
    await lab.later(3 * DAY)
    assert anna.sees.startswith("“Repair café” is cancelled.")  # no reminder, no question
    await anna.says(f"/events {number} yes")
    assert anna.sees == "“Repair café” is cancelled."
    await anna.says("/events")
    assert anna.sees == "There is nothing yet."


async def test_many_thousands_who_come_are_a_number_and_a_page_of_names(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)

    def crowd(session: Session) -> None:
        for place in range(10_000):
            session.add(
                Person(id=1000 + place, pseudonym=f"Person {place}", handle=f"p{place}", created_at=lab.time.now())
            )
        session.flush()
        for place in range(10_000):
            session.add(Rsvp(event_id=int(number), person_id=1000 + place, state=State.YES, at=lab.time.now()))
        session.get_one(Event, int(number)).going = 10_000

    await lab.read(crowd)
    assert "10,000 come." in (await opens(olga, number)).html
    await organises(olga, number, "Guests")
    assert len(olga.sees.splitlines()) == 31
    await olga.presses("More")
    assert "Person 30 " in olga.sees


async def test_a_groups_card_follows_however_many_people_have_looked_at_the_event(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, LINE)

    def crowd(session: Session) -> None:
        now = lab.time.now()
        chats = [
            Chat(adapter="memory", external=f"x{n}", private=True, locale="en", created_at=now) for n in range(1100)
        ]
        session.add_all(chats)
        session.flush()
        shown: dict[str, Any] = {"adapter": "memory", "subject": f"event:{number}", "choices": "[]", "queued_at": now}
        session.add_all([Outbox(chat_id=chat.id or 0, state="delivered", external="m", **shown) for chat in chats])

    await lab.read(crowd)
    chat = await group(lab, "olga", "anna")
    await anna.within(chat).says(f"/events {number}")
    await comes(anna, number)
    assert "1 comes." in anna.within(chat).sees


# -- changes ------------------------------------------------------------------------------------------------


async def test_a_move_is_told_to_all_it_concerns_and_all_cards_follow(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, LINE)
    await comes(anna, number)
    old = await opens(ben, number)
    await organises(olga, number, "Move")
    await olga.says("every Tuesday 9:00")
    assert olga.sees == "Only one day and hour fit here, for example: tomorrow 9:00"
    await olga.says("12.1. 15:00")
    await olga.says("half past seven")
    assert "Tuesday, January 12, 2027, 7:30\u202fPM–9:30\u202fPM" in olga.sees  # the day that was shown
    await olga.presses("No, another time")
    await olga.says("half past seven")
    assert "Saturday, December 5, 2026, 7:30\u202fPM–9:30\u202fPM" in olga.sees  # its own
    await olga.says("12.1. to 14.1. 10:00")
    assert "January 12, 2027, 10:00\u202fAM – Thursday, January 14, 2027, 12:00\u202fPM" in olga.sees
    await olga.says("6.12.")
    await olga.says("15:00–17:00")
    assert "Is that right?" in olga.sees
    await lab.later(0)
    assert "has another time" not in texts(anna)
    await olga.presses("Yes")
    await lab.later(0)
    assert anna.sees.startswith("“Repair café” has another time:")
    assert "December 6, 2026, 3:00\u202fPM–5:00\u202fPM" in anna.sees
    assert anna.screen[-1].file is not None
    assert b"SEQUENCE:1" in anna.screen[-1].file[1]
    assert "December 6" in next(seen for seen in ben.screen if seen.id == old.id).html
    assert "has another time" not in texts(ben)
    due = await lab.read(
        lambda session: session.exec(
            select(Reminder.due_at).where(Reminder.kind == Kind.REMIND, Reminder.ahead == 120)
        ).one()
    )
    assert due == datetime(2026, 12, 6, 12, 0, tzinfo=UTC)


async def test_a_series_is_changed_here_from_here_on_or_as_a_whole_and_one_is_skipped(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await announces(olga, "Open lab | every second Tuesday 18:00, 4 times | Lab")

    def starts(session: Session) -> list[str]:
        events = session.exec(select(Event).order_by(col(Event.id))).all()
        return [f"{event.wall[5:]} {event.status[:4]}" for event in events]

    assert [line[:11] for line in await lab.read(starts)] == [
        "11-03T18:00",
        "11-17T18:00",
        "12-01T18:00",
        "12-15T18:00",
    ]
    await comes(anna, "2")
    await organises(olga, "3", "Move")
    await olga.presses("This one and all that follow")
    await olga.says("1.12. 19:00")
    await olga.presses("Yes")
    await organises(olga, "2", "Cancel the event")
    await olga.presses("Only this one")
    await olga.presses("Yes, cancel it")
    await organises(olga, "1", "Change: Title")
    await olga.presses("The whole series")
    await olga.says("Open door")
    await lab.later(0)
    assert await lab.read(starts) == ["11-03T18:00 publ", "11-17T18:00 canc", "12-01T19:00 publ", "12-15T19:00 publ"]
    assert anna.sees.startswith("“Open lab” is cancelled.")
    titles = await lab.read(lambda session: session.exec(select(Event.title).order_by(col(Event.id))).all())
    assert titles == ["Open door", "Open lab", "Open door", "Open door"]


async def test_an_ideas_backers_hear_of_its_event_first(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    await anna.says("/idea A repair café\nFor all that is broken.")
    await anna.presses("Send")
    await ben.says("/events")
    await ben.presses("My calendar, and news")
    await ben.presses("Tell me of new events")
    await olga.says("/ideas 1")
    await olga.presses("Make an event of it")
    await olga.says("5.12. 18:00")
    await olga.presses("Yes")
    await olga.says("0")
    await olga.presses("Neighbourhood")
    await olga.presses("Publish")
    await lab.later(0)
    assert anna.sees.startswith("An event comes of the idea that you support.")
    assert "A repair café" not in texts(ben)
    await lab.later(HOUR)
    assert "A repair café" in ben.sees


# -- reminders ----------------------------------------------------------------------------------------------


async def test_a_week_a_day_and_two_hours_before_and_a_question_afterwards(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, LINE)  # in 33 days and 8 hours
    await comes(anna, number)
    await comes(ben, number)
    await ben.presses("Reminders")
    await ben.presses("No reminders")
    before = len(anna.screen)
    # A week, a day and two hours before; then the question, which waits for the morning since the evening is late.
    for hours, told in ((26 * 24 + 8, 1), (6 * 24, 2), (21, 2), (1, 3), (2, 3), (3, 3), (12, 4)):
        await lab.later(hours * HOUR)
        assert len(anna.screen) == before + told, hours
    assert "A reminder:" not in texts(ben)
    assert anna.sees == "You were at “Repair café”. How was it?"
    await anna.presses("Very good")
    await anna.says("More tea, please")
    await organises(olga, number, "The door")
    assert "2 answers" not in olga.sees
    assert "More tea, please" in olga.sees
    await organises(olga, number, "Change: Minutes and photos")
    await olga.says("https://lab.example/photos")
    assert "Minutes and photos" in [button.label for button in (await opens(anna, number)).buttons]


async def test_a_late_reminder_is_sent_while_it_helps_and_else_noted_as_expired(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, LINE)
    await comes(anna, number)
    before = len(anna.screen)
    lab.time.pass_by(33 * DAY)  # the bot was down: the week's and the day's are overdue
    await lab.restart()
    await lab.later(0)
    assert len(anna.screen) == before + 1
    states = await lab.read(
        lambda session: {
            row.ahead: row.state for row in session.exec(select(Reminder).where(Reminder.kind == Kind.REMIND)).all()
        }
    )
    assert states == {10080: Outcome.EXPIRED, 1440: Outcome.DONE, 120: Outcome.PENDING}
    await lab.later(9 * HOUR)
    assert len(anna.screen) == before + 1
    await lab.later(0)
    states = await lab.read(lambda session: session.exec(select(Reminder.state).where(Reminder.ahead == 120)).all())
    assert states == [Outcome.EXPIRED]


async def test_a_clock_that_jumps_an_hour_and_back_reminds_once(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, "Walk | tomorrow 13:00 | Park")
    await comes(anna, number)
    await lab.later(DAY)  # 10:00: two hours before is 11:00
    before = len(anna.screen)
    await lab.later(HOUR)
    lab.time.pass_by(-HOUR)
    await lab.later(HOUR)
    assert len(anna.screen) == before + 1


async def test_two_processes_with_one_database_remind_everybody_once(lab: Community) -> None:
    now = lab.time.now()
    plan = Plan("Walk", datetime(2026, 12, 5, 18), 60, "other", "en", "Europe/Berlin")  # noqa: DTZ001

    def prepare(session: Session) -> None:
        [event] = planning.create(session, plan, None, now)
        planning.publish(session, [event], now)
        people = range(1000, 1600)
        event.going = len(people)
        session.add(event)
        shared: dict[str, Any] = {"adapter": "memory", "private": True, "locale": "en", "created_at": now}
        for rows in (
            [Person(id=n, pseudonym=f"p{n}", handle=f"p{n}", notice=9, created_at=now) for n in people],
            [Account(id=n, person_id=n, adapter="memory", external=f"p{n}", created_at=now) for n in people],
            [Chat(account_id=n, external=f"p-p{n}", **shared) for n in people],
            [Rsvp(event_id=event.number, person_id=n, state=State.YES, at=now) for n in people],
            [Reminder(event_id=event.number, person_id=n, ahead=60, due_at=now) for n in people],
        ):
            session.add_all(rows)
            session.flush()

    await lab.read(prepare)
    lab.messenger.down = True  # nobody delivers: what counts is what was queued
    other = App(lab.settings, [Memory(now=lab.time.now)], time=lab.time)
    await asyncio.gather(lab.app.clock.catch_up(), other.clock.catch_up())
    await other.storage.close()
    told = await lab.read(lambda session: session.exec(select(Outbox.chat_id)).all())
    assert (len(told), len(set(told))) == (600, 600)
    states = await lab.read(lambda session: set(session.exec(select(Reminder.state)).all()))
    assert states == {Outcome.DONE}


async def test_a_group_gets_one_reminder(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    chat = await group(lab, "olga", "anna")
    await olga.within(chat).says("/events")
    await olga.within(chat).presses("What this group hears")
    await olga.within(chat).presses("every new event")
    await announces(olga, LINE)
    before = len(anna.within(chat).screen)
    await lab.later(33 * DAY)
    assert [seen.html[:11] for seen in anna.within(chat).screen[before:]] == ["A reminder:"]


async def test_a_group_reminder_names_only_who_wants_it_at_the_moment_it_is_sent(lab: Community) -> None:
    olga, anna, ben, cleo = await lab.organiser("olga"), *(lab.person(name) for name in ("anna", "ben", "cleo"))
    chat = await group(lab, "olga", "anna", "ben", "cleo")
    await olga.within(chat).says("/room")
    await olga.within(chat).presses("every new event")
    number = await announces(olga, LINE)
    for who in (anna, ben, cleo):
        await comes(who, number)
        await who.says("/events")
        await who.presses("My calendar, and news")
        assert "I do not name you." in who.sees
        await who.presses("Name me in group reminders")
        assert "So it sees that you come." in who.sees
    await ben.presses("Do not name me")
    lab.messenger.down = True  # the reminder waits in the outbox, and cleo says no meanwhile
    lab.time.pass_by(33 * DAY)
    await lab.app.clock.catch_up()
    lab.messenger.say("cleo", cleo.chat, f"/events {number} no")
    await lab.messenger.caught_up()
    lab.messenger.down = False
    await lab.time.pass_until(lab.settled())
    reminder = anna.within(chat).screen[-1]
    assert reminder.mentions == ("anna",)
    assert reminder.versions[0].endswith("\n\nanna")
    stored = await lab.read(lambda session: session.exec(select(Outbox.mentions)).all())
    assert {mentions for mentions in stored if mentions} == {'["events.coming", ["1"]]'}


@pytest.mark.parametrize("asked", [True, False])
async def test_who_is_named_on_one_account_only_is_not_named_once_they_are_linked(lab: Community, asked: bool) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    for who in (anna, ben):
        await who.says("/events")
        if asked or who is anna:
            await who.presses("My calendar, and news")
    await anna.presses("Name me in group reminders")

    def merge(session: Session) -> list[bool]:
        kept, gone = session.exec(select(Person.id).order_by(col(Person.id))).all()
        linking.merge(session, gone or 0, kept or 0, lab.time.now())
        return list(session.exec(select(Attendee.mention)).all())

    assert await lab.read(merge) == [False]


async def test_moving_an_event_of_ten_thousand_is_one_statement_about_reminders(storage: Storage) -> None:
    now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    statements: list[str] = []

    def job(connection: Connection) -> tuple[int, list[datetime]]:
        with session_in(connection) as session:
            plan = Plan("Walk", datetime(2026, 12, 5, 18), 60, "other", "en", "Europe/Berlin")  # noqa: DTZ001
            [event] = planning.create(session, plan, None, now)
            planning.publish(session, [event], now)
            rows = [
                Reminder(event_id=event.number, kind=Kind.REMIND, ahead=ahead, due_at=now)
                for ahead in (1440, 120)
                for _ in range(5000)
            ]
            session.add_all(rows)
            session.commit()

            def listen(*args: object) -> None:
                statements.append(str(args[2]))

            events.listen(connection, "before_cursor_execute", listen)
            reminding.reschedule(session, event, now)
            events.remove(connection, "before_cursor_execute", listen)
            due = session.exec(select(Reminder.due_at).distinct().order_by(col(Reminder.due_at))).all()
            return sum("reminder" in statement for statement in statements), list(due)

    number, due = await storage.run(job)
    assert number == 1
    assert due == [datetime(2026, 12, 4, 17, tzinfo=UTC), datetime(2026, 12, 5, 15, tzinfo=UTC)]


# -- the door, lists, leaving -------------------------------------------------------------------------------


async def test_whoever_writes_the_code_at_the_door_is_checked_in(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, "Walk | tomorrow 13:00 | Park")
    await comes(anna, number)
    code = await lab.read(lambda session: session.get_one(Event, 1).code)
    await anna.says(f"/events {number} {code}")
    assert anna.sees == "The code works from two hours before the beginning until the end."
    await lab.later(DAY + 3 * HOUR)
    await anna.says(f"/events {number} {'000000' if code != '000000' else '000001'}")
    assert anna.sees == "This is not the code of “Walk”."
    await anna.says(f"/start event-{number}-{code}")
    assert anna.sees == "Welcome to “Walk”!"
    await ben.says(f"/events {number} {code}")
    assert ben.sees == "You are not on the list yet. Do you come?"
    await organises(olga, number, "The door")
    assert "1 of 1 are here." in olga.sees


async def test_events_are_listed_by_topic_accessibility_and_words(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await announces(olga, LINE)
    await announces(olga, "Walk | 4.12. 18:00 | Park")
    await anna.says("/events")
    assert [label[:2] for label in anna.choices[:2]] == ["#2", "#1"]
    await anna.says("/events repair")
    assert anna.choices[0] == "#1 Repair café"
    assert "Walk" not in anna.sees
    await anna.says("/events step-free")
    assert "Nothing like that is planned." in anna.sees
    await anna.says("/events mobility")
    assert "Nothing like that is planned." in anna.sees
    await anna.presses("All events")
    assert "Walk" in anna.sees


async def test_the_month_is_a_picture_with_words_beside_it(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await announces(olga, "Walk | tomorrow 13:00 | Park")
    await anna.says("/events month")
    assert "#1 Walk" in anna.sees
    assert anna.screen[-1].file is not None
    assert anna.screen[-1].file[1].startswith(b"\x89PNG")
    await anna.presses("The month after")
    assert anna.sees == "Nothing is planned in this month."


async def test_a_month_with_many_events_stays_whole_in_words_that_fit_beside_the_picture(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")

    def plan(session: Session) -> None:
        for n in range(40):
            wall = datetime(2026, 11, 1 + n % 28, 18)  # noqa: DTZ001
            plan = Plan(f"Event of the neighbourhood {n}", wall, 60, "other", "en", "Europe/Berlin")
            planning.publish(session, planning.create(session, plan, None, lab.time.now()), lab.time.now())

    await lab.read(plan)
    parts = await anna.says("/events month")
    assert len(parts) > 1
    assert all(len(part.html) <= lab.messenger.limits.caption for part in parts)
    assert [part.file is not None for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(f"#{n} Event" in texts(anna) for n in range(1, 41))


def test_what_a_font_cannot_show_is_known() -> None:
    font = ImageFont.load_default(16)  # Pillow's own, without umlauts
    assert shows(font, "Repair 18:00")
    assert not shows(font, "Märzlauf")
    assert not shows(font, "社区")


async def test_who_leaves_frees_their_place_and_the_next_is_told(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, f"{LINE} | 1")
    await comes(anna, number)
    await comes(ben, number)
    await anna.says("/me")
    await anna.presses("Erase everything")
    await anna.presses("They go, too")
    await lab.later(0)
    assert "a place has become free for you" in ben.sees


async def test_two_people_who_were_one_have_one_answer_the_better(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    first = await announces(olga, f"{LINE} | 5")
    second = await announces(olga, "Walk | 4.12. 18:00 | Park")
    await comes(anna, first, "Maybe")
    await comes(ben, first)
    await ben.says(f"/events {first} +1")
    await comes(anna, second)

    def merge(session: Session) -> tuple[int, list[tuple[int, str, int]], set[int]]:
        kept, gone = session.exec(select(Rsvp.person_id).distinct().order_by(col(Rsvp.person_id))).all()
        twice = linking.merge(session, gone, kept, lab.time.now()).twice
        rows = session.exec(select(Rsvp).order_by(col(Rsvp.event_id))).all()
        return (
            twice,
            [(rsvp.event_id, rsvp.state, rsvp.companions) for rsvp in rows],
            {rsvp.person_id - kept for rsvp in rows},
        )

    assert await lab.read(merge) == (1, [(1, "yes", 1), (2, "yes", 0)], {0})
    lines = await lab.read(lambda session: [(line.number, line.going, line.maybe) for line in listing.export(session)])
    assert lines == [(1, 2, 0), (2, 1, 0)]


def test_a_party_that_can_never_have_a_place_is_told_how_many_can() -> None:
    assert TooMany(3).free == 3
    assert timedelta(hours=24) == places.HOLD
