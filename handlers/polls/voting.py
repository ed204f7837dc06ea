"""Voting: who may, by press or in one message, taking a vote back, objecting, and what is said about it."""

from collections.abc import Sequence
from datetime import datetime

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, Pressed, Said, T, Text
from handlers.polls import reading
from handlers.polls.closing import close_if_all_have_voted
from handlers.polls.words import (
    CANCEL,
    LONGEST_NOTE,
    SECRECY,
    bars,
    gone,
    in_numbers,
    in_short,
    not_asked,
    payload,
    said,
    typed,
)
from storage.polls import asking, electing, mirroring, voting
from storage.polls.counting import OBJECT, Content, Kind
from storage.polls.tables import LONGEST_REASON, Results, Secrecy
from storage.polls.voting import REFRESH, Cast, Closed, Rules, Unfit

router = Router()

REASON = "poll.reason"
"""The step of an objection that lacks its reason."""

READ_BY_ALL = T("That does not count, and everybody here could read it. Delete your message, and vote in private.")


def votable(turn: Turn, number: str) -> Rules | None:
    """The poll, held, if this person may vote in it now and here; who may not is told why."""
    here = None if turn.chat.private else turn.chat.id
    role, wanted = turn.person.role, int(number) if number.isdecimal() else 0
    poll, may = electing.held_for(turn.connection, wanted, turn.person.id, role, here) or (None, False)
    if poll is None:
        turn.toast(gone(number))
    elif poll.is_over(turn.now):
        turn.toast(T("Poll #{number} is closed.", number=number))
    elif not may:
        turn.toast(not_asked(poll))
    elif here is not None and poll.secrecy is not Secrecy.OPEN:
        written = isinstance(turn.update, Said)
        show_the_way(turn, poll, READ_BY_ALL if written else SECRECY[poll.secrecy])
    else:
        return poll
    return None


def show_the_way(turn: Turn, poll: Rules, why: Text) -> None:
    """Lead from a group into the private chat; to a press the button beside it does."""
    found = asking.find(turn.db, poll.id)
    if isinstance(turn.update, Pressed) or found is None:
        turn.toast(why)
    else:
        turn.say(why, Choice(T("Vote in private"), start=payload(found)))


@router.press("poll.choose", undo="poll.drop")
@router.press("poll.vote")
def press(turn: Turn, number: str, option: str) -> None:
    """One press: the whole ballot, or one choice more or less of several."""
    poll = votable(turn, number)
    if poll is None:
        return
    chosen = int(option)
    if poll.kind is Kind.CONSENT and chosen == OBJECT:
        ask_reason(turn, poll)
        return
    content: Content = (chosen,)
    if poll.kind is Kind.SEVERAL:
        before = voting.own(turn.connection, poll, turn.person.id)
        content = tuple(sorted({*(() if before is None else before.content)} ^ {chosen}))
        if not content:
            withdraw(turn, number)
            return
        if len(content) > poll.most:
            turn.toast(T("You can choose up to {n}. Press one of yours again to drop it.", n=poll.most))
            return
    cast(turn, poll, content)


@router.press("poll.drop")
def drop(turn: Turn, number: str, option: str) -> None:
    """A reaction is taken back, and what it has chosen, if that is still on the ballot."""
    poll = votable(turn, number)
    before = None if poll is None else voting.own(turn.connection, poll, turn.person.id)
    if poll is None or before is None or int(option) not in before.content:
        return
    left = tuple(place for place in before.content if place != int(option))
    if left:
        cast(turn, poll, left)
    else:
        withdraw(turn, number)


def cast(turn: Turn, poll: Rules, content: Content, reason: str = "") -> bool:
    """Put the ballot into the box, and say that it counts; of a secret one no word of what it says is kept."""
    options, before = voting.paper(turn.connection, poll, turn.person.id)
    try:
        counts: Content | None = content
        if poll.mirrored:
            counts = mirroring.answer(turn.connection, poll.id, turn.person.id, content, sent_at(turn))
        else:
            voting.cast(turn.connection, poll, turn.person.id, before, Cast(content, reason, turn.now))
    except Closed:
        turn.toast(T("Poll #{number} is closed.", number=str(poll.id)))
        return False
    except Unfit:
        turn.toast(typed(poll.kind))
        return False
    turn.due(turn.now + REFRESH)
    answer(turn, poll, options, counts)
    close_if_all_have_voted(turn, poll)
    return True


