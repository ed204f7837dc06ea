"""Digests: what was put off for the same people goes out as one message, and is kept true as a whole."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

from bot.turn import Turn
from bot.types import Choice, Lines, Message, T, Text, Verbatim
from handlers.announcements import things
from handlers.announcements.words import body, copy, stop
from storage.announcements import ledger, writing
from storage.announcements.ledger import LEAVING, QUEUED, Change, Copy
from storage.announcements.subscribing import Often
from storage.announcements.writing import Announcement

LINE = "———"


def wants(one: Copy) -> bool:
    """Whether the reader of a copy wants what is put off in one message."""
    return one.often in (Often.DAILY, Often.WEEKLY)


class Part(NamedTuple):
    """An announcement as it stands in a digest: its words, and what can be done with it there."""

    announcement: Announcement
    text: Text
    choices: list[Choice]


def part(turn: Turn, number: int, locale: str) -> Part:
    """What a digest says of an announcement."""
    one = turn.db.get_one(Announcement, number)
    text, own = body(turn, one, writing.wordings(turn.db, number), locale, room=False)
    kind, _, which = (one.attached or "").partition(":")
    choices = []
    for choice in own:  # of several events here, which one?
        about = kind in (things.POLL, things.EVENT) and choice.url is None
        label = Lines([choice.label, Verbatim(f"(#{which})")], " ") if about else choice.label
        choices.append(Choice(label, choice.action, choice.args, url=choice.url, start=choice.start))
    return Part(one, text, choices)


def digest(turn: Turn, parts: Sequence[Part], locale: str) -> Message:
    """Several announcements in one message, in their order; of one alone, its copy."""
    found = [one.announcement for one in parts]
    if len(found) == 1:
        return copy(turn, found[0], writing.wordings(turn.db, found[0].number), locale, room=False)
    choices = [choice for one in parts for choice in one.choices]
    choices += [stop(turn, topic) for topic in dict.fromkeys(one.topic for one in found)]
    head = T("<b>What was new: {n} things in one message</b>", n=len(found))
    said = Lines([head, Lines([one.text for one in parts], f"\n\n{LINE}\n\n")], "\n\n")
    return Message(said, tuple(choices), f"digest:{','.join(str(one.number) for one in found)}")


def packed(turn: Turn, adapter: str, parts: Sequence[Part], locale: str) -> list[list[Part]]:
    """The announcements in as few messages as hold them, each whole, so that it can be changed as one."""
    packs: list[list[Part]] = []
    for one in parts:
        if packs and turn.fits_one(adapter, locale, digest(turn, [*packs[-1], one], locale)):
            packs[-1].append(one)
        else:
            packs.append([one])
    return packs


class Gathered(NamedTuple):
    """What has become of copies in digests; and those that are messages of their own, with what they shall become."""

    changes: list[Change]
    alone: list[tuple[Copy, str]]


def gather(turn: Turn, adapter: str, copies: Sequence[Copy], others: Sequence[Copy]) -> Gathered:
    """Copies that were put off go out with the ``others`` that were put off for the same chats till now."""
    by_chat: dict[int, list[Copy]] = {one.chat_id: [one] for one in copies}
    for other in others:
        by_chat[other.chat_id].append(other)
    same: dict[tuple[str, tuple[int, ...]], list[list[Copy]]] = defaultdict(list)
    for those in by_chat.values():
        if len(those) > 1:
            those.sort(key=lambda one: one.announcement_id)
            same[those[0].locale, tuple(one.announcement_id for one in those)].append(those)
    written = cache(partial(part, turn))  # many are in several digests
    changes = []
    for (locale, numbers), chats in same.items():
        for pack in packed(turn, adapter, [written(number, locale) for number in numbers], locale):
            places = [(those[0].chat_id, those[0].thread) for those in chats]
            rows = turn.broadcast(adapter, locale, places, digest(turn, pack, locale))
            versions = {one.announcement.number: one.announcement.version for one in pack}
            changes += [
                Change(one.id, one.state, QUEUED, versions[one.announcement_id], row, gathered=len(pack) > 1)
                for those, row in zip(chats, rows, strict=True)
                for one in those
                if one.announcement_id in versions
            ]
    return Gathered(changes, [(those[0], QUEUED) for those in by_chat.values() if len(those) == 1])


def change(turn: Turn, announcement: Announcement, adapter: str, copies: Sequence[tuple[Copy, str]]) -> Gathered:
    """Copies in digests shall read otherwise, or leave them; what no longer fits there goes by itself."""
    standing = ledger.gathered(turn.db, [one.outbox_id or 0 for one, _ in copies])
    same: dict[tuple[str, str, tuple[int, ...]], list[Copy]] = defaultdict(list)
    for one, state in copies:
        same[one.locale, state, tuple(standing[one.outbox_id or 0])].append(one)
    written = cache(partial(part, turn))
    changes: list[Change] = []
    alone: list[tuple[Copy, str]] = []
    for (locale, state, numbers), those in same.items():
        all_ = [written(number, locale) for number in numbers]
        rest = [one for one in all_ if one.announcement.number != announcement.number]
        stays = state == QUEUED and (not rest or turn.fits_one(adapter, locale, digest(turn, all_, locale)))
        left = all_ if stays else rest
        if not left:
            alone += [(one, state) for one in those]
            continue
        shown = digest(turn, left, locale)
        if state == LEAVING or turn.fits_one(adapter, locale, shown):  # else others have grown, and are seen to next
            turn.rewrite(adapter, locale, [one.outbox_id or 0 for one in those], shown)
        if stays or state == LEAVING:
            changes += [
                Change(one.id, one.state, state, announcement.version, one.outbox_id, gathered=True) for one in those
            ]
        else:
            alone += [(one._replace(outbox_id=None), state) for one in those]
    return Gathered(changes, alone)
