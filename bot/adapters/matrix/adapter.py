"""The adapter: Matrix as the core sees it."""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from nio.crypto.attachments import decrypt_attachment

from bot.adapters.matrix import account, keys, sending, signing
from bot.adapters.matrix.account import Login
from bot.adapters.matrix.encryption import ENCRYPTED, MEGOLM, Encryption
from bot.adapters.matrix.homeserver import CALL_TIMEOUT, Homeserver, Rejected, segments
from bot.adapters.matrix.joining import Joining, Policy
from bot.adapters.matrix.patience import Patience
from bot.adapters.matrix.place import Place
from bot.adapters.matrix.reading import ADAPTER, Account
from bot.adapters.matrix.receiving import POLL, Receiving
from bot.adapters.matrix.rooms import Room, Rooms
from bot.adapters.matrix.values import text
from bot.port import Command, Limits, Refused, Rendered, RetryLater, Sent, Undeliverable
from bot.types import Batch, ChatRef, File, MessageRef, Pressed, Said

log = structlog.get_logger()

MEGABYTE = 1024 * 1024

SYNAPSE_RATE, SYNAPSE_BURST = 0.2, 10
"""Synapse's default for one account: messages a second over all rooms, and how many at once (``rc_message``)."""

SPARED = 2
"""How many of a burst are left unused: the server's clock and ours are two."""

ROOMY = 5.0
"""Messages a second from which on reactions can be offered; below they would hold up the messages themselves."""

MOST_REACTIONS = 10
AUTHORS = 1000
"""Messages whose author is remembered, to name them in an answer that shall ring."""

IN_FLIGHT, BULK_IN_FLIGHT = 32, 8


@dataclass(slots=True)
class Connected:
    """A device that is logged in, and what it knows."""

    me: Account
    homeserver: Homeserver
    rooms: Rooms
    encryption: Encryption
    joining: Joining
    session: account.Session


