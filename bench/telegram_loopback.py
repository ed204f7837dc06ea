"""A Bot API server on loopback for measurements: a stock of prepared updates, and little work per request."""

import argparse
import asyncio
import contextlib
import gc
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import unquote_plus

# It shares the machine with the bot under test, so what costs time here is paid by the measurement: requests are
# read with byte searches and a few regular expressions, answers are filled into templates, and nothing is logged.
# Faults, limits and Telegram's refusals are not its business: the strict server of the test suite has them.

BOT_ID = 4_242_424_242
BOT = f'{{"id":{BOT_ID},"is_bot":true,"first_name":"Loopback","username":"loopback_bot"'
GET_ME = (
    f'{{"ok":true,"result":{BOT},"can_join_groups":true,"can_read_all_group_messages":false,'
    '"supports_inline_queries":false,"can_connect_to_business":false,"has_main_web_app":false}}'
).encode()
TRUE = b'{"ok":true,"result":true}'
LIST = b'{"ok":true,"result":[]}'
# Answers that are neither true nor a message.
FIXED = {
    "getme": GET_ME,
    "getmycommands": LIST,
    "getmyname": b'{"ok":true,"result":{"name":"Loopback"}}',
    "getmydescription": b'{"ok":true,"result":{"description":""}}',
    "getmyshortdescription": b'{"ok":true,"result":{"short_description":""}}',
    "getwebhookinfo": b'{"ok":true,"result":{"url":"","has_custom_certificate":false,"pending_update_count":0}}',
}
CONFLICT = (
    b'{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request; '
    b'make sure that only one bot instance is running"}'
)

MESSAGE = (
    b'{"ok":true,"result":{"message_id":%d,"from":' + BOT.encode() + b'},"chat":{"id":%d,"first_name":"Person %d",'
    b'"username":"person_%d","type":"private"},"date":%d,%s"text":%s}}'
)
UPDATE = (
    '{{"update_id":{id},"message":{{"message_id":{message},"from":{{"id":{person},"is_bot":false,'
    '"first_name":"Person {person}","username":"person_{person}","language_code":"en"}},"chat":{{"id":{person},'
    '"first_name":"Person {person}","username":"person_{person}","type":"private"}},'
    '"date":{date},"text":{text}{more}}}}}'
)

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
FORM_FIELD = re.compile(rb"(?:^|&)([a-z_]+)=([^&]*)")
PART_NAME = re.compile(rb'name="?([^";\r]+)"?', re.IGNORECASE)

FIRST_PERSON = 1_000_000
PAGE = 100
CHAT_FIELDS = frozenset((b"chat_id", b"text", b"caption", b"message_id"))
POLL_FIELDS = frozenset((b"offset", b"limit", b"timeout"))


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


HTTP_TRUE = http(TRUE)
HTTP_EMPTY = http(LIST)


def fields(body: bytes, wanted: frozenset[bytes]) -> dict[str, str]:
    """The wanted parameters of a request, whichever of the Bot API's three encodings they came in."""
    first = body[:1]
    if first == b"{":
        found = json.loads(body)
        return {name: str(value) for name, value in found.items() if value is not None}
    if first == b"-":
        boundary = body[: body.find(b"\r\n")]
        parts: dict[str, str] = {}
        for part in body.split(boundary)[1:-1]:
            head, _, value = part.partition(b"\r\n\r\n")
            if b"filename" not in head and (name := PART_NAME.search(head)) and name[1] in wanted:
                parts[name[1].decode()] = value[:-2].decode()
        return parts
    return {name.decode(): unquote_plus(value.decode()) for name, value in FORM_FIELD.findall(body) if name in wanted}


