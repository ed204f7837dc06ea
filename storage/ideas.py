"""Ideas: what citizens suggest, who supports and follows them, and what is said about them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Index, delete, func, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, Session, SQLModel, col, select

from storage.people import Person

LONGEST_TITLE = 120
LONGEST_TEXT = 1800
LONGEST_COMMENT = 1000
"""In characters. A whole card fits into one message of every messenger, even if all of it is emoji."""


class Status(StrEnum):
    """What has become of an idea."""

    NEW = "new"
    TAKEN_UP = "taken_up"
    DONE = "done"
    DECLINED = "declined"
    HIDDEN = "hidden"
    WITHDRAWN = "withdrawn"


OPEN = (Status.NEW, Status.TAKEN_UP, Status.DONE, Status.DECLINED)
"""What everybody can see."""


class Idea(SQLModel, table=True):
    """A suggestion; its id is the number people call it by.

    ``author_id`` is ``None`` once its author has left and let it stay. ``named`` tells whether it is signed with
    the author's name or with the pseudonym. ``supports`` and ``comments`` are counts kept in the transaction that
    changes them. ``words`` is title and text as they are searched. ``source_chat_id`` and ``source`` name the
    message it was written in, so that editing that message edits the idea.
    """

    __table_args__ = (
        Index("ix_idea_supports", "supports", "id"),
        Index("ix_idea_topic", "topic", "id"),
        Index("ix_idea_source", "source_chat_id", "source"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    title: str
    text: str = ""
    topic: str
    author_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    named: bool = False
    status: str = Status.NEW
    supports: int = 0
    comments: int = 0
    words: str
    source_chat_id: int | None = Field(default=None, foreign_key="chat.id")
    source: str | None = None
    created_at: datetime


class Support(SQLModel, table=True):
    """A person supports an idea, at most once."""

    idea_id: int = Field(foreign_key="idea.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True, index=True)
    at: datetime


class Follow(SQLModel, table=True):
    """A person wants to hear what becomes of an idea."""

    idea_id: int = Field(foreign_key="idea.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True, index=True)
    at: datetime


class Comment(SQLModel, table=True):
    """Something said about an idea. ``team`` marks an answer of the lab's team."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    idea_id: int = Field(foreign_key="idea.id", index=True)
    author_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    team: bool = False
    text: str
    at: datetime


class NotOpen(Exception):
    """There is no such idea, or it is withdrawn or hidden."""


class NotYours(Exception):
    """Only an idea's author may do this."""


@dataclass(frozen=True, slots=True)
class Card:
    """An idea as one person sees it."""

    idea: Idea
    author: str | None
    supported: bool
    followed: bool
    own: bool


def submit(
    session: Session,
    *,
    author_id: int,
    title: str,
    text: str,
    topic: str,
    named: bool,
    now: datetime,
    source: tuple[int, str] | None = None,
) -> Idea:
    """Store a new idea. Its author follows it."""
    idea = Idea(
        title=title,
        text=text,
        topic=topic,
        author_id=author_id,
        named=named,
        words=_searched(title, text),
        source_chat_id=source[0] if source else None,
        source=source[1] if source else None,
        created_at=now,
    )
    session.add(idea)
    session.flush()
    assert idea.id is not None
    follow(session, idea.id, author_id, now)
    return idea


def change(session: Session, number: int, person_id: int, title: str, text: str) -> Idea:
    """Its author says it otherwise. Raises ``NotOpen`` or ``NotYours``."""
    idea = own(session, number, person_id)
    idea.title, idea.text, idea.words = title, text, _searched(title, text)
    session.add(idea)
    session.flush()
    return idea


def withdraw(session: Session, number: int, person_id: int) -> Idea:
    """Its author takes it back. Raises ``NotOpen`` or ``NotYours``."""
    idea = own(session, number, person_id)
    idea.status = Status.WITHDRAWN
    session.add(idea)
    session.flush()
    return idea


