"""Importing: an organiser sends a calendar file, sees what it would make and change, and takes it over."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, N, Span, T, Text
from handlers.events import reading
from handlers.events.coming import tell_change
from handlers.events.organising import follow
from handlers.events.words import CANCEL, span
from handlers.events.writing import ONLY_ORGANISERS, go_out
from storage import chats, rooms
from storage.events import importing, moments, planning, reminding
from storage.events.importing import Entry, Step
from storage.events.tables import Event, Status
from storage.people import Role

router = Router()

SHOWN = 10
"""How many lines of each kind a preview has, and how many events a message to everybody names."""


@router.file("text/calendar", ".ics", role=Role.ORGANISER)
def bring_in(turn: Turn, content: bytes, _name: str) -> None:
    topics = {
        key: [key, *(words.plain(label).casefold() for words in turn.lab.catalogues.values())]
        for key, label in turn.lab.topics.items()
    }
    try:
        contents = reading.read(content, turn.words.zone, turn.now, topics)
    except reading.NoCalendar:
        turn.say(T("This is no calendar file. Please export it as iCalendar (.ics)."))
        return
    except reading.OtherMethod as other:
        turn.say(
            T(
                "This file is a message about an invitation ({method}), not the event itself. "
                "Please export the event from the calendar.",
                method=other.method,
            )
        )
        return
    steps = [importing.compare(turn.db, entry, turn.now) for entry in contents.entries]
    lines = _found(contents)
    if all(step.older or step.does_nothing for step in steps):
        turn.say(Lines([T("There is nothing new in this file."), *lines], "\n\n"))
        return
    _preview(turn, steps, lines)


def _preview(turn: Turn, steps: Sequence[Step], found: Sequence[Text] = ()) -> None:
    """What would be made and changed."""
    data = {"entries": [asdict(step.entry) for step in steps]}
    new = [step for step in steps if step.new]
    parts: list[Text] = []
    if new:
        head = N("{n} new event:", "{n} new events:", n=sum(len(step.new) for step in new))
        parts.append(_listed(head, [_new(turn, step) for step in new]))
    changed = [(event, date) for step in steps for event, date in step.changed]
    if changed:
        head = N("{n} event changes:", "{n} events change:", n=len(changed))
        parts.append(_listed(head, [_line(turn, event.title, date.wall, date.minutes) for event, date in changed]))
    gone = [event for step in steps for event in step.cancelled]
    if gone:
        head = N("{n} event is cancelled:", "{n} events are cancelled:", n=len(gone))
        parts.append(_listed(head, [_line(turn, event.title, event.wall, event.minutes) for event in gone]))
    if older := sum(step.older for step in steps):
        parts.append(N("{n} is newer here already.", "{n} are newer here already.", n=older))
    parts += found
    choices = [Choice(T("Publish"), "event.import", (_seen(data), "now"))]
    if new:
        choices.append(Choice(T("Keep as a draft"), "event.import", (_seen(data), "later")))
    if not new:
        choices = [Choice(T("Take it over"), "event.import", (_seen(data), "later"))]
    if changed or gone:
        parts.append(T("Whoever has answered hears of what changes."))
    turn.ask(Lines(parts, "\n\n"), *choices, CANCEL, step="event.import", data=data)


def _listed(head: Text, lines: Sequence[Text]) -> Text:
    more = [T("… and {n} more", n=len(lines) - SHOWN)] if len(lines) > SHOWN else []
    return Lines([head, *lines[:SHOWN], *more])


def _new(turn: Turn, step: Step) -> Text:
    first = step.new[0]
    line = _line(turn, step.entry.said(first)["title"], first.wall, first.minutes)
    return line if len(step.new) == 1 else T("{event}, and {n} times more", event=line, n=len(step.new) - 1)


def _line(turn: Turn, title: str, wall: str, minutes: int) -> Text:
    starts = moments.instant(datetime.fromisoformat(wall), turn.words.zone)
    when = Span(starts, starts + timedelta(minutes=minutes), turn.words.zone, short=True)
    return T("{date}: {title}", date=when, title=title)


def _found(contents: reading.Contents) -> list[Text]:
    """What is not taken, and why."""
    parts: list[Text] = []
    if contents.unfit:
        lines = [T("“{title}” {reason}", title=title or "?", reason=reason) for title, reason in contents.unfit]
        parts.append(_listed(T("Left out:"), lines))
    if contents.cut:
        titles = ", ".join(dict.fromkeys(contents.cut[:SHOWN]))
        parts.append(T("Goes on for longer than I plan ahead: {titles}.", titles=titles))
    if contents.over:
        parts.append(N("{n} event is over.", "{n} events are over.", n=contents.over))
    return parts


@router.step("event.import")
def not_yet(turn: Turn, _text: str) -> None:
    _preview(turn, _again(turn))


def _again(turn: Turn) -> list[Step]:
    entries = [Entry.stored(kept) for kept in turn.data["entries"]]
    return [importing.compare(turn.db, entry, turn.now) for entry in entries]


def _seen(data: dict[str, Any]) -> str:
    """What a preview has shown: only that is taken over."""
    return str(zlib.crc32(repr(data["entries"]).encode()))


@router.press("event.import")
def take_over(turn: Turn, seen: str, moment: str) -> None:
    if not turn.may(Role.ORGANISER):
        turn.toast(ONLY_ORGANISERS)
        return
    if turn.dialog is None or turn.dialog.step != "event.import" or seen != _seen(turn.data):
        turn.toast(T("This question is answered already."))
        return
    entries = [Entry.stored(kept) for kept in turn.data["entries"]]
    turn.done()
    done = importing.carry_out(turn.db, entries, turn.person.id, turn.chat.locale, str(turn.words.zone), turn.now)
    follow(turn, [*done.cancelled, *done.moved, *done.said_otherwise])
    elsewhere = [event for event in done.elsewhere if event not in done.moved]
    for what, events in (("cancelled", done.cancelled), ("moved", done.moved), ("changed", elsewhere)):
        together: dict[int, list[Event]] = {}
        for event in events:
            if event.status != Status.DRAFT:
                together.setdefault(event.series_id or -event.number, []).append(event)
        for those in together.values():
            tell_change(turn, those, what)
    turn.due(turn.now)
    if moment == "now":
        _publish(turn, done.made)
    else:
        _tell(turn, T("Taken over."), done.made)


def _publish(turn: Turn, made: Sequence[Sequence[Event]]) -> None:
    if len(made) == 1:
        go_out(turn, made[0])
        return
    for events in made:
        planning.publish(turn.db, events, turn.now)
    firsts = [events[0] for events in made]
    if firsts:
        planning.tell_of_many(turn.db, firsts, turn.now)
    hear_all = {*rooms.hearing(turn.connection, [rooms.EVENTS]), *chats.team_chats(turn.connection)}
    hear_some = rooms.hearing(turn.connection, sorted({first.topic for first in firsts}))
    for room in sorted(hear_all.union(hear_some)):
        topics = rooms.hears(turn.connection, room)
        heard = [events for events in made if room in hear_all or events[0].topic in topics]
        if heard:
            turn.tell(room, news_of([events[0] for events in heard]), bulk=True)
        for event in (event for events in heard for event in events):
            reminding.plan_room(turn.db, event, room, turn.now)
    _tell(turn, T("Published."), made)


def _tell(turn: Turn, done: Text, made: Sequence[Sequence[Event]]) -> None:
    firsts = [events[0] for events in made]
    turn.replace(Lines([done, *lines_of(firsts)]), *views_of(firsts))


def news_of(events: Sequence[Event]) -> Message:
    """Several new events in one message."""
    return Message(Lines([T("New in the calendar:"), *lines_of(events)]), views_of(events))


def lines_of(events: Sequence[Event]) -> list[Text]:
    lines: list[Text] = [
        T("<b>#{number} {title}</b>, {date}", number=str(event.id), title=event.title, date=span(event, short=True))
        for event in events[:SHOWN]
    ]
    if len(events) > SHOWN:
        lines.append(T("… and {n} more: /events", n=len(events) - SHOWN))
    return lines


def views_of(events: Sequence[Event]) -> tuple[Choice, ...]:
    return tuple(
        Choice(T("#{number} {title}", number=str(event.id), title=event.title[:40]), "event.show", (str(event.id),))
        for event in events[:SHOWN]
    )
