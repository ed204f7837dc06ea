"""When: “nächsten Freitag 18–21 Uhr” and “every second Tuesday 6pm, 10 times” become wall times and rules.

dateparser knows the names of days and months, but no ranges, no repetition, and few hours ("18 Uhr" it reads as the
18th). So hours, ranges, lengths and rules are taken out of the words first, and what remains is the day (``days``).
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from dateutil.rrule import rrulestr

from handlers.events.days import (
    ANY_DAY,
    CODES,
    DAY,
    DAYLIKE,
    DAYS,
    FILLERS,
    FURTHEST,
    GERMAN_DAYS,
    MONTH_NAME,
    TooFar,
    Unclear,
    day_of,
    is_weekday,
    last_day,
)
from handlers.events.spoken import Part, on_the_clock

USUAL_MINUTES = 120
"""How long an event takes when nothing is said."""

MOST_SPLITS = 3
"""At how many places words are taken apart into two days."""

LONGEST_EVENT = timedelta(days=32)
"""What lasts longer is several events."""

LONGEST = 200
"""The longest words that are looked at, in characters."""

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
ORDINALS = NUMBERS | {f"{number}{sign}": number for number in (1, 2, 3, 4) for sign in (".", "st", "nd", "rd", "th")}

_AND = r"\s*(?:,|&|\+|und|and)\s*"
_NUMBER = rf"(?P<number>{'|'.join(NUMBERS)})"
_ORDINAL = rf"(?P<number>{'|'.join(re.escape(word) for word in sorted(ORDINALS, key=len, reverse=True))})"
_MONTH = r"(?:\s+(?:im|des|jeden|in\s+the|of\s+the|of\s+each|each|every)\s+(?:monats?|month))"
_EVERY = r"(?:jede[nrs]?|every|each)"
_DAILY = rf"(?:{GERMAN_DAYS})s\b"
_CLOCK = r"(?P<{0}h>\d{{1,2}})(?:[:.](?P<{0}m>\d{{2}}))?\s*(?P<{0}u>uhr|h\b|a\.?m\.?|p\.?m\.?)?"
_TO = r"\s*(?:-|bis|to|until|till)\s*"

_RANGE = re.compile(
    rf"(?<![\d.])(?:\b(?:von|from|ab|um|at)\s+)?{_CLOCK.format('a')}{_TO}(?:um\s+)?{_CLOCK.format('b')}(?![\d.:])"
)
_HOUR = re.compile(
    r"(?<![\d.])(?:\b(?:um|at|ab|from)\s+)?(?:"
    r"(?P<ah>\d{1,2})[:.](?P<am>\d{2})\s*(?P<au>uhr|h\b|a\.?m\.?|p\.?m\.?)|"
    r"(?P<bh>\d{1,2}):(?P<bm>\d{2})|"
    r"(?P<ch>\d{1,2})\s*(?P<cu>uhr|h\b|a\.?m\.?|p\.?m\.?)(?:\s*(?P<cm>\d{2})\b(?!\s*(?:mal|x\b|times|termine|dates)))?)(?![\d.:])"
)
_DOTTED = re.compile(r"(?<![\d.])(?P<at>\b(?:um|ab|at|from)\s+)?(?P<h>\d{1,2})\.(?P<m>\d{2})(?![\d.:-])")
_LONE_HOUR = re.compile(r"(?:um |at )?\d{1,2}(?:[:.]\d\d)?\s*(?:uhr|h|[ap]\.?m\.?)?", re.IGNORECASE)
_LENGTH = re.compile(
    r"(?:\b(?:for|für)\s+)?(?<![\d.])(?P<n>\d{1,3}(?:[.,]5)?)\s*"
    r"(?:(?P<hours>stunden?|std\.?|hours?|hrs?)(?:\s*(?:und|and|,)?\s*(?P<more>\d{1,2})\s*min(?:uten?|utes?|s)?\.?)?|"
    r"min(?:uten?|utes?|s)?\.?)(?:\s+lang)?(?!\w)"
)
_SHORT_LENGTH = re.compile(
    r"(?<![\d.:])(?P<n>\d{1,2}(?:[.,]5)?)\s*(?P<hours>h)\b(?:\s*(?P<more>\d{1,2})\s*min(?:uten?|utes?|s)?\.?(?!\w))?"
)
_TIMES = re.compile(r"\b(?P<n>\d{1,3})\s*(?:mal|x|times|termine|dates|occurrences)\b")
_UNTIL = re.compile(r"\b(?:bis(?:\s+zum)?|until|till)\s+(?P<date>.+)$")
_RULES = (
    (re.compile(rf"(?<![\d.])(?:\b{_EVERY}\s+)?{_ORDINAL}\s+{DAY}{_MONTH}"), "monthly"),
    (re.compile(rf"\b{_EVERY}\s+(?:zweiten|second|other|2\.|2nd)\s+{DAY}"), "fortnightly"),
    (re.compile(rf"\b{_EVERY}\s+{_ORDINAL}\s+{DAY}"), "monthly"),
    (re.compile(rf"\b(?:am\s+|on\s+the\s+|the\s+)?{_NUMBER}\s+{DAY}"), "monthly"),
    (re.compile(r"\b(?:alle|every)\s+(?P<few>\d)\s+(?:wochen|weeks)\b"), "weeks"),
    (
        re.compile(
            rf"\b(?:alle|every)\s+(?P<days>14)\s+(?:tage|days)\b|\bfortnightly\b|\b{_EVERY}\s+"
            r"(?:zweite|andere|second|other|2\.|2nd)\s+(?:woche|week)\b"
        ),
        "weeks",
    ),
    (re.compile(rf"\b{_EVERY}\s+(?P<list>{ANY_DAY}(?:{_AND}(?:{_EVERY}\s+)?{ANY_DAY})*)"), "weekly"),
    (re.compile(rf"\b(?P<list>{_DAILY}(?:{_AND}{_DAILY})*)"), "weekly"),
    (re.compile(rf"\b(?:werktags|an\s+werktagen|on\s+weekdays|{_EVERY}\s+(?:werktag|weekday))\b"), "workdays"),
    (re.compile(rf"\b(?:wöchentlich|weekly|{_EVERY}\s+(?:woche|week))\b"), "week"),
    (re.compile(rf"\b(?:monatlich|monthly|{_EVERY}\s+(?:monat|month))\b"), "month"),
    (re.compile(rf"\b(?:täglich|daily|{_EVERY}\s+(?:tag|day))\b"), "day"),
)
_WRITTEN = (
    (re.compile(r"(?<=\d)t(?=\d)"), " "),  # ISO 8601
    (re.compile(r"(?<=\d)/(?=\d\d:)"), "-"),
    (re.compile(r"(?<=\d:\d\d):\d\d\b"), ""),
    (re.compile(r"(?<![\d.:,])(\d{1,2})(?:h(?=\d\d\b)|,(?=\d\d\s*uhr))"), r"\1:"),
    (re.compile(r"\b((?:um|gegen|ab)\s+\d{1,2}(?:[.:]\d\d)?|(?:1[3-9]|2[0-4])(?:[.:]\d\d)?)\s+am\b"), r"\1 den"),
    (re.compile(r"[!?]+$|(?:(?<=[a-z])|(?<=:\d\d))\.+$"), ""),
    (re.compile(r"(\d)\s*(?:½|\s1/2(?=\s+(?:std|stunde|hour)))"), r"\1,5"),
    (re.compile(r"(\bbis|\bto|\buntil|\btill|-)\s*(?:mitternacht|midnight)\b"), r"\1 24 uhr"),
    (re.compile(r"\bso\s+(?=gegen\b|ca\b|circa\b|etwa\b|ungefähr\b)"), ""),
)
"""What is written otherwise than it is read."""
_WHOLE_DAY = re.compile(r"\b(?:ganztägig|ganztags|den\s+ganzen\s+tag|all[ -]day)\b")
_BETWEEN = re.compile(r"\s*-\s*|\s+(?:bis(?:\s+zum?)?|to|until|till)\s+")
_DAYS_OF_MONTH = (
    (re.compile(rf"(?<![\d.])(\d{{1,2}})\.\s*(?:-|bis(?:\s+zum)?)\s*(\d{{1,2}})\.\s*"
                rf"(\d{{1,2}}\.(?:\s?\d{{4}}|\d\d)?|{MONTH_NAME}(?:\s+\d{{4}})?)"), r"\1. \3 - \2. \3"),
    (re.compile(rf"(?<![\d.:])(\d{{1,2}})\s*(?:-|to)\s*(\d{{1,2}})\s+({MONTH_NAME}(?:\s+\d{{4}})?)"),
     r"\1 \3 - \2 \3"),
    (re.compile(rf"\b({MONTH_NAME})\s+(\d{{1,2}})\s*(?:-|to)\s*(\d{{1,2}})(?![\d:.])(?!\s*(?:uhr|h\b|[ap]\.?m))"),
     r"\1 \2 - \1 \3"),
)  # fmt: skip
"""Days that share their month, and the same with a month each."""


class NoDay(Unclear):
    """There is an hour, but no day."""


class NoHour(Exception):
    """There is a day, but no hour."""


class NoSuchHour(Exception):
    """A day has no such hour: 25 o'clock."""


