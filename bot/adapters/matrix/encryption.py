"""Encryption: nio's Olm machine, each step guarded, so that no crafted event can stop or deafen the bot.

Room keys come as to-device events; what they open is the rooms' own business. Everything that a sync brings is taken
in as one transaction of the key store, before the sync's token is kept: after a crash the homeserver tells it again.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import structlog
from nio import KeysClaimResponse, KeysQueryResponse
from nio.crypto import Olm, OlmDevice
from nio.events import MegolmEvent, RoomKeyEvent, ToDeviceEvent
from nio.events.misc import BadEvent, UnknownBadEvent
from nio.events.to_device import ForwardedRoomKeyEvent, OlmEvent
from nio.store import MegolmInboundSessions, OlmSessions

from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.adapters.matrix.keys import STORE_FAULTS, place_of
from bot.adapters.matrix.rooms import Room, Rooms
from bot.adapters.matrix.values import fields, items, text
from bot.port import RetryLater

log = structlog.get_logger()

MEGOLM = "m.megolm.v1.aes-sha2"
ENCRYPTED = "m.room.encrypted"

ASK_AGAIN = 300.0
"""Seconds until somebody's devices are asked for again when their homeserver did not answer."""

MOST_CLAIMS = 50
"""New conversations with unknown devices that one sync may make us begin: a stranger must not keep us busy."""


MOST_CONVERSATIONS = 10
"""Olm sessions kept of one device; the specification has clients drop the one that was not used for longest."""

MOST_KEYS = 500
"""Room keys kept of one device: a stranger must not fill memory and disk."""


