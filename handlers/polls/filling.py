"""Ballots that take more than one press, or one message: filled in step by step, and then cast."""

from collections.abc import Sequence

from bot.choices import typed_number
from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, T, Text, Verbatim
from handlers.polls.voting import cast, note, take, traces, votable
from handlers.polls.words import BALLOT, CANCEL, RESISTANCE, SECRECY, explained, typed
from storage.polls import asking, voting
from storage.polls.counting import EACH, MOST_RESISTANCE, NO, OBJECT, RANKED, YES, Content, Kind
from storage.polls.voting import Rules

router = Router()


def ask_ballot(turn: Turn, poll: Rules) -> None:
    """A ballot of several presses, or of one message."""
    if poll.kind is Kind.RESISTANCE:
        ask_resistance(turn, poll, [])
        return
    number, options = str(poll.id), voting.options(turn.connection, [poll.id])[poll.id]
    choices = [Choice(Verbatim(option), "poll.mark", (number, str(place))) for place, option in enumerate(options)]
    if poll.kind is not Kind.CONSENT:
        choices += [
            Choice(T("Cast my vote"), "poll.cast", (number,)),
            Choice(T("Begin again"), "poll.ballot", (number,)),
        ]
    what = explained(poll.kind, poll.most)
    parts = [head(turn, poll), what, listed(options), how(poll.kind), SECRECY[poll.secrecy]]
    turn.ask(
        Message(Lines(parts, "\n\n"), (*choices, CANCEL), subject=traces(poll), listed=len(options)),
        step=BALLOT,
        data={"poll": poll.id, "draft": []},
    )


def head(turn: Turn, poll: Rules) -> Text:
    found = asking.find(turn.db, poll.id)
    assert found is not None
    return T("<b>#{number} {question}</b>", number=str(poll.id), question=found.question)


def listed(options: Sequence[str]) -> Text:
    return Lines([Verbatim(f"{place}. {option}") for place, option in enumerate(options, 1)])


def how(kind: Kind) -> Text:
    """How a ballot is filled in: press by press, or in one message."""
    match kind:
        case Kind.CONSENT:
            return typed(kind)
        case Kind.DATES:
            presses = T("Choose a date once for yes, twice for “if need be”; then “Cast my vote”.")
        case Kind.DOTS:
            presses = T("Each time you choose an option it gets a dot; then “Cast my vote”.")
        case _:
            presses = T("Choose them one after the other, in your order; then “Cast my vote”.")
    return Lines([presses, T("Or in one message: {typed}", typed=typed(kind))])


def ask_resistance(turn: Turn, poll: Rules, draft: list[int], *before: Text) -> None:
    """What speaks against the next option. A number is the answer itself, so none of the choices has another one."""
    place, options = len(draft), voting.options(turn.connection, [poll.id])[poll.id]
    asked = T(
        "How much speaks against {option}? From 0 (nothing) to 10 (not at all).",
        option=f"{place + 1}. {options[place]}",
    )
    choices = [
        Choice(Verbatim(str(amount)), "poll.resist", (str(poll.id), str(place), str(amount)))
        for amount in range(MOST_RESISTANCE + 1)
    ]
    parts = [*before, head(turn, poll), *([] if draft else [listed(options)]), asked]
    if not turn.whispers:  # where choices are numbered lines, they would be other numbers
        parts.append(T("Write the number. /cancel leaves it."))
        choices = []
    parts.append(SECRECY[poll.secrecy])
    turn.ask(
        Message(Lines(parts, "\n\n"), (*choices, CANCEL) if choices else (), subject=traces(poll)),
        step=RESISTANCE,
        data={"poll": poll.id, "draft": draft},
    )


def open_draft(turn: Turn, number: str, step: str = BALLOT) -> tuple[Rules, list[int]] | None:
    """The ballot that is being filled in; a button of an older one opens it anew."""
    poll = votable(turn, number)
    if poll is None:
        return None
    if turn.dialog is None or turn.dialog.step != step or turn.data.get("poll") != poll.id:
        turn.wait(step, {"poll": poll.id, "draft": []})
    return poll, list(turn.data["draft"])


