"""The tables of events, series, places and reminders."""

from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from storage.engine import partial

LONGEST_TITLE = 120
LONGEST_TEXT = 1500
LONGEST_PLACE = 200
LONGEST_FACT = 200
"""In characters: a whole card fits into one message of every messenger."""

MOST_PLACES = 100_000
"""The largest capacity an event can have."""

MOST_COMPANIONS = 5
"""How many others a person may bring."""

ACCESS = ("step_free", "induction_loop", "sign_language", "plain_language", "child_care", "public_transport")
"""The facts about accessibility that can be told of an event, in the order they are shown."""

AHEADS = (10080, 4320, 1440, 120, 60)
"""How long before its beginning an event can be reminded of, in minutes; whole days count by the wall clock."""

USUAL_AHEADS = "10080 1440 120"
"""A week, a day and two hours: what an event begins with."""


class Status(StrEnum):
    """What has become of an event."""

    DRAFT = "draft"
    PUBLISHED = "published"
    CANCELLED = "cancelled"


class State(StrEnum):
    """What a person has said, and what came of it. ``OFFERED``: a place is held for them until they answer."""

    YES = "yes"
    OFFERED = "offered"
    WAITING = "waiting"
    MAYBE = "maybe"
    NO = "no"


class Kind(StrEnum):
    """What a due row asks for."""

    REMIND = "remind"
    FEEDBACK = "feedback"
    NEWS = "news"
    HOLD = "hold"
    DEADLINE = "deadline"
    PROMOTE = "promote"
    FEWER = "fewer"
    ASK = "ask"
    INVITE = "invite"
    COPIES = "copies"


class Outcome(StrEnum):
    """What has become of a due row. ``EXPIRED``: nobody was told, because it would have been of no use any more."""

    PENDING = "pending"
    DONE = "done"
    EXPIRED = "expired"


class Series(SQLModel, table=True):
    """Events that come again by a rule (RFC 5545, 3.3.10), counted from ``wall``, a time on the clock of ``zone``.

    Each occurrence is an event of its own. ``rule`` always ends, by its COUNT.
    """

    __tablename__ = "event_series"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    uid: str = Field(unique=True)
    rule: str
    wall: str
    zone: str
    minutes: int


class Event(SQLModel, table=True):
    """People meet; its id is the number people call it by.

    ``wall`` is the time on the clock of ``zone`` at which it begins ("2026-12-05T18:00"): that is what was agreed, and
    ``starts_at`` and ``ends_at`` follow from it. ``locale`` are the languages it is in, as BCP 47 tags, ``access`` keys
    of ``ACCESS``, ``reminders`` minutes of ``AHEADS``, all with spaces between. ``going``, ``held``, ``maybe`` and
    ``waiting`` count heads, companions included, in the transaction that changes them; ``line`` is the last number
    given out in the waiting list. ``uid`` and ``sequence`` are the calendar's (RFC 5545). ``occurrence`` is where its
    series has it, as a wall time. It may come from an idea, or from the date of a poll that has won: ``poll_option`` is
    its position.
    """

    __table_args__ = (
        Index("ix_event_starts_at", "status", "starts_at", "id"),
        Index("ix_event_series", "series_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    title: str
    text: str = ""
    place: str = ""
    topic: str
    locale: str
    access: str = ""
    cost: str = ""
    link: str = ""
    wall: str
    zone: str
    minutes: int
    starts_at: datetime
    ends_at: datetime
    status: str = Status.DRAFT
    capacity: int | None = None
    least: int | None = None
    closes_at: datetime | None = None
    going: int = 0
    held: int = 0
    maybe: int = 0
    waiting: int = 0
    line: int = 0
    reminders: str = USUAL_AHEADS
    uid: str = Field(unique=True)
    sequence: int = 0
    series_id: int | None = Field(default=None, foreign_key="event_series.id")
    occurrence: str | None = None
    source: int | None = None
    author_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    idea_id: int | None = Field(default=None, foreign_key="idea.id", index=True)
    poll_id: int | None = Field(default=None, foreign_key="poll.id")
    poll_option: int | None = None
    code: str = ""
    notes: str = ""
    created_at: datetime
    changed_at: datetime

    @property
    def number(self) -> int:
        """What people call it by."""
        assert self.id is not None
        return self.id

    @property
    def begins(self) -> datetime:
        """The wall time of its beginning, naive."""
        return datetime.fromisoformat(self.wall)

    @property
    def clock(self) -> ZoneInfo:
        """The zone of its wall time."""
        return ZoneInfo(self.zone)

    @property
    def free(self) -> int | None:
        """How many places are left, those on hold not counted; ``None`` without a limit."""
        return None if self.capacity is None else max(0, self.capacity - self.going - self.held)


class Rsvp(SQLModel, table=True):
    """A person's answer to an event. ``line`` orders those who wait; ``remind`` is their own choice of reminders.

    ``remind`` is ``None`` for the event's own, "" for none. ``asked`` names companions, if they want.
    """

    __table_args__ = (
        Index("ix_rsvp_state", "event_id", "state", "line", "person_id"),
        Index("ix_rsvp_person", "person_id", "event_id"),
    )

    event_id: int = Field(foreign_key="event.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True)
    state: str
    companions: int = 0
    names: str = ""
    line: int = 0
    held_until: datetime | None = None
    remind: str | None = None
    arrived_at: datetime | None = None
    stars: int | None = None
    said: str = ""
    at: datetime

    @property
    def heads(self) -> int:
        """The person and those they bring."""
        return 1 + self.companions


class Reminder(SQLModel, table=True):
    """Something about an event is due at a moment, to be told to a person, to a group, or to be decided.

    ``ahead`` is the rule it was computed from: minutes before the beginning. ``note`` says what the news is.
    """

    __table_args__ = (
        Index("ix_reminder_due", "due_at", "id", **partial("state = 'pending'")),
        Index("ix_reminder_event", "event_id", "person_id", "kind", "ahead"),
        Index("ix_reminder_person", "person_id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    event_id: int = Field(foreign_key="event.id")
    person_id: int | None = Field(default=None, foreign_key="person.id")
    chat_id: int | None = Field(default=None, foreign_key="chat.id")
    kind: str = Kind.REMIND
    ahead: int = 0
    note: str = ""
    due_at: datetime
    state: str = Outcome.PENDING


class Attendee(SQLModel, table=True):
    """What a person wants of events in general. ``feed`` is the digest of their calendar's secret address.

    ``mention`` allows a group's reminder to name them, so that it rings for them.
    """

    person_id: int = Field(foreign_key="person.id", primary_key=True)
    news: bool = False
    mention: bool = False
    remind: str | None = None
    feed: str | None = Field(default=None, unique=True)
