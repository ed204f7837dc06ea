"""Rooms: who is in one, whether it is encrypted, whether it is private, and who may set it up."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bot.adapters.matrix.homeserver import Homeserver
from bot.adapters.matrix.values import items, room_id, text

MOST_ROOMS = 2000
"""Rooms whose state is remembered; one that is forgotten is asked for again."""

CREATORS_RULE = 12
"""The room version from which on creators stand above all power levels (MSC4289)."""


class Room:
    """A room as its state events tell it.

    ``members`` are those who joined or are invited, the bot among them. ``encrypted`` never becomes false again,
    whatever the homeserver says.
    """

    def __init__(self, id: str, me: str, encrypted: bool = False) -> None:
        self.id = id
        self.me = me
        self.encrypted = encrypted
        self._name: str | None = None
        self._alias: str | None = None
        self.members: dict[str, str] = {}
        self.direct = False
        self.invite_only = False
        self._tombstone: tuple[str, str | None] = ("", None)
        self.predecessor: str | None = None
        self._power: Mapping[str, Any] | None = None
        self._creators: frozenset[str] = frozenset()
        self._creators_rule = False

    def apply(self, event: Mapping[str, Any]) -> bool:
        """Take in a state event; True when that changes who is in the room. One that makes no sense changes nothing."""
        content, key = event.get("content"), event.get("state_key")
        if not isinstance(content, dict) or not isinstance(key, str):
            return False
        match event.get("type"), key:
            case "m.room.member", user:
                return self._member(user, content)
            case "m.room.encryption", "":
                self.encrypted = True
            case "m.room.join_rules", "":
                self.invite_only = content.get("join_rule") == "invite"
            case "m.room.name", "":
                self._name = text(content.get("name")) or None
            case "m.room.canonical_alias", "":
                self._alias = text(content.get("alias")) or None
            case "m.room.power_levels", "":
                self._power = content
            case "m.room.create", "":
                self._create(text(event.get("sender")), content)
            case "m.room.tombstone", "":
                self._tombstone = text(event.get("sender")), room_id(content.get("replacement_room"))
        return False

    @property
    def name(self) -> str | None:
        """What the room is called."""
        return self._name or self._alias

    @property
    def successor(self) -> str | None:
        """The room that goes on in place of this one, if whoever says so may."""
        sender, successor = self._tombstone
        return successor if self.may(sender, "m.room.tombstone") else None

    @property
    def private(self) -> bool:
        """Whether this is a chat of one person and the bot: a direct one, or one that nobody gave a name."""
        return len(self.members) <= 2 and (self.direct or self.name is None)

    @property
    def others(self) -> list[str]:
        """Everybody here but the bot."""
        return [user for user in self.members if user != self.me]

    def may(self, user: str, event_type: str) -> bool:
        """Whether somebody may send a state event of this type (spec, m.room.power_levels; MSC4289)."""
        power = self._power or {}
        events = power.get("events")
        needed = events.get(event_type) if isinstance(events, dict) else None
        return self.level(user) >= _number(needed, _number(power.get("state_default"), 50 if self._power else 0))

    def may_redact(self, user: str) -> bool:
        """Whether somebody may take back what others have said (spec, m.room.power_levels)."""
        return self.level(user) >= _number((self._power or {}).get("redact"), 50)

    def level(self, user: str) -> float:
        """A person's power, read from the raw state: clients and libraries remember levels that are gone."""
        if self._creators_rule and user in self._creators:
            return math.inf
        if self._power is None:
            return 100 if user in self._creators else 0
        users = self._power.get("users")
        own = users.get(user) if isinstance(users, dict) else None
        return _number(own, _number(self._power.get("users_default"), 0))

    def _member(self, user: str, content: Mapping[str, Any]) -> bool:
        membership = content.get("membership")
        before = self.members.get(user)
        if membership in ("join", "invite"):
            self.members[user] = membership
            if user == self.me and content.get("is_direct") is True:
                self.direct = True
        else:
            self.members.pop(user, None)
        return (before is None) != (user not in self.members)

    def _create(self, sender: str, content: Mapping[str, Any]) -> None:
        version = text(content.get("room_version"))
        self._creators_rule = version.isdecimal() and len(version) < 5 and int(version) >= CREATORS_RULE
        before = content.get("predecessor")
        self.predecessor = room_id(before.get("room_id")) if isinstance(before, dict) else None
        more = content.get("additional_creators")
        self._creators = frozenset([sender, *(user for user in items(more) if isinstance(user, str))])


