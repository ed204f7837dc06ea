"""Words become times: in German and English, on days that there are, across the change of clocks, and every zone."""

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.events import days, when
from handlers.events.when import Meant, understand
from storage.events import moments
from storage.events.moments import Endless, instant, is_skipped, is_twice, occurrences, remind_at

MONDAY = datetime(2026, 11, 2, 10, 0)  # noqa: DTZ001
BERLIN = ZoneInfo("Europe/Berlin")


def wall(words: str) -> datetime:
    """A wall time."""
    return datetime.fromisoformat(words)


@pytest.mark.parametrize(
    ("words", "begins", "minutes"),
    [
        ("nächsten Freitag 18 Uhr", "2026-11-06 18:00", 120),
        ("12.3. 19:30–21:00", "2027-03-12 19:30", 90),
        ("morgen 18 Uhr", "2026-11-03 18:00", 120),
        ("übermorgen 19.30 Uhr", "2026-11-04 19:30", 120),
        ("2026-12-05 18:00", "2026-12-05 18:00", 120),
        ("2026-12-05T18:00", "2026-12-05 18:00", 120),
        ("am Samstag, den 5. Dezember um 18 Uhr", "2026-12-05 18:00", 120),
        ("Sa 5.12. 18h", "2026-12-05 18:00", 120),
        ("5.12. 18–21 Uhr", "2026-12-05 18:00", 180),
        ("von 18 bis 20 Uhr am 5.12.", "2026-12-05 18:00", 120),
        ("5.12. 22:00-01:00", "2026-12-05 22:00", 180),
        ("morgen 18 Uhr 90 Minuten", "2026-11-03 18:00", 90),
        ("nächste Woche Dienstag 18 Uhr", "2026-11-10 18:00", 120),
        ("in zwei Wochen 18 Uhr", "2026-11-16 18:00", 120),
        ("Montag 9 Uhr", "2026-11-09 09:00", 120),
        ("Montag 18 Uhr", "2026-11-02 18:00", 120),
        ("29.2. 18 Uhr", "2028-02-29 18:00", 120),
        ("next friday 6pm", "2026-11-06 18:00", 120),
        ("December 5, 2026 6:30pm-8pm", "2026-12-05 18:30", 90),
        ("12am tomorrow", "2026-11-03 00:00", 120),
        ("5.12. 18.30", "2026-12-05 18:30", 120),
        ("Freitag 18-20", "2026-11-06 18:00", 120),
        ("2026-12-05T18:00/20:30", "2026-12-05 18:00", 150),
        ("4.12. 18:00, 2h", "2026-12-04 18:00", 120),
        ("4.12. 18 Uhr, drei Stunden", "2026-12-04 18:00", 180),
        ("4.12. 18 Uhr (anderthalb Stunden)", "2026-12-04 18:00", 90),
        ("am 24. um 18 Uhr", "2026-11-24 18:00", 120),
        ("12.12. ganztägig", "2026-12-12 00:00", 1440),
        ("the 24th at 6pm", "2026-11-24 18:00", 120),
        ("2. November 18 Uhr", "2026-11-02 18:00", 120),
        ("Friday next week 6pm", "2026-11-13 18:00", 120),
        ("morgen in 14 Tagen 18 Uhr", "2026-11-17 18:00", 120),
        ("two weeks from today 6pm", "2026-11-16 18:00", 120),
        ("5.12.2026 (Sa) 18 Uhr", "2026-12-05 18:00", 120),
        ("Freitag um 18 Uhr.", "2026-11-06 18:00", 120),
        ("um 18.30 am 24.12.", "2026-12-24 18:30", 120),
        ("5.12. 18h30", "2026-12-05 18:30", 120),
        ("2026-12-05T18:00:00", "2026-12-05 18:00", 120),
        ("Fri 4 Dec 11-1pm", "2026-12-04 11:00", 120),
        ("morgen 18 Uhr 2 Stunden 30 Minuten", "2026-11-03 18:00", 150),
        ("morgen 18 Uhr 1½ Stunden", "2026-11-03 18:00", 90),
        ("Samstagabend 20-1 Uhr", "2026-11-07 20:00", 300),
        ("Freitag 20 Uhr bis Mitternacht", "2026-11-06 20:00", 240),
    ],
)
def test_it_understands_how_people_write(words: str, begins: str, minutes: int) -> None:
    assert understand(words, MONDAY) == Meant(wall(begins), minutes)


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("morgen halb sieben", "2026-11-03 18:30"),
        ("morgen um halb 7 Uhr", "2026-11-03 18:30"),
        ("morgen halb eins", "2026-11-03 12:30"),
        ("morgen früh halb sieben", "2026-11-03 06:30"),
        ("viertel nach sechs morgen", "2026-11-03 18:15"),
        ("Viertel vor 7 morgen", "2026-11-03 18:45"),
        ("dreiviertel sieben morgen", "2026-11-03 18:45"),
        ("zehn nach sechs morgen", "2026-11-03 18:10"),
        ("half past six tomorrow", "2026-11-03 18:30"),
        ("a quarter to seven tomorrow", "2026-11-03 18:45"),
        ("morgen um 9", "2026-11-03 09:00"),
        ("morgen um sieben", "2026-11-03 19:00"),
        ("morgen 7 Uhr", "2026-11-03 07:00"),
        ("morgen 7 Uhr abends", "2026-11-03 19:00"),
        ("morgen 7–9 Uhr abends", "2026-11-03 19:00"),
        ("übermorgen zwanzig Uhr dreißig", "2026-11-04 20:30"),
        ("heute Abend um acht", "2026-11-02 20:00"),
        ("Freitagabend 19 Uhr", "2026-11-06 19:00"),
        ("Freitag Morgen 9 Uhr", "2026-11-06 09:00"),
        ("morgen Mittag", "2026-11-03 12:00"),
        ("morgen zwischen 18 und 20 Uhr", "2026-11-03 18:00"),
        ("tomorrow at 7 in the evening", "2026-11-03 19:00"),
        ("tomorrow night at 8", "2026-11-03 20:00"),
        ("Friday half past six pm", "2026-11-06 18:30"),
        ("Friday ten to six", "2026-11-06 17:50"),
        ("Freitag ab sechs", "2026-11-06 18:00"),
        ("um halb 7 am Freitag", "2026-11-06 18:30"),
        ("um 7 am 6.11.", "2026-11-06 19:00"),
        ("morgen 24 Uhr", "2026-11-04 00:00"),
        ("heute Nacht um 1", "2026-11-03 01:00"),
        ("Samstagnacht um 12", "2026-11-08 00:00"),
        ("3.11. 2 Uhr nachts", "2026-11-03 02:00"),
    ],
)
def test_hours_as_people_say_them_are_by_day_unless_they_say_otherwise(words: str, begins: str) -> None:
    assert understand(words, MONDAY) == Meant(wall(begins), 120)


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("Freitag in einer Woche 18 Uhr", "2026-11-13"),
        ("Freitag in 14 Tagen um 18 Uhr", "2026-11-20"),
        ("heute in 14 Tagen 18 Uhr", "2026-11-16"),
        ("in drei Wochen am Freitag 18 Uhr", "2026-11-27"),
        ("übernächsten Freitag 18 Uhr", "2026-11-13"),
        ("Dienstag übernächste Woche 18 Uhr", "2026-11-17"),
        ("Friday week 6pm", "2026-11-13"),
        ("two weeks from Friday 6pm", "2026-11-20"),
        ("the Friday after next 6pm", "2026-11-13"),
    ],
)
def test_weeks_are_counted_from_the_day_that_is_named(words: str, begins: str) -> None:
    assert understand(words, MONDAY) == Meant(wall(f"{begins} 18:00"), 120)


