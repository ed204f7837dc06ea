"""Leaving: two accounts become one person, and people leave; a result stands all the same."""

from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.engine import overwrite_deleted
from storage.polls import voting
from storage.polls.asking import make_stale
from storage.polls.tables import Secrecy, Status, ballot_table, key_table, loose_table
from storage.polls.voting import Cast, Rules, written


def merge(connection: Connection, from_person: int, into_person: int, now: datetime) -> int:
    """One person's ballots are another's from now on; returns in how many polls the latest of two ballots counts.

    That is so in open ones. In a closed one the result stands: the second ballot stays in the count, and belongs to
    nobody.
    """
    doubles = 0
    for poll in _voted_in(connection, from_person):
        theirs, ours = voting.own(connection, poll, from_person), voting.own(connection, poll, into_person)
        if theirs is None:
            continue
        if ours is None:
            voting.remove(connection, poll, from_person)
            voting.put(connection, poll, into_person, theirs)
            if poll.secrecy is Secrecy.OPEN and poll.status is Status.OPEN:
                make_stale(connection, poll.id)  # its copies show another name now
            continue
        if poll.is_over(now):
            voting.remove(connection, poll, from_person)
            _loosen(connection, poll, theirs)
        else:
            doubles += 1
            voting.take_out(connection, poll, from_person, now)
            if theirs.at > ours.at:
                voting.put(connection, poll, into_person, theirs)
                voting.add_up(connection, poll, ours.content, theirs.content, now)
    overwrite_deleted(connection)
    return doubles


def forget(connection: Connection, person_id: int) -> None:
    """A person leaves. Where a poll is open, their ballot goes with them; a result stands, and names them no more."""
    for poll in _voted_in(connection, person_id):
        cast = voting.own(connection, poll, person_id)
        if cast is None:
            continue
        if poll.status is Status.OPEN:
            voting.take_out(connection, poll, person_id, voting.LONG_AGO)
        else:
            voting.remove(connection, poll, person_id)
            _loosen(connection, poll, cast)
            make_stale(connection, poll.id)  # its copies may show the name


def _voted_in(connection: Connection, person_id: int) -> list[Rules]:
    """The polls a person may have a ballot in: theirs by name, and every secret one that is open."""
    theirs = select(ballot_table.c.poll_id).where(ballot_table.c.person_id == person_id)
    numbers = {*connection.execute(theirs).scalars(), *connection.execute(select(key_table.c.poll_id)).scalars()}
    found = (voting.rules(connection, number, locked=True) for number in sorted(numbers))
    return [poll for poll in found if poll is not None]


def _loosen(connection: Connection, poll: Rules, cast: Cast) -> None:
    """A ballot belongs to nobody any more, and still counts."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(loose_table)
    statement = statement.on_conflict_do_update(
        index_elements=["poll_id", "content", "reason"], set_={"number": loose_table.c.number + 1}
    )
    # Why they objected was said to the author of the poll by them; it does not outlive them.
    connection.execute(statement, {"poll_id": poll.id, "content": written(cast.content), "reason": "", "number": 1})