class Encryption:
    """What the account's device can read and write. ``olm`` holds its keys, ``homeserver`` those of others."""

    def __init__(self, olm: Olm, homeserver: Homeserver, rooms: Rooms) -> None:
        self.olm = olm
        self._homeserver = homeserver
        self._rooms = rooms
        self._sharing: dict[str, asyncio.Lock] = {}
        self._unanswered: dict[str, float] = {}
        self._outdated: set[str] = set()
        self._asking = asyncio.Lock()
        self._ahead = False

    # -- what a sync brings ---------------------------------------------------------------------------------

    def receive(self, answer: Mapping[str, Any]) -> set[tuple[str, str]]:
        """Take in a sync's keys. Returns the room and session id of each room key that came."""
        came: set[tuple[str, str]] = set()
        events = items(fields(answer, "to_device").get("events"))
        with self._kept():
            for event in events:
                with self._guarded("matrix.key_unreadable"):
                    if (key := self._to_device(event)) is not None:
                        came.add(key)
            self._tidy({text(fields(event, "content").get("sender_key")) for event in events if _is_sealed(event)})
        lists = fields(answer, "device_lists")
        changed = {user for kind in ("changed", "left") for user in items(lists.get(kind)) if isinstance(user, str)}
        self._outdated |= changed & self.olm.tracked_users
        return came

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """One transaction of the key store. Raises ``RetryLater`` when that does not take it: full, or locked.

        A key that is used up in memory and not on disk would be lost when the same message comes again, so memory
        goes back to what is on disk then.
        """
        try:
            if self._ahead:
                self.olm.account = self.olm.store.load_account()
                self.olm.load()
                self._ahead = False
            with self.olm.store.database.atomic():
                yield
        except BaseException as error:
            self._ahead = True
            if isinstance(error, STORE_FAULTS):
                raise RetryLater(5, f"the key store does not take it: {type(error).__name__}") from None
            raise

    @contextmanager
    def _guarded(self, fault: str) -> Iterator[None]:
        """Skip what is malformed: one Olm message that names an unknown one-time key raises out of nio, others too."""
        try:
            yield
        except STORE_FAULTS:
            raise
        except Exception as error:
            log.info(fault, error=type(error).__name__)

    def _to_device(self, event: Any) -> tuple[str, str] | None:
        """One to-device event. Only keys matter: nothing else that a stranger can send is looked at."""
        if not _is_sealed(event):
            return None
        parsed = ToDeviceEvent.parse_event(event)
        opened = self.olm.handle_to_device_event(parsed) if isinstance(parsed, OlmEvent) else None
        if isinstance(opened, RoomKeyEvent | ForwardedRoomKeyEvent):
            return opened.room_id, opened.session_id
        return None

    def _tidy(self, senders: set[str]) -> None:
        """Keep so much of these devices and no more; nio keeps all, and a place for each that it has never known."""
        conversations, rooms = self.olm.session_store._entries, self.olm.inbound_group_store._entries
        with self.olm.store.database.bind_ctx([OlmSessions, MegolmInboundSessions]):
            for sender in senders:
                sessions = sorted(conversations.pop(sender, []), key=lambda session: session.use_time, reverse=True)
                if sessions:
                    conversations[sender] = sessions[:MOST_CONVERSATIONS]
                for session in sessions[MOST_CONVERSATIONS:]:
                    OlmSessions.delete().where(OlmSessions.session_id == session.id).execute()
                of_sender = [keys[sender] for keys in rooms.values() if sender in keys]
                surplus = sum(len(keys) for keys in of_sender) - MOST_KEYS
                for _ in range(surplus):
                    keys = max(of_sender, key=len)
                    place = place_of(keys.pop(next(iter(keys))))
                    MegolmInboundSessions.delete().where(MegolmInboundSessions.session_id == place).execute()

    def decrypt(self, room: str, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """An encrypted event of a room as it was before, or ``None`` as long as its key is missing."""
        content = fields(event, "content")
        session = text(content.get("session_id"))
        sender = self._sender_of(room, session)
        if sender is None:
            return None
        # Newer clients leave these two out (MSC3700), and nothing may depend on what a stranger writes there.
        content = {**content, "sender_key": sender, "device_id": text(content.get("device_id"))}
        try:
            parsed = MegolmEvent.from_dict({**event, "content": content})
            opened = self.olm.decrypt_megolm_event(parsed, room)
        except Exception as error:
            log.info("matrix.event_unreadable", error=type(error).__name__)
            return None
        if isinstance(opened, BadEvent | UnknownBadEvent) or not isinstance(opened.source.get("content"), dict):
            return None
        return {**event, "type": opened.source.get("type"), "content": opened.source["content"]}

    def knows(self, room: str, session: str) -> bool:
        """Whether the key of a session is there."""
        return self._sender_of(room, session) is not None

    def _sender_of(self, room: str, session: str) -> str | None:
        """Whose key opens a session; asked this way nio remembers nothing of sessions that do not exist."""
        senders = self.olm.inbound_group_store._entries.get(room, {})
        return next((sender for sender, sessions in senders.items() if session in sessions), None)

    async def settle(self) -> None:
        """Do what the last sync asks for: learn changed devices, mend broken conversations. Raises as a call does."""
        self.olm.users_for_key_query.clear()  # nio wants to know everybody who speaks; who shall read is enough
        await self._learn(self._outdated)
        if self.olm.wedged_devices:
            wanted: dict[str, list[str]] = {}
            devices = self.olm.wedged_devices[:MOST_CLAIMS]
            for device in devices:
                wanted.setdefault(device.user_id, []).append(device.id)
            await self._claim(wanted)
            # Whoever has no key left to claim cannot be mended from here. Others may have come meanwhile, or gone.
            self.olm.wedged_devices[:] = [
                device for device in self.olm.wedged_devices if all(device is not claimed for claimed in devices)
            ]
        while self.olm.outgoing_to_device_messages:
            message = self.olm.outgoing_to_device_messages[0]
            await self._to(message.type, message.as_dict())
            self.olm.outgoing_to_device_messages.pop(0)

    # -- what goes out --------------------------------------------------------------------------------------

    async def encrypt(self, room: Room, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of ``m.room.encrypted`` that only this room's members can read. Raises as a call does."""
        await self._share(room.id)
        words = json.dumps({"type": kind, "content": content, "room_id": room.id}, ensure_ascii=False)
        session = self.olm.outbound_group_sessions[room.id]
        sealed: dict[str, Any] = {
            "algorithm": MEGOLM,
            "sender_key": self.olm.account.identity_keys["curve25519"],
            # Not by nio, which writes a character as up to twelve: what fits in the clear would be too long.
            "ciphertext": session.encrypt(words.encode(errors="replace").decode()),
            "session_id": session.id,
            "device_id": self.olm.device_id,
        }
        if "m.relates_to" in content:  # servers group by it, so it stays readable
            sealed["m.relates_to"] = content["m.relates_to"]
        return sealed

    def members_changed(self, room: str) -> None:
        """Who has left must not read on, and who has come must be able to: the next message gets a new key."""
        self.olm.outbound_group_sessions.pop(room, None)

    async def _share(self, id: str) -> None:
        """Give the key of the room's session to everybody there. Whatever changes meanwhile makes a new session."""
        async with self._sharing.setdefault(id, asyncio.Lock()):
            while self.olm.should_share_group_session(id):
                members = await self._members(id)
                await self._learn(set(members) - self.olm.tracked_users | self._outdated & {*members})
                if missing := self.olm.get_missing_sessions(members):
                    await self._claim(missing)
                if members != await self._members(id):
                    continue
                with self._kept():
                    sharing = [*self.olm.share_group_session_parallel(id, members, ignore_unverified_devices=True)]
                session = self.olm.outbound_group_sessions[id]
                for devices, messages in sharing:
                    await self._to(ENCRYPTED, messages)
                    session.users_shared_with.update(devices)
                if members != await self._members(id):
                    self.members_changed(id)
                elif self.olm.outbound_group_sessions.get(id) is session:
                    session.shared = True

    async def _members(self, id: str) -> list[str]:
        """Who is in a room now; after a gap it is another object that knows."""
        return list((await self._rooms.get(id)).members)

    async def _to(self, kind: str, messages: Mapping[str, Any]) -> None:
        await self._call("PUT", segments("v3", "sendToDevice", kind, uuid4().hex), messages)

    async def _call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A call about keys: that it is refused says nothing about the room."""
        try:
            return await self._homeserver.call(method, path, body)
        except Rejected as error:
            raise RetryLater(60, f"the homeserver refuses a call about keys: {error}") from None

    async def _learn(self, users: set[str]) -> None:
        """Ask for these people's devices."""
        now = time.monotonic()
        async with self._asking:
            wanted = sorted(user for user in users if self._unanswered.get(user, 0.0) <= now)
            if not wanted:
                return
            # Before the answer: what changes while it is on its way is asked for again.
            self.olm.tracked_users.update(wanted)
            self._outdated.difference_update(wanted)
            try:
                answer = await self._call(
                    "POST",
                    segments("v3", "keys", "query"),
                    {"device_keys": {user: [] for user in wanted}, "timeout": 2000},
                )
            except BaseException:
                self._outdated.update(wanted)
                raise
            devices = {user: found for user, found in fields(answer, "device_keys").items() if user in wanted}
            changed: set[str] = set()
            for user in wanted:
                if user in devices:
                    self._unanswered.pop(user, None)
                    changed |= self._known_devices(user, devices[user])
                else:
                    self._unanswered[user] = now + ASK_AGAIN
                    self._outdated.add(user)
        for user in changed:
            for id in [*self.olm.outbound_group_sessions]:
                room = self._rooms.known(id)
                if room is None or user in room.members:  # of a room that is not remembered nobody knows
                    self.members_changed(id)

    def _known_devices(self, user: str, devices: Any) -> set[str]:
        response = KeysQueryResponse({user: devices}, {})
        with self._kept(), self._guarded("matrix.devices_unreadable"):
            known = self.olm.device_store[user]
            before = {id for id, device in known.items() if device.deleted}
            self.olm.handle_response(response)
            # One that was away is there again; nio would never give it a key. With other keys it is not the same.
            back = {id: known[id] for id in before & devices.keys() if _same(devices[id], known[id])}
            for device in back.values():
                device.deleted = False
            self.olm.store.save_device_keys({user: back})
            if back:
                return {user}
        return set(response.changed)

    async def _claim(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Begin conversations with devices, by one of the keys each has left for that."""
        asked = {user: dict.fromkeys(devices, "signed_curve25519") for user, devices in wanted.items()}
        answer = await self._call("POST", segments("v3", "keys", "claim"), {"one_time_keys": asked})
        for user, devices in fields(answer, "one_time_keys").items():
            for device, key in fields(devices).items():
                with self._kept(), self._guarded("matrix.claim_unreadable"):
                    self.olm.handle_response(KeysClaimResponse({user: {device: key}}, {}))


def _same(told: Any, device: OlmDevice) -> bool:
    """Whether a device of an answer has the keys by which we know it."""
    keys = fields(told, "keys")
    ours = (device.ed25519, device.curve25519)
    return (keys.get(f"ed25519:{device.id}"), keys.get(f"curve25519:{device.id}")) == ours


def _is_sealed(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") == ENCRYPTED
