"""Polls: asked in a line or step by step, voted on in groups and in private, closed, and what comes of them."""

import re

from bot.adapters.memory import Seen
from storage.polls import voting
from storage.polls.tables import Poll
from tests.conftest import Community, Resident

HOUR, DAY = 3600.0, 86400.0


async def in_group(lab: Community, *names: str, called: str = "neighbours") -> list[Resident]:
    """People in a group, in the English language."""
    group = lab.group(called, *names)
    await lab.settled()
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE chat SET locale = 'en'"))
    return [lab.person(name).within(group) for name in names]


async def refreshed(lab: Community) -> None:
    """The copies are brought up to date, as every few seconds."""
    await lab.tick("refresh_polls")
    await lab.settled()


def the_card(who: Resident, number: int = 1) -> Seen:
    """The newest copy of a poll in a chat."""
    return next(seen for seen in reversed(who.screen) if seen.html.startswith(f"<b>#{number} "))


async def poll_of(lab: Community, number: int = 1) -> Poll:
    found: Poll = await lab.read(lambda session: session.get_one(Poll, number))
    return found


async def is_true(lab: Community) -> bool:
    """Whether the kept counts equal what is counted anew."""
    found: bool = await lab.read(
        lambda session: voting.kept(session.connection()) == voting.recount(session.connection())
    )
    return found


# -- in a group ---------------------------------------------------------------------------------------------


async def test_a_poll_in_one_line_stands_in_the_group_at_once_and_counts(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    await anna.says("/poll Which evening? | Tue | Wed | Thu")
    card = the_card(anna)
    assert card.html.startswith("<b>#1 Which evening?</b>")
    assert "Open: everybody can see who votes for what." in card.html
    assert [button.label for button in card.buttons] == ["Tue", "Wed", "Thu", "Take my vote back"]
    assert await anna.presses("Wed") == "Your vote in #1: 2. Wed"
    assert "1. Tue\n" in card.html and "Nobody has voted yet." in card.html  # it changes a little later
    await ben.says("2", reply_to=card.id)  # a typed number is as good
    await refreshed(lab)
    assert "2. Wed\n2 votes, 100 % ██████████" in card.html
    assert "2 people have voted." in card.html
    assert re.search(r"Voted: .+ \(2\), .+ \(2\)", card.html)
    assert await ben.presses("Thu") == "Your vote in #1: 3. Thu"  # changed, not added
    assert await anna.presses("Take my vote back") == "Your vote in #1 is taken back."
    assert await anna.presses("Take my vote back") == "You have not voted in #1."
    await refreshed(lab)
    assert "1 person has voted." in card.html
    assert await is_true(lab)
