"""What goes with an announcement: links, a file, and an idea, a poll or an event."""

import json

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.announcements import things
from handlers.announcements.drafts import MOST_LINKS, ask_thing, asked_draft, changed, on_draft, on_thing, preview
from handlers.announcements.markdown import is_address
from handlers.announcements.words import CANCEL, not_found
from handlers.announcements.writing import too_long
from storage.announcements.writing import Announcement

router = Router()

LONGEST_LABEL = 60

KINDS: dict[str, tuple[Text, Text]] = {
    things.IDEA: (T("An idea"), T("Which idea? Choose one, or write its number like this: #42")),
    things.POLL: (T("A poll"), T("Which poll? Choose one, or write its number like this: #42")),
    things.EVENT: (T("An event"), T("Which event? Choose one, or write its number like this: #42")),
}


@on_draft(router, "announce.link")
def ask_link(turn: Turn, announcement: Announcement) -> None:
    turn.ask(
        T("Which link? Write what the button says and the address, for example: Programme https://example.org"),
        CANCEL,
        step="announce.link",
        data={"number": announcement.number},
    )


@router.step("announce.link")
def take_link(turn: Turn, text: str) -> None:
    announcement = asked_draft(turn)
    if announcement is None:
        return
    label, _, url = text.strip().rpartition(" ")
    label = " ".join(label.replace("|", " ").split()) or url.removeprefix("https://")[:LONGEST_LABEL]
    if not is_address(url) or not label or len(label) > LONGEST_LABEL:
        turn.say(
            T(
                "I need up to {most} characters for the button, and an address that begins with https://",
                most=LONGEST_LABEL,
            )
        )
        return
    announcement.links = json.dumps([*json.loads(announcement.links), [label, url]][:MOST_LINKS], ensure_ascii=False)
    changed(turn, announcement)


@on_draft(router, "announce.unlink")
def drop_links(turn: Turn, announcement: Announcement) -> None:
    announcement.links = "[]"
    changed(turn, announcement)


@on_draft(router, "announce.unfile")
def drop_file(turn: Turn, announcement: Announcement) -> None:
    announcement.file = None
    changed(turn, announcement)


@on_draft(router, "announce.attach")
def ask_kind(turn: Turn, announcement: Announcement) -> None:
    number = str(announcement.number)
    kinds = [Choice(label, "announce.thing", (number, kind)) for kind, (label, _) in KINDS.items()]
    turn.replace(T("What shall go with it?"), *kinds, Choice(T("Back"), "announce.back", (number,)))


@on_draft(router, "announce.back")
def show_again(turn: Turn, announcement: Announcement) -> None:
    preview(turn, announcement)


@on_draft(router, "announce.thing")
def ask_which(turn: Turn, announcement: Announcement, kind: str) -> None:
    _, question = KINDS[kind]
    ask_thing(turn, announcement, kind, question, "announce.attached")


@on_thing(router, "announce.attached")
def attach(turn: Turn, announcement: Announcement, which: str) -> None:
    """Let it go with the announcement, if it is there and there is room for it."""
    if things.find(turn, which) is None:
        turn.say(things.refusal(turn, which) or not_found(which.partition(":")[2]))
        return
    before, announcement.attached = announcement.attached, which
    problem = too_long(turn, announcement)
    if problem is not None:
        announcement.attached = before
        turn.say(problem)
        preview(turn, announcement)
        return
    changed(turn, announcement)


@on_draft(router, "announce.detach")
def drop_thing(turn: Turn, announcement: Announcement) -> None:
    announcement.attached = None
    changed(turn, announcement)
