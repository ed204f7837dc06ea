"""Digests: what was put off for the same people goes out as one message, and is kept true as a whole."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bot.turn import Turn
from bot.types import Choice, Lines, Message, T, Text, Verbatim
from handlers.announcements import things
from handlers.announcements.words import body, copy, stop
from storage.announcements import ledger, writing
from storage.announcements.ledger import LEAVING, QUEUED, Change, Copy
from storage.announcements.subscribing import Often
from storage.announcements.writing import Announcement, Wording

LINE = "———"


def wants(one: Copy) -> bool:
    """Whether the reader of a copy wants what is put off in one message."""
    return one.often in (Often.DAILY, Often.WEEKLY)


class Written(NamedTuple):
    """An announcement and its wordings, read once for all who get it."""

    announcement: Announcement
    wordings: Mapping[str, Wording]


def written(turn: Turn, numbers: Iterable[int]) -> dict[int, Written]:
    """The announcements of these numbers."""
    return {
        number: Written(turn.db.get_one(Announcement, number), writing.wordings(turn.db, number)) for number in numbers
    }


def digest(turn: Turn, those: Sequence[Written], locale: str) -> Message:
    """Several announcements in one message, in their order; of one alone, its copy."""
    if len(those) == 1:
        return copy(turn, those[0].announcement, those[0].wordings, locale, room=False)
    found = [one for one, _ in those]
    texts: list[Text] = []
    choices: list[Choice] = []
    for one, wordings in those:
        text, own = body(turn, one, wordings, locale, room=False)
        texts.append(text)
        kind, _, which = (one.attached or "").partition(":")
        for choice in own:  # of several events here, which one?
            about = kind in (things.POLL, things.EVENT) and choice.url is None
            label = Lines([choice.label, Verbatim(f"(#{which})")], " ") if about else choice.label
            choices.append(Choice(label, choice.action, choice.args, url=choice.url, start=choice.start))
    choices += [stop(turn, topic) for topic in dict.fromkeys(one.topic for one in found)]
    head = T("<b>What was new: {n} things in one message</b>", n=len(found))
    said = Lines([head, Lines(texts, f"\n\n{LINE}\n\n")], "\n\n")
    return Message(said, tuple(choices), f"digest:{','.join(str(one.number) for one in found)}")


def packed(turn: Turn, adapter: str, those: Iterable[Written], locale: str) -> list[list[Written]]:
    """The announcements in as few messages as hold them, each whole, so that it can be changed as one."""
    packs: list[list[Written]] = []
    for one in those:
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
    texts = written(turn, {number for _, numbers in same for number in numbers})
    changes = []
    for (locale, numbers), chats in same.items():
        for pack in packed(turn, adapter, [texts[number] for number in numbers], locale):
            versions = {one.number: one.version for one, _ in pack}
            places = [(those[0].chat_id, those[0].thread) for those in chats]
            rows = turn.broadcast(adapter, locale, places, digest(turn, pack, locale))
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
    texts = written(turn, {number for numbers in standing.values() for number in numbers})
    changes: list[Change] = []
    alone: list[tuple[Copy, str]] = []
    for (locale, state, numbers), those in same.items():
        everything = [texts[number] for number in numbers]
        rest = [texts[number] for number in numbers if number != announcement.number]
        stays = state == QUEUED and (not rest or turn.fits_one(adapter, locale, digest(turn, everything, locale)))
        left = everything if stays else rest
        if not left:
            alone += [(one, state) for one in those]
            continue
        turn.rewrite(adapter, locale, [one.outbox_id or 0 for one in those], digest(turn, left, locale))
        if stays or state == LEAVING:
            changes += [
                Change(one.id, one.state, state, announcement.version, one.outbox_id, gathered=True) for one in those
            ]
        else:
            alone += [(one._replace(outbox_id=None), state) for one in those]
    return Gathered(changes, alone)
