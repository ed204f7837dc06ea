"""Reminding: what is due when, in as few statements as there are changes, and what has become of it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, exists, func, insert, literal, select, text, true, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from storage.chats import Chat
from storage.engine import table_of
from storage.events.moments import after_night, minutes_of, remind_at
from storage.events.tables import AHEADS, Attendee, Event, Kind, Outcome, Reminder, Rsvp, State, Status
from storage.people import Account, Person

FEEDBACK_AFTER = timedelta(hours=1)
"""How long after its end an event is asked about; at night it waits for the morning."""

FEEDBACK_UNTIL = timedelta(days=7)
"""How long after its end asking makes sense."""

KEEP_DONE = timedelta(days=90)
"""How long it is remembered what has become of a reminder."""

ROOM_AHEAD = 1440
"""When a group is reminded, in minutes."""

_reminder = table_of(Reminder)
_NEXT = select(func.min(_reminder.c.due_at)).where(_reminder.c.state == "pending")


def next_due(connection: Connection) -> datetime | None:
    """When the earliest row falls due."""
    at: datetime | None = connection.execute(_NEXT).scalar_one()
    return at


def times(event: Event) -> dict[int, datetime]:
    """When each possible reminder of an event is due (UTC), by its minutes ahead."""
    return {ahead: remind_at(event.begins, event.clock, ahead) for ahead in AHEADS}


def feedback_at(event: Event) -> datetime:
    """When people are asked how it was: an hour after its end, or the next morning."""
    return after_night(event.ends_at + FEEDBACK_AFTER, event.clock)


def chosen(event: Event, rsvp: Rsvp, attendee: Attendee | None) -> list[int]:
    """The reminders a person gets: their choice for this event, else their general one, else the event's own."""
    if rsvp.remind is not None:
        return minutes_of(rsvp.remind)
    if attendee is not None and attendee.remind is not None:
        return minutes_of(attendee.remind)
    return minutes_of(event.reminders)


def plan(session: Session, event: Event, rsvp: Rsvp, now: datetime) -> datetime | None:
    """Remind this person as they have chosen, or not at all; when the first of it falls due.

    What they do not want is gone, whatever has become of it: a move must not bring it back. What is over already is
    a row, too, so that it comes when the event is put off.
    """
    mine = (col(Reminder.event_id) == event.number) & (col(Reminder.person_id) == rsvp.person_id)
    wanted = {(Kind.FEEDBACK, 0): feedback_at(event)} if rsvp.state == State.YES else {}
    if wanted:
        due = times(event)
        ahead = chosen(event, rsvp, session.get(Attendee, rsvp.person_id))
        wanted |= {(Kind.REMIND, minutes): due[minutes] for minutes in ahead}
    standing = col(Reminder.kind).in_([Kind.REMIND, Kind.FEEDBACK])
    found = session.execute(
        select(col(Reminder.id), col(Reminder.kind), col(Reminder.ahead), col(Reminder.state)).where(mine, standing)
    ).all()
    there = {(Kind(kind), minutes) for _, kind, minutes, _ in found}
    unwanted = [
        id
        for id, kind, minutes, state in found
        if (Kind(kind), minutes) not in wanted and (kind == Kind.REMIND or state == Outcome.PENDING)
    ]
    if unwanted:
        session.execute(delete(Reminder).where(col(Reminder.id).in_(unwanted)))
    rows = [
        _row(event, rsvp.person_id, kind, at, minutes, now)
        for (kind, minutes), at in wanted.items()
        if (kind, minutes) not in there
    ]
    if rows:
        session.execute(insert(Reminder), rows)
    return min((at for at in wanted.values() if at > now), default=None)


