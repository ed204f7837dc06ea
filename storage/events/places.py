"""Places: who comes, whom they bring, who waits, and who is next. One list, whatever the messenger."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, select
from sqlmodel import Session, col

from storage.events import moments, reminding
from storage.events.tables import MOST_COMPANIONS, Event, Kind, Rsvp, State, Status

HOLD = timedelta(hours=24)
"""How long a place that has become free is held for the next; less when the beginning is near."""

SHORTEST_HOLD = timedelta(minutes=30)

COUNTED = {State.YES: "going", State.OFFERED: "held", State.MAYBE: "maybe", State.WAITING: "waiting"}
"""Which of an event's counts a state belongs to."""


class NotOpen(Exception):
    """There is no such event, or it is a draft, cancelled or over."""


class Closed(Exception):
    """The deadline is over: one can only leave."""


class TooMany(Exception):
    """So many others cannot be brought; ``free`` is how many can."""

    def __init__(self, free: int) -> None:
        super().__init__(free)
        self.free = free


class Answered(NamedTuple):
    """What came of an answer: event and answer as they are now, what it was, and for whom a place is held now."""

    event: Event
    rsvp: Rsvp
    before: State | None
    offered: list[Rsvp]


def locked(session: Session, number: int) -> Event:
    """An event, kept from others until the transaction ends: its counts are changed by one at a time.

    Raises ``NotOpen`` when there is none.
    """
    query = select(Event).where(col(Event.id) == number).with_for_update()
    found: Event | None = session.execute(query.execution_options(populate_existing=True)).scalar_one_or_none()
    if found is None:
        raise NotOpen(number)
    return found


def answer(
    session: Session,
    number: int,
    person_id: int,
    wanted: State,
    now: datetime,
    companions: int | None = None,
    names: str | None = None,
) -> Answered:
    """A person says ``YES``, ``MAYBE`` or ``NO``; a yes without a free place waits in line.

    ``companions`` and ``names`` stay as they were when not given. Raises ``NotOpen``, ``Closed`` and ``TooMany``.
    """
    event = locked(session, number)
    if event.status != Status.PUBLISHED or event.ends_at <= now:
        raise NotOpen(number)
    found = session.get(Rsvp, (number, person_id), populate_existing=True)
    before = None if found is None else State(found.state)
    rsvp = found or Rsvp(event_id=number, person_id=person_id, state=State.NO, at=now)
    others = rsvp.companions if companions is None else companions
    if not 0 <= others <= MOST_COMPANIONS:
        raise TooMany(MOST_COMPANIONS)
    closed = event.closes_at is not None and event.closes_at <= now
    if wanted == State.NO:
        others = 0
    elif closed and not (before == wanted and others <= rsvp.companions) and before != State.OFFERED:
        raise Closed(number)
    state = wanted
    if wanted == State.YES:
        state = _place(session, event, rsvp, others)
        if state == State.WAITING and before != State.WAITING:
            event.line += 1
            rsvp.line = event.line
    if names is not None:
        rsvp.names = names
    if others == 0:
        rsvp.names = ""
    rsvp.at = now
    _put(session, event, rsvp, state, others)
    return Answered(event, rsvp, before, promote(session, event, now))


def _place(session: Session, event: Event, rsvp: Rsvp, others: int) -> State:
    """Whether a yes gets a place. Raises ``TooMany`` for a party that can never have one, or outgrows what is free."""
    if event.capacity is None:
        return State.YES
    has = rsvp.state in (State.YES, State.OFFERED)
    free = event.capacity - event.going - event.held + (rsvp.heads if has else 0)
    if 1 + others > event.capacity or (has and 1 + others > free):
        raise TooMany(max(0, min(free if has else event.capacity, event.capacity) - 1))
    if has:
        return State.YES
    if 1 + others <= free and (not event.waiting or _is_first(session, rsvp)):
        return State.YES
    return State.WAITING


def _is_first(session: Session, rsvp: Rsvp) -> bool:
    """Whether nobody has waited longer."""
    before = select(col(Rsvp.person_id)).where(
        col(Rsvp.event_id) == rsvp.event_id, col(Rsvp.state) == State.WAITING, col(Rsvp.line) < rsvp.line
    )
    return rsvp.state == State.WAITING and session.execute(before.limit(1)).first() is None


def _put(session: Session, event: Event, rsvp: Rsvp, state: State, companions: int) -> None:
    """An answer becomes this, and the counts follow."""
    for kind, heads in ((rsvp.state, -rsvp.heads), (state, 1 + companions)):
        if (count := COUNTED.get(State(kind))) is not None:
            setattr(event, count, getattr(event, count) + heads)
    rsvp.state, rsvp.companions = state, companions
    if state != State.OFFERED and rsvp.held_until is not None:
        rsvp.held_until = None
        reminding.forget(session, event, Kind.HOLD, rsvp.person_id)
    session.add(rsvp)
    session.add(event)
    session.flush()


