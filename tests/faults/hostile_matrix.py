"""Matrix events that nobody means well with: real ones bent in a thousand ways, in the clear and well encrypted.

    hostile = HostileMatrix(20_261_122, server.user_id, server.device_keys[server.user_id][server.device_id])
    hostile.befriends(server.claim()[1])
    for event in hostile.to_device(10_000): ...
    for event in hostile.timeline(10_000, room): ...

The same seed bends in the same way; what is encrypted differs, for keys are random. Every text holds ``CANARY``.
"""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import vodozemac

from tests.adapters.olm import MEGOLM, OLM, Device
from tests.faults.hostile import CANARY, Hostile

Json = dict[str, Any]

MALLORY: Final = "@mallory:lab.test"
_TEXT = f"{CANARY} 🚲 needs a garage"
_OTHER = "$event1"

MESSAGES: Final[tuple[tuple[str, Json], ...]] = (
    ("m.room.message", {"msgtype": "m.text", "body": _TEXT}),
    (
        "m.room.message",
        {"msgtype": "m.text", "body": f"!idea {_TEXT}", "m.mentions": {"user_ids": ["@labbot:lab.test"]}},
    ),
    (
        "m.room.message",
        {
            "msgtype": "m.text",
            "body": "2",
            "format": "org.matrix.custom.html",
            "formatted_body": f"<b>{CANARY}",
            "m.relates_to": {"m.in_reply_to": {"event_id": _OTHER}},
        },
    ),
    (
        "m.room.message",
        {
            "msgtype": "m.text",
            "body": "/status",
            "m.relates_to": {
                "rel_type": "m.thread",
                "event_id": _OTHER,
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": _OTHER},
            },
        },
    ),
    (
        "m.room.message",
        {
            "msgtype": "m.text",
            "body": f"* {_TEXT}",
            "m.new_content": {"msgtype": "m.text", "body": _TEXT},
            "m.relates_to": {"rel_type": "m.replace", "event_id": _OTHER},
        },
    ),
    ("m.room.message", {"msgtype": "m.notice", "body": _TEXT}),
    ("m.room.message", {"msgtype": "m.image", "body": CANARY, "url": "mxc://lab.test/a", "info": {"size": 9, "w": 9}}),
    (
        "m.room.message",
        {
            "msgtype": "m.file",
            "body": CANARY,
            "file": {
                "url": "mxc://lab.test/a",
                "v": "v2",
                "iv": "AAAA",
                "key": {"alg": "A256CTR", "ext": True, "k": "AAAA", "key_ops": ["decrypt"], "kty": "oct"},
                "hashes": {"sha256": "AAAA"},
            },
        },
    ),
    ("m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": _OTHER, "key": "1️⃣"}}),
    ("m.sticker", {"body": CANARY, "url": "mxc://lab.test/a", "info": {}}),
    (
        "org.matrix.msc3381.poll.start",
        {
            "org.matrix.msc3381.poll.start": {
                "question": {"org.matrix.msc1767.text": _TEXT},
                "answers": [{"id": "a", "org.matrix.msc1767.text": CANARY}],
                "max_selections": 1,
            }
        },
    ),
    (
        "org.matrix.msc3381.poll.response",
        {
            "org.matrix.msc3381.poll.response": {"answers": ["1"]},
            "m.relates_to": {"rel_type": "m.reference", "event_id": _OTHER},
        },
    ),
    (
        "m.poll.response",
        {"m.selections": ["1", "2"], "m.relates_to": {"rel_type": "m.reference", "event_id": _OTHER}},
    ),
    (
        "org.matrix.msc3381.poll.end",
        {
            "org.matrix.msc3381.poll.end": {},
            "org.matrix.msc1767.text": _TEXT,
            "m.relates_to": {"rel_type": "m.reference", "event_id": _OTHER},
        },
    ),
    ("m.key.verification.ready", {"from_device": "X", "methods": [], "m.relates_to": {"event_id": _OTHER}}),
    ("m.room.message", {"msgtype": "m.key.verification.request", "body": CANARY, "from_device": "X", "methods": []}),
)

STATES: Final[tuple[tuple[str, str, Json], ...]] = (
    ("m.room.member", MALLORY, {"membership": "join", "displayname": CANARY, "avatar_url": "mxc://lab.test/a"}),
    ("m.room.member", "@labbot:lab.test", {"membership": "leave", "reason": CANARY}),
    ("m.room.member", "@labbot:lab.test", {"membership": "invite", "is_direct": True}),
    ("m.room.power_levels", "", {"users": {MALLORY: 100, "@labbot:lab.test": 0}, "events": {"m.room.message": 50}}),
    ("m.room.create", "", {"creator": MALLORY, "room_version": "12", "additional_creators": ["@labbot:lab.test"]}),
    ("m.room.encryption", "", {"algorithm": MEGOLM, "rotation_period_ms": 604_800_000, "rotation_period_msgs": 100}),
    ("m.room.tombstone", "", {"body": CANARY, "replacement_room": "!9:lab.test"}),
    ("m.room.name", "", {"name": CANARY}),
    ("m.room.topic", "", {"topic": CANARY}),
    ("m.room.join_rules", "", {"join_rule": "public"}),
    ("m.room.canonical_alias", "", {"alias": "#a:lab.test", "alt_aliases": ["#b:lab.test"]}),
    ("m.room.history_visibility", "", {"history_visibility": "shared"}),
)

