"""Voting: by press, by number, by command, and ballots that take more than one press."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, Pressed, Said, T, Text, Verbatim
from handlers.polls import reading
from handlers.polls.closing import close_if_all_have_voted
from handlers.polls.words import (
    CANCEL,
    IN_GROUPS,
    SECRECY,
    card,
    counted_as,
    explained,
    gone,
    may_decide,
    not_asked,
    payload,
    said,
    typed,
)
from storage.polls import asking, electing, mirroring, voting
from storage.polls.counting import EACH, MOST_RESISTANCE, NO, OBJECT, ONE_PRESS, RANKED, YES, Content, Kind
from storage.polls.tables import LONGEST_REASON, Poll, Results, Secrecy
from storage.polls.voting import REFRESH, Cast, Closed, Rules, Unfit

router = Router()

BALLOT, REASON = "poll.ballot", "poll.reason"
"""The steps of a ballot that is not cast yet."""


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
    note(turn, poll, T("Your vote in #{number}: {said}", number=number, said=said(poll.kind, options, content)))


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
    """The count so far, to those who have voted, where only they shall see it."""
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
    slot = 1 if poll.kind in (Kind.RUNOFF, Kind.SCHULZE) else 0
    counts: list[Text] = [
        T(
            "{option}: {amount}",
            option=f"{place + 1}. {option}" if turn.chat.private else str(place + 1),
            amount=counted_as(poll.kind, tally.get((place, slot), 0), tally.get((place, 1), 0), found.voters),
        )
        for place, option in enumerate(options)
    ]
    if turn.chat.private:
        turn.say(Lines(counts))
    else:
        turn.toast(Lines(counts, "; "))


@router.command("vote", help=T("Vote by numbers: the poll's, then your choice"))
def vote_command(turn: Turn, text: str) -> None:
    found = re.fullmatch(r"#?\s*(\d+)\b\s*[,:;.]?\s*(.*)", text, re.DOTALL)
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


# -- in private ---------------------------------------------------------------------------------------------


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
        or (poll.kind in ONE_PRESS and not (poll.kind is Kind.CONSENT and poll.secrecy is Secrecy.SECRET))
    ):
        show(turn, number)
    elif votable(turn, number) is not None:
        ask_ballot(turn, poll, [])


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
    return may_decide(turn, poll) or electing.may_vote(turn.connection, rules, turn.person.id, turn.person.role, None)


def ask_ballot(turn: Turn, poll: Rules, draft: list[int]) -> None:
    """A ballot of several presses, or of one message."""
    found = asking.find(turn.db, poll.id)
    assert found is not None
    options = voting.options(turn.connection, [poll.id])[poll.id]
    number = str(poll.id)
    head = T("<b>#{number} {question}</b>", number=number, question=found.question)
    listed: list[Text] = [Verbatim(f"{place}. {option}") for place, option in enumerate(options, 1)]
    if poll.kind is Kind.RESISTANCE:
        place = len(draft)
        asked: Text = T(
            "How much speaks against {option}? From 0 (nothing) to 10 (not at all).",
            option=f"{place + 1}. {options[place]}",
        )
        choices = [
            Choice(Verbatim(str(amount)), "poll.resist", (number, str(place), str(amount)))
            for amount in (*range(1, MOST_RESISTANCE + 1), 0)  # so that a typed number is the number
        ]
        parts: list[Text] = [head, Lines(listed), asked] if place == 0 else [head, asked]
    else:
        asked = typed(poll.kind)
        choices = [Choice(Verbatim(option), "poll.mark", (number, str(place))) for place, option in enumerate(options)]
        if poll.kind is not Kind.CONSENT:
            choices += [
                Choice(T("Cast my vote"), "poll.cast", (number,)),
                Choice(T("Begin again"), "poll.ballot", (number,)),
            ]
        parts = [head, explained(poll.kind, poll.most), Lines(listed), asked]
    parts.append(SECRECY[poll.secrecy])
    turn.ask(
        Message(
            Lines(parts, "\n\n"),
            (*choices, CANCEL),
            subject=traces(poll),
            listed=0 if poll.kind is Kind.RESISTANCE else len(options),
        ),
        step=BALLOT,
        data={"poll": poll.id, "draft": draft},
    )


def open_draft(turn: Turn, number: str) -> tuple[Rules, list[int]] | None:
    """The ballot that is being filled in; a button of an older one opens it anew."""
    poll = votable(turn, number)
    if poll is None:
        return None
    if turn.dialog is None or turn.dialog.step != BALLOT or turn.data.get("poll") != poll.id:
        turn.wait(BALLOT, {"poll": poll.id, "draft": []})
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
    found = open_draft(turn, number)
    if found is None:
        return
    poll, draft = found
    if int(option) != len(draft):  # a button of an older question
        turn.toast(T("This question is answered already."))
        return
    resisted(turn, poll, [*draft, int(amount)])


def resisted(turn: Turn, poll: Rules, draft: list[int]) -> None:
    if len(draft) < poll.options:
        ask_ballot(turn, poll, draft)
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
    """A ballot as one message, or one answer to the question of resistance."""
    data: dict[str, Any] = turn.data
    poll = votable(turn, str(data["poll"]))
    if poll is None:
        turn.done()
        return
    draft = list(data["draft"])
    if poll.kind is Kind.RESISTANCE and text.isdecimal() and int(text) <= MOST_RESISTANCE and poll.options > 1:
        resisted(turn, poll, [*draft, int(text)])
    elif take(turn, poll, text):
        turn.done()


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
