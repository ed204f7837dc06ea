"""Killed in the middle of a broadcast: nobody is left out, and next to nobody gets it twice."""

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import Session, select

from storage import chats, people
from storage.announcements import ledger
from storage.announcements.writing import Announcement, Status
from storage.engine import open_engine
from storage.people import Role
from tests.adapters.telegram_server import TOKEN, Call, Message, TelegramServer
from tests.faults.process import PATIENCE, Labbot

PEOPLE = 400
KILLS = 3
IN_FLIGHT = 8
NEWS = "Big news"
NEW_TOKEN = f"{TOKEN.partition(':')[0]}:{'B' * 35}"


def settle_in(folder: Path, server: TelegramServer) -> tuple[int, str]:
    """People who have all started the bot; one of them, and the code that makes them an organiser."""
    users = [server.user(first_name="Citizen", language_code="en") for _ in range(PEOPLE)]
    engine = open_engine(f"sqlite:///{folder / 'labbot.db'}")
    now = datetime.now(UTC)
    with Session(engine) as session:
        connection = session.connection()
        for user in users:
            user.started = True
            server.private(user)
            account = people.arrive(connection, "telegram", str(user.id), now)
            chats.open_chat(
                connection, "telegram", str(user.id), private=True, locale="en", account_id=account, now=now
            )
        code = people.invite(session, Role.ORGANISER, now)
        session.commit()
    engine.dispose()
    return users[0].id, code


def arrived(server: TelegramServer, since: int) -> list[Call]:
    """The deliveries of the news after so many calls."""
    calls = server.called("sendMessage")[since:]
    return [call for call in calls if call.params.get("text") == NEWS and call.code == 200]


async def test_kills_in_the_middle_of_a_broadcast_lose_nobody_and_repeat_at_most_what_was_in_flight(
    folder: Path, unused_tcp_port: int
) -> None:
    dice = random.Random(20_261_122)
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await labbot.stop()
        organiser, code = settle_in(folder, server)
        await labbot.start()

        def newest(words: str) -> Message | None:
            found = [message for message in server.sent(organiser) if words in (message.text or "")]
            return found[-1] if found else None

        server.say(organiser, organiser, f"/claim {code}")
        await server.wait_for(lambda: newest("Welcome to the team"), PATIENCE)
        server.say(organiser, organiser, f"/announce {NEWS}")
        preview = await server.wait_for(lambda: newest("not sent yet"), PATIENCE)
        server.latency = 0.02
        since = len(server.called("sendMessage"))
        assert preview is not None
        server.press(organiser, organiser, preview, "Send")
        for moment in sorted(dice.sample(range(30, PEOPLE - 60), KILLS)):
            await server.wait_for(lambda moment=moment: len(arrived(server, since)) >= moment, PATIENCE)  # type: ignore[misc]
            await labbot.kill()
            await labbot.start()
        await server.wait_for(lambda: len({call.chat for call in arrived(server, since)}) == PEOPLE, PATIENCE)
        await server.wait_for(
            lambda: newest(f"delivered: {PEOPLE}") or edited(server, f"delivered: {PEOPLE}"), PATIENCE
        )
        await labbot.stop()
        copies = Counter(call.chat for call in arrived(server, since))
        assert sum(count - 1 for count in copies.values()) <= KILLS * IN_FLIGHT
        with labbot.database() as session:
            one = session.exec(select(Announcement)).one()
            assert (one.status, one.recipients, one.delivered) == (Status.DONE, PEOPLE, PEOPLE)
            assert ledger.recount(session, one.number) == {"delivered": PEOPLE}


async def test_a_token_revoked_in_the_middle_gives_nothing_up_and_the_new_one_goes_on(
    folder: Path, unused_tcp_port: int
) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await labbot.stop()
        organiser, code = settle_in(folder, server)
        await labbot.start()
        server.say(organiser, organiser, f"/claim {code}")
        server.say(organiser, organiser, f"/announce {NEWS}")

        def preview() -> Message | None:
            found = [message for message in server.sent(organiser) if "not sent yet" in (message.text or "")]
            return found[-1] if found else None

        shown = await server.wait_for(preview, PATIENCE)
        assert shown is not None
        server.latency = 0.02
        since = len(server.called("sendMessage"))
        server.press(organiser, organiser, shown, "Send")
        await server.wait_for(lambda: len(arrived(server, since)) >= 100, PATIENCE)
        server.token = NEW_TOKEN
        server.say(organiser, organiser, "/help")  # or the long poll lasts
        assert await labbot.ended() == 1  # no messenger is left
        assert labbot.with_words("Telegram does not accept LABBOT_TELEGRAM_TOKEN")
        got = len(arrived(server, since))
        assert got < PEOPLE
        labbot.environment["LABBOT_TELEGRAM_TOKEN"] = NEW_TOKEN
        await labbot.start()
        await server.wait_for(lambda: edited(server, f"delivered: {PEOPLE}"), PATIENCE)
        await labbot.stop()
        copies = Counter(call.chat for call in arrived(server, since))
        assert (len(copies), max(copies.values())) == (PEOPLE, 1)


def edited(server: TelegramServer, words: str) -> bool:
    """Whether a message was changed to say this."""
    return any(words in str(call.params.get("text")) for call in server.called("editMessageText"))
