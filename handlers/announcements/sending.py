"""Sending: what happens to an announcement from the press on Send to its report."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Formatted, Lines, Message, T, Text
from handlers.announcements import digests, things
from handlers.announcements.markdown import formatted
from handlers.announcements.words import copy, progress, standstill
from handlers.people import messengers
from storage import chats
from storage.announcements import audience, ledger, writing
from storage.announcements.ledger import (
    DELIVERED,
    HELD,
    LEAVING,
    QUEUED,
    TAKEN_BACK,
    UNREACHABLE,
    WAITING,
    WITHDRAWN,
    Change,
    Copy,
)
from storage.announcements.subscribing import NIGHT, Often, digest_at, wakes_at
from storage.announcements.writing import Announcement, NotThere, Status
from storage.people import Role

router = Router()

LOOK = timedelta(seconds=1)
"""How often the ledger looks at the outbox while copies are on their way."""

IDLE_LOOK = timedelta(seconds=30)
"""The same while nothing can be done: a messenger that is not connected."""

AHEAD = 3.0
"""Seconds that the outbox is fed ahead of the messenger's rate: what still goes out after a pause."""

LEAST, MOST = 8, 1000
"""Copies in the outbox of one messenger, whatever its rate."""

AT_ONCE = 100
"""Copies handed over in one transaction: so short that nobody's reply waits for it noticeably."""

TELL_EVERY, TELLING = timedelta(seconds=3), 0.05
"""How often the organiser's message is changed, and the part of the messenger's rate this may take at most."""

PATIENCE = timedelta(minutes=2)
"""How long nothing may move before the organiser hears of it."""

TOO_MANY_FAILED = 10
"""From so many refusals on, if they are more than a tenth of all, the sending pauses and the organiser is asked."""

RETRACTABLE = timedelta(hours=47)
"""Messengers let a bot take away what is younger; Telegram: 48 hours. What is older is changed instead."""

TAKEN_AWAY = T("The lab has taken this announcement back.")


@router.due(writing.next_step)
def step(turn: Turn) -> None:
    """Bring every announcement forward about which something is to be done now."""
    for announcement in writing.due(turn.db, turn.now):
        go_on(turn, announcement)


def night_until(turn: Turn) -> datetime | None:
    """When the night ends in which we are now; ``None`` by day."""
    return wakes_at(turn.now, *NIGHT, zone=turn.lab.catalogues[turn.lab.catalogues.default].zone)


def go_on(turn: Turn, announcement: Announcement) -> None:
    """Learn what has arrived, hand over the next copies, and say when to look again."""
    now = turn.now
    if announcement.step_at is not None and now - announcement.step_at > PATIENCE:
        stood_still(turn, announcement, announcement.step_at)  # the bot was down, or its database took nothing
    if ledger.settle(turn.db, announcement):
        if announcement.stalled and announcement.moved_at is not None:
            stood_still(turn, announcement, announcement.moved_at)
        announcement.moved_at = now
    if announcement.status == Status.SCHEDULED:
        announcement.status = Status.SENDING
    if announcement.begun_at is None:
        announcement.begun_at = announcement.moved_at = now
    if announcement.attached is not None and announcement.attached_as is None:
        announcement.attached_as = things.says(turn, announcement.attached)
    more = False
    night = night_until(turn)
    if announcement.status != Status.SENDING or not (announcement.paused or (announcement.by_day and night)):
        night = None
        fixed = announcement.status in TAKEN_BACK or audience.fix_some(turn.db, announcement, turn.lab.limits)
        for adapter, limits in turn.lab.limits.items():
            most = MOST if announcement.status in TAKEN_BACK else round(min(MOST, max(LEAST, limits.rate * AHEAD)))
            most -= 0 if announcement.status == Status.STOPPED else ledger.in_outbox(turn.db, adapter)
            if most > 0:
                copies = ledger.portion(turn.db, announcement, adapter, min(most, AT_ONCE), now)
                hand_over(turn, announcement, adapter, copies)
                more |= len(copies) == AT_ONCE < most
    else:
        fixed = False
    work = ledger.work(turn.db, announcement)
    if work.in_outbox or (work.unseen and not announcement.paused) or (not fixed and not announcement.paused):
        announcement.step_at = now + (LOOK if work.in_outbox or not fixed or not work.unseen else IDLE_LOOK)
        if night is not None and not work.in_outbox:
            rest(turn, announcement, night)
        if more:
            announcement.step_at = now
    elif announcement.paused:
        announcement.step_at = None
    elif work.held_until is not None:
        rest(turn, announcement, work.held_until)
    else:
        announcement.step_at = None
        if announcement.status == Status.SENDING:
            announcement.status = Status.DONE
    watch(turn, announcement, work.in_outbox)
    writing.change(turn.db, announcement)
    if announcement.step_at is not None:
        turn.due(announcement.step_at)
    tell(turn, announcement)


