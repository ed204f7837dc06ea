"""Coming: yes, maybe and no, whom one brings, the waiting list, reminders, check-in and the question afterwards."""

import re
import secrets
from collections.abc import Sequence

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, N, Pressed, T, Text
from handlers.events.words import AHEAD, CANCEL, calendar_file, card, gone, own_answer, personal, refusal, span, subject
from storage import outbox
from storage.events import listing, places, planning, reminding
from storage.events.moments import minutes_of, stored_minutes
from storage.events.places import Answered, Closed, NotOpen, TooMany
from storage.events.tables import MOST_COMPANIONS, Event, Rsvp, State, Status
from storage.people import Role

router = Router()

LONGEST_NAMES = 120
LONGEST_SAID = 500

STARS: dict[int, Text] = {4: T("Very good"), 3: T("Good"), 2: T("So-so"), 1: T("Not good")}


def show(turn: Turn, number: str) -> None:
    """The card of an event, for this person, here."""
    try:
        event = listing.visible(turn.db, int(number), turn.may(Role.ORGANISER))
    except NotOpen:
        turn.say(gone(number))
        return
    turn.say(_card_here(turn, event))


def _card_here(turn: Turn, event: Event) -> Message:
    if not turn.chat.private:
        return card(turn, event)
    return personal(turn, event, turn.db.get(Rsvp, (event.number, turn.person.id)), turn.person.role)


@router.press("event.show")
def show_press(turn: Turn, number: str) -> None:
    show(turn, number)


def refresh(turn: Turn, event: Event) -> None:
    """The cards in groups show how it is now."""
    for chat_id in outbox.rooms_showing(turn.connection, subject(event)):
        turn.edit_copies(subject(event), chat_id, card(turn, event))


def tell_change(turn: Turn, events: Sequence[Event], what: str) -> None:
    """News for all who have answered, and for the groups that see the card: some who come are known there only."""
    rooms = outbox.rooms_showing(turn.connection, *(subject(event) for event in events))
    reminding.tell_everybody(turn.db, events, what, turn.now, rooms=rooms)


@router.press("event.answer")
def answer(turn: Turn, number: str, wanted: str) -> None:
    give(turn, number, State(wanted))


def give(turn: Turn, number: str, wanted: State, companions: int | None = None, names: str | None = None) -> None:
    """Take an answer, tell what came of it, and see to the reminders and to who is next."""
    try:
        done = places.answer(turn.db, int(number), turn.person.id, wanted, turn.now, companions, names)
    except (NotOpen, Closed, TooMany) as error:
        event = turn.db.get(Event, int(number))
        if event is not None and event.status == Status.CANCELLED:
            turn.toast(T("“{title}” is cancelled.", title=event.title))
        else:
            turn.toast(refusal(error, number))
        return
    first = reminding.plan(turn.db, done.event, done.rsvp, turn.now)
    if first is not None:
        turn.due(first)
    tell_offered(turn, done.event, done.offered)
    refresh(turn, done.event)
    _confirm(turn, done)


def _confirm(turn: Turn, done: Answered) -> None:
    event, rsvp = done.event, done.rsvp
    said = own_answer(turn, event, rsvp)
    if isinstance(turn.update, Pressed):
        turn.toast(said)
    elif not turn.chat.private:
        turn.say(said)
    if turn.chat.private:
        turn.edit_copies(subject(event), turn.chat.id, personal(turn, event, rsvp, turn.person.role))
    if rsvp.state == State.YES and done.before != State.YES:
        number = str(event.number)
        text = Lines([T("<b>{title}</b>", title=event.title), span(event), said], "\n")
        choices = (
            Choice(T("Bring somebody"), "event.bring", (number,)),
            Choice(T("Reminders"), "event.reminders", (number,)),
            Choice(T("I cannot come"), "event.answer", (number, State.NO)),
        )
        message = Message(text, choices, attachment=calendar_file(event))
        if turn.chat.private:
            turn.say(message)
        else:
            turn.notify([turn.person.id], message)
    elif turn.chat.private and not isinstance(turn.update, Pressed):
        turn.say(said, Choice(T("View"), "event.show", (str(event.number),)))


