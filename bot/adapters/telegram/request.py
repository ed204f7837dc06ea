"""How requests reach Telegram: one aiohttp session, and errors that tell what became of the request."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, NoReturn

import aiohttp
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, NetworkError, TelegramError
from telegram.request import BaseRequest, RequestData
from yarl import URL

from bot.adapters.telegram.loss import LISTENED, Loss

Files = Mapping[str, tuple[str, Any, str]]
"""Files of one request by field: name, content, media type."""

CONNECT_TIMEOUT = 10.0
CALL_TIMEOUT = 40.0
"""Seconds for an answer while nothing else is answered either: Telegram stalls, and mostly carries out later what it
was given. Shorter, each stall would say things twice; an answer that is missing alone is noticed sooner (``Loss``)."""

TRANSFER_TIMEOUT = 300.0
IDLE = 15.0
"""Seconds an unused connection is kept: less than Telegram keeps it, or a message is written to a closed one."""

SAYING = "send"
"""How methods begin that say something new. Only these are compared: others may be answered while they all stall. An
edit is never given up: it can wait, and what was given up could be applied after a newer one."""

JSON_HEADERS = {"Content-Type": "application/json"}


class NotSent(NetworkError):
    """No connection was made: Telegram has not seen the request."""


class Unclear(NetworkError):
    """The request was written and no answer came: it may have been carried out."""


class Overtaken(Unclear):
    """The same, while calls that began later were answered: it is this one's answer that is lost, not Telegram."""


class Unavailable(NetworkError):
    """Telegram, or a gateway before it, answers with a server error."""

    __slots__ = ("status",)

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Flood(TelegramError):
    """Too many requests: pause for ``after`` seconds.

    In place of ``telegram.error.RetryAfter``, which warns of its own deprecated attribute whenever it is made.
    """

    __slots__ = ("after",)

    def __init__(self, after: float) -> None:
        super().__init__(f"too many requests, retry after {after:g} s")
        self.after = after


