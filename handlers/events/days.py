"""Which day words name: “Freitag in zwei Wochen”, “the 24th”, “5.12.”, and what dateparser knows of months.

Whatever stands beside a day makes dateparser guess; so it is asked only where all the words are known to be a day.
"""

import calendar
import re
from datetime import date, datetime, time, timedelta
from typing import Any

FURTHEST = timedelta(days=3 * 366)
"""How far ahead an event can be."""

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
GERMAN_DAYS = "montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag"
CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

_NAMES = "|".join(sorted(DAYS, key=len, reverse=True))
ANY_DAY = rf"(?:{_NAMES})\b\.?"
DAY = rf"(?P<day>{_NAMES})\b\.?"
_NEXT_WEEK = re.compile(
    rf"\b(?:nächste[rn]?\s+woche|next\s+week)\s+(?:am\s+|on\s+)?{DAY}|{DAY.replace('day>', 'other>')}"
    r"\s+(?:nächste[rn]?\s+woche|next\s+week)\b"
)
_WEEKDAY = re.compile(rf"(?:nächste[rnms]?|kommende[rnms]?|diese[rnms]?|next|this|coming)?\s*{DAY}")
_WEEKS = r"(?:(?P<weeks>\d{1,2})\s+(?:wochen?|weeks?)|(?P<days>7|14|21|28)\s+(?:tagen|days))"
_LATER = (
    (re.compile(rf"{DAY}\s+in\s+{_WEEKS}|{_WEEKS.replace('weeks>', 'w>').replace('days>', 'd>')}\s+"
                rf"{DAY.replace('day>', 'other>')}"), None),
    (re.compile(rf"(?:übernächste[rnms]?\s+){DAY}|{DAY.replace('day>', 'other>')}\s+(?:week|after\s+next)"), 1),
)  # fmt: skip
"""A weekday of a later week, and how many weeks after the next."""
_WEEK_AFTER_NEXT = re.compile(
    rf"(?:übernächste\s+woche|week\s+after\s+next)\s+{DAY}|{DAY.replace('day>', 'other>')}\s+"
    r"(?:übernächste\s+woche|week\s+after\s+next)"
)
_IN_WEEKS = re.compile(rf"in\s+{_WEEKS}\s+{DAY}")
MONTH_NAME = (
    r"(?:jan(?:uar|uary)?|jänner|feb(?:ruar|ruary)?|märz|mär|mar(?:ch)?|apr(?:il)?|mai|may|jun[ie]?|jul[iy]?|"
    r"aug(?:ust)?|sept?(?:ember)?|o[kc]t(?:ober)?|nov(?:ember)?|de[zc](?:ember)?)\b\.?"
)
_MONTH_END = re.compile(rf"(?:ende\s+|end\s+of\s+)?(?P<month>{MONTH_NAME})(?:\s+(?P<year>\d{{4}}))?")
_WITH_DATE = re.compile(
    rf"{DAY}\s*(?P<date>(?:\d|{MONTH_NAME}).*)|"
    rf"(?P<before>\d.*\d\.?|\d.*{MONTH_NAME}|{MONTH_NAME}.*\d)\s+{DAY.replace('day>', 'other>')}"
)
_NEAR = r"(?:heute|morgen|übermorgen|today|tomorrow)"
_FROM_THERE = re.compile(
    rf"(?P<day>{_NEAR})\s+in\s+(?!8\s+tag)(?P<n>\d{{1,2}}\s+\w+)|(?:in\s+)?(?P<m>\d{{1,2}}\s+\w+)\s+(?P<other>{_NEAR})"
)
"""“Morgen in acht Tagen” is for some a week, for others a day more: it is asked about."""
_KNOWN = re.compile(
    rf"\d{{1,2}}(?:\.|st|nd|rd|th)?\s*(?:of\s+)?{MONTH_NAME}(?:\s*\d{{4}})?|"
    rf"{MONTH_NAME}\s*\d{{1,2}}(?:\.|st|nd|rd|th)?(?:\s+\d{{4}})?|"
    r"\d{1,2}/\d{1,2}(?:/\d{2}|/\d{4})?|\d{1,2}-\d{1,2}-\d{4}|\d{4}([/.])\d{1,2}\1\d{1,2}|"
    rf"{_NEAR}|day\s+after\s+tomorrow|(?:vor)?gestern|yesterday|vor\s+\d{{1,3}}\s+tag(?:en)?|\d{{1,3}}\s+days?\s+ago|"
    r"in\s+\d{1,3}\s+(?:tag(?:en)?|wochen?|monat(?:en)?|days?|weeks?|months?)|in\s+a\s+fortnight"
)
"""All that dateparser is asked."""
_NO_YEAR = re.compile(rf"\d{{1,2}}/\d{{1,2}}|(?=.*{MONTH_NAME})(?!.*\d{{4}}).*")
DAYLIKE = re.compile(  # a first look, before dateparser is asked
    rf"\d{{1,2}}\.\s?\d|\d{{4}}-\d\d?-\d|\b{MONTH_NAME}|\b{ANY_DAY}|\b{_NEAR}\b"
)
FILLERS = re.compile(r"\b(?:am|an|den|der|dem|um|ab|von|vom|gegen|on|the|at|from|starting|beginnend|uhr)\b|[,()|]")
"""What says nothing about the day."""


class Unclear(Exception):
    """These words hold no day that there is."""


class OtherWeekday(Unclear):
    """The date is another day of the week than is said."""

    def __init__(self, day: date) -> None:
        super().__init__(day)
        self.day = day


