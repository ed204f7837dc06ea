"""Cross-signing and the device's keys: on Synapse, which checks what it is given, and with faults of every call."""

import copy
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import vodozemac
from nio.crypto import OlmAccount

from bot.adapters.matrix import account, keys, signing
from bot.adapters.matrix.account import Login, Session, sign_in
from bot.adapters.matrix.homeserver import Homeserver, Rejected
from bot.adapters.matrix.signing import Trust
from bot.port import Refused, RetryLater
from tests.adapters.account_server import PASSWORD, USER, AccountServer, answers
from tests.adapters.synapse import Account, Synapse

Json = dict[str, Any]
UPLOAD = "/v3/keys/device_signing/upload"
SIGNATURES = "/v3/keys/signatures/upload"


class Bot:
    """The bot's side of an account on Synapse: its data folder, and starts of labbot."""

    def __init__(self, synapse: Synapse, registered: Account, folder: Path) -> None:
        self.user_id = registered.user_id
        self.password = registered.password
        self.login = Login(synapse.url, registered.user_id, registered.password)
        self.folder = folder
        self.since: dict[str, str] = {}
        self.stranger = Homeserver(synapse.url, registered.token)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Session]:
        session = await sign_in(self.login, self.folder)
        try:
            yield session
        finally:
            await session.close()

    async def starts(self, *, reset: bool = False, password: bool = True) -> Trust:
        """A whole start, and what it says about trust."""
        async with self.started() as session:
            return await signing.establish(
                session.olm, session.homeserver, self.folder, self.password if password else None, reset=reset
            )

    async def shown(self) -> Json:
        """What everybody sees of the account's keys, asked by another session."""
        return await keys.query(self.stranger, self.user_id)

    async def master(self) -> str:
        return str(only((await self.shown())["master_keys"][self.user_id]["keys"].values()))

    @property
    def device_id(self) -> str:
        return str(json.loads((self.folder / "account.json").read_text())["device_id"])


@pytest_asyncio.fixture
async def bot(synapse: Synapse, tmp_path: Path) -> AsyncIterator[Bot]:
    bot = Bot(synapse, await synapse.newcomer("labbot"), tmp_path / "matrix")
    yield bot
    await bot.stranger.close()


class Lying(Homeserver):
    """A homeserver whose answers are altered on their way."""

    def __init__(self, true: Homeserver, alter: Callable[[Json], None]) -> None:
        super().__init__(true.url, true.token)
        self.alter = alter
        self.calls: list[str] = []

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **more: Any) -> Json:
        self.calls.append(path)
        answer = await super().call(method, path, body, **more)
        if path.endswith("/keys/query"):
            self.alter(answer)
        return answer


class Dying(Homeserver):
    """A homeserver that is lost for good at the call of this number, before it had its effect or after."""

    def __init__(self, true: Homeserver, number: int, moment: str, folder: Path) -> None:
        super().__init__(true.url, true.token)
        self.left = number
        self.moment = moment
        self.folder = folder

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **more: Any) -> Json:
        if path == UPLOAD:
            assert body is not None and "master_key" in body  # whatever leaves us is written down
            kept = signing.SigningKeys.read(self.folder / "signing.json", body["master_key"]["user_id"])
            assert kept is not None and f"ed25519:{kept.public('master')}" in body["master_key"]["keys"]
        self.left -= 1
        if self.left < 0 or (self.left == 0 and self.moment == "before"):
            raise RetryLater(0, "lost")
        answer = await super().call(method, path, body, **more)
        if self.left == 0:
            raise RetryLater(0, "lost")
        return answer


def only(values: Any) -> Any:
    [value] = values
    return value


def verify(signed: Json, user_id: str, key_id: str, public: str) -> None:
    """Check a signature by other code than the bot's: the JSON of the standard library, Ed25519 of vodozemac."""
    bare = {name: value for name, value in signed.items() if name not in ("signatures", "unsigned")}
    message = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature = vodozemac.Ed25519Signature.from_base64(signed["signatures"][user_id][key_id])
    vodozemac.Ed25519PublicKey.from_base64(public).verify_signature(message, signature)