def plan_default(session: Session, event: Event, now: datetime) -> None:
    """Remind everybody as the event does who comes and has chosen nothing themselves, in a few statements."""
    themselves = select(col(Attendee.person_id)).where(col(Attendee.remind).is_not(None))
    people = select(col(Rsvp.person_id)).where(
        col(Rsvp.event_id) == event.number,
        col(Rsvp.state) == State.YES,
        col(Rsvp.remind).is_(None),
        col(Rsvp.person_id).not_in(themselves),
    )
    wanted, due = minutes_of(event.reminders), times(event)
    theirs = (
        (col(Reminder.event_id) == event.number, col(Reminder.kind) == Kind.REMIND, col(Reminder.person_id).in_(people))
    )  # fmt: skip
    session.execute(
        delete(Reminder).where(*theirs, col(Reminder.ahead).not_in(wanted)),
        execution_options={"synchronize_session": False},
    )
    for ahead in wanted:
        there = select(col(Reminder.person_id)).where(*theirs, col(Reminder.ahead) == ahead)
        state = Outcome.PENDING if due[ahead] > now else Outcome.EXPIRED
        rows = people.where(col(Rsvp.person_id).not_in(there)).with_only_columns(
            literal(event.number),
            col(Rsvp.person_id),
            literal(Kind.REMIND.value),
            literal(ahead),
            literal(""),
            literal(due[ahead], type_=_reminder.c.due_at.type),
            literal(state.value),
        )
        session.execute(insert(Reminder).from_select(_COLUMNS, rows))


def plan_room(session: Session, event: Event, chat_id: int, now: datetime) -> None:
    """Remind a group once; if it is too late for that already, when the event is put off."""
    at = times(event)[ROOM_AHEAD]
    known = select(col(Reminder.id)).where(
        col(Reminder.event_id) == event.number, col(Reminder.chat_id) == chat_id, col(Reminder.kind) == Kind.REMIND
    )
    if session.execute(known.limit(1)).first() is None:
        session.execute(insert(Reminder), [{**_row(event, None, Kind.REMIND, at, ROOM_AHEAD, now), "chat_id": chat_id}])


def note(
    session: Session,
    event: Event,
    kind: Kind,
    at: datetime,
    person_id: int | None = None,
    text: str = "",
    chat_id: int | None = None,
) -> None:
    """Something else falls due: the end of a hold, a deadline, a look at the waiting list."""
    session.execute(insert(Reminder), [{**_row(event, person_id, kind, at), "note": text, "chat_id": chat_id}])


def is_noted(session: Session, event: Event, kind: Kind, person_id: int, text: str) -> bool:
    """Whether exactly this was to be told already."""
    mine = (col(Reminder.event_id) == event.number) & (col(Reminder.person_id) == person_id)
    same = select(col(Reminder.id)).where(mine, col(Reminder.kind) == kind, col(Reminder.note) == text)
    return session.execute(same.limit(1)).first() is not None


def forget(session: Session, event: Event, kind: Kind, person_id: int | None = None) -> None:
    """What was to be done is not, any more."""
    mine = col(Reminder.person_id) == person_id if person_id is not None else true()
    session.execute(
        delete(Reminder).where(
            col(Reminder.event_id) == event.number,
            mine,
            col(Reminder.kind) == kind,
            col(Reminder.state) == Outcome.PENDING,
        )
    )


def _row(
    event: Event, person_id: int | None, kind: Kind, at: datetime, ahead: int = 0, now: datetime | None = None
) -> dict[str, Any]:
    """A row as it is stored; with ``now``, one that is over already counts as expired."""
    return {
        "event_id": event.number,
        "person_id": person_id,
        "chat_id": None,
        "kind": kind,
        "ahead": ahead,
        "note": "",
        "due_at": at,
        "state": Outcome.PENDING if now is None or at > now else Outcome.EXPIRED,
    }


def erase(session: Session, numbers: Sequence[int]) -> None:
    """Nothing is due for these events any more, and nothing is known of what was."""
    session.execute(delete(Reminder).where(col(Reminder.event_id).in_(numbers)))


def reschedule(session: Session, event: Event, now: datetime) -> None:
    """An event has moved: all its reminders move along, in one statement; those now in the past are over."""
    due = times(event)
    after = feedback_at(event)
    at = case(
        (col(Reminder.kind) == Kind.FEEDBACK, after),
        *((col(Reminder.ahead) == ahead, moment) for ahead, moment in due.items()),
        else_=col(Reminder.due_at),
    )
    coming = [ahead for ahead, moment in due.items() if moment > now]
    session.execute(
        update(Reminder)
        .where(
            col(Reminder.event_id) == event.number,
            col(Reminder.kind).in_([Kind.REMIND, Kind.FEEDBACK]),
        )
        .values(
            due_at=at,
            state=case(
                (col(Reminder.kind) == Kind.FEEDBACK, col(Reminder.state)),
                (col(Reminder.ahead).in_(coming), Outcome.PENDING.value),
                (col(Reminder.state) == Outcome.PENDING, Outcome.EXPIRED.value),
                else_=col(Reminder.state),
            ),
        ),
        execution_options={"synchronize_session": False},
    )


