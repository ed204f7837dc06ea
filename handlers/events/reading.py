"""Reading calendar files (RFC 5545): whatever they hold becomes entries, or a reason why it does not.

Only the lines of VEVENTs that say something of use reach the library, so that neither nesting nor the rules of made-up
time zones cost anything: zones are known by their name (IANA's, Windows', or with a maker's prefix).
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from bot.types import T, Text
from handlers.events.days import FURTHEST
from handlers.events.plain import MARKUP, plain
from handlers.events.when import USUAL_MINUTES
from storage.events import moments
from storage.events.importing import Date, Entry
from storage.events.moments import instant
from storage.events.planning import stored
from storage.events.tables import LONGEST_FACT, LONGEST_PLACE, LONGEST_TEXT, LONGEST_TITLE

if TYPE_CHECKING:
    from icalendar import Event as Component

MOST_ENTRIES = 50
"""How many events and series of one file are taken."""

MOST_DATES = 500
"""How many dates they have together."""

MOST_YEARS = 500
"""How many years of the calendar are searched for them, all series together: rules are what a file can cost most by."""

ENDLESS = timedelta(days=366)
"""How far ahead a series without an end is taken."""

LONGEST = 31 * 1440
"""The longest event, in minutes."""

OLDEST = timedelta(days=30 * 366)
"""How long ago a series may have begun."""

LONGEST_UID, LONGEST_RULE = 200, 300

KNOWN = re.compile(
    r"(?:UID|SEQUENCE|SUMMARY|DESCRIPTION|LOCATION|URL|CATEGORIES|CLASS|STATUS|DTSTART|DTEND|DURATION|RRULE|RDATE|EXDATE|EXRULE|"
    r"RECURRENCE-ID)[;:]",
    re.IGNORECASE,
)
COMMON = {"FREQ", "INTERVAL", "WKST", "COUNT", "UNTIL", "BYDAY", "BYMONTH"}
PARTS = {
    "DAILY": COMMON,
    "WEEKLY": COMMON,
    "MONTHLY": COMMON | {"BYMONTHDAY", "BYSETPOS"},
    "YEARLY": COMMON | {"BYMONTHDAY", "BYSETPOS"},
}
"""The rules that are understood: once a day at most."""


NO_PLACES = ("Factory", "localtime", "posixrules")
"""What lies beside the zones and is none, or another one on each machine."""


class NoCalendar(Exception):
    """This is no calendar file."""


METHOD = re.compile(r"^METHOD:([\w-]+)\s*$", re.IGNORECASE | re.MULTILINE)


class OtherMethod(Exception):
    """A message between calendars (RFC 5546) that holds no events of its own, as an answer to an invitation."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method


class Unfit(Exception):
    """An entry that cannot be taken; ``reason`` says why."""

    def __init__(self, reason: Text) -> None:
        super().__init__()
        self.reason = reason


