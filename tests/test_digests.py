"""Digests: what was put off for somebody arrives as one message, and stays true."""

from typing import Any

from sqlalchemy import event
from sqlmodel import Session, select

from storage.announcements import subscribing, writing
from storage.people import Account
from tests.conftest import Community, Resident
from tests.test_announcements import announcement, copies, corrects, crowd, ledger_of, report, rests, sent

EVENING = 8 * 3600


async def daily(person: Resident, topic: str = "what is for everybody") -> None:
    """From now on once a day."""
    await person.says("/topics")
    await person.presses(topic)
    await person.presses("once a day")


async def test_what_was_put_off_for_the_evening_is_one_message_with_all_that_can_be_done(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    await daily(ada)
    await daily(ada, "Mobility")
    await daily(ben)
    await sent(lab, olga, "The **first**")
    await olga.says("/announce The second")
    await olga.presses("Add a link")
    await olga.says("Programme https://example.org/p")
    await olga.presses("For whom")
    await olga.presses("who follows “Mobility”")
    await olga.presses("Send")
    await rests(lab)
    await olga.says("/announce")
    await olga.says("The picture", files=[("plan.png", b"picture")])
    await olga.presses("Send")
    await lab.later(EVENING)
    await rests(lab)
    [seen] = copies(ada, "The <b>first</b>")
    assert seen.html == "<b>What was new: 2 things in one message</b>\n\nThe <b>first</b>\n\n———\n\nThe second"
    assert [(button.label, button.url) for button in seen.buttons] == [
        ("Programme", "https://example.org/p"),
        ("Hear less of this", None),
        ("Stop “Mobility”", None),
    ]
    assert [seen.file for seen in copies(ada, "The picture")] == [("plan.png", b"picture")]
    assert [seen.html for seen in copies(ben, "The <b>first</b>")] == ["The <b>first</b>"]  # there is nothing else
    assert await ledger_of(lab, 1) == await ledger_of(lab, 3) == {"delivered": 3}
    assert await ledger_of(lab, 2) == {"delivered": 1}


async def test_a_digest_follows_when_one_of_its_announcements_is_corrected_or_taken_back(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    for text in ("Party on Friday", "Closed on Monday", "Workshop"):
        await sent(lab, olga, text)
    await lab.later(EVENING)
    await rests(lab)
    await olga.says("/announce 2")
    await corrects(olga, "Closed on Tuesday")
    await rests(lab)
    [seen] = copies(ada, "What was new: 3")
    assert "Party on Friday\n\n———\n\nClosed on Tuesday\n\n———\n\nWorkshop" in seen.html
    for number in (1, 3, 2):
        await olga.says(f"/announce {number}")
        await olga.presses("Take it back everywhere")
        await olga.presses("Yes, take it back")
        await rests(lab)
        assert "taken back: 2" in report(olga, number)
        left = [seen.html for seen in ada.screen if "Closed" in seen.html]
        if number == 1:
            assert left == ["<b>What was new: 2 things in one message</b>\n\nClosed on Tuesday\n\n———\n\nWorkshop"]
        else:
            assert left == (["Closed on Tuesday"] if number == 3 else [])
        assert await ledger_of(lab, number) == {"withdrawn": 2}


async def test_each_announcement_stands_whole_in_a_digest_or_goes_by_itself(
    lab: Community,
) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    for sign in "xyz":
        await sent(lab, olga, sign * 1900)
    await lab.later(EVENING)
    await rests(lab)
    assert [len(copies(ada, sign * 1900)) for sign in "xyz"] == [1, 1, 1]
    assert copies(ada, "x" * 1900) == copies(ada, "y" * 1900) == copies(ada, "What was new: 2")
    await olga.says("/announce 1")
    await corrects(olga, "X" * 3000)
    await rests(lab)
    assert [seen.html for seen in copies(ada, "X" * 3000)] == ["X" * 3000]
    assert [seen.html for seen in copies(ada, "y" * 1900)] == ["y" * 1900]
    assert await ledger_of(lab, 1) == await ledger_of(lab, 2) == {"delivered": 2}


async def test_who_answers_a_digest_is_asked_which_announcement_they_mean(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    for text in ("Party on Friday\n\nat ten", "Closed on Monday"):
        await sent(lab, olga, text)
    await lab.later(EVENING)
    await rests(lab)
    await ada.says("Until when?", reply_to=copies(ada, "What was new")[0].id)
    assert ada.choices == ["Party on Friday", "Closed on Monday", "Cancel"]
    await ada.says("the party")
    assert ada.choices == ["Party on Friday", "Closed on Monday", "Cancel"]
    await ada.says("2")
    [asked] = copies(olga, "Question 1 on announcement 2")
    assert "Until when?" in asked.html
    await olga.says("Until Wednesday.", reply_to=asked.id)
    assert ada.sees.endswith("Until Wednesday.")


async def test_what_is_paused_or_turned_off_meanwhile_is_not_in_the_digest(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    await daily(ada, "Mobility")
    for text, topic in (("the-general", ""), ("the-bicycles", "who follows “Mobility”"), ("the-paused", "")):
        await olga.says(f"/announce {text}")
        if topic:
            await olga.presses("For whom")
            await olga.presses(topic)
        await olga.presses("Send")
        await rests(lab, 2)
    await olga.presses("Pause")
    await ada.says("/topics")
    await ada.presses("Mobility")
    await ada.presses("not at all")
    await lab.later(EVENING)
    await rests(lab)
    assert [seen.html for seen in ada.screen if "the-" in seen.html] == ["the-general"]
    assert await ledger_of(lab, 2) == {"withdrawn": 1}
    await olga.presses("Go on")
    await rests(lab)
    assert [seen.html for seen in ada.screen if "the-" in seen.html] == ["the-general", "the-paused"]
    assert (await announcement(lab, 3)).pending == 0


async def test_a_digest_of_many_reads_the_words_of_each_only_a_few_times(lab: Community) -> None:
    ada, ben = await crowd(lab, "ada", "ben")
    olga = await lab.organiser("olga")
    for person in (ada, ben):
        await daily(person)
    for number in range(1, 13):
        await sent(lab, olga, f"News number {number}.")
    read: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM wording" in statement:
            read.append(statement)

    engine = await lab.read(lambda session: session.get_bind().engine)
    event.listen(engine, "before_cursor_execute", note)
    try:
        await lab.later(EVENING)
        await rests(lab)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert "News number 1.\n\n———\n\nNews number 2." in copies(ada, "What was new: 12")[0].html
    assert len(read) < 4 * 12


async def test_what_leaves_the_night_out_is_in_no_digest_that_goes_out_at_night(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    ids = await lab.read(lambda session: session.exec(select(Account.person_id)).all())
    await lab.read(lambda session: subscribing.be_quiet(session, ids[0], (17, 23)))
    await sent(lab, olga, "the-late")
    await olga.says("/announce the-early")
    await olga.presses("When")
    await olga.presses("Not at night")
    await olga.presses("Send")
    await rests(lab, 2)
    await lab.later(EVENING)
    await lab.later(5 * 3600)  # 23:00
    await rests(lab)
    assert [seen.html for seen in ada.screen if "the-" in seen.html] == ["the-late"]
    await lab.later(9 * 3600)
    await rests(lab)
    assert [seen.html for seen in ada.screen if "the-" in seen.html] == ["the-late", "the-early"]


async def test_who_answers_a_digest_of_which_nothing_stands_any_more_is_still_heard(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    for text in ("Party on Friday", "Closed on Monday"):
        await sent(lab, olga, text)
    await lab.later(EVENING)
    await rests(lab)
    digest = copies(ada, "What was new")[0]
    await lab.later(3 * 24 * 3600)
    for number in (1, 2):
        await olga.says(f"/announce {number}")
        await olga.presses("Take it back everywhere")
        await olga.presses("Yes, take it back")
        await rests(lab)
    assert "taken this announcement back" in ada.sees
    await ada.says("Why?", reply_to=digest.id)
    assert ada.choices == ["Party on Friday", "Closed on Monday", "Cancel"]
    await ada.says("1")
    assert "Why?" in copies(olga, "Question 1 on announcement 1")[0].html


async def test_what_stands_in_a_digest_is_not_cut_off_when_others_there_have_grown_meanwhile(lab: Community) -> None:
    [ada] = await crowd(lab, "ada")
    olga = await lab.organiser("olga")
    await daily(ada)
    for sign in "xyz":
        await sent(lab, olga, sign * 900)
    await lab.later(EVENING)
    await rests(lab)

    def grow(session: Session) -> None:
        for number, sign in ((2, "Y"), (3, "Z")):
            writing.word(session, writing.find(session, number), "en", sign * 2500, sign * 2500)

    await lab.read(grow)  # corrected, but not seen to yet
    await olga.says("/announce 1")
    await corrects(olga, "The first")
    await rests(lab)
    assert len(copies(ada, "y" * 900)) == len(copies(ada, "z" * 900)) == len(copies(ada, "The first")) == 1
    for number, sign in ((2, "Y"), (3, "Z")):
        await olga.says(f"/announce {number}")
        await corrects(olga, sign * 2600)
        await rests(lab)
    assert [len(copies(ada, words)) for words in ("x" * 900, "The first", "Y" * 2600, "Z" * 2600)] == [0, 1, 1, 1]