def follow(shown: Json, user_id: str, device_id: str, identity: Mapping[str, str]) -> None:
    """Follow the whole chain as another client does."""
    master = only(shown["master_keys"][user_id]["keys"].values())
    for kind in ("self_signing_keys", "user_signing_keys"):
        verify(shown[kind][user_id], user_id, f"ed25519:{master}", master)
    own = only(shown["self_signing_keys"][user_id]["keys"].values())
    device = shown["device_keys"][user_id][device_id]
    verify(device, user_id, f"ed25519:{own}", own)
    verify(device, user_id, f"ed25519:{device_id}", identity["ed25519"])
    verify(shown["master_keys"][user_id], user_id, f"ed25519:{device_id}", identity["ed25519"])
    assert device["keys"] == {f"{kind}:{device_id}": key for kind, key in identity.items()}


# -- on Synapse ---------------------------------------------------------------------------------------------


async def test_the_first_start_makes_the_device_a_trusted_one(bot: Bot) -> None:
    assert (await bot.starts(password=False)).trusted
    async with bot.started() as session:
        follow(await bot.shown(), bot.user_id, bot.device_id, session.olm.account.identity_keys)
    kept = bot.folder / "signing.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    for usage, seed in json.loads(kept.read_text()).items():
        if usage != "user_id":
            assert len(seed) == 43 and seed not in json.dumps(await bot.shown())


async def test_a_later_start_changes_nothing(bot: Bot) -> None:
    await bot.starts()
    before, kept = await bot.shown(), (bot.folder / "signing.json").read_bytes()
    for reset in (False, True):  # the flag may stay in a service's unit
        assert (await bot.starts(reset=reset, password=False)).trusted
    assert await bot.shown() == before
    assert (bot.folder / "signing.json").read_bytes() == kept


async def test_a_new_device_is_signed_by_the_same_keys(bot: Bot) -> None:
    await bot.starts()
    first, master = bot.device_id, await bot.master()
    only(bot.folder.glob("crypto-*.db")).unlink()
    assert (await bot.starts(password=False)).trusted
    assert bot.device_id != first
    assert await bot.master() == master
    async with bot.started() as session:
        shown = await bot.shown()
        follow(shown, bot.user_id, bot.device_id, session.olm.account.identity_keys)
    assert first not in shown["device_keys"][bot.user_id]  # nobody encrypts for what is lost


async def test_a_device_that_was_logged_out_is_signed_again(bot: Bot) -> None:
    await bot.starts()
    first = bot.device_id
    await bot.stranger.call("POST", "/v3/logout/all")
    assert (await bot.starts()).trusted
    assert bot.device_id == first


async def test_keys_that_are_not_ours_are_left_alone_until_a_reset_is_asked_for(bot: Bot, tmp_path: Path) -> None:
    other = Bot.__new__(Bot)  # the same account in another data folder, as in another client
    other.__dict__.update(bot.__dict__, folder=tmp_path / "other")
    await other.starts()
    before = await bot.shown()
    with pytest.raises(Refused, match="has cross-signing keys that labbot does not hold") as refused:
        await bot.starts()
    assert "--reset-cross-signing" in str(refused.value) and "signing.json" in str(refused.value)
    after = await bot.shown()
    assert after["master_keys"] == before["master_keys"]
    assert after["self_signing_keys"] == before["self_signing_keys"]
    assert not (bot.folder / "signing.json").exists()

    with pytest.raises(Refused, match="LABBOT_MATRIX_PASSWORD"):
        await bot.starts(reset=True, password=False)
    bot.password = "wrong"
    with pytest.raises(Refused, match="does not accept LABBOT_MATRIX_PASSWORD"):
        await bot.starts(reset=True)
    assert (await bot.shown())["master_keys"] == before["master_keys"]
    bot.password = other.password
    assert (await bot.starts(reset=True)).trusted
    assert await bot.master() != only(before["master_keys"][bot.user_id]["keys"].values())
    assert (await bot.starts(password=False)).trusted

    with pytest.raises(Refused, match=r"other than those in .*signing\.json"):
        await other.starts()
    assert (await other.starts(reset=True)).trusted
    assert (await other.starts(password=False)).trusted


