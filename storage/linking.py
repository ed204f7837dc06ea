"""Linking: two accounts become one person, and part again; what happens to each table's rows then."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, delete, insert, or_, select, update
from sqlmodel import Field, Session, SQLModel, col

from storage import people
from storage.announcements import merging
from storage.announcements.asking import Question
from storage.announcements.ledger import Delivery
from storage.announcements.subscribing import Subscription
from storage.chats import Chat
from storage.conversation import Dialog, Failed
from storage.engine import session_in, table_of
from storage.events import places, planning, reminding
from storage.events.tables import Event
from storage.ideas import Comment, Follow, Idea, Support
from storage.outbox import Outbox
from storage.people import Account, Attempt, Person, Role
from storage.polls import leaving, mirroring
from storage.polls.tables import Elector, Poll, Proposal
from storage.reactions import Reaction

LASTS = timedelta(minutes=10)
"""How long a code can be typed; and then, how long both sides have to say yes."""

_SIGNS = "0123456789abcdefghjkmnpqrstvwxyz"
_ALIKE = str.maketrans("oil", "011")
_HALF = 5
"""A code has two halves of so many signs: 50 bits. Crockford's Base 32 leaves out letters that look like others."""


class Link(SQLModel, table=True):
    """An offer to become one person, made by showing a code. Only its digest is stored.

    ``person_id`` was shown the code in ``chat_id``; ``other_id`` has typed it in ``other_chat_id``, after which
    nobody else can. ``agreed`` and ``other_agreed`` are the digests of the terms each has said yes to. Whoever
    changes a row holds its people first (``people.hold``), so that all that can happen to it comes one by one.
    """

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    chat_id: int = Field(foreign_key="chat.id")
    other_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    other_chat_id: int | None = Field(default=None, foreign_key="chat.id")
    agreed: str | None = None
    other_agreed: str | None = None
    until: datetime = Field(index=True)


class WrongCode(Exception):
    """Nobody is shown this code, or somebody has typed it already, or it is too old."""


