"""An announcement in words: the message its readers get, its audience, and how far it is."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from bot.turn import Turn
from bot.types import Attachment, Choice, Formatted, Language, Lines, Message, N, T, Text, Verbatim
from handlers.announcements import things
from handlers.people import messengers
from handlers.polls.words import GROUPS
from storage import rooms
from storage.announcements import audience, ledger
from storage.announcements.writing import (
    GENERAL,
    Announcement,
    Status,
    Wording,
)
from storage.people import Group

CANCEL = Choice(T("Cancel"), "cancel")
BAR = 12
"""How many signs a bar of progress has."""

STATUSES: dict[str, Text] = {
    Status.DRAFT: T("not sent yet"),
    Status.CONSENT: T("waiting for a second organiser"),
    Status.SCHEDULED: T("waiting for its time"),
    Status.SENDING: T("on its way"),
    Status.DONE: T("sent to all"),
    Status.STOPPED: T("stopped"),
    Status.RECALLED: T("taken back"),
}

PARTICIPANTS: dict[str, Text] = {
    "yes": T("who comes"),
    "yes+maybe": T("who comes or may come"),
    "waiting+offered": T("who is on the waiting list"),
    "yes+maybe+waiting+offered": T("who comes, may come or waits"),
}
"""Of an event's participants, those who have answered so."""

STATES: dict[str, Text] = {
    ledger.DELIVERED: T("delivered"),
    ledger.UNREACHABLE: T("unreachable"),
    ledger.FAILED: T("failed"),
    ledger.RETRACTED: T("taken back"),
    ledger.WITHDRAWN: T("not sent"),
}


def copy(turn: Turn, announcement: Announcement, wordings: Mapping[str, Wording], locale: str, room: bool) -> Message:
    """What somebody who reads this language gets; a room has nothing to turn off."""
    text, choices = body(turn, announcement, wordings, locale, room)
    if not room:
        choices.append(stop(turn, announcement.topic))
    return Message(text, tuple(choices), f"announcement:{announcement.number}", file_of(announcement))


def body(
    turn: Turn, announcement: Announcement, wordings: Mapping[str, Wording], locale: str, room: bool
) -> tuple[Text, list[Choice]]:
    """Its words, with what goes along in short, and what can be done with that."""
    wording = wordings.get(locale) or wordings[announcement.locale]
    choices = [Choice(Verbatim(label), url=url) for label, url in json.loads(announcement.links)]
    text: Text = Formatted(wording.html)
    thing = things.find(turn, announcement.attached, room)
    if thing is not None:
        text = Lines([text, thing.short], "\n\n")
        choices = [*thing.choices, *choices]
    elif (over := things.over(turn, announcement.attached)) is not None:
        text = Lines([text, over], "\n\n")
    return text, choices


def stop(turn: Turn, topic: str) -> Choice:
    """Under an announcement: what its reader can turn off."""
    label = T("Hear less of this") if topic == GENERAL else T("Stop “{topic}”", topic=topic_of(turn, topic))
    return Choice(label, "topic.stop", (topic,))


def file_of(announcement: Announcement) -> Attachment | None:
    """The picture or file that goes with it."""
    if announcement.file is None:
        return None
    adapter, external, name, media_type, _ = json.loads(announcement.file)
    return Attachment(name, media_type, "", (adapter, external))


def topic_of(turn: Turn, topic: str) -> Text:
    """A topic's words; what is for everybody has no topic."""
    return T("what is for everybody") if topic == GENERAL else turn.lab.topics.get(topic) or Verbatim(topic)


def audience_of(turn: Turn, audience_: str) -> Text:
    """Whom it is for."""
    kind, _, which = audience_.partition(":")
    match kind:
        case "rooms" if which:
            names, _ = rooms.names(turn.connection, audience.chosen(audience_))
            return T("the rooms {names}", names=", ".join(names) or "–")
        case "rooms":
            return T("the rooms")
        case "topic":
            return T("who follows “{topic}”", topic=topic_of(turn, which))
        case "group":
            return GROUPS[Group(which)]
        case "supporters":
            return T("who supports idea #{number}", number=which)
        case "participants":
            number, _, states = which.partition(":")
            return T("{who}, event #{number}", number=number, who=PARTICIPANTS[states])
    return T("everybody")


def size_of(size: audience.Size) -> Text:
    """How many an audience has."""
    people = [N("{n} person", "{n} people", n=size.people)] if size.people or not size.rooms else []
    return Lines([*people, *([N("{n} room", "{n} rooms", n=size.rooms)] if size.rooms else [])], ", ")


def seconds_for(turn: Turn, size: audience.Size) -> float:
    """How long sending takes at the messengers' rates; each goes at its own."""
    limits = turn.lab.limits
    return max((chats / limits[name].rate for name, chats in size.chats.items() if name in limits), default=0.0)


def lasting(seconds: float) -> Text:
    """A length of time, roughly."""
    if seconds < 90:
        return N("{n} second", "{n} seconds", n=max(1, round(seconds)))
    if seconds < 5400:
        return N("{n} minute", "{n} minutes", n=round(seconds / 60))
    return N("{n} hour", "{n} hours", n=round(seconds / 3600))


# -- how far it is ----------------------------------------------------------------------------------------------


