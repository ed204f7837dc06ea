"""Polls: asked in a line or step by step, voted on in groups and in private, closed, and what comes of them."""

import json
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, SQLModel, col, select

from bot.adapters.memory import UNLIMITED, Seen
from bot.config import Settings
from storage import people
from storage.outbox import Outbox
from storage.people import Account, Person, Role
from storage.polls import asking, voting
from storage.polls.counting import Content
from storage.polls.tables import BallotKey, Poll
from storage.reactions import Reaction
from tests.conftest import Community, Resident, running

HOUR, DAY = 3600.0, 86400.0
WHICH = "Which evening?"


async def in_group(lab: Community, *names: str, called: str = "neighbours") -> list[Resident]:
    """People in a group, in the English language."""
    group = lab.group(called, *names)
    await lab.settled()
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE chat SET locale = 'en'"))
    return [lab.person(name).within(group) for name in names]


async def refreshed(lab: Community) -> None:
    """The copies are brought up to date, as every few seconds."""
    await lab.later(3)


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


async def test_a_vote_taken_back_in_private_leaves_the_right_to_vote(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    mine = lab.person("ben")
    await mine.says("/language en")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    await ben.presses("Tue", the_card(ben))
    await mine.says("/polls 1")
    assert await mine.presses("Take my vote back") == "Your vote in #1 is taken back."
    assert await mine.presses("Wed") == "Your vote in #1: 2. Wed"
    assert await is_true(lab)


async def test_a_vote_is_typed_with_a_comma_a_colon_or_in_the_options_own_words(lab: Community) -> None:
    [anna] = await in_group(lab, "anna")
    await anna.says(f"/poll {WHICH} | Tue, at 8 | Wed")
    for words, meant in (("1, 2", "2. Wed"), ("#1: 1", "1. Tue, at 8"), ("1 wed", "2. Wed"), ("1 Tue", "1. Tue, at 8")):
        await anna.says(f"/vote {words}")
        assert anna.sees == f"Your vote in #1: {meant}"
    for words in ("1 -2", "1 Thu", "1 1.5.", "1 3"):
        await anna.says(f"/vote {words}")
        assert anna.sees == "Write the number of your choice, for example: 2"
    assert await is_true(lab)


async def test_a_number_beyond_the_choices_is_answered_with_how_many_there_are(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    await ben.says("9", reply_to=the_card(ben).id)
    assert ben.sees == "Choose from 1 to 3 here."
    mine = lab.person("anna")
    await mine.says("/language en")
    await mine.says("/polls 1")
    await mine.says("9")
    assert mine.sees == "Choose from 1 to 3 here."
    await mine.says("#9")
    assert mine.sees == "There is no idea #9, or it was withdrawn."


async def test_what_a_poll_cannot_be_is_said(lab: Community) -> None:
    [anna] = await in_group(lab, "anna")
    for words, answer in (
        ("Which? | " + " | ".join(map(str, range(100))), "These are 100 options, and 20 fit."),
        (f"Which? | {'a' * 300} | b", f"“{'a' * 30}…” is too long: 80 characters fit."),
        ("Which? | Tue | tue ", "“tue” is there twice."),
        ("Which? | Tue", "A poll needs two options or more, each on a line of its own or after a |."),
        ("👍👎", "A poll needs a question in words: /poll Which evening? | Tue | Wed"),
        ("a" * 301 + " | a | b", "The question is too long: 300 characters fit."),
        ("|||", "A poll needs a question in words: /poll Which evening? | Tue | Wed"),
        ("", "Ask in one line: /poll Which evening? | Tue | Wed. In private I help you step by step."),
    ):
        await anna.says(f"/poll {words}")
        assert anna.sees == answer
    await anna.says("/poll Which one? | 👍 | \u2060👎\u200b | 👨‍👩‍👧")  # emoji have their numbers
    assert [button.label for button in the_card(anna).buttons][:3] == ["👍", "👎", "👨‍👩‍👧"]
    await anna.says("/poll Shall we?")
    assert [button.label for button in the_card(anna, 2).buttons][:2] == ["Yes", "No"]
    assert await lab.read(lambda session: len(session.exec(select(Poll)).all())) == 2


async def test_the_largest_poll_fits_into_one_message(lab: Community) -> None:
    people = await in_group(lab, *[f"p{number}" for number in range(25)])
    options = " | ".join(f"{number}{'😀' * 38}" for number in range(10, 30))
    await people[0].says(f"/poll {'Why? ' * 60} | {options}")
    for person in people:
        lab.messenger.press(person.name, person.chat, the_card(people[0]).id, 19)
    await lab.settled()
    await refreshed(lab)
    [card] = [seen for seen in people[0].screen if "Why?" in seen.html]
    assert "25 votes, 100 %" in card.html
    assert asking.width(re.sub("<[^>]*>", "", card.html)) <= 4096


async def test_many_names_are_summarised(lab: Community) -> None:
    people = await in_group(lab, *[f"p{number}" for number in range(23)])
    await people[0].says(f"/poll {WHICH} | Tue | Wed")
    card = the_card(people[0])
    for person in people:
        lab.messenger.press(person.name, person.chat, card.id, 1)
    await lab.settled()
    await refreshed(lab)
    assert re.search(r"Voted: .+ \(2\), and 3 others", card.html)
    assert card.html.count("(2)") == 20


async def test_two_hundred_vote_at_once_and_each_copy_changes_once(lab: Community) -> None:
    """In three groups; the same person twice counts once."""
    names = [f"p{number}" for number in range(200)]
    groups = [lab.group(f"g{number}", *names) for number in range(3)]
    await lab.settled()
    anna = lab.person("p0").within(groups[0])
    await anna.says(f"/poll {WHICH} | Tue | Wed | Thu")
    for group in groups[1:]:
        await anna.within(group).says("/poll 1")
    for number, name in enumerate(names):
        for group in groups[: 1 + number % 2]:
            card = the_card(lab.person(name).within(group))
            lab.messenger.press(name, group, card.id, number % 3)
    await lab.settled()
    await refreshed(lab)
    cards = [the_card(anna.within(group)) for group in groups]
    assert len({card.html for card in cards}) == 1
    changed = [len(card.versions) - 1 for card in cards]
    assert all(1 <= times <= 5 for times in changed)  # one tick of this story, perhaps one of the clock's own
    poll = await poll_of(lab)
    assert poll.voters == 200
    assert await is_true(lab)
    await refreshed(lab)
    assert [len(card.versions) - 1 for card in cards] == changed  # nothing new, nothing sent


async def test_a_messenger_without_edits_is_spared_the_running_count(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, edits=False)) as lab:
        [anna] = await in_group(lab, "anna")
        await anna.says(f"/poll {WHICH} | Tue | Wed")
        await anna.presses("Tue")
        before = len(anna.screen)
        await refreshed(lab)
        assert len(anna.screen) == before


async def test_without_buttons_each_option_is_said_once_and_chosen_by_its_number(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, choices=0)) as lab:
        [anna] = await in_group(lab, "anna")
        await anna.says(f"/poll {WHICH} | Tue | Wed")
        card = the_card(anna)
        assert card.html.count("Tue") == card.html.count("Wed") == 1
        assert card.html.endswith("\n\n3. Take my vote back")
        await anna.says("2", reply_to=card.id)
        await refreshed(lab)
        assert "2. Wed\n1 vote, 100 % ██████████" in card.html
        await anna.says("3", reply_to=card.id)
        assert (await poll_of(lab)).voters == 0
        private = lab.person("anna")
        for words in ("/poll Which evening?\nTue\nWed\nThu", "Ranking by points", "open", "Post it", "/vote 2"):
            await private.says(words)
        assert private.sees.count("Wed") == 1
        for number in ("3", "1", "4"):  # Thu, Tue, and cast
            await private.says(number)
        assert private.sees == "Your vote in #2: 3. Thu, 1. Tue"


