"""Organising: changing, moving and cancelling an event, its guests, its door, and what is left of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, N, Span, T, Text, Verbatim
from handlers.events.coming import STARS, refresh, tell_change, tell_offered
from handlers.events.facts import EMPTY, FACTS, Wrong, meaning, understood
from handlers.events.words import ACCESS, AHEAD, CANCEL, TWICE, card, gone, span
from handlers.events.writing import ONLY_ORGANISERS
from storage.events import listing, moments, places, planning, reminding
from storage.events.moments import minutes_of
from storage.events.planning import Reach
from storage.events.tables import ACCESS as KEYS
from storage.events.tables import Event, Kind, State, Status
from storage.people import Role

router = Router()

GUESTS = 30
"""How many names stand on one page."""

REACHES: dict[Reach, Text] = {
    Reach.THIS: T("Only this one"),
    Reach.FROM_HERE: T("This one and all that follow"),
    Reach.ALL: T("The whole series"),
}

STATES: dict[State, Text] = {
    State.YES: T("comes"),
    State.OFFERED: T("has an offer"),
    State.WAITING: T("waits"),
    State.MAYBE: T("maybe"),
}


def organised(turn: Turn, number: str) -> Event | None:
    """The event, for an organiser; anybody else is told so."""
    if not turn.may(Role.ORGANISER):
        turn.toast(ONLY_ORGANISERS)
        return None
    event = turn.db.get(Event, int(number))
    if event is None:
        turn.toast(gone(number))
    return event


@router.press("event.manage")
def manage(turn: Turn, number: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    if event.status == Status.CANCELLED:
        turn.toast(T("“{title}” is cancelled: nothing can be changed any more.", title=event.title))
        return
    choices: list[Choice] = []
    if event.status == Status.DRAFT:
        choices += [
            Choice(T("Publish"), "event.publish_draft", (number,)),
            Choice(T("Discard the draft"), "event.discard", (number,)),
        ]
    changes = {key: FACTS[key].label for key in ("title", "place", "text", "capacity", "least", "closes_at")}
    changes |= {"topic": T("Topic")} | {key: FACTS[key].label for key in ("locale", "cost", "link", "notes")}
    if event.ends_at > turn.now:
        choices.append(Choice(T("Move to another time"), "event.reach", (number, "move")))
    choices += [
        *(Choice(T("Change: {what}", what=label), "event.reach", (number, key)) for key, label in changes.items()),
        Choice(T("Accessibility"), "event.reach", (number, "access")),
        Choice(T("Reminders"), "event.reach", (number, "reminders")),
    ]
    if event.status == Status.PUBLISHED:
        choices += [
            Choice(T("Guests"), "event.guests", (number, "0")),
            Choice(T("The door: code and turnout"), "event.door", (number,)),
            Choice(T("Cancel the event"), "event.reach", (number, "cancel")),
        ]
    turn.say(T("“{title}”: what shall happen?", title=event.title), *choices)


@router.press("event.discard")
def discard(turn: Turn, number: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    if event.status != Status.DRAFT:
        turn.toast(gone(number))
        return
    planning.discard(turn.db, event)
    turn.replace(T("The draft is gone."))


@router.press("event.reach")
def reach(turn: Turn, number: str, what: str) -> None:
    """Of a series: which of them?"""
    event = organised(turn, number)
    if event is None:
        return
    if event.series_id is None:
        begin(turn, number, what, Reach.THIS)
        return
    turn.replace(
        T("“{title}” is one of a series. Which do you mean?", title=event.title),
        *(Choice(label, "event.begin", (number, what, each)) for each, label in REACHES.items()),
        CANCEL,
    )


@router.press("event.begin")
def begin(turn: Turn, number: str, what: str, reach: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    data = {"event": number, "what": what, "reach": reach}
    if what == "cancel":
        going = sum(each.going for each in _concerned(turn, event, reach))
        turn.replace(
            N(
                "Shall “{title}” really be cancelled? {n} has said yes and will be told.",
                "Shall “{title}” really be cancelled? {n} have said yes and will be told.",
                n=going,
                title=event.title,
            ),
            Choice(T("Yes, cancel it and tell everybody"), "event.cancel", (number, reach)),
            Choice(T("No, it takes place"), "event.manage", (number,)),
        )
    elif what == "access":
        _ask_access(turn, event, reach)
    elif what == "reminders":
        _ask_reminders(turn, event, reach)
    elif what == "topic":
        topics = turn.lab.topics.items()
        choices = [Choice(label, "event.set_topic", (number, key, reach)) for key, label in topics]
        turn.replace(T("Which topic fits?"), *choices, Choice(T("View"), "event.show", (number,)))
    elif what == "move":
        on = {"day": event.wall[:10]}  # whoever names an hour alone means the same day
        turn.ask(Lines([span(event), T("When is it to be?")]), CANCEL, step="event.moved", data=data | on)
    elif what in FACTS:
        fact = FACTS[what]
        choices = [Choice(T("Leave it out"), "event.without", (number, what, reach))] if fact.optional else []
        step = "event.changed_number" if fact.counts else "event.changed"
        turn.ask(fact.question, *fact.choices(*choices, CANCEL), step=step, data=data)


def _concerned(turn: Turn, event: Event, reach: str) -> list[Event]:
    return planning.concerned(turn.db, event, Reach(reach), turn.now)


@router.step("event.changed_number", numbers=True)
@router.step("event.changed")
def changed(turn: Turn, words: str) -> None:
    data = turn.data
    event = organised(turn, str(data["event"]))
    if event is None:
        return
    try:
        values = dict(FACTS[data["what"]].take(turn, words))
    except Wrong as wrong:
        assert turn.dialog is not None
        again = {**data, "day": wrong.day or data.get("day")}
        turn.ask(wrong.text, *FACTS[data["what"]].choices(CANCEL), step=turn.dialog.step, data=again)
        return
    turn.done()
    _change(turn, event, data["reach"], values)


@router.press("event.without")
def without(turn: Turn, number: str, what: str, reach: str) -> None:
    event = organised(turn, number)
    if event is not None and what in EMPTY:
        turn.done()
        _change(turn, event, reach, {what: EMPTY[what]})


def _ask_access(turn: Turn, event: Event, reach: str) -> None:
    known = set(event.access.split())
    turn.replace(
        T("What holds for this event?"),
        *(
            Choice(
                T("Not: {fact}", fact=ACCESS[key]) if key in known else ACCESS[key],
                "event.set_access",
                (str(event.id), key, reach),
            )
            for key in KEYS
        ),
        Choice(T("View"), "event.show", (str(event.id),)),
    )


@router.press("event.set_access")
def set_access(turn: Turn, number: str, key: str, reach: str) -> None:
    event = organised(turn, number)
    if event is not None and key in KEYS:
        chosen = set(event.access.split()) ^ {key}
        events = _concerned(turn, event, reach)
        planning.change(turn.db, events, turn.now, access=" ".join(known for known in KEYS if known in chosen))
        follow(turn, events)
        _ask_access(turn, event, reach)


def _ask_reminders(turn: Turn, event: Event, reach: str) -> None:
    chosen = minutes_of(event.reminders)
    turn.replace(
        T("Who has chosen nothing else is reminded: {when}.", when=Lines([AHEAD[ahead] for ahead in chosen], ", "))
        if chosen
        else T("Only who has chosen it is reminded."),
        *(
            Choice(
                T("Not {when}", when=words) if ahead in chosen else T("Also {when}", when=words),
                "event.set_reminders",
                (str(event.id), str(ahead), reach),
            )
            for ahead, words in AHEAD.items()
        ),
        Choice(T("View"), "event.show", (str(event.id),)),
    )


@router.press("event.set_reminders")
def set_reminders(turn: Turn, number: str, ahead: str, reach: str) -> None:
    event = organised(turn, number)
    if event is not None and int(ahead) in AHEAD:
        minutes = {*minutes_of(event.reminders)} ^ {int(ahead)}
        planning.set_reminders(turn.db, _concerned(turn, event, reach), minutes, turn.now)
        turn.due(turn.now)
        _ask_reminders(turn, event, reach)


@router.press("event.set_topic")
def set_topic(turn: Turn, number: str, topic: str, reach: str) -> None:
    event = organised(turn, number)
    if event is not None and topic in turn.lab.topics:
        _change(turn, event, reach, {"topic": topic})


def _change(turn: Turn, event: Event, reach: str, values: Mapping[str, Any]) -> None:
    if event.status == Status.CANCELLED:
        turn.say(gone(str(event.id)))
        return
    changes = dict(values)
    if isinstance(changes.get("closes_at"), str):
        changes["closes_at"] = datetime.fromisoformat(changes["closes_at"])
    events = _concerned(turn, event, reach)
    known = {each.number for each in events if each.notes}
    try:
        planning.change(turn.db, events, turn.now, **changes)
    except places.TooMany as error:
        turn.say(
            N("{n} place is given out already.", "{n} places are given out already.", n=error.free),
            Choice(T("Organise"), "event.manage", (str(event.id),)),
        )
        return
    follow(turn, events)
    published = [each for each in events if each.status == Status.PUBLISHED]
    for each in published:
        tell_offered(turn, each, places.promote(turn.db, each, turn.now))
    late = [each for each in published if each.number not in known and reminding.feedback_at(each) <= turn.now]
    if published and changes.keys() & {"place", "link"}:
        tell_change(turn, published, "changed")
    elif late and changes.get("notes"):  # the question afterwards came without it
        reminding.tell_everybody(turn.db, late, "notes", turn.now, (State.YES,))
    turn.due(turn.now)
    turn.say(card(turn, event))


def follow(turn: Turn, events: Sequence[Event]) -> None:
    """The cards in groups at once; those in private chats a little later, since there may be many."""
    for event in events:
        if event.status != Status.DRAFT:
            refresh(turn, event)
            reminding.forget(turn.db, event, Kind.COPIES)
            reminding.note(turn.db, event, Kind.COPIES, turn.now, text="0")
            turn.due(turn.now)


@router.step("event.moved")
def moved(turn: Turn, words: str) -> None:
    data = turn.data
    event = organised(turn, str(data["event"]))
    if event is None:
        return
    try:
        meant = understood(turn, words, once=True)
    except Wrong as wrong:
        turn.ask(wrong.text, CANCEL, step="event.moved", data={**data, "day": wrong.day or data.get("day")})
        return
    minutes = meant.minutes if _has_end(turn, words) else event.minutes
    starts = moments.instant(meant.wall, event.clock)
    lines: list[Text] = [Span(starts, starts + timedelta(minutes=minutes), event.clock)]
    if moments.is_twice(meant.wall, event.clock):
        lines.append(TWICE)
    asked = {key: data[key] for key in ("event", "what", "reach")}
    turn.ask(
        Lines([Lines(lines), T("Is that right? Then everybody who has said yes hears of it.")], "\n\n"),
        Choice(T("Yes"), "event.move"),
        Choice(T("No, another time"), "event.begin", (asked["event"], "move", asked["reach"])),
        CANCEL,
        step="event.moved",  # whoever writes instead of pressing means another time
        data=asked | {"wall": meant.wall.isoformat(), "minutes": minutes, "day": str(meant.wall.date())},
    )


@router.press("event.move")
def move(turn: Turn) -> None:
    """The time that was shown is the one that is meant."""
    data = turn.data
    if turn.dialog is None or turn.dialog.step != "event.moved" or "wall" not in data:
        turn.toast(T("This question is answered already."))
        return
    event = organised(turn, str(data["event"]))
    if event is None:
        return
    wall = datetime.fromisoformat(data["wall"])
    turn.done()
    if event.status == Status.CANCELLED or event.ends_at <= turn.now:
        turn.say(gone(str(event.id)))
        return
    if moments.instant(wall, event.clock) <= turn.now:
        asked = {key: data[key] for key in ("event", "what", "reach")}
        turn.ask(T("That is over already. When is it?"), CANCEL, step="event.moved", data=asked)
        return
    events = _concerned(turn, event, data["reach"])
    planning.move(turn.db, event, events, wall, data["minutes"], turn.now)
    published = [each for each in events if each.status == Status.PUBLISHED]
    if published:
        tell_change(turn, published, "moved")
    for each in published:
        refresh(turn, each)
    turn.due(turn.now)
    turn.replace(Lines([T("It is moved, and everybody who has said yes hears of it."), span(event)]))


def _has_end(turn: Turn, words: str) -> bool:
    """Whether a length was said, or the end, or another day on which it ends."""
    return meaning(turn, words, 1)[1].minutes > 1


@router.press("event.cancel")
def cancel_event(turn: Turn, number: str, reach: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    events = [each for each in _concerned(turn, event, reach) if each.status == Status.PUBLISHED]
    if not events:
        turn.toast(gone(number))
        return
    planning.cancel(turn.db, events, turn.now)
    tell_change(turn, events, "cancelled")
    for each in events:
        refresh(turn, each)
    turn.due(turn.now)
    turn.replace(
        N("{n} event is cancelled. All who said yes are told.", "{n} events are cancelled. All who said yes are told.",
          n=len(events))
    )  # fmt: skip


@router.press("event.keep")
def keep(turn: Turn, number: str) -> None:
    """Too few come, and it takes place all the same."""
    event = organised(turn, number)
    if event is not None:
        planning.change(turn.db, [event], turn.now, least=None)
        refresh(turn, event)
        turn.replace(T("Good: “{title}” takes place.", title=event.title))


# -- guests, and the door -----------------------------------------------------------------------------------


@router.press("event.guests")
def guests(turn: Turn, number: str, after: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    if not turn.chat.private:
        turn.toast(T("That works in our private chat."))
        return
    found = listing.guests(turn.db, event.number, int(after), GUESTS + 1)
    lines: list[Text] = [
        T(
            "Coming: {n}. Maybe: {maybe}. Waiting: {waiting}.",
            n=event.going,
            maybe=event.maybe,
            waiting=event.waiting + event.held,
        )
    ]
    for rsvp, pseudonym in found[:GUESTS]:
        who: list[Text] = [Verbatim(pseudonym), STATES[State(rsvp.state)]]
        if rsvp.companions:
            who.append(T("+{n}", n=rsvp.companions))
        if rsvp.names:
            who.append(Verbatim(rsvp.names))
        if rsvp.arrived_at is not None:
            who.append(T("is here"))
        lines.append(Lines(who, " · "))
    last = str(found[GUESTS - 1][0].person_id) if len(found) > GUESTS else None
    more = [Choice(T("More"), "event.guests", (number, last))] if last is not None else []
    turn.say(Lines(lines), *more)


@router.press("event.door")
def door(turn: Turn, number: str) -> None:
    event = organised(turn, number)
    if event is None:
        return
    if not turn.chat.private:
        turn.toast(T("That works in our private chat."))
        return
    turnout = listing.turnout(turn.db, event.number)
    lines: list[Text] = [
        T("At the door: whoever writes this to me is checked in."),
        T("<code>/events {number} {code}</code>", number=number, code=event.code),
        T("{arrived} of {n} are here.", arrived=turnout.arrived, n=event.going),
    ]
    if turnout.stars is not None:
        best = STARS[max(STARS)]
        lines.append(
            T(
                "Afterwards: on average {stars} of {most} ({best}), by {answers}.",
                answers=N("{n} answer", "{n} answers", n=turnout.answers),
                stars=round(turnout.stars, 1),
                most=max(STARS),
                best=best,
            )
        )
    lines += [Verbatim(f"„{said}“") for said in turnout.said]
    turn.say(Lines(lines))
