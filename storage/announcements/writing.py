"""An announcement as it is written: its words in each language, what goes with it, and what has become of it."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, Index, delete, func, update
from sqlmodel import Field, Session, SQLModel, col, select

from storage.engine import partial, table_of

EVERYBODY, ROOMS, TOPIC, GROUP, SUPPORTERS = "everybody", "rooms", "topic", "group", "supporters"
PARTICIPANTS_OF = "participants"
"""Whom an announcement is for. All but two name which one: ``topic:mobility``, ``supporters:42``; of an event also
those with which answers: ``participants:5:yes+maybe``."""

GENERAL = ""
"""The topic of what the lab writes to everybody."""


class Status(StrEnum):
    """What has become of an announcement."""

    DRAFT = "draft"
    CONSENT = "consent"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    DONE = "done"
    STOPPED = "stopped"
    RECALLED = "recalled"


UNSENT = (Status.DRAFT, Status.CONSENT)
"""While it can be changed freely."""


class Announcement(SQLModel, table=True):
    """Something the lab writes to many; its id is the number people call it by.

    ``author_id`` is who has begun it, and from then on who has sent it, in the chat where they are told about it.
    ``locale`` is the language that those get for whose own there is no wording. ``topic`` is what its readers can
    turn off. ``links`` are buttons, a JSON list of label and address; ``file`` is a picture or file somebody sent, a
    JSON list of messenger, id, name, media type and size; ``attached`` names a thing that goes with it ("idea:42"), and
    ``attached_as`` is what its copies say of that, as far as its author knows (facts as JSON; ``None``: not sent yet).
    ``version`` counts what its copies shall look like; ``consent`` asks a second organiser, who is ``second_id``.

    ``starts_at`` is when it shall begin (``None``: at once), ``step_at`` when something is to be done about it next
    (``None``: nothing). ``by_day`` leaves the night out. ``reached`` and ``until`` are how far, and up to which person,
    the audience is fixed. The counts are those of the ledger, kept in the transaction that changes it.
    ``begun_at`` and ``begun_from`` (how many were seen to then) tell the rate; ``moved_at`` is when a copy was last
    over, ``stalled`` whether its author has been told that nothing goes on, ``stood_from`` and ``stood_until`` when it
    last stood still for some time, ``told_at`` when they were last told how far it is, ``warned`` whether they have
    been asked what to do about refusals. ``looked_at`` is when somebody last had a draft before them.
    """

    __table_args__ = (
        Index("ix_announcement_step_at", "step_at", **partial("step_at IS NOT NULL")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    author_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    second_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    consent: bool = False
    chat_id: int | None = Field(default=None, foreign_key="chat.id")
    status: str = Status.DRAFT
    paused: bool = False
    locale: str
    audience: str = EVERYBODY
    topic: str = GENERAL
    links: str = "[]"
    file: str | None = None
    attached: str | None = None
    attached_as: str | None = None
    version: int = 1
    by_day: bool = False
    starts_at: datetime | None = None
    step_at: datetime | None = None
    reached: int = 0
    until: int | None = None
    recipients: int = 0
    delivered: int = 0
    unreachable: int = 0
    failed: int = 0
    withdrawn: int = 0
    begun_at: datetime | None = None
    begun_from: int = 0
    moved_at: datetime | None = None
    stalled: bool = False
    stood_from: datetime | None = None
    stood_until: datetime | None = None
    told_at: datetime | None = None
    warned: bool = False
    looked_at: datetime | None = None
    created_at: datetime

    @property
    def number(self) -> int:
        """Its id, which it has once it is stored."""
        assert self.id is not None
        return self.id

    @property
    def over(self) -> int:
        """How many copies have come to their end, one way or the other."""
        return self.delivered + self.unreachable + self.failed + self.withdrawn

    @property
    def pending(self) -> int:
        """How many copies are still on their way."""
        return self.recipients - self.over


class Wording(SQLModel, table=True):
    """An announcement in one language: as it was written, and as HTML."""

    announcement_id: int = Field(foreign_key="announcement.id", primary_key=True)
    locale: str = Field(primary_key=True)
    text: str
    html: str


announcement_table = table_of(Announcement)


class NotThere(Exception):
    """There is no such announcement."""


def draft(session: Session, *, author_id: int, chat_id: int, locale: str, now: datetime) -> Announcement:
    """Begin an announcement."""
    new = Announcement(author_id=author_id, chat_id=chat_id, locale=locale, created_at=now)
    session.add(new)
    session.flush()
    return new


def find(session: Session, number: str | int) -> Announcement:
    """The announcement of this number, held until the transaction ends. Raises ``NotThere``."""
    known = str(number).isdecimal() and len(str(number)) < 10
    found = session.get(Announcement, int(number), with_for_update=True) if known else None
    if found is None:
        raise NotThere(number)
    return found


def word(session: Session, announcement: Announcement, locale: str, text: str, html: str) -> None:
    """What it says in one language, from now on."""
    session.merge(Wording(announcement_id=announcement.number, locale=locale, text=text, html=html))
    announcement.version += 1
    change(session, announcement)


def wordings(session: Session, number: int) -> dict[str, Wording]:
    """Its wordings by language."""
    query = select(Wording).where(Wording.announcement_id == number).order_by(col(Wording.locale))
    return {wording.locale: wording for wording in session.exec(query).all()}


def change(session: Session, announcement: Announcement) -> None:
    """Store what was changed."""
    session.add(announcement)
    session.flush()


def discard(session: Session, announcement: Announcement) -> None:
    """Forget a draft."""
    session.execute(delete(Wording).where(col(Wording.announcement_id) == announcement.number))
    session.delete(announcement)
    session.flush()


def left_alone(session: Session, before: datetime, most: int = 20) -> Sequence[Announcement]:
    """Drafts that nobody has looked at since then."""
    since = func.coalesce(col(Announcement.looked_at), col(Announcement.created_at))
    query = select(Announcement).where(col(Announcement.status).in_(UNSENT), since < before)
    return session.exec(query.order_by(col(Announcement.id)).limit(most).with_for_update()).all()


def send(session: Session, announcement: Announcement, second_id: int | None, now: datetime) -> bool:
    """Let it go out as it looks now. False when somebody else has just sent or changed it."""
    later = announcement.starts_at is not None and announcement.starts_at > now
    sent = (
        update(Announcement)
        .where(
            col(Announcement.id) == announcement.number,
            col(Announcement.version) == announcement.version,
            col(Announcement.status).in_(UNSENT),
        )
        .values(
            status=Status.SCHEDULED if later else Status.SENDING,
            second_id=second_id,
            step_at=announcement.starts_at if later else now,
            moved_at=now,
        )
        .returning(col(Announcement.id))
    )
    taken = session.execute(sent, execution_options={"synchronize_session": False}).first() is not None
    session.expire_all()
    return taken


def next_step(connection: Connection) -> datetime | None:
    """When something is to be done about an announcement next."""
    query = select(func.min(announcement_table.c.step_at)).where(announcement_table.c.step_at.is_not(None))
    return connection.execute(query).scalar_one_or_none()


def due(session: Session, now: datetime, most: int = 20) -> Sequence[Announcement]:
    """The announcements about which something is to be done now."""
    query = select(Announcement).where(col(Announcement.step_at).is_not(None), col(Announcement.step_at) <= now)
    return session.exec(query.order_by(col(Announcement.step_at)).limit(most).with_for_update()).all()


def newest(session: Session, most: int) -> Sequence[Announcement]:
    """The newest announcements."""
    return session.exec(select(Announcement).order_by(col(Announcement.id).desc()).limit(most)).all()


def under_way(session: Session, most: int) -> Sequence[Announcement]:
    """The newest announcements about which something is still to be done, and those that are paused."""
    moving = col(Announcement.step_at).is_not(None) | col(Announcement.paused)
    return session.exec(select(Announcement).where(moving).order_by(col(Announcement.id).desc()).limit(most)).all()


def with_things(session: Session, since: datetime) -> Sequence[Announcement]:
    """The announcements begun since then whose copies say something of a thing that goes along; not held."""
    query = select(Announcement).where(
        col(Announcement.attached_as).is_not(None),
        col(Announcement.created_at) >= since,
        col(Announcement.status).in_([Status.SENDING, Status.DONE, Status.STOPPED]),
    )
    return session.exec(query.order_by(col(Announcement.id))).all()


class AnnouncementLine(NamedTuple):
    """One line of ``labbot export announcements``."""

    number: int
    text: str
    status: str
    recipients: int
    delivered: int
    unreachable: int
    failed: int
    pending: int


def export(session: Session, page: int = 1000) -> Iterator[AnnouncementLine]:
    """Every announcement that was sent, in keyset pages of ``page``, in the language it was first written in."""
    last = 0
    query = select(Announcement).where(col(Announcement.status).not_in(UNSENT)).order_by(col(Announcement.id))
    while found := session.exec(query.where(col(Announcement.id) > last).limit(page)).all():
        texts = {one.number: wordings(session, one.number)[one.locale].text for one in found}
        session.commit()  # whoever reads slowly holds up nobody
        for one in found:
            last = one.number
            yield AnnouncementLine(
                last,
                texts[last],
                "paused" if one.paused else one.status,
                one.recipients,
                one.delivered,
                one.unreachable,
                one.failed,
                one.pending,
            )
