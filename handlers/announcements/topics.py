"""What people hear about, how often and when."""

import re

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, Lines, T, Text
from handlers.announcements.words import CANCEL, topic_of
from storage import people
from storage.announcements import subscribing
from storage.announcements.subscribing import Often
from storage.announcements.writing import GENERAL

router = Router()

OFTEN: dict[Often, Text] = {
    Often.NOW: T("at once"),
    Often.DAILY: T("once a day, at 18:00"),
    Often.WEEKLY: T("once a week, on Mondays"),
    Often.NEVER: T("not at all"),
}

HOURS = re.compile(r"(\d\d?)(?::00)?\s*(?:-|–|to|bis)\s*(\d\d?)(?::00)?(?:\s*Uhr)?", re.IGNORECASE)


@router.command("topics", help=T("What you hear from me, how often and when"), where=Where.PRIVATE)
def topics(turn: Turn, _text: str) -> None:
    show_topics(turn)


@router.press("topics.show")
def show_topics(turn: Turn) -> None:
    told = subscribing.often(turn.db, turn.person.id)
    listed = [GENERAL, *turn.lab.topics, *(topic for topic in told if topic not in ("", *turn.lab.topics))]
    lines: list[Text] = [T("This is what you hear from me. Choose one to change it:")]
    lines += [
        T("{topic}: {often}", topic=topic_of(turn, topic), often=OFTEN[told.get(topic, subscribing.default(topic))])
        for topic in listed
    ]
    hours = subscribing.quiet_hours(turn.db, turn.person.id)
    lines.append(
        T("Quiet from {begin} to {end}.", begin=_hour(hours[0]), end=_hour(hours[1])) if hours else T("No quiet hours.")
    )
    accounts = people.accounts(turn.db, turn.person.id)
    preferred = next((account.adapter for account in accounts if account.preferred), None)
    if len(accounts) > 1:
        lines.append(
            T("I write to you on {messenger}.", messenger=preferred.capitalize())
            if preferred
            else T("I write to you where you were last.")
        )
    if turn.person.stopped:
        lines.append(T("At present you hear nothing at all from me: you have said /stop. /start turns it on again."))
    turn.replace(
        Lines(lines),
        *(Choice(topic_of(turn, topic), "topic.choose", (topic,)) for topic in listed),
        Choice(T("Quiet hours"), "topics.quiet"),
        *([Choice(T("Where you write to me"), "link.where")] if len(accounts) > 1 else []),
        Choice(T("Nothing at all"), "topics.stop"),
    )


@router.press("topic.choose")
def choose(turn: Turn, topic: str) -> None:
    turn.replace(
        T("How often do you want to hear of this: {topic}?", topic=topic_of(turn, topic)),
        *(Choice(label, "topic.often", (topic, often.value)) for often, label in OFTEN.items()),
        Choice(T("Back"), "topics.show"),
    )


@router.press("topic.often")
def set_often(turn: Turn, topic: str, often: str) -> None:
    subscribing.subscribe(turn.db, turn.person.id, topic, Often(often))
    show_topics(turn)


@router.press("topic.stop")
def stop_topic(turn: Turn, topic: str) -> None:
    """Under an announcement: less of this. The announcement itself stays as it is."""
    if not turn.chat.private:
        return
    if topic == GENERAL:
        choose_from_announcement(turn, topic)
        return
    subscribing.subscribe(turn.db, turn.person.id, topic, Often.NEVER)
    turn.say(
        T("You hear no more of “{topic}”.", topic=topic_of(turn, topic)),
        Choice(T("Turn it on again"), "topic.often", (topic, Often.NOW.value)),
        Choice(T("All topics"), "topics.show"),
    )


def choose_from_announcement(turn: Turn, topic: str) -> None:
    turn.say(
        T("How often do you want to hear of this: {topic}?", topic=topic_of(turn, topic)),
        *(Choice(label, "topic.often", (topic, often.value)) for often, label in OFTEN.items()),
        Choice(T("All topics"), "topics.show"),
    )


@router.press("topics.stop")
def stop_all(turn: Turn) -> None:
    turn.lab.commands["stop"].handler(turn, "")


@router.press("topics.quiet")
def ask_quiet(turn: Turn) -> None:
    turn.ask(
        T("When shall I leave you alone? Write the hours, for example 21-8. What comes then waits until after."),
        Choice(T("No quiet hours"), "topics.loud"),
        CANCEL,
        step="topics.quiet",
    )


@router.step("topics.quiet")
def take_quiet(turn: Turn, text: str) -> None:
    match = HOURS.fullmatch(text.strip())
    hours = None if match is None else (int(match[1]) % 24, int(match[2]) % 24)
    if match is None or hours is None or int(match[1]) > 24 or int(match[2]) > 24 or hours[0] == hours[1]:
        turn.say(T("Please write two hours of the day, like 21-8."))
        return
    turn.done()
    subscribing.be_quiet(turn.db, turn.person.id, hours)
    show_topics(turn)


@router.press("topics.loud")
def end_quiet(turn: Turn) -> None:
    turn.done()
    subscribing.be_quiet(turn.db, turn.person.id, None)
    show_topics(turn)


def _hour(hour: int) -> str:
    return f"{hour}:00"
