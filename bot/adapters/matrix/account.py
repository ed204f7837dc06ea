"""The account's login, kept on disk: one device, logged in once, with the crypto store that belongs to it."""

import secrets
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import structlog
from nio.crypto import Olm, OlmAccount

from bot.adapters.matrix import files, keys
from bot.adapters.matrix.discovery import locate
from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.adapters.matrix.values import fields, items, text
from bot.port import Refused, RetryLater

log = structlog.get_logger()

FILE = "account.json"
DISPLAY_NAME = "labbot"
"""What the account's own list of sessions calls our device."""

PICKLE_KEY = "labbot"
"""nio encrypts what it keeps; the key is no secret, the file's mode protects it."""

LOG_IN_AGAIN = "set LABBOT_MATRIX_USER and LABBOT_MATRIX_PASSWORD so that labbot can log in again"


@dataclass(frozen=True, slots=True)
class Login:
    """What the operator has set: LABBOT_MATRIX_HOMESERVER (a server's name or URL), _USER, and _PASSWORD or _TOKEN.

    A password needs a user; a token goes before a password.
    """

    homeserver: str
    user: str = ""
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept of a login. ``homeserver`` is as it was set, ``url`` where it was found.

    Without ``access_token`` it is a device that has been chosen and is not known to be logged in.
    """

    homeserver: str
    url: str
    user_id: str
    device_id: str
    access_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """A device that is logged in: what it is called, its keys, and the homeserver that knows it."""

    account: Account
    olm: Olm
    homeserver: Homeserver

    async def close(self) -> None:
        """Let go of the connections and of the crypto store's file."""
        await self.homeserver.close()
        self.olm.store.database.close()


async def sign_in(login: Login, folder: Path) -> Session:
    """Log in, or take up the stored login; the crypto store is open then, and its public keys on the server.

    ``folder`` is the data folder's ``matrix``. The password is used once; later the stored token and device are. A
    device is kept as long as its keys are held, also when its token has died; when they are not held any more,
    nobody could ever trust it again, and a new one takes its place. Raises ``Refused`` and ``RetryLater``.
    """
    files.prepare(folder)
    kept = _kept(login, folder)
    async with _reached(login, kept, folder) as server:
        account = await _identify(server, login, kept, folder)
        try:
            published = await _published(server, account, folder)
        except _Strange:
            account = await _renew(server, login, account, folder)
            published = await _published(server, account, folder)
    files.write(folder / FILE, asdict(account))
    session = Session(account, _open(account, folder), Homeserver(account.url, account.access_token))
    try:
        session.olm.account.shared = published
        await keys.publish(session.olm, session.homeserver)
    except BaseException:
        await session.close()
        raise
    return session


async def look(login: Login, folder: Path) -> Account | None:
    """The account as it is kept, once the homeserver has confirmed it. Changes nothing, here or there.

    None when the next start will log in: nothing is kept, or it has died. Raises ``Refused`` and ``RetryLater``.
    """
    kept = _kept(login, folder)
    async with _reached(login, kept, folder) as server:
        if login.token is not None:
            return await _by_token(server, login, kept, folder)
        if kept is not None and kept.access_token:
            try:
                return await _confirmed(server, login, kept)
            except Refused:
                if login.password is None:
                    raise
        if login.password is None:
            raise Refused(_nothing(folder))
        await _offers_passwords(server)
    return None


def identity(account: Account, folder: Path) -> Mapping[str, str] | None:
    """The device's public keys ("ed25519", "curve25519") by the crypto store, None when that does not hold them.

    Raises ``Refused`` when the store is damaged or another account's.
    """
    path = _store(folder, account.device_id)
    row = _row(path)
    if row is None:
        return None
    user_id, device_id, pickle = row
    if (user_id, device_id) != (account.user_id, account.device_id):
        raise Refused(
            f"LABBOT_DATA: the crypto store {path} belongs to {user_id} (device {device_id}), not to"
            f" {account.user_id} (device {account.device_id}); move it away."
        )
    try:
        return dict(OlmAccount.from_pickle(pickle, PICKLE_KEY).identity_keys)
    except (ValueError, AttributeError):
        raise Refused(_damaged(path)) from None


