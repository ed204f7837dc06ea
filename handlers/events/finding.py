"""Finding events: by date, topic and accessibility, as a list, as a picture of the month, in one's own calendar."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from bot.router import Router
from bot.turn import Turn
from bot.types import Attachment, Choice, Lines, Message, N, Span, T, Text, Verbatim
from handlers.events import coming, when
from handlers.events.days import TooFar, Unclear, days_of
from handlers.events.facts import local_now
from handlers.events.words import ACCESS, span
from storage.events import calendars, listing, moments, planning
from storage.events.tables import Event, State
from storage.people import Role

router = Router()

MINE, ALL = "mine", ""

WORDS = {
    State.YES: ("yes", "ja", "dabei"),
    State.MAYBE: ("maybe", "vielleicht"),
    State.NO: ("no", "nein"),
}
"""What can be written behind an event's number, and what its buttons say."""

LABELS: dict[State, Text] = {State.YES: T("I come"), State.MAYBE: T("Maybe"), State.NO: T("I cannot come")}

MONTH = ("month", "monat")


@router.command("events", help=T("What is on; say whether you come"))
def events(turn: Turn, text: str) -> None:
    found = re.fullmatch(r"#?(\d{1,9})(?:\s+(.+))?", text)
    if found is not None:
        about(turn, found[1], (found[2] or "").strip())
    elif text.casefold() in MONTH:
        month(turn, "0")
    elif text.casefold() in _own_words(turn, T("mine")):
        show_list(turn, MINE, "")
    else:
        show_list(turn, _filter(turn, text), "")


def _own_words(turn: Turn, text: Text) -> set[str]:
    return {words.plain(text).casefold() for words in turn.lab.catalogues.values()}


def about(turn: Turn, number: str, words: str) -> None:
    """``/events 7``, ``/events 7 yes``, ``/events 7 +2 Ali``, and ``/events 7 482913`` (the code at the door)."""
    if not words:
        coming.show(turn, number)
        return
    companions = re.fullmatch(r"\+\s*(\d{1,2})(?:\s+(.*))?", words, re.DOTALL)
    if companions is not None:
        coming.bring_along(turn, number, companions[1], companions[2])
        return
    if re.fullmatch(r"\d{6}", words):
        coming.check_in(turn, number, words)
        return
    said = words.casefold().strip(" .!")
    for state, known in WORDS.items():
        if said in known or said in _own_words(turn, LABELS[state]):
            coming.give(turn, number, state)
            return
    turn.say(T("I did not understand that. Write /events {number} yes, no, maybe or +2.", number=number))


def _filter(turn: Turn, text: str) -> str:
    """What words in a list mean: a topic, a fact about accessibility, some days, else words to look for."""
    wanted = text.strip().casefold()
    if not wanted:
        return ALL
    for words in turn.lab.catalogues.values():
        for key, label in turn.lab.topics.items():
            if wanted in (key, words.plain(label).casefold()):
                return f"topic:{key}"
        for key, label in ACCESS.items():
            if wanted in (key, words.plain(label).casefold()):
                return f"access:{key}"
    with suppress(Unclear, TooFar):
        return _dates(*days_of(text[: when.LONGEST], local_now(turn)))
    return f"words:{text.strip()[:60]}"


def _dates(first: date, last: date) -> str:
    return f"dates:{first} {last}"


@router.press("events.list")
def show_list(turn: Turn, wanted: str, after: str) -> None:
    if turn.dialog is not None and turn.dialog.step == "events.words":
        turn.done()
    text, choices = _list(turn, wanted, after)
    turn.replace(text, *choices)


@router.press("events.series")
def show_series(turn: Turn, number: str) -> None:
    """The other dates, below the card that stays."""
    text, choices = _list(turn, f"series:{number}", "")
    turn.say(text, *choices)


def _list(turn: Turn, wanted: str, after: str) -> tuple[Text, Sequence[Choice]]:
    """A page of a list, and what can be done with it."""
    kind, _, value = wanted.partition(":")
    span_of = _span(value, turn.words.zone) if kind == "dates" else None
    page = listing.browse(
        turn.db,
        turn.now if span_of is None else max(turn.now, span_of.starts_at),
        until=None if span_of is None else span_of.ends_at,
        topic=value if kind == "topic" else None,
        access=value if kind == "access" else None,
        words=value if kind == "words" else "",
        person_id=turn.person.id if kind == MINE else None,
        series_id=int(value) if kind == "series" else None,
        next_only=kind not in ("dates", "series", MINE),
        after=after or None,
    )
    organises = turn.may(Role.ORGANISER)
    parts: list[Text] = [_line(event) for event in page.events]
    choices = [Choice(_label(event), "event.show", (str(event.id),)) for event in page.events]
    head: Text = T("What is on:") if span_of is None else T("What is on, {when}:", when=span_of)
    if not parts and span_of is not None:
        parts.append(T("Nothing is planned for this time: {when}.", when=span_of))
    elif not parts:
        parts.append(T("There is nothing yet.") if wanted == ALL else T("Nothing like that is planned."))
    if page.after is not None:
        choices.append(Choice(T("More"), "events.list", (wanted, page.after)))
    if not after:
        drafts = listing.drafts(turn.db) if organises and wanted == ALL and turn.chat.private else []
        choices += [Choice(_label(event, draft=True), "event.show", (str(event.id),)) for event in drafts]
        if wanted != ALL:
            choices.append(Choice(T("All events"), "events.list", (ALL, "")))
        choices.append(Choice(T("Search"), "events.filters"))
        choices.append(Choice(T("The month as a picture"), "events.month", ("0",)))
        if turn.chat.private:
            choices.append(Choice(T("My calendar, and news"), "events.mine"))
        elif turn.may_set_up():
            choices.append(Choice(T("What this group hears"), "room.show"))
    return Lines([head, *parts] if page.events else parts, "\n\n"), choices


