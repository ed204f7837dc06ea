"""A scripted homeserver in this process: a test says what happens and what breaks; nothing is real, least of all time.

    async with Homeserver() as server:
        room = server.room("@anna:lab.test")  # the bot is in it
        event_id = server.says(room, "@anna:lab.test", "!idea A bench")
        server.breaks("sync", bad_gateway, times=3)
        await server.until(lambda: server.sent(room))
        assert len(server.asked("sync")) < 10

Everything that happens goes into one log, and a sync token is a place in it: ``s12`` is after twelve happenings. So a
client that asks again with an old token is told again, and one that remembers a token across a restart goes on there. A
room's timeline is cut at the filter's limit and then ``limited``, and `/messages` has the rest. Events and
answers are whatever the test gives, however malformed.
"""

import asyncio
import itertools
import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote

from aiohttp import web

Json = dict[str, Any]
T = TypeVar("T")

PASSWORD: Final = "CANARY-password-never-in-a-log"
PATIENCE: Final = 20.0
"""Seconds any wait may take; only a fault takes so long."""


class Refusal(Exception):
    """An error in Matrix's words."""

    def __init__(self, status: int, errcode: str, **more: Any) -> None:
        super().__init__(errcode)
        self.status = status
        self.body = {"errcode": errcode, "error": errcode.removeprefix("M_").replace("_", " ").capitalize(), **more}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, and when (``time.monotonic``). ``name`` is the endpoint: `sync`, `keys/upload`, `send` …"""

    name: str
    method: str
    path: str
    query: dict[str, str]
    body: Any
    at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that the bot has sent, once however often it asked."""

    event_id: str
    room: str
    type: str
    content: Json
    transaction: str


# -- what can break ---------------------------------------------------------------------------------------------------

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


async def fine(_request: web.Request) -> None:
    """Nothing breaks: the right answer, before others that are not."""


async def bad_gateway(_request: web.Request) -> web.StreamResponse:
    """What a proxy says when the homeserver behind it is gone."""
    return web.Response(status=502, content_type="text/html", text="<html><h1>502 Bad Gateway</h1></html>")


async def truncated(_request: web.Request) -> web.StreamResponse:
    """A 200 with a body that ends in the middle, its length honest."""
    return web.Response(content_type="application/json", text='{"next_batch": "s1", "rooms": {"join": {"!a')


async def cut(request: web.Request) -> web.StreamResponse:
    """A 200 whose connection ends before the body it promised does."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "4096"})
    await response.prepare(request)
    await response.write(b'{"next_batch": "s1", ')
    return await closed(request)


async def closed(request: web.Request) -> web.StreamResponse:
    """The connection ends without a word."""
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


async def silent(_request: web.Request) -> web.StreamResponse:
    """Never an answer."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def too_many(retry_after_ms: object = None, *, retry_after: str | None = None) -> Fault:
    """A 429, with a delay in the body, in the header, in both or in none."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        body = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}
        more = {} if retry_after_ms is None else {"retry_after_ms": retry_after_ms}
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response(body | more, status=429, headers=headers)

    return fault


def refuses(status: int, errcode: str, **more: Any) -> Fault:
    """An error in Matrix's words: ``refuses(401, "M_UNKNOWN_TOKEN", soft_logout=True)``."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        return web.json_response(Refusal(status, errcode, **more).body, status=status)

    return fault