# -- what the operator has set ------------------------------------------------------------------------------


def _means(setting: str, user_id: str) -> bool:
    """Whether LABBOT_MATRIX_USER, a whole user id or its first part, is this account; none set is any."""
    wanted = setting.strip().casefold().removeprefix("@")
    whole = user_id.casefold().removeprefix("@")
    return not wanted or wanted == (whole if ":" in wanted else whole.partition(":")[0])


def _same(homeserver: str, other: str) -> bool:
    return homeserver.strip().rstrip("/").casefold() == other.strip().rstrip("/").casefold()


@asynccontextmanager
async def _reached(login: Login, kept: Account | None, folder: Path) -> AsyncIterator[Homeserver]:
    """The homeserver, where it answers now, and nobody logged in yet."""
    same = kept is not None and _same(kept.homeserver, login.homeserver)
    url = await locate(login.homeserver, kept.url if kept and kept.url and same else None)
    if kept and kept.access_token and not same and not _same(kept.url, url):
        raise Refused(
            f"LABBOT_MATRIX_HOMESERVER says {login.homeserver}, but the login stored in {folder / FILE} belongs to"
            f" {kept.homeserver}; set it back, or move the folder away to begin with another account."
        )
    server = Homeserver(url, "")
    try:
        yield server
    finally:
        await server.close()


def _nothing(folder: Path) -> str:
    return (
        f"LABBOT_MATRIX_PASSWORD is missing: no login is stored in {folder / FILE}, and LABBOT_MATRIX_TOKEN is not set"
        " either."
    )


# -- what is kept -------------------------------------------------------------------------------------------


def _kept(login: Login, folder: Path) -> Account | None:
    """The stored login; when that is lost, the device whose crypto store is still there."""
    path = folder / FILE
    try:
        content = files.read(path)
        account = None if content is None else Account(**content)
    except (files.Damaged, TypeError):
        if login.password is None and login.token is None:
            raise Refused(f"LABBOT_DATA: {path} is damaged; {LOG_IN_AGAIN}.") from None
        log.warning("matrix.login_damaged")
        account = None
    if account is not None and _means(login.user, account.user_id):
        return account
    if account is not None and account.access_token:
        raise Refused(
            f"LABBOT_MATRIX_USER says {login.user}, but the login stored in {path} belongs to {account.user_id}; set"
            " it back, or move the folder away to begin with another account."
        )
    return _by_store(login, folder)


def _by_store(login: Login, folder: Path) -> Account | None:
    """The device whose crypto store was used last."""
    stores = sorted(folder.glob("crypto-*.db"), key=lambda path: path.stat().st_mtime, reverse=True)
    owners = [row[:2] for path in stores if (row := _row(path)) is not None]
    for user_id, device_id in owners:
        if _means(login.user, user_id):
            return Account(login.homeserver, "", user_id, device_id)
    if owners:
        raise Refused(
            f"LABBOT_MATRIX_USER says {login.user}, but the crypto store in {folder} belongs to {owners[0][0]}; set it"
            " back, or move the folder away to begin with another account."
        )
    return None


def _store(folder: Path, device_id: str) -> Path:
    """A device's crypto store. One file each: in a shared one, nio keeps a room's key for the first device only."""
    return folder / f"crypto-{quote(device_id, safe='')}.db"


