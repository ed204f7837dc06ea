"""Writing an event: in one line or step by step, the preview, and publishing it."""

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, N, Span, T, Text, Verbatim
from handlers.events.facts import EMPTY, FACTS, Wrong, planned
from handlers.events.words import ACCESS, CANCEL, TWICE, card, facts, gone, languages
from handlers.ideas.words import topic_of
from storage import chats, ideas, outbox, rooms
from storage.events import moments, planning, reminding
from storage.events.planning import Plan
from storage.events.tables import ACCESS as KEYS
from storage.events.tables import LONGEST_TITLE, Event, Kind, Status
from storage.people import Role
from storage.polls import asking, voting
from storage.polls.tables import Poll, Secrecy
from storage.polls.tables import Status as PollStatus

router = Router()

GUIDED = ("title", "when", "place", "text", "capacity", "topic")
"""What is asked in turn; everything else can be added in the preview."""

ONLY_ORGANISERS = T("Only the lab's organisers can do that.")


@router.command(
    "event",
    help=T("Announce an event"),
    role=Role.ORGANISER,
    instead=T("/events shows you what is on; what you would like to see you write to me as an /idea."),
)
def event(turn: Turn, text: str) -> None:
    """``/event Title | when | where | places`` goes straight to the preview; less is asked for."""
    if not text:
        ask(turn, {}, "title", Lines([FACTS["title"].question, T("You can also send me a calendar file (.ics).")]))
        return
    draft: dict[str, Any] = {}
    parts = [part.strip() for part in text.split("|")]
    for key, words in zip(("title", "when", "place", "capacity"), parts, strict=False):
        if not words and FACTS[key].optional:
            continue
        try:
            draft |= FACTS[key].take(turn, words)
        except Wrong as wrong:
            complaint = T("{field}: {complaint}", field=FACTS[key].label, complaint=wrong.text)
            ask(turn, draft, key, complaint, wrong.day)
            return
    if "wall" in draft:
        preview(turn, draft)
    else:
        ask_next(turn, draft)


@router.press("event.from_idea")
def from_idea(turn: Turn, number: str) -> None:
    """An idea's meeting: those who back the idea are asked first."""
    if not turn.may(Role.ORGANISER):
        turn.toast(ONLY_ORGANISERS)
        return
    try:
        idea = ideas.visible(turn.db, int(number))
    except ideas.NotOpen:
        turn.toast(T("There is no idea #{number}, or it was withdrawn.", number=number))
        return
    ask(turn, {**_begun(idea.title), "text": idea.text[:1500], "idea_id": idea.id}, "when")


@router.press("event.from_poll")
def from_poll(turn: Turn, number: str, option: str) -> None:
    """The winner of a poll of dates: those who can come then are asked first. Of a secret poll nobody knows them."""
    poll = asking.find(turn.db, int(number))
    if poll is None or poll.status == PollStatus.OPEN:
        turn.toast(T("There is no poll #{number} that is closed.", number=number))
        return
    words = voting.options(turn.connection, [int(number)])[int(number)][int(option)]
    if not turn.may(Role.ORGANISER):
        _suggest(turn, poll, option, words)
        return
    draft = _begun(poll.question)
    if poll.secrecy != Secrecy.SECRET:
        draft |= {"poll_id": poll.id, "poll_option": int(option)}
    try:
        preview(turn, draft | dict(planned(turn, words, poll.opened_at)))
    except Wrong as wrong:
        ask(turn, draft, "when", wrong.text, wrong.day)


def _begun(title: str) -> dict[str, Any]:
    """A draft of something that is known already: only its time and its topic are asked for."""
    return {"title": title[:LONGEST_TITLE], "text": "", "place": "", "capacity": None}


def _suggest(turn: Turn, poll: Poll, option: str, words: str) -> None:
    """Whoever has asked a poll, and is no organiser, suggests the event to the team; once is enough."""
    number = str(poll.id)
    team = chats.team_chats(turn.connection)
    if turn.person.id != poll.author_id or not team:
        turn.toast(ONLY_ORGANISERS)
        return
    about = f"poll-event:{number}"
    if not any(outbox.copies(turn.connection, about, room) for room in team):
        text = T(
            "{who} suggests an event: poll #{number} “{question}” has found {option}.",
            who=turn.person.pseudonym,
            number=number,
            question=poll.question,
            option=words,
        )
        choice = Choice(T("Make an event of it"), "event.from_poll", (number, option))
        turn.tell_all(team, Message(text, (choice,), about))
    turn.toast(T("The lab's organisers announce events. I have told them of it."))


