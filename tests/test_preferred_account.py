"""Where somebody with several accounts is told things: where they were last, or where they want to be."""

from sqlmodel import Session, select

from storage.announcements import audience
from storage.announcements.writing import EVERYBODY
from storage.chats import Chat
from storage.people import Account
from tests.conftest import Community, Resident
from tests.test_announcements import copies, ledger_of, rests, sent
from tests.test_linking import linked


async def both(lab: Community) -> tuple[Resident, Resident]:
    """One person with an account on each of two messengers; the second was used last."""
    here, there = lab.person("ada", on="memory"), lab.person("ada.a", on="other")
    for resident in (here, there):
        await resident.says("/start")
    await linked(here, there)
    await there.says("/help")
    return here, there


async def test_news_and_reminders_come_where_somebody_wants_them_else_where_they_were_last(
    networks: Community,
) -> None:
    lab = networks
    here, there = await both(lab)
    olga = await lab.organiser("olga")
    await sent(lab, olga, "first news")
    await rests(lab)
    await there.says("/topics")
    assert "I write to you where you were last." in there.sees
    await there.presses("Where you write to me")
    await there.presses("Memory, since")
    assert there.sees == "From now on I write to you on Memory."
    await sent(lab, olga, "second news")
    await rests(lab)
    await here.says("/topics")
    assert "I write to you on Memory." in here.sees
    await here.presses("Where you write to me")
    await here.presses("Where I was last")
    await there.says("/help")
    await sent(lab, olga, "third news")
    await rests(lab)
    for words, count in (("first news", (0, 1)), ("second news", (1, 0)), ("third news", (0, 1))):
        assert (len(copies(here, words)), len(copies(there, words))) == count, words


async def test_who_blocks_the_bot_where_they_want_to_be_told_is_told_elsewhere(networks: Community) -> None:
    lab = networks
    here, there = await both(lab)
    await there.says("/topics")
    await there.presses("Where you write to me")
    await there.presses("Memory, since")
    await lab.read(lambda session: deactivated(session, here))
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    assert len(copies(there, "Big news")) == 1


async def test_what_waits_goes_to_the_other_account_when_the_chat_is_gone_meanwhile(networks: Community) -> None:
    lab = networks
    here, there = await both(lab)
    await there.says("/topics")
    await there.presses("Quiet hours")
    await there.says("9-12")
    await there.says("/topics")
    await there.presses("Where you write to me")
    await there.presses("Memory, since")
    olga = await lab.organiser("olga")
    await sent(lab, olga)
    await rests(lab)
    await lab.read(lambda session: deactivated(session, here))
    await lab.later(3 * 3600)
    await rests(lab, 60)
    assert len(copies(there, "Big news")) == 1
    assert await ledger_of(lab) == {"delivered": 2}


async def test_an_account_on_a_messenger_that_is_switched_off_is_no_place_to_be_told(networks: Community) -> None:
    lab = networks
    _, there = await both(lab)
    await there.says("/topics")
    await there.presses("Where you write to me")
    await there.presses("Memory, since")
    sizes = [
        await lab.read(lambda session, on=on: audience.size(session, EVERYBODY, on).chats)
        for on in (("memory", "other"), ("other",))
    ]
    assert sizes == [{"memory": 1}, {"other": 1}]


def deactivated(session: Session, who: Resident) -> None:
    chat = session.exec(select(Chat).where(Chat.external == who.chat.id, Chat.adapter == who.chat.adapter)).one()
    chat.active = False
    session.add(chat)


async def test_whoever_has_one_account_is_not_asked_and_nobody_chooses_anothers(networks: Community) -> None:
    lab = networks
    eva = lab.person("eva")
    await eva.says("/start")
    await eva.says("/topics")
    assert "Where you write to me" not in eva.choices
    here, there = await both(lab)
    await here.says("/topics")
    await here.presses("Where you write to me")
    question = here.screen[-1]
    await there.says("/me")
    await there.presses("Unlink an account")
    await there.presses("Other, since")
    await there.presses("Part them")
    await here.presses("Other, since", question)
    assert here.sees == "This account is not linked with you any more."
    accounts = await lab.read(lambda session: session.exec(select(Account)).all())
    assert not any(account.preferred for account in accounts)