def sent_at(turn: Turn) -> datetime:
    """When somebody has voted: where they may answer in the messenger's own poll, too, the order of both counts."""
    return turn.now if turn.update is None else min(turn.update.at, turn.now)


def answer(turn: Turn, poll: Rules, options: Sequence[str], content: Content | None) -> None:
    number = str(poll.id)
    if content is None:  # by a later answer in the messenger's own poll
        turn.toast(T("You have not voted in #{number}.", number=number))
        return
    if poll.secrecy is Secrecy.SECRET:
        note(turn, poll, T("Your vote in #{number} is in the box.", number=number))
        return
    words = turn.words.plain(said(poll.kind, options, content))
    if asking.width(words) > LONGEST_NOTE:
        words = in_numbers(poll.kind, content)
    note(turn, poll, T("Your vote in #{number}: {said}", number=number, said=words))


def note(turn: Turn, poll: Rules, what: Text) -> None:
    """A short answer. What is said while somebody votes in secret is found, and forgotten at the close."""
    turn.toast(Message(what, subject=traces(poll)))


def traces(poll: Rules) -> str | None:
    """The subject of messages that lead through a secret vote."""
    return f"ballot:{poll.id}" if poll.secrecy is Secrecy.SECRET else None


@router.press("poll.withdraw")
def withdraw(turn: Turn, number: str) -> None:
    poll = votable(turn, number)
    if poll is None:
        return
    if poll.mirrored:
        had = voting.own(turn.connection, poll, turn.person.id) is not None
        mirroring.answer(turn.connection, poll.id, turn.person.id, None, sent_at(turn))
    else:
        had = voting.withdraw(turn.connection, poll.id, turn.person.id, turn.now)
    if had:
        if poll.secrecy is not Secrecy.SECRET:  # there they have come by the link, and more is not to be known
            electing.let_in(turn.connection, poll.id, turn.person.id)
        turn.due(turn.now + REFRESH)
        note(turn, poll, T("Your vote in #{number} is taken back.", number=number))
    else:
        note(turn, poll, T("You have not voted in #{number}.", number=number))


@router.press("poll.count")
def show_count(turn: Turn, number: str) -> None:
    """The count so far, to those who have voted; never in words that all in a group read."""
    poll = votable(turn, number)
    if poll is None:
        return
    if voting.own(turn.connection, poll, turn.person.id) is None:
        turn.toast(T("The count is shown once you have voted."))
        return
    found = asking.find(turn.db, poll.id)
    assert found is not None
    if found.results != Results.VOTED:
        return
    options = voting.options(turn.connection, [poll.id])[poll.id]
    tally = voting.tallies(turn.connection, [poll.id])[poll.id]
    count = Lines(bars(found, options, tally))
    if turn.chat.private:
        turn.say(count)
    elif turn.whispers and isinstance(turn.update, Pressed):
        turn.toast(in_short(turn, found, tally))
    elif turn.begins:
        with turn.aside() as private:
            private.say(count)
    else:
        show_the_way(turn, poll, T("Everybody here would read it."))


def take(turn: Turn, poll: Rules, text: str) -> bool:
    """A whole ballot in one message."""
    read = reading.ballot(poll.kind, text, poll.options, poll.most)
    if read is None:
        content = reading.named(poll.kind, text, voting.options(turn.connection, [poll.id])[poll.id])
        read = None if content is None else (content, "")
    if read is None:
        note(turn, poll, typed(poll.kind))
        return False
    counts = cast(turn, poll, *read)
    if counts and read[1] and not turn.chat.private:
        turn.say(T("Everybody here could read your reason. In private only whoever asks reads it."))
    return counts


# -- objecting ----------------------------------------------------------------------------------------------


def ask_reason(turn: Turn, poll: Rules) -> None:
    """Whoever objects says why, in private; the poll's author reads it with the result."""
    if not turn.chat.private:
        show_the_way(turn, poll, T("Please tell me in private why you object."))
        return
    turn.ask(
        T("Why do you object? Whoever asks will read it. Your vote counts with your reason."),
        CANCEL,
        step=REASON,
        data={"poll": poll.id},
    )


@router.step(REASON)
def take_reason(turn: Turn, text: str) -> None:
    poll = votable(turn, str(turn.data["poll"]))
    reason = " ".join(text.split())
    if poll is None:
        turn.done()
    elif not reason or asking.width(reason) > LONGEST_REASON:
        turn.say(T("Please write 1 to {most} characters.", most=LONGEST_REASON))
    elif cast(turn, poll, (OBJECT,), reason):
        turn.done()
