"""Polls that also stand as the messenger's own: one ballot each, whichever way somebody answers last."""

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlmodel import Session

from bot.adapters.memory import UNLIMITED, Seen
from bot.config import Settings
from storage import chats
from storage.chats import chat_table
from storage.polls import leaving, mirroring, voting
from storage.polls.counting import Content
from storage.polls.mirroring import Source
from storage.polls.tables import Poll
from tests.conftest import Community, Resident, running
from tests.test_ballots import NOW, asked, expanded, some_people
from tests.test_linking import linked

WITH_POLLS = replace(UNLIMITED, polls=True)


@pytest.fixture
async def lab(settings: Settings) -> AsyncIterator[Community]:
    """A lab on a messenger that has polls of its own."""
    async with running(settings, WITH_POLLS) as community:
        yield community


async def room(lab: Community, *names: str, called: str = "neighbours", wants: bool = True) -> list[Resident]:
    """People in an English group, which the first of them has set up."""
    group = lab.group(called, *names)
    await lab.settled()
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE chat SET locale = 'en'"))
    here = [lab.person(name).within(group) for name in names]
    if wants:
        lab.messenger.administrators.add((group.id, names[0]))
        await here[0].says("/room")
        await here[0].presses("Polls also as the app's own")
        assert here[0].sees.startswith("From now on open polls also stand here as the app's own.")
    return here


def own_polls(who: Resident) -> list[Seen]:
    """The messenger's own polls in a chat."""
    return [seen for seen in who.screen if seen.poll is not None]


async def votes(who: Resident, *positions: int, poll: Seen | None = None, ago: float = 0, spoiled: bool = False) -> str:
    """Answer in the newest poll of the messenger's own, sent some seconds ago."""
    seen = poll or own_polls(who)[-1]
    at = who.messenger.now() - timedelta(seconds=ago)
    mark = who.messenger.vote(who.name, who.chat, seen.id, None if spoiled else positions, at)
    await who.lab.settled()
    return mark


async def takes_back(who: Resident, mark: str) -> None:
    who.messenger.retract_own(who.name, who.chat, mark)
    await who.lab.settled()


async def count(lab: Community, number: int = 1) -> dict[Content, int]:
    """How many ballots say what; what is kept equals what is counted anew."""

    def ask(session: Session) -> dict[Content, int]:
        connection = session.connection()
        assert voting.kept(connection) == voting.recount(connection)
        return dict(voting.profile(connection, number))

    found: dict[Content, int] = await lab.read(ask)
    return found


