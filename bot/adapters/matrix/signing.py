"""Cross-signing: the account's three keys, which vouch for our device so that people's clients talk to it."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from canonicaljson import encode_canonical_json
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nio.crypto import Olm

from bot.adapters.matrix import files, keys
from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.adapters.matrix.values import fields, items
from bot.port import Refused

log = structlog.get_logger()

FILE = "signing.json"
USAGES = ("master", "self_signing", "user_signing")
UPLOAD = segments("v3", "keys", "device_signing", "upload")
PASSWORD = "m.login.password"
RESET = "--reset-cross-signing"
APPROVALS = ("m.oauth", "org.matrix.cross_signing_reset")
"""Stages that a person passes in the browser (MSC4312); some minutes later the same call needs no more."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether clients that talk to signed devices only will talk to ours; if not, why, and what to do."""

    trusted: bool
    explanation: str


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The account's three private keys, by usage."""

    user_id: str
    private: Mapping[str, Ed25519PrivateKey]

    @classmethod
    def make(cls, user_id: str) -> "SigningKeys":
        return cls(user_id, {usage: Ed25519PrivateKey.generate() for usage in USAGES})

    @classmethod
    def read(cls, path: Path, user_id: str) -> "SigningKeys | None":
        """The keys kept in ``path``. Raises ``Refused`` when they are damaged or another account's."""
        try:
            kept = files.read(path)
            if kept is None:
                return None
            private = {usage: Ed25519PrivateKey.from_private_bytes(_decoded(kept[usage])) for usage in USAGES}
            owner = kept["user_id"]
        except (files.Damaged, KeyError, ValueError):
            raise Refused(
                f"LABBOT_DATA: {path} is damaged; bring back a copy, or remove it and start once with {RESET}."
            ) from None
        if owner != user_id:
            raise Refused(f"LABBOT_DATA: {path} holds the keys of {owner}, not of {user_id}; move it away.")
        return cls(user_id, private)

    def write(self, path: Path) -> None:
        seeds = {usage: _encoded(key.private_bytes_raw()) for usage, key in self.private.items()}
        files.write(path, {"user_id": self.user_id, **seeds})

    def public(self, usage: str) -> str:
        return _encoded(self.private[usage].public_key().public_bytes_raw())

    def sign(self, usage: str, content: dict[str, Any]) -> dict[str, Any]:
        """The object with one signature, by this key (spec, Signing JSON)."""
        signature = _encoded(self.private[usage].sign(_canonical(content)))
        return {**_bare(content), "signatures": {self.user_id: {f"ed25519:{self.public(usage)}": signature}}}

    def object(self, usage: str) -> dict[str, Any]:
        """The public key as it is uploaded, without signatures (spec, Key and signature security)."""
        public = self.public(usage)
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public}": public}}


async def establish(
    olm: Olm, homeserver: Homeserver, folder: Path, password: str | None = None, *, reset: bool = False
) -> Trust:
    """Make our device a trusted one: keys made and uploaded at the first start, the device signed; later looked after.

    The device's own keys are on the server already. The account's keys are made once, and written down before
    anybody learns of them; ``password`` is asked for only where keys are replaced. Keys that the account already has
    and that are not held here stay as they are, unless ``reset`` is true; keys that are held here stay in any case.
    Raises ``Refused`` and ``RetryLater``.
    """
    path = folder / FILE
    identity = olm.account.identity_keys
    held = SigningKeys.read(path, olm.user_id)
    answer = await _query(homeserver, olm.user_id)
    if fields(answer, "master_keys", olm.user_id) and (
        held is None or _published(answer, olm.user_id, "master") != held.public("master")
    ):
        if not reset:
            verdict = _judge(answer, olm.user_id, olm.device_id, identity)
            if verdict.trusted:  # whoever holds the keys has vouched for us
                return Trust(True, f"{verdict.explanation} The account's keys are not in LABBOT_DATA, though.")
            raise Refused(_foreign(olm.user_id, path, held))
        log.warning("matrix.cross_signing_reset")
        held = None  # Synapse takes no key twice, and nobody goes by keys that were replaced
    if held is None:
        held = SigningKeys.make(olm.user_id)
        held.write(path)
    try:
        missing = [usage for usage in USAGES if _published(answer, olm.user_id, usage) != held.public(usage)]
        if missing:
            await _upload(olm, homeserver, held, missing, password)
            log.info("matrix.cross_signing_uploaded")
            answer = await _query(homeserver, olm.user_id)
        if await _sign(olm, homeserver, held, answer):
            log.info("matrix.device_signed")
            answer = await _query(homeserver, olm.user_id)
    except Rejected as error:
        if error.code == "M_UNRECOGNIZED":
            return Trust(
                False, "The homeserver does not know cross-signing; many clients will not talk to labbot there."
            )
        raise Refused(f"The homeserver does not take labbot's cross-signing keys ({error}).") from None
    return _judge(answer, olm.user_id, olm.device_id, identity)