def decide(session: Session, number: int, status: Status) -> tuple[Idea, bool]:
    """The team says what becomes of an idea; false when it was so already.

    Raises ``NotOpen`` for one that is not there or withdrawn.
    """
    idea = session.get(Idea, number)
    if idea is None or idea.status == Status.WITHDRAWN:
        raise NotOpen(number)
    changed = idea.status != status
    idea.status = status
    session.add(idea)
    session.flush()
    return idea, changed


def visible(session: Session, number: int) -> Idea:
    """The idea of this number. Raises ``NotOpen``."""
    idea = session.get(Idea, number) if number < 2**31 else None
    if idea is None or idea.status not in OPEN:
        raise NotOpen(number)
    return idea


def own(session: Session, number: int, person_id: int) -> Idea:
    """The idea of this number, for its author. Raises ``NotOpen`` or ``NotYours``."""
    idea = visible(session, number)
    if idea.author_id != person_id:
        raise NotYours(number)
    return idea


def card(session: Session, number: int, person_id: int | None) -> Card:
    """An idea as this person sees it (``None``: as everybody does). Raises ``NotOpen``."""
    idea = visible(session, number)
    if person_id is None:
        return signed(session, idea)
    return Card(
        idea,
        signed(session, idea).author,
        session.get(Support, (number, person_id)) is not None,
        session.get(Follow, (number, person_id)) is not None,
        idea.author_id == person_id,
    )


def hidden(session: Session, number: int) -> Card | None:
    """An idea the team has hidden, for the team itself: it can be brought back."""
    idea = session.get(Idea, number) if number < 2**31 else None
    return signed(session, idea) if idea is not None and idea.status == Status.HIDDEN else None


def signed(session: Session, idea: Idea) -> Card:
    """An idea with the name under it, as everybody sees it; hidden and withdrawn ones too."""
    author = session.get(Person, idea.author_id) if idea.author_id is not None else None
    return Card(idea, _signature(idea, author), False, False, False)


def _signature(idea: Idea, author: Person | None) -> str | None:
    if author is None:
        return None
    return author.name if idea.named and author.name else author.pseudonym


def support(session: Session, number: int, person_id: int, now: datetime) -> bool:
    """Support an idea. False when this person does already. Raises ``NotOpen``."""
    visible(session, number)
    if not _add(session, Support, number, person_id, now):
        return False
    _count(session, number, 1)
    return True


def unsupport(session: Session, number: int, person_id: int) -> bool:
    """Take the support back. False when there was none. Raises ``NotOpen``."""
    visible(session, number)
    gone = delete(Support).where(col(Support.idea_id) == number, col(Support.person_id) == person_id)
    if session.execute(gone).rowcount == 0:  # type: ignore[attr-defined]
        return False
    _count(session, number, -1)
    return True


def _count(session: Session, number: int, by: int) -> None:
    session.execute(update(Idea).where(col(Idea.id) == number).values(supports=col(Idea.supports) + by))
    session.expire_all()


def follow(session: Session, number: int, person_id: int, now: datetime) -> bool:
    """Hear of this idea from now on. False when this person does already."""
    return _add(session, Follow, number, person_id, now)


def unfollow(session: Session, number: int, person_id: int) -> None:
    """Hear no more of this idea."""
    session.execute(delete(Follow).where(col(Follow.idea_id) == number, col(Follow.person_id) == person_id))
    session.expire_all()


def _add(session: Session, table: type[Support] | type[Follow], number: int, person_id: int, now: datetime) -> bool:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(idea_id=number, person_id=person_id, at=now)
    new = statement.on_conflict_do_nothing().returning(col(table.idea_id))
    return session.execute(new).first() is not None


def comment(session: Session, number: int, author_id: int, text: str, team: bool, now: datetime) -> Comment:
    """Say something about an idea. Raises ``NotOpen``."""
    visible(session, number)
    said = Comment(idea_id=number, author_id=author_id, team=team, text=text, at=now)
    session.add(said)
    session.flush()
    session.execute(update(Idea).where(col(Idea.id) == number).values(comments=col(Idea.comments) + 1))
    session.expire_all()
    return said