def drop_all(session: Session, event: Event) -> None:
    """An event does not take place: nobody is reminded of it."""
    session.execute(
        delete(Reminder).where(
            col(Reminder.event_id) == event.number,
            col(Reminder.kind) != Kind.NEWS,
            col(Reminder.state) == Outcome.PENDING,
        )
    )


CONCERNED = (State.YES, State.OFFERED, State.WAITING, State.MAYBE)
"""Whoever has said anything but no hears of changes."""


def tell_everybody(
    session: Session,
    events: Sequence[Event],
    what: str,
    now: datetime,
    states: Sequence[State] = CONCERNED,
    rooms: Sequence[int] = (),
) -> None:
    """News of events that have one thing in common, for all they concern, each told once: in a few statements, and in
    place of what they have not heard yet. All cards that show them follow. These groups are told, too."""
    numbers = [event.number for event in events]
    unheard = col(Reminder.event_id).in_(numbers) & col(Reminder.kind).in_([Kind.NEWS, Kind.COPIES])
    session.execute(delete(Reminder).where(unheard, col(Reminder.state) == Outcome.PENDING))
    copies = [{**_row(event, None, Kind.COPIES, now), "note": "0"} for event in events]
    session.execute(insert(Reminder), copies)
    note = " ".join([what, *(str(number) for number in numbers)])
    if rooms:
        there = {**_row(events[0], None, Kind.NEWS, now), "note": note}
        session.execute(insert(Reminder), [{**there, "chat_id": room} for room in rooms])
    people = (
        select(
            literal(numbers[0]),
            col(Rsvp.person_id),
            literal(Kind.NEWS.value),
            literal(0),
            literal(note),
            literal(now, type_=_reminder.c.due_at.type),
            literal(Outcome.PENDING.value),
        )
        .where(col(Rsvp.event_id).in_(numbers), col(Rsvp.state).in_(states))
        .distinct()
    )
    session.execute(insert(Reminder).from_select(_COLUMNS, people))


_COLUMNS = ["event_id", "person_id", "kind", "ahead", "note", "due_at", "state"]


def invite(session: Session, event: Event, kind: Kind, people: Any, now: datetime, note: str = "") -> None:
    """Tell these people (a select of ids) of an event, in one statement; each at most once.

    ``note`` names the numbers of all events that are meant, when there are several.
    """
    told = select(col(Reminder.person_id)).where(
        col(Reminder.event_id) == event.number,
        col(Reminder.kind).in_([Kind.INVITE, Kind.ASK]),
        col(Reminder.person_id).is_not(None),
    )
    wanted = people.subquery()
    rows = select(
        literal(event.number),
        wanted.c[0],
        literal(kind.value),
        literal(0),
        literal(note),
        literal(now, type_=_reminder.c.due_at.type),
        literal(Outcome.PENDING.value),
    ).where(wanted.c[0].not_in(told))
    session.execute(insert(Reminder).from_select(_COLUMNS, rows))


class Claimed(NamedTuple):
    """A due row with all that is needed to say it.

    ``answer`` is what its person has said to the event. ``superseded``: a reminder nearer to the beginning is due as
    well. ``hears`` is false for somebody who cannot or will not be told.
    """

    id: int
    event: Event
    person_id: int | None
    chat_id: int | None
    kind: Kind
    note: str
    due_at: datetime
    answer: str | None
    superseded: bool
    hears: bool


_nearer = aliased(Reminder)
# Columns, not rows of the ORM: of a burst these are what costs.
_CLAIM = (
    select(
        _reminder.c.id,
        _reminder.c.event_id,
        _reminder.c.person_id,
        _reminder.c.chat_id,
        _reminder.c.kind,
        _reminder.c.note,
        _reminder.c.due_at,
        col(Rsvp.state),
        exists().where(
            col(_nearer.event_id) == _reminder.c.event_id,
            col(_nearer.person_id) == _reminder.c.person_id,
            col(_nearer.kind) == _reminder.c.kind,
            col(_nearer.kind) == Kind.REMIND,
            col(_nearer.ahead) < _reminder.c.ahead,
            col(_nearer.due_at) <= bindparam("now"),
            col(_nearer.state) == Outcome.PENDING,
        ),
    )
    .join(
        Rsvp,
        (col(Rsvp.event_id) == _reminder.c.event_id) & (col(Rsvp.person_id) == _reminder.c.person_id),
        isouter=True,
    )
    .where(_reminder.c.state == text("'pending'"), _reminder.c.due_at <= bindparam("now"))
    .order_by(_reminder.c.due_at, _reminder.c.id)
    .limit(bindparam("most"))
)
_EVENTS = select(Event).where(col(Event.id).in_(bindparam("numbers", expanding=True)))
_END = update(_reminder).where(_reminder.c.id.in_(bindparam("rows", expanding=True))).values(state=bindparam("b_state"))


