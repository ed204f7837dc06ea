"""A messenger without buttons: reactions that can be taken back, private chats that the bot begins, other signs."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlmodel import select

from bot.adapters.memory import UNLIMITED
from bot.config import Settings
from bot.router import Duplicate, Router
from bot.types import Actor, ChatRef, Garbled
from storage import ideas, reactions
from storage.chats import Chat
from storage.people import Person
from storage.reactions import Reaction
from tests.conftest import Community, Resident, running

PLAIN = replace(UNLIMITED, choices=0, begins=True, sign="!")


@pytest.fixture
async def plain(settings: Settings) -> AsyncIterator[Community]:
    """A running lab on a messenger that knows reactions, and whose private chats the bot may begin."""
    async with running(settings.model_copy(update={"locale": "en"}), PLAIN) as community:
        yield community


async def with_idea(lab: Community) -> Resident:
    anna = lab.person("anna")
    for words in ("/idea A bench\nIn the shade.", "1"):
        await anna.says(words)
    assert "has the number <b>#1</b>" in anna.sees
    return anna


async def supports(lab: Community) -> int:
    return int((await lab.read(ideas.recount))[1][0])


async def kept(lab: Community) -> list[Any]:
    return list(await lab.read(lambda session: session.exec(select(Reaction)).all()))


def _prune(connection: Connection, now: datetime) -> None:
    reactions.prune(connection, now)


async def test_a_reaction_that_is_taken_back_undoes_what_it_did(plain: Community) -> None:
    await with_idea(plain)
    ben = plain.person("ben")
    card = (await ben.says("/ideas 1"))[-1]
    mark = plain.messenger.react("ben", ben.chat, card.id, 0)
    await plain.settled()
    assert await supports(plain) == 1
    assert [row.external for row in await kept(plain)] == [mark]
    plain.messenger.retract_own("ben", ben.chat, mark)
    await plain.settled()
    assert await supports(plain) == 0
    assert "Your support for #1 is taken back." in [seen.html for seen in ben.screen]
    assert await kept(plain) == []
    before = len(ben.screen)
    plain.messenger.retract_own("ben", ben.chat, mark)  # a second time it is nothing
    await plain.settled()
    assert len(ben.screen) == before


async def test_somebody_elses_reaction_is_not_ours_to_take_back(plain: Community) -> None:
    await with_idea(plain)
    group = plain.group("Nordmarkt", "anna", "ben")
    ben, anna = plain.person("ben").within(group), plain.person("anna").within(group)
    card = (await ben.says("/ideas 1"))[-1]
    mark = plain.messenger.react("ben", group, card.id, 0)
    plain.messenger.retract_own("anna", group, mark)
    await plain.settled()
    assert await supports(plain) == 1
    assert len(anna.screen) == len(ben.screen) == 3  # the greeting, the notice, the card


async def test_a_reaction_that_undoes_nothing_leaves_no_row(plain: Community) -> None:
    await with_idea(plain)
    ben = plain.person("ben")
    card = (await ben.says("/ideas 1"))[-1]
    plain.messenger.react("ben", ben.chat, card.id, 1)
    await plain.settled()
    assert await kept(plain) == []


async def test_reactions_are_forgotten_when_they_are_too_old(plain: Community) -> None:
    await with_idea(plain)
    ben = plain.person("ben")
    card = (await ben.says("/ideas 1"))[-1]
    plain.messenger.react("ben", ben.chat, card.id, 0)
    await plain.settled()
    now = plain.time.now()
    for moment, left in ((now + reactions.KEEP, 1), (now + reactions.KEEP + timedelta(seconds=1), 0)):
        await plain.app.storage.run(partial(_prune, now=moment))
        assert len(await kept(plain)) == left


async def test_who_reacts_to_a_message_that_is_not_the_bots_stays_unknown(plain: Community) -> None:
    group = plain.group("Nordmarkt", "anna", "ben")
    said = plain.messenger.say("anna", group, "Who comes tomorrow?")
    plain.messenger.react("ben", group, said, 0)
    await plain.settled()
    people = await plain.read(lambda session: session.exec(select(Person)).all())
    assert len(people) == 1  # who has added the bot
    assert len(plain.messenger.sees(group)) == 1


async def test_a_reply_chooses_from_the_message_it_answers_also_in_private(lab: Community) -> None:
    anna = lab.person("anna")
    for words in ("/idea A bench\nIn the shade.", "1"):
        await anna.says(words)
    ben = lab.person("ben")
    card = (await ben.says("/ideas 1"))[-1]
    await ben.says("/help")
    await ben.says("1", reply_to=card.id)
    assert await supports(lab) == 1
    await ben.says("1", reply_to=anna.screen[0].id)  # not of this chat: the newest choices are meant
    assert await supports(lab) == 0  # the newest are those of the card that shows the support


async def test_a_private_command_in_a_group_begins_one_private_chat(plain: Community) -> None:
    group = plain.group("Nordmarkt", "anna")
    anna = plain.person("anna")
    plain.messenger.chats.clear()
    plain.group("Nordmarkt", "anna")
    here = anna.within(group)
    await here.says("/me")
    await here.says("/me")
    mine = plain.messenger.private("anna")
    assert ["Others see you as" in seen.html for seen in plain.messenger.sees(mine)] == [True, True]
    assert all("Others see you as" not in seen.html for seen in here.screen)
    chats = await plain.read(lambda session: session.exec(select(Chat.external, Chat.private)).all())
    assert sorted(map(tuple, chats)) == [("g-Nordmarkt", False), ("p-anna", True)]


async def test_a_private_chat_that_is_there_is_used(plain: Community) -> None:
    anna = await with_idea(plain)
    group = plain.group("Nordmarkt", "anna", "ben")
    await anna.within(group).says("/me")
    assert "Others see you as" in anna.sees
    assert len(await plain.read(lambda session: session.exec(select(Chat)).all())) == 2


async def test_a_link_of_a_group_is_followed_into_private(plain: Community) -> None:
    await with_idea(plain)
    group = plain.group("Nordmarkt", "anna", "ben")
    ben = plain.person("ben")
    card = (await plain.person("anna").within(group).says("/ideas 1"))[-1]
    plain.messenger.react("ben", group, card.id, 2)
    await plain.settled()
    notice, seen = ben.screen
    assert notice.html.startswith("Privacy:")
    assert "#1 A bench" in seen.html
    plain.messenger.react("ben", group, card.id, 2)
    await plain.settled()
    assert [seen.html[:8] for seen in ben.screen[2:]] == [ben.screen[1].html[:8]]


async def test_where_the_bot_cannot_begin_a_chat_it_says_how_people_can(lab: Community) -> None:
    group = lab.group("Nordmarkt", "anna")
    anna = lab.person("anna").within(group)
    await anna.says("/me")
    assert anna.choices == ["Privaten Chat öffnen"]


async def test_commands_are_shown_with_the_messengers_sign(plain: Community) -> None:
    anna = plain.person("anna")
    await anna.says("/help")
    assert "!idea: Suggest an idea" in anna.sees
    assert "/idea" not in anna.sees
    await anna.says("/privacy")
    assert "!me" in anna.sees and "/me" not in anna.sees
    await anna.says("/idea See https://example.org/idea\nThis and/or that.")
    assert "<b>See https://example.org/idea</b>\nThis and/or that." in anna.sees


async def test_what_a_reaction_does_in_a_room_is_told_to_nobody_but_shown(plain: Community) -> None:
    await with_idea(plain)
    group = plain.group("Nordmarkt", "anna", "ben")
    ben = plain.person("ben").within(group)
    card = (await plain.person("anna").within(group).says("/ideas 1"))[-1]
    before = len(ben.screen)
    plain.messenger.react("ben", group, card.id, 0)
    await plain.settled()
    assert len(ben.screen) == before
    assert "1 person supports it." in ben.sees
    notice, _ = await ben.says("/ideas 1")  # it was not lost on who cannot be told
    assert notice.html.startswith("Privacy:")


async def test_a_chat_hears_that_something_could_not_be_read(plain: Community) -> None:
    anna = plain.person("anna")
    at = plain.time.now()
    plain.messenger.happen(Garbled("g1", anna.chat, Actor("anna"), at, True))
    unknown = ChatRef(plain.messenger.name, plain.group("Nordmarkt", "anna").id)
    await plain.settled()
    assert "without its key" in anna.sees
    plain.messenger.happen(Garbled("g2", unknown, Actor("@bot", anonymous=True), at, False))
    await plain.settled()
    assert "without its key" in anna.within(unknown).sees
    plain.messenger.chats["g-strange"] = plain.messenger.chats["g-Nordmarkt"]
    before = len(anna.within(unknown).screen)
    nowhere = ChatRef(plain.messenger.name, "g-strange")
    plain.messenger.happen(Garbled("g3", nowhere, Actor("@bot", anonymous=True), at, False))
    await plain.settled()
    assert len(anna.within(unknown).screen) == before  # nobody there has turned to the bot


def test_two_undos_of_one_action_are_a_mistake() -> None:
    mine, theirs = Router(), Router()
    mine.press("idea.support", undo="idea.unsupport")(lambda turn: None)
    theirs.press("idea.like", undo="idea.unlike")(lambda turn: None)
    mine.include(theirs)
    assert mine.undos == {"idea.support": "idea.unsupport", "idea.like": "idea.unlike"}
    theirs.undos["idea.support"] = "idea.other"
    with pytest.raises(Duplicate, match=r"idea\.support|idea\.like"):
        mine.include(theirs)
