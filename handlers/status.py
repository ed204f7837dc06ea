"""Status: how the bot is, for organisers; and the housekeeping that keeps its memory short."""

from sqlalchemy import func
from sqlmodel import col, select

from bot.router import Router
from bot.turn import Turn
from bot.types import Lines, T, Text
from handlers.announcements.words import how_far
from handlers.people import messengers
from storage import conversation, linking, outbox, people, reactions
from storage.announcements import writing
from storage.conversation import Failed
from storage.ideas import OPEN, Idea
from storage.outbox import PENDING, UNDELIVERABLE, UNSURE, Outbox
from storage.people import Person, Role

router = Router()


@router.command("status", help=T("How I am: queues, failures"), role=Role.ORGANISER)
def status(turn: Turn, _text: str) -> None:
    db = turn.db
    everybody = db.exec(select(func.count()).select_from(Person)).one()
    ideas = db.exec(select(func.count()).where(col(Idea.status).in_(OPEN))).one()
    lines: list[Text] = [T("I am well. People: {people}. Ideas: {ideas}.", people=everybody, ideas=ideas)]
    counts = outbox.count(turn.connection)
    for adapter in sorted(turn.lab.limits):
        lines.append(
            T(
                "{adapter}: {pending} waiting, {undeliverable} undeliverable, {unsure} unsure",
                adapter=messengers([adapter]),
                pending=counts.get((adapter, PENDING), 0),
                undeliverable=counts.get((adapter, UNDELIVERABLE), 0),
                unsure=counts.get((adapter, UNSURE), 0),
            )
        )
    lines += [how_far(turn, announcement) for announcement in writing.under_way(db, 5)]
    newest = col(Outbox.id).desc()
    for row in db.exec(select(Outbox).where(Outbox.state == UNSURE).order_by(newest).limit(5)).all():
        lines.append(
            T(
                "Message {number} of {date} may or may not have arrived: {reason}",
                number=str(row.id),
                date=row.queued_at,
                reason=row.error or "",
            )
        )
    failed = db.exec(select(func.count()).select_from(Failed)).one()
    if failed:
        lines.append(T("Updates I could not handle in the last 30 days: {failed}", failed=failed))
    turn.say(Lines(lines))


@router.every(minutes=60)
def prune(turn: Turn) -> None:
    """Forget what nobody needs any more."""
    conversation.prune(turn.connection, turn.now)
    outbox.prune(turn.connection, turn.now)
    people.prune(turn.db, turn.now)
    reactions.prune(turn.connection, turn.now)
    linking.prune(turn.db, turn.now)


@router.every(minutes=1)
def close_left_chats(turn: Turn) -> None:
    """Remove the chats of those who have left."""
    outbox.close_left_chats(turn.connection)
