"""Help: the menu, what this person may do here, and the way out of an open question."""

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, Lines, T, Text

router = Router()


LAST = ("topics", "start", "help", "cancel")
"""Commands that people find by themselves: help names them at its end."""


def menu() -> tuple[Choice, ...]:
    """What most people want, one choice each."""
    return (
        Choice(T("Suggest an idea"), "idea.start"),
        Choice(T("See ideas"), "ideas.list", ("newest",)),
        Choice(T("What is on"), "events.list", ("", "")),
        Choice(T("Language"), "language.list"),
        Choice(T("Help"), "help.show"),
    )


@router.command("help", help=T("What I can do for you"))
def help_command(turn: Turn, _text: str) -> None:
    show(turn)


@router.press("help.show")
def show(turn: Turn) -> None:
    if turn.chat.private:
        start = T("Write your idea to me, just like that. Or choose a command:")
        parts: list[Text] = [start, Lines(_commands(turn, Where.ANYWHERE, Where.PRIVATE))]
        if in_groups := _commands(turn, Where.GROUP):
            parts.append(Lines([T("Only in a group:"), *in_groups]))
        turn.say(Lines(parts, "\n\n"), *menu())
    else:
        here = Lines(_commands(turn, Where.ANYWHERE, Where.GROUP))
        turn.say(Lines([T("This is what I can do here:"), here], "\n\n"))


def _commands(turn: Turn, *where: Where) -> list[Text]:
    """What this person may do there, a line for each command."""
    return [
        T("/{name}: {help}", name=turn.words.gettext(command.name), help=command.help)
        for command in sorted(turn.lab.commands.values(), key=lambda command: command.name in LAST)
        if turn.may(command.role) and command.where in where
    ]


@router.command("cancel", help=T("Leave the open question"))
def cancel_command(turn: Turn, _text: str) -> None:
    cancel(turn)


@router.press("cancel")
def cancel(turn: Turn) -> None:
    if turn.dialog is None:
        turn.toast(T("There is no open question."))
        return
    step, number = turn.dialog.step, turn.data.get("number")
    turn.done()
    said: Text = T("Cancelled. Nothing was sent.")
    if step.startswith("announce.") and step != "announce.correction" and number is not None:
        said = T("Cancelled. Nothing was sent. The draft stays: /announce {number}", number=str(number))
    turn.replace(said, *(menu() if turn.chat.private else ()))
