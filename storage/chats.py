"""Chats: conversations on a messenger, whose they are, and where a person is told things."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Index,
    PrimaryKeyConstraint,
    ScalarSelect,
    UniqueConstraint,
    bindparam,
    delete,
    false,
    select,
    update,
)
from sqlmodel import Field, SQLModel

from storage.engine import insert_or_nothing, partial, table_of
from storage.people import Account, Person


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


_person = table_of(Person)
_account = table_of(Account)
chat_table = table_of(Chat)


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


# -- where to say something ----------------------------------------------------------------------------------


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


def team_chats(connection: Connection) -> list[int]:
    """The rooms of the lab's team."""
    query = select(chat_table.c.id).where(chat_table.c.team, chat_table.c.active)
    return list(connection.execute(query.order_by(chat_table.c.id)).scalars())
