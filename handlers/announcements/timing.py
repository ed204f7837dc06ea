"""When an announcement goes out: now, at a time in people's own words, and not at night."""

from datetime import timedelta

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.announcements.drafts import asked_draft, changed, on_draft
from handlers.announcements.words import CANCEL
from handlers.events import facts
from handlers.events.when import Meant, is_hour
from storage.announcements.writing import Announcement
from storage.events import moments

router = Router()

FURTHEST = timedelta(days=366)


@on_draft(router, "announce.when")
def ask_when(turn: Turn, announcement: Announcement) -> None:
    asked = T("When shall it go out? Write a day and a time, for example “tomorrow 9:00” or “5.12. 18:00”, or choose:")
    _ask(turn, announcement, asked)


def _ask(turn: Turn, announcement: Announcement, what: Text, day: str | None = None) -> None:
    """Ask for a time; a ``day`` that lacks its hour is kept, and an hour is no choice's number then."""
    number = str(announcement.number)
    choices = (
        Choice(T("As soon as I press Send"), "announce.now", (number,)),
        Choice(T("At night, too") if announcement.by_day else T("Not at night"), "announce.by_day", (number,)),
    )
    turn.ask(
        what,
        *(choices if day is None else ()),
        CANCEL,
        step="announce.when",
        data={"number": announcement.number, "day": day},
    )


@router.step("announce.when")
def take_when(turn: Turn, text: str) -> None:
    announcement = asked_draft(turn)
    if announcement is None:
        return
    try:
        if is_hour(text) and turn.data.get("day") is None:
            meant = next_such(turn, text)
        else:
            meant = facts.understood(turn, text, once=True)
    except facts.Wrong as wrong:
        _ask(turn, announcement, wrong.text, wrong.day)
        return
    at = moments.instant(meant.wall, turn.words.zone)
    if at <= turn.now:
        _ask(turn, announcement, T("{date} is over already. Which other time?", date=at))
    elif at > turn.now + FURTHEST:
        _ask(turn, announcement, T("That is more than a year away. Which other time?"))
    else:
        announcement.starts_at = at
        changed(turn, announcement)


def next_such(turn: Turn, hour: str) -> Meant:
    """An hour without a day: today's, or when that is over tomorrow's. Raises ``facts.Wrong``."""
    try:
        return facts.understood(turn, f"today {hour}")
    except facts.Wrong:
        return facts.understood(turn, f"tomorrow {hour}")


@on_draft(router, "announce.now")
def at_once(turn: Turn, announcement: Announcement) -> None:
    announcement.starts_at = None
    changed(turn, announcement)


@on_draft(router, "announce.by_day")
def toggle_by_day(turn: Turn, announcement: Announcement) -> None:
    announcement.by_day = not announcement.by_day
    changed(turn, announcement)
