"""What was said: chats, dialogs, updates seen.

The frame of a turn runs on every message, so it is written in Core with statements made once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Index,
    PrimaryKeyConstraint,
    ScalarSelect,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    false,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, SQLModel

from storage.people import Account, Person

KEEP_SEEN = timedelta(days=3)
"""How long the ids of updates are remembered; messengers repeat an update for at most a day."""

KEEP_FAILED = timedelta(days=30)
"""How long an update that could not be handled is kept for an operator to look at."""

KEEP_DIALOG = timedelta(days=30)
"""How long an open question waits for its answer."""


def table_of(model: type[SQLModel]) -> Table:
    """The Core table of a model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def partial(condition: str) -> dict[str, Any]:
    """Index only the rows for which ``condition`` holds, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Chat(SQLModel, table=True):
    """A conversation on a messenger.

    ``account_id`` is its person's account when it is private; a private chat without one belonged to somebody
    who has erased themselves, and goes as soon as their goodbye is delivered. ``latest`` marks the private chat
    its person has used last: there they are told what they have not asked for. ``mirrors`` is set where polls shall
    stand as the messenger's own, too. ``name`` is what a group is called in the lab's lists, once somebody who sets it
    up has chosen it.
    """

    __table_args__ = (
        UniqueConstraint("adapter", "external"),
        Index("ix_chat_team", "id", **partial("team")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    adapter: str
    external: str
    private: bool
    account_id: int | None = Field(default=None, foreign_key="account.id", index=True)
    locale: str
    active: bool = True
    team: bool = False
    latest: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    thread: str | None = None
    mirrors: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    name: str | None = None
    created_at: datetime


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
chat_table = table_of(Chat)
dialog_table = table_of(Dialog)
received_table = table_of(Received)
cursor_table = table_of(Cursor)
failed_table = table_of(Failed)


def insert_or_nothing(connection: Connection, table: Any) -> Any:
    """``INSERT … ON CONFLICT DO NOTHING`` in the database's own dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


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


def open_chat(
    connection: Connection,
    adapter: str,
    external: str,
    *,
    private: bool,
    locale: str,
    account_id: int | None,
    now: datetime,
) -> None:
    """Remember a chat that has not been seen before."""
    connection.execute(
        insert_or_nothing(connection, chat_table),
        {
            "adapter": adapter,
            "external": external,
            "private": private,
            "account_id": account_id,
            "locale": locale,
            "active": True,
            "team": False,
            "latest": False,
            "created_at": now,
        },
    )


_OWNER = update(chat_table).where(chat_table.c.id == bindparam("chat")).values(account_id=bindparam("b_account"))


def set_owner(connection: Connection, chat_id: int, account_id: int | None) -> None:
    """Whose private chat this is; ``None`` once they have erased themselves."""
    connection.execute(_OWNER, {"chat": chat_id, "b_account": account_id})


def open_up(connection: Connection, chat_id: int) -> None:
    """A private chat has become a group: what is for one person must not be told there any more."""
    connection.execute(update(chat_table).where(chat_table.c.id == chat_id).values(private=False, account_id=None))
    for column in _references_to_chat():
        if column.table.info.get("ends_when_opened"):
            connection.execute(delete(column.table).where(column == chat_id))


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


_LATEST = (
    update(chat_table)
    .where(chat_table.c.account_id.in_(select(_account.c.id).where(_account.c.person_id == bindparam("person"))))
    .values(latest=chat_table.c.id == bindparam("chat"))
)


def set_latest(connection: Connection, chat_id: int, person_id: int) -> None:
    """Of a person's private chats, this one has been used last."""
    connection.execute(_LATEST, {"chat": chat_id, "person": person_id})


_ACTIVE = update(chat_table).where(chat_table.c.id == bindparam("chat")).values(active=bindparam("b_active"))


def set_active(connection: Connection, chat_id: int, active: bool) -> None:
    """Note whether a chat can be written to."""
    connection.execute(_ACTIVE, {"chat": chat_id, "b_active": active})


def move_chat(connection: Connection, adapter: str, old: str, new: str) -> None:
    """A chat goes on under another id: everything stored for it follows, in this transaction.

    Messages may have arrived under the new id already; then that newcomer is merged into the old chat.
    """
    ids = dict(
        connection.execute(
            select(chat_table.c.external, chat_table.c.id).where(
                chat_table.c.adapter == adapter, chat_table.c.external.in_([old, new])
            )
        ).all()
    )
    if old not in ids:
        return
    if new in ids:
        for column in _references_to_chat():
            newcomer = column == ids[new]
            for other in _once_a_chat(column):  # what both chats have is the old one's
                twice = select(other).where(column == ids[old])
                connection.execute(delete(column.table).where(newcomer, other.in_(twice)))
            connection.execute(update(column.table).where(newcomer).values({column: ids[old]}))
        connection.execute(delete(chat_table).where(chat_table.c.id == ids[new]))
    connection.execute(update(chat_table).where(chat_table.c.id == ids[old]).values(external=new, active=True))


