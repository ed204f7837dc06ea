"""For whom an announcement is: everybody, a topic, the rooms, a part of society, an idea's or an event's people."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.announcements import things
from handlers.announcements.drafts import ask_thing, changed, keep, on_draft, on_thing
from handlers.announcements.words import PARTICIPANTS, audience_of, not_found, size_of
from storage import rooms
from storage.announcements import audience
from storage.announcements.writing import (
    EVERYBODY,
    GENERAL,
    GROUP,
    PARTICIPANTS_OF,
    ROOMS,
    SUPPORTERS,
    TOPIC,
    Announcement,
)
from storage.events import listing, places
from storage.people import Group

router = Router()

PEOPLE_OF: dict[str, Text] = {
    things.IDEA: T("Whose supporters? Choose an idea, or write its number like this: #42"),
    things.EVENT: T("Of which event? Choose one, or write its number like this: #42"),
}


@on_draft(router, "announce.audience")
def ask_audience(turn: Turn, announcement: Announcement) -> None:
    number = str(announcement.number)
    audiences = [EVERYBODY, *(f"{TOPIC}:{topic}" for topic in turn.lab.topics), ROOMS]
    choices = [Choice(_label(turn, one), "announce.for", (number, one)) for one in audiences]
    turn.replace(
        T("For whom is it? Everybody also means the rooms that hear announcements (/room)."),
        *choices,
        Choice(T("Rooms by name"), "announce.rooms", (number,)),
        Choice(T("A part of society"), "announce.groups", (number,)),
        Choice(T("Who supports an idea"), "announce.people", (number, things.IDEA)),
        Choice(T("Who takes part in an event"), "announce.people", (number, things.EVENT)),
    )


@on_draft(router, "announce.rooms")
def ask_rooms(turn: Turn, announcement: Announcement) -> None:
    """The rooms that have a name in lists; each press takes one in or leaves it out."""
    number = str(announcement.number)
    named, chosen = rooms.named(turn.connection), audience.chosen(announcement.audience)
    if not named:
        turn.replace(
            T("No group has a name in lists yet. /room in a group gives it one."),
            Choice(T("Back"), "announce.audience", (number,)),
        )
        return
    turn.replace(
        T("Which rooms? It is for {audience} now.", audience=audience_of(turn, announcement.audience)),
        *(
            Choice(
                T("Not {group}", group=one.name) if one.id in chosen else T("Also {group}", group=one.name),
                "announce.room",
                (number, str(one.id)),
            )
            for one in named
        ),
        Choice(T("Done"), "announce.for", (number, announcement.audience)),
    )


@on_draft(router, "announce.room")
def choose_room(turn: Turn, announcement: Announcement, chat: str) -> None:
    chosen = {*audience.chosen(announcement.audience)} ^ {int(chat)}
    if not chosen:
        turn.toast(T("One room has to stay."))
        return
    announcement.audience, announcement.topic = audience.of_rooms([*chosen]), GENERAL
    keep(turn, announcement)
    ask_rooms(turn, announcement)


@on_draft(router, "announce.groups")
def ask_group(turn: Turn, announcement: Announcement) -> None:
    number = str(announcement.number)
    groups = [f"{GROUP}:{group}" for group in Group]
    turn.replace(
        T("Which part? It reaches those who have said whom they speak for."),
        *(Choice(_label(turn, one), "announce.for", (number, one)) for one in groups),
        Choice(T("Back"), "announce.audience", (number,)),
    )


def _label(turn: Turn, one: str) -> Text:
    size = size_of(audience.size(turn.db, one, turn.lab.limits))
    return T("{audience} ({size})", audience=audience_of(turn, one), size=size)


@on_draft(router, "announce.for")
def choose_audience(turn: Turn, announcement: Announcement, one: str) -> None:
    choose(turn, announcement, one)


def choose(turn: Turn, announcement: Announcement, one: str) -> None:
    """It is for these now; who has turned its topic off is left out."""
    kind, _, which = one.partition(":")
    announcement.audience, announcement.topic = one, which if kind == TOPIC else GENERAL
    changed(turn, announcement)


@on_draft(router, "announce.people")
def ask_which(turn: Turn, announcement: Announcement, kind: str) -> None:
    ask_thing(turn, announcement, kind, PEOPLE_OF[kind], "announce.whose")


@on_thing(router, "announce.whose")
def whose(turn: Turn, announcement: Announcement, which: str) -> None:
    """The people of an idea, or which of an event's; an event may be over, since there may be news of it."""
    kind, _, thing = which.partition(":")
    number = str(announcement.number)
    if not thing.isdecimal() or len(thing) > 9 or not _is_there(turn, kind, int(thing)):
        turn.say(not_found(thing))
    elif kind == things.IDEA:
        choose(turn, announcement, f"{SUPPORTERS}:{int(thing)}")
    else:
        turn.say(
            T("Which of them?"),
            *(
                Choice(_label(turn, one), "announce.for", (number, one))
                for one in (f"{PARTICIPANTS_OF}:{int(thing)}:{states}" for states in PARTICIPANTS)
            ),
            Choice(T("Back"), "announce.audience", (number,)),
        )


def _is_there(turn: Turn, kind: str, number: int) -> bool:
    if kind == things.IDEA:
        return things.find(turn, f"{kind}:{number}") is not None
    try:
        listing.visible(turn.db, number)
    except places.NotOpen:
        return False
    return True
