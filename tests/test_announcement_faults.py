"""What comes in the way of a broadcast on the machine itself: a full disk."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from bot.config import Settings
from storage.engine import Unavailable
from tests.conftest import Community
from tests.test_announcements import copies, crowd, feed_slowly, ledger_of, rests, sent


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
        lab.time.pass_by(1)
        looking = asyncio.ensure_future(lab.app.clock.catch_up())
        await lab.time.pass_until(looking)
        assert {line["error"] for line in logs if line["event"] == "due.failed"} == {"Unavailable"}
    await until_taken(lab, pages(10**6))
    await rests(lab, 20)
    assert all(len(copies(person, "Big news")) == 1 for person in people)
    assert await ledger_of(lab) == {"delivered": 31}
