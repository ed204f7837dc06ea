"""Writing an announcement: its words in each language, and the picture or file that goes with it."""

import json
import re
from datetime import timedelta

from bot.choices import width
from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, File, Lines, Said, T, Text, Verbatim
from handlers.announcements import sending, things
from handlers.announcements.drafts import MOST_LINKS, asked_draft, changed, languages_of, looks, on_draft, preview
from handlers.announcements.markdown import formatted
from handlers.announcements.words import CANCEL, STATUSES
from handlers.people import messengers
from storage.announcements import writing
from storage.announcements.writing import UNSENT, Announcement
from storage.people import Role

router = Router()

NUMBERED_LINES = 400
"""Characters kept free where choices are not buttons but numbered lines in the text."""

MEGABYTE = 1024 * 1024

KEEP_DRAFTS = timedelta(days=30)
"""How long a draft is kept that nobody looks at."""


@router.command(
    "announce", help=T("Write to everybody, or to those who want it"), role=Role.ORGANISER, where=Where.PRIVATE
)
def announce(turn: Turn, text: str) -> None:
    quoted = turn.update.quoted if isinstance(turn.update, Said) else ""
    turn.done()  # a question about another one may be open: this is a new one
    if (number := re.fullmatch(r"#?(\d{1,9})", text)) is not None:
        try:
            there = writing.find(turn.db, number[1])
        except writing.NotThere:
            turn.say(T("There is no announcement {number}.", number=number[1]))
            return
        preview(turn, there) if there.status in UNSENT else sending.show(turn, number[1])
        return
    if text or quoted:
        take_text(turn, text or quoted)
        return
    earlier = [
        Choice(
            T("Number {number}: {state}", number=str(one.number), state=STATUSES[one.status]),
            "announce.back" if one.status in UNSENT else "announce.show",
            (str(one.number),),
        )
        for one in writing.newest(turn.db, 5)
    ]
    turn.ask(
        T(
            "What shall it say? Write it to me, with a picture or a file if you like. **bold**, *italic*, lists and "
            "links work. Nothing goes out before you have seen it and pressed “Send”."
        ),
        *earlier,
        CANCEL,
        step="announce.text",
    )


@router.step("announce.text")
def take_text(turn: Turn, text: str) -> None:
    """The words of a new announcement, of another language, or in place of those there are."""
    text = as_marked(turn, text)
    number, locale = turn.data.get("number"), str(turn.data.get("locale") or turn.chat.locale)
    if not turn.may(Role.ORGANISER):
        turn.done()
        return
    announcement = None
    if number is not None and (announcement := asked_draft(turn)) is None:
        return
    file = _file(turn)
    if isinstance(file, Text):
        turn.say(file)
        return
    problem = fits(turn, text, announcement, file=file is not None)
    if problem is not None:
        turn.ask(problem, CANCEL, step="announce.text", data=turn.data)
        return
    if announcement is None:
        announcement = writing.draft(
            turn.db, author_id=turn.person.id, chat_id=turn.chat.id, locale=locale, now=turn.now
        )
    if file is not None:
        announcement.file = json.dumps([file.adapter, file.id, file.name, file.media_type, file.size])
    writing.word(turn.db, announcement, locale, text, formatted(text))
    preview(turn, announcement)


def as_marked(turn: Turn, text: str) -> str:
    """What somebody has just written, with the formatting that their messenger keeps beside the words."""
    return (isinstance(turn.update, Said) and turn.update.marked) or text


def fits(turn: Turn, text: str, announcement: Announcement | None, *, file: bool = False) -> Text | None:
    """What is wrong with these words, if anything: none, or with what goes along too many for some messenger."""
    attached = None
    if announcement is not None:
        file, attached = file or announcement.file is not None, announcement.attached
    most = min(
        (limits.caption if file else limits.text) - (0 if limits.choices > MOST_LINKS + 1 else NUMBERED_LINES)
        for limits in turn.lab.limits.values()
    )
    most -= things.width_of(turn, attached)
    if not text.strip():
        return T("Please write what it shall say.")
    if (n := width(formatted(text))) <= most:
        return None
    if file:
        return T("That is {n} characters, and {most} fit beside a file. Can you say it shorter?", n=n, most=most)
    return T("That is {n} characters, and {most} fit. Can you say it shorter?", n=n, most=most)


