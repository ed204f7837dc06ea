"""What hostile events on Matrix are made of: most of it gets as far as whoever sends it can bring it."""

import asyncio
import json
import logging
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import vodozemac
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.adapters.matrix.encryption import MOST_CONVERSATIONS, MOST_KEYS
from bot.adapters.matrix.homeserver import Homeserver as Calls
from bot.adapters.matrix.joining import Invitations, Joining, Policy
from bot.adapters.matrix.patience import Patience
from bot.adapters.matrix.place import MOST_WAITING, Place
from bot.adapters.matrix.rooms import Room, Rooms
from bot.port import RetryLater
from bot.types import Said, Unreadable
from tests.adapters.homeserver import Homeserver
from tests.adapters.olm import MEGOLM, OLM, Device
from tests.faults.hostile import CANARY
from tests.faults.hostile_matrix import MALLORY, HostileMatrix
from tests.faults.matrix import ANNA, Core, started

ROOM = "!1:lab.test"


def test_hostile_events_are_the_same_for_a_seed_but_for_their_keys() -> None:
    bot = Device("@labbot:lab.test", "LABBOT")
    first, second = (list(HostileMatrix(8, bot.user_id, bot.keys).timeline(500, ROOM)) for _ in range(2))
    kinds = [[event.get("type") for event in events if isinstance(event, dict)] for events in (first, second)]
    assert kinds[0] == kinds[1]
    assert len({str(kind) for kind in kinds[0]}) > 20


def test_well_encrypted_nonsense_is_opened_by_a_device_that_follows_the_specification() -> None:
    bot = Device("@labbot:lab.test", "LABBOT")
    hostile = HostileMatrix(7, bot.user_id, bot.keys)
    hostile.befriends(next(iter(bot.new_one_time_keys(1).values()))["key"])
    key = bot.opened(hostile.room_key(ROOM)["content"])
    assert key is not None
    session = vodozemac.InboundGroupSession(vodozemac.SessionKey(key["content"]["session_key"]))
    opened = sum(_opens(bot, event) for event in hostile.to_device(2000))
    assert 600 < opened < 1400
    events = list(hostile.timeline(2000, ROOM))
    assert 200 < sum(_reads(session, event) for event in events) < 600
    states = [event for event in events if isinstance(event, dict) and "state_key" in event]
    assert 300 < len(states) < 700


def _opens(bot: Device, event: Any) -> bool:
    """Whether an Olm message of Mallory's could be decrypted, whatever was inside."""
    try:
        assert (event["sender"], event["content"]["algorithm"]) == (MALLORY, OLM)
        return bot.opened(event["content"]) is not None
    except json.JSONDecodeError:
        return True
    except Exception:
        return False


def _reads(session: vodozemac.InboundGroupSession, event: Any) -> bool:
    try:
        assert event["content"]["algorithm"] == MEGOLM
        session.decrypt(vodozemac.MegolmMessage.from_base64(event["content"]["ciphertext"]))
    except Exception:
        return False
    return True


# -- and what the bot makes of them -------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet_library() -> Iterator[None]:
    """The library repeats what it cannot read, down to half a character; in the bot it says nothing either."""
    library = logging.getLogger("nio")
    before = library.level
    library.setLevel(logging.CRITICAL)
    yield
    library.setLevel(before)


@pytest.fixture
async def server() -> AsyncIterator[Homeserver]:
    async with Homeserver() as running:
        yield running


