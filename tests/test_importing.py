"""Calendar files that organisers send: what becomes of them, again and again, and of files that mean no good."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlmodel import Session, col, select

from bot.adapters.memory import Memory
from bot.types import File
from handlers.events import reading
from handlers.events.calendar import feed
from storage.events import moments
from storage.events.importing import Entry
from storage.events.tables import Event, Rsvp, Series, Status
from tests.conftest import Community, ManualTime, Resident
from tests.test_events import comes, group, texts

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
DAY = 86400.0


def calendar(*events: str) -> bytes:
    """A calendar file of these events, each a few lines."""
    blocks = ["BEGIN:VEVENT\r\n" + "\r\n".join(event.strip().split("\n")) + "\r\nEND:VEVENT" for event in events]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//y//EN", *blocks, "END:VCALENDAR", ""]
    return "\r\n".join(line.replace("\n        ", "\r\n") for line in lines).encode()


def walk(more: str = "", start: str = ";TZID=Europe/Berlin:20261205T180000", uid: str = "walk") -> str:
    """An event of two hours."""
    return f"UID:{uid}\nSUMMARY:Walk\nDTSTART{start}\nDURATION:PT2H\n{more}"


async def sends(who: Resident, content: bytes, name: str = "lab.ics", words: str = "") -> str:
    """Send a file, and see what is said then."""
    await who.says(words, files=[(name, content)])
    return who.sees


async def takes(who: Resident, content: bytes, choice: str = "Publish") -> str:
    """Send a calendar and take it over."""
    await sends(who, content)
    await who.presses(choice)
    return who.sees


def planned(session: Session) -> list[str]:
    """Every event: title, wall time, length and status."""
    events = session.exec(select(Event).order_by(col(Event.id))).all()
    return [f"{event.title} {event.wall[5:]} {event.minutes} {event.status}" for event in events]


def entries(content: bytes) -> list[Entry]:
    """What a file holds for a lab in Dortmund."""
    return reading.read(content, BERLIN, NOW, {"housing": ["housing", "wohnen"], "other": ["other"]}).entries


def reasons(content: bytes) -> list[str]:
    """Why what is in a file is not taken."""
    found = reading.read(content, BERLIN, NOW, {"other": ["other"]})
    assert found.entries == []
    return [reason.msgid for _, reason in found.unfit]  # type: ignore[attr-defined]


# -- what an organiser sees ---------------------------------------------------------------------------------


async def test_a_calendar_is_shown_before_it_is_taken_over_and_groups_hear_of_it_once(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    chat = await group(lab, "olga", "anna")
    await olga.within(chat).says("/room")
    await olga.within(chat).presses("every new event")
    before = len(olga.within(chat).screen)
    weekly = walk("RRULE:FREQ=WEEKLY;COUNT=3\nLOCATION:Lab", uid="weekly").replace("Walk", "Open lab")
    told = await sends(olga, calendar(walk(), weekly))
    assert told.startswith(
        "4 new events:\nSat, Dec 5, 6:00\u202fPM: Walk\nSat, Dec 5, 6:00\u202fPM: Open lab, and 2 times more"
    )
    assert await lab.read(planned) == []
    await olga.says("yes?")
    assert olga.sees == told
    await olga.says("1")
    assert olga.sees.startswith("Published.\n<b>#1 Walk</b>")
    assert await lab.read(planned) == [
        "Walk 12-05T18:00 120 published",
        "Open lab 12-05T18:00 120 published",
        "Open lab 12-12T18:00 120 published",
        "Open lab 12-19T18:00 120 published",
    ]
    [card] = olga.within(chat).screen[before:]
    assert card.html.startswith("New in the calendar:\n<b>#1 Walk</b>")
    assert [button.label for button in card.buttons] == ["#1 Walk", "#2 Open lab"]
    await anna.says("/events")
    assert "Open lab" in anna.sees


async def test_the_same_file_again_changes_nothing_and_a_newer_one_what_is_there(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    await takes(olga, calendar(walk("SEQUENCE:1"), walk(uid="talk").replace("Walk", "Talk")))
    await comes(anna, "1")
    await comes(ben, "2")
    assert await sends(olga, calendar(walk("SEQUENCE:1"))) == "There is nothing new in this file."
    newer = calendar(
        walk("SEQUENCE:2\nLOCATION:Park", start=";TZID=Europe/Berlin:20261206T150000"),
        walk("STATUS:CANCELLED", uid="talk").replace("Walk", "Talk"),
    )
    told = await sends(olga, newer)
    assert "1 event changes:\nSun, Dec 6, 3:00\u202fPM: Walk" in told
    assert "1 event is cancelled:\nSat, Dec 5, 6:00\u202fPM: Talk" in told
    await olga.presses("Take it over")
    await lab.later(0)
    assert "“Walk” has another time:" in anna.sees
    assert "Place: Park" in anna.sees
    assert "“Talk” is cancelled." in ben.sees
    assert await lab.read(planned) == ["Walk 12-06T15:00 120 published", "Talk 12-05T18:00 120 cancelled"]
    assert "1 is newer here already." not in olga.sees
    assert await sends(olga, calendar(walk("SEQUENCE:1"))) == "There is nothing new in this file."


async def test_a_series_that_moves_by_an_hour_keeps_who_has_said_yes(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await takes(olga, calendar(walk("RRULE:FREQ=WEEKLY;COUNT=4")))
    await comes(anna, "2")
    later = walk("RRULE:FREQ=WEEKLY;COUNT=5\nEXDATE;TZID=Europe/Berlin:20261226T190000\nSEQUENCE:1")
    await takes(olga, calendar(later.replace("T180000", "T190000")))
    await lab.later(0)
    assert "“Walk” has another time:" in anna.sees
    assert await lab.read(planned) == [
        "Walk 12-05T19:00 120 published",
        "Walk 12-12T19:00 120 published",
        "Walk 12-19T19:00 120 published",
        "Walk 12-26T18:00 120 cancelled",
        "Walk 01-02T19:00 120 published",
    ]
    assert [row.state for row in await lab.read(lambda session: session.exec(select(Rsvp)).all())] == ["yes"]

    def shown(session: Session) -> str:
        found = feed(session, "Lab", "", [], lab.time.now())
        assert found is not None
        return found.decode()

    content = await lab.read(shown)
    assert content.count("BEGIN:VEVENT") == 1
    assert "EXDATE;TZID=Europe/Berlin:20261226T190000" in content
    assert [len(entry.dates) for entry in entries(content.encode())] == [4]  # what we say, we understand


def single(day: str, start: str, more: str = "") -> str:
    """A single date of the weekly walk, without the others."""
    return walk(f"RECURRENCE-ID;TZID=Europe/Berlin:{day}T180000\n{more}", start=f";TZID=Europe/Berlin:{start}")


async def test_a_single_date_that_moves_leaves_the_others_of_its_series_alone(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    weekly = walk("RRULE:FREQ=WEEKLY;COUNT=4\nLOCATION:Lab")
    await takes(olga, calendar(weekly))
    await comes(anna, "3")
    moved = calendar(single("20261219", "20261220T150000", "SEQUENCE:1"), single("20261226", "20261226T180000"))
    told = await sends(olga, moved)
    assert told.startswith("1 event changes:\nSun, Dec 20, 3:00\u202fPM: Walk\n\nWhoever")
    await olga.presses("Take it over")
    await lab.later(0)
    assert "“Walk” has another time:" in anna.sees
    assert "Place: Lab" in anna.sees
    after = [
        "Walk 12-05T18:00 120 published",
        "Walk 12-12T18:00 120 published",
        "Walk 12-20T15:00 120 published",
        "Walk 12-26T18:00 120 published",
    ]
    assert await lab.read(planned) == after
    both = calendar(weekly, single("20261219", "20261220T150000", "SEQUENCE:1"))
    for same in (moved, both):
        assert await sends(olga, same) == "There is nothing new in this file."
    await takes(olga, calendar(single("20261212", "20261212T180000", "STATUS:CANCELLED")), "Take it over")
    assert await lab.read(planned) == [after[0], "Walk 12-12T18:00 120 cancelled", *after[2:]]


async def test_single_dates_of_a_series_that_is_not_here_are_events_until_it_comes(lab: Community) -> None:
    olga = await lab.organiser("olga")
    two = (single("20261212", "20261213T180000", "SEQUENCE:1"), single("20261219", "20261220T180000"))
    await takes(olga, calendar(*two))
    events = ["Walk 12-13T18:00 120 published", "Walk 12-20T18:00 120 published"]
    assert await lab.read(planned) == events
    assert await sends(olga, calendar(*two)) == "There is nothing new in this file."
    await takes(olga, calendar(walk("RRULE:FREQ=WEEKLY;COUNT=3"), *two))
    assert await lab.read(planned) == [*events, "Walk 12-05T18:00 120 published"]


async def test_drafts_are_made_on_demand_and_of_two_files_only_the_last_is_open(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await sends(olga, calendar(walk()))
    first = olga.screen[-1]
    await sends(olga, calendar(walk(uid="talk").replace("Walk", "Talk")))
    assert await olga.presses("Publish", first) == "This question is answered already."
    await olga.presses("Keep as a draft")
    assert await lab.read(planned) == ["Talk 12-05T18:00 120 draft"]


# -- whose files, and which ---------------------------------------------------------------------------------


class Hanging(Memory):
    """A messenger on which files are slow to come."""

    def __init__(self, now: ManualTime) -> None:
        super().__init__(now=now.now)
        self.asked = self.left = 0
        self.hangs = False
        self.begun = asyncio.Event()

    async def fetch(self, file: File) -> AsyncIterator[bytes]:
        self.asked += 1
        self.begun.set()
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.left += 1
        async for chunk in super().fetch(file):
            yield chunk


@pytest.fixture
async def slow(settings: "object") -> AsyncIterator[tuple[Community, Hanging]]:
    """A lab on a messenger whose files may hang."""
    time = ManualTime()
    messenger = Hanging(time)
    community = Community(settings, [messenger], time)  # type: ignore[arg-type]
    await community.begin()
    try:
        yield community, messenger
    finally:
        await community.end()


async def test_a_file_that_hangs_holds_nobody_up_for_long_and_is_asked_for_again(
    slow: tuple[Community, Hanging],
) -> None:
    lab, messenger = slow
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    messenger.hangs = True
    messenger.say("olga", olga.chat, "", files=[("lab.ics", calendar(walk()))])
    messenger.say("anna", anna.chat, "/start")
    await messenger.begun.wait()
    lab.time.pass_by(5)
    await lab.settled()
    assert olga.sees == "I could not fetch this file. Please send it once more."
    assert "the bot of KoSI-Lab" in anna.sees
    messenger.hangs = False
    assert (await sends(olga, calendar(walk()))).startswith("1 new event:")


async def test_a_stop_ends_what_is_being_fetched_and_the_file_is_asked_for_again(
    slow: tuple[Community, Hanging],
) -> None:
    lab, messenger = slow
    olga = await lab.organiser("olga")
    messenger.hangs = True
    messenger.say("olga", olga.chat, "", files=[("lab.ics", calendar(walk()))])
    await messenger.begun.wait()
    await lab.end()
    assert messenger.left == 1
    messenger.hangs = False
    await lab.restart()
    await lab.settled()
    assert olga.sees.startswith("1 new event:")


async def test_whoever_may_not_import_is_told_so_and_their_file_is_not_even_fetched(
    slow: tuple[Community, Hanging],
) -> None:
    lab, messenger = slow
    anna = lab.person("anna")
    for _ in range(2):  # unknown, and known without the role
        assert await sends(anna, calendar(walk())) == "Only the lab's organisers can send me such a file."
    assert messenger.asked == 0


async def test_what_cannot_be_read_gets_a_clear_answer(lab: Community) -> None:
    olga = await lab.organiser("olga")
    assert await sends(olga, b"x" * 300_000) == "This file is too large for me to read: 256 KB fit."
    assert await sends(olga, b"\x89PNG\r\n\x00\xff") == (
        "This is no calendar file. Please export it as iCalendar (.ics)."
    )
    assert await sends(olga, b"") == "This is no calendar file. Please export it as iCalendar (.ics)."
    lab.messenger.limits = lab.messenger.limits.__class__(
        **{name: getattr(lab.messenger.limits, name) for name in lab.messenger.limits.__slots__} | {"download": 10}
    )
    assert await sends(olga, calendar(walk())) == "I could not fetch this file. Please send it once more."
    assert "I can only read text so far" in await sends(olga, b"...", "notes.odt")


async def test_a_file_with_words_is_the_answer_to_an_open_question(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says("/announce")
    await sends(olga, calendar(walk()), words="Our dates until summer, for your calendar.")
    assert "Our dates until summer" in texts(olga)
    assert await lab.read(planned) == []
    await olga.says("/cancel")
    assert (await sends(olga, calendar(walk()), words="Please take these")).startswith("1 new event:")


# -- what a file says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "more", "wall", "minutes"),
    [
        (";TZID=Europe/Berlin:20261205T180000", "", "2026-12-05T18:00", 120),
        (";TZID=W. Europe Standard Time:20261205T180000", "", "2026-12-05T18:00", 120),
        (";TZID=/mozilla.org/20050126_1/Europe/Berlin:20261205T180000", "", "2026-12-05T18:00", 120),
        (";TZID=America/New_York:20261205T180000", "", "2026-12-06T00:00", 120),
        (":20261205T170000Z", "", "2026-12-05T18:00", 120),
        (":20261205T180000", "", "2026-12-05T18:00", 120),
        (";VALUE=DATE:20261205", "DURATION:P1D", "2026-12-05T00:00", 1440),
        (";VALUE=DATE:20270328", "DTEND;VALUE=DATE:20270329", "2027-03-28T00:00", 1380),  # it has 23 hours
    ],
)
def test_times_of_every_kind_become_the_labs_own(start: str, more: str, wall: str, minutes: int) -> None:
    event = walk(more, start=start)
    [entry] = entries(calendar(event if not more else event.replace("DURATION:PT2H\n", "")))
    assert [(date.wall, date.minutes) for date in entry.dates] == [(wall, minutes)]


def test_a_series_in_another_zone_keeps_its_own_hour_when_the_clocks_change_apart() -> None:
    [entry] = entries(calendar(walk("RRULE:FREQ=WEEKLY;COUNT=4", start=";TZID=America/New_York:20270312T120000")))
    assert [date.wall[5:] for date in entry.dates] == ["03-12T18:00", "03-19T17:00", "03-26T17:00", "04-02T18:00"]
    assert (entry.zone, entry.first) == ("America/New_York", "2027-03-12T12:00")


def test_a_series_that_has_begun_goes_on_and_its_exceptions_are_known() -> None:
    event = walk(
        "RRULE:FREQ=WEEKLY;INTERVAL=2;UNTIL=20270101T000000Z\nEXDATE:20261124T170000Z",
        start=";TZID=Europe/Berlin:20260901T180000",
    )
    moved = "UID:walk\nSUMMARY:Long walk\nDTSTART;TZID=Europe/Berlin:20261209T160000\nDURATION:PT4H\n"
    [entry] = entries(calendar(event, f"{moved}RECURRENCE-ID;TZID=Europe/Berlin:20261208T180000"))
    assert [(date.on[5:], date.wall[5:], date.minutes) for date in entry.dates] == [
        ("11-10T18:00", "11-10T18:00", 120),
        ("12-08T18:00", "12-09T16:00", 240),
        ("12-22T18:00", "12-22T18:00", 120),
    ]
    assert entry.dates[1].words == {"title": "Long walk"}
    assert entry.rule == "FREQ=WEEKLY;INTERVAL=2;COUNT=4"


def test_words_come_without_signs_that_nobody_sees_and_no_longer_than_fits() -> None:
    event = walk(
        "DESCRIPTION:One\\, two\\n\\n\\n\\nthree\x07\nLOCATION: "
        + "x" * 300
        + "\nURL:javascript:alert(1)\nCATEGORIES:Wohnen"
    )
    [entry] = entries(calendar(event))
    assert entry.words["text"] == "One, two\n\nthree"
    assert len(entry.words["place"]) == 200
    assert entry.words["link"] == ""
    assert entry.topic == "housing"


def test_a_text_in_html_becomes_words_with_its_lines_and_links() -> None:
    html = (
        '<p>Hi <b>all</b>&nbsp;&amp; more</p>Come<br>in<ul><li>one</li></ul><a href="https://a.example/?b=1">here</a>'
        '<script>x</script> <a href="https://c.example">https://c.example</a>'
    )
    [entry] = entries(calendar(walk("DESCRIPTION:" + html.replace(";", "\\;").replace(",", "\\,"))))
    assert entry.words["text"] == ("Hi all & more\nCome\nin\n\n- one\nhere (https://a.example/?b=1) https://c.example")
    [entry] = entries(calendar(walk("DESCRIPTION:1 < 2 and <you> know")))
    assert entry.words["text"] == "1 < 2 and <you> know"


def test_letters_that_are_folded_in_two_or_written_as_windows_does_stay_letters() -> None:
    folded = calendar(walk().replace("Walk", "Café")).replace(b"\xc3\xa9", b"\xc3\r\n \xa9")
    windows = calendar(walk().replace("Walk", "Café")).decode().encode("cp1252")
    assert [entries(content)[0].words["title"] for content in (folded, windows)] == ["Café", "Café"]


def test_a_file_that_is_cut_off_says_what_is_missing() -> None:
    whole = calendar(walk(), walk(uid="talk").replace("Walk", "Talk"))
    found = reading.read(whole[: whole.index(b"DTSTART", whole.index(b"Talk"))], BERLIN, NOW, {"other": []})
    assert [entry.uid for entry in found.entries] == ["walk"]
    assert found.unfit == [("Talk", reading.UNREADABLE)]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (walk(start=";TZID=Nowhere/Else:20261205T180000"), "has a time zone that I do not know: {zone}"),
        (walk(start=":20260230T180000"), "has a time that I cannot read"),
        ("UID:a\nSUMMARY:Walk", "has no time"),
        (walk().replace("Walk", " "), "has no title"),
        (walk("CLASS:PRIVATE"), "is marked as private"),
        (walk().replace("DURATION:PT2H", "DTEND:20261205T150000Z"), "ends before it begins"),
        (walk().replace("DURATION:PT2H", "DTEND:99991231T235959Z"), "lasts too long, or is too far away"),
        (walk(start=":99991231T180000Z"), "lasts too long, or is too far away"),
        (walk(start=":20300101T180000Z"), "is more than three years away"),
        (walk("RRULE:FREQ=SECONDLY;COUNT=1000000"), "comes again by a rule that I do not know"),
        (walk("RRULE:FREQ=DAILY;BYHOUR=1,2,3"), "comes again by a rule that I do not know"),
        (walk("RRULE:FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"), "never takes place"),
        (walk("RRULE:FREQ=DAILY", start=":00010101T180000Z"), "began too long ago"),
        (walk("RDATE:20261206T170000Z"), "has dates outside of its rule"),
        (walk("RRULE:FREQ=DAILY;COUNT=9\nEXRULE:FREQ=WEEKLY;COUNT=1"), "has dates outside of its rule"),
        (
            walk("RECURRENCE-ID;RANGE=THISANDFUTURE:20261205T170000Z"),
            "changes all dates from one of them on: please export the whole series",
        ),
        (walk(start=":00010101T000000Z"), "began too long ago"),
        (walk("RRULE:FREQ=MONTHLY;BYDAY=99MO"), "comes again by a rule that I do not know"),
        (walk("RRULE:FREQ=DAILY;INTERVAL=0", start=":20260101T180000Z"), "comes again by a rule that I do not know"),
        (walk(start=";TZID=Factory:20261205T180000"), "has a time zone that I do not know: {zone}"),
        (walk(start=f";TZID={'A' * 9000}:20261205T180000"), "has something that I cannot read"),
        (walk("RRULE:FREQ=DAILY;INTERVAL=x"), "has something that I cannot read"),
        (walk("RRULE:FREQ=DAILY;UNTIL="), "has something that I cannot read"),
        (walk("RRULE:FREQ=DAILY;COUNT=99999999999999999999"), "has something that I cannot read"),
        (walk("RECURRENCE-ID:abc"), "has something that I cannot read"),
        (walk("RRULE:FREQ=DAILY;COUNT=2\nEXDATE:abc"), "has something that I cannot read"),
    ],
)
def test_what_cannot_be_taken_says_why(event: str, reason: str) -> None:
    assert reasons(calendar(event)) == [reason]


def test_what_cannot_be_read_of_one_entry_leaves_the_others_and_times_beyond_all_calendars_are_none() -> None:
    late = walk("RRULE:FREQ=WEEKLY;UNTIL=99991231T235959Z\nEXDATE:99991231T235959Z", uid="late")
    early = "UID:late\nSUMMARY:Walk\nDTSTART:20261205T180000Z\nRECURRENCE-ID:00010101T000000Z"
    crooked = (
        walk("RRULE:FREQ=DAILY;COUNT=2\nEXDATE:abc", uid="a"),
        "SUMMARY:Walk\nDTSTART:00010101\nCATEGORIES;ENCODING=BASE64;VALUE=BINARY:abc",
    )
    found = reading.read(calendar(*crooked, late, early, walk()), ZoneInfo("America/New_York"), NOW, {"other": []})
    assert [(entry.uid, len(entry.dates)) for entry in found.entries] == [("late", 53), ("walk", 1)]
    assert [title for title, _ in found.unfit] == ["Walk", "Walk"]


def test_a_series_without_an_end_is_taken_for_a_year_and_a_million_dates_as_far_as_they_fit() -> None:
    endless = walk("RRULE:FREQ=WEEKLY")
    million = walk("RRULE:FREQ=DAILY;COUNT=1000000", uid="daily").replace("Walk", "Daily")
    found = reading.read(calendar(endless, million), BERLIN, NOW, {"other": []})
    assert [len(entry.dates) for entry in found.entries] == [53, 160]
    assert found.cut == ["Walk", "Daily"]


def test_no_more_events_are_taken_than_fit() -> None:
    found = reading.read(calendar(*(walk(uid=f"e{n}") for n in range(60))), BERLIN, NOW, {"other": []})
    assert (len(found.entries), len(found.unfit)) == (reading.MOST_ENTRIES, 10)


@pytest.mark.parametrize("rule", ["FREQ=DAILY;COUNT=9000", "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"])
def test_rules_are_searched_for_some_centuries_a_file_at_most_and_single_events_still_taken(rule: str) -> None:
    series = [walk(f"RRULE:{rule}", start=":19970107T180000Z", uid=f"s{n}") for n in range(60)]
    found = reading.read(calendar(*series, walk()), BERLIN, NOW, {"other": []})
    assert found.years <= reading.MOST_YEARS + moments.AGE + 1
    assert [entry.uid for entry in found.entries] == ["walk"]
    assert found.unfit[-1][1] == reading.MORE


def test_series_that_have_ended_leave_room_for_the_others() -> None:
    ended = [walk("RRULE:FREQ=DAILY;UNTIL=20260101", start=":19970107T180000Z", uid=f"s{n}") for n in range(300)]
    found = reading.read(calendar(*ended, walk("RRULE:FREQ=WEEKLY;COUNT=3")), BERLIN, NOW, {"other": []})
    assert (found.over, [len(entry.dates) for entry in found.entries]) == (300, [3])


@pytest.mark.parametrize(
    "content",
    [
        b"BEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\n" * 9000 + b"END:VEVENT\n" * 9000 + b"END:VCALENDAR\n",
        b"BEGIN:VCALENDAR\n" + b"BEGIN:VTIMEZONE\nRRULE:FREQ=SECONDLY\nEND:VTIMEZONE\n" * 4000,
        b"BEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\n" + b"X-A:b\n" * 40_000 + b"END:VEVENT\n",
        b"BEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\n" + b"RRULE:FREQ=DAILY\n" * 14_000 + b"END:VEVENT\n",
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20261205T180000Z\nDURATION:P999999999999999D\nSUMMARY:x\nEND:VEVENT\n",
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:\xff\xfe\x00\r\nSUMMARY:\xf0\x9f\r\nEND:VEVENT\r\nEND:VCALENDAR",
        b"BEGIN:VCALENDAR\nEND:VEVENT\nEND:VEVENT\nBEGIN:VEVENT\n\n;;;:::\nEND:VCALENDAR",
    ],
    ids=["nested", "zones", "noise", "rules", "length", "bytes", "crooked"],
)
def test_a_hostile_calendar_holds_nothing_and_costs_little(content: bytes) -> None:
    assert reading.read(content[: 256 * 1024], BERLIN, NOW, {"other": []}).entries == []


async def test_titles_with_markup_and_right_to_left_letters_stay_words(lab: Community) -> None:
    olga = await lab.organiser("olga")
    told = await sends(olga, calendar(walk().replace("Walk", "<b>مرحبا</b> {title} %s")))
    assert "&lt;b&gt;مرحبا&lt;/b&gt; {title} %s" in told
    await olga.presses("Publish")
    assert "&lt;b&gt;مرحبا&lt;/b&gt; {title} %s" in olga.sees


async def test_five_hundred_dates_are_taken_over_at_once(lab: Community) -> None:
    olga = await lab.organiser("olga")
    many = [walk("RRULE:FREQ=DAILY;COUNT=125", uid=f"e{n}") for n in range(4)]
    assert (await takes(olga, calendar(*many))).startswith("Published.")
    states = await lab.read(lambda session: session.exec(select(Event.status)).all())
    assert states == [Status.PUBLISHED] * 500
    assert len(await lab.read(lambda session: session.exec(select(Series)).all())) == 4


async def test_drafts_of_a_series_go_without_what_of_it_is_published(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await takes(olga, calendar(walk("RRULE:FREQ=WEEKLY;COUNT=2")))
    await comes(anna, "1")
    longer = calendar(walk("RRULE:FREQ=WEEKLY;COUNT=4\nSEQUENCE:1"))
    for choice in ("Discard the draft", "Publish"):
        await takes(olga, longer, "Keep as a draft")
        numbers = await lab.read(lambda session: session.exec(select(Event.id).where(Event.status == "draft")).all())
        assert len(numbers) == 2
        await olga.says(f"/events {numbers[0]}")
        await olga.presses("Organise")
        await olga.presses("Change: Smallest number")
        await olga.presses("This one and all that follow")
        await olga.says("3")
        await olga.presses("Organise")
        await olga.presses(choice)
        said = olga.sees
    assert await lab.read(planned) == [
        "Walk 12-05T18:00 120 published",
        "Walk 12-12T18:00 120 published",
        "Walk 12-19T18:00 120 published",
        "Walk 12-26T18:00 120 published",
    ]
    assert said.startswith(f"Published under the number #{numbers[0]}.")


def method(name: str, *events: str) -> bytes:
    """A message between calendars (RFC 5546)."""
    return calendar(*events).replace(b"VERSION:2.0", b"VERSION:2.0\r\nMETHOD:" + name.encode())


async def test_a_cancellation_is_never_taken_for_an_invitation(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    assert await sends(olga, method("CANCEL", walk())) == "There is nothing new in this file."
    weekly = walk("RRULE:FREQ=WEEKLY;COUNT=3", start=";TZID=Europe/Berlin:20261031T180000")
    await takes(olga, method("REQUEST", weekly))
    assert len(await lab.read(planned)) == 2  # the first is over
    await comes(anna, "2")
    single = "UID:walk\nRECURRENCE-ID;TZID=Europe/Berlin:20261107T180000\nDTSTART;TZID=Europe/Berlin:20261107T180000"
    await takes(olga, method("CANCEL", single), "Take it over")
    assert await lab.read(planned) == ["Walk 11-07T18:00 120 cancelled", "Walk 11-14T18:00 120 published"]
    told = await sends(olga, method("CANCEL", "UID:walk\nSEQUENCE:1\nDTSTART;TZID=Europe/Berlin:20261031T180000"))
    assert told.startswith("1 event is cancelled:\nSat, Nov 14, 6:00\u202fPM: Walk")
    await olga.presses("Take it over")
    await lab.later(0)
    assert "“Walk” is cancelled." in anna.sees


@pytest.mark.parametrize("name", ["REPLY", "COUNTER", "ADD", "REFRESH"])
async def test_a_message_about_an_invitation_is_no_event_and_says_so(lab: Community, name: str) -> None:
    olga = await lab.organiser("olga")
    assert (await sends(olga, method(name, walk()))).startswith(f"This file is a message about an invitation ({name})")


async def test_a_draft_that_is_cancelled_is_gone_and_nobody_hears_of_it(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await takes(olga, calendar(walk()), "Keep as a draft")
    await takes(olga, calendar(walk("STATUS:CANCELLED\nSEQUENCE:1")), "Take it over")
    assert await lab.read(planned) == []
    shown = await lab.read(lambda session: feed(session, "Lab", "", [], lab.time.now()))
    assert b"Walk" not in shown
    await takes(olga, calendar(walk("SEQUENCE:2")))
    assert await lab.read(planned) == ["Walk 12-05T18:00 120 published"]


async def test_a_file_that_names_another_place_tells_who_comes(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await takes(olga, calendar(walk("RRULE:FREQ=WEEKLY;COUNT=3\nLOCATION:Lab")))
    await comes(anna, "2")
    before = len(anna.screen)
    again = walk("RRULE:FREQ=WEEKLY;COUNT=3\nLOCATION:Park\nSEQUENCE:1")
    await takes(olga, calendar(again), "Take it over")
    await lab.later(0)
    [told] = anna.screen[before:]
    assert told.html.startswith("Something has changed about “Walk”:\n<b>#1 Walk</b>")
