"""Mirroring: in rooms that want it a poll also stands as the messenger's own (Matrix, MSC3381); answers there count."""

from collections.abc import Sequence

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Message, Retracted, T, Text, Verbatim, Voted
from handlers.polls.closing import close_if_all_have_voted
from handlers.polls.words import mirrored
from storage import outbox
from storage.chats import Chat
from storage.polls import asking, electing, mirroring, voting
from storage.polls.counting import Kind
from storage.polls.mirroring import Source
from storage.polls.tables import Audience, Poll, Results, Secrecy, Status
from storage.polls.voting import REFRESH, Closed

router = Router()


# -- a room wants it ----------------------------------------------------------------------------------------


def switch(turn: Turn) -> Sequence[Choice]:
    """What a room's settings offer where the messenger has polls of its own."""
    if not turn.lab.limits[turn.chat.ref.adapter].polls:
        return ()
    if turn.db.get_one(Chat, turn.chat.id).mirrors:
        return (Choice(T("Polls no longer as the app's own"), "room.mirrors", ("",)),)
    return (Choice(T("Polls also as the app's own"), "room.mirrors", ("yes",)),)


@router.press("room.mirrors")
def set_mirrors(turn: Turn, on: str) -> None:
    if not turn.may_set_up():
        turn.toast(T("Only the lab's organisers can do that."))
        return
    chat = turn.db.get_one(Chat, turn.chat.id)
    chat.mirrors = bool(on)
    turn.db.add(chat)
    turn.db.flush()
    if on:
        turn.replace(
            T(
                "From now on open polls also stand here as the app's own. A vote there counts like any other, and of "
                "yours the latest counts; I keep it with your account's number, under a pseudonym (more: /privacy). "
                "The whole count is in my message. /poll and a number shows a poll again."
            )
        )
    else:
        turn.replace(T("From now on polls stand here as my messages only."))


# -- a poll stands there ------------------------------------------------------------------------------------


def mirror(turn: Turn, number: int, chat_id: int) -> None:
    """Where a room wants it, an open poll stands there as the messenger's own, too; or the room reads why it cannot.

    One that stood there before is over: it may be far up, or in a room that this one has replaced.
    """
    chat = turn.db.get_one(Chat, chat_id)
    poll = asking.find(turn.db, number)
    if poll is None or poll.status != Status.OPEN or chat.private or not chat.mirrors:
        return
    limits = turn.lab.limits.get(chat.adapter)
    if limits is None or not limits.polls:  # its messenger may not be connected any more
        return
    what: Text | Message | None = refusal(poll)
    if what is None:
        mirroring.begin(turn.connection, number)
        turn.edit_copies(mirrored(number), chat_id, T("#{number} goes on further down.", number=str(number)))
        choices = [
            Choice(Verbatim(option), "poll.vote", (str(number), str(place)))
            for place, option in enumerate(voting.options(turn.connection, [number])[number])
        ]
        what = Message(
            T("#{number} {question}", number=str(number), question=poll.question),
            tuple(choices),
            mirrored(number),
            poll=poll.most if poll.kind == Kind.SEVERAL else 1,
        )
    if chat_id == turn.chat.id:
        turn.say(what)
    else:
        turn.tell(chat_id, what)


def refusal(poll: Poll) -> Text | None:
    """Why a poll cannot stand as the messenger's own: that shows who votes for what, to all, at once; and one kind."""
    why: Text | None = None
    if poll.secrecy != Secrecy.OPEN:
        why = T("everybody would see who votes for what")
    elif poll.kind not in (Kind.SINGLE, Kind.SEVERAL):
        why = T("it only knows one choice or several")
    elif poll.results != Results.ALWAYS:
        why = T("it would show the count at once")
    elif poll.audience not in (Audience.PLACES, Audience.LAB):
        why = T("everybody here could answer it, and only some are asked")
    elif poll.proposals:
        why = T("options that join later have no place in it")
    if why is None:
        return None
    return T("#{number} cannot stand here as the app's own poll: {why}.", number=str(poll.id), why=why)


# -- what is answered there ---------------------------------------------------------------------------------


@router.voted
def take(turn: Turn) -> None:
    """An answer counts by the standard's rules; nobody is told what the messenger's own poll shows them."""
    shown, voted = turn.shown, turn.update
    poll = None if shown is None else voting.rules(turn.connection, _number(shown))
    if shown is None or poll is None or not isinstance(voted, Voted):
        return
    if shown.choices is None and voted.at > shown.wanted_at:  # that poll was over by then
        return
    if not electing.may_vote(turn.connection, poll, turn.person.id, turn.person.role, turn.chat.id):
        return
    content = mirroring.selected(voted.positions, poll.options, poll.most if poll.kind is Kind.SEVERAL else 1)
    try:
        mirroring.answer(turn.connection, poll.id, turn.person.id, content, voted.at, Source(turn.chat.id, voted.mark))
    except Closed:
        _too_late(turn, poll.id)
        return
    if content is None:
        electing.let_in(turn.connection, poll.id, turn.person.id)
    turn.due(turn.now + REFRESH)
    close_if_all_have_voted(turn, poll)


def _too_late(turn: Turn, number: int) -> None:
    """The messenger's own poll shows an answer that was sent before its end; here it has come after the count."""
    if turn.begins:
        with turn.aside() as private:
            private.say(
                T(
                    "Your answer in #{number} reached me after its close, so it is not in the result.",
                    number=str(number),
                )
            )


@router.retracted
def take_back(turn: Turn) -> bool:
    """An answer that is taken back, by its author or whoever keeps order there, gives way to the one before."""
    if not isinstance(turn.update, Retracted):
        return False
    source = Source(turn.chat.id, turn.update.message.id)
    if not mirroring.take_back(turn.connection, source, turn.now):
        return False
    turn.due(turn.now + REFRESH)
    return True


@router.ended
def end(turn: Turn) -> None:
    """Whoever keeps order in a room has ended the messenger's own poll there: only that one is over."""
    if turn.shown is None or turn.update is None:
        return
    first = turn.shown.choices is not None
    outbox.end_poll(turn.connection, turn.shown.id, turn.update.at)
    number = _number(turn.shown)
    poll = voting.rules(turn.connection, number)
    if first and poll is not None and not poll.is_over(turn.now):
        turn.say(
            T(
                "The app's own poll is over here. #{number} itself goes on: write /vote {number} and a number.",
                number=str(number),
            )
        )


def _number(shown: outbox.Shown) -> int:
    return int((shown.subject or "").partition(":")[2])
