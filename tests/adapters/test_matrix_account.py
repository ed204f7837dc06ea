"""The Matrix account's login: kept, taken up again, and every way in which it can be lost."""

import io
import json
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from structlog.testing import capture_logs

from bot import log as logs
from bot.adapters.matrix import account, discovery, files
from bot.adapters.matrix.account import Login, Session, sign_in
from bot.port import Refused, RetryLater
from tests.adapters.account_server import PASSWORD, USER, AccountServer, answers


@pytest_asyncio.fixture
async def server() -> AsyncIterator[AccountServer]:
    async with AccountServer() as running:
        yield running


@pytest.fixture
def login(server: AccountServer) -> Login:
    return Login(server.url, USER, PASSWORD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "matrix"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged at the level "debug"."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in logs.QUIET}
    logs.configure("json", "debug")
    stream = io.StringIO()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


async def start(login: Login, folder: Path) -> Session:
    """A start and a stop; what it was in between."""
    session = await sign_in(login, folder)
    await session.close()
    return session


async def refusal(login: Login, folder: Path) -> str:
    with pytest.raises(Refused) as refused:
        await start(login, folder)
    return str(refused.value)


def keys_of(session: Session) -> dict[str, str]:
    return dict(session.olm.account.identity_keys)


def store_of(session: Session, folder: Path) -> Path:
    return folder / f"crypto-{session.account.device_id}.db"


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# -- what goes well -----------------------------------------------------------------------------------------


async def test_the_password_is_used_once_and_later_the_stored_login(
    server: AccountServer, login: Login, folder: Path
) -> None:
    first = await start(login, folder)
    later = await start(login, folder)
    without = await start(Login(server.url), folder)
    assert server.count("/login") == 1
    assert first.account == later.account == without.account
    assert keys_of(first) == keys_of(later) == keys_of(without)
    assert list(server.devices) == [first.account.device_id]
    assert len(server.one_time[first.account.device_id]) == 50
    assert len(server.fallback[first.account.device_id]) == 1


async def test_secrets_are_for_this_user_only(login: Login, folder: Path) -> None:
    folder.mkdir(mode=0o777)
    session = await sign_in(login, folder)
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in folder.iterdir()} == {"account.json", store_of(session, folder).name}
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    finally:
        await session.close()


async def test_a_first_part_of_the_user_id_is_enough(server: AccountServer, folder: Path) -> None:
    assert (await start(Login(server.url, "labbot", PASSWORD), folder)).account.user_id == USER
    assert (await start(Login(server.url, "@Labbot"), folder)).account.user_id == USER
    assert "LABBOT_MATRIX_USER says lab," in await refusal(Login(server.url, "lab"), folder)


async def test_a_given_token_says_who_we_are(server: AccountServer, folder: Path) -> None:
    server.tokens["given"] = "GIVEN"
    session = await start(Login(server.url, token="given"), folder)
    assert (session.account.user_id, session.account.device_id) == (USER, "GIVEN")
    assert server.count("/login") == 0
    assert (await start(Login(server.url), folder)).account == session.account


async def test_neither_token_nor_password_is_logged_or_shown(server: AccountServer, login: Login, folder: Path) -> None:
    stream = io.StringIO()
    logs.configure("json", "debug")
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    session = await start(login, folder)
    server.kill_tokens()
    await start(login, folder)
    server.kill_tokens()
    shown = stream.getvalue() + repr((login, session)) + await refusal(Login(server.url), folder)
    assert "matrix.token_dead" in shown
    assert "canary" not in shown
    assert PASSWORD not in shown


# -- what an operator has set wrongly -----------------------------------------------------------------------


async def test_without_password_token_or_stored_login_it_says_what_is_missing(
    server: AccountServer, folder: Path
) -> None:
    assert (await refusal(Login(server.url, USER), folder)).startswith("LABBOT_MATRIX_PASSWORD is missing")


async def test_a_wrong_password_is_named_and_corrected_without_a_second_device(
    server: AccountServer, login: Login, folder: Path
) -> None:
    said = await refusal(replace(login, password="wrong"), folder)
    assert "LABBOT_MATRIX_PASSWORD" in said and USER in said and "wrong" not in said
    await refusal(replace(login, user="@labot:lab.test"), folder)  # a slip of the pen must not bind the folder
    await start(login, folder)
    assert len(server.devices) == 1


async def test_a_homeserver_without_login_by_password_asks_for_a_token(
    server: AccountServer, login: Login, folder: Path
) -> None:
    server.flows = ["m.login.sso", "m.login.token"]
    said = await refusal(login, folder)
    assert "no login by password (m.login.sso, m.login.token)" in said and "LABBOT_MATRIX_TOKEN" in said
    with pytest.raises(Refused, match=r"m\.login\.sso"):
        await account.look(login, folder)