@pytest.mark.parametrize("stored", [["master"], ["master", "self_signing"]], ids=["one", "two"])
async def test_keys_that_synapse_has_stored_in_part_are_completed(stored: list[str], bot: Bot) -> None:
    async with bot.started() as session:
        made = signing.SigningKeys.make(bot.user_id)
        made.write(bot.folder / "signing.json")
        body = {f"{usage}_key": made.sign("master", made.object(usage)) for usage in stored}
        await session.homeserver.call("POST", UPLOAD, body)
    assert (await bot.starts()).trusted
    async with bot.started() as session:
        follow(await bot.shown(), bot.user_id, bot.device_id, session.olm.account.identity_keys)
    assert await bot.master() == made.public("master")


async def test_a_device_that_others_have_signed_needs_no_keys_of_ours(bot: Bot) -> None:
    await bot.starts()
    (bot.folder / "signing.json").unlink()
    said = await bot.starts()
    assert said.trusted and "are not in LABBOT_DATA" in said.explanation
    assert not (bot.folder / "signing.json").exists()


@pytest.mark.parametrize("foreign", [False, True], ids=["first", "reset"])
async def test_wherever_a_start_is_cut_off_the_next_one_holds_the_keys(
    foreign: bool, synapse: Synapse, tmp_path: Path
) -> None:
    number, ended = 0, 0
    while ended < 2:
        number += 1
        ended = 0
        for moment in ("before", "after"):
            bot = Bot(synapse, await synapse.newcomer("labbot"), tmp_path / f"{number}-{moment}")
            if foreign:
                await bot.starts()
                shutil.rmtree(bot.folder)
            async with bot.started() as session:
                dying = Dying(session.homeserver, number, moment, bot.folder)
                try:
                    await signing.establish(session.olm, dying, bot.folder, bot.password, reset=foreign)
                    ended += 1
                except RetryLater:
                    pass
                await dying.close()
            assert (await bot.starts(reset=foreign)).trusted, (number, moment)
            kept = signing.SigningKeys.read(bot.folder / "signing.json", bot.user_id)
            assert kept is not None and await bot.master() == kept.public("master"), (number, moment)
            await bot.stranger.close()
    assert number > 4


# -- is the device trusted? ---------------------------------------------------------------------------------


def _flipped(signed: Json, user_id: str, key_id: str) -> None:
    signature = signed["signatures"][user_id][key_id]
    signed["signatures"][user_id][key_id] = ("B" if signature[0] == "A" else "A") + signature[1:]


def _lie(kind: str, user_id: str, device_id: str) -> Callable[[Json], None]:
    def alter(answer: Json) -> None:
        device = answer["device_keys"][user_id][device_id]
        master, own = (answer[f"{usage}_keys"][user_id] for usage in ("master", "self_signing"))
        match kind:
            case "the device's signature":
                _flipped(device, user_id, f"ed25519:{only(own['keys'].values())}")
            case "the self-signing key's signature":
                _flipped(own, user_id, f"ed25519:{only(master['keys'].values())}")
            case "the device's own signature":
                _flipped(device, user_id, f"ed25519:{device_id}")
            case "a device key":
                device["keys"][f"curve25519:{device_id}"] = device["keys"][f"ed25519:{device_id}"]
            case "something more in the device":
                device["dehydrated"] = True
            case "a signature that is none":
                device["signatures"][user_id] = dict.fromkeys(device["signatures"][user_id], 7)
            case "no signatures":
                device["signatures"] = None
            case "no device":
                answer["device_keys"] = {}
            case "no master key":
                del answer["master_keys"]
            case "another use":
                own["usage"] = ["user_signing"]
            case "another's keys":
                master["user_id"] = "@other:lab.test"
            case "two master keys":
                master["keys"]["ed25519:second"] = "second"
            case "a key of another name":
                master["keys"] = {"ed25519:other": only(master["keys"].values())}

    return alter


LIES = [
    "the device's signature",
    "the self-signing key's signature",
    "the device's own signature",
    "a device key",
    "something more in the device",
    "a signature that is none",
    "no signatures",
    "no device",
    "no master key",
    "another use",
    "another's keys",
    "two master keys",
    "a key of another name",
]


async def test_a_chain_with_one_link_broken_is_no_trust_and_is_told(bot: Bot) -> None:
    await bot.starts()
    async with bot.started() as session:
        where = (session.account.user_id, session.account.device_id)
        identity = account.identity(session.account, bot.folder)
        assert (await signing.trust(session.homeserver, *where, identity)).trusted
        for kind in LIES:
            lying = Lying(session.homeserver, _lie(kind, *where))
            said = await signing.trust(lying, *where, identity)
            await lying.close()
            assert not said.trusted, kind
            assert "labbot run" in said.explanation or "--reset-cross-signing" in said.explanation
        assert not (await signing.trust(session.homeserver, *where, None)).trusted