def rest(turn: Turn, announcement: Announcement, until: datetime) -> None:
    """Nothing is to be done before then: from then on counts how fast it is, and whether it gets on."""
    announcement.step_at = until
    count_from(turn, announcement, until)


def count_from(turn: Turn, announcement: Announcement, moment: datetime) -> None:
    """How fast it is, and whether it gets on, counts from then on."""
    announcement.begun_at = announcement.moved_at = moment
    announcement.begun_from = announcement.recipients - ledger.left(turn.db, announcement)


def hand_over(turn: Turn, announcement: Announcement, adapter: str, copies: list[Copy]) -> None:
    """Give the outbox what these copies shall look like."""
    changes: list[Change] = []
    single: list[tuple[Copy, str, datetime | None]] = []
    put_off: list[Copy] = []
    in_digests: list[tuple[Copy, str]] = []
    for one in copies:
        state, due_at = decide(turn, announcement, one)
        if state == UNREACHABLE and one.state in (WAITING, HELD) and ledger.move(turn.db, one.id, turn.lab.limits):
            continue  # its reader has another account: there it is looked at next
        if one.gathered and state in (QUEUED, LEAVING):
            in_digests.append((one, state))
        elif state == QUEUED and one.state == HELD and digests.wants(one) and announcement.file is None:
            put_off.append(one)
        else:
            single.append((one, state, due_at))
    if in_digests:
        changed, alone = digests.change(turn, announcement, adapter, in_digests)
        changes += changed
        single += [(one, state, None) for one, state in alone]
    if put_off:
        chats = [one.chat_id for one in put_off]
        night = night_until(turn) is not None
        others = [one for one in ledger.due_with(turn.db, announcement, chats, turn.now, night) if digests.wants(one)]
        ready = [one for one in others if decide(turn, announcement, one)[0] == QUEUED]  # these are on their way, too
        gathered, alone = digests.gather(turn, adapter, put_off, ready)
        changes += gathered
        single += [(one, state, None) for one, state in alone]
    ledger.note(turn.db, announcement, changes + say(turn, announcement, adapter, single))


def say(
    turn: Turn, announcement: Announcement, adapter: str, copies: Sequence[tuple[Copy, str, datetime | None]]
) -> list[Change]:
    """Copies that are messages of their own: said, said otherwise, taken away, or left as they are."""
    wordings = writing.wordings(turn.db, announcement.number)
    new: dict[tuple[str, bool], list[Copy]] = defaultdict(list)
    old: dict[tuple[str, bool], list[Copy]] = defaultdict(list)
    away: dict[tuple[str, bool], list[Copy]] = defaultdict(list)
    changes: list[Change] = []
    for one, state, due_at in copies:
        if state == LEAVING:
            # When a copy that was changed since was sent is not known: it is as old as the announcement may be.
            sent_at = announcement.created_at if one.revised else one.queued_at
            late = one.state == DELIVERED and sent_at is not None and turn.now - sent_at > RETRACTABLE
            away[one.locale, late].append(one)
        elif state == QUEUED:
            (new if one.outbox_id is None else old)[one.locale, one.room].append(one)
        if state != QUEUED or one.outbox_id is not None:
            row, gathered = one.outbox_id, one.gathered
            changes.append(Change(one.id, one.state, state, announcement.version, row, due_at, gathered=gathered))
    for (locale, room), those in new.items():
        message = copy(turn, announcement, wordings, locale, room)
        rows = turn.broadcast(adapter, locale, [(one.chat_id, one.thread) for one in those], message)
        changes += [
            Change(one.id, one.state, QUEUED, announcement.version, row) for one, row in zip(those, rows, strict=True)
        ]
    for (locale, room), those in old.items():
        message = copy(turn, announcement, wordings, locale, room)
        if not turn.fits_one(adapter, locale, message):
            continue  # what goes along takes more room than before: the copy stays as it is, and whole
        turn.rewrite(adapter, locale, [one.outbox_id or 0 for one in those], message)
    for (locale, late), those in away.items():
        turn.rewrite(adapter, locale, [one.outbox_id or 0 for one in those], TAKEN_AWAY if late else None)
    return changes


