"""What was said: open questions, updates seen, and what a turn begins with.

The frame of a turn runs on every message, so it is written in Core with statements made once.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, SQLModel

from storage.chats import chat_table, open_chat
from storage.engine import table_of
from storage.people import Account, Person

KEEP_SEEN = timedelta(days=3)
"""How long the ids of updates are remembered; messengers repeat an update for at most a day."""

KEEP_FAILED = timedelta(days=30)
"""How long an update that could not be handled is kept for an operator to look at."""

KEEP_DIALOG = timedelta(days=30)
"""How long an open question waits for its answer."""


class Dialog(SQLModel, table=True):
    """An open question to one person in one chat, and what they have answered so far."""

    chat_id: int = Field(foreign_key="chat.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True, index=True)
    step: str
    data: str = "{}"
    asked_at: datetime


class Received(SQLModel, table=True):
    """The id of an update that has been handled: it is never handled twice."""

    adapter: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    at: datetime = Field(index=True)


class Cursor(SQLModel, table=True):
    """How far a messenger has been read."""

    adapter: str = Field(primary_key=True)
    value: str


class Failed(SQLModel, table=True):
    """An update that could not be read or handled, as it came. It is kept for an operator, then removed."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    adapter: str
    key: str
    person_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    raw: str
    error: str
    at: datetime = Field(index=True)


_person = table_of(Person)
_account = table_of(Account)
dialog_table = table_of(Dialog)
received_table = table_of(Received)
cursor_table = table_of(Cursor)
failed_table = table_of(Failed)


# -- the frame of a turn ------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """Where an update belongs: its chat, its person and the question open between them.

    ``account_id`` is the actor's account, ``owner`` the one whose private chat this is.
    """

    chat_id: int
    locale: str
    active: bool
    private: bool
    team: bool
    latest: bool
    thread: str | None
    person_id: int | None
    account_id: int | None
    owner: int | None
    pseudonym: str | None
    role: str | None
    notice: int | None
    stopped_at: datetime | None
    step: str | None
    data: str | None


_FRAME = (
    select(
        chat_table.c.id,
        chat_table.c.locale,
        chat_table.c.active,
        chat_table.c.private,
        chat_table.c.team,
        chat_table.c.latest,
        chat_table.c.thread,
        _person.c.id,
        _account.c.id,
        chat_table.c.account_id,
        _person.c.pseudonym,
        _person.c.role,
        _person.c.notice,
        _person.c.stopped_at,
        dialog_table.c.step,
        dialog_table.c.data,
    )
    .select_from(
        chat_table.outerjoin(
            _account,
            and_(_account.c.adapter == bindparam("adapter"), _account.c.external == bindparam("actor")),
        )
        .outerjoin(_person, _person.c.id == _account.c.person_id)
        .outerjoin(
            dialog_table,
            and_(dialog_table.c.chat_id == chat_table.c.id, dialog_table.c.person_id == _person.c.id),
        )
    )
    .where(chat_table.c.adapter == bindparam("adapter"), chat_table.c.external == bindparam("chat"))
)

_SEEN = select(received_table.c.key).where(
    received_table.c.adapter == bindparam("adapter"), received_table.c.key.in_(bindparam("keys", expanding=True))
)
_NOTE_SEEN = insert(received_table)


def unseen(connection: Connection, adapter: str, keys: Sequence[str], now: datetime) -> set[str]:
    """Which of these updates have not been handled yet. From now on they count as handled."""
    before = set(connection.execute(_SEEN, {"adapter": adapter, "keys": list(keys)}).scalars())
    new = set(keys) - before
    if new:
        connection.execute(_NOTE_SEEN, [{"adapter": adapter, "key": key, "at": now} for key in new])
    return new


def frame(connection: Connection, adapter: str, chat: str, actor: str) -> Frame | None:
    """Find chat, person and dialog at once; ``None`` when the chat is new."""
    row = connection.execute(_FRAME, {"adapter": adapter, "chat": chat, "actor": actor}).first()
    return None if row is None else Frame._make(row)


class Private(NamedTuple):
    """Somebody's private chat, and the question open in it."""

    chat_id: int
    external: str
    locale: str
    step: str | None
    data: str | None