def _references_to_chat() -> Iterator[Any]:
    """Every column that refers to a chat."""
    for table in SQLModel.metadata.sorted_tables:
        yield from (key.parent for key in table.foreign_keys if key.column is chat_table.c.id)


def _once_a_chat(reference: Any) -> Iterator[Any]:
    """The columns whose values a chat can have only once, like the person of an open question."""
    keys = [key for key in reference.table.constraints if isinstance(key, PrimaryKeyConstraint | UniqueConstraint)]
    for key in keys:
        if reference in list(key.columns) and len(key.columns) == 2:
            yield from (column for column in key.columns if column is not reference)


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


# -- other chats --------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where to say something: the chat on its messenger, and its language."""

    adapter: str
    external: str
    thread: str | None
    locale: str
    active: bool


_PLACE = select(
    chat_table.c.adapter, chat_table.c.external, chat_table.c.thread, chat_table.c.locale, chat_table.c.active
).where(chat_table.c.id == bindparam("chat"))


def place(connection: Connection, chat_id: int) -> Place | None:
    """Where a chat is."""
    row = connection.execute(_PLACE, {"chat": chat_id}).first()
    return None if row is None else Place(*row)


def places(connection: Connection, chats: Iterable[int]) -> list[tuple[int, Place]]:
    """Where some chats are."""
    query = select(chat_table.c.id, *_PLACE.selected_columns).where(chat_table.c.id.in_(list(chats)))
    return [(chat_id, Place(*rest)) for chat_id, *rest in connection.execute(query.order_by(chat_table.c.id))]


def private_chats(
    connection: Connection, people: Iterable[int], adapters: Iterable[str]
) -> Iterator[tuple[int, Place]]:
    """Where these people can be told something on one of these messengers: one chat each, on the account they prefer,
    else the one they used last.

    Those who have stopped or are gone are left out.
    """
    wanted, reached = list(people), set(adapters)
    for start in range(0, len(wanted), _PAGE):
        told: set[int] = set()
        rows = connection.execute(_PRIVATE, {"people": wanted[start : start + _PAGE]}).all()
        for chat_id, person_id, adapter, *rest in rows:
            # Not a part of the query: SQLite would go through all chats of a messenger.
            if person_id not in told and adapter in reached:
                told.add(person_id)
                yield chat_id, Place(adapter, *rest)


def chats_of(connection: Connection, account_id: int) -> list[int]:
    """The private chats of an account."""
    return list(connection.execute(select(chat_table.c.id).where(chat_table.c.account_id == account_id)).scalars())


def home_of(person: Any, adapters: Iterable[str]) -> ScalarSelect[int]:
    """The id of the one private chat, on one of these messengers, in which a person (a column) is told things, as a
    part of a query.
    """
    # As an expression, or SQLite would go through all chats of a messenger.
    adapter = chat_table.c.adapter.concat("")
    return (
        select(chat_table.c.id)
        .join(_account, _account.c.id == chat_table.c.account_id)
        .where(_account.c.person_id == person, chat_table.c.private, chat_table.c.active, adapter.in_(list(adapters)))
        .order_by(*_HOME_FIRST)
        .limit(1)
        .correlate_except(chat_table, _account)
        .scalar_subquery()
    )


def home(connection: Connection, person_id: int, adapters: Iterable[str]) -> int | None:
    """The same chat for one person, also for one who wants to hear nothing: for what they have asked for themselves."""
    found: int | None = connection.execute(select(home_of(person_id, adapters))).scalar_one()
    return found


_PAGE = 500
_HOME_FIRST = (_account.c.preferred.desc(), chat_table.c.latest.desc(), chat_table.c.id.desc())
"""Where a person is told things: on the account they prefer, else where they were last."""
_PRIVATE = (
    select(
        chat_table.c.id,
        _person.c.id,
        chat_table.c.adapter,
        chat_table.c.external,
        chat_table.c.thread,
        chat_table.c.locale,
        chat_table.c.active,
    )
    .join(_account, _account.c.id == chat_table.c.account_id)
    .join(_person, _person.c.id == _account.c.person_id)
    .where(_person.c.id.in_(bindparam("people", expanding=True)), _person.c.stopped_at.is_(None), chat_table.c.active)
    .order_by(*_HOME_FIRST)
)


def team_chats(connection: Connection) -> list[int]:
    """The rooms of the lab's team."""
    query = select(chat_table.c.id).where(chat_table.c.team, chat_table.c.active)
    return list(connection.execute(query.order_by(chat_table.c.id)).scalars())
