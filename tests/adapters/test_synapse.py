"""The real homeserver and the people on it, without a bot."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.adapters.matrix_people import People, Refused
from tests.adapters.synapse import Synapse

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_two_people_understand_each_other(residents: People, encrypted: bool) -> None:
    anna, boris = await residents.person("anna"), await residents.person("boris")
    room = await anna.direct(boris.user_id, encrypted=encrypted)
    await boris.until(lambda: room in boris.invites)
    before = await anna.says(room, "Are you there?")
    await boris.joins(room)
    await anna.until(lambda: boris.user_id in anna.members(room))
    asked = await anna.says(
        room, "A bench by the river?", mentions=[boris.user_id], html="<b>A bench</b> by the river?"
    )
    [line] = await boris.hears(room, anna.user_id, after=before)
    assert (line.body, line.html) == ("A bench by the river?", "<b>A bench</b> by the river?")
    assert line.mentions == frozenset((boris.user_id,))
    assert line.encrypted is encrypted
    answered = await boris.says(room, "Two!", reply_to=asked, msgtype="m.notice")
    inside = await boris.says(room, "Where?", thread=asked)
    answer, question = await anna.hears(room, boris.user_id, 2)
    assert (answer.event_id, answer.body, answer.msgtype, answer.reply_to) == (answered, "Two!", "m.notice", asked)
    assert (question.event_id, question.thread, question.reply_to) == (inside, asked, None)
    assert answer.encrypted is encrypted
    assert anna.sent[asked] < answer.arrived


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_line_is_what_edits_reactions_and_redactions_made_of_it(residents: People, encrypted: bool) -> None:
    anna, boris = await residents.person("anna"), await residents.person("boris")
    room = await anna.creates("Garden", invite=[boris.user_id], encrypted=encrypted)
    await boris.joins(room)
    await anna.until(lambda: boris.user_id in anna.members(room))
    said = await anna.says(room, "A bench")
    await anna.edits(room, said, "Two benches")
    last = await anna.edits(room, said, "Three benches")
    liked = await boris.reacts(room, said, "1️⃣")
    line = await boris.sees(room, said, lambda line: line.edits == 2)
    assert line.body == "Three benches"
    await anna.redacts(room, last)
    await boris.sees(room, said, lambda line: line.body == "Two benches")
    await boris.sees(room, said, lambda line: line.reactions == {"1️⃣": {boris.user_id}})
    await boris.redacts(room, liked)
    await anna.sees(room, said, lambda line: line.edits == 1 and line.reactions == {})
    await anna.redacts(room, said)
    line = await boris.sees(room, said, lambda line: line.redacted)
    assert (line.body, line.edits) == ("", 0)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_file_arrives_as_it_was(residents: People, encrypted: bool) -> None:
    anna, boris = await residents.person("anna"), await residents.person("boris")
    room = await anna.creates(invite=[boris.user_id], encrypted=encrypted)
    await boris.joins(room)
    await anna.sends_file(room, "plan.bin", bytes(range(256)) * 99)
    [line] = await boris.hears(room, anna.user_id)
    assert ("file" in line.content) is encrypted
    assert await boris.downloads(line) == bytes(range(256)) * 99


async def test_what_was_said_without_a_key_is_read_when_the_key_comes(residents: People) -> None:
    anna, boris = await residents.person("anna"), await residents.person("boris")
    room = await anna.creates(invite=[boris.user_id], encrypted=True)
    await boris.joins(room)
    anna.withholds = True
    await anna.says(room, "First")
    await anna.says(room, "Second")
    await boris.until(lambda: len(boris.lines(room)) == 2)
    assert [line.readable for line in boris.lines(room)] == [False, False]
    await anna.gives_keys(room)
    lines = await boris.hears(room, anna.user_id, 2)
    assert [line.body for line in lines] == ["First", "Second"]


async def test_a_device_that_nobody_signed_gets_no_key_from_who_is_strict(residents: People) -> None:
    anna = await residents.person("anna", only_signed=True)
    boris, cleo = await residents.person("boris"), await residents.person("cleo", signed=False)
    room = await anna.creates(invite=[boris.user_id, cleo.user_id], encrypted=True)
    await boris.joins(room)
    await cleo.joins(room)
    await anna.until(lambda: len(anna.members(room)) == 3)
    await anna.says(room, "Only for who is trusted")
    await boris.hears(room, anna.user_id)
    await cleo.until(lambda: cleo.lines(room))
    assert not cleo.lines(room)[0].readable
    assert await anna.trusted_devices(boris.user_id) == {boris.device_id}
    assert await anna.trusted_devices(cleo.user_id) == frozenset()


async def test_who_leaves_reads_no_more_and_who_comes_reads_from_then_on(residents: People) -> None:
    anna, boris, cleo = [await residents.person(name) for name in ("anna", "boris", "cleo")]
    room = await anna.creates(invite=[boris.user_id], encrypted=True)
    await boris.joins(room)
    await anna.says(room, "For two")
    await anna.invites_to(room, cleo.user_id)
    await cleo.joins(room)
    await anna.says(room, "For three")
    await cleo.hears(room, anna.user_id)
    assert [line.body for line in cleo.lines(room) if line.readable] == ["For three"]
    await boris.leaves(room)
    await anna.until(lambda: boris.user_id not in anna.members(room))
    await anna.says(room, "For two again")
    await cleo.hears(room, anna.user_id, 2)
    await boris.catches_up()
    assert [line.body for line in boris.lines(room) if line.readable] == ["For two", "For three"]


async def test_nothing_is_missed_however_much_was_said_meanwhile(residents: People) -> None:
    anna, boris = await residents.person("anna"), await residents.person("boris")
    room = await anna.creates(invite=[boris.user_id])
    await boris.joins(room)
    for number in range(130):
        await anna.says(room, str(number))
    lines = await boris.hears(room, anna.user_id, 130)
    assert [line.body for line in lines] == [str(number) for number in range(130)]


@pytest.mark.usefixtures("synapse_installed")
async def test_it_is_the_same_homeserver_after_a_kill(tmp_path: Path) -> None:
    with Synapse(tmp_path) as synapse:
        async with People(synapse) as people:
            anna = await people.person("anna")
            room = await anna.creates()
            first = await anna.says(room, "Before", transaction="t1")
            synapse.kill()
            synapse.start()
            assert await anna.says(room, "Before", transaction="t1") == first
            await anna.says(room, "After")
            await anna.hears(room, anna.user_id, 2)
            assert [line.body for line in anna.lines(room)] == ["Before", "After"]


@pytest.mark.usefixtures("synapse_installed")
async def test_the_rates_of_synapse_itself_hold_until_they_are_lifted(tmp_path: Path) -> None:
    with Synapse(tmp_path, limited=True) as synapse:
        async with People(synapse) as people:
            anna = await people.person("anna")
            room = await anna.creates()

            async def speak() -> None:
                for number in range(30):
                    await anna.says(room, str(number))

            with pytest.raises(Refused) as refused:
                await speak()
            assert refused.value.status == 429
            assert refused.value.errcode == "M_LIMIT_EXCEEDED"
            await synapse.lift_limits(anna.user_id)
            await speak()


@pytest.mark.usefixtures("synapse_installed")
def test_it_ends_with_who_started_it(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from tests.adapters.synapse import Synapse; "
        "server = Synapse(pathlib.Path(sys.argv[1])); server.start(); print(server.pid, flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(re.fullmatch(r"(\d+)\n", done.stdout)[1])  # type: ignore[index]
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < until
        os.sched_yield()


async def test_an_impatient_wait_tells_what_was_there(residents: People) -> None:
    anna = await residents.person("anna")
    room = await anna.creates()
    await anna.says(room, "Nobody answers")
    with pytest.raises(AssertionError, match="Nobody answers"):
        await anna.until(lambda: False, 0.1)
    await asyncio.gather(*(anna.until(lambda: anna.lines(room)) for _ in range(3)))