_VERIFICATION: Final = {"transaction_id": "t", "from_device": "MALLORY"}
_SAS: Final = {
    "method": "m.sas.v1",
    "key_agreement_protocols": ["curve25519-hkdf-sha256", "curve25519"],
    "hashes": ["sha256"],
    "message_authentication_codes": ["hkdf-hmac-sha256.v2", "hkdf-hmac-sha256"],
    "short_authentication_string": ["decimal", "emoji"],
}
_KEY: Final = {"algorithm": MEGOLM, "room_id": "!1:lab.test", "session_id": "s", "sender_key": "k"}

PLAIN: Final[tuple[tuple[str, Json], ...]] = (
    ("m.key.verification.request", {**_VERIFICATION, "methods": ["m.sas.v1"], "timestamp": 1_795_318_558_881}),
    ("m.key.verification.start", {**_VERIFICATION, **_SAS}),
    (
        "m.key.verification.accept",
        {
            **_VERIFICATION,
            "method": "m.sas.v1",
            "key_agreement_protocol": "curve25519",
            "hash": "sha256",
            "message_authentication_code": "hkdf-hmac-sha256",
            "short_authentication_string": ["emoji"],
            "commitment": CANARY,
        },
    ),
    ("m.key.verification.key", {"transaction_id": "t", "key": "A" * 43}),
    ("m.key.verification.mac", {"transaction_id": "t", "mac": {"ed25519:MALLORY": CANARY}, "keys": CANARY}),
    ("m.key.verification.cancel", {"transaction_id": "t", "code": "m.user", "reason": CANARY}),
    ("m.key.verification.done", {"transaction_id": "t"}),
    (
        "m.room_key_request",
        {"action": "request", "requesting_device_id": "MALLORY", "request_id": "r", "body": _KEY},
    ),
    ("m.room_key_request", {"action": "request_cancellation", "requesting_device_id": "MALLORY", "request_id": "r"}),
    ("m.room_key.withheld", {**_KEY, "code": "m.unverified", "reason": CANARY}),
    ("m.room_key", {**_KEY, "session_key": CANARY}),
    ("m.secret.request", {"action": "request", "name": "m.cross_signing.self_signing", "request_id": "r"}),
    ("m.dummy", {}),
)
"""To devices in the clear."""


