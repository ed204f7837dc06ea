"""The parts of an event: how each is asked for, and what may be answered."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any

from bot.turn import Turn
from bot.types import Choice, Span, T, Text
from handlers.events import days, when
from storage.events import moments
from storage.events.tables import LONGEST_FACT, LONGEST_PLACE, LONGEST_TEXT, LONGEST_TITLE, MOST_PLACES


class Wrong(Exception):
    """An answer that cannot be taken; ``text`` says why, and how to do better.

    ``day`` are words that name a day and no hour, an hour and no day, or a series without an end: with the next answer
    they make a time.
    """

    def __init__(self, text: Text, day: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.day = day


@dataclass(frozen=True, slots=True)
class Fact:
    """A part of an event: its name, the question for it, and what an answer becomes.

    ``optional``: can be left out. ``counts``: a number is expected, so that numbers cannot mean choices.
    """

    label: Text
    question: Text
    take: Callable[[Turn, str], Mapping[str, Any]]
    optional: bool = False
    counts: bool = False

    def choices(self, *choices: Choice) -> tuple[Choice, ...]:
        """What can be chosen instead of an answer."""
        return () if self.counts else choices


def local_now(turn: Turn, at: datetime | None = None) -> datetime:
    """What the lab's clock shows, or has shown at that moment; naive."""
    return (at or turn.now).astimezone(turn.words.zone).replace(tzinfo=None)


HINT = T("Write it like this: 5.12. 18:00–21:00, or: next Friday 18:00")


def understood(turn: Turn, words: str, *, once: bool = False, said_at: datetime | None = None) -> when.Meant:
    """The time that words mean, ``once`` without a rule; day or hour may be in the answer before. Raises ``Wrong``.

    ``said_at`` is when they were said, if not now: “Friday” is the Friday after that.
    """
    whole = words
    try:
        whole, meant = meaning(turn, words, said_at=said_at)
        if meant.rule is None and meant.wall <= local_now(turn):
            raise when.Past(words)
        if meant.rule is not None and once:
            raise Wrong(T("Only one day and hour fit here, for example: tomorrow 9:00"))
        if meant.rule is not None:
            moments.occurrences(meant.rule, meant.wall)
    except when.Past:
        raise Wrong(T("That is over already: “{words}”. Which time do you mean?", words=words[:60])) from None
    except when.NoHour:
        day = words[: when.LONGEST]
        if said_at is not None:
            with suppress(days.Unclear, days.TooFar):
                day = str(days.day_of(words.casefold(), local_now(turn, said_at)))
        raise Wrong(T("And at what time? For example: 18:00"), day) from None
    except when.NoSuchHour:
        raise Wrong(T("“{words}” has an hour that no day has. {hint}", words=words[:60], hint=HINT)) from None
    except when.EndsEarlier:
        raise Wrong(T("It would end before it begins: “{words}”. When is it?", words=words[:60])) from None
    except when.TooLong:
        raise Wrong(
            T("That lasts longer than a month. What comes again is a series, like this: every Tuesday 18:00, 10 times")
        ) from None
    except days.TooFar:
        raise Wrong(T("That is more than three years away. Please write an earlier day.")) from None
    except moments.Endless:
        raise Wrong(
            T("A series needs an end, within three years. Add it like this: 10 times, or: until 30.6.2027"),
            whole[: when.LONGEST],
        ) from None
    except days.OtherWeekday as other:
        midnight = datetime.combine(other.day, time(), turn.words.zone)
        date = Span(midnight, midnight + timedelta(days=1), turn.words.zone)
        raise Wrong(T("The date is another day of the week: {date}. Which do you mean?", date=date)) from None
    except when.NoDay:
        raise Wrong(T("And on which day? For example: next Friday"), words[: when.LONGEST]) from None
    except (days.Unclear, ValueError):
        raise Wrong(T("I cannot read “{words}” as a time. {hint}", words=words[:60], hint=HINT)) from None
    zone = turn.words.zone
    if meant.rule is not None:
        return meant
    if moments.is_skipped(meant.wall, zone):
        raise Wrong(T("That night the clock is put forward: there is no such hour. When is it?"))
    ends = moments.instant(meant.wall + timedelta(minutes=meant.minutes), zone)
    lasts = int((ends - moments.instant(meant.wall, zone)) / timedelta(minutes=1))
    return replace(meant, minutes=max(1, lasts))  # the end that was said, also where the clocks change in between


def meaning(
    turn: Turn, words: str, usual: int = when.USUAL_MINUTES, said_at: datetime | None = None
) -> tuple[str, when.Meant]:
    """What words mean, as ``when.understand`` says, and all the words: with those before, if these lack something."""
    now, before = local_now(turn, said_at), turn.data.get("day")
    try:
        return words, when.understand(words, now, usual)
    except (days.Unclear, when.NoHour) as lacking:
        if isinstance(before, str):
            for together in (f"{before} {words}", f"{before} {words} mal", f"{before} bis {words}"):
                with suppress(*when.UNREAD):
                    meant = when.understand(together, now, usual)
                    if meant.rule is not None and ("COUNT=" in meant.rule or "UNTIL=" in meant.rule):
                        return together, meant
            day_alone = isinstance(lacking, when.NoHour)  # “6.12” is none of its hours
            dot = "." if day_alone and re.fullmatch(r"[0-9]+[.][0-9]+", words) else ""
            for together in (f"{before} {words}{dot}",) if day_alone else (f"{before} um {words}", f"{before} {words}"):
                with suppress(days.Unclear, when.NoHour):
                    return together, when.understand(together, now, usual)
        raise


