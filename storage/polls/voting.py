"""Voting: one ballot for each person, the tally kept with it, and secret ballots that lead to nobody.

A vote runs at its busiest a thousand times a second, so it is written in Core with statements made once.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.engine import overwrite_deleted, table_of
from storage.people import Person
from storage.polls.counting import IF_NEED_BE, YES, Content, Kind, count, is_valid, tally, weights
from storage.polls.tables import (
    Audience,
    Secrecy,
    Status,
    ballot_table,
    key_table,
    loose_table,
    option_table,
    poll_table,
    secret_table,
    tally_table,
)

_person = table_of(Person)


class Closed(Exception):
    """The poll is closed, or its time is over."""


class Unfit(Exception):
    """This is no ballot of the poll's kind."""


class Rules(NamedTuple):
    """What decides about a vote."""

    id: int
    kind: Kind
    secrecy: Secrecy
    status: Status
    audience: Audience
    named: str
    options: int
    most: int
    until_all: bool
    author_id: int | None
    closes_at: datetime | None
    mirrored: bool
    refresh_at: datetime | None

    def is_over(self, now: datetime) -> bool:
        """Whether nobody can vote any more: from the second of closing on, even if nobody has closed it yet."""
        return self.status != Status.OPEN or (self.closes_at is not None and now >= self.closes_at)


class Cast(NamedTuple):
    """A ballot that is in the box."""

    content: Content
    reason: str
    at: datetime


RULES = select(
    *(
        poll_table.c[name]
        for name in (
            "id", "kind", "secrecy", "status", "audience", "named", "options", "most", "until_all", "author_id",
            "closes_at", "mirrored", "refresh_at",
        )
    )
).where(poll_table.c.id == bindparam("poll"))  # fmt: skip
_LOCKED = RULES.with_for_update()


def rules(connection: Connection, number: int, *, locked: bool = False) -> Rules | None:
    """The rules of the poll of this number, if there is one; ``locked``: nobody else changes it meanwhile."""
    if not 0 < number < 2**31:
        return None
    row = connection.execute(_LOCKED if locked else RULES, {"poll": number}).first()
    return None if row is None else read_rules(row)


def read_rules(row: Any) -> Rules:
    """The rules in a row that begins with the columns of ``RULES``."""
    return Rules(row[0], Kind(row[1]), Secrecy(row[2]), Status(row[3]), Audience(row[4]), *row[5 : len(Rules._fields)])


# -- ballots ------------------------------------------------------------------------------------------------


def written(content: Content) -> str:
    """A ballot's content as its row keeps it."""
    return ",".join(map(str, content))


def read(content: str) -> Content:
    """The content of a ballot's row."""
    return tuple(map(int, content.split(",")))


def new_key(connection: Connection, number: int) -> None:
    """A secret poll begins."""
    connection.execute(insert(key_table), {"poll_id": number, "key": secrets.token_bytes(32)})


def _tag(key: bytes, person_id: int) -> bytes:
    return hmac.digest(key, f"person {person_id}".encode(), "sha256")


def _moment(key: bytes, tag: bytes, at: bytes) -> bytes:
    """Encrypt or decrypt when a secret ballot was cast."""
    mask = hmac.digest(key, b"moment " + tag, "sha256")
    return bytes(one ^ other for one, other in zip(at, mask, strict=False))


def _micros(at: datetime) -> bytes:
    return int(at.timestamp() * 1e6).to_bytes(8)


_KEY = select(key_table.c.key).where(key_table.c.poll_id == bindparam("poll"))
_OWN = select(ballot_table.c.content, ballot_table.c.reason, ballot_table.c.at).where(
    ballot_table.c.poll_id == bindparam("poll"), ballot_table.c.person_id == bindparam("person")
)
_OWN_SECRET = select(secret_table.c.content, secret_table.c.reason, secret_table.c.moment).where(
    secret_table.c.poll_id == bindparam("poll"), secret_table.c.tag == bindparam("tag")
)


def own(connection: Connection, poll: Rules, person_id: int) -> Cast | None:
    """This person's ballot. Of a secret poll that is closed nobody can tell any more."""
    if poll.secrecy is not Secrecy.SECRET:
        row = connection.execute(_OWN, {"poll": poll.id, "person": person_id}).first()
        return None if row is None else Cast(read(row[0]), row[1], row[2])
    key = connection.execute(_KEY, {"poll": poll.id}).scalar_one_or_none()
    if key is None:
        return None
    tag = _tag(key, person_id)
    row = connection.execute(_OWN_SECRET, {"poll": poll.id, "tag": tag}).first()
    if row is None:
        return None
    at = int.from_bytes(_moment(key, tag, row[2]))
    return Cast(read(row[0]), row[1], datetime.fromtimestamp(at / 1e6, UTC))


