"""Who wants to hear what, how often and when."""

from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, Session, SQLModel, col, select

from storage.announcements.writing import GENERAL

DIGEST_HOUR = 18
"""When what was gathered is handed out, each day or each Monday, in the lab's time."""

NIGHT = (21, 8)
"""The hours in which the lab writes to nobody, where an announcement leaves the night out."""


class Often(StrEnum):
    """How often a person hears of a topic."""

    NOW = "now"
    DAILY = "daily"
    WEEKLY = "weekly"
    NEVER = "never"


class Subscription(SQLModel, table=True):
    """How often a person hears of a topic. Without a row: of what is for everybody at once, of a topic never."""

    person_id: int = Field(foreign_key="person.id", primary_key=True)
    topic: str = Field(primary_key=True)
    often: str


class QuietHours(SQLModel, table=True):
    """The hours (of the lab's day) in which a person wants no announcements; ``begin`` may be later than ``end``."""

    __tablename__ = "quiet_hours"

    person_id: int = Field(foreign_key="person.id", primary_key=True)
    begin: int
    end: int


def often(session: Session, person_id: int) -> dict[str, Often]:
    """What a person has said about topics."""
    rows = session.exec(select(Subscription).where(Subscription.person_id == person_id)).all()
    return {row.topic: Often(row.often) for row in rows}


def subscribe(session: Session, person_id: int, topic: str, how: Often) -> None:
    """Hear of a topic so often from now on."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Subscription).values(person_id=person_id, topic=topic, often=how)
    session.execute(
        statement.on_conflict_do_update(index_elements=["person_id", "topic"], set_={"often": statement.excluded.often})
    )
    session.expire_all()


def quiet_hours(session: Session, person_id: int) -> tuple[int, int] | None:
    """When a person wants to be left alone: from this hour to that one."""
    row = session.get(QuietHours, person_id)
    return None if row is None else (row.begin, row.end)


def be_quiet(session: Session, person_id: int, hours: tuple[int, int] | None) -> None:
    """Leave a person alone between these hours of the day."""
    session.execute(delete(QuietHours).where(col(QuietHours.person_id) == person_id))
    if hours is not None:
        session.add(QuietHours(person_id=person_id, begin=hours[0], end=hours[1]))
    session.flush()


def default(topic: str) -> Often:
    """How often somebody hears of a topic who has said nothing about it."""
    return Often.NOW if topic == GENERAL else Often.NEVER


# -- when -----------------------------------------------------------------------------------------------------


def is_within(hour: int, begin: int, end: int) -> bool:
    """Whether an hour of the day lies in the hours from ``begin`` to ``end``, also over midnight."""
    return begin <= hour < end if begin <= end else hour >= begin or hour < end


def wakes_at(now: datetime, begin: int, end: int, zone: ZoneInfo) -> datetime | None:
    """When the quiet hours end in which we are now (UTC); ``None`` when we are in none."""
    local = now.astimezone(zone)
    if not is_within(local.hour, begin, end):
        return None
    return _next_at(now, end, zone)


def digest_at(now: datetime, how: Often, zone: ZoneInfo) -> datetime:
    """When what is gathered from now on is handed out (UTC): at six in the evening, weekly on Mondays."""
    at = _next_at(now, DIGEST_HOUR, zone)
    while how is Often.WEEKLY and at.astimezone(zone).weekday() != 0:
        at = _next_at(at, DIGEST_HOUR, zone)
    return at


def _next_at(now: datetime, hour: int, zone: ZoneInfo) -> datetime:
    """The next moment (UTC) at which it is this hour in the zone: wall time, so that an hour lost or won is none."""
    local = now.astimezone(zone)
    day = local.date()
    while True:
        at = datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(now.tzinfo)
        if at > now:
            return at
        day += timedelta(days=1)
