"""Opening a poll: its card, or the ballot to fill in, by its number or by the link in a group."""

import re

from bot.router import Router
from bot.turn import Turn
from bot.types import T
from handlers.polls.filling import ask_ballot
from handlers.polls.voting import take, votable
from handlers.polls.words import IN_GROUPS, card, gone, not_asked, takes_one_press
from storage.people import Role
from storage.polls import asking, electing, voting
from storage.polls.tables import Poll
from storage.polls.voting import Rules

router = Router()


@router.command("vote", help=T("Vote by numbers: the poll's, then your choice"))
def vote_command(turn: Turn, text: str) -> None:
    found = re.fullmatch(r"#?\s*(\d{1,9})\b\s*[,:;.]?\s*(.*)", text, re.DOTALL)
    if found is None:
        turn.say(T("Write the number of the poll and of your choice, for example: /vote 17 2"))
        return
    number, ballot = found.groups()
    if not ballot:
        open_ballot(turn, number)
        return
    poll = votable(turn, number)
    if poll is not None:
        take(turn, poll, ballot)


def open_link(turn: Turn, text: str) -> bool:
    """The private chat, opened by a poll's button in a group: its link lets in. False when it is no poll's."""
    _, _, rest = text.partition("_")
    number, _, link = rest.partition("_")
    poll = asking.find(turn.db, int(number)) if number.isdecimal() and len(number) < 10 else None
    if poll is None or not electing.is_link(poll.link, link):
        turn.say(T("This link leads to no poll."))
        return False
    electing.let_in(turn.connection, int(number), turn.person.id)
    open_ballot(turn, number)
    return True


@router.press("poll.ballot")
def open_ballot(turn: Turn, number: str) -> None:
    """What is needed to vote: the card with its choices, or a ballot that is filled in step by step."""
    poll = voting.rules(turn.connection, int(number)) if number.isdecimal() else None
    if (
        poll is None
        or poll.is_over(turn.now)
        or not turn.chat.private
        or takes_one_press(poll.kind, poll.secrecy)
        or only_looks(turn, poll)
    ):
        show(turn, number)
    elif votable(turn, number) is not None:
        ask_ballot(turn, poll)


def only_looks(turn: Turn, rules: Rules) -> bool:
    """Whether this person may read a poll in private and not vote in it: of the team, say."""
    poll = asking.find(turn.db, rules.id)
    if poll is None or not may_see(turn, poll, rules):
        return False
    return not electing.may_vote(turn.connection, rules, turn.person.id, turn.person.role, None)


def show(turn: Turn, number: str) -> None:
    """The card, in a group or in private, to whoever may see it."""
    poll = asking.find(turn.db, int(number)) if number.isdecimal() else None
    rules = None if poll is None else voting.rules(turn.connection, int(number))
    if poll is None or rules is None:
        turn.toast(gone(number))
        return
    if not may_see(turn, poll, rules):
        turn.toast(not_asked(rules) if turn.chat.private and rules.audience in IN_GROUPS else gone(number))
        return
    turn.say(card(turn, poll, voting.options(turn.connection, [rules.id])[rules.id], turn.chat.private))


def may_see(turn: Turn, poll: Poll, rules: Rules) -> bool:
    """Whether this person may read a poll here: in a group where it stands, else who may vote, and the team."""
    if not turn.chat.private:
        return turn.chat.id in asking.places(turn.connection, rules.id)
    if poll.author_id == turn.person.id or turn.may(Role.MODERATOR):
        return True
    return electing.may_vote(turn.connection, rules, turn.person.id, turn.person.role, None)
