"""What comes in the way of a broadcast on the machine itself: a full disk."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlmodel import Session
from structlog.testing import capture_logs

from bot.config import Settings
from storage.announcements import ledger, writing
from storage.engine import Unavailable
from tests.conftest import Community
from tests.test_announcements import copies, crowd, feed_slowly, ledger_of, report, rests, sent


def pages(most: int | None) -> Callable[[Any], None]:
    """The database may have so many pages; ``None``: those it has."""

    def job(connection: Any) -> None:
        number = most or connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {number}")

    return job


async def until_taken(lab: Community, job: Callable[[Any], None]) -> None:
    """Do it, though what is tried beside it in one transaction fails."""
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            return await lab.app.storage.run(job)
    pytest.fail("the database takes nothing")


async def test_a_full_disk_in_the_middle_delays_a_broadcast_and_loses_and_doubles_nothing(
    lab: Community, settings: Settings
) -> None:
    if make_url(settings.database).get_backend_name() != "sqlite":
        pytest.skip("about SQLite")
    people = await crowd(lab, *(f"p{number}" for number in range(30)))
    olga = await lab.organiser("olga")
    feed_slowly(lab)
    words = "Big news " * 400  # needs pages that are not there
    await sent(lab, olga, words)
    assert 0 < sum(len(copies(person, "Big news")) for person in people) < 30
    await lab.app.storage.run(pages(None))
    with capture_logs() as logs:
        lab.time.pass_by(300)
        looking = asyncio.ensure_future(lab.app.clock.catch_up())
        await lab.time.pass_until(looking)
        assert {line["error"] for line in logs if line["event"] == "due.failed"} == {"Unavailable"}
    await until_taken(lab, pages(10**6))
    await rests(lab, 20)
    assert all(len(copies(person, "Big news")) == 1 for person in people)
    assert await ledger_of(lab) == {"delivered": 31}
    assert len(copies(olga, "goes on, and nothing is lost")) == 1
    assert "It stood still from Nov 2, 2026, 10:00" in report(olga)


async def test_a_look_at_what_is_on_its_way_reads_no_copy_that_has_come_to_its_end(
    lab: Community, settings: Settings
) -> None:
    if make_url(settings.database).get_backend_name() != "sqlite":
        pytest.skip("about SQLite, which takes a partial index only for its very words")
    await lab.organiser("olga")
    asked: list[tuple[str, Any]] = []

    def look(session: Session) -> list[str]:
        one = writing.draft(session, author_id=1, chat_id=1, locale="en", now=lab.time.now())
        note = partial(_note, asked)
        event.listen(session.get_bind().engine, "before_cursor_execute", note)
        ledger.settle(session, one)
        ledger.in_outbox(session, "memory")
        ledger.work(session, one)
        event.remove(session.get_bind().engine, "before_cursor_execute", note)
        driver: Any = session.connection().connection
        plans = [driver.cursor().execute(f"EXPLAIN QUERY PLAN {words}", values) for words, values in asked]
        return [step[3] for plan in plans for step in plan if "delivery" in step[3]]

    steps = await lab.read(look)
    assert len(steps) == 5
    assert {step.partition(" INDEX ")[2].partition(" ")[0] for step in steps} == {
        "ix_delivery_in_outbox",
        "ix_delivery_held",
        "ix_delivery_version",
    }
    assert not [step for step in steps if "ix_delivery_version" in step and "adapter" not in step]


def _note(asked: list[tuple[str, Any]], _c: Any, _cursor: Any, words: str, values: Any, *_: Any) -> None:
    asked.append((words, values))