def ask_next(turn: Turn, draft: dict[str, Any]) -> None:
    """Ask for what is missing yet, else show it all."""
    for key in GUIDED:
        if key == "topic":
            if "topic" not in draft:
                _ask_topic(turn, draft)
                return
        elif ("wall" if key == "when" else key) not in draft:
            ask(turn, draft, key)
            return
    preview(turn, draft)


def ask(turn: Turn, draft: dict[str, Any], key: str, instead: Text | None = None, day: str | None = None) -> None:
    """Ask for a part, with other words ``instead`` of the usual question; a ``day`` that lacks its hour is kept."""
    fact = FACTS[key]
    choices = [Choice(T("Leave it out"), "event.leave_out", (key,))] if fact.optional else []
    offered = fact.choices(*choices, CANCEL)
    step = "event.number" if fact.counts else "event.fact"
    turn.ask(instead or fact.question, *offered, step=step, data={"draft": draft, "asked": key, "day": day})


@router.step("event.number", numbers=True)
@router.step("event.fact")
def take(turn: Turn, words: str) -> None:
    draft, key = dict(turn.data["draft"]), str(turn.data["asked"])
    try:
        draft |= FACTS[key].take(turn, words)
    except Wrong as wrong:
        ask(turn, draft, key, wrong.text, wrong.day or turn.data.get("day"))
        return
    if key == "when" and "topic" not in draft:
        _confirm_time(turn, draft)
    else:
        ask_next(turn, draft)


def _confirm_time(turn: Turn, draft: dict[str, Any], *why: Text) -> None:
    turn.ask(
        Lines([*why, _times(turn, draft), T("Is that right?")], "\n\n"),
        Choice(T("Yes"), "event.right"),
        Choice(T("No, another time"), "event.again", ("when",)),
        CANCEL,
        step="event.confirm",
        data={"draft": draft},
    )


@router.step("event.confirm")
def take_other_time(turn: Turn, words: str) -> None:
    """Whoever writes instead of pressing means another time; what is none leaves the question as it was."""
    try:
        FACTS["when"].take(turn, words)
    except Wrong as wrong:
        if wrong.day is None:
            _confirm_time(turn, dict(turn.data["draft"]), wrong.text)
            return
    turn.wait("event.fact", {"draft": turn.data["draft"], "asked": "when"})
    take(turn, words)


def _times(turn: Turn, draft: Mapping[str, Any]) -> Text:
    """When it is; of a series the first dates, and how many there are."""
    walls = _walls(draft)
    zone = turn.words.zone
    spans = []
    for wall in walls[:4]:
        starts = moments.instant(wall, zone)
        spans.append(Span(starts, starts + timedelta(minutes=draft["minutes"]), zone))
    lines: list[Text] = [*spans]
    if len(walls) > 4:
        last = moments.instant(walls[-1], zone)
        lines.append(T("… {n} times in all, the last on {date}", n=len(walls), date=last.astimezone(zone).date()))
    if any(moments.is_twice(wall, zone) for wall in walls):
        lines.append(TWICE)
    return Lines(lines)


def _walls(draft: Mapping[str, Any]) -> Sequence[datetime]:
    first = datetime.fromisoformat(draft["wall"])
    return [first] if draft.get("rule") is None else moments.occurrences(draft["rule"], first)


def _draft(turn: Turn) -> dict[str, Any] | None:
    """The draft that is open; an old button says that it is not."""
    if turn.dialog is None or "draft" not in turn.data:
        turn.toast(T("This question is answered already."))
        return None
    if not turn.may(Role.ORGANISER):
        turn.toast(ONLY_ORGANISERS)
        return None
    return dict(turn.data["draft"])


@router.press("event.right")
def right(turn: Turn) -> None:
    if (draft := _draft(turn)) is not None:
        ask_next(turn, draft)


@router.press("event.again")
def again(turn: Turn, key: str) -> None:
    if (draft := _draft(turn)) is not None:
        if key == "topic":
            _ask_topic(turn, draft)
        elif key == "access":
            ask_access(turn, draft)
        elif key in FACTS:
            ask(turn, draft, key)