def _upsert(dialect: Any, table: Any, *key: str) -> Any:
    statement = dialect.insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


_PUT = {
    name: _upsert(dialect, ballot_table, "poll_id", "person_id")
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
_PUT_SECRET = {
    name: _upsert(dialect, secret_table, "poll_id", "tag")
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
_TAKE = delete(ballot_table).where(
    ballot_table.c.poll_id == bindparam("poll"), ballot_table.c.person_id == bindparam("person")
)
_TAKE_SECRET = delete(secret_table).where(
    secret_table.c.poll_id == bindparam("poll"), secret_table.c.tag == bindparam("tag")
)


def vote(
    connection: Connection, number: int, person_id: int, content: Content, now: datetime, reason: str = ""
) -> bool:
    """Put a ballot into the box, in place of the one before. True when the person had not voted yet.

    Raises ``Closed``, or ``Unfit`` for what is no ballot of this kind. Whether the person may vote is for
    ``may_vote`` to say.
    """
    poll = rules(connection, number, locked=True)
    if poll is None or poll.is_over(now):
        raise Closed(number)
    before = own(connection, poll, person_id)
    cast(connection, poll, person_id, before, Cast(content, reason, now))
    return before is None


def cast(connection: Connection, poll: Rules, person_id: int, before: Cast | None, ballot: Cast) -> None:
    """Put a ballot into the box of a poll that is held and open, in place of the one ``before``. Raises ``Unfit``."""
    if not is_valid(poll.kind, ballot.content, poll.options, poll.most):
        raise Unfit(ballot.content)
    put(connection, poll, person_id, ballot)
    add_up(connection, poll, None if before is None else before.content, ballot.content, ballot.at)


def paper(connection: Connection, poll: Rules, person_id: int) -> tuple[list[str], Cast | None]:
    """The options of a poll in their order, and the ballot that this person has cast so far."""
    if poll.secrecy is Secrecy.SECRET:
        return options(connection, [poll.id])[poll.id], own(connection, poll, person_id)
    rows = connection.execute(_PAPER, {"poll": poll.id, "person": person_id}).all()
    _, content, reason, at = rows[0]
    return [row[0] for row in rows], None if content is None else Cast(read(content), reason, at)


_PAPER = (
    select(option_table.c.text, ballot_table.c.content, ballot_table.c.reason, ballot_table.c.at)
    .select_from(
        option_table.outerjoin(
            ballot_table,
            and_(ballot_table.c.poll_id == option_table.c.poll_id, ballot_table.c.person_id == bindparam("person")),
        )
    )
    .where(option_table.c.poll_id == bindparam("poll"))
    .order_by(option_table.c.position)
)


def withdraw(connection: Connection, number: int, person_id: int, now: datetime) -> bool:
    """Take a ballot back out of the box. False when there was none. Raises ``Closed``."""
    poll = rules(connection, number, locked=True)
    if poll is None or poll.is_over(now):
        raise Closed(number)
    return take_out(connection, poll, person_id, now)


def take_out(connection: Connection, poll: Rules, person_id: int, now: datetime) -> bool:
    """Take a ballot out of the box of a poll that is held. False when there was none."""
    before = own(connection, poll, person_id)
    if before is None:
        return False
    remove(connection, poll, person_id)
    add_up(connection, poll, before.content, None, now)
    return True


def put(connection: Connection, poll: Rules, person_id: int, cast: Cast) -> None:
    """Write somebody's ballot, in place of theirs before; the tally is for ``add_up``."""
    dialect = connection.dialect.name
    values: dict[str, Any] = {"poll_id": poll.id, "content": written(cast.content), "reason": cast.reason}
    if poll.secrecy is not Secrecy.SECRET:
        connection.execute(_PUT[dialect], {**values, "person_id": person_id, "at": cast.at})
        return
    connection.execute(_STILL_THERE, {"person": person_id}).scalar_one()  # no foreign key can tell
    key = connection.execute(_KEY, {"poll": poll.id}).scalar_one()
    tag = _tag(key, person_id)
    moment = _moment(key, tag, _micros(cast.at))
    connection.execute(_PUT_SECRET[dialect], {**values, "tag": tag, "moment": moment})


_STILL_THERE = (
    select(_person.c.id).where(_person.c.id == bindparam("person")).with_for_update(read=True, key_share=True)
)


def remove(connection: Connection, poll: Rules, person_id: int) -> None:
    """Delete somebody's ballot; the tally stays."""
    if poll.secrecy is not Secrecy.SECRET:
        connection.execute(_TAKE, {"poll": poll.id, "person": person_id})
    elif (key := connection.execute(_KEY, {"poll": poll.id}).scalar_one_or_none()) is not None:
        connection.execute(_TAKE_SECRET, {"poll": poll.id, "tag": _tag(key, person_id)})


_TALLY = (
    update(tally_table)
    .where(
        tally_table.c.poll_id == bindparam("poll"),
        tally_table.c.position == bindparam("option"),
        tally_table.c.slot == bindparam("b_slot"),
    )
    .values(number=tally_table.c.number + bindparam("by"))
)
_VOTERS = (
    update(poll_table)
    .where(poll_table.c.id == bindparam("poll"))
    .values(
        voters=poll_table.c.voters + bindparam("by"),
        refresh_at=func.coalesce(poll_table.c.refresh_at, bindparam("then", type_=poll_table.c.refresh_at.type)),
    )
)

LONG_AGO = datetime.fromtimestamp(0, UTC)
"""When something falls due that shall be done at once."""

REFRESH = timedelta(seconds=3)
"""How long what has changed is gathered: as often as Telegram lets one message in a group change."""


def add_up(connection: Connection, poll: Rules, before: Content | None, after: Content | None, now: datetime) -> None:
    """Keep tally and number of voters true. What a secret poll adds up to is nobody's business before its close.

    The poll is held, so ``refresh_at`` is as it was read: who changes a vote writes the poll once in three seconds.
    """
    if poll.secrecy is not Secrecy.SECRET:
        changes = {} if after is None else dict(weights(poll.kind, after, poll.options))
        for place, amount in ({} if before is None else weights(poll.kind, before, poll.options)).items():
            changes[place] = changes.get(place, 0) - amount
        steps = [
            {"poll": poll.id, "option": option, "b_slot": slot, "by": by}
            for (option, slot), by in sorted(changes.items())
            if by
        ]
        if steps:
            connection.execute(_TALLY, steps)
    more = (after is not None) - (before is not None)
    if more or poll.refresh_at is None:
        connection.execute(_VOTERS, {"poll": poll.id, "by": more, "then": now + REFRESH})


def have_voted(connection: Connection, poll: Rules, people: Sequence[int]) -> set[int]:
    """Which of these people have voted."""
    if poll.secrecy is not Secrecy.SECRET:
        query = select(ballot_table.c.person_id).where(
            ballot_table.c.poll_id == poll.id, ballot_table.c.person_id.in_(people)
        )
        return set(connection.execute(query).scalars())
    key = connection.execute(_KEY, {"poll": poll.id}).scalar_one_or_none()
    if key is None:
        return set()
    tags = {_tag(key, person): person for person in people}
    found = select(secret_table.c.tag).where(secret_table.c.poll_id == poll.id, secret_table.c.tag.in_(tags))
    return {tags[tag] for tag in connection.execute(found).scalars()}


# -- counting -----------------------------------------------------------------------------------------------


def profile(connection: Connection, number: int) -> Mapping[Content, int]:
    """How many ballots of a poll say the same, by reading them all."""
    found: dict[Content, int] = {}
    for table, amount in (
        (ballot_table, func.count()),
        (secret_table, func.count()),
        (loose_table, func.sum(loose_table.c.number)),
    ):
        query = select(table.c.content, amount).where(table.c.poll_id == number).group_by(table.c.content)
        for content, ballots in connection.execute(query):
            found[read(content)] = found.get(read(content), 0) + int(ballots)
    return found


def tallies(connection: Connection, numbers: Iterable[int]) -> dict[int, dict[tuple[int, int], int]]:
    """The tallies of some polls as they are kept, by option and slot."""
    found: dict[int, dict[tuple[int, int], int]] = {number: {} for number in numbers}
    for number, position, slot, amount in connection.execute(
        select(tally_table).where(tally_table.c.poll_id.in_(list(found)))
    ):
        found[number][position, slot] = amount
    return found


def write_tally(connection: Connection, poll: Rules) -> None:
    """Count the tally anew, for all options a poll has."""
    added = tally(poll.kind, poll.options, profile(connection, poll.id))
    connection.execute(delete(tally_table).where(tally_table.c.poll_id == poll.id))
    rows = [
        {"poll_id": poll.id, "position": option, "slot": slot, "number": added.get((option, slot), 0)}
        for option in range(poll.options)
        for slot in (0, 1)
    ]
    connection.execute(insert(tally_table), rows)


def close(connection: Connection, number: int, now: datetime) -> bool:
    """Close a poll. False when it was closed already.

    Of a secret one the ballots are put together, equal ones as one row; tags, times and the key are destroyed, in
    the file too. From then on nothing leads from a ballot to a person.
    """
    poll = rules(connection, number, locked=True)
    if poll is None or poll.status is not Status.OPEN:
        return False
    found = count(poll.kind, poll.options, profile(connection, number))
    connection.execute(
        update(poll_table)
        .where(poll_table.c.id == number)
        .values(status=Status.CLOSED, closed_at=now, refresh_at=now, remind_at=None, result=found.stored())
    )
    if poll.secrecy is Secrecy.SECRET:
        mine = secret_table.c.poll_id == number
        together = select(secret_table.c.poll_id, secret_table.c.content, secret_table.c.reason, func.count())
        together = together.where(mine).group_by(secret_table.c.poll_id, secret_table.c.content, secret_table.c.reason)
        connection.execute(insert(loose_table).from_select(["poll_id", "content", "reason", "number"], together))
        connection.execute(delete(secret_table).where(mine))
        connection.execute(delete(key_table).where(key_table.c.poll_id == number))
        write_tally(connection, poll)
        overwrite_deleted(connection)
    return True


def reasons(connection: Connection, number: int, most: int = 50) -> Sequence[str]:
    """Why some object, without their names."""
    found: list[str] = []
    for table in (ballot_table, loose_table):
        query = select(table.c.reason).where(table.c.poll_id == number, table.c.reason != text("''"))
        found += connection.execute(query.limit(most)).scalars()
    return sorted(found)[:most]  # in the order of the alphabet, not in that of their coming


class Voter(NamedTuple):
    """Somebody who has voted, and how."""

    person_id: int
    pseudonym: str
    content: Content


def voters(connection: Connection, number: int, most: int, after: int = 0) -> list[Voter]:
    """Some of those who have voted, by keyset over their ids; nobody of a secret poll."""
    query = (
        select(ballot_table.c.person_id, _person.c.pseudonym, ballot_table.c.content)
        .join(_person, _person.c.id == ballot_table.c.person_id)
        .where(ballot_table.c.poll_id == number, ballot_table.c.person_id > after)
        .order_by(ballot_table.c.person_id)
        .limit(most)
    )
    return [Voter(person, name, read(content)) for person, name, content in connection.execute(query)]


def who_can(number: int, option: int) -> Select[int]:
    """The ids of those who can come on a date of a poll, if need be; nobody's where it was secret."""
    said = func.substr(ballot_table.c.content, 2 * option + 1, 1)  # one digit for each date, with commas between
    can = said.in_([str(YES), str(IF_NEED_BE)])
    return select(ballot_table.c.person_id).where(ballot_table.c.poll_id == number, can)


def count_who_can(connection: Connection, number: int, option: int) -> int:
    """How many they are."""
    query = select(func.count()).select_from(who_can(number, option).subquery())
    return int(connection.execute(query).scalar_one())


def recount(connection: Connection) -> dict[int, tuple[int, dict[tuple[int, int], int]]]:
    """Voters and tally of each poll, counted anew: what the stored ones must equal (a secret, open one has none)."""
    found = {}
    for number in connection.execute(select(poll_table.c.id)).scalars().all():
        poll = rules(connection, number)
        assert poll is not None
        ballots = profile(connection, number)
        hidden = poll.secrecy is Secrecy.SECRET and poll.status is Status.OPEN
        added = {} if hidden else tally(poll.kind, poll.options, ballots)
        found[number] = (sum(ballots.values()), {place: amount for place, amount in added.items() if amount})
    return found


def kept(connection: Connection) -> dict[int, tuple[int, dict[tuple[int, int], int]]]:
    """Voters and tally of each poll as they are stored."""
    counts = dict(connection.execute(select(poll_table.c.id, poll_table.c.voters)).all())
    return {
        number: (counts[number], {place: amount for place, amount in added.items() if amount})
        for number, added in tallies(connection, counts).items()
    }


def options(connection: Connection, numbers: Iterable[int]) -> dict[int, list[str]]:
    """The options of some polls, in their order."""
    found: dict[int, list[str]] = {}
    for number, words in connection.execute(_OPTIONS, {"polls": list(numbers)}):
        found.setdefault(number, []).append(words)
    return found


_OPTIONS = (
    select(option_table.c.poll_id, option_table.c.text)
    .where(option_table.c.poll_id.in_(bindparam("polls", expanding=True)))
    .order_by(option_table.c.poll_id, option_table.c.position)
)
