"""The device's own keys on the server: identity keys, one-time keys, and a fallback key for when those run out."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from canonicaljson import encode_canonical_json
from nio.crypto import InboundGroupSession, Olm
from nio.store import MegolmInboundSessions, SqliteStore
from peewee import PeeweeException

from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.port import Refused, RetryLater

CURVE = "signed_curve25519"
ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]
UPLOAD = segments("v3", "keys", "upload")

COLLISIONS = 20
"""How many stocks of one-time keys are passed over in one go when the server knows others by their names."""


STORE_FAULTS = (PeeweeException, sqlite3.Error)
"""What the key store raises when it is full, locked or may not be written."""


class KeyStore(SqliteStore):  # type: ignore[misc]
    """nio's store, with a place for each room's and sender's copy of a session's key.

    nio has one for each session id: whoever tells us somebody's key as another room's would take it.
    """

    def save_inbound_group_session(self, session: InboundGroupSession) -> None:
        """Keep a key."""
        with self.database.bind_ctx(self.models):
            MegolmInboundSessions.replace(
                sender_key=session.sender_key,
                account=self._get_account(),
                fp_key=session.ed25519,
                room_id=session.room_id,
                session=session.pickle(self.pickle_key),
                session_id=place_of(session),
            ).execute()


def place_of(session: InboundGroupSession) -> str:
    """Where a key is kept."""
    return json.dumps([session.room_id, session.sender_key, session.id])


class Machine(Olm):  # type: ignore[misc]
    """nio's Olm machine, which keeps the copy of a key that opens more."""

    def create_group_session(
        self, sender_key: str, sender_fp_key: str, room_id: str, session_id: str, session_key: str
    ) -> None:
        """Take in a key, unless it opens no more than what is there."""
        known = self.inbound_group_store.get(room_id, sender_key, session_id)
        if known is not None:
            told = InboundGroupSession(session_key, sender_fp_key, sender_key, room_id)
            if told.id != session_id or told.first_known_index >= known.first_known_index:
                return
            del self.inbound_group_store[room_id][sender_key][session_id]
        super().create_group_session(sender_key, sender_fp_key, room_id, session_id, session_key)


async def query(homeserver: Homeserver, user_id: str) -> dict[str, Any]:
    """What the server tells everybody about a person's keys. Raises as a call does."""
    return await homeserver.call("POST", segments("v3", "keys", "query"), {"device_keys": {user_id: []}})


async def publish(olm: Olm, homeserver: Homeserver) -> None:
    """Upload what the server lacks at the start: identity keys, one-time keys, fallback key.

    Raises ``Refused`` and ``RetryLater``.
    """
    try:
        answer = await homeserver.call("POST", UPLOAD, {})
        await _upload(olm, homeserver, _left(answer.get("one_time_key_counts")), rotate=False)
    except Rejected as error:
        raise Refused(f"The homeserver does not take the keys of labbot's device ({error}).") from None


async def refill(olm: Olm, homeserver: Homeserver, counts: Any, unused_fallback: Any = None) -> None:
    """Upload one-time keys when fewer than half are left, and a new fallback key when the last one was used.

    ``counts`` and ``unused_fallback`` are a sync's ``device_one_time_keys_count`` and
    ``device_unused_fallback_key_types`` as they came. An algorithm that is not among the counts has no key left;
    without ``unused_fallback`` the server does not know fallback keys (spec, One-time and fallback keys). Raises
    ``RetryLater``, and ``Refused`` for a dead login; after anything else the next sync asks again.
    """
    rotate = isinstance(unused_fallback, list) and CURVE not in unused_fallback
    try:
        await _upload(olm, homeserver, _left(counts), rotate=rotate)
    except Rejected as error:
        raise RetryLater(60, f"the homeserver does not take one-time keys ({error})") from None


async def _upload(olm: Olm, homeserver: Homeserver, left: int, *, rotate: bool) -> None:
    account = olm.account
    first = not account.shared
    most = account.max_one_time_keys
    wanted = max(0, most - left) if first or left < most / 2 else 0
    if not (wanted or rotate or first):
        return
    own = account._account  # nio has no name for fallback keys
    for _ in range(COLLISIONS):
        missing = wanted - len(account.one_time_keys["curve25519"])
        if missing > 0:
            account.generate_one_time_keys(missing)
        if (rotate or first) and not own.fallback_key:
            own.generate_fallback_key()
        _save(olm)  # before anybody can use them: we would be deaf to whoever uses a key that we do not hold
        fallback = {name: key.to_base64() for name, key in own.fallback_key.items()}
        body = {
            "one_time_keys": _signed(olm, account.one_time_keys["curve25519"]),
            "fallback_keys": _signed(olm, fallback, fallback=True),
        }
        if first:
            body["device_keys"] = _device_keys(olm)
        try:
            answer = await homeserver.call("POST", UPLOAD, body)
        except Rejected as error:
            if error.status != 400 or "already exists" not in str(error.answer.get("error")):
                raise
            # An older copy of the store was brought back: the server has these names from the newer one.
            account.mark_keys_as_published()
            _save(olm)
            continue
        account.mark_keys_as_published()
        account.shared = True
        olm.uploaded_key_count = _left(answer.get("one_time_key_counts"))
        _save(olm)
        return
    raise RetryLater(1, "the homeserver knows other one-time keys by the names of ours")


def note_encrypted(olm: Olm, rooms: list[str]) -> None:
    """Keep that these rooms are encrypted. Raises ``RetryLater`` when the key store does not take it."""
    _write(partial(olm.store.save_encrypted_rooms, rooms))


def _save(olm: Olm) -> None:
    _write(olm.save_account)


def _write(write: Callable[[], object]) -> None:
    try:
        write()
    except STORE_FAULTS as error:
        raise RetryLater(5, f"the key store does not take it: {type(error).__name__}") from None


def _left(counts: Any) -> int:
    count = counts.get(CURVE) if isinstance(counts, Mapping) else None
    return count if isinstance(count, int) else 0


def _device_keys(olm: Olm) -> dict[str, Any]:
    return sign_with_device(
        olm,
        {
            "algorithms": ALGORITHMS,
            "device_id": olm.device_id,
            "user_id": olm.user_id,
            "keys": {f"{kind}:{olm.device_id}": key for kind, key in olm.account.identity_keys.items()},
        },
    )


def _signed(olm: Olm, public: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {f"{CURVE}:{name}": sign_with_device(olm, {"key": key, **more}) for name, key in public.items()}


def sign_with_device(olm: Olm, content: dict[str, Any]) -> dict[str, Any]:
    """The object, which has no signatures yet, with the device's (spec, Signing JSON)."""
    signature = olm.account.sign(encode_canonical_json(content).decode())
    return {**content, "signatures": {olm.user_id: {f"ed25519:{olm.device_id}": signature}}}