@router.press("poll.mark")
def mark(turn: Turn, number: str, option: str) -> None:
    """One press on a ballot of several: the next place, a dot more, yes – if need be – no."""
    found = open_draft(turn, number)
    if found is None:
        return
    poll, draft = found
    place = int(option)
    if poll.kind is Kind.CONSENT:  # in secret; the reason comes with the number
        if place == OBJECT:
            note(turn, poll, T("Write 3 and why you object, in one message. Your name does not stand under it."))
        elif cast(turn, poll, (place,)):
            turn.done()
        return
    if poll.kind in RANKED:
        if place in draft:
            draft.remove(place)
        draft.append(place)
    else:
        draft += [0] * (poll.options - len(draft))
        if poll.kind is Kind.DATES:
            draft[place] = (draft[place] - 1) % (YES + 1)
        elif sum(draft) < poll.most:
            draft[place] += 1
        else:
            note(turn, poll, T("All your dots are given out. “Begin again” takes them back."))
            return
    turn.wait(BALLOT, {"poll": poll.id, "draft": draft})
    note(turn, poll, Lines([so_far(turn, poll, tuple(draft)), T("Not cast yet.")], " "))


def so_far(turn: Turn, poll: Rules, draft: Content) -> Text:
    """A ballot that is not cast yet, short enough for a note."""
    if poll.kind is Kind.DATES:
        yes, maybe = (
            ", ".join(str(place + 1) for place, said_ in enumerate(draft) if said_ == mark_) for mark_ in (YES, YES - 1)
        )
        return T("Yes: {yes}. If need be: {maybe}.", yes=yes or "–", maybe=maybe or "–")
    if poll.kind is Kind.DOTS:
        given = ", ".join(f"{place + 1}: {dots}" for place, dots in enumerate(draft) if dots)
        return T("Dots for {given}. Left: {left}.", given=given, left=poll.most - sum(draft))
    return T("Your order: {order}.", order=", ".join(str(place + 1) for place in draft))


@router.press("poll.resist")
def resist(turn: Turn, number: str, option: str, amount: str) -> None:
    """What speaks against one option; then comes the next one."""
    found = open_draft(turn, number, RESISTANCE)
    if found is None:
        return
    poll, draft = found
    if int(option) != len(draft):  # a button of an older question
        turn.toast(T("This question is answered already."))
        return
    resisted(turn, poll, [*draft, int(amount)])


def resisted(turn: Turn, poll: Rules, draft: list[int]) -> None:
    if len(draft) < poll.options:
        ask_resistance(turn, poll, draft)
    elif cast(turn, poll, tuple(draft)):
        turn.done()


@router.press("poll.cast")
def cast_draft(turn: Turn, number: str) -> None:
    found = open_draft(turn, number)
    if found is None:
        return
    poll, draft = found
    if not draft or (poll.kind in EACH and poll.kind is not Kind.DATES and not any(draft)):
        note(turn, poll, T("There is nothing on your ballot yet."))
        return
    content = tuple(draft) + (NO,) * (poll.options - len(draft) if poll.kind in EACH else 0)
    if cast(turn, poll, content):
        turn.done()


@router.step(BALLOT)
def take_ballot(turn: Turn, text: str) -> None:
    """A ballot as one message."""
    poll = votable(turn, str(turn.data["poll"]))
    if poll is None or take(turn, poll, text):
        turn.done()


@router.step(RESISTANCE, numbers=True)
def take_resistance(turn: Turn, text: str) -> None:
    """What speaks against one option, or against all of them in one message."""
    poll, draft = votable(turn, str(turn.data["poll"])), list(turn.data["draft"])
    if poll is None:
        turn.done()
    elif (amount := typed_number(text)) is None:
        if take(turn, poll, text):
            turn.done()
    elif amount <= MOST_RESISTANCE:
        resisted(turn, poll, [*draft, amount])
    else:
        ask_resistance(turn, poll, draft, T("Please write a number from 0 to {most}.", most=MOST_RESISTANCE))
