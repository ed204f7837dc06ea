"""What is due of polls: copies that show less than is known, polls whose time is over, people to be reminded.

One poll a transaction: of two transactions that each hold several, either may wait for the other.
"""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select, text, update

from storage.polls import electing, voting
from storage.polls.tables import elector_table, poll_table

NIGHT = (21, 8)
"""From and to which hour, by the lab's clock, nobody is reminded of anything."""

REMIND = timedelta(hours=24)
"""How long before the close those who have not voted are reminded; of a short poll, when three quarters are over."""

_PAGE = 500
_OPEN = poll_table.c.status == text("'open'")
# In the words of the partial indexes, else SQLite does not use them.
_NEXT_REFRESH = select(func.min(poll_table.c.refresh_at)).where(poll_table.c.refresh_at.is_not(None))
_NEXT_CLOSE = select(func.min(poll_table.c.closes_at)).where(_OPEN, poll_table.c.closes_at.is_not(None))
_NEXT_REMINDER = select(func.min(poll_table.c.remind_at)).where(_OPEN, poll_table.c.remind_at.is_not(None))


def next_refresh(connection: Connection) -> datetime | None:
    """When the copies of a poll are to be refreshed."""
    at: datetime | None = connection.execute(_NEXT_REFRESH).scalar_one()
    return at


def next_close(connection: Connection) -> datetime | None:
    """When a poll closes."""
    at: datetime | None = connection.execute(_NEXT_CLOSE).scalar_one()
    return at


def next_reminder(connection: Connection) -> datetime | None:
    """When somebody is to be reminded."""
    at: datetime | None = connection.execute(_NEXT_REMINDER).scalar_one()
    return at


def to_refresh(connection: Connection, now: datetime) -> int | None:
    """A poll whose copies are to be refreshed now; they count as fresh from now on.

    Whoever votes holds the poll until the vote is stored, so what is read after this has it.
    """
    waiting = select(poll_table.c.id).where(poll_table.c.refresh_at <= now).order_by(poll_table.c.refresh_at)
    number: int | None = connection.execute(waiting.limit(1)).scalar_one_or_none()
    if number is not None:
        connection.execute(update(poll_table).where(poll_table.c.id == number).values(refresh_at=None))
    return number


def to_close(connection: Connection, now: datetime) -> int | None:
    """An open poll whose time is over."""
    over = select(poll_table.c.id).where(_OPEN, poll_table.c.closes_at <= now).order_by(poll_table.c.closes_at)
    number: int | None = connection.execute(over.limit(1)).scalar_one_or_none()
    return number


def to_remind(connection: Connection, now: datetime, zone: ZoneInfo) -> tuple[int, list[int]] | None:
    """A poll and some people who have not voted in it and are to be reminded now, each of them once.

    What has become late, and falls into the night, waits for the morning, or is left out when the poll closes before.
    """
    row = connection.execute(
        select(poll_table.c.id, poll_table.c.reminded)
        .where(_OPEN, poll_table.c.remind_at <= now)
        .order_by(poll_table.c.remind_at)
        .limit(1)
    ).first()
    if row is None:
        return None
    number, last = row
    poll = voting.rules(connection, number, locked=True)
    assert poll is not None and poll.closes_at is not None
    mine = update(poll_table).where(poll_table.c.id == number)
    if poll.is_over(now) or is_night(now, zone):
        morning = after_night(now, zone)
        connection.execute(mine.values(remind_at=morning if now < morning < poll.closes_at else None))
        return number, []
    known = electing.electorate(poll)
    people: Any = (
        select(elector_table.c.person_id.label("id")).where(elector_table.c.poll_id == number)
        if known is None
        else known
    ).subquery()
    following = select(people.c.id).where(people.c.id > last).order_by(people.c.id).limit(_PAGE)
    page = list(connection.execute(following).scalars())
    connection.execute(mine.values(**({"remind_at": None} if len(page) < _PAGE else {"reminded": page[-1]})))
    voted = voting.have_voted(connection, poll, page)
    return number, [person for person in page if person not in voted]


# -- not at night -------------------------------------------------------------------------------------------


def reminder(opened: datetime, closes: datetime, zone: ZoneInfo) -> datetime | None:
    """When to remind, not at night: then on the evening before, else in the morning; ``None`` when neither fits."""
    at = closes - min(REMIND, (closes - opened) / 4)
    if not is_night(at, zone):
        return at
    morning = after_night(at, zone)
    evening = (morning.astimezone(zone) - timedelta(days=1)).replace(hour=NIGHT[0] - 1, minute=30)
    found = next((time for time in (evening, morning) if opened < time < closes), None)
    return None if found is None else found.astimezone(opened.tzinfo)


def is_night(at: datetime, zone: ZoneInfo) -> bool:
    """Whether people are left alone at this moment."""
    evening, morning = NIGHT
    return not morning <= at.astimezone(zone).hour < evening


def after_night(at: datetime, zone: ZoneInfo) -> datetime:
    """When the night ends in which this moment lies, in the zone of that moment."""
    local = at.astimezone(zone)
    day = local + timedelta(days=1) if local.hour >= NIGHT[0] else local  # wall time: by the clock that people read
    return day.replace(hour=NIGHT[1], minute=0, second=0, microsecond=0).astimezone(at.tzinfo)
