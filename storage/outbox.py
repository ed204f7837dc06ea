"""What is still to be said: messages as they shall look, how far that is true, and the choices under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Index, bindparam, case, delete, exists, func, insert, select, text, update
from sqlmodel import Field, SQLModel

from storage.chats import chat_table, set_active
from storage.engine import partial, table_of
from storage.people import Account

PENDING, DELIVERED, UNDELIVERABLE, UNSURE = "pending", "delivered", "undeliverable", "unsure"

KEEP_DELIVERED = timedelta(days=7)
"""How long a delivered message is remembered that nobody can press, answer or change any more."""

KEEP_CHOICES = timedelta(days=365)
"""How long the buttons of a delivered message work, and what has a subject can be answered and changed."""


class Outbox(SQLModel, table=True):
    """A message of ours as it shall look, and how far that is true on the messenger.

    ``version`` counts what we wanted to show; a delivery ends the row only if that has not changed meanwhile, so
    many changes are delivered as one. ``external`` is the messenger's id of it: without one it is sent, with one
    it is edited, and with one but no ``html`` it is taken away. ``mentions`` says which people it names when it is
    sent, not who they are. ``poll`` is how many of its choices can be chosen in the messenger's own poll that it is;
    without choices that is over, since ``queued_at``. Once delivered, its words are forgotten; its choices stay as
    long as they can be pressed.
    """

    __table_args__ = (
        Index("ix_outbox_pending", "adapter", "bulk", "id", **partial("state = 'pending'")),
        Index("ix_outbox_trouble", "adapter", "state", **partial("state IN ('undeliverable', 'unsure')")),
        Index("ix_outbox_external", "chat_id", "external", **partial("external IS NOT NULL")),
        Index("ix_outbox_choices", "chat_id", "id", **partial("choices IS NOT NULL")),
        Index("ix_outbox_subject", "subject", "chat_id", **partial("subject IS NOT NULL")),
        Index("ix_outbox_person", "person_id", **partial("person_id IS NOT NULL")),
        Index("ix_outbox_queued_at", "queued_at"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    chat_id: int = Field(foreign_key="chat.id")
    adapter: str
    bulk: bool = False
    thread: str | None = None
    reply_to: str | None = None
    question: bool = False
    person_id: int | None = Field(default=None, foreign_key="person.id")
    html: str | None = None
    choices: str | None = None
    revision: int = 0
    attachment: str | None = None
    mentions: str | None = None
    subject: str | None = None
    poll: int | None = None
    version: int = 1
    external: str | None = None
    state: str = PENDING
    unsure: int = 0
    error: str | None = None
    queued_at: datetime


class Uploaded(SQLModel, table=True):
    """What a messenger calls a file that was sent on it before; ``file`` names the file in an attachment's words."""

    adapter: str = Field(primary_key=True)
    file: str = Field(primary_key=True)
    sent_as: str
    at: datetime = Field(index=True)


outbox_table = table_of(Outbox)
uploaded_table = table_of(Uploaded)
account_table = table_of(Account)


# -- choices on the screen ----------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A message of ours with choices: what each means, and whom it asks (``None``: everybody there).

    ``poll`` is set when it is the messenger's own poll: one without choices has been over since ``wanted_at``.
    """

    id: int
    choices: str | None
    revision: int
    person_id: int | None
    subject: str | None
    poll: int | None
    wanted_at: datetime


_SHOWN = select(
    outbox_table.c.id,
    outbox_table.c.choices,
    outbox_table.c.revision,
    outbox_table.c.person_id,
    outbox_table.c.subject,
    outbox_table.c.poll,
    outbox_table.c.queued_at,
)
_SHOWN_AS = _SHOWN.where(outbox_table.c.chat_id == bindparam("chat"), outbox_table.c.external == bindparam("external"))
_SHOWN_LAST = (
    _SHOWN.where(outbox_table.c.chat_id == bindparam("chat"), outbox_table.c.choices.is_not(None))
    .order_by(outbox_table.c.id.desc())
    .limit(1)
)
_SAID_LAST = _SHOWN_LAST.where(outbox_table.c.bulk.is_(False))


def shown(connection: Connection, chat_id: int, external: str) -> Shown | None:
    """Our message that the messenger calls ``external``."""
    row = connection.execute(_SHOWN_AS, {"chat": chat_id, "external": external}).first()
    return None if row is None else Shown(*row)


def shown_last(connection: Connection, chat_id: int, asked: bool = False) -> Shown | None:
    """Our newest message with choices in a chat: a typed number means its choices.

    While a question is open (``asked``), news that came in between do not take its place.
    """
    row = connection.execute(_SAID_LAST if asked else _SHOWN_LAST, {"chat": chat_id}).first()
    return None if row is None else Shown(*row)


_NOT_OVER = outbox_table.c.poll.is_(None) | outbox_table.c.choices.is_not(None)
"""A poll of the messenger's own that is over stays as it is: it can be ended once."""


