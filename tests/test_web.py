"""The web app: what it shows, what it takes in, and how it starts and stops."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from bot.metrics import Metrics
from bot.web import BODY_BYTES, Health, Hook, create, serve

SECRET = "X-Telegram-Bot-Api-Secret-Token"


@dataclass
class Messenger:
    """The receiving end of a hook: notes what came, and answers as told."""

    answer: int = 200
    fault: Exception | None = None
    came: list[tuple[str | None, bytes]] = field(default_factory=list)

    async def receive(self, secret: str | None, body: bytes) -> int:
        if self.fault:
            raise self.fault
        self.came.append((secret, body))
        return self.answer

    @property
    def hook(self) -> Hook:
        return Hook("/telegram", SECRET, self.receive)


async def well() -> Health:
    return Health(True, {"database": "ok"})


def app(*hooks: Hook) -> ASGIApp:
    return create(CollectorRegistry(), well, hooks)


class Client:
    """Asks the app without a network, one request at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def request(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://lab") as http:
                return await http.request(method, path, content=content, headers=headers)

        return asyncio.run(ask())

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("POST", path, content, headers)


def client(*hooks: Hook) -> Client:
    return Client(app(*hooks))


def test_a_healthy_bot_says_so() -> None:
    response = client().get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "checks": {"database": "ok"}}


def test_a_failing_check_is_named_and_answers_503() -> None:
    async def ill() -> Health:
        return Health(False, {"database": "ok", "telegram": "no answer for 5 minutes"})

    response = Client(create(CollectorRegistry(), ill)).get("/healthz")
    assert response.status_code == 503
    assert response.json() == {
        "status": "failing",
        "checks": {"database": "ok", "telegram": "no answer for 5 minutes"},
    }


def test_a_health_check_that_breaks_answers_503_without_telling_why() -> None:
    async def broken() -> Health:
        raise ConnectionError("postgresql://labbot:password@db")

    response = Client(create(CollectorRegistry(), broken)).get("/healthz")
    assert response.status_code == 503
    assert response.json() == {"status": "failing", "checks": {"health": "failed"}}


def test_a_health_check_that_hangs_answers_503() -> None:
    async def hanging() -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    response = Client(create(CollectorRegistry(), hanging, patience=0.01)).get("/healthz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"health": "no answer in time"}


def test_metrics_are_shown_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.updates("telegram", "said").inc()
    metrics.updates("telegram", "said").inc()
    metrics.deliveries("telegram", "unsure").inc()
    metrics.outbox_pending("telegram").set(7)
    metrics.delivery_seconds.observe(0.2)
    response = Client(create(metrics.registry, well)).get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert 'labbot_updates_total{adapter="telegram",kind="said"} 2.0' in lines
    assert 'labbot_deliveries_total{adapter="telegram",outcome="unsure"} 1.0' in lines
    assert 'labbot_outbox_pending{adapter="telegram"} 7.0' in lines
    assert 'labbot_delivery_seconds_bucket{le="0.25"} 1.0' in lines


def test_two_bots_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.turn_failures("telegram").inc()
    assert one.registry.get_sample_value("labbot_turn_failures_total", {"adapter": "telegram"}) == 1
    assert other.registry.get_sample_value("labbot_turn_failures_total", {"adapter": "telegram"}) is None


def test_a_hook_is_given_the_secret_and_the_body() -> None:
    messenger = Messenger()
    response = client(messenger.hook).post("/telegram", content=b'{"update_id":1}', headers={SECRET: "s"})
    assert (response.status_code, response.content) == (200, b"")
    assert messenger.came == [("s", b'{"update_id":1}')]


def test_a_hook_learns_that_the_secret_is_missing_and_chooses_the_status() -> None:
    messenger = Messenger(answer=403)
    response = client(messenger.hook).post("/telegram", content=b"{}")
    assert (response.status_code, response.content) == (403, b"")
    assert messenger.came == [(None, b"{}")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_a_hook_takes_nothing_but_posts(method: str) -> None:
    messenger = Messenger()
    assert client(messenger.hook).request(method, "/telegram").status_code == 405
    assert messenger.came == []


def test_a_hook_that_fails_answers_500_so_that_the_update_is_delivered_again() -> None:
    response = client(Messenger(fault=RuntimeError("disk full")).hook).post("/telegram", content=b"{}")
    assert response.status_code == 500
    assert "disk full" not in response.text


def test_a_body_of_a_mebibyte_is_taken_and_one_byte_more_is_not() -> None:
    messenger = Messenger()
    assert client(messenger.hook).post("/telegram", content=b"x" * BODY_BYTES).status_code == 200
    assert client(messenger.hook).post("/telegram", content=b"x" * (BODY_BYTES + 1)).status_code == 413
    assert [len(body) for _, body in messenger.came] == [BODY_BYTES]


@pytest.mark.asyncio
async def test_an_endless_body_is_not_read_to_its_end() -> None:
    messenger, read = Messenger(), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 100 * BODY_BYTES:
            read += 65536
            yield b"x" * 65536

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app(messenger.hook)), base_url="http://lab") as http:
        response = await http.post("/telegram", content=endless())
    assert response.status_code == 413
    assert read <= BODY_BYTES + 65536
    assert messenger.came == []


