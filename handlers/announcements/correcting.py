"""Afterwards: other words in every copy that stands, or every copy taken back."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T, Verbatim
from handlers.announcements import sending
from handlers.announcements.markdown import formatted
from handlers.announcements.sending import organisers
from handlers.announcements.words import CANCEL
from handlers.announcements.writing import as_marked, fits
from storage.announcements import writing
from storage.announcements.writing import Announcement, Status
from storage.people import Role

router = Router()

SENT = (Status.SENDING, Status.DONE, Status.STOPPED)
"""While copies may stand somewhere."""


def sent(turn: Turn, number: str) -> Announcement | None:
    """The announcement, if copies of it may stand somewhere; else they are told."""
    announcement = organisers(turn, number)
    if announcement is not None and announcement.status not in SENT:
        turn.toast(T("Of announcement {number} no copies stand anywhere.", number=number))
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
    announcement = sent(turn, str(data["number"]))
    turn.done()
    if announcement is None:
        return
    if announcement.version != data["version"]:
        turn.toast(T("This has changed since. Please look once more."))
        return
    writing.word(turn.db, announcement, str(data["locale"]), str(data["text"]), formatted(str(data["text"])))
    announcement.status = Status.SENDING
    announcement.begun_at = announcement.moved_at = announcement.step_at = turn.now
    announcement.begun_from = 0  # each copy is seen to once more
    writing.change(turn.db, announcement)
    sending.begin(turn, announcement)


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
