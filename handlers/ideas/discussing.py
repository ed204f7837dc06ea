"""Comments on an idea, and the lab's answers."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T, Text, Verbatim
from handlers.ideas.finding import PAGE
from handlers.ideas.words import CANCEL, gone, too_much
from storage import ideas
from storage.ideas import LONGEST_COMMENT, NotOpen
from storage.people import Role

router = Router()


@router.press("idea.comment")
def ask_comment(turn: Turn, number: str) -> None:
    turn.ask(
        T("What would you like to say about #{number}?", number=number),
        CANCEL,
        step="idea.comment",
        data={"number": number},
    )


@router.press("idea.answer")
def ask_answer(turn: Turn, number: str) -> None:
    if not turn.may(Role.MODERATOR):
        turn.toast(T("Only the lab's organisers can do that."))
        return
    turn.ask(
        T("What does the lab answer to #{number}?", number=number),
        CANCEL,
        step="idea.comment",
        data={"number": number, "team": True},
    )


@router.step("idea.comment")
def take_comment(turn: Turn, text: str) -> None:
    number, team = str(turn.data["number"]), bool(turn.data.get("team")) and turn.may(Role.MODERATOR)
    if not text or len(text) > LONGEST_COMMENT:
        turn.ask(too_much(text, LONGEST_COMMENT), CANCEL, step="idea.comment", data=turn.data)
        return
    turn.done()
    try:
        ideas.comment(turn.db, int(number), turn.person.id, text, team, turn.now)
        idea = ideas.visible(turn.db, int(number))
    except NotOpen:
        turn.say(gone(number))
        return
    turn.say(
        T("The lab's answer stands under #{number}.", number=number)
        if team
        else T("Your comment stands under #{number}.", number=number),
        Choice(T("View"), "idea.show", (number,)),
    )
    news = Lines(
        [
            T("The lab answers to #{number} “{title}”:", number=number, title=idea.title)
            if team
            else T("{author} on #{number} “{title}”:", author=turn.person.pseudonym, number=number, title=idea.title),
            Verbatim(text),
        ]
    )
    turn.notify(
        ideas.followers(turn.db, int(number), but=turn.person.id), news, Choice(T("View"), "idea.show", (number,))
    )


@router.press("idea.comments")
def list_comments(turn: Turn, number: str, before: str = "") -> None:
    try:
        idea = ideas.visible(turn.db, int(number))
    except NotOpen:
        turn.toast(gone(number))
        return
    found = ideas.comments(turn.db, int(number), int(before) if before else None, PAGE + 1)
    lines: list[Text] = [T("Comments on #{number} “{title}”:", number=number, title=idea.title)]
    for comment, author in reversed(found[:PAGE]):
        said_by = T("the lab") if comment.team else Verbatim(author) if author else T("someone")
        lines.append(T("<b>{author}</b>, {date}: {text}", author=said_by, date=comment.at, text=comment.text))
    choices = [Choice(T("Comment"), "idea.comment", (number,)), Choice(T("View"), "idea.show", (number,))]
    if len(found) > PAGE:
        choices.insert(0, Choice(T("Older ones"), "idea.comments", (number, str(found[PAGE - 1][0].id))))
    turn.replace(Lines(lines, "\n\n"), *choices)
