"""The homeserver over HTTP: one call, its answer, and what a refusal means."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from bot.adapters.matrix.values import fields, text
from bot.port import Refused, RetryLater, Undeliverable

CALL_TIMEOUT = 30.0
"""Seconds any call but a long poll may take."""

LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of the longest answer that is read; a first sync of a busy account takes a few."""

DEEPEST = 100
"""Levels of nesting that an answer may have; what is nested deeper is read as null."""

UNTOLD_PAUSE = 5.0
"""Seconds to pause when the homeserver says “too fast” and not for how long."""


class Rejected(Exception):
    """The homeserver says no: ``status`` is HTTP's, ``code`` Matrix's errcode, ``answer`` the whole of it.

    Its text is the errcode and nothing more, since the rest may quote somebody.
    """

    def __init__(self, status: int, code: str, answer: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {code}".strip())
        self.status = status
        self.code = code
        self.answer = answer

    @property
    def closed(self) -> bool:
        """Whether it is about the room or event that was asked for; a proxy's 404 is not."""
        return self.code in ("M_FORBIDDEN", "M_NOT_FOUND")


class Homeserver:
    """Calls to the client-server API with one account's token.

    Whatever happens ends in an answer (a JSON object) or in one of three errors: ``RetryLater`` (no or no sensible
    answer, a fault of the server's, too fast), ``Refused`` (the token is dead), ``Rejected`` (this request).
    """

    def __init__(self, url: str, token: str, timeout: float = CALL_TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.timeout = timeout
        self.answered_at: float | None = None
        self._writing = 0
        self._written = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """One call below ``/_matrix/client``; ``path`` is made by ``segments``."""
        answer = await self._json(method, path, body, query, timeout)
        if not isinstance(answer, dict):
            raise RetryLater(0, "the homeserver's answer is no object")
        return answer

    async def state(self, room: str) -> list[Any]:
        """All state events of a room."""
        answer = await self._json("GET", segments("v3", "rooms", room, "state"), None, None, None)
        if not isinstance(answer, list):
            raise RetryLater(0, "the homeserver's answer is no list")
        return answer

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing of ours is being written, at most so long."""
        if self._writing:
            self._written.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._written.wait()

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        timeout: float | None,
    ) -> Any:
        data = None if method == "GET" else json.dumps(body or {}, ensure_ascii=False).encode(errors="replace")
        if method != "PUT":
            return await self._ask(method, f"/_matrix/client{path}", data, "application/json", query, timeout)
        self._writing += 1
        try:
            return await self._ask(method, f"/_matrix/client{path}", data, "application/json", query, timeout)
        finally:
            self._writing -= 1
            if not self._writing:
                self._written.set()

    async def upload(self, name: str, media_type: str, content: bytes) -> str:
        """Keep a file on the homeserver; its ``mxc:`` address."""
        answer = await self._ask("POST", "/_matrix/media/v3/upload", content, media_type, {"filename": name}, 120.0)
        address = answer.get("content_uri") if isinstance(answer, dict) else None
        if not isinstance(address, str):
            raise RetryLater(60, "the upload has no address")
        return address

    async def download(self, server: str, media: str, most: int) -> AsyncIterator[bytes]:
        """Stream a file, up to ``most`` bytes. Raises ``Undeliverable`` when it is larger or gone."""
        path = f"/_matrix/client/v1/media/download{segments(server, media)}"
        total = 0
        try:
            async with self._opened().get(
                self.url + path,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeout, sock_read=self.timeout),
            ) as response:
                if response.status != 200:
                    raise Undeliverable("the homeserver does not hand out this file")
                async for chunk in response.content.iter_chunked(65536):
                    total += len(chunk)
                    if total > most:
                        raise Undeliverable(f"a file of more than {most} bytes")
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RetryLater(1, type(error).__name__) from None

    async def _ask(
        self,
        method: str,
        path: str,
        data: bytes | None,
        media_type: str,
        query: Mapping[str, str] | None,
        timeout: float | None,
    ) -> Any:
        url = f"{self.url}{path}?{urlencode(query)}" if query else self.url + path
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if data is not None:
            headers["Content-Type"] = media_type
        try:
            async with asyncio.timeout(timeout or self.timeout):
                async with self._opened().request(method, url, data=data, headers=headers) as response:
                    status, told = response.status, response.headers.get("Retry-After", "")
                    content = bytearray()
                    async for chunk in response.content.iter_any():
                        content += chunk
                        if len(content) > LONGEST_ANSWER:
                            raise RetryLater(60, "the answer is longer than any should be")
        except TimeoutError:
            raise RetryLater(0, "no answer in time", unsure=True) from None
        except aiohttp.ClientConnectorError as error:
            raise RetryLater(0, f"not reached: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RetryLater(0, f"the connection broke: {type(error).__name__}", unsure=True) from None
        return self._understood(status, bytes(content), told)

    def _understood(self, status: int, content: bytes, told: str) -> Any:
        answer = _parsed(content)
        if status == 429 or (isinstance(answer, dict) and answer.get("errcode") == "M_LIMIT_EXCEEDED"):
            raise RetryLater(_delay(answer, told), "too fast for the homeserver", everywhere=True)
        if status >= 500 or not isinstance(answer, dict | list):
            raise RetryLater(0, f"the homeserver answered {status} and nothing sensible", unsure=True)
        self.answered_at = time.time()
        if status < 400:
            return answer
        answer = fields(answer)
        code = text(answer.get("errcode"))
        if code in ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED"):
            raise Refused(
                f"the homeserver does not accept the login any more ({code}); "
                "set LABBOT_MATRIX_PASSWORD or a new LABBOT_MATRIX_TOKEN and start labbot again"
            )
        raise Rejected(status, code, answer)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session

    async def close(self) -> None:
        """Let go of every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def segments(*parts: str) -> str:
    """A path of these parts, each escaped as a whole: ids hold ``/``, ``#`` and ``:``."""
    return "".join(f"/{quote(part, safe='', errors='replace')}" for part in parts)


_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def _parsed(content: bytes) -> Any:
    """The JSON, ``None`` when it is none. An event nested too deep for the parser must not hide all the others."""
    try:
        try:
            return json.loads(content)
        except RecursionError:
            return json.loads(_shallow(content))
    except (ValueError, RecursionError):
        return None


def _shallow(content: bytes) -> bytes:
    """The same JSON with null for what is nested too deep."""
    parts: list[bytes] = []
    depth = begin = 0
    for bracket in _BRACKET.finditer(content):
        match bracket[0]:
            case b"[" | b"{":
                depth += 1
                if depth == DEEPEST:
                    parts += content[begin : bracket.start()], b"null"
            case b"]" | b"}":
                if depth == DEEPEST:
                    begin = bracket.end()
                depth -= 1
    return b"".join((*parts, content[begin:]))


def _delay(answer: Any, told: str) -> float:
    """The pause a 429 asks for, in seconds: the body's ``retry_after_ms``, else the header's ``Retry-After``."""
    told_ms = answer.get("retry_after_ms") if isinstance(answer, dict) else None
    if isinstance(told_ms, int | float) and 0 < told_ms < 86_400_000:
        return float(told_ms) / 1000
    return float(told) if told.isdecimal() and len(told) < 6 else UNTOLD_PAUSE
