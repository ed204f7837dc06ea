"""Telling: what is due is said, a batch at a time; what would be of no use any more is noted as expired."""

from collections.abc import Sequence
from functools import cache, partial

from sqlmodel import Session, col, select

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Mentions, Message, N, T, Text
from handlers.events.coming import feedback_question, fewer_question, refresh, tell_offered
from handlers.events.importing import lines_of, news_of, views_of
from handlers.events.words import answers, calendar_file, card, personal, span, subject
from storage import chats, outbox, rooms
from storage.events import places, planning, reminding
from storage.events.reminding import Claimed
from storage.events.tables import Event, Kind, Rsvp, State, Status
from storage.people import Person, Role

router = Router()

BATCH = 250
"""How many rows one transaction takes: a reply never waits longer for the database than for these."""

NEWS: dict[str, Text] = {
    "moved": T("“{title}” has another time:"),
    "changed": T("Something has changed about “{title}”:"),
    "cancelled": T("“{title}” is cancelled. It would have been:"),
    "notes": T("Minutes and photos of “{title}” are there now:"),
}


@router.due(reminding.next_due)
def tell_what_is_due(turn: Turn) -> None:
    """Take the earliest rows, and do what each asks for."""
    claimed = reminding.claim(turn.db, turn.now, BATCH)
    expired: list[Claimed] = []
    together: dict[tuple[Kind, int, str], list[Claimed]] = {}
    hearing = cache(partial(_hearing, turn))
    for each in claimed:
        useful = each.kind not in (Kind.REMIND, Kind.FEEDBACK) or reminding.is_useful(each, turn.now)
        hears = each.chat_id is None or each.kind == Kind.NEWS or each.chat_id in hearing(each.event.topic)
        if not useful or not hears:
            expired.append(each)
        elif each.person_id is not None and each.kind != Kind.HOLD:
            together.setdefault((each.kind, each.event.number, each.note), []).append(each)
        else:
            _do(turn, each)
    for (kind, _, note), those in together.items():
        _tell(turn, kind, those[0].event, note, [each for each in those if each.hears])
    reminding.expire(turn.db, expired)


def _hearing(turn: Turn, topic: str) -> set[int]:
    """The rooms that want to hear of such events now."""
    return {*rooms.hearing(turn.connection, [rooms.EVENTS, topic]), *chats.team_chats(turn.connection)}


def _tell(turn: Turn, kind: Kind, event: Event, note: str, those: Sequence[Claimed]) -> None:
    """The same to many."""
    people = [each.person_id for each in those if each.person_id is not None]
    match kind:
        case Kind.REMIND:
            turn.notify(people, reminder(event))
        case Kind.FEEDBACK:
            turn.notify(people, feedback_question(event))
        case Kind.NEWS:
            turn.notify(people, _news(turn, event, note))
        case Kind.FEWER if event.status == Status.PUBLISHED and event.starts_at > turn.now and event.free == int(note):
            turn.notify(people, fewer_question(event, int(note)))
        case Kind.INVITE if note:
            several = turn.db.exec(select(Event).where(col(Event.id).in_([int(number) for number in note.split()])))
            there = [each for each in several.all() if each.status == Status.PUBLISHED and each.ends_at > turn.now]
            if there:
                turn.notify(people, news_of(there))
        case Kind.ASK | Kind.INVITE if event.status == Status.PUBLISHED and event.ends_at > turn.now:
            message = card(turn, event)
            first = T("An event comes of the idea that you support. You are the first to hear:")
            if event.poll_id is not None:
                first = T("The date is found, and you have said that you can come then. You are the first to hear:")
            text = Lines([first, message.text], "\n\n") if kind == Kind.ASK else message.text
            turn.notify(people, Message(text, message.choices, message.subject))


def reminder(event: Event) -> Message:
    """What it is, when and where; and the way out in one press."""
    number = str(event.number)
    lines: list[Text] = [T("<b>#{number} {title}</b>", number=number, title=event.title), span(event)]
    if event.place:
        lines.append(T("Place: {place}", place=event.place))
    if event.link:
        lines.append(T("Online: {link}", link=event.link))
    return Message(
        Lines([T("A reminder:"), Lines(lines)], "\n\n"),
        (
            Choice(T("I cannot come"), "event.answer", (number, State.NO)),
            Choice(T("No reminders"), "event.remind", (number, "off")),
            Choice(T("View"), "event.show", (number,)),
        ),
    )


