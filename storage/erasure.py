"""Leaving: what happens to each table's rows when a person erases themselves. No table may be forgotten."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlmodel import Session, col

from storage.announcements.asking import Question
from storage.announcements.ledger import DELIVERED as ARRIVED
from storage.announcements.ledger import FAILED, UNREACHABLE, WITHDRAWN, Delivery
from storage.announcements.subscribing import QuietHours, Subscription
from storage.announcements.writing import Announcement
from storage.chats import Chat
from storage.conversation import Dialog, Failed
from storage.engine import overwrite_deleted
from storage.events import places
from storage.events.tables import Attendee, Event, Reminder
from storage.ideas import Comment, Follow, Idea, Status, Support
from storage.linking import Link
from storage.outbox import Outbox
from storage.people import Account, Attempt, Person
from storage.polls import asking, leaving
from storage.polls.tables import Elector, PollAnswer, Proposal
from storage.reactions import Reaction
from storage.rooms import Hearing

Rule = Callable[[Session, int, bool], None]


def erase(session: Session, person_id: int, keep_ideas: bool) -> None:
    """Forget a person. With ``keep_ideas`` their ideas and comments stay, signed by nobody; else they go too."""
    for rule in RULES.values():
        if not isinstance(rule, str):
            rule(session, person_id, keep_ideas)
    session.expire_all()


def private_chats(person_id: int) -> Select[Any]:
    """The ids of a person's private chats."""
    return (
        select(col(Chat.id))
        .join(Account, col(Account.id) == col(Chat.account_id))
        .where(col(Account.person_id) == person_id)
    )


def _supports(session: Session, person_id: int, _keep: bool) -> None:
    mine = select(col(Support.idea_id)).where(col(Support.person_id) == person_id)
    session.execute(update(Idea).where(col(Idea.id).in_(mine)).values(supports=col(Idea.supports) - 1))
    session.execute(delete(Support).where(col(Support.person_id) == person_id))


def _follows(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Follow).where(col(Follow.person_id) == person_id))


def _comments(session: Session, person_id: int, keep: bool) -> None:
    mine = col(Comment.author_id) == person_id
    if keep:
        session.execute(update(Comment).where(mine).values(author_id=None))
        return
    said = select(func.count()).where(col(Comment.idea_id) == col(Idea.id), mine).correlate(Idea).scalar_subquery()
    touched = select(col(Comment.idea_id)).where(mine)
    session.execute(update(Idea).where(col(Idea.id).in_(touched)).values(comments=col(Idea.comments) - said))
    session.execute(delete(Comment).where(mine))


def _ideas(session: Session, person_id: int, keep: bool) -> None:
    mine = col(Idea.author_id) == person_id
    if keep:  # what was withdrawn goes all the same: nobody would be left to erase it
        forgotten = {"author_id": None, "named": False, "source_chat_id": None, "source": None}
        session.execute(update(Idea).where(mine, col(Idea.status) != Status.WITHDRAWN).values(**forgotten))
    for number in session.execute(select(col(Idea.id)).where(mine)).scalars().all():
        # Lists of ideas stand in other people's chats, with the title on a button.
        shown = col(Outbox.choices).contains(f'"idea.show", ["{number}"]')
        session.execute(update(Outbox).where(shown).values(choices=None))
    ids = select(col(Idea.id)).where(mine)
    for table in (Support, Follow, Comment):
        session.execute(delete(table).where(col(table.idea_id).in_(ids)))
    session.execute(delete(Idea).where(mine))


def _deliveries(session: Session, person_id: int, _keep: bool) -> None:
    # What has come to its end stays counted; what has not is nobody's any more.
    mine = col(Delivery.person_id) == person_id
    open_still = col(Delivery.state).not_in([ARRIVED, UNREACHABLE, FAILED, WITHDRAWN])
    waiting = select(col(Delivery.announcement_id)).where(mine, open_still)
    fewer = update(Announcement).where(col(Announcement.id).in_(waiting))
    session.execute(fewer.values(recipients=col(Announcement.recipients) - 1))
    session.execute(delete(Delivery).where(mine))


def _questions(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Question).where(col(Question.person_id) == person_id))


def _subscriptions(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Subscription).where(col(Subscription.person_id) == person_id))


def _quiet_hours(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(QuietHours).where(col(QuietHours.person_id) == person_id))


def _hearing(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Hearing).where(col(Hearing.chat_id).in_(private_chats(person_id))))