def decide(turn: Turn, announcement: Announcement, one: Copy) -> tuple[str, datetime | None]:
    """What becomes of a copy now: its next state, and when it is due if it is put off."""
    if announcement.status in TAKEN_BACK:
        if one.state in (WAITING, HELD):
            return WITHDRAWN, None
        if one.state == QUEUED or (one.state == DELIVERED and announcement.status == Status.RECALLED):
            return LEAVING, None
        return one.state, None
    if one.state in (QUEUED, DELIVERED):
        return QUEUED, None  # it stands there, or soon will, in other words
    if one.state not in (WAITING, HELD):
        return one.state, None
    if one.stopped or one.often == Often.NEVER:
        return WITHDRAWN, None
    if not one.active:
        return UNREACHABLE, None
    if one.due_at is not None and one.due_at > turn.now:
        return HELD, one.due_at  # looked at for its other words: it is not its time yet
    zone = turn.lab.catalogues[turn.lab.catalogues.default].zone
    if one.state == WAITING and one.often is not None and digests.wants(one):
        return HELD, digest_at(turn.now, Often(one.often), zone)
    if one.quiet_from is not None and one.quiet_to is not None:
        wakes = wakes_at(turn.now, one.quiet_from, one.quiet_to, zone)
        if wakes is not None:
            return HELD, wakes
    return QUEUED, None


def stood_still(turn: Turn, announcement: Announcement, since: datetime) -> None:
    """Nothing could be done for a while, whoever was to blame: now that it is over, say so, and remember it."""
    announcement.stood_from, announcement.stood_until = since, turn.now
    announcement.stalled = False
    count_from(turn, announcement, turn.now)
    if announcement.chat_id is not None:
        turn.tell(
            announcement.chat_id,
            Lines(
                [
                    T("Announcement {number} goes on, and nothing is lost.", number=str(announcement.number)),
                    *standstill(announcement),
                ]
            ),
        )


def watch(turn: Turn, announcement: Announcement, in_outbox: int) -> None:
    """Tell the organiser when nothing goes on, or when too much is refused."""
    if announcement.chat_id is None:
        return
    number = str(announcement.number)
    still = turn.now - (announcement.moved_at or turn.now)
    if in_outbox and still > PATIENCE and not announcement.stalled:
        announcement.stalled = True
        turn.tell(
            announcement.chat_id,
            T(
                "Announcement {number} does not get on: {messenger} does not answer, or asks me to wait. Nothing is "
                "lost, and I go on by myself as soon as I can. If it lasts, tell whoever runs the bot.",
                number=number,
                messenger=messengers(ledger.held_up_by(turn.db, announcement)),
            ),
        )
    sending = announcement.status == Status.SENDING and not announcement.paused
    if sending and announcement.failed >= TOO_MANY_FAILED and announcement.failed * 10 > announcement.over:
        if announcement.warned:
            return
        announcement.paused = announcement.warned = True
        told: list[Text] = [
            T("Announcement {number} is paused: {n} copies were refused.", number=number, n=announcement.failed)
        ]
        told += [
            T("{n} failed: {reason}", n=copies, reason=reason)
            for reason, copies in ledger.reasons(turn.db, announcement.number)
        ]
        turn.tell(
            announcement.chat_id,
            Lines(told),
            Choice(T("Go on"), "announce.resume", (number,)),
            Choice(T("Stop it"), "announce.stop", (number,)),
        )


def tell(turn: Turn, announcement: Announcement) -> None:
    """Let the organiser know how far it is, now and then, and at the end.

    Where choices are typed as numbers the report is said anew: else the number would be for the copy that came since.
    """
    place = None if announcement.chat_id is None else chats.place(turn.connection, announcement.chat_id)
    limits = None if place is None else turn.lab.limits.get(place.adapter)
    if announcement.chat_id is None or limits is None:
        return
    over = announcement.status not in (Status.SCHEDULED, Status.SENDING)
    rests = announcement.step_at is None or announcement.step_at - turn.now > PATIENCE
    every = max(TELL_EVERY, timedelta(seconds=1 / (limits.rate * TELLING)))
    if announcement.step_at is None and over and not limits.choices:
        turn.tell(announcement.chat_id, progress(turn, announcement, turn.now))
    elif rests or announcement.told_at is None or turn.now - announcement.told_at >= every:
        show_progress(turn, announcement)
    else:
        return
    announcement.told_at = turn.now


