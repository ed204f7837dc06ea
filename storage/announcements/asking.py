"""What people ask back: a question to the team about an announcement, and the way its answer takes."""

from datetime import datetime

from sqlmodel import Field, Session, SQLModel

LONGEST_QUESTION = 2000
"""In characters."""


class Question(SQLModel, table=True):
    """Something a person has asked the team; ``named`` when they want the team to read their name."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    announcement_id: int = Field(foreign_key="announcement.id")
    person_id: int = Field(foreign_key="person.id", index=True)
    text: str
    named: bool = False
    answers: int = 0
    asked_at: datetime

    @property
    def number(self) -> int:
        """Its id, which it has once it is stored."""
        assert self.id is not None
        return self.id


def ask(session: Session, announcement: int, person_id: int, text: str, now: datetime) -> Question:
    """A question to the team."""
    asked = Question(announcement_id=announcement, person_id=person_id, text=text, asked_at=now)
    session.add(asked)
    session.flush()
    return asked


def find(session: Session, number: str) -> Question | None:
    """The question of this number, unless whoever asked it has left."""
    return session.get(Question, int(number)) if number.isdecimal() else None


def answered(session: Session, question: Question) -> None:
    """The team has answered."""
    question.answers += 1
    session.add(question)
    session.flush()
