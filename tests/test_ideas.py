"""Ideas: from a message to a supported idea, and what the team makes of it."""

import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, col, select, update

from bot.adapters.memory import Seen
from bot.types import ChatRef
from storage import erasure, ideas, linking, people
from storage.chats import Chat
from storage.engine import open_engine, session_in
from storage.ideas import Comment, Follow, Idea, NotOpen, NotYours, Status, Support
from storage.people import Person, Role
from tests.conftest import Community, Resident


async def recounted(lab: Community) -> None:
    """The counts that are kept are those that counting gives."""

    def kept(session: Session) -> dict[int, tuple[int, int]]:
        return {idea.id: (idea.supports, idea.comments) for idea in session.exec(select(Idea)).all() if idea.id}

    assert await lab.read(kept) == await lab.read(ideas.recount)


@pytest.fixture
async def lab(lab: Community) -> AsyncIterator[Community]:
    """A running lab; at the end of every story its counts are true."""
    yield lab
    await recounted(lab)


async def suggests(who: Resident, title: str, text: str = "It helps everybody.") -> str:
    """Suggest an idea in one message, and send it. Returns its number."""
    await who.says(f"/idea {title}\n{text}")
    await who.presses("Send")
    found = re.search(r"#(\d+)", who.sees)
    assert found is not None
    return found[1]


async def opens(who: Resident, number: str) -> Seen:
    """Have the card of an idea shown."""
    await who.says(f"/ideas {number}")
    return who.screen[-1]


async def rewrites(who: Resident, message: str, words: str) -> list[Seen]:
    """Edit one's own message, and see what is new on the screen then."""
    before = len(who.screen)
    who.lab.messenger.edit_own(who.name, who.chat, message, words)
    await who.lab.settled()
    return who.screen[before:]


async def takes_back(who: Resident, message: str) -> None:
    """Delete one's own message."""
    who.lab.messenger.retract_own(who.name, who.chat, message)
    await who.lab.settled()


def last_written(who: Resident) -> str:
    """The messenger's id of one's own newest message."""
    written = who.lab.messenger.chats[who.chat.id].messages
    return next(message.id for message in reversed(written) if message.author == who.name)


async def stored(lab: Community, number: str) -> Idea:
    """An idea as the database has it."""
    idea: Idea = await lab.read(lambda session: session.get_one(Idea, int(number)))
    return idea


async def english_group(lab: Community, name: str, *members: str) -> ChatRef:
    """A group whose language is English."""
    group = lab.group(name, *members)
    await lab.settled()
    await lab.read(
        lambda session: session.execute(update(Chat).where(col(Chat.external) == group.id).values(locale="en"))
    )
    return group


async def team_room(lab: Community, name: str = "team") -> tuple[Resident, ChatRef]:
    """An organiser in the team's room."""
    olga = await lab.organiser(f"olga-{name}")
    group = await english_group(lab, name, olga.name)
    inside = olga.within(group)
    await inside.says("/team")
    return inside, group


# -- suggesting ---------------------------------------------------------------------------------------------