class Loopback:
    """The state of the one bot that this server knows."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.next_update = 100_000_000
        self.next_message = 1_000
        self.waiting: tuple[Connection, int, asyncio.TimerHandle] | None = None
        self.load(0, 1, "")

    def load(self, updates: int, people: int, text: str, first_person: int = FIRST_PERSON) -> None:
        """Throw the old stock away, prepare a new one and begin counting anew.

        Ids go on where the old stock ended, as they do on the real server, so a bot that is polling stays in step.
        """
        encoded = json.dumps(text)
        more = ""
        if text.startswith("/"):
            length = len(text.split(maxsplit=1)[0])
            more = f',"entities":[{{"offset":0,"length":{length},"type":"bot_command"}}]'
        date = int(time.time())
        self.first = self.next_update
        self.stock = [
            UPDATE.format(
                id=self.first + number,
                message=self.next_message + number,
                person=first_person + number % people,
                date=date,
                text=encoded,
                more=more,
            ).encode()
            for number in range(updates)
        ]
        self.next_update += updates
        self.next_message += updates
        # How many answers each chat still has to get: a second message to a chat that is owed nothing is sent,
        # but answers no update.
        self.owed = Counter(first_person + number % people for number in range(updates))
        self.chats: set[int] = set()
        self.confirmed = 0
        self.sends = 0
        self.answered = 0
        self.edits = 0
        self.polls = 0
        self.requests = 0
        self.first_poll_at: float | None = None
        self.first_batch_at: float | None = None
        self.first_send_at: float | None = None
        self.last_send_at: float | None = None
        self.answered_at: float | None = None
        self.confirmed_at: float | None = None
        self.cpu_at_load = time.process_time()
        if self.waiting is not None and updates:
            # That bot is polling already.
            self.first_poll_at = time.monotonic()
            self.polls = 1
            connection, limit, timer = self.waiting
            timer.cancel()
            self.waiting = None
            connection.answer(self.page(limit))

    def stats(self) -> dict[str, object]:
        """What was counted since the last load; times are seconds of the machine's monotonic clock."""
        return {
            "updates": len(self.stock),
            "updates_confirmed": self.confirmed,
            "answered": self.answered,
            "sends": self.sends,
            "edits": self.edits,
            "chats": len(self.chats),
            "polls": self.polls,
            "requests": self.requests,
            "first_poll_at": self.first_poll_at,
            "first_batch_at": self.first_batch_at,
            "first_send_at": self.first_send_at,
            "last_send_at": self.last_send_at,
            "answered_at": self.answered_at,
            "confirmed_at": self.confirmed_at,
            "cpu_seconds": time.process_time() - self.cpu_at_load,
        }

    def page(self, limit: int) -> bytes:
        if self.first_batch_at is None:
            self.first_batch_at = time.monotonic() + self.latency
        updates = b",".join(self.stock[self.confirmed : self.confirmed + limit])
        return http(b'{"ok":true,"result":[%s]}' % updates)

    def poll(self, connection: "Connection", body: bytes) -> None:
        given = fields(body, POLL_FIELDS)
        offset = int(given.get("offset") or 0)
        limit = min(max(int(given.get("limit") or PAGE), 1), PAGE)
        self.polls += 1
        if self.first_poll_at is None:
            self.first_poll_at = time.monotonic()
        if offset < 0:
            self.confirmed = max(self.confirmed, len(self.stock) + offset)
        else:
            # What was confirmed is gone: an older offset does not bring it back.
            self.confirmed = min(max(self.confirmed, offset - self.first), len(self.stock))
        if self.confirmed_at is None and self.confirmed == len(self.stock) > 0:
            self.confirmed_at = time.monotonic()
        if self.waiting is not None:
            other, _, timer = self.waiting
            timer.cancel()
            self.waiting = None
            other.answer(http(CONFLICT, b"409 Conflict"))
        timeout = float(given.get("timeout") or 0)
        if self.confirmed < len(self.stock):
            connection.answer(self.page(limit))
        elif timeout <= 0:
            connection.answer(HTTP_EMPTY)
        else:
            timer = connection.loop.call_later(min(timeout, 50.0), self.nothing_came, connection)
            self.waiting = (connection, limit, timer)

    def nothing_came(self, connection: "Connection") -> None:
        self.waiting = None
        connection.answer(HTTP_EMPTY)

    def gone(self, connection: "Connection") -> None:
        if self.waiting is not None and self.waiting[0] is connection:
            self.waiting[2].cancel()
            self.waiting = None

    def send(self, connection: "Connection", body: bytes, *, edit: bool) -> None:
        given = fields(body, CHAT_FIELDS)
        chat = int(given["chat_id"])
        text = json.dumps(given.get("text") or given.get("caption") or "").encode()
        now = int(time.time())
        if edit:
            self.edits += 1
            message, edited = int(given["message_id"]), b'"edit_date":%d,' % now
        else:
            at = time.monotonic()
            if self.first_send_at is None:
                self.first_send_at = at
            self.last_send_at = at
            self.sends += 1
            self.next_message += 1
            self.chats.add(chat)
            message, edited = self.next_message, b""
            if self.owed[chat] > 0:
                self.owed[chat] -= 1
                self.answered += 1
                if self.answered == len(self.stock):
                    self.answered_at = at
        connection.answer(http(MESSAGE % (message, chat, chat, chat, now, edited, text)))

    def request(self, connection: "Connection", target: bytes, body: bytes) -> None:
        path, _, query = target.partition(b"?")
        if path.startswith(b"/bot"):
            self.requests += 1
            # Method names are not case-sensitive.
            method = path[path.rfind(b"/") + 1 :].decode().lower()
            if method == "sendmessage":
                self.send(connection, body or query, edit=False)
            elif method == "getupdates":
                self.poll(connection, body or query)
            elif method.startswith("editmessage"):
                self.send(connection, body or query, edit=True)
            elif method.startswith("send") and method != "sendchataction":
                self.send(connection, body or query, edit=False)
            elif method in FIXED:
                connection.answer(http(FIXED[method]))
            else:
                connection.answer(HTTP_TRUE)
        elif path == b"/control/stats":
            connection.write(http(json.dumps(self.stats()).encode()))
        elif path == b"/control/load":
            order = json.loads(body)
            self.load(order["updates"], order["people"], order["text"], order.get("first_person", FIRST_PERSON))
            connection.write(HTTP_TRUE)
        else:
            connection.write(http(b'{"ok":false,"error_code":404,"description":"Not Found"}', b"404 Not Found"))


