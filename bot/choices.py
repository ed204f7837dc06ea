"""Choices as numbered lines, a typed number back into a choice, and messages fitted to a messenger."""

import re
from collections.abc import Sequence

from markupsafe import escape

_TYPED_NUMBER = re.compile(r"[\s(\[]*(\d{1,3})[\s.)\]:]*")
_TOKEN = re.compile(r"<(/?)([a-z]+)[^>]*>|&[a-z]+;|&#\d+;|.", re.DOTALL)


def numbered(labels: Sequence[str], listed: int = 0) -> str:
    """The printing half: one line a choice, counted from 1, as HTML; without the first ones that are ``listed``."""
    return "\n".join(f"{position}. {escape(label)}" for position, label in enumerate(labels, 1) if position > listed)


def chosen(typed: str, labels: Sequence[str]) -> int | None:
    """The reading half: the position (from 0) that a typed number or label means, else ``None``.

    “yes” means “Yes, take it back” where only one label begins so: what stands before a comma is an answer by itself.
    Fewer words are none: they may be the beginning of what somebody answers in words of their own.
    """
    if (number := typed_number(typed)) is not None:
        return number - 1 if 0 < number <= len(labels) else None
    wanted = _words(typed) if _bare(typed) else ""  # “-1” is no “1”
    for read in (_words, _bare, _begun):
        found = [position for position, label in enumerate(labels) if wanted and wanted == read(label)]
        if found:
            return found[0] if len(found) == 1 or read is _words else None
    return None


def typed_number(typed: str) -> int | None:
    """The number that somebody has typed to choose, whether there is such a choice or not."""
    match = _TYPED_NUMBER.fullmatch(typed)
    return None if match is None else int(match[1])


def fit(html: str, labels: Sequence[str], most: int, longest: int, listed: int = 0) -> list[str]:
    """Split a message into parts a messenger takes; the last one carries the choices.

    When there are more choices than the ``most`` buttons that fit, they are printed as numbered lines, but the first
    ones that are ``listed`` in the message with their numbers already. Parts are at most ``longest`` UTF-16 code
    units long, cut at paragraphs where possible, then at lines, words, characters; markup is closed and opened again.
    """
    if len(labels) > max(most, listed):
        html = f"{html}\n\n{numbered(labels, listed)}"
    return split(html, longest)


def split(html: str, limit: int) -> list[str]:
    """Cut HTML into parts of at most ``limit`` UTF-16 code units of visible text each."""
    if len(html) * 2 <= limit or width(html) <= limit:
        return [html]
    parts: list[str] = []
    opened: list[tuple[str, str]] = []  # the tags open at this place: name, and the tag as written
    at_start: list[tuple[str, str]] = []
    tokens: list[str] = []
    used = 0
    breaks: dict[str, int] = {}  # the last place in tokens where a cut of this kind is possible

    def close(upto: int, skip: int) -> None:
        nonlocal tokens, used, at_start
        tags = _open_tags(at_start, tokens[:upto])
        body = "".join(tokens[:upto])
        before = "".join(tag for _, tag in at_start)
        after = "".join(f"</{name}>" for name, _ in reversed(tags))
        parts.append(f"{before}{body}{after}".strip())
        at_start, tokens = tags, tokens[upto + skip :]
        used = sum(_width(token) for token in tokens)
        breaks.clear()

    for match in _TOKEN.finditer(html):
        token = match[0]
        while used and used + _width(token) > limit:
            for kind in ("\n\n", "\n", " "):
                if breaks.get(kind, 0) > 0:
                    close(breaks[kind], 1)
                    break
            else:
                close(len(tokens), 0)
        if token == "\n":
            breaks["\n\n" if tokens and tokens[-1] == "\n" else "\n"] = len(tokens)
        elif token == " ":
            breaks[" "] = len(tokens)
        tokens.append(token)
        used += _width(token)
    opened = _open_tags(at_start, tokens)
    tail = "".join(tag for _, tag in at_start) + "".join(tokens)
    parts.append((tail + "".join(f"</{name}>" for name, _ in reversed(opened))).strip())
    return [part for part in parts if width(part) > 0] or [html]


def width(html: str) -> int:
    """How many UTF-16 code units of text HTML shows (Telegram counts these)."""
    return sum(_width(match[0]) for match in _TOKEN.finditer(html))


def _width(token: str) -> int:
    if len(token) == 1:
        return 2 if ord(token) > 0xFFFF else 1
    return 0 if token.startswith("<") else 1


def _open_tags(before: Sequence[tuple[str, str]], tokens: Sequence[str]) -> list[tuple[str, str]]:
    tags = list(before)
    for token in tokens:
        if len(token) > 1 and (match := _TOKEN.fullmatch(token)) is not None and match[2]:
            if match[1]:
                tags.pop()
            else:
                tags.append((match[2], token))
    return tags


def _words(label: str) -> str:
    """A label's words and numbers: without symbols and case."""
    return " ".join(re.findall(r"[^\W_]+", label.casefold()))


def _bare(label: str) -> str:
    """A label as people type it: without counts, too."""
    return " ".join(re.findall(r"[^\W\d_]+", label.casefold()))


def _begun(label: str) -> str:
    """What stands before a label's comma."""
    return _words(label.partition(",")[0])
