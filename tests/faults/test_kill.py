"""Killed at any moment, nothing is lost and next to nothing repeated; stopped, nothing at all."""

import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlmodel import col, func, select

from storage import ideas
from storage.conversation import Failed
from storage.ideas import Idea, Support
from storage.outbox import DELIVERED, Outbox
from tests.adapters.telegram_server import Chat, Message, TelegramServer, User
from tests.faults.process import PATIENCE, Labbot, serving

PEOPLE = 500
CARDS = 4
"""How many ideas each of them looks at and supports."""

KILLS = 10
IN_FLIGHT = 64

NUMBER = re.compile(r"Your idea has the number #(\d+)")


@dataclass(slots=True)
class Citizen:
    """Somebody with one idea, who supports some of the others'; what they have done and seen so far."""

    user: User
    chat: Chat
    sent: bool = False
    number: int | None = None
    wanted: list[int] = field(default_factory=list)
    supported: set[int] = field(default_factory=set)


class Crowd:
    """Five hundred people. They react only to what they see, as people do; when nothing comes they wait."""

    def __init__(self, server: TelegramServer, dice: random.Random) -> None:
        self.server = server
        self.dice = dice
        self.citizens: dict[int, Citizen] = {}
        self.published: list[int] = []
        self.pressed_again = 0
        self._meant: dict[str, tuple[Citizen, str, str]] = {}
        self._out_of_date: deque[str] = deque()
        self._messages = 0
        self._calls = 0
        self._answers = 0
        self._waiting: list[Citizen] = []

    def arrive(self) -> None:
        """Everybody writes their idea, all at once."""
        for number in range(PEOPLE):
            user = self.server.user(first_name=f"Citizen {number}", language_code="en")
            self.citizens[user.id] = Citizen(user, self.server.private(user))
            self.server.say(user, user.id, f"/idea Title {number:03}\nText of number {number:03}.")

    def has_come_to(self, moment: int) -> bool:
        """Whether so many messages have been shown or changed, or there is nothing left to come."""
        return self.content or len(self.server.outgoing) + len(self.server.called("editMessageText")) >= moment

    @property
    def content(self) -> bool:
        """Whether everybody has seen all they were waiting for. Reacts to what is new."""
        self._react()
        return all(len(citizen.supported) == CARDS for citizen in self.citizens.values())

    def _react(self) -> None:
        messages, self._messages = self.server.outgoing[self._messages :], len(self.server.outgoing)
        calls, self._calls = self.server.calls[self._calls :], len(self.server.calls)
        answers, self._answers = self.server.answers[self._answers :], len(self.server.answers)
        for message in messages:
            self._see(self.citizens[message.chat.id], message)
        for call in calls:
            if call.method == "editMessageText" and call.code == 200 and call.chat is not None:
                self._see(self.citizens[call.chat], self.server.message(call.chat, int(call.params["message_id"])))
        for answer in answers:
            if answer.text is not None and "out of date" in answer.text:
                self._out_of_date.append(answer.query)
        # One after the other: the bot may not have noted yet that the message has arrived.
        while self._out_of_date and not self._press_again(self._out_of_date.popleft()):
            pass

    def _see(self, citizen: Citizen, message: Message) -> None:
        text = message.text or ""
        labels = [label for row in message.buttons for label, _ in row]
        if "Send" in labels and citizen.number is None:
            # A preview that comes a second time was not marked as shown before the kill, so a press on the first was
            # out of date, and the kill may have cost the note that says so: people press what they see then.
            typed = not citizen.sent and self.dice.random() < 0.5
            citizen.sent = True
            if typed:
                self.server.say(citizen.user, citizen.chat, "1")
            else:
                self._press(citizen, message, "Send", text[:20])
        elif (found := NUMBER.match(text)) is not None and citizen.number is None:
            citizen.number = int(found[1])
            self.published.append(citizen.number)
            self._waiting.append(citizen)
            if len(self.published) >= 20:
                for waiting in self._waiting:
                    self._look_around(waiting)
                self._waiting.clear()
        elif (card := re.match(r"#(\d+) Title", text)) is not None:
            number = int(card[1])
            if "Take my support back" in labels:
                citizen.supported.add(number)
            elif "Support" in labels and not message.edits:
                # A card that comes a second time is pressed a second time: people do, and it must not count twice.
                self._press(citizen, message, "Support", card[0])

    def _look_around(self, citizen: Citizen) -> None:
        citizen.wanted = self.dice.sample(self.published, CARDS)
        for number in citizen.wanted:
            self.server.say(citizen.user, citizen.chat, f"/ideas {number}")

    def _press(self, citizen: Citizen, message: Message, label: str, start: str) -> None:
        query = self.server.press(citizen.user, citizen.chat, message, label)
        self._meant[query] = citizen, label, start

    def _press_again(self, query: str) -> bool:
        """“This button is out of date”: whoever still wants it presses the newest one. False when nobody does."""
        citizen, label, start = self._meant[query]
        newest = [message for message in citizen.chat.sent if (message.text or "").startswith(start)]
        if not newest or label not in [button for row in newest[-1].buttons for button, _ in row]:
            return False
        self.pressed_again += 1
        self._press(citizen, newest[-1], label, start)
        return True