def answers(body: Any, status: int = 200) -> Fault:
    """Any JSON instead of the answer, or any bytes."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        if isinstance(body, bytes):
            return web.Response(status=status, content_type="application/json", body=body)
        return web.json_response(body, status=status)

    return fault


# -- the server -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Room:
    state: dict[tuple[str, str], Json] = field(default_factory=dict)
    timeline: list[tuple[int, Any]] = field(default_factory=list)
    """Events with their place in the log."""
    joined_at: int = 0


class Homeserver:
    """One homeserver with one account, the bot's."""

    def __init__(self, user_id: str = "@labbot:lab.test", device_id: str = "LABBOT") -> None:
        self.user_id = user_id
        self.device_id = device_id
        self.token = "syt_CANARY_never_in_a_log"
        self.url = ""
        self.requests: list[Request] = []
        self.events: list[Sent] = []
        self.device_keys: dict[str, dict[str, Json]] = defaultdict(dict)
        """By user and device; the test may add people's."""
        self.one_time_keys: dict[str, Json] = {}
        """The bot's unclaimed ones."""
        self.people_one_time_keys: dict[tuple[str, str], list[Json]] = defaultdict(list)
        """Signed ones by user and device, to be claimed by the bot: ``{"signed_curve25519:AAAA": {…}}``."""
        self.cross_signing: dict[str, Json] = defaultdict(dict)
        """By user: ``master_key``, ``self_signing_key``, ``user_signing_key``."""
        self.wants_password = False
        """Whether uploading cross-signing keys asks for the password first."""
        self.counts_keys = True
        """Whether `/sync` tells how many one-time keys are left."""
        self.to_devices: list[Json] = []
        """What the bot has sent to devices: bodies of `/sendToDevice` with their ``type``."""
        self.account_data: dict[str, Json] = {}
        self.files: dict[str, bytes] = {}
        self._log: list[Callable[[Json], None]] = []
        self._changes: list[tuple[int, Callable[[Json], Any]]] = []
        self._rooms: dict[str, _Room] = {}
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._transactions: dict[str, Json] = {}
        self._ids = itertools.count(1)
        self._filters: list[Json] = []
        self._acknowledged = 0
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        # A handler ends when its client goes: nobody waits for an answer to nobody.
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # -- what happens ---------------------------------------------------------------------------------------

    def room(self, *people: str, encrypted: bool = False, name: str | None = None, version: str = "10") -> str:
        """A room of the bot with these people; the first one has made it: its id."""
        number = next(self._ids)
        room_id = f"!{number}:lab.test"
        room = self._rooms[room_id] = _Room()
        creator = people[0] if people else self.user_id
        self._state(room, "m.room.create", creator, {"creator": creator, "room_version": version})
        self._state(room, "m.room.power_levels", creator, {"users": {creator: 100}})
        self._state(room, "m.room.join_rules", creator, {"join_rule": "invite"})
        if encrypted:
            self._state(room, "m.room.encryption", creator, {"algorithm": "m.megolm.v1.aes-sha2"})
        if name is not None:
            self._state(room, "m.room.name", creator, {"name": name})
        for person in {*people, self.user_id}:
            self._state(room, "m.room.member", person, {"membership": "join"}, key=person)
        self._appears(room_id)
        return room_id

    def _state(self, room: _Room, kind: str, sender: str, content: Json, key: str = "") -> None:
        room.state[kind, key] = self.event(kind, sender, content, state_key=key)

    def event(self, kind: str, sender: str, content: Any, **more: Any) -> Json:
        """An event with a new id, said by nobody yet."""
        return {
            "type": kind,
            "sender": sender,
            "content": content,
            "event_id": f"$event{next(self._ids)}",
            "origin_server_ts": round(time.time() * 1000),
            **more,
        }

    def says(self, room_id: str, sender: str, words: str, **more: Any) -> str:
        """Somebody writes: the event's id. ``more`` goes into the content."""
        event = self.event("m.room.message", sender, {"msgtype": "m.text", "body": words, **more})
        self.brings(room_id, event)
        return str(event["event_id"])

    def brings(self, room_id: str, *events: Any) -> None:
        """Anything at all comes to a room's timeline; a state event that is one also sets the state."""
        room = self._rooms[room_id]
        for event in events:
            room.timeline.append((len(self._log), event))
            if isinstance(event, dict) and isinstance(event.get("state_key"), str) and "type" in event:
                room.state[str(event["type"]), event["state_key"]] = event
            self._happens(lambda answer: answer["rooms"]["join"].setdefault(room_id, {}))

    def _appears(self, room_id: str) -> None:
        """The bot is in a room from now on."""
        self._rooms[room_id].joined_at = len(self._log)

        def happening(answer: Json) -> None:
            answer["rooms"]["invite"].pop(room_id, None)
            answer["rooms"]["leave"].pop(room_id, None)
            answer["rooms"]["join"].setdefault(room_id, {})

        self._happens(happening)

    def sends_to_device(self, *events: Any) -> None:
        """Anything at all comes from device to device, again and again until a sync's token confirms it."""
        for event in events:
            self._happens(self._to_device(event, len(self._log)))

    def _to_device(self, event: Any, place: int) -> Callable[[Json], None]:
        def happening(answer: Json) -> None:
            if place >= self._acknowledged:
                answer["to_device"]["events"].append(event)

        return happening

    def invites(self, room_id: str, sender: str, **more: Any) -> None:
        """The bot is invited: once, and no later sync tells it again. ``more`` goes into the member event's content."""
        member = {
            "type": "m.room.member",
            "sender": sender,
            "state_key": self.user_id,
            "content": {"membership": "invite", **more},
        }
        create = {"type": "m.room.create", "sender": sender, "state_key": "", "content": {"creator": sender}}
        state = {"invite_state": {"events": [create, member]}}
        self._happens(lambda answer: answer["rooms"]["invite"].update({room_id: state}))
        self._rooms.setdefault(room_id, _Room())

    def puts_out(self, room_id: str, sender: str) -> None:
        """The bot is put out of a room."""
        event = self.event("m.room.member", sender, {"membership": "leave"}, state_key=self.user_id)
        left = {"timeline": {"events": [event], "limited": False, "prev_batch": "t0"}, "state": {"events": []}}

        def happening(answer: Json) -> None:
            answer["rooms"]["join"].pop(room_id, None)
            answer["rooms"]["leave"][room_id] = left

        self._rooms[room_id].state["m.room.member", self.user_id] = event
        self._happens(happening)

    def interferes(self, change: Callable[[Json], Any]) -> None:
        """Change the next answer of `/sync` (and every repetition of it) in any way."""
        self._changes.append((len(self._log), change))
        self._happens(lambda answer: None)

    def _happens(self, happening: Callable[[Json], None]) -> None:
        self._log.append(happening)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # -- what breaks ----------------------------------------------------------------------------------------

    def breaks(self, name: str, fault: Fault, times: int | None = 1) -> None:
        """The endpoint of this name (`*` for each) fails so often, or until it is healed."""
        if times is None:
            self._always[name] = fault
        else:
            self._faults[name].extend([fault] * times)

    def heals(self) -> None:
        """Nothing breaks any more."""
        self._faults.clear()
        self._always.clear()

    # -- what was asked -------------------------------------------------------------------------------------

    def asked(self, name: str) -> list[Request]:
        """The requests to one endpoint."""
        return [request for request in self.requests if request.name == name]

    def sent(self, room_id: str, kind: str | None = None) -> list[Sent]:
        """The bot's events in a room."""
        return [event for event in self.events if event.room == room_id and kind in (None, event.type)]

    async def until(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Wait until a condition is true: what it then is."""
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                await self._news.wait()
            return found

    # -- serving --------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name, handler, groups = _endpoint(request)
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = raw
        self.requests.append(Request(name, request.method, request.path, dict(request.query), body, time.monotonic()))
        self._tell()
        try:
            if (fault := self._fault(name)) and (wrong := await fault(request)) is not None:
                return wrong
            if name not in _OPEN and request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal(401, "M_UNKNOWN_TOKEN", soft_logout=False)
            if handler is None:
                raise Refusal(404, "M_UNRECOGNIZED")
            answer = await getattr(self, handler)(request, body, *groups)
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        finally:
            self._tell()

    def _fault(self, name: str) -> Fault | None:
        for key in (name, "*"):
            if self._faults[key]:
                return self._faults[key].popleft()
            if key in self._always:
                return self._always[key]
        return None

    async def _versions(self, _request: web.Request, _body: Any) -> Json:
        return {"versions": ["v1.1", "v1.11", "v1.12"], "unstable_features": {}}

    async def _login_flows(self, _request: web.Request, _body: Any) -> Json:
        return {"flows": [{"type": "m.login.password"}]}

    async def _login(self, _request: web.Request, body: Any) -> Json:
        if body.get("password") != PASSWORD:
            raise Refusal(403, "M_FORBIDDEN")
        self.device_id = body.get("device_id") or self.device_id
        return {"user_id": self.user_id, "access_token": self.token, "device_id": self.device_id}

    async def _whoami(self, _request: web.Request, _body: Any) -> Json:
        return {"user_id": self.user_id, "device_id": self.device_id}

    async def _nothing(self, _request: web.Request, _body: Any, *_groups: str) -> Json:
        return {}

    async def _keys_upload(self, _request: web.Request, body: Any) -> Json:
        if "device_keys" in body:
            self.device_keys[self.user_id][self.device_id] = body["device_keys"]
        self.one_time_keys |= body.get("one_time_keys", {})
        return {"one_time_key_counts": self._key_counts()}

    def _key_counts(self) -> dict[str, int]:
        return {"signed_curve25519": len(self.one_time_keys)}

    async def _keys_query(self, _request: web.Request, body: Any) -> Json:
        asked = body.get("device_keys", {})
        answer: Json = {"device_keys": {user: self.device_keys.get(user, {}) for user in asked}, "failures": {}}
        for kind in ("master_key", "self_signing_key", "user_signing_key"):
            own = {user: self.cross_signing[user] for user in asked if user in self.cross_signing}
            answer[f"{kind}s"] = {user: keys[kind] for user, keys in own.items() if kind in keys}
        return answer

    async def _keys_claim(self, _request: web.Request, body: Any) -> Json:
        claimed: Json = {}
        for user, devices in body.get("one_time_keys", {}).items():
            for device in devices:
                if keys := self.people_one_time_keys[user, device]:
                    claimed.setdefault(user, {})[device] = keys.pop()
        return {"one_time_keys": claimed, "failures": {}}

    def claim(self) -> tuple[str, str]:
        """Take one of the bot's one-time keys away, as somebody does who writes to it: its id and the key."""
        name, key = self.one_time_keys.popitem()
        return name, key["key"]

    async def _device_signing(self, _request: web.Request, body: Any) -> Any:
        auth = body.get("auth", {})
        if self.wants_password and auth.get("password") != PASSWORD:
            wrong = {"errcode": "M_FORBIDDEN", "error": "Invalid password"} if "password" in auth else {}
            flows = {"flows": [{"stages": ["m.login.password"]}], "params": {}, "session": "uia", **wrong}
            return web.json_response(flows, status=401)
        self.cross_signing[self.user_id] |= {key: part for key, part in body.items() if key != "auth"}
        return {}

    async def _signatures(self, _request: web.Request, body: Any) -> Json:
        for user, signed in body.items():
            for name, part in signed.items():
                if name in self.device_keys[user]:
                    signatures = self.device_keys[user][name].setdefault("signatures", {}).setdefault(user, {})
                    signatures |= part["signatures"][user]
        return {"failures": {}}

    async def _sync(self, request: web.Request, _body: Any) -> Json:
        since = request.query.get("since")
        start = 0 if since is None else _place(since)
        if len(self._log) <= start and since is not None:
            with suppress(TimeoutError):
                await self.until(lambda: len(self._log) > start, int(request.query.get("timeout", 0)) / 1000)
        self._acknowledged = max(self._acknowledged, start)
        return self._answer(start, since is None, self._limit(request.query.get("filter", "{}")))

    def _limit(self, wanted: str) -> int:
        """How many events of a room the client wants at once; ten where it does not say."""
        filtered = json.loads(wanted) if wanted.startswith("{") else self._filters[int(wanted)]
        return int(filtered.get("room", {}).get("timeline", {}).get("limit", 10))

    def _answer(self, start: int, initial: bool, limit: int) -> Json:
        answer: Json = {
            "next_batch": f"s{len(self._log)}",
            "rooms": {"join": {}, "invite": {}, "leave": {}},
            "to_device": {"events": []},
            "device_lists": {"changed": [], "left": []},
        }
        if self.counts_keys:
            answer["device_one_time_keys_count"] = self._key_counts()
        for happening in self._log[start:]:
            happening(answer)
        for room_id in answer["rooms"]["join"]:
            answer["rooms"]["join"][room_id] |= self._joined(self._rooms[room_id], start, initial, limit)
        for place, change in self._changes:
            if place >= start:
                change(answer)
        return answer

    def _joined(self, room: _Room, start: int, initial: bool, limit: int) -> Json:
        new = [event for place, event in room.timeline if place >= start]
        earlier = len(room.timeline) - min(len(new), limit)
        shown = new[-limit:]
        state = [event for event in room.state.values() if event not in shown]
        if not (initial or room.joined_at >= start):
            # Of a room that is known: what has changed in the part that is cut off.
            cut_off = new[:-limit]
            state = [event for event in state if event in cut_off]
        timeline = {"events": shown, "limited": len(new) > limit, "prev_batch": f"t{earlier}"}
        return {"timeline": timeline, "state": {"events": state}, "summary": {}, "unread_notifications": {}}

    async def _messages(self, request: web.Request, _body: Any, room_id: str) -> Json:
        """Backwards only. ``from`` is of a timeline (``t7``: before its seventh event) or of `/sync`, as is ``to``."""
        timeline = self._room(room_id).timeline

        def index(token: str) -> int:
            if token.startswith("t"):
                return _place(token)
            return sum(place < _place(token) for place, _ in timeline)

        if request.query.get("dir") != "b":
            raise Refusal(400, "M_INVALID_PARAM")
        end = index(request.query["from"]) if "from" in request.query else len(timeline)
        stop = index(request.query["to"]) if "to" in request.query else 0
        begin = max(stop, end - int(request.query.get("limit", 10)))
        answer: Json = {"chunk": [event for _, event in timeline[begin:end]][::-1], "start": f"t{end}"}
        if begin > stop:
            answer["end"] = f"t{begin}"
        return answer

    def _room(self, room_id: str) -> _Room:
        if room_id not in self._rooms:
            raise Refusal(403, "M_FORBIDDEN")
        return self._rooms[room_id]

    def _once(self, request: web.Request, result: Callable[[], Json]) -> Json:
        """Do it, or answer what was answered when it was asked the first time: a transaction's id is its path."""
        if request.path not in self._transactions:
            self._transactions[request.path] = result()
        return self._transactions[request.path]

    async def _send(self, request: web.Request, body: Any, room_id: str, kind: str, transaction: str) -> Json:
        return self._once(request, lambda: self._goes_out(room_id, kind, body, transaction))

    async def _redact(self, request: web.Request, body: Any, room_id: str, target: str, transaction: str) -> Json:
        content = {**body, "redacts": target}
        return self._once(request, lambda: self._goes_out(room_id, "m.room.redaction", content, transaction))

    def _goes_out(self, room_id: str, kind: str, content: Json, transaction: str) -> Json:
        self._room(room_id)
        event = self.event(kind, self.user_id, content, unsigned={"transaction_id": transaction})
        self.events.append(Sent(event["event_id"], room_id, kind, content, transaction))
        self.brings(room_id, event)
        return {"event_id": event["event_id"]}

    async def _states(self, _request: web.Request, _body: Any, room_id: str) -> web.Response:
        return web.json_response(list(self._room(room_id).state.values()))

    async def _get_state(self, _request: web.Request, _body: Any, room_id: str, kind: str, key: str = "") -> Json:
        event = self._room(room_id).state.get((kind, key))
        if event is None:
            raise Refusal(404, "M_NOT_FOUND")
        return dict(event["content"])

    async def _put_state(self, _request: web.Request, body: Any, room_id: str, kind: str, key: str = "") -> Json:
        event = self.event(kind, self.user_id, body, state_key=key)
        self._room(room_id)
        self.brings(room_id, event)
        return {"event_id": event["event_id"]}

    async def _joined_members(self, _request: web.Request, _body: Any, room_id: str) -> Json:
        members = [event for (kind, _), event in self._room(room_id).state.items() if kind == "m.room.member"]
        here = [event["state_key"] for event in members if event["content"].get("membership") == "join"]
        return {"joined": {user: {"display_name": None, "avatar_url": None} for user in here}}

    async def _members(self, _request: web.Request, _body: Any, room_id: str) -> Json:
        return {"chunk": [event for (kind, _), event in self._room(room_id).state.items() if kind == "m.room.member"]}

    async def _event(self, _request: web.Request, _body: Any, room_id: str, event_id: str) -> Json:
        for _, event in self._room(room_id).timeline:
            if isinstance(event, dict) and event.get("event_id") == event_id:
                return event
        raise Refusal(404, "M_NOT_FOUND")

    async def _joined_rooms(self, _request: web.Request, _body: Any) -> Json:
        mine = ("m.room.member", self.user_id)
        rooms = {room_id: room.state.get(mine) for room_id, room in self._rooms.items()}
        here = [room_id for room_id, event in rooms.items() if event and event["content"]["membership"] == "join"]
        return {"joined_rooms": here}

    async def _join(self, _request: web.Request, _body: Any, room_id: str) -> Json:
        room = self._room(room_id)
        if ("m.room.member", self.user_id) not in room.state:
            self._state(room, "m.room.member", self.user_id, {"membership": "join"}, key=self.user_id)
            self._appears(room_id)
        return {"room_id": room_id}

    async def _leave(self, _request: web.Request, _body: Any, room_id: str) -> Json:
        if room_id in self._rooms:
            self._state(self._rooms[room_id], "m.room.member", self.user_id, {"membership": "leave"}, key=self.user_id)
        return {}

    async def _create_room(self, _request: web.Request, body: Any) -> Json:
        return {"room_id": self.room(self.user_id, *body.get("invite", ()), name=body.get("name"))}

    async def _send_to_device(self, request: web.Request, body: Any, kind: str, _transaction: str) -> Json:
        def goes_out() -> Json:
            self.to_devices.append({"type": kind, **body})
            return {}

        return self._once(request, goes_out)

    async def _get_account_data(self, _request: web.Request, _body: Any, *place: str) -> Json:
        if "/".join(place) not in self.account_data:
            raise Refusal(404, "M_NOT_FOUND")
        return self.account_data["/".join(place)]

    async def _put_account_data(self, _request: web.Request, body: Any, *place: str) -> Json:
        self.account_data["/".join(place)] = body
        return {}

    async def _profile(self, _request: web.Request, _body: Any, user: str) -> Json:
        return {"displayname": user[1:].partition(":")[0]}

    async def _filter(self, _request: web.Request, body: Any) -> Json:
        self._filters.append(body)
        return {"filter_id": str(len(self._filters) - 1)}

    async def _upload(self, request: web.Request, _body: Any) -> Json:
        name = f"file{next(self._ids)}"
        self.files[name] = await request.read()
        return {"content_uri": f"mxc://lab.test/{name}"}

    async def _download(self, _request: web.Request, _body: Any, name: str) -> web.Response:
        if name not in self.files:
            raise Refusal(404, "M_NOT_FOUND")
        return web.Response(body=self.files[name])


_OPEN: Final = frozenset({"versions", "login", "login_flows"})

_ENDPOINTS: Final = [
    (method, re.compile(f"/_matrix/(?:client/(?:v3|r0|v1|unstable)|media/(?:v3|r0|v1))/{pattern}"), name, handler)
    for method, pattern, name, handler in (
        ("GET", "login", "login_flows", "_login_flows"),
        ("POST", "login", "login", "_login"),
        ("POST", "logout", "logout", "_nothing"),
        ("GET", "account/whoami", "whoami", "_whoami"),
        ("POST", "keys/upload(?:/.*)?", "keys/upload", "_keys_upload"),
        ("POST", "keys/query", "keys/query", "_keys_query"),
        ("POST", "keys/claim", "keys/claim", "_keys_claim"),
        ("POST", "keys/device_signing/upload", "keys/device_signing/upload", "_device_signing"),
        ("POST", "keys/signatures/upload", "keys/signatures/upload", "_signatures"),
        ("GET", "sync", "sync", "_sync"),
        ("POST", "createRoom", "createRoom", "_create_room"),
        ("GET", "joined_rooms", "joined_rooms", "_joined_rooms"),
        ("POST", "join/([^/]+)", "join", "_join"),
        ("POST", "rooms/([^/]+)/join", "join", "_join"),
        ("POST", "rooms/([^/]+)/leave", "leave", "_leave"),
        ("POST", "rooms/([^/]+)/forget", "forget", "_nothing"),
        ("POST", "rooms/([^/]+)/invite", "invite", "_nothing"),
        ("POST", "rooms/([^/]+)/receipt/([^/]+)/([^/]+)", "receipt", "_nothing"),
        ("POST", "rooms/([^/]+)/read_markers", "receipt", "_nothing"),
        ("PUT", "rooms/([^/]+)/typing/([^/]+)", "typing", "_nothing"),
        ("GET", "rooms/([^/]+)/messages", "messages", "_messages"),
        ("PUT", "rooms/([^/]+)/send/([^/]+)/([^/]+)", "send", "_send"),
        ("PUT", "rooms/([^/]+)/redact/([^/]+)/([^/]+)", "redact", "_redact"),
        ("GET", "rooms/([^/]+)/state", "state", "_states"),
        ("GET", "rooms/([^/]+)/state/([^/]+)/?([^/]*)", "state", "_get_state"),
        ("PUT", "rooms/([^/]+)/state/([^/]+)/?([^/]*)", "put_state", "_put_state"),
        ("GET", "rooms/([^/]+)/joined_members", "joined_members", "_joined_members"),
        ("GET", "rooms/([^/]+)/members", "members", "_members"),
        ("GET", "rooms/([^/]+)/event/([^/]+)", "event", "_event"),
        ("PUT", "sendToDevice/([^/]+)/([^/]+)", "sendToDevice", "_send_to_device"),
        ("GET", "user/[^/]+/account_data/([^/]+)", "account_data", "_get_account_data"),
        ("PUT", "user/[^/]+/account_data/([^/]+)", "put_account_data", "_put_account_data"),
        ("GET", "user/[^/]+/rooms/([^/]+)/account_data/([^/]+)", "account_data", "_get_account_data"),
        ("PUT", "user/[^/]+/rooms/([^/]+)/account_data/([^/]+)", "put_account_data", "_put_account_data"),
        ("POST", "user/[^/]+/filter", "filter", "_filter"),
        ("GET", "profile/([^/]+)(?:/displayname)?", "profile", "_profile"),
        ("PUT", "profile/([^/]+)/displayname", "put_profile", "_nothing"),
        ("POST", "upload", "upload", "_upload"),
        ("GET", "(?:media/)?download/[^/]+/([^/]+)(?:/.*)?", "download", "_download"),
    )
] + [("GET", re.compile("/_matrix/client/versions"), "versions", "_versions")]


def _endpoint(request: web.Request) -> tuple[str, str | None, tuple[str, ...]]:
    """An endpoint's name, who answers there, and what its path holds; the path itself where nobody does."""
    raw = request.raw_path.partition("?")[0]
    for method, pattern, name, handler in _ENDPOINTS:
        if method == request.method and (match := pattern.fullmatch(raw)):
            return name, handler, tuple(unquote(group) for group in match.groups() if group is not None)
    return raw, None, ()


def _place(token: str) -> int:
    if not re.fullmatch(r"[st]\d+", token):
        raise Refusal(400, "M_INVALID_PARAM")
    return int(token[1:])
