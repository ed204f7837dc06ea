"""A homeserver that breaks in every way it can: nothing is lost, nothing comes twice, and nobody is hurried."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from bot.adapters.matrix.homeserver import UNTOLD_PAUSE
from bot.adapters.matrix.patience import FIRST_PAUSE, LONGEST_PAUSE
from bot.port import Refused, Rendered, RetryLater, Undeliverable
from bot.types import ChatRef, MessageRef
from tests.adapters.homeserver import (
    Fault,
    Homeserver,
    answers,
    bad_gateway,
    closed,
    cut,
    fine,
    refuses,
    silent,
    too_many,
    truncated,
)
from tests.adapters.olm import Device
from tests.faults.matrix import ANNA, Core, started


@pytest.fixture
async def server() -> AsyncIterator[Homeserver]:
    async with Homeserver() as running:
        yield running


def least(attempt: int) -> float:
    """The shortest pause after so many faults in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempt) / 2


# -- receiving ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [bad_gateway, truncated, cut, closed, answers([]), answers("no"), answers(b""), answers(b"[" * 200_000)],
    ids=["502", "truncated", "cut", "closed", "list", "text", "nothing", "brackets"],
)
async def test_a_sync_that_fails_is_asked_again_ever_more_slowly_and_loses_nothing(
    server: Homeserver, tmp_path: Path, fault: Fault
) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        asked = len(server.asked("sync"))
        server.breaks("sync", fault, times=12)
        server.says(room, ANNA, "One")
        server.says(room, ANNA, "Two")
        await core.until(lambda: core.words == ["One", "Two"])
        # The one under way when it broke, each fault, the one that went well, and at most one more.
        assert len(server.asked("sync")) - asked <= 15
    backoff = [pause for pause in core.pauses.taken if pause != FIRST_PAUSE]
    assert len(backoff) == (6 if fault is closed else 12)  # a kept connection that is gone is tried again at once
    assert all(pause >= least(attempt) for attempt, pause in enumerate(backoff))
    assert max(backoff) <= LONGEST_PAUSE


async def test_a_homeserver_that_never_answers_is_asked_again(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path, poll=0.05, timeout=0.2) as core:
        server.breaks("sync", silent, times=3)
        server.says(room, ANNA, "One")
        await core.until(lambda: core.words == ["One"])
        assert len([pause for pause in core.pauses.taken if pause != FIRST_PAUSE]) == 3
        server.breaks("send", silent)
        with pytest.raises(RetryLater):
            await core.send(room)


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (too_many(), UNTOLD_PAUSE),
        (too_many(7000), 7),
        (too_many(retry_after="9"), 9),
        (too_many(8000, retry_after="3"), 8),
        (too_many(-5), UNTOLD_PAUSE),
        (too_many(10**400), UNTOLD_PAUSE),
        (too_many("soon", retry_after="soon"), UNTOLD_PAUSE),
    ],
    ids=["untold", "body", "header", "both", "negative", "endless", "words"],
)
async def test_too_fast_means_a_pause_as_long_as_the_homeserver_says(
    server: Homeserver, tmp_path: Path, fault: Fault, pause: float
) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        server.breaks("sync", fault)
        server.says(room, ANNA, "One")
        await core.until(lambda: core.words == ["One"])
        assert pause in core.pauses.taken
        server.breaks("send", fault)
        with pytest.raises(RetryLater) as refused:
            await core.send(room)
        assert (refused.value.after, refused.value.everywhere) == (pause, True)