def _announcements(session: Session, person_id: int, _keep: bool) -> None:
    # They are the lab's words; who wrote them and where is forgotten.
    mine, second = col(Announcement.author_id) == person_id, col(Announcement.second_id) == person_id
    session.execute(update(Announcement).where(mine).values(author_id=None, chat_id=None))
    session.execute(update(Announcement).where(second).values(second_id=None))


def _reminders(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Reminder).where(col(Reminder.person_id) == person_id))


def _rsvps(session: Session, person_id: int, _keep: bool) -> None:
    places.leave_all(session, person_id)


def _attendees(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Attendee).where(col(Attendee.person_id) == person_id))


def _events(session: Session, person_id: int, keep: bool) -> None:
    # An event is the lab's: it takes place, whoever has written it down.
    session.execute(update(Event).where(col(Event.author_id) == person_id).values(author_id=None))
    mine = select(col(Idea.id)).where(col(Idea.author_id) == person_id)
    if not keep:
        session.execute(update(Event).where(col(Event.idea_id).in_(mine)).values(idea_id=None))


def _dialogs(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Dialog).where(col(Dialog.person_id) == person_id))


def _reactions(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Reaction).where(col(Reaction.person_id) == person_id))


def _failed(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Failed).where(col(Failed.person_id) == person_id))


def messages_to(person_id: int) -> ColumnElement[bool]:
    """The messages in a person's private chats, and the questions put to them in groups."""
    return or_(col(Outbox.person_id) == person_id, col(Outbox.chat_id).in_(private_chats(person_id)))


def _outbox(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Outbox).where(messages_to(person_id)))


def _chats(session: Session, person_id: int, _keep: bool) -> None:
    # The chat itself goes when the goodbye is delivered (storage.outbox.close_left_chats).
    mine = update(Chat).where(col(Chat.id).in_(private_chats(person_id)))
    session.execute(mine.values(account_id=None), execution_options={"synchronize_session": False})


def _accounts(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Account).where(col(Account.person_id) == person_id))


def _links(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Link).where(or_(col(Link.person_id) == person_id, col(Link.other_id) == person_id)))


def _ballots(session: Session, person_id: int, _keep: bool) -> None:
    leaving.forget(session.connection(), person_id)
    overwrite_deleted(session.connection())


def _poll_answers(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(PollAnswer).where(col(PollAnswer.person_id) == person_id))


def _electors(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Elector).where(col(Elector.person_id) == person_id))


def _proposals(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Proposal).where(col(Proposal.person_id) == person_id))


def _polls(session: Session, person_id: int, _keep: bool) -> None:
    asking.forget_author(session.connection(), person_id)


def _poll_places(session: Session, person_id: int, _keep: bool) -> None:
    asking.forget_places(session.connection(), private_chats(person_id))


def _attempts(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Attempt).where(col(Attempt.person_id) == person_id))


def _person(session: Session, person_id: int, _keep: bool) -> None:
    session.execute(delete(Person).where(col(Person.id) == person_id))


RULES: dict[str, Rule | str] = {
    "reminder": _reminders,
    "rsvp": _rsvps,
    "attendee": _attendees,
    "event": _events,
    "support": _supports,
    "follow": _follows,
    "comment": _comments,
    "idea": _ideas,
    "ballot": _ballots,
    "poll_answer": _poll_answers,
    "elector": _electors,
    "proposal": _proposals,
    "poll": _polls,
    "poll_place": _poll_places,
    "delivery": _deliveries,
    "question": _questions,
    "subscription": _subscriptions,
    "quiet_hours": _quiet_hours,
    "hearing": _hearing,
    "announcement": _announcements,
    "dialog": _dialogs,
    "reaction": _reactions,
    "failed": _failed,
    "outbox": _outbox,
    "link": _links,
    "chat": _chats,
    "account": _accounts,
    "attempt": _attempts,
    "person": _person,
    "poll_option": "holds what is asked, for everybody to see",
    "tally": "holds sums; a result stands when somebody leaves",
    "ballot_key": "belongs to a poll, and is destroyed at its close",
    "secret_ballot": "names nobody; while the poll is open, the rule of “ballot” removes it by its tag",
    "loose_ballot": "holds ballots that belong to nobody",
    "event_series": "holds rules of repetition only",
    "received": "holds ids of updates only, for three days",
    "cursor": "is about a messenger, not about people",
    "wording": "holds the lab's own words",
    "uploaded": "is about files the lab has sent to many",
    "invite": "holds digests of codes, not who claimed them",
}
"""What happens to each table's rows, in the order that foreign keys allow; a text says why nothing does."""