class Past(Exception):
    """That is over."""


class EndsEarlier(Exception):
    """It ends before it begins."""


class TooLong(TooFar):
    """It goes on for more than a month."""


UNREAD = (Unclear, TooFar, NoHour, NoSuchHour, Past, EndsEarlier)
"""All that ``understand`` raises."""


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
    for expression, plain in _WRITTEN:
        rest = expression.sub(plain, rest)
    rest, part = on_the_clock(rest)
    minutes, rest = _length(rest)
    whole = _WHOLE_DAY.search(rest)
    if whole is not None:  # from midnight to midnight
        rest, part, minutes = f"{_without(rest, whole)} 0:00", None, 1440
    if not any(expression.search(rest) for expression, _ in _RULES):
        several = _several_days(rest, now, part, minutes or usual)
        if several is not None:
            return several
    begin, end, rest = _hours(rest, part)
    if minutes is None and begin is not None and end is None:
        minutes, rest = _length(rest, _SHORT_LENGTH)
    count, until, pattern, found, rest = _repetition(rest, now)
    if begin is None:
        if pattern is None:
            day = day_of(rest, now)
            if day < now.date():
                raise Past(words)
        raise NoHour(words)
    if end is not None:
        if end < timedelta(hours=7) and begin - end >= timedelta(hours=12):
            end += timedelta(days=1)  # a party may go on after midnight
        if end <= begin:
            raise EndsEarlier(words)
        minutes = int((end - begin) / timedelta(minutes=1))
    lasts = minutes or usual
    if timedelta(minutes=lasts) > LONGEST_EVENT:
        raise TooLong(words)
    if pattern is None:
        if not FILLERS.sub(" ", rest).strip(" -."):
            raise NoDay(words)
        day = day_of(rest, now)
        wall = datetime.combine(day, time()) + begin
        if wall <= now and day == now.date() and is_weekday(rest):
            wall += timedelta(days=7)
        return _checked(Meant(wall, lasts), now)
    wall, rule = _rule(pattern, found, rest, now, begin)
    if count is not None:
        rule += f";COUNT={count}"
    elif until is not None:
        if until < wall.date():
            raise EndsEarlier(words)
        rule += f";UNTIL={until:%Y%m%d}T235959"
    return Meant(wall, lasts, rule)