@dataclass(slots=True)
class Contents:
    """What a file holds: what can be taken, what cannot and why, and how many events that are over.

    ``cancels``: it says that its events do not take place (RFC 5546, 3.2.5). ``cut`` are the titles of series that go
    on longer than is taken. ``dates`` is how many dates have been made, and ``years`` how many years have been searched
    for them.
    """

    cancels: bool = False
    entries: list[Entry] = field(default_factory=list)
    unfit: list[tuple[str, Text]] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    over: int = 0
    dates: int = 0
    years: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no more dates are searched for."""
        return len(self.entries) >= MOST_ENTRIES or self.dates > MOST_DATES or self.years >= MOST_YEARS


UNREADABLE = T("has something that I cannot read")
MORE = T("more than fits: {n} events, {dates} dates", n=MOST_ENTRIES, dates=MOST_DATES)


def read(content: bytes, zone: ZoneInfo, now: datetime, topics: Mapping[str, Sequence[str]]) -> Contents:
    """Read a file, for a lab with this clock. ``topics`` are what each topic may be called. Raises ``NoCalendar`` and
    ``OtherMethod``.
    """
    whole = re.sub(rb"(?:\r\n|\r|\n)[ \t]", b"", content)  # folded by octets (3.1), perhaps within a letter
    try:
        text = whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = whole.decode("cp1252", errors="replace")
    text = text.replace("\x00", "")
    if not re.match(r"\s*BEGIN:VCALENDAR\s", text, re.IGNORECASE):
        raise NoCalendar
    method = said[1].upper() if (said := METHOD.search(text)) is not None else "PUBLISH"
    if method not in ("PUBLISH", "REQUEST", "CANCEL"):
        raise OtherMethod(method[:20])
    found = Contents(cancels=method == "CANCEL")
    masters: dict[str, Component] = {}
    others: dict[str, list[Component]] = {}
    for uid, component in _components(text):
        if component is None:
            found.unfit.append((uid, UNREADABLE))
        elif "RECURRENCE-ID" in component:
            others.setdefault(uid, []).append(component)
        elif uid not in masters or _sequence(component) >= _sequence(masters[uid]):
            masters[uid] = component
    for uid, changes in others.items():
        if uid not in masters:  # single dates of a series that is told elsewhere
            masters[uid] = changes[-1]
    for uid, master in masters.items():
        title = _line(master, "SUMMARY", LONGEST_TITLE)
        try:
            entry = _entry(uid, master, others.get(uid, []), zone, now, topics, found)
            if entry is None:
                found.over += 1
                continue
            found.dates += len(entry.dates)
            if len(found.entries) >= MOST_ENTRIES or found.dates > MOST_DATES:
                raise Unfit(MORE)
            found.entries.append(entry)
        except Unfit as unfit:
            found.unfit.append((title, unfit.reason))
        except Exception:  # the library raises all kinds, only when what it could not read is looked at
            found.unfit.append((title, UNREADABLE))
    return found


def _components(text: str) -> "Iterator[tuple[str, Component | None]]":
    """The VEVENTs directly in the calendar, one after the other, each with its UID and its useful lines only; ``None``
    with its title for one that nobody can read, or that is cut off.
    """
    depth = 0
    lines: list[str] | None = None
    for line in re.split(r"\r\n|\r|\n", text):
        name = line[:40].upper().rstrip()
        if name.startswith("BEGIN:"):
            depth += 1
            if depth == 2 and name == "BEGIN:VEVENT":
                lines = []
        elif name.startswith("END:"):
            if depth == 2 and lines is not None:
                component = _component(lines)
                yield _title(lines) if component is None else _uid(component, lines), component
            if depth == 2:
                lines = None
            depth = max(0, depth - 1)
        elif depth == 2 and lines is not None and KNOWN.match(line) is not None:
            lines.append(line)
    if lines is not None:
        yield _title(lines), None


def _title(lines: Sequence[str]) -> str:
    """What an entry that cannot be read seems to be called."""
    said = next((line.partition(":")[2] for line in lines if line[:7].upper() == "SUMMARY"), "")
    return said[:LONGEST_TITLE].translate(_UNSEEN)


def _component(lines: Sequence[str]) -> "Component | None":
    """A VEVENT as the library reads it; ``None`` for what nobody can read."""
    from icalendar import Event as Component  # a library that only calendars need

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when it guesses a zone
        try:
            read: Any = Component.from_ical("\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT", ""]))
        except Exception:  # whatever it is
            return None
    return read if isinstance(read, Component) else None


def _entry(
    uid: str,
    master: "Component",
    others: "Sequence[Component]",
    zone: ZoneInfo,
    now: datetime,
    topics: Mapping[str, Sequence[str]],
    found: Contents,
) -> Entry | None:
    """An event or a series; ``None`` when it is over."""
    if found.cancels and "RECURRENCE-ID" not in master:  # it need not even say what and when
        return Entry(uid=uid, sequence=_sequence(master), words={}, dates=[], minutes=1, topic=_topic(master, topics))
    if any("RANGE" in _params(other) for other in others):
        raise Unfit(T("changes all dates from one of them on: please export the whole series"))
    said = _words(master)
    if not said["title"] and not found.cancels:
        raise Unfit(T("has no title"))
    if _line(master, "CLASS", 20).upper() in ("PRIVATE", "CONFIDENTIAL"):
        raise Unfit(T("is marked as private"))
    begins, minutes = _times(master, zone)
    if begins - now > FURTHEST:
        raise Unfit(T("is more than three years away"))
    cancelled = _cancelled(master, found)
    dates: list[Date] = []
    rule, clock = None, _clock(begins, zone)
    first = begins.astimezone(clock).replace(tzinfo=None)
    if "RDATE" in master or "EXRULE" in master:
        raise Unfit(T("has dates outside of its rule"))
    part = "RECURRENCE-ID" in master
    if part:
        said = {"title": said["title"]}
        dates = _singly(others, zone, now, said, found)
    elif "RRULE" not in master:
        dates = [_date(first, clock, minutes, zone, cancelled)]
    else:
        rule, walls = _series(master, first, clock, now, found, said["title"])
        first = walls[0] if walls else first
        left_out = _days(master, "EXDATE", clock)
        dates = [_date(on, clock, minutes, zone, cancelled) for on in walls if on.date() not in left_out]
        dates = _with(dates, others, clock, zone, said, found)
    dates = [each for each in dates if instant(_wall(each), zone) + timedelta(minutes=each.minutes) > now]
    if not dates:
        return None
    if instant(_wall(dates[0]), zone) - now > FURTHEST:
        raise Unfit(T("is more than three years away"))
    return Entry(
        uid=uid,
        sequence=_sequence(master),
        words=said,
        dates=dates,
        minutes=minutes,
        topic=_topic(master, topics),
        rule=rule,
        zone=str(clock),
        first=stored(first),
        part=part,
    )


def _wall(each: Date) -> datetime:
    return datetime.fromisoformat(each.wall)


def _date(on: datetime, clock: ZoneInfo, minutes: int, zone: ZoneInfo, cancelled: bool) -> Date:
    local = instant(on, clock).astimezone(zone).replace(tzinfo=None)
    return Date(stored(on), stored(local), minutes, cancelled)


def _with(
    dates: list[Date],
    others: "Sequence[Component]",
    clock: ZoneInfo,
    zone: ZoneInfo,
    said: Mapping[str, str],
    found: Contents,
) -> list[Date]:
    """The dates of a series, with those that are said otherwise by themselves (RFC 5545, 3.8.4.4)."""
    by_day = {each.on[:10]: each for each in dates}
    for other in sorted(others, key=_sequence):
        for day in _days(other, "RECURRENCE-ID", clock):
            if (planned := by_day.get(day.isoformat())) is None:
                continue
            by_day[day.isoformat()] = _otherwise(other, planned.on, zone, said, found)
    return list(by_day.values())


def _singly(
    others: "Sequence[Component]", zone: ZoneInfo, now: datetime, said: Mapping[str, str], found: Contents
) -> list[Date]:
    """Single dates of a series of which nothing else is said; it goes by the clock that they go by."""
    by_day: dict[date, Date] = {}
    for other in sorted(others, key=_sequence):
        begins, _ = _times(other, zone)
        if begins - now > FURTHEST:
            raise Unfit(T("is more than three years away"))
        clock = _clock(begins, zone)
        for day in _days(other, "RECURRENCE-ID", clock):
            on = datetime.combine(day, begins.astimezone(clock).time())
            by_day[day] = _otherwise(other, stored(on), zone, said, found)
    return sorted(by_day.values(), key=lambda each: each.wall)


def _otherwise(other: "Component", on: str, zone: ZoneInfo, said: Mapping[str, str], found: Contents) -> Date:
    """The date of a series that this component tells by itself."""
    begins, minutes = _times(other, zone)
    local = begins.astimezone(zone).replace(tzinfo=None)
    words = {name: value for name, value in _words(other).items() if value and value != said.get(name)}
    return Date(on, stored(local), minutes, _cancelled(other, found), words)


# -- the rule -----------------------------------------------------------------------------------------------


def _series(
    master: "Component", first: datetime, clock: ZoneInfo, now: datetime, found: Contents, title: str
) -> tuple[str, list[datetime]]:
    """The rule from the first date on that is not over, counted, and its wall times."""
    given: Any = master["RRULE"]
    parts = {} if isinstance(given, list) else {str(name).upper(): values for name, values in given.items()}
    frequency = str(parts.get("FREQ", [""])[0]).upper()
    if not parts.keys() <= PARTS.get(frequency, set()):
        raise Unfit(T("comes again by a rule that I do not know"))
    if not all(int(each) >= 1 for each in parts.get("INTERVAL", [])):  # else there is no next one, for ever
        raise Unfit(T("comes again by a rule that I do not know"))
    local = now.astimezone(clock).replace(tzinfo=None)
    if local - first > OLDEST:
        raise Unfit(T("began too long ago"))
    rule = ";".join(
        f"{name}={','.join(str(value) for value in values)}"
        for name, values in parts.items()
        if name not in ("COUNT", "UNTIL")
    )
    if len(rule) > LONGEST_RULE:
        raise Unfit(T("comes again by a rule that I do not know"))
    last = _end(parts, clock)
    if last <= local - timedelta(days=1):
        return rule, []
    if found.is_full:
        raise Unfit(MORE)
    ends = min(last, max(first, local) + moments.LONGEST_SERIES - timedelta(days=1))
    if "COUNT" not in parts and last.year == 9999:
        ends = min(ends, max(first, local) + ENDLESS)
    count = int(parts["COUNT"][0]) if "COUNT" in parts else None
    walls: list[datetime] = []
    number, years = -1, 0
    try:
        for number, wall in enumerate(moments.walls(rule, first)):
            years = wall.year - first.year
            if (count is not None and number >= count) or wall > ends:
                if wall <= last and (count is None or number < count):
                    found.cut.append(title)
                break
            if wall <= local - timedelta(days=1):
                continue
            if len(walls) == moments.MOST_OCCURRENCES:
                found.cut.append(title)
                break
            walls.append(wall)
        else:
            years = moments.AGE
    except (ValueError, OverflowError, IndexError):
        raise Unfit(T("comes again by a rule that I do not know")) from None
    finally:
        found.years += 1 + years
    if number < 0:
        raise Unfit(T("never takes place"))
    return f"{rule};COUNT={len(walls)}", walls


def _end(parts: Mapping[str, Any], clock: ZoneInfo) -> datetime:
    """The last wall time that UNTIL allows."""
    if "UNTIL" not in parts:
        return datetime(9999, 12, 31)  # noqa: DTZ001
    until = parts["UNTIL"][0]
    if not isinstance(until, datetime):
        return datetime.combine(until, time.max)
    return _naive(until, clock)


def _days(component: "Component", name: str, clock: ZoneInfo) -> set[date]:
    """The days of EXDATE or RECURRENCE-ID, on a series' clock; there is no more than one date a day."""
    given: Any = component.get(name, [])
    days: set[date] = set()
    for value in given if isinstance(given, list) else [given]:
        for each in getattr(value, "dts", [value]):
            moment = _safely(each)
            days.add(_naive(moment, clock).date() if isinstance(moment, datetime) else moment)
    return days


