"""How people say hours and lengths: “halb sieben”, “quarter past six”, “anderthalb Stunden” become digits."""

import re
from datetime import timedelta
from enum import Enum

from handlers.events.days import GERMAN_DAYS

_SPELLED = (
    "eins one|zwei two|drei three|vier four|fünf five|sechs six|sieben seven|acht eight|neun nine|zehn ten|"
    "elf eleven|zwölf twelve|dreizehn|vierzehn|fünfzehn fifteen|sechzehn|siebzehn|achtzehn|neunzehn|zwanzig twenty"
)
_WORDS = {word: number for number, words in enumerate(_SPELLED.split("|"), 1) for word in words.split()} | {
    "dreissig": 30,
    "thirty": 30,
}
_NUMBER = re.compile(rf"\b({'|'.join(sorted(_WORDS, key=len, reverse=True))})(mal)?\b")
_ONE = re.compile(r"\b(?:eine[mnrs]?|an?)(?=\s+(?:woche|tag|monat|stunde|week|day|month|hour))")

_LENGTHS = (
    (re.compile(r"\b(?:eine?\s+)?halbe\s+stunde|\bhalf\s+an\s+hour"), "30 min"),
    (re.compile(r"\b(?:eine?\s+)?(?:3|drei)[ -]?viertel\s?stunden?"), "45 min"),
    (re.compile(r"\b(?:eine?\s+)?viertel\s?stunde|\ba?\s*quarter\s+of\s+an\s+hour"), "15 min"),
    (re.compile(r"\banderthalb\b"), "1,5"),
    (re.compile(r"\ban\s+hour\s+and\s+a\s+half"), "1,5 hours"),
    (re.compile(r"\bein(?:und)?einhalb\b"), "1,5"),
    (re.compile(r"\b(zwei|drei|vier|fünf|sechs|sieben|acht)(?:und)?einhalb\b"), r"\1,5"),
    (re.compile(r"\b(two|three|four|five|six|\d)\s+and\s+a\s+half\s+hours"), r"\1,5 hours"),
)

_WEEKDAYS = f"{GERMAN_DAYS}|monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_OF_A_DAY = "morgen|vormittag|nachmittag|mittag|abend|nacht|früh"
_TOGETHER = re.compile(rf"\b({_WEEKDAYS}|heute|gestern)({_OF_A_DAY})(s?)\b")
_ITS_MORNING = re.compile(rf"\b({_WEEKDAYS}|heute)\s+(?:früh\s*)?morgen\b|\bam\s+(?:frühen\s+)?morgen\b")


_HOUR, _NOON = timedelta(hours=1), timedelta(hours=12)


class Part(Enum):
    """A part of the day, which tells hours of twelve apart. A night is the one after the day that is named with it."""

    MORNING = r"morgens|früh|vormittags?|(?:in\s+the\s+|this\s+)?morning"
    NOON = r"mittags?|noon|midday"
    AFTERNOON = r"nachmittags?|(?:in\s+the\s+|this\s+)?afternoon"
    EVENING = r"abends?|(?:in\s+the\s+|this\s+)?evening|tonight"
    BY_NIGHT = r"nachts|at\s+night"
    NIGHT = r"nacht|night"

    def of(self, hour: timedelta) -> timedelta:
        """The hour of this part of the day that is called so, both counted from midnight."""
        match self:
            case Part.MORNING:
                return hour
            case Part.NOON:
                return hour + _NOON if _HOUR <= hour < 6 * _HOUR else hour
            case Part.AFTERNOON:
                return hour + _NOON if _HOUR <= hour < _NOON else hour
            case Part.EVENING if hour < _HOUR:
                return hour + 2 * _NOON
            case Part.EVENING:
                return hour + _NOON if hour < 13 * _HOUR else hour
            case Part.NIGHT if hour < 6 * _HOUR:
                return hour + 2 * _NOON
        return hour + _NOON if 6 * _HOUR <= hour < 13 * _HOUR else hour


_PARTS = {part: re.compile(rf"\b(?:(?:am|in\s+der|zu|gegen|at)\s+)?(?:{part.value})\b") for part in Part}