def copies(connection: Connection, subject: str, chat_id: int) -> Sequence[tuple[int, str, str]]:
    """Our messages that show a subject in a chat: their id, its messenger and its locale."""
    query = (
        select(outbox_table.c.id, outbox_table.c.adapter, chat_table.c.locale)
        .join(chat_table, chat_table.c.id == outbox_table.c.chat_id)
        .where(outbox_table.c.subject == subject, outbox_table.c.chat_id == chat_id, chat_table.c.active, _NOT_OVER)
    )
    return [(row, adapter, locale) for row, adapter, locale in connection.execute(query)]


class Copy(NamedTuple):
    """One of our messages that show a subject, and where it stands."""

    row: int
    adapter: str
    locale: str
    private: bool


def everywhere(connection: Connection, subject: str, most: int) -> list[Copy]:
    """Our messages that show a subject in any chat: those in groups, then the newest in private chats."""
    query = (
        select(outbox_table.c.id, outbox_table.c.adapter, chat_table.c.locale, chat_table.c.private)
        .join(chat_table, chat_table.c.id == outbox_table.c.chat_id)
        .where(outbox_table.c.subject == subject, chat_table.c.active, _NOT_OVER)
        .order_by(chat_table.c.private, outbox_table.c.id.desc())
        .limit(most)
    )
    return [Copy(*row) for row in connection.execute(query)]


def forget(connection: Connection, subject: str) -> None:
    """Nothing is to tell how messages that show a subject have been used: how often they changed, what came between.

    Those with choices stay, without them, as if they had never changed; the others go. What is on its way is left.
    """
    over = (outbox_table.c.subject == subject) & (outbox_table.c.state != PENDING)
    connection.execute(delete(outbox_table).where(over, outbox_table.c.choices.is_(None)))
    connection.execute(update(outbox_table).where(over).values(choices="[]", version=1, revision=0))


def showing(connection: Connection, subject: str, after: int = 0, most: int = 1000) -> Sequence[tuple[int, int | None]]:
    """The chats in which our messages show a subject, by keyset over their ids, and whose they are if private."""
    query = (
        select(outbox_table.c.chat_id, account_table.c.person_id)
        .join(chat_table, chat_table.c.id == outbox_table.c.chat_id)
        .outerjoin(account_table, account_table.c.id == chat_table.c.account_id)
        .where(outbox_table.c.subject == subject, outbox_table.c.chat_id > after, chat_table.c.active)
        .distinct()
        .order_by(outbox_table.c.chat_id)
        .limit(most)
    )
    return [(chat_id, person_id) for chat_id, person_id in connection.execute(query)]


def rooms_showing(connection: Connection, *subjects: str) -> list[int]:
    """The groups in which our messages show one of these subjects, however many people look at it in private."""
    shows = exists().where(outbox_table.c.subject.in_(subjects), outbox_table.c.chat_id == chat_table.c.id)
    rooms = select(chat_table.c.id).where(chat_table.c.private.is_(False), chat_table.c.active, shows)
    return list(connection.execute(rooms.order_by(chat_table.c.id)).scalars())


# -- the outbox ---------------------------------------------------------------------------------------------

_NEW = insert(outbox_table)


_NEW_IDS = insert(outbox_table).returning(outbox_table.c.id, sort_by_parameter_order=True)