def promote(session: Session, event: Event, now: datetime) -> list[Rsvp]:
    """Hold places that are free for those who wait longest. Who cannot be told keeps their place in the line."""
    offered: list[Rsvp] = []
    passed: list[int] = []
    while event.waiting and event.free != 0 and now < event.starts_at:
        query = (
            select(Rsvp)
            .where(
                col(Rsvp.event_id) == event.number,
                col(Rsvp.state) == State.WAITING,
                col(Rsvp.person_id).not_in(passed),
            )
            .order_by(col(Rsvp.line), col(Rsvp.person_id))
            .limit(1)
        )
        first = session.execute(query).scalar_one_or_none()
        if first is None:
            break
        if first.person_id not in reminding.reachable(session, [first.person_id]):
            passed.append(first.person_id)
            continue
        if event.free is not None and first.heads > event.free:
            _ask_for_fewer(session, event, first, now)
            break
        _put(session, event, first, State.OFFERED, first.companions)
        first.held_until = held_until(event, now)
        reminding.note(session, event, Kind.HOLD, first.held_until, first.person_id)
        session.flush()
        offered.append(first)
    return offered


def _ask_for_fewer(session: Session, event: Event, first: Rsvp, now: datetime) -> None:
    """Whoever is next waits with more than there is room for: they may want to come with fewer. Asked once for each."""
    free = str(event.free)
    if not reminding.is_noted(session, event, Kind.FEWER, first.person_id, free):
        reminding.note(session, event, Kind.FEWER, now, first.person_id, text=free)


def held_until(event: Event, now: datetime) -> datetime:
    """How long a place is held: a day, but at most half of the time that is left. Nobody loses it in their sleep: what
    would end at night ends in the morning, or as late as the next can still be asked."""
    until = now + min(HOLD, max(SHORTEST_HOLD, (event.starts_at - now) / 2))
    return max(until, min(moments.after_night(until, event.clock), event.starts_at - SHORTEST_HOLD))


def lapse(session: Session, event: Event, person_id: int, now: datetime) -> tuple[Rsvp | None, list[Rsvp]]:
    """A place was held long enough: it goes on to the next. ``None`` when it was answered meanwhile."""
    event = locked(session, event.number)
    rsvp = session.get(Rsvp, (event.number, person_id), populate_existing=True)
    if rsvp is None or rsvp.state != State.OFFERED or rsvp.held_until is None or rsvp.held_until > now:
        return None, []
    _put(session, event, rsvp, State.NO, 0)
    return rsvp, promote(session, event, now)


def leave_all(session: Session, person_id: int) -> None:
    """A person is gone: their places are free, and somebody will look whose turn it is."""
    rows = session.execute(select(Rsvp).where(col(Rsvp.person_id) == person_id).order_by(col(Rsvp.event_id))).scalars()
    for rsvp in rows.all():
        event = locked(session, rsvp.event_id)
        had_place = rsvp.state in (State.YES, State.OFFERED)
        _put(session, event, rsvp, State.NO, 0)
        session.delete(rsvp)
        if had_place and event.waiting:
            reminding.note(session, event, Kind.PROMOTE, event.created_at)  # at once
    session.flush()


BEST = (State.YES, State.OFFERED, State.WAITING, State.MAYBE, State.NO)
"""Of two answers of one person, the one that counts."""


def join(session: Session, gone: int, kept: int, now: datetime) -> int:
    """Two people were one: of two answers to one event the better stays, and the counts lose the other.

    Returns to how many events both had said something.
    """
    twice = 0
    rows = session.execute(select(Rsvp).where(col(Rsvp.person_id) == gone).order_by(col(Rsvp.event_id))).scalars()
    for theirs in rows.all():
        event = locked(session, theirs.event_id)
        mine = session.get(Rsvp, (theirs.event_id, kept), populate_existing=True)
        twice += mine is not None
        best = theirs if mine is None or _rank(theirs) < _rank(mine) else mine
        values = best.model_dump(exclude={"person_id"})
        for rsvp in (theirs, mine):
            if rsvp is not None:
                _put(session, event, rsvp, State.NO, 0)
                session.delete(rsvp)
        session.flush()
        stays = Rsvp(**{**values, "person_id": kept, "state": State.NO, "companions": 0})
        session.add(stays)
        session.flush()
        _put(session, event, stays, State(values["state"]), values["companions"])
        if stays.state == State.OFFERED:
            reminding.note(session, event, Kind.HOLD, stays.held_until or now, kept)
        reminding.plan(session, event, stays, now)
        if event.waiting:
            reminding.note(session, event, Kind.PROMOTE, now)
    return twice


def _rank(rsvp: Rsvp) -> tuple[int, int]:
    return BEST.index(State(rsvp.state)), rsvp.line


def recount(session: Session, number: int) -> dict[str, int]:
    """The counts of an event, counted anew: what the stored ones must equal."""
    rows = session.execute(
        select(col(Rsvp.state), func.sum(col(Rsvp.companions) + 1))
        .where(col(Rsvp.event_id) == number)
        .group_by(col(Rsvp.state))
    )
    found = {state: int(heads) for state, heads in rows}
    return {count: found.get(state, 0) for state, count in COUNTED.items()}