async def test_ten_kills_lose_nothing_of_five_hundred_ideas_and_two_thousand_supports(
    folder: Path, unused_tcp_port: int
) -> None:
    dice = random.Random(20_261_122)
    # Some of them while people write, some while they support: what is shown or changed counts the moments.
    moments = sorted(dice.sample(range(50, PEOPLE * 3 + PEOPLE * CARDS * 2 - 500), KILLS))
    began = time.monotonic()
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        crowd = Crowd(server, dice)
        crowd.arrive()
        shown_at_kill = []
        for moment in moments:
            await server.wait_for(partial(crowd.has_come_to, moment), PATIENCE)
            await labbot.kill()
            shown_at_kill.append(len(server.outgoing))
            await labbot.start()
        await server.wait_for(lambda: crowd.content, PATIENCE)
        await serving(server)
        repeats = _repeats(server.outgoing)
        seconds = time.monotonic() - began
        assert await labbot.stop() == 0

        by_kill = Counter(sum(1 for shown in shown_at_kill if shown <= position) for position in repeats)
        per_kill = [by_kill[number] for number in range(1, KILLS + 1)]
        unnoted = sum(1 for query in server.queries.values() if not query.answers)
        print(
            f"\nrepeats after each kill: {per_kill}; pressed again: {crowd.pressed_again}; notes lost: {unnoted} of "
            f"{len(server.queries)}; {seconds:.1f} s"
        )
        assert by_kill[0] == 0
        assert max(per_kill) <= IN_FLIGHT

        with labbot.database() as session:
            assert session.exec(select(func.count()).select_from(Idea)).one() == PEOPLE
            titles = session.exec(select(Idea.title)).all()
            assert sorted(titles) == [f"Title {number:03}" for number in range(PEOPLE)]
            assert session.exec(select(func.count()).select_from(Support)).one() == PEOPLE * CARDS
            counts = {idea.id: (idea.supports, idea.comments) for idea in session.exec(select(Idea))}
            assert counts == ideas.recount(session)
            wanted = Counter(number for citizen in crowd.citizens.values() for number in citizen.wanted)
            assert {number: supports for number, (supports, _) in counts.items() if supports} == wanted
            assert session.exec(select(Outbox.state).where(col(Outbox.state) != DELIVERED)).all() == []
            assert session.exec(select(Failed)).all() == []
    for citizen in crowd.citizens.values():
        own = [message for message in citizen.chat.sent if NUMBER.match(message.text or "")]
        assert {NUMBER.match(message.text or "")[1] for message in own} == {str(citizen.number)}  # type: ignore[index]
        assert (citizen.chat.sent[0].text or "").startswith("Privacy")
        assert citizen.supported == set(citizen.wanted)


def _repeats(outgoing: list[Message]) -> list[int]:
    """Where in what was sent something stands that this chat was sent before: here the first word tells what it is."""
    found = []
    seen: set[tuple[int, str]] = set()
    for position, message in enumerate(outgoing):
        text = message.edits[0].text if message.edits else message.text
        what = (message.chat.id, (text or "").split()[0])
        if what in seen:
            found.append(position)
        seen.add(what)
    return found


async def test_a_stop_finishes_what_is_under_way_and_nothing_is_repeated_after_it(
    folder: Path, unused_tcp_port: int
) -> None:
    async with TelegramServer(latency=0.3) as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        people = [server.user(language_code="en") for _ in range(100)]
        for person in people:
            server.say(person, server.private(person), "/start")
        # The server has taken these, and their answers are still on the way.
        await server.wait_for(lambda: len(server.outgoing) >= IN_FLIGHT // 2, PATIENCE)
        under_way = len(server.outgoing)
        began = time.monotonic()
        assert await labbot.stop() == 0
        seconds = time.monotonic() - began
        sent = len(server.outgoing)
        print(f"\nstopped in {seconds:.2f} s with {under_way} of {len(people)} sent, {sent} at the end")
        assert seconds < 5
        assert sent < len(people)
        with labbot.database() as session:
            states = Counter(session.exec(select(Outbox.state)))
        assert states["delivered"] == sent
        server.latency = 0
        await labbot.start()
        await server.wait_for(lambda: len(server.outgoing) >= len(people), PATIENCE)
        await serving(server)
        assert await labbot.stop() == 0
        assert [len(server.sent(person.id)) for person in people] == [1] * len(people)
    assert not labbot.with_words("Traceback")


async def test_a_stop_does_not_wait_for_a_messenger_that_hangs(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await serving(server)
        anna = server.user()
        server.fail("sendMessage", "timeout", times=100)
        server.say(anna, server.private(anna), "/start")
        await server.wait_for(lambda: server.called("sendMessage"), PATIENCE)
        began = time.monotonic()
        assert await labbot.stop() == 0
        seconds = time.monotonic() - began
        print(f"\nstopped in {seconds:.2f} s while a delivery hung")
        assert seconds < 5
        server.heal()
        await labbot.start()
        await server.wait_for(lambda: server.sent(anna.id), PATIENCE)
    assert not labbot.with_words("Traceback")


async def test_a_stop_while_it_starts_is_clean(folder: Path, unused_tcp_port: int) -> None:
    async with TelegramServer() as server, Labbot(folder, server.url, unused_tcp_port) as labbot:
        await labbot.logs("labbot.running")
        assert await labbot.stop() == 0
    assert not labbot.with_words("Traceback")
    assert not labbot.with_words("[error")
