"""The adapter: Telegram as the core sees it."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
import telegram
from telegram.error import BadRequest, InvalidToken, TelegramError

from bot.adapters.telegram.faults import is_group, rejected_token, says, translate
from bot.adapters.telegram.reading import ADAPTER, Account
from bot.adapters.telegram.receiving import ALLOWED, MARGIN, Patience, Poll, next_offset, offset_of, understand
from bot.adapters.telegram.request import CALL_TIMEOUT, Request, Unclear
from bot.adapters.telegram.sending import (
    file_id,
    file_kind,
    keyboard,
    known_file,
    member,
    mention,
    menus,
    number,
    parameters,
    toast,
)
from bot.adapters.telegram.webhook import Inbox, secret_for
from bot.port import MOST_MENTIONED, Command, Limits, Refused, Rendered, RetryLater, Sent, Undeliverable, Upload
from bot.types import Batch, ChatRef, File, MessageRef, Pressed

log = structlog.get_logger()

API = "https://api.telegram.org"
MEGABYTE = 1024 * 1024
WEBHOOK_CONNECTIONS = 100
PORTION = 50
"""How many of the updates of a poll are one batch. Between two batches the database takes in what was delivered
meanwhile; a hundred at once would hold up every reply for the time they take."""

QUICK = 0.5
"""A poll that comes back empty sooner than this many seconds did not wait, and is not repeated at once."""

MOST_ASKED = 50
"""How many people are looked for in a group before those are named who are there."""

THREAD_GONE = ("message thread not found", "topic_deleted", "topic_id_invalid")
FILE_UNKNOWN = ("wrong file identifier", "wrong remote file", "file_reference", "can't use file of type")
NO_PHOTO = ("photo_invalid_dimensions", "image_process_failed", "photo_save_file_invalid")


class Telegram:
    """A bot account on Telegram.

    ``api`` is the root of the Bot API server, ``webhook`` the public https address under which Telegram reaches us
    (none: long polling), ``secret`` what it must repeat there (derived from the token when not given).
    ``poll_timeout`` is how long a poll waits for news, ``poll_margin`` how much longer before its connection counts as
    dead, ``call_timeout`` how long any other call may take, in seconds. ``sleep`` and ``jitter`` time the pauses after
    a fault.
    """

    name = ADAPTER

    def __init__(
        self,
        token: str,
        api: str | None = None,
        webhook: str | None = None,
        in_flight: int = 64,
        bulk_in_flight: int = 8,
        secret: str | None = None,
        *,
        rate: float = 30.0,
        chat_rate: float = 1.0,
        group_rate: float = 20 / 60,
        poll_timeout: int = 30,
        poll_margin: float = MARGIN,
        call_timeout: float = CALL_TIMEOUT,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = Limits(
            choices=24,
            text=4096,
            caption=1024,
            edits=True,
            rate=rate,
            chat_rate=chat_rate,
            group_rate=group_rate,
            in_flight=in_flight,
            bulk_in_flight=bulk_in_flight,
            upload=50 * MEGABYTE,
            download=20 * MEGABYTE,
        )
        root = (api or API).rstrip("/")
        # A few connections more than sends: acknowledgements and menus must not queue behind them.
        self._request = Request(token, root, connections=in_flight + bulk_in_flight + 8, timeout=call_timeout)
        self._polls = Request(token, root, connections=0, timeout=None)
        self._bot = telegram.Bot(token, base_url=f"{root}/bot", request=self._request, get_updates_request=self._polls)
        self._poll = Poll(self._polls, poll_timeout, poll_margin)
        self._patience = Patience(sleep, jitter)
        self._webhook = webhook
        self._secret = secret or secret_for(token)
        self._inbox = Inbox(self._secret)
        self._me: Account | None = None

    @property
    def answered_at(self) -> float | None:
        """When Telegram last answered a poll (Unix time in seconds).

        With a webhook, once that is set up, silence only means that nobody writes.
        """
        answered = self._patience.answered_at
        return time.time() if self._webhook and answered is not None else answered

    @property
    def webhook_path(self) -> str:
        """The path part of the public address, where the web app has to listen."""
        return urlsplit(self._webhook or "").path or "/"

    def batches(self, cursor: str | None) -> AsyncGenerator[Batch, None]:
        """Yield what happened, by webhook where one is set, else by polling from ``cursor``."""
        return self._hooked() if self._webhook else self._polled(cursor)

    async def receive(self, secret: str | None, body: bytes) -> int:
        """Take a webhook request: ``secret`` is its ``X-Telegram-Bot-Api-Secret-Token``. Returns the HTTP status."""
        return await self._inbox.receive(secret, body)

    async def _polled(self, cursor: str | None) -> AsyncGenerator[Batch, None]:
        me = await self._patience.outlast(self._introduce)
        await self._patience.outlast(self._bot.delete_webhook)
        offset = offset_of(cursor)
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            updates = await self._patience.outlast(partial(self._poll.ask, offset))
            following = next_offset(updates)
            if following is not None:
                offset = following
            elif clock() - began < QUICK:
                # Nothing came, or nothing that can be confirmed: asking again at once would spin.
                await self._patience.sleep(QUICK)
            for start in range(0, len(updates), PORTION):
                portion = updates[start : start + PORTION]
                happened, raw = understand(portion, me)
                reached = next_offset(portion)
                if happened:
                    yield Batch(happened, None if reached is None else str(reached), raw)

    async def _hooked(self) -> AsyncGenerator[Batch, None]:
        me = await self._patience.outlast(self._introduce)
        await self._patience.outlast(self._set_webhook)
        while True:
            async with self._inbox.gathered() as updates:
                happened, raw = understand(updates, me)
                if happened:
                    yield Batch(happened, None, raw)

    async def _set_webhook(self) -> None:
        await self._bot.set_webhook(
            self._webhook or "",
            allowed_updates=ALLOWED,
            secret_token=self._secret,
            max_connections=WEBHOOK_CONNECTIONS,
        )

    async def _introduce(self) -> Account:
        user = await self._bot.get_me()
        self._me = Account(user.id, user.username or "")
        return self._me

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        """Deliver a new message. Telegram knows no idempotency key: ``key`` is not used."""
        try:
            ready = parameters(chat, message, await self._username(message))
            if message.mentions and is_group(chat):
                message = replace(message, html=await self._with_mentions(chat, message))
            if chat.thread is None:
                return await self._post(chat, message, ready)
            try:
                return await self._post(chat, message, {**ready, "message_thread_id": number(chat.thread)})
            except BadRequest as error:
                if not says(error, *THREAD_GONE):
                    raise
                return await self._post(replace(chat, thread=None), message, ready)
        except TelegramError as error:
            raise translate(error, chat) from None

    async def _with_mentions(self, chat: ChatRef, message: Rendered) -> str:
        """The words, and the first names of those who are in the group, each a link to their account.

        A bot cannot list a group's members, so each is asked for; what goes wrong here only names fewer.
        """
        named: list[str] = []
        room = (self.limits.text if message.upload is None else self.limits.caption) - len(message.html) - 2
        for account in message.mentions[:MOST_ASKED]:
            try:
                found = await self._request.call(
                    "getChatMember", {"chat_id": number(chat.id), "user_id": number(account)}
                )
            except BadRequest:
                continue  # who has never been there
            except TelegramError:
                break
            name = member(found)
            if name is None or (room := room - len(name) - 2) < 0:
                continue
            named.append(mention(account, name))
            if len(named) == MOST_MENTIONED:
                break
        return "\n\n".join([message.html, ", ".join(named)]) if named else message.html

    async def _post(self, chat: ChatRef, message: Rendered, ready: dict[str, Any]) -> Sent:
        if message.upload is not None:
            return await self._post_file(chat, message, message.upload, ready)
        ready = {**ready, "text": message.html, "link_preview_options": {"is_disabled": True}}
        return _sent(chat, await self._request.call("sendMessage", ready, patient=message.again))

    async def _post_file(self, chat: ChatRef, message: Rendered, upload: Upload, ready: dict[str, Any]) -> Sent:
        if message.html:
            ready = {**ready, "caption": message.html}
        kind = file_kind(upload)
        if (before := known_file(upload)) is not None:
            kind, known = before
            method, again = f"send{kind.title()}", {**ready, kind: known}
            try:
                return _sent(chat, await self._request.call(method, again, patient=message.again), kind)
            except BadRequest as error:
                if not upload.content or not says(error, *FILE_UNKNOWN):
                    raise
        if len(upload.content) > self.limits.upload:
            raise Undeliverable(f"a file of {len(upload.content)} bytes is too large for Telegram")
        try:
            return await self._upload(chat, upload, ready, kind)
        except BadRequest as error:
            if kind == "document" or not says(error, *NO_PHOTO):
                raise
            return await self._upload(chat, upload, ready, "document")

    async def _upload(self, chat: ChatRef, upload: Upload, ready: dict[str, Any], kind: str) -> Sent:
        if kind == "document":
            # Or a table would come back as a song, and its id could not be sent again as a document.
            ready = {**ready, "disable_content_type_detection": True}
        files = {kind: (upload.name, upload.content, upload.media_type)}
        return _sent(chat, await self._request.call(f"send{kind.title()}", ready, files), kind)

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        """Change a delivered message; where it stands under a file, the caption. The file itself stays."""
        try:
            ready: dict[str, Any] = {
                "chat_id": number(target.chat.id),
                "message_id": number(target.id),
                "parse_mode": "HTML",
            }
            if message.buttons:
                ready["reply_markup"] = keyboard(message, await self._username(message))
            if message.upload is None:
                text = {**ready, "text": message.html, "link_preview_options": {"is_disabled": True}}
                try:
                    await self._request.call("editMessageText", text)
                    return
                except BadRequest as error:
                    if not says(error, "there is no text in the message to edit"):
                        raise
            await self._request.call("editMessageCaption", {**ready, "caption": message.html})
        except BadRequest as error:
            if not says(error, "message is not modified"):
                raise translate(error, target.chat) from None
        except TelegramError as error:
            raise translate(error, target.chat) from None

    async def retract(self, target: MessageRef) -> None:
        """Delete a message. Telegram refuses what is older than 48 hours."""
        try:
            await self._bot.delete_message(number(target.chat.id), number(target.id))
        except BadRequest as error:
            if not says(error, "message to delete not found", "message_id_invalid"):
                raise translate(error, target.chat) from None
        except TelegramError as error:
            raise translate(error, target.chat) from None

    async def acknowledge(self, press: Pressed, note: str) -> None:
        """Stop the button's spinner and show the note. Whatever goes wrong here is no loss."""
        if press.query is None:
            return
        ready = {"callback_query_id": press.query}
        if note:
            ready["text"] = toast(note)
        try:
            await self._request.call("answerCallbackQuery", ready)
        except TelegramError as error:
            log.debug("telegram.not_acknowledged", error=type(error).__name__)

    async def fetch(self, file: File) -> AsyncGenerator[bytes, None]:
        """Stream a file somebody sent, up to the 20 MB Telegram hands to bots."""
        nowhere = ChatRef(ADAPTER, "")
        if file.size is not None and file.size > self.limits.download:
            raise Undeliverable("the file is too large for Telegram to hand out")
        try:
            found = await self._request.call("getFile", {"file_id": file.id})
            path = found.get("file_path") if isinstance(found, dict) else None
            if not isinstance(path, str):
                raise Undeliverable("Telegram does not hand out this file")
            async for chunk in self._request.download(path, self.limits.download):
                yield chunk
        except TelegramError as error:
            raise translate(error, nowhere) from None

    async def publish(self, commands: Sequence[Command]) -> None:
        """Set the menu of every language, in private chats and in groups. Raises as ``send`` does."""
        scopes = (telegram.BotCommandScopeAllPrivateChats(), telegram.BotCommandScopeAllGroupChats())
        try:
            for language, menu in menus(commands).items():
                for scope in scopes:
                    await self._bot.set_my_commands(menu, scope=scope, language_code=language)
        except TelegramError as error:
            raise translate(error, ChatRef(ADAPTER, "")) from None

    async def check(self) -> str:
        """The account's name. Raises ``Refused`` for a wrong token, ``RetryLater`` when Telegram does not answer."""
        try:
            return f"@{(await self._introduce()).username}"
        except InvalidToken as error:
            raise Refused(rejected_token(error)) from None
        except TelegramError as error:
            fault = translate(error, ChatRef(ADAPTER, ""))
            raise (fault if isinstance(fault, RetryLater) else RetryLater(60, fault.reason)) from None

    async def close(self) -> None:
        """Send waiting webhook requests away and let go of every connection."""
        self._inbox.close()
        await self._request.shutdown()
        await self._polls.shutdown()

    async def _username(self, message: Rendered) -> str:
        """The bot's own name, asked for once, and only when a button leads to it."""
        if all(button.start is None for button in message.buttons):
            return ""
        return (self._me or await self._introduce()).username


def _sent(chat: ChatRef, result: Any, kind: str | None = None) -> Sent:
    if not isinstance(result, dict) or not isinstance(result.get("message_id"), int):
        raise Unclear("the answer names no message")
    known = file_id(result, kind) if kind else None
    return Sent(MessageRef(chat, str(result["message_id"])), f"{kind}:{known}" if known else None)
