"""Formatting: what Telegram's apps keep beside a text comes back as one would have typed it.

They take ``**`` and ``__`` out of what is typed, and send entities instead.
"""

import re
from collections.abc import Iterable, Iterator

import telegram

TAGS = {"bold": "b", "italic": "i", "underline": "u", "strikethrough": "s"}
MOST = 50_000
"""Characters of marks; what needs more (a long address for each of its lines) comes back as plain text."""

QUOTES = frozenset({"blockquote", "expandable_blockquote"})
KEPT = frozenset({*TAGS, *QUOTES, "pre", "code", "text_link"})


def typed(text: str, entities: Iterable[telegram.MessageEntity], begin: int = 0) -> str:
    """The text from ``begin`` on (in UTF-16 units), its entities as tags and Markdown; "" where nothing is marked.

    "", too, where that would be beyond all measure.
    """
    marks = [entity for entity in entities if entity.type in KEPT and _is_place(entity)]
    if not marks:
        return ""
    units = in_units(text)
    opening: dict[int, str] = {}
    closing: dict[int, str] = {}
    used = 0
    for entity in sorted(marks, key=lambda entity: (entity.offset, -entity.length)):  # the outer ones first
        for start, end, before, after in _marks(units, entity, begin):
            opening[start] = opening.get(start, "") + before
            closing[end] = after + closing.get(end, "")
            used += len(before) + len(after)
            if used > MOST:
                return ""
    if not opening:
        return ""
    places = sorted({begin, *opening, *closing, len(units) // 2})
    words = [
        closing.get(start, "") + opening.get(start, "") + between(units, start, end)
        for start, end in zip(places, [*places[1:], places[-1]], strict=True)
    ]
    return "".join(words)


def _is_place(entity: telegram.MessageEntity) -> bool:
    """Python-telegram-bot checks no types: what names no part of the text marks nothing."""
    return type(entity.offset) is int and type(entity.length) is int and entity.offset >= 0


def _marks(units: bytes, entity: telegram.MessageEntity, begin: int) -> Iterator[tuple[int, int, str, str]]:
    """What goes before and after which part of the text, in UTF-16 units; a tag never goes beyond a line."""
    start, end = max(begin, entity.offset), entity.offset + entity.length
    if end <= start:
        return
    covered = between(units, start, end)
    if entity.type == "pre":
        fence = _longer_than(covered, "```")
        yield start, end, f"\n{fence}\n", f"\n{fence}\n"
    elif entity.type in QUOTES:
        for first, last in _lines(covered, start):
            yield first, last, "> " if last > first else ">", "\n" if last == end else ""
    elif entity.type == "code":
        tick = _longer_than(covered, "`")
        room = " " if covered[:1] in " `" or covered[-1:] in " `" else ""  # CommonMark takes one away at both ends
        yield start, end, tick + room, room + tick
    elif entity.type in TAGS or (entity.type == "text_link" and entity.url):
        tag = TAGS.get(entity.type, "a")
        before = f'<a href="{entity.url}">' if tag == "a" else f"<{tag}>"
        for first, last in _lines(covered, start):
            line = between(units, first, last)
            if line.strip():
                indent, rest = len(line) - len(line.lstrip()), len(line) - len(line.rstrip())
                yield first + indent, last - rest, before, f"</{tag}>"


def _lines(covered: str, start: int) -> Iterator[tuple[int, int]]:
    """From where to where each line of a part of the text goes."""
    for line in covered.split("\n"):
        end = start + _width(line)
        yield start, end
        start = end + 1


def _longer_than(covered: str, fence: str) -> str:
    """Backticks that do not end within what they surround."""
    longest = max(map(len, re.findall("`+", covered)), default=0)
    return "`" * max(len(fence), longest + 1 if longest else 0)


def in_units(text: str) -> bytes:
    """The text in UTF-16, two bytes a unit: what the offsets of entities count."""
    return text.encode("utf-16-le", "surrogatepass")


def between(units: bytes, start: int, end: int | None = None) -> str:
    """The words from one unit to another, or to the end."""
    return units[2 * start : None if end is None else 2 * end].decode("utf-16-le", "replace")


def _width(text: str) -> int:
    return len(in_units(text)) // 2