async def test_a_forged_or_old_press_changes_nothing(lab: Community) -> None:
    anna, eve = await in_group(lab, "anna", "eve")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    card = the_card(anna)
    for position, revision in ((9, 0), (-1, 0), (0, 7)):
        assert await eve.presses_at(card, position, revision) == (
            "This button is out of date. Write /help for the menu."
        )
    lab.messenger.say("eve", eve.chat, "1", reply_to=card.id, anonymous=True)
    await lab.settled()
    assert (await poll_of(lab)).voters == 0
    mallory = lab.person("mallory")
    await mallory.says("/vote 1 1")  # she has never been in the group
    assert mallory.sees == "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there."
    await mallory.says("/polls 1")
    assert mallory.sees == "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there."
    link = (await poll_of(lab)).link
    for wrong in ("/start poll_1_", "/start poll_1_guess", f"/start poll_2_{link}", "/start poll_x_y", "/start poll_"):
        await mallory.says(wrong)
        assert mallory.sees == "This link leads to no poll."
    await mallory.says("/close 1")
    assert mallory.sees == "Only who has asked and the lab's organisers can do that."
    long = "9" * 5000  # more digits than Python reads as a number
    for nonsense in ("/vote", "/vote x", "/vote 9 1", "/polls 999999999", f"/vote {long} 1", f"/vote 1 {long}"):
        await mallory.says(nonsense)
        assert "went wrong" not in mallory.sees
    await mallory.says(f"/close {long}")
    assert mallory.sees == "Write the number of the poll, for example: /close 17"
    assert (await poll_of(lab)).voters == 0


async def test_a_vote_is_a_command_too_and_a_number_that_is_none_is_explained(lab: Community) -> None:
    [anna] = await in_group(lab, "anna")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    await anna.says("/vote 1 2")
    assert anna.sees == "Your vote in #1: 2. Wed"
    for wrong in ("/vote 1 3", "/vote 1 1 2", "/vote 1 Thu", "/vote #1 0"):
        await anna.says(wrong)
        assert anna.sees == "Write the number of your choice, for example: 2"
    await anna.says("/vote 1")
    assert anna.sees.startswith("<b>#1 Which evening?</b>")
    await anna.says("/close 1")
    await anna.says("/vote 1 1")
    assert anna.sees == "Poll #1 is closed."
    assert await is_true(lab)


# -- in private ---------------------------------------------------------------------------------------------


async def asks(who: Resident, options: str, kind: str, secrecy: str = "open", *changes: tuple[str, ...]) -> int:
    """A poll, step by step."""
    await who.says(f"/poll {WHICH}\n{options}")
    await who.presses(kind)
    await who.presses(secrecy)
    for button, *answers in changes:
        await who.presses(button)
        for answer in answers:
            await (who.says(answer[1:]) if answer.startswith("=") else who.presses(answer))
    await who.presses("Post it")
    found = re.search(r"Poll #(\d+) is open", "\n".join(seen.html for seen in who.screen[-2:]))
    assert found is not None
    return int(found[1])