class Honest:
    """Anna with a device, in an encrypted room."""

    def __init__(self, server: Homeserver, room: str, name: str = "ANNA") -> None:
        self.server = server
        self.room = room
        self.device = Device(ANNA, name)
        server.device_keys[ANNA][name] = self.device.keys
        own = server.device_keys[server.user_id][server.device_id]["keys"]
        self.bot = {kind.partition(":")[0]: key for kind, key in own.items()}
        self.device.begin(self.bot["curve25519"], server.claim()[1])
        self.session = vodozemac.GroupSession()

    def key(self) -> dict[str, Any]:
        """The to-device event with the key of the session in use."""
        content = {
            "algorithm": MEGOLM,
            "room_id": self.room,
            "session_id": self.session.session_id,
            "session_key": self.session.session_key.to_base64(),
        }
        payload = self.device.payload("m.room_key", content, self.server.user_id, self.bot["ed25519"])
        sealed = self.device.sealed(self.bot["curve25519"], json.dumps(payload).encode())
        return {"type": "m.room.encrypted", "sender": ANNA, "content": sealed}

    def says(self, words: str) -> None:
        """Say something, encrypted."""
        content = {"msgtype": "m.text", "body": words}
        plain = {"type": "m.room.message", "room_id": self.room, "content": content}
        sealed = {
            "algorithm": MEGOLM,
            "ciphertext": self.session.encrypt(json.dumps(plain).encode()).to_base64(),
            "session_id": self.session.session_id,
            "sender_key": self.device.identity,
            "device_id": self.device.device_id,
        }
        self.server.brings(self.room, self.server.event("m.room.encrypted", ANNA, sealed))


def befriended(server: Homeserver, seed: int = 20_261_122) -> HostileMatrix:
    keys = server.device_keys[server.user_id][server.device_id]
    hostile = HostileMatrix(seed, server.user_id, keys)
    hostile.befriends(server.claim()[1])
    server.device_keys[MALLORY]["MALLORY"] = hostile.device.keys
    return hostile


def olm(core: Core) -> Any:
    assert core.adapter._connected is not None
    return core.adapter._connected.session.olm


async def test_thousands_of_hostile_events_hide_nothing_and_leave_nothing_behind(
    server: Homeserver, tmp_path: Path
) -> None:
    attacked, quiet = server.room(ANNA, MALLORY), server.room(ANNA)
    sealed = server.room(ANNA, encrypted=True)
    with capture_logs() as logs:
        async with started(server, tmp_path) as core:
            hostile, anna = befriended(server), Honest(server, sealed)
            server.sends_to_device(hostile.room_key(attacked), anna.key())
            to_device, timeline = hostile.to_device(1500), hostile.timeline(1500, attacked)
            began = time.monotonic()
            for number in range(15):
                server.sends_to_device(*(next(to_device) for _ in range(100)))
                server.brings(attacked, *(next(timeline) for _ in range(100)))
                server.says(attacked, ANNA, f"here {number}")
                server.says(quiet, ANNA, f"clear {number}")
                anna.says(f"sealed {number}")
                heard = {f"here {number}", f"sealed {number}"}
                await core.until(partial(_heard, core, heard))
            seconds = time.monotonic() - began
            machine = olm(core)
            assert machine.received_key_requests == machine.key_verifications == {}
            assert machine.outgoing_to_device_messages == []
            assert len(machine.wedged_devices) <= 1
            assert len(machine.session_store._entries) <= 3
            assert max(len(sessions) for sessions in machine.session_store.values()) <= MOST_CONVERSATIONS
            assert core.cursor is not None and len(Place.read(core.cursor).waiting) <= MOST_WAITING
    for place in ("here", "clear", "sealed"):
        assert [words for words in core.words if words.startswith(place)] == [f"{place} {n}" for n in range(15)]
    assert CANARY not in str(logs)
    assert {line["log_level"] for line in logs} <= {"debug", "info", "warning"}
    print(f"\n{seconds / 3000 * 1000:.2f} ms an event")
    assert seconds / 3000 < 0.01


Poison = Callable[[Homeserver, str], None]


def _unknown_one_time_key(server: Homeserver, _room: str) -> None:
    hostile = befriended(server)
    server.sends_to_device(*(hostile._of_an_unknown_key() for _ in range(3)))


def _no_keys_left(server: Homeserver, _room: str) -> None:
    server.one_time_keys.clear()


