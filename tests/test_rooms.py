"""Rooms: groups, the team's room, and chats that move, end or come back."""

from dataclasses import replace

import pytest
from sqlalchemy import create_engine
from sqlmodel import col, select

from bot.adapters.memory import Chat as MemoryChat
from bot.types import Actor, ChatRef, Moved
from storage import outbox, rooms
from storage.chats import Chat
from storage.conversation import Dialog
from storage.engine import migrate
from storage.ideas import Idea
from storage.outbox import UNDELIVERABLE, Outbox
from storage.people import Account, Role
from tests.conftest import Community


async def neighbours(lab: Community, *members: str) -> ChatRef:
    """A group with the bot in it."""
    group = lab.group("neighbours", *members)
    await lab.settled()
    return group


# -- the group and its greeting -----------------------------------------------------------------------------


async def test_a_group_is_greeted_in_the_labs_language(lab: Community) -> None:
    group = await neighbours(lab, "anna")
    anna = lab.person("anna", "en").within(group)
    assert anna.sees == (
        "Hallo zusammen! Ich bin der Bot von KoSI-Lab. Mit /idee schlägst du etwas vor, mit /ideen siehst du, "
        "was andere vorschlagen. Mit /termine siehst du, was los ist, mit /umfrage fragst du die Gruppe etwas. "
        "Fürs Team: /raum wählt, was diese Gruppe hört, /team macht sie zum Team-Raum."
    )
    assert len(anna.screen) == 1


async def test_who_unblocks_the_bot_is_not_greeted(lab: Community) -> None:
    anna = lab.person("anna")
    lab.messenger.unblock("anna")
    await lab.settled()
    assert anna.screen == []


async def test_what_is_said_in_a_group_among_people_is_none_of_the_bots_business(lab: Community) -> None:
    group = await neighbours(lab, "anna")
    anna = lab.person("anna").within(group)
    await anna.says("/idee Eine Bank")
    shown = len(anna.screen)
    for words in ("Wir brauchen wirklich mehr Bänke am See.", "1", "#1", "Abbrechen", "/unknown"):
        assert await anna.says(words) == []
    assert len(anna.screen) == shown


async def test_a_mention_is_answered(lab: Community) -> None:
    group = await neighbours(lab, "anna")
    anna = lab.person("anna").within(group)
    await anna.says("@bot hallo")
    assert anna.sees == "Was möchtest du tun?"
    await anna.presses("Ideen ansehen")
    assert "Hier ist noch nichts." in anna.sees
    await anna.says("@bot Wir brauchen mehr Bänke am Phoenixsee.")
    assert "Soll das eine Idee werden, die alle sehen?" in anna.sees
    await anna.says("ja, als Idee", reply_to=anna.screen[-1].id)
    await anna.says("1", reply_to=anna.screen[-1].id)
    await anna.says("2", reply_to=anna.screen[-1].id)
    await anna.says("absenden", reply_to=anna.screen[-1].id)
    await anna.says("@bot #1")
    assert "<b>#1 Wir brauchen mehr Bänke am Phoenixsee.</b>" in anna.sees


async def test_a_group_as_such_is_asked_to_speak_as_a_person(lab: Community) -> None:
    group = await neighbours(lab, "anna")
    channel = lab.person("GroupAnonymousBot").within(group)
    polite = "Ich kann nicht erkennen, wer du bist, weil du als Gruppe schreibst. Schreib bitte als du selbst."
    for words in ("/idee Eine Bank", "/team", "/hilfe"):
        [answer] = await channel.says(words, anonymous=True)
        assert answer.html == polite
    for words in ("Wir brauchen mehr Bänke!", "/ban somebody", "@bot hallo"):
        assert await channel.says(words, anonymous=True) == []
    accounts = await lab.read(lambda session: session.exec(select(Account.external)).all())
    assert accounts == ["anna"]


# -- a dialog in a group ------------------------------------------------------------------------------------