def decode(payload: bytes) -> Any:
    """JSON as Telegram sends it; one broken character must not cost a whole batch of updates. Raises ValueError."""
    try:
        return json.loads(payload.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse(status: int, payload: bytes) -> NoReturn:
    """Raise the error that an answer other than 2xx stands for.

    Only an answer in Telegram's own form speaks about the token: a 404 page of some proxy does not.
    """
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise BadRequest("request entity too large")  # also a gateway's own page: it will never be smaller
    try:
        answer = decode(payload)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("ok") is not False or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable(status)
    description = str(answer.get("description") or f"HTTP {status}")
    parameters = answer.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    if isinstance(moved := parameters.get("migrate_to_chat_id"), int):
        raise ChatMigrated(moved)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        after = parameters.get("retry_after")
        raise Flood(float(after) if isinstance(after, int | float) and after > 0 else 1.0)
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.NOT_FOUND:
            raise InvalidToken(description)
        case HTTPStatus.FORBIDDEN:
            raise Forbidden(description)
        case HTTPStatus.CONFLICT:
            raise Conflict(description)
        case _:
            raise BadRequest(description)


class Request(BaseRequest):
    """Carries Bot API calls over one aiohttp session with kept connections.

    ``call`` is for what happens often. Measured per message with three buttons: 290 µs of CPU by
    ``Bot.send_message``, which builds the whole answer as objects, 90 µs by ``call``. Python-telegram-bot's own
    methods come through ``do_request``. Both raise the same errors, none of which holds a URL: it names the token.
    """

    def __init__(self, token: str, root: str, *, connections: int, timeout: float | None = CALL_TIMEOUT) -> None:
        self._calls = f"{root}/bot{token}"
        self._files = f"{root}/file/bot{token}"
        self._connections = connections + LISTENED if connections else 0
        self._loss = Loss()
        self._trace = aiohttp.TraceConfig()
        self._trace.on_request_headers_sent.append(_tell_written)
        self._timeout = timeout
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def read_timeout(self) -> float | None:
        """Seconds one call may take."""
        return self._timeout

    async def initialize(self) -> None:
        """Nothing to do: the session opens with the first request."""

    async def shutdown(self) -> None:
        """Close every connection, for good."""
        self._closed = True
        self._loss.close()
        await self.reset()

    async def reset(self) -> None:
        """Drop every connection; the next request opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self, method: str, parameters: Mapping[str, Any], files: Files | None = None, *, patient: bool = False
    ) -> Any:
        """Call a method of the Bot API and return its result as plain JSON values.

        One that says something and is overtaken by others raises ``Overtaken``, unless it is ``patient`` or uploads.
        """
        url = self._urls.get(method)
        if url is None:
            url = self._urls[method] = URL(f"{self._calls}/{method}")
        if files or patient or not method.startswith(SAYING):
            payload = await self._exchange("POST", url, parameters, files)
        else:
            try:
                payload = await self._loss.watch(partial(self._exchange, "POST", url, parameters, files))
            except TimeoutError:
                raise Overtaken("no answer, while others were answered") from None
        try:
            return decode(payload)["result"]
        except (ValueError, LookupError, TypeError):
            raise Unclear("the answer is no Bot API answer") from None

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: object = BaseRequest.DEFAULT_NONE,
        write_timeout: object = BaseRequest.DEFAULT_NONE,
        connect_timeout: object = BaseRequest.DEFAULT_NONE,
        pool_timeout: object = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """One exchange for python-telegram-bot; timeouts are this class's own."""
        parameters = request_data.parameters if request_data else {}
        files = request_data.multipart_data if request_data and request_data.contains_files else None
        return HTTPStatus.OK, await self._exchange(method, URL(url), parameters, files)

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """As in the base class, without putting what does not parse into the log."""
        try:
            answer = decode(payload)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "result" not in answer:
            raise Unclear("the answer is no Bot API answer")
        return answer

    async def download(self, path: str, most: int) -> AsyncIterator[bytes]:
        """Stream a file by the path ``getFile`` told; raises BadRequest when it is gone or beyond ``most`` bytes."""
        timeout = aiohttp.ClientTimeout(total=TRANSFER_TIMEOUT, connect=CONNECT_TIMEOUT)
        size = 0
        try:
            async with self._open().get(URL(f"{self._files}/{path}"), timeout=timeout) as response:
                if response.status == HTTPStatus.NOT_FOUND:
                    raise BadRequest("file not found")
                if response.status != HTTPStatus.OK:
                    refuse(response.status, await response.read())
                async for chunk in response.content.iter_chunked(65_536):
                    size += len(chunk)
                    if size > most:
                        raise BadRequest("file is too big")
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _fault(error) from None

    async def _exchange(
        self,
        method: str,
        url: URL,
        parameters: Mapping[str, Any],
        files: Files | None,
        written: Callable[[], None] | None = None,
    ) -> bytes:
        session = self._open()
        try:
            if files:
                form = _form(parameters, files)
                timeout = aiohttp.ClientTimeout(total=TRANSFER_TIMEOUT, connect=CONNECT_TIMEOUT)
                response = await session.request(method, url, data=form, timeout=timeout, allow_redirects=False)
            else:
                body = json.dumps(parameters).encode()
                response = await session.request(
                    method, url, data=body, headers=JSON_HEADERS, allow_redirects=False, trace_request_ctx=written
                )
            # Reading to the end gives the connection back; a failure on the way closes it.
            payload = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _fault(error) from None
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            refuse(response.status, payload)
        return payload

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise NotSent("the adapter is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE),
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[self._trace],
            )
        return self._session


async def _tell_written(_session: aiohttp.ClientSession, about: SimpleNamespace, _sent: object) -> None:
    if about.trace_request_ctx is not None:
        about.trace_request_ctx()


def _form(parameters: Mapping[str, Any], files: Files) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in parameters.items():
        form.add_field(name, value if isinstance(value, str) else json.dumps(value))
    for name, (filename, content, media_type) in files.items():
        form.add_field(name, content, filename=filename, content_type=media_type)
    return form


def _fault(error: Exception) -> NetworkError:
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        return NotSent(f"no connection ({kind})")
    return Unclear(f"no answer ({kind})")