def _state(kind: str, content: Any, key: str = "", sender: str = MALLORY) -> Poison:
    def poison(server: Homeserver, room: str) -> None:
        server.brings(room, server.event(kind, sender, content, state_key=key))

    return poison


def _message(content: Any, **more: Any) -> Poison:
    def poison(server: Homeserver, room: str) -> None:
        server.brings(room, server.event("m.room.message", MALLORY, content, **more))

    return poison


def _deep(levels: int) -> Any:
    nested: Any = "x"
    for _ in range(levels):
        nested = [nested]
    return nested


def _deeper_than_any_parser(server: Homeserver, room: str) -> None:
    brackets = b"[" * 30_000 + b"]" * 30_000

    async def nested(request: Any) -> Any:
        from aiohttp import web

        answer = await server._sync(request, {})
        if not answer["rooms"]["join"]:
            return web.json_response(answer)
        event = server.event("m.room.message", MALLORY, {"msgtype": "m.text", "body": "deep", "more": "HERE"})
        answer["rooms"]["join"][room]["timeline"]["events"].insert(0, event)
        return web.Response(
            content_type="application/json", body=json.dumps(answer).encode().replace(b'"HERE"', brackets)
        )

    server.breaks("sync", nested, times=None)


def _stripped_invitation(server: Homeserver, _room: str) -> None:
    members = [
        {"type": "m.room.member", "sender": MALLORY, "state_key": key, "content": content}
        for key in (MALLORY, "@labbot:lab.test", 7, None)
        for content in ({"membership": "join"}, {"membership": ["invite"]}, "invite", {})
    ]
    nonsense: dict[str, Any] = {"invite_state": {"events": [*members, None, [], {"type": "m.room.member"}]}}
    server.interferes(lambda answer: answer["rooms"]["invite"].update({"!strange:lab.test": nonsense}))


_LONG = "\U0001f6b2" * 16_000