@router.press("event.leave_out")
def leave_out(turn: Turn, key: str) -> None:
    if (draft := _draft(turn)) is not None and key in EMPTY:
        ask_next(turn, draft | {key: EMPTY[key]})


def _ask_topic(turn: Turn, draft: dict[str, Any]) -> None:
    topics = [Choice(label, "event.topic", (key,)) for key, label in turn.lab.topics.items()]
    turn.ask(T("Which topic fits?"), *topics, CANCEL, step="event.topic", data={"draft": draft})


@router.step("event.topic")
def no_topic(turn: Turn, _text: str) -> None:
    turn.say(T("Please choose one of the topics, or write its number."))
    _ask_topic(turn, dict(turn.data["draft"]))


@router.press("event.topic")
def take_topic(turn: Turn, topic: str) -> None:
    if (draft := _draft(turn)) is not None:
        ask_next(turn, draft | {"topic": topic})


def ask_access(turn: Turn, draft: dict[str, Any]) -> None:
    known = set(draft.get("access", "").split())
    choices = [
        Choice(T("Not: {fact}", fact=ACCESS[key]) if key in known else ACCESS[key], "event.access", (key,))
        for key in KEYS
    ]
    said = [ACCESS[key] for key in KEYS if key in known]
    turn.ask(
        Lines([T("What holds for this event?"), Lines(said, ", ")]) if said else T("What holds for this event?"),
        *choices,
        Choice(T("Done"), "event.right"),
        step="event.access",
        data={"draft": draft},
    )


@router.step("event.access")
def no_access(turn: Turn, _text: str) -> None:
    turn.say(T("Please choose from the list, or write a number."))
    ask_access(turn, dict(turn.data["draft"]))


@router.press("event.access")
def toggle_access(turn: Turn, key: str) -> None:
    if (draft := _draft(turn)) is not None and key in KEYS:
        chosen = set(draft.get("access", "").split()) ^ {key}
        ask_access(turn, draft | {"access": " ".join(known for known in KEYS if known in chosen)})


# -- the preview --------------------------------------------------------------------------------------------


def preview(turn: Turn, draft: dict[str, Any]) -> None:
    draft = {**EMPTY, "access": "", "topic": list(turn.lab.topics)[-1], "locale": turn.chat.locale, **draft}
    lines: list[Text] = [Lines([T("<b>{title}</b>", title=draft["title"]), _times(turn, draft)])]
    if draft["place"]:
        lines.append(T("Place: {place}", place=draft["place"]))
    if draft["text"]:
        lines.append(Verbatim(draft["text"]))
    topic, language = topic_of(turn, draft["topic"]), languages(draft["locale"])
    more: list[Text] = [T("Topic: {topic}. Language: {language}.", topic=topic, language=language)]
    if draft["capacity"]:
        more.append(T("Places: {n}", n=draft["capacity"]))
    if draft["least"]:
        more.append(T("It needs at least {n}.", n=draft["least"]))
    if draft["closes_at"]:
        at = datetime.fromisoformat(draft["closes_at"])
        more.append(T("Please say until {date} whether you come.", date=at))
    if draft["cost"]:
        more.append(T("Cost: {cost}", cost=draft["cost"]))
    if draft["link"]:
        more.append(T("Online: {link}", link=draft["link"]))
    if draft["access"]:
        known = Lines([ACCESS[key] for key in draft["access"].split()], ", ")
        more.append(T("Accessible: {facts}", facts=known))
    lines.append(Lines(more))
    if "poll_id" in draft:
        asked = voting.count_who_can(turn.connection, draft["poll_id"], draft["poll_option"])
        lines.append(
            N("{n} person can come then, and hears first.", "{n} people can come then, and hear first.", n=asked)
        )
    hearing = rooms.hearing(turn.connection, [rooms.EVENTS, draft["topic"]])
    team = {*chats.team_chats(turn.connection)} - {*hearing}
    groups = T("the groups that hear of such events ({rooms})", rooms=len(hearing))
    lines.append(
        T("It goes to {groups}, to the team's room, and to all who asked for news.", groups=groups)
        if team
        else T("It goes to {groups}, and to all who asked for news.", groups=groups)
    )
    turn.ask(
        Lines([T("This is how it goes out:"), *lines], "\n\n"),
        Choice(T("Publish"), "event.publish", (_seen(draft), "now")),
        Choice(T("Keep as a draft"), "event.publish", (_seen(draft), "later")),
        *(
            Choice(T("Change: {what}", what=FACTS[key].label), "event.again", (key,))
            for key in ("title", "when", "place", "text", "capacity")
        ),
        Choice(T("Change: {what}", what=T("Topic")), "event.again", ("topic",)),
        Choice(T("Change: {what}", what=FACTS["locale"].label), "event.again", ("locale",)),
        Choice(T("Accessibility"), "event.again", ("access",)),
        *(Choice(FACTS[key].label, "event.again", (key,)) for key in ("cost", "link", "least", "closes_at")),
        CANCEL,
        step="event.preview",
        data={"draft": draft},
    )