class HostileMatrix:
    """Mallory with a device, and a stream of what it sends to the bot's."""

    def __init__(self, seed: int, user_id: str, device_keys: Json) -> None:
        self.user_id = user_id
        self.device = Device(MALLORY, "MALLORY")
        self._dice = random.Random(seed)
        self._hostile = Hostile(seed)
        keys = {name.partition(":")[0]: key for name, key in device_keys["keys"].items()}
        self._identity, self._fingerprint = keys["curve25519"], keys["ed25519"]
        self._rooms: dict[str, vodozemac.GroupSession] = {}
        self._sealed: list[Json] = []

    def befriends(self, one_time_key: str) -> None:
        """Begin an honest session with the bot's device: from now on some of the nonsense is well encrypted."""
        self.device.begin(self._identity, one_time_key)

    def to_device(self, number: int) -> Iterator[Any]:
        """So many events from device to device."""
        makers = [self._in_the_clear, self._of_an_unknown_key, self._of_no_session, self._as_before]
        if self.device.sessions[self._identity]:
            makers += [self._well_sealed] * 4
        for _ in range(number):
            event = self._dice.choice(makers)()
            yield self._hostile.bent(event) if self._dice.random() < 0.3 else event

    def _to_device(self, content: Any) -> Json:
        return {"type": "m.room.encrypted", "sender": MALLORY, "content": content}

    def _in_the_clear(self) -> Json:
        kind, content = self._dice.choice(PLAIN)
        return {"type": kind, "sender": MALLORY, "content": self._hostile.bent(content)}

    def _of_an_unknown_key(self) -> Json:
        """A perfect first message, but for a one-time key that the bot has never had."""
        stranger = Device(MALLORY, "MALLORY")
        stranger.begin(self._identity, vodozemac.Curve25519SecretKey().public_key().to_base64())
        return self._to_device(stranger.sealed(self._identity, self._payload()))

    def _of_no_session(self) -> Json:
        """A message of a session that goes on, but never began."""
        message = {"type": 1, "body": "AwogZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyEAEiEA"}
        return self._to_device(
            {"algorithm": OLM, "sender_key": self.device.identity, "ciphertext": {self._identity: message}}
        )

    def _as_before(self) -> Json:
        """One that was there already, with something in its envelope put wrong."""
        if not self._sealed:
            return self._in_the_clear()
        return self._to_device(self._hostile.bent(self._dice.choice(self._sealed)))

    def _well_sealed(self) -> Json:
        content = self.device.sealed(self._identity, self._payload())
        self._sealed = [*self._sealed[-50:], content]
        return self._to_device(content)

    def _payload(self) -> bytes:
        """What is inside of an Olm message: as it should be, bent in its content, bent anywhere, or no JSON at all."""
        kind, content = self._dice.choice((self._room_key, self._forwarded_key, lambda: self._dice.choice(PLAIN)))()
        payload = self.device.payload(kind, content, self.user_id, self._fingerprint)
        match self._dice.randrange(5):
            case 0:
                return self._dice.choice((b"", b"{", b"\xff\0", b"[" * 100_000, b"9" * 5000, b"null", b'"\\ud800"'))
            case 1:
                payload = self._hostile.bent(payload)
            case 2 | 3:
                payload["content"] = self._hostile.bent(content)
        return json.dumps(payload).encode()

    def _room_key(self) -> tuple[str, Json]:
        session = vodozemac.GroupSession()
        key = session.session_key.to_base64()
        return "m.room_key", {**_KEY, "session_id": session.session_id, "session_key": key}

    def _forwarded_key(self) -> tuple[str, Json]:
        inbound = vodozemac.InboundGroupSession(vodozemac.GroupSession().session_key)
        exported = inbound.export_at(0)
        assert exported is not None
        return "m.forwarded_room_key", {
            **_KEY,
            "session_id": inbound.session_id,
            "session_key": exported.to_base64(),
            "sender_claimed_ed25519_key": self.device.fingerprint,
            "forwarding_curve25519_key_chain": [],
        }

    def room_key(self, room: str) -> Json:
        """An honest to-device event with the key of what ``timeline`` then encrypts for the room. It comes first."""
        session = self._rooms[room] = vodozemac.GroupSession()
        content = {
            "algorithm": MEGOLM,
            "room_id": room,
            "session_id": session.session_id,
            "session_key": session.session_key.to_base64(),
        }
        payload = self.device.payload("m.room_key", content, self.user_id, self._fingerprint)
        return self._to_device(self.device.sealed(self._identity, json.dumps(payload).encode()))

    def timeline(self, number: int, room: str) -> Iterator[Any]:
        """So many events of a room's timeline: messages, state, what is encrypted. The event itself is bent rarely."""
        for count in range(number):
            kind, content, more = self._dice.choice((self._said, self._said, self._set, self._secret))(room)
            event = {
                "type": kind,
                "sender": MALLORY,
                "event_id": f"$hostile{count}",
                "origin_server_ts": 1_795_318_558_881,
                "content": content,
                **more,
            }
            yield self._hostile.bent(event) if self._dice.random() < 0.2 else event

    def _said(self, _room: str) -> tuple[str, Any, Json]:
        kind, content = self._dice.choice(MESSAGES)
        if self._dice.random() < 0.05:
            return "m.room.redaction", {"reason": CANARY, "redacts": _OTHER}, {"redacts": self._hostile.bent(_OTHER)}
        return kind, self._hostile.bent(content), {}

    def _set(self, _room: str) -> tuple[str, Any, Json]:
        kind, key, content = self._dice.choice(STATES)
        return kind, self._hostile.bent(content), {"state_key": key}

    def _secret(self, room: str) -> tuple[str, Any, Json]:
        session = self._rooms.get(room)
        if session is None or self._dice.random() < 0.2:
            session = vodozemac.GroupSession()
        kind, content = self._dice.choice(MESSAGES)
        plain: Any = {"type": kind, "room_id": room, "content": self._hostile.bent(content)}
        if self._dice.random() < 0.4:
            plain = self._hostile.bent(plain)
        words = b"{" if self._dice.random() < 0.05 else json.dumps(plain).encode()
        encrypted = {
            "algorithm": MEGOLM,
            "ciphertext": session.encrypt(words).to_base64(),
            "session_id": session.session_id,
            "sender_key": self.device.identity,
            "device_id": "MALLORY",
            "m.relates_to": content.get("m.relates_to", {}),
        }
        return "m.room.encrypted", self._hostile.bent(encrypted) if self._dice.random() < 0.3 else encrypted, {}