async def trust(homeserver: Homeserver, user_id: str, device_id: str, identity: Mapping[str, str] | None) -> Trust:
    """Whether this device is trusted, by the keys the server shows to everybody; ``identity`` are the device's own.

    Changes nothing. Raises ``Refused`` and ``RetryLater``.
    """
    if identity is None:
        return Trust(False, f"The keys of device {device_id} are not in LABBOT_DATA; labbot run looks after that.")
    return _judge(await _query(homeserver, user_id), user_id, device_id, identity)


async def _query(homeserver: Homeserver, user_id: str) -> dict[str, Any]:
    try:
        return await keys.query(homeserver, user_id)
    except Rejected as error:
        raise Refused(f"The homeserver does not tell labbot's own keys ({error}).") from None


def _foreign(user_id: str, path: Path, held: SigningKeys | None) -> str:
    why = "that labbot does not hold" if held is None else f"other than those in {path}"
    return (
        f"The account {user_id} has cross-signing keys {why}; bring back the {FILE} that belongs to them, or, if nobody"
        f" uses the account in another client, replace them: start once with {RESET}."
    )


# -- uploading ----------------------------------------------------------------------------------------------


async def _upload(
    olm: Olm, homeserver: Homeserver, held: SigningKeys, missing: Sequence[str], password: str | None
) -> None:
    """Upload keys, and prove who we are if the homeserver asks (spec, User-interactive authentication).

    Only those that are missing: Synapse stores them one by one, and one that it has makes it fail.
    """
    body = {f"{usage}_key": held.sign("master", held.object(usage)) for usage in missing}
    if "master" in missing:
        body["master_key"] = _with_device(olm, held)
    try:
        await homeserver.call("POST", UPLOAD, body)
        return
    except Rejected as error:
        if error.status != 401 or "flows" not in error.answer:
            raise
        asked = dict(error.answer)
    flows = items(asked["flows"])
    ways = [flow.get("stages") for flow in flows if isinstance(flow, dict)]
    if [PASSWORD] not in ways:
        raise Refused(_interactive(asked, ways))
    if password is None:
        raise Refused(
            "The homeserver asks for the account's password before it takes cross-signing keys; set"
            " LABBOT_MATRIX_PASSWORD (instead of LABBOT_MATRIX_TOKEN) for one start."
        )
    proof = {"type": PASSWORD, "identifier": {"type": "m.id.user", "user": olm.user_id}, "password": password}
    if isinstance(asked.get("session"), str):
        proof["session"] = asked["session"]
    try:
        await homeserver.call("POST", UPLOAD, {**body, "auth": proof})
    except Rejected as error:
        if error.status == 401 or error.code == "M_FORBIDDEN":
            raise Refused(
                "Matrix does not accept LABBOT_MATRIX_PASSWORD, which it asks for before it takes cross-signing keys."
            ) from None
        raise


def _interactive(asked: dict[str, Any], flows: list[Any]) -> str:
    """What to do about stages that only a person can pass."""
    for stage in APPROVALS:
        url = fields(asked, "params", stage).get("url")
        if isinstance(url, str) and url.startswith(("https://", "http://")) and len(url.split()) == 1:
            return (
                "The homeserver wants a person to allow new cross-signing keys: open"
                f" {url[:500]} as labbot's account, allow it, and start labbot again within ten minutes."
            )
    stages = sorted({stage for flow in flows if isinstance(flow, list) for stage in flow if isinstance(stage, str)})
    return (
        "The homeserver wants a proof that labbot cannot give before it takes cross-signing keys"
        f" ({', '.join(stages)[:200] or 'none named'}); its administrator can allow a reset for labbot's account."
    )