class Matrix:
    """An account on Matrix, end-to-end encrypted.

    ``login`` says which, ``folder`` holds its device's keys. ``invites`` is whose invitations are accepted (see
    ``Policy``), ``rate`` and ``burst`` what its homeserver allows, ``reactions`` whether choices are offered as
    reactions too (``None``: where the rate leaves room). ``reset`` replaces cross-signing keys that are not ours.
    ``sleep`` and ``jitter`` time the pauses after a fault, ``poll`` is how long a sync waits for news, and ``timeout``
    how long any answer may take beyond that, in seconds.
    """

    name = ADAPTER

    def __init__(
        self,
        login: Login,
        folder: Path,
        *,
        invites: str = "all",
        rate: float = SYNAPSE_RATE,
        burst: int = SYNAPSE_BURST,
        reactions: bool | None = None,
        reset: bool = False,
        display_name: str | None = None,
        poll: float = POLL,
        timeout: float = CALL_TIMEOUT,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = Limits(
            choices=0,
            text=4000,
            caption=4000,
            edits=True,
            rate=rate,
            chat_rate=max(rate, burst),  # only the sum over all rooms counts
            group_rate=max(rate, burst),
            in_flight=IN_FLIGHT,
            bulk_in_flight=BULK_IN_FLIGHT,
            upload=50 * MEGABYTE,
            download=20 * MEGABYTE,
            burst=max(1, burst - SPARED),
            begins=True,
            sign="!",
            polls=True,
        )
        self._login = login
        self._folder = folder
        self._invites = invites
        self._reactions = rate >= ROOMY if reactions is None else reactions
        self._reset = reset
        self._display_name = display_name
        self._poll = poll
        self._timeout = timeout
        self._patience = Patience(sleep, jitter)
        self._connecting = asyncio.Lock()
        self._connected: Connected | None = None
        self._offers: set[asyncio.Task[None]] = set()
        self._authors: OrderedDict[str, str] = OrderedDict()

    @property
    def answered_at(self) -> float | None:
        """When the homeserver last answered (Unix time in seconds)."""
        return None if self._connected is None else self._connected.homeserver.answered_at

    # -- receiving ------------------------------------------------------------------------------------------

    async def batches(self, cursor: str | None) -> AsyncGenerator[Batch, None]:
        """Yield what happened from the sync token on that the cursor holds."""
        try:
            here = await self._patience.outlast(self._connect)
            await self._patience.outlast(partial(self._join_in, here))
            upkeep = partial(self._upkeep, here)
            receiving = Receiving(
                here.homeserver, here.encryption, here.rooms, here.joining, here.me, self._patience, upkeep, self._poll
            )
            async for batch in receiving.batches(Place.read(cursor)):
                self._remember_authors(batch)
                yield batch
        except Rejected as error:
            raise Refused(f"the homeserver does not let labbot read: {error}") from None

    async def _connect(self) -> Connected:
        """Log in, once, and open the keys. Raises ``Refused`` and ``RetryLater``."""
        async with self._connecting:
            if self._connected is None:
                session = await account.sign_in(self._login, self._folder)
                try:
                    self._connected = await self._settle_in(session)
                except BaseException:  # or the next try would open the same keys a second time
                    await session.close()
                    raise
            return self._connected

    async def _settle_in(self, session: account.Session) -> Connected:
        """Make a device that is logged in a trusted one, and put together what it works with."""
        homeserver, olm, user = session.homeserver, session.olm, session.account.user_id
        homeserver.timeout = self._timeout
        trust = await signing.establish(olm, homeserver, self._folder, password=self._login.password, reset=self._reset)
        me = Account(user, await self._named(homeserver, user))
        log.info("matrix.connected", trusted=trust.trusted, explanation=trust.explanation)
        rooms = Rooms(homeserver, user, olm.store.load_encrypted_rooms(), partial(keys.note_encrypted, olm))
        encryption = Encryption(olm, homeserver, rooms)
        joining = Joining(homeserver, rooms, user, Policy(self._invites, user), self._patience)
        return Connected(me, homeserver, rooms, encryption, joining, session)

    async def _named(self, homeserver: Homeserver, user: str) -> str | None:
        """The name in the account's profile; an account without one gets the lab's."""
        try:
            profile = await homeserver.call("GET", segments("v3", "profile", user))
            name = text(profile.get("displayname"))
            if self._display_name and name in ("", user.partition(":")[0].removeprefix("@")):
                path = segments("v3", "profile", user, "displayname")
                await homeserver.call("PUT", path, {"displayname": self._display_name})
                return self._display_name
        except Rejected:
            return None
        return name or None

    async def _join_in(self, here: Connected) -> None:
        """Learn which rooms are direct chats."""
        path = segments("v3", "user", here.me.user, "account_data", "m.direct")
        try:
            here.rooms.mark_direct(await here.homeserver.call("GET", path))
        except Rejected as error:
            if error.status != 404:
                raise

    async def _upkeep(self, here: Connected, answer: Mapping[str, Any]) -> None:
        """Keep enough one-time keys on the server; nio does nothing when none is left."""
        await keys.refill(
            here.session.olm,
            here.homeserver,
            answer.get("device_one_time_keys_count"),
            answer.get("device_unused_fallback_key_types"),
        )

    def _remember_authors(self, batch: Batch) -> None:
        for update in batch.updates:
            if isinstance(update, Said):
                self._authors[update.message.id] = update.actor.id
        while len(self._authors) > AUTHORS:
            self._authors.popitem(last=False)

    # -- sending --------------------------------------------------------------------------------------------

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        """Deliver a new message. ``key`` is its transaction id: sent again, it is the same event."""
        here, room = await self._at(chat, message.recipient)
        if message.poll is not None:
            id = await self._put(here, room, sending.POLL_START, sending.poll(chat, message), key)
            return Sent(MessageRef(chat, id))
        answered = None if message.reply_to is None else self._authors.get(message.reply_to)
        content = sending.message(chat, message, room, answered)
        file = None
        if message.upload is not None:
            content, file = await self._attached(here, room, content, message)
        id = await self._put(here, room, "m.room.message", content, key)
        if message.numbered and self._reactions:
            task = asyncio.create_task(self._offer(here, room, id, min(message.numbered, MOST_REACTIONS), key))
            self._offers.add(task)
            task.add_done_callback(self._offers.discard)
        return Sent(MessageRef(chat, id), file)

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        """Change a delivered message. A poll that people have answered in can only be ended."""
        here, room = await self._at(target.chat, message.recipient)
        if message.poll is not None:
            await self._put(here, room, sending.POLL_END, sending.poll_end(target.id, message), key)
            return
        await self._put(here, room, "m.room.message", sending.change(target.id, message), key)

    async def retract(self, target: MessageRef) -> None:
        """Take a delivered message away: its words are removed everywhere, that it was there stays to be seen."""
        here, room = await self._at(target.chat)
        path = segments("v3", "rooms", room.id, "redact", target.id, f"retract.{target.id}")
        try:
            await here.homeserver.call("PUT", path)
        except Rejected as error:
            if error.status != 404:
                raise await self._never(here, room.id, error) from None
        except Refused as error:
            raise RetryLater(60, str(error), everywhere=True) from None

    async def acknowledge(self, press: Pressed, note: str) -> None:
        """Matrix shows nobody a note that the others do not see."""

    async def fetch(self, file: File) -> AsyncIterator[bytes]:
        """Stream a file somebody sent; an encrypted one is opened as a whole."""
        try:
            here = await self._connect()
        except Refused as error:
            raise RetryLater(60, str(error)) from None
        told = json.loads(file.id)
        address = text(told.get("url")).removeprefix("mxc://").split("/")
        if len(address) != 2 or (file.size is not None and file.size > self.limits.download):
            raise Undeliverable("the file is too large, or has no address")
        stream = here.homeserver.download(address[0], address[1], self.limits.download)
        if "key" not in told:
            async for chunk in stream:
                yield chunk
            return
        whole = b"".join([chunk async for chunk in stream])
        try:
            yield decrypt_attachment(whole, told["key"]["k"], told["hashes"]["sha256"], told["iv"])
        except Exception as error:
            raise Undeliverable(f"the file cannot be opened: {type(error).__name__}") from None

    async def publish(self, commands: Sequence[Command]) -> None:
        """Matrix has no menu of commands."""

    async def check(self) -> str:
        """The account's name, and whether its device is trusted. Changes nothing."""
        try:
            found = await account.look(self._login, self._folder)
        except Rejected as error:
            raise Refused(f"the homeserver says no: {error}") from None
        if found is None:
            return f"{self._login.user} (not logged in yet: the first start does that)"
        homeserver = Homeserver(found.url, found.access_token)
        try:
            trust = await signing.trust(
                homeserver, found.user_id, found.device_id, account.identity(found, self._folder)
            )
        finally:
            await homeserver.close()
        if not trust.trusted:
            raise Refused(f"{found.user_id}: {trust.explanation}")
        return f"{found.user_id}. {trust.explanation}{self._rates(found.user_id)}"

    def _rates(self, user: str) -> str:
        """What an operator can do about Synapse's default rate."""
        if self.limits.rate > SYNAPSE_RATE:
            return ""
        return (
            f"\n  It may send {self.limits.rate} messages a second, which is what Synapse allows an account by itself. "
            "An administrator of the homeserver lifts that:\n"
            f"  POST /_synapse/admin/v1/users/{user}/override_ratelimit "
            '{"messages_per_second": 0, "burst_count": 0}\n'
            "  and labbot is told so: LABBOT_MATRIX_RATE=50 LABBOT_MATRIX_BURST=100"
        )

    async def close(self) -> None:
        """Let go of every connection, and of the keys."""
        for task in self._offers:
            task.cancel()
        await asyncio.gather(*self._offers, return_exceptions=True)
        if self._connected is not None:
            await self._connected.joining.close()
            await self._connected.session.close()
            self._connected = None

    # -- the way there --------------------------------------------------------------------------------------

    async def _at(self, chat: ChatRef, recipient: str | None = None) -> tuple[Connected, Room]:
        """The room of a chat, in which nobody but ``recipient`` is. Raises ``RetryLater`` and ``Undeliverable``."""
        try:
            here = await self._connect()
        except (Refused, Rejected) as error:  # receiving ends with it, and tells the operator
            raise RetryLater(60, str(error), everywhere=True) from None
        try:
            if chat.id.startswith("@"):
                begun = ChatRef(ADAPTER, await self._begin(here, chat.id))
                raise Undeliverable("a private chat begins", moved_to=begun)
            room = await here.rooms.get(chat.id)
            if recipient is not None and room.others != [recipient]:
                here.rooms.forget(chat.id)  # one that we have just made may be remembered without whom it is for
                room = await here.rooms.get(chat.id)
                if room.others != [recipient]:
                    raise Undeliverable("others are in the private chat", gone=recipient not in room.others)
            return here, room
        except Refused as error:
            raise RetryLater(60, str(error), everywhere=True) from None
        except Rejected as error:
            if not error.closed:
                raise RetryLater(60, f"the room cannot be read: {error}") from None
            raise Undeliverable(f"the room cannot be read: {error}", gone=True) from None

    async def _begin(self, here: Connected, user: str) -> str:
        """A private chat with somebody, the one there is or a new one, encrypted."""
        for id in here.rooms.direct.get(user, []):
            try:
                room = await here.rooms.get(id)
            except Rejected:
                continue
            # The list of direct chats is made of what others have said: it is believed where nobody can overhear.
            if room.private and room.others == [user] and room.encrypted and room.invite_only:
                return id
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": MEGOLM}}
        try:
            made = await here.homeserver.call(
                "POST",
                "/v3/createRoom",
                {
                    "preset": "trusted_private_chat",
                    "is_direct": True,
                    "invite": [user],
                    "initial_state": [encryption],
                },
            )
        except Rejected as error:
            raise RetryLater(60, f"no private chat can be made: {error}") from None
        id = text(made.get("room_id"))
        if not id:
            raise RetryLater(60, "the new room has no id")
        # At once: whatever fails from here on, the next try finds this room.
        here.rooms.direct.setdefault(user, []).append(id)
        try:
            await here.joining.mark_direct(user, id)
        except (RetryLater, Rejected) as error:
            log.info("matrix.direct_unmarked", reason=str(error))
        return id

    async def _put(self, here: Connected, room: Room, kind: str, content: Mapping[str, Any], key: str) -> str:
        """Send an event, encrypted where the room is; its id. A reaction is readable everywhere (spec)."""
        sending.bounded(content, room.encrypted)
        try:
            if room.encrypted and kind != "m.reaction":
                content, kind = await here.encryption.encrypt(room, kind, content), ENCRYPTED
            path = segments("v3", "rooms", room.id, "send", kind, key)
            answer = await here.homeserver.call("PUT", path, content)
        except Rejected as error:
            raise await self._never(here, room.id, error) from None
        except Refused as error:
            raise RetryLater(60, str(error), everywhere=True) from None
        except RetryLater as error:
            # The transaction id makes a repetition harmless, so nobody has to be unsure.
            raise RetryLater(error.after, error.reason, everywhere=error.everywhere) from None
        id = answer.get("event_id")
        if not isinstance(id, str):
            raise RetryLater(5, "the answer names no event")
        return id

    async def _never(self, here: Connected, room: str, error: Rejected) -> Undeliverable | RetryLater:
        """Why an event is refused for ever, and whether the whole room is closed to us."""
        here.rooms.forget(room)
        if error.status in (403, 404) and not error.closed:
            return RetryLater(60, f"the homeserver says no: {error}")
        gone = error.status == 404
        if error.status == 403:
            try:
                found = await here.rooms.get(room)
                gone = found.members.get(here.me.user) != "join"
            except Rejected as refused:
                gone = refused.closed
            except RetryLater:
                pass
        return Undeliverable(f"the homeserver says no: {error}", gone=gone)

    async def _attached(
        self, here: Connected, room: Room, content: dict[str, Any], message: Rendered
    ) -> tuple[dict[str, Any], str]:
        upload = message.upload
        assert upload is not None
        if len(upload.content) > self.limits.upload:
            raise Undeliverable(f"a file of {len(upload.content)} bytes is too large")
        if upload.sent_as is not None and (kept := json.loads(upload.sent_as)).get("sealed") == room.encrypted:
            return sending.attached(content, upload, kept["as"]), upload.sent_as
        try:
            if room.encrypted:
                ciphertext, file = sending.sealed(upload.content)
                address = await here.homeserver.upload("file", "application/octet-stream", ciphertext)
                kept_as: dict[str, Any] = {"file": {**file, "url": address}}
            else:
                kept_as = {"url": await here.homeserver.upload(upload.name, upload.media_type, upload.content)}
        except Rejected as error:
            raise Undeliverable(f"the homeserver does not keep the file: {error}") from None
        except Refused as error:
            raise RetryLater(60, str(error), everywhere=True) from None
        return sending.attached(content, upload, kept_as), json.dumps({"sealed": room.encrypted, "as": kept_as})

    async def _offer(self, here: Connected, room: Room, target: str, choices: int, key: str) -> None:
        """Put the numbers under a message as reactions, so that one press chooses. Typing works without them."""
        for position in range(choices):
            content = sending.reaction(target, position)
            try:
                await self._put(here, room, "m.reaction", content, f"{key}.{position}")
            except (RetryLater, Undeliverable) as error:
                log.debug("matrix.not_offered", reason=error.reason)
                return