class Barred(Exception):
    """This person has tried too many wrong codes; ``until`` is when they may go on."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class OnePerson(Exception):
    """Whoever typed the code is the person it was shown to."""


class Over(Exception):
    """This request is too old, or taken back, or something else has come of it."""


class Changed(Exception):
    """One of the two is not what the other has read any more."""


# -- asking -------------------------------------------------------------------------------------------------


def offer(session: Session, person_id: int, chat_id: int, now: datetime) -> tuple[int, str]:
    """A new code for this person and the number of its request; whatever they have asked before is over."""
    people.hold(session, person_id)
    _drop(session, person_id)
    code = "".join(secrets.choice(_SIGNS) for _ in range(2 * _HALF))
    link = Link(digest=people.digest(code), person_id=person_id, chat_id=chat_id, until=now + LASTS)
    session.add(link)
    session.flush()
    assert link.id is not None
    return link.id, f"{code[:_HALF]}-{code[_HALF:]}"


def take(session: Session, person_id: int, chat_id: int, code: str, now: datetime) -> int:
    """Answer somebody's code: from now on it is between these two. Returns the request's number.

    Raises ``WrongCode``, ``OnePerson`` (the code stays good) or ``Barred``. Whatever this person has asked before
    is over. A code is one of 2⁵⁰, good for ten minutes, and five an hour may be tried, so none can be guessed;
    and the person who was shown it has to say yes.
    """
    if (until := people.barred_until(session, person_id, now)) is not None:
        raise Barred(until)
    digest = people.digest("".join(sign for sign in code.lower() if sign.isalnum()).translate(_ALIKE))
    waiting = (col(Link.digest) == digest, col(Link.other_id).is_(None), col(Link.until) > now)
    shown_to = session.execute(select(col(Link.person_id)).where(*waiting)).scalar_one_or_none()
    if shown_to == person_id:
        raise OnePerson
    people.hold(session, person_id, *([] if shown_to is None else [shown_to]))
    taken: int | None = session.execute(
        update(Link)
        .where(*waiting)
        .values(other_id=person_id, other_chat_id=chat_id, until=now + LASTS)
        .returning(col(Link.id))
    ).scalar_one_or_none()
    if taken is None:
        people.note_wrong_code(session, person_id, now)
        raise WrongCode
    _drop(session, person_id, but=taken)
    return taken


def _drop(session: Session, person_id: int, but: int | None = None) -> None:
    theirs = or_(col(Link.person_id) == person_id, col(Link.other_id) == person_id)
    session.execute(delete(Link).where(theirs, col(Link.id).is_distinct_from(but)))
    session.expire_all()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two who are to become one person, as the other is shown them."""

    person_id: int
    chat_id: int
    pseudonym: str
    role: Role
    adapters: tuple[str, ...]
    stopped: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What one of the two is asked: ``terms`` is the digest of what they are shown."""

    id: int
    here: Side
    there: Side
    terms: str

    @property
    def kept(self) -> Side:
        """The one who stays: who has been here longer."""
        return min(self.here, self.there, key=lambda side: side.person_id)

    @property
    def role(self) -> Role:
        """What they are together."""
        return people.higher(self.here.role, self.there.role)

    @property
    def gives_rights(self) -> bool:
        """Whether the other gets a role by it."""
        return not self.there.role.covers(self.here.role)


def request(session: Session, number: int, person_id: int, now: datetime) -> Request:
    """A request as this person, one of the two, is asked. Raises ``Over``.

    From here to the end of the transaction nobody else can change anything of either.
    """
    link = session.get(Link, number)
    if link is None or link.other_id is None or person_id not in (link.person_id, link.other_id):
        raise Over
    both = people.hold(session, link.person_id, link.other_id)
    # Only now nobody else answers, or erases themselves: look once more.
    link = session.get(Link, number, populate_existing=True)
    if link is None or link.until <= now or len(both) < 2:
        raise Over
    assert link.other_id is not None and link.other_chat_id is not None
    sides = {
        id_: Side(
            id_,
            chat,
            both[id_].pseudonym,
            Role(both[id_].role),
            tuple(account.adapter for account in people.accounts(session, id_)),
            both[id_].stopped_at is not None,
        )
        for id_, chat in ((link.person_id, link.chat_id), (link.other_id, link.other_chat_id))
    }
    shown = [[side.person_id, side.pseudonym, side.role, side.adapters] for _, side in sorted(sides.items())]
    [there] = sides.keys() - {person_id}
    return Request(number, sides[person_id], sides[there], people.digest(json.dumps(shown)))


def agree(session: Session, asked: Request, terms: str, now: datetime) -> "Merged | None":
    """One of the two says yes to these terms. When the other has as well, they become one person.

    Raises ``Changed`` when the terms are not what is asked any more: a yes is for what was read, and nothing else.
    """
    if terms != asked.terms:
        raise Changed
    link = session.get_one(Link, asked.id)
    if asked.here.person_id == link.person_id:
        link.agreed = terms
    else:
        link.other_agreed = terms
    session.add(link)
    session.flush()
    if not link.agreed == link.other_agreed == terms:
        return None
    gone = max(asked.here.person_id, asked.there.person_id)
    return merge(session, gone, asked.kept.person_id, now)


def refuse(session: Session, number: int, person_id: int) -> int | None:
    """One of the two says no, or takes the code back. Returns the other's chat, if there is another.

    Raises ``Over``.
    """
    people.hold(session, person_id)
    link = session.get(Link, number)
    if link is None or person_id not in (link.person_id, link.other_id):
        raise Over
    other = link.other_chat_id if person_id == link.person_id else link.chat_id
    session.delete(link)
    session.flush()
    return other


def prune(session: Session, now: datetime) -> None:
    """Forget requests that are over."""
    session.execute(delete(Link).where(col(Link.until) <= now))


# -- becoming one -------------------------------------------------------------------------------------------

Rule = Callable[[Connection, int, int, datetime], int]
"""What happens to a table's rows when ``gone`` becomes ``kept`` at a time, in a transaction in which nobody else can
change anything of either. Returns how many things both had done, that count once from now on."""


class Merged(NamedTuple):
    """Two people who have become one: who it is now, the ideas whose signature is another, what counts once.

    ``votes`` is in how many polls both had voted, so that the latest vote counts; ``twice`` is how much else.
    """

    kept: int
    ideas: list[int]
    twice: int
    votes: int


def merge(session: Session, gone: int, kept: int, now: datetime) -> Merged:
    """Everything of ``gone`` is from now on of ``kept``; both are held (``people.hold``)."""
    session.flush()
    connection = session.connection()
    mine = select(col(Idea.id)).where(col(Idea.author_id).in_([gone, kept])).order_by(col(Idea.id))
    ideas = list(connection.execute(mine).scalars())
    twice = {name: rule(connection, gone, kept, now) for name, rule in RULES.items() if not isinstance(rule, str)}
    votes = twice.pop("poll_answer") + twice.pop("ballot")
    session.expire_all()
    return Merged(kept, [number for number in ideas if number is not None], sum(twice.values()), votes)


def moved(column: Any) -> Rule:
    """The rows go over as they are."""

    def rule(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
        connection.execute(update(column.table).where(column == gone).values({column: kept}))
        return 0

    return rule


def united(connection: Connection, table: Table, key: str, gone: int, kept: int) -> list[int]:
    """The rows go over, where both have one for the same ``key`` only the one of ``kept`` stays.

    Returns the keys of which both had one.
    """
    theirs = table.c.person_id == gone
    ours = select(table.c[key]).where(table.c.person_id == kept)
    both = delete(table).where(theirs, table.c[key].in_(ours)).returning(table.c[key])
    twice = list(connection.execute(both).scalars())
    connection.execute(update(table).where(theirs).values(person_id=kept))
    return twice


def _supports(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    twice = united(connection, table_of(Support), "idea_id", gone, kept)
    for number in sorted(twice):
        connection.execute(update(Idea).where(col(Idea.id) == number).values(supports=col(Idea.supports) - 1))
    return len(twice)


def _follows(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    return len(united(connection, table_of(Follow), "idea_id", gone, kept))


def _ideas(connection: Connection, gone: int, kept: int, now: datetime) -> int:
    # A name never comes to stand under what it did not stand under before: then it is the pseudonym.
    names = dict(
        connection.execute(select(col(Person.id), col(Person.name)).where(col(Person.id).in_([gone, kept]))).all()
    )
    if names[gone] != names[kept]:
        nameless = kept if names[kept] is None else gone
        connection.execute(update(Idea).where(col(Idea.author_id) == nameless).values(named=False))
    return moved(table_of(Idea).c.author_id)(connection, gone, kept, now)


def _electors(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    united(connection, table_of(Elector), "poll_id", gone, kept)
    return 0


def _dialogs(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    united(connection, table_of(Dialog), "chat_id", gone, kept)
    return 0


def _links(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    # What either has asked of a third person was asked by somebody else than they are now.
    both = [gone, kept]
    connection.execute(delete(Link).where(or_(col(Link.person_id).in_(both), col(Link.other_id).in_(both))))
    return 0


def _accounts(connection: Connection, gone: int, kept: int, now: datetime) -> int:
    # Never more than the person had a moment ago: a role that was taken away does not come back.
    query = (
        select(col(Account.id), col(Account.brought), col(Person.role))
        .join(Person, col(Person.id) == col(Account.person_id))
        .where(col(Person.id).in_([gone, kept]))
    )
    for account, brought, role in connection.execute(query).all():
        brings = people.lower(brought or role, role)
        connection.execute(update(Account).where(col(Account.id) == account).values(brought=brings))
    prefers = select(col(Account.id)).where(col(Account.person_id) == kept, col(Account.preferred))
    if connection.execute(prefers).first() is not None:  # one wish is enough
        connection.execute(update(Account).where(col(Account.person_id) == gone).values(preferred=False))
    return moved(table_of(Account).c.person_id)(connection, gone, kept, now)


def _rsvps(connection: Connection, gone: int, kept: int, now: datetime) -> int:
    with session_in(connection) as session:
        twice = places.join(session, gone, kept, now)
        session.commit()
    return twice


def _reminders(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    with session_in(connection) as session:
        reminding.hand_over(session, gone, kept)
        session.commit()
    return 0


def _attendees(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    with session_in(connection) as session:
        planning.unite(session, gone, kept)
        session.commit()
    return 0


def _people(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    person = table_of(Person)
    rows = connection.execute(select(person).where(person.c.id.in_([gone, kept])).order_by(person.c.id == gone))
    ours, theirs = rows.mappings().all()
    stopped = [row["stopped_at"] for row in (ours, theirs) if row["stopped_at"] is not None]
    together = {
        "name": ours["name"] or theirs["name"],
        "group": ours["group"] or theirs["group"],
        "locale": ours["locale"] or theirs["locale"],
        "role": people.higher(ours["role"], theirs["role"]),
        "notice": min(ours["notice"], theirs["notice"]),  # better told twice than never
        "stopped_at": min(stopped, default=None),  # who has asked for silence anywhere has it
    }
    connection.execute(update(person).where(person.c.id == kept).values(together))
    connection.execute(delete(person).where(person.c.id == gone))
    return 0


def _subscriptions(connection: Connection, gone: int, kept: int, _now: datetime) -> int:
    united(connection, table_of(Subscription), "topic", gone, kept)
    return 0


RULES: dict[str, Rule | str] = {
    "support": _supports,
    "follow": _follows,
    "comment": moved(table_of(Comment).c.author_id),
    "idea": _ideas,
    "poll_answer": mirroring.merge,
    "ballot": leaving.merge,
    "elector": _electors,
    "proposal": moved(table_of(Proposal).c.person_id),
    "poll": moved(table_of(Poll).c.author_id),
    "delivery": merging.deliveries,
    "question": moved(table_of(Question).c.person_id),
    "subscription": _subscriptions,
    "quiet_hours": merging.quiet_hours,
    "announcement": merging.announcements,
    "rsvp": _rsvps,
    "reminder": _reminders,
    "attendee": _attendees,
    "event": moved(table_of(Event).c.author_id),
    "dialog": _dialogs,
    "failed": moved(table_of(Failed).c.person_id),
    "outbox": moved(table_of(Outbox).c.person_id),
    "reaction": moved(table_of(Reaction).c.person_id),
    "link": _links,
    "attempt": moved(table_of(Attempt).c.person_id),
    "account": _accounts,
    "person": _people,
    "chat": "belongs to an account, and goes where that goes",
    "poll_place": "belongs to a chat, and goes where that goes",
    "poll_option": "holds what is asked, for everybody to see",
    "tally": "is kept by the rule of “ballot”",
    "ballot_key": "belongs to a poll",
    "secret_ballot": "names nobody; while the poll is open, the rule of “ballot” finds it by its tag",
    "loose_ballot": "holds ballots that belong to nobody",
    "hearing": "is about rooms",
    "wording": "holds the lab's own words",
    "uploaded": "is about files the lab has sent to many",
    "event_series": "holds rules of repetition only",
    "received": "holds ids of updates only",
    "cursor": "is about a messenger, not about people",
    "invite": "holds digests of codes, not who claimed them",
}
"""What happens to each table's rows; people come last, since others refer to them. A text says why nothing does."""