async def test_a_citizen_suggests_an_idea_step_by_step(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    await anna.says("/idee Fahrradgarage am Nordmarkt")
    assert "ein, zwei Sätzen" in anna.sees
    await anna.says("Viele haben im Altbau keinen Platz.")
    assert "Welches Thema" in anna.sees
    await anna.says("1")
    assert "So geht sie raus" in anna.sees
    await anna.presses("Absenden")
    assert "#1" in anna.sees
    assert anna.choices == ["Ansehen", "Ändern", "Zurückziehen"]
    [idea] = await lab.read(lambda session: list(ideas.export(session)))
    assert (idea.title, idea.topic, idea.status) == ("Fahrradgarage am Nordmarkt", "mobility", "new")


async def test_the_menu_leads_to_an_idea_too(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    await anna.presses("Suggest an idea")
    assert anna.sees == "What is your idea, in one sentence?"
    await anna.says("A bench in the sun")
    await anna.presses("Skip")
    await anna.presses("Neighbourhood")
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text, idea.topic) == ("A bench in the sun", "", "neighbourhood")


async def test_one_can_go_back_at_every_step_and_nothing_is_lost(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench")
    assert anna.choices == ["Skip", "Back", "Cancel"]
    await anna.presses("Back")
    assert anna.sees == "How shall it be called? So far: A bench"
    assert anna.choices == ["Leave it as it is", "Cancel"]
    await anna.says("A long bench")
    await anna.says("One can rest there.")
    assert anna.choices[-2:] == ["Back", "Cancel"]
    await anna.presses("Back")
    assert anna.choices == ["Leave it as it is", "Without a text", "Back", "Cancel"]
    await anna.presses("Back")
    assert "A long bench" in anna.sees
    await anna.presses("Leave it as it is")
    await anna.presses("Leave it as it is")
    assert anna.sees == "Which topic fits?"
    await anna.presses("Housing")
    await anna.presses("Sign with a name")
    assert anna.choices == ["Back", "Cancel"]
    await anna.presses("Back")
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text, idea.topic, idea.named) == ("A long bench", "One can rest there.", "housing", False)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_cancel_leaves_at_every_step_and_nothing_is_sent(lab: Community, steps: int) -> None:
    anna = lab.person("anna")
    await anna.says("/idea")
    for words in ("A bench", "One can rest there.", "2")[:steps]:
        await anna.says(words)
    await anna.presses("Cancel")
    assert anna.sees == "Cancelled. Nothing was sent."
    assert "Suggest an idea" in anna.choices
    assert await lab.read(lambda session: list(ideas.export(session))) == []
    await anna.says("hm")
    assert anna.sees == "What would you like to do?"


async def test_title_text_and_topic_can_be_changed_before_it_goes_out(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Change the title")
    assert anna.choices == ["Leave it as it is", "Cancel"]
    await anna.says("Two benches")
    assert "<b>Two benches</b>" in anna.sees
    await anna.presses("Change the text")
    await anna.says("Two can rest there.")
    assert "Two can rest there." in anna.sees
    await anna.presses("Change the topic")
    await anna.says("housing")
    assert "Topic: Housing" in anna.sees
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text, idea.topic) == ("Two benches", "Two can rest there.", "housing")


async def test_whoever_looks_at_a_change_can_leave_everything_as_it_is(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    before = anna.sees
    for part in ("title", "text", "topic"):
        await anna.presses(f"Change the {part}")
        await anna.presses("Leave it as it is")
        assert anna.sees == before


async def test_a_text_can_be_taken_out_again(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Change the text")
    await anna.presses("Without a text")
    assert "One can rest there." not in anna.sees
    await anna.presses("Send")
    assert (await stored(lab, "1")).text == ""


async def test_only_what_was_seen_is_sent(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    old = anna.screen[-1]
    await anna.presses("Change the title")
    await anna.says("Two benches")
    note = await anna.presses("Send", old)
    assert note == "This has changed since. Please look once more."
    assert "<b>Two benches</b>" in anna.sees
    assert await lab.read(lambda session: list(ideas.export(session))) == []


async def test_an_old_question_says_that_it_is_over(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench")
    await anna.presses("Skip")
    topics = anna.screen[-1]
    await anna.presses("Housing")
    await anna.presses("Send")
    assert await anna.presses("Work", topics) == "This question is answered already."
    await opens(anna, "1")
    await anna.presses("Comment")
    assert await anna.presses("Work", topics) == "This question is answered already."
    await anna.says("I sit there already.")
    assert anna.sees == "Your comment stands under #1."


async def test_an_idea_appears_under_the_pseudonym_unless_its_author_signs(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    pseudonym = await lab.read(lambda session: session.exec(select(Person.pseudonym)).one())
    assert f"under your pseudonym “{pseudonym}”" in anna.sees
    await anna.presses("Sign with a name")
    await anna.says("Anna Muster")
    assert "signed “Anna Muster”" in anna.sees
    await anna.presses("Sign with my pseudonym")
    assert f"under your pseudonym “{pseudonym}”" in anna.sees
    await anna.presses("Send")
    assert (await lab.read(lambda session: session.exec(select(Person.name)).one())) is None
    second = await suggests(anna, "A tree")
    await anna.says("/idea A pond\nFor the ducks.")
    await anna.presses("Sign with a name")
    await anna.says("Anna Muster")
    await anna.presses("Send")
    ben = lab.person("ben")
    await opens(ben, second)
    assert f"By {pseudonym}" in ben.sees
    await opens(ben, "3")
    assert "By Anna Muster" in ben.sees


@pytest.mark.parametrize("unfit", ["", "123", "x" * 41, "\u200b"])
async def test_a_name_that_is_none_is_asked_for_again(lab: Community, unfit: str) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Sign with a name")
    await anna.says(unfit)
    assert anna.sees == "Please use 1 to 40 characters, with letters."
    await anna.says("Anna")
    assert "signed “Anna”" in anna.sees


@pytest.mark.parametrize("name", ["KoSI-Lab", "kosi-lab", "das Lab", "The  Lab", "ＫｏＳＩ-Lab"])
async def test_nobody_signs_as_the_lab(lab: Community, name: str) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Sign with a name")
    await anna.says(name)
    assert anna.sees == "That name belongs to the lab. Which other one?"


async def test_an_idea_in_one_message_goes_straight_to_the_preview(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bicycle garage\nFor everybody.\n\nWith a roof.")
    assert "<b>A bicycle garage</b>\nFor everybody.\n\nWith a roof.\nTopic: Something else" in anna.sees
    assert anna.choices[0] == "Send"


async def test_a_long_first_line_becomes_title_and_text(lab: Community) -> None:
    anna = lab.person("anna")
    rest = "It would keep the bicycles dry, and many more people would come to work by bicycle than do today."
    await anna.says(f"/idea We need a bicycle garage at the station. {rest}")
    assert f"<b>We need a bicycle garage at the station.</b>\n{rest}" in anna.sees


async def test_a_long_first_sentence_is_kept_as_the_text_and_its_beginning_is_the_title(lab: Community) -> None:
    anna = lab.person("anna")
    sentence = "a very " * 30 + "long story"
    await anna.says(f"/idea {sentence}")
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert idea.text == sentence
    assert len(idea.title) <= ideas.LONGEST_TITLE
    assert idea.title.endswith("very…") or idea.title.endswith("a…")


async def test_a_text_that_is_too_long_is_counted_and_asked_for_again(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/idee Eine Bank\n" + "x" * 1801)
    assert anna.sees == "Das sind 1.801 Zeichen, 1.800 passen hinein. Geht es kürzer?"
    assert anna.choices[0] == "Ohne Text"  # not “go on”: that would lose it unawares
    await anna.says("y" * 2500)
    assert anna.sees == "Das sind 2.500 Zeichen, 1.800 passen hinein. Geht es kürzer?"
    await anna.says("z" * 1800)
    await anna.says("1")
    await anna.presses("Text ändern")
    await anna.says("x" * 1801)
    assert "1.801" in anna.sees
    await anna.presses("So lassen")
    await anna.presses("Titel ändern")
    await anna.says("Zwei Bänke\n" + "x" * 1801)
    assert "1.801" in anna.sees
    await anna.presses("So lassen")
    await anna.presses("Absenden")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text) == ("Zwei Bänke", "z" * 1800)


async def test_what_people_write_is_never_taken_for_markup(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "<b>Bold</b> & {brave}", "<a href='x'>click</a> {title}")
    await opens(anna, number)
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; {brave}" in anna.sees
    assert "&lt;a href=&#39;x&#39;&gt;click&lt;/a&gt; {title}" in anna.sees


async def test_the_topic_is_chosen_by_number_by_name_or_asked_for_again(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/idee Eine Bank")
    await anna.says("weiter")
    await anna.says("Sonstwas")
    assert [seen.html for seen in anna.screen[-2:]] == [
        "Wähle bitte eines der Themen oder schreib seine Zahl.",
        "Welches Thema passt?",
    ]
    await anna.says("wohnen")
    assert "Thema: Wohnen" in anna.sees
    await anna.says("Thema ändern")
    await anna.says("3.")
    assert "Thema: Arbeit" in anna.sees
    await anna.says("und nun?")
    assert "noch nicht abgeschickt" in anna.screen[-2].html
    assert "So geht sie raus" in anna.sees
    await anna.says("absenden")
    assert (await stored(lab, "1")).topic == "work"


async def test_a_plain_sentence_can_become_an_idea(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("Wir brauchen mehr Bänke am Phoenixsee.")
    assert anna.sees == "Soll das eine Idee werden, die alle sehen?"
    assert anna.choices == ["Ja, als Idee", "Nein"]
    await anna.presses("Ja")
    await anna.says("Weiter")
    await anna.says("Nachbarschaft")
    await anna.presses("Absenden")
    assert (await stored(lab, "1")).title == "Wir brauchen mehr Bänke am Phoenixsee."


async def test_a_plain_sentence_need_not_become_an_idea(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("What a lovely day it is")
    await anna.presses("No")
    assert anna.sees == "Cancelled. Nothing was sent."
    assert await lab.read(lambda session: list(ideas.export(session))) == []


async def test_who_says_more_gets_one_idea_of_all_of_it(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("We need more benches at the lake.")
    await anna.says("Old people want to rest there.")
    assert anna.sees == "Shall all of this become one idea for everybody to see?"
    await anna.says("yes, as an idea")
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text) == ("We need more benches at the lake.", "Old people want to rest there.")


async def test_who_goes_on_with_something_else_is_not_held_up(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    await anna.says("We need more benches at the lake.")
    offer = anna.screen[-1]
    await anna.says(f"#{number}")
    assert "<b>#1 A bench</b>" in anna.sees
    assert await anna.presses("Yes", offer) == "This question is answered already."


async def test_a_greeting_gets_the_menu(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    await anna.says("Hallo")
    assert anna.sees == "Was möchtest du tun?"
    assert anna.choices == ["Idee vorschlagen", "Ideen ansehen", "Was ist los", "Sprache", "Hilfe"]


async def test_a_photo_alone_is_answered_with_words(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    await anna.says("", files=[("photo.jpg", b"...")])
    assert anna.sees == "I can only read text so far. Please write it to me."
    assert anna.choices


async def test_a_photo_instead_of_an_answer_asks_again(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea")
    await anna.says("", files=[("photo.jpg", b"...")])
    assert anna.sees == "What is your idea, in one sentence?"
    await anna.says("A bench")
    question = anna.sees
    await anna.says("", files=[("photo.jpg", b"...")])
    assert anna.sees == question


async def test_a_draft_survives_a_restart(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench")
    await lab.restart()
    await anna.says("One can rest there.")
    await anna.presses("Housing")
    await lab.restart()
    await anna.presses("Send")
    assert (await stored(lab, "1")).title == "A bench"


async def test_news_do_not_take_the_place_of_an_open_question(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    number = await suggests(anna, "A bench")
    await anna.says("/idea A tree")
    await anna.presses("Skip")
    assert anna.sees == "Which topic fits?"
    await opens(ben, number)
    await ben.presses("Comment")
    await ben.says("Good!")
    assert "Good!" in anna.sees
    await anna.says("2")
    assert "Topic: Housing" in anna.sees


# -- finding ------------------------------------------------------------------------------------------------


async def test_a_number_shows_its_idea(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    assert number == "1"
    for words in ("#1", "/ideas 1", "/ideas #1", "/idea A tree\nFor the shade."):
        await anna.says(words)
    assert [("#1 A bench" in seen.html) for seen in anna.screen[-4:]] == [True, True, True, False]
    await anna.presses("Cancel")
    await anna.says("# 1")
    assert "<b>#1 A bench</b>" in anna.sees


async def test_a_hash_means_an_idea_even_while_there_are_choices(lab: Community) -> None:
    anna = lab.person("anna")
    await suggests(anna, "A bench")
    await suggests(anna, "A tree")
    await anna.says("/ideas")
    assert anna.choices[0].startswith("#2")
    await anna.says("#1")
    assert "<b>#1 A bench</b>" in anna.sees


@pytest.mark.parametrize("number", ["7", "999999999", "0"])
async def test_an_unknown_number_is_no_dead_end(lab: Community, number: str) -> None:
    anna = lab.person("anna")
    await anna.says("/start")
    await anna.says(f"#{number}")
    assert anna.sees == f"There is no idea #{number}, or it was withdrawn."
    assert anna.choices == ["All ideas"]


async def test_an_empty_list_invites_to_the_first_idea(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/ideen")
    assert anna.sees == "Hier ist noch nichts. Deine Idee könnte die erste sein: /idee"
    await anna.presses("Idee vorschlagen")
    assert anna.sees == "Was ist deine Idee, in einem Satz?"


async def test_pages_have_no_repeats_and_no_gaps_while_ideas_arrive(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    for number in range(1, 13):
        await suggests(anna, f"Idea {number}")
    await ben.says("/ideas")
    seen = [label for label in ben.choices if label.startswith("#")]
    for number in (13, 14):
        await suggests(anna, f"Idea {number}")
        await ben.presses("More")
        seen += [label for label in ben.choices if label.startswith("#")]
    assert seen == [f"#{number} Idea {number} (0)" for number in range(12, 0, -1)]
    assert "More" not in ben.choices
    assert len(ben.screen) == 2  # the notice, and one list that turned its pages


async def test_the_most_supported_come_first_page_after_page(lab: Community) -> None:
    anna = lab.person("anna")
    for number in range(1, 8):
        await suggests(anna, f"Idea {number}")
    for number, supporters in ((2, 3), (5, 2), (7, 2), (1, 1)):
        for person in range(supporters):
            somebody = lab.person(f"somebody-{person}")
            await opens(somebody, str(number))
            await somebody.presses("Support")
    await anna.says("/ideas")
    await anna.presses("Most supported")
    assert anna.sees == "The most supported ideas:"
    seen = [label.split()[0] for label in anna.choices if label.startswith("#")]
    await anna.presses("More")
    seen += [label.split()[0] for label in anna.choices if label.startswith("#")]
    assert seen == ["#2", "#7", "#5", "#1", "#6", "#4", "#3"]
    await anna.presses("Newest")
    assert anna.choices[0].startswith("#7")


async def test_ideas_are_found_by_topic(lab: Community) -> None:
    anna = lab.person("anna")
    for title, topic in (("A bench", "2"), ("A tree", "1"), ("A flat", "2")):
        await anna.says(f"/idea {title}")
        await anna.presses("Skip")
        await anna.says(topic)
        await anna.presses("Send")
    await anna.says("/ideas")
    await anna.presses("By topic")
    await anna.says("Housing")
    assert anna.sees == "Ideas about Housing:"
    assert anna.choices[:2] == ["#3 A flat (0)", "#1 A bench (0)"]
    await anna.presses("Most supported")
    assert anna.choices[:2] == ["#3 A flat (0)", "#1 A bench (0)"]
    await anna.presses("By topic")
    await anna.presses("Work")
    assert anna.choices == ["Suggest an idea", "All ideas"]
    await anna.presses("All ideas")
    assert anna.sees == "The newest ideas:"


async def test_ideas_are_found_by_words(lab: Community) -> None:
    anna = lab.person("anna", "de")
    for words in ("Grüne Dächer\nGegen die Hitze", "Ein Dach fürs Rad\nAus Holz", "100% Ökostrom\nFür a_b"):
        await anna.says(f"/idee {words}")
        await anna.presses("Absenden")
    await anna.says("/ideen HITZE dächer")
    assert anna.sees == "Ideen mit „HITZE dächer“:"
    assert [label for label in anna.choices if label.startswith("#")] == ["#1 Grüne Dächer (0)"]
    await anna.says("/ideen")
    await anna.presses("Nach Wörtern")
    await anna.says("holz")
    assert [label for label in anna.choices if label.startswith("#")] == ["#2 Ein Dach fürs Rad (0)"]
    await anna.says("/ideen %")
    assert [label for label in anna.choices if label.startswith("#")] == ["#3 100% Ökostrom (0)"]
    await anna.says("/ideen a_b")
    assert [label for label in anna.choices if label.startswith("#")] == ["#3 100% Ökostrom (0)"]
    await anna.says("/ideen Schwimmbad")
    assert anna.sees == "Es gibt noch keine Idee mit „Schwimmbad“."
    assert anna.choices == ["Idee vorschlagen", "Alle Ideen"]


async def test_a_list_leads_to_the_cards(lab: Community) -> None:
    anna = lab.person("anna")
    await suggests(anna, "A bench", "One can rest there.")
    await anna.says("/ideas")
    await anna.says("a bench")
    assert "<b>#1 A bench</b>\n\nOne can rest there." in anna.sees
    assert "Topic: Something else. By " in anna.sees
    assert "Nov 2, 2026" in anna.sees
    await anna.presses("All ideas")
    assert anna.sees == "The newest ideas:"


async def test_withdrawn_and_hidden_ideas_are_not_found(lab: Community) -> None:
    anna, olga = lab.person("anna"), await lab.organiser("olga")
    for title in ("A bench", "A tree", "A pond"):
        await suggests(anna, title)
    await opens(anna, "1")
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    await opens(olga, "2")
    await olga.presses("Hide")
    ben = lab.person("ben")
    for search in ("/ideas", "/ideas a"):
        await ben.says(search)
        assert [label for label in ben.choices if label.startswith("#")] == ["#3 A pond (0)"]
    for number in ("1", "2"):
        await opens(ben, number)
        assert ben.sees == f"There is no idea #{number}, or it was withdrawn."


# -- supporting ---------------------------------------------------------------------------------------------


async def test_nobody_supports_twice(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bicycle garage\nFor everybody.")
    await anna.presses("Send")
    await ben.says("/ideas 1")
    card = ben.screen[-1]
    assert await ben.presses("Support") == "Thank you, your support for #1 counts."
    stale = await ben.presses_at(card, 0, revision=0)
    assert stale is not None
    assert "out of date" in stale
    assert (await lab.read(ideas.recount))[1] == (1, 0)
    assert "1 person supports it" in ben.sees


async def test_support_from_two_cards_counts_once(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    first = await opens(anna, number)
    second = await opens(anna, number)
    await anna.presses("Support", first)
    assert await anna.presses("Support", second) == "You support #1 already."
    assert (await stored(lab, number)).supports == 1
    assert "Take my support back" in anna.choices  # the second card has learned of it


async def test_support_can_be_taken_back(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    number = await suggests(anna, "A bench")
    await opens(anna, number)
    assert "Nobody supports it yet." in anna.sees
    await anna.presses("Support")
    first = await opens(ben, number)
    await ben.presses("Support")
    assert "2 people support it." in ben.sees
    second = await opens(ben, number)
    assert await ben.presses("Take my support back", second) == "Your support for #1 is taken back."
    assert await ben.presses("Take my support back", first) == "You do not support #1."
    assert "1 person supports it." in ben.sees
    assert (await stored(lab, number)).supports == 1


async def test_a_group_supports_on_one_card(lab: Community) -> None:
    anna, ben, cem = (lab.person(name) for name in ("anna", "ben", "cem"))
    number = await suggests(anna, "A bench")
    group = await english_group(lab, "neighbours", "anna", "ben", "cem")
    in_group = [person.within(group) for person in (anna, ben, cem)]
    await in_group[0].says(f"/ideas {number}")
    assert in_group[0].choices == ["Support", "Take my support back", "Discuss it in private"]
    card = in_group[0].screen[-1]
    for person in in_group:
        assert "Thank you" in (await person.presses("Support", card) or "")
    assert await in_group[1].presses("Support", card) == "You support #1 already."
    assert "3 people support it." in card.html
    assert await in_group[2].presses("Take my support back", card) == "Your support for #1 is taken back."
    assert "2 people support it." in card.html
    assert len([seen for seen in in_group[0].screen if "A bench" in seen.html]) == 1


async def test_an_idea_is_discussed_in_private_not_in_the_group(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    group = await english_group(lab, "neighbours", "anna")
    await anna.within(group).says(f"/ideas {number}")
    [_, _, discuss] = anna.within(group).screen[-1].buttons
    assert discuss.start == "idea-1"
    await anna.says(f"/start {discuss.start}")
    assert "Comment" in anna.choices


# -- discussing and following -------------------------------------------------------------------------------


async def test_a_comment_reaches_the_author_and_can_be_read(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben", "de")
    number = await suggests(anna, "A bench")
    await opens(ben, number)
    assert not [label for label in ben.choices if label.startswith("Kommentare lesen")]
    await ben.presses("Kommentieren")
    await ben.says("Mit <Lehne>, bitte!")
    assert ben.sees == "Dein Kommentar steht unter #1."
    assert "on #1 “A bench”:\nMit &lt;Lehne&gt;, bitte!" in anna.sees
    await anna.presses("View")
    assert "1 comment." in anna.sees
    await anna.presses("Read comments (1)")
    assert "Mit &lt;Lehne&gt;, bitte!" in anna.sees
    pseudonym = await lab.read(lambda session: session.exec(select(Person.pseudonym).where(Person.id == 2)).one())
    assert f"<b>{pseudonym}</b>, Nov 2, 2026, 10:00\u202fAM: Mit" in anna.sees


@pytest.mark.parametrize("words", ["x" * 1001, ""])
async def test_a_comment_that_does_not_fit_is_asked_for_again(lab: Community, words: str) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    await opens(anna, number)
    await anna.presses("Comment")
    await anna.says(words)
    assert anna.sees == (
        "That is 1,001 characters, and 1,000 fit. Can you say it shorter?"
        if words
        else "Please write 1 to 1,000 characters."
    )
    await anna.says("Good.")
    assert (await stored(lab, number)).comments == 1


async def test_a_comment_can_be_left(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    await opens(anna, number)
    await anna.presses("Comment")
    await anna.presses("Cancel")
    await anna.says("Good morning")
    assert (await stored(lab, number)).comments == 0


async def test_many_comments_are_read_page_by_page(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    for said in range(1, 13):
        await opens(anna, number)
        await anna.presses("Comment")
        await anna.says(f"Comment {said}.")
    await opens(anna, number)
    await anna.presses("Read comments (12)")
    pages = [anna.sees]
    while "Older ones" in anna.choices:
        await anna.presses("Older ones")
        pages.append(anna.sees)
    read = [[int(said) for said in re.findall(r"Comment (\d+)\.", page)] for page in pages]
    assert read == [[8, 9, 10, 11, 12], [3, 4, 5, 6, 7], [1, 2]]


async def test_the_team_answers_and_followers_hear_it(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/idee Eine Bank\nZum Ausruhen.")
    await anna.presses("Absenden")
    olga, group = await team_room(lab)
    await anna.says("/idee Ein Baum\nFür den Schatten.")
    await anna.presses("Absenden")
    await olga.presses("Answer")
    question = olga.screen[-1]
    assert question.question
    await olga.says("We will plant it.", reply_to=question.id)
    assert olga.sees == "The lab's answer stands under #2."
    assert anna.sees == "Das Lab antwortet zu #2 „Ein Baum“:\nWe will plant it."
    await opens(anna, "2")
    await anna.presses("Kommentare lesen (1)")
    assert "<b>das Lab</b>" in anna.sees
    assert group is not None


async def test_a_participant_cannot_answer_for_the_lab(lab: Community) -> None:
    anna = lab.person("anna")
    olga, group = await team_room(lab)
    number = await suggests(anna, "A bench")
    ben = lab.person("ben").within(group)
    card = ben.screen[-1]
    assert "A bench" in card.html
    assert "Only the lab's organisers can do that." in (await ben.presses("Answer", card) or "")
    await olga.presses("Answer", card)
    question = olga.screen[-1]
    await lab.read(_demote("olga-team"))
    await olga.says("We decided against it.", reply_to=question.id)
    [comment] = await lab.read(lambda session: session.exec(select(Comment)).all())
    assert not comment.team
    assert (await stored(lab, number)).comments == 1


def _demote(name: str) -> object:
    def change(session: Session) -> None:
        account = session.exec(select(people.Account).where(people.Account.external == name)).one()
        person = session.get_one(Person, account.person_id)
        person.role = Role.PARTICIPANT
        session.add(person)

    return change


async def test_followers_hear_of_an_idea_until_they_unfollow(lab: Community) -> None:
    anna, ben, cem = (lab.person(name) for name in ("anna", "ben", "cem"))
    number = await suggests(anna, "A bench")
    for person in (ben, cem):
        await opens(person, number)
    assert await ben.presses("Follow") == "I will tell you when something happens with #1."
    assert "Unfollow" in ben.choices
    await _comments(cem, number, "First")
    assert "First" in anna.sees
    assert "First" in ben.sees
    assert "First" not in cem.sees  # not oneself, and cem does not follow
    await opens(ben, number)
    assert await ben.presses("Unfollow") == "You no longer hear of #1."
    await opens(anna, number)
    await anna.presses("Unfollow")
    before = len(anna.screen), len(ben.screen)
    await _comments(cem, number, "Second")
    assert (len(anna.screen), len(ben.screen)) == before


async def test_nobody_is_told_of_their_own_doing_and_nobody_who_has_stopped(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    number = await suggests(anna, "A bench")
    await opens(ben, number)
    await ben.presses("Follow")
    await ben.says("/stop")
    before = len(ben.screen)
    await _comments(anna, number, "By the lake")
    assert "By the lake" not in anna.sees
    assert len(ben.screen) == before
    await ben.says("/start")
    await _comments(anna, number, "Or by the church")
    assert "Or by the church" in ben.sees


async def _comments(who: Resident, number: str, words: str) -> None:
    await opens(who, number)
    await who.presses("Comment")
    await who.says(words)


# -- the author's own ---------------------------------------------------------------------------------------


async def test_an_author_changes_an_idea_by_button(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    number = await suggests(anna, "A bench", "One can rest there.")
    await anna.presses("Change")
    assert "How shall #1 read now?" in anna.sees
    await anna.says("A long bench")
    assert anna.sees == "#1 is changed."
    await anna.presses("View")
    assert "<b>#1 A long bench</b>\n\nOne can rest there." in anna.sees
    await anna.presses("Change")
    await anna.says("A bench\n" + "x" * 1801)
    assert anna.sees == "That is 1,801 characters, and 1,800 fit. Can you say it shorter?"
    await anna.says("A bench\nFor two.")
    await ben.says("/ideas for two")
    assert ben.choices[0] == f"#{number} A bench (0)"


async def test_an_author_changes_an_idea_by_editing_the_message(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    written = last_written(anna)
    await anna.presses("Send")
    [confirmed] = await rewrites(anna, written, "/idea A long bench\nTwo can rest there.")
    assert confirmed.html == "#1 is changed."
    idea = await stored(lab, "1")
    assert (idea.title, idea.text) == ("A long bench", "Two can rest there.")
    assert await rewrites(anna, written, "/idea A long bench\nTwo can rest there.") == []
    [refused] = await rewrites(anna, written, "/idea A long bench\n" + "x" * 1801)
    assert refused.html == "That is 1,801 characters, and 1,800 fit. Can you say it shorter?"
    assert (await stored(lab, "1")).text == "Two can rest there."


async def test_editing_the_message_changes_the_draft(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench")
    written = last_written(anna)
    await rewrites(anna, written, "/idea A long bench")
    assert "a sentence or two" in anna.sees
    await anna.says("One can rest there.")
    await anna.presses("Housing")
    await rewrites(anna, written, "/idea A long green bench")
    assert "<b>A long green bench</b>\nOne can rest there.\nTopic: Housing" in anna.sees
    await rewrites(anna, written, "/idea A bench\n" + "x" * 1801)
    assert "1,801" in anna.sees
    await anna.presses("Leave it as it is")
    await anna.presses("Send")
    idea = await stored(lab, "1")
    assert (idea.title, idea.text, idea.topic) == ("A bench", "One can rest there.", "housing")


async def test_editing_an_offered_message_changes_what_is_offered(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("We need more benchs at the lake.")
    written = last_written(anna)
    await rewrites(anna, written, "We need more benches at the lake.")
    await anna.presses("Yes")
    await anna.presses("Skip")
    await anna.presses("Work")
    await anna.presses("Send")
    assert (await stored(lab, "1")).title == "We need more benches at the lake."
    await rewrites(anna, written, "We need benches at the lake.")
    assert (await stored(lab, "1")).title == "We need benches at the lake."


async def test_editing_any_other_message_does_nothing(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/start")
    other = last_written(anna)
    await suggests(anna, "A bench")
    assert await rewrites(anna, other, "/idea Something else\nEntirely.") == []
    assert await rewrites(ben, "12345", "What nobody has seen") == []
    assert (await stored(lab, "1")).title == "A bench"


async def test_only_its_author_changes_or_withdraws_an_idea(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    number = await suggests(anna, "A bench")
    await opens(ben, number)
    assert "Change" not in ben.choices
    assert "Withdraw" not in ben.choices
    # In a group everybody can press the buttons under the answer to somebody's idea.
    group = await english_group(lab, "neighbours", "anna", "ben")
    in_group, other = anna.within(group), ben.within(group)
    await in_group.says("/idea A tree\nFor the shade.")
    await in_group.says("1", reply_to=in_group.screen[-1].id)
    assert in_group.choices == ["View", "Change", "Withdraw"]
    assert "Only its author can change #2." in (await other.presses("Change") or "")
    assert await other.presses("Withdraw") == "Only its author can change #2."
    await in_group.presses("Withdraw")
    assert await other.presses("Yes, withdraw") == "Only its author can change #2."
    written = last_written(in_group)
    assert await rewrites(other, written, "/idea A stump\nFor the fire.") == []
    await takes_back(other, written)
    source = await lab.read(lambda session: session.get_one(Idea, 2).source)
    assert await rewrites(other, source, "/idea A stump\nFor the fire.") == []
    await takes_back(other, source)
    assert (await stored(lab, "2")).title == "A tree"
    assert (await stored(lab, "2")).status == Status.NEW


async def test_an_author_withdraws_an_idea_after_a_second_thought(lab: Community) -> None:
    anna = lab.person("anna")
    number = await suggests(anna, "A bench")
    card = await opens(anna, number)
    shown = len(anna.screen)
    await anna.presses("Withdraw")
    assert card.html == "Shall #1 really be withdrawn? Nobody will see it any more."
    await anna.presses("No, it stays")
    assert "<b>#1 A bench</b>" in card.html
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    assert card.html == "#1 is withdrawn."
    assert len(anna.screen) == shown
    assert (await stored(lab, number)).status == Status.WITHDRAWN


async def test_taking_the_message_back_withdraws_the_idea(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    written = last_written(anna)
    await anna.presses("Send")
    await takes_back(anna, written)
    assert anna.sees == "#1 is withdrawn."
    assert (await stored(lab, "1")).status == Status.WITHDRAWN
    before = len(anna.screen)
    await takes_back(anna, written)
    assert len(anna.screen) == before


async def test_taking_the_message_back_drops_the_draft(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    preview = anna.screen[-1]
    await takes_back(anna, last_written(anna))
    assert anna.sees == "Cancelled. Nothing was sent."
    assert await anna.presses("Send", preview) == "This question is answered already."


async def test_nothing_can_be_done_with_a_withdrawn_idea_by_old_buttons(lab: Community) -> None:
    anna, ben = lab.person("anna"), await lab.organiser("ben")
    number = await suggests(anna, "A bench")
    sent = anna.screen[-1]
    asked = await opens(ben, number)
    await ben.presses("Comment")
    await opens(anna, number)
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    gone = "There is no idea #1, or it was withdrawn."
    await ben.says("Good!")
    assert ben.sees == gone
    for label in ("Support", "Follow", "Take it up"):
        assert await ben.presses(label, asked) == gone
    for label in ("View", "Change", "Withdraw"):
        assert await anna.presses(label, sent) == gone
    assert (await lab.read(lambda session: session.exec(select(Comment)).all())) == []
    assert (await stored(lab, number)).supports == 0


async def test_nothing_can_be_done_with_a_hidden_idea_by_old_buttons(lab: Community) -> None:
    anna, ben, olga = lab.person("anna"), lab.person("ben"), await lab.organiser("olga")
    number = await suggests(anna, "A bench")
    sent = anna.screen[-1]
    card = await opens(ben, number)
    await opens(olga, number)
    await olga.presses("Hide")
    assert olga.sees == "#1: hidden"
    assert anna.sees == "The lab's team has hidden your idea #1 “A bench”."
    gone = "There is no idea #1, or it was withdrawn."
    assert await ben.presses("Support", card) == gone
    assert await anna.presses("Change", sent) == gone
    await ben.presses("Comment", card)
    await ben.says("Good!")
    assert ben.sees == gone
    idea = await stored(lab, number)
    assert (idea.supports, idea.comments, idea.status) == (0, 0, Status.HIDDEN)


# -- the team -----------------------------------------------------------------------------------------------


async def test_the_team_gets_each_new_idea_in_its_rooms_language(lab: Community) -> None:
    olga, _ = await team_room(lab)
    ole, german = await team_room(lab, "Kernteam")
    await ole.says("/language deutsch")
    anna = lab.person("anna", "en")
    await suggests(anna, "A bench")
    assert "Topic: Something else." in olga.sees
    assert olga.choices == ["Answer", "Take it up", "It is done", "Decline", "Hide", "Make an event of it"]
    assert "Thema: Anderes." in ole.sees
    assert ole.choices == [
        "Antworten",
        "Aufgreifen",
        "Ist umgesetzt",
        "Ablehnen",
        "Ausblenden",
        "Einen Termin daraus machen",
    ]
    assert german.id == "g-Kernteam"


async def test_author_and_followers_hear_what_the_team_decides(lab: Community) -> None:
    olga, _ = await team_room(lab)
    anna, ben, cem = lab.person("anna", "de"), lab.person("ben"), lab.person("cem")
    await anna.says("/idee Eine Bank\nZum Ausruhen.")
    await anna.presses("Absenden")
    await opens(ben, "1")
    await ben.presses("Follow")
    await opens(cem, "1")
    card = olga.screen[-1]
    assert await olga.presses("Take it up") == "#1: taken up"
    assert anna.sees == "Neues zu #1 „Eine Bank“: aufgegriffen"
    assert ben.sees == "News of #1 “Eine Bank”: taken up"
    assert "News" not in cem.sees
    assert "The lab says: taken up" in card.html
    assert [button.label for button in card.buttons] == [
        "Answer", "It is done", "Decline", "Hide", "Back to new", "Make an event of it",
    ]  # fmt: skip
    await opens(cem, "1")
    assert "The lab says: taken up" in cem.sees


async def test_the_same_decision_twice_is_news_once(lab: Community) -> None:
    anna, olga = lab.person("anna"), await lab.organiser("olga")
    number = await suggests(anna, "A bench")
    first, second = await opens(olga, number), await opens(olga, number)
    await olga.presses("Decline", first)
    before = len(anna.screen)
    assert anna.sees == "News of #1 “A bench”: declined"
    assert await olga.presses("Decline", second) == "#1: declined"
    assert len(anna.screen) == before


async def test_every_teams_card_is_kept_true(lab: Community) -> None:
    olga, _ = await team_room(lab)
    ole, _ = await team_room(lab, "other")
    anna = lab.person("anna")
    await anna.says("/idea A bench\nOne can rest there.")
    written = last_written(anna)
    await anna.presses("Send")
    cards = [olga.screen[-1], ole.screen[-1]]
    await olga.presses("Decline")
    assert all("The lab says: declined" in card.html for card in cards)
    await ole.presses("Back to new")
    assert not any("The lab says" in card.html for card in cards)
    await rewrites(anna, written, "/idea A long bench")
    assert all("A long bench" in card.html for card in cards)
    await olga.presses("Hide")
    assert all("The lab says: hidden" in card.html for card in cards)
    await ole.presses("Back to new")
    await anna.presses("View")
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    assert all(card.html == "#1 is withdrawn." and not card.buttons for card in cards)
    assert len(olga.screen) == len(ole.screen)


async def test_rights_are_checked_when_a_button_is_pressed(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    mona = await lab.organiser("mona", Role.MODERATOR)
    olga, group = await team_room(lab)
    number = await suggests(anna, "A bench")
    card = olga.screen[-1]
    assert await ben.within(group).presses("Take it up", card) == (
        "Only the lab's organisers can do that. "
        "I keep your account's number and your choice, under a pseudonym. More: /privacy"
    )
    assert await mona.within(group).presses("Take it up", card) == "#1: taken up"
    private = await opens(mona, number)
    await lab.read(_demote("mona"))
    assert await mona.within(group).presses("It is done", card) == "Only the lab's organisers can do that."
    assert await mona.presses("It is done", private) == "Only the lab's organisers can do that."
    assert (await stored(lab, number)).status == Status.TAKEN_UP
    await opens(mona, number)
    assert "Decline" not in mona.choices


async def test_a_room_that_is_no_longer_the_teams_gets_no_more_ideas(lab: Community) -> None:
    olga, _ = await team_room(lab)
    await olga.presses("No longer")
    assert olga.sees == "This is no longer the team's room."
    await suggests(lab.person("anna"), "A bench")
    assert olga.sees == "This is no longer the team's room."


# -- what stays true ----------------------------------------------------------------------------------------


async def test_erasing_takes_support_and_comments_out_of_the_counts(lab: Community) -> None:
    anna, ben, cem = (lab.person(name) for name in ("anna", "ben", "cem"))
    first, second = await suggests(anna, "A bench"), await suggests(ben, "A tree")
    for person in (anna, ben, cem):
        for number in (first, second):
            await opens(person, number)
            await person.presses("Support")
            await _comments(person, number, "Good!")
            await _comments(person, number, "Very good!")
    await _erases(cem, "They go, too")
    assert [((await stored(lab, number)).supports, (await stored(lab, number)).comments) for number in "12"] == [
        (2, 4),
        (2, 4),
    ]
    await _erases(ben, "They stay")
    tree = await stored(lab, second)
    assert (tree.supports, tree.comments, tree.author_id) == (1, 4, None)
    await opens(anna, second)
    assert "By someone" in anna.sees
    await _erases(anna, "They go, too")
    assert await lab.read(ideas.recount) == {2: (0, 2)}


async def _erases(who: Resident, what: str) -> None:
    await who.says("/me")
    await who.presses("Erase everything")
    await who.presses(what)


ACTS = (
    "support",
    "unsupport",
    "comment",
    "follow",
    "unfollow",
    "keep",
    "all",
    "withdraw",
    "hide",
    "show",
    "new",
    "link",
    "part",
)
MOVES = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.integers(0, 2)), max_size=50)


def test_whatever_people_do_in_any_order_the_counts_are_true(database: str) -> None:
    engine = open_engine(database)

    @settings(max_examples=60, deadline=None)
    @given(moves=MOVES)
    def holds(moves: list[tuple[str, int, int]]) -> None:
        with engine.connect() as connection, connection.begin() as transaction:
            with session_in(connection) as session:
                _play(session, moves)
                session.expire_all()
                kept = {idea.id: (idea.supports, idea.comments) for idea in session.exec(select(Idea)).all()}
                assert kept == ideas.recount(session)
                for table in (Support, Follow):  # nobody counts twice, and nobody without an account
                    assert set(session.exec(select(table.person_id)).all()) <= set(
                        session.exec(select(people.Account.person_id)).all()
                    )
                for column in (Support.idea_id, Follow.idea_id, Comment.idea_id):
                    assert set(session.exec(select(column)).all()) <= set(kept)
            transaction.rollback()

    try:
        holds()
    finally:
        engine.dispose()


def _play(session: Session, moves: list[tuple[str, int, int]]) -> None:
    """Four people do something to three ideas; whoever erases themselves begins anew."""
    now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    arrivals = itertools.count()

    def arrives() -> int:
        account = people.arrive(session.connection(), "memory", f"{next(arrivals)}", now)
        return session.get_one(people.Account, account).person_id

    def suggested(by: int) -> int:
        idea = ideas.submit(session, author_id=by, title="A", text="", topic="work", named=False, now=now)
        assert idea.id is not None
        return idea.id

    who = [arrives() for _ in range(4)]
    numbers = [suggested(author) for author in who[:3]]
    for act, by, at in moves:
        person, number = who[by], numbers[at]
        with contextlib.suppress(NotOpen, NotYours):
            match act:
                case "support":
                    ideas.support(session, number, person, now)
                case "unsupport":
                    ideas.unsupport(session, number, person)
                case "comment":
                    ideas.comment(session, number, person, "Good!", False, now)
                case "follow":
                    ideas.visible(session, number)
                    ideas.follow(session, number, person, now)
                case "unfollow":
                    ideas.unfollow(session, number, person)
                case "keep" | "all":
                    erasure.erase(session, person, keep_ideas=act == "keep")
                    anew = arrives()
                    who[:] = [anew if one == person else one for one in who]
                case "link":
                    kept, gone = sorted((person, who[at]))
                    if gone != kept:
                        linking.merge(session, gone, kept, now)
                        who[:] = [kept if one == gone else one for one in who]
                case "part":
                    with contextlib.suppress(linking.Over):
                        account = people.accounts(session, person)[-1]
                        linking.unlink(session, account.id or 0, person, now)
                        who[by] = account.person_id
                case "withdraw":
                    ideas.withdraw(session, number, person)
                case "hide" | "show":
                    ideas.decide(session, number, Status.HIDDEN if act == "hide" else Status.NEW)
                case "new":
                    numbers[at] = suggested(person)


async def test_the_export_says_of_each_idea_what_everybody_can_see(lab: Community) -> None:
    anna, olga = lab.person("anna"), await lab.organiser("olga")
    await anna.says("/idea A bench\nOne can rest there.")
    await anna.presses("Sign with a name")
    await anna.says("Anna")
    await anna.presses("Send")
    await suggests(anna, "A tree")
    await suggests(anna, "A pond")
    await opens(olga, "1")
    await olga.presses("Support")
    await olga.presses("Take it up")
    await _comments(olga, "1", "Good!")
    await opens(anna, "2")
    await anna.presses("Withdraw")
    await anna.presses("Yes, withdraw")
    lines = await lab.read(lambda session: [line._asdict() for line in ideas.export(session, page=1)])
    assert [list(line) for line in lines] == [
        ["number", "title", "text", "topic", "status", "author", "supports", "comments", "created_at"]
    ] * 2
    assert list(lines[0].values())[:-1] == [1, "A bench", "One can rest there.", "other", "taken_up", "Anna", 1, 1]
    assert lines[0]["created_at"] == lab.time.now()
    pseudonym = await lab.read(
        lambda session: session.exec(select(Person.pseudonym).where(Person.name == "Anna")).one()
    )
    assert (lines[1]["number"], lines[1]["author"]) == (3, pseudonym)


async def test_a_hidden_idea_is_brought_back_by_the_team_in_private(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/idea A bicycle garage\nFor everybody.")
    await anna.presses("Send")
    rosa = await lab.organiser("rosa", Role.MODERATOR)
    await rosa.says("#1")
    assert "Answer" in rosa.choices
    await rosa.presses("Hide")
    await anna.says("#1")
    assert "There is no idea #1" in anna.sees
    await rosa.says("#1")
    assert "hidden" in rosa.sees
    await rosa.presses("Back to new")
    await anna.says("#1")
    assert "A bicycle garage" in anna.sees
