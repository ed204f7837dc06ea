"""The delivery ledger: a row for each recipient of an announcement, and what has become of their copy.

The outbox row is the delivery; the ledger refers to it and learns its outcome by looking. A row is looked at once for
each version of the announcement, so sending, correcting and recalling are the same walk.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Index,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    or_,
    select,
    text,
    update,
)
from sqlmodel import Field, Session, SQLModel, col

from storage.announcements.subscribing import QuietHours, Subscription
from storage.announcements.writing import Announcement, Status
from storage.chats import chat_table, home_of
from storage.engine import partial, table_of
from storage.outbox import DELIVERED as ARRIVED
from storage.outbox import PENDING, UNSURE, outbox_table
from storage.people import Person

WAITING, HELD, QUEUED, LEAVING = "waiting", "held", "queued", "leaving"
"""Not yet begun; put off to ``due_at``; in the outbox; in the outbox to be taken away."""

DELIVERED, UNREACHABLE, FAILED, WITHDRAWN = "delivered", "unreachable", "failed", "withdrawn"
"""How a copy can end: it stands there; its chat is gone; the messenger refused it; we wanted it gone."""

IN_OUTBOX = "state IN ('queued', 'leaving')"
FORGOTTEN = "forgotten"
"""The reason of a copy whose outbox row is no longer there."""

RETRACTED = "retracted"
"""The reason of a withdrawn copy that had arrived; one without it was never sent."""

TAKEN_BACK = (Status.STOPPED, Status.RECALLED)


class Delivery(SQLModel, table=True):
    """One recipient's copy of an announcement; ``person_id`` is ``None`` for a room.

    ``version`` is the version of the announcement for which this copy has been seen to; 0 before the first.
    ``gathered`` tells that it stands in one message with copies of other announcements, a digest.
    """

    __table_args__ = (
        UniqueConstraint("chat_id", "announcement_id"),
        Index("ix_delivery_version", "announcement_id", "adapter", "version", "id"),
        Index("ix_delivery_in_outbox", "announcement_id", "adapter", **partial(IN_OUTBOX)),
        Index("ix_delivery_held", "announcement_id", "due_at", **partial("state = 'held'")),
        Index("ix_delivery_held_for", "chat_id", **partial("state = 'held'")),
        Index("ix_delivery_gathered", "outbox_id", **partial("gathered")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    announcement_id: int = Field(foreign_key="announcement.id")
    chat_id: int = Field(foreign_key="chat.id")
    person_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    adapter: str
    state: str = WAITING
    version: int = 0
    outbox_id: int | None = None
    due_at: datetime | None = None
    reason: str | None = None
    gathered: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


delivery_table = table_of(Delivery)
_d = delivery_table.c

# In these very words, or SQLite does not see that the partial indexes hold what is asked for.
_IN_OUTBOX, _HELD = text(f"delivery.{IN_OUTBOX}"), text("delivery.state = 'held'")


class Copy(NamedTuple):
    """A recipient's copy that is to be seen to: where it stands, and what its reader wishes.

    ``queued_at`` is when it was wanted so last, which is when it was sent unless it was ``revised`` since.
    """

    id: int
    announcement_id: int
    state: str
    chat_id: int
    thread: str | None
    locale: str
    active: bool
    room: bool
    outbox_id: int | None
    stopped: bool
    quiet_from: int | None
    quiet_to: int | None
    often: str | None
    queued_at: datetime | None
    revised: bool
    due_at: datetime | None
    gathered: bool


class Change(NamedTuple):
    """What becomes of a copy, and the version of the announcement for which that is so."""

    id: int
    was: str
    state: str
    version: int
    outbox_id: int | None = None
    due_at: datetime | None = None
    reason: str | None = None
    gathered: bool = False


def portion(session: Session, announcement: Announcement, adapter: str, most: int, now: datetime) -> list[Copy]:
    """The next copies on one messenger that are to be seen to: of an older version, or put off till now."""
    mine = and_(_d.announcement_id == announcement.id, _d.adapter == adapter)
    older = and_(mine, _d.version < announcement.version)
    found = list(session.execute(_COPIES.where(older).order_by(_d.version, _d.id).limit(most)))
    if len(found) < most:
        put_off = and_(mine, _HELD, _d.due_at <= now, _d.version == announcement.version)
        found += session.execute(_COPIES.where(put_off).limit(most - len(found)))
    return [Copy(*row) for row in found]


def due_with(
    session: Session, announcement: Announcement, chats: Sequence[int], now: datetime, night: bool = False
) -> list[Copy]:
    """What else is put off till now in these chats: copies, without a file, of others that are on their way.

    At ``night`` those that leave it out are not on their way.
    """
    others = and_(_d.chat_id.in_(chats), _HELD, _d.due_at <= now, _d.announcement_id != announcement.id)
    going = and_(
        col(Announcement.status) == Status.SENDING,
        col(Announcement.paused).is_(False),
        col(Announcement.file).is_(None),
        *([col(Announcement.by_day).is_(False)] if night else []),
    )
    return [Copy(*row) for row in session.execute(_COPIES.where(others, going).order_by(_d.announcement_id))]


def gathered(session: Session, rows: Sequence[int]) -> dict[int, list[int]]:
    """The numbers of the announcements that these messages (rows of the outbox) gather, as far as they stand there."""
    found: dict[int, list[int]] = {row: [] for row in rows}
    query = select(_d.outbox_id, _d.announcement_id).where(
        _d.outbox_id.in_(rows), text("delivery.gathered"), _d.state.in_([QUEUED, DELIVERED])
    )
    for row, number in session.execute(query.order_by(_d.announcement_id)):
        found[row].append(number)
    return found


_COPIES = (
    select(
        _d.id,
        _d.announcement_id,
        _d.state,
        _d.chat_id,
        chat_table.c.thread,
        chat_table.c.locale,
        chat_table.c.active,
        _d.person_id.is_(None),
        _d.outbox_id,
        func.coalesce(col(Person.stopped_at).is_not(None), false()),
        col(QuietHours.begin),
        col(QuietHours.end),
        col(Subscription.often),
        outbox_table.c.queued_at,
        func.coalesce(outbox_table.c.version > 1, false()),
        _d.due_at,
        _d.gathered,
    )
    .join(Announcement, col(Announcement.id) == _d.announcement_id)
    .join(chat_table, chat_table.c.id == _d.chat_id)
    .outerjoin(outbox_table, outbox_table.c.id == _d.outbox_id)
    .outerjoin(Person, col(Person.id) == _d.person_id)
    .outerjoin(QuietHours, col(QuietHours.person_id) == _d.person_id)
    .outerjoin(
        Subscription,
        and_(col(Subscription.person_id) == _d.person_id, col(Subscription.topic) == col(Announcement.topic)),
    )
)


def move(session: Session, number: int, adapters: Iterable[str]) -> bool:
    """A waiting copy whose chat is gone goes where else its reader is told things. False when that is nowhere."""
    other = delivery_table.alias()
    there = exists().where(other.c.chat_id == chat_table.c.id, other.c.announcement_id == _d.announcement_id)
    home = (
        select(chat_table.c.id, chat_table.c.adapter)
        .select_from(delivery_table)
        .join(chat_table, chat_table.c.id == home_of(_d.person_id, adapters))
        .where(_d.id == number, ~there)
    )
    found = session.execute(home).first()
    if found is not None:
        moved = update(delivery_table).where(_d.id == number).values(chat_id=found.id, adapter=found.adapter)
        session.connection().execute(moved)
    return found is not None


_CHANGE = (
    update(delivery_table)
    .where(_d.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"),
        version=bindparam("b_version"),
        outbox_id=bindparam("b_outbox"),
        due_at=bindparam("b_due"),
        reason=func.coalesce(bindparam("b_reason"), _d.reason),
        gathered=bindparam("b_gathered"),
    )
)


def note(session: Session, announcement: Announcement, changes: Sequence[Change]) -> None:
    """Store what becomes of copies, and count them."""
    if not changes:
        return
    session.connection().execute(
        _CHANGE,
        [
            {
                "b_id": change.id,
                "b_state": change.state,
                "b_version": change.version,
                "b_outbox": change.outbox_id,
                "b_due": change.due_at,
                "b_reason": change.reason,
                "b_gathered": change.gathered,
            }
            for change in changes
        ],
    )
    moved = Counter(change.state for change in changes)
    moved.subtract(change.was for change in changes)
    announcement.delivered += moved[DELIVERED]
    announcement.unreachable += moved[UNREACHABLE]
    announcement.failed += moved[FAILED]
    announcement.withdrawn += moved[WITHDRAWN]
    session.add(announcement)
    session.flush()


def settle(session: Session, announcement: Announcement, most: int = 2000) -> int:
    """Take over from the outbox how deliveries ended; how many have."""
    query = (
        select(
            _d.id,
            _d.state,
            _d.version,
            _d.outbox_id,
            outbox_table.c.state,
            outbox_table.c.external,
            outbox_table.c.error,
            chat_table.c.active,
            _d.gathered,
        )
        .join(chat_table, chat_table.c.id == _d.chat_id)
        .outerjoin(outbox_table, outbox_table.c.id == _d.outbox_id)
        .where(
            _d.announcement_id == announcement.id,
            _IN_OUTBOX,
            or_(outbox_table.c.state != PENDING, outbox_table.c.id.is_(None)),
        )
        .limit(most)
    )
    changes = []
    for number, was, version, row, state, external, error, active, gathered in session.execute(query).all():
        became, reason = _outcome(was, state, external, error, active)
        changes.append(Change(number, was, became, version, row, None, reason, gathered))
    note(session, announcement, changes)
    return len(changes)


def _outcome(
    was: str, state: str | None, external: str | None, error: str | None, active: bool
) -> tuple[str, str | None]:
    if state is None:
        return FAILED, FORGOTTEN
    if state == ARRIVED:
        if external is None:
            return WITHDRAWN, None  # it was taken back before it was sent
        return (DELIVERED, None) if was == QUEUED else (WITHDRAWN, RETRACTED)
    if not active:
        return UNREACHABLE, error
    if was == LEAVING:
        return DELIVERED, error  # the messenger does not let it go: it still stands there
    return FAILED, UNSURE if state == UNSURE else error


def let_go(session: Session, person_id: int) -> None:
    """Somebody wants to hear nothing more: what is on its way to them shall not stand there."""
    waiting = select(outbox_table.c.id).where(outbox_table.c.id == _d.outbox_id, outbox_table.c.state == PENDING)
    on_its_way = (_d.person_id == person_id, _d.state == QUEUED, waiting.exists())
    session.execute(update(delivery_table).where(*on_its_way).values(state=LEAVING))


class Work(NamedTuple):
    """What is still open: whether copies are to be seen to, how many are in the outbox, and when the next one put off
    is due.
    """

    unseen: bool
    in_outbox: int
    held_until: datetime | None


def work(session: Session, announcement: Announcement) -> Work:
    """What is still to be done about an announcement."""
    mine = _d.announcement_id == announcement.id
    in_outbox = session.execute(select(func.count()).where(mine, _IN_OUTBOX)).scalar_one()
    held = session.execute(select(func.min(_d.due_at)).where(mine, _HELD)).scalar_one()
    unseen = (select(_d.id).where(*older).limit(1) for older in _unseen(session, announcement))
    return Work(any(session.execute(query).first() for query in unseen), in_outbox, held)


def left(session: Session, announcement: Announcement) -> int:
    """How many copies are not yet what the announcement says now: unsent, put off, on their way, or in older words."""
    mine = _d.announcement_id == announcement.id
    seen = _d.version == announcement.version
    open_still = [(mine, seen, _IN_OUTBOX), (mine, seen, _HELD), *_unseen(session, announcement)]
    return sum(int(session.execute(select(func.count(_d.id)).where(*which)).scalar_one()) for which in open_still)


def _unseen(session: Session, announcement: Announcement) -> Iterator[tuple[Any, ...]]:
    """The copies to be seen to, messenger by messenger: without naming one, all copies would be gone through."""
    mine, last = _d.announcement_id == announcement.id, ""
    while adapter := session.execute(select(func.min(_d.adapter)).where(mine, _d.adapter > last)).scalar_one():
        last = adapter
        yield mine, _d.adapter == adapter, _d.version < announcement.version


def read_in(session: Session, chat: int, since: datetime) -> int | None:
    """The newest announcement that stands in a chat, if it was begun since then."""
    standing = select(_d.announcement_id).where(_d.chat_id == chat, _d.state.in_((QUEUED, DELIVERED)))
    number = session.execute(standing.order_by(_d.announcement_id.desc()).limit(1)).scalar_one_or_none()
    if number is None:
        return None
    begun_at = session.get_one(Announcement, number).begun_at
    return number if begun_at is not None and begun_at >= since else None


def held_up_by(session: Session, announcement: Announcement) -> list[str]:
    """The messengers in whose outbox its copies wait."""
    query = select(_d.adapter).where(_d.announcement_id == announcement.id, _IN_OUTBOX).distinct()
    return list(session.execute(query.order_by(_d.adapter)).scalars())


def in_outbox(session: Session, adapter: str) -> int:
    """How many copies of all announcements wait in the outbox of one messenger."""
    query = select(func.count()).where(_d.adapter == adapter, _IN_OUTBOX)
    return int(session.execute(query).scalar_one())


class Line(NamedTuple):
    """One line of the report: how many copies in this language on this messenger ended so.

    ``state`` is ``RETRACTED`` for what had arrived before it was withdrawn.
    """

    adapter: str
    locale: str
    state: str
    copies: int


def report(session: Session, number: int) -> list[Line]:
    """What has become of the copies, by messenger and language."""
    had_arrived = and_(_d.state == WITHDRAWN, _d.reason.is_not_distinct_from(RETRACTED))
    each = (
        select(_d.adapter, chat_table.c.locale, case((had_arrived, RETRACTED), else_=_d.state).label("state"))
        .join(chat_table, chat_table.c.id == _d.chat_id)
        .where(_d.announcement_id == number)
        .subquery()
    )
    query = select(each, func.count()).group_by(*each.c).order_by(*each.c)
    return [Line(*row) for row in session.execute(query).all()]


def reasons(session: Session, number: int, most: int = 5) -> list[tuple[str, int]]:
    """Why copies have failed, the most frequent reasons first."""
    query = (
        select(_d.reason, func.count())
        .where(_d.announcement_id == number, _d.state == FAILED)
        .group_by(_d.reason)
        .order_by(func.count().desc())
        .limit(most)
    )
    return [(reason or "", copies) for reason, copies in session.execute(query).all()]


def recount(session: Session, number: int) -> Counter[str]:
    """The copies by state, counted anew: what the stored counts must equal."""
    query = select(_d.state, func.count()).where(_d.announcement_id == number).group_by(_d.state)
    counted: Counter[str] = Counter()
    for state, copies in session.execute(query):
        counted[state] = copies
    return counted
