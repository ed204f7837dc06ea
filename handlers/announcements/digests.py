"""Digests: what was put off for the same people goes out as one message, and is kept true as a whole."""

from collections import defaultdict
from collections.abc import Sequence
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


def digest(turn: Turn, numbers: Sequence[int], locale: str) -> Message:
    """Several announcements in one message, in their order; of one alone, its copy."""
    found = [turn.db.get_one(Announcement, number) for number in numbers]
    if len(found) == 1:
        return copy(turn, found[0], writing.wordings(turn.db, numbers[0]), locale, room=False)
    texts: list[Text] = []
    choices: list[Choice] = []
    for one in found:
        text, own = body(turn, one, writing.wordings(turn.db, one.number), locale, room=False)
        texts.append(text)
        kind, _, which = (one.attached or "").partition(":")
        for choice in own:  # of several events here, which one?
            about = kind in (things.POLL, things.EVENT) and choice.url is None
            label = Lines([choice.label, Verbatim(f"(#{which})")], " ") if about else choice.label
            choices.append(Choice(label, choice.action, choice.args, url=choice.url, start=choice.start))
    choices += [stop(turn, topic) for topic in dict.fromkeys(one.topic for one in found)]
    head = T("<b>What was new: {n} things in one message</b>", n=len(found))
    said = Lines([head, Lines(texts, f"\n\n{LINE}\n\n")], "\n\n")
    return Message(said, tuple(choices), f"digest:{','.join(map(str, numbers))}")


def packed(turn: Turn, adapter: str, numbers: Sequence[int], locale: str) -> list[list[int]]:
    """The announcements in as few messages as hold them, each whole, so that it can be changed as one."""
    packs: list[list[int]] = []
    for number in numbers:
        if packs and turn.fits_one(adapter, locale, digest(turn, [*packs[-1], number], locale)):
            packs[-1].append(number)
        else:
            packs.append([number])
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
    changes = []
    for (locale, numbers), chats in same.items():
        for pack in packed(turn, adapter, numbers, locale):
            places = [(those[0].chat_id, those[0].thread) for those in chats]
            rows = turn.broadcast(adapter, locale, places, digest(turn, pack, locale))
            changes += [
                Change(
                    one.id,
                    one.state,
                    QUEUED,
                    turn.db.get_one(Announcement, one.announcement_id).version,
                    row,
                    gathered=len(pack) > 1,
                )
                for those, row in zip(chats, rows, strict=True)
                for one in those
                if one.announcement_id in pack
            ]
    return Gathered(changes, [(those[0], QUEUED) for those in by_chat.values() if len(those) == 1])


def change(turn: Turn, announcement: Announcement, adapter: str, copies: Sequence[tuple[Copy, str]]) -> Gathered:
    """Copies in digests shall read otherwise, or leave them; what no longer fits there goes by itself."""
    standing = ledger.gathered(turn.db, [one.outbox_id or 0 for one, _ in copies])
    same: dict[tuple[str, str, tuple[int, ...]], list[Copy]] = defaultdict(list)
    for one, state in copies:
        same[one.locale, state, tuple(standing[one.outbox_id or 0])].append(one)
    changes: list[Change] = []
    alone: list[tuple[Copy, str]] = []
    for (locale, state, numbers), those in same.items():
        rest = [number for number in numbers if number != announcement.number]
        stays = state == QUEUED and (not rest or turn.fits_one(adapter, locale, digest(turn, numbers, locale)))
        left = list(numbers) if stays else rest
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