def _row(path: Path) -> tuple[str, str, bytes] | None:
    """User id, device id and pickled keys of a crypto store. Raises ``Refused`` when it is damaged."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", timeout=1, uri=True)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'accounts'").fetchone():
                return None
            row: tuple[str, str, bytes] | None = database.execute(
                "SELECT user_id, device_id, account FROM accounts"
            ).fetchone()
            return row
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise RetryLater(1, "the crypto store is being written to") from None
        raise Refused(_damaged(path)) from None


def _damaged(path: Path) -> str:
    return (
        f"LABBOT_DATA: the crypto store {path} cannot be read, it is damaged; bring back a copy, or move it away and"
        f" {LOG_IN_AGAIN}."
    )


def _open(account: Account, folder: Path) -> Olm:
    path = _store(folder, account.device_id)
    try:
        path.touch(mode=0o600)  # before nio makes it; its journals take the same mode
        path.chmod(0o600)
        store = keys.KeyStore(account.user_id, account.device_id, str(folder), PICKLE_KEY, path.name)
    except OSError as error:
        raise Refused(f"LABBOT_DATA: {path} cannot be used: {error.strerror}.") from None
    except Exception as error:  # the library's, its database's: whatever it is, it cannot be read
        log.warning("matrix.store_damaged", error=type(error).__name__)
        raise Refused(_damaged(path)) from None
    try:
        return keys.Machine(account.user_id, account.device_id, store)
    except Exception as error:
        store.database.close()
        log.warning("matrix.store_damaged", error=type(error).__name__)
        raise Refused(_damaged(path)) from None


# -- who we are ---------------------------------------------------------------------------------------------


class _Strange(Exception):
    """The device's keys on the server are not those that are held here."""


async def _identify(server: Homeserver, login: Login, kept: Account | None, folder: Path) -> Account:
    """The account, logged in at ``server``."""
    if login.token is not None:
        return await _by_token(server, login, kept, folder)
    if kept is not None and kept.access_token:
        try:
            return await _confirmed(server, login, kept)
        except Refused:
            if login.password is None:
                raise
            log.warning("matrix.token_dead")
    if login.password is None:
        raise Refused(_nothing(folder))
    if kept is not None and kept.access_token and _row(_store(folder, kept.device_id)) is None:
        kept = None  # its keys are lost: the same name with other keys would be trusted by nobody
    return await _log_in(server, login, folder, kept.device_id if kept else None)


async def _whoami(server: Homeserver, token: str) -> tuple[str, str]:
    """User and device of a token. Raises ``Refused`` and ``Rejected`` for one that is dead."""
    server.token = token
    answer = await server.call("GET", segments("v3", "account", "whoami"))
    return text(answer.get("user_id")), text(answer.get("device_id"))


async def _by_token(server: Homeserver, login: Login, kept: Account | None, folder: Path) -> Account:
    token = login.token or ""
    try:
        user_id, device_id = await _whoami(server, token)
    except (Refused, Rejected):
        raise Refused("Matrix does not accept LABBOT_MATRIX_TOKEN; give the token of a new login.") from None
    if not device_id:
        raise Refused("LABBOT_MATRIX_TOKEN belongs to no device; give the token of a login.")
    if not _means(login.user, user_id):
        raise Refused(f"LABBOT_MATRIX_USER says {login.user}, but LABBOT_MATRIX_TOKEN belongs to {user_id}.")
    if kept is not None and kept.user_id != user_id:
        raise Refused(
            f"LABBOT_MATRIX_TOKEN belongs to {user_id}, but {folder} to {kept.user_id}; set it back, or move the folder"
            " away to begin with another account."
        )
    return Account(login.homeserver, server.url, user_id, device_id, token)


async def _confirmed(server: Homeserver, login: Login, kept: Account) -> Account:
    try:
        whose = await _whoami(server, kept.access_token)
    except (Refused, Rejected) as error:
        raise Refused(f"Matrix has ended the login of {kept.user_id}; {LOG_IN_AGAIN}.") from error
    if whose != (kept.user_id, kept.device_id):
        raise Refused(f"LABBOT_DATA: the stored token is not of {kept.user_id}; {LOG_IN_AGAIN}.")
    return replace(kept, homeserver=login.homeserver, url=server.url)


