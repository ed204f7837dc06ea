"""Catalogues: a Text and a locale become words; dates and numbers by Babel."""

import gettext
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from html import unescape
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_skeleton, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from markupsafe import escape

from bot.types import Formatted, Language, Lines, N, Span, T, Text, Verbatim

SOURCE_LOCALE = "en"
_TAG = re.compile(r"<[^>]*>")
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ENDS = dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c") | dict.fromkeys("\u2066\u2067\u2068", "\u2069")
"""Signs that turn round what follows, and what ends each (UAX 9, 2.1 to 2.5)."""
FOLDER = Path(__file__).parent.parent / "locales"


class Catalogue:
    """The words of one locale, and how it writes dates (in the lab's time zone) and numbers."""

    def __init__(self, locale: str, translations: gettext.NullTranslations, zone: ZoneInfo) -> None:
        self.locale = locale
        self._babel = Locale.parse(locale, sep="-")
        self.name = self.called(self)
        self._translations = translations
        self.zone = zone

    def called(self, other: "Catalogue") -> str:
        """What this language calls another one."""
        return other._babel.get_display_name(self._babel) or other.locale

    def languages(self) -> Iterator[tuple[str, str]]:
        """Every language by its BCP 47 tag, and what this one calls it."""
        return ((tag.replace("_", "-"), name) for tag, name in self._babel.languages.items())

    def gettext(self, msgid: str) -> str:
        return self._translations.gettext(msgid)

    def html(self, text: Text) -> str:
        """Render for a message: the small HTML of templates stays, arguments are escaped."""
        return self._render(text, _escaped)

    def plain(self, text: Text) -> str:
        """Render for a place that knows no markup: a button, a toast, a menu."""
        return self._render(text, str)

    def _render(self, text: Text, said: Callable[[str], str]) -> str:
        match text:
            case T():
                template, args = self._translations.gettext(text.msgid), text.args
            case N():
                template, args = self._translations.ngettext(text.singular, text.plural, text.n), text.args
            case Verbatim():
                return said(_ended(text.words))
            case Formatted():
                return text.html if said is _escaped else unescape(_TAG.sub("", text.html))
            case Span():
                return said(self._span(text))
            case Language():
                return said(self._babel.languages.get(text.tag.replace("-", "_")) or text.tag)
            case Lines():
                return text.between.join([self._render(part, said) for part in text.parts])
            case _:
                raise TypeError(f"not a text: {type(text).__name__}")
        if not args:
            return template
        return template.format_map(
            {
                name: self._render(value, said) if isinstance(value, Text) else said(self._value(value))
                for name, value in args.items()
            }
        )

    def _span(self, span: Span) -> str:
        starts, ends = span.starts_at.astimezone(span.zone), span.ends_at.astimezone(span.zone)
        if starts.hour == starts.minute == ends.hour == ends.minute == 0 and ends > starts:
            return self._days(starts.date(), (ends - timedelta(days=1)).date(), span.short)
        hour = format_time(starts, "short", tzinfo=span.zone, locale=self._babel)
        on_another_day = ends.date() > starts.date() and ends - starts > timedelta(hours=12)  # not only into the night
        if span.short:
            until = f" – {format_skeleton('MMMEd', ends, locale=self._babel)}" if on_another_day else ""
            return f"{format_skeleton('MMMEd', starts, locale=self._babel)}, {hour}{until}"
        until = format_time(ends, "short", tzinfo=span.zone, locale=self._babel)
        if on_another_day:
            until = f" {format_date(ends, 'full', locale=self._babel)}, {until}"
            hour += " "
        return f"{format_date(starts, 'full', locale=self._babel)}, {hour}–{until}"

    def _days(self, first: date, last: date, short: bool) -> str:
        """Whole days, from midnight to midnight."""
        said = [format_date(day, "full", locale=self._babel) for day in (first, last)]
        if short:
            said = [str(format_skeleton("MMMEd", day, locale=self._babel)) for day in (first, last)]
        return said[0] if first == last else " – ".join(said)

    def _value(self, value: str | int | float | date) -> str:
        if isinstance(value, str):
            return _ended(value)
        if isinstance(value, datetime):
            local = value.astimezone(self.zone)
            hour = format_time(local, "short", tzinfo=self.zone, locale=self._babel)
            return f"{format_date(local, 'medium', locale=self._babel)}, {hour}"
        if isinstance(value, date):
            return format_date(value, "medium", locale=self._babel)
        if isinstance(value, int) and 0 <= value < 1000:  # the usual case, without Babel's cost
            return str(value)
        return format_decimal(value, locale=self._babel)


class Catalogues(Mapping[str, Catalogue]):
    """Every locale the lab speaks, by its BCP 47 tag; ``best`` chooses one for a reader."""

    def __init__(self, default: str, zone: ZoneInfo, folder: Path = FOLDER) -> None:
        """Read all ``.po`` files. Raises ``ValueError`` when the default locale has none."""
        self._catalogues = {SOURCE_LOCALE: Catalogue(SOURCE_LOCALE, gettext.NullTranslations(), zone)}
        for path in sorted(folder.glob("*/LC_MESSAGES/bot.po")):
            tag = path.parent.parent.name.replace("_", "-")
            self._catalogues[tag] = Catalogue(tag, _read(path), zone)
        if default not in self._catalogues:
            known = ", ".join(sorted(self._catalogues))
            raise ValueError(f"there is no language “{default}”; there are: {known}")
        self.default = default

    def __getitem__(self, locale: str) -> Catalogue:
        return self._catalogues[locale]

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogues)

    def __len__(self) -> int:
        return len(self._catalogues)

    def best(self, tag: str | None) -> str:
        """The closest locale we have to a BCP 47 tag (RFC 4647 lookup), else the lab's own."""
        while tag:
            for known in self._catalogues:
                if known.lower() == tag.lower().replace("_", "-"):
                    return known
            tag = tag.replace("_", "-").rpartition("-")[0]
        return self.default

    def language(self, words: str) -> str | None:
        """The BCP 47 tag of any language in the world, by its tag or its name in a language we speak."""
        wanted = words.strip().casefold()
        for catalogue in self._catalogues.values():
            for tag, name in catalogue.languages():
                if wanted in (tag.casefold(), name.casefold()):
                    return tag
        return None

    def meant(self, words: str) -> str | None:
        """The locale a person means by a tag or by a language's name in any language we speak."""
        wanted = words.strip().casefold()
        for tag, meant in self._catalogues.items():
            if wanted in {tag.casefold(), *(other.called(meant).casefold() for other in self._catalogues.values())}:
                return tag
        return None

    def aliases(self, command: str) -> set[str]:
        """A command's names in every locale; the catalogues translate the bare name."""
        return {catalogue.gettext(command) for catalogue in self._catalogues.values()} - {command}


def _ended(words: str) -> str:
    """Words as they are, but what turns round the direction of reading in them ends with them."""
    if words.isascii() or _DIRECTION.search(words) is None:
        return words
    waiting: list[str] = []
    for sign in _DIRECTION.findall(words):
        if sign in _ENDS:
            waiting.append(_ENDS[sign])
        elif sign in waiting:
            while waiting.pop() != sign:  # the end of an isolate ends what was begun within it
                pass
    return words + "".join(reversed(waiting))


def _escaped(words: str) -> str:
    return str(escape(words))


def _read(path: Path) -> gettext.GNUTranslations:
    with path.open("rb") as source:
        catalog = read_po(source, locale=path.parent.parent.name)
    compiled = BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
