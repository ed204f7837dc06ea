"""What can go with an announcement: an idea, a poll or an event, in short, and what one can do with it in each copy."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

from bot.choices import width
from bot.turn import Turn
from bot.types import Choice, Lines, T, Text
from handlers.events.words import span
from handlers.polls.words import IN_GROUPS
from storage import ideas
from storage.events import listing, places
from storage.events.tables import Event, State
from storage.events.tables import Status as EventStatus
from storage.polls import asking
from storage.polls.tables import Audience, Poll
from storage.polls.tables import Status as PollStatus

IDEA, POLL, EVENT = "idea", "poll", "event"
WITHOUT: dict[str, Text] = {
    IDEA: T("Without the idea"),
    POLL: T("Without the poll"),
    EVENT: T("Without the event"),
}
NEWEST = 5
"""How many of a kind are offered to choose from."""


class Thing(NamedTuple):
    """What goes with an announcement: what it is called, its short form, and what its readers can do with it.

    ``facts`` are what the short form says, whatever its words are.
    """

    title: Text
    short: Text
    choices: list[Choice]
    facts: list[str]


def find(turn: Turn, attached: str | None, room: bool = False) -> Thing | None:
    """What "idea:42" names, for a private chat or a ``room``; ``None`` when it is not there, or over, any more."""
    kind, _, which = (attached or "").partition(":")
    number = int(which) if which.isdecimal() and len(which) < 10 else 0
    match kind:
        case "idea":
            return _idea(turn, number)
        case "poll":
            return _poll(turn, number, room)
        case "event":
            return _event(turn, number)
    return None


def _idea(turn: Turn, number: int) -> Thing | None:
    try:
        idea = ideas.visible(turn.db, number)
    except ideas.NotOpen:
        return None
    title = T("#{number} {title}", number=str(number), title=idea.title)
    short = T("<b>#{number} {title}</b>", number=str(number), title=idea.title)
    see = Choice(T("See idea #{number}", number=str(number)), "idea.show", (str(number),))
    return Thing(title, short, [see], [idea.title])


def _poll(turn: Turn, number: int, room: bool) -> Thing | None:
    poll = asking.find(turn.db, number)
    if poll is None or poll.status != PollStatus.OPEN or poll.audience == Audience.ROOMS:
        return None  # it is shown in those, and nowhere else
    title = T("#{number} {question}", number=str(number), question=poll.question)
    lines: list[Text] = [T("<b>#{number} {question}</b>", number=str(number), question=poll.question)]
    if poll.closes_at is not None:
        lines.append(T("Open until {time}.", time=poll.closes_at))
    # Whoever may vote is asked in the press. From a room it leads into the private chat, but not by the poll's link:
    # that lets in whoever is where the poll stands, and an announcement goes anywhere.
    vote = Choice(T("Vote"), start=f"poll-{number}") if room else Choice(T("Vote"), "poll.ballot", (str(number),))
    return Thing(title, Lines(lines), [vote], [poll.question, moment(poll.closes_at)])


def refusal(turn: Turn, attached: str) -> Text | None:
    """Why ``find`` does not find what is there."""
    poll = poll_in(turn, attached)
    if poll is not None and poll.status == PollStatus.OPEN:
        return T(
            "Poll #{number} is only for the rooms where it stands, so it cannot go along. Which one?",
            number=str(poll.id),
        )
    return None


def _event(turn: Turn, number: int) -> Thing | None:
    try:
        event = listing.visible(turn.db, number)
    except places.NotOpen:
        return None
    if event.status != EventStatus.PUBLISHED or event.ends_at <= turn.now:
        return None
    title = T("#{number} {title}", number=str(number), title=event.title)
    lines: list[Text] = [T("<b>#{number} {title}</b>", number=str(number), title=event.title), span(event)]
    if event.place:
        lines.append(T("Place: {place}", place=event.place))
    come = Choice(T("I come"), "event.answer", (str(number), State.YES))
    choices = [come, Choice(T("About the event"), "event.show", (str(number),))]
    said = [event.title, event.zone, moment(event.starts_at), moment(event.ends_at), event.place]
    return Thing(title, Lines(lines), choices, said)


def poll_in(turn: Turn, attached: str | None) -> Poll | None:
    """The poll that goes along, whatever has become of it."""
    number = _number_in(attached, POLL)
    return None if number is None else asking.find(turn.db, number)


def event_in(turn: Turn, attached: str | None) -> Event | None:
    """The event that goes along, whatever has become of it."""
    number = _number_in(attached, EVENT)
    return None if number is None else turn.db.get(Event, number)


def _number_in(attached: str | None, wanted: str) -> int | None:
    kind, _, which = (attached or "").partition(":")
    return int(which) if kind == wanted and which.isdecimal() and len(which) < 10 else None


def moment(at: datetime | None) -> str:
    """A time as a fact: the same in whatever zone it is told."""
    return "" if at is None else at.astimezone(UTC).isoformat()


def over(turn: Turn, attached: str | None) -> Text | None:
    """What stands in place of a thing that is over before its time, or is no longer open; ``None`` for nothing."""
    event, poll = event_in(turn, attached), poll_in(turn, attached)
    if event is not None and event.status == EventStatus.CANCELLED:
        title = T("<b>#{number} {title}</b>", number=str(event.id), title=event.title)
        return Lines([title, T("<b>This event is cancelled.</b>")])
    if poll is not None and poll.status == PollStatus.CLOSED:
        question = T("<b>#{number} {question}</b>", number=str(poll.id), question=poll.question)
        return Lines([question, T("Poll #{number} is closed.", number=str(poll.id))])
    return None


def as_it_is(turn: Turn, attached: str) -> Text:
    """What the copies would say of it now."""
    thing = find(turn, attached)
    return (over(turn, attached) or T("It is not there any more.")) if thing is None else thing.short


def changed(turn: Turn, attached: str, said: str) -> bool:
    """Whether copies that said this of it are wrong now; that it has run its course as they said makes them not."""
    event, poll = event_in(turn, attached), poll_in(turn, attached)
    if event is not None and event.status == EventStatus.PUBLISHED and event.ends_at <= turn.now:
        return False
    if poll is not None and poll.closes_at is not None and poll.closes_at <= turn.now:
        return False
    return says(turn, attached) != said


def says(turn: Turn, attached: str) -> str:
    """What the copies would say of it now, as a row keeps it: the facts, since words may be others after an update."""
    thing = find(turn, attached)
    if thing is None:
        return "gone" if over(turn, attached) is None else "over"
    return json.dumps(thing.facts, ensure_ascii=False)


def newest(turn: Turn, kind: str) -> list[tuple[int, Text]]:
    """Some of a kind to choose from: the newest ideas and polls, the next events."""
    match kind:
        case "idea":
            found = [idea.id for idea in ideas.browse(turn.db, most=NEWEST).ideas]
        case "poll":
            page = asking.browse(turn.db, person_id=turn.person.id, role=turn.person.role, chat_id=None, most=NEWEST)
            found = [poll.id for poll in page.polls]
        case _:
            found = [event.id for event in listing.browse(turn.db, turn.now, most=NEWEST).events]
    things = [(number or 0, find(turn, f"{kind}:{number}")) for number in found]
    return [(number, thing.title) for number, thing in things if thing is not None]


def width_of(turn: Turn, attached: str | None) -> int:
    """How many characters its short form takes, in the longest language."""
    thing = find(turn, attached)
    return 0 if thing is None else 2 + max(width(words.html(thing.short)) for words in turn.lab.catalogues.values())


def limits_of(turn: Turn, attached: str | None) -> list[Text]:
    """What whoever writes shall know before sending: not every reader may vote in it."""
    poll = poll_in(turn, attached)
    if poll is None or poll.audience not in IN_GROUPS:
        return []
    return [T("Poll #{number} is only for people in its groups. The others cannot vote.", number=str(poll.id))]
