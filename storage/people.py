"""People: who takes part, under which pseudonym, with which role, and how they leave without a trace."""

import hashlib
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, UniqueConstraint, bindparam, false, insert, update
from sqlmodel import Field, Session, SQLModel, col, select

INVITE_LASTS = timedelta(days=7)
"""How long a code from ``labbot invite`` can be used."""

TRIES = 5
"""How many wrong codes a person may try in an hour, of invitations and of links together."""

LONGEST_NAME = 40
"""The longest pseudonym or name, in characters."""


FILLERS = "\u115f\u1160\u3164\uffa0"
"""Hangul's letters that nobody can see."""


class Role(StrEnum):
    """What a person may do; each role may do all that the ones before it may."""

    PARTICIPANT = "participant"
    MODERATOR = "moderator"
    ORGANISER = "organiser"
    LEAD = "lead"

    def covers(self, other: "Role") -> bool:
        return _RANKS[self] >= _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}


def higher(*roles: str) -> Role:
    """The highest of these roles."""
    return max(map(Role, roles), key=_RANKS.__getitem__)


def lower(*roles: str) -> Role:
    """The lowest of these roles."""
    return min(map(Role, roles), key=_RANKS.__getitem__)


class Group(StrEnum):
    """The part of society a person speaks for, if they choose to tell."""

    CITIZEN = "citizen"
    INITIATIVE = "initiative"
    ADMINISTRATION = "administration"
    POLITICS = "politics"
    BUSINESS = "business"
    SCIENCE = "science"
    LAB = "lab"


class Person(SQLModel, table=True):
    """Somebody who takes part. Everything else refers to a person, never to an account.

    ``handle`` is the pseudonym as it is compared: two people cannot have the same. ``name`` is only there when
    the person has typed one to sign with. ``notice`` is the version of the privacy notice they have been shown.
    """

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    pseudonym: str
    handle: str = Field(unique=True)
    name: str | None = None
    role: str = Role.PARTICIPANT
    group: str | None = None
    locale: str | None = None
    notice: int = 0
    stopped_at: datetime | None = None
    created_at: datetime