class Rooms:
    """The rooms we know of, and where to learn of others.

    ``encrypted`` are those that were ever seen encrypted, and ``keep`` is told of each new one: a homeserver that later
    hides the fact must not get words in the clear. It raises ``RetryLater`` when it cannot be kept.
    """

    def __init__(
        self, homeserver: Homeserver, me: str, encrypted: Iterable[str], keep: Callable[[list[str]], None]
    ) -> None:
        self.direct: dict[str, list[str]] = {}
        self._homeserver = homeserver
        self._me = me
        self._encrypted = set(encrypted)
        self._unkept: set[str] = set()
        self._keep = keep
        self._rooms: dict[str, Room] = {}
        self._asking: dict[str, asyncio.Task[Room]] = {}
        self._stale: set[str] = set()

    async def get(self, id: str) -> Room:
        """The room, asked for if it is not remembered. Raises as ``Homeserver.call`` and ``keep`` do."""
        self._keep_new()
        if (room := self._rooms.get(id)) is not None:
            return room
        if id not in self._asking:
            task = asyncio.create_task(self._ask(id))
            self._asking[id] = task
            task.add_done_callback(lambda _: self._asking.pop(id, None))
        return await asyncio.shield(self._asking[id])

    async def _ask(self, id: str) -> Room:
        while True:
            self._stale.discard(id)
            state = await self._homeserver.state(id)
            if id not in self._stale:
                break
        room = Room(id, self._me, id in self._encrypted)
        for event in state:
            if isinstance(event, dict):
                room.apply(event)
        room.direct = room.direct or self.is_direct(id)
        self._note(room)
        self._keep_new()
        if len(self._rooms) >= MOST_ROOMS:
            del self._rooms[next(iter(self._rooms))]
        self._rooms[id] = room
        return room

    def known(self, id: str) -> Room | None:
        """The room as it is remembered."""
        return self._rooms.get(id)

    def apply(self, id: str, event: Mapping[str, Any]) -> bool:
        """Take in a state event; True when that changes, or may have changed, who is in the room."""
        if (room := self._rooms.get(id)) is None:
            self._stale.add(id)  # whoever asks for it at this moment may get an older state
            return event.get("type") == "m.room.member"
        changed = room.apply(event)
        self._note(room)
        return changed

    def _note(self, room: Room) -> None:
        if room.encrypted and room.id not in self._encrypted:
            self._encrypted.add(room.id)
            self._unkept.add(room.id)

    def _keep_new(self) -> None:
        if self._unkept:
            self._keep([*self._unkept])
            self._unkept.clear()

    def forget(self, id: str) -> None:
        """What is remembered of a room may be wrong."""
        self._rooms.pop(id, None)
        self._stale.add(id)

    def is_direct(self, id: str) -> bool:
        """Whether the account's list of direct chats names it."""
        return any(id in rooms for rooms in self.direct.values())

    def mark_direct(self, content: Mapping[str, Any]) -> None:
        """The account's list of direct chats (``m.direct``) is this."""
        self.direct = {
            user: [room for room in rooms if isinstance(room, str)]
            for user, rooms in content.items()
            if isinstance(rooms, list)
        }
        for room in self._rooms.values():
            room.direct = room.direct or self.is_direct(room.id)


def _number(value: Any, otherwise: float) -> float:
    """A power level; old rooms hold them as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return otherwise
    try:
        level = float(value)
    except (ValueError, OverflowError):
        return otherwise
    return level if math.isfinite(level) else otherwise