@pytest.mark.parametrize(
    ("words", "begins", "ends"),
    [
        ("5.–7. Juni, 10–17 Uhr", "2027-06-05 10:00", "2027-06-07 17:00"),
        ("vom 12. bis 14. Dezember 10 Uhr", "2026-12-12 10:00", "2026-12-14 12:00"),
        ("12.12. bis 14.12. 10-16 Uhr", "2026-12-12 10:00", "2026-12-14 16:00"),
        ("5.-7.6.2027 10 Uhr", "2027-06-05 10:00", "2027-06-07 12:00"),
        ("12.12. 18 Uhr bis 14.12. 14 Uhr", "2026-12-12 18:00", "2026-12-14 14:00"),
        ("Freitag 18 Uhr bis Sonntag 14 Uhr", "2026-11-06 18:00", "2026-11-08 14:00"),
        ("Freitagabend um sieben bis Sonntag 14 Uhr", "2026-11-06 19:00", "2026-11-08 14:00"),
        ("30.12. 10 Uhr bis 2.1. 12 Uhr", "2026-12-30 10:00", "2027-01-02 12:00"),
        ("12.12. 0 Uhr bis 14.12. 0 Uhr", "2026-12-12 00:00", "2026-12-14 00:00"),
        ("12.12. 18 Uhr bis 14.12. 24 Uhr", "2026-12-12 18:00", "2026-12-15 00:00"),
        ("12.12. bis 14.12. ganztägig", "2026-12-12 00:00", "2026-12-15 00:00"),
        ("June 5-7 10am", "2027-06-05 10:00", "2027-06-07 12:00"),
        ("Dec 12 6pm to Dec 13 2am", "2026-12-12 18:00", "2026-12-13 02:00"),
    ],
)
def test_an_event_may_end_on_another_day(words: str, begins: str, ends: str) -> None:
    meant = understand(words, MONDAY)
    assert (meant.wall, meant.wall + timedelta(minutes=meant.minutes)) == (wall(begins), wall(ends))