class Account(SQLModel, table=True):
    """A person's account on a messenger; ``external`` is the messenger's id, the only thing kept of it.

    ``brought`` is the role it came with when it was linked with another, and leaves with; ``None`` when it is alone.
    ``preferred``: of a person's accounts, the one on which they want to be told things.
    """

    __table_args__ = (UniqueConstraint("adapter", "external"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    adapter: str
    external: str
    brought: str | None = None
    preferred: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    created_at: datetime


class Invite(SQLModel, table=True):
    """A code that makes whoever claims it an organiser, once. Only its digest is stored."""

    digest: str = Field(primary_key=True)
    role: str
    created_at: datetime
    claimed_at: datetime | None = None


class Attempt(SQLModel, table=True):
    """A wrong code somebody has tried."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    at: datetime


class NameTaken(Exception):
    """Another person has this pseudonym already."""


class NameUnfit(Exception):
    """This cannot be a name: empty, too long, or without a letter."""


# German adjectives take the noun's gender: their ending is the noun's second part.
_ADJECTIVES = [
    "Blau",
    "Bunt",
    "Eifrig",
    "Flink",
    "Freundlich",
    "Froh",
    "Geduldig",
    "Gelb",
    "Golden",
    "Groß",
    "Grün",
    "Heiter",
    "Hell",
    "Herzlich",
    "Klar",
    "Klein",
    "Klug",
    "Kühn",
    "Leis",
    "Lustig",
    "Munter",
    "Mutig",
    "Neu",
    "Neugierig",
    "Pfiffig",
    "Rasch",
    "Rot",
    "Rund",
    "Sanft",
    "Schnell",
    "Silbern",
    "Sonnig",
    "Still",
    "Stolz",
    "Tapfer",
    "Wach",
    "Warm",
    "Weit",
    "Wild",
    "Windig",
    "Zart",
]
_NOUNS = [
    "Turm:er",
    "Baum:er",
    "Bach:er",
    "Garten:er",
    "Hafen:er",
    "Kran:er",
    "Markt:er",
    "Park:er",
    "Platz:er",
    "Steg:er",
    "Stern:er",
    "Weg:er",
    "Wind:er",
    "Wald:er",
    "Apfel:er",
    "Igel:er",
    "Spatz:er",
    "Fuchs:er",
    "Dachs:er",
    "Falke:er",
    "Brücke:e",
    "Wiese:e",
    "Linde:e",
    "Laterne:e",
    "Mühle:e",
    "Schwalbe:e",
    "Amsel:e",
    "Eule:e",
    "Biene:e",
    "Birke:e",
    "Buche:e",
    "Eiche:e",
    "Gasse:e",
    "Quelle:e",
    "Insel:e",
    "Wolke:e",
    "Schwebebahn:e",
    "Treppe:e",
    "Rad:es",
    "Haus:es",
    "Boot:es",
    "Dach:es",
    "Fenster:es",
    "Feld:es",
    "Tor:es",
    "Ufer:es",
    "Blatt:es",
    "Nest:es",
    "Reh:es",
    "Eichhörnchen:es",
    "Rotkehlchen:es",
    "Segel:es",
    "Werk:es",
]


WITHOUT_NUMBER = 4
"""How many names without a number are tried for a pseudonym first."""

UNWANTED = ("14", "18", "28", "88")
"""Numbers that right-wing extremists use as codes: nobody is to be given one beside their words."""


def _invented(attempt: int) -> str:
    """A name like „Grüner Turm“; after some attempts with a number, longer each time."""
    noun, _, ending = secrets.choice(_NOUNS).partition(":")
    name = f"{secrets.choice(_ADJECTIVES)}{ending} {noun}"
    if attempt < WITHOUT_NUMBER:
        return name
    number = "88"
    while any(code in number for code in UNWANTED):
        number = str(secrets.randbelow(10 ** (attempt - WITHOUT_NUMBER + 2)) + 2)
    return f"{name} {number}"


def handle_of(pseudonym: str) -> str:
    """A name as it is compared: look-alikes by case, width, accents' encoding, signs and spaces are one name."""
    folded = unicodedata.normalize("NFKC", pseudonym).casefold()
    return " ".join("".join(sign for sign in folded if sign.isalnum() or sign.isspace()).split())


def arrive(connection: Connection, adapter: str, external: str, now: datetime) -> int:
    """A person's account, whose id is returned; who writes for the first time is given one, and a pseudonym."""
    known = connection.execute(_KNOWN, {"b_adapter": adapter, "b_external": external}).scalar_one_or_none()
    if known is not None:  # it is only this chat that is new
        return known
    account = {"person_id": begin(connection, now), "adapter": adapter, "external": external, "created_at": now}
    return connection.execute(_NEW_ACCOUNT, account).scalar_one() or 0


def begin(connection: Connection, now: datetime) -> int:
    """Somebody new, with an invented pseudonym."""
    pseudonym, handle = _free_pseudonym(connection)
    person = {"pseudonym": pseudonym, "handle": handle, "role": Role.PARTICIPANT, "notice": 0, "created_at": now}
    return connection.execute(_NEW_PERSON, person).scalar_one() or 0


def hold(session: Session, *people: int) -> dict[int, Person]:
    """These people as they are now, as far as they are still there; nobody else can change anything of theirs
    before this transaction ends (on PostgreSQL; on SQLite there is only one writer).

    Whoever stores a row that refers to a person waits for this lock.
    """
    query = select(Person).where(col(Person.id).in_(people)).order_by(col(Person.id)).with_for_update()
    found = session.exec(query, execution_options={"populate_existing": True}).all()
    return {person.id: person for person in found if person.id is not None}


def known_as(session: Session, adapter: str, ids: Iterable[int]) -> list[str]:
    """What a messenger calls these people, of those who have an account there."""
    mine = select(Account.external).where(Account.adapter == adapter, col(Account.person_id).in_(list(ids)))
    return list(session.exec(mine.order_by(col(Account.id))).all())


def accounts(session: Session, person_id: int) -> Sequence[Account]:
    """A person's accounts, the oldest first."""
    return session.exec(select(Account).where(Account.person_id == person_id).order_by(col(Account.id))).all()


def prefer(session: Session, person_id: int, account_id: int | None) -> None:
    """On which of their accounts a person wants to be told things; ``None``: on the one they have used last."""
    chosen = false() if account_id is None else col(Account.id) == account_id
    session.execute(update(Account).where(col(Account.person_id) == person_id).values(preferred=chosen))


def _free_pseudonym(connection: Connection) -> tuple[str, str]:
    attempt = 0
    while True:
        pseudonym = _invented(attempt)
        handle = handle_of(pseudonym)
        if connection.execute(_TAKEN, {"b_handle": handle}).first() is None:
            return pseudonym, handle
        attempt += 1


_NEW_PERSON = insert(Person).returning(col(Person.id))
_NEW_ACCOUNT = insert(Account).returning(col(Account.id))
_KNOWN = select(col(Account.id)).where(
    Account.adapter == bindparam("b_adapter"), Account.external == bindparam("b_external")
)
_TAKEN = select(Person.id).where(Person.handle == bindparam("b_handle"))
_NOTICED = update(Person).where(col(Person.id) == bindparam("b_person")).values(notice=bindparam("b_version"))


def has_seen_notice(connection: Connection, person_id: int, version: int) -> None:
    """This person has been shown this version of the privacy notice."""
    connection.execute(_NOTICED, {"b_person": person_id, "b_version": version})


def renew_pseudonym(session: Session, person_id: int) -> str:
    """Give a person another invented pseudonym."""
    person = session.get_one(Person, person_id)
    person.pseudonym, person.handle = _free_pseudonym(session.connection())
    session.add(person)
    session.flush()
    return person.pseudonym


def proper_name(words: str) -> str:
    """A name as it is shown, on one line. Raises ``NameUnfit``."""
    visible = (
        sign for sign in words if sign.isspace() or not (sign in FILLERS or unicodedata.category(sign)[0] == "C")
    )
    shown = " ".join("".join(visible).split())
    if not 1 <= len(shown) <= LONGEST_NAME or not any(sign.isalpha() for sign in shown):
        raise NameUnfit(words)
    return shown


def is_somebody_else(session: Session, person_id: int, name: str) -> bool:
    """Whether another person is called so."""
    owner = session.exec(select(Person.id).where(Person.handle == handle_of(name))).first()
    return owner is not None and owner != person_id


def rename(session: Session, person_id: int, words: str) -> str:
    """Choose another pseudonym. Raises ``NameUnfit`` or ``NameTaken``."""
    pseudonym = proper_name(words)
    if is_somebody_else(session, person_id, pseudonym):
        raise NameTaken(pseudonym)
    person = session.get_one(Person, person_id)
    person.pseudonym, person.handle = pseudonym, handle_of(pseudonym)
    session.add(person)
    session.flush()
    return pseudonym


# -- roles --------------------------------------------------------------------------------------------------


def invite(session: Session, role: Role, now: datetime) -> str:
    """A new one-time code for a role; it is shown once and only its digest is kept."""
    code = secrets.token_hex(8)
    session.add(Invite(digest=digest(code), role=role, created_at=now))
    session.flush()
    return code


def claim(session: Session, person_id: int, code: str, now: datetime, account_id: int | None = None) -> Role | None:
    """Take the role a code gives, unless the one they have is higher; returns the role they have now.

    ``None`` when the code is wrong, used or too old, or after too many tries. A wrong code is 64 bits away from
    a right one and five may be tried in an hour, so none can be guessed. A linked account (``account_id``)
    keeps what it has claimed when it is unlinked.
    """
    if barred_until(session, person_id, now) is not None:
        return None
    used = session.execute(
        update(Invite)
        .where(
            col(Invite.digest) == digest("".join(code.split()).lower()),
            col(Invite.claimed_at).is_(None),
            col(Invite.created_at) > now - INVITE_LASTS,
        )
        .values(claimed_at=now)
        .returning(col(Invite.role))
    ).scalar_one_or_none()
    if used is None:
        note_wrong_code(session, person_id, now)
        return None
    role = Role(used)
    account = session.get(Account, account_id) if account_id is not None else None
    if account is not None and account.brought is not None:
        account.brought = higher(account.brought, role)
        session.add(account)
    person = hold(session, person_id)[person_id]
    person.role = higher(person.role, role)
    session.add(person)
    session.flush()
    return Role(person.role)


def barred_until(session: Session, person_id: int, now: datetime) -> datetime | None:
    """Until when this person may try no more codes, after too many wrong ones; ``None`` when they may."""
    hour = timedelta(hours=1)
    wrong = select(Attempt.at).where(Attempt.person_id == person_id, col(Attempt.at) > now - hour)
    last = session.exec(wrong.order_by(col(Attempt.at).desc()).limit(TRIES)).all()
    return last[-1] + hour if len(last) == TRIES else None


def note_wrong_code(session: Session, person_id: int, now: datetime) -> None:
    """This person has tried a wrong code."""
    session.add(Attempt(person_id=person_id, at=now))
    session.flush()


def digest(code: str) -> str:
    """What is stored of a code: who reads it cannot use it, and comparing it tells nothing about the code."""
    return hashlib.sha256(code.encode()).hexdigest()


def prune(session: Session, now: datetime) -> None:
    """Forget codes and attempts that are over."""
    for attempt in session.exec(select(Attempt).where(col(Attempt.at) < now - timedelta(days=1))):
        session.delete(attempt)
    for old in session.exec(select(Invite).where(col(Invite.created_at) < now - INVITE_LASTS)):
        session.delete(old)


# -- export -------------------------------------------------------------------------------------------------


class PersonLine(NamedTuple):
    """One line of ``labbot export people``."""

    id: int
    pseudonym: str
    roles: Sequence[str]
    locale: str | None
    accounts: Sequence[str]
    created_at: datetime


def export(session: Session, page: int = 1000) -> Iterator[PersonLine]:
    """Everybody, in keyset pages of ``page`` people."""
    last = 0
    while people := session.exec(
        select(Person).where(col(Person.id) > last).order_by(col(Person.id)).limit(page)
    ).all():
        ids = [person.id for person in people]
        accounts: dict[Any, list[str]] = {}
        for account in session.exec(select(Account).where(col(Account.person_id).in_(ids)).order_by(col(Account.id))):
            accounts.setdefault(account.person_id, []).append(account.adapter)
        session.commit()  # whoever reads slowly holds up nobody
        for person in people:
            assert person.id is not None
            last = person.id
            yield PersonLine(
                person.id, person.pseudonym, [person.role], person.locale, accounts.get(last, []), person.created_at
            )