POISONS: dict[str, Poison] = {
    "an unknown one-time key": _unknown_one_time_key,
    "no one-time key left": _no_keys_left,
    "power levels that are no numbers": _state("m.room.power_levels", {"users": {MALLORY: "+-5"}, "users_default": []}),
    "power beyond all numbers": _state("m.room.power_levels", {"users": {MALLORY: 10**400}, "state_default": "nan"}),
    "a tombstone with such power": _state("m.room.tombstone", {"replacement_room": "!../x:lab.test"}),
    "a room version of digits": _state("m.room.create", {"room_version": "9" * 5000, "predecessor": {"room_id": ".."}}),
    "a predecessor that is no room": _state("m.room.create", {"predecessor": {"room_id": "\ud800\0"}}),
    "an invitation of strangers": _stripped_invitation,
    "a huge name": _state("m.room.member", {"membership": "join", "displayname": _LONG}, MALLORY),
    "a huge room name": _state("m.room.name", {"name": _LONG}),
    "a huge body": _message({"msgtype": "m.text", "body": _LONG}),
    "no text at all": _message({"msgtype": "m.text", "body": "\0\ud800\udfff \0"}),
    "a huge event id": _message({"msgtype": "m.text", "body": "hm"}, event_id="$" + "x" * 10_000),
    "an event id of no characters": _message({"msgtype": "m.text", "body": "hm"}, event_id="$\0\ud800"),
    "an event id that is a list": _message({"msgtype": "m.text", "body": "hm"}, event_id=["$x"]),
    "deep nesting": _message({"msgtype": "m.text", "body": "hm", "deep": _deep(900)}),
    "a deep state": _state("m.room.power_levels", {"users": _deep(900)}),
    "nesting deeper than any parser": _deeper_than_any_parser,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
async def test_one_poisoned_event_stops_nobody(server: Homeserver, tmp_path: Path, poison: Poison) -> None:
    room, other = server.room(ANNA, MALLORY), server.room(ANNA)
    async with started(server, tmp_path) as core:
        server.says(room, ANNA, "Before")
        poison(server, room)
        server.says(room, ANNA, "After")
        server.says(other, ANNA, "Elsewhere")
        await core.until(lambda: {"Before", "After", "Elsewhere"} <= set(core.words))
        server.heals()
        server.says(other, ANNA, "Later")
        await core.until(lambda: "Later" in core.words)
        await server.until(lambda: len(server.one_time_keys) >= 25)
        assert all(pause == 0.5 for pause in core.pauses.taken)


async def test_what_a_stranger_fills_up_is_bounded_and_what_others_need_stays(
    server: Homeserver, tmp_path: Path
) -> None:
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        anna = Honest(server, room)
        hostile = befriended(server)
        server.sends_to_device(anna.key())
        for number in range(MOST_KEYS + 50):
            server.sends_to_device(hostile.room_key(f"!{number % 30}:lab.test"))
        for _ in range(MOST_CONVERSATIONS + 5):
            await server.until(lambda: server.one_time_keys)
            hostile.befriends(server.claim()[1])
            server.sends_to_device(hostile.room_key(room))
        anna.says("Still readable")
        await core.until(lambda: core.words == ["Still readable"])
        machine = olm(core)
        assert len(list(machine.inbound_group_store)) <= MOST_KEYS + 1
        assert len(machine.session_store[hostile.device.identity]) == MOST_CONVERSATIONS
    async with core:  # on disk it is the same
        anna.says("And now")
        await core.until(lambda: core.words == ["Still readable", "And now"])
        machine = olm(core)
        assert len(list(machine.inbound_group_store)) <= MOST_KEYS + 1
        assert len(machine.session_store[hostile.device.identity]) == MOST_CONVERSATIONS


async def test_one_room_of_undecryptable_messages_drives_out_no_others(server: Homeserver, tmp_path: Path) -> None:
    attacked, room = server.room(ANNA, MALLORY, encrypted=True), server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        anna, mallory = Honest(server, room), Honest(server, attacked, "OTHER")
        anna.says("Waiting for its key")
        for number in range(MOST_WAITING + 200):
            mallory.says(f"Nobody reads {number}")
        await core.until(lambda: core.cursor is not None and len(Place.read(core.cursor).waiting) == MOST_WAITING)
        server.sends_to_device(anna.key())
        anna.session = vodozemac.GroupSession()
        await asyncio.sleep(0)
        server.says(room, ANNA, "Afterwards")
        await core.until(lambda: "Afterwards" in core.words)
    assert "Waiting for its key" not in core.words  # the key came with what was said after it: it opens nothing before


async def test_what_no_key_can_open_does_not_wait_for_one(server: Homeserver, tmp_path: Path) -> None:
    room = server.room(ANNA, MALLORY, encrypted=True)
    async with started(server, tmp_path) as core:
        anna = Honest(server, room)
        server.sends_to_device(anna.key())
        anna.says("One")
        said = server._rooms[room].timeline[-1][1]["content"]
        await core.until(lambda: core.words == ["One"])
        for sealed in (said, {**said, "ciphertext": "AAAA"}, *({**said, "session_id": "x" * n} for n in (0, 50_000))):
            server.brings(room, server.event("m.room.encrypted", MALLORY, sealed))
        anna.says("Two")
        await core.until(lambda: core.words == ["One", "Two"])
        assert core.cursor is not None and Place.read(core.cursor).waiting == []
        assert len([update for update in core.updates if isinstance(update, Unreadable)]) == 4


async def test_whoever_tells_somebodys_key_as_another_rooms_makes_nobody_unreadable(
    server: Homeserver, tmp_path: Path
) -> None:
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        anna, eve = Honest(server, room), Honest(server, "!other:evil.test", "EVE")
        eve.session = anna.session
        server.sends_to_device(eve.key(), anna.key())
        anna.says("One")
        server.sends_to_device(anna.key())  # from here on only; what opens more stays
        await core.until(lambda: core.words == ["One"])
    async with core:
        anna.says("Two")
        await core.until(lambda: core.words == ["One", "Two"])
        [known] = olm(core).inbound_group_store[room][anna.device.identity].values()
        assert known.first_known_index == 0


# -- state of any shape -------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400)
USERS = st.sampled_from([ANNA, MALLORY, "@labbot:lab.test"])
WORDS = st.sampled_from(["invite", "join", "leave", "+-5", "9" * 5000, "12", "!2:lab.test", "inf"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | USERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | USERS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "membership",
        "is_direct",
        "name",
        "alias",
        "users",
        "events",
        "users_default",
        "state_default",
        "room_version",
        "predecessor",
        "additional_creators",
        "replacement_room",
        "room_id",
        "m.room.tombstone",
        "m.room.power_levels",
    ]
)
CONTENTS = VALUES | st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS | USERS, VALUES, max_size=4), max_size=6)
TYPES = ["member", "encryption", "name", "canonical_alias", "power_levels", "create", "tombstone"]
EVENTS = VALUES | st.fixed_dictionaries(
    {"content": CONTENTS},
    optional={
        "type": VALUES | st.sampled_from([f"m.room.{kind}" for kind in TYPES]),
        "state_key": VALUES | USERS | st.just(""),
        "sender": VALUES | USERS,
        "event_id": VALUES | st.just("$1"),
        "unsigned": VALUES | st.fixed_dictionaries({"prev_content": CONTENTS}),
        "origin_server_ts": VALUES,
    },
)
PARTS = VALUES | st.fixed_dictionaries({"events": st.lists(EVENTS, max_size=4)}, optional={"limited": VALUES})
ROOMS = st.dictionaries(
    st.sampled_from(["!1:lab.test", "!9:lab.test"]) | st.text(max_size=8),
    VALUES
    | st.fixed_dictionaries(
        {}, optional={"timeline": PARTS, "state": PARTS, "invite_state": PARTS, "summary": VALUES, "other": VALUES}
    ),
    max_size=3,
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "rooms": VALUES | st.fixed_dictionaries({}, optional={"join": ROOMS, "invite": ROOMS, "leave": ROOMS}),
        "account_data": PARTS,
        "to_device": PARTS,
        "device_lists": VALUES | st.dictionaries(st.sampled_from(["changed", "left"]), VALUES, max_size=2),
        "device_one_time_keys_count": VALUES,
    },
)
MANY = hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.lists(EVENTS, max_size=6))
@MANY
def test_state_of_any_shape_raises_nothing(events: list[Any]) -> None:
    room = Room(ROOM, "@labbot:lab.test")
    for event in events:
        if isinstance(event, dict):
            room.apply(event)
    for user in (ANNA, MALLORY, "@labbot:lab.test"):
        room.may(user, "m.room.tombstone")
    assert room.successor is None or room.successor.startswith("!")
    assert isinstance(room.private, bool) and room.name != ""


