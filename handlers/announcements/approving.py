"""The last step of a draft: Send, and the consent of a second organiser."""

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, T
from handlers.announcements import sending
from handlers.announcements.drafts import changed, facts, on_draft, preview
from storage import chats
from storage.announcements import audience, writing
from storage.announcements.writing import Announcement, Status

router = Router()


@on_draft(router, "announce.consent")
def toggle_consent(turn: Turn, announcement: Announcement) -> None:
    announcement.consent = not announcement.consent
    changed(turn, announcement)


@on_draft(router, "announce.send")
def send(turn: Turn, announcement: Announcement, version: str) -> None:
    if str(announcement.version) != version:
        turn.toast(T("This has changed since. Please look once more."))
        preview(turn, announcement)
        return
    # Whoever sends it answers for it, whoever began the draft: they cannot agree to it, and are told how far it is.
    announcement.author_id, announcement.chat_id = turn.person.id, turn.chat.id
    if announcement.starts_at is not None and announcement.starts_at <= turn.now:
        announcement.starts_at = None  # its time went by while it was being written
    writing.change(turn.db, announcement)
    if announcement.consent:
        ask_second(turn, announcement)
        return
    if writing.send(turn.db, announcement, None, turn.now):
        turn.done()
        sending.begin(turn, announcement)


def ask_second(turn: Turn, announcement: Announcement) -> None:
    """Show it in the team's rooms, where another organiser can agree."""
    rooms = chats.team_chats(turn.connection)
    if not rooms:
        turn.toast(T("There is no team's room in which somebody could agree. Make one with /team."))
        return
    announcement.status = Status.CONSENT
    writing.change(turn.db, announcement)
    turn.done()
    size = audience.size(turn.db, announcement.audience, turn.lab.limits)
    asks = T("{who} wants to send this. Does another organiser agree?", who=turn.person.pseudonym)
    agree = Choice(T("Agree and send"), "announce.agree", (str(announcement.number), str(announcement.version)))
    for room in rooms:
        for _, message in sending.previews(turn, announcement):
            turn.tell(room, message)
        turn.tell(room, Lines([facts(turn, announcement, size), asks], "\n\n"), agree)
    turn.replace(
        T("The team's room is asked. It goes out as soon as another organiser agrees."),
        Choice(T("Do not ask any more"), "announce.unask", (str(announcement.number),)),
    )


@on_draft(router, "announce.unask")
def ask_no_more(turn: Turn, announcement: Announcement) -> None:
    """It is a draft again, to which nobody can agree."""
    changed(turn, announcement)


@on_draft(router, "announce.agree")
def agree(turn: Turn, announcement: Announcement, version: str) -> None:
    number = str(announcement.number)
    if announcement.author_id == turn.person.id:
        turn.toast(T("You have asked: somebody else has to agree."))
    elif announcement.status != Status.CONSENT or str(announcement.version) != version:
        turn.toast(T("This has changed since. Please look once more."))
    elif writing.send(turn.db, announcement, turn.person.id, turn.now):
        turn.replace(T("Agreed. Announcement {number} goes out.", number=number))
        sending.begin(turn, announcement)
