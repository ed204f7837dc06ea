"""When: “nächsten Freitag 18–21 Uhr” and “every second Tuesday 6pm, 10 times” become wall times and rules.

dateparser knows the names of days and months, but no ranges, no repetition, and few hours ("18 Uhr" it reads as the
18th). So hours, ranges, lengths and rules are taken out of the words first, and it is given only the day.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from dateutil.rrule import rrulestr

USUAL_MINUTES = 120
"""How long an event takes when nothing is said."""

FURTHEST = timedelta(days=3 * 366)
"""How far ahead an event can be."""

LONGEST = 200
"""The longest words that are looked at, in characters."""

DAYS = {
    day: code
    for code, days in {
        "MO": "montag monday mo mon",
        "TU": "dienstag tuesday di die tue tues",
        "WE": "mittwoch wednesday mi wed",
        "TH": "donnerstag thursday do thu thurs",
        "FR": "freitag friday fr fri",
        "SA": "samstag sonnabend saturday sa sat",
        "SU": "sonntag sunday so sun",
    }.items()
    for day in days.split()
}
CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
NUMBERS = {
    word: number
    for number, words in {
        1: "ersten first",
        2: "zweiten second other",
        3: "dritten third",
        4: "vierten fourth",
        -1: "letzten last",
    }.items()
    for word in words.split()
}
FEW = {"zwei": 2, "two": 2, "drei": 3, "three": 3, "vier": 4, "four": 4}

_DAY = rf"(?P<day>{'|'.join(sorted(DAYS, key=len, reverse=True))})\b\.?"
_NUMBER = rf"(?P<number>{'|'.join(NUMBERS)})"
_MONTH = r"(?:\s+(?:im|des|jeden|in\s+the|of\s+the|of\s+each|each|every)\s+(?:monats?|month))"
_EVERY = r"(?:jede[nrs]?|every|each)"
_CLOCK = r"(?P<{0}h>\d{{1,2}})(?:[:.](?P<{0}m>\d{{2}}))?\s*(?P<{0}u>uhr|h\b|a\.?m\.?|p\.?m\.?)?"
_TO = r"\s*(?:-|bis|to|until|till)\s*"

_RANGE = re.compile(
    rf"(?<![\d.])(?:\b(?:von|from|ab|um|at)\s+)?{_CLOCK.format('a')}{_TO}(?:um\s+)?{_CLOCK.format('b')}(?![\d.:])"
)
_HOUR = re.compile(
    r"(?<![\d.])(?:\b(?:um|at|ab|from)\s+)?(?:"
    r"(?P<ah>\d{1,2})[:.](?P<am>\d{2})\s*(?P<au>uhr|h\b|a\.?m\.?|p\.?m\.?)|"
    r"(?P<bh>\d{1,2}):(?P<bm>\d{2})|"
    r"(?P<ch>\d{1,2})\s*(?P<cu>uhr|h\b|a\.?m\.?|p\.?m\.?)(?:\s*(?P<cm>\d{2})\b)?)(?![\d.:])"
)
_LONE_HOUR = re.compile(r"(?:um |at )?\d{1,2}(?:[:.]\d\d)?\s*(?:uhr|h|[ap]\.?m\.?)?", re.IGNORECASE)
_LENGTH = re.compile(
    r"(?:\b(?:for|für)\s+)?(?<![\d.])(?P<n>\d{1,3}(?:[.,]5)?)\s*"
    r"(?:(?P<hours>stunden?|std\.?|hours?|hrs?)|min(?:uten?|utes?|s)?\.?)(?:\s+lang)?\b"
)
_TIMES = re.compile(r"\b(?P<n>\d{1,3})\s*(?:mal|x|times|termine|dates|occurrences)\b")
_UNTIL = re.compile(r"\b(?:bis(?:\s+zum)?|until|till)\s+(?P<date>.+)$")
_RULES = (
    (re.compile(rf"\b{_EVERY}\s+{_NUMBER}\s+{_DAY}{_MONTH}"), "monthly"),
    (re.compile(rf"\b{_EVERY}\s+(?:zweiten|second|other|2\.|2nd)\s+{_DAY}"), "fortnightly"),
    (re.compile(rf"\b(?:{_EVERY}\s+|am\s+|on\s+the\s+|the\s+)?{_NUMBER}\s+{_DAY}{_MONTH}?"), "monthly"),
    (re.compile(rf"\b{_EVERY}\s+{_DAY}"), "weekly"),
    (re.compile(r"\b(?P<day>montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag)s\b"), "weekly"),
    (re.compile(rf"\b(?:alle|every)\s+(?P<few>\d|{'|'.join(FEW)})\s+(?:wochen|weeks)\b"), "weeks"),
    (re.compile(rf"\b(?:wöchentlich|weekly|{_EVERY}\s+(?:woche|week))\b"), "week"),
    (re.compile(rf"\b(?:monatlich|monthly|{_EVERY}\s+(?:monat|month))\b"), "month"),
    (re.compile(rf"\b(?:täglich|daily|{_EVERY}\s+(?:tag|day))\b"), "day"),
)
_NEXT_WEEK = re.compile(
    rf"\b(?:nächste[rn]?\s+woche|next\s+week)\s+(?:am\s+|on\s+)?{_DAY}|{_DAY.replace('day', 'other')}"
    r"\s+(?:nächste[rn]?\s+woche|next\s+week)\b"
)
_WEEKDAY = re.compile(rf"(?:nächste[rnms]?|kommende[rnms]?|diese[rnms]?|next|this|coming)?\s*{_DAY}")
_FILLERS = re.compile(r"\b(?:am|an|den|der|dem|um|ab|von|vom|on|the|at|from|starting|beginnend|uhr)\b|,")


class Unclear(Exception):
    """These words hold no day that there is."""


class NoHour(Exception):
    """There is a day, but no hour."""


class NoSuchHour(Exception):
    """A day has no such hour: 25 o'clock."""


