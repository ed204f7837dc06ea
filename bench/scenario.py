"""One poll in three Telegram groups and three Matrix rooms, one of them encrypted; 300 accounts of 260 people vote."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
sys.path.insert(0, str(ROOT))

from bot.config import Settings  # noqa: E402
from storage.engine import migrate  # noqa: E402
from tests.adapters.scenario import Crowd, on_both, tell  # noqa: E402
from tests.adapters.synapse import Synapse  # noqa: E402


async def main(accounts: int, people: int) -> bool:
    crowd = Crowd.of(accounts, people)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        url = f"sqlite:///{folder}/labbot.db"
        migrate(url)
        settings = Settings(_env_file=None, data=Path(folder), database_url=url, name="Lab", locale="en")  # type: ignore[call-arg]
        with Synapse(Path(home)) as synapse:
            async with on_both(settings, synapse) as stage:
                report = await tell(stage, crowd)
    print(f"{accounts} accounts of {people} people: {crowd}")
    print("seconds: " + ", ".join(f"{part} {seconds:.1f}" for part, seconds in report.seconds.items()))
    same = len(report.copies) == 6 and all(copy == report.copies[0] for copy in report.copies)
    told = len(report.results) == 6 and len({*report.results}) == 1
    checks = {
        f"{report.voters} votes are counted, one for each person": report.voters == people,
        "of each pair of accounts the later vote counts": report.ballots == report.expected,
        "what is kept equals a recount": report.true,
        f"all six copies show the same: {report.copies[0]}": same,
        "all six places are told the same result": told,
        "the three polls of Matrix's own are ended once": report.ended == [1, 1, 1],
    }
    for what, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return all(checks.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=300)
    parser.add_argument("--people", type=int, default=260)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.accounts, given.people)) else 1)
