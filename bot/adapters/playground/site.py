"""The web app of the playground: one page, its events, and what people do in it.

Whoever reaches it can be anybody in it, so it must be reached by its own page only: the name in ``Host`` is checked
(DNS rebinding), and so are ``Origin``, ``Sec-Fetch-Site`` and the content type (requests from other sites).
"""

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.adapters.playground.messenger import Person, Playground
from bot.types import ChatRef

FOLDER = Path(__file__).parent / "page"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

LONGEST = 4096
"""Characters of a message; Telegram's limit."""

BODY_BYTES = 1 << 16

STILL_HERE = 15.0
"""Seconds after which an idle stream says that it is alive."""


class Dial(Protocol):
    """The hand that moves the playground's clock."""

    @property
    def ahead(self) -> timedelta:
        """How far the clock is ahead of the machine's."""
        ...

    async def turn(self, by: timedelta | None) -> None:
        """Move the clock on, ``None`` back to now, and let happen what is due then."""
        ...


def create(
    messenger: Playground,
    dial: Dial,
    speak: Callable[[str | None], tuple[str, Mapping[str, str]]],
    host: str = "127.0.0.1",
) -> ASGIApp:
    """The app. ``speak`` gives a language tag's closest locale and the page's words in it; ``host`` is what it is
    bound to: beyond loopback it also answers to that name and to addresses, which cannot be rebound."""

    async def state(request: Request) -> Response:
        locale, words = speak(request.query_params.get("locale"))
        theirs = {person: messenger.open_to(person) for person in messenger.people}
        chats = dict.fromkeys(chat for mine in theirs.values() for chat in mine)
        return JSONResponse(
            {
                "run": messenger.run,
                "locale": locale,
                "home": speak(None)[0],
                "words": dict(words),
                "names": messenger.names,
                "people": [
                    {
                        "id": person.id,
                        "name": person.name,
                        "locale": person.locale,
                        "organiser": person.organiser,
                        "chats": theirs[person.id],
                    }
                    for person in messenger.people.values()
                ],
                "chats": [
                    {
                        "id": chat,
                        "title": None if messenger.chats[chat].private else chat.removeprefix("g-"),
                        "total": len(messenger.chats[chat].messages),
                        "messages": messenger.messages(chat),
                    }
                    for chat in chats
                ],
                "menu": [
                    {"name": command.name, "help": command.help, "locale": command.locale}
                    for command in messenger.menu
                    if command.everyone
                ],
                "clock": clock(),
            }
        )

    async def older(request: Request) -> Response:
        chat = request.path_params["chat"]
        try:
            before = int(request.query_params["before"])
        except (KeyError, ValueError):
            raise HTTPException(400) from None
        if not any(chat in messenger.open_to(person) for person in messenger.people):
            raise HTTPException(404)
        return JSONResponse({"messages": messenger.messages(chat, before)})

    async def file(request: Request) -> Response:
        seen = messenger.find(request.path_params["chat"], request.path_params["message"])
        if seen is None or seen.file is None:
            raise HTTPException(404)
        name, content = seen.file
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return Response(content, media_type="application/octet-stream", headers={"Content-Disposition": disposition})

    async def events(_: Request) -> Response:
        return StreamingResponse(_stream(messenger), media_type="text/event-stream")

    async def say(request: Request) -> Response:
        asked = await _asked(request)
        person, chat = whom(asked)
        text = _text(asked)
        reply_to = asked.get("reply_to")
        if reply_to is not None and messenger.find(chat.id, str(reply_to)) is None:
            reply_to = None
        messenger.say(person.id, chat, text, reply_to=None if reply_to is None else str(reply_to))
        return JSONResponse(messenger.messages(chat.id)[-1])

    async def press(request: Request) -> Response:
        asked = await _asked(request)
        person, chat = whom(asked)
        message, position, revision = asked.get("message"), asked.get("position"), asked.get("revision")
        if not isinstance(position, int) or not isinstance(revision, int):
            raise HTTPException(400)
        if messenger.find(chat.id, str(message)) is None:
            raise HTTPException(404)
        messenger.press(person.id, chat, str(message), position, revision)
        return JSONResponse({})

    async def edit(request: Request) -> Response:
        asked = await _asked(request)
        person, chat, message = own(asked)
        messenger.edit_own(person.id, chat, message, _text(asked))
        return JSONResponse({})

    async def retract(request: Request) -> Response:
        person, chat, message = own(await _asked(request))
        messenger.retract_own(person.id, chat, message)
        return JSONResponse({})

    async def turn(request: Request) -> Response:
        hours = (await _asked(request)).get("hours")
        if hours is not None and (not isinstance(hours, int) or not 0 < hours <= 24 * 31):
            raise HTTPException(400)
        await dial.turn(None if hours is None else timedelta(hours=hours))
        messenger.tell("clock", clock())
        return JSONResponse(clock())

    def clock() -> dict[str, Any]:
        return {"now": messenger.now().isoformat(), "ahead": round(dial.ahead.total_seconds())}

    def whom(asked: Mapping[str, Any]) -> tuple[Person, ChatRef]:
        person, chat = messenger.people.get(str(asked.get("person"))), str(asked.get("chat"))
        if person is None or chat not in messenger.open_to(person.id):
            raise HTTPException(404)
        return person, ChatRef(messenger.name, chat)

    def own(asked: Mapping[str, Any]) -> tuple[Person, ChatRef, str]:
        person, chat = whom(asked)
        seen = messenger.find(chat.id, str(asked.get("message")))
        if seen is None or seen.author != person.id:
            raise HTTPException(404)
        return person, chat, seen.id

    app = Starlette(
        routes=[
            Route("/", _page("index.html")),
            Route("/playground.css", _page("playground.css")),
            Route("/playground.js", _page("playground.js")),
            Route("/icon.svg", _page("icon.svg")),
            Route("/api/state", state),
            Route("/api/events", events),
            Route("/api/chats/{chat}/messages", older),
            Route("/api/chats/{chat}/files/{message}", file),
            Route("/api/say", say, methods=["POST"]),
            Route("/api/press", press, methods=["POST"]),
            Route("/api/edit", edit, methods=["POST"]),
            Route("/api/retract", retract, methods=["POST"]),
            Route("/api/clock", turn, methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False
    return _guarded(app, host)


async def _stream(messenger: Playground) -> AsyncIterator[str]:
    queue = messenger.listen()
    try:
        yield "retry: 1000\n\nevent: hello\ndata: {}\n\n"
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), STILL_HERE)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if event is None:
                return
            yield event
    finally:
        messenger.forget(queue)


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(_: Request) -> Response:
        return FileResponse(FOLDER / name)

    return page


async def _asked(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise HTTPException(413, headers={"Connection": "close"})
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400) from None
    if not isinstance(asked, dict):
        raise HTTPException(400)
    return asked


def _text(asked: Mapping[str, Any]) -> str:
    text = asked.get("text")
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise HTTPException(400)
    # A lone surrogate is no character, and nothing can store it.
    return text.strip().encode(errors="replace").decode()


def _guarded(app: ASGIApp, host: str) -> ASGIApp:
    """Let the page's own requests through, refuse all others, and put the security headers on every response."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        fault = _fault(scope, host) if scope["type"] == "http" else None
        await (app if fault is None else JSONResponse({"error": fault}, 403))(scope, receive, sending)

    return guarded


def _fault(scope: Scope, host: str) -> str | None:
    headers = Headers(scope=scope)
    named = headers.get("host", "")
    if not _ours(named, host):
        return "this name is not ours"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != named.lower():
        return "this comes from another site"
    site = headers.get("sec-fetch-site", "none")
    navigated = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("same-origin", "none") and not navigated:
        return "this comes from another site"
    return None


def _ours(named: str, host: str) -> bool:
    try:
        name = (urlsplit(f"//{named}").hostname or "").lower()
    except ValueError:
        return False
    if name in LOOPBACK:
        return True
    if host in LOOPBACK:
        return False
    if name == host.lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