async def test_a_dialog_in_a_group_goes_on_by_replies(lab: Community) -> None:
    group = await neighbours(lab, "anna", "ben")
    anna = lab.person("anna").within(group)
    await anna.says("/idee")
    question = anna.screen[-1]
    assert question.html == "Was ist deine Idee, in einem Satz?\n\n1. Abbrechen"
    assert question.question
    assert question.buttons == ()
    assert question.reply_to is not None  # the messenger opens its reply field for whoever wrote that
    assert await anna.says("Eine Bank") == []
    await anna.says("Eine Bank", reply_to=question.id)
    assert "1. Weiter\n2. Zurück\n3. Abbrechen" in anna.sees
    await anna.says("1", reply_to=anna.screen[-1].id)
    await anna.says("Wohnen", reply_to=anna.screen[-1].id)
    await anna.says("1", reply_to=anna.screen[-1].id)
    assert "#1" in anna.sees
    assert await lab.read(lambda session: session.exec(select(Idea.title)).all()) == ["Eine Bank"]


async def test_nobody_answers_somebody_elses_question(lab: Community) -> None:
    group = await neighbours(lab, "anna", "ben")
    anna, ben = (lab.person(name).within(group) for name in ("anna", "ben"))
    await anna.says("/idee")
    question = anna.screen[-1]
    assert await ben.says("Ein Baum", reply_to=question.id) == []
    await ben.says("1", reply_to=question.id)
    assert ben.sees == "Diese Frage gilt jemand anderem."
    assert await ben.presses_at(question, 0) == "Diese Frage gilt jemand anderem."
    await anna.says("Eine Bank", reply_to=question.id)
    assert "ein, zwei Sätzen" in anna.sees


async def test_two_people_have_a_dialog_each_in_one_group(lab: Community) -> None:
    group = await neighbours(lab, "anna", "ben")
    anna, ben = (lab.person(name).within(group) for name in ("anna", "ben"))
    await anna.says("/idee Eine Bank")
    hers = anna.screen[-1]
    await ben.says("/idee Ein Baum")
    his = ben.screen[-1]
    assert await ben.says("Zum Ausruhen.", reply_to=hers.id) == []  # not his question, though he has one open
    for who, question in ((anna, hers), (ben, his)):
        await who.says("Weiter", reply_to=question.id)
        await who.says("Wohnen", reply_to=who.screen[-1].id)
        await who.says("Absenden", reply_to=who.screen[-1].id)
    assert await lab.read(lambda session: session.exec(select(Idea.title).order_by(Idea.title)).all()) == [
        "Ein Baum",
        "Eine Bank",
    ]


async def test_a_dialog_in_a_group_and_one_in_private_do_not_meet(lab: Community) -> None:
    group = await neighbours(lab, "anna")
    anna = lab.person("anna", "de")
    await anna.within(group).says("/idee Eine Bank")
    await anna.says("/idee Ein Baum")
    await anna.says("Für den Schatten.")
    assert anna.sees == "Welches Thema passt?"
    await anna.within(group).says("Zum Ausruhen.", reply_to=anna.within(group).screen[-1].id)
    assert "Welches Thema passt?" in anna.within(group).sees


# -- the team's room ----------------------------------------------------------------------------------------


async def test_only_organisers_make_a_group_the_teams_room(lab: Community) -> None:
    anna, mona, olga = lab.person("anna"), await lab.organiser("mona", Role.MODERATOR), await lab.organiser("olga")
    group = await neighbours(lab, "anna", "mona", "olga")
    for who in (anna, mona):
        await who.within(group).says("/team")
        assert who.within(group).sees == "/team kann nur das Team des Labs benutzen."
    await olga.within(group).says("/team")
    assert olga.within(group).sees == "Das ist jetzt der Team-Raum: Neue Ideen kommen hier an."
    await olga.within(group).says("/team")
    assert olga.within(group).sees == "Das ist schon der Team-Raum."
    room = olga.within(group).screen[-1]
    assert "Das kann nur das Team des Labs." in (await anna.within(group).presses("Nicht mehr", room) or "")
    assert await lab.read(lambda session: session.exec(select(Chat.team).where(Chat.external == group.id)).one())
    await olga.within(group).presses("Nicht mehr", room)
    assert room.html == "Das ist nicht mehr der Team-Raum."
    assert not await lab.read(lambda session: session.exec(select(Chat.team).where(Chat.external == group.id)).one())


