"""Status: what organisers learn of the bot, and what it forgets as time passes."""

import pytest
from sqlmodel import Session, col, func, select, update

from bot.port import RetryLater
from bot.types import Unreadable
from storage.conversation import Dialog, Failed, Received
from storage.outbox import Outbox
from storage.people import Attempt, Invite, Role
from tests.conftest import Community, Resident

DAY = 86400.0


async def count(lab: Community, table: type) -> int:
    """How many rows a table has."""
    number: int = await lab.read(lambda session: session.exec(select(func.count()).select_from(table)).one())
    return number


async def test_status_is_for_organisers(lab: Community) -> None:
    anna, mona = lab.person("anna"), await lab.organiser("mona", Role.MODERATOR)
    for who in (anna, mona):
        await who.says("/status")
        assert who.sees == "Only the lab's organisers can use /status."
    olga = await lab.organiser("olga")
    await olga.says("/status")
    assert olga.sees.splitlines() == [
        "I am well. People: 3. Ideas: 0.",
        "Memory: 0 waiting, 0 undeliverable, 0 unsure",
    ]


async def test_status_counts_people_ideas_and_what_did_not_arrive(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga", locale="de"), lab.person("anna"), lab.person("ben")
    for title in ("A bench", "A tree", "A pond"):
        await anna.says(f"/idea {title}\nFor everybody.")
        await anna.presses("Send")
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    lab.messenger.chats[anna.chat.id].blocked = True
    for said in ("/ideas 1", "2", "Good!"):
        await ben.says(said)
    await olga.says("/status")
    assert olga.sees.splitlines() == [
        "Mir geht es gut. Menschen: 3. Ideen: 2.",
        "Memory: 0 warten, 1 nicht zustellbar, 0 ungewiss",
    ]


async def test_status_counts_what_waits(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await anna.says("/start")
    await olga.says("/help")

    lab.messenger.gate.clear()
    lab.messenger.say("anna", anna.chat, "/help")
    lab.messenger.say("olga", olga.chat, "/status")
    await lab.messenger.caught_up()
    lab.messenger.gate.set()
    await lab.settled()
    assert "Memory: 1 waiting, 0 undeliverable, 0 unsure" in olga.sees


async def test_a_message_that_may_or_may_not_have_arrived_is_listed(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await anna.says("/start")
    lab.messenger.faults.extend([RetryLater(1, "the answer got lost", unsure=True)] * 2)
    lab.messenger.say("anna", anna.chat, "/help")
    await lab.time.pass_until(lab.settled())
    assert len(anna.screen) == 1
    await olga.says("/status")
    assert "Memory: 0 waiting, 0 undeliverable, 1 unsure" in olga.sees
    assert "may or may not have arrived: the answer got lost" in olga.sees
    assert "Nov 2, 2026" in olga.sees


async def _breaks(who: Resident) -> None:
    """Press a button whose stored choice makes its function fail."""
    await who.says("/ideas")
    broken = '[["X", "ideas.list", ["no such order"], null, null]]'
    await who.lab.read(lambda session: session.execute(update(Outbox).values(choices=broken)))


async def test_what_could_not_be_handled_is_counted_and_whoever_wrote_it_is_told(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await olga.says("/status")
    assert "could not handle" not in olga.sees
    await _breaks(anna)
    assert await anna.presses_at(anna.screen[-1], 0) == (
        "Something went wrong on my side. Your message is kept and somebody will look at it. Please try again."
    )
    await anna.says("1")
    assert anna.sees.startswith("Something went wrong on my side.")
    lab.messenger.happen(Unreadable("unreadable", "{", "ValueError"))
    await lab.settled()
    await olga.says("/status")
    assert "Updates I could not handle in the last 30 days: 3" in olga.sees
    rows = await lab.read(lambda session: session.exec(select(Failed)).all())
    assert [row.person_id is None for row in rows] == [False, False, True]
    await anna.says("/help")
    assert anna.sees.startswith("Write your idea to me")


@pytest.mark.parametrize(("table", "days"), [(Received, 3), (Failed, 30), (Dialog, 30), (Attempt, 1), (Invite, 7)])
async def test_what_nobody_needs_any_more_is_forgotten_in_time(lab: Community, table: type, days: int) -> None:
    anna = lab.person("anna")
    await lab.organiser("olga")
    await _breaks(anna)
    await anna.presses_at(anna.screen[-1], 0)
    await anna.says("/claim wrong")
    await anna.says("/idea A bench")
    assert await count(lab, table) > 0
    lab.time.pass_by(days * DAY)
    await lab.tick("prune")
    assert await count(lab, table) > 0
    lab.time.pass_by(1)
    await lab.tick("prune")
    assert await count(lab, table) == 0


async def test_delivered_messages_are_forgotten_after_a_week_and_buttons_after_a_year(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/privacy")  # the notice and the answer, both without buttons
    await anna.says("/start")

    def kept(session: Session) -> list[bool]:
        return [row is not None for row in session.exec(select(Outbox.choices).order_by(col(Outbox.id))).all()]

    assert await lab.read(kept) == [False, False, True]
    lab.time.pass_by(7 * DAY)
    await lab.tick("prune")
    assert await lab.read(kept) == [False, False, True]
    lab.time.pass_by(1)
    await lab.tick("prune")
    assert await lab.read(kept) == [True]
    await anna.presses("Help")
    assert anna.sees.startswith("Write your idea to me")
    menu = anna.screen[-2]
    lab.time.pass_by(365 * DAY)
    await lab.tick("prune")
    assert await anna.presses("Help", menu) == "This button is out of date. Write /help for the menu."


async def test_what_still_waits_is_not_forgotten(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    lab.messenger.gate.clear()
    lab.messenger.say("anna", anna.chat, "/privacy")
    await lab.messenger.caught_up()
    lab.time.pass_by(400 * DAY)
    await lab.tick("prune")
    lab.messenger.gate.set()
    await lab.settled()
    assert "30 days" in anna.sees
