"""The tables of polls: what is asked, where it stands, who may vote, and the ballots."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, UniqueConstraint, false
from sqlmodel import Field, SQLModel

from storage.engine import partial, table_of

MOST_OPTIONS = 20
LONGEST_OPTION = 80
LONGEST_QUESTION = 300
LONGEST_REASON = 500
LONGEST_OUTCOME = 1000
"""In UTF-16 code units, as messengers count: a poll with its bars fits into one message."""

MOST_DOTS = 20


class Secrecy(StrEnum):
    """Who can see how somebody has voted: everybody, the lab's team, or nobody."""

    OPEN = "open"
    TEAM = "team"
    SECRET = "secret"


class Audience(StrEnum):
    """Who may vote: whoever is in a group where it stands, or in one of the rooms it was asked in and nowhere else;
    everybody the lab knows, its team, or named parts of society."""

    PLACES = "places"
    ROOMS = "rooms"
    LAB = "lab"
    TEAM = "team"
    NAMED = "named"


class Results(StrEnum):
    """When a voter sees the count: always, once they have voted, or after the close."""

    ALWAYS = "always"
    VOTED = "voted"
    CLOSED = "closed"


class Status(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


# In a table without row ids the rows lie in the order of their key: nothing tells in which order they came.
_BY_KEY: dict[str, Any] = {"sqlite_with_rowid": False}


class Poll(SQLModel, table=True):
    """A question; its id is the number people call it by.

    ``most`` is how many options may be chosen, or how many dots there are. ``options`` and ``voters`` are counts kept
    in the transaction that changes them. ``named`` are the parts of society of ``Audience.NAMED``, with commas between.
    ``link`` is the unguessable part of its deep link: who has it was in a group where the poll stands. ``refresh_at``
    is when its copies are to show what they do not show yet. ``remind_at`` is when those who have not voted are
    reminded, and ``reminded`` the last person who was. ``result`` is what ``counting.Result`` stores at the close.
    ``outcome`` is what happens now, in somebody's words. ``mirrored`` is true once it has stood somewhere as the
    messenger's own, too: then all that people answer is kept until the close (``PollAnswer``).
    """

    __table_args__ = (
        Index("ix_poll_closes_at", "closes_at", **partial("status = 'open' AND closes_at IS NOT NULL")),
        Index("ix_poll_remind_at", "remind_at", **partial("status = 'open' AND remind_at IS NOT NULL")),
        Index("ix_poll_closed_at", "closed_at", **partial("secrecy = 'secret' AND closed_at IS NOT NULL")),
        Index("ix_poll_refresh_at", "refresh_at", **partial("refresh_at IS NOT NULL")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    question: str
    kind: str
    secrecy: str = Secrecy.OPEN
    audience: str = Audience.PLACES
    named: str = ""
    results: str = Results.ALWAYS
    most: int = 1
    quorum: int = 0
    proposals: bool = False
    until_all: bool = False
    author_id: int | None = Field(default=None, foreign_key="person.id", index=True)
    link: str
    status: str = Status.OPEN
    options: int = 0
    voters: int = 0
    refresh_at: datetime | None = None
    opened_at: datetime
    closes_at: datetime | None = None
    remind_at: datetime | None = None
    reminded: int = 0
    closed_at: datetime | None = None
    result: str | None = None
    outcome: str | None = None
    mirrored: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class PollOption(SQLModel, table=True):
    """What can be chosen; people call it by its position, counted from 1."""

    __tablename__ = "poll_option"

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    position: int = Field(primary_key=True)
    text: str


class PollPlace(SQLModel, table=True):
    """A chat where a poll stands. Whoever is there may vote, so a private one is none once others come in."""

    __tablename__ = "poll_place"
    __table_args__ = ({"info": {"ends_when_opened": True}},)

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    chat_id: int = Field(foreign_key="chat.id", primary_key=True, index=True)


class Elector(SQLModel, table=True):
    """Somebody who may vote, having been in a group where the poll stands: they came by its link, or took a vote back.

    Who takes back a vote in a secret poll is not noted.
    """

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True, index=True)


class Proposal(SQLModel, table=True):
    """An option a voter would like to see. It is removed when the poll's author decides."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    poll_id: int = Field(foreign_key="poll.id", index=True)
    person_id: int = Field(foreign_key="person.id", index=True)
    text: str


class Ballot(SQLModel, table=True):
    """How a person has voted in an open poll, or in one where the team can see it. The key allows one each.

    ``content`` holds the numbers of ``counting.Content``, separated by commas; ``reason`` why somebody objects.
    """

    __table_args__ = (_BY_KEY,)

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    person_id: int = Field(foreign_key="person.id", primary_key=True, index=True)
    content: str
    reason: str = ""
    at: datetime


class PollAnswer(SQLModel, table=True):
    """What somebody has answered in an open poll that is mirrored; the latest one is their ballot.

    ``external`` is what the messenger calls an answer in its own poll, in the chat where that stands; both are ``None``
    for one that was given by number. ``content`` is as in ``Ballot``, or ``None`` where nothing was chosen. ``at`` is
    when it was sent, by the messenger's own clock.
    """

    __tablename__ = "poll_answer"
    __table_args__ = (
        UniqueConstraint("chat_id", "external"),
        Index("ix_poll_answer_poll_id_person_id", "poll_id", "person_id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    poll_id: int = Field(foreign_key="poll.id")
    person_id: int = Field(foreign_key="person.id", index=True)
    chat_id: int | None = Field(default=None, foreign_key="chat.id")
    external: str | None = None
    content: str | None = None
    at: datetime


class BallotKey(SQLModel, table=True):
    """The key of a secret poll. It is made with the poll and destroyed at the close."""

    __tablename__ = "ballot_key"

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    key: bytes


class SecretBallot(SQLModel, table=True):
    """How somebody has voted in a secret poll that is open.

    ``tag`` is HMAC-SHA256(key of the poll, person): it allows one ballot each, and without the key it is a random
    number. ``moment`` is when, encrypted with the same key: of two linked accounts' ballots the latest one counts.
    """

    __tablename__ = "secret_ballot"
    __table_args__ = (_BY_KEY,)

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    tag: bytes = Field(primary_key=True)
    content: str
    reason: str = ""
    moment: bytes


class LooseBallot(SQLModel, table=True):
    """Ballots that belong to nobody any more, equal ones together: a secret poll's from its close on.

    Also those whose voter has left after the close, when the result stands.
    """

    __tablename__ = "loose_ballot"
    __table_args__ = (_BY_KEY,)

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    content: str = Field(primary_key=True)
    reason: str = Field(default="", primary_key=True)
    number: int


class Tally(SQLModel, table=True):
    """What the ballots add up to, by option and slot (see ``counting.weights``).

    Kept in the transaction of each vote. A secret poll has none before its close.
    """

    __table_args__ = (_BY_KEY,)

    poll_id: int = Field(foreign_key="poll.id", primary_key=True)
    position: int = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    number: int


poll_table = table_of(Poll)
option_table = table_of(PollOption)
place_table = table_of(PollPlace)
elector_table = table_of(Elector)
proposal_table = table_of(Proposal)
ballot_table = table_of(Ballot)
answer_table = table_of(PollAnswer)
key_table = table_of(BallotKey)
secret_table = table_of(SecretBallot)
loose_table = table_of(LooseBallot)
tally_table = table_of(Tally)