class TooFar(Exception):
    """Further ahead than anybody plans here."""


def is_weekday(rest: str) -> bool:
    """Whether words name a day of the week, the next such."""
    return _WEEKDAY.fullmatch(FILLERS.sub(" ", rest).strip()) is not None


def day_of(words: str, now: datetime) -> date:
    """The day that lower-case words name, today or later if they leave that open. Raises ``Unclear`` and ``TooFar``."""
    rest = " ".join(FILLERS.sub(" ", words).split()).strip(" -.") + ("." if words.rstrip().endswith(".") else "")
    today = now.date()
    for expression, weeks in _LATER:
        if (later := expression.fullmatch(rest)) is not None:
            given = later.groupdict()
            ahead = weeks or int(given["weeks"] or given["w"] or int(given["days"] or given["d"]) // 7)
            return _coming(given["day"] or given["other"], today) + timedelta(weeks=ahead)
    if (found := _WEEK_AFTER_NEXT.fullmatch(rest)) is not None:
        return _in_week(found["day"] or found["other"], today, 2)
    if (found := _IN_WEEKS.fullmatch(rest)) is not None:
        return _in_week(found["day"], today, int(found["weeks"] or int(found["days"]) // 7))
    if (found := _NEXT_WEEK.fullmatch(rest)) is not None:
        return _in_week(found["day"] or found["other"], today, 1)
    if (found := _WEEKDAY.fullmatch(rest)) is not None:
        coming = _coming(found["day"], today)
        return coming + timedelta(days=7) if coming == today and rest != found["day"] else coming
    if (with_date := _WITH_DATE.fullmatch(rest)) is not None:
        dated = day_of(with_date["date"] or with_date["before"], now)
        if dated - today > FURTHEST:
            raise TooFar(rest)
        if dated >= today and CODES[dated.weekday()] != DAYS[with_date["day"] or with_date["other"]]:
            raise OtherWeekday(dated)
        return dated
    if (there := _FROM_THERE.fullmatch(rest)) is not None:
        from_there = day_of(there["day"] or there["other"], now)
        return day_of(f"in {there['n'] or there['m']}", datetime.combine(from_there, time()))
    if (iso := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", rest)) is not None:
        return _exists(*(int(part) for part in iso.groups()))
    if (short := re.fullmatch(r"(\d{1,2})\.\s?(\d{1,2})(?:\.?|\.?\s?(\d{4})|\.(\d{2}))", rest)) is not None:
        return _next(int(short[1]), int(short[2]), short[3] or short[4], today)
    if (alone := re.fullmatch(r"(\d{1,2})(?:\.|st|nd|rd|th)", rest)) is not None:
        return _next_such_day(int(alone[1]), today)
    return _parsed(rest, now)


def _coming(day: str, today: date) -> date:
    """The next such weekday; today counts."""
    return today + timedelta(days=(CODES.index(DAYS[day]) - today.weekday()) % 7)


def _in_week(day: str, today: date, ahead: int) -> date:
    """A weekday of the week that comes after so many."""
    monday = today - timedelta(days=today.weekday()) + timedelta(weeks=ahead)
    return monday + timedelta(days=CODES.index(DAYS[day]))


def _next_such_day(day: int, today: date) -> date:
    """A day of this month, or of the next that has it, in which it is not over."""
    for later in range(4):
        year, month = divmod(today.year * 12 + today.month - 1 + later, 12)
        if 1 <= day <= calendar.monthrange(year, month + 1)[1] and (found := date(year, month + 1, day)) >= today:
            return found
    raise Unclear(f"{day}.")


_WEEK = re.compile(r"(?:in\s+)?(?P<next>nächste[rn]?|next)?(?:diese[rn]?|this)?\s*(?:woche|week)")
_WEEKEND = re.compile(r"(?:dieses|(?P<next>nächstes|kommendes|next)|this)?\s*(?:wochenende|weekend)")


def days_of(words: str, now: datetime) -> tuple[date, date]:
    """The first and the last day that words name: a day, a week, a weekend, a month. Raises as ``day_of``."""
    rest, today = " ".join(FILLERS.sub(" ", words.casefold()).split()), now.date()
    sunday = today + timedelta(days=6 - today.weekday())
    if (week := _WEEK.fullmatch(rest)) is not None:
        return (sunday + timedelta(days=1), sunday + timedelta(days=7)) if week["next"] else (today, sunday)
    if (weekend := _WEEKEND.fullmatch(rest)) is not None:
        if weekend["next"] and today.weekday() >= 5:  # this one has begun
            sunday += timedelta(days=7)
        return max(today, sunday - timedelta(days=1)), sunday
    if DAYLIKE.search(rest) is None:  # words to look for, most likely
        raise Unclear(words)
    last = last_day(words.casefold(), now)
    if abs(last - today) > FURTHEST:
        raise TooFar(words)
    return (last.replace(day=1) if _MONTH_END.fullmatch(rest) else last), last


def last_day(words: str, now: datetime) -> date:
    """The day until which; of a month its last. Raises as ``day_of``."""
    found = _MONTH_END.fullmatch(FILLERS.sub(" ", words).strip())
    if found is None:
        return day_of(words, now)
    first = _parsed(f"1 {found['month']} {found['year'] or ''}".strip(), now.replace(day=1) - timedelta(days=1))
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])


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
    if _KNOWN.fullmatch(rest) is None:
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
    if _NO_YEAR.fullmatch(rest) is not None:  # it would be next year if it is today
        return _next(found.day, found.month, None, now.date())
    return found.date()