_FULL_HOUR = r"(?P<hour>\d{1,2})(?![\d.:])(?:\s+uhr|\s*(?P<half>[ap])\.?m\b\.?)?"
_TEN_TO = re.compile(r"(?<!from )(?<!between )\b(five|ten|twenty)\s+to\b")
"""Ten to six is a time, and 10 to 6 a range."""
_PAST = re.compile(
    r"\b(?:(?P<quarter>viertel|(?:a\s+)?quarter)|(?P<minutes>\d{1,2})(?P<said>\s+(?:minuten|minutes))?)\s+"
    rf"(?P<to>vor|nach|to|past)\s+{_FULL_HOUR}"
)
_HALF = re.compile(rf"\b(?:halb|(?P<english>half(?:[\s-]+past)?))\s+{_FULL_HOUR}")
_THREE_QUARTERS = re.compile(r"\b(?:3|drei)[ -]?viertel\s+(?P<hour>\d{1,2})(?![\d.:])(?:\s+uhr)?")
_FROM_TO = re.compile(r"\b(?:zwischen|between)\s+(\d[\d:.]*(?:\s+uhr)?)\s+(?:und|and)\s+(?=\d)")
_AT = re.compile(
    r"\b(?:um|gegen|at|(?:ab|from)(?=\s+\d{1,2}$))\s+(?P<hour>\d{1,2})\b"
    r"(?![.:,]\d|\s*(?:uhr|h\b|x\b|mal\b|times\b|[ap]\.?m\b|(?:-|bis\b|to\b|until\b|till\b)\s*(?:um\s+|at\s+)?\d))"
)


def on_the_clock(rest: str) -> tuple[str, Part | None]:
    """Lower-case words with numbers in digits and hours as a clock shows them, and the part of the day they name.

    An hour as one says it (“halb sieben”, “um 7”; not “7 Uhr”) means one from 8 in the morning to before 8 in the
    evening, where no part of the day is named.
    """
    for expression, length in _LENGTHS:
        rest = expression.sub(length, rest)
    rest = _TEN_TO.sub(r"\1 minutes to", rest)
    rest = _TOGETHER.sub(lambda found: f"{found[1]}{found[3]} {found[2]}{found[3]}", rest)
    rest = _ITS_MORNING.sub(lambda found: f"{found[1] or ''} morgens", rest)
    rest = _ONE.sub("1", _NUMBER.sub(lambda found: f"{_WORDS[found[1]]}{' mal' if found[2] else ''}", rest))
    rest = _FROM_TO.sub(r"\1 - ", rest)
    part = None
    for each, expression in _PARTS.items():
        if (named := expression.search(rest)) is not None:
            today = "today" if named[0].startswith(("tonight", "this")) else ""
            part, rest = each, f"{rest[: named.start()]}{today} {rest[named.end() :]}"
            break
    for expression in (_PAST, _THREE_QUARTERS, _HALF, _AT):
        rest = expression.sub(lambda found: _shown(found, part), rest)
    if part is Part.NOON and not re.search(r"\d:\d|\d\s*(?:uhr|h\b)", rest):
        rest += " 12:00"
    return " ".join(rest.split()), part


def _shown(found: "re.Match[str]", part: Part | None) -> str:
    hour, given = int(found["hour"]), found.groupdict()
    minutes = 0
    if given.get("to"):
        if given["to"] == "to" and not (given["quarter"] or given["said"]):
            return found[0]
        minutes = 15 if given["quarter"] else int(given["minutes"])
        minutes *= -1 if given["to"] in ("vor", "to") else 1
    elif found.re is _HALF:
        minutes = 30 if given["english"] else -30
    elif found.re is _THREE_QUARTERS:
        minutes = -15
    if hour > 24 or abs(minutes) >= 60:
        return found[0]
    at = (hour * 60 + minutes) % 1440
    english = given.get("english") or given.get("to") in ("to", "past")
    if given.get("half") and english:  # “halb 7 am Freitag” is no morning
        if not 1 <= hour <= 12:
            return found[0]
        at = at % 720 + (720 if given["half"] == "p" else 0)
    elif hour <= 12 and part is None:
        at %= 720
        at += 0 if at >= 8 * 60 else 720
    elif hour <= 12 and at < 60 and part not in (Part.BY_NIGHT, Part.NIGHT):
        at += 720  # half past twelve
    return f" {at // 60}:{at % 60:02} "