async def test_a_room_that_wants_it_sees_each_poll_also_as_the_messengers_own(lab: Community) -> None:
    anna, ben = await room(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed")
    card, own = anna.screen[-2:]
    assert card.html.startswith("<b>#1 Which evening?</b>")
    assert (own.html, own.poll, [button.label for button in own.buttons]) == ("#1 Which evening?", 1, ["Tue", "Wed"])
    await votes(anna, 0)
    await votes(ben, 1)
    await votes(ben, 0)  # the latest counts
    assert await count(lab) == {(0,): 2}
    await lab.later(3)
    assert "1. Tue\n2 votes, 100 %" in card.html
    await anna.says("/close 1")
    assert (own.html, own.poll, own.buttons) == ("#1 is closed.", 0, ())
    await votes(ben, 1, poll=own)
    assert await count(lab) == {(0,): 2}


@pytest.mark.parametrize(
    ("positions", "most", "says"),
    [
        ((1,), 1, (1,)),
        ((2, 0), 2, (0, 2)),
        ((2, 0, 1), 2, (0, 2)),  # more than may be chosen: the first ones
        ((1, 1, 0), 2, (1,)),  # said twice is said once, and has taken its place
        ((), 1, None),  # taken back
        (None, 1, None),
        ((3,), 1, None),  # there is no such option: spoiled
        ((0, 3), 1, None),  # even where it would not have counted
        ((-1,), 1, None),
    ],
)
def test_what_an_answer_in_the_messengers_own_poll_says(
    positions: tuple[int, ...] | None, most: int, says: tuple[int, ...] | None
) -> None:
    """By MSC3381, `m.selections`."""
    assert mirroring.selected(positions, 3, most) == says


async def test_of_taps_and_numbers_the_latest_is_the_ballot_and_one_taken_back_gives_way(lab: Community) -> None:
    anna, ben = await room(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed | Thu")
    card = anna.screen[-2]
    await ben.says("/help")
    assert await ben.presses("Tue", card) == "Your vote in #1: 1. Tue"
    lab.time.pass_by(1)
    wed = await votes(ben, 1)
    lab.time.pass_by(1)
    thu = await votes(ben, 2)
    assert await count(lab) == {(2,): 1}
    await takes_back(ben, wed)  # not the latest: nothing changes
    assert await count(lab) == {(2,): 1}
    await takes_back(ben, thu)
    assert await count(lab) == {(0,): 1}  # what they had chosen by number
    await takes_back(ben, thu)
    lab.time.pass_by(1)
    wed = await votes(ben, 1)
    await takes_back(ben.lab.person("anna").within(ben.chat), wed)  # whoever keeps order may as well
    assert await count(lab) == {(0,): 1}
    thu = await votes(ben, 2)
    lab.time.pass_by(1)
    await ben.says("/vote 1 2")
    assert ben.sees == "Your vote in #1: 2. Wed"
    await takes_back(ben, thu)
    assert await count(lab) == {(1,): 1}
    lab.time.pass_by(1)
    assert await ben.presses("Take my vote back", card) == "Your vote in #1 is taken back."
    assert await ben.presses("Take my vote back", card) == "You have not voted in #1."
    await votes(ben, 0, ago=1)  # sent before, come late
    assert await count(lab) == {}


async def test_an_answer_that_is_none_takes_the_ballot_back_until_it_is_taken_back_itself(lab: Community) -> None:
    [anna] = await room(lab, "anna")
    await anna.says("/poll Which evening? | Tue | Wed")
    for spoils in ({"spoiled": True}, {}):
        await votes(anna, 1)
        lab.time.pass_by(1)
        mark = await votes(anna, **spoils)  # type: ignore[arg-type]
        assert await count(lab) == {}
        await takes_back(anna, mark)
        assert await count(lab) == {(1,): 1}
    await votes(anna, 2)  # there are two options
    assert await count(lab) == {}


async def test_several_can_be_chosen_where_the_poll_allows_it(lab: Community) -> None:
    [anna] = await room(lab, "anna")
    private = lab.person("anna")
    await private.says("/poll Which evenings?\nTue\nWed\nThu")
    await private.presses("Several choices")
    await private.presses("open")
    await private.presses("How many")
    await private.says("2")
    await private.presses("Post it")
    assert own_polls(private) == []
    await anna.says("/poll 1")
    assert own_polls(anna)[-1].poll == 2
    await votes(anna, 2, 0, 1)
    assert await count(lab) == {(0, 2): 1}
    await anna.presses("Wed", anna.screen[-2])
    assert await count(lab) == {(0, 2): 1}  # two, and no third
    await anna.presses("Tue", anna.screen[-2])
    assert await count(lab) == {(2,): 1}


async def test_what_comes_late_counts_by_when_it_was_sent(lab: Community) -> None:
    """The bot was away: it reads one messenger after the other, so votes come in another order than they were sent."""
    anna, ben = await room(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed | Thu")
    own = own_polls(anna)[-1]
    lab.time.pass_by(600)
    await votes(ben, 2, ago=60)
    await votes(ben, 1, ago=300)
    await votes(anna, 0, ago=60)
    lab.messenger.say("anna", anna.chat, "/vote 1 2")
    await lab.settled()
    assert await count(lab) == {(2,): 1, (1,): 1}
    await votes(anna, 2, poll=own, ago=1)
    assert await count(lab) == {(2,): 1, (1,): 1}  # her number came after


async def test_nothing_counts_from_the_second_of_closing_on(lab: Community) -> None:
    anna, ben = await room(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed")
    closes = lab.time.now() + timedelta(seconds=50)

    await lab.read(partial(alter, 1, {"closes_at": closes}))
    mark = await votes(anna, 0)
    lab.time.pass_by(45)
    await votes(anna, 1, ago=-5)  # at that second, as her homeserver says
    await votes(ben, 1, ago=-4)
    assert await count(lab) == {(0,): 1, (1,): 1}
    await lab.later(5)
    await takes_back(anna, mark)
    assert await count(lab) == {(0,): 1, (1,): 1}
    await takes_back(ben, mark)
    await votes(ben, 0, ago=30)  # too late: the result is told
    assert await count(lab) == {(0,): 1, (1,): 1}
    assert await lab.read(lambda s: s.connection().exec_driver_sql("SELECT * FROM poll_answer").all()) == []


async def test_whoever_has_answered_in_time_and_comes_too_late_for_the_count_is_told_in_private(
    settings: Settings,
) -> None:
    """The messenger's own poll shows the answer, as the standard has it: the bot was away, and has counted before."""
    async with running(settings, replace(WITH_POLLS, begins=True)) as lab:
        anna, ben = await room(lab, "anna", "ben")
        await anna.says("/poll Which evening? | Tue | Wed")
        own = own_polls(anna)[-1]
        lab.time.pass_by(60)
        await anna.says("/close 1")
        lab.time.pass_by(60)
        private = lab.person("ben")
        await votes(ben, 0, poll=own)  # after its end: there it does not count either
        assert not any("after its close" in seen.html for seen in private.screen)
        await votes(ben, 0, poll=own, ago=90)
        assert private.sees == "Your answer in #1 reached me after its close, so it is not in the result."
        assert await count(lab) == {}


async def test_whoever_keeps_order_ends_it_in_their_room_and_the_count_goes_on(lab: Community) -> None:
    anna, ben, carl = await room(lab, "anna", "ben", "carl")
    [rosa] = await room(lab, "rosa", called="elsewhere")
    await anna.says("/poll Which evening? | Tue | Wed")
    await (await lab.organiser("rosa")).within(rosa.chat).says("/poll 1")
    first = own_polls(anna)[-1]
    lab.time.pass_by(60)
    lab.messenger.end_poll("moderator", anna.chat, first.id)  # nobody the bot knows
    await lab.settled()
    assert anna.sees == "The app's own poll is over here. #1 itself goes on: write /vote 1 and a number."
    lab.messenger.end_poll("moderator", anna.chat, first.id)
    await lab.settled()
    lab.time.pass_by(60)
    await votes(anna, 0, poll=first)
    await votes(ben, 1, poll=first, ago=61)  # sent before the end
    await votes(rosa, 1)
    await ben.says("/vote 1 2")
    assert await count(lab) == {(1,): 2}
    assert first.poll == 1  # it is not for the bot to end it again
    await anna.says("/poll 1")  # once more, if they want it
    second = own_polls(anna)[-1]
    assert second is not first
    await votes(anna, 0)
    assert await count(lab) == {(1,): 2, (0,): 1}
    await votes(carl, 0, poll=first, ago=30)  # sent after its end, however often it is shown again
    assert await count(lab) == {(1,): 2, (0,): 1}
    await anna.says("/poll 1")
    assert (second.poll, second.html) == (0, "#1 goes on further down.")
    lab.time.pass_by(1)
    await votes(anna, 1, poll=second)
    assert await count(lab) == {(1,): 2, (0,): 1}
    await anna.says("/close 1")
    assert [len(own.versions) for own in own_polls(anna)] == [1, 2, 2]  # whichever way one is over, it is ended once


def alter(number: int, change: dict[str, object], session: Session) -> None:
    """Make another poll of one."""
    poll = session.get_one(Poll, number)
    for name, value in change.items():
        setattr(poll, name, value)


async def test_what_cannot_stand_there_is_refused_and_says_why(lab: Community) -> None:
    anna = await lab.organiser("anna")
    [here] = await room(lab, "anna")
    cases: list[tuple[dict[str, object], str]] = [
        ({"secrecy": "team"}, "everybody would see who votes for what"),
        ({"secrecy": "secret", "results": "closed"}, "everybody would see who votes for what"),
        ({"kind": "dates"}, "it only knows one choice or several"),
        ({"results": "voted"}, "it would show the count at once"),
        ({"audience": "team"}, "everybody here could answer it, and only some are asked"),
        ({"proposals": True}, "options that join later have no place in it"),
    ]
    for number, (change, why) in enumerate(cases, 1):
        await anna.says("/poll Which evening?\nTue\nWed")
        await anna.presses("One choice")
        await anna.presses("open")
        await anna.presses("Post it")
        await lab.read(partial(alter, number, change))
        await here.says(f"/poll {number}")
        assert here.sees == f"#{number} cannot stand here as the app's own poll: {why}."
    assert own_polls(here) == []


async def test_only_who_sets_up_a_room_chooses_it_and_only_where_the_messenger_has_polls(
    settings: Settings, lab: Community
) -> None:
    anna, ben = await room(lab, "anna", "ben", wants=False)
    await anna.says("/poll Which evening? | Tue | Wed")
    assert own_polls(anna) == []
    lab.messenger.administrators.add((anna.chat.id, "anna"))
    await anna.says("/room")
    settings_ = anna.screen[-1]
    await ben.says("/help")
    assert await ben.presses("Polls also", settings_) == "Only the lab's organisers can do that."
    number = 1 + [button.label for button in settings_.buttons].index("Polls also as the app's own")
    await anna.says(str(number), reply_to=settings_.id)
    await anna.says("/poll 1")
    assert own_polls(anna)[-1].html == "#1 Which evening?"
    await anna.says("/room")
    await anna.presses("Polls no longer as the app's own")
    assert anna.sees == "From now on polls stand here as my messages only."
    await anna.says("/poll Which room? | Hall | Kitchen")
    assert len(own_polls(anna)) == 1


async def test_a_messenger_without_polls_of_its_own_offers_none(settings: Settings) -> None:
    async with running(settings) as lab:
        [anna] = await room(lab, "anna", wants=False)
        lab.messenger.administrators.add((anna.chat.id, "anna"))
        await anna.says("/room")
        assert not any("app's own" in button.label for button in anna.screen[-1].buttons)


async def test_answers_that_lead_nowhere_change_nothing(lab: Community) -> None:
    anna, eve = await room(lab, "anna", "eve")
    [rosa] = await room(lab, "rosa", called="elsewhere")
    await anna.says("/poll Which evening? | Tue | Wed")
    card, own = anna.screen[-2:]
    await votes(eve, 0, poll=card)  # that is no poll of the messenger's
    await votes(rosa, 0, poll=own)  # it stands in another room
    lab.messenger.end_poll("eve", eve.chat, card.id)
    lab.messenger.end_poll("rosa", rosa.chat, own.id)
    lab.messenger.vote("eve", eve.chat, "9999", (0,))
    lab.messenger.retract_own("eve", eve.chat, "9999")
    lab.messenger.retract_own("rosa", lab.messenger.private("rosa"), "9999")
    await lab.settled()
    assert await count(lab) == {}
    assert (own.poll, anna.screen[-1]) == (1, own)
    await votes(eve, 1)
    assert await count(lab) == {(1,): 1}
    await lab.restart()
    await lab.settled()
    mark = await votes(eve, 0)
    await lab.restart()
    await takes_back(eve, mark)
    assert await count(lab) == {(1,): 1}


async def test_a_room_that_goes_on_under_another_id_is_shown_it_again(lab: Community) -> None:
    [anna] = await room(lab, "anna")
    await anna.says("/poll Which evening? | Tue | Wed")
    mark = await votes(anna, 1)
    moved = anna.within(lab.messenger.move(anna.chat, "anna", "g-upgraded"))
    await lab.settled()
    await takes_back(moved, mark)
    assert await count(lab) == {}
    lab.messenger.faults.clear()
    await moved.says("/poll 1")
    assert own_polls(moved)[-1].html == "#1 Which evening?"
    await votes(moved, 0)
    assert await count(lab) == {(0,): 1}


async def test_a_poll_is_shown_although_a_room_that_wants_mirrors_is_on_a_messenger_that_is_gone(
    networks: Community,
) -> None:
    olga, group = await networks.organiser("olga"), networks.group("far", "olga", on="other")
    await networks.settled()
    await networks.read(
        lambda session: session.connection().exec_driver_sql("UPDATE chat SET mirrors = true, name = 'Far' "
                                                             "WHERE external = 'g-far'")
    )  # fmt: skip
    del networks.messengers[group.adapter]
    await networks.restart()
    await olga.says("/poll Which evening?\nTue\nWed")
    for label in ("One choice", "open", "Where it is shown", "Also Far", "Done", "Post it"):
        await olga.presses(label)
    assert olga.sees.startswith("<b>#1 Which evening?</b>")


@pytest.mark.parametrize("first", ["anna", "anni"])
async def test_two_accounts_of_one_person_have_the_latest_of_their_answers(settings: Settings, first: str) -> None:
    async with running(settings, WITH_POLLS, names=("memory", "other")) as lab:
        rosa, anna = await room(lab, "rosa", "anna")
        group = lab.group("others", "anni", on="other")
        await lab.settled()
        await lab.read(lambda s: s.connection().exec_driver_sql("UPDATE chat SET locale = 'en', mirrors = true"))
        anni = lab.person("anni", on="other").within(group)
        await rosa.says("/poll Which evening? | Tue | Wed | Thu")
        await anna.says("/vote 1 3")
        await (await lab.organiser("helga")).says("/help")
        helga = lab.person("anni", on="other")
        link_ = (await lab.read(lambda s: s.get_one(Poll, 1))).link
        await helga.says(f"/start poll_1_{link_}")
        await lab.read(lambda s: s.connection().exec_driver_sql("UPDATE person SET role = 'organiser'"))
        await anni.says("/poll 1")
        answers = {"anna": (anna, 1), "anni": (anni, 0)}
        marks = {}
        for name in (first, *(answers.keys() - {first})):
            lab.time.pass_by(5)
            who, option = answers[name]
            marks[name] = await votes(who, option)
        [last] = answers.keys() - {first}
        await linked(lab.person("anna"), lab.person("anni", on="other"))
        assert await count(lab) == {(answers[last][1],): 1}
        await takes_back(answers[last][0], marks[last])
        assert await count(lab) == {(answers[first][1],): 1}
        await takes_back(answers[first][0], marks[first])
        assert await count(lab) == {(2,): 1}
        lab.time.pass_by(5)
        await anni.says("/vote 1 1")
        assert await count(lab) == {(0,): 1}


async def test_whoever_leaves_takes_their_answers_along(lab: Community) -> None:
    anna, ben = await room(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed")
    private = lab.person("ben")
    await private.says("/start")
    await anna.says("/vote 1 1")
    mark = await votes(ben, 0)
    lab.time.pass_by(1)
    await votes(ben, 1)
    await private.says("/me")
    await private.presses("Export")
    file = private.screen[-1].file
    assert file is not None
    exported = json.loads(file[1])
    assert [answer["content"] for answer in exported["poll_answer"]] == ["0", "1"]
    await private.says("/me")
    await private.presses("Erase")
    await private.presses("They go, too")
    assert await count(lab) == {(0,): 1}
    await takes_back(ben, mark)
    await votes(ben, 1)  # they come back, as somebody new
    assert await count(lab) == {(0,): 1, (1,): 1}


OPS = st.one_of(
    st.tuples(st.just("number"), st.integers(0, 1), st.none() | st.integers(0, 2)),
    st.tuples(st.just("own"), st.integers(0, 1), st.none() | st.integers(0, 3), st.integers(0, 4)),
    st.tuples(st.just("redact"), st.integers(0, 5)),
    st.tuples(st.just("mirror")),
    st.tuples(st.just("link")),
)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ops=st.lists(OPS, min_size=3, max_size=14))
@example([("number", 1, 0), ("mirror",), ("own", 0, 1, 0), ("link",), ("redact", 0)])
@example([("number", 0, 0), ("mirror",), ("own", 1, 1, 0), ("link",), ("redact", 0)])
def test_in_whatever_order_answers_come_and_are_taken_back_the_ballots_are_a_recount(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, ops: list[tuple[Any, ...]]
) -> None:
    """Two people, by number and in the messenger's own poll; then perhaps one. Each answer is sent some seconds ago."""
    path = tmp_path_factory.getbasetemp() / "recount.db"
    if not path.exists():
        shutil.copy(sqlite_template, path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection, connection.begin() as transaction:
        chats.open_chat(connection, "memory", "g", private=False, locale="de", account_id=None, now=NOW)
        group = connection.execute(select(chat_table.c.id)).scalar_one()
        people = some_people(connection, 2)
        number = asked(connection, people[0])
        mirrored, now = False, NOW
        sent: list[tuple[datetime, int, int, int | None, str | None]] = []  # sent, order, whose, what, id
        for order, op in enumerate(ops):
            now += timedelta(seconds=1)
            whose = people[op[1] % len(people)] if op[0] in ("number", "own") else 0
            match op:
                case ["number", _, option] if mirrored:
                    mirroring.answer(connection, number, whose, None if option is None else (option,), now)
                    sent.append((now, order, whose, option, None))
                case ["number", _, None]:
                    voting.withdraw(connection, number, whose, now)
                    sent = [one for one in sent if one[2] != whose]
                case ["number", _, option]:
                    voting.vote(connection, number, whose, (option,), now)
                    sent = [*(one for one in sent if one[2] != whose), (now, order, whose, option, None)]
                case ["own", _, option, ago] if mirrored:
                    content = mirroring.selected(None if option is None else [option], 3, 1)
                    at, mark = now - timedelta(seconds=ago), f"${order}"
                    mirroring.answer(connection, number, whose, content, at, Source(group, mark))
                    sent.append((at, order, whose, None if content is None else option, mark))
                case ["redact", which] if marks := [one for one in sent if one[4] is not None]:
                    gone = marks[which % len(marks)]
                    assert gone[4] is not None
                    mirroring.take_back(connection, Source(group, gone[4]), now)
                    sent.remove(gone)
                case ["mirror"]:
                    mirroring.begin(connection, number)
                    mirrored = True
                case ["link"] if len(people) == 2:
                    kept, left = people
                    mirroring.merge(connection, left, kept, now)
                    leaving.merge(connection, left, kept, now)
                    people = [kept]
                    sent = [(*one[:2], kept, *one[3:]) for one in sent]
            latest = [max((one for one in sent if one[2] == person), default=None) for person in people]
            ballots = sorted(one[3] for one in latest if one is not None and one[3] is not None)
            assert sorted(expanded(voting.profile(connection, number))) == [(option,) for option in ballots]
            assert voting.kept(connection) == voting.recount(connection)
        transaction.rollback()
    engine.dispose()