def _checked(meant: Meant, now: datetime) -> Meant:
    if meant.wall <= now:
        raise Past(meant.wall)
    if meant.wall - now > FURTHEST:
        raise TooFar(meant.wall)
    if meant.minutes > LONGEST_EVENT / timedelta(minutes=1):
        raise TooLong(meant.wall)
    return meant


def _several_days(rest: str, now: datetime, part: Part | None, usual: int) -> Meant | None:
    """An event that ends on another day (“5.-7. Juni 10-16 Uhr”, “Freitag 18 Uhr bis Sonntag 14 Uhr”).

    It begins at the first hour that is said, and ends at the last one. ``None`` when these words are of one day.
    """
    for expression, each in _DAYS_OF_MONTH:
        rest = expression.sub(each, rest)
    parts = [(rest[: between.start()], rest[between.end() :]) for between in _BETWEEN.finditer(rest)]
    for left, right in [both for both in parts if all(DAYLIKE.search(side) for side in both)][:MOST_SPLITS]:
        try:
            begins, left_end, left = _hours(left, part)
            ends, right_end, right = _hours(right, part)
            first = day_of(left, now)
            last = day_of(right, datetime.combine(first, time()))
        except (Unclear, NoSuchHour):
            continue
        begin = ends if begins is None else begins
        if begin is None:
            raise NoHour(rest)
        wall = datetime.combine(first, time()) + begin
        if wall - now > FURTHEST:
            raise TooFar(rest)
        if last - first > LONGEST_EVENT:
            raise TooLong(rest)
        later = left_end if begins is None or ends is None else ends
        end = next((each for each in (right_end, later, None if begins is None else ends) if each is not None), None)
        until = datetime.combine(last, time()) + (begin + timedelta(minutes=usual) if end is None else end)
        if wall <= now and is_weekday(left):
            wall, until = wall + timedelta(days=7), until + timedelta(days=7)
        if until <= wall:
            raise EndsEarlier(rest)
        return _checked(Meant(wall, int((until - wall) / timedelta(minutes=1))), now)
    return None


