"""The port: what a messenger's adapter does for the core, and the two errors that may leave it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.types import Batch, ChatRef, File, MessageRef, Pressed

MOST_MENTIONED = 20
"""How many people one message names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a messenger can show, and how fast it may be used.

    ``choices`` is how many buttons fit under a message (0: none, choices become numbered lines), ``text`` the
    longest text and ``caption`` the longest text beside a file, both after markup is parsed, in UTF-16 code
    units; ``edits`` whether a sent message can be changed. Rates are messages a second: ``rate`` over all
    chats, ``chat_rate`` in one chat, ``group_rate`` in one group; ``burst`` is how many may go at once after a
    silence before the rate over all chats counts. ``in_flight`` is how many replies may be
    under way at once, each to another chat, ``bulk_in_flight`` how many messages of broadcasts. ``upload`` and
    ``download`` are the largest files in bytes. ``begins`` tells that the bot may begin a private chat: its id is
    the person's until ``send`` raises ``Undeliverable`` with ``moved_to``. ``sign`` is what a command begins with.
    ``polls`` tells that the messenger has polls of its own, as which ``Message.poll`` can be sent.
    """

    choices: int
    text: int
    caption: int
    edits: bool
    rate: float
    chat_rate: float
    group_rate: float
    in_flight: int
    bulk_in_flight: int
    upload: int
    download: int
    burst: int = 1
    begins: bool = False
    sign: str = "/"
    polls: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """A choice as it is shown: its words, and where it leads.

    With neither ``url`` nor ``start`` a press comes back as ``Pressed``. ``url`` opens a page. ``start`` opens
    the private chat with the bot, which then receives the command "start" with this text.
    """

    label: str
    url: str | None = None
    start: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way out. ``sent_as`` is what the messenger called it when it was uploaded before."""

    name: str
    media_type: str
    content: bytes
    sent_as: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message in its final words.

    ``html`` uses only ``b i u s code pre a blockquote``. ``revision`` names this version of the buttons and
    comes back in ``Pressed``. ``reply_to`` is the message this one answers; ``question`` asks the messenger to
    open its reply field for that message's author (Telegram's ForceReply). ``loud`` says that it should ring.
    ``numbered`` is how many choices stand in the words as numbered lines. ``recipient`` is the account whose private
    chat it is for: a messenger on which others can come into such a chat does not say it to them. ``again`` says that
    its answer got lost once; if it gets lost again, nobody will know whether it has arrived. ``mentions`` are
    accounts to be named after the words, as far as they are in the group: ``MOST_MENTIONED`` at most, each under the
    name that the messenger tells. Who is not there is not named, and only a new message names anybody. ``poll`` is how
    many of the buttons can be chosen in the messenger's own poll that this is; an edit without buttons ends it.
    """

    html: str
    buttons: tuple[Button, ...] = ()
    revision: int = 0
    reply_to: str | None = None
    question: bool = False
    loud: bool = False
    upload: Upload | None = None
    numbered: int = 0
    recipient: str | None = None
    again: bool = False
    mentions: tuple[str, ...] = ()
    poll: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a messenger calls a message it has taken, and a file that went with it."""

    message: MessageRef
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command for the messenger's own menu: bare name, one line of help, in one locale."""

    name: str
    help: str
    locale: str
    everyone: bool = True


class RetryLater(Exception):
    """Not now: try again after ``after`` seconds.

    ``unsure`` is true when the message may have arrived all the same (the answer got lost). ``everywhere`` is
    true when the whole messenger asks for a pause, not only this chat; ``too_fast`` when that is for our rate, and
    alone when the messenger does not tell whose rate it means, this chat's or the bot's.
    """

    def __init__(
        self, after: float, reason: str, *, unsure: bool = False, everywhere: bool = False, too_fast: bool = False
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.reason = reason
        self.unsure = unsure
        self.everywhere = everywhere
        self.too_fast = too_fast


class Undeliverable(Exception):
    """Never: this message cannot be delivered.

    ``gone`` is true when the whole chat cannot be written to any more (blocked, deleted, kicked). ``moved_to``
    names the chat's new id when the messenger has moved it.
    """

    def __init__(self, reason: str, *, gone: bool = False, moved_to: ChatRef | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gone = gone
        self.moved_to = moved_to


class Refused(Exception):
    """The messenger does not accept the account: a wrong or revoked token. Only an operator can help."""


class Adapter(Protocol):
    """A messenger. It is stateless towards the core: it is handed its cursor and never stores it.

    Only ``RetryLater`` and ``Undeliverable`` leave ``send``, ``edit`` and ``retract``; only ``Refused`` leaves
    ``batches``, which waits out every fault of the network by itself.
    """

    @property
    def name(self) -> str:
        """Its name in the database and in settings."""
        ...

    @property
    def limits(self) -> Limits:
        """What it can show and how fast."""
        ...

    @property
    def answered_at(self) -> float | None:
        """When the messenger last answered us (Unix time in seconds), for health checks."""
        ...

    def batches(self, cursor: str | None) -> AsyncIterator[Batch]:
        """Yield what happened. A batch is confirmed to the messenger only after the next one is asked for."""
        ...

    async def send(self, chat: ChatRef, message: Rendered, key: str) -> Sent:
        """Deliver a new message. ``key`` is stable over retries: where the messenger can, it arrives once.

        The chat it names in return may lack the thread, when that is gone and the message went beside it.
        """
        ...

    async def edit(self, target: MessageRef, message: Rendered, key: str) -> None:
        """Change a delivered message. A message that already looks like this is a success."""
        ...

    async def retract(self, target: MessageRef) -> None:
        """Take a delivered message away. A message that is already gone is a success."""
        ...

    async def acknowledge(self, press: Pressed, note: str) -> None:
        """Answer a press at once, with a short note or ""; a press that is too old is nothing."""
        ...

    def fetch(self, file: File) -> AsyncIterator[bytes]:
        """Stream a file somebody sent. Raises ``Undeliverable`` when it is too large or gone."""
        ...

    async def publish(self, commands: Sequence[Command]) -> None:
        """Show these commands in the messenger's own menu. Raises ``RetryLater`` or ``Undeliverable``."""
        ...

    async def check(self) -> str:
        """Ask the messenger who we are. Returns the account's name; raises ``Refused`` or ``RetryLater``."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
