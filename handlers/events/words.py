"""An event in words: its card, its choices, and what goes wrong."""

from datetime import datetime

from bot.turn import Turn
from bot.types import Attachment, Choice, Language, Lines, Message, N, Span, T, Text, Verbatim
from handlers.ideas.words import topic_of
from storage.events import listing, moments
from storage.events.places import Closed, NotOpen, TooMany
from storage.events.tables import MOST_COMPANIONS, Event, Rsvp, State, Status
from storage.people import Role

CANCEL = Choice(T("Cancel"), "cancel")

TWICE = T("The clock shows this hour twice that night; the first one is meant.")

ACCESS: dict[str, Text] = {
    "step_free": T("step-free"),
    "induction_loop": T("induction loop"),
    "sign_language": T("sign language"),
    "plain_language": T("plain language"),
    "child_care": T("child care"),
    "public_transport": T("near a stop of bus or train"),
}

AHEAD: dict[int, Text] = {
    10080: T("a week before"),
    4320: T("three days before"),
    1440: T("a day before"),
    120: T("two hours before"),
    60: T("an hour before"),
}


def span(event: Event, *, short: bool = False) -> Span:
    return Span(event.starts_at, event.ends_at, event.clock, short=short)


def subject(event: Event) -> str:
    return f"event:{event.number}"


def facts(turn: Turn, event: Event) -> list[Text]:
    """What is the same for everybody: title, time, place, text and facts."""
    parts: list[Text] = []
    if event.status == Status.CANCELLED:
        parts.append(T("<b>This event is cancelled.</b>"))
    elif event.status == Status.DRAFT:
        parts.append(T("<i>A draft: only organisers see it.</i>"))
    head: list[Text] = [T("<b>#{number} {title}</b>", number=str(event.id), title=event.title), span(event)]
    if moments.is_twice(event.begins, event.clock):
        head.append(TWICE)
    if event.series_id is not None:
        head.append(T("It is one of a series."))
    if event.place:
        head.append(T("Place: {place}", place=event.place))
    if event.link:
        head.append(T("Online: {link}", link=event.link))
    parts.append(Lines(head))
    if event.text:
        parts.append(Verbatim(event.text))
    language = languages(event.locale)
    more: list[Text] = [
        T("Topic: {topic}. Language: {language}.", topic=topic_of(turn, event.topic), language=language)
    ]
    if event.cost:
        more.append(T("Cost: {cost}", cost=event.cost))
    if event.access:
        known = [ACCESS[key] for key in event.access.split() if key in ACCESS]
        more.append(T("Accessible: {facts}", facts=Lines(known, ", ")))
    if event.closes_at is not None:
        more.append(T("Please say until {date} whether you come.", date=event.closes_at))
    parts.append(Lines(more))
    return parts


def languages(tags: str) -> Text:
    """The languages an event is in."""
    return Lines([Language(tag) for tag in tags.split()], ", ")


def numbers(event: Event) -> Text:
    """How many come and how many still can."""
    coming = N("{n} comes.", "{n} come.", n=event.going) if event.going else T("Nobody has said yes yet.")
    parts: list[Text] = [coming]
    if event.free is not None:
        if event.free and not event.waiting:
            parts.append(N("{n} place is left.", "{n} places are left.", n=event.free))
        else:
            parts.append(N("{n} place, none left.", "{n} places, none left.", n=event.capacity or 0))
        if event.waiting:
            parts.append(N("{n} waits for a place.", "{n} wait for a place.", n=event.waiting))
        if event.held:
            parts.append(
                N("{n} place is kept for the waiting list.", "{n} places are kept for the waiting list.", n=event.held)
            )
    if event.least is not None and event.going < event.least:
        parts.append(T("It needs at least {n}.", n=event.least))
    return Lines(parts, " ")


def own_answer(turn: Turn, event: Event, rsvp: Rsvp) -> Text:
    """What a person has said."""
    match rsvp.state:
        case State.YES if rsvp.companions:
            return N("You come, and bring {n} more.", "You come, and bring {n} more.", n=rsvp.companions)
        case State.YES:
            return T("You come.")
        case State.MAYBE:
            return T("You may come.")
        case State.OFFERED:
            return T("A place is held for you until {date}. Do you take it?", date=rsvp.held_until or turn.now)
        case State.WAITING:
            return T("You wait for a place: number {n} in the line.", n=listing.place_in_line(turn.db, rsvp))
    return T("You do not come.")


def card(turn: Turn, event: Event, rsvp: Rsvp | None = None) -> Message:
    """An event with what everybody can do; with somebody's answer, in their private chat."""
    parts = facts(turn, event)
    if event.status == Status.PUBLISHED and event.ends_at <= turn.now:
        parts.append(T("It is over."))
    elif event.status == Status.PUBLISHED:
        parts.append(numbers(event))
        if rsvp is not None:
            parts.append(own_answer(turn, event, rsvp))
    return Message(Lines(parts, "\n\n"), answers(event, turn.now), subject=subject(event))


def answers(event: Event, now: datetime) -> tuple[Choice, ...]:
    """Yes, maybe and no, while that can be said."""
    number = str(event.id)
    if event.status != Status.PUBLISHED or event.ends_at <= now:
        return ()
    return (
        Choice(T("I come"), "event.answer", (number, State.YES)),
        Choice(T("Maybe"), "event.answer", (number, State.MAYBE)),
        Choice(T("I cannot come"), "event.answer", (number, State.NO)),
    )


def personal(turn: Turn, event: Event, rsvp: Rsvp | None, role: Role = Role.PARTICIPANT) -> Message:
    """The card in a private chat, with all that this person can do."""
    message = card(turn, event, rsvp)
    number = str(event.id)
    choices = list(message.choices)
    if rsvp is not None and rsvp.state in (State.YES, State.OFFERED, State.WAITING) and choices:
        choices.append(Choice(T("Bring somebody"), "event.bring", (number,)))
    if rsvp is not None and rsvp.state == State.YES and choices:
        choices.append(Choice(T("Reminders"), "event.reminders", (number,)))
    if event.notes:
        choices.append(Choice(T("Minutes and photos"), url=event.notes))
    if event.series_id is not None:
        choices.append(Choice(T("All dates"), "events.series", (str(event.series_id),)))
    if role.covers(Role.ORGANISER) and event.status != Status.CANCELLED:
        choices.append(Choice(T("Organise"), "event.manage", (number,)))
    return Message(message.text, tuple(choices), message.subject)


def calendar_file(*events: Event) -> Attachment:
    """These events for one's own calendar."""
    numbers = tuple(str(event.number) for event in events)
    return Attachment(f"event-{numbers[0]}.ics", "text/calendar", "events.ics", numbers)


def gone(number: str) -> Text:
    return T("There is no event #{number}, or it is over.", number=number[:20])


def refusal(error: NotOpen | Closed | TooMany, number: str) -> Text:
    """Why an answer was not taken."""
    if isinstance(error, TooMany) and not error.free:
        return T("There is room for you alone: you cannot bring anybody.")
    if isinstance(error, TooMany):
        return N(
            "You can bring {n} more at most.",
            "You can bring {n} more at most.",
            n=min(error.free, MOST_COMPANIONS),
        )
    if isinstance(error, Closed):
        return T("It was possible to say so until the deadline. You can still say that you cannot come.")
    return gone(number)