def _news(turn: Turn, first: Event, note: str) -> Message:
    """What has become of an event, or of several of a series."""
    what, *numbers = note.split()
    known = NEWS[what]
    assert isinstance(known, T)
    head = T(known.msgid, title=first.title)
    if len(numbers) > 1:
        query = select(Event).where(col(Event.id).in_([int(number) for number in numbers]))
        events = turn.db.exec(query.order_by(col(Event.starts_at))).all()
        return Message(Lines([head, *lines_of(events)]), views_of(events), attachment=calendar_file(*events))
    lines: list[Text] = [span(first)]
    if first.place:
        lines.append(T("Place: {place}", place=first.place))
    if first.link and first.status != Status.CANCELLED:
        lines.append(T("Online: {link}", link=first.link))
    text = Lines([head, Lines(lines)], "\n\n")
    if what == "notes":
        return Message(text, (Choice(T("Minutes and photos"), url=first.notes),) if first.notes else ())
    return Message(text, answers(first, turn.now), attachment=calendar_file(first))


def _do(turn: Turn, each: Claimed) -> None:
    """One thing."""
    event = each.event
    match each.kind:
        case Kind.HOLD if each.person_id is not None:
            _lapse(turn, event, each.person_id)
        case Kind.PROMOTE:
            locked = places.locked(turn.db, event.number)
            if locked.status == Status.PUBLISHED:
                tell_offered(turn, locked, places.promote(turn.db, locked, turn.now))
                refresh(turn, locked)
        case Kind.DEADLINE:
            _deadline(turn, event)
        case Kind.COPIES:
            _copies(turn, event, int(each.note))
        case Kind.REMIND if each.chat_id is not None:
            message = card(turn, event)
            text = Lines([T("A reminder:"), message.text], "\n\n")
            coming = Mentions("events.coming", (str(event.number),))
            turn.tell(each.chat_id, Message(text, message.choices, message.subject, mentions=coming), bulk=True)
        case Kind.NEWS if each.chat_id is not None:
            message = _news(turn, event, each.note)
            turn.tell(each.chat_id, Message(message.text, message.choices), bulk=True)
        case Kind.INVITE if each.chat_id is not None and event.status == Status.PUBLISHED:
            turn.tell(each.chat_id, card(turn, event), bulk=True)


def _lapse(turn: Turn, event: Event, person_id: int) -> None:
    lapsed, offered = places.lapse(turn.db, event, person_id, turn.now)
    tell_offered(turn, event, offered)
    if lapsed is None:
        return
    turn.notify(
        [person_id],
        T(
            "The place in “{title}” is no longer held for you. You can still say yes.",
            title=event.title,
        ),
        Choice(T("I come"), "event.answer", (str(event.number), State.YES)),
        Choice(T("View"), "event.show", (str(event.number),)),
    )
    refresh(turn, event)


def _deadline(turn: Turn, event: Event) -> None:
    """Too few come: the team decides."""
    if event.status != Status.PUBLISHED or event.least is None or event.going >= event.least:
        return
    number = str(event.number)
    text = N(
        "“{title}” needs at least {least}, and {n} comes.",
        "“{title}” needs at least {least}, and {n} come.",
        n=event.going,
        least=event.least,
        title=event.title,
    )
    choices = (
        Choice(T("Cancel it and tell everybody"), "event.cancel", (number, planning.Reach.THIS)),
        Choice(T("It takes place all the same"), "event.keep", (number,)),
    )
    for room in chats.team_chats(turn.connection):
        turn.tell(room, text, *choices)
    if event.author_id is not None:
        turn.notify([event.author_id], text, *choices)


def _copies(turn: Turn, event: Event, after: int) -> None:
    """The cards in private chats follow, as many as fit; the rest is due at once."""
    found = outbox.showing(turn.connection, subject(event), after, BATCH)
    people = [person_id for _, person_id in found if person_id is not None]
    said = select(Rsvp).where(Rsvp.event_id == event.number).where(Rsvp.person_id.in_(people))  # type: ignore[attr-defined]
    rsvps = {rsvp.person_id: rsvp for rsvp in turn.db.exec(said).all()}
    roles = dict(turn.db.exec(select(Person.id, Person.role).where(col(Person.id).in_(people))).all())
    for chat_id, person_id in found:
        message = card(turn, event)
        if person_id is not None:
            message = personal(turn, event, rsvps.get(person_id), Role(roles[person_id]))
        turn.edit_copies(subject(event), chat_id, message)
    if len(found) == BATCH:
        reminding.note(turn.db, event, Kind.COPIES, turn.now, text=str(found[-1][0]))
        turn.due(turn.now)


@router.mentioned("events.coming")
def coming(session: Session, number: str) -> list[int]:
    """Those whom a group's reminder names: who says yes, and wants it."""
    return reminding.named(session, int(number))


@router.every(minutes=60)
def prune_reminders(turn: Turn) -> None:
    """Forget what has become of old reminders."""
    reminding.prune(turn.db, turn.now)