@pytest.mark.parametrize(
    ("words", "rule", "first"),
    [
        ("every second Tuesday 18:00, 5 times", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;COUNT=5", "2026-11-03 18:00"),
        ("jeden zweiten Dienstag im Monat 18 Uhr, 6 mal", "FREQ=MONTHLY;BYDAY=2TU;COUNT=6", "2026-11-10 18:00"),
        ("last Friday 18:00, 10 times", "FREQ=MONTHLY;BYDAY=-1FR;COUNT=10", "2026-11-27 18:00"),
        ("dienstags 18 Uhr 4 mal", "FREQ=WEEKLY;BYDAY=TU;COUNT=4", "2026-11-03 18:00"),
        (
            "jeden Dienstag 19 Uhr bis 30.6.2027",
            "FREQ=WEEKLY;BYDAY=TU;UNTIL=20270630T235959",
            "2026-11-03 19:00",
        ),
        (
            "alle zwei Wochen ab 5.12. 18 Uhr 5 mal",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA;COUNT=5",
            "2026-12-05 18:00",
        ),
        ("jeden 3. Donnerstag im Monat um 19 Uhr, sechsmal", "FREQ=MONTHLY;BYDAY=3TH;COUNT=6", "2026-11-19 19:00"),
        ("dienstags und donnerstags um halb 7, 9 mal", "FREQ=WEEKLY;BYDAY=TU,TH;COUNT=9", "2026-11-03 18:30"),
        ("alle 14 Tage dienstags 18 Uhr 10 mal", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;COUNT=10", "2026-11-03 18:00"),
        ("jede zweite Woche Freitag 18 Uhr, 2x", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR;COUNT=2", "2026-11-06 18:00"),
        ("werktags 9 Uhr 5 mal", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;COUNT=5", "2026-11-03 09:00"),
        ("mittwochs 18 Uhr bis Ende Februar", "FREQ=WEEKLY;BYDAY=WE;UNTIL=20270228T235959", "2026-11-04 18:00"),
        ("mittwochs 18 Uhr bis November", "FREQ=WEEKLY;BYDAY=WE;UNTIL=20261130T235959", "2026-11-04 18:00"),
        ("monatlich ab 15.12. 18 Uhr, 3 mal", "FREQ=MONTHLY;BYMONTHDAY=15;COUNT=3", "2026-12-15 18:00"),
    ],
)
def test_it_understands_what_comes_again(words: str, rule: str, first: str) -> None:
    assert understand(words, MONDAY) == Meant(wall(first), 120, rule)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("30.2. 18 Uhr", days.Unclear),
        ("30. Februar 18 Uhr", days.Unclear),
        ("31. April 2027 10:00", days.Unclear),
        ("irgendwann 18 Uhr", days.Unclear),
        ("", days.Unclear),
        ("Freitag 18 Uhr und 20 Uhr", days.Unclear),
        ("morgen 9 18 Uhr", days.Unclear),
        ("18:00 9 tomorrow", days.Unclear),
        ("5.12. 18 Uhr, Einlass 17:30", days.Unclear),
        ("Donnerstag, 3.11., 18 Uhr", days.OtherWeekday),
        ("Montag, 31.12.9999, 18 Uhr", days.TooFar),
        ("morgen bis 31.12.9999 ganztägig", when.TooLong),
        ("morgen 18 Uhr, 999 Stunden", when.TooLong),
        ("Dienstag, 1.1.0001, 18 Uhr", when.Past),
        ("halb sieben", when.NoDay),
        ("31.2.", days.Unclear),
        ("heute Abend", when.NoHour),
        ("5.-7. Juni", when.NoHour),
        ("12.12. 18 Uhr bis 12.12. 17 Uhr", when.EndsEarlier),
        ("1.5. bis 1.9. 10 Uhr", when.TooLong),
        ("31.12.9999 23:00 bis 31.12.9999 23:30", days.TooFar),
        ("gestern", when.Past),
        ("gestern 18 Uhr", when.Past),
        ("heute 9 Uhr", when.Past),
        ("5.12.", when.NoHour),
        ("5.12. 25 Uhr", when.NoSuchHour),
        ("morgen 13pm", when.NoSuchHour),
        ("5.12. 18:00 bis 17:00", when.EndsEarlier),
        ("5.12.2099 18:00", days.TooFar),
        ("Sa 5.12. und So 6.12. 10 Uhr", days.Unclear),
        ("Fr-So 4.-6.12. 18 Uhr", days.Unclear),
        ("1. Samstag im Dezember 10 Uhr", days.Unclear),
        ("nächsten Monat am 3. 18 Uhr", days.Unclear),
        ("5.3. nächstes Jahr 18 Uhr", days.Unclear),
        ("nächste Woche 18 Uhr", days.Unclear),
        ("2026-12-05T18:00Z", days.Unclear),
        ("2026-12-05 18:00 UTC", days.Unclear),
        ("tomorrow from 9 to 5", days.Unclear),
        ("tomorrow at six thirty", days.Unclear),
        ("Freitag 6-8", days.Unclear),
        ("dienstags 24 Uhr 5 mal", days.Unclear),
        ("morgen 18 Uhr 0 Minuten", days.Unclear),
        ("so gegen 18 Uhr", when.NoDay),
        ("Friday Dec 3 6pm", days.OtherWeekday),
        ("Nov 2 9am", when.Past),
        ("3.11. 12-2 Uhr", when.EndsEarlier),
        ("morgen 24:30", when.NoSuchHour),
        ("morgen 18 Uhr 999 Stunden", when.TooLong),
    ],
)
def test_what_is_no_time_is_said_to_be_none(words: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        understand(words, MONDAY)


PIECES = (
    "halb viertel dreiviertel vor nach um bis - von am 5. 7. 12.12. juni freitag dienstags jeden zweiten 1. im monat "
    "alle 14 tage wochen in einer uhr 18 18:00 18.30 7 25 0 10 mal abends morgens morgen mittag früh ende ganztägig "
    "stunden anderthalb 2h und , ( every other week from friday 6pm half past to until 2026-12-05 31.12.9999 letzten"
)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES.split()), max_size=9).map(" ".join))
def test_no_words_break_it(words: str) -> None:
    known = when.UNREAD
    with contextlib.suppress(*known):
        assert isinstance(understand(words, MONDAY), Meant)
    with contextlib.suppress(days.Unclear, days.TooFar):
        first, last = days.days_of(words, MONDAY)
        assert first <= last


