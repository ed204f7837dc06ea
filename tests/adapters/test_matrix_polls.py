"""Polls that also stand in a room as Matrix's own, on a real homeserver."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bot.adapters.matrix.reading import Account as Me
from bot.adapters.matrix.reading import read
from bot.adapters.matrix.rooms import Room
from bot.adapters.matrix.sending import poll, poll_end
from bot.config import Settings
from bot.port import Button, Rendered
from bot.types import ChatRef, Ended, Voted
from storage.polls import voting
from storage.polls.counting import Content
from tests.adapters.matrix_polls import UNSTABLE, answers, ends, polls
from tests.adapters.matrix_stage import MatrixStage
from tests.adapters.stage import Someone
from tests.adapters.synapse import Synapse
from tests.adapters.test_matrix import on_matrix


async def with_poll(stage: MatrixStage, words: str) -> tuple[str, Someone]:
    """A room of Anna and Ben that wants polls as Matrix's own, and one in it."""
    room = await stage.group("Nordmarkt", "anna", "ben")
    anna = stage.person("anna").within(room)
    await anna.says("/language English")
    await anna.says("/room")
    await anna.presses("Polls also as the app's own")
    await anna.says(f"/poll {words}")
    return room.id, anna


async def ballots(stage: MatrixStage, number: int = 1) -> dict[Content, int]:
    found: dict[Content, int] = await stage.ask(lambda s: dict(voting.profile(s.connection(), number)))
    return found


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_answers_in_matrixs_own_poll_and_by_number_are_one_count(
    settings: Settings, synapse: Synapse, encrypted: bool
) -> None:
    async with on_matrix(settings, synapse, encrypted=encrypted) as stage:
        room, here = await with_poll(stage, "Which evening? | Tue | Wed | Thu")
        anna, ben = stage.residents["anna"], stage.residents["ben"]
        [own] = polls(anna, room, stage.bot)
        assert own.encrypted is encrypted
        assert own.content["m.mentions"] == {}
        assert own.content["org.matrix.msc1767.text"] == "#1 Which evening?\n1. Tue\n2. Wed\n3. Thu"
        await stage.happened(await answers(anna, room, own.event_id, "1"))
        first = await answers(ben, room, own.event_id, "3", stable=True)
        await stage.happened(first, await answers(ben, room, own.event_id, "2"))
        assert await ballots(stage) == {(0,): 1, (1,): 1}
        spoiled = await answers(ben, room, own.event_id, "2", "no option")
        await stage.happened(spoiled)
        assert await ballots(stage) == {(0,): 1}
        await stage.happened(await anna.redacts(room, spoiled))  # she keeps order here
        await stage.happened(await ben.redacts(room, first))
        assert await ballots(stage) == {(0,): 1, (1,): 1}
        await anna.catches_up()
        [own] = polls(anna, room, stage.bot)
        assert own.counts == {"1": 1, "2": 1, "3": 0}  # nobody has answered by number: both show the same
        await here.says("/vote 1 3")
        assert await ballots(stage) == {(1,): 1, (2,): 1}
        await here.says("/close 1")
        await anna.catches_up()
        [own] = polls(anna, room, stage.bot)
        assert own.ends == 1
        await stage.happened(await answers(anna, room, own.event_id, "1"))
        assert await ballots(stage) == {(1,): 1, (2,): 1}


async def test_only_whoever_keeps_order_ends_matrixs_own_poll(settings: Settings, synapse: Synapse) -> None:
    async with on_matrix(settings, synapse) as stage:
        room, here = await with_poll(stage, "Which evening? | Tue | Wed")
        anna, ben = stage.residents["anna"], stage.residents["ben"]
        [own] = polls(anna, room, stage.bot)
        await ends(ben, room, own.event_id)  # that is nothing to the bot
        await stage.happened(await answers(ben, room, own.event_id, "1"))
        assert await ballots(stage) == {(0,): 1}
        await stage.happened(await ends(anna, room, own.event_id))
        assert here.sees == "The app's own poll is over here. #1 itself goes on: write /vote 1 and a number."
        await stage.happened(await answers(ben, room, own.event_id, "2"))
        assert await ballots(stage) == {(0,): 1}


async def test_an_answer_whose_key_comes_later_counts_by_when_it_was_sent(settings: Settings, synapse: Synapse) -> None:
    async with on_matrix(settings, synapse) as stage:
        room, here = await with_poll(stage, "Which evening? | Tue | Wed | Thu")
        ben = stage.residents["ben"]
        [own] = polls(stage.residents["anna"], room, stage.bot)
        ben.withholds = True
        early = await answers(ben, room, own.event_id, "1")
        await stage.until(lambda s: f'"{early}"' in (s.connection().exec_driver_sql(KEPT).scalar_one()))
        number = await ben.says(room, "!vote 1 3")
        await ben.gives_keys(room)
        await stage.read(early, number)
        assert await ballots(stage) == {(2,): 1}
        assert "3. Thu" in here.sees


KEPT = "SELECT value FROM cursor"