def queue_and_name(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Messages to be sent, and their ids in the same order."""
    return list(connection.execute(_NEW_IDS, rows).scalars())


def queue_messages(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Messages to be sent; all rows have the same keys."""
    connection.execute(_NEW, rows)


_REVISE = (
    update(outbox_table)
    .where(outbox_table.c.id == bindparam("b_row"), text("outbox.state IN ('pending', 'delivered')"))
    .values(
        html=bindparam("b_html"),
        choices=bindparam("b_choices"),
        # A press made on the choices before must not be taken for one of these.
        revision=case(
            (outbox_table.c.choices.is_not_distinct_from(bindparam("b_choices")), outbox_table.c.revision),
            else_=outbox_table.c.revision + 1,
        ),
        version=outbox_table.c.version + 1,
        state=PENDING,
        queued_at=bindparam("b_now"),
    )
)


def revise(connection: Connection, row: int, html: str | None, choices: str | None, now: datetime) -> None:
    """A message shall look otherwise from now on; without ``html`` it shall go away."""
    connection.execute(_REVISE, {"b_row": row, "b_html": html, "b_choices": choices, "b_now": now})


def revise_all(connection: Connection, wanted: Sequence[tuple[int, str | None, str | None]], now: datetime) -> None:
    """Many messages shall look otherwise: the row, the words and the choices of each."""
    if wanted:
        rows = [{"b_row": row, "b_html": html, "b_choices": choices, "b_now": now} for row, html, choices in wanted]
        connection.execute(_REVISE, rows)


def end_poll(connection: Connection, row: int, at: datetime) -> None:
    """The messenger's own poll that a message is has been ended there; of several ends the earliest counts."""
    earlier = outbox_table.c.choices.is_not(None) | (outbox_table.c.queued_at > at)
    ended = update(outbox_table).where(outbox_table.c.id == row, earlier)
    connection.execute(ended.values(choices=None, queued_at=at))


def take_back_news(connection: Connection, chats: Any) -> None:
    """What was to be told to many and has not been sent shall not arrive any more in these chats (ids, or a query)."""
    connection.execute(
        update(outbox_table)
        .where(
            outbox_table.c.chat_id.in_(chats),
            outbox_table.c.bulk,
            outbox_table.c.state == PENDING,
            outbox_table.c.external.is_(None),
        )
        .values(html=None, choices=None, version=outbox_table.c.version + 1)
    )


class Due(NamedTuple):
    """A message to be delivered now: everything the messenger needs, in the row's own words.

    ``recipient`` is the messenger's id of the account whose private chat it is.
    """

    id: int
    chat_id: int
    chat: str
    private: bool
    recipient: str | None
    thread: str | None
    bulk: bool
    reply_to: str | None
    question: bool
    html: str | None
    choices: str | None
    revision: int
    attachment: str | None
    mentions: str | None
    poll: int | None
    version: int
    external: str | None
    unsure: int
    queued_at: datetime


_DUE = (
    select(
        outbox_table.c.id,
        outbox_table.c.chat_id,
        chat_table.c.external,
        chat_table.c.private,
        account_table.c.external,
        outbox_table.c.thread,
        outbox_table.c.bulk,
        outbox_table.c.reply_to,
        outbox_table.c.question,
        outbox_table.c.html,
        outbox_table.c.choices,
        outbox_table.c.revision,
        outbox_table.c.attachment,
        outbox_table.c.mentions,
        outbox_table.c.poll,
        outbox_table.c.version,
        outbox_table.c.external,
        outbox_table.c.unsure,
        outbox_table.c.queued_at,
    )
    .join(chat_table, chat_table.c.id == outbox_table.c.chat_id)
    .outerjoin(account_table, account_table.c.id == chat_table.c.account_id)
    .where(
        outbox_table.c.adapter == bindparam("adapter"),
        outbox_table.c.bulk == bindparam("bulk"),
        outbox_table.c.state == text("'pending'"),
        outbox_table.c.chat_id.not_in(bindparam("busy", expanding=True)),
    )
    .order_by(outbox_table.c.id)
    .limit(bindparam("most"))
)


def due(connection: Connection, adapter: str, bulk: bool, busy: Sequence[int], most: int) -> list[Due]:
    """The oldest messages waiting for chats that are not ``busy``."""
    values = {"adapter": adapter, "bulk": bulk, "busy": list(busy), "most": most}
    return [Due._make(row) for row in connection.execute(_DUE, values)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one delivery ended. ``external`` is the messenger's id of the message, once it has one."""

    id: int
    version: int
    state: str
    external: str | None = None
    error: str | None = None
    unsure: int = 0


_MARK = (
    update(outbox_table)
    .where(outbox_table.c.id == bindparam("b_row"))
    .values(
        external=func.coalesce(bindparam("b_external"), outbox_table.c.external),
        unsure=bindparam("b_unsure"),
        error=bindparam("b_error"),
        state=case(
            # Its chat has gone while it was under way: that it is to be tried again no longer counts.
            (
                (outbox_table.c.state != text("'pending'")) & (bindparam("b_state") != text("'delivered'")),
                outbox_table.c.state,
            ),
            # Wanted otherwise while it was under way: it is due again.
            (outbox_table.c.version != bindparam("b_version"), text("'pending'")),
            else_=bindparam("b_state"),
        ),
        html=case(
            (
                (outbox_table.c.version == bindparam("b_version")) & (bindparam("b_state") != text("'pending'")),
                None,
            ),
            else_=outbox_table.c.html,
        ),
    )
)


def mark(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Note how deliveries ended. The words of what is over are forgotten."""
    connection.execute(_MARK, [_values(outcome) for outcome in outcomes])


def _values(outcome: Outcome) -> dict[str, Any]:
    return {
        "b_row": outcome.id,
        "b_version": outcome.version,
        "b_state": outcome.state,
        "b_external": outcome.external,
        "b_error": outcome.error,
        "b_unsure": outcome.unsure,
    }


def chat_is_gone(connection: Connection, chat_id: int, reason: str) -> None:
    """Nothing can be written there any more: what waited for it ends with it."""
    set_active(connection, chat_id, False)
    drop_waiting(connection, chat_id, reason)


def drop_waiting(connection: Connection, chat_id: int, reason: str) -> None:
    """What waits for a chat shall not be told there any more."""
    connection.execute(
        update(outbox_table)
        .where(outbox_table.c.chat_id == chat_id, outbox_table.c.state == PENDING)
        .values(state=UNDELIVERABLE, error=reason, html=None)
    )


def count(connection: Connection) -> Mapping[tuple[str, str], int]:
    """How many messages there are by adapter and state, but the delivered ones."""
    rows = connection.execute(
        select(outbox_table.c.adapter, outbox_table.c.state, func.count())
        .where(outbox_table.c.state.in_([PENDING, UNDELIVERABLE, UNSURE]))
        .group_by(outbox_table.c.adapter, outbox_table.c.state)
    )
    return {(adapter, state): number for adapter, state, number in rows}


def close_left_chats(connection: Connection) -> None:
    """Remove the private chats of people who have erased themselves, once their goodbye is delivered."""
    waiting = select(outbox_table.c.chat_id).where(outbox_table.c.state == PENDING)
    left = chat_table.c.private & chat_table.c.account_id.is_(None)
    over = list(connection.execute(select(chat_table.c.id).where(left, chat_table.c.id.not_in(waiting))).scalars())
    if over:
        connection.execute(delete(outbox_table).where(outbox_table.c.chat_id.in_(over)))
        connection.execute(delete(chat_table).where(chat_table.c.id.in_(over)))


def prune(connection: Connection, now: datetime) -> None:
    """Forget delivered messages that nobody needs any more."""
    over = outbox_table.c.state != PENDING
    connection.execute(
        delete(outbox_table).where(
            over,
            outbox_table.c.choices.is_(None),
            outbox_table.c.subject.is_(None),
            outbox_table.c.queued_at < now - KEEP_DELIVERED,
        )
    )
    connection.execute(delete(outbox_table).where(over, outbox_table.c.queued_at < now - KEEP_CHOICES))
    connection.execute(delete(uploaded_table).where(uploaded_table.c.at < now - KEEP_CHOICES))


# -- files that are sent more than once ------------------------------------------------------------------------


def sent_as(connection: Connection, adapter: str, file: str) -> str | None:
    """What a messenger calls a file that was sent on it before."""
    query = select(uploaded_table.c.sent_as).where(uploaded_table.c.adapter == adapter, uploaded_table.c.file == file)
    return connection.execute(query).scalar_one_or_none()


def remember_upload(connection: Connection, adapter: str, file: str, name: str, now: datetime) -> None:
    """From now on this file need not be uploaded to this messenger again."""
    connection.execute(delete(uploaded_table).where(uploaded_table.c.adapter == adapter, uploaded_table.c.file == file))
    connection.execute(insert(uploaded_table), {"adapter": adapter, "file": file, "sent_as": name, "at": now})
