"""Reading what people write: a poll in one line, its options, a ballot in numbers, a time of closing."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bot.choices import chosen
from handlers.events import days, when
from storage.events.moments import instant
from storage.people import FILLERS
from storage.polls.asking import same, width
from storage.polls.counting import NO, RANKED, YES, Content, Kind, is_valid
from storage.polls.tables import LONGEST_OPTION, LONGEST_QUESTION, LONGEST_REASON, MOST_OPTIONS

_JOINER = "\u200d"
"""What holds emoji together that are made of several."""


class Unclear(Exception):
    """What was written cannot be a poll; ``words`` is the part that is in the way."""

    def __init__(self, why: str, words: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.words = words


def tidy(words: str) -> str:
    """Words on one line, without signs that nobody can see."""
    seen = (
        sign
        for sign in words
        if sign.isspace() or sign == _JOINER or not (sign in FILLERS or unicodedata.category(sign)[0] == "C")
    )
    return " ".join("".join(seen).split()).strip(_JOINER)


def parts(text: str) -> list[str]:
    """What stands between strokes, or on lines of its own."""
    return [tidied for part in re.split(r"[|\n]", text) if (tidied := tidy(part))]


def check_question(words: str) -> str:
    """A question. Raises ``Unclear``: too long, or without a letter or a digit, since emoji alone ask nothing."""
    question = tidy(words)
    if not any(sign.isalnum() for sign in question):
        raise Unclear("no question")
    if width(question) > LONGEST_QUESTION:
        raise Unclear("long question", str(LONGEST_QUESTION))
    return question


def check_options(options: list[str]) -> tuple[str, ...]:
    """Two to twenty options that differ. Raises ``Unclear``."""
    if len(options) < 2:
        raise Unclear("too few")
    if len(options) > MOST_OPTIONS:
        raise Unclear("too many", str(len(options)))
    for place, option in enumerate(options):
        if width(option) > LONGEST_OPTION:
            raise Unclear("long option", f"{option[:30]}…")
        if any(same(option, other) for other in options[:place]):
            raise Unclear("twice", option)
    return tuple(options)


def number(text: str) -> str | None:
    """The number of a poll, as people write it: “17” or “#17”; ``None`` for anything else."""
    found = re.fullmatch(r"#?\s*(\d{1,9})", text)
    return None if found is None else found[1]


_NUMBERS = re.compile(r"[\d\s,;.?>#-]+")


def ballot(kind: Kind, text: str, options: int, most: int) -> tuple[Content, str] | None:
    """A ballot as it is typed, in numbers from 1, and the reason of an objection; ``None`` when it is none."""
    reason = ""
    if kind is Kind.CONSENT:
        match = re.fullmatch(r"\s*([123])\b[\s.,:;-]*(.*)", text, re.DOTALL)
        if match is None:
            return None
        text, reason = match[1], " ".join(match[2].split())
        if (text == "3") != bool(reason) or width(reason) > LONGEST_REASON:
            return None
    if _NUMBERS.fullmatch(text) is None or re.search(r"(?<!\d)-\d", text):  # “-1” is no “1”
        return None
    tokens = re.findall(r"(\d{1,3})\s*(\??)", text)
    numbers = [int(number) for number, _ in tokens]
    if kind is Kind.RESISTANCE:
        content = tuple(numbers)
    else:
        if kind is Kind.DATES and numbers == [0]:
            return (NO,) * options, reason  # none suits
        places = [number - 1 for number in numbers]
        if not all(0 <= place < options for place in places):
            return None
        if kind is Kind.DATES:
            marks = [NO] * options
            for place, (_, doubt) in zip(places, tokens, strict=True):
                marks[place] = YES - bool(doubt)
            content = tuple(marks)
        elif kind is Kind.DOTS:
            content = tuple(places.count(option) for option in range(options))
        else:
            content = tuple(places) if kind in RANKED else tuple(sorted(places))
    return (content, reason) if is_valid(kind, content, options, most) else None


def named(kind: Kind, text: str, options: Sequence[str]) -> Content | None:
    """The same by the words of the options, with commas between several; ``None`` when they are none."""
    if kind not in (Kind.SINGLE, Kind.SEVERAL, *RANKED):
        return None
    whole = chosen(text, options)
    places = [whole] if whole is not None else [chosen(part, options) for part in re.split(r"[,;>\n]", text)]
    content = tuple(place for place in places if place is not None)
    if len(content) < len(places):
        return None
    return content if kind in RANKED else tuple(sorted(content))


def moment(words: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """A time to come by the lab's clock, at most a year ahead, as events are written; a day alone means its end."""
    local = now.astimezone(zone).replace(tzinfo=None)
    text = words.strip()
    for tried in (f"today {text}", f"tomorrow {text}") if when.is_hour(text) else (text, f"{text} 23:59"):
        try:
            meant = when.understand(tried, local)
        except (*NO_TIME, when.NoHour, when.Past, days.TooFar):
            continue
        at = instant(meant.wall, zone)
        return at if meant.rule is None and now < at < now + timedelta(days=366) else None
    return None


NO_TIME = (days.Unclear, when.NoSuchHour, when.EndsEarlier, ValueError)
"""What is raised for words that name no time there is."""


def is_date(words: str, now: datetime, zone: ZoneInfo) -> bool:
    """Whether these words name a day that there is, so that an event can be made of them."""
    try:
        when.understand(words, now.astimezone(zone).replace(tzinfo=None))
    except NO_TIME:
        return False
    except (when.NoHour, when.Past, days.TooFar):
        pass
    return True
