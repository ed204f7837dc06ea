"""Calendar files and feeds (RFC 5545): one event, the lab's, a topic's, a person's."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlmodel import Session

from bot.router import Router
from storage.events import calendars, listing, moments
from storage.events.tables import Event, Series, Status

if TYPE_CHECKING:
    from icalendar import Calendar
    from icalendar import Event as Entry

router = Router()

PRODUCT = "-//labbot//labbot//EN"
ALARM = timedelta(hours=-2)

FED = timedelta(days=90)
"""How long an event that is over stays in a feed."""


@router.maker("events.ics")
def some_events(session: Session, *numbers: str) -> bytes:
    """The file that comes with a confirmation, and with news."""
    events = [session.get_one(Event, int(number)) for number in numbers]
    over = all(event.status == Status.CANCELLED for event in events)
    calendar = _calendar(None, "CANCEL" if over else "PUBLISH")
    for event in events:
        calendar.add_component(_entry(event, event.uid))
    return _bytes(calendar, events)


def version(session: Session, now: datetime) -> str:
    """Another one as soon as a public feed may be another one; making a feed costs a thousand times as much."""
    return f"{listing.version(session)} {(now - FED).date()}"


def feed(session: Session, lab: str, name: str, topics: Sequence[str], now: datetime) -> bytes | None:
    """The feed of this name: "" is the lab's own, else a topic's, else a person's by its secret; ``None`` for none."""
    since = datetime.combine((now - FED).date(), time(), UTC)  # a day's feeds are the same
    if name == "":
        return _feed(session, lab, listing.feed(session, since))
    if name in topics:
        return _feed(session, lab, listing.feed(session, since, topic=name))
    person = calendars.owner(session, name)
    if person is None:
        return None
    calendar = _calendar(lab, "PUBLISH")
    events = listing.feed(session, since, person_id=person)
    for event in events:
        calendar.add_component(_entry(event, event.uid))
    return _bytes(calendar, events)


def _feed(session: Session, lab: str, events: Sequence[Event]) -> bytes:
    """Series as a rule with exceptions, and each occurrence that differs by itself."""
    calendar = _calendar(lab, "PUBLISH")
    ids = {event.series_id for event in events if event.series_id is not None}
    rows = listing.series(session, list(ids))
    shown = [event for event in events if event.series_id is None]
    for event in shown:
        calendar.add_component(_entry(event, event.uid))
    for number, series in rows.items():
        occurrences = [each for each in listing.of_series(session, number) if each.status != Status.DRAFT]
        for entry in _series(series, occurrences):
            calendar.add_component(entry)
        shown += occurrences
    return _bytes(calendar, shown)


def _series(series: Series, occurrences: Sequence[Event]) -> "list[Entry]":
    from icalendar import vRecur

    master = next((each for each in occurrences if each.status == Status.PUBLISHED), None)
    if master is None:
        return [_entry(each, each.uid) for each in occurrences]
    first, clock = datetime.fromisoformat(series.wall), ZoneInfo(series.zone)
    entry = _entry(master, series.uid, first.replace(tzinfo=clock), series.minutes)
    entry.add("rrule", vRecur.from_ical(series.rule))
    del entry["sequence"]
    entry.add("sequence", max(each.sequence for each in occurrences))  # each change of one of them is one of the series
    there = {each.occurrence: each for each in occurrences}
    skipped = [
        wall
        for wall in moments.occurrences(series.rule, first)
        if (each := there.get(wall.strftime("%Y-%m-%dT%H:%M"))) is None or each.status == Status.CANCELLED
    ]
    if skipped:
        entry.add("exdate", [wall.replace(tzinfo=clock) for wall in skipped])
    entries = [entry]
    for each in occurrences:
        if each.status == Status.PUBLISHED and _differs(each, master, series):
            other = _entry(each, series.uid, each.begins.replace(tzinfo=each.clock))
            other.add("recurrence-id", datetime.fromisoformat(each.occurrence or each.wall).replace(tzinfo=clock))
            entries.append(other)
    return entries


def _differs(event: Event, master: Event, series: Series) -> bool:
    same = ("title", "text", "place", "link", "cost")
    planned = datetime.fromisoformat(event.occurrence or event.wall)
    moved = event.starts_at != moments.instant(planned, ZoneInfo(series.zone)) or event.minutes != series.minutes
    return moved or any(getattr(event, name) != getattr(master, name) for name in same)


def _calendar(name: str | None, method: str) -> "Calendar":
    from icalendar import Calendar  # a library that only calendars need

    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", method)
    if name is not None:
        calendar.add("x-wr-calname", name)
    return calendar


def _entry(event: Event, uid: str, first: datetime | None = None, minutes: int | None = None) -> "Entry":
    """An event; as part of a series with its beginning (aware), which as the master's is the ``first``."""
    from icalendar import Alarm
    from icalendar import Event as Entry

    begins = first or event.begins.replace(tzinfo=event.clock)
    # The length is added to the instant: the clock may change while it lasts.
    ends = begins.astimezone(UTC) + timedelta(minutes=minutes or event.minutes)
    entry = Entry()
    entry.add("uid", uid)
    entry.add("sequence", event.sequence)
    entry.add("dtstamp", event.changed_at.astimezone(UTC))
    entry.add("last-modified", event.changed_at.astimezone(UTC))
    ends = ends.astimezone(begins.tzinfo)
    if begins.time() == ends.time() == time() and first is None:  # whole days (RFC 5545, 3.6.1)
        entry.add("dtstart", begins.date())
        entry.add("dtend", ends.date())
    else:
        entry.add("dtstart", begins)
        entry.add("dtend", ends)
    entry.add("summary", event.title)
    about = [part for part in (event.text, event.cost, event.link) if part]
    if about:
        entry.add("description", "\n\n".join(about))
    if event.place:
        entry.add("location", event.place)
    if event.link:
        entry.add("url", event.link)
    entry.add("status", "CANCELLED" if event.status == Status.CANCELLED else "CONFIRMED")
    if event.status != Status.CANCELLED:
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", event.title)
        alarm.add("trigger", ALARM)
        entry.add_component(alarm)
    return entry


def _bytes(calendar: "Calendar", events: Sequence[Event]) -> bytes:
    years = [event.starts_at.year for event in events] or [2026]
    calendar.add_missing_timezones(date(min(years) - 1, 1, 1), date(max(years) + 4, 1, 1))
    content: bytes = calendar.to_ical()
    return content
