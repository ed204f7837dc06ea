"""Asking a poll: in one line in a group, or step by step in private, with a preview."""

from dataclasses import replace
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T
from handlers.polls import reading
from handlers.polls.changing import ask_closing, ask_places, in_preview
from handlers.polls.drafting import TEMPLATES, begin, called, drafted, fingerprint, preview, trouble
from handlers.polls.mirroring import mirror
from handlers.polls.opening import show
from handlers.polls.reading import Unclear
from handlers.polls.words import (
    card,
    gone,
    may_decide,
    number_of,
)
from storage import rooms
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
    if (number := reading.number(text)) is not None:
        put_here(turn, number)
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
    elif poll.audience == Audience.ROOMS and turn.chat.id not in asking.places(turn.connection, number_of(poll)):
        turn.say(T("Poll #{number} is only for the rooms where it stands.", number=number))
    else:
        asking.place(turn.connection, number_of(poll), turn.chat.id)
        show(turn, number)
        mirror(turn, number_of(poll), turn.chat.id)


# -- posting, and asking again ------------------------------------------------------------------------------


@router.press("poll.post")
def post(turn: Turn, seen: str) -> None:
    if not in_preview(turn):
        return
    draft = drafted(turn.data)
    if seen != fingerprint(draft, turn.data):  # an older preview, or that of another poll
        turn.toast(T("This has changed since. Please look once more."))
        preview(turn, turn.data)
        return
    if draft.closes_at is not None and draft.closes_at <= turn.now:
        ask_closing(turn, dict(turn.data), T("The time of closing is over by now."))
        return
    if draft.audience is not Audience.PLACES and not turn.may(Role.ORGANISER):
        draft = replace(draft, audience=Audience.PLACES, named=(), until_all=False)
    groups = may_show(turn)
    if draft.audience is Audience.ROOMS and not groups:
        ask_places(turn, dict(turn.data))
        return
    turn.done()
    if draft.closes_at is not None:
        turn.due(draft.closes_at)
    number = asking.ask(turn.connection, draft, turn.person.id, turn.now, turn.words.zone)
    asking.place(turn.connection, number, turn.chat.id)
    for chat in groups:
        asking.place(turn.connection, number, chat)
    told = T(
        "Poll #{number} is open. It stands here; write /poll {number} in each group where it shall stand, too.",
        number=str(number),
    )
    if groups:
        told = T(
            "Poll #{number} is open. It stands here and in {places}.", number=str(number), places=called(turn, groups)
        )
    turn.replace(
        told,
        Choice(T("Close it"), "poll.close", (str(number),)),
        Choice(T("One more like it"), "poll.again", (str(number),)),
    )
    show(turn, str(number))
    poll = asking.find(turn.db, number)
    assert poll is not None
    turn.tell_all(groups, card(turn, poll, draft.options, False))
    for chat in groups:
        mirror(turn, number, chat)


def may_show(turn: Turn) -> list[int]:
    """Where the drafted poll is to stand, as far as this person may choose it now.

    Organisers choose among the rooms with a name; whoever asks a poll again, where it stood before.
    """
    allowed = {room.id for room in rooms.named(turn.connection)} if turn.may(Role.ORGANISER) else set()
    if "again" in turn.data:
        allowed |= set(asking.places(turn.connection, turn.data["again"]))
    return [chat for chat in turn.data.get("places", []) if chat in allowed]


@router.press("poll.again")
def again(turn: Turn, number: str) -> None:
    """The same once more: a new poll like it, to be changed before it is posted where the old one stood."""
    poll = asking.find(turn.db, int(number))
    if poll is None or not may_decide(turn, poll):
        turn.toast(T("Only who has asked and the lab's organisers can do that."))
        return
    groups = [chat for chat in asking.places(turn.connection, int(number)) if chat != turn.chat.id]
    draft = copied(turn, poll)
    if not turn.may(Role.ORGANISER):
        draft |= {"audience": Audience.PLACES, "named": [], "until_all": False}
    preview(turn, {**draft, "places": asking.groups(turn.connection, groups), "again": poll.id})


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