async def test_answers_while_the_bot_is_away_are_heard_with_the_rest(settings: Settings, synapse: Synapse) -> None:
    """More than a sync tells: the rest is a gap that is filled from the room's history."""
    async with on_matrix(settings, synapse, encrypted=False) as stage:
        room, _ = await with_poll(stage, "Which evening? | Tue | Wed")
        anna, ben = stage.residents["anna"], stage.residents["ben"]
        [own] = polls(anna, room, stage.bot)
        await stage.end()
        said = [await answers(ben, room, own.event_id, "1"), await answers(anna, room, own.event_id, "2")]
        for number in range(55):
            said.append(await answers(anna, room, own.event_id, f"{1 + number % 2}"))
            said.append(await answers(ben, room, own.event_id, "2"))
        await ben.redacts(room, said.pop())
        stage.app = stage.build()
        await stage.begin()
        await stage.happened(*said)
        await anna.catches_up()
        [own] = polls(anna, room, stage.bot)
        assert own.counts == {"1": 1, "2": 1}
        assert await ballots(stage) == {(0,): 1, (1,): 1}
        await stage.app.clock.catch_up()  # what was voted long ago is shown at once
        await stage.settled()


# -- reading and writing events -----------------------------------------------------------------------------

ME = Me("@labbot:lab.test", "KoSI-Lab")


def event(kind: str, content: dict[str, Any], rel_type: Any = "m.reference") -> dict[str, Any]:
    relation = {"rel_type": rel_type, "event_id": "$poll"}
    content = {"m.relates_to": relation, **content}
    return {"type": kind, "event_id": "$1", "sender": "@anna:lab.test", "content": content}


def said(selections: Any, stable: bool = False) -> tuple[int, ...] | None:
    """What an answer says."""
    name = "m.poll.response" if stable else f"{UNSTABLE}.response"
    block = {"m.selections": selections} if stable else {name: {"answers": selections}}
    update = read(event(name, block), Room("!1:lab.test", ME.user), ME)
    assert isinstance(update, Voted)
    assert (update.message.id, update.mark) == ("$poll", "$1")
    return update.positions


@pytest.mark.parametrize("stable", [False, True])
def test_an_answer_names_options_by_their_numbers_and_anything_else_spoils_it(stable: bool) -> None:
    assert said(["2", "1", "2"], stable) == (1, 0, 1)
    assert said([], stable) == ()
    for spoiled in (["0"], ["01"], ["²"], ["-1"], ["1", "x"], [1], [None], ["1" * 400], "1", {"1": 1}, None, 7):
        assert said(spoiled, stable) is None


def test_what_relates_to_no_poll_is_no_answer() -> None:
    room = Room("!1:lab.test", ME.user)
    block = {f"{UNSTABLE}.response": {"answers": ["1"]}}
    relations: list[Any] = ["m.replace", "m.thread", None, {}]
    for relation in relations:
        assert read(event(f"{UNSTABLE}.response", block, relation), room, ME) is None
    assert read(event(f"{UNSTABLE}.response", {**block, "m.relates_to": {"rel_type": "m.reference"}}), room, ME) is None


@pytest.mark.parametrize(
    ("level", "redact", "may"), [(50, None, True), (49, None, False), (0, 0, True), (50, 100, False)]
)
def test_a_poll_is_ended_by_whoever_may_redact(level: int, redact: int | None, may: bool) -> None:
    room = Room("!1:lab.test", ME.user)
    content = {"users": {"@anna:lab.test": level}} | ({} if redact is None else {"redact": redact})
    room.apply({"type": "m.room.power_levels", "state_key": "", "sender": "@olga:lab.test", "content": content})
    for kind in ("m.poll.end", f"{UNSTABLE}.end"):
        assert isinstance(read(event(kind, {}), room, ME), Ended) is may


def test_a_poll_and_its_end_are_those_of_the_standard_with_words_for_clients_without_polls() -> None:
    chat = ChatRef("matrix", "!1:lab.test", "$root")
    shown = Rendered("#1 Tea &amp; cake?", (Button("Tea\x07"), Button("<Cake>")), poll=2)
    content = poll(chat, shown)
    assert content[f"{UNSTABLE}.start"] == {
        "kind": "org.matrix.msc3381.poll.disclosed",
        "max_selections": 2,
        "question": {"org.matrix.msc1767.text": "#1 Tea & cake?"},
        "answers": [
            {"id": "1", "org.matrix.msc1767.text": "Tea"},
            {"id": "2", "org.matrix.msc1767.text": "<Cake>"},
        ],
    }
    assert content["org.matrix.msc1767.text"] == "#1 Tea & cake?\n1. Tea\n2. <Cake>"
    assert content["m.relates_to"]["rel_type"] == "m.thread"
    assert poll_end("$poll", Rendered("#1 is closed.", poll=2)) == {
        f"{UNSTABLE}.end": {},
        "m.mentions": {},
        "m.relates_to": {"rel_type": "m.reference", "event_id": "$poll"},
        "org.matrix.msc1767.text": "#1 is closed.",
    }


NAMES = ["answers", "m.selections", f"{UNSTABLE}.response", "m.relates_to", "rel_type", "event_id"]
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # it is the machine that is slow
@given(content=st.dictionaries(st.sampled_from(NAMES), SHAPES))
def test_an_answer_of_any_shape_raises_nothing(content: dict[str, Any]) -> None:
    room = Room("!1:lab.test", ME.user)
    for kind in ("m.poll.response", f"{UNSTABLE}.response", f"{UNSTABLE}.end"):
        read(event(kind, content), room, ME)
