"""Receiving: syncs that outlast every fault, gaps filled, and events understood one by one."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from bot.adapters.matrix.encryption import ENCRYPTED, Encryption
from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.adapters.matrix.joining import Joining, server_of
from bot.adapters.matrix.patience import FIRST_PAUSE, Patience
from bot.adapters.matrix.place import HINT_EVERY, LONGEST_SESSION, Place
from bot.adapters.matrix.reading import ADAPTER, Account, kept, read, when
from bot.adapters.matrix.rooms import Room, Rooms
from bot.adapters.matrix.values import fields, is_id, items, text
from bot.port import Refused, RetryLater
from bot.types import Actor, Batch, ChatRef, Garbled, Joined, Left, Moved, Unreadable, Update

log = structlog.get_logger()

POLL = 30.0
"""Seconds a sync waits for news."""

FIRST_SYNC = 300.0
"""Seconds the very first sync may take: it describes every room."""

BREATH = 0.03
"""Seconds after news in which the answers to it get under way."""

LONGEST_BREATH = 0.3
"""Seconds a sync waits for messages of ours that are under way: beside them it would tell of each one by itself, and
make the homeserver slower for all of them."""

TIMELINE = 100
PORTION = 50
"""How many updates are one batch."""

PAGE = 500
"""Events of a gap that are asked for at once."""

TRIES = 5
"""How often a room is asked for before the others go on without it."""

REST, LONGEST_REST = 60.0, 3600.0
"""Seconds until a room that could not be read is tried again, doubled each time, and at most."""

MOST_UNKNOWN = 200
"""Events before our invitation was found that are looked through in a room we have just joined."""

NEWS = ("rooms", "to_device", "device_lists", "account_data")
"""Those parts of a sync's answer that it is asked for."""

# Without lazy loading of members: with it Synapse takes whoever speaks for newly joined, and has us ask for their keys.
FILTER = json.dumps(
    {
        "presence": {"types": []},
        "account_data": {"types": ["m.direct"]},
        "room": {
            "timeline": {"limit": TIMELINE},
            "ephemeral": {"types": []},
            "account_data": {"types": []},
        },
    },
    separators=(",", ":"),
)