def _length(rest: str, expression: "re.Pattern[str]" = _LENGTH) -> tuple[int | None, str]:
    found = expression.search(rest)
    if found is None:
        return None, rest
    number = float(found["n"].replace(",", "."))
    minutes = int(number * (60 if found["hours"] else 1)) + int(found["more"] or 0)
    if minutes == 0:
        raise Unclear(rest)
    return minutes, _without(rest, found)


def is_hour(text: str) -> bool:
    """Whether somebody names an hour and no day: “18”, “um 18 Uhr”, “6:30 pm”."""
    rest, _ = on_the_clock(" ".join(text.casefold().split()))
    return _LONE_HOUR.fullmatch(rest) is not None


def _hours(rest: str, part: Part | None) -> tuple[timedelta | None, timedelta | None, str]:
    """The hours of the beginning and of the end, from midnight, and the words without them."""
    for found in _RANGE.finditer(rest):
        told = found["bu"] or (found["am"] and found["bm"]) or found["au"] or (found["am"] and ":" in found[0])
        bare = found.start() and found.end() == len(rest) and int(found["ah"]) < int(found["bh"]) <= 24
        if bare and not told and part is None and int(found["ah"]) < 8 and int(found["bh"]) <= 12:
            raise Unclear(rest)  # in the morning or in the evening
        if told or bare:
            unit = found["au"] or (found["bu"] if found["bu"] and found["bu"][0] in "ap" else None)
            if unit and not found["au"] and int(found["ah"]) % 12 > int(found["bh"]) % 12:  # 11-1pm
                unit = "am" if unit[0] == "p" else "pm"
            begin, end = _clock(found["ah"], found["am"], unit), _clock(found["bh"], found["bm"], found["bu"])
            begin, until = _in(part, begin, unit), _in(part, end, found["bu"])
            return begin, until if until > begin else end, _without(rest, found)
    if (hour := _HOUR.search(rest)) is not None:
        begin = _clock(
            hour["ah"] or hour["bh"] or hour["ch"],
            hour["am"] or hour["bm"] or hour["cm"],
            hour["au"] or hour["cu"],
        )
        return _in(part, begin, hour["au"] or hour["cu"]), None, _without(rest, hour)
    for dotted in _DOTTED.finditer(rest):
        is_date = 1 <= int(dotted["h"]) <= 31 and 1 <= int(dotted["m"]) <= 12
        if dotted["at"] or not is_date or DAYLIKE.search(rest[: dotted.start()].replace(".", ". ")):
            return _in(part, _clock(dotted["h"], dotted["m"], None)), None, _without(rest, dotted)
    return None, None, rest


