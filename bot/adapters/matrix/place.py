"""How far an account has been read, and what of it is still to be done."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

import structlog

from bot.adapters.matrix.joining import Invitations

log = structlog.get_logger()

MOST_WAITING = 1000
"""Undecryptable messages that are remembered."""

LONGEST_SESSION = 64
"""Characters of a session's id; the real ones are 43 of base64."""

KEEP_WAITING = 30 * 86400
"""Seconds an undecryptable message waits for its key."""

HINT_EVERY = 3600
"""Seconds between two hints in one room that something could not be read."""


@dataclass(slots=True)
class Place:
    """How far the account has been read: the core keeps it as the cursor, in the transaction of what was read.

    ``since`` is the sync token. ``invites`` are rooms still to be joined, with servers to join them by; later syncs
    do not repeat them. ``waiting`` are messages without a key: room, event, session, and when (Unix time).
    ``hinted`` says when a room was last told so. ``behind`` are rooms that could not be read, and the sync token from
    which on they are still to be.
    """

    since: str | None = None
    invites: Invitations = field(default_factory=dict)
    waiting: list[tuple[str, str, str, float]] = field(default_factory=list)
    hinted: dict[str, float] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: str | None) -> "Place":
        """A stored cursor; one that is none begins anew."""
        if cursor is None:
            return cls()
        try:
            stored = json.loads(cursor)
            return cls(
                None if stored["since"] is None else str(stored["since"]),
                {str(room): [str(via), str(direct)] for room, (via, direct) in stored["invites"].items()},
                [(str(room), str(event), str(session), float(at)) for room, event, session, at in stored["waiting"]],
                {str(room): float(at) for room, at in stored["hinted"].items()},
                {str(room): str(since) for room, since in stored.get("behind", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            log.warning("matrix.cursor_ignored")
            return cls()

    def written(self) -> str:
        """As a cursor."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def prune(self, now: float) -> None:
        """Give up what has waited too long, and of too much the oldest of whichever room has most."""
        self.waiting = [
            entry for entry in self.waiting if entry[3] > now - KEEP_WAITING and len(entry[2]) <= LONGEST_SESSION
        ]
        rooms = Counter(entry[0] for entry in self.waiting)
        while len(self.waiting) > MOST_WAITING:
            [(fullest, _)] = rooms.most_common(1)
            self.waiting.remove(next(entry for entry in self.waiting if entry[0] == fullest))
            rooms[fullest] -= 1
        self.hinted = {room: at for room, at in self.hinted.items() if at > now - HINT_EVERY}