def test_an_unknown_path_is_a_plain_404() -> None:
    for path in ("/", "/healthz/", "/docs", "/telegram"):
        response = client().get(path)
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("text/plain")


def test_every_answer_forbids_sniffing_storing_and_scripts() -> None:
    fine, failing = Messenger().hook, Hook("/failing", SECRET, Messenger(fault=RuntimeError()).receive)
    http = client(fine, failing)
    responses = [
        http.get("/healthz"),
        http.get("/metrics"),
        http.get("/nothing"),
        http.get("/telegram"),
        http.post("/telegram", content=b"{}"),
        http.post("/telegram", content=b"x" * (BODY_BYTES + 1)),
        http.post("/failing", content=b"{}"),
    ]
    assert [response.status_code for response in responses] == [200, 200, 404, 405, 200, 413, 500]
    for response in responses:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in response.headers["content-security-policy"]


@pytest.mark.asyncio
async def test_it_serves_on_a_real_socket_and_says_nothing_about_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = _handlers()
    messenger = Messenger()
    async with serve(app(messenger.hook), "127.0.0.1", 0) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            health = await http.get("/healthz")
            posted = await http.post("/telegram?in=path", content=b"a private word", headers={SECRET: "hush"})
        assert _handlers() == before  # The signals belong to the bot.
    assert (health.status_code, posted.status_code) == (200, 200)
    assert "server" not in health.headers
    assert messenger.came == [("hush", b"a private word")]
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert not [line for line in said if "private" in line or "hush" in line or "in=path" in line]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.asyncio
async def test_too_large_a_body_closes_the_connection_before_the_rest_is_sent() -> None:
    messenger = Messenger()
    async with serve(app(messenger.hook), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /telegram HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000000000\r\n\r\n")
        writer.write(b"x" * (BODY_BYTES + 1))
        answer = await asyncio.wait_for(reader.read(), 5)  # To the end: the server closes.
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert messenger.came == []


@pytest.mark.asyncio
async def test_it_stops_soon_although_a_connection_is_open_and_a_request_hangs() -> None:
    begun = asyncio.Event()

    async def hang(secret: str | None, body: bytes) -> int:
        begun.set()
        await asyncio.Event().wait()
        return 200

    async with serve(app(Hook("/slow", SECRET, hang)), "127.0.0.1", 0) as port:
        _, idle = await asyncio.open_connection("127.0.0.1", port)
        _, hanging = await asyncio.open_connection("127.0.0.1", port)
        hanging.write(b"POST /slow HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.wait_for(begun.wait(), 5)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 2
    idle.close()
    hanging.close()


@pytest.mark.asyncio
async def test_it_stops_at_once_when_the_bot_fails_to_start() -> None:
    with pytest.raises(LookupError):
        async with serve(app(), "127.0.0.1", 0) as port:
            raise LookupError
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.asyncio
async def test_a_taken_port_is_an_error_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            async with serve(app(), "127.0.0.1", port):
                raise AssertionError("it must not get here")


def _handlers() -> Sequence[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