async def test_a_device_shown_with_other_keys_is_never_signed(bot: Bot) -> None:
    async with bot.started() as session:
        for kind in ("a device key", "the device's own signature", "something more in the device", "no device"):

            def alter(answer: Json, kind: str = kind) -> None:
                shown = copy.deepcopy(answer)
                for usage in ("master", "self_signing"):
                    shown.setdefault(f"{usage}_keys", {}).setdefault(bot.user_id, {"keys": {"": ""}})
                _lie(kind, bot.user_id, bot.device_id)(shown)
                answer["device_keys"] = shown["device_keys"]

            lying = Lying(session.homeserver, alter)
            with pytest.raises(Refused, match="labbot does not sign them"):
                await signing.establish(session.olm, lying, bot.folder, bot.password)
            await lying.close()
            assert SIGNATURES not in lying.calls


# -- what a homeserver may answer ---------------------------------------------------------------------------


@pytest_asyncio.fixture
async def server() -> AsyncIterator[AccountServer]:
    async with AccountServer() as running:
        yield running


@pytest_asyncio.fixture
async def started(server: AccountServer, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Trust]]]:
    session = await sign_in(Login(server.url, USER, PASSWORD), tmp_path)

    async def establish(password: str | None = PASSWORD, **more: Any) -> Trust:
        return await signing.establish(session.olm, session.homeserver, tmp_path, password, **more)

    yield establish
    await session.close()


