"""Synapse's own limits, as every homeserver has them that nobody has changed: not a single 429."""

import asyncio
import time
from pathlib import Path

from structlog.testing import capture_logs

from bot.adapters.matrix import Login, Matrix
from bot.app import App
from bot.config import Settings
from tests.adapters.matrix_people import Line, People
from tests.adapters.synapse import Synapse

MESSAGES = 11
AT_ONCE = 9
EVERY = 5.0
"""Seconds that Synapse's default rate of 0.2 messages a second means."""


async def test_a_queue_is_sent_as_fast_as_synapse_allows_and_no_faster(
    synapse_installed: None, tmp_path: Path, sqlite_template: Path
) -> None:
    home = tmp_path / "homeserver"
    home.mkdir()
    settings = Settings(data=tmp_path, database_url=f"sqlite:///{tmp_path / 'labbot.db'}", locale="en")
    (tmp_path / "labbot.db").write_bytes(sqlite_template.read_bytes())
    with Synapse(home, limited=True) as synapse, capture_logs() as logs:
        account = await synapse.register("labbot")
        adapter = Matrix(Login(synapse.url, account.user_id, account.password), tmp_path / "matrix")
        app = App(settings, [adapter])
        stop = asyncio.Event()
        running = asyncio.create_task(app.run(stop))
        async with People(synapse) as people:
            anna = await people.person("anna")
            await synapse.lift_limits(anna.user_id)
            room = await anna.direct(account.user_id)
            await anna.until(lambda: account.user_id in anna.members(room))
            for number in range(MESSAGES):
                await anna.says(room, f"!ideas {number + 100}")
            began = time.monotonic()
            heard = await anna.until(lambda: _heard(anna.lines(room, account.user_id)), seconds=40)
        stop.set()
        await running
    times = [line.sent_ms / 1000 for line in heard]
    # Nine at once, each further one five seconds after; what the machine takes for the sending is its own affair.
    assert times[AT_ONCE - 1] - times[0] < EVERY * (AT_ONCE - 1) / 4
    assert times[-1] - times[0] >= (MESSAGES - AT_ONCE) * EVERY - 0.5
    assert time.monotonic() - began < 40
    assert not [line for line in logs if line["event"] in ("delivery.later", "matrix.call_failed")]


def _heard(lines: list[Line]) -> list[Line]:
    return lines if len(lines) >= MESSAGES else []
