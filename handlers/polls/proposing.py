"""Options that voters suggest, and the author's decision about them."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.polls import reading
from handlers.polls.voting import votable
from handlers.polls.words import CANCEL, may_decide
from storage import chats
from storage.polls import asking
from storage.polls.asking import CannotAdd
from storage.polls.tables import LONGEST_OPTION, Proposal
from storage.polls.voting import Closed

router = Router()


@router.press("poll.propose")
def ask_proposal(turn: Turn, number: str) -> None:
    poll = votable(turn, number)
    if poll is not None:
        turn.ask(T("Which option is missing?"), CANCEL, step="poll.proposal", data={"poll": poll.id})


@router.step("poll.proposal")
def take_proposal(turn: Turn, text: str) -> None:
    number = int(turn.data["poll"])
    turn.done()
    found = asking.find(turn.db, number)
    if found is None or votable(turn, str(number)) is None:
        return
    words = reading.tidy(text)
    try:
        if not found.proposals:
            raise CannotAdd(words)
        proposal = asking.propose(turn.db, number, turn.person.id, words, turn.now)
    except (CannotAdd, Closed):
        turn.say(
            T(
                "That option is there already, is too long ({most} characters fit), or there is no room.",
                most=LONGEST_OPTION,
            )
        )
        return
    turn.say(T("Thank you. Whoever has asked decides about it."))
    asked = T(
        "A new option for #{number} “{question}”: {option}", number=str(number), question=found.question, option=words
    )
    decision = (
        Choice(T("Add it"), "poll.accept", (str(proposal.id),)),
        Choice(T("No"), "poll.decline", (str(proposal.id),)),
    )
    if found.author_id is None:
        turn.tell_all(chats.team_chats(turn.connection), asked, *decision)
    else:
        turn.notify([found.author_id], asked, *decision)


def waiting(turn: Turn, proposal: str) -> Proposal | None:
    """The proposal, if it waits and this person decides about it."""
    found = turn.db.get(Proposal, int(proposal))
    poll = None if found is None else asking.find(turn.db, found.poll_id)
    if found is None or poll is None:
        turn.toast(T("This question is answered already."))
    elif not may_decide(turn, poll):
        turn.toast(T("Only who has asked and the lab's organisers can do that."))
    else:
        return found
    return None


@router.press("poll.accept")
def accept(turn: Turn, proposal: str) -> None:
    found = waiting(turn, proposal)
    if found is None:
        return
    option, person = found.text, found.person_id
    try:
        asking.accept(turn.db, found, turn.now)
    except (CannotAdd, Closed):
        _decline(turn, found, T("It cannot be added any more."))
        return
    turn.due(turn.now)
    turn.replace(T("Added: {option}", option=option))
    turn.notify([person], T("Your option is added: {option}", option=option))


@router.press("poll.decline")
def decline(turn: Turn, proposal: str) -> None:
    found = waiting(turn, proposal)
    if found is not None:
        _decline(turn, found, T("It is not added."))


def _decline(turn: Turn, proposal: Proposal, told: Text) -> None:
    option, person = proposal.text, proposal.person_id
    asking.decline(turn.db, proposal)
    turn.replace(told)
    turn.notify([person], T("Your option is not added: {option}", option=option))
