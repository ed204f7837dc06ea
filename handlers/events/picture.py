"""The month at a glance, as a picture; the same stands in words beside it."""

import calendar
from contextlib import suppress
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_skeleton, get_day_names
from sqlmodel import Session

from bot.router import Router
from storage.events import listing
from storage.events.moments import instant

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

router = Router()

WIDTH, HEAD, CELL = 1120, 110, 130
INK, PALE, LINE, PAPER, ACCENT = "#1c2b33", "#56666f", "#d5dde1", "#ffffff", "#0b6e99"
MOST = 4
"""How many events a day has room for."""

FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
"""Looked for on the machine, the first one is taken: Pillow's own has no umlauts."""


@router.maker("events.month")
def month(session: Session, first: str, zone: str, locale: str) -> bytes:
    """A PNG of the month that begins at ``first`` (UTC), with weeks from Monday on."""
    from PIL import Image, ImageDraw  # a library that only pictures need

    clock, language = ZoneInfo(zone), Locale.parse(locale, sep="-")
    begins = datetime.fromisoformat(first).astimezone(clock)
    weeks = calendar.Calendar().monthdayscalendar(begins.year, begins.month)
    after = instant((begins.replace(tzinfo=None) + timedelta(days=32)).replace(day=1), clock)
    found = listing.browse(
        session, datetime.fromisoformat(first), since=datetime.fromisoformat(first), until=after, most=200
    )
    title, small, tiny = (_font(size) for size in (34, 20, 16))
    days: dict[int, list[str]] = {}
    for event in found.events:
        local = event.starts_at.astimezone(clock)
        known = event.title if shows(tiny, event.title) else f"#{event.number}"
        days.setdefault(local.day, []).append(f"{local:%H:%M} {known}")
        if event.minutes > 720:  # it is not only into the night that it goes on
            last = (event.ends_at - timedelta(minutes=1)).astimezone(clock).date()
            for later in range(1, (last - local.date()).days + 1):
                goes_on = local.date() + timedelta(days=later)
                if goes_on.month == begins.month:
                    days.setdefault(goes_on.day, []).append(f"… {known}")
    image = Image.new("RGB", (WIDTH + 1, HEAD + CELL * len(weeks) + 10), PAPER)
    draw = ImageDraw.Draw(image)
    name = format_skeleton("yMMMM", begins, locale=language)
    draw.text((20, 20), name if shows(title, name) else f"{begins.month}/{begins.year}", INK, title)
    wide = WIDTH // 7
    names = get_day_names("abbreviated", locale=language)
    for column in range(7):
        draw.text((column * wide + 10, HEAD - 32), names[column], PALE, small)
    for row, week in enumerate(weeks):
        for column, day in enumerate(week):
            left, top = column * wide, HEAD + row * CELL
            draw.rectangle((left, top, left + wide, top + CELL), outline=LINE)
            if not day:
                continue
            events = days.get(day, [])
            draw.text((left + 10, top + 6), str(day), ACCENT if events else PALE, small)
            shown = events if len(events) <= MOST else [*events[: MOST - 1], f"+{len(events) - MOST + 1}"]
            for place, line in enumerate(shown):
                while line and draw.textlength(line, tiny) > wide - 18:
                    line = line.removesuffix("…")[:-1] + "…" if len(line) > 1 else ""
                draw.text((left + 10, top + 34 + place * 22), line, INK, tiny)
    content = BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _font(size: int) -> "Font":
    from PIL import ImageFont

    for name in FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def shows(font: "Font", words: str) -> bool:
    """Whether a font has all these letters; what it lacks would be empty boxes, so a number stands there instead."""
    lacking = bytes(font.getmask("\U0010ffff"))
    return all(letter.isspace() or bytes(font.getmask(letter)) != lacking for letter in {*words})
