"""Rooms: greeting a group, what it is called in lists and what it hears, and making it the team's own."""

from sqlmodel import col, update

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, Lines, T, Text
from handlers.announcements.words import CANCEL, topic_of
from handlers.polls.mirroring import switch
from handlers.polls.reading import tidy
from storage import rooms
from storage.announcements.writing import GENERAL
from storage.chats import Chat
from storage.people import Role
from storage.rooms import EVENTS, LONGEST_NAME

router = Router()


@router.joined
def greet(turn: Turn) -> None:
    if turn.chat.private:
        if turn.begins and turn.person.new:  # a chat that begins with an invitation, not with a word
            turn.lab.commands["start"].handler(turn, "")
    else:
        turn.say(
            T(
                "Hello everybody! I am the bot of {lab}. /idea suggests something, /ideas shows what others suggest. "
                "/events tells what is on, /poll asks this group something. "
                "Organisers: /room chooses what this group hears, /team makes it the team's room.",
                lab=turn.lab.name,
            )
        )


@router.garbled
def could_not_read(turn: Turn) -> None:
    turn.say(
        T(
            "Something written here reached me without its key, so I cannot read it yet. If I do not answer soon, "
            "please write it again."
        )
    )


# -- what it is called, and what it hears ------------------------------------------------------------------------


@router.command(
    "room",
    help=T("Choose what this group hears, and its name in lists"),
    role=Role.ORGANISER,
    where=Where.GROUP,
    admins=True,
)
def room(turn: Turn, text: str) -> None:
    if text:
        call(turn, text)
    else:
        show(turn)


@router.press("room.show")
def show(turn: Turn) -> None:
    """The settings of this room, each with its choice."""
    if not may_set_up(turn):
        return
    name, heard = rooms.name(turn.connection, turn.chat.id), rooms.hears(turn.connection, turn.chat.id)
    lines: list[Text] = [
        T("In lists this group is called “{name}”.", name=name)
        if name
        else T("This group has no name in lists yet. With one, polls and announcements can be sent here by name."),
        T("This is what it hears from the lab: announcements and events. Choose one to change it:"),
    ]
    listed: dict[str, Text] = {topic: topic_of(turn, topic) for topic in (GENERAL, *turn.lab.topics)}
    listed[EVENTS] = T("every new event")
    lines += [
        T("{topic}: {state}", topic=label, state=T("yes") if topic in heard else T("no"))
        for topic, label in listed.items()
    ]
    choices = [Choice(label, "room.hear", (topic,)) for topic, label in listed.items()]
    if title(turn) not in (None, name):
        choices.append(Choice(T("Use this group's title in lists"), "room.title"))
    choices.append(Choice(T("Another name in lists") if name else T("A name in lists"), "room.name"))
    if name:
        choices.append(Choice(T("No name in lists"), "room.unname"))
    turn.replace(Lines(lines), *choices, *switch(turn))


def may_set_up(turn: Turn) -> bool:
    """Whether this person may set up this room; who may not is told so."""
    if not turn.chat.private and turn.may_set_up():
        return True
    turn.toast(T("Only the lab's organisers can do that."))
    return False


@router.press("room.hear")
def toggle(turn: Turn, topic: str) -> None:
    if may_set_up(turn):
        heard = topic in rooms.hears(turn.connection, turn.chat.id)
        rooms.hear(turn.connection, turn.chat.id, topic, not heard)
        show(turn)


def title(turn: Turn) -> str | None:
    """What the messenger calls this group. It is not stored, unless somebody chooses it for the lists."""
    words = None if turn.update is None else turn.update.title
    return tidy(words)[:LONGEST_NAME] if words else None


@router.press("room.title")
def use_title(turn: Turn) -> None:
    if may_set_up(turn):
        call(turn, title(turn) or "")


@router.press("room.name")
def ask_name(turn: Turn) -> None:
    if may_set_up(turn):
        turn.ask(T("What is this group called in the lab's lists?"), CANCEL, step="room.name")


@router.step("room.name")
def take_name(turn: Turn, text: str) -> None:
    turn.done()
    if may_set_up(turn):
        call(turn, text)


def call(turn: Turn, words: str) -> None:
    """Give this room a name in lists."""
    name = tidy(words)
    if not 1 <= len(name) <= LONGEST_NAME:
        turn.say(T("Please write 1 to {most} characters.", most=LONGEST_NAME))
        return
    try:
        rooms.rename(turn.connection, turn.chat.id, name)
    except rooms.Taken:
        turn.say(T("Another group is called “{name}” already. Please choose another name: /room NAME", name=name))
        return
    show(turn)


@router.press("room.unname")
def unname(turn: Turn) -> None:
    if may_set_up(turn):
        rooms.rename(turn.connection, turn.chat.id, None)
        show(turn)


# -- the team's room ---------------------------------------------------------------------------------------------


@router.command("team", help=T("Make this group the team's room"), role=Role.ORGANISER, where=Where.GROUP)
def team(turn: Turn, _text: str) -> None:
    if turn.chat.team:
        turn.say(T("This is the team's room already."), Choice(T("No longer"), "team.end"))
        return
    thread = turn.chat.ref.thread
    turn.db.execute(update(Chat).where(col(Chat.id) == turn.chat.id).values(team=True, thread=thread))
    turn.say(T("This is the team's room now: new ideas arrive here."), Choice(T("No longer"), "team.end"))


@router.press("team.end")
def end_team(turn: Turn) -> None:
    if not turn.may(Role.ORGANISER):
        turn.toast(T("Only the lab's organisers can do that."))
        return
    turn.db.execute(update(Chat).where(col(Chat.id) == turn.chat.id).values(team=False, thread=None))
    turn.replace(T("This is no longer the team's room."))
