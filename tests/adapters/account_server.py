"""A homeserver that knows logins and keys and nothing else, for the faults that a real one does not have.

It believes what it is told: whether signatures are right, Synapse says.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web

USER = "@labbot:lab.test"
PASSWORD = "correct horse"

Handler = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


class AccountServer:
    """One account. ``calls`` are the calls so far, ``faults`` what is answered instead, by the path's end.

    ``cut`` breaks every connection from the call of this number on, ``"before"`` or ``"after"`` that had its effect.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[str] = []
        self.tokens_seen: list[str] = []
        self.tokens: dict[str, str] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.one_time: dict[str, dict[str, Any]] = {}
        self.fallback: dict[str, dict[str, Any]] = {}
        self.signing: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, Callable[[], web.StreamResponse]] = {}
        self.flows: list[str] = ["m.login.password"]
        self.proof: dict[str, Any] | None = None
        self.failures: dict[str, Any] = {}
        self.cut: tuple[int, str] | None = None
        self._logins = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def count(self, ending: str) -> int:
        return sum(call.endswith(ending) for call in self.calls)

    def kill_tokens(self, *, devices: bool = False) -> None:
        """End every login; with ``devices`` their keys go too, as when an administrator deletes them."""
        self.tokens.clear()
        if devices:
            self.devices.clear()
            self.one_time.clear()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.calls.append(f"{request.method} {path}")
        self.tokens_seen.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        number, moment = self.cut or (0, "")
        if self.cut and len(self.calls) >= number + (moment == "after"):
            return self._break(request)
        for ending, fault in self.faults.items():
            if path.endswith(ending):
                return fault()
        raw = await request.read()
        answer = self._answer(path, json.loads(raw) if raw else {}, self.tokens_seen[-1])
        if self.cut and len(self.calls) == number:
            return self._break(request)
        return answer

    @staticmethod
    def _break(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    def _answer(self, path: str, body: dict[str, Any], token: str) -> web.Response:
        if path == "/_matrix/client/versions":
            return web.json_response({"versions": ["v1.11"]})
        if path == "/_matrix/client/v3/login":
            return self._login(body)
        device = self.tokens.get(token)
        if device is None:
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN", "error": "no"}, status=401)
        match path.removeprefix("/_matrix/client/v3/"):
            case "account/whoami":
                return web.json_response({"user_id": USER, "device_id": device})
            case "logout":
                del self.tokens[token]
                self.devices.pop(device, None)
                return web.json_response({})
            case "keys/upload":
                return self._upload(device, body)
            case "keys/query":
                shown = {f"{usage}_keys": {USER: key} for usage, key in self.signing.items()}
                return web.json_response({"device_keys": {USER: self.devices}, **shown})
            case "keys/device_signing/upload":
                return self._sign_in(body)
            case "keys/signatures/upload":
                return self._signatures(body)
        return web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404)

    def _login(self, body: dict[str, Any]) -> web.Response:
        if not body:
            return web.json_response({"flows": [{"type": flow} for flow in self.flows]})
        if "m.login.password" not in self.flows:
            return web.json_response({"errcode": "M_UNKNOWN", "error": "no such login"}, status=400)
        if body["password"] != PASSWORD or body["identifier"]["user"] not in (USER, "labbot"):
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "no"}, status=403)
        self._logins += 1
        for token in [token for token, device in self.tokens.items() if device == body["device_id"]]:
            del self.tokens[token]
        token = f"syt_secret_canary_{self._logins}"
        self.tokens[token] = body["device_id"]
        return web.json_response({"user_id": USER, "device_id": body["device_id"], "access_token": token})

    def _upload(self, device: str, body: dict[str, Any]) -> web.Response:
        if "device_keys" in body:
            self.devices[device] = body["device_keys"]
        self.one_time.setdefault(device, {}).update(body.get("one_time_keys", {}))
        self.fallback.setdefault(device, {}).update(body.get("fallback_keys", {}))
        return web.json_response({"one_time_key_counts": {"signed_curve25519": len(self.one_time[device])}})

    def _sign_in(self, body: dict[str, Any]) -> web.Response:
        if self.proof is not None and body.get("auth", {}).get("password") != PASSWORD:
            return web.json_response({"session": "s", **self.proof}, status=401)
        self.signing |= {name.removesuffix("_key"): key for name, key in body.items() if name != "auth"}
        return web.json_response({})

    def _signatures(self, body: dict[str, Any]) -> web.Response:
        if self.failures:
            return web.json_response({"failures": self.failures})
        for name, content in body[USER].items():
            target = self.devices.get(name, self.signing["master"])
            target["signatures"][USER].update(content["signatures"][USER])
        return web.json_response({"failures": {}})


def answers(status: int, body: Any, **headers: str) -> Callable[[], web.Response]:
    """A fault: this answer, as JSON, or as it is when it is bytes."""
    if isinstance(body, bytes):
        return lambda: web.Response(status=status, body=body, headers=headers)
    return lambda: web.json_response(body, status=status, headers=headers)