async def _log_in(server: Homeserver, login: Login, folder: Path, device_id: str | None = None) -> Account:
    """Log in by password, as this device or a new one.

    The device is chosen here and written down first: whatever happens to the answer, the next try logs the same one
    in, and the account's list of sessions does not fill up.
    """
    user = login.user.strip()
    chosen = Account(login.homeserver, server.url, user, device_id or secrets.token_hex(5).upper())
    files.write(folder / FILE, asdict(chosen))
    server.token = ""
    try:
        answer = await server.call(
            "POST",
            segments("v3", "login"),
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": user},
                "password": login.password,
                "device_id": chosen.device_id,
                "initial_device_display_name": DISPLAY_NAME,
            },
        )
    except Refused:
        raise Refused(f"LABBOT_MATRIX_USER: the account {user} is deactivated.") from None
    except Rejected as error:
        await _offers_passwords(server)
        if error.code == "M_FORBIDDEN":
            raise Refused(
                f"Matrix does not accept LABBOT_MATRIX_USER {user} with this LABBOT_MATRIX_PASSWORD."
            ) from None
        raise Refused(f"LABBOT_MATRIX_USER: the homeserver does not let {user} log in ({error}).") from None
    names = [text(answer.get(name)) for name in ("user_id", "device_id", "access_token")]
    if not all(names):
        raise RetryLater(60, "the homeserver's answer to the login is not complete")
    account = Account(login.homeserver, server.url, *names)
    if not _means(user, account.user_id):
        raise Refused(f"LABBOT_MATRIX_USER says {user}, but the homeserver logged in {account.user_id}.")
    files.write(folder / FILE, asdict(account))
    server.token = account.access_token
    return account


async def _renew(server: Homeserver, login: Login, account: Account, folder: Path) -> Account:
    """Log in as a new device, and the one whose keys are lost out."""
    if login.token is not None:
        raise Refused(
            f"LABBOT_MATRIX_TOKEN is of device {account.device_id}, whose keys labbot does not hold (another program"
            " uses it, or the crypto store is lost); give the token of a new login, or LABBOT_MATRIX_PASSWORD instead."
        )
    if login.password is None:
        raise Refused(
            f"LABBOT_DATA: the keys of labbot's device {account.device_id} are lost, and nobody can trust it again;"
            f" {LOG_IN_AGAIN}, as a new device."
        )
    log.warning("matrix.device_lost", device=account.device_id)
    fresh = await _log_in(server, login, folder)
    server.token = account.access_token
    with suppress(Rejected, Refused, RetryLater):  # it stays in the list of sessions then, no harm
        await server.call("POST", segments("v3", "logout"))
    server.token = fresh.access_token
    return fresh


async def _published(server: Homeserver, account: Account, folder: Path) -> bool:
    """Whether the server has the device's keys. Raises ``_Strange`` when they are not ours."""
    held = identity(account, folder)
    try:
        answer = await keys.query(server, account.user_id)
    except Rejected as error:
        raise Refused(f"The homeserver does not tell the keys of labbot's device ({error}).") from None
    theirs = fields(answer, "device_keys", account.user_id, account.device_id, "keys")
    ours = {f"{kind}:{account.device_id}": key for kind, key in (held or {}).items()}
    if theirs and theirs != ours:
        raise _Strange
    return bool(theirs)


async def _offers_passwords(server: Homeserver) -> None:
    """Raises ``Refused`` when the homeserver has no login by password."""
    answer = await server.call("GET", segments("v3", "login"))
    ways = [text(fields(flow).get("type")) for flow in items(answer.get("flows"))]
    if "m.login.password" not in ways:
        raise Refused(
            "LABBOT_MATRIX_PASSWORD: the homeserver has no login by password"
            f" ({', '.join(ways)[:200] or 'none at all'}); set LABBOT_MATRIX_TOKEN instead."
        )