async def test_a_private_chat_is_no_teams_room(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await olga.says("/team")
    assert olga.sees == "That works in a group. Write /team there."
    await anna.says("/team")
    assert anna.sees == "Only the lab's organisers can use /team."


async def test_ideas_arrive_in_the_thread_that_was_made_the_teams(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    group = await neighbours(lab, "olga")
    await olga.within(replace(group, thread="7")).says("/team")
    assert olga.within(group).screen[-1].thread == "7"
    await olga.within(replace(group, thread="8")).says("/hilfe")
    assert olga.within(group).screen[-1].thread == "8"
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    card = olga.within(group).screen[-1]
    assert "A bench" in card.html
    assert card.thread == "7"
    await olga.within(group).presses("Aufgreifen", card)
    assert "Das Lab sagt: aufgegriffen" in card.html


# -- chats that move, end and come back ---------------------------------------------------------------------


async def test_a_group_that_moves_keeps_everything(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    group = await neighbours(lab, "olga", "anna")
    await olga.within(group).says("/language english")
    await olga.within(group).says("/team")
    await anna.within(group).says("/idea A bench")
    new = lab.messenger.move(group, "olga", "g-super")
    await lab.settled()
    await anna.says("/idea A tree\nFor the shade.")
    await anna.presses("Send")
    moved = olga.within(new)
    assert "A tree" in moved.sees
    assert moved.choices[0] == "Answer"
    await moved.presses("Take it up")
    assert "The lab says: taken up" in moved.sees
    await olga.within(new).says("/help")
    assert moved.sees.startswith("This is what I can do here:")
    [dialog] = await lab.read(lambda session: session.exec(select(Dialog)).all())
    assert dialog.step == "idea.text"
    assert await lab.read(lambda session: session.exec(select(Chat.external).where(Chat.team)).all()) == ["g-super"]


async def test_a_group_that_moves_keeps_what_was_said_under_the_new_id_already(lab: Community) -> None:
    olga, anna, ben = await lab.organiser("olga"), lab.person("anna"), lab.person("ben")
    group = await neighbours(lab, "olga", "anna", "ben")
    await olga.within(group).says("/language english")
    await olga.within(group).says("/team")
    await anna.within(group).says("/idea A bench")
    old_question = anna.within(group).screen[-1]
    new = ChatRef("memory", "g-super")
    lab.messenger.chats[new.id] = MemoryChat(new.id, False, {"olga", "anna", "ben"})
    await ben.within(new).says("/idee Ein Baum")
    question = ben.within(new).screen[-1]
    await anna.within(new).says("/idee Ein Teich")
    lab.messenger.chats[group.id].moved_to = new.id
    lab.messenger.happen(Moved("moved", group, Actor("olga"), lab.time.now(), False, to=new))
    await lab.settled()
    chats = await lab.read(lambda session: session.exec(select(Chat).where(col(Chat.private).is_(False))).all())
    assert [(chat.external, chat.team, chat.locale) for chat in chats] == [("g-super", True, "en")]
    await ben.within(new).says("For the shade.", reply_to=question.id)
    assert "Which topic fits?" in ben.within(new).sees
    # Anna had a question open under either id: the older one, which the group was in when it was asked, stays.
    dialogs = await lab.read(lambda session: session.exec(select(Dialog.step, Dialog.data)).all())
    assert sorted(step for step, _ in dialogs) == ["idea.text", "idea.topic"]
    assert any("A bench" in data for _, data in dialogs)
    assert old_question.question


async def test_a_group_that_has_moved_unnoticed_is_followed_by_what_is_sent(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    group = await neighbours(lab, "olga")
    await olga.within(group).says("/team")
    lab.messenger.chats["g-super"] = MemoryChat("g-super", False, {"olga"})
    lab.messenger.chats[group.id].moved_to = "g-super"
    await anna.says("/idea A tree\nFor the shade.")
    await anna.presses("Send")
    assert "A tree" in olga.within(ChatRef("memory", "g-super")).sees
    assert await lab.read(lambda session: session.exec(select(Chat.external).where(Chat.team)).all()) == ["g-super"]


async def test_what_waits_for_somebody_who_blocks_the_bot_ends_and_unblocking_begins_anew(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    await ben.says("/ideas 1")
    seen = len(anna.screen)
    lab.messenger.gate.clear()  # the messenger is slow
    for words in ("First", "Second"):
        for said in ("/ideas 1", "2", words):
            lab.messenger.say("ben", ben.chat, said)
    await lab.messenger.caught_up()
    lab.messenger.block("anna")
    await lab.messenger.caught_up()
    lab.messenger.gate.set()
    await lab.settled()
    assert len(anna.screen) == seen
    waiting = await lab.read(lambda session: outbox.count(session.connection()))
    assert waiting == {("memory", UNDELIVERABLE): 2}
    assert await lab.read(
        lambda session: session.exec(select(Outbox.html).where(Outbox.state == UNDELIVERABLE)).all()
    ) == [None, None]
    lab.messenger.unblock("anna")
    await lab.settled()
    assert len(anna.screen) == seen
    for said in ("/ideas 1", "2", "Third"):
        await ben.says(said)
    assert "Third" in anna.sees
    await anna.says("/help")
    assert anna.sees.startswith("Write your idea to me")


async def test_who_has_blocked_the_bot_unnoticed_is_left_alone_until_they_write(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    lab.messenger.chats[anna.chat.id].blocked = True
    for words in ("First", "Second"):
        for said in ("/ideas 1", "2", words):
            await ben.says(said)
    assert await lab.read(lambda session: outbox.count(session.connection())) == {("memory", UNDELIVERABLE): 1}
    lab.messenger.chats[anna.chat.id].blocked = False
    await anna.says("/help")
    for said in ("/ideas 1", "2", "Third"):
        await ben.says(said)
    assert "Third" in anna.sees


@pytest.mark.parametrize("back", [True, False])
async def test_a_team_whose_group_has_removed_the_bot_gets_ideas_once_it_is_back(lab: Community, back: bool) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    group = await neighbours(lab, "olga")
    await olga.within(group).says("/team")
    lab.messenger.chats[group.id].blocked = True
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    lab.messenger.chats[group.id].blocked = False
    if back:
        await neighbours(lab, "olga")
        assert "Hallo zusammen!" in olga.within(group).sees
    await anna.says("/idea A tree\nFor the shade.")
    await anna.presses("Send")
    assert ("A tree" in olga.within(group).sees) == back


async def test_an_idea_is_one_thing_on_two_messengers(networks: Community) -> None:
    anna, ben = networks.person("anna", on="memory"), networks.person("anna", on="other")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Send")
    await ben.says("/ideas 1")
    await ben.presses("Support")
    assert "1 person supports it." in ben.sees
    await ben.presses("Comment")
    await ben.says("With a roof, please.")
    assert "With a roof, please." in anna.sees
    assert [account.adapter for account in await networks.read(lambda db: db.exec(select(Account)).all())] == [
        "memory",
        "other",
    ]
    await networks.restart()
    await anna.says("/ideas 1")
    assert "1 person supports it." in anna.sees


async def test_whoever_administers_a_room_sets_it_up_and_does_not_make_it_the_teams(lab: Community) -> None:
    group = await neighbours(lab, "anna", "ben")
    anna, ben = lab.person("anna").within(group), lab.person("ben").within(group)
    lab.messenger.administrators.add((group.id, "anna"))
    for words in ("/language en", "/room", "/team"):
        await ben.says(words)
        assert "nur das Team des Labs" in ben.sees or "Nur das Team des Labs" in ben.sees
    await anna.says("/language en")
    await anna.says("/room")
    assert "This is what it hears from the lab" in anna.sees
    await anna.presses("Mobility")
    assert "Mobility: yes" in anna.sees
    assert await ben.presses("Mobility") == "Only the lab's organisers can do that."
    assert "Mobility: yes" in anna.sees
    await anna.says("/team")
    assert "Only the lab's organisers can use /team." in anna.sees
    lab.messenger.administrators.clear()  # rights are those of the moment
    assert await anna.presses("Mobility") == "Only the lab's organisers can do that."


async def test_a_command_is_understood_in_correct_german_too(lab: Community) -> None:
    anna = lab.person("anna", locale="de")
    await anna.says("/einlösen WRONG")
    assert "kenne ich nicht" not in anna.sees
    assert "Code" in anna.sees


# -- what it is called, and what it hears -------------------------------------------------------------------------


async def names(lab: Community) -> list[str]:
    found: list[str] = await lab.read(lambda session: [room.name for room in rooms.named(session.connection())])
    return found


async def test_a_group_has_a_name_in_lists_only_once_somebody_has_chosen_it(lab: Community) -> None:
    olga = (await lab.organiser("olga")).within(await neighbours(lab, "olga"))
    other = olga.within(lab.group("others", "olga"))
    for here in (olga, other):
        await here.says("/language en")
        await here.says("/room")
    assert await names(lab) == []  # the messenger tells the title, and it is not kept
    assert "neighbours" not in str(await lab.read(lambda session: session.exec(select(Outbox.choices)).all()))
    assert olga.sees.startswith("This group has no name in lists yet.")
    await olga.presses("Use this group's title in lists")
    assert olga.sees.startswith("In lists this group is called “neighbours”.")
    assert "Use this group's title in lists" not in olga.choices
    await olga.presses("Another name in lists")
    await olga.says("The north  quarter", reply_to=olga.screen[-1].id)
    await other.says("/room the North quarter")
    assert other.sees == "Another group is called “the North quarter” already. Please choose another name: /room NAME"
    for words in ("x" * 61, "\u200b\u2066"):  # too long, and nothing to be seen
        await other.says(f"/room {words}")
        assert other.sees == "Please write 1 to 60 characters."
    await other.says("/room <b>bold</b> & more")
    assert "“&lt;b&gt;bold&lt;/b&gt; &amp; more”" in other.sees
    assert await names(lab) == ["<b>bold</b> & more", "The north quarter"]
    await other.presses("No name in lists")
    assert await names(lab) == ["The north quarter"]


async def test_who_may_not_set_up_a_room_does_not_name_it_either(lab: Community) -> None:
    group = await neighbours(lab, "anna", "olga")
    olga, anna = (await lab.organiser("olga")).within(group), lab.person("anna").within(group)
    await olga.says("/language en")
    await olga.says("/room")
    settings = olga.screen[-1]
    await anna.says("/help")
    for label in ("Mobility", "Use this group's title", "A name in lists"):
        assert await anna.presses(label, settings) == "Only the lab's organisers can do that."
    await anna.says("/room Ours")
    assert anna.sees == "Only the lab's organisers can use /room."
    assert await names(lab) == []


async def test_a_room_hears_of_the_events_of_its_topics_or_of_all(lab: Community) -> None:
    olga = await lab.organiser("olga")
    mobile, every, deaf = (olga.within(lab.group(name, "olga")) for name in ("mobile", "every", "deaf"))
    for here, topic in ((mobile, "Mobility"), (every, "every new event"), (deaf, None)):
        await here.says("/language en")
        await here.says("/room")
        if topic is not None:
            await here.presses(topic)
            assert f"{topic}: yes" in here.sees
    for topic in ("Mobility", "Housing"):
        await olga.says(f"/event About {topic} | 5.12. 18:00 | | ")
        await olga.presses("Change: Topic")
        await olga.presses(topic)
        assert f"such events ({2 if topic == 'Mobility' else 1})" in olga.sees
        await olga.presses("Publish")
    await lab.later(0)
    told = [[topic for topic in ("Mobility", "Housing") if f"About {topic}" in str(here.screen)]
            for here in (mobile, every, deaf)]  # fmt: skip
    assert told == [["Mobility"], ["Mobility", "Housing"], []]


def test_groups_that_heard_of_events_do_so_after_the_migration_and_back(database: str) -> None:
    migrate(database, "0006")
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO chat (adapter, external, private, locale, active, team, created_at) "
            "VALUES ('memory', 'g', false, 'de', true, false, '2026-11-02 09:00:00')"
        )
        connection.exec_driver_sql("INSERT INTO event_room (chat_id) SELECT id FROM chat")
        connection.exec_driver_sql(
            "INSERT INTO event_room (chat_id) SELECT id FROM chat"
        )  # two groups that are one now
    for revision, table in (("head", "hearing"), ("0006", "event_room"), ("head", "hearing")):
        migrate(database, revision)
        with engine.connect() as connection:
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 1
    engine.dispose()