class Connection(asyncio.Protocol):
    """One client connection, kept alive; a client asks again only after it was answered."""

    __slots__ = ("buffer", "close", "loop", "server", "transport")

    def __init__(self, server: Loopback, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.server.gone(self)

    def answer(self, response: bytes) -> None:
        """Answer after the latency; answers to other connections are not held up by it."""
        if self.server.latency:
            self.loop.call_later(self.server.latency, self.write, response)
        else:
            self.write(response)

    def write(self, response: bytes) -> None:
        if self.transport is not None:
            self.transport.write(response)
            if self.close:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while buffer:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                break
            head = buffer[:end]
            begin = end + 4
            if length := CONTENT_LENGTH.search(head):
                stop = begin + int(length[1])
                if len(buffer) < stop:
                    break
                body = buffer[begin:stop]
            elif CHUNKED.search(head):
                whole = dechunk(buffer, begin)
                if whole is None:
                    break
                body, stop = whole
            else:
                body, stop = b"", begin
            buffer = buffer[stop:]
            self.close = CLOSE.search(head) is not None
            try:
                target = head[head.index(b" ") + 1 : head.index(b" HTTP/")]
                self.server.request(self, target, body)
            except (KeyError, ValueError, UnicodeDecodeError) as error:
                words = json.dumps({"ok": False, "error_code": 400, "description": f"Bad Request: {error!r}"})
                self.write(http(words.encode(), b"400 Bad Request"))
        self.buffer = buffer


def dechunk(buffer: bytes, at: int) -> tuple[bytes, int] | None:
    """The body of a chunked request and where it ends, or nothing as long as a part is missing."""
    parts: list[bytes] = []
    while (line := buffer.find(b"\r\n", at)) >= 0:
        size = int(buffer[at:line].split(b";")[0], 16)
        stop = line + 2 + size
        if len(buffer) < stop + 2:
            return None
        if not size:
            return b"".join(parts), stop + 2
        parts.append(buffer[line + 2 : stop])
        at = stop + 2
    return None


async def serve(port: int, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = Loopback(latency)
    listener = await loop.create_server(lambda: Connection(server, loop), "127.0.0.1", port, backlog=1024)
    print(f"listening on 127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the first line printed names it")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="delay of every answer to the bot")
    options = parser.parse_args()
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run
    with contextlib.suppress(ImportError):
        from uvloop import run
    # Nothing here makes cycles worth collecting, and the collector would walk the stock again and again.
    gc.disable()
    run(serve(options.port, options.latency_ms / 1000))


if __name__ == "__main__":
    main()
