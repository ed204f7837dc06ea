"""For whom an announcement is: everybody, who follows a topic, the rooms, a part of society, an idea's supporters."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.announcements.words import audience_of, size_of
from handlers.announcements.writing import changed, draft_of, idea_meant, ideas_to_choose, keep
from storage import rooms
from storage.announcements import audience
from storage.announcements.writing import EVERYBODY, GENERAL, GROUP, ROOMS, SUPPORTERS, TOPIC
from storage.people import Group

router = Router()


@router.press("announce.audience")
def ask_audience(turn: Turn, number: str) -> None:
    if draft_of(turn, number) is None:
        return
    audiences = [EVERYBODY, *(f"{TOPIC}:{topic}" for topic in turn.lab.topics), ROOMS]
    choices = [Choice(_label(turn, one), "announce.for", (number, one)) for one in audiences]
    turn.replace(
        T("For whom is it? Everybody also means the rooms that hear announcements (/room)."),
        *choices,
        Choice(T("Rooms by name"), "announce.rooms", (number,)),
        Choice(T("A part of society"), "announce.groups", (number,)),
        Choice(T("Who supports an idea"), "announce.supporters", (number,)),
    )


@router.press("announce.rooms")
def ask_rooms(turn: Turn, number: str) -> None:
    """The rooms that have a name in lists; each press takes one in or leaves it out."""
    announcement = draft_of(turn, number)
    if announcement is None:
        return
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


@router.press("announce.room")
def choose_room(turn: Turn, number: str, chat: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None:
        return
    chosen = {*audience.chosen(announcement.audience)} ^ {int(chat)}
    if not chosen:
        turn.toast(T("One room has to stay."))
        return
    announcement.audience, announcement.topic = audience.of_rooms([*chosen]), GENERAL
    keep(turn, announcement)
    ask_rooms(turn, number)


@router.press("announce.groups")
def ask_group(turn: Turn, number: str) -> None:
    if draft_of(turn, number) is not None:
        groups = [f"{GROUP}:{group}" for group in Group]
        turn.replace(
            T("Which part? It reaches those who have said whom they speak for."),
            *(Choice(_label(turn, one), "announce.for", (number, one)) for one in groups),
            Choice(T("Back"), "announce.audience", (number,)),
        )


def _label(turn: Turn, one: str) -> Text:
    size = size_of(audience.size(turn.db, one))
    return T("{audience} ({size})", audience=audience_of(turn, one), size=size)


@router.press("announce.for")
def choose_audience(turn: Turn, number: str, one: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        kind, _, which = one.partition(":")
        announcement.audience, announcement.topic = one, which if kind == TOPIC else GENERAL
        changed(turn, announcement)


@router.press("announce.supporters")
def ask_idea(turn: Turn, number: str) -> None:
    if draft_of(turn, number) is not None:
        turn.ask(
            T("Whose supporters? Choose an idea, or write its number like this: #42"),
            *ideas_to_choose(turn, "announce.supported", number),
            step="announce.supporters",
            data={"number": number},
        )


@router.step("announce.supporters")
def take_idea(turn: Turn, text: str) -> None:
    choose_supporters(turn, str(turn.data.get("number")), text)


@router.press("announce.supported")
def choose_supporters(turn: Turn, number: str, which: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None:
        turn.done()
    elif (idea := idea_meant(turn, which)) is not None:
        choose_audience(turn, number, f"{SUPPORTERS}:{idea}")