def claim(session: Session, now: datetime, most: int) -> list[Claimed]:
    """Some of the rows that are due, the earliest first; from now on they count as done (see ``expire``)."""
    found = session.connection().execute(_CLAIM, {"now": now, "most": most}).all()
    numbers = list({row.event_id for row in found})
    events = {event.number: event for event in session.execute(_EVENTS, {"numbers": numbers}).scalars()}
    hear = reachable(session, {row.person_id for row in found if row.person_id is not None})
    claimed = [
        Claimed(id, events[number], person, chat, Kind(kind), note, due_at, answer, superseded, person in hear)
        for id, number, person, chat, kind, note, due_at, answer, superseded in found
    ]
    _end(session, claimed, Outcome.DONE)
    return claimed


def _end(session: Session, claimed: Sequence[Claimed], outcome: Outcome) -> None:
    if claimed:
        values = {"rows": [each.id for each in claimed], "b_state": outcome.value}
        session.connection().execute(_END, values)


def expire(session: Session, claimed: Sequence[Claimed]) -> None:
    """These were of no use any more: nobody was told."""
    _end(session, claimed, Outcome.EXPIRED)


def is_useful(claimed: Claimed, now: datetime) -> bool:
    """Whether what may be late still helps: a reminder until the beginning, a question for a week after the end."""
    event = claimed.event
    if event.status != Status.PUBLISHED or claimed.superseded:
        return False
    if claimed.person_id is not None and not (claimed.hears and claimed.answer == State.YES):
        return False
    return now < (event.ends_at + FEEDBACK_UNTIL if claimed.kind == Kind.FEEDBACK else event.starts_at)


_REACHABLE = (
    select(col(Person.id))
    .join(Account, col(Account.person_id) == col(Person.id))
    .join(Chat, col(Chat.account_id) == col(Account.id))
    .where(col(Person.id).in_(bindparam("people", expanding=True)), col(Person.stopped_at).is_(None), col(Chat.active))
)


def reachable(session: Session, people: Iterable[int | None]) -> set[int]:
    """Who of these can be told something: they have a chat with us, and have not said /stop."""
    rows = session.connection().execute(_REACHABLE, {"people": list(people)}).scalars()
    return {person for person in rows if person is not None}


MOST_NAMED = 500
"""How many are looked for in a group: not all of them are there."""


def named(session: Session, number: int) -> list[int]:
    """Who says yes to an event, and wants to be named in a group's reminder of it; the first to have said so first."""
    query = (
        select(col(Rsvp.person_id))
        .join(Attendee, col(Attendee.person_id) == col(Rsvp.person_id))
        .join(Person, col(Person.id) == col(Rsvp.person_id))
        .where(col(Rsvp.event_id) == number, col(Rsvp.state) == State.YES)
        .where(col(Attendee.mention), col(Person.stopped_at).is_(None))
        .order_by(col(Rsvp.at), col(Rsvp.person_id))
        .limit(MOST_NAMED)
    )
    return list(session.execute(query).scalars())


def prune(session: Session, now: datetime) -> None:
    """Forget what has become of old reminders."""
    over = col(Reminder.state) != Outcome.PENDING
    session.execute(delete(Reminder).where(over, col(Reminder.due_at) < now - KEEP_DONE))


def hand_over(session: Session, gone: int, kept: int) -> None:
    """What was due to one is due to the other, but what the other's answers have planned anew."""
    theirs = col(Reminder.person_id) == gone
    session.execute(delete(Reminder).where(theirs, col(Reminder.kind).in_([Kind.REMIND, Kind.FEEDBACK, Kind.HOLD])))
    session.execute(
        update(Reminder).where(theirs).values(person_id=kept), execution_options={"synchronize_session": False}
    )
