"""Joining and leaving rooms: invitations by policy, tried again until they work, and rooms nobody else is in."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from bot.adapters.matrix.homeserver import Homeserver, Rejected, segments
from bot.adapters.matrix.patience import Patience
from bot.adapters.matrix.rooms import Rooms
from bot.adapters.matrix.values import items, text
from bot.port import Refused

log = structlog.get_logger()

AT_ONCE = 5
"""Rooms that are joined or left at the same time; over federation one may take a minute."""

LONGEST_PAUSE = 900.0
"""Seconds between two tries to join the same room at most: its server may be gone for ever."""

MOST_INVITATIONS = 1000
"""Rooms still to be joined or left that are remembered; whoever asks beyond that has to ask again."""

Invitations = dict[str, list[str]]
"""Rooms still to be joined, and for each: a server to join it by, and who wants to chat directly (or "")."""


def server_of(id: str) -> str:
    """The server in a Matrix id; room ids from version 12 on have none."""
    return id.partition(":")[2]


class Policy:
    """Whose invitations are accepted: ``all``, ``homeserver`` (people of our own), or a list of people and servers."""

    def __init__(self, words: str, me: str) -> None:
        self._all = words == "all"
        listed = (part.strip() for part in words.split(","))
        self._listed = {server_of(me)} if words == "homeserver" else {part for part in listed if part}

    def welcomes(self, inviter: str) -> bool:
        """Whether this person may invite the bot."""
        return self._all or inviter in self._listed or server_of(inviter) in self._listed


class Joining:
    """Follows invitations. What is still to be joined is the caller's to keep."""

    def __init__(self, homeserver: Homeserver, rooms: Rooms, me: str, policy: Policy, patience: Patience) -> None:
        self._homeserver = homeserver
        self._rooms = rooms
        self._me = me
        self._policy = policy
        self._patience = patience
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._hopeless: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._marking = asyncio.Lock()

    def invited(self, id: str, stripped: Sequence[Any], invitations: Invitations) -> None:
        """Somebody asks us into a room: the one event about ourselves in its stripped state says who.

        That state comes from their server, which may have put more of them there; of those none is believed.
        """
        own = [
            event
            for event in stripped
            if isinstance(event, dict) and (event.get("type"), event.get("state_key")) == ("m.room.member", self._me)
        ]
        content = own[0].get("content") if own else None
        if not isinstance(content, dict) or content.get("membership") != "invite":
            return
        inviter = text(own[0].get("sender"))
        if len(own) > 1 or not self._policy.welcomes(inviter):
            log.info("matrix.invitation_declined")
            invitations.pop(id, None)
            self.leave(id)
        elif len(invitations) >= MOST_INVITATIONS:
            log.warning("matrix.too_many_invitations", most=MOST_INVITATIONS)
        else:
            invitations[id] = [server_of(inviter), inviter if content.get("is_direct") is True else ""]
            self._hopeless.discard(id)

    def follow(self, invitations: Invitations) -> None:
        """Go where we are asked to; what turned out to be impossible is struck from the list."""
        for id in self._hopeless & invitations.keys():
            del invitations[id]
        for id, (via, direct) in invitations.items():
            if id not in self._tasks:
                self._begin(id, self._join(id, via, direct))

    def leave(self, id: str) -> None:
        """Leave a room, or decline to come."""
        if id not in self._tasks and len(self._tasks) < 2 * MOST_INVITATIONS:
            self._begin(id, self._leave(id))

    async def mark_direct(self, user: str, id: str) -> None:
        """Note in the account's own list that this is our direct chat with somebody. Raises as a call does."""
        path = segments("v3", "user", self._me, "account_data", "m.direct")
        async with self._marking:
            try:
                listed: Mapping[str, Any] = await self._homeserver.call("GET", path)
            except Rejected as error:
                if error.status != 404:
                    raise
                listed = {}
            rooms = items(listed.get(user))
            if id not in rooms:
                listed = {**listed, user: [*rooms, id]}
                await self._homeserver.call("PUT", path, listed)
            self._rooms.mark_direct(listed)

    async def close(self) -> None:
        """Stop trying."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            try:
                await work
            except Refused:
                pass  # the sync hears it too, and tells the operator
            finally:
                work.close()

        task = asyncio.create_task(quietly())
        self._tasks[id] = task
        task.add_done_callback(lambda _: self._tasks.pop(id, None))

    async def _join(self, id: str, via: str, direct: str) -> None:
        async def join() -> None:
            async with self._places:  # only for this try: five that fail for ever must not hold up the others
                if direct:
                    await self.mark_direct(direct, id)
                query = {"server_name": via, "via": via} if via else None
                await self._homeserver.call("POST", segments("v3", "join", id), query=query, timeout=120)

        try:
            await self._patience.outlast(join, LONGEST_PAUSE)
        except Rejected as error:
            # Over federation a refusal may be a server's mood, but one that is repeated for ever helps nobody.
            log.warning("matrix.not_joined", reason=str(error))
            self._hopeless.add(id)

    async def _leave(self, id: str) -> None:
        for step in ("leave", "forget"):
            try:
                await self._patience.outlast(partial(self._depart, id, step), LONGEST_PAUSE)
            except Rejected as error:
                log.info("matrix.not_left", step=step, reason=str(error))

    async def _depart(self, id: str, step: str) -> None:
        async with self._places:
            await self._homeserver.call("POST", segments("v3", "rooms", id, step))