def tell_offered(turn: Turn, event: Event, offered: list[Rsvp]) -> None:
    """A place has become free: those whose turn it is hear of it, and how long it is held."""
    turn.due(turn.now)  # whoever waits with too many is asked whether they come with fewer
    for rsvp in offered:
        until = rsvp.held_until or turn.now
        turn.due(until)
        number = str(event.number)
        turn.notify(
            [rsvp.person_id],
            Lines(
                [
                    T("Good news: a place has become free for you."),
                    Lines([T("<b>#{number} {title}</b>", number=number, title=event.title), span(event)]),
                    T("It is held for you until {date}; then it goes to the next.", date=until),
                ],
                "\n\n",
            ),
            Choice(T("I come"), "event.answer", (number, State.YES)),
            Choice(T("I cannot come"), "event.answer", (number, State.NO)),
        )


def fewer_question(event: Event, free: int) -> Message:
    """To whoever is next, and waits with more people than there are places."""
    number = str(event.number)
    head = Lines([T("<b>#{number} {title}</b>", number=number, title=event.title), span(event)])
    question = N(
        "You are next, and {n} place is free. That is too few for all of you. Do you come with fewer?",
        "You are next, and {n} places are free. That is too few for all of you. Do you come with fewer?",
        n=free,
    )
    stay = T("If not, you stay the first in the line.")
    others = (Choice(T("+{n}", n=n), "event.with", (number, str(n))) for n in range(1, free))
    alone = Choice(T("I come alone"), "event.with", (number, "0"))
    return Message(Lines([head, Lines([question, stay], " ")], "\n\n"), (alone, *others))


# -- companions ---------------------------------------------------------------------------------------------


@router.press("event.bring")
def bring(turn: Turn, number: str) -> None:
    turn.ask(
        T("How many do you bring? You may write their names as well, like this: +2 Ali and Eva"),
        *(Choice(T("+{n}", n=n), "event.with", (number, str(n))) for n in range(1, MOST_COMPANIONS + 1)),
        Choice(T("I come alone"), "event.with", (number, "0")),
        CANCEL,
        step="event.with",
        data={"number": number},
    )


@router.press("event.with")
def bring_so_many(turn: Turn, number: str, companions: str) -> None:
    turn.done()
    give(turn, number, State.YES, int(companions))


@router.step("event.with")
def take_companions(turn: Turn, text: str) -> None:
    found = re.fullmatch(r"\+?\s*(\d{1,3})\s*(.*)", text, re.DOTALL)
    number = str(turn.data["number"])
    if found is None:
        turn.say(T("Please write a number, like +1."))
        bring(turn, number)
        return
    turn.done()
    bring_along(turn, number, found[1], found[2])


def bring_along(turn: Turn, number: str, companions: str, names: str | None) -> None:
    """They come, with so many others; names that were given before stay when none are given."""
    kept = None if names is None else " ".join(names.split())[:LONGEST_NAMES]
    give(turn, number, State.YES, int(companions), kept)


# -- reminders ----------------------------------------------------------------------------------------------


@router.press("event.reminders")
def reminders(turn: Turn, number: str) -> None:
    found = _own(turn, number)
    if found is None:
        return
    event, rsvp = found
    chosen = reminding.chosen(event, rsvp, planning.attendee(turn.db, turn.person.id))
    choices = [
        Choice(
            T("Not {when}", when=words) if ahead in chosen else T("Also {when}", when=words),
            "event.remind",
            (number, str(ahead)),
        )
        for ahead, words in AHEAD.items()
    ]
    if chosen:
        choices.append(Choice(T("No reminders"), "event.remind", (number, "off")))
    choices.append(Choice(T("So for all events"), "event.remind_always", (number,)))
    now: Text = T("You are not reminded of “{title}”.", title=event.title)
    if chosen:
        when = Lines([AHEAD[ahead] for ahead in chosen if ahead in AHEAD], ", ")
        now = T("You are reminded of “{title}”: {when}.", title=event.title, when=when)
    turn.replace(now, *choices)


def _own(turn: Turn, number: str) -> tuple[Event, Rsvp] | None:
    """An event this person has answered; else they are told."""
    rsvp = turn.db.get(Rsvp, (int(number), turn.person.id))
    event = turn.db.get(Event, int(number))
    if rsvp is None or event is None or event.status != Status.PUBLISHED:
        turn.toast(gone(number))
        return None
    return event, rsvp


