"""The scripted homeserver keeps its word where it has something to keep."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.adapters.homeserver import (
    PASSWORD,
    Fault,
    Homeserver,
    answers,
    bad_gateway,
    closed,
    cut,
    refuses,
    silent,
    too_many,
    truncated,
)

ANNA = "@anna:lab.test"
FEW = '{"room": {"timeline": {"limit": 50}}}'


class Client:
    """Somebody with the bot's token who asks by hand."""

    def __init__(self, server: Homeserver, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        url = f"{self.server.url}/_matrix/client/v3/{path}"
        async with self.session.request(method, url, json=body, params=query) as response:
            return response.status, await response.json()

    async def sync(self, since: str | None = None, timeout: int = 0) -> Any:
        query = {"timeout": str(timeout), "filter": FEW} | ({} if since is None else {"since": since})
        status, answer = await self.ask("GET", "sync", **query)
        assert status == 200
        return answer


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Homeserver() as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Client(server, session)


def bodies(answer: Any, room: str) -> list[str]:
    return [event["content"]["body"] for event in answer["rooms"]["join"][room]["timeline"]["events"]]


async def test_a_token_is_a_place_and_tells_the_same_again(client: Client) -> None:
    room = client.server.room(ANNA, encrypted=True)
    start = await client.sync()
    state = {event["type"] for event in start["rooms"]["join"][room]["state"]["events"]}
    assert {"m.room.create", "m.room.encryption", "m.room.member"} <= state
    client.server.says(room, ANNA, "one")
    first = await client.sync(start["next_batch"])
    client.server.says(room, ANNA, "two")
    assert bodies(first, room) == ["one"]
    assert first["rooms"]["join"][room]["state"]["events"] == []
    assert bodies(await client.sync(start["next_batch"]), room) == ["one", "two"]
    assert bodies(await client.sync(first["next_batch"]), room) == ["two"]
    assert bodies(await client.sync(), room) == ["one", "two"]


async def test_a_long_poll_ends_with_the_first_news(client: Client) -> None:
    room = client.server.room(ANNA)
    start = await client.sync()
    poll = asyncio.create_task(client.sync(start["next_batch"], timeout=20_000))
    await client.server.until(lambda: len(client.server.asked("sync")) == 2)
    client.server.says(room, ANNA, "now")
    assert bodies(await poll, room) == ["now"]
    assert (await client.sync("s99", timeout=20))["rooms"]["join"] == {}


async def test_a_thousand_missed_events_are_limited_and_paged_backwards_to_the_token(client: Client) -> None:
    room = client.server.room(ANNA)
    client.server.says(room, ANNA, "known")
    start = await client.sync()
    for number in range(1050):
        client.server.says(room, ANNA, str(number))
    there = (await client.sync(start["next_batch"]))["rooms"]["join"][room]["timeline"]
    assert there["limited"]
    assert [event["content"]["body"] for event in there["events"]] == [str(number) for number in range(1000, 1050)]
    for to, oldest in ((start["next_batch"], "0"), (None, "known")):
        found: list[str] = []
        place: str | None = there["prev_batch"]
        while place:
            until = {} if to is None else {"to": to}
            _, page = await client.ask(
                "GET", f"rooms/{room}/messages", dir="b", limit="100", **{"from": place}, **until
            )
            found += [event["content"]["body"] for event in page["chunk"]]
            place = page.get("end")
        assert found[:2] == ["999", "998"]
        assert found[-1] == oldest
        assert len(found) == len(set(found)) == 1000 + (to is None)


async def test_the_same_transaction_is_the_same_event(client: Client) -> None:
    room = client.server.room(ANNA)
    path = f"rooms/{room}/send/m.room.message/t1"
    first = await client.ask("PUT", path, {"body": "Hello"})
    assert await client.ask("PUT", path, {"body": "Hello"}) == first
    assert await client.ask("PUT", path[:-1] + "2", {"body": "Hello"}) != first
    assert [sent.content["body"] for sent in client.server.sent(room)] == ["Hello", "Hello"]
    assert len(client.server.asked("send")) == 3
    assert bodies(await client.sync(), room) == ["Hello", "Hello"]


async def test_an_invitation_is_told_once_and_joining_makes_it_a_room(client: Client) -> None:
    start = await client.sync()
    client.server.invites("!new:lab.test", ANNA, is_direct=True)
    invited = await client.sync(start["next_batch"])
    assert list(invited["rooms"]["invite"]) == ["!new:lab.test"]
    assert (await client.sync(invited["next_batch"]))["rooms"]["invite"] == {}
    assert (await client.ask("POST", "join/!new:lab.test", {}))[0] == 200
    joined = await client.sync(invited["next_batch"])
    assert list(joined["rooms"]["join"]) == ["!new:lab.test"]
    assert (await client.ask("GET", "joined_rooms"))[1] == {"joined_rooms": ["!new:lab.test"]}
    client.server.puts_out("!new:lab.test", ANNA)
    assert list((await client.sync(joined["next_batch"]))["rooms"]["leave"]) == ["!new:lab.test"]
    assert (await client.sync())["rooms"]["join"] == {}


async def test_what_goes_from_device_to_device_goes_until_it_is_confirmed(client: Client) -> None:
    client.server.sends_to_device({"type": "m.dummy"}, None)
    start = await client.sync()
    assert (await client.sync())["to_device"]["events"] == [{"type": "m.dummy"}, None]
    assert (await client.sync(start["next_batch"]))["to_device"]["events"] == []
    assert (await client.sync())["to_device"]["events"] == []


async def test_keys_are_kept_counted_claimed_and_signed(client: Client) -> None:
    keys = {"one_time_keys": {"signed_curve25519:AAAA": {"key": "k"}}, "device_keys": {"keys": {}}}
    assert await client.ask("POST", "keys/upload", keys) == (200, {"one_time_key_counts": {"signed_curve25519": 1}})
    assert client.server.claim() == ("signed_curve25519:AAAA", "k")
    assert (await client.sync())["device_one_time_keys_count"] == {"signed_curve25519": 0}
    client.server.wants_password = True
    status, asked = await client.ask("POST", "keys/device_signing/upload", {"master_key": {"keys": {}}})
    assert (status, asked["flows"]) == (401, [{"stages": ["m.login.password"]}])
    auth = {"type": "m.login.password", "password": PASSWORD, "session": asked["session"]}
    body = {"master_key": {"keys": {}}, "auth": auth}
    assert (await client.ask("POST", "keys/device_signing/upload", body))[0] == 200
    me = client.server.user_id
    signed = {me: {client.server.device_id: {"signatures": {me: {"ed25519:K": "s"}}}}}
    await client.ask("POST", "keys/signatures/upload", signed)
    _, answer = await client.ask("POST", "keys/query", {"device_keys": {me: []}})
    assert answer["device_keys"][me][client.server.device_id]["signatures"][me] == {"ed25519:K": "s"}
    assert answer["master_keys"] == {me: {"keys": {}}}


async def test_nobody_is_served_without_the_password_or_its_token(client: Client) -> None:
    wrong = await client.ask("POST", "login", {"password": "guessed"})
    assert (wrong[0], wrong[1]["errcode"]) == (403, "M_FORBIDDEN")
    right = await client.ask("POST", "login", {"password": PASSWORD})
    assert right[1]["access_token"] == client.server.token
    client.server.token = "revoked"
    assert (await client.ask("GET", "account/whoami"))[1]["errcode"] == "M_UNKNOWN_TOKEN"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (too_many(), (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"})),
        (refuses(401, "M_UNKNOWN_TOKEN", soft_logout=True), (401, {"soft_logout": True})),
        (answers([1, 2]), (200, [1, 2])),
    ],
)
async def test_an_endpoint_answers_wrongly_as_often_as_it_was_told(
    client: Client, fault: Fault, expected: tuple[int, Any]
) -> None:
    client.server.breaks("whoami", fault, times=2)
    for _ in range(2):
        status, answer = await client.ask("GET", "account/whoami")
        assert status == expected[0]
        assert answer == expected[1] or answer.items() >= expected[1].items()
    assert (await client.ask("GET", "account/whoami"))[0] == 200
    assert len(client.server.asked("whoami")) == 3


async def test_a_delay_stands_in_the_body_or_in_the_header(client: Client) -> None:
    client.server.breaks("whoami", too_many(1500, retry_after="2"))
    async with client.session.get(f"{client.server.url}/_matrix/client/v3/account/whoami") as response:
        assert response.headers["Retry-After"] == "2"
        assert (await response.json())["retry_after_ms"] == 1500


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (bad_gateway, aiohttp.ContentTypeError),
        (truncated, ValueError),
        (cut, aiohttp.ClientPayloadError),
        (closed, aiohttp.ServerDisconnectedError),
        (silent, TimeoutError),
    ],
)
async def test_a_connection_breaks_as_it_was_told_until_it_is_healed(
    client: Client, fault: Fault, error: type[Exception]
) -> None:
    client.server.breaks("*", fault, times=None)

    async def ask() -> Any:
        async with asyncio.timeout(0.3):
            return await client.ask("POST", "keys/query", {})

    for _ in range(2):
        with pytest.raises(error):
            await ask()
    client.server.heals()
    assert (await ask())[0] == 200


async def test_it_counts_what_it_was_asked_and_when(client: Client) -> None:
    began = time.monotonic()
    room = client.server.room(ANNA)
    await client.ask("PUT", f"rooms/{room}/send/m.room.message/t1", {"body": "Hello"})
    await client.ask("GET", "nothing/here")
    [request] = client.server.asked("send")
    assert (request.method, request.body) == ("PUT", {"body": "Hello"})
    assert began < request.at < time.monotonic()
    assert client.server.requests[-1].name == "/_matrix/client/v3/nothing/here"


@pytest.mark.parametrize(
    "change", [lambda answer: answer.pop("next_batch"), lambda answer: answer["rooms"].update(join=7)]
)
async def test_an_answer_of_sync_is_changed_as_one_likes(client: Client, change: Callable[[Any], Any]) -> None:
    start = await client.sync()
    client.server.interferes(change)
    status, answer = await client.ask("GET", "sync", since=start["next_batch"])
    assert status == 200
    assert "next_batch" not in answer or answer["rooms"]["join"] == 7