@given(st.lists(EVENTS, max_size=6), CONTENTS)
@MANY
def test_invitations_and_direct_chats_of_any_shape_raise_nothing(events: list[Any], direct: Any) -> None:
    calls = Calls("http://nobody.test", "")
    rooms = Rooms(calls, "@labbot:lab.test", [], lambda _: None)
    patience = Patience(asyncio.sleep, random.random)
    joining = Joining(calls, rooms, "@labbot:lab.test", Policy("all", "@labbot:lab.test"), patience)
    invitations: Invitations = {}
    joining.invited("!1:lab.test", events, invitations)
    assert all(isinstance(part, str) for [via, inviter] in invitations.values() for part in (via, inviter))
    if isinstance(direct, dict):
        rooms.mark_direct(direct)
    rooms.is_direct("!1:lab.test")


@given(VALUES | st.fixed_dictionaries({"since": VALUES, "invites": CONTENTS, "waiting": VALUES, "hinted": CONTENTS}))
@MANY
def test_a_cursor_of_any_shape_is_read_or_begins_anew(stored: Any) -> None:
    place = Place.read(json.dumps(stored))
    place.prune(time.time())
    assert Place.read(place.written()) == place


def test_a_cursor_that_is_no_json_begins_anew() -> None:
    for cursor in ("", "s123_456", "{", "[" * 100_000, '"x"', "null"):
        assert Place.read(cursor) == Place()