def begin_private(connection: Connection, adapter: str, actor: str, *, locale: str, now: datetime) -> Private:
    """The private chat of an account; without one a chat is noted whose id is the account's, until it begins."""
    query = (
        select(chat_table.c.id, chat_table.c.external, chat_table.c.locale, dialog_table.c.step, dialog_table.c.data)
        .join(_account, _account.c.id == chat_table.c.account_id)
        .outerjoin(
            dialog_table,
            and_(dialog_table.c.chat_id == chat_table.c.id, dialog_table.c.person_id == _account.c.person_id),
        )
        .where(_account.c.adapter == adapter, _account.c.external == actor, chat_table.c.private, chat_table.c.active)
        .order_by(chat_table.c.latest.desc(), chat_table.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        account = connection.execute(
            select(_account.c.id).where(_account.c.adapter == adapter, _account.c.external == actor)
        ).scalar_one()
        open_chat(connection, adapter, actor, private=True, locale=locale, account_id=account, now=now)
        connection.execute(
            update(chat_table)
            .where(chat_table.c.adapter == adapter, chat_table.c.external == actor)
            .values(active=True, account_id=account)
        )
        row = connection.execute(query).one()
    return Private(*row)


def _open_dialog(dialect: Any) -> Any:
    statement = dialect.insert(dialog_table)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["chat_id", "person_id"],
        set_={"step": new.step, "data": new.data, "asked_at": new.asked_at},
    )


_OPEN_DIALOG = {"sqlite": _open_dialog(sqlite), "postgresql": _open_dialog(postgresql)}

_CLOSE_DIALOG = delete(dialog_table).where(
    dialog_table.c.chat_id == bindparam("chat"), dialog_table.c.person_id == bindparam("person")
)


def open_dialog(
    connection: Connection, chat_id: int, person_id: int, step: str, data: Mapping[str, Any], now: datetime
) -> None:
    """Wait for this person's answer in this chat, in place of any other open question."""
    connection.execute(
        _OPEN_DIALOG[connection.dialect.name],
        {
            "chat_id": chat_id,
            "person_id": person_id,
            "step": step,
            "data": json.dumps(data, ensure_ascii=False),
            "asked_at": now,
        },
    )


def close_dialog(connection: Connection, chat_id: int, person_id: int) -> None:
    """Wait no longer."""
    connection.execute(_CLOSE_DIALOG, {"chat": chat_id, "person": person_id})


def close_dialogs(connection: Connection, step: str, data: str) -> None:
    """Nobody waits for answers to a step any more, where what has been gathered begins so."""
    mine = (dialog_table.c.step == step) & dialog_table.c.data.startswith(data, autoescape=True)
    connection.execute(delete(dialog_table).where(mine))


# -- the cursor, and updates that failed --------------------------------------------------------------------


def cursor(connection: Connection, adapter: str) -> str | None:
    """How far this messenger has been read."""
    return connection.execute(
        select(cursor_table.c.value).where(cursor_table.c.adapter == adapter)
    ).scalar_one_or_none()


def set_cursor(connection: Connection, adapter: str, value: str) -> None:
    """Note how far this messenger has been read, in the transaction of what was read."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(cursor_table)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["adapter"], set_={"value": statement.excluded.value}),
        {"adapter": adapter, "value": value},
    )


def keep_failed(
    connection: Connection, adapter: str, key: str, person_id: int | None, raw: str, error: str, now: datetime
) -> None:
    """Keep an update that could not be read or handled."""
    # Both may hold what no database takes: a NUL, half of a surrogate pair.
    raw, error = (words.replace("\0", "").encode(errors="replace").decode() for words in (raw, error))
    connection.execute(
        insert(failed_table),
        {"adapter": adapter, "key": key, "person_id": person_id, "raw": raw, "error": error, "at": now},
    )


def prune(connection: Connection, now: datetime) -> None:
    """Forget the ids of old updates, old failures, and questions nobody answered."""
    connection.execute(delete(received_table).where(received_table.c.at < now - KEEP_SEEN))
    connection.execute(delete(failed_table).where(failed_table.c.at < now - KEEP_FAILED))
    connection.execute(delete(dialog_table).where(dialog_table.c.asked_at < now - KEEP_DIALOG))
