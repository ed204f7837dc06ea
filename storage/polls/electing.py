"""Electing: who may vote in a poll."""

import hmac
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.engine import table_of
from storage.people import Person, Role
from storage.polls.tables import Audience, elector_table, place_table, poll_table
from storage.polls.voting import RULES, Rules, have_voted, own, read_rules

_person = table_of(Person)

_PAGE = 500


def may_vote(connection: Connection, poll: Rules, person_id: int, role: Role, chat_id: int | None) -> bool:
    """Whether this person is among those who are asked; ``chat_id`` names the group they speak in.

    Of groups and rooms the messenger knows the members: who votes there, or has come by the link that stands there,
    is one. Who was let in once stays: a bot is not told who leaves.
    """
    match poll.audience:
        case Audience.LAB:
            return True
        case Audience.TEAM:
            return role.covers(Role.MODERATOR)
        case Audience.NAMED:
            group = connection.execute(_GROUP, {"person": person_id}).scalar_one_or_none()
            return group is not None and group in poll.named.split(",")
    if person_id == poll.author_id and poll.audience is Audience.PLACES:
        return True
    key = {"poll": poll.id, "person": person_id, "chat": chat_id}
    if chat_id is not None and connection.execute(_STANDS, key).first() is not None:
        return True
    return connection.execute(_ELECTOR, key).first() is not None or own(connection, poll, person_id) is not None


def held_for(
    connection: Connection, number: int, person_id: int, role: Role, chat_id: int | None
) -> tuple[Rules, bool] | None:
    """The rules of a poll that nobody else changes until the transaction ends, and whether this person may vote."""
    if not 0 < number < 2**31:
        return None
    row = connection.execute(_HELD_FOR, {"poll": number, "person": person_id, "chat": chat_id}).first()
    if row is None:
        return None
    poll, stands, elector = read_rules(row), *row[-2:]
    if poll.audience in (Audience.PLACES, Audience.ROOMS) and (stands is not None or elector is not None):
        return poll, True
    return poll, may_vote(connection, poll, person_id, role, chat_id)


_HELD_FOR = (
    select(*RULES.selected_columns, place_table.c.chat_id, elector_table.c.person_id)
    .select_from(
        poll_table.outerjoin(
            place_table, and_(place_table.c.poll_id == poll_table.c.id, place_table.c.chat_id == bindparam("chat"))
        ).outerjoin(
            elector_table,
            and_(elector_table.c.poll_id == poll_table.c.id, elector_table.c.person_id == bindparam("person")),
        )
    )
    .where(poll_table.c.id == bindparam("poll"))
    .with_for_update(of=poll_table)
)
_GROUP = select(_person.c.group).where(_person.c.id == bindparam("person"))
_STANDS = select(place_table.c.chat_id).where(
    place_table.c.poll_id == bindparam("poll"), place_table.c.chat_id == bindparam("chat")
)
_ELECTOR = select(elector_table.c.person_id).where(
    elector_table.c.poll_id == bindparam("poll"), elector_table.c.person_id == bindparam("person")
)


def names_group_of(person_id: int) -> ColumnElement[bool]:
    """A condition on polls: they ask some parts of society, and this person speaks for one of them."""
    group = select(_person.c.group).where(_person.c.id == person_id).scalar_subquery()
    listed = literal(",") + poll_table.c.named + ","
    return and_(poll_table.c.audience == Audience.NAMED, listed.contains(literal(",") + group + ","))


def let_in(connection: Connection, number: int, person_id: int) -> None:
    """This person has the poll's link, or takes back a vote from where it stands: from now on they may vote."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(elector_table).on_conflict_do_nothing()
    connection.execute(new, {"poll_id": number, "person_id": person_id})


def electorate(poll: Rules) -> Any | None:
    """A query for the ids of those who may vote, where that is known; ``None`` where it is not (groups)."""
    everybody = select(_person.c.id)
    match poll.audience:
        case Audience.LAB:
            return everybody
        case Audience.TEAM:
            return everybody.where(_person.c.role.in_([role for role in Role if role.covers(Role.MODERATOR)]))
        case Audience.NAMED:
            return everybody.where(_person.c.group.in_(poll.named.split(",")))
    return None


def size_of_electorate(connection: Connection, poll: Rules) -> int | None:
    """How many may vote, where that is known."""
    query = electorate(poll)
    return None if query is None else connection.execute(select(func.count()).select_from(query.subquery())).scalar()


def all_have_voted(connection: Connection, poll: Rules) -> bool:
    """Whether nobody of those who are asked has still to vote; False where nobody knows who they are.

    As many votes as people are not enough: somebody may have voted who is not asked any more.
    """
    size, voters = size_of_electorate(connection, poll), select(poll_table.c.voters).where(poll_table.c.id == poll.id)
    if size is None or connection.execute(voters).scalar_one() < size:
        return False
    query, last = electorate(poll), 0
    assert query is not None
    people = query.subquery()
    following = select(people.c.id).where(people.c.id > bindparam("last")).order_by(people.c.id).limit(_PAGE)
    while page := connection.execute(following, {"last": last}).scalars().all():
        if len(have_voted(connection, poll, page)) < len(page):
            return False
        last = page[-1]
    return True


def is_link(link: str, given: str) -> bool:
    """Whether somebody has the link of a poll; how long this takes tells nothing about it."""
    return hmac.compare_digest(link.encode(), given.encode())