async def test_a_form_leads_from_the_question_to_the_post(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/poll")
    assert anna.sees.endswith("What would you like to ask?")
    await anna.says("🤷")
    assert anna.sees.startswith("A poll needs a question in words")
    await anna.says("Shall we plant trees?")
    await anna.says("only one")
    assert anna.sees.startswith("A poll needs two options or more")
    await anna.presses("Yes / No / I abstain")
    assert anna.sees.startswith("Who shall see how somebody votes?")
    assert "With fewer than 10 voters even a secret result can give away who voted how." in anna.sees
    await anna.says("1")  # the number is as good as the button
    assert "This is how it looks:\n\n<b>Shall we plant trees?</b>\n\n1. Yes\n2. No\n3. I abstain" in anna.sees
    await anna.presses("When it closes")
    await anna.says("yesterday")
    assert anna.sees.startswith("That is no time within the next year.\n\nWhen shall it close?")
    assert "When I close it" in anna.choices  # what can be chosen is still there
    for words, shown in (
        ("tomorrow", "Nov 3, 2026, 11:59"), ("18 Uhr", "Nov 2, 2026, 6:00"), ("9:00", "Nov 3, 2026, 9:00"),
        ("morgen 18 Uhr", "Nov 3, 2026, 6:00"), ("2026-12-05 18:00", "Dec 5, 2026, 6:00"),
    ):  # fmt: skip
        await anna.says(words)
        assert f"It closes: {shown}" in anna.sees
        await anna.presses("When it closes")
    await anna.says("5.12. 18:00")
    old = anna.screen[-1]
    await anna.presses("Change the question")
    await anna.says("Shall we plant many trees?")
    assert await anna.presses("Post it", old) == "This has changed since. Please look once more."
    await anna.presses("Needed voters")
    await anna.says("many")
    await anna.says("3")
    assert "Needed for a result: 3 voters." in anna.sees
    await anna.presses("Who may vote")
    assert "Only the lab's organisers can ask others than a group." in anna.screen[-2].html
    await anna.presses("Post it")
    assert "write /poll 1 in each group where it shall stand, too." in anna.screen[-2].html
    assert "3 are needed for a result." not in anna.sees  # nobody has voted yet
    assert "Open until Dec 5, 2026, 6:00" in anna.sees
    assert await anna.presses("Yes") == "Your vote in #1: 1. Yes"
    await refreshed(lab)
    assert "1 person has voted. 3 are needed for a result." in anna.sees


async def test_how_many_may_be_chosen_is_no_more_than_there_are(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/poll Which trees?\nOak\nBeech\nLime")
    for label in ("Several choices", "open", "How many"):
        await anna.presses(label)
    asked = "How many may somebody choose? Write a number from 1 to 3. /cancel stops."
    for words in ("0", "4", "0004", "00012", "9" * 5000):
        assert anna.sees == asked
        await anna.says(words)
    assert anna.sees == asked
    await anna.says("2")
    assert "Choose up to 2." in anna.sees


async def test_a_number_that_was_asked_for_presses_no_button(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/poll Which trees?\nOak\nBeech\nLime")
    for label in ("Several choices", "open", "How many"):
        await anna.presses(label)
    await anna.says("1")
    assert "Choose up to 1." in anna.sees
    await anna.presses("Needed voters")
    await anna.says("1")
    assert "Needed for a result: 1 voter." in anna.sees


async def test_what_an_old_preview_offers_waits_until_the_new_poll_is_whole(lab: Community) -> None:
    anna = lab.person("anna")
    for words in (f"/poll {WHICH}\nTue\nWed", "One choice", "open"):
        await anna.says(words)
    old = anna.screen[-1]
    await anna.says("/poll Which trees? | Oak | Beech")
    for label in ("Post it", "Where it is shown", "When it closes", "Kind"):
        assert await anna.presses(label, old) == "Something is still missing. Please answer that first."
        assert anna.sees.startswith("How shall people answer?")
    await anna.presses("One choice")
    await anna.presses("open")
    await anna.presses("Post it")
    assert (await poll_of(lab)).question == "Which trees?"


async def test_dates_that_do_not_suffice_are_asked_for_again_as_dates(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/poll")
    await anna.says("When is the feast?")
    await anna.presses("Dates")
    await anna.says("5.12. 18:00")
    assert anna.sees.startswith("A poll needs two options or more")
    assert anna.sees.endswith("Which dates? Write each on a line of its own, for example: Tue 8 Dec, 18:00")
    await anna.says("5.12. 18:00\n6.12. 18:00")
    assert anna.sees.startswith("Who shall see how somebody votes?")


async def test_every_kind_is_voted_in_by_press_and_by_number(lab: Community) -> None:
    """What the buttons say and what a typed ballot says is the same."""
    anna, ben = lab.person("anna"), lab.person("ben")
    presses: list[tuple[str, str, list[str], str, str]] = [
        ("Several choices", "1 3", ["Tue", "Wed", "Wed", "Thu"], "1. Tue, 3. Thu", "0,2"),
        ("Finding a date", "1 2?", ["Tue", "Wed", "Wed", "Thu", "Thu", "Thu", "Cast"],
         "1. Tue: yes, 2. Wed: if need be, 3. Thu: no", "2,1,0"),
        ("Ranking by points", "3 1", ["Thu", "Tue", "Cast"], "3. Thu, 1. Tue", "2,0"),
        ("Ranking with run-off", "3, 1, 2", ["Tue", "Thu", "Tue", "Wed", "Cast"], "3. Thu, 1. Tue, 2. Wed", "2,0,1"),
        ("Ranking by comparison", "2>1", ["Wed", "Tue", "Cast"], "2. Wed, 1. Tue", "1,0"),
        ("Giving out dots", "1 1 3", ["Tue", "Tue", "Thu", "Cast"], "1. Tue: 2, 3. Thu: 1", "2,0,1"),
        ("Least resistance", "0 7 10", ["0", "7", "10"], "1. Tue: 0, 2. Wed: 7, 3. Thu: 10", "0,7,10"),
    ]  # fmt: skip
    for kind, typed, labels, said, content in presses:
        number = await asks(anna, "Tue\nWed\nThu", kind)
        link = (await poll_of(lab, number)).link
        for label in labels if kind == "Several choices" else ["Vote", *labels]:
            note = await anna.presses(label)
        assert note == f"Your vote in #{number}: {said}", kind
        await ben.says(f"/start poll_{number}_{link}")
        if kind == "Several choices":
            await ben.says(f"/vote {number} {typed}")
        else:
            await ben.says("rubbish")
            assert ben.sees.startswith("Write "), kind
            await ben.says(typed)
        assert ben.sees == f"Your vote in #{number}: {said}", kind
        ballots = await lab.read(lambda session, number=number: voting.profile(session.connection(), number))
        assert ballots == {voting.read(content): 2}, kind
    assert await is_true(lab)
    assert await lab.read(lambda session: session.connection().exec_driver_sql("SELECT * FROM dialog").all()) == []


@pytest.mark.parametrize("buttons", [24, 0])
async def test_a_number_typed_against_an_option_is_its_resistance_and_never_the_place_of_a_choice(
    settings: Settings, buttons: int
) -> None:
    async with running(settings, replace(UNLIMITED, choices=buttons)) as lab:
        anna = lab.person("anna")
        for words in ("/poll Which evening?\nTue\nWed\nThu", "Least resistance", "open", "Post it"):
            await anna.says(words)
        await anna.says("/vote 1")
        assert anna.choices == ([*map(str, range(11)), "Cancel"] if buttons else [])
        assert ("Write the number. /cancel leaves it." in anna.sees) is not buttons
        for words in ("11", "12", "999"):
            await anna.says(words)
            assert anna.sees.startswith("Please write a number from 0 to 10.\n\n<b>#1 Which evening?</b>")
            assert "How much speaks against 1. Tue?" in anna.sees
        for words in ("0", "1.", "10"):
            await anna.says(words)
        assert anna.sees == "Your vote in #1: 1. Tue: 0, 2. Wed: 1, 3. Thu: 10"
        await anna.says("/vote 1")
        await anna.says("3 2 1")
        assert anna.sees == "Your vote in #1: 1. Tue: 3, 2. Wed: 2, 3. Thu: 1"


async def test_what_is_too_long_for_a_note_is_said_in_numbers(lab: Community) -> None:
    anna = lab.person("anna")
    dates = [f"{weekday} evening, in the large room at the back" for weekday in ("Mon", "Tue", "Wed", "Thu", "Fri")]
    await asks(anna, "\n".join(dates), "Finding a date")
    for label in ("Vote", "Mon", "Thu", "Thu"):
        await anna.presses(label)
    assert await anna.presses("Cast my vote") == "Your vote in #1: 1, 4?"
    await asks(anna, "\n".join(f"Tree {n}" for n in range(1, 21)), "One choice", "open",
               ("When the count is shown", "once one has voted"))  # fmt: skip
    [here] = await in_group(lab, "anna")
    await here.says("/poll 2")
    await here.presses("Tree 7")
    assert await here.presses("See the count") == "; ".join(f"{n}: {int(n == 7)}" for n in range(1, 21))


async def test_who_can_come_on_no_date_says_so_with_a_zero(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "Finding a date")
    await anna.presses("Vote")
    assert "1 3 4? Or 0, if none does." in anna.sees
    await anna.says("0 1")
    assert anna.sees.startswith("Write the numbers of the dates that suit you")
    await anna.says("0")
    assert anna.sees == "Your vote in #1: 1. Tue: no, 2. Wed: no"
    await refreshed(lab)
    assert any(re.search(r"Voted: [^\n]+ \(–\)", seen.html) for seen in anna.screen)
    await anna.says("/close 1")
    assert "Closed. There is no winner." in str([seen.html for seen in anna.screen])


async def test_in_a_group_what_is_not_open_leads_into_private(lab: Community) -> None:
    anna = lab.person("anna")
    number = await asks(anna, "Tue\nWed", "One choice", "secret")
    here, ben = await in_group(lab, "anna", "ben")
    await here.says(f"/poll {number}")
    card = the_card(here)
    [button] = card.buttons
    assert (button.label, button.start) == ("Vote in private", f"poll_1_{(await poll_of(lab)).link}")
    assert button.start is not None and re.fullmatch(r"[A-Za-z0-9_-]{20,64}", button.start)
    assert "Secret: nobody can see who votes for what." in card.html
    await ben.says("/vote 1 2")
    assert ben.screen[-1].buttons[0].start == button.start
    assert (await poll_of(lab)).voters == 0
    await lab.person("ben").says(f"/start {button.start}")
    assert await lab.person("ben").presses("Wed") == "Your vote in #1 is in the box."
    await refreshed(lab)
    assert "1 person has voted." in card.html
    assert "votes" not in card.html.replace("who votes for what", "")
    await anna.says("/close 1")
    await refreshed(lab)
    assert "Closed. The winner is 2. Wed: 1 vote." in card.html
    assert "Voted:" not in card.html


async def test_the_count_is_shown_to_those_who_have_voted(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "One choice", "open", ("When the count is shown", "once one has voted"))
    here, ben = await in_group(lab, "anna", "ben")
    await here.says("/poll 1")
    assert await ben.presses("See the count") == (
        "The count is shown once you have voted. "
        "I keep your account's number and your choice, under a pseudonym. More: /privacy"
    )
    await ben.presses("Wed")
    await refreshed(lab)
    assert "vote," not in the_card(ben).html
    assert await ben.presses("See the count") == "1: 0 votes, 0 %; 2: 1 vote, 100 %"
    await lab.person("ben").says("/polls")
    await lab.person("ben").presses("#1")
    await lab.person("ben").presses("See the count")
    assert lab.person("ben").sees == "1. Tue\n0 votes, 0 % \n2. Wed\n1 vote, 100 % ██████████"
    await ben.says("4", reply_to=the_card(ben).id)  # typed, so whoever has not voted would read the answer, too
    assert ben.sees == "Everybody here would read it."
    assert [button.label for button in ben.screen[-1].buttons] == ["Vote in private"]


async def test_where_nobody_can_be_told_aside_the_count_so_far_comes_in_private(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, choices=0, begins=True)) as lab:
        anna = lab.person("anna")
        for words in ("/poll Which evening?\nTue\nWed", "One choice", "open", "When the count is shown"):
            await anna.says(words)
        for words in ("once one has voted", "Post it"):
            await anna.says(words)
        here, ben, eve = await in_group(lab, "anna", "ben", "eve")
        await here.says("/poll 1")
        card, private = the_card(here), lab.person("ben")
        ben.messenger.react("ben", ben.chat, card.id, 1)
        await lab.settled()
        for ask in ("typed", "reacted"):
            seen = len(here.screen)
            if ask == "typed":
                await ben.says("4", reply_to=card.id)
            else:
                ben.messenger.react("ben", ben.chat, card.id, 3)
                await lab.settled()
            assert private.sees == "1. Tue\n0 votes, 0 % \n2. Wed\n1 vote, 100 % ██████████"
            assert not any("vote," in message.html for message in here.screen[seen:])
        await eve.says("4", reply_to=card.id)
        assert eve.sees == "The count is shown once you have voted."


@pytest.mark.parametrize(("kind", "kept"), [("One choice", 0), ("Several choices", 1)])
async def test_a_reaction_that_is_taken_back_takes_back_what_it_has_chosen(
    settings: Settings, kind: str, kept: int
) -> None:
    async with running(settings, replace(UNLIMITED, choices=0)) as lab:
        anna = lab.person("anna")
        for words in (f"/poll {WHICH}\nTue\nWed\nThu", kind, "open", "Post it"):
            await anna.says(words)
        here, ben = await in_group(lab, "anna", "ben")
        await here.says("/poll 1")
        card = the_card(here)

        async def after(*what: tuple[str, Any]) -> dict[Content, int]:
            for does, which in what:
                if does == "react":
                    marks.append(ben.messenger.react("ben", ben.chat, card.id, which))
                else:
                    ben.messenger.retract_own("ben", ben.chat, marks[which])
                await lab.settled()
            assert await is_true(lab)
            return dict(await lab.read(lambda session: voting.profile(session.connection(), 1)))

        marks: list[str] = []
        several = {(0, 1): 1}
        assert await after(("react", 0), ("react", 1)) == (several if kept else {(1,): 1})
        assert await after(("take", 0)) == {(1,): 1}  # of several the other is left; else it counted no more
        assert await after(("take", 1)) == {}
        await ben.says("/vote 1 3")
        assert await after(("react", 2) if not kept else ("react", 0), ("take", 2)) == ({(2,): 1} if kept else {})
        marks.append(ben.messenger.react("ben", ben.chat, card.id, 1))
        await lab.settled()
        counted = await after()
        await here.says("/close 1")
        assert await after(("take", 3)) == counted  # a result stands


async def test_an_objection_has_a_reason_that_only_the_author_reads(lab: Community) -> None:
    anna = lab.person("anna")
    await anna.says("/poll A bonfire in the yard?")
    await anna.presses("Consent to a proposal")
    await anna.presses("open")
    await anna.presses("Post it")
    here, ben = await in_group(lab, "anna", "ben")
    await here.says("/poll 1")
    assert [button.start is None for button in the_card(here).buttons] == [True, True, False, True]
    await here.presses("I agree")
    await ben.says("3", reply_to=the_card(here).id)
    assert "/start poll_1_" in ben.sees
    link = (await poll_of(lab)).link
    await lab.person("ben").says(f"/start poll_1_{link}")
    await lab.person("ben").presses("I object")
    assert lab.person("ben").sees.startswith("Why do you object?")
    await lab.person("ben").says("x" * 501)
    await lab.person("ben").says("The roof is made of straw.")
    assert lab.person("ben").sees == "Your vote in #1: 3. I object"
    await anna.says("/close 1")
    await refreshed(lab)
    assert "Closed. 1 objection stands in the way: the proposal is not adopted as it is." in the_card(here).html
    assert anna.sees.startswith(
        "The objections: “The roof is made of straw.”\n\n#1 “A bonfire in the yard?” is closed."
    )
    await anna.presses("Say what happens now")
    assert anna.screen[-2].html == "The objections: “The roof is made of straw.”"
    assert "straw" not in str([seen.html for seen in here.screen])


async def test_whoever_types_in_the_group_what_is_for_few_hears_that_all_have_read_it(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/poll A bonfire in the yard?")
    for label in ("Consent to a proposal", "open", "Post it"):
        await anna.presses(label)
    await asks(anna, "Tue\nWed", "One choice", "secret")
    [here, _] = await in_group(lab, "ben", "anna")
    await anna.within(here.chat).says("/poll 1")
    await anna.within(here.chat).says("/poll 2")
    await here.says("/vote 1 3 too much straw")
    assert here.sees == "Everybody here could read your reason. In private only whoever asks reads it."
    await here.says("/vote 2 1")
    assert here.sees == (
        "That does not count, and everybody here could read it. Delete your message, and vote in private."
    )
    await ben.says("/language en")
    await ben.says("/vote 2 1")
    assert ben.sees == (
        "Only people in the groups where poll #2 stands vote in it. If you are in one, press “Vote in private” there."
    )


async def test_whoever_has_asked_closes_a_poll_they_find_by_its_words(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "One choice")
    await anna.says("/polls EVEN")
    assert anna.sees == "Polls with “EVEN”:"
    await anna.says("/polls pizza")
    assert anna.sees == "I find no poll with “pizza”. /polls shows the newest."
    await anna.says("/polls 1")
    assert anna.screen[-2].html == "What you can do about poll #1:"
    await anna.says("1")  # the card is the last one: this is a vote
    assert (await poll_of(lab)).voters == 1
    assert await anna.presses("Close it") == "Poll #1 is closed now."
    await anna.says("/close x")
    assert anna.sees == "Write the number of the poll, for example: /close 17"


# -- closing, and what comes of it --------------------------------------------------------------------------


async def test_a_poll_closes_by_itself_and_everybody_reads_what_happens_now(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed\nThu", "One choice", "open", ("When it closes", "In a day"))
    here, ben = await in_group(lab, "anna", "ben")
    await here.says("/poll 1")
    card = the_card(here)
    await ben.presses("Wed")
    lab.time.pass_by(DAY)
    await ben.presses("Thu", card)  # at the second of closing, before anybody has closed it
    await lab.later(0)
    words, picture = here.screen[-2:]
    assert words.html.startswith("<b>The result of #1 Which evening?</b>\n\nClosed. The winner is 2. Wed: 1 vote.")
    assert "2. Wed\n1 vote, 100 % ██████████" in words.html
    assert picture.html == "#1 as a picture: a bar for each of the numbers above."
    assert picture.file is not None and picture.file[0] == "poll-1.png" and picture.file[1].startswith(b"\x89PNG")
    await refreshed(lab)
    assert card.buttons == ()
    assert "is closed. What happens now?" in anna.sees
    await anna.presses("Say what happens now")
    await anna.says("We meet on Wednesday at seven.")
    assert here.sees == "What happens now with #1 “Which evening?”: We meet on Wednesday at seven."
    await refreshed(lab)
    assert "What happens now: We meet on Wednesday at seven." in card.html
    shown = len(here.screen)
    await lab.later(60)
    assert len(here.screen) == shown


async def test_whoever_has_only_written_in_a_group_is_led_to_say_what_happens_now(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    await anna.says("/close 1")
    assert anna.sees == "Who has asked #1 can say in the private chat what happens now:"
    [button] = anna.screen[-1].buttons
    for who in ("ben", "anna"):
        await lab.person(who).says(f"/start {button.start}")
    assert not any("can do about" in seen.html for seen in lab.person("ben").screen)
    private = lab.person("anna")
    assert [seen.html for seen in private.screen[-2:-1]] == ["What you can do about poll #1:"]
    await private.presses("Say what happens now")
    await private.says("We meet on Thursday.")
    assert ben.sees == "What happens now with #1 “Which evening?”: We meet on Thursday."
    await private.says("/polls 1")
    assert private.screen[-2].html != "What you can do about poll #1:"  # it is said


async def test_polls_close_on_the_second_and_copies_change_at_most_every_three(lab: Community) -> None:
    """Nothing is asked of the database by a clock that ticks: the alarm is set to what is due."""
    [here] = await in_group(lab, "anna")
    await here.says(f"/poll {WHICH} | Tue | Wed")
    card = the_card(here)
    await here.presses("Tue")
    await lab.later(2.9)
    assert len(card.versions) == 1
    await here.presses("Wed")
    await lab.later(0.1)
    assert len(card.versions) == 2
    await here.presses("Tue")
    assert await lab.app.clock.catch_up() == lab.time.now() + timedelta(seconds=3)
    await lab.later(3)
    assert len(card.versions) == 3
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "One choice", "open", ("When it closes", "In an hour"))
    await lab.later(HOUR - 1)
    assert (await poll_of(lab, 2)).status == "open"
    await lab.later(1)
    assert (await poll_of(lab, 2)).status == "closed"
    await asks(anna, "Tue\nWed", "One choice", "open", ("When it closes", "In an hour"))
    await lab.end()
    lab.time.pass_by(DAY)
    await lab.restart()
    await lab.later(0)
    assert (await poll_of(lab, 3)).status == "closed"
    assert not {"refresh_polls", "close_due_polls"} & {tick.name.rpartition(".")[2] for tick in lab.app.router.ticks}


async def test_an_empty_poll_and_a_tie_are_told_plainly(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    await anna.says("/poll Which? | Tue | Wed")
    await anna.says("/close 1")
    assert "Closed. There is no result, since nobody has voted." in str([seen.html for seen in anna.screen])
    assert not any(seen.file for seen in anna.screen)
    await anna.says("/poll Which? | Tue | Wed")
    await anna.presses("Tue", the_card(anna, 2))
    await ben.presses("Wed", the_card(anna, 2))
    await anna.says("/close 2")
    assert "Closed. It is a tie between these: 1. Tue, 2. Wed." in str([seen.html for seen in anna.screen])
    await anna.says("/close 2")
    assert anna.sees == "Poll #2 is closed."


async def test_the_count_of_many_options_is_not_cut_off_where_it_pops_up(lab: Community) -> None:
    anna = lab.person("anna")
    options = [f"Option {number}" for number in range(1, 21)]
    await asks(anna, "\n".join(options), "One choice", "open", ("When the count is shown", "once one has voted"))
    here, ben = await in_group(lab, "anna", "ben")
    await here.says("/poll 1")
    await here.presses("Option 7")
    await ben.presses("Option 20")
    note = await ben.presses("See the count")
    assert note is not None
    assert "; 7: 1; " in note
    assert (note[:13], note[-7:]) == ("1: 0; 2: 0; 3", "; 20: 1")


async def test_when_all_of_the_team_have_voted_it_is_over(lab: Community) -> None:
    olga, rosa = await lab.organiser("olga"), await lab.organiser("rosa")
    await asks(
        olga, "Tue\nWed", "One choice", "for the team", ("Who may vote", "the lab's team"),
        ("When it closes", "When all have voted"), ("Needed voters", "=3"),
    )  # fmt: skip
    await olga.says("/vote 1 1")
    assert (await poll_of(lab)).status == "open"
    await rosa.says("/polls")
    await rosa.presses("#1")
    await rosa.presses("Wed")
    assert (await poll_of(lab)).status == "closed"
    assert "It decides nothing: 2 have voted, and 3 were needed." in str([seen.html for seen in olga.screen])


@pytest.mark.parametrize("secrecy", ["for the team", "secret"])
async def test_all_have_voted_when_nobody_is_left_who_is_asked(lab: Community, secrecy: str) -> None:
    """Rosa has voted as one of science, and does not speak for it any more: Mia's vote is still waited for."""
    olga, rosa, mia, ida = await lab.organiser("olga"), lab.person("rosa"), lab.person("mia"), lab.person("ida")

    async def speaks_for(who: Resident, group: str) -> None:
        await who.says("/me")
        for label in ("Say whom I speak for", group):
            await who.presses(label)

    for who in (rosa, mia, ida):
        await speaks_for(who, "science")
    await asks(
        olga, "Tue\nWed", "One choice", secrecy, ("Who may vote", "Also science", "Done"),
        ("When it closes", "When all have voted"),
    )  # fmt: skip
    await rosa.says("/vote 1 1")
    await speaks_for(rosa, "politics")
    await mia.says("/vote 1 1")
    poll = await poll_of(lab)
    assert (poll.status, poll.voters) == ("open", 2)
    await ida.says("/vote 1 2")
    assert (await poll_of(lab)).status == "closed"


async def test_only_who_has_not_voted_is_reminded(lab: Community) -> None:
    anna, ben, eve = (lab.person(name) for name in ("anna", "ben", "eve"))
    await asks(anna, "Tue\nWed", "One choice", "secret", ("When it closes", "In a week"))
    link = (await poll_of(lab)).link
    for person in (ben, eve):
        await person.says(f"/start poll_1_{link}")
    await ben.presses("Tue")
    await eve.says("/stop")
    lab.time.pass_by(6 * DAY)
    before = [len(person.screen) for person in (anna, ben, eve)]
    for _ in range(2):
        await lab.later(60)
    assert [len(person.screen) for person in (anna, ben, eve)] == [before[0] + 1, before[1], before[2]]
    assert "and you have not voted yet." in anna.sees
    await anna.presses("Vote")
    assert anna.sees.startswith("<b>#1 ")


async def test_a_poll_is_asked_again_where_it_stood(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "Giving out dots", "open", ("How many", "=3"))
    here, _ = await in_group(lab, "anna", "ben")
    await here.says("/poll 1")
    await anna.says("/close 1")
    await refreshed(lab)
    await anna.presses("Ask it again")
    assert "You have 3 dots to give out as you like." in anna.sees
    await anna.presses("Post it")
    assert the_card(here, 2).html.startswith("<b>#2 Which evening?</b>")
    ben = lab.person("ben")
    await ben.says(f"/start poll_1_{(await poll_of(lab)).link}")
    await ben.presses("Ask it again")
    assert ben.sees.startswith("<b>#1")


async def test_a_poll_is_made_like_another_that_is_still_open(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await asks(olga, "Tue\nWed", "One choice", "open", ("Needed voters", "=3"))
    [here] = await in_group(lab, "olga")
    await here.says("/poll 1")
    await olga.presses("One more like it")
    assert "Needed for a result: 3 voters." in olga.sees
    assert "It is shown here and in 1 group without a name." in olga.sees
    await olga.presses("Change the question")
    await olga.says("Which morning?")
    await olga.presses("Post it")
    assert the_card(here, 2).html.startswith("<b>#2 Which morning?</b>")
    assert (await poll_of(lab)).status == "open"


async def test_who_has_left_a_group_keeps_their_vote_and_can_change_it(lab: Community) -> None:
    """A bot is not told who leaves: who was in the group when they voted, or came by its link, was asked."""
    anna, ben, _ = await in_group(lab, "anna", "ben", "eve")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    link = (await poll_of(lab)).link
    await ben.presses("Tue")
    await lab.person("eve").says(f"/start poll_1_{link}")
    lab.messenger.chats[anna.chat.id].members -= {"ben", "eve"}
    for name in ("ben", "eve"):
        await lab.person(name).says("/vote 1 2")
        assert lab.person(name).sees == "Your vote in #1: 2. Wed"
    await lab.person("zoe").says("/vote 1 2")  # she never was there
    assert (
        lab.person("zoe").sees
        == "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there."
    )
    assert (await poll_of(lab)).voters == 2
    assert await is_true(lab)


async def test_voters_suggest_options_and_the_author_decides(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await asks(anna, "Tue\nWed", "Several choices", "open", ("Allow suggested options",))
    await ben.says(f"/start poll_1_{(await poll_of(lab)).link}")
    await ben.presses("Suggest an option")
    await ben.says("wed")
    assert ben.sees.startswith("That option is there already")
    await ben.presses("Suggest an option")
    await ben.says("Fri")
    await anna.presses("Add it")
    assert anna.sees == "Added: Fri"
    assert ben.sees == "Your option is added: Fri"
    await refreshed(lab)
    assert [button.label for button in the_card(ben).buttons][:3] == ["Tue", "Wed", "Fri"]
    await ben.presses("Suggest an option")
    await ben.says("Sat")
    await anna.presses("No")
    assert anna.sees == "It is not added."
    assert ben.sees == "Your option is not added: Sat"
    await ben.presses("Suggest an option")
    await ben.says("Sun")
    await anna.says("/close 1")
    await anna.presses("Add it")
    assert ben.sees == "Your option is not added: Sun"
    assert any(seen.html == "It cannot be added any more." for seen in anna.screen)


async def test_a_list_shows_what_one_may_see(lab: Community) -> None:
    anna, ben, olga = lab.person("anna"), lab.person("ben"), await lab.organiser("olga")
    for _ in range(7):
        await asks(anna, "Tue\nWed", "One choice")
    await ben.says("/polls")
    assert ben.sees.startswith("There is no poll yet.")
    for person in (anna, olga):
        await person.says("/polls")
        assert person.choices == [f"#{number} Which evening?" for number in (7, 6, 5, 4, 3)] + ["More"]
        await person.presses("More")
        assert person.choices == ["#2 Which evening?", "#1 Which evening?"]
    here, _ = await in_group(lab, "anna", "ben")
    await here.says("/poll 3")
    await here.says("/polls")
    assert here.choices == ["#3 Which evening?"]
    await asks(anna, "Tue\nWed", "Ranking by points")
    await olga.says("/polls")
    await olga.presses("#8")  # she is in none of its groups, and looks all the same
    assert olga.sees.startswith("<b>#8 Which evening?</b>") and "Nobody has voted yet." in olga.sees


async def test_a_list_shows_a_poll_for_some_parts_of_society_to_those_who_speak_for_them(lab: Community) -> None:
    olga, ben, rosa = await lab.organiser("olga"), lab.person("ben"), lab.person("rosa")
    some = ("Who may vote", "Also politics", "Also science", "Done")
    await asks(olga, "Tue\nWed", "One choice", "open", some)
    await ben.says("/polls")
    assert ben.sees.startswith("There is no poll yet.")
    await rosa.says("/me")
    await rosa.presses("Say whom I speak for")
    await rosa.presses("science")
    await rosa.says("/polls")
    assert rosa.choices == ["#1 Which evening?"]
    await rosa.presses("#1")
    assert await rosa.presses("Wed") == "Your vote in #1: 2. Wed"


async def test_the_team_looks_up_who_votes_for_what_and_nobody_else(lab: Community) -> None:
    olga, mia = await lab.organiser("olga"), await lab.organiser("mia", Role.MODERATOR)
    anna = lab.person("anna")
    to_all = ("Who may vote", "everybody who knows the bot")
    for secrecy in ("for the team", "secret", "open"):
        await asks(olga, "Tue\nWed", "Finding a date", secrecy, to_all)
    for number, ballot in ((1, "1 2?"), (2, "2"), (3, "2?")):
        await anna.says(f"/vote {number} {ballot}")
    for who in (olga, mia):
        await who.says("/polls 1")
        offer = who.screen[-2]
        assert offer.html == "What you can do about poll #1:"
        assert [button.label for button in offer.buttons][-1] == "Who votes for what"
        await who.presses("Who votes for what", offer)
        assert re.fullmatch(r"<b>#1 Which evening\?</b>\n1\. Tue\n2\. Wed\n\n[^\n]+: 1, 2\?", who.sees)
    old = mia.screen[-3]
    await mia.says("/polls 2")
    assert not any(button.label == "Who votes for what" for seen in mia.screen[-2:] for button in seen.buttons)
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE person SET role = 'participant'"))
    assert await mia.presses("Who votes for what", old) == "Only the lab's team can see that, in private."
    before = len(anna.screen)
    for which in (1, 3):
        await anna.says(f"/polls {which}")
    assert not any("can do about" in seen.html for seen in anna.screen[before:])
    assert "Voted:" not in anna.screen[before].html
    assert re.search(r"\n\nVoted: [^\n]+ \(2\?\)\n\n", anna.screen[before + 1].html)  # open: each ballot is there


async def test_a_long_list_of_voters_goes_on_and_one_whose_count_is_hidden_waits(lab: Community) -> None:
    olga = await lab.organiser("olga")
    hidden = ("When the count is shown", "after the close")
    await asks(olga, "Tue\nWed", "Ranking by points", "for the team", hidden)

    def vote(session: Session) -> None:
        for _ in range(31):
            person = people.begin(session.connection(), lab.time.now())
            voting.vote(session.connection(), 1, person, (1, 0), lab.time.now())

    await lab.read(vote)
    await olga.says("/polls 1")
    assert await olga.presses("Who votes for what") == "Who votes for what is shown after the close."
    await olga.says("/close 1")
    await olga.says("/polls 1")
    await olga.presses("Who votes for what")
    assert (olga.sees.count(": 2 &gt; 1"), olga.choices) == (30, ["More"])
    await olga.presses("More")
    assert (olga.sees.count(": 2 &gt; 1"), olga.choices) == (1, [])


async def test_who_has_left_is_named_no_more_and_their_vote_goes(lab: Community) -> None:
    anna, ben = await in_group(lab, "anna", "ben")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    await ben.presses("Wed")
    await anna.presses("Tue")
    await refreshed(lab)
    name = await lab.read(
        lambda session: session.exec(select(Person.pseudonym).join(Account).where(Account.external == "ben")).one()
    )
    assert name in the_card(anna).html
    away = lab.person("ben")
    await away.says("/me")
    await away.presses("Erase everything")
    await away.presses("They stay")
    await refreshed(lab)
    assert name not in the_card(anna).html
    assert "1 person has voted." in the_card(anna).html


async def test_a_group_that_becomes_a_supergroup_keeps_its_poll(lab: Community) -> None:
    [anna] = await in_group(lab, "anna")
    await anna.says(f"/poll {WHICH} | Tue | Wed")
    moved = anna.within(lab.messenger.move(anna.chat, "anna", "super"))
    lab.messenger.chats["super"].messages = lab.messenger.chats[anna.chat.id].messages
    await lab.settled()
    await moved.presses("Wed")
    await refreshed(lab)
    assert "1 person has voted." in the_card(moved).html
    await moved.says("/polls")
    assert moved.choices == ["#1 Which evening?"]


async def test_open_polls_survive_a_restart(lab: Community) -> None:
    anna = lab.person("anna")
    await asks(anna, "Tue\nWed", "Ranking by points", "secret")
    await anna.presses("Vote")
    await anna.presses("Wed")
    await lab.restart()
    await anna.presses("Tue")
    assert await anna.presses("Cast") == "Your vote in #1 is in the box."
    await lab.restart()
    await anna.says("/close 1")
    await refreshed(lab)
    assert any("1. Tue\n0 points \n2. Wed\n1 point" in seen.html for seen in anna.screen)


# -- secrecy ------------------------------------------------------------------------------------------------


def dump(session: Session) -> str:
    """All that is stored, but what is drawn by lot."""
    found: dict[str, list[list[Any]]] = {}
    for name, table in SQLModel.metadata.tables.items():
        columns = [column for column in table.c if column.name not in ("pseudonym", "handle", "link", "digest")]
        found[name] = [list(row) for row in session.connection().execute(table.select().with_only_columns(*columns))]
    shown = [column.name for column in SQLModel.metadata.tables["outbox"].c]
    for row in found["outbox"]:  # a card changes for everybody alike, whenever the clock's own ticks come
        if row[shown.index("subject")] == "poll:1":
            row[shown.index("version")] = "any"
    text = json.dumps(found, default=str, indent=1)
    return re.sub(r"poll_1_[\w-]+", "poll_1_link", text)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("One choice", ["Tue"], ["Thu"]),
        ("Several choices", ["Tue", "Thu"], ["Wed", "Tue"]),
        ("Ranking by comparison", ["Vote", "Thu", "Tue", "Cast"], ["Vote", "Tue", "Wed", "Cast"]),
        ("Finding a date", ["Vote", "Tue", "Wed", "Cast"], ["Vote", "Thu", "Thu", "Cast"]),
        ("Giving out dots", ["Vote", "Tue", "Thu", "Cast"], ["Vote", "Wed", "Wed", "Cast"]),
        ("Least resistance", ["Vote", "1", "2", "3"], ["Vote", "9", "0", "4"]),
        ("Consent to a proposal", ["Vote", "I agree"], ["Vote", "=3 because of the straw"]),
    ],
)
async def test_the_whole_database_is_the_same_whoever_of_them_has_voted_how(
    settings: Settings, tmp_path: Path, sqlite_template: Path, kind: str, one: list[str], other: list[str]
) -> None:
    """One story, told twice: Anna votes like this and Ben like that, and the other way round."""
    if not settings.database.startswith("sqlite"):
        pytest.skip("PostgreSQL stores the same; SQLite's file is what is looked into")
    dumps = []
    for number, votes in enumerate(((one, other), (other, one))):
        path = tmp_path / f"{number}.db"
        shutil.copy(sqlite_template, path)
        async with running(settings.model_copy(update={"database_url": f"sqlite:///{path}"})) as lab:
            olga = await lab.organiser("olga")
            await asks(olga, "Tue\nWed\nThu", kind, "secret")
            poll = await poll_of(lab)
            key = await lab.read(lambda session: session.exec(select(BallotKey.key)).one())
            people = [lab.person("anna"), lab.person("ben")]
            for person, labels in zip(people, votes, strict=True):
                await person.says(f"/start poll_1_{poll.link}")
                for label in labels if kind != "Consent to a proposal" else labels[-1:]:
                    if label == "Vote":
                        continue  # the link has opened the ballot
                    await (person.says(label[1:]) if label.startswith("=") else person.presses(label))
                    lab.time.pass_by(60)
            assert (await poll_of(lab)).voters == 2
            await olga.says("/close 1")
            await refreshed(lab)
            await lab.tick("forget_votes")
            dumps.append(await lab.read(dump))
        assert not any(key in file.read_bytes() for file in tmp_path.glob(f"{number}.db*"))
    if kind == "Consent to a proposal":  # one is typed, the other pressed: that much Telegram's update ids tell
        assert "straw" in dumps[0]
        assert [json.loads(text)["loose_ballot"] for text in dumps] == [json.loads(dumps[0])["loose_ballot"]] * 2
        for text in dumps:
            rows = json.loads(text)["outbox"]
            assert not any("ballot:1" in str(row) and "poll." in str(row) for row in rows)
    else:
        assert dumps[0] == dumps[1]


async def test_where_choices_are_numbers_nothing_of_the_way_to_a_secret_vote_is_left(settings: Settings) -> None:
    """Each press is answered by a message there; how many there were would tell how long a ballot is."""
    async with running(settings, replace(UNLIMITED, choices=0)) as lab:
        olga, anna = await lab.organiser("olga"), lab.person("anna")
        for words in (f"/poll {WHICH}\nTue\nWed\nThu", "Ranking by points", "secret", "Post it"):
            await olga.says(words)
        await anna.says(f"/start poll_1_{(await poll_of(lab)).link}")
        for words in ("3", "Tue", "Cast my vote"):
            await anna.says(words)
        assert anna.sees == "Your vote in #1 is in the box."

        def led(session: Session) -> list[tuple[str | None, int, int]]:
            rows = session.exec(select(Outbox).where(Outbox.subject == "ballot:1").order_by(col(Outbox.id))).all()
            return [(row.choices, row.version, row.revision) for row in rows]

        assert len(await lab.read(led)) == 4  # the ballot, an answer to each press
        await olga.says("/close 1")
        assert await lab.read(led) == [("[]", 1, 0)]
        assert await anna.says("1") != []  # there is nothing to choose any more, and an answer
        assert voting.read("2,0") in await lab.read(lambda session: voting.profile(session.connection(), 1))


async def test_a_reaction_that_votes_in_secret_is_not_kept(settings: Settings) -> None:
    async with running(settings, replace(UNLIMITED, choices=0)) as lab:
        anna = lab.person("anna")
        for words in (f"/poll {WHICH}\nTue\nWed", "One choice", "secret", "Post it"):
            await anna.says(words)
        mark = anna.messenger.react("anna", anna.chat, the_card(anna).id, 1)
        await lab.settled()
        assert anna.sees == "Your vote in #1 is in the box."
        assert await lab.read(lambda session: session.exec(select(Reaction)).all()) == []
        anna.messenger.retract_own("anna", anna.chat, mark)
        await lab.settled()
        assert (await poll_of(lab)).voters == 1


# -- from a date to an event --------------------------------------------------------------------------------


async def dates_are_found(lab: Community, who: Resident, *voters: tuple[str, str], secrecy: str = "open") -> int:
    """A poll of dates, votes as they are typed, and its close."""
    number = await asks(who, "Tue 8 Dec, 18:00\nWed 9 Dec, 18:00-21:00", "Finding a date", secrecy)
    link = (await poll_of(lab, number)).link
    for name, ballot in voters:
        await lab.person(name).says(f"/start poll_{number}_{link}")
        await lab.person(name).says(f"/vote {number} {ballot}")
    await who.says(f"/close {number}")
    return number


async def test_the_winner_of_a_poll_of_dates_becomes_an_event_and_who_can_come_hears_first(lab: Community) -> None:
    olga = await lab.organiser("olga")
    ben, eve, zoe = (lab.person(name) for name in ("ben", "eve", "zoe"))
    await dates_are_found(lab, olga, ("ben", "1 2"), ("eve", "2?"), ("zoe", "1"), ("uwe", "2"))
    before = len(zoe.screen)
    await olga.presses("Make an event of it: Wed 9 Dec, 18:00-21:00")
    assert olga.sees.startswith("This is how it goes out:\n\n<b>Which evening?</b>\nWednesday, December 9, 2026, 6:00")
    assert "9:00" in olga.sees
    assert "3 people can come then, and hear first." in olga.sees
    await olga.presses("Change: Title")
    await olga.says("The big meeting")
    await olga.presses("Publish")
    await lab.later(0)
    told = "The date is found, and you have said that you can come then. You are the first to hear:"
    for person in (ben, eve):
        assert person.sees.startswith(f"{told}\n\n<b>#1 The big meeting</b>")
        await person.presses("I come")
    assert len(zoe.screen) == before  # she cannot come then; she finds it among the others


async def test_a_weekday_in_a_poll_is_the_one_after_it_was_asked_also_when_that_is_over(lab: Community) -> None:
    olga = await lab.organiser("olga")
    number = await asks(olga, "Friday 18:00\nSaturday 18:00", "Finding a date")
    await olga.says(f"/vote {number} 1 2")
    await olga.says(f"/close {number}")
    await lab.later(4 * 86400)
    await olga.presses("Make an event of it: Saturday 18:00")
    assert "Saturday, November 7, 2026" in olga.sees
    await lab.later(2 * 86400)
    await olga.presses("Make an event of it: Saturday 18:00")
    assert olga.sees == "That is over already: “Saturday 18:00”. Which time do you mean?"


async def test_what_names_no_day_is_marked_in_the_preview_and_becomes_no_event(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await olga.says(f"/poll {WHICH}\nSometime\n30.2. 18:00\n9.12. 18:00")
    await olga.presses("Finding a date")
    await olga.presses("open")
    assert "No day, so I cannot make an event of it: Sometime, 30.2. 18:00." in olga.sees
    await olga.presses("Post it")
    await olga.says("/vote 1 1 3")
    await olga.says("/close 1")
    assert [label for label in olga.choices if label.startswith("Make")] == ["Make an event of it: 9.12. 18:00"]


async def test_who_is_no_organiser_suggests_the_event_to_the_team(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    number = await dates_are_found(lab, anna, ("ben", "1"))
    assert await anna.presses("Make an event of it") == "Only the lab's organisers can do that."  # there is no team
    [team] = await in_group(lab, "olga", called="team")
    await team.says("/team")
    before = len(team.screen)
    for _ in range(2):
        note = await anna.presses("Make an event of it")
        assert note == "The lab's organisers announce events. I have told them of it."
    [suggested] = team.screen[before:]
    assert f"suggests an event: poll #{number} “Which evening?” has found Tue 8 Dec, 18:00." in suggested.html
    ben = lab.person("ben").within(team.chat)
    assert await ben.presses("Make an event of it") == "Only the lab's organisers can do that."
    await team.presses("Make an event of it")
    assert "1 person can come then, and hears first." in team.sees
    assert olga.sees != team.sees


async def test_of_a_secret_poll_nobody_is_asked_first_and_of_an_open_one_nothing_comes_yet(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await dates_are_found(lab, olga, ("ben", "1"), secrecy="secret")
    await olga.presses("Make an event of it")
    assert "hear" not in olga.sees.replace("groups that hear of such events", "")
    await olga.presses("Publish")
    await lab.later(0)
    assert "The date is found" not in str([seen.html for seen in lab.person("ben").screen])
    await asks(olga, "Tue\nWed", "Finding a date", "open", ("Needed voters", "=3"))
    await olga.says("/vote 2 1")
    await olga.says("/close 2")
    assert "Make an event" not in str(olga.choices)  # too few have voted: it decides nothing
