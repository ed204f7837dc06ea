"""Asking a poll: in one line in a group, or step by step in private, with a preview."""

import re
from dataclasses import replace
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.polls import reading
from handlers.polls.drafting import TEMPLATES, ask_closing, begin, drafted, fingerprint, in_draft, preview, trouble
from handlers.polls.mirroring import mirror
from handlers.polls.reading import Unclear
from handlers.polls.voting import show
from handlers.polls.words import (
    card,
    gone,
    may_decide,
    number_of,
)
from storage.people import Role
from storage.polls import asking, voting
from storage.polls.asking import Draft
from storage.polls.tables import (
    Audience,
    Poll,
)

router = Router()


@router.command("poll", help=T("Ask something: Question? | A | B"))
def poll_command(turn: Turn, text: str) -> None:
    if (number := re.fullmatch(r"#?\s*(\d{1,9})", text)) is not None:
        put_here(turn, number[1])
    elif turn.chat.private:
        begin(turn, text)
    elif not text:
        turn.say(
            T("Ask in one line: /poll Which evening? | Tue | Wed. In private I help you step by step."),
            Choice(T("Step by step, in private"), start="poll"),
        )
    else:
        ask_at_once(turn, text)


def ask_at_once(turn: Turn, text: str) -> None:
    """A poll in one line stands in the group at once, open, one choice each."""
    question, *options = reading.parts(text) or [""]
    try:
        if not options:
            options = [turn.words.plain(words) for words in TEMPLATES["yes"]]
        draft = Draft(reading.check_question(question), reading.check_options(options))
    except Unclear as unclear:
        turn.say(trouble(unclear))
        return
    number = asking.ask(turn.connection, draft, turn.person.id, turn.now, turn.words.zone)
    asking.place(turn.connection, number, turn.chat.id)
    show(turn, str(number))
    mirror(turn, number, turn.chat.id)


def put_here(turn: Turn, number: str) -> None:
    """The poll stands in this group, too."""
    poll = asking.find(turn.db, int(number))
    if poll is None:
        turn.say(gone(number))
    elif not may_decide(turn, poll):
        turn.say(T("Only who has asked and the lab's organisers can do that."))
    else:
        asking.place(turn.connection, number_of(poll), turn.chat.id)
        show(turn, number)
        mirror(turn, number_of(poll), turn.chat.id)


# -- posting, and asking again ------------------------------------------------------------------------------


@router.press("poll.post")
def post(turn: Turn, seen: str) -> None:
    if not in_draft(turn):
        return
    draft = drafted(turn.data)
    if seen != fingerprint(draft):  # an older preview, or that of another poll
        turn.toast(T("This has changed since. Please look once more."))
        preview(turn, turn.data)
        return
    if draft.closes_at is not None and draft.closes_at <= turn.now:
        turn.say(T("The time of closing is over by now."))
        ask_closing(turn, dict(turn.data))
        return
    if draft.audience is not Audience.PLACES and not turn.may(Role.ORGANISER):
        draft = replace(draft, audience=Audience.PLACES, named=(), until_all=False)
    places = turn.data.get("places", [])
    turn.done()
    number = asking.ask(turn.connection, draft, turn.person.id, turn.now, turn.words.zone)
    asking.place(turn.connection, number, turn.chat.id)
    turn.replace(
        T(
            "Poll #{number} is open. It stands here; write /poll {number} in each group where it shall stand, too.",
            number=str(number),
        ),
        Choice(T("Close it"), "poll.close", (str(number),)),
    )
    show(turn, str(number))
    for chat in places:  # where it stood before
        poll = asking.find(turn.db, number)
        assert poll is not None
        asking.place(turn.connection, number, chat)
        turn.tell(chat, card(turn, poll, draft.options, False))
        mirror(turn, number, chat)


@router.press("poll.again")
def again(turn: Turn, number: str) -> None:
    """The same once more: a new poll like it, to be changed before it is posted where the old one stood."""
    poll = asking.find(turn.db, int(number))
    if poll is None or not may_decide(turn, poll):
        turn.toast(T("Only who has asked and the lab's organisers can do that."))
        return
    groups = [chat for chat in asking.places(turn.connection, int(number)) if chat != turn.chat.id]
    preview(turn, {**copied(turn, poll), "places": asking.groups(turn.connection, groups)})


def copied(turn: Turn, poll: Poll) -> dict[str, Any]:
    """A poll as a draft, without its time of closing."""
    return {
        "question": poll.question,
        "options": voting.options(turn.connection, [number_of(poll)])[number_of(poll)],
        "kind": poll.kind,
        "secrecy": poll.secrecy,
        "audience": poll.audience,
        "named": [name for name in poll.named.split(",") if name],
        "results": poll.results,
        "most": poll.most,
        "quorum": poll.quorum,
        "proposals": poll.proposals,
        "until_all": poll.until_all,
    }