def progress(turn: Turn, announcement: Announcement, now: datetime) -> Message:
    """How far it is, and what can be done about it."""
    number = str(announcement.number)
    state = T("paused") if announcement.paused else STATUSES[announcement.status]
    lines: list[Text] = [T("<b>Announcement {number}</b>: {state}", number=number, state=state)]
    if announcement.status == Status.SCHEDULED and announcement.starts_at is not None:
        lines.append(T("It goes out on {date}.", date=announcement.starts_at))
    elif announcement.status == Status.RECALLED and announcement.step_at is not None:
        left = announcement.pending + announcement.delivered
        lines = [T("<b>Announcement {number}</b>: being taken back, {n} left", number=number, n=left)]
    elif announcement.status == Status.SENDING:
        lines += _moving(turn, announcement, now)
    else:
        lines += report(turn, announcement)
    lines += standstill(announcement)
    return Message(Lines(lines), tuple(_actions(announcement)), f"progress:{number}")


def standstill(announcement: Announcement) -> list[Text]:
    """From when to when nothing could be done about it, the last time that this lasted noticeably."""
    if announcement.stood_from is None or announcement.stood_until is None:
        return []
    begin, end = announcement.stood_from, announcement.stood_until
    return [T("It stood still from {begin} to {end}: a messenger or I myself did not work.", begin=begin, end=end)]


def how_far(turn: Turn, announcement: Announcement) -> Text:
    """How far it is, in one line."""
    line = T(
        "Announcement {number}: {state}, {done} of {of}.",
        number=str(announcement.number),
        state=T("paused") if announcement.paused else STATUSES[announcement.status],
        done=announcement.recipients - ledger.left(turn.db, announcement),
        of=announcement.recipients,
    )
    return Lines([line, *standstill(announcement)], " ")


def _moving(turn: Turn, announcement: Announcement, now: datetime) -> list[Text]:
    left, of = ledger.left(turn.db, announcement), max(1, announcement.recipients)
    done = announcement.recipients - left
    filled = BAR * done // of
    bar = "▓" * filled + "░" * (BAR - filled)
    lines: list[Text] = []
    if announcement.recipients:  # else its audience is not fixed yet
        percent = 100 * done // of
        lines.append(T("{bar} {percent} % ({done} of {of})", bar=bar, percent=percent, done=done, of=of))
    begun = announcement.begun_at or now
    rate = (done - announcement.begun_from) / max(1.0, (now - begun).total_seconds())
    if announcement.paused:
        return lines
    if announcement.step_at is not None and announcement.step_at - now > timedelta(minutes=1):
        lines.append(T("It goes on at {date}.", date=announcement.step_at))
    elif rate > 0 and left:
        rest = lasting(left / rate)
        lines.append(T("{rate} a minute, about {left} left", rate=max(1, round(rate * 60)), left=rest))
    return lines


def report(turn: Turn, announcement: Announcement) -> list[Text]:
    """What has become of its copies: all in all, by messenger and language, and why some have failed."""
    found = ledger.report(turn.db, announcement.number)
    counts: Counter[str] = Counter()
    for line in found:
        counts[line.state] += line.copies
    states = dict(STATES)
    if announcement.status == Status.RECALLED:
        states[ledger.DELIVERED] = T("could not be taken back")
    lines: list[Text] = []
    if announcement.over:
        lines.append(
            Lines([T("{state}: {n}", state=states[state], n=counts[state]) for state in states if counts[state]], ", ")
        )
    elif not announcement.pending:
        lines.append(T("It has reached nobody."))
    if announcement.pending:
        lines.append(T("still on their way: {n}", n=announcement.pending))
    for adapter, locale in dict.fromkeys((line.adapter, line.locale) for line in found):
        ended = [
            T("{n} {state}", state=states[line.state], n=line.copies)
            for line in found
            if (line.adapter, line.locale) == (adapter, locale) and line.state in states
        ]
        if ended:
            lines.append(
                T(
                    "{messenger}, {language}: {states}",
                    messenger=messengers([adapter]),
                    language=Language(locale),
                    states=Lines(ended, ", "),
                )
            )
    for reason, copies in ledger.reasons(turn.db, announcement.number):
        lines.append(T("{n} failed: {reason}", n=copies, reason=reason))
    return lines


def _actions(announcement: Announcement) -> list[Choice]:
    number = (str(announcement.number),)
    match announcement.status:
        case Status.SCHEDULED:
            return [Choice(T("Stop it"), "announce.stop", number)]
        case Status.SENDING:
            pause = (
                Choice(T("Go on"), "announce.resume", number)
                if announcement.paused
                else Choice(T("Pause"), "announce.pause", number)
            )
            return [pause, *_after(number), Choice(T("Stop it"), "announce.stop", number)]
        case Status.DONE | Status.STOPPED if announcement.delivered:
            return _after(number)
    return []


def _after(number: tuple[str, ...]) -> list[Choice]:
    return [
        Choice(T("Correct it"), "announce.correct", number),
        Choice(T("Take it back everywhere"), "announce.recall", number),
    ]


def not_found(words: str) -> Text:
    """What somebody has written is the number of nothing there is."""
    shown = words if len(words) <= 40 else f"{words[:40]}…"
    return T("I do not find “{words}”, or it is over. Choose from the list, or write a number.", words=shown)