async def _sign(olm: Olm, homeserver: Homeserver, held: SigningKeys, answer: dict[str, Any]) -> bool:
    """Sign our device, and by it the master key, where the server does not show it yet. Whether anything was."""
    user_id, device_id, identity = olm.user_id, olm.device_id, olm.account.identity_keys
    device = fields(answer, "device_keys", user_id, device_id)
    if not _is_ours(device, user_id, device_id, identity):
        raise Refused(
            f"The homeserver shows keys of labbot's device {device_id} that are not its own; labbot does not sign them."
        )
    signed: dict[str, Any] = {}
    if not _signs(device, user_id, held.public("self_signing")):
        signed[device_id] = held.sign("self_signing", device)
    if not _signs(fields(answer, "master_keys", user_id), user_id, identity["ed25519"], device_id):
        signed[held.public("master")] = _with_device(olm, held)
    if not signed:
        return False
    result = await homeserver.call("POST", segments("v3", "keys", "signatures", "upload"), {user_id: signed})
    failures = fields(result, "failures", user_id)
    if device_id in failures:
        code = fields(failures, device_id).get("errcode")
        raise Rejected(400, code if isinstance(code, str) else "", fields(failures, device_id))
    if failures:
        log.warning("matrix.master_key_not_signed")
    return True


def _with_device(olm: Olm, held: SigningKeys) -> dict[str, Any]:
    """The master key, signed by our device: by that the account's other sessions come to know it."""
    return keys.sign_with_device(olm, held.object("master"))


# -- verifying ----------------------------------------------------------------------------------------------


def _judge(answer: dict[str, Any], user_id: str, device_id: str, identity: Mapping[str, str]) -> Trust:
    """Follow the signatures: master key, self-signing key, device (spec, Cross-signing)."""
    device = fields(answer, "device_keys", user_id, device_id)
    if not device:
        return Trust(False, f"The homeserver does not show device {device_id}; labbot run uploads its keys.")
    if not _is_ours(device, user_id, device_id, identity):
        return Trust(False, f"Device {device_id} has other keys on the homeserver; labbot run logs in as a new device.")
    master_key = fields(answer, "master_keys", user_id)
    master = _public(master_key, user_id, "master")
    if master is None:
        return Trust(False, "The account has no cross-signing keys; labbot run makes them.")
    self_signing_key = fields(answer, "self_signing_keys", user_id)
    self_signing = _public(self_signing_key, user_id, "self_signing")
    if self_signing is None or not _signs(self_signing_key, user_id, master):
        return Trust(False, f"The account's cross-signing keys do not fit together; start once with {RESET}.")
    if not _signs(device, user_id, self_signing):
        return Trust(
            False,
            f"Device {device_id} is not signed by its account; labbot run signs it when it holds the keys, else"
            f" start once with {RESET}.",
        )
    return Trust(True, f"Device {device_id} is signed by its account; clients talk to it.")


def _is_ours(device: dict[str, Any], user_id: str, device_id: str, identity: Mapping[str, str]) -> bool:
    """Whether these device keys are of our device: its names, its keys, and all of it signed by itself."""
    wanted = {f"{kind}:{device_id}": identity[kind] for kind in ("curve25519", "ed25519")}
    return (device.get("user_id"), device.get("device_id"), device.get("keys")) == (
        user_id,
        device_id,
        wanted,
    ) and _signs(device, user_id, identity["ed25519"], device_id)


def _published(answer: dict[str, Any], user_id: str, usage: str) -> str | None:
    return _public(fields(answer, f"{usage}_keys", user_id), user_id, usage)


def _public(key: dict[str, Any], user_id: str, usage: str) -> str | None:
    """The public key in a cross-signing key object, None when that is not one for this use."""
    named = key.get("keys")
    usages = key.get("usage")
    if key.get("user_id") != user_id or not isinstance(usages, list) or usage not in usages:
        return None
    if not isinstance(named, dict) or len(named) != 1:
        return None
    [(name, public)] = named.items()
    return public if isinstance(public, str) and name == f"ed25519:{public}" else None


def _signs(content: dict[str, Any], user_id: str, public: str, name: str | None = None) -> bool:
    """Whether this key has signed the object; a device's key is called by the device's ``name``."""
    signature = fields(content, "signatures", user_id).get(f"ed25519:{name or public}")
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(public)).verify(_decoded(signature), _canonical(content))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _bare(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("signatures", "unsigned")}


def _canonical(content: dict[str, Any]) -> bytes:
    return encode_canonical_json(_bare(content))


def _encoded(raw: bytes) -> str:
    """Unpadded base64 (spec, appendices)."""
    return b64encode(raw).decode().rstrip("=")


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no base64")
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
