"""Matrix's own client library against people whose devices are signed, and against one whose is not."""

import os
import re
from pathlib import Path

import pytest
from nio import AsyncClient, AsyncClientConfig, MegolmEvent, RoomMessageText

from bot.config import Settings
from storage.polls import voting
from tests.adapters.js_client import JsClient, is_installed
from tests.adapters.matrix_people import People
from tests.adapters.synapse import Synapse
from tests.adapters.test_matrix import on_matrix
from tests.faults.process import LabbotOnMatrix, folder

__all__ = ["folder"]


@pytest.fixture(autouse=True)
def installed() -> None:
    if not is_installed():
        explanation = "there is no matrix-js-sdk: `make tests/adapters/js/node_modules/ready` installs it, given Node"
        if os.environ.get("CI"):
            pytest.fail(explanation)
        pytest.skip(explanation)


async def test_a_signed_device_reads_what_the_client_writes_and_is_read(synapse: Synapse, residents: People) -> None:
    boris = await residents.person("boris")
    async with JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=True) as anna:
        room = await anna.direct(boris.user_id)
        await boris.joins(room)
        await anna.until(lambda: boris.user_id in anna.members(room))
        said = await anna.says(room, "A bench by the river?")
        [line] = await boris.hears(room, anna.user_id)
        assert (line.event_id, line.body, line.encrypted) == (said, "A bench by the river?", True)
        await boris.says(room, "Two!", reply_to=said)
        [answer] = await anna.hears(room, boris.user_id)
        assert (answer.body, answer.encrypted, answer.failure) == ("Two!", True, None)
        assert await anna.trusts(boris.user_id, boris.device_id)
        assert await boris.trusted_devices(anna.user_id) == {anna.account.device_id}


async def test_a_device_that_nobody_signed_is_deaf_and_mute(synapse: Synapse, residents: People) -> None:
    boris = await residents.person("boris", signed=False)
    async with JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=True) as anna:
        room = await anna.direct(boris.user_id)
        await boris.joins(room)
        await anna.until(lambda: boris.user_id in anna.members(room))
        said = await anna.says(room, "Do you hear me?")
        line = await boris.sees(room, said)
        await boris.says(room, "I hear that something was said")
        refused = "UNSIGNED_SENDER_DEVICE"
        await anna.until(lambda: [line for line in anna.lines(room, boris.user_id) if line.failure == refused])
        await boris.catches_up()
        assert not line.readable
        assert not boris.lines(room, anna.user_id)[0].readable
        assert not await anna.trusts(boris.user_id, boris.device_id)


async def test_a_lenient_client_gives_keys_to_every_device(synapse: Synapse, residents: People) -> None:
    boris = await residents.person("boris", signed=False)
    async with JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=False) as anna:
        room = await anna.direct(boris.user_id)
        await boris.joins(room)
        await anna.says(room, "Do you hear me?")
        [line] = await boris.hears(room, anna.user_id)
        assert line.body == "Do you hear me?"


# -- the bot ------------------------------------------------------------------------------------------------


async def test_labbot_is_trusted_and_answers_where_only_signed_devices_are_heard(
    synapse: Synapse, folder: Path, unused_tcp_port: int
) -> None:
    account = await synapse.newcomer("labbot")
    async with (
        LabbotOnMatrix(folder, synapse.url, account, unused_tcp_port) as labbot,
        JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=True) as anna,
    ):
        [line] = await labbot.logs("matrix.connected")
        device = re.search(r"Device (\w+) is signed", line)
        assert device is not None
        room = await anna.direct(account.user_id)
        await anna.until(lambda: account.user_id in anna.members(room))
        await anna.says(room, "!ideas 4711")
        [*_, answer] = await anna.hears(room, account.user_id)
        assert answer.encrypted
        await anna.until(lambda: any("4711" in line.body for line in anna.lines(room, account.user_id)))
        assert not [line for line in anna.lines(room, account.user_id) if line.failure is not None]
        assert await anna.trusts(account.user_id, device[1])
        assert await labbot.stop() == 0


async def test_the_client_shows_a_poll_of_labbots_as_one_and_its_answers_count(
    settings: Settings, synapse: Synapse
) -> None:
    async with (
        on_matrix(settings, synapse) as stage,
        JsClient(synapse.url, await synapse.newcomer("jo"), only_signed=True) as jo,
    ):
        room = await stage.group("Nordmarkt", "anna")
        anna = stage.person("anna").within(room)
        await stage.residents["anna"].invites_to(room.id, jo.user_id)
        await jo.joins(room.id)
        await stage.residents["anna"].knows(room.id, jo.user_id)
        await anna.says("/room")
        await anna.presses("Polls also as the app's own")
        await anna.says("/poll Which evening? | Tue | Wed")
        while not (shown := await jo.polls(room.id)):
            await jo.happens()
        [poll] = shown
        assert poll["question"] == "#1 Which evening?"
        assert poll["answers"] == [["1", "Tue"], ["2", "Wed"]]
        assert (poll["most"], poll["disclosed"], poll["over"]) == (1, True, False)
        await stage.happened(await jo.answers(room.id, poll["event_id"], "2"))
        assert await stage.ask(lambda s: dict(voting.profile(s.connection(), 1))) == {(1,): 1}
        await anna.says("/close 1")
        while not (await jo.polls(room.id))[0]["over"]:
            await jo.happens()


async def test_a_stock_bot_without_signatures_hears_nothing_there(synapse: Synapse, tmp_path: Path) -> None:
    account = await synapse.newcomer("stock")
    config = AsyncClientConfig(encryption_enabled=True)
    stock = AsyncClient(synapse.url, account.user_id, store_path=str(tmp_path), config=config)
    stock.restore_login(account.user_id, account.device_id, account.token)
    heard: list[type] = []
    stock.add_event_callback(lambda _room, event: heard.append(type(event)), (RoomMessageText, MegolmEvent))
    try:
        async with JsClient(synapse.url, await synapse.newcomer("anna"), only_signed=True) as anna:
            await stock.sync(timeout=0)
            await stock.keys_upload()
            room = await anna.direct(account.user_id)
            await stock.join(room)
            await anna.until(lambda: account.user_id in anna.members(room))
            await anna.says(room, "!ideas 4711")
            while not heard:
                await stock.sync(timeout=5000)
            assert heard == [MegolmEvent]
            assert not await anna.trusts(account.user_id, account.device_id)
    finally:
        await stock.close()
