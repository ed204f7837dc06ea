"""Calendars, read back by another library: files, feeds, series with exceptions, and who may see whose."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import vobject
from sqlmodel import Session, select

from bot import web
from bot.config import Settings
from storage.engine import Storage
from storage.events.tables import Attendee, Event
from tests.conftest import Community, Resident, running
from tests.test_events import LINE, announces, comes, opens, organises

PUBLIC = "https://lab.example"


@pytest.fixture
async def lab(settings: Settings) -> AsyncIterator[Community]:
    """A lab whose calendars can be reached from outside."""
    async with running(settings.model_copy(update={"public_url": PUBLIC})) as community:
        yield community


@asynccontextmanager
async def browser(lab: Community) -> AsyncIterator[httpx.AsyncClient]:
    """A calendar program that asks the lab's web app."""
    site = web.create(lab.app.metrics.registry, lab.app.health, (), lab.app.calendar)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://lab") as client:
        yield client


def entries(content: bytes | str) -> list[Any]:
    """The events of a calendar as the other library reads them."""
    text = content.decode() if isinstance(content, bytes) else content
    vars(vobject.icalendar)["__tzidMap"].pop("Europe/Berlin", None)  # it would go on with the first file's zone
    return list(vobject.readOne(text).contents.get("vevent", []))


async def test_the_file_that_comes_with_a_yes_is_a_calendar_others_can_read(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, "Café, with; signs\\ and umlauts äöü | 2026-12-05 18:00–21:00 | Nordmarkt 1 | 20")
    await comes(anna, number)
    file = anna.screen[-1].file
    assert file is not None
    [entry] = entries(file[1])
    assert entry.summary.value == "Café, with; signs\\ and umlauts äöü"
    assert entry.location.value == "Nordmarkt 1"
    assert entry.dtstart.value.astimezone(UTC) == datetime(2026, 12, 5, 17, tzinfo=UTC)
    assert entry.dtend.value - entry.dtstart.value == timedelta(hours=3)
    assert entry.valarm.trigger.value == timedelta(hours=-2)
    assert entry.status.value == "CONFIRMED"
    assert b"BEGIN:VTIMEZONE" in file[1]