# -- times --------------------------------------------------------------------------------------------------


def _safely(value: Any) -> Any:
    """A date, time or length as the library has read it; what it could not read raises ``Unfit``."""
    try:
        return value.dt
    except Exception:
        raise Unfit(T("has a time that I cannot read")) from None


def _times(component: "Component", zone: ZoneInfo) -> tuple[datetime, int]:
    """The beginning (aware) and the length in minutes."""
    if "DTSTART" not in component:
        raise Unfit(T("has no time"))
    first = _safely(component["DTSTART"])
    whole_days = not isinstance(first, datetime)
    try:
        begins = _aware(component["DTSTART"], zone)
        if "DTEND" in component:
            lasts = _aware(component["DTEND"], zone) - begins
        elif "DURATION" in component:
            lasts = _safely(component["DURATION"])
        else:
            lasts = timedelta(days=1) if whole_days else timedelta(minutes=USUAL_MINUTES)
        minutes = int(lasts / timedelta(minutes=1))
        if whole_days:  # by the wall clock; the day on which the clocks change has another length
            days = max(1, round(lasts / timedelta(days=1)))
            ends = instant(datetime.combine(first + timedelta(days=days), time()), zone)
            minutes = int((ends - begins.astimezone(UTC)) / timedelta(minutes=1))
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise Unfit(T("has a time that I cannot read")) from None
    if minutes < 0:
        raise Unfit(T("ends before it begins"))
    if begins.year < 1000:
        raise Unfit(T("began too long ago"))
    if minutes > LONGEST or begins.year > 9000:
        raise Unfit(T("lasts too long, or is too far away"))
    return begins, max(1, minutes)


