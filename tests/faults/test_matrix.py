"""A homeserver that breaks in every way it can: nothing is lost, nothing comes twice, and nobody is hurried."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
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