def show_progress(turn: Turn, announcement: Announcement) -> None:
    """Keep the organiser's message true."""
    if announcement.chat_id is not None:
        turn.edit_copies(
            f"progress:{announcement.number}", announcement.chat_id, progress(turn, announcement, turn.now)
        )


# -- what organisers do about it ----------------------------------------------------------------------------------


def organisers(turn: Turn, number: str) -> Announcement | None:
    """The announcement, if this person may do something about it; else they are told."""
    if not turn.may(Role.ORGANISER):
        turn.toast(T("Only the lab's organisers can do that."))
        return None
    try:
        return writing.find(turn.db, number)
    except NotThere:
        turn.toast(T("There is no announcement {number}.", number=number[:9]))
        return None


def begin(turn: Turn, announcement: Announcement) -> None:
    """It has been sent: show how far it is, where its author wrote it, and wake the clock."""
    announcement = writing.find(turn.db, announcement.number)
    shown = progress(turn, announcement, turn.now)
    if announcement.chat_id == turn.chat.id:
        turn.say(shown)
    elif announcement.chat_id is not None:
        turn.tell(announcement.chat_id, shown)
    turn.due(announcement.step_at or turn.now)


@router.press("announce.show")
def show(turn: Turn, number: str) -> None:
    announcement = organisers(turn, number)
    if announcement is not None:
        turn.say(progress(turn, announcement, turn.now))


@router.press("announce.pause")
def pause(turn: Turn, number: str) -> None:
    announcement = organisers(turn, number)
    if announcement is None:
        return
    if announcement.status != Status.SENDING or announcement.paused:
        turn.toast(T("It is not on its way."))
        return
    announcement.paused = True
    _changed(turn, announcement, T("Paused. What is already with the messenger still arrives."))


@router.press("announce.resume")
def resume(turn: Turn, number: str) -> None:
    announcement = organisers(turn, number)
    if announcement is None:
        return
    if not announcement.paused:
        turn.toast(T("It is not paused."))
        return
    announcement.paused = False
    announcement.step_at = turn.now
    count_from(turn, announcement, turn.now)
    _changed(turn, announcement, T("It goes on."))


@router.press("announce.stop")
def stop(turn: Turn, number: str) -> None:
    announcement = organisers(turn, number)
    if announcement is None:
        return
    if announcement.status not in (Status.SENDING, Status.SCHEDULED):
        turn.toast(T("It is not on its way."))
        return
    ledger.settle(turn.db, announcement, most=MOST * 10)
    announcement.status, announcement.paused = Status.STOPPED, False
    announcement.until = announcement.reached
    announcement.version += 1
    announcement.step_at = turn.now
    _changed(turn, announcement, T("Stopped. Whoever has not got it will not."))


def _changed(turn: Turn, announcement: Announcement, note: Text) -> None:
    writing.change(turn.db, announcement)
    turn.toast(note)
    shown = progress(turn, announcement, turn.now)
    turn.replace(shown) if _is_progress(turn, announcement) else show_progress(turn, announcement)
    if announcement.step_at is not None:
        turn.due(announcement.step_at)


def _is_progress(turn: Turn, announcement: Announcement) -> bool:
    """Whether the button stood under the message that tells how far it is."""
    return turn.shown is not None and turn.shown.subject == f"progress:{announcement.number}"


def previews(turn: Turn, announcement: Announcement) -> list[tuple[str, Message]]:
    """What its readers get: for each language it is written in one message, which nobody can reply to yet."""
    wordings = writing.wordings(turn.db, announcement.number)
    shown = {locale: copy(turn, announcement, wordings, locale, room=False) for locale in wordings}
    return [(locale, Message(one.text, one.choices, None, one.attachment)) for locale, one in shown.items()]


def formatted_preview(text: str) -> Message:
    """Words as readers will see them."""
    return Message(Formatted(formatted(text)))