def _aware(value: Any, zone: ZoneInfo) -> datetime:
    """A time with its zone; days and times without one are the lab's. Raises ``Unfit`` for a zone nobody knows."""
    moment = _safely(value)
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), zone)
    if moment.tzinfo is not None and getattr(moment.tzinfo, "key", None) not in NO_PLACES:
        return moment
    if value.params.get("TZID"):
        raise Unfit(T("has a time zone that I do not know: {zone}", zone=str(value.params["TZID"])[:60]))
    return moment.replace(tzinfo=zone)


def _naive(moment: datetime, clock: ZoneInfo) -> datetime:
    """A wall time on this clock; at the ends of all calendars (“until 9999”) as it is written."""
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(clock).replace(tzinfo=None)
    except OverflowError:
        return moment.replace(tzinfo=None)


def _clock(begins: datetime, zone: ZoneInfo) -> ZoneInfo:
    """The clock that a series goes by."""
    key = getattr(begins.tzinfo, "key", None)
    return zone if key is None else ZoneInfo(key)


# -- words --------------------------------------------------------------------------------------------------


def _words(component: "Component") -> dict[str, str]:
    text = _text(component, "DESCRIPTION")
    if MARKUP.search(text) is not None:  # as Google writes it
        text = plain(text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    link = _text(component, "URL").strip()
    return {
        "title": _line(component, "SUMMARY", LONGEST_TITLE),
        "text": text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1].rstrip()}…",
        "place": _line(component, "LOCATION", LONGEST_PLACE),
        "link": link if re.fullmatch(rf"https?://[^\s<>\"]{{3,{LONGEST_FACT - 10}}}", link) else "",
    }