@given(st.lists(ANSWERS, min_size=1, max_size=3))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_sync_of_any_shape_is_survived(tmp_path: Path, answers: list[dict[str, Any]]) -> None:
    asyncio.run(_survives(tmp_path / secrets.token_hex(4), answers))


def _heard(core: Core, words: set[str]) -> bool:
    return words <= set(core.words)


def _adds(answer: dict[str, Any], told: dict[str, Any]) -> None:
    told.update(answer)


async def _survives(folder: Path, answers: list[dict[str, Any]]) -> None:
    async with Homeserver() as server:
        room = server.room(ANNA)
        core = Core(server, folder)
        async with core:
            await core.ready()
            for answer in answers:
                server.interferes(partial(_adds, answer))
                await server.until(lambda: server.asked("sync")[-1].query.get("since") == f"s{len(server._log)}")
            server.says(room, ANNA, "Still there?")
            await core.until(lambda: "Still there?" in core.words)


# -- the key store ------------------------------------------------------------------------------------------


def _pragma(core: Core, words: str) -> None:
    olm(core).store.database.execute_sql(f"PRAGMA {words}").fetchall()


async def _locked(core: Core) -> Callable[[], None]:
    _pragma(core, "busy_timeout = 1")
    other = sqlite3.connect(olm(core).store.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


async def _read_only(core: Core) -> Callable[[], None]:
    _pragma(core, "query_only = 1")
    return lambda: _pragma(core, "query_only = 0")


async def _full(core: Core) -> Callable[[], None]:
    database = olm(core).store.database
    [[pages]] = database.execute_sql("PRAGMA page_count").fetchall()
    _pragma(core, f"max_page_count = {pages}")
    return lambda: _pragma(core, "max_page_count = 1000000")


@pytest.mark.parametrize("breaks", [_locked, _read_only, _full])
async def test_a_key_store_that_takes_nothing_loses_no_key(
    server: Homeserver, tmp_path: Path, breaks: Callable[[Core], Awaitable[Callable[[], None]]]
) -> None:
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        anna = Honest(server, room)
        server.sends_to_device(anna.key())
        anna.says("One")
        await core.until(lambda: core.words == ["One"])
        mends = await breaks(core)
        keys = []
        for number in range(60):  # so many do not fit into a page that is there already
            anna.session = vodozemac.GroupSession()
            keys.append(anna.key())
            if number == 0:
                anna.says("Two")
        server.sends_to_device(*keys)
        anna.says("Three")
        failing = len(core.pauses.taken)
        await core.pauses.number(failing + 3)
        assert core.words == ["One"]
        assert min(core.pauses.taken[failing:]) >= 5
        mends()
        await core.until(lambda: core.words == ["One", "Two", "Three"])
        assert await core.send(room)
    async with core:  # and the keys are there after a restart
        anna.says("Four")
        await core.until(lambda: core.words == ["One", "Two", "Three", "Four"])
    assert not [update for update in core.updates if isinstance(update, Unreadable)]
    assert all(isinstance(update, Said) for update in core.updates)


@pytest.mark.parametrize("breaks", [_locked, _read_only])
async def test_what_cannot_be_encrypted_yet_is_sent_later(
    server: Homeserver, tmp_path: Path, breaks: Callable[[Core], Awaitable[Callable[[], None]]]
) -> None:
    room = server.room(ANNA, encrypted=True)
    async with started(server, tmp_path) as core:
        mends = await breaks(core)
        for _ in range(3):
            with pytest.raises(RetryLater):
                await core.send(room)
        mends()
        assert await core.send(room)
    assert [event.type for event in server.sent(room)] == ["m.room.encrypted"]
