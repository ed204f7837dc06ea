"""A real homeserver of our own: Synapse as a process on loopback, with everything it knows in one folder.

In a test, with the fixture that starts one for the whole session:

    bot = await synapse.newcomer("labbot")
    anna = await synapse.newcomer("anna")

or one with the rates that Synapse has by itself, to be killed and started again:

    with Synapse(tmp_path, limited=True) as synapse:
        bot = await synapse.register("labbot")
        synapse.kill()
        synapse.start()
"""

import base64
import hashlib
import hmac
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

PYTHON: Final = Path(__file__).parent.parent.parent / ".venv-synapse" / "bin" / "python"
"""What runs it: an environment of its own, made by `make test`."""

STARTS_WITHIN: Final = 60.0
"""Seconds until it answers; only a fault takes so long."""

# It ends with whoever started it, however that ends: the pipe to its input closes by itself.
_PROGRAM: Final = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from synapse.app.homeserver import main
main()
"""

_PLENTY: Final = {"per_second": 100_000, "burst_count": 100_000}

_UNLIMITED: Final[dict[str, Any]] = {
    "rc_message": _PLENTY,
    "rc_joins": {"local": _PLENTY, "remote": _PLENTY},
    "rc_joins_per_room": _PLENTY,
    "rc_invites": {"per_room": _PLENTY, "per_user": _PLENTY, "per_issuer": _PLENTY},
    "rc_room_creation": _PLENTY,
    "rc_key_requests": _PLENTY,
    "rc_media_create": _PLENTY,
}


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who is registered, and the device that came with it."""

    user_id: str
    password: str
    token: str
    device_id: str


class Synapse:
    """One homeserver. Its rates are raised, or with ``limited`` those of Synapse itself but for login and registration.

    It keeps its data and its port for as long as the object lives, so it is the same homeserver after a restart.
    """

    name: Final = "lab.test"

    def __init__(self, folder: Path, *, limited: bool = False) -> None:
        self.folder = folder
        self._limited = limited
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._secret = secrets.token_hex()
        self._numbers = itertools.count(1)
        self._administrator: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    def _configure(self) -> None:
        (self.folder / "media").mkdir()
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (self.folder / "signing.key").write_text(f"ed25519 a_test {seed}\n")
        log = {
            "version": 1,
            "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "plain"}},
            "root": {"level": "WARNING", "handlers": ["err"]},
        }
        (self.folder / "log.json").write_text(json.dumps(log))
        # YAML is a superset of JSON.
        (self.folder / "homeserver.yaml").write_text(json.dumps(self._settings()))

    def _settings(self) -> dict[str, Any]:
        return {
            "server_name": self.name,
            "public_baseurl": f"{self.url}/",
            "listeners": [
                {
                    "port": self.port,
                    "bind_addresses": ["127.0.0.1"],
                    "type": "http",
                    "resources": [{"names": ["client", "media"]}],
                }
            ],
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "homeserver.db")}},
            "media_store_path": str(self.folder / "media"),
            "signing_key_path": str(self.folder / "signing.key"),
            "log_config": str(self.folder / "log.json"),
            "registration_shared_secret": self._secret,
            "macaroon_secret_key": self._secret,
            "form_secret": self._secret,
            "bcrypt_rounds": 4,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "url_preview_enabled": False,
            "presence": {"enabled": False},
            "report_stats": False,
            "user_directory": {"enabled": False},
            # People come and go in tests as nowhere else.
            "rc_login": {"address": _PLENTY, "account": _PLENTY, "failed_attempts": _PLENTY},
            "rc_registration": _PLENTY,
            **({} if self._limited else _UNLIMITED),
        }

    # -- running --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and return when it answers."""
        # Synapse tells systemd when it listens, and here this is systemd; a socket's path is short.
        folder = tempfile.mkdtemp(prefix="synapse-")
        try:
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
                (self.folder / "synapse.log").open("ab") as log,
            ):
                ready.bind(f"{folder}/ready")
                ready.settimeout(0.2)
                self._process = subprocess.Popen(
                    [PYTHON, "-c", _PROGRAM, "--config-path", self.folder / "homeserver.yaml"],
                    cwd=self.folder,
                    env={"PATH": os.environ.get("PATH", ""), "NOTIFY_SOCKET": f"{folder}/ready"},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the terminal's Ctrl-C is not meant for it
                )
                self._await(ready, self._process)
        finally:
            shutil.rmtree(folder)

    def _await(self, ready: socket.socket, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                if b"READY=1" in ready.recv(1024):
                    return
            except TimeoutError:
                if process.poll() is None and time.monotonic() < until:
                    continue
                self.kill()
                raise RuntimeError(f"Synapse did not start:\n{self.log[-4000:]}") from None

    def stop(self) -> None:
        """Stop it as an operator does."""
        self._end(graceful=True)

    def kill(self) -> None:
        """Kill it in the middle of whatever it does."""
        self._end(graceful=False)

    def _end(self, *, graceful: bool) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        if graceful:
            self._process.terminate()
        else:
            self._process.kill()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None, "Synapse does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """Its warnings and errors so far."""
        return (self.folder / "synapse.log").read_text(encoding="utf-8", errors="replace")

    # -- who is there ---------------------------------------------------------------------------------------

    async def newcomer(self, name: str) -> Account:
        """Somebody new with a name like this; any number of tests can ask for the same name."""
        return await self.register(f"{name}.{next(self._numbers)}")

    async def register(self, localpart: str, *, admin: bool = False) -> Account:
        """Somebody with just this name. Raises AssertionError when it is taken."""
        password = secrets.token_urlsafe()
        path = "/_synapse/admin/v1/register"
        nonce = (await self._call("GET", path))["nonce"]
        words = (nonce, localpart, password, "admin" if admin else "notadmin")
        mac = hmac.new(self._secret.encode(), "\0".join(words).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": localpart, "password": password, "admin": admin, "mac": mac}
        answer = await self._call("POST", path, body)
        return Account(answer["user_id"], password, answer["access_token"], answer["device_id"])

    async def lift_limits(self, user_id: str) -> None:
        """No rates for this account, as an administrator grants it."""
        await self.administer(
            "POST", f"/_synapse/admin/v1/users/{user_id}/override_ratelimit", messages_per_second=0, burst_count=0
        )

    async def administer(self, method: str, path: str, **body: Any) -> Any:
        """Do something as the server's administrator: its answer."""
        if self._administrator is None:
            self._administrator = await self.register("administrator", admin=True)
        return await self._call(method, path, body or None, self._administrator.token)

    async def _call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            answer = await response.json()
            assert response.status == 200, f"{method} {path}: {response.status} {answer}"
            return answer
