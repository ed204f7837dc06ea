"""Two accounts become one person: what they hear, have been sent, have asked and have written is one person's."""

from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update

from storage.announcements.asking import Question
from storage.announcements.ledger import HELD, WAITING, WITHDRAWN, delivery_table
from storage.announcements.subscribing import QuietHours, Subscription
from storage.announcements.writing import announcement_table
from storage.conversation import table_of


def merge(connection: Connection, gone: int, kept: int, _now: datetime) -> None:
    """The rows of the person ``gone`` become those of ``kept``.

    What ``kept`` has said about a topic or their quiet hours stands. Of an announcement that both were to get, the
    copy that has not been handed over yet is not sent.
    """
    subscription, quiet = table_of(Subscription), table_of(QuietHours)
    said = select(subscription.c.topic).where(subscription.c.person_id == kept)
    connection.execute(delete(subscription).where(subscription.c.person_id == gone, subscription.c.topic.in_(said)))
    has = select(quiet.c.person_id).where(quiet.c.person_id == kept)
    connection.execute(delete(quiet).where(quiet.c.person_id == gone, has.exists()))
    _once(connection, gone, kept)
    columns = (
        subscription.c.person_id,
        quiet.c.person_id,
        delivery_table.c.person_id,
        table_of(Question).c.person_id,
        announcement_table.c.author_id,
        announcement_table.c.second_id,
    )
    for column in columns:
        connection.execute(update(column.table).where(column == gone).values({column: kept}))


def _once(connection: Connection, gone: int, kept: int) -> None:
    """Whoever would get an announcement twice now gets it once."""
    copies = delivery_table.c
    both = (
        select(copies.announcement_id)
        .where(copies.person_id.in_([gone, kept]))
        .group_by(copies.announcement_id)
        .having(func.count() > 1)
    )
    waiting = (copies.announcement_id.in_(both), copies.state.in_([WAITING, HELD]))
    for person in (gone, kept):  # the second one only where both wait: one of them has to stay
        spared = update(delivery_table).where(*waiting, copies.person_id == person).values(state=WITHDRAWN)
        for number in connection.execute(spared.returning(copies.announcement_id)).scalars().all():
            counted = update(announcement_table).where(announcement_table.c.id == number)
            connection.execute(counted.values(withdrawn=announcement_table.c.withdrawn + 1))
        both = both.where(copies.state != WITHDRAWN)
        waiting = (copies.announcement_id.in_(both), waiting[1])