def _text(component: "Component", name: str) -> str:
    given: Any = component.get(name, "")
    words = str(given[0] if isinstance(given, list) else given)
    return re.sub(r"[^\S\n]", " ", words.replace("\r\n", "\n")).translate(_UNSEEN)


_UNSEEN = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


def _line(component: "Component", name: str, longest: int) -> str:
    words = " ".join(_text(component, name).split())
    return words if len(words) <= longest else f"{words[: longest - 1].rstrip()}…"


def _cancelled(component: "Component", found: Contents) -> bool:
    return found.cancels or _line(component, "STATUS", 20).upper() == "CANCELLED"


def _params(component: "Component") -> Mapping[str, str]:
    """What is said beside the date of a series that a component is about."""
    params: Mapping[str, str] = getattr(component.get("RECURRENCE-ID"), "params", {})
    return params


def _topic(component: "Component", topics: Mapping[str, Sequence[str]]) -> str:
    """The topic that its categories name, else the last."""
    given: Any = component.get("CATEGORIES", [])
    named = {
        str(category).casefold()
        for value in (given if isinstance(given, list) else [given])
        for category in getattr(value, "cats", [value])
    }
    return next((key for key, labels in topics.items() if named & {*labels}), list(topics)[-1])


def _sequence(component: "Component") -> int:
    try:
        given: Any = component.get("SEQUENCE", 0)
        return min(max(0, int(given)), 2**31 - 1)
    except Exception:
        return 0


def _uid(component: "Component", lines: Sequence[str]) -> str:
    """What the calendar calls it; made of what it says where it does not."""
    uid = _text(component, "UID").strip()
    if 1 <= len(uid) <= LONGEST_UID:
        return uid
    told = uid or "\n".join(lines)
    return f"{hashlib.sha256(told.encode()).hexdigest()[:40]}@labbot"
