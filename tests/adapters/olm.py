"""Matrix's end-to-end encryption for one device in a test, from the specification: Olm, signatures, attachments.

https://spec.matrix.org/v1.16/client-server-api/#end-to-end-encryption
"""

import base64
import hashlib
import json
import secrets
from collections import defaultdict
from typing import Any, Final

import vodozemac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

OLM: Final = "m.olm.v1.curve25519-aes-sha2"
MEGOLM: Final = "m.megolm.v1.aes-sha2"

Json = dict[str, Any]


class Device:
    """The keys of one device, and its Olm sessions by the other device's Curve25519 key (its identity)."""

    def __init__(self, user_id: str, device_id: str) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self.account = vodozemac.Account()
        self.identity = self.account.curve25519_key.to_base64()
        self.fingerprint = self.account.ed25519_key.to_base64()
        self.sessions: defaultdict[str, list[vodozemac.Session]] = defaultdict(list)
        self.keys = self.signed(
            {
                "user_id": user_id,
                "device_id": device_id,
                "algorithms": [OLM, MEGOLM],
                "keys": {f"curve25519:{device_id}": self.identity, f"ed25519:{device_id}": self.fingerprint},
            }
        )

    def signed(self, value: Json) -> Json:
        """The value with this device's signature."""
        return signed(value, self.user_id, self.device_id, self.account)

    def new_one_time_keys(self, number: int) -> Json:
        """So many, signed, as they are uploaded."""
        self.account.generate_one_time_keys(number)
        keys = {
            f"signed_curve25519:{name}": self.signed({"key": key.to_base64()})
            for name, key in self.account.one_time_keys.items()
        }
        self.account.mark_keys_as_published()
        return keys

    def begin(self, identity: str, one_time_key: str) -> None:
        """Begin a session with a device by one of its one-time keys."""
        keys = (vodozemac.Curve25519PublicKey.from_base64(key) for key in (identity, one_time_key))
        self.sessions[identity].append(self.account.create_outbound_session(*keys))

    def payload(self, kind: str, content: Any, recipient: str, fingerprint: str) -> Json:
        """What goes into an Olm message to a device."""
        return {
            "type": kind,
            "content": content,
            "sender": self.user_id,
            "sender_device": self.device_id,
            "keys": {"ed25519": self.fingerprint},
            "recipient": recipient,
            "recipient_keys": {"ed25519": fingerprint},
        }

    def sealed(self, identity: str, payload: bytes) -> Json:
        """The content of an `m.room.encrypted` event to a device, by the newest session with it."""
        number, ciphertext = self.sessions[identity][-1].encrypt(payload).to_parts()
        return {
            "algorithm": OLM,
            "sender_key": self.identity,
            "ciphertext": {identity: {"type": number, "body": unpadded(ciphertext)}},
        }

    def opened(self, content: Json) -> Json | None:
        """The payload of such a content; None where it is for another device."""
        message = content["ciphertext"].get(self.identity)
        if message is None:
            return None
        sender_key = content["sender_key"]
        sealed = vodozemac.AnyOlmMessage.from_parts(message["type"], padded(message["body"]))
        opening = sealed.to_pre_key()
        sessions = self.sessions[sender_key]
        if opening is not None and not any(session.session_matches(opening) for session in sessions):
            identity = vodozemac.Curve25519PublicKey.from_base64(sender_key)
            session, plain = self.account.create_inbound_session(identity, opening)
            sessions.append(session)
            return dict(json.loads(plain))
        for session in sessions:
            if opening is None or session.session_matches(opening):
                try:
                    return dict(json.loads(session.decrypt(sealed)))
                except vodozemac.OlmDecryptionException:
                    continue
        raise AssertionError(f"{self.user_id} got an Olm message of no session")


def unpadded(data: bytes) -> str:
    """Matrix's Base64."""
    return base64.b64encode(data).decode().rstrip("=")


def padded(text: str) -> bytes:
    """What stands in Matrix's Base64."""
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _canonical(value: Json) -> bytes:
    """What is signed: https://spec.matrix.org/v1.16/appendices/#signing-json."""
    bare = {key: part for key, part in value.items() if key not in ("signatures", "unsigned")}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signed(value: Json, user_id: str, name: str, key: vodozemac.Account) -> Json:
    """The value with one more signature."""
    signature = key.sign(_canonical(value)).to_base64()
    others = value.get("signatures", {}).get(user_id, {})
    return {**value, "signatures": {user_id: {**others, f"ed25519:{name}": signature}}}


def is_signed(value: Json, user_id: str, name: str | None, key: str | None) -> bool:
    """Whether the value has a signature of this name, and it is of this key."""
    signature = value.get("signatures", {}).get(user_id, {}).get(f"ed25519:{name}")
    if not signature or not key:
        return False
    try:
        vodozemac.Ed25519PublicKey.from_base64(key).verify_signature(
            _canonical(value), vodozemac.Ed25519Signature.from_base64(signature)
        )
    except (vodozemac.SignatureException, vodozemac.KeyException):
        return False
    return True


def locked(data: bytes) -> tuple[bytes, Json]:
    """An attachment encrypted, and what it takes to read it, but for its place."""
    key, counter = secrets.token_bytes(32), secrets.token_bytes(8) + bytes(8)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    hidden = encryptor.update(data) + encryptor.finalize()
    web_key = {
        "kty": "oct",
        "key_ops": ["encrypt", "decrypt"],
        "alg": "A256CTR",
        "k": base64.urlsafe_b64encode(key).decode().rstrip("="),
        "ext": True,
    }
    hashes = {"sha256": unpadded(hashlib.sha256(hidden).digest())}
    return hidden, {"v": "v2", "key": web_key, "iv": unpadded(counter), "hashes": hashes}


def unlocked(data: bytes, secret: Json) -> bytes:
    """The attachment as it was."""
    assert secret["v"] == "v2", secret
    assert secret["hashes"]["sha256"] == unpadded(hashlib.sha256(data).digest()), "an attachment that was changed"
    key = base64.urlsafe_b64decode(secret["key"]["k"] + "=")
    decryptor = Cipher(algorithms.AES(key), modes.CTR(padded(secret["iv"]))).decryptor()
    return decryptor.update(data) + decryptor.finalize()