class Past(Exception):
    """That is over."""


class EndsEarlier(Exception):
    """It ends before it begins."""


class TooFar(Exception):
    """Further ahead than anybody plans here."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What words mean: the wall time (naive) of the beginning, the length, and the rule if it comes again."""

    wall: datetime
    minutes: int
    rule: str | None = None


def understand(words: str, now: datetime, usual: int = USUAL_MINUTES) -> Meant:
    """Read words, at the wall time ``now`` (naive). ``usual`` is the length when none is said.

    A rule without an end is left without one. Raises one of the exceptions above.
    """
    rest = " ".join(re.sub(r"[–—−]", "-", words[:LONGEST].casefold()).split())
    rest = re.sub(r"(?<=\d)t(?=\d)", " ", rest)  # ISO 8601
    minutes, rest = _length(rest)
    begin, end, rest = _hours(rest)
    count, until, pattern, found, rest = _repetition(rest, now)
    if begin is None:
        if pattern is None:
            day = _day(rest, now)
            if day < now.date():
                raise Past(words)
        raise NoHour(words)
    if end is not None:
        first, last = (datetime.combine(date.min, moment) for moment in (begin, end))
        if last <= first and not (end.hour <= 6 and begin.hour >= 12):  # a party may go on after midnight
            raise EndsEarlier(words)
        minutes = int((last - first) / timedelta(minutes=1)) % 1440
    lasts = minutes or usual
    if pattern is None:
        day = _day(rest, now)
        wall = datetime.combine(day, begin)
        if wall <= now and day == now.date() and _is_weekday(rest):
            wall += timedelta(days=7)
        if wall <= now:
            raise Past(words)
    else:
        wall, rule = _rule(pattern, found, rest, now, begin)
        if count is not None:
            rule += f";COUNT={count}"
        elif until is not None:
            if until < wall.date():
                raise EndsEarlier(words)
            rule += f";UNTIL={until:%Y%m%d}T235959"
        return Meant(wall, lasts, rule)
    if wall - now > FURTHEST:
        raise TooFar(words)
    return Meant(wall, lasts)


def _length(rest: str) -> tuple[int | None, str]:
    found = _LENGTH.search(rest)
    if found is None:
        return None, rest
    number = float(found["n"].replace(",", "."))
    return max(1, int(number * (60 if found["hours"] else 1))), _without(rest, found)


def is_hour(text: str) -> bool:
    """Whether somebody names an hour and no day: “18”, “um 18 Uhr”, “6:30 pm”."""
    return _LONE_HOUR.fullmatch(text.strip()) is not None


def _hours(rest: str) -> tuple[time | None, time | None, str]:
    for found in _RANGE.finditer(rest):
        if found["bu"] or (found["am"] and found["bm"]) or found["au"] or (found["am"] and ":" in found[0]):
            unit = found["au"] or (found["bu"] if found["bu"] and found["bu"][0] in "ap" else None)
            begin = _clock(found["ah"], found["am"], unit)
            return begin, _clock(found["bh"], found["bm"], found["bu"]), _without(rest, found)
    if (hour := _HOUR.search(rest)) is not None:
        begin = _clock(
            hour["ah"] or hour["bh"] or hour["ch"],
            hour["am"] or hour["bm"] or hour["cm"],
            hour["au"] or hour["cu"],
        )
        return begin, None, _without(rest, hour)
    return None, None, rest


def _clock(hour: str, minute: str | None, unit: str | None) -> time:
    shown = int(hour)
    if unit is not None and unit[0] in "ap":
        if not 1 <= shown <= 12:
            raise NoSuchHour(hour)
        shown = shown % 12 + (12 if unit[0] == "p" else 0)
    try:
        return time(shown % 24 if shown == 24 and not int(minute or 0) else shown, int(minute or 0))
    except ValueError:
        raise NoSuchHour(hour) from None


