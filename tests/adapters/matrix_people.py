"""People on Matrix: accounts of a homeserver with a device each, written from the specification, not from the bot.

    async with People(synapse) as people:  # or with the fixture ``residents``
        anna = await people.person("anna")
        room = await anna.direct(bot.user_id)  # encrypted, as Element makes it
        await anna.until(lambda: bot.user_id in anna.members(room))
        asked = await anna.says(room, "!idea A bench by the river")
        [answer] = await anna.hears(room, bot.user_id)
        await anna.reacts(room, answer.event_id, "1️⃣")

Nobody sleeps: whoever waits asks the homeserver by long polls, and what takes longer than ``PATIENCE`` is a failure
that tells what was there instead.
"""

import asyncio
import itertools
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import vodozemac

from tests.adapters.olm import MEGOLM, OLM, Device, is_signed, locked, signed, unlocked
from tests.adapters.synapse import Account, Synapse

PATIENCE: Final = 20.0
"""Seconds any wait may take; only a fault takes so long."""

Json = dict[str, Any]
T = TypeVar("T")


class Refused(Exception):
    """The homeserver's answer to something that it does not do."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status} {answer}")
        self.status = status
        self.errcode: str = answer.get("errcode", "") if isinstance(answer, dict) else ""


@dataclass(frozen=True, slots=True)
class Line:
    """A message as a client shows it now: decrypted, its newest edit applied, with the reactions under it.

    ``content`` is all of it as it is now, ``first`` as it was sent. ``readable`` is false while its key is missing, and
    then it has no words. ``reactions`` are senders by key. ``arrived`` is a moment of ``time.monotonic``.
    """

    event_id: str
    sender: str
    type: str
    content: Json
    first: Json
    encrypted: bool
    readable: bool
    redacted: bool
    edits: int
    reactions: dict[str, frozenset[str]]
    sent_ms: int
    arrived: float

    @property
    def body(self) -> str:
        """The plain words."""
        return str(self.content.get("body", ""))

    @property
    def html(self) -> str | None:
        """The formatted words, where there are some."""
        return self.content.get("formatted_body")

    @property
    def msgtype(self) -> str:
        """``m.text``, ``m.notice``, ``m.file`` …"""
        return str(self.content.get("msgtype", ""))

    @property
    def mentions(self) -> frozenset[str] | None:
        """Who is to be told; None where ``m.mentions`` is missing."""
        mentions = self.content.get("m.mentions")
        return None if mentions is None else frozenset(mentions.get("user_ids", ()))

    @property
    def reply_to(self) -> str | None:
        """The event this answers; not the one that a thread only falls back to."""
        relation = self.first.get("m.relates_to", {})
        return None if relation.get("is_falling_back") else relation.get("m.in_reply_to", {}).get("event_id")

    @property
    def thread(self) -> str | None:
        """The event at the root of the thread this stands in."""
        relation = self.first.get("m.relates_to", {})
        return relation.get("event_id") if relation.get("rel_type") == "m.thread" else None


@dataclass(slots=True)
class Event:
    """An event of a timeline. ``type`` and ``content`` are the decrypted ones once that is possible."""

    raw: Json
    arrived: float
    type: str
    content: Json
    encrypted: bool = False
    readable: bool = True
    redacted: bool = False

    @property
    def id(self) -> str:
        return str(self.raw["event_id"])

    @property
    def sender(self) -> str:
        return str(self.raw["sender"])

    @property
    def relation(self) -> Json:
        relation = self.content.get("m.relates_to")
        return relation if isinstance(relation, dict) else {}


@dataclass(slots=True)
class _Room:
    state: dict[tuple[str, str], Json] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    redactions: set[str] = field(default_factory=set)
    outbound: vodozemac.GroupSession | None = None
    opening: str = ""
    shared: set[tuple[str, str]] = field(default_factory=set)


class Resident:
    """One account with one device.

    ``signed`` says whether they have cross-signed their device, as every current client does; ``only_signed`` that they
    give keys only to devices that are, as clients do by MSC4153. ``withholds`` can be set at any time: then nobody gets
    keys for what they say, until ``gives_keys``. ``sent`` tells when (``time.monotonic``) they began to send an event.
    """

    def __init__(self, url: str, account: Account, *, signed: bool = True, only_signed: bool = False) -> None:
        self.url = url
        self.user_id = account.user_id
        self.device_id = account.device_id
        self.account = account
        self.signed = signed
        self.only_signed = only_signed
        self.withholds = False
        self.invites: dict[str, Json] = {}
        self.sent: dict[str, float] = {}
        self._rooms: defaultdict[str, _Room] = defaultdict(_Room)
        self._since: str | None = None
        self._pulling = asyncio.Lock()
        self._sharing = asyncio.Lock()
        self._transactions = (f"{secrets.token_hex(4)}.{number}" for number in itertools.count())
        self._device = Device(account.user_id, account.device_id)
        self._inbound: dict[tuple[str, str], vodozemac.InboundGroupSession] = {}
        self._devices: dict[str, dict[str, Json]] = {}
        self._trusted: dict[str, frozenset[str]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.account.token}"}, timeout=aiohttp.ClientTimeout(total=PATIENCE * 2)
        )
        await self._publish_device()
        if self.signed:
            await self._cross_sign()
        await self._pull(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Ask the homeserver; ``path`` begins after ``/_matrix/client/v3``. Raises Refused.

        A homeserver that is not there is asked again until it is.
        """
        assert self._session is not None
        until = time.monotonic() + PATIENCE
        while True:
            try:
                async with self._session.request(
                    method, f"{self.url}/_matrix/client/v3{path}", json=body, params=query
                ) as response:
                    answer = await response.json()
                    if response.status != 200:
                        raise Refused(response.status, answer)
                    return answer
            except aiohttp.ClientConnectionError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    # -- rooms ----------------------------------------------------------------------------------------------

    async def creates(
        self,
        name: str | None = None,
        *,
        invite: Iterable[str] = (),
        encrypted: bool = False,
        version: str | None = None,
        **more: Any,
    ) -> str:
        """Make a private room: its id. ``version`` is the room version, ``more`` what else `/createRoom` takes."""
        body: Json = {"preset": "private_chat", "invite": list(invite), **more}
        if name is not None:
            body["name"] = name
        if version is not None:
            body["room_version"] = version
        if encrypted:
            state = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": MEGOLM}}
            body["initial_state"] = [*body.get("initial_state", ()), state]
        room = str((await self.call("POST", "/createRoom", body))["room_id"])
        await self.until(lambda: ("m.room.create", "") in self._rooms[room].state)
        return room

    async def direct(self, user_id: str, *, encrypted: bool = True) -> str:
        """Begin a direct chat, and remember it as one: its id."""
        room = await self.creates(invite=[user_id], encrypted=encrypted, is_direct=True, preset="trusted_private_chat")
        path = f"/user/{quote(self.user_id)}/account_data/m.direct"
        try:
            direct = await self.call("GET", path)
        except Refused:
            direct = {}
        direct.setdefault(user_id, []).append(room)
        await self.call("PUT", path, direct)
        return room

    async def invites_to(self, room: str, user_id: str) -> None:
        """Invite somebody."""
        await self.call("POST", f"/rooms/{quote(room)}/invite", {"user_id": user_id})

    async def joins(self, room: str) -> None:
        """Accept an invitation, or go into a public room."""
        await self.call("POST", f"/join/{quote(room)}", {})
        await self.until(lambda: self.user_id in self.members(room))

    async def leaves(self, room: str) -> None:
        """Leave a room, or decline its invitation."""
        await self.call("POST", f"/rooms/{quote(room)}/leave", {})

    async def kicks(self, room: str, user_id: str) -> None:
        """Put somebody out."""
        await self.call("POST", f"/rooms/{quote(room)}/kick", {"user_id": user_id})

    async def upgrades(self, room: str, version: str) -> str:
        """Replace a room by one of another version: the new one's id. Nobody is invited there by that."""
        answer = await self.call("POST", f"/rooms/{quote(room)}/upgrade", {"new_version": version})
        return str(answer["replacement_room"])

    async def sets(self, room: str, kind: str, content: Json, key: str = "") -> str:
        """Set a piece of a room's state."""
        answer = await self.call("PUT", f"/rooms/{quote(room)}/state/{quote(kind)}/{quote(key)}", content)
        return str(answer["event_id"])

    async def empowers(self, room: str, user_id: str, level: int) -> None:
        """Give somebody a power level."""
        levels = await self.call("GET", f"/rooms/{quote(room)}/state/m.room.power_levels/")
        levels.setdefault("users", {})[user_id] = level
        await self.sets(room, "m.room.power_levels", levels)

    def state(self, room: str, kind: str, key: str = "") -> Json | None:
        """The content of a piece of the room's state as last seen."""
        event = self._rooms[room].state.get((kind, key))
        return None if event is None else event["content"]

    def state_id(self, room: str, kind: str, key: str = "") -> str:
        """The event that set a piece of the room's state."""
        return str(self._rooms[room].state[kind, key]["event_id"])

    def invited_by(self, room: str) -> str | None:
        """Who invites them to a room."""
        told = self.invites[room].get("invite_state", {}).get("events", ())
        return next((event["sender"] for event in told if event.get("state_key") == self.user_id), None)

    def members(self, room: str, membership: str = "join") -> set[str]:
        """Who is there, as last seen."""
        return {
            key
            for (kind, key), event in self._rooms[room].state.items()
            if kind == "m.room.member" and event["content"].get("membership") == membership
        }

    async def knows(self, room: str, user_id: str) -> None:
        """Wait until somebody is in a room."""
        await self.until(lambda: user_id in self.members(room))

    def is_encrypted(self, room: str) -> bool:
        """Whether the room is, as last seen."""
        return ("m.room.encryption", "") in self._rooms[room].state

    # -- speaking -------------------------------------------------------------------------------------------

    async def says(
        self,
        room: str,
        words: str,
        *,
        msgtype: str = "m.text",
        html: str | None = None,
        reply_to: str | None = None,
        thread: str | None = None,
        mentions: Iterable[str] = (),
        transaction: str | None = None,
    ) -> str:
        """Send a message, encrypted where the room is: its event id."""
        content: Json = {"msgtype": msgtype, "body": words, "m.mentions": _mentions(mentions)}
        if html is not None:
            content |= {"format": "org.matrix.custom.html", "formatted_body": html}
        if relation := _relation(reply_to, thread):
            content["m.relates_to"] = relation
        return await self.sends(room, "m.room.message", content, transaction=transaction)

    async def edits(self, room: str, event_id: str, words: str, *, mentions: Iterable[str] = ()) -> str:
        """Replace the words of a message of one's own."""
        new = {"msgtype": "m.text", "body": words, "m.mentions": _mentions(mentions)}
        content = {
            "msgtype": "m.text",
            "body": f"* {words}",
            "m.mentions": {},
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        return await self.sends(room, "m.room.message", content)

    async def reacts(self, room: str, event_id: str, key: str) -> str:
        """React to a message; redacting the event whose id this is takes it back."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.sends(room, "m.reaction", {"m.relates_to": relation}, encrypt=False)

    async def redacts(self, room: str, event_id: str, reason: str | None = None) -> str:
        """Take an event back."""
        path = f"/rooms/{quote(room)}/redact/{quote(event_id)}/{next(self._transactions)}"
        return str((await self.call("PUT", path, {} if reason is None else {"reason": reason}))["event_id"])

    async def sends_file(self, room: str, name: str, data: bytes, kind: str = "application/octet-stream") -> str:
        """Send a file, encrypted where the room is."""
        assert self._session is not None
        content: Json = {"msgtype": "m.file", "body": name, "info": {"mimetype": kind, "size": len(data)}}
        secret: Json = {}
        if self.is_encrypted(room):
            data, secret = locked(data)
        async with self._session.post(
            f"{self.url}/_matrix/media/v3/upload", data=data, headers={"Content-Type": "application/octet-stream"}
        ) as response:
            place = (await response.json())["content_uri"]
        content |= {"file": {"url": place, **secret}} if secret else {"url": place}
        return await self.sends(room, "m.room.message", content)

    async def downloads(self, line: Line) -> bytes:
        """The file that a message carries."""
        assert self._session is not None
        secret = line.content.get("file")
        place = (line.content if secret is None else secret)["url"].removeprefix("mxc://")
        async with self._session.get(f"{self.url}/_matrix/client/v1/media/download/{place}") as response:
            assert response.status == 200, await response.text()
            data = await response.read()
        return data if secret is None else unlocked(data, secret)

    async def sends(
        self, room: str, kind: str, content: Json, *, encrypt: bool | None = None, transaction: str | None = None
    ) -> str:
        """Send any event: its id. It is encrypted where the room is, unless told otherwise."""
        if not self._rooms[room].state or (encrypt is None and self.is_encrypted(room)):
            await self._pull(0)
        if self.is_encrypted(room) if encrypt is None else encrypt:
            kind, content = "m.room.encrypted", await self._encrypted(room, kind, content)
        path = f"/rooms/{quote(room)}/send/{quote(kind)}/{transaction or next(self._transactions)}"
        began = time.monotonic()
        event_id = str((await self.call("PUT", path, content))["event_id"])
        self.sent.setdefault(event_id, began)
        return event_id

    # -- hearing --------------------------------------------------------------------------------------------

    def events(self, room: str) -> "list[Event]":
        """All events of a room as far as seen that have not been taken back, oldest first."""
        return [event for event in self._rooms[room].events.values() if not event.redacted]

    def lines(self, room: str, sender: str | None = None) -> list[Line]:
        """The messages of a room as far as seen, oldest first, of one sender or of all."""
        there = self._rooms[room].events
        replaced: defaultdict[str, list[Event]] = defaultdict(list)
        reactions: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for event in there.values():
            target = event.relation.get("event_id", "")
            if event.redacted or target not in there:
                continue
            if event.relation.get("rel_type") == "m.annotation" and event.type == "m.reaction":
                reactions[target][event.relation.get("key", "")].add(event.sender)
            if event.relation.get("rel_type") == "m.replace" and event.sender == there[target].sender:
                replaced[target].append(event)
        return [
            self._line(event, replaced[event.id], reactions[event.id])
            for event in there.values()
            if event.type in ("m.room.message", "m.room.encrypted")
            and event.relation.get("rel_type") != "m.replace"
            and sender in (None, event.sender)
        ]

    @staticmethod
    def _line(event: Event, edits: list[Event], reactions: dict[str, set[str]]) -> Line:
        content = event.content
        if edits and not event.redacted:
            newest = max(edits, key=lambda edit: (edit.raw["origin_server_ts"], edit.id))
            content = newest.content.get("m.new_content", {})
        return Line(
            event.id,
            event.sender,
            event.type,
            content,
            event.content,
            event.encrypted,
            event.readable,
            event.redacted,
            0 if event.redacted else len(edits),
            {key: frozenset(senders) for key, senders in reactions.items()},
            event.raw["origin_server_ts"],
            event.arrived,
        )

    async def sees(self, room: str, event_id: str, condition: Callable[[Line], bool] = lambda line: True) -> Line:
        """Wait until a message is there and is so: the message as it then is."""

        def seen() -> Line | None:
            there = (line for line in self.lines(room) if line.event_id == event_id)
            return next((line for line in there if condition(line)), None)

        found = await self.until(seen)
        assert found is not None
        return found

    async def hears(self, room: str, sender: str, number: int = 1, *, after: str | None = None) -> list[Line]:
        """Wait until somebody has said so much that can be read, since an event or at all: what they have said."""

        def heard() -> list[Line]:
            lines = self.lines(room)
            if after is not None:
                known = [line.event_id for line in lines]
                lines = lines[known.index(after) + 1 :] if after in known else []
            lines = [line for line in lines if line.sender == sender and line.readable and not line.redacted]
            return lines if len(lines) >= number else []

        return await self.until(heard)

    async def until(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Follow what happens until a condition is true: what it then is."""
        ends = time.monotonic() + seconds
        while not (found := condition()):
            left = ends - time.monotonic()
            if left <= 0:
                raise AssertionError(f"it did not come; {self.user_id} sees {self._screen()}")
            await self._pull(left)
        return found

    async def catches_up(self) -> None:
        """See all that has happened up to now."""
        async with self._pulling:
            await self._sync(0)

    def _screen(self) -> str:
        words = [
            f"{room} {line.event_id} {line.sender}: {line.body if line.readable else '(no key)'!r}"
            for room in self._rooms
            for line in self.lines(room)
        ]
        return "\n".join(words[-30:]) or "nothing"

    # -- following the homeserver ---------------------------------------------------------------------------

    async def _pull(self, seconds: float) -> None:
        """One long poll, or somebody else's that was already under way."""
        seen = self._since
        async with self._pulling:
            if seen == self._since:
                await self._sync(seconds)

    async def _sync(self, seconds: float) -> None:
        query: dict[str, str | int] = {
            "timeout": round(seconds * 1000),
            "filter": '{"room":{"timeline":{"limit":100}}}',
        }
        if self._since is not None:
            query["since"] = self._since
        answer = await self.call("GET", "/sync", **query)
        arrived = time.monotonic()
        for event in answer.get("to_device", {}).get("events", ()):
            self._take_to_device(event)
        for user in answer.get("device_lists", {}).get("changed", ()):
            self._devices.pop(user, None)
        rooms = answer.get("rooms", {})
        for room_id, invited in rooms.get("invite", {}).items():
            self.invites[room_id] = invited
        for room_id, there in [*rooms.get("join", {}).items(), *rooms.get("leave", {}).items()]:
            self.invites.pop(room_id, None)
            timeline = there.get("timeline", {})
            events = timeline.get("events", [])
            if timeline.get("limited") and self._rooms[room_id].events:
                events = await self._missed(room_id, timeline["prev_batch"]) + events
            for event in there.get("state", {}).get("events", ()):
                self._rooms[room_id].state[event["type"], event["state_key"]] = event
            for event in events:
                self._take(room_id, event, arrived)
        self._since = answer["next_batch"]
        if answer.get("device_one_time_keys_count", {}).get("signed_curve25519", 0) < 25:
            await self.call("POST", "/keys/upload", {"one_time_keys": self._device.new_one_time_keys(50)})

    async def _missed(self, room: str, start: str) -> list[Json]:
        """What was said between the last sync and this one, oldest first."""
        missed: list[Json] = []
        known = self._rooms[room].events
        while True:
            page = await self.call("GET", f"/rooms/{quote(room)}/messages", dir="b", limit=100, **{"from": start})
            for event in page["chunk"]:
                if event["event_id"] in known:
                    return missed[::-1]
                missed.append(event)
            if not page.get("end"):
                return missed[::-1]
            start = page["end"]

    def _take(self, room_id: str, raw: Json, arrived: float) -> None:
        room = self._rooms[room_id]
        if "state_key" in raw:
            room.state[raw["type"], raw["state_key"]] = raw
        if raw["event_id"] in room.events:
            return
        if raw["type"] == "m.room.redaction":
            target = raw.get("redacts") or raw["content"].get("redacts")
            room.redactions.add(target)
            if target in room.events:
                room.events[target].redacted = True
                room.events[target].content = {}
        event = Event(raw, arrived, raw["type"], raw["content"])
        event.redacted = event.id in room.redactions or "redacted_because" in raw.get("unsigned", {})
        if event.type == "m.room.encrypted" and not event.redacted:
            event.encrypted, event.readable = True, False
            self._decrypt(room_id, event)
        room.events[event.id] = event

    # -- encryption: Olm and Megolm, https://spec.matrix.org/v1.16/client-server-api/#end-to-end-encryption ------------

    async def _publish_device(self) -> None:
        body = {"device_keys": self._device.keys, "one_time_keys": self._device.new_one_time_keys(50)}
        await self.call("POST", "/keys/upload", body)

    async def _cross_sign(self) -> None:
        keys = {usage: vodozemac.Account() for usage in ("master", "self_signing", "user_signing")}
        public = {usage: key.ed25519_key.to_base64() for usage, key in keys.items()}
        body: Json = {
            f"{usage}_key": {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{name}": name}}
            for usage, name in public.items()
        }
        for usage in ("self_signing", "user_signing"):
            body[f"{usage}_key"] = signed(body[f"{usage}_key"], self.user_id, public["master"], keys["master"])
        await self.call("POST", "/keys/device_signing/upload", body)
        device = signed(self._device.keys, self.user_id, public["self_signing"], keys["self_signing"])
        answer = await self.call("POST", "/keys/signatures/upload", {self.user_id: {self.device_id: device}})
        assert not answer.get("failures"), answer

    async def trusted_devices(self, user_id: str) -> frozenset[str]:
        """The devices that their owner has cross-signed, every signature checked."""
        self._devices.pop(user_id, None)
        await self._look_up({user_id})
        return self._trusted[user_id]

    async def _look_up(self, users: set[str]) -> None:
        if not (unknown := users - self._devices.keys()):
            return
        answer = await self.call("POST", "/keys/query", {"device_keys": {user: [] for user in unknown}})
        for user in unknown:
            listed = answer["device_keys"].get(user, {})
            own = {
                device: keys
                for device, keys in listed.items()
                if is_signed(keys, user, device, keys["keys"].get(f"ed25519:{device}"))
            }
            self._devices[user] = own
            master = _public(answer.get("master_keys", {}).get(user))
            own_signing = answer.get("self_signing_keys", {}).get(user)
            signer = _public(own_signing) if own_signing and is_signed(own_signing, user, master, master) else None
            self._trusted[user] = frozenset(
                device for device, keys in own.items() if is_signed(keys, user, signer, signer)
            )

    async def _encrypted(self, room_id: str, kind: str, content: Json) -> Json:
        room = self._rooms[room_id]
        async with self._sharing:
            recipients = await self._recipients(room_id)
            if room.outbound is None or room.shared - recipients:
                room.outbound, room.shared = vodozemac.GroupSession(), set()
                room.opening = room.outbound.session_key.to_base64()
                inbound = vodozemac.InboundGroupSession(room.outbound.session_key)
                self._inbound[room_id, inbound.session_id] = inbound
            session = room.outbound
            if not self.withholds:
                await self._share(room_id, recipients - room.shared, session.session_key.to_base64())
        plain = {"type": kind, "room_id": room_id, "content": content}
        encrypted = {
            "algorithm": MEGOLM,
            "ciphertext": session.encrypt(json.dumps(plain, ensure_ascii=False).encode()).to_base64(),
            "session_id": session.session_id,
            "sender_key": self._device.identity,
            "device_id": self.device_id,
        }
        return encrypted | ({"m.relates_to": content["m.relates_to"]} if "m.relates_to" in content else {})

    async def gives_keys(self, room_id: str) -> None:
        """Give everybody in the room the key to all that was said since it was last changed, and withhold no more."""
        self.withholds = False
        async with self._sharing:
            await self._share(room_id, await self._recipients(room_id), self._rooms[room_id].opening)

    async def _recipients(self, room_id: str) -> set[tuple[str, str]]:
        """Users and devices that are to have the room's key."""
        people = self.members(room_id) | self.members(room_id, "invite")
        await self._look_up(people)
        return {
            (user, device)
            for user in people
            for device in (self._trusted[user] if self.only_signed else self._devices[user])
            if (user, device) != (self.user_id, self.device_id)
        }

    async def _share(self, room_id: str, recipients: set[tuple[str, str]], session_key: str) -> None:
        room = self._rooms[room_id]
        assert room.outbound is not None
        content = {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": room.outbound.session_id,
            "session_key": session_key,
        }
        await self.sends_to_devices("m.room_key", content, recipients)
        room.shared |= recipients

    async def sends_to_devices(self, kind: str, content: Json, recipients: set[tuple[str, str]]) -> None:
        """Send something from device to device, encrypted by Olm."""
        wanted: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for user, device in recipients:
            if not self._device.sessions[self._curve25519(user, device)]:
                wanted[user][device] = "signed_curve25519"
        if wanted:
            answer = await self.call("POST", "/keys/claim", {"one_time_keys": wanted})
            for user, devices in answer["one_time_keys"].items():
                for device, claimed in devices.items():
                    self._begin_session(user, device, next(iter(claimed.values())))
        messages: defaultdict[str, Json] = defaultdict(dict)
        for user, device in recipients:
            if self._device.sessions[self._curve25519(user, device)]:
                messages[user][device] = self._by_olm(user, device, kind, content)
        if messages:
            path = f"/sendToDevice/m.room.encrypted/{next(self._transactions)}"
            await self.call("PUT", path, {"messages": messages})

    def _begin_session(self, user: str, device: str, key: Json) -> None:
        fingerprint = self._devices[user][device]["keys"][f"ed25519:{device}"]
        assert is_signed(key, user, device, fingerprint), "a one-time key that nobody signed"
        self._device.begin(self._curve25519(user, device), key["key"])

    def _by_olm(self, user: str, device: str, kind: str, content: Json) -> Json:
        fingerprint = self._devices[user][device]["keys"][f"ed25519:{device}"]
        payload = self._device.payload(kind, content, user, fingerprint)
        return self._device.sealed(self._curve25519(user, device), json.dumps(payload).encode())

    def _curve25519(self, user: str, device: str) -> str:
        return str(self._devices[user][device]["keys"][f"curve25519:{device}"])

    def _take_to_device(self, event: Json) -> None:
        """Take a room's key that came by Olm; everything else is nothing to us."""
        content = event["content"]
        if event["type"] != "m.room.encrypted" or content.get("algorithm") != OLM:
            return
        payload = self._device.opened(content)
        if payload is None:
            return
        assert payload["sender"] == event["sender"], payload
        assert payload["recipient"] == self.user_id, payload
        assert payload["recipient_keys"]["ed25519"] == self._device.fingerprint, payload
        key = payload["content"]
        if payload["type"] == "m.room_key" and key["algorithm"] == MEGOLM:
            session = vodozemac.InboundGroupSession(vodozemac.SessionKey(key["session_key"]))
            assert session.session_id == key["session_id"], "a room key under another's name"
            self._inbound[key["room_id"], session.session_id] = session
            for late in self._rooms[key["room_id"]].events.values():
                if not late.readable:
                    self._decrypt(key["room_id"], late)

    def _decrypt(self, room_id: str, event: Event) -> None:
        sealed = event.raw["content"]
        session = self._inbound.get((room_id, sealed.get("session_id", "")))
        if session is None:
            return
        message = vodozemac.MegolmMessage.from_base64(sealed["ciphertext"])
        if message.message_index() < session.first_known_index:
            return
        plain = json.loads(session.decrypt(message).plaintext)
        assert plain["room_id"] == room_id, "said elsewhere"
        event.type, event.content, event.readable = plain["type"], plain["content"], True
        if "m.relates_to" in sealed:
            event.content.setdefault("m.relates_to", sealed["m.relates_to"])


class People:
    """Everybody who takes part in a test; at its end all of them go home."""

    def __init__(self, synapse: Synapse) -> None:
        self.synapse = synapse
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def person(self, name: str, *, signed: bool = True, only_signed: bool = False) -> Resident:
        """Somebody new with a name like this."""
        account = await self.synapse.newcomer(name)
        return await self._stack.enter_async_context(
            Resident(self.synapse.url, account, signed=signed, only_signed=only_signed)
        )


def _mentions(users: Iterable[str]) -> Json:
    named = list(users)
    return {"user_ids": named} if named else {}


def _relation(reply_to: str | None, thread: str | None) -> Json:
    relation: Json = {}
    if thread is not None:
        relation = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": reply_to is None}
    if thread is not None or reply_to is not None:
        relation["m.in_reply_to"] = {"event_id": reply_to or thread}
    return relation


def _public(key: Json | None) -> str | None:
    return None if key is None else next(iter(key["keys"].values()))
