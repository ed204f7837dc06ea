"""Killed while reminders fall due: each is sent once, or at most what was in flight twice; none is missing."""

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert
from sqlmodel import Session, select

from storage.chats import Chat
from storage.events import planning
from storage.events.planning import Plan
from storage.events.tables import Kind, Reminder, Rsvp, State
from storage.people import Account, Person
from tests.adapters.telegram_server import TelegramServer
from tests.faults.process import PATIENCE, Labbot, serving

PEOPLE = 1000
KILLS = 4
BULK_IN_FLIGHT = 8


def remind_all(session: Session, ids: list[int], at: datetime) -> None:
    """Everybody has said yes to an event, and is to be reminded of it at this time."""
    now = datetime.now(UTC)
    plan = Plan("Walk", (now + timedelta(days=9)).replace(tzinfo=None), 60, "other", "en", "Europe/Berlin")
    [event] = planning.create(session, plan, None, now)
    planning.publish(session, [event], now)
    number = event.number
    session.execute(
        insert(Person),
        [
            {"id": n, "pseudonym": f"P{n}", "handle": f"p{n}", "role": "participant", "notice": 1, "created_at": now}
            for n in ids
        ],
    )
    session.execute(
        insert(Account),
        [{"id": n, "person_id": n, "adapter": "telegram", "external": str(n), "created_at": now} for n in ids],
    )
    session.execute(
        insert(Chat),
        [
            {
                "adapter": "telegram", "external": str(n), "private": True, "account_id": n, "locale": "en",
                "active": True, "team": False, "created_at": now,
            }
            for n in ids
        ],
    )  # fmt: skip
    answer = {"event_id": number, "state": State.YES, "companions": 0, "names": "", "line": 0, "said": "", "at": now}
    session.execute(insert(Rsvp), [{**answer, "person_id": n} for n in ids])
    due = {"event_id": number, "kind": Kind.REMIND, "ahead": 60, "note": "", "due_at": at, "state": "pending"}
    session.execute(insert(Reminder), [{**due, "person_id": n} for n in ids])
    session.commit()


class Outcome(NamedTuple):
    """What came of a story: how often each person was reminded, what became of the rows, and how long it took."""

    told: Counter[int]
    states: set[str]
    seconds: float


async def story(folder: Path, port: int, *, people: int, kills: int) -> Outcome:
    """Everybody's reminder falls due while the process is down, and it is killed again and again as it tells them."""
    dice = random.Random(20_261_205)
    began = time.monotonic()
    async with TelegramServer() as server, Labbot(folder, server.url, port) as labbot:
        await serving(server)
        users = [server.user(language_code="en") for _ in range(people)]
        for user in users:
            server.private(user)
            user.started = True
        with labbot.database() as session:
            remind_all(session, [user.id for user in users], datetime.now(UTC))
        await labbot.kill()
        for moment in sorted(dice.sample(range(50, people - 50), kills)):
            await labbot.start()
            await server.wait_for(partial(lambda so_many: len(server.outgoing) >= so_many, moment), PATIENCE)
            await labbot.kill()
        await labbot.start()
        await server.wait_for(lambda: len({message.chat.id for message in server.outgoing}) == people, PATIENCE)
        await serving(server)
        assert await labbot.stop() == 0
        with labbot.database() as session:
            states = set(session.exec(select(Reminder.state)).all())
    told = Counter(message.chat.id for message in server.outgoing)
    return Outcome(told, states, time.monotonic() - began)


async def test_kills_while_a_thousand_reminders_fall_due_lose_none_and_repeat_next_to_none(
    folder: Path, unused_tcp_port: int
) -> None:
    outcome = await story(folder, unused_tcp_port, people=PEOPLE, kills=KILLS)
    assert len(outcome.told) == PEOPLE
    assert outcome.states == {"done"}
    assert outcome.told.total() - PEOPLE <= KILLS * BULK_IN_FLIGHT
    assert max(outcome.told.values()) <= 2
