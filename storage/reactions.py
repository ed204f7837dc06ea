"""Presses that stay to be seen and can be taken back, as reactions can: what each of them meant."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete
from sqlmodel import Field, SQLModel

from storage.engine import insert_or_nothing, table_of

KEEP = timedelta(days=365)
"""How long a reaction can be taken back: as long as choices can be pressed."""


class Reaction(SQLModel, table=True):
    """A reaction under a message of ours, what it has done, and what undoes that."""

    chat_id: int = Field(foreign_key="chat.id", primary_key=True)
    external: str = Field(primary_key=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    message: str
    undo: str
    args: str
    at: datetime = Field(index=True)


reaction_table = table_of(Reaction)


def note(
    connection: Connection,
    chat_id: int,
    external: str,
    person_id: int,
    message: str,
    undo: str,
    args: Sequence[str],
    now: datetime,
) -> None:
    """Remember what undoes a reaction that the messenger calls ``external``, under our ``message``."""
    connection.execute(
        insert_or_nothing(connection, reaction_table),
        {
            "chat_id": chat_id,
            "external": external,
            "person_id": person_id,
            "message": message,
            "undo": undo,
            "args": json.dumps(list(args), ensure_ascii=False),
            "at": now,
        },
    )


def take_back(connection: Connection, chat_id: int, external: str, person_id: int) -> tuple[str, str, list[str]] | None:
    """Forget a reaction of this person's: our message, the action that undoes it, and that action's arguments."""
    row = connection.execute(
        delete(reaction_table)
        .where(
            reaction_table.c.chat_id == chat_id,
            reaction_table.c.external == external,
            reaction_table.c.person_id == person_id,
        )
        .returning(reaction_table.c.message, reaction_table.c.undo, reaction_table.c.args)
    ).first()
    return None if row is None else (row.message, row.undo, json.loads(row.args))


def prune(connection: Connection, now: datetime) -> None:
    """Forget reactions that are too old to be taken back."""
    connection.execute(delete(reaction_table).where(reaction_table.c.at < now - KEEP))
