"""A draft: what it looks like before it is sent, and what all of its buttons have in common."""

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, ParamSpec

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Formatted, Lines, Message, T, Text, Verbatim
from handlers.announcements import sending, things
from handlers.announcements.words import CANCEL, audience_of, lasting, seconds_for, size_of
from handlers.people import messengers
from storage.announcements import audience, writing
from storage.announcements.writing import UNSENT, Announcement, Status

P = ParamSpec("P")
Act = Callable[Concatenate[Turn, Announcement, P], None]

MOST_LINKS = 5


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


def on_draft(router: Router, action: str) -> Callable[[Act[P]], Act[P]]:
    """``f(turn, announcement, *args)`` is what a button of a draft does, while it can still be changed."""

    def register(act: Act[P]) -> Act[P]:
        @router.press(action)
        @wraps(act)
        def press(turn: Turn, number: str, *args: P.args, **more: P.kwargs) -> None:
            announcement = draft_of(turn, number)
            if announcement is not None:
                act(turn, announcement, *args, **more)

        return act

    return register


def asked_draft(turn: Turn) -> Announcement | None:
    """The draft that the open question is about; when it cannot be changed any more, the question is over."""
    announcement = draft_of(turn, str(turn.data.get("number")))
    if announcement is None:
        turn.done()
    return announcement


def ask_thing(turn: Turn, announcement: Announcement, kind: str, question: Text, step: str) -> None:
    """Which idea, poll or event? ``on_thing`` of this step takes the answer."""
    number = str(announcement.number)
    newest = things.newest(turn, kind)
    turn.ask(
        question,
        *(Choice(title, step, (number, f"{kind}:{which}")) for which, title in newest),
        CANCEL,
        step=step,
        data={"number": announcement.number, "kind": kind},
    )


def on_thing(router: Router, step: str) -> Callable[[Act[[str]]], Act[[str]]]:
    """``f(turn, announcement, "idea:42")`` is what the answer to ``ask_thing`` does, pressed or typed as a number."""

    def register(act: Act[[str]]) -> Act[[str]]:
        @router.step(step)
        def typed(turn: Turn, text: str) -> None:
            announcement = asked_draft(turn)
            if announcement is not None:
                act(turn, announcement, f"{turn.data.get('kind')}:{text.strip().removeprefix('#').strip()}")

        return on_draft(router, step)(act)

    return register


def preview(turn: Turn, announcement: Announcement) -> None:
    """Show what each language's readers get, and what can still be changed."""
    announcement.looked_at = turn.now
    writing.change(turn.db, announcement)
    for _, message in sending.previews(turn, announcement):
        turn.say(message)
    size = audience.size(turn.db, announcement.audience, turn.lab.limits)
    turn.ask(
        facts(turn, announcement, size),
        *_choices(turn, announcement, size),
        step="announce.preview",
        data={"number": announcement.number},
    )


def facts(turn: Turn, announcement: Announcement, size: audience.Size) -> Text:
    """Whom it reaches, when, in which languages."""
    words = turn.lab.catalogues
    written = writing.wordings(turn.db, announcement.number)
    missing = [locale for locale in words if locale not in written]
    lines: list[Text] = [
        T("<b>This is announcement {number}, not sent yet.</b>", number=str(announcement.number)),
        T("For {audience}: {size}.", audience=audience_of(turn, announcement.audience), size=size_of(size)),
        *things.limits_of(turn, announcement.attached),
        T("Sending takes about {time}.", time=lasting(seconds_for(turn, size)))
        if size.people or size.rooms
        else T("So it reaches nobody. Choose “For whom?”."),
        T("Written in: {languages}", languages=languages_of(turn, written)),
    ]
    if missing:
        lines.append(
            T(
                "Missing: {languages}. Who reads that gets it in {language}.",
                languages=languages_of(turn, missing),
                language=languages_of(turn, [announcement.locale]),
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
        lines.append(T("On {messengers} the buttons are numbered lines.", messengers=messengers(plain)))
    return Lines(lines)


def looking_different(turn: Turn) -> list[str]:
    """The messengers on which choices do not look as they do here: buttons, or numbered lines."""
    buttons = turn.lab.limits[turn.chat.ref.adapter].choices > 0
    return [name for name, limits in sorted(turn.lab.limits.items()) if (limits.choices > 0) != buttons]


def looks(turn: Turn, announcement: Announcement, adapter: str) -> None:
    """Show it as another messenger will show it, in each language; its buttons in brackets."""
    for locale, message in sending.previews(turn, announcement):
        *before, last = turn.parts(adapter, locale, message)
        words = turn.lab.catalogues[locale]
        buttons = [f"[{words.plain(choice.label)}]" for choice in message.choices]
        shown: list[Text] = [Formatted(last)]
        if turn.lab.limits[adapter].choices:
            shown.append(Verbatim(" ".join(buttons)))
        for part in before:
            turn.say(Formatted(part))
        turn.say(Message(Lines(shown, "\n\n"), attachment=message.attachment))


def languages_of(turn: Turn, locales: Iterable[str]) -> str:
    words = turn.lab.catalogues
    return ", ".join(turn.words.called(words[locale]) for locale in locales if locale in words)


def _choices(turn: Turn, announcement: Announcement, size: audience.Size) -> list[Choice]:
    number = str(announcement.number)
    version = str(announcement.version)
    words = turn.lab.catalogues
    written = writing.wordings(turn.db, announcement.number)
    languages = [
        Choice(
            T("Change the text")
            if len(written) == 1 and locale in written
            else T("Change it in {language}", language=languages_of(turn, [locale]))
            if locale in written
            else T("Add it in {language}", language=languages_of(turn, [locale])),
            "announce.word",
            (number, locale),
        )
        for locale in sorted(words, key=lambda locale: locale != announcement.locale)
    ]
    links = len(json.loads(announcement.links))
    send = Choice(
        T("Ask a second organiser") if announcement.consent else T("Send"), "announce.send", (number, version)
    )
    return [
        *([send] if size.people or size.rooms else []),
        Choice(T("For whom?"), "announce.audience", (number,)),
        Choice(T("When?"), "announce.when", (number,)),
        *languages,
        *([Choice(T("Add a link"), "announce.link", (number,))] if links < MOST_LINKS else []),
        *([Choice(T("Without links"), "announce.unlink", (number,))] if links else []),
        Choice(things.WITHOUT[announcement.attached.partition(":")[0]], "announce.detach", (number,))
        if announcement.attached
        else Choice(T("Add an idea, a poll or an event"), "announce.attach", (number,)),
        *([Choice(T("Without the file"), "announce.unfile", (number,))] if announcement.file else []),
        *(
            Choice(T("How it looks on {messenger}", messenger=messengers([name])), "announce.look", (number, name))
            for name in looking_different(turn)
        ),
        Choice(
            T("I decide alone") if announcement.consent else T("A second organiser shall agree"),
            "announce.consent",
            (number,),
        ),
        Choice(T("Discard"), "announce.discard", (number,)),
    ]