def too_long(turn: Turn, announcement: Announcement, *, file: bool = False) -> Text | None:
    """What is wrong with what is written, now that something goes with it."""
    longest = max(writing.wordings(turn.db, announcement.number).values(), key=lambda one: len(one.text))
    return fits(turn, longest.text, announcement, file=file)


def _file(turn: Turn) -> File | Text | None:
    """The file that came with the message; words if it is too large for one of the messengers."""
    files = turn.update.files if isinstance(turn.update, Said) else ()
    if not files:
        return None
    file = files[0]
    mine = turn.lab.limits[file.adapter].download
    name, most = min(
        ((name, min(mine, limits.upload)) for name, limits in turn.lab.limits.items()), key=lambda one: one[1]
    )
    if file.size is not None and file.size > most:
        return T(
            "This file is too large for {messenger}: at most {most} MB. Please send a smaller one, or a link to it.",
            messenger=messengers([name]),
            most=round(most / MEGABYTE, 1),
        )
    return file


@router.step("announce.preview")
def not_yet_sent(turn: Turn, _text: str) -> None:
    announcement = asked_draft(turn)
    if announcement is None:
        return
    file = _file(turn)
    if isinstance(file, Text):
        turn.say(file)
    elif file is not None:  # a picture sent after the words
        problem = too_long(turn, announcement, file=True)
        if problem is None:
            announcement.file = json.dumps([file.adapter, file.id, file.name, file.media_type, file.size])
            changed(turn, announcement)
            return
        turn.say(problem)
    else:
        turn.say(
            T(
                "Your announcement is not sent yet, and what you have just written is not part of it. Choose “Send”, "
                "or change it first."
            )
        )
    preview(turn, announcement)


@on_draft(router, "announce.word")
def ask_words(turn: Turn, announcement: Announcement, locale: str) -> None:
    if locale not in turn.lab.catalogues:
        return
    there = writing.wordings(turn.db, announcement.number).get(locale)
    if there is not None:
        turn.say(Lines([T("So far it says:"), Verbatim(there.text)], "\n\n"))
    turn.ask(
        T("What shall it say in {language}?", language=languages_of(turn, [locale])),
        CANCEL,
        step="announce.text",
        data={"number": announcement.number, "locale": locale},
    )


@on_draft(router, "announce.look")
def look(turn: Turn, announcement: Announcement, adapter: str) -> None:
    if adapter in turn.lab.limits:
        looks(turn, announcement, adapter)


@on_draft(router, "announce.discard")
def discard(turn: Turn, announcement: Announcement) -> None:
    number = str(announcement.number)
    writing.discard(turn.db, announcement)
    turn.done()
    turn.replace(T("Announcement {number} is discarded. Nobody has got it.", number=number))


@router.every(minutes=60)
def forget_drafts(turn: Turn) -> None:
    """What nobody has looked at for long is discarded; who began it gets its words back."""
    for announcement in writing.left_alone(turn.db, turn.now - KEEP_DRAFTS):
        texts = [Verbatim(one.text) for one in writing.wordings(turn.db, announcement.number).values()]
        number, days, chat = str(announcement.number), KEEP_DRAFTS.days, announcement.chat_id
        writing.discard(turn.db, announcement)
        if chat is not None:
            told = T(
                "Nobody has looked at the draft of announcement {number} for {n} days, so it is discarded. It said:",
                number=number,
                n=days,
            )
            turn.tell(chat, Lines([told, *texts], "\n\n"))