def test_the_next_weekend_is_not_the_one_that_has_begun() -> None:
    for now, first in (("2026-11-02", "11-07"), ("2026-11-07", "11-14"), ("2026-11-08", "11-14")):
        found = [f"{day:%m-%d}" for day in days.days_of("nächstes Wochenende", wall(now))]
        assert found[0] == first
    assert [f"{day:%m-%d}" for day in days.days_of("this weekend", wall("2026-11-08"))] == ["11-08", "11-08"]


def test_an_hour_that_is_skipped_and_one_that_comes_twice() -> None:
    spring, autumn = wall("2026-03-29 02:30"), wall("2026-10-25 02:30")
    assert is_skipped(spring, BERLIN)
    assert not is_twice(spring, BERLIN)
    assert instant(spring, BERLIN) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert is_twice(autumn, BERLIN)
    assert not is_skipped(autumn, BERLIN)
    assert instant(autumn, BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert not is_twice(wall("2026-10-25 03:30"), BERLIN)


@pytest.mark.parametrize(
    ("begins", "ahead", "at"),
    [
        ("2026-12-05 18:00", 120, "2026-12-05 16:00"),
        ("2026-12-05 18:00", 1440, "2026-12-04 18:00"),
        ("2026-12-05 22:30", 1440, "2026-12-05 08:00"),  # would be at night: the next morning
        ("2026-12-05 09:30", 120, "2026-12-05 08:00"),
        ("2026-12-05 08:30", 120, "2026-12-04 20:00"),  # the morning would be too late: the evening before
        ("2026-12-05 00:30", 120, "2026-12-04 20:00"),
        ("2026-10-25 18:00", 1440, "2026-10-24 18:00"),  # 25 hours before
        ("2026-03-29 18:00", 1440, "2026-03-28 18:00"),  # 23 hours before
    ],
)
def test_a_reminder_comes_at_the_right_wall_time_and_never_at_night(begins: str, ahead: int, at: str) -> None:
    assert remind_at(wall(begins), BERLIN, ahead).astimezone(BERLIN).replace(tzinfo=None) == wall(at)


def test_a_rule_without_an_end_or_with_one_too_far_away_is_refused() -> None:
    for rule in ("FREQ=WEEKLY;BYDAY=TU", "FREQ=DAILY;COUNT=161", "FREQ=YEARLY;COUNT=9"):
        with pytest.raises(Endless):
            occurrences(rule, MONDAY)
    assert len(occurrences("FREQ=WEEKLY;BYDAY=MO;COUNT=157", MONDAY)) == 157


def test_in_every_zone_each_week_of_three_years_is_reminded_of_once_at_the_right_wall_time() -> None:
    first = wall("2026-01-05 18:30")
    walls = occurrences("FREQ=WEEKLY;BYDAY=MO;COUNT=156", first)
    zones = sorted(available_timezones())
    changes = 0
    for name in zones:
        zone = ZoneInfo(name)
        reminded = [remind_at(begins, zone, 120) for begins in walls]
        days = [remind_at(begins, zone, 1440) for begins in walls]
        assert len(set(reminded)) == len(walls), name
        changes += len({moment.astimezone(zone).utcoffset() for moment in reminded}) > 1
        for begins, at, day in zip(walls, reminded, days, strict=True):
            assert at.astimezone(zone).replace(tzinfo=None) == begins - timedelta(hours=2), name
            assert day.astimezone(zone).replace(tzinfo=None) == begins - timedelta(days=1), name
    assert len(zones) > 400
    assert changes > 100  # in so many the clocks are changed


def test_a_series_at_an_hour_that_a_night_skips_takes_place_all_the_same() -> None:
    walls = occurrences("FREQ=DAILY;COUNT=3", wall("2026-03-28 02:30"))
    local = [instant(begins, BERLIN).astimezone(BERLIN) for begins in walls]
    assert [f"{moment:%d %H:%M}" for moment in local] == ["28 02:30", "29 03:30", "30 02:30"]
    assert moments.stored_minutes([60, 1440, 60]) == "1440 60"
