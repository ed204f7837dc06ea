"""Moments: wall times and zones become instants, also where the clocks change; rules become occurrences."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

QUIET_FROM, QUIET_UNTIL = time(21), time(8)
"""When nobody is reminded, by the event's own clock."""

EVENING = time(20)
"""When a reminder comes that the night would otherwise make too late."""

MORNING = time(9)
"""When comes what the night has held up."""

LONGEST_SERIES = timedelta(days=3 * 366)
MOST_OCCURRENCES = 160
"""A weekly series over three years fits."""

DAY = 1440


class Endless(Exception):
    """A rule without an end, or with one that is too far away."""


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The UTC time of a wall time (naive).

    One that the clock skips is taken by the offset before the gap, one that comes twice is the first
    (RFC 5545, 3.3.5; PEP 495).
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the clock jumps over this wall time, in spring."""
    return instant(wall, zone).astimezone(zone).replace(tzinfo=None, fold=0) != wall


def is_twice(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the clock shows this wall time twice, in autumn."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first != second and not is_skipped(wall, zone)


def remind_at(wall: datetime, zone: ZoneInfo, ahead: int) -> datetime:
    """When (UTC) to remind of what begins at a wall time, so many minutes ahead; never at night.

    Whole days count by the wall clock, less by the hour.
    What would fall into the night waits for the morning, if an hour is left then; else it comes the evening before.
    """
    start, before = instant(wall, zone), timedelta(minutes=ahead)
    at = start - before if ahead % DAY else instant(wall - before, zone)
    local = at.astimezone(zone)
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return at
    today = local.date()
    morning = datetime.combine(today, QUIET_UNTIL) + timedelta(days=1 if local.time() >= QUIET_FROM else 0)
    if (waited := instant(morning, zone)) <= start - timedelta(hours=1):
        return waited
    evening = datetime.combine(today, EVENING) - timedelta(days=0 if local.time() >= QUIET_FROM else 1)
    return instant(evening, zone)


def after_night(at: datetime, zone: ZoneInfo) -> datetime:
    """The same moment, or nine in the morning after it, if it is at night."""
    local = at.astimezone(zone)
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return at
    morning = local.date() + timedelta(days=1 if local.time() >= QUIET_FROM else 0)
    return instant(datetime.combine(morning, MORNING), zone)


def shifted(at: datetime, shift: timedelta, zone: ZoneInfo) -> datetime:
    """A moment that moves along with a wall time, and keeps its own hour where the clocks change in between."""
    return instant(at.astimezone(zone).replace(tzinfo=None) + shift, zone)


def occurrences(rule: str, first: datetime) -> list[datetime]:
    """The wall times of a rule (RFC 5545, 3.3.10) from ``first`` on. Raises ``Endless``, or ``ValueError`` for none."""
    if "COUNT=" not in rule and "UNTIL=" not in rule:
        raise Endless(rule)
    found: list[datetime] = []
    for wall in walls(rule, first):
        if len(found) >= MOST_OCCURRENCES or wall - first > LONGEST_SERIES:
            raise Endless(rule)
        found.append(wall)
    if not found:
        raise ValueError("this rule never comes true")
    return found


AGE = 400
"""After so many years the calendar repeats itself, weekdays included."""

AGES = 19 * AGE


def walls(rule: str, first: datetime) -> Iterator[datetime]:
    """The wall times of a rule, one after the other, as long as there are any. Raises ``ValueError``.

    dateutil looks for the next one until the year 9999, seconds long for “30 February”. Counted as near to that end as
    possible, it looks for one ``AGE`` at most.
    """
    later = re.sub(r"UNTIL=(\d{4})", lambda year: f"UNTIL={min(int(year[1]) + AGES, 9999)}", rule)
    for wall in rrulestr(later, dtstart=first.replace(year=first.year + AGES)):
        yield wall.replace(year=wall.year - AGES)


def minutes_of(stored: str) -> list[int]:
    """A stored choice of reminders."""
    return [int(minutes) for minutes in stored.split()]


def stored_minutes(minutes: Iterable[int]) -> str:
    """A choice of reminders as it is stored, the earliest first."""
    return " ".join(str(ahead) for ahead in sorted(set(minutes), reverse=True))
