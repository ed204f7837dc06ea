"""Rooms: groups as the lab sees them, by the names they have in its lists and by what they hear."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update
from sqlmodel import Field, SQLModel

from storage.chats import chat_table
from storage.engine import table_of

EVENTS = ","
"""What a room hears that hears of every event, whatever it is about. No topic's name has a comma."""

LONGEST_NAME = 60
"""In characters."""


class Hearing(SQLModel, table=True):
    """A room hears a topic: announcements and events about it. ``EVENTS`` and "" (for everybody) are topics, too."""

    chat_id: int = Field(foreign_key="chat.id", primary_key=True)
    topic: str = Field(primary_key=True, index=True)


hearing_table = table_of(Hearing)


class Room(NamedTuple):
    """A group that has a name in lists."""

    id: int
    name: str


class Taken(Exception):
    """Another room has this name."""


# -- names ----------------------------------------------------------------------------------------------------


def name(connection: Connection, chat_id: int) -> str | None:
    """What a room is called in lists."""
    found: str | None = connection.execute(select(chat_table.c.name).where(chat_table.c.id == chat_id)).scalar_one()
    return found


def rename(connection: Connection, chat_id: int, words: str | None) -> None:
    """Call a room so in lists, or take it out of them. Raises ``Taken``."""
    if words is not None:
        others = select(chat_table.c.name).where(chat_table.c.name.is_not(None), chat_table.c.id != chat_id)
        if words.casefold() in {other.casefold() for other in connection.execute(others).scalars()}:
            raise Taken(words)
    connection.execute(update(chat_table).where(chat_table.c.id == chat_id).values(name=words))


def named(connection: Connection) -> list[Room]:
    """The rooms that have a name, in its order; those that have put the bot out are left out."""
    query = select(chat_table.c.id, chat_table.c.name).where(
        chat_table.c.name.is_not(None), chat_table.c.active, chat_table.c.private.is_(False)
    )
    found = [Room(chat_id, words) for chat_id, words in connection.execute(query)]
    return sorted(found, key=lambda room: room.name.casefold())


def names(connection: Connection, chats: Sequence[int]) -> tuple[list[str], int]:
    """What some rooms are called, and how many of them have no name."""
    query = select(chat_table.c.name).where(chat_table.c.id.in_(list(chats)))
    found = list(connection.execute(query).scalars())
    return sorted((words for words in found if words), key=str.casefold), found.count(None)


# -- what they hear -------------------------------------------------------------------------------------------


def hears(connection: Connection, chat_id: int) -> set[str]:
    """The topics a room hears."""
    return set(connection.execute(select(hearing_table.c.topic).where(hearing_table.c.chat_id == chat_id)).scalars())


def hear(connection: Connection, chat_id: int, topic: str, on: bool) -> None:
    """Let a room hear a topic, or no longer."""
    mine = (hearing_table.c.chat_id == chat_id, hearing_table.c.topic == topic)
    connection.execute(delete(hearing_table).where(*mine))
    if on:
        connection.execute(insert(hearing_table), {"chat_id": chat_id, "topic": topic})


def hearing(connection: Connection, topics: Sequence[str]) -> list[int]:
    """The rooms that hear one of these topics."""
    query = select(hearing_table.c.chat_id).where(hearing_table.c.topic.in_(list(topics))).distinct()
    return list(connection.execute(query.order_by(hearing_table.c.chat_id)).scalars())
