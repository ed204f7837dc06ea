"""Importing: entries of another calendar become events, and change these when they come again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlmodel import Session, col, select

from storage.engine import serialise
from storage.events import planning
from storage.events.planning import Plan, stored
from storage.events.tables import Event, Series, Status


@dataclass(frozen=True, slots=True)
class Date:
    """One date of an entry. ``on`` is where its rule has it, on the entry's clock; ``wall`` is on the lab's.

    ``words`` holds what is said otherwise of this date alone.
    """

    on: str
    wall: str
    minutes: int
    cancelled: bool = False
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """What another calendar says of an event, or of a series (``rule``, from ``first`` on, on the clock of ``zone``).

    ``uid`` and ``sequence`` are that calendar's (RFC 5545, 3.8.4.7 and 3.8.7.4). A ``part`` says nothing of a series
    but what becomes of these single dates of it (3.8.4.4).
    """

    uid: str
    sequence: int
    words: Mapping[str, str]
    dates: Sequence[Date]
    minutes: int
    topic: str
    rule: str | None = None
    zone: str = "UTC"
    first: str = ""
    part: bool = False

    @classmethod
    def stored(cls, kept: Mapping[str, Any]) -> Self:
        """As a dialog keeps it."""
        return cls(**{**kept, "dates": [Date(**date) for date in kept["dates"]]})

    def said(self, date: Date) -> dict[str, str]:
        """What holds for one of its dates."""
        return {**self.words, **date.words}


@dataclass(slots=True)
class Step:
    """What an entry would change: dates that are new, events that are said otherwise, and events that are cancelled.

    ``older`` is an entry that another file has overtaken.
    """

    entry: Entry
    new: list[Date] = field(default_factory=list)
    changed: list[tuple[Event, Date]] = field(default_factory=list)
    cancelled: list[Event] = field(default_factory=list)
    known: list[Event] = field(default_factory=list)
    older: bool = False

    @property
    def does_nothing(self) -> bool:
        """Whether all is there already."""
        return not (self.new or self.changed or self.cancelled)


def compare(session: Session, entry: Entry, now: datetime) -> Step:
    """What this entry changes in the lab's calendar.

    Dates of a series are told apart by their day, so that one that begins at another hour is the same event.
    """
    known = _known(session, entry)
    if entry.part:
        days = {date.on[:10] for date in entry.dates}
        known = {day: event for day, event in known.items() if day in days}
    step = Step(entry, known=list(known.values()))
    if any(event.source is not None and event.source > entry.sequence for event in step.known):
        step.older = True
        return step
    alone = entry.rule is None and not entry.part and len(step.known) == 1 and step.known[0].series_id is None
    for date in entry.dates:
        key = next(iter(known)) if alone else date.on[:10]
        event = known.pop(key, None)
        if event is None:
            if not date.cancelled:
                step.new.append(date)
        elif event.status != Status.CANCELLED and event.ends_at > now:
            if date.cancelled:
                step.cancelled.append(event)
            elif _differs(event, entry, date):
                step.changed.append((event, date))
    gone = [event for event in known.values() if event.status != Status.CANCELLED and event.ends_at > now]
    step.cancelled += gone
    return step


def _known(session: Session, entry: Entry) -> dict[str, Event]:
    """The events that this entry is about, by the day on which their series has them."""
    series = select(col(Series.id)).where(Series.uid == entry.uid)
    uids = [entry.uid, *(_single(entry, date) for date in entry.dates)]
    mine = col(Event.uid).in_(uids) | col(Event.series_id).in_(series)
    events = session.exec(select(Event).where(mine).order_by(col(Event.id))).all()
    return {(event.occurrence or event.wall)[:10]: event for event in events}


def _single(entry: Entry, date: Date) -> str:
    """The UID of a single date whose series is not here."""
    return f"{entry.uid}/{date.on[:10]}"


def _differs(event: Event, entry: Entry, date: Date) -> bool:
    same = all(getattr(event, name) == value for name, value in entry.said(date).items())
    return not same or (event.wall, event.minutes) != (date.wall, date.minutes)


class Done(NamedTuple):
    """What an import has changed; of what is ``said_otherwise`` some takes place ``elsewhere``."""

    made: list[list[Event]]
    moved: list[Event]
    said_otherwise: list[Event]
    cancelled: list[Event]
    elsewhere: list[Event]


def carry_out(
    session: Session, entries: Sequence[Entry], author_id: int | None, locale: str, zone: str, now: datetime
) -> Done:
    """Make and change what these entries say; what is new is a draft, of each entry by itself."""
    serialise(session.connection(), ["events.import"])  # of two at once the second finds what the first has made
    done = Done([], [], [], [], [])
    for entry in entries:
        step = compare(session, entry, now)
        if step.older or step.does_nothing:
            continue
        drafts = [event for event in step.cancelled if event.status == Status.DRAFT]
        planning.drop(session, drafts)  # nobody knew of them
        cancelled = [event for event in step.cancelled if event not in drafts]
        planning.cancel(session, cancelled, now)
        done.cancelled.extend(cancelled)
        for event, date in step.changed:
            said = entry.said(date)
            if (event.wall, event.minutes) != (date.wall, date.minutes):
                planning.move(session, event, [event], datetime.fromisoformat(date.wall), date.minutes, now)
                done.moved.append(event)
            if others := {name for name, value in said.items() if getattr(event, name) != value}:
                planning.change(session, [event], now, **said)
                done.said_otherwise.append(event)
                if others & {"place", "link"}:
                    done.elsewhere.append(event)
        series = _series(session, entry)
        made = [_make(session, entry, date, series, author_id, locale, zone, now) for date in step.new]
        step.known = [event for event in step.known if event not in drafts]
        for event, on in [] if entry.part else _places(step):
            event.occurrence = on if series is not None else None
            event.series_id = None if series is None else series.id
        for event in [*made, *step.known]:
            event.source = event.source if entry.part else entry.sequence  # the series' own may be lower
            event.sequence = max(event.sequence, entry.sequence)
            session.add(event)
        session.flush()
        if made:
            done.made.append(made)
    return done


def _places(step: Step) -> list[tuple[Event, str]]:
    """Where the rule has those events now that were there before."""
    days = {date.on[:10]: date.on for date in step.entry.dates}
    found = [((event.occurrence or event.wall)[:10], event) for event in step.known]
    return [(event, days[day]) for day, event in found if day in days]


def _series(session: Session, entry: Entry) -> Series | None:
    """The series of an entry as it is from now on."""
    found = session.exec(select(Series).where(Series.uid == entry.uid)).first()
    if entry.rule is None:
        return found if entry.part else None
    series = found or Series(uid=entry.uid, rule="", wall="", zone="", minutes=0)
    series.rule, series.wall, series.zone, series.minutes = entry.rule, entry.first, entry.zone, entry.minutes
    session.add(series)
    session.flush()
    return series


def _make(
    session: Session,
    entry: Entry,
    date: Date,
    series: Series | None,
    author_id: int | None,
    locale: str,
    zone: str,
    now: datetime,
) -> Event:
    wall = datetime.fromisoformat(date.wall)
    said: dict[str, Any] = entry.said(date)
    plan = Plan(wall=wall, minutes=date.minutes, topic=entry.topic, locale=locale, zone=zone, **said)
    return planning.write(
        session,
        plan,
        wall,
        author_id,
        now,
        series_id=None if series is None else series.id,
        occurrence=stored(datetime.fromisoformat(date.on)) if series is not None or entry.part else None,
        uid=None if series is not None else _single(entry, date) if entry.part else entry.uid,
    )
