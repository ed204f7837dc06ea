"""What the bot remembers. Importing it names every table, which migrations and tests rely on."""

from sqlmodel import SQLModel

# Constraints need names before any table is made: Alembic finds them by name on every database.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

from storage import (  # noqa: E402
    announcements,
    chats,
    conversation,
    erasure,
    events,
    ideas,
    linking,
    outbox,
    people,
    polls,
    reactions,
    rooms,
)

__all__ = [
    "announcements",
    "chats",
    "conversation",
    "erasure",
    "events",
    "ideas",
    "linking",
    "outbox",
    "people",
    "polls",
    "reactions",
    "rooms",
]