async def test_an_event_keeps_its_uid_and_counts_its_changes(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    async with browser(lab) as client:
        [before] = entries((await client.get("/calendar.ics")).text)
        await organises(olga, number, "Move")
        await olga.says("6.12. 15:00")
        await olga.presses("Yes")
        await organises(olga, number, "Cancel the event")
        await olga.presses("Yes, cancel it")
        [after] = entries((await client.get("/calendar.ics")).text)
    assert before.uid.value == after.uid.value
    assert (int(before.sequence.value), int(after.sequence.value)) == (0, 2)
    assert after.status.value == "CANCELLED"


async def test_a_series_is_a_rule_with_exceptions(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await announces(olga, "Open lab | every second Tuesday 18:00, 5 times | Lab")
    await organises(olga, "2", "Cancel the event")
    await olga.presses("Only this one")
    await olga.presses("Yes, cancel it")
    await organises(olga, "3", "Move")
    await olga.presses("Only this one")
    await olga.says("2.12. 19:00")
    await olga.presses("Yes")
    async with browser(lab) as client:
        master, moved = entries((await client.get("/calendar.ics")).text)
    assert master.uid.value == moved.uid.value
    days = [f"{day:%m-%d %H:%M}" for day in master.getrruleset(addRDate=True)]
    assert days == ["11-03 18:00", "12-01 18:00", "12-15 18:00", "12-29 18:00"]
    assert f"{moved.contents['recurrence-id'][0].value:%m-%d %H:%M}" == "12-01 18:00"
    assert f"{moved.dtstart.value:%m-%d %H:%M}" == "12-02 19:00"


async def test_topics_have_feeds_of_their_own_and_drafts_are_in_none(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await announces(olga, LINE)
    await olga.says("/event Walk | 4.12. 18:00")
    await olga.presses("Change: Topic")
    await olga.presses("Mobility")
    await olga.presses("Publish")
    await olga.says(f"/event Secret {LINE}")
    await olga.presses("Keep as a draft")
    async with browser(lab) as client:
        [walk] = entries((await client.get("/calendar/mobility.ics")).text)
        assert walk.summary.value == "Walk"
        assert len(entries((await client.get("/calendar.ics")).text)) == 2
        assert (await client.get("/calendar/housing.ics")).status_code == 200
        assert (await client.get("/calendar/nothing.ics")).status_code == 404
        assert (await client.post("/calendar.ics")).status_code == 405


async def address(who: Resident, choice: str) -> str:
    """The path of somebody's calendar."""
    await who.says("/events")
    await who.presses("My calendar, and news")
    await who.presses(choice)
    found = re.search(rf"{PUBLIC}(/calendar/[^<]+\.ics)", who.sees)
    assert found is not None
    return found[1]


async def test_a_persons_calendar_is_secret_holds_what_they_come_to_and_can_be_renewed(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    first, _ = await announces(olga, LINE), await announces(olga, "Walk | 4.12. 18:00 | Park")
    await comes(anna, first)
    path = await address(anna, "The address of my calendar")
    async with browser(lab) as client:
        [entry] = entries((await client.get(path)).text)
        assert entry.summary.value == "Repair café"
        other = await address(anna, "A new address for my calendar")
        assert (await client.get(path)).status_code == 404
        assert (await client.get(other)).status_code == 200
    assert len(path.removeprefix("/calendar/")) > 40

    def stored(session: Session) -> str:
        return str([row.model_dump() for row in session.exec(select(Attendee)).all()])

    assert other.removeprefix("/calendar/").removesuffix(".ics") not in await lab.read(stored)


async def test_a_calendar_that_has_not_changed_is_not_sent_again(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await announces(olga, LINE)
    async with browser(lab) as client:
        first = await client.get("/calendar.ics")
        assert first.headers["content-type"].startswith("text/calendar")
        etag = first.headers["etag"]
        lab.time.pass_by(3600)
        again = await client.get("/calendar.ics", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/calendar.ics", headers={"If-None-Match": f'"x", W/{etag}'})).status_code == 304
        await organises(olga, number, "Change: Title")
        await olga.says("Repair and tea")
        later = await client.get("/calendar.ics", headers={"If-None-Match": etag})
        assert later.status_code == 200
        assert later.headers["etag"] != etag


async def test_a_persons_calendar_changes_with_their_answers_whatever_a_program_asks_by(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    for line in (LINE, "Walk | 4.12. 18:00 | Park"):
        await announces(olga, line)
        lab.time.pass_by(3600)
    await comes(anna, "2")
    path = await address(anna, "The address of my calendar")
    async with browser(lab) as client:
        first = await client.get(path)
        await comes(anna, "1")  # older than what the calendar holds already
        since = first.headers.get("last-modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        again = await client.get(path, headers={"If-Modified-Since": since})
        assert (again.status_code, len(entries(again.text))) == (200, 2)


async def test_public_calendars_are_made_once_however_often_they_are_asked_for(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await announces(olga, "Open lab | every Tuesday 18:00, 3 times | Lab")
    first = await lab.app.calendar("")
    assert await lab.app.calendar("") is first
    for choice in ("Cancel the event", "Change: Title"):
        await organises(olga, "2" if choice == "Cancel the event" else "3", choice)
        await olga.presses("Only this one")
        if choice == "Cancel the event":
            await olga.presses("Yes, cancel it")
        else:
            await olga.says("Open door")
        assert await lab.app.calendar("") not in (None, first)
        first = await lab.app.calendar("")
    assert first is not None
    master, *_ = entries(first)
    assert int(master.sequence.value) == 1  # one of them has changed


async def test_whole_days_are_days_in_calendars(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, "Camp | Dec 12 to Dec 13, all day | Lab")
    await comes(anna, number)
    file = anna.screen[-1].file
    assert file is not None
    assert b"DTSTART;VALUE=DATE:20261212" in file[1]
    assert b"DTEND;VALUE=DATE:20261214" in file[1]


async def test_without_a_public_address_nobody_is_given_one(settings: Settings) -> None:
    async with running(settings) as lab:
        anna = lab.person("anna")
        await anna.says("/events")
        await anna.presses("My calendar, and news")
        await anna.presses("The address of my calendar")
        assert anna.sees.startswith("The lab has not published its calendar yet.")


async def test_an_event_over_the_change_of_clocks_ends_at_the_hour_that_was_said(
    lab: Community, storage: Storage
) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await announces(olga, "Night | 30.10.2027 22:00–04:00 | Lab")
    await comes(anna, number)
    file = anna.screen[-1].file
    assert file is not None
    [entry] = entries(file[1])
    event = await lab.read(lambda session: session.get_one(Event, int(number)))
    assert entry.dtstart.value.astimezone(UTC) == event.starts_at
    assert entry.dtend.value.astimezone(UTC) == event.ends_at == event.starts_at + timedelta(hours=7)
    assert "Saturday, October 30, 2027, 10:00\u202fPM–4:00\u202fAM" in (await opens(anna, number)).html
