"""Closing a poll: the result in words and as a picture, and what happens now."""

from dataclasses import replace

from sqlmodel import Session

from bot.router import Router
from bot.turn import Turn
from bot.types import Attachment, Choice, Lines, Message, T, Text
from handlers.polls import picture, reading
from handlers.polls.words import (
    BALLOT,
    CANCEL,
    RESISTANCE,
    bars,
    closed_with,
    counts,
    events_of,
    gone,
    may_decide,
    mirrored,
    number_of,
    turnout,
)
from storage import chats, conversation, outbox
from storage.polls import asking, electing, mirroring, voting
from storage.polls.tables import LONGEST_OUTCOME, Poll, Secrecy, Status
from storage.polls.voting import Rules

router = Router()


@router.command("close", help=T("Close a poll you have asked, by its number"))
def close_command(turn: Turn, text: str) -> None:
    number = reading.number(text)
    if number is None:
        turn.say(T("Write the number of the poll, for example: /close 17"))
    else:
        close(turn, number)


@router.press("poll.close")
def close(turn: Turn, number: str) -> None:
    poll = asking.find(turn.db, int(number))
    if poll is None:
        turn.toast(gone(number))
    elif not may_decide(turn, poll):
        turn.toast(T("Only who has asked and the lab's organisers can do that."))
    elif not close_now(turn, number_of(poll)):
        turn.toast(T("Poll #{number} is closed.", number=number))
    else:
        turn.toast(T("Poll #{number} is closed now.", number=number))


def close_if_all_have_voted(turn: Turn, poll: Rules) -> None:
    """Where it is known who is asked, a poll may end with the last vote."""
    if poll.until_all and electing.all_have_voted(turn.connection, poll):
        close_now(turn, poll.id)


def close_now(turn: Turn, number: int) -> bool:
    """Close it, tell the result wherever it stands, and ask what happens now. False when it was closed already."""
    if not voting.close(turn.connection, number, turn.now):
        return False
    turn.due(turn.now)
    poll = asking.find(turn.db, number)
    assert poll is not None
    if poll.secrecy == Secrecy.SECRET:
        forget_traces(turn, number)
    mirroring.end(turn.connection, number)
    over = Message(T("#{number} is closed.", number=str(number)))
    turn.edit_everywhere(mirrored(number), lambda _private: over, live=False)
    places = asking.places(turn.connection, number)
    turn.tell_all(places, result(turn, poll))
    if poll.voters:
        chart = Attachment(f"poll-{number}.png", "image/png", "poll.chart", (str(number),))
        caption = T("#{number} as a picture: a bar for each of the numbers above.", number=str(number))
        turn.tell_all(places, Message(caption, attachment=chart))
    what_now = Message(
        T(
            "#{number} “{question}” is closed. What happens now? "
            "One or two sentences of yours are read wherever it stood: press “Say what happens now”, then write.",
            number=str(number),
            question=poll.question,
        ),
        (
            Choice(T("Say what happens now"), "poll.outcome", (str(number),)),
            *events_of(turn, poll, voting.options(turn.connection, [number])[number]),
        ),
    )
    if poll.author_id is None:
        turn.tell_all(chats.team_chats(turn.connection), what_now)
    elif any(chats.private_chats(turn.connection, [poll.author_id], turn.lab.limits)):
        why = objections(turn, number)
        turn.notify(
            [poll.author_id], what_now if why is None else replace(what_now, text=Lines([why, what_now.text], "\n\n"))
        )
    else:  # they have only ever written in a group, or have said /stop
        asked = T("Who has asked #{number} can say in the private chat what happens now:", number=str(number))
        say = Choice(T("Say what happens now"), start=f"poll-{number}")
        turn.tell_all(asking.groups(turn.connection, places), asked, say)
    return True


def objections(turn: Turn, number: int) -> Text | None:
    """Why some object, without their names, for whoever has asked."""
    reasons = voting.reasons(turn.connection, number)
    quoted = Lines([T("“{words}”", words=reason) for reason in reasons], "; ")
    return T("The objections: {reasons}", reasons=quoted) if reasons else None


def forget_traces(turn: Turn, number: int) -> None:
    """What led through a secret vote goes: unfinished ballots, and how often their messages changed."""
    for step in (BALLOT, RESISTANCE):
        conversation.close_dialogs(turn.connection, step, f'{{"poll": {number},')
    outbox.forget(turn.connection, f"ballot:{number}")


def result(turn: Turn, poll: Poll) -> Text:
    """The result in words: all that the picture shows, too."""
    number = number_of(poll)
    options = voting.options(turn.connection, [number])[number]
    tally = voting.tallies(turn.connection, [number])[number]
    head = T("<b>The result of #{number} {question}</b>", number=str(number), question=poll.question)
    words = [head, closed_with(poll, options)]
    if poll.voters:
        words += [Lines(bars(poll, options, tally)), turnout(poll)]
    return Lines(words, "\n\n")


@router.maker("poll.chart")
def make_chart(session: Session, number: str) -> bytes:
    """The bars of a closed poll as a picture, by the numbers of the options."""
    poll = session.get_one(Poll, int(number))
    tally = voting.tallies(session.connection(), [int(number)])[int(number)]
    return picture.bars([amount for amount, _ in counts(poll, tally)])


# -- what happens now ---------------------------------------------------------------------------------------


def decided(turn: Turn, number: str) -> Poll | None:
    """The closed poll, if this person can say what happens now."""
    poll = asking.find(turn.db, int(number)) if number.isdecimal() else None
    if poll is None or poll.status != Status.CLOSED:
        turn.toast(gone(number))
    elif not may_decide(turn, poll):
        turn.toast(T("Only who has asked and the lab's organisers can do that."))
    else:
        return poll
    return None


@router.press("poll.outcome")
def ask_outcome(turn: Turn, number: str) -> None:
    poll = decided(turn, number)
    if poll is None:
        return
    why = objections(turn, number_of(poll)) if turn.chat.private else None
    if why is not None:
        turn.say(why)
    turn.ask(
        T("What happens now? One or two sentences, for everywhere #{number} stood.", number=number),
        CANCEL,
        step="poll.outcome",
        data={"poll": poll.id},
    )


@router.step("poll.outcome")
def take_outcome(turn: Turn, text: str) -> None:
    if not text or asking.width(text) > LONGEST_OUTCOME:
        turn.ask(
            T("Please write 1 to {most} characters.", most=LONGEST_OUTCOME), CANCEL, step="poll.outcome", data=turn.data
        )
        return
    number = str(turn.data["poll"])
    turn.done()
    poll = decided(turn, number)
    if poll is None:
        return
    poll.outcome = text
    turn.db.add(poll)
    turn.db.flush()
    asking.make_stale(turn.connection, int(number))
    turn.due(turn.now)
    news = T("What happens now with #{number} “{question}”: {words}", number=number, question=poll.question, words=text)
    turn.tell_all(asking.places(turn.connection, int(number)), news)
    turn.say(T("Thank you. Everybody reads it where #{number} stood.", number=number))
