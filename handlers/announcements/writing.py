"""Writing an announcement: its words in each language, what goes with it, the preview, and Send."""

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bot.choices import width
from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, File, Lines, Said, T, Text, Verbatim
from handlers.announcements import sending
from handlers.announcements.markdown import formatted, is_address
from handlers.announcements.words import CANCEL, STATUSES, audience_of, lasting, seconds_for, size_of
from handlers.people import messengers
from storage import conversation, ideas
from storage.announcements import audience, writing
from storage.announcements.writing import UNSENT, Announcement, Status
from storage.ideas import NotOpen
from storage.people import Role

router = Router()

MOST_LINKS = 5
LONGEST_LABEL = 60
NUMBERED_LINES = 400
"""Characters kept free where choices are not buttons but numbered lines in the text."""

MEGABYTE = 1024 * 1024


@router.command(
    "announce", help=T("Write to everybody, or to those who want it"), role=Role.ORGANISER, where=Where.PRIVATE
)
def announce(turn: Turn, text: str) -> None:
    quoted = turn.update.quoted if isinstance(turn.update, Said) else ""
    turn.done()  # a question about another one may be open: this is a new one
    if text or quoted:
        take_text(turn, text or quoted)
        return
    earlier = [
        Choice(
            T("Number {number}: {state}", number=str(one.number), state=STATUSES[one.status]),
            "announce.show",
            (str(one.number),),
        )
        for one in writing.newest(turn.db, 5)
        if one.status not in UNSENT
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
    number, locale = turn.data.get("number"), str(turn.data.get("locale") or turn.chat.locale)
    if not turn.may(Role.ORGANISER):
        turn.done()
        return
    announcement = None
    if number is not None:
        announcement = draft_of(turn, str(number))
        if announcement is None:
            turn.done()
            return
    file = _file(turn)
    if isinstance(file, Text):
        turn.say(file)
        return
    has_file = file is not None or (announcement is not None and announcement.file is not None)
    problem = fits(turn, text, has_file)
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


def fits(turn: Turn, text: str, file: bool) -> Text | None:
    """What is wrong with these words, if anything: none, or too many for some messenger."""
    most = min(
        (limits.caption if file else limits.text) - (0 if limits.choices > MOST_LINKS + 1 else NUMBERED_LINES)
        for limits in turn.lab.limits.values()
    )
    if not text.strip():
        return T("Please write what it shall say.")
    if (n := width(formatted(text))) <= most:
        return None
    if file:
        return T("That is {n} characters, and {most} fit beside a file. Can you say it shorter?", n=n, most=most)
    return T("That is {n} characters, and {most} fit. Can you say it shorter?", n=n, most=most)


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


# -- the preview --------------------------------------------------------------------------------------------------


def preview(turn: Turn, announcement: Announcement) -> None:
    """Show what each language's readers get, and what can still be changed."""
    for message in sending.preview(turn, announcement):
        turn.say(message)
    turn.ask(
        facts(turn, announcement),
        *_choices(turn, announcement),
        step="announce.preview",
        data={"number": announcement.number},
    )


def facts(turn: Turn, announcement: Announcement) -> Text:
    """Whom it reaches, when, in which languages."""
    size = audience.size(turn.db, announcement.audience)
    words = turn.lab.catalogues
    written = writing.wordings(turn.db, announcement.number)
    missing = [locale for locale in words if locale not in written]
    lines: list[Text] = [
        T("<b>This is announcement {number}, not sent yet.</b>", number=str(announcement.number)),
        T("For {audience}: {size}.", audience=audience_of(turn, announcement.audience), size=size_of(size)),
        T("Sending takes about {time}.", time=lasting(seconds_for(turn, size))),
        T("Written in: {languages}", languages=_languages(turn, written)),
    ]
    if missing:
        lines.append(
            T(
                "Missing: {languages}. Who reads that gets it in {language}.",
                languages=_languages(turn, missing),
                language=_languages(turn, [announcement.locale]),
            )
        )
    if announcement.starts_at is not None:
        lines.append(T("It goes out on {date}.", date=announcement.starts_at))
    if announcement.by_day:
        lines.append(T("Not at night: between 9 in the evening and 8 in the morning it waits."))
    if announcement.consent:
        lines.append(T("A second organiser has to agree."))
    plain = [name for name, limits in sorted(turn.lab.limits.items()) if not limits.choices]
    if plain:
        lines.append(T("On {messengers} the buttons are numbered lines.", messengers=", ".join(plain)))
    return Lines(lines)


def _languages(turn: Turn, locales: Iterable[str]) -> str:
    words = turn.lab.catalogues
    return ", ".join(turn.words.called(words[locale]) for locale in locales if locale in words)


def _choices(turn: Turn, announcement: Announcement) -> list[Choice]:
    number = str(announcement.number)
    version = str(announcement.version)
    words = turn.lab.catalogues
    written = writing.wordings(turn.db, announcement.number)
    languages = [
        Choice(
            T("Change the text")
            if len(written) == 1 and locale in written
            else T("Change it in {language}", language=_languages(turn, [locale]))
            if locale in written
            else T("Add it in {language}", language=_languages(turn, [locale])),
            "announce.word",
            (number, locale),
        )
        for locale in sorted(words, key=lambda locale: locale != announcement.locale)
    ]
    links = len(json.loads(announcement.links))
    return [
        Choice(T("Ask a second organiser") if announcement.consent else T("Send"), "announce.send", (number, version)),
        Choice(T("For whom?"), "announce.audience", (number,)),
        Choice(T("When?"), "announce.when", (number,)),
        *languages,
        *([Choice(T("Add a link"), "announce.link", (number,))] if links < MOST_LINKS else []),
        *([Choice(T("Without links"), "announce.unlink", (number,))] if links else []),
        Choice(T("Without the idea"), "announce.detach", (number,))
        if announcement.attached
        else Choice(T("Add an idea"), "announce.attach", (number,)),
        *([Choice(T("Without the file"), "announce.unfile", (number,))] if announcement.file else []),
        Choice(
            T("I decide alone") if announcement.consent else T("A second organiser shall agree"),
            "announce.consent",
            (number,),
        ),
        Choice(T("Discard"), "announce.discard", (number,)),
    ]


@router.step("announce.preview")
def not_yet_sent(turn: Turn, _text: str) -> None:
    announcement = draft_of(turn, str(turn.data.get("number")))
    if announcement is None:
        turn.done()
        return
    file = _file(turn)
    if isinstance(file, Text):
        turn.say(file)
    elif file is not None:  # a picture sent after the words
        longest = max(writing.wordings(turn.db, announcement.number).values(), key=lambda one: len(one.text))
        problem = fits(turn, longest.text, file=True)
        if problem is not None:
            turn.say(problem)
        else:
            announcement.file = json.dumps([file.adapter, file.id, file.name, file.media_type, file.size])
            changed(turn, announcement)
            return
    else:
        turn.say(T("Your announcement is not sent yet. Choose “Send”, or change it first."))
    preview(turn, announcement)


def draft_of(turn: Turn, number: str) -> Announcement | None:
    """The announcement, while it can still be changed; else they are told."""
    announcement = sending.organisers(turn, number)
    if announcement is not None and announcement.status not in UNSENT:
        turn.toast(T("Announcement {number} is sent already.", number=number))
        return None
    return announcement


def changed(turn: Turn, announcement: Announcement) -> None:
    """A draft has changed, and is shown anew."""
    keep(turn, announcement)
    preview(turn, announcement)


def keep(turn: Turn, announcement: Announcement) -> None:
    """A draft has changed: what was seen before is not what would be sent."""
    announcement.version += 1
    announcement.status = Status.DRAFT
    writing.change(turn.db, announcement)


@router.press("announce.word")
def ask_words(turn: Turn, number: str, locale: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None or locale not in turn.lab.catalogues:
        return
    there = writing.wordings(turn.db, announcement.number).get(locale)
    if there is not None:
        turn.say(Lines([T("So far it says:"), Verbatim(there.text)], "\n\n"))
    turn.ask(
        T("What shall it say in {language}?", language=_languages(turn, [locale])),
        CANCEL,
        step="announce.text",
        data={"number": announcement.number, "locale": locale},
    )


@router.press("announce.link")
def ask_link(turn: Turn, number: str) -> None:
    if draft_of(turn, number) is not None:
        turn.ask(
            T("Which link? Write what the button says and the address, for example: Programme https://example.org"),
            CANCEL,
            step="announce.link",
            data={"number": number},
        )


@router.step("announce.link")
def take_link(turn: Turn, text: str) -> None:
    announcement = draft_of(turn, str(turn.data.get("number")))
    if announcement is None:
        turn.done()
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


@router.press("announce.unlink")
def drop_links(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.links = "[]"
        changed(turn, announcement)


@router.press("announce.unfile")
def drop_file(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.file = None
        changed(turn, announcement)


@router.press("announce.attach")
def ask_idea(turn: Turn, number: str) -> None:
    if draft_of(turn, number) is not None:
        turn.ask(
            T("Which idea? Choose one, or write its number like this: #42"),
            *ideas_to_choose(turn, "announce.attached", number),
            step="announce.attach",
            data={"number": number},
        )


def ideas_to_choose(turn: Turn, action: str, number: str) -> list[Choice]:
    """The newest ideas, since a bare number means a choice."""
    newest = ideas.browse(turn.db, most=5).ideas
    chosen = [
        Choice(T("#{number} {title}", number=str(idea.id), title=idea.title), action, (number, str(idea.id)))
        for idea in newest
    ]
    return [*chosen, CANCEL]


def idea_meant(turn: Turn, text: str) -> int | None:
    """The number of an idea that is there; else they are told."""
    which = text.strip().removeprefix("#").strip()
    number = int(which) if which.isdecimal() and len(which) < 10 else 0
    try:
        ideas.visible(turn.db, number)
    except NotOpen:
        turn.say(T("There is no idea #{number}, or it was withdrawn.", number=which[:9]))
        return None
    return number


@router.step("announce.attach")
def take_idea(turn: Turn, text: str) -> None:
    attach(turn, str(turn.data.get("number")), text)


@router.press("announce.attached")
def attach(turn: Turn, number: str, which: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None:
        turn.done()
    elif (idea := idea_meant(turn, which)) is not None:
        announcement.attached = f"idea:{idea}"
        changed(turn, announcement)


@router.press("announce.detach")
def drop_idea(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.attached = None
        changed(turn, announcement)


@router.press("announce.discard")
def discard(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        writing.discard(turn.db, announcement)
        turn.done()
        turn.replace(T("Announcement {number} is discarded. Nobody has got it.", number=number))


# -- when ---------------------------------------------------------------------------------------------------------


@router.press("announce.when")
def ask_when(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        turn.ask(
            T("When shall it go out? Write a day and a time, for example 2026-12-05 18:00, or choose:"),
            Choice(T("As soon as I press Send"), "announce.now", (number,)),
            Choice(T("At night, too") if announcement.by_day else T("Not at night"), "announce.by_day", (number,)),
            CANCEL,
            step="announce.when",
            data={"number": number},
        )


@router.step("announce.when")
def take_when(turn: Turn, text: str) -> None:
    announcement = draft_of(turn, str(turn.data.get("number")))
    if announcement is None:
        turn.done()
        return
    at = moment(text, turn.now, turn.words.zone)
    if at is None:
        turn.say(T("I do not understand that time. Write it like this: 2026-12-05 18:00"))
    elif at <= turn.now:
        turn.say(T("{date} is over already. Which other time?", date=at))
    elif at > turn.now + timedelta(days=366):
        turn.say(T("That is more than a year away. Which other time?"))
    else:
        announcement.starts_at = at
        changed(turn, announcement)


@router.press("announce.now")
def at_once(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.starts_at = None
        changed(turn, announcement)


@router.press("announce.by_day")
def toggle_by_day(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.by_day = not announcement.by_day
        changed(turn, announcement)


_MOMENT = re.compile(
    r"(?:(?:(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)|(?P<d>\d\d?)\.(?P<m>\d\d?)\.(?P<y>\d{4})?)[ ,T]*)?"
    r"(?:um |at )?(?P<hour>\d\d?)(?:[:.](?P<minute>\d\d))?(?: ?Uhr)?",
    re.IGNORECASE,
)


def moment(text: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """A day and a time as people write them, in the lab's zone; without a day the next such time. Else ``None``."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    here = now.astimezone(zone)
    try:
        at = here.replace(hour=int(match["hour"]), minute=int(match["minute"] or 0), second=0, microsecond=0, fold=0)
        if match["day"]:
            return at.replace(year=int(match["year"]), month=int(match["month"]), day=int(match["day"])).astimezone(
                now.tzinfo
            )
        if match["d"]:
            at = at.replace(year=int(match["y"] or here.year), month=int(match["m"]), day=int(match["d"]))
            return (at if match["y"] or at > here else at.replace(year=at.year + 1)).astimezone(now.tzinfo)
    except ValueError:
        return None
    return (at if at > here else at + timedelta(days=1)).astimezone(now.tzinfo)


# -- sending ------------------------------------------------------------------------------------------------------


@router.press("announce.consent")
def toggle_consent(turn: Turn, number: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is not None:
        announcement.consent = not announcement.consent
        changed(turn, announcement)


@router.press("announce.send")
def send(turn: Turn, number: str, version: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None:
        return
    if str(announcement.version) != version:
        turn.toast(T("This has changed since. Please look once more."))
        preview(turn, announcement)
        return
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
    rooms = conversation.team_chats(turn.connection)
    if not rooms:
        turn.toast(T("There is no team's room in which somebody could agree. Make one with /team."))
        return
    announcement.status = Status.CONSENT
    writing.change(turn.db, announcement)
    turn.done()
    agree = Choice(T("Agree and send"), "announce.agree", (str(announcement.number), str(announcement.version)))
    for room in rooms:
        for message in sending.preview(turn, announcement):
            turn.tell(room, message)
        turn.tell(room, Lines([facts(turn, announcement), T("Does another organiser agree?")], "\n\n"), agree)
    turn.replace(T("The team's room is asked. It goes out as soon as another organiser agrees."))


@router.press("announce.agree")
def agree(turn: Turn, number: str, version: str) -> None:
    announcement = draft_of(turn, number)
    if announcement is None:
        return
    if announcement.author_id == turn.person.id:
        turn.toast(T("You have written it: somebody else has to agree."))
    elif announcement.status != Status.CONSENT or str(announcement.version) != version:
        turn.toast(T("This has changed since. Please look once more."))
    elif writing.send(turn.db, announcement, turn.person.id, turn.now):
        turn.replace(T("Agreed. Announcement {number} goes out.", number=number))
        sending.begin(turn, announcement)
