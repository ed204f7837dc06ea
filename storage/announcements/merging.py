"""Two accounts become one person: what they hear, have been sent and have written is one person's."""

from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update

from storage.announcements.ledger import HELD, WAITING, WITHDRAWN, delivery_table
from storage.announcements.subscribing import QuietHours
from storage.announcements.writing import announcement_table
from storage.engine import table_of


def announcements(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    """What either has written or agreed to. Nothing is lost."""
    for column in (announcement_table.c.author_id, announcement_table.c.second_id):
        connection.execute(update(announcement_table).where(column == gone).values({column: kept}))
    return 0


def quiet_hours(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    """Those of ``kept`` stand, if they have any; nothing is lost that is missed."""
    table = table_of(QuietHours)
    has = select(table.c.person_id).where(table.c.person_id == kept).correlate(None)
    connection.execute(delete(table).where(table.c.person_id == gone, has.exists()))
    connection.execute(update(table).where(table.c.person_id == gone).values(person_id=kept))
    return 0


def deliveries(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    """Of an announcement that both were to get, a copy that has not been handed over yet is not sent."""
    copies = delivery_table.c
    counting = copies.person_id.in_([gone, kept]) & (copies.state != WITHDRAWN)
    both = select(copies.announcement_id).where(counting).group_by(copies.announcement_id).having(func.count() > 1)
    for person in (gone, kept):  # the second one only where the first one's is on its way: one of them stays
        spared = (copies.announcement_id.in_(both), copies.state.in_([WAITING, HELD]), copies.person_id == person)
        withdrawn = update(delivery_table).where(*spared).values(state=WITHDRAWN).returning(copies.announcement_id)
        numbers = list(connection.execute(withdrawn).scalars())
        counted = update(announcement_table).where(announcement_table.c.id.in_(numbers))
        connection.execute(counted.values(withdrawn=announcement_table.c.withdrawn + 1))
    connection.execute(update(delivery_table).where(copies.person_id == gone).values(person_id=kept))
    return 0