async def test_a_deactivated_account_is_named(server: AccountServer, login: Login, folder: Path) -> None:
    server.faults["/login"] = answers(403, {"errcode": "M_USER_DEACTIVATED"})
    assert "is deactivated" in await refusal(login, folder)


async def test_a_stored_login_of_another_account_is_not_used(server: AccountServer, login: Login, folder: Path) -> None:
    session = await start(login, folder)
    before = everything_in(folder)
    said = await refusal(Login(server.url, "@other:lab.test", PASSWORD), folder)
    assert said.startswith("LABBOT_MATRIX_USER says @other:lab.test") and USER in said and str(folder) in said
    async with AccountServer() as other:
        said = await refusal(replace(login, homeserver=other.url), folder)
        assert said.startswith(f"LABBOT_MATRIX_HOMESERVER says {other.url}") and server.url in said
        assert session.account.access_token not in other.tokens_seen
    assert everything_in(folder) == before


async def test_a_given_token_must_be_of_the_account_and_alive(
    server: AccountServer, login: Login, folder: Path
) -> None:
    server.tokens["given"] = "GIVEN"
    said = await refusal(Login(server.url, "@other:lab.test", token="given"), folder)
    assert said == f"LABBOT_MATRIX_USER says @other:lab.test, but LABBOT_MATRIX_TOKEN belongs to {USER}."
    assert "does not accept LABBOT_MATRIX_TOKEN" in await refusal(Login(server.url, token="dead"), folder)
    server.faults["/whoami"] = answers(200, {"user_id": USER})
    assert "belongs to no device" in await refusal(Login(server.url, token="given"), folder)
    server.faults.clear()
    await start(login, folder)
    server.faults["/whoami"] = answers(200, {"user_id": "@other:lab.test", "device_id": "X"})
    assert "LABBOT_MATRIX_TOKEN belongs to @other:lab.test, but" in await refusal(
        Login(server.url, token="given"), folder
    )


async def test_a_token_of_another_programs_device_is_refused(server: AccountServer, folder: Path) -> None:
    server.tokens["given"] = "ELEMENT"
    server.devices["ELEMENT"] = {"keys": {"ed25519:ELEMENT": "theirs", "curve25519:ELEMENT": "theirs"}}
    said = await refusal(Login(server.url, token="given"), folder)
    assert "LABBOT_MATRIX_TOKEN is of device ELEMENT" in said
    assert server.tokens == {"given": "ELEMENT"}
    assert server.one_time == {}