def _in(part: Part | None, hour: timedelta, unit: str | None = None) -> timedelta:
    return hour if part is None or (unit is not None and unit[0] in "ap") else part.of(hour)


def _clock(hour: str, minute: str | None, unit: str | None) -> timedelta:
    shown = int(hour)
    if unit is not None and unit[0] in "ap":
        if not 1 <= shown <= 12:
            raise NoSuchHour(hour)
        shown = shown % 12 + (12 if unit[0] == "p" else 0)
    found = timedelta(hours=shown, minutes=int(minute or 0))
    if found > timedelta(days=1) or int(minute or 0) > 59:
        raise NoSuchHour(hour)
    return found


def _repetition(rest: str, now: datetime) -> tuple[int | None, date | None, str | None, "re.Match[str] | None", str]:
    """The end of a rule, the rule's kind with what was found, and the words without all of it."""
    for expression, pattern in _RULES:
        if (found := expression.search(rest)) is None:
            continue
        rest = _without(rest, found)
        if pattern in ("weeks", "week"):  # “alle zwei Wochen dienstags”
            rest = re.sub(_DAILY, lambda day: day[0][:-1], rest)
        count, until = None, None
        if (times := _TIMES.search(rest)) is not None:
            count, rest = int(times["n"]), _without(rest, times)
        elif (end := _UNTIL.search(rest)) is not None:
            until, rest = last_day(end["date"], now), _without(rest, end)
        return count, until, pattern, found, rest
    return None, None, None, None, rest


def _rule(
    pattern: str, found: "re.Match[str] | None", rest: str, now: datetime, begin: timedelta
) -> tuple[datetime, str]:
    """The first wall time of a rule after now, or from the day on that is named, and the rule."""
    assert found is not None
    if begin >= timedelta(days=1):
        raise Unclear(rest)  # of two days
    named = FILLERS.sub(" ", rest).strip()
    start = datetime.combine(day_of(rest, now) if named else now.date(), time()) + begin
    if pattern in ("week", "weeks", "month", "day") and start <= now and named:
        raise Past(rest)
    given = found.groupdict()
    code = DAYS[given["day"]] if given.get("day") else CODES[start.weekday()]
    match pattern:
        case "monthly":
            rule = f"FREQ=MONTHLY;BYDAY={ORDINALS[found['number']]}{code}"
        case "fortnightly":
            rule = f"FREQ=WEEKLY;INTERVAL=2;BYDAY={code}"
        case "weeks":
            rule = f"FREQ=WEEKLY;INTERVAL={max(1, int(given.get('few') or 2))};BYDAY={code}"
        case "month":
            rule = f"FREQ=MONTHLY;BYMONTHDAY={start.day}"
        case "day":
            rule = "FREQ=DAILY"
        case "workdays":
            rule = "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"
        case "weekly":
            named_days = {DAYS.get(day) or DAYS.get(day[:-1]) for day in re.findall(r"\w+", found["list"])}
            rule = f"FREQ=WEEKLY;BYDAY={','.join(code for code in CODES if code in named_days)}"
        case _:
            rule = f"FREQ=WEEKLY;BYDAY={code}"
    every = re.sub(r";INTERVAL=\d+", "", rule)  # it may begin in any week
    first = rrulestr(every, dtstart=start).after(now, inc=False)
    if first is None:
        raise Unclear(rest)
    return first, rule


def _without(rest: str, found: "re.Match[str]") -> str:
    return " ".join(f"{rest[: found.start()]} {rest[found.end() :]}".split())
