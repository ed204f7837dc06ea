"""What can be changed of a poll from its preview."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T, Text
from handlers.polls import reading
from handlers.polls.drafting import (
    ask_kind,
    ask_options,
    ask_question,
    ask_secrecy,
    called,
    go_on,
    in_draft,
    preview,
)
from handlers.polls.words import AUDIENCES, CANCEL, GROUPS, SHOWN
from storage import rooms
from storage.people import Group, Role
from storage.polls.counting import Kind
from storage.polls.tables import MOST_DOTS, Audience, Results

router = Router()


def in_preview(turn: Turn) -> bool:
    """Whether the poll that is drafted has all that a preview shows; to an old preview it asks for what is missing."""
    if not in_draft(turn):
        return False
    if all(turn.data.get(fact) for fact in ("options", "kind", "secrecy")):
        return True
    turn.toast(T("Something is still missing. Please answer that first."))
    go_on(turn, dict(turn.data))
    return False


@router.press("poll.change")
def change(turn: Turn, what: str) -> None:
    if not in_preview(turn):
        return
    data = dict(turn.data)
    match what:
        case "question":
            ask_question(turn, data)
        case "options":
            ask_options(turn, data)
        case "kind":
            ask_kind(turn, data)
        case "secrecy":
            ask_secrecy(turn, data)
        case "proposals":
            preview(turn, {**data, "proposals": not data.get("proposals")})
        case "results":
            shown = [Choice(label, "poll.results", (results,)) for results, label in SHOWN.items()]
            turn.ask(T("When shall the count be shown?"), *shown, step="poll.preview", data=data)
        case "most":
            ask_most(turn, data)
        case "quorum":
            ask_quorum(turn, data)
        case "audience":
            ask_audience(turn, data)
        case "places":
            ask_places(turn, data)
        case _:
            ask_closing(turn, data)


@router.press("poll.results")
def take_results(turn: Turn, results: str) -> None:
    if in_preview(turn):
        preview(turn, {**turn.data, "results": Results(results)})


def ask_most(turn: Turn, data: Mapping[str, Any]) -> None:
    """Without choices, here and below: what is typed is a number, and no choice may claim the same one."""
    if data["kind"] == Kind.DOTS:
        asked = T("How many dots has everybody? Write a number from 1 to {most}. /cancel stops.", most=MOST_DOTS)
    else:
        most = len(data["options"])
        asked = T("How many may somebody choose? Write a number from 1 to {most}. /cancel stops.", most=most)
    turn.ask(asked, step="poll.most", data=data)


@router.step("poll.most", numbers=True)
def take_most(turn: Turn, text: str) -> None:
    most = MOST_DOTS if turn.data["kind"] == Kind.DOTS else len(turn.data["options"])
    if text.isdecimal() and len(text) < 4 and 1 <= int(text) <= most:
        preview(turn, {**turn.data, "most": int(text)})
    else:
        ask_most(turn, turn.data)


def ask_quorum(turn: Turn, data: Mapping[str, Any]) -> None:
    asked = T("How many have to vote for a result? Write a number; 0 is for any. /cancel stops.")
    turn.ask(asked, step="poll.quorum", data=data)


@router.step("poll.quorum", numbers=True)
def take_quorum(turn: Turn, text: str) -> None:
    if text.isdecimal() and len(text) < 7:
        preview(turn, {**turn.data, "quorum": int(text)})
    else:
        ask_quorum(turn, turn.data)


def ask_audience(turn: Turn, data: dict[str, Any]) -> None:
    if not turn.may(Role.ORGANISER):  # theirs reach everybody in their lists
        turn.say(T("Only the lab's organisers can ask others than a group."))
        preview(turn, data)
        return
    named = data.get("named", [])
    choices = [
        Choice(label, "poll.audience", (audience,))
        for audience, label in AUDIENCES.items()
        if audience is not Audience.NAMED
    ]
    for group, label in GROUPS.items():
        text = T("Not {group}", group=label) if group in named else T("Also {group}", group=label)
        choices.append(Choice(text, "poll.named", (group,)))
    turn.ask(T("Who may vote?"), *choices, Choice(T("Done"), "poll.audience", ("",)), step="poll.preview", data=data)


@router.press("poll.audience")
def take_audience(turn: Turn, audience: str) -> None:
    if not in_preview(turn):
        return
    data = dict(turn.data)
    if audience:
        data |= {"audience": Audience(audience), "named": []}
    if audience in (Audience.PLACES, Audience.ROOMS):
        data["until_all"] = False  # nobody knows how many are in a group
    if audience == Audience.ROOMS and not data.get("places"):
        ask_places(turn, data)
    else:
        preview(turn, data)


@router.press("poll.named")
def take_named(turn: Turn, group: str) -> None:
    if not in_preview(turn):
        return
    named = sorted({*turn.data.get("named", [])} ^ {Group(group).value})
    audience = Audience.NAMED if named else Audience.PLACES
    ask_audience(turn, {**turn.data, "named": named, "audience": audience})


def ask_places(turn: Turn, data: dict[str, Any]) -> None:
    """In which groups it is shown, by their names. Elsewhere its asker puts it: so they are there, and may."""
    named, places = rooms.named(turn.connection), data.get("places", [])
    if not turn.may(Role.ORGANISER):
        turn.say(
            T("Only the lab's organisers choose groups from a list. Write /poll and its number in a group instead.")
        )
        preview(turn, data)
    elif not named:
        turn.say(T("No group has a name in lists yet. /room in a group gives it one."))
        preview(turn, data | {"audience": Audience.PLACES} if data.get("audience") == Audience.ROOMS else data)
    else:
        choices = [
            Choice(
                T("Not {group}", group=room.name) if room.id in places else T("Also {group}", group=room.name),
                "poll.place",
                (str(room.id),),
            )
            for room in named
        ]
        asked = T("In which groups shall it be shown?")
        chosen = Lines([asked, T("Now: {places}", places=called(turn, places))], "\n") if places else asked
        turn.ask(chosen, *choices, Choice(T("Done"), "poll.audience", ("",)), step="poll.preview", data=data)


@router.press("poll.place")
def take_place(turn: Turn, chat: str) -> None:
    if in_preview(turn):
        places = sorted({*turn.data.get("places", [])} ^ {int(chat)})
        ask_places(turn, {**turn.data, "places": places})


def ask_closing(turn: Turn, data: dict[str, Any], why: Text | None = None) -> None:
    choices = [
        Choice(T("In an hour"), "poll.closes", ("1",)),
        Choice(T("In a day"), "poll.closes", ("24",)),
        Choice(T("In three days"), "poll.closes", ("72",)),
        Choice(T("In a week"), "poll.closes", ("168",)),
        Choice(T("When I close it"), "poll.closes", ("",)),
    ]
    if data.get("audience") in (Audience.LAB, Audience.TEAM, Audience.NAMED):
        choices.append(Choice(T("When all have voted"), "poll.closes", ("all",)))
    asked = T("When shall it close? Choose, or write a time, for example: tomorrow 18:00")
    turn.ask(
        asked if why is None else Lines([why, asked], "\n\n"),
        *choices,
        CANCEL,
        step="poll.closes",
        data=data,
    )


@router.press("poll.closes")
def take_closing(turn: Turn, hours: str) -> None:
    if not in_preview(turn):
        return
    data = {**turn.data, "until_all": hours == "all", "closes_at": None}
    if hours.isdecimal():
        data["closes_at"] = (turn.now + timedelta(hours=int(hours))).isoformat()
    preview(turn, data)


@router.step("poll.closes")
def take_time(turn: Turn, text: str) -> None:
    at = reading.moment(text, turn.now, turn.words.zone)
    if at is None:
        ask_closing(turn, dict(turn.data), T("That is no time within the next year."))
    else:
        preview(turn, {**turn.data, "closes_at": at.isoformat(), "until_all": False})