def planned(turn: Turn, words: str, said_at: datetime | None = None) -> Mapping[str, Any]:
    """What a draft keeps of the time that words mean, as ``understood`` reads them."""
    meant = understood(turn, words, said_at=said_at)
    return {"wall": meant.wall.isoformat(), "minutes": meant.minutes, "rule": meant.rule}


def _short(key: str, longest: int) -> Callable[[Turn, str], Mapping[str, Any]]:
    def take(_turn: Turn, words: str) -> Mapping[str, Any]:
        said = " ".join(words.split())
        if not 1 <= len(said) <= longest:
            raise Wrong(T("Please write 1 to {most} characters.", most=longest))
        return {key: said}

    return take


def _text(_turn: Turn, words: str) -> Mapping[str, Any]:
    if not 1 <= len(words) <= LONGEST_TEXT:
        raise Wrong(
            T("That is {n} characters, and {most} fit. Can you say it shorter?", n=len(words), most=LONGEST_TEXT)
        )
    return {"text": words}


MOST_LANGUAGES = 6
"""In how many languages an event can be."""

MANY = T("Please write a number from 1 to {most}, or 0: everybody can come. /cancel leaves it.", most=MOST_PLACES)
FEWEST = T("Please write a number from 1 to {most}, or 0: it always takes place. /cancel leaves it.", most=MOST_PLACES)


def _number(key: str, complaint: Text) -> Callable[[Turn, str], Mapping[str, Any]]:
    def take(_turn: Turn, words: str) -> Mapping[str, Any]:
        found = re.fullmatch(r"[^\d\-−–]{0,20}?(\d{1,7})\s*[^\d]{0,20}", words)
        if found is None or not 0 <= int(found[1]) <= MOST_PLACES:
            raise Wrong(complaint)
        return {key: int(found[1]) or None}

    return take


def _link(key: str) -> Callable[[Turn, str], Mapping[str, Any]]:
    def take(_turn: Turn, words: str) -> Mapping[str, Any]:
        if not re.fullmatch(r"https?://[^\s<>\"]{3,190}", words):
            raise Wrong(T("Please write an address that begins with https://"))
        return {key: words}

    return take


def _languages(turn: Turn, words: str) -> Mapping[str, Any]:
    tags = []
    for name in re.split(r",|/|&|\+|\bund\b|\band\b", words):
        tag = turn.lab.catalogues.language(name)
        if tag is None:
            raise Wrong(
                T("I know no language “{words}”. Write it like this: English, Turkish", words=name.strip()[:40])
            )
        tags.append(tag)
    return {"locale": " ".join(dict.fromkeys(tags[:MOST_LANGUAGES]))}


def _deadline(turn: Turn, words: str) -> Mapping[str, Any]:
    meant = understood(turn, words, once=True)
    return {"closes_at": moments.instant(meant.wall, turn.words.zone).isoformat()}


FACTS: dict[str, Fact] = {
    "title": Fact(T("Title"), T("What is the event called?"), _short("title", LONGEST_TITLE)),
    "when": Fact(
        T("Time"),
        T("When is it? For example: next Friday 18:00–21:00, 5.12. 18:00, or: every second Tuesday 18:00, 10 times"),
        planned,
    ),
    "place": Fact(T("Place"), T("Where is it?"), _short("place", LONGEST_PLACE), optional=True),
    "text": Fact(T("Text"), T("What happens there? Write for people who are new."), _text, optional=True),
    "capacity": Fact(
        T("Number of places"), T("How many places are there? 0 means that everybody can come."),
        _number("capacity", MANY), optional=True, counts=True,
    ),
    "least": Fact(
        T("Smallest number"), T("How many must come at least, so that it takes place? 0 means that it always does."),
        _number("least", FEWEST), optional=True, counts=True,
    ),
    "closes_at": Fact(T("Deadline"), T("Until when can people say that they come?"), _deadline, optional=True),
    "locale": Fact(T("Language"), T("In which language is it? For example: English, Turkish"), _languages),
    "cost": Fact(T("Cost"), T("What does it cost?"), _short("cost", LONGEST_FACT), optional=True),
    "link": Fact(T("Online link"), T("At which address can one join online?"), _link("link"), optional=True),
    "notes": Fact(
        T("Minutes and photos"), T("At which address are minutes and photos?"), _link("notes"), optional=True
    ),
}  # fmt: skip

EMPTY: dict[str, Any] = {"place": "", "text": "", "capacity": None, "least": None, "closes_at": None, "cost": "",
                         "link": "", "notes": ""}  # fmt: skip
"""What an optional part is when it is left out."""
