"""One poll on two messengers, people who vote with two accounts, one count. ``bench/scenario.py`` tells it larger."""

from bot.config import Settings
from tests.adapters.scenario import Crowd, on_both, tell
from tests.adapters.synapse import Synapse


async def test_one_poll_on_two_messengers_counts_each_person_once_and_shows_everywhere_the_same(
    settings: Settings, synapse: Synapse
) -> None:
    crowd = Crowd.of(accounts=24, people=20)
    async with on_both(settings, synapse) as stage:
        report = await tell(stage, crowd)
    assert report.voters == sum(report.ballots.values()) == crowd.people == 20
    assert report.ballots == report.expected  # of each pair the later one
    assert report.true
    assert len(report.copies) == 6 and all(copy == report.copies[0] for copy in report.copies)
    assert {option: report.expected.get((n,), 0) for n, option in enumerate(report.copies[0])} == report.copies[0]
    assert len(report.results) == 6 and len({*report.results}) == 1
    assert report.ended == [1, 1, 1]