@router.step("event.preview")
def not_yet(turn: Turn, _text: str) -> None:
    turn.say(T("The event is not published yet. Choose “Publish”, or change it first."))
    preview(turn, dict(turn.data["draft"]))


def _seen(draft: Mapping[str, Any]) -> str:
    """What a preview has shown: only that is published."""
    return str(zlib.crc32(repr(sorted(draft.items())).encode()))


@router.press("event.publish")
def publish(turn: Turn, seen: str, moment: str) -> None:
    draft = _draft(turn)
    if draft is None:
        return
    if seen != _seen(draft):
        turn.toast(T("This has changed since. Please look once more."))
        preview(turn, draft)
        return
    closes = draft["closes_at"]
    plan = Plan(
        title=draft["title"],
        wall=datetime.fromisoformat(draft["wall"]),
        minutes=draft["minutes"],
        topic=draft["topic"],
        locale=draft.get("locale", turn.chat.locale),
        zone=str(turn.words.zone),
        text=draft["text"],
        place=draft["place"],
        capacity=draft["capacity"],
        least=draft["least"],
        closes_at=None if closes is None else datetime.fromisoformat(closes),
        access=draft["access"],
        cost=draft["cost"],
        link=draft["link"],
        rule=draft.get("rule"),
        idea_id=draft.get("idea_id"),
        poll_id=draft.get("poll_id"),
        poll_option=draft.get("poll_option"),
    )
    if plan.rule is None and moments.instant(plan.wall, turn.words.zone) <= turn.now:
        ask(turn, draft, "when", T("That is over already. When is it?"))
        return
    events = planning.create(turn.db, plan, turn.person.id, turn.now)
    turn.done()
    if moment == "now":
        go_out(turn, events)
    else:
        turn.replace(
            T(
                "The draft is kept under the number #{number}: /events shows it to organisers.",
                number=str(events[0].id),
            ),
            Choice(T("View"), "event.show", (str(events[0].id),)),
        )


@router.press("event.publish_draft")
def publish_draft(turn: Turn, number: str) -> None:
    if not turn.may(Role.ORGANISER):
        turn.toast(ONLY_ORGANISERS)
        return
    found = turn.db.get(Event, int(number))
    if found is None or found.status != Status.DRAFT:
        turn.toast(gone(number))
    elif found.starts_at <= turn.now:
        turn.toast(T("That is over already. When is it?"))
    else:
        go_out(turn, planning.drafts_with(turn.db, found, turn.now))


def go_out(turn: Turn, events: Sequence[Event]) -> None:
    """Everybody sees them from now on: groups at once, people as fast as the messengers take it."""
    planning.publish(turn.db, events, turn.now)
    planning.tell_of(turn.db, events, turn.now)
    first = events[0]
    number = str(first.number)
    told_at = planning.told_at(first, turn.now)
    hearing = rooms.hearing(turn.connection, [rooms.EVENTS, first.topic])
    for room in dict.fromkeys([*hearing, *chats.team_chats(turn.connection)]):
        if told_at == turn.now:
            turn.tell(room, card(turn, first), bulk=True)
        else:
            reminding.note(turn.db, first, Kind.INVITE, told_at, chat_id=room)
        for each in events:
            reminding.plan_room(turn.db, each, room, turn.now)
    turn.due(turn.now)
    turn.replace(
        Lines([T("Published under the number #{number}.", number=number), *facts(turn, first)[:1]], "\n\n"),
        Choice(T("View"), "event.show", (number,)),
        Choice(T("Organise"), "event.manage", (number,)),
    )