def _span(dates: str, zone: ZoneInfo) -> Span:
    """From the midnight before the first day to the one after the last."""
    first, last = (datetime.fromisoformat(each) for each in dates.split())
    return Span(moments.instant(first, zone), moments.instant(last + timedelta(days=1), zone), zone)


def _line(event: Event) -> Text:
    lines: list[Text] = [T("<b>#{number} {title}</b>", number=str(event.id), title=event.title)]
    where: list[Text] = [span(event, short=True)]
    if event.place:
        where.append(Verbatim(event.place))
    if event.series_id is not None:
        where.append(T("one of a series"))
    lines.append(Lines(where, " · "))
    if event.free is not None:
        full = not event.free or event.waiting
        lines.append(
            N("{n} place, none left.", "{n} places, none left.", n=event.capacity or 0)
            if full
            else N("{n} place is left.", "{n} places are left.", n=event.free)
        )
    return Lines(lines)


def _label(event: Event, *, draft: bool = False) -> Text:
    text = T("Draft #{number} {title}", number=str(event.id), title=event.title[:40])
    return text if draft else T("#{number} {title}", number=str(event.id), title=event.title[:40])


@router.press("events.filters")
def filters(turn: Turn) -> None:
    choices = [Choice(T("Mine"), "events.list", (MINE, ""))]
    for label, words in ((T("This week"), "this week"), (T("Next week"), "next week")):
        choices.append(Choice(label, "events.list", (_dates(*days_of(words, local_now(turn))), "")))
    choices += [Choice(label, "events.list", (f"topic:{key}", "")) for key, label in turn.lab.topics.items()]
    choices += [Choice(label, "events.list", (f"access:{key}", "")) for key, label in ACCESS.items()]
    if turn.chat.private:
        turn.wait("events.words")
        turn.replace(T("Which events? Choose, or write words or a day, for example: repair, tomorrow"), *choices)
        return
    turn.replace(
        T("Which events? You can also write words or days behind the command: /events repair, /events tomorrow"),
        *choices,
    )


@router.step("events.words")
def take_words(turn: Turn, text: str) -> None:
    show_list(turn, _filter(turn, text), "")


# -- what I hear ------------------------------------------------------------------------------


@router.press("events.mine")
def mine(turn: Turn) -> None:
    attendee = planning.attendee(turn.db, turn.person.id)
    told = T("I tell you of each new event.") if attendee.news else T("I tell you of events only if you have answered.")
    named = T("When a group is reminded of an event that you come to, I name you there. So it sees that you come.")
    unnamed = T("When a group is reminded of an event that you come to, I do not name you.")
    turn.replace(
        Lines(
            [
                told,
                named if attendee.mention else unnamed,
                T("Your calendar can show what you have said yes to: it gets a secret address."),
            ]
        ),
        Choice(T("No news of events") if attendee.news else T("Tell me of new events"), "events.news"),
        Choice(T("Do not name me") if attendee.mention else T("Name me in group reminders"), "events.mention"),
        Choice(T("A new address for my calendar") if attendee.feed else T("The address of my calendar"), "events.feed"),
        Choice(T("My events"), "events.list", (MINE, "")),
    )


@router.press("events.news")
def news(turn: Turn) -> None:
    attendee = planning.attendee(turn.db, turn.person.id)
    attendee.news = not attendee.news
    turn.db.add(attendee)
    turn.db.flush()
    mine(turn)


@router.press("events.mention")
def mention(turn: Turn) -> None:
    attendee = planning.attendee(turn.db, turn.person.id)
    attendee.mention = not attendee.mention
    turn.db.add(attendee)
    turn.db.flush()
    mine(turn)


@router.press("events.feed")
def feed(turn: Turn) -> None:
    """The secret is shown once; only its digest is kept."""
    if not turn.chat.private:
        turn.toast(T("That works in our private chat."))
        return
    if not turn.lab.public_url:
        turn.say(T("The lab has not published its calendar yet. Each “I come” brings you a file for your calendar."))
        return
    secret = calendars.renew(turn.db, planning.attendee(turn.db, turn.person.id))
    turn.say(
        Lines(
            [
                T("The address of your calendar. Whoever knows it sees what you have said yes to:"),
                T("<code>{url}</code>", url=f"{turn.lab.public_url}/calendar/{secret}.ics"),
                T("Add it to your calendar as a subscription. An earlier address does not work any more."),
                T("The lab's own: {url}", url=f"{turn.lab.public_url}/calendar.ics"),
            ],
            "\n\n",
        )
    )


# -- the month ----------------------------------------------------------------------------------------------


@router.press("events.month")
def month(turn: Turn, ahead: str) -> None:
    """A picture, and the same in words."""
    first, after = calendars.month(turn.now, turn.words.zone, int(ahead))
    page = listing.browse(turn.db, first, since=first, until=after, most=200)  # what is over, too, as in the picture
    lines: list[Text] = [
        Lines([span(event, short=True), T("#{number} {title}", number=str(event.id), title=event.title)], ": ")
        for event in page.events
    ] or [T("Nothing is planned in this month.")]
    file = Attachment(
        "month.png", "image/png", "events.month", (first.isoformat(), str(turn.words.zone), turn.chat.locale)
    )
    following = Choice(T("The month after"), "events.month", (str(int(ahead) + 1),))
    choices = (following,) if int(ahead) < 24 else ()
    turn.say(Message(Lines(lines), choices, attachment=file))
