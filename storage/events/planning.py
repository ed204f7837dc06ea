"""Planning: an event is written, published, changed, moved and cancelled, alone or as one of a series."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Select, select
from sqlmodel import Session, col

from storage.events import moments, places, reminding
from storage.events.tables import USUAL_AHEADS, Attendee, Event, Kind, Series, Status
from storage.ideas import Follow, Support
from storage.polls import voting

HEAD_START = timedelta(hours=1)
"""How long before everybody else those hear of an event whose idea it comes from, or who have found its date."""


class Reach(StrEnum):
    """How much of a series a change is about."""

    THIS = "this"
    FROM_HERE = "from_here"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """An event as it is written: what it is, and the wall time (naive) at which it begins."""

    title: str
    wall: datetime
    minutes: int
    topic: str
    locale: str
    zone: str
    text: str = ""
    place: str = ""
    capacity: int | None = None
    least: int | None = None
    closes_at: datetime | None = None
    access: str = ""
    cost: str = ""
    link: str = ""
    rule: str | None = None
    reminders: str = USUAL_AHEADS
    idea_id: int | None = None
    poll_id: int | None = None
    poll_option: int | None = None


def create(session: Session, plan: Plan, author_id: int | None, now: datetime) -> list[Event]:
    """Store an event as a draft; of a rule, all its occurrences. Raises ``moments.Endless`` or ``ValueError``."""
    walls = [plan.wall] if plan.rule is None else moments.occurrences(plan.rule, plan.wall)
    series = None
    if plan.rule is not None:
        counted = ";".join(part for part in plan.rule.split(";") if not part.startswith(("UNTIL=", "COUNT=")))
        series = Series(
            uid=new_uid(),
            rule=f"{counted};COUNT={len(walls)}",
            wall=stored(walls[0]),
            zone=plan.zone,
            minutes=plan.minutes,
        )
        session.add(series)
        session.flush()
    events = [
        write(
            session, plan, wall, author_id, now,
            series_id=None if series is None else series.id, occurrence=None if series is None else stored(wall),
        )
        for wall in walls
    ]  # fmt: skip
    session.flush()
    return events


def write(
    session: Session,
    plan: Plan,
    wall: datetime,
    author_id: int | None,
    now: datetime,
    *,
    series_id: int | None = None,
    occurrence: str | None = None,
    uid: str | None = None,
) -> Event:
    """One event of a plan, as a draft, at this wall time; the caller flushes."""
    event = Event(
        title=plan.title,
        text=plan.text,
        place=plan.place,
        topic=plan.topic,
        locale=plan.locale,
        access=plan.access,
        cost=plan.cost,
        link=plan.link,
        capacity=plan.capacity,
        least=plan.least,
        closes_at=plan.closes_at and moments.shifted(plan.closes_at, wall - plan.wall, ZoneInfo(plan.zone)),
        reminders=plan.reminders,
        wall="",
        zone=plan.zone,
        minutes=plan.minutes,
        starts_at=now,
        ends_at=now,
        uid=uid or new_uid(),
        series_id=series_id,
        occurrence=occurrence,
        author_id=author_id,
        idea_id=plan.idea_id,
        poll_id=plan.poll_id,
        poll_option=plan.poll_option,
        code=f"{secrets.randbelow(1_000_000):06}",
        created_at=now,
        changed_at=now,
    )
    _set_time(event, wall, plan.minutes)
    session.add(event)
    return event


def new_uid() -> str:
    """What calendars know an event by (RFC 5545, 3.8.4.7)."""
    return f"{secrets.token_hex(12)}@labbot"


def stored(wall: datetime) -> str:
    """A wall time as rows keep it."""
    return wall.strftime("%Y-%m-%dT%H:%M")


def _set_time(event: Event, wall: datetime, minutes: int) -> None:
    event.wall, event.minutes = stored(wall), minutes
    event.starts_at = moments.instant(wall, event.clock)
    event.ends_at = event.starts_at + timedelta(minutes=minutes)


def publish(session: Session, events: Sequence[Event], now: datetime) -> None:
    """Everybody can see them from now on."""
    for event in events:
        event.status, event.changed_at = Status.PUBLISHED, now
        session.add(event)
        set_deadline(session, event, now)
    session.flush()


def tell_of(session: Session, events: Sequence[Event], now: datetime) -> None:
    """Who asked for it hears of the first of them; those whose idea it comes from before everybody else."""
    first = events[0]
    if first.idea_id is not None:
        backers = select(col(Support.person_id)).where(col(Support.idea_id) == first.idea_id)
        followers = select(col(Follow.person_id)).where(col(Follow.idea_id) == first.idea_id)
        reminding.invite(session, first, Kind.ASK, backers.union(followers), now)
    if first.poll_id is not None and first.poll_option is not None:
        reminding.invite(session, first, Kind.ASK, voting.who_can(first.poll_id, first.poll_option), now)
    reminding.invite(session, first, Kind.INVITE, _curious(), told_at(first, now))


def tell_of_many(session: Session, events: Sequence[Event], now: datetime) -> None:
    """Who asked for it hears of all of these at once."""
    numbers = " ".join(str(event.number) for event in events)
    reminding.invite(session, events[0], Kind.INVITE, _curious(), now, numbers)


def _curious() -> Select[int]:
    return select(col(Attendee.person_id)).where(col(Attendee.news))


def told_at(event: Event, now: datetime) -> datetime:
    """When everybody hears of a new event: at once, but those it comes from have a head start."""
    return now if event.idea_id is None and event.poll_id is None else now + HEAD_START


def set_deadline(session: Session, event: Event, now: datetime) -> None:
    """When it is looked at whether enough people come: at its deadline, else a day before."""
    reminding.forget(session, event, Kind.DEADLINE)
    if event.least is not None and event.status == Status.PUBLISHED:
        at = event.closes_at or moments.remind_at(event.begins, event.clock, moments.DAY)
        if at > now:
            reminding.note(session, event, Kind.DEADLINE, at)


def concerned(session: Session, event: Event, reach: Reach, now: datetime) -> list[Event]:
    """The events a change is about: of a series those that are not over and not skipped."""
    if event.series_id is None or reach == Reach.THIS:
        return [event]
    query = select(Event).where(
        col(Event.series_id) == event.series_id, col(Event.status) != Status.CANCELLED, col(Event.ends_at) > now
    )
    if reach == Reach.FROM_HERE:
        query = query.where(col(Event.occurrence) >= event.occurrence)
    return list(session.execute(query.order_by(col(Event.occurrence), col(Event.id))).scalars())


def drafts_with(session: Session, event: Event, now: datetime) -> list[Event]:
    """A draft and the other drafts of its series that are not over."""
    return [each for each in concerned(session, event, Reach.ALL, now) if each.status == Status.DRAFT]


def change(session: Session, events: Sequence[Event], now: datetime, **values: Any) -> None:
    """Say them otherwise. Raises ``places.TooMany`` for a capacity below what is given out, of any of them."""
    for event in events:
        places.locked(session, event.number)
        if values.get("capacity") is not None and values["capacity"] < event.going + event.held:
            raise places.TooMany(event.going + event.held)
    for event in events:
        for name, value in values.items():
            setattr(event, name, value)
        _changed(event, now)
        session.add(event)
        session.flush()
        if "least" in values or "closes_at" in values:
            set_deadline(session, event, now)


def set_reminders(session: Session, events: Sequence[Event], minutes: set[int], now: datetime) -> None:
    """Remind of them so long before, if people have chosen nothing else; a calendar need not know."""
    for event in events:
        places.locked(session, event.number)
        event.reminders = moments.stored_minutes(minutes)
        session.add(event)
        session.flush()
        reminding.plan_default(session, event, now)


def move(session: Session, event: Event, events: Sequence[Event], wall: datetime, minutes: int, now: datetime) -> None:
    """An event begins at another wall time, and lasts so long; others of its series by the same shift."""
    shift = wall - event.begins
    for each in events:
        places.locked(session, each.number)
        if each.closes_at is not None:
            each.closes_at = moments.shifted(each.closes_at, shift, each.clock)
        _set_time(each, each.begins + shift, minutes)
        _changed(each, now)
        session.add(each)
        session.flush()
        reminding.reschedule(session, each, now)
        set_deadline(session, each, now)


def cancel(session: Session, events: Sequence[Event], now: datetime) -> None:
    """They do not take place."""
    for event in events:
        places.locked(session, event.number)
        event.status = Status.CANCELLED
        _changed(event, now)
        session.add(event)
        session.flush()
        reminding.drop_all(session, event)


def _changed(event: Event, now: datetime) -> None:
    event.sequence += 1
    event.changed_at = now


def discard(session: Session, event: Event) -> None:
    """Throw a draft away, with the other drafts of its series; what of it is published stays."""
    events = [event]
    if event.series_id is not None:
        mine = select(Event).where(col(Event.series_id) == event.series_id).order_by(col(Event.id))
        events = list(session.execute(mine).scalars())
    drafts = [each for each in events if each.status == Status.DRAFT]
    drop(session, drafts)
    if event.series_id is not None and len(drafts) == len(events):
        session.delete(session.get_one(Series, event.series_id))
        session.flush()


def drop(session: Session, drafts: Sequence[Event]) -> None:
    """Forget these, of which nobody has heard."""
    reminding.erase(session, [draft.number for draft in drafts])
    for draft in drafts:
        session.delete(draft)
    session.flush()


def attendee(session: Session, person_id: int) -> Attendee:
    """What a person wants of events."""
    found = session.get(Attendee, person_id)
    if found is None:
        found = Attendee(person_id=person_id)
        session.add(found)
        session.flush()
    return found


def unite(session: Session, gone: int, kept: int) -> None:
    """Two people were one: what either wanted to hear of events, the one hears; they are named if both wanted it."""
    theirs = session.get(Attendee, gone)
    if theirs is None:
        only = session.get(Attendee, kept)
        if only is not None:
            only.mention = False  # the other account has not agreed to be named
            session.add(only)
            session.flush()
        return
    mine = attendee(session, kept)
    mine.news = mine.news or theirs.news
    mine.mention = mine.mention and theirs.mention  # who is named on one messenger has not agreed to it on another
    mine.remind = theirs.remind if mine.remind is None else mine.remind
    feed, theirs.feed = theirs.feed, None
    session.add(theirs)
    session.flush()
    mine.feed = mine.feed or feed
    session.add(mine)
    session.delete(theirs)
    session.flush()
