"""Listing: events by date, topic and accessibility; who comes; the export."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, or_, tuple_
from sqlmodel import Session, col, select

from storage.events.places import NotOpen
from storage.events.tables import Event, Rsvp, Series, State, Status
from storage.people import Person


class Page(NamedTuple):
    """Some events of a list, and the place where it goes on (``None`` at the end)."""

    events: Sequence[Event]
    after: str | None


def visible(session: Session, number: int, organiser: bool = False) -> Event:
    """The event of this number; drafts are for organisers. Raises ``NotOpen``."""
    event = session.get(Event, number) if number < 2**31 else None
    if event is None or (event.status == Status.DRAFT and not organiser):
        raise NotOpen(number)
    return event


def browse(
    session: Session,
    now: datetime,
    *,
    topic: str | None = None,
    access: str | None = None,
    words: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    person_id: int | None = None,
    series_id: int | None = None,
    next_only: bool = False,
    after: str | None = None,
    most: int = 5,
) -> Page:
    """A page of the events to come, the next first, by keyset: ``after`` is the ``Page.after`` of the page before.

    ``next_only``: of dates of a series that say the same only the next, so that they do not hide what comes once.
    """
    query = select(Event).where(Event.status == Status.PUBLISHED, col(Event.ends_at) > now)
    if topic is not None:
        query = query.where(Event.topic == topic)
    if access is not None:
        query = query.where((" " + col(Event.access) + " ").contains(f" {access} ", autoescape=True))
    if since is not None:
        query = query.where(col(Event.starts_at) >= since)
    if until is not None:
        query = query.where(col(Event.starts_at) < until)
    if person_id is not None:
        query = query.join(Rsvp).where(Rsvp.person_id == person_id, col(Rsvp.state) != State.NO)
    if series_id is not None:
        query = query.where(Event.series_id == series_id)
    if next_only:
        alike = [
            col(each) for each in (Event.series_id, Event.title, Event.text, Event.place, Event.topic, Event.access)
        ]
        in_turn = func.row_number().over(partition_by=alike, order_by=[col(Event.starts_at), col(Event.id)])
        to_come = (Event.status == Status.PUBLISHED, col(Event.ends_at) > now, col(Event.series_id).is_not(None))
        dates = select(Event.id, in_turn.label("in_turn")).where(*to_come).subquery()
        first = select(dates.c.id).where(dates.c.in_turn == 1)  # all at once: one by one each would look at all others
        query = query.where(or_(col(Event.series_id).is_(None), col(Event.id).in_(first)))
    for word in words.split()[:8]:
        searched = col(Event.title) + " " + col(Event.text) + " " + col(Event.place)
        forms = {word.lower(), word.capitalize()}  # SQLite knows no small ü
        found_in = [searched.contains(form, autoescape=True) for form in sorted(forms)]
        query = query.where(or_(func.lower(searched).contains(word.lower(), autoescape=True), *found_in))
    if after is not None:
        at, _, number = after.partition(" ")
        query = query.where(tuple_(col(Event.starts_at), col(Event.id)) > (datetime.fromisoformat(at), int(number)))
    found = session.exec(query.order_by(col(Event.starts_at), col(Event.id)).limit(most + 1)).all()
    shown = found[:most]
    last = None if len(found) <= most else f"{shown[-1].starts_at.isoformat()} {shown[-1].id}"
    return Page(shown, last)


def drafts(session: Session, most: int = 10) -> list[Event]:
    """What is written and not published, the newest first; of a series the first occurrence."""
    query = select(Event).where(Event.status == Status.DRAFT).order_by(col(Event.id).desc()).limit(most * 20)
    first: dict[int, Event] = {}
    for event in session.exec(query).all():
        first[event.series_id or -event.number] = event
    return list(first.values())[:most]


def of_series(session: Session, series_id: int) -> list[Event]:
    """All occurrences of a series, in order."""
    return list(session.exec(select(Event).where(Event.series_id == series_id).order_by(col(Event.id))).all())


def feed(session: Session, since: datetime, topic: str | None = None, person_id: int | None = None) -> list[Event]:
    """The events of a calendar, cancelled ones too; of a person those they have said yes to."""
    query = select(Event).where(Event.status != Status.DRAFT, col(Event.ends_at) > since)
    if topic is not None:
        query = query.where(Event.topic == topic)
    if person_id is not None:
        query = query.join(Rsvp).where(Rsvp.person_id == person_id, Rsvp.state == State.YES)
    return list(session.exec(query.order_by(col(Event.starts_at), col(Event.id)).limit(2000)).all())


def version(session: Session) -> str:
    """Another one after each change of what is in feeds: each change counts up, and says when it was."""
    query = select(func.count(), func.sum(Event.sequence), func.max(Event.changed_at))
    return " ".join(str(each) for each in session.exec(query.where(Event.status != Status.DRAFT)).one())


def series(session: Session, ids: Sequence[int]) -> dict[int, Series]:
    """These series by their id."""
    return {row.id: row for row in session.exec(select(Series).where(col(Series.id).in_(ids))).all() if row.id}


def guests(session: Session, number: int, after: int, most: int) -> list[tuple[Rsvp, str]]:
    """Who has answered, with their pseudonym, by keyset over the person's id."""
    query = select(Rsvp, Person.pseudonym).join(Person, col(Person.id) == col(Rsvp.person_id))
    query = query.where(Rsvp.event_id == number, Rsvp.state != State.NO, col(Rsvp.person_id) > after)
    return list(session.exec(query.order_by(col(Rsvp.person_id)).limit(most)).all())


def place_in_line(session: Session, rsvp: Rsvp) -> int:
    """Which in the waiting list this is, from 1."""
    before = select(func.count()).where(
        Rsvp.event_id == rsvp.event_id, Rsvp.state == State.WAITING, col(Rsvp.line) < rsvp.line
    )
    return session.exec(before).one() + 1


class Turnout(NamedTuple):
    """How it was: heads that arrived, and what people say."""

    arrived: int
    stars: float | None
    answers: int
    said: list[str]


def turnout(session: Session, number: int) -> Turnout:
    """Who came, and how it was for them."""
    arrived = session.exec(
        select(func.coalesce(func.sum(col(Rsvp.companions) + 1), 0)).where(
            Rsvp.event_id == number, col(Rsvp.arrived_at).is_not(None)
        )
    ).one()
    stars, answers = session.exec(
        select(func.avg(col(Rsvp.stars)), func.count(col(Rsvp.stars))).where(Rsvp.event_id == number)
    ).one()
    said = session.exec(select(Rsvp.said).where(Rsvp.event_id == number, Rsvp.said != "").limit(20)).all()
    return Turnout(int(arrived), None if stars is None else float(stars), answers, list(said))


class EventLine(NamedTuple):
    """One line of ``labbot export events``."""

    number: int
    title: str
    starts_at: datetime
    ends_at: datetime
    place: str
    status: str
    going: int
    maybe: int
    waiting: int
    capacity: int | None


def export(session: Session, page: int = 1000) -> Iterator[EventLine]:
    """Every event, in keyset pages of ``page``."""
    last = 0
    query = select(Event).order_by(col(Event.id)).limit(page)
    while rows := session.exec(query.where(col(Event.id) > last)).all():
        session.commit()  # whoever reads slowly holds up nobody
        for event in rows:
            last = event.number
            yield EventLine(
                last,
                event.title,
                event.starts_at,
                event.ends_at,
                event.place,
                event.status,
                event.going,
                event.maybe,
                event.waiting + event.held,
                event.capacity,
            )
