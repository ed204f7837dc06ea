"""Afterwards: other words in every copy that stands, or every copy taken back."""

from datetime import timedelta

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T, Verbatim
from handlers.announcements import sending, things
from handlers.announcements.markdown import formatted
from handlers.announcements.sending import organisers
from handlers.announcements.words import CANCEL
from handlers.announcements.writing import as_marked, fits, too_long
from storage.announcements import writing
from storage.announcements.writing import Announcement, Status
from storage.people import Role

router = Router()

SENT = (Status.SENDING, Status.DONE, Status.STOPPED)
"""While copies may stand somewhere."""

NOTICED = timedelta(days=90)
"""How long after an announcement was begun it is noticed that what goes along has changed."""


def sent(turn: Turn, number: str) -> Announcement | None:
    """The announcement, if copies of it may stand somewhere; else they are told."""
    announcement = organisers(turn, number)
    if announcement is not None and announcement.status not in SENT:
        turn.toast(T("Of announcement {number} no copies stand anywhere.", number=number))
        return None
    return announcement


def settled(turn: Turn, number: str) -> Announcement | None:
    """The same, unless it is just being stopped: what was not sent yet would go out after all."""
    announcement = sent(turn, number)
    if announcement is not None and announcement.status == Status.STOPPED and announcement.step_at is not None:
        turn.toast(T("It is still being stopped. Please try again in a moment."))
        return None
    return announcement


@router.press("announce.correct")
def ask_language(turn: Turn, number: str, locale: str = "") -> None:
    announcement = sent(turn, number)
    if announcement is None:
        return
    wordings = writing.wordings(turn.db, announcement.number)
    if not locale and len(wordings) > 1:
        turn.say(
            T("In which language?"),
            *(
                Choice(Verbatim(turn.lab.catalogues[one].name), "announce.correct", (number, one))
                for one in wordings
                if one in turn.lab.catalogues
            ),
        )
        return
    locale = locale if locale in wordings else announcement.locale
    turn.say(Lines([T("So far it says:"), Verbatim(wordings[locale].text)], "\n\n"))
    turn.ask(
        T("How shall it read instead? I change every copy that stands."),
        CANCEL,
        step="announce.correction",
        data={"number": number, "locale": locale},
    )


@router.step("announce.correction")
def preview_correction(turn: Turn, text: str) -> None:
    announcement = sent(turn, str(turn.data["number"])) if turn.may(Role.ORGANISER) else None
    if announcement is None:
        turn.done()
        return
    text = as_marked(turn, text)
    problem = fits(turn, text, announcement)
    if problem is not None:
        turn.ask(problem, CANCEL, step="announce.correction", data=turn.data)
        return
    data = {**turn.data, "text": text, "version": announcement.version}
    turn.say(sending.formatted_preview(text))
    turn.ask(
        T("Shall every copy of announcement {number} read so?", number=str(announcement.number)),
        Choice(T("Yes, change them"), "announce.corrected"),
        CANCEL,
        step="announce.correction",
        data=data,
    )


@router.press("announce.corrected")
def correct(turn: Turn) -> None:
    data = dict(turn.data)
    if turn.dialog is None or turn.dialog.step != "announce.correction" or "text" not in data:
        turn.toast(T("This question is answered already."))
        return
    announcement = settled(turn, str(data["number"]))
    turn.done()
    if announcement is None:
        return
    if announcement.version != data["version"]:
        turn.toast(T("This has changed since. Please look once more."))
        return
    writing.word(turn.db, announcement, str(data["locale"]), str(data["text"]), formatted(str(data["text"])))
    send_anew(turn, announcement)


def send_anew(turn: Turn, announcement: Announcement) -> None:
    """Each copy is seen to once more, and says what is so now."""
    announcement.status, announcement.attached_as = Status.SENDING, None
    announcement.begun_at = announcement.moved_at = announcement.step_at = turn.now
    announcement.begun_from = 0
    writing.change(turn.db, announcement)
    sending.begin(turn, announcement)


# -- what goes along has changed --------------------------------------------------------------------------------------


@router.every(minutes=1)
def notice_changes(turn: Turn) -> None:
    """An event that goes along is moved or cancelled, a poll is closed early: the copies still show it as it was."""
    for announcement in writing.with_things(turn.db, turn.now - NOTICED):
        if not is_outdated(turn, announcement):
            continue
        writing.find(turn.db, announcement.number)  # held, since somebody may just be changing the copies
        attached = announcement.attached
        if attached is None or not is_outdated(turn, announcement):
            continue
        announcement.attached_as = things.says(turn, attached)
        writing.change(turn.db, announcement)
        if announcement.chat_id is not None:
            number = str(announcement.number)
            now = things.as_it_is(turn, attached)
            told = T("What goes with announcement {number} has changed. It is like this now:", number=number)
            still = T("The copies still show it as it was.")
            turn.tell(
                announcement.chat_id,
                Lines([told, now, still], "\n\n"),
                Choice(T("Change the copies"), "announce.refresh", (number, str(announcement.version))),
                Choice(T("Leave them"), "announce.show", (number,)),
            )


def is_outdated(turn: Turn, announcement: Announcement) -> bool:
    """Whether the copies say of what goes along what is not so any more, and nobody has been asked about it."""
    attached, said = announcement.attached, announcement.attached_as
    return attached is not None and said is not None and things.changed(turn, attached, said)


@router.press("announce.refresh")
def refresh(turn: Turn, number: str, version: str) -> None:
    announcement = settled(turn, number)
    if announcement is None:
        return
    if str(announcement.version) != version:
        turn.toast(T("This has changed since. Please look once more."))
        return
    problem = too_long(turn, announcement)
    if problem is not None:  # with what goes along now
        turn.say(problem, Choice(T("Correct it"), "announce.correct", (number,)))
        return
    announcement.version += 1
    turn.replace(T("The copies are being changed."))
    send_anew(turn, announcement)


@router.press("announce.recall")
def ask_recall(turn: Turn, number: str) -> None:
    announcement = sent(turn, number)
    if announcement is not None:
        turn.say(
            T(
                "Shall announcement {number} go away from every chat? Copies older than two days are changed to say "
                "that it was taken back.",
                number=number,
            ),
            Choice(T("Yes, take it back"), "announce.recalled", (number,)),
            Choice(T("No, leave it"), "announce.show", (number,)),
        )


@router.press("announce.recalled")
def recall(turn: Turn, number: str) -> None:
    announcement = sent(turn, number)
    if announcement is None:
        return
    announcement.status, announcement.paused = Status.RECALLED, False
    announcement.version += 1
    announcement.moved_at = announcement.step_at = turn.now
    writing.change(turn.db, announcement)
    turn.replace(T("It is being taken back."))
    sending.begin(turn, announcement)
