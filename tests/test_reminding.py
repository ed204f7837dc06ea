"""Reminding: what somebody has turned off stays off, what was told is not told twice, what is put off comes again."""

from sqlmodel import Session, col, select

from storage import linking
from storage.events.tables import Event, Kind, Outcome, Reminder, Rsvp
from storage.people import Person
from tests.conftest import Community
from tests.test_events import DAY, HOUR, LINE, announces, comes, group, organises, texts


def states(session: Session) -> dict[int, str]:
    """What has become of each person's reminder, by its minutes ahead."""
    rows = session.exec(select(Reminder).where(Reminder.kind == Kind.REMIND, col(Reminder.person_id).is_not(None)))
    return {row.ahead: row.state for row in rows.all()}


async def test_who_has_turned_reminders_off_is_not_reminded_again_when_the_event_is_put_off(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, LINE)
    await comes(anna, number)
    await lab.later(27 * DAY)
    assert "A reminder:" in anna.sees
    await anna.presses("No reminders")
    await organises(olga, number, "Move")
    await olga.says("9.1. 18:00")
    await olga.presses("Yes")
    await lab.later(0)
    before = len(anna.screen)
    await lab.later(35 * DAY + 12 * HOUR)  # past the beginning, before the question
    assert "A reminder:" not in "".join(seen.html for seen in anna.screen[before:])