# -- parting ------------------------------------------------------------------------------------------------


class Parting(NamedTuple):
    """What becomes of a person when one of their accounts leaves: both sides' roles, and the messengers."""

    pseudonym: str
    leaving: Account
    staying: list[Account]
    leaving_role: Role
    staying_role: Role


def parting(session: Session, account_id: int, person_id: int) -> Parting:
    """What would come of it, with the person held. Raises ``Over`` when it is not theirs, or their only one.

    Everybody leaves with the role they brought, so nobody gains one by making somebody else leave.
    """
    held = people.hold(session, person_id)
    accounts = people.accounts(session, person_id)
    leaving = [account for account in accounts if account.id == account_id]
    staying = [account for account in accounts if account.id != account_id]
    if not (held and leaving and staying):
        raise Over
    person = held[person_id]

    def brought(accounts: list[Account]) -> Role:
        together = people.higher(*(account.brought or Role.PARTICIPANT for account in accounts))
        return people.lower(together, person.role)

    return Parting(person.pseudonym, leaving[0], staying, brought(leaving), brought(staying))


def unlink(session: Session, account_id: int, person_id: int, now: datetime) -> tuple[Parting, str]:
    """An account becomes a person of its own, with nothing but its role; returns its pseudonym. Raises ``Over``."""
    parts = parting(session, account_id, person_id)
    connection = session.connection()
    person = session.get_one(Person, person_id)
    new = session.get_one(Person, people.begin(connection, now))
    new.role, new.locale = parts.leaving_role, person.locale
    new.notice, new.stopped_at = person.notice, person.stopped_at
    person.role = parts.staying_role
    parts.leaving.person_id = new_id = new.id or 0
    parts.leaving.brought, parts.leaving.preferred = None, False
    if len(parts.staying) == 1:
        parts.staying[0].brought, parts.staying[0].preferred = None, False
    session.add_all([person, new, parts.leaving, *parts.staying])
    _drop(session, person_id)
    chats = select(col(Chat.id)).where(col(Chat.account_id) == account_id)
    # What is open in its private chats is still a question to it, and what was sent there was sent to it.
    for table in (Dialog, Outbox, Delivery):
        asked = update(table).where(col(table.person_id) == person_id, col(table.chat_id).in_(chats))
        session.execute(asked.values(person_id=new_id), execution_options={"synchronize_session": False})
    if parts.leaving.adapter not in {account.adapter for account in parts.staying}:
        theirs = (col(Failed.person_id) == person_id, col(Failed.adapter) == parts.leaving.adapter)
        session.execute(update(Failed).where(*theirs).values(person_id=new_id))
    tries = select(col(Attempt.at)).where(col(Attempt.person_id) == person_id)
    wrong = [{"person_id": new_id, "at": at} for at in session.execute(tries).scalars()]
    if wrong:  # else parting would be a way to try more codes
        session.execute(insert(Attempt), wrong)
    session.expire_all()
    return parts, new.pseudonym
