"""The small web app: health, metrics, calendars, and the doors messengers knock on (webhooks).

It knows no messenger and no database: what it serves is handed to it. It speaks plain HTTP and does not wait out
slow clients; TLS, and anything the internet may reach, belongs behind a proxy.
"""

import asyncio
import hashlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

BODY_BYTES = 1 << 20
"""The largest body a hook takes. A Telegram update is a few kilobytes."""

SHUTDOWN_SECONDS = 1
"""How long a request under way may go on after the stop. A webhook that is cut off is delivered again."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Health:
    """Whether labbot does its work. ``checks`` says "ok" or a short reason, by name of the check.

    Anybody who reaches the port may read it: no addresses, no names of people, no secrets.
    """

    ok: bool
    checks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hook:
    """A path a messenger posts its updates to.

    ``receive`` is given the value of the header ``secret_header``, ``None`` when it is missing, and the body; it
    returns the HTTP status to answer with. The messenger takes 200 as "stored", so it comes after the commit.
    """

    path: str
    secret_header: str
    receive: Callable[[str | None, bytes], Awaitable[int]]


def create(
    registry: CollectorRegistry,
    health: Callable[[], Awaitable[Health]],
    hooks: Sequence[Hook] = (),
    calendar: Callable[[str], Awaitable[bytes | None]] | None = None,
    *,
    patience: float = 4,
) -> ASGIApp:
    """The web app: ``/healthz``, ``/metrics``, the given hooks and the calendars; 404 for everything else.

    ``calendar`` is asked for ``/calendar.ics`` by "", and for ``/calendar/<name>.ics`` by its name. What it gives
    (RFC 5545) is known by its ETag alone: a calendar can change without anything in it that is newer.

    ``patience`` is how many seconds the health checks may take; the image's own health check gives up after 5.
    """

    async def healthz(_: Request) -> Response:
        try:
            async with asyncio.timeout(patience):
                found = await health()
        except TimeoutError:
            found = Health(False, {"health": "no answer in time"})
        except Exception:
            log.exception("health.failed")
            found = Health(False, {"health": "failed"})
        status = "ok" if found.ok else "failing"
        return JSONResponse({"status": status, "checks": dict(found.checks)}, 200 if found.ok else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def calendars(request: Request) -> Response:
        found = None if calendar is None else await calendar(request.path_params.get("name", ""))
        if found is None:
            return Response(status_code=404)
        headers = {
            "ETag": f'"{hashlib.sha256(found).hexdigest()[:32]}"',
            "Cache-Control": "private, no-cache",
            "Referrer-Policy": "no-referrer",
        }
        if _is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(found, headers=headers, media_type="text/calendar")

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/calendar.ics", calendars),
            Route("/calendar/{name}.ics", calendars),
            *(Route(hook.path, _endpoint(hook), methods=["POST"]) for hook in hooks),
        ]
    )
    app.router.redirect_slashes = False
    return _with_headers(app)


def _is_known(request: Request, etag: str) -> bool:
    """Whether the client has this already (RFC 9110, 13.1.2)."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in known.split(",")]


def _endpoint(hook: Hook) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody is there to read it.
        if body is None:
            # Closing is what spares us the rest: on a connection kept open it would have to be read.
            return Response(status_code=413, headers={"Connection": "close"})
        return Response(status_code=await hook.receive(request.headers.get(hook.secret_header), body))

    return endpoint


async def _body(request: Request) -> bytes | None:
    """The request's body, or ``None`` when it is too large: then it is not read to its end."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            return None
    return bytes(body)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Put the security headers on every response, also on those of Starlette's own errors."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, sending)

    return wrapped


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: they stop the whole bot, and the web app as a part of it."""
        yield


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncIterator[int]:
    """Serve the app inside the context, in the running loop, and stop with it, within about a second.

    Gives the port, which is of use when 0 was asked for. Raises ``OSError`` before anything is served when the
    address cannot be used: taken, not ours, or a name nobody knows.
    """
    # Bound here and not by uvicorn, which would end the process. A colon stands in IPv6 addresses only.
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    with listener:
        server = _Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,  # A path may be a secret.
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="web")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