def comments(session: Session, number: int, before: int | None, most: int) -> list[tuple[Comment, str | None]]:
    """The newest comments older than the one of id ``before``, each with its author's pseudonym."""
    query = select(Comment, Person.pseudonym).join(Person, isouter=True).where(Comment.idea_id == number)
    if before is not None:
        query = query.where(col(Comment.id) < before)
    return list(session.exec(query.order_by(col(Comment.id).desc()).limit(most)).all())


def followers(session: Session, number: int, but: int | None = None) -> list[int]:
    """The people who follow an idea, without the one who has just done something."""
    query = select(Follow.person_id).where(Follow.idea_id == number)
    return [person for person in session.exec(query).all() if person != but]


def from_message(session: Session, chat_id: int, message: str) -> Idea | None:
    """The idea that was written in this message."""
    return session.exec(select(Idea).where(Idea.source_chat_id == chat_id, Idea.source == message)).first()


class Order(StrEnum):
    """How a list of ideas is sorted."""

    NEWEST = "newest"
    SUPPORTED = "supported"


class Page(NamedTuple):
    """Some ideas of a list, and the place where it goes on (``None`` at the end)."""

    ideas: Sequence[Idea]
    after: str | None


def browse(
    session: Session,
    *,
    order: Order = Order.NEWEST,
    topic: str | None = None,
    words: str = "",
    author_id: int | None = None,
    after: str | None = None,
    most: int = 5,
) -> Page:
    """A page of the ideas everybody can see, by keyset: ``after`` is the ``Page.after`` of the page before."""
    query = select(Idea).where(col(Idea.status).in_(OPEN))
    if topic is not None:
        query = query.where(Idea.topic == topic)
    if author_id is not None:
        query = query.where(Idea.author_id == author_id)
    for word in words.casefold().split()[:8]:
        query = query.where(col(Idea.words).contains(word, autoescape=True))
    if order is Order.SUPPORTED:
        if after is not None:
            supports, _, number = after.partition(".")
            query = query.where(tuple_(col(Idea.supports), col(Idea.id)) < (int(supports), int(number)))
        query = query.order_by(col(Idea.supports).desc(), col(Idea.id).desc())
    else:
        if after is not None:
            query = query.where(col(Idea.id) < int(after))
        query = query.order_by(col(Idea.id).desc())
    found = session.exec(query.limit(most + 1)).all()
    shown = found[:most]
    if len(found) <= most:
        return Page(shown, None)
    last = shown[-1]
    return Page(shown, f"{last.supports}.{last.id}" if order is Order.SUPPORTED else str(last.id))


def recount(session: Session) -> dict[int, tuple[int, int]]:
    """Supports and comments of each idea, counted anew: what the stored counts must equal."""
    supports = dict(session.exec(select(Support.idea_id, func.count()).group_by(col(Support.idea_id))).all())
    said = dict(session.exec(select(Comment.idea_id, func.count()).group_by(col(Comment.idea_id))).all())
    return {
        number: (supports.get(number, 0), said.get(number, 0))
        for number in session.exec(select(Idea.id)).all()
        if number is not None
    }


class IdeaLine(NamedTuple):
    """One line of ``labbot export ideas``."""

    number: int
    title: str
    text: str
    topic: str
    status: str
    author: str | None
    supports: int
    comments: int
    created_at: datetime


def export(session: Session, page: int = 1000) -> Iterator[IdeaLine]:
    """Every idea that is not withdrawn, in keyset pages of ``page``; the author as everybody sees them."""
    last = 0
    query = select(Idea, Person).join(Person, isouter=True).where(Idea.status != Status.WITHDRAWN)
    while rows := session.exec(query.where(col(Idea.id) > last).order_by(col(Idea.id)).limit(page)).all():
        session.commit()  # whoever reads slowly holds up nobody
        for idea, author in rows:
            assert idea.id is not None
            last = idea.id
            yield IdeaLine(
                last,
                idea.title,
                idea.text,
                idea.topic,
                idea.status,
                _signature(idea, author),
                idea.supports,
                idea.comments,
                idea.created_at,
            )


def _searched(title: str, text: str) -> str:
    return f"{title}\n{text}".casefold()