def _repetition(rest: str, now: datetime) -> tuple[int | None, date | None, str | None, "re.Match[str] | None", str]:
    """The end of a rule, the rule's kind with what was found, and the words without all of it."""
    for expression, pattern in _RULES:
        if (found := expression.search(rest)) is None:
            continue
        rest = _without(rest, found)
        count, until = None, None
        if (times := _TIMES.search(rest)) is not None:
            count, rest = int(times["n"]), _without(rest, times)
        elif (end := _UNTIL.search(rest)) is not None:
            until, rest = _day(end["date"], now), _without(rest, end)
        return count, until, pattern, found, rest
    return None, None, None, None, rest


def _rule(pattern: str, found: "re.Match[str] | None", rest: str, now: datetime, begin: time) -> tuple[datetime, str]:
    """The first wall time of a rule after now, or from the day on that is named, and the rule."""
    assert found is not None
    named = _FILLERS.sub(" ", rest).strip()
    start = datetime.combine(_day(rest, now) if named else now.date(), begin)
    if pattern in ("week", "weeks", "month", "day") and start <= now and named:
        raise Past(rest)
    code = DAYS[found["day"]] if "day" in found.re.groupindex else CODES[start.weekday()]
    match pattern:
        case "monthly":
            rule = f"FREQ=MONTHLY;BYDAY={NUMBERS[found['number']]}{code}"
        case "fortnightly":
            rule = f"FREQ=WEEKLY;INTERVAL=2;BYDAY={code}"
        case "weeks":
            rule = f"FREQ=WEEKLY;INTERVAL={FEW.get(found['few']) or max(1, int(found['few']))};BYDAY={code}"
        case "month":
            rule = f"FREQ=MONTHLY;BYMONTHDAY={start.day}"
        case "day":
            rule = "FREQ=DAILY"
        case _:
            rule = f"FREQ=WEEKLY;BYDAY={code}"
    every = re.sub(r";INTERVAL=\d+", "", rule)  # it may begin in any week
    first = rrulestr(every, dtstart=start).after(now, inc=False)
    if first is None:
        raise Unclear(rest)
    return first, rule


def _is_weekday(rest: str) -> bool:
    return _WEEKDAY.fullmatch(_FILLERS.sub(" ", rest).strip()) is not None


def _day(words: str, now: datetime) -> date:
    """The day that words name. Raises ``Unclear`` and ``TooFar``."""
    rest = " ".join(_FILLERS.sub(" ", words).split()).strip(" -.") + ("." if words.rstrip().endswith(".") else "")
    today = now.date()
    if (found := _NEXT_WEEK.fullmatch(rest)) is not None:
        monday = today - timedelta(days=today.weekday()) + timedelta(days=7)
        return monday + timedelta(days=CODES.index(DAYS[found["day"] or found["other"]]))
    if (found := _WEEKDAY.fullmatch(rest)) is not None:
        ahead = (CODES.index(DAYS[found["day"]]) - today.weekday()) % 7
        if ahead == 0 and rest != found["day"]:
            ahead = 7
        return today + timedelta(days=ahead)
    with_date = re.match(rf"{_DAY}\s*(?=\d)", rest)
    if with_date is not None:
        rest = rest[with_date.end() :]
    if (iso := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", rest)) is not None:
        return _exists(*(int(part) for part in iso.groups()))
    if (short := re.fullmatch(r"(\d{1,2})\.\s?(\d{1,2})\.?(?:\s?(\d{4}|\d{2}))?", rest)) is not None:
        return _next(int(short[1]), int(short[2]), short[3], today)
    return _parsed(rest, now)


def _next(day: int, month: int, year: str | None, today: date) -> date:
    """A day and a month, this year or the next in which it is not over."""
    if year is not None:
        return _exists(int(year) if len(year) == 4 else 2000 + int(year), month, day)
    for later in range(5):  # 29 February
        try:
            found = date(today.year + later, month, day)
        except ValueError:
            continue
        if found >= today:
            return found
    raise Unclear(f"{day}.{month}.")


def _exists(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise Unclear(f"{year}-{month}-{day}") from None


def _parsed(rest: str, now: datetime) -> date:
    if not re.search(r"[^\W\d_]{3}|\d", rest):
        raise Unclear(rest)
    import dateparser  # 20 MB, for those who write such a date

    settings: Any = {
        "RELATIVE_BASE": now,
        "PREFER_DATES_FROM": "future",
        "DATE_ORDER": "DMY",
        "RETURN_AS_TIMEZONE_AWARE": False,
        "PARSERS": ["relative-time", "absolute-time"],
        "REQUIRE_PARTS": ["day", "month"],
    }
    found: datetime | None = dateparser.parse(rest, languages=["de", "en"], settings=settings)
    if found is None:
        raise Unclear(rest)
    if found - now > FURTHEST:
        raise TooFar(rest)
    return found.date()


def _without(rest: str, found: "re.Match[str]") -> str:
    return " ".join(f"{rest[: found.start()]} {rest[found.end() :]}".split())
