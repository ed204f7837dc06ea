"""Polls on Matrix as people's clients send, show and count them, written from MSC3381 and not from the bot."""

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.adapters.matrix_people import Event, Resident

UNSTABLE: Final = "org.matrix.msc3381.poll"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll as a client shows it: what its start says, the votes by option, and how often it was ended."""

    event_id: str
    content: Json
    encrypted: bool
    counts: dict[str, int]
    ends: int


class Sends(Protocol):
    """Whoever can send an event."""

    async def sends(self, room: str, kind: str, content: Json) -> str: ...


async def answers(who: Sends, room: str, poll: str, *ids: str, stable: bool = False) -> str:
    """Answer in a poll, by the names that clients use today or by the stable ones: the answer's event id."""
    block: Json = {"m.selections": list(ids)} if stable else {f"{UNSTABLE}.response": {"answers": list(ids)}}
    content = {**block, "m.relates_to": {"rel_type": "m.reference", "event_id": poll}}
    return await who.sends(room, "m.poll.response" if stable else f"{UNSTABLE}.response", content)


async def ends(who: Resident, room: str, poll: str) -> str:
    """End a poll: the event's id."""
    relation = {"rel_type": "m.reference", "event_id": poll}
    words = {"org.matrix.msc1767.text": "It is over."}
    return await who.sends(room, f"{UNSTABLE}.end", {f"{UNSTABLE}.end": {}, "m.relates_to": relation, **words})


def polls(who: Resident, room: str, starter: str) -> list[Poll]:
    """Somebody's polls in a room as a client shows them, oldest first; only they can end them here."""
    there = who.events(room)
    return [
        _poll(start, [event for event in there if event.relation.get("event_id") == start.id], starter)
        for start in there
        if start.type == f"{UNSTABLE}.start" and start.sender == starter
    ]


def _poll(start: Event, about: list[Event], starter: str) -> Poll:
    poll = start.content[start.type]
    ended = [event for event in about if event.type == f"{UNSTABLE}.end" and event.sender == starter]
    over = min((event.raw["origin_server_ts"] for event in ended), default=math.inf)
    latest: dict[str, list[str]] = {}
    for event in sorted(about, key=lambda event: event.raw["origin_server_ts"]):
        if event.type in (f"{UNSTABLE}.response", "m.poll.response") and event.raw["origin_server_ts"] <= over:
            unstable = event.content.get(f"{UNSTABLE}.response", {})
            latest[event.sender] = event.content.get("m.selections", unstable.get("answers"))
    counts = dict.fromkeys((answer["id"] for answer in poll["answers"]), 0)
    for said in latest.values():
        if {*said} <= counts.keys():
            for id in {*said[: poll["max_selections"]]}:
                counts[id] += 1
    return Poll(start.id, start.content, start.encrypted, counts, len(ended))