class Receiving:
    """Reads an account's syncs, from the place in them that the core has kept."""

    def __init__(
        self,
        homeserver: Homeserver,
        encryption: Encryption,
        rooms: Rooms,
        joining: Joining,
        me: Account,
        patience: Patience,
        upkeep: Callable[[Mapping[str, Any]], Awaitable[None]],
        poll: float = POLL,
    ) -> None:
        self._homeserver = homeserver
        self._encryption = encryption
        self._rooms = rooms
        self._joining = joining
        self._me = me
        self._patience = patience
        self._upkeep = upkeep
        self._poll = poll
        self._tried: set[str] = set()
        self._untended: Mapping[str, Any] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._resting: dict[str, tuple[float, float]] = {}
        """Rooms that could not be read: until when they are left alone (monotonic), and how long they were."""

    async def batches(self, place: Place) -> AsyncGenerator[Batch, None]:
        """What happened, one sync after another."""
        try:
            async for batch in self._syncs(place):
                yield batch
        finally:
            if self._tending is not None:
                self._tending.cancel()
                await asyncio.gather(self._tending, return_exceptions=True)

    async def _syncs(self, place: Place) -> AsyncGenerator[Batch, None]:
        self._joining.follow(place.invites)
        while True:
            first = place.since is None
            answer, seconds = await self._patience.outlast(partial(self._sync, place.since))
            happened = _Happened(datetime.now(UTC))
            before = replace(place, since=None).written()
            await self._take_in(answer, place, happened)
            since = text(answer.get("next_batch")) or place.since
            spins = since == place.since or (seconds < FIRST_PAUSE and not _tells(answer))
            place.since = since
            place.prune(happened.now.timestamp())
            # What we have said ourselves comes back too: that alone is worth no transaction, it may be read again.
            if first or happened.updates or before != replace(place, since=None).written():
                for batch in happened.batches(place.written()):
                    yield batch
            # Only now: what is forgotten in a crash must not have been done.
            self._joining.follow(place.invites)
            for id in happened.over:
                self._joining.leave(id)
            if happened.updates:
                await asyncio.sleep(BREATH)
            await self._homeserver.quiet(LONGEST_BREATH)
            if spins and (not first or since is None):
                await self._patience.sleep(FIRST_PAUSE)  # a server that does not wait must not hurry us either

    async def _sync(self, since: str | None) -> tuple[dict[str, Any], float]:
        """One sync, and the seconds it took."""
        began = time.monotonic()
        query = {"filter": FILTER, "timeout": "0" if since is None else str(round(self._poll * 1000))}
        if since is not None:
            query["since"] = since
        timeout = FIRST_SYNC if since is None else self._poll + self._homeserver.timeout
        try:
            answer = await self._homeserver.call("GET", "/v3/sync", query=query, timeout=timeout)
        except Rejected as error:
            if error.status != 404:
                raise
            raise RetryLater(5, f"there is no homeserver just now: {error}") from None  # but its proxy
        return answer, time.monotonic() - began

    async def _take_in(self, answer: Mapping[str, Any], place: Place, happened: "_Happened") -> None:
        first = place.since is None
        for event in items(fields(answer, "account_data").get("events")):
            if isinstance(event, dict) and event.get("type") == "m.direct":
                self._rooms.mark_direct(fields(event, "content"))
        keys = await self._patience.outlast(partial(self._keys, answer))
        self._untended = answer
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend())
        rooms = fields(answer, "rooms")
        for id, told in fields(rooms, "invite").items():
            self._joining.invited(id, items(fields(told, "invite_state").get("events")), place.invites)
        for id, told in fields(rooms, "leave").items():
            self._left(id, fields(told), place, happened)
        joined = fields(rooms, "join")
        end = text(answer.get("next_batch"))
        entering = [
            self._entered(id, fields(joined.get(id)), place, first, end)
            for id in dict.fromkeys([*joined, *place.behind])
        ]
        for found in await asyncio.gather(*entering):
            if found is None:
                continue
            id, events, room = found
            try:
                if room is not None:
                    await self._understand(events, room, place, happened)
            except RetryLater as error:
                self._falls_behind(id, place, error)
            else:
                if place.behind.pop(id, None) is not None:
                    self._resting.pop(id, None)
                    log.info("matrix.room_caught_up")
        await self._retry(keys, place, happened)

    async def _tend(self) -> None:
        """Look after keys and devices beside the syncs: somebody's slow homeserver must not delay anybody's words."""
        while (answer := self._untended) is not None:
            self._untended = None
            try:
                await self._upkeep(answer)
                await self._encryption.settle()
            except RetryLater as error:
                log.info("matrix.upkeep_later", reason=error.reason)  # the next sync asks for it again
            except Rejected as error:
                log.warning("matrix.upkeep_rejected", reason=str(error))
            except Refused:
                return  # the sync hears it too, and tells the operator

    async def _keys(self, answer: Mapping[str, Any]) -> set[tuple[str, str]]:
        return self._encryption.receive(answer)

    # -- one room -------------------------------------------------------------------------------------------

    async def _entered(
        self, id: str, told: Mapping[str, Any], place: Place, first: bool, end: str
    ) -> tuple[str, list[dict[str, Any]], Room | None] | None:
        """A room as ``_room`` tells it. One that cannot be read does not hold up the others: it is read later.

        Then all that it has missed is one gap, which ends with this sync, at ``end``.
        """
        tries = TRIES
        if id in place.behind:
            self._rooms.forget(id)
            self._encryption.members_changed(id)
            if not end or time.monotonic() < self._resting.get(id, (0.0, 0.0))[0]:
                return None
            told, tries = {"timeline": {"limited": True, "prev_batch": end}}, 1
        try:
            events, room = await self._room(id, told, place, first, tries)
        except RetryLater as error:
            self._falls_behind(id, place, error)
            return None
        return id, events, room

    def _falls_behind(self, id: str, place: Place, error: RetryLater) -> None:
        if place.since is None:
            raise error  # the first sync reads no room
        _, rested = self._resting.get(id, (0.0, 0.0))
        pause = min(LONGEST_REST, max(REST, 2 * rested))
        self._resting[id] = time.monotonic() + pause, pause
        place.behind.setdefault(id, place.since)
        self._rooms.forget(id)
        self._encryption.members_changed(id)
        log.warning("matrix.room_later", reason=error.reason, pause=pause)

    async def _room(
        self, id: str, told: Mapping[str, Any], place: Place, first: bool, tries: int
    ) -> tuple[list[dict[str, Any]], Room | None]:
        """A room's new events, oldest first and without gaps, and the room as it is after them."""
        timeline = fields(told, "timeline")
        events = _events(timeline.get("events"))
        state = [event for event in items(fields(told, "state").get("events")) if isinstance(event, dict)]
        # With lazy loading our own membership may stand in any state; only a room that is new brings all of its state.
        whole = any(event.get("type") == "m.room.create" for event in state)
        new = not first and any(self._is_arrival(event) for event in (*(state if whole else ()), *events))
        if timeline.get("limited") and not first:
            self._rooms.forget(id)
            self._encryption.members_changed(id)
            start = text(timeline.get("prev_batch"))
            stop = None if new else place.behind.get(id, place.since)
            before = await self._gap(id, start, stop, tries) if start else []
            known = {event.get("event_id") for event in events}
            events = [event for event in before if event.get("event_id") not in known] + events
            new = new or any(map(self._is_arrival, events))
        if new:
            place.invites.pop(id, None)
            events = self._since_invited(events)
        for event in (*state, *events):
            if "state_key" in event and self._rooms.apply(id, event):
                self._encryption.members_changed(id)
        if first:
            return [], None
        try:
            return events, await self._patience.outlast(partial(self._rooms.get, id), tries=tries)
        except Rejected as error:  # we are not in it any more; the next sync tells
            log.info("matrix.room_closed", reason=str(error))
            return [], None

    async def _gap(self, id: str, start: str, stop: str | None, tries: int) -> list[dict[str, Any]]:
        """What a sync has left out, oldest first: back from its beginning to where we were."""
        found: list[dict[str, Any]] = []
        while True:
            query = {"dir": "b", "from": start, "limit": str(PAGE)} | ({} if stop is None else {"to": stop})
            try:
                page = await self._patience.outlast(
                    partial(self._homeserver.call, "GET", segments("v3", "rooms", id, "messages"), query=query),
                    tries=tries,
                )
            except Rejected as error:
                log.warning("matrix.gap_closed", reason=str(error))
                break
            chunk = items(page.get("chunk"))
            found += _events(chunk)
            end = text(page.get("end"))
            if not chunk or not end or end == start:
                break
            if stop is None and (len(found) >= MOST_UNKNOWN or any(self._is_invitation(event) for event in found)):
                break
            start = end
        found.reverse()
        return found

    def _is_arrival(self, event: Mapping[str, Any]) -> bool:
        if event.get("type") != "m.room.member" or event.get("state_key") != self._me.user:
            return False
        before = fields(event, "unsigned", "prev_content").get("membership")
        return fields(event, "content").get("membership") == "join" and before != "join"

    def _is_invitation(self, event: Mapping[str, Any]) -> bool:
        membership = fields(event, "content").get("membership")
        return (event.get("type"), event.get("state_key"), membership) == ("m.room.member", self._me.user, "invite")

    def _since_invited(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What was said to us before we came in counts, what was said before we were asked does not."""
        for number in range(len(events) - 1, -1, -1):
            if self._is_invitation(events[number]):
                return events[number:]
        arrivals = [number for number, event in enumerate(events) if self._is_arrival(event)]
        return events[arrivals[0] :] if arrivals else events

    async def _understand(self, events: list[dict[str, Any]], room: Room, place: Place, happened: "_Happened") -> None:
        """What a room's events mean."""
        inviter = next((text(event.get("sender")) for event in events if self._is_invitation(event)), "")
        opening = None if any(map(self._is_arrival, events)) else self._opening(events, room)
        # Whoever has written before we came is welcomed first, and then answered.
        for event in sorted(events, key=lambda event: not self._is_arrival(event)):
            if event is opening:
                happened.add(Joined(**self._about("", event, room)), event)
            if not self._is_arrival(event):
                self._event(event, room, place, happened)
                continue
            before = await self._predecessor(room)
            if before is None and inviter:  # else it is a chat that we have begun ourselves
                happened.add(Joined(**self._about(inviter, event, room)), event)
            elif before is not None:
                happened.add(Moved(**self._about("", event, before), to=ChatRef(ADAPTER, room.id)), event)
                happened.over.add(before.id)
        # One that we have just made may be told to us before those are invited whom it is for.
        if not room.others and (inviter or any(self._goes(event) for event in events)):
            log.info("matrix.room_empty")
            happened.over.add(room.id)
        if room.successor is not None and room.successor != room.id and self._rooms.known(room.successor) is None:
            place.invites.setdefault(room.successor, [server_of(room.id) or server_of(self._me.user), ""])

    def _opening(self, events: list[dict[str, Any]], room: Room) -> dict[str, Any] | None:
        """The event that has made a private chat a group: what is for one person must not be told there any more."""
        came = [event for event in events if self._comes(event) and event.get("state_key") in room.members]
        before = len(room.members) - len({event["state_key"] for event in came})
        unnamed = room.direct or room.name is None
        return came[0] if came and unnamed and before <= 2 < len(room.members) else None

    @staticmethod
    def _comes(event: Mapping[str, Any]) -> bool:
        """Whether somebody is now in the room, or invited, who was not."""
        there = ("join", "invite")
        before = fields(event, "unsigned", "prev_content").get("membership")
        now = fields(event, "content").get("membership")
        return event.get("type") == "m.room.member" and now in there and before not in there

    @staticmethod
    def _goes(event: Mapping[str, Any]) -> bool:
        membership = fields(event, "content").get("membership")
        return event.get("type") == "m.room.member" and membership in ("leave", "ban")

    async def _predecessor(self, room: Room) -> Room | None:
        """The room that goes on in this one: both must say so, or anybody could take over what is stored for it."""
        if room.predecessor is None:
            return None
        try:
            before = await self._patience.outlast(partial(self._rooms.get, room.predecessor), tries=TRIES)
        except Rejected:
            return None
        return before if before.successor == room.id else None

    def _event(self, event: dict[str, Any], room: Room, place: Place, happened: "_Happened") -> None:
        if not is_id(event.get("event_id")) or event.get("sender") == self._me.user:
            return
        key: str = event["event_id"]
        try:
            opened: dict[str, Any] | None = event
            if event.get("type") == ENCRYPTED and "state_key" not in event:
                opened = self._encryption.decrypt(room.id, event)
            if opened is not None:
                happened.add(read(opened, room, self._me), opened)
            elif fields(event, "content").get("algorithm") is not None:  # else it was taken back meanwhile
                session = text(event["content"].get("session_id"))
                if self._encryption.knows(room.id, session) or not 0 < len(session) <= LONGEST_SESSION:
                    # No key that may come opens it: said twice, or nonsense.
                    happened.updates.append(Unreadable(key, kept(event), "Unopenable"))
                else:
                    self._wait(event, session, room, key, place, happened)
        except Exception as error:
            # Whatever a malformed event does to us, the ones after it must come through.
            happened.updates.append(Unreadable(key, kept(event), type(error).__name__))

    def _wait(
        self, event: Mapping[str, Any], session: str, room: Room, key: str, place: Place, happened: "_Happened"
    ) -> None:
        """A message without its key: it is kept, and the room is told once an hour."""
        now = happened.now.timestamp()
        place.waiting.append((room.id, key, session, now))
        log.info("matrix.undecryptable", waiting=len(place.waiting))
        if place.hinted.get(room.id, 0.0) <= now - HINT_EVERY:
            place.hinted[room.id] = now
            sender = text(event.get("sender")) if room.private else ""
            happened.add(Garbled(**self._about(sender, {**event, "event_id": f"{key}:garbled"}, room)), {})

    async def _retry(self, keys: set[tuple[str, str]], place: Place, happened: "_Happened") -> None:
        """Read what has waited for a key that is there now: it came in this sync, or in one before a crash."""
        for entry in [*place.waiting]:
            id, key, session, _ = entry
            if (id, session) not in keys and (key in self._tried or not self._encryption.knows(id, session)):
                continue
            self._tried.add(key)
            try:
                path = segments("v3", "rooms", id, "event", key)
                event = await self._patience.outlast(partial(self._homeserver.call, "GET", path), tries=1)
                room = await self._patience.outlast(partial(self._rooms.get, id), tries=1)
            except RetryLater as error:
                log.info("matrix.waiting_later", reason=error.reason)
                self._tried.discard(key)
                continue
            except Rejected as error:
                log.info("matrix.waiting_lost", reason=str(error))
                place.waiting.remove(entry)
                continue
            if (opened := self._encryption.decrypt(id, event)) is None:
                continue
            place.waiting.remove(entry)
            self._event(opened, room, place, happened)
        self._tried &= {entry[1] for entry in place.waiting}

    def _about(self, actor: str, event: Mapping[str, Any], room: Room) -> dict[str, Any]:
        return {
            "key": text(event.get("event_id")),
            "chat": ChatRef(ADAPTER, room.id),
            "actor": Actor(actor or self._me.user, anonymous=not actor),
            "at": when(event.get("origin_server_ts")),
            "private": room.private,
            "title": room.name,
        }

    def _left(self, id: str, told: Mapping[str, Any], place: Place, happened: "_Happened") -> None:
        place.invites.pop(id, None)
        place.behind.pop(id, None)
        self._rooms.forget(id)
        for event in items(fields(told, "timeline").get("events")):
            if isinstance(event, dict) and event.get("state_key") == self._me.user:
                key = event["event_id"] if is_id(event.get("event_id")) else f"left:{id}"
                actor = Actor(text(event.get("sender")) or self._me.user, anonymous=True)
                happened.add(Left(key, ChatRef(ADAPTER, id), actor, happened.now, False), event)


class _Happened:
    """What a sync has led to.

    It is handed on in portions, so that deliveries are noted in between; only the last one moves the cursor.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.over: set[str] = set()
        """Rooms to be left."""
        self.updates: list[Update | Unreadable] = []
        self.raw: dict[str, str] = {}

    def add(self, update: Update | None, event: Mapping[str, Any]) -> None:
        if update is not None:
            self.updates.append(update)
            self.raw[update.key] = kept(event)

    def batches(self, cursor: str) -> Iterator[Batch]:
        last = max(0, len(self.updates) - 1) // PORTION
        for number in range(last + 1):
            portion = self.updates[number * PORTION : (number + 1) * PORTION]
            yield Batch(portion, cursor if number == last else None, self.raw)


def _tells(answer: Mapping[str, Any]) -> bool:
    """Whether a sync had a reason to answer at once."""
    return any(any(fields(answer.get(part)).values()) for part in NEWS)


def _events(value: Any) -> list[dict[str, Any]]:
    """Those events of a timeline that have an id."""
    return [event for event in items(value) if isinstance(event, dict) and is_id(event.get("event_id"))]