async def test_a_dead_login_ends_it_with_one_line_that_says_what_to_set(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        server.breaks("*", refuses(401, "M_UNKNOWN_TOKEN", soft_logout=False), times=None)
        error = await core.ended()
        assert isinstance(error, Refused)
        assert "LABBOT_MATRIX_PASSWORD" in str(error) and "\n" not in str(error)
        with pytest.raises(RetryLater):  # what waits to be sent waits for the operator
            await core.send(room)
        asked = len(server.requests)
    assert asked < 40


async def test_an_answer_that_makes_no_login_loses_no_message(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    server.breaks("keys/device_signing/upload", refuses(403, "M_FORBIDDEN"), times=None)
    server.breaks("sync", silent, times=None)
    async with Core(server, tmp_path) as core:
        with pytest.raises(RetryLater):
            await core.send(room)


@pytest.mark.parametrize("changing", [False, True], ids=["same token", "new tokens"])
async def test_a_homeserver_that_does_not_wait_makes_nobody_spin(
    server: Homeserver, tmp_path: Path, changing: bool
) -> None:
    room = server.room(ANNA)
    tokens = iter(range(10, 10_000))

    async def at_once(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"next_batch": f"s{next(tokens)}" if changing else "s7", "rooms": {}})

    async with started(server, tmp_path) as core:
        server.breaks("sync", at_once, times=None)
        asked, paused = len(server.asked("sync")), len(core.pauses.taken)
        await server.until(lambda: len(server.asked("sync")) > asked + 50)
        assert len(core.pauses.taken) - paused >= 48
        assert set(core.pauses.taken[paused + 1 :]) == {FIRST_PAUSE}
        assert room not in str(core.updates)


async def test_the_same_news_again_and_again_is_asked_for_no_faster_than_it_backs_off(
    server: Homeserver, tmp_path: Path
) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        event = server.event("m.room.message", ANNA, {"msgtype": "m.text", "body": "One"})
        joined = {room: {"timeline": {"events": [event]}}}
        server.breaks("sync", answers({"next_batch": "s7", "rooms": {"join": joined}}), times=None)
        asked, paused = len(server.asked("sync")), len(core.pauses.taken)
        await server.until(lambda: len(server.asked("sync")) > asked + 50)
        assert len(core.pauses.taken) - paused >= 48
        assert core.words == ["One"]


# -- gaps ---------------------------------------------------------------------------------------------------


def says_a_thousand(server: Homeserver, room: str) -> list[str]:
    words = [f"Number {number}" for number in range(1000)]
    for said in words:
        server.says(room, ANNA, said)
    return words


async def test_a_thousand_missed_messages_come_once_and_in_their_order(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    core = Core(server, tmp_path)
    async with core:
        await core.ready()
    words = says_a_thousand(server, room)
    server.says(room, "@labbot:lab.test", "my own")
    # Homeservers that load members lazily tell our own membership again, which is no arrival.
    own = server.event("m.room.member", server.user_id, {"membership": "join"}, state_key=server.user_id)
    server.interferes(lambda answer: answer["rooms"]["join"][room]["state"]["events"].append(own))
    for fault in (fine, bad_gateway, truncated, too_many()):  # the second page fails, three times
        server.breaks("messages", fault)
    async with core:
        await core.until(lambda: len(core.words) >= 1000)
        assert len(server.asked("messages")) == 5
        server.says(room, ANNA, "The last")
        await core.until(lambda: core.words[-1] == "The last")
    assert core.words == [*words, "The last"]
    assert core.came == 1001


@pytest.mark.parametrize("stored", [0, 50, 420, 999])
async def test_a_process_that_dies_within_a_thousand_missed_messages_leaves_none_out(
    server: Homeserver, tmp_path: Path, stored: int
) -> None:
    room = server.room(ANNA)
    core = Core(server, tmp_path)
    async with core:
        await core.ready()
    words = says_a_thousand(server, room)
    core.fails_after = stored
    async with core:
        await core.failed.wait()
    before = list(core.words)
    assert before == words[: len(before)]
    core.fails_after = None
    async with core:
        await core.until(lambda: len(core.words) >= 1000)
    assert core.words == words


async def test_a_gap_that_the_homeserver_refuses_to_show_does_not_hold_up_what_came_after(
    server: Homeserver, tmp_path: Path
) -> None:
    room, other = server.room(ANNA), server.room(ANNA)
    core = Core(server, tmp_path)
    async with core:
        await core.ready()
    words = says_a_thousand(server, room)
    server.says(other, ANNA, "Elsewhere")
    server.breaks("messages", refuses(403, "M_FORBIDDEN"))
    async with core:
        await core.until(lambda: len(core.words) >= 101)
    assert set(core.words) == {*words[-100:], "Elsewhere"}


async def test_a_room_that_cannot_be_read_holds_up_no_other_and_is_read_once_it_can_be(
    server: Homeserver, tmp_path: Path
) -> None:
    broken, room = server.room("@eve:evil.test"), server.room(ANNA)
    core = Core(server, tmp_path)
    async with core:
        await core.ready()
        server.breaks("state", bad_gateway, times=None)
        server.says(broken, "@eve:evil.test", "One")
        await core.until(lambda: core.cursor is not None and json.loads(core.cursor)["behind"] == {broken: "s2"})
        server.heals()
        for number in range(150):
            server.says(broken, "@eve:evil.test", f"More {number}")
        server.says(room, ANNA, "Elsewhere")
        await core.until(lambda: core.words == ["Elsewhere"])
    async with core:
        await core.until(lambda: len(core.words) == 152)
        server.says(broken, "@eve:evil.test", "Last")
        await core.until(lambda: core.words[-1] == "Last")
        assert core.cursor is not None and not json.loads(core.cursor)["behind"]
    assert core.words == ["Elsewhere", "One", *(f"More {number}" for number in range(150)), "Last"]


# -- sending ------------------------------------------------------------------------------------------------

Act = Callable[[Core, MessageRef], Awaitable[Any]]


async def send(core: Core, target: MessageRef) -> None:
    await core.send(target.chat.id, key="2.1")


async def edit(core: Core, target: MessageRef) -> None:
    await core.adapter.edit(target, Rendered("Other words"), "1.2")


async def retract(core: Core, target: MessageRef) -> None:
    await core.adapter.retract(target)


@pytest.mark.parametrize("act", [send, edit, retract])
async def test_what_a_fault_means_for_a_message(server: Homeserver, tmp_path: Path, act: Act) -> None:
    room = server.room(ANNA)
    name = "redact" if act is retract else "send"
    async with started(server, tmp_path, timeout=0.3) as core:
        target = MessageRef(ChatRef("matrix", room), await core.send(room))
        for fault in (bad_gateway, truncated, cut, closed, silent, answers([]), refuses(500, "M_UNKNOWN")):
            server.breaks(name, fault, times=2 if fault is closed else 1)
            with pytest.raises(RetryLater) as later:
                await act(core, target)
            assert not later.value.everywhere
            assert act is retract or not later.value.unsure  # the same transaction again is the same event
        server.breaks(name, refuses(401, "M_UNKNOWN_TOKEN"))
        with pytest.raises(RetryLater) as later:
            await act(core, target)
        assert later.value.everywhere
        server.breaks(name, refuses(403, "M_FORBIDDEN"))
        with pytest.raises(Undeliverable) as never:
            await act(core, target)
        assert not never.value.gone  # we are still in the room
        server.breaks(name, refuses(413, "M_TOO_LARGE"))
        with pytest.raises(Undeliverable) as never:
            await act(core, target)
        assert not never.value.gone
        server.breaks(name, refuses(404, "M_NOT_FOUND"))
        if act is retract:
            await act(core, target)
        else:
            with pytest.raises(Undeliverable) as never:
                await act(core, target)
            assert never.value.gone
        server.puts_out(room, ANNA)
        server.breaks(name, refuses(403, "M_FORBIDDEN"))
        with pytest.raises(Undeliverable) as never:
            await act(core, target)
        assert never.value.gone
        assert len(server.events) == 1


async def test_what_is_for_one_person_is_told_where_only_that_person_is(server: Homeserver, tmp_path: Path) -> None:
    private = server.room(ANNA)
    async with started(server, tmp_path) as core:
        words = Rendered("What only Anna shall know", recipient=ANNA)
        target = (await core.adapter.send(ChatRef("matrix", private), words, "1.1")).message
        bob = "@bob:lab.test"
        for user, membership, gone in ((bob, "invite", False), (ANNA, "leave", True), (bob, "leave", True)):
            server.brings(private, server.event("m.room.member", user, {"membership": membership}, state_key=user))
            server.says(private, bob, "Now")
            heard = len(core.words) + 1
            await core.until(partial(_heard, core, heard))
            for act in (
                core.adapter.send(ChatRef("matrix", private), words, f"2.{membership}"),
                core.adapter.edit(target, words, f"3.{membership}"),
            ):
                with pytest.raises(Undeliverable) as refused:
                    await act
                assert refused.value.gone is gone
        assert len(server.sent(private)) == 1


def _heard(core: Core, number: int) -> bool:
    return len(core.words) >= number


def device(server: Homeserver, user: str, name: str = "DEVICE") -> Device:
    """Somebody's device, which the bot can begin conversations with."""
    made = Device(user, name)
    server.device_keys[user][name] = made.keys
    server.people_one_time_keys[user, name] += [{id: key} for id, key in made.new_one_time_keys(9).items()]
    return made


async def test_who_comes_while_a_key_is_shared_gets_one_and_the_message_is_not_lost(
    server: Homeserver, tmp_path: Path
) -> None:
    anna, bob = device(server, ANNA), device(server, "@bob:lab.test")
    room = server.room(ANNA, encrypted=True, name="Group")
    async with started(server, tmp_path) as core:
        server.says(room, ANNA, "Hello")
        await core.until(lambda: core.words == ["Hello"])

        async def joined(_request: web.Request) -> None:
            server.brings(
                room, server.event("m.room.member", bob.user_id, {"membership": "join"}, state_key=bob.user_id)
            )
            server.says(room, bob.user_id, "Me too")
            await core.until(lambda: core.words == ["Hello", "Me too"])

        server.breaks("sendToDevice", joined)
        await core.send(room)
    assert given(server) == [{anna.user_id}, {anna.user_id, bob.user_id}]


def given(server: Homeserver) -> list[set[str]]:
    """To whom keys were given, each time."""
    return [set(sent["messages"]) for sent in server.to_devices]


async def test_who_has_left_in_a_gap_gets_no_key(server: Homeserver, tmp_path: Path) -> None:
    anna, bob = device(server, ANNA), device(server, "@bob:lab.test")
    room = server.room(anna.user_id, bob.user_id, encrypted=True, name="Group")
    async with started(server, tmp_path) as core:
        server.says(room, ANNA, "Hello")
        await core.until(lambda: core.words == ["Hello"])

        async def left(_request: web.Request) -> None:
            gone = server.event("m.room.member", bob.user_id, {"membership": "leave"}, state_key=bob.user_id)
            server.brings(room, gone, *(server.event("m.room.message", ANNA, {}) for _ in range(120)))
            server.says(room, ANNA, "He has left")
            await core.until(lambda: core.words == ["Hello", "He has left"])

        server.breaks("keys/claim", left)
        await core.send(room)
    assert given(server) == [{anna.user_id}]


def _changes(server: Homeserver, user: str) -> None:
    server.interferes(lambda answer: answer["device_lists"]["changed"].append(user))


async def test_a_device_that_comes_while_devices_are_asked_for_gets_keys_too(
    server: Homeserver, tmp_path: Path
) -> None:
    device(server, ANNA, "OLD")
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:

        async def old_answer(_request: web.Request) -> web.StreamResponse:
            answer = web.json_response({"device_keys": {ANNA: dict(server.device_keys[ANNA])}})
            device(server, ANNA, "NEW")
            _changes(server, ANNA)
            server.says(room, ANNA, "A new phone")
            await core.until(lambda: core.cursor is not None and json.loads(core.cursor)["since"] >= "s2")
            return answer

        server.breaks("keys/query", old_answer)
        await core.send(room, key="1.1")
        server.says(room, ANNA, "Hello")
        await core.until(lambda: core.words[-1:] == ["Hello"])
        await core.send(room, key="2.1")
    assert {name for sent in server.to_devices for name in sent["messages"][ANNA]} == {"OLD", "NEW"}


async def test_a_device_that_was_away_gets_keys_again(server: Homeserver, tmp_path: Path) -> None:
    device(server, ANNA)
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        await core.send(room, key="1.1")
        away = server.device_keys.pop(ANNA)
        for number, found in enumerate(({}, away)):
            server.device_keys[ANNA] = found
            asked = len(server.asked("keys/query"))
            _changes(server, ANNA)
            await server.until(partial(_asked_more, server, asked))
            server.says(room, ANNA, f"Word {number}")
            await core.until(partial(_heard, core, number + 1))
        await core.send(room, key="2.1")
    assert given(server) == [{ANNA}, {ANNA}]


def _asked_more(server: Homeserver, before: int) -> bool:
    return len(server.asked("keys/query")) > before


@pytest.mark.parametrize("name", ["keys/query", "keys/claim", "sendToDevice", "send", "state", "createRoom"])
async def test_a_refusal_that_is_not_the_rooms_costs_no_message(server: Homeserver, tmp_path: Path, name: str) -> None:
    device(server, ANNA)
    room = server.room(ANNA, encrypted=True)
    refused = ["M_UNRECOGNIZED"] if name in ("send", "state") else ["M_UNRECOGNIZED", "M_FORBIDDEN"]
    async with started(server, tmp_path) as core:
        for code in refused:
            server.breaks(name, refuses(404, code))
            with pytest.raises(RetryLater):
                await core.send("@ben:lab.test" if name == "createRoom" else room)
        if name != "createRoom":
            assert await core.send(room)


async def test_a_proxy_that_has_lost_its_homeserver_ends_nothing(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        server.breaks("sync", refuses(404, "M_UNRECOGNIZED"), times=3)
        server.says(room, ANNA, "One")
        await core.until(lambda: core.words == ["One"])


async def test_a_message_whose_answer_got_lost_is_there_once(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        ids = {await core.send(room, key="7.1") for _ in range(3)}
        target = MessageRef(ChatRef("matrix", room), ids.pop())
        assert not ids
        for _ in range(3):
            await core.adapter.edit(target, Rendered("Other words"), "7.2")
        for _ in range(3):
            await core.adapter.retract(target)
    assert [event.type for event in server.sent(room)] == ["m.room.message", "m.room.message", "m.room.redaction"]


async def test_what_the_homeserver_answers_to_a_message_may_be_anything(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        for body in ({}, {"event_id": None}, {"event_id": ["x"]}):
            server.breaks("send", answers(body))
            with pytest.raises(RetryLater):
                await core.send(room)


# -- invitations --------------------------------------------------------------------------------------------


async def test_invitations_to_servers_that_are_gone_hold_up_no_other(server: Homeserver, tmp_path: Path) -> None:
    joined: list[str] = []

    async def join(request: web.Request) -> web.StreamResponse | None:
        if "gone.test" in request.path:
            return await bad_gateway(request)
        joined.append(request.path)
        return None

    server.breaks("join", join, times=None)
    async with started(server, tmp_path) as core:
        for number in range(50):
            server.invites(f"!{number}:gone.test", "@mallory:gone.test", is_direct=True)
        server.invites("!welcome:lab.test", ANNA, is_direct=True)
        await server.until(lambda: joined)
        # What is not joined yet is kept with the cursor, for the next process.
        assert core.cursor is not None and len(json.loads(core.cursor)["invites"]) >= 50
        tries = len(server.asked("join"))
        assert tries <= len([pause for pause in core.pauses.taken if pause != FIRST_PAUSE]) + 56
    async with core:
        await server.until(lambda: len(server.asked("join")) >= tries + 50)


async def test_a_flood_of_invitations_is_bounded(server: Homeserver, tmp_path: Path) -> None:
    server.breaks("join", bad_gateway, times=None)
    async with started(server, tmp_path, sleep=_for_ever) as core:
        with capture_logs() as logs:
            for number in range(3000):
                server.invites(f"!{number}:gone.test", "@mallory:gone.test")
            room = server.room(ANNA)
            server.says(room, ANNA, "Are you there?")
            await core.until(lambda: "Are you there?" in core.words)
        assert core.cursor is not None and len(json.loads(core.cursor)["invites"]) == 1000
        assert "matrix.too_many_invitations" in {line["event"] for line in logs}
        assert len(asyncio.all_tasks()) < 1100


async def _for_ever(_seconds: float) -> None:
    await asyncio.get_running_loop().create_future()


async def test_an_invitation_that_is_refused_is_struck_from_the_list(server: Homeserver, tmp_path: Path) -> None:
    server.breaks("join", refuses(403, "M_FORBIDDEN"), times=None)
    room = server.room(ANNA)
    async with started(server, tmp_path) as core:
        server.invites("!closed:lab.test", ANNA)
        await server.until(lambda: server.asked("join"))
        server.says(room, ANNA, "One")
        await core.until(lambda: core.words == ["One"])
        server.says(room, ANNA, "Two")
        await core.until(lambda: core.cursor is not None and not json.loads(core.cursor)["invites"])
        assert len(server.asked("join")) == 1


async def test_an_invitation_that_names_two_inviters_is_declined(server: Homeserver, tmp_path: Path) -> None:
    async with started(server, tmp_path, invites="homeserver") as core:
        forged, eve = ANNA, "@eve:evil.test"
        for order in ((forged, eve), (eve, forged)):
            content = {"membership": "invite", "is_direct": True}
            members = [
                {"type": "m.room.member", "sender": sender, "state_key": server.user_id, "content": content}
                for sender in order
            ]
            room: dict[str, Any] = {"invite_state": {"events": members}}
            number = len(server.asked("leave"))
            server.interferes(partial(_invites, {f"!{number}:evil.test": room}))
            await server.until(partial(_left_more, server, number))
        assert not server.asked("join") and not server.account_data
        assert core.cursor is not None and json.loads(core.cursor)["invites"] == {}


def _invites(rooms: dict[str, Any], answer: dict[str, Any]) -> None:
    answer["rooms"]["invite"].update(rooms)


def _left_more(server: Homeserver, before: int) -> bool:
    return len(server.asked("leave")) > before


async def test_a_private_chat_is_made_anew_where_anybody_could_overhear_the_listed_one(
    server: Homeserver, tmp_path: Path
) -> None:
    sealed, clear, public = (server.room(ANNA, encrypted=which != 1) for which in range(3))
    server.brings(public, server.event("m.room.join_rules", ANNA, {"join_rule": "public"}, state_key=""))
    for listed, made in (([clear, public], 1), ([clear, sealed], 1)):
        server.account_data["m.direct"] = {ANNA: listed}
        async with started(server, tmp_path) as core:
            with pytest.raises(Undeliverable) as moved:
                await core.send(ANNA)
            assert moved.value.moved_to is not None
            assert len(server.asked("createRoom")) == made
            assert (moved.value.moved_to.id == sealed) is (sealed in listed)


async def test_a_private_chat_that_cannot_be_listed_is_made_once(server: Homeserver, tmp_path: Path) -> None:
    async with started(server, tmp_path) as core:
        server.breaks("put_account_data", refuses(403, "M_FORBIDDEN"), times=None)
        with pytest.raises(Undeliverable) as moved:
            await core.send(ANNA)
        assert moved.value.moved_to is not None
        assert len(server.asked("createRoom")) == 1