async def test_an_event_that_is_put_off_reminds_of_what_was_over_already(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    chat = await group(lab, "olga", "anna")
    await olga.within(chat).says("/room")
    await olga.within(chat).presses("every new event")
    number = await announces(olga, "Walk | tomorrow 9:00 | Park")  # no week and no day is left
    await comes(anna, number)
    assert await lab.read(states) == {10080: Outcome.EXPIRED, 1440: Outcome.EXPIRED, 120: Outcome.PENDING}
    await organises(olga, number, "Move")
    await olga.says("4.12. 18:00")
    await olga.presses("Yes")
    assert set((await lab.read(states)).values()) == {Outcome.PENDING}
    await lab.later(31 * DAY + 9 * HOUR)
    assert "A reminder:" in anna.sees
    assert "A reminder:" in anna.within(chat).sees


async def test_the_question_afterwards_is_asked_once_whatever_is_pressed_and_linked_later(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, "Walk | tomorrow 13:00 | Park")
    for who in (anna, ben):
        await comes(who, number)
    await lab.later(DAY + 8 * HOUR)
    assert anna.sees == "You were at “Walk”. How was it?"
    await anna.presses("Reminders")
    await anna.presses("Also an hour before")
    await lab.later(0)

    def merge(session: Session) -> None:
        kept, gone = session.exec(
            select(Person.id).where(col(Person.id).in_(select(Reminder.person_id))).order_by(col(Person.id))
        ).all()
        linking.merge(session, gone or 0, kept or 0, lab.time.now())

    await lab.read(merge)
    await lab.later(DAY)
    assert texts(anna).count("How was it?") == 1
    assert texts(ben).count("How was it?") == 1


async def test_a_room_that_hears_of_events_no_more_is_not_reminded_of_those_it_heard_of(lab: Community) -> None:
    olga = await lab.organiser("olga")
    chat = await group(lab, "olga")
    await olga.within(chat).says("/room")
    await olga.within(chat).presses("every new event")
    await announces(olga, LINE)
    await olga.within(chat).says("/room")
    await olga.within(chat).presses("every new event")
    before = len(olga.within(chat).screen)
    await lab.later(33 * DAY)
    assert len(olga.within(chat).screen) == before
    rows = await lab.read(lambda session: session.exec(select(Reminder.state).where(Reminder.ahead == 1440)).all())
    assert rows == [Outcome.EXPIRED]


async def test_a_place_that_is_held_is_not_lost_at_night(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, "Walk | tomorrow 10:00 | Park | 1")
    await comes(anna, number)
    await comes(ben, number)
    await lab.later(13 * HOUR)  # eleven in the evening, half of the rest would be half past four
    await anna.says(f"/events {number} no")
    assert "It is held for you until Nov 3, 2026, 9:00\u202fAM" in ben.sees
    await lab.later(9 * HOUR)
    assert await ben.presses("I come") == "You come."


async def test_minutes_and_photos_are_told_to_those_who_were_asked_before_they_were_there(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    number = await announces(olga, "Walk | tomorrow 13:00 | Park")
    await comes(anna, number)
    await comes(ben, number, "Maybe")
    await lab.later(DAY + 8 * HOUR)
    assert "How was it?" in anna.sees
    for address in ("https://lab.example/photos", "https://lab.example/all-photos"):
        await organises(olga, number, "Change: Minutes and photos")
        await olga.says(address)
        await lab.later(0)
    assert texts(anna).count("Minutes and photos of “Walk” are there now:") == 1  # a new address is under the button
    assert anna.choices == ["Minutes and photos"]
    assert "Minutes and photos" not in texts(ben)


async def test_a_deadline_keeps_its_hour_across_the_change_of_clocks(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/event Walk | every Tuesday 18:00 from 23.3.2027, 2 times | Park")
    await olga.presses("Deadline")
    await olga.says("22.3.2027 12:00")
    await olga.presses("Publish")
    await organises(olga, "1", "Move")
    await olga.presses("Only this one")
    await olga.says("6.4.2027 18:00")
    await olga.presses("Yes")
    closes = await lab.read(lambda session: session.exec(select(Event.closes_at).order_by(col(Event.id))).all())
    assert [f"{at:%m-%d %H:%M}" for at in closes] == ["04-05 10:00", "03-29 10:00"]  # UTC: at twelve, in summer


async def test_a_series_that_changes_is_told_once_to_each_whatever_dates_they_come_to(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    await announces(olga, "Open lab | every Tuesday 18:00, 12 times | Lab")
    for number in ("1", "2", "3"):
        await comes(anna, number)
    await comes(ben, "12", "Maybe")
    for choice, answers, news in (
        ("Move", ("3.11. 19:00", None), "“Open lab” has another time:"),
        ("Change: Place", ("Park",), "Something has changed about “Open lab”:"),
        ("Cancel the event", (None,), "“Open lab” is cancelled. It would have been:"),
    ):
        before = len(anna.screen), len(ben.screen)
        await organises(olga, "1", choice)
        await olga.presses("The whole series")
        for answer in answers:
            await (olga.presses("Yes") if answer is None else olga.says(answer))
        await lab.later(0)
        for who, seen in zip((anna, ben), before, strict=True):
            [told] = who.screen[seen:]
            assert told.html.startswith(f"{news}\n<b>#1 Open lab</b>, Tue, Nov 3, 7:00\u202fPM\n")
            assert told.html.endswith("… and 2 more: /events")
            assert told.file is not None
            assert told.file[1].count(b"BEGIN:VEVENT") == 12


async def test_an_event_reminds_as_its_organiser_says_and_people_as_they_say(lab: Community) -> None:
    olga, anna, ben, cleo = await lab.organiser("olga"), *(lab.person(name) for name in ("anna", "ben", "cleo"))
    number = await announces(olga, LINE)
    for who in (anna, ben, cleo):
        await comes(who, number)
    await ben.presses("Reminders")
    await ben.presses("Also three days before")
    await cleo.presses("Reminders")
    await cleo.presses("No reminders")
    await cleo.presses("So for all events")
    await organises(olga, number, "Reminders")
    assert "Who has chosen nothing else is reminded: a week before, a day before, two hours before." in olga.sees
    await olga.presses("Not a week before")
    await olga.presses("Also an hour before")

    def planned(session: Session) -> list[list[int]]:
        rows = session.exec(select(Reminder).where(Reminder.kind == Kind.REMIND, Reminder.state == Outcome.PENDING))
        people = session.exec(select(Rsvp.person_id).order_by(col(Rsvp.person_id))).all()
        found = [(row.person_id, row.ahead) for row in rows.all()]
        return [sorted(ahead for person, ahead in found if person == each) for each in people]

    assert await lab.read(planned) == [[60, 120, 1440], [120, 1440, 4320, 10080], []]
    await lab.later(33 * DAY)
    for when in ("Not a day before", "Not two hours before", "Not an hour before", "Also a week before"):
        await olga.presses(when)
    assert await lab.read(planned) == [[], [120], []]  # a week before is over
    await olga.presses("Not a week before")
    assert olga.sees == "Only who has chosen it is reminded."
    dora = lab.person("dora")
    await comes(dora, number)
    assert await lab.read(planned) == [[], [120], [], []]