async def test_a_homeserver_that_asks_for_the_password_gets_it(
    server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.proof = {"flows": [{"stages": ["m.login.sso"]}, {"stages": ["m.login.password"]}], "params": {}}
    with pytest.raises(Refused, match="LABBOT_MATRIX_PASSWORD"):
        await started(None)
    with pytest.raises(Refused, match="does not accept LABBOT_MATRIX_PASSWORD"):
        await started("wrong")
    assert server.signing == {}
    assert (await started()).trusted


@pytest.mark.parametrize("stage", ["m.oauth", "org.matrix.cross_signing_reset"])
async def test_a_homeserver_that_wants_an_approval_in_the_browser_says_where(
    stage: str, server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.proof = {
        "flows": [{"stages": [stage]}],
        "params": {stage: {"url": "https://auth.lab.test/account?action=reset"}},
    }
    with pytest.raises(Refused, match=r"open https://auth\.lab\.test/account\?action=reset as labbot's account"):
        await started()


@pytest.mark.parametrize(
    "proof",
    [
        {"flows": [{"stages": ["m.login.sso"]}]},
        {"flows": [{"stages": ["m.login.password", "m.login.terms"]}]},
        {"flows": [{"stages": ["m.oauth"]}], "params": {"m.oauth": {"url": "javascript:x"}}},
        {"flows": [{"stages": 7}, 7], "params": 7},
        {"flows": 7},
    ],
)
async def test_any_other_proof_is_an_operators_matter(
    proof: Json, server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.proof = proof
    with pytest.raises(Refused, match="a proof that labbot cannot give"):
        await started()


async def test_a_signature_that_is_not_taken_is_told(
    server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.failures = {USER: {only(server.devices): {"errcode": "M_INVALID_SIGNATURE", "error": "no"}}}
    with pytest.raises(Refused, match="M_INVALID_SIGNATURE"):
        await started()
    server.failures = {}
    assert (await started()).trusted


@pytest.mark.parametrize("path", ["/keys/query", UPLOAD, SIGNATURES])
@pytest.mark.parametrize("fault", [(502, b"<html>"), (200, b"{"), (429, {"retry_after_ms": 1})])
async def test_a_fault_is_waited_out(
    path: str, fault: tuple[int, Any], server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.faults[path] = answers(*fault)
    with pytest.raises(RetryLater):
        await started()
    server.faults.clear()
    assert (await started()).trusted


async def test_a_homeserver_without_cross_signing_does_not_stop_the_bot(
    server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.faults[UPLOAD] = answers(404, {"errcode": "M_UNRECOGNIZED"})
    said = await started()
    assert not said.trusted and "does not know cross-signing" in said.explanation
    server.faults = {"/keys/query": answers(400, {"errcode": "M_UNKNOWN"})}
    with pytest.raises(Refused, match="M_UNKNOWN"):
        await started()


async def test_a_master_key_that_cannot_be_understood_is_not_ours(
    server: AccountServer, started: Callable[..., Awaitable[Trust]]
) -> None:
    server.signing["master"] = {"keys": 7}
    with pytest.raises(Refused, match="that labbot does not hold"):
        await started()
    assert server.signing == {"master": {"keys": 7}}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"user_id": "@labbot:lab.test", "master": "AAAA"}', b'{"user_id": 7}', b"\xff"]
)
async def test_damaged_keys_are_told_and_left_as_they_are(
    content: bytes, server: AccountServer, started: Callable[..., Awaitable[Trust]], tmp_path: Path
) -> None:
    path = tmp_path / "signing.json"
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"signing\.json is damaged"):
        await started(reset=True)
    assert path.read_bytes() == content
    assert server.signing == {}


async def test_keys_of_another_account_are_not_used(
    server: AccountServer, started: Callable[..., Awaitable[Trust]], tmp_path: Path
) -> None:
    signing.SigningKeys.make("@other:lab.test").write(tmp_path / "signing.json")
    with pytest.raises(Refused, match=r"holds the keys of @other:lab\.test"):
        await started()
    assert server.signing == {}


# -- the device's own keys ----------------------------------------------------------------------------------


async def _claim(bot: Bot) -> tuple[str, Json]:
    """A key of the bot's device, as somebody gets one who wants to write to it."""
    answer = await bot.stranger.call(
        "POST", "/v3/keys/claim", {"one_time_keys": {bot.user_id: {bot.device_id: "signed_curve25519"}}}
    )
    name, key = only(answer["one_time_keys"][bot.user_id][bot.device_id].items())
    return name, key


async def _synced(bot: Bot, session: Session) -> Json:
    answer = await session.homeserver.call("GET", "/v3/sync", query={"timeout": "0", **bot.since})
    bot.since = {"since": answer["next_batch"]}  # or Synapse would tell the same again
    return answer


async def _refill(bot: Bot, session: Session) -> Json:
    """What a sync tells about our keys, before they are refilled."""
    answer = await _synced(bot, session)
    counts, unused = answer.get("device_one_time_keys_count"), answer.get("device_unused_fallback_key_types")
    await keys.refill(session.olm, session.homeserver, counts, unused)
    return answer


async def test_keys_are_refilled_when_none_is_left_and_a_fallback_key_serves_meanwhile(bot: Bot) -> None:
    async with bot.started() as session:
        claimed = [await _claim(bot) for _ in range(51)]
        assert len({key["key"] for _, key in claimed}) == 51
        assert [key.get("fallback", False) for _, key in claimed] == [False] * 50 + [True]
        assert (await _claim(bot))[1] == claimed[-1][1]  # the fallback key is not used up
        identity = session.olm.account.identity_keys
        for _, key in claimed:
            verify(key, bot.user_id, f"ed25519:{bot.device_id}", identity["ed25519"])

        told = await _refill(bot, session)
        assert told["device_one_time_keys_count"].get("signed_curve25519", 0) == 0
        assert told["device_unused_fallback_key_types"] == []
        told = await _synced(bot, session)
        assert told["device_one_time_keys_count"]["signed_curve25519"] == 50
        assert told["device_unused_fallback_key_types"] == ["signed_curve25519"]

    # And after a restart each of those keys still opens what somebody writes with it, the old fallback key too.
    async with bot.started() as session:
        for _, key in (claimed[0], claimed[-1], await _claim(bot)):
            _opens(session, key["key"])


def _opens(session: Session, key: str) -> None:
    """Somebody begins a conversation with this key, and the device understands the first message."""
    somebody = OlmAccount()
    begun = somebody.create_outbound_session(session.olm.account.identity_keys["curve25519"], key)
    message = begun.encrypt(b"hello")
    answered = session.olm.account.create_inbound_session(somebody.identity_keys["curve25519"], message)
    assert answered is not None


@pytest.mark.parametrize(
    ("counts", "uploads"),
    [
        (None, 1),
        ({}, 1),
        ({"curve25519": 50}, 1),
        ({"signed_curve25519": 0}, 1),
        ({"signed_curve25519": "many"}, 1),
        ({"signed_curve25519": 24}, 1),
        ({"signed_curve25519": 25}, 0),
        ({"signed_curve25519": 50}, 0),
        ({"signed_curve25519": 5000}, 0),
    ],
)
async def test_keys_are_refilled_below_half(counts: Any, uploads: int, server: AccountServer, tmp_path: Path) -> None:
    session = await sign_in(Login(server.url, USER, PASSWORD), tmp_path)
    before = server.count("/keys/upload")
    await keys.refill(session.olm, session.homeserver, counts)
    await keys.refill(session.olm, session.homeserver, {"signed_curve25519": 50}, ["signed_curve25519"])
    await session.close()
    assert server.count("/keys/upload") - before == uploads
    assert len(server.fallback[session.account.device_id]) == 1


async def test_a_refill_whose_answer_got_lost_is_repeated_with_the_same_keys(
    server: AccountServer, tmp_path: Path
) -> None:
    login = Login(server.url, USER, PASSWORD)
    session = await sign_in(login, tmp_path)
    device = session.account.device_id
    server.one_time[device].clear()
    server.cut = (len(server.calls) + 1, "after")
    with pytest.raises(RetryLater):
        await keys.refill(session.olm, session.homeserver, {}, [])
    await session.close()  # killed here
    server.cut = None
    uploaded, fallback = dict(server.one_time[device]), dict(server.fallback[device])
    assert (len(uploaded), len(fallback)) == (50, 2)
    session = await sign_in(login, tmp_path)
    await keys.refill(session.olm, session.homeserver, {}, [])
    for key in uploaded.values():
        _opens(session, key["key"])
    await session.close()
    assert server.one_time[device] == uploaded
    assert server.fallback[device] == fallback


async def test_an_older_copy_of_the_store_finds_new_names_for_its_keys(bot: Bot) -> None:
    async with bot.started():
        pass
    path = only(bot.folder.glob("crypto-*.db"))
    copied = path.read_bytes()
    async with bot.started() as session:
        for _ in range(40):
            await _claim(bot)
        await _refill(bot, session)
    path.write_bytes(copied)  # the server holds keys now that this copy has not made yet
    async with bot.started() as session:
        for _ in range(30):
            await _claim(bot)
        await _refill(bot, session)
        assert (await _synced(bot, session))["device_one_time_keys_count"]["signed_curve25519"] == 50
        for _ in range(20):
            await _claim(bot)
        for _ in range(30):
            _opens(session, (await _claim(bot))[1]["key"])


async def test_a_refill_that_is_refused_is_tried_later(server: AccountServer, tmp_path: Path) -> None:
    session = await sign_in(Login(server.url, USER, PASSWORD), tmp_path)
    server.faults["/keys/upload"] = answers(400, {"errcode": "M_INVALID_PARAM", "error": "no"})
    with pytest.raises(RetryLater, match="M_INVALID_PARAM"):
        await keys.refill(session.olm, session.homeserver, {})
    server.faults["/keys/upload"] = answers(400, {"errcode": "M_UNKNOWN", "error": "One time key x already exists."})
    with pytest.raises(RetryLater, match="by the names of ours"):
        await keys.refill(session.olm, session.homeserver, {})
    server.kill_tokens()
    server.faults.clear()
    with pytest.raises(Refused):
        await keys.refill(session.olm, session.homeserver, {})
    await session.close()


async def test_synapse_refuses_a_signature_that_is_wrong(bot: Bot) -> None:
    """The proof that the tests above prove something."""
    async with bot.started() as session:
        await signing.establish(session.olm, session.homeserver, bot.folder)
        other = signing.SigningKeys.make(bot.user_id)
        kept = signing.SigningKeys.read(bot.folder / "signing.json", bot.user_id)
        assert kept is not None
        mixed = signing.SigningKeys(bot.user_id, {**kept.private, "master": other.private["master"]})
        body = {
            "master_key": kept.object("master"),
            "self_signing_key": mixed.sign("master", kept.object("self_signing")),
        }
        with pytest.raises(Rejected):
            await session.homeserver.call("POST", UPLOAD, body)