# -- what gets lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True], ids=["logged out", "deleted"])
async def test_a_dead_token_is_replaced_for_the_same_device(
    deleted: bool, server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    server.kill_tokens(devices=deleted)
    assert "LABBOT_MATRIX_PASSWORD" in await refusal(Login(server.url, USER), folder)
    again = await start(login, folder)
    device = session.account.device_id
    assert again.account.device_id == device
    assert again.account.access_token != session.account.access_token
    assert keys_of(again) == keys_of(session)
    assert server.devices[device]["keys"] == {f"{kind}:{device}": key for kind, key in keys_of(session).items()}
    assert len(server.one_time[device]) == 50


async def test_a_lost_crypto_store_makes_a_new_device_of_us(server: AccountServer, login: Login, folder: Path) -> None:
    session = await start(login, folder)
    store_of(session, folder).unlink()
    before = everything_in(folder)
    assert "are lost" in await refusal(Login(server.url), folder)
    assert everything_in(folder) == before
    again = await start(login, folder)
    assert again.account.device_id != session.account.device_id
    assert list(server.devices) == [again.account.device_id]
    assert list(server.tokens) == [again.account.access_token]
    assert (await start(Login(server.url), folder)).account == again.account


async def test_a_lost_crypto_store_and_a_dead_token_make_a_new_device_too(
    server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    store_of(session, folder).unlink()
    server.kill_tokens(devices=True)
    # People's clients have seen the old name with other keys.
    assert (await start(login, folder)).account.device_id != session.account.device_id


async def test_a_device_with_other_keys_on_the_server_is_given_up(
    server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    device = session.account.device_id
    server.devices[device]["keys"][f"ed25519:{device}"] = "another"
    assert "are lost" in await refusal(Login(server.url), folder)
    assert (await start(login, folder)).account.device_id != device


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"homeserver": "x"}', b'{"a": 1}', b"1" * 70_000])
async def test_a_damaged_login_is_made_anew_for_the_same_device(
    content: bytes, server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    (folder / "account.json").write_bytes(content)
    assert "account.json is damaged" in await refusal(Login(server.url, USER), folder)
    again = await start(login, folder)
    assert again.account.device_id == session.account.device_id
    assert keys_of(again) == keys_of(session)


async def test_a_login_cut_short_anywhere_is_noticed(server: AccountServer, login: Login, folder: Path) -> None:
    await start(login, folder)
    path = folder / "account.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(files.Damaged):
            files.read(path)
    path.write_bytes(whole)
    assert files.read(path) == json.loads(whole)


async def test_a_login_that_is_gone_is_made_anew_for_the_device_of_the_store(
    server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    (folder / "account.json").unlink()
    assert "belongs to @labbot" in await refusal(Login(server.url, "@other:lab.test", PASSWORD), folder)
    assert (await start(login, folder)).account.device_id == session.account.device_id


async def test_a_store_of_another_device_is_not_used(server: AccountServer, login: Login, folder: Path) -> None:
    session = await start(login, folder)
    shutil.copy(store_of(session, folder), folder / "crypto-GIVEN.db")
    server.tokens["given"] = "GIVEN"
    said = await refusal(Login(server.url, token="given"), folder)
    assert "crypto-GIVEN.db belongs to @labbot:lab.test" in said and session.account.device_id in said


@pytest.mark.parametrize("damage", ["not a database", "pickle", "half"])
async def test_a_damaged_store_is_named_and_left_as_it_is(
    damage: str, server: AccountServer, login: Login, folder: Path
) -> None:
    session = await start(login, folder)
    path = store_of(session, folder)
    match damage:
        case "not a database":
            path.write_bytes(b"not a database" * 1000)
        case "pickle":
            with sqlite3.connect(path) as database:
                database.execute("UPDATE accounts SET account = ?", (b"nothing",))
            database.close()
        case "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = path.read_bytes()
    said = await refusal(login, folder)
    assert f"the crypto store {path} cannot be read, it is damaged" in said
    assert path.read_bytes() == before
    assert list(server.tokens) == [session.account.access_token]


async def test_a_store_that_is_being_written_to_is_not_damaged(login: Login, folder: Path) -> None:
    session = await start(login, folder)
    busy = sqlite3.connect(store_of(session, folder), isolation_level=None)
    busy.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RetryLater):
            account.identity(session.account, folder)
    finally:
        busy.close()


async def test_whatever_moment_a_start_ends_at_the_next_has_one_device_with_its_keys(tmp_path: Path) -> None:
    number = 0
    ended = 0
    while ended < 2:
        number += 1
        ended = 0
        for moment in ("before", "after"):
            folder = tmp_path / f"{number}-{moment}"
            async with AccountServer() as server:
                login = Login(server.url, USER, PASSWORD)
                server.cut = (number, moment)
                try:
                    await start(login, folder)
                    ended += 1
                except RetryLater:
                    pass
                server.cut = None
                session = await start(login, folder)
                device = session.account.device_id
                assert list(server.tokens.values()) == [device], (number, moment)
                assert server.devices[device]["keys"][f"ed25519:{device}"] == keys_of(session)["ed25519"]
                assert len(server.one_time[device]) == 50, (number, moment)
    assert number > 5


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        ((502, b"<html>Bad gateway</html>"), 0),
        ((200, b'{"versions": ['), 0),
        ((200, b"[]"), 0),
        ((429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 7000}), 7),
    ],
    ids=["502", "cut", "no object", "429"],
)
@pytest.mark.parametrize("path", ["/login", "/whoami", "/keys/query", "/keys/upload"])
async def test_a_fault_of_the_homeserver_is_waited_out(
    path: str, fault: tuple[int, Any], after: float, server: AccountServer, login: Login, folder: Path
) -> None:
    if path != "/login":
        await start(login, folder)
    server.faults[path] = answers(*fault)
    with pytest.raises(RetryLater) as later:
        await start(login, folder)
    assert later.value.after >= after
    server.faults.clear()
    await start(login, folder)
    assert len(server.devices) == 1


async def test_keys_that_the_homeserver_does_not_take_are_an_operators_matter(
    server: AccountServer, login: Login, folder: Path
) -> None:
    server.faults["/keys/upload"] = answers(400, {"errcode": "M_INVALID_PARAM", "error": "no"})
    assert "does not take the keys" in await refusal(login, folder)


async def test_a_folder_that_cannot_be_used_is_named(login: Login, tmp_path: Path) -> None:
    (tmp_path / "matrix").write_text("a file")
    assert (await refusal(login, tmp_path / "matrix")).startswith("LABBOT_DATA: ")


# -- a look that changes nothing ----------------------------------------------------------------------------


