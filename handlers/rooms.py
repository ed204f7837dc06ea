"""Rooms: greeting a group, and making it the team's own."""

from sqlmodel import col, update

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, T
from storage.conversation import Chat
from storage.people import Role

router = Router()


@router.joined
def greet(turn: Turn) -> None:
    if turn.chat.private:
        if turn.begins and turn.person.new:  # a chat that begins with an invitation, not with a word
            turn.lab.commands["start"].handler(turn, "")
    else:
        turn.say(
            T(
                "Hello everybody! I am the bot of {lab}. Write /idea to suggest something, /ideas to see what others "
                "suggest. Organisers: /team makes this the team's room.",
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
