"""Whom an announcement is for: counted before, and fixed once, page by page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, literal, select, true
from sqlmodel import Session, col

from storage.announcements.ledger import WAITING, delivery_table
from storage.announcements.subscribing import Often, Subscription
from storage.announcements.writing import (
    EVERYBODY,
    GENERAL,
    GROUP,
    PARTICIPANTS_OF,
    ROOMS,
    SUPPORTERS,
    TOPIC,
    Announcement,
)
from storage.chats import chat_table, home_of
from storage.engine import insert_or_nothing
from storage.events.tables import Rsvp
from storage.ideas import Support
from storage.people import Person
from storage.rooms import Hearing

PAGE = 1000
"""How many people are looked at in one transaction."""


@dataclass(slots=True)
class Size:
    """How many people and rooms an audience has, and how many chats that is on each messenger."""

    people: int = 0
    rooms: int = 0
    chats: dict[str, int] = field(default_factory=dict)


def size(session: Session, audience: str, adapters: Collection[str]) -> Size:
    """How many an audience has now on these messengers."""
    found = Size()
    people = (
        select(chat_table.c.adapter, func.count())
        .select_from(Person)
        .join(chat_table, chat_table.c.id == home_of(col(Person.id), adapters))
        .where(*_people(audience))
        .group_by(chat_table.c.adapter)
    )
    rooms = select(chat_table.c.adapter, func.count()).where(*_rooms(audience, adapters)).group_by(chat_table.c.adapter)
    for adapter, number in session.execute(people):
        found.people += number
        found.chats[adapter] = number
    for adapter, number in session.execute(rooms):
        found.rooms += number
        found.chats[adapter] = found.chats.get(adapter, 0) + number
    return found


def fix_some(session: Session, announcement: Announcement, adapters: Collection[str]) -> bool:
    """Put the next page of its audience on these messengers into the ledger. True when it is all there.

    Whoever comes after it was sent is no recipient any more: ``until`` is the last person then. The rooms come
    first, since they are few.
    """
    connection = session.connection()
    if announcement.until is None:
        announcement.until = session.execute(select(func.max(col(Person.id)))).scalar_one() or 0
        rooms = select(literal(announcement.number), chat_table.c.id, literal(None), chat_table.c.adapter, *_NEW).where(
            *_rooms(announcement.audience, adapters)
        )
        announcement.recipients += _into(connection, rooms)
    following = (
        select(col(Person.id)).where(col(Person.id) > announcement.reached).order_by(col(Person.id)).offset(PAGE - 1)
    )
    upto = min(session.execute(following.limit(1)).scalar() or announcement.until, announcement.until)
    people = (
        select(literal(announcement.number), chat_table.c.id, col(Person.id), chat_table.c.adapter, *_NEW)
        .select_from(Person)
        .join(chat_table, chat_table.c.id == home_of(col(Person.id), adapters))
        .where(col(Person.id) > announcement.reached, col(Person.id) <= upto, *_people(announcement.audience))
    )
    announcement.recipients += _into(connection, people)
    announcement.reached = upto
    session.add(announcement)
    session.flush()
    return upto >= announcement.until


_COLUMNS = ["announcement_id", "chat_id", "person_id", "adapter", "state", "version", "gathered"]
_NEW = (literal(WAITING), literal(0), false())


def _into(connection: Any, chosen: Any) -> int:
    """Insert what was chosen, each chat once; how many were new."""
    new = insert_or_nothing(connection, delivery_table).from_select(_COLUMNS, chosen)
    return len(connection.execute(new.returning(delivery_table.c.id)).all())


def _people(audience: str) -> list[ColumnElement[bool]]:
    """The people of an audience who want to hear it."""
    kind, _, which = audience.partition(":")
    if kind == ROOMS:
        return [false()]
    mine = and_(col(Subscription.person_id) == col(Person.id))
    if kind == TOPIC:
        wanted: ColumnElement[bool] = exists().where(
            mine, col(Subscription.topic) == which, col(Subscription.often) != Often.NEVER
        )
    else:
        wanted = ~exists().where(mine, col(Subscription.topic) == GENERAL, col(Subscription.often) == Often.NEVER)
    among: ColumnElement[bool] = true()
    if kind == GROUP:
        among = col(Person.group) == which
    elif kind == SUPPORTERS:
        among = exists().where(col(Support.person_id) == col(Person.id), col(Support.idea_id) == int(which))
    elif kind == PARTICIPANTS_OF:
        event, _, states = which.partition(":")
        of_it = and_(col(Rsvp.event_id) == int(event), col(Rsvp.state).in_(states.split("+")))
        among = exists().where(col(Rsvp.person_id) == col(Person.id), of_it)
    return [col(Person.stopped_at).is_(None), wanted, among]


def chosen(audience: str) -> list[int]:
    """The rooms that an audience lists one by one."""
    kind, _, which = audience.partition(":")
    return [int(chat) for chat in which.split(",")] if kind == ROOMS and which else []


def of_rooms(chats: Sequence[int]) -> str:
    """The audience of these rooms."""
    return f"{ROOMS}:{','.join(map(str, sorted(chats)))}"


def _rooms(audience: str, adapters: Collection[str]) -> list[ColumnElement[bool]]:
    """The rooms of an audience: what is for everybody is for them, too."""
    reached = and_(chat_table.c.active, chat_table.c.adapter.in_(list(adapters)))
    if listed := chosen(audience):
        return [chat_table.c.id.in_(listed), chat_table.c.name.is_not(None), reached]
    kind, _, which = audience.partition(":")
    topic = {EVERYBODY: GENERAL, ROOMS: GENERAL, TOPIC: which}.get(kind)
    if topic is None:
        return [false()]
    return [exists().where(col(Hearing.chat_id) == chat_table.c.id, col(Hearing.topic) == topic), reached]