async def test_a_look_changes_nothing(server: AccountServer, login: Login, folder: Path) -> None:
    assert await account.look(login, folder) is None
    assert not folder.exists()
    assert server.tokens == {}
    session = await start(login, folder)
    before, state = everything_in(folder), (dict(server.tokens), dict(server.devices))
    seen = await account.look(Login(server.url), folder)
    assert seen == session.account
    assert account.identity(session.account, folder) == keys_of(session)
    server.kill_tokens()
    with pytest.raises(Refused, match="has ended the login"):
        await account.look(Login(server.url), folder)
    assert await account.look(login, folder) is None
    assert everything_in(folder) == before
    assert server.devices == state[1]
    assert server.count("POST /_matrix/client/v3/login") == 1


async def test_a_look_needs_something_to_log_in_with(server: AccountServer, folder: Path) -> None:
    with pytest.raises(Refused, match="LABBOT_MATRIX_PASSWORD is missing"):
        await account.look(Login(server.url, USER), folder)


async def test_a_look_takes_a_given_token(server: AccountServer, folder: Path) -> None:
    server.tokens["given"] = "GIVEN"
    seen = await account.look(Login(server.url, token="given"), folder)
    assert seen is not None and seen.device_id == "GIVEN"
    assert account.identity(seen, folder) is None


# -- where the homeserver is --------------------------------------------------------------------------------


async def test_an_address_is_taken_as_it_is(server: AccountServer) -> None:
    assert await discovery.locate(f" {server.url}/ ") == server.url
    assert server.calls == ["GET /_matrix/client/versions"]


@pytest.mark.parametrize(
    "homeserver",
    [
        "https://",
        "ftp://lab.test",
        "lab test",
        "https://lab.test?x",
        "https://u:p@lab.test",
        "lab.test:0",
        "http://[::1",
    ],
)
async def test_what_is_no_address_is_refused(homeserver: str) -> None:
    with pytest.raises(Refused, match=r"LABBOT_MATRIX_HOMESERVER: .* leads to no homeserver"):
        await discovery.locate(homeserver)


async def test_a_name_is_looked_up(server: AccountServer) -> None:
    server.faults["/.well-known/matrix/client"] = answers(200, {"m.homeserver": {"base_url": f"{server.url}/"}})
    assert await discovery.locate("lab.test", well_known=server.url) == server.url


@pytest.mark.parametrize(
    "found",
    [
        (200, b"<html>"),
        (200, {"m.homeserver": {"base_url": 7}}),
        (200, {"m.homeserver": {"base_url": "nonsense"}}),
        (500, b""),
    ],
)
async def test_a_name_that_leads_nowhere_is_refused(found: tuple[int, Any], server: AccountServer) -> None:
    server.faults["/.well-known/matrix/client"] = answers(*found)
    with pytest.raises(Refused, match="LABBOT_MATRIX_HOMESERVER"):
        await discovery.locate("lab.test", well_known=server.url)


async def test_a_name_without_a_look_up_is_the_homeserver_itself(server: AccountServer) -> None:
    server.faults["/.well-known/matrix/client"] = answers(404, b"<html>")
    with pytest.raises(RetryLater, match="localhost:1 is not reached"):  # that is where it went
        await discovery.locate("localhost:1", well_known=server.url)


async def test_what_was_found_before_serves_while_the_name_does_not_answer(server: AccountServer) -> None:
    nowhere = "http://127.0.0.1:1"
    assert await discovery.locate("lab.test", server.url, well_known=nowhere) == server.url
    with pytest.raises(RetryLater):
        await discovery.locate("lab.test", well_known=nowhere)


@pytest.mark.parametrize("fault", [(404, b"<html>"), (200, b"<html>"), (200, {"versions": 1}), (200, b"x" * 2_000_000)])
async def test_an_address_where_no_homeserver_answers_is_refused(fault: tuple[int, Any], server: AccountServer) -> None:
    server.faults["/versions"] = answers(*fault)
    with pytest.raises(Refused, match="no Matrix homeserver answers"):
        await discovery.locate(server.url)


async def test_a_homeserver_that_is_down_is_waited_for(server: AccountServer) -> None:
    server.faults["/versions"] = answers(503, b"")
    with pytest.raises(RetryLater):
        await discovery.locate(server.url)


# -- files --------------------------------------------------------------------------------------------------


def test_a_file_that_was_left_half_written_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.with_name("kept.json.new").write_bytes(b"half")
    path.with_name("kept.json.new").chmod(0o644)
    files.write(path, {"a": "b"})
    assert files.read(path) == {"a": "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.mkdir()
    with pytest.raises(Refused, match=r"kept\.json cannot be read"):
        files.read(path)
    with pytest.raises(Refused, match=r"kept\.json cannot be written"):
        files.write(path, {})


async def test_a_warning_says_that_a_device_was_lost(server: AccountServer, login: Login, folder: Path) -> None:
    session = await start(login, folder)
    store_of(session, folder).unlink()
    with capture_logs() as lines:
        await start(login, folder)
    assert {"event": "matrix.device_lost", "log_level": "warning", "device": session.account.device_id} in lines