@router.press("event.remind")
def choose_reminder(turn: Turn, number: str, which: str) -> None:
    found = _own(turn, number)
    if found is None:
        return
    event, rsvp = found
    chosen = set(reminding.chosen(event, rsvp, planning.attendee(turn.db, turn.person.id)))
    rsvp.remind = "" if which == "off" else stored_minutes(chosen ^ {int(which)})
    turn.db.add(rsvp)
    turn.db.flush()
    _planned(turn, event, rsvp)
    if which == "off":
        turn.toast(T("You are not reminded of this event any more."))
    reminders(turn, number)


def _planned(turn: Turn, event: Event, rsvp: Rsvp) -> None:
    first = reminding.plan(turn.db, event, rsvp, turn.now)
    if first is not None:
        turn.due(first)


@router.press("event.remind_always")
def remind_always_so(turn: Turn, number: str) -> None:
    found = _own(turn, number)
    if found is None:
        return
    event, rsvp = found
    attendee = planning.attendee(turn.db, turn.person.id)
    attendee.remind = stored_minutes(reminding.chosen(event, rsvp, attendee))
    turn.db.add(attendee)
    turn.db.flush()
    when = [AHEAD[ahead] for ahead in minutes_of(attendee.remind)]
    if when:
        turn.replace(T("From your next event on you are reminded: {when}.", when=Lines(when, ", ")))
    else:
        turn.replace(T("From your next event on you are not reminded."))


# -- at the door, and afterwards ----------------------------------------------------------------------------


def check_in(turn: Turn, number: str, code: str) -> None:
    """Somebody at the door has typed or scanned the code."""
    event = turn.db.get(Event, int(number))
    if event is None or event.status != Status.PUBLISHED:
        turn.say(gone(number))
        return
    rsvp = turn.db.get(Rsvp, (event.number, turn.person.id))
    if not secrets.compare_digest(code.encode(), event.code.encode()):
        turn.say(T("This is not the code of “{title}”.", title=event.title))
    elif not event.starts_at.timestamp() - 7200 <= turn.now.timestamp() <= event.ends_at.timestamp():
        turn.say(T("The code works from two hours before the beginning until the end."))
    elif rsvp is None or rsvp.state != State.YES:
        turn.say(
            T("You are not on the list yet. Do you come?"), Choice(T("I come"), "event.answer", (number, State.YES))
        )
    else:
        rsvp.arrived_at = rsvp.arrived_at or turn.now
        turn.db.add(rsvp)
        turn.db.flush()
        turn.say(T("Welcome to “{title}”!", title=event.title))


@router.press("event.stars")
def stars(turn: Turn, number: str, given: str) -> None:
    found = _own(turn, number)
    if found is None:
        return
    event, rsvp = found
    rsvp.stars = int(given)
    turn.db.add(rsvp)
    turn.db.flush()
    turn.replace(T("Thank you! Your answer for “{title}”: {stars}", title=event.title, stars=STARS[int(given)]))
    turn.ask(
        T("Is there anything to be better next time? The team reads it without your name."),
        Choice(T("No, all is well"), "event.nothing_said"),
        step="event.said",
        data={"number": number},
    )


@router.press("event.nothing_said")
def nothing_said(turn: Turn) -> None:
    turn.done()
    turn.replace(T("Good. See you next time!"))


@router.step("event.said")
def take_said(turn: Turn, text: str) -> None:
    number = str(turn.data["number"])
    turn.done()
    found = _own(turn, number)
    if found is not None:
        found[1].said = text[:LONGEST_SAID]
        turn.db.add(found[1])
        turn.db.flush()
        turn.say(T("Thank you, that helps."))


def feedback_question(event: Event) -> Message:
    """One minute, one press."""
    number = str(event.number)
    choices = [Choice(label, "event.stars", (number, str(given))) for given, label in STARS.items()]
    if event.notes:
        choices.append(Choice(T("Minutes and photos"), url=event.notes))
    return Message(T("You were at “{title}”. How was it?", title=event.title), tuple(choices))
