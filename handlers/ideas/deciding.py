"""What the lab's team decides about an idea."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.ideas.showing import card_for
from handlers.ideas.words import STATUSES, gone, tell_team
from storage import ideas
from storage.ideas import NotOpen, Status
from storage.people import Role

router = Router()


@router.press("idea.decide")
def decide(turn: Turn, number: str, status: str) -> None:
    if not turn.may(Role.MODERATOR):
        turn.toast(T("Only the lab's organisers can do that."))
        return
    try:
        idea, changed = ideas.decide(turn.db, int(number), Status(status))
    except NotOpen:
        turn.toast(gone(number))
        return
    turn.toast(T("#{number}: {status}", number=number, status=STATUSES[status]))
    tell_team(turn, idea)
    if turn.chat.private:
        if status == Status.HIDDEN:
            turn.replace(T("#{number}: {status}", number=number, status=STATUSES[status]))
        else:
            turn.replace(card_for(turn, number))
    if not changed:
        return  # two of the team had the same thought; the followers hear of it once
    if status == Status.HIDDEN:
        if idea.author_id not in (None, turn.person.id):
            turn.notify(
                [idea.author_id],
                T("The lab's team has hidden your idea #{number} “{title}”.", number=number, title=idea.title),
            )
    elif status != Status.NEW:
        news = T("News of #{number} “{title}”: {status}", number=number, title=idea.title, status=STATUSES[status])
        followers = ideas.followers(turn.db, int(number), but=turn.person.id)
        turn.notify(followers, news, Choice(T("View"), "idea.show", (number,)))
