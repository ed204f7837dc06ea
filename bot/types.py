"""What travels between messengers and the core: who, where, and what happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo


@dataclass(frozen=True, slots=True)
class ChatRef:
    """A conversation on one messenger: a private chat, a group or a room.

    ``id`` is the messenger's own id as text. ``thread`` names a topic or thread inside it, if any; two
    references that differ only in their thread are the same chat.
    """

    adapter: str
    id: str
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message the messenger knows, in the chat it stands in."""

    chat: ChatRef
    id: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, as the messenger tells it. Only ``id`` is ever stored without being asked for.

    ``locale`` is the client's language as a BCP 47 tag. ``anonymous`` marks senders that are no person
    (a channel, Telegram's anonymous group administrators): they hold no rights and no votes. ``admin`` is true for
    somebody who at this moment may set up the room it happens in, where the messenger tells.
    """

    id: str
    locale: str | None = None
    anonymous: bool = False
    admin: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file somebody sent, by reference: ``Adapter.fetch`` streams its bytes.

    ``size`` is in bytes, ``None`` when the messenger does not tell. ``content`` is there when a function is
    registered for such files (``Router.file``) and they could be fetched in time.
    """

    adapter: str
    id: str
    name: str
    media_type: str
    size: int | None = None
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Happened:
    """What every update has: the messenger's id of it, the place, the person and the time (UTC).

    ``key`` is unique per adapter: an update delivered twice has the same key. ``private`` is true in a chat
    of one person and the bot. ``title`` is a group's name.
    """

    key: str
    chat: ChatRef
    actor: Actor
    at: datetime
    private: bool
    title: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Said(Happened):
    """Somebody wrote a message. ``text`` is plain text, without markup; a caption counts as text.

    ``command`` is the bare name when the messenger marks the text as a command for this bot ("idea" for
    ``/idea@labbot Foo``), and ``text`` is then what follows it. ``mentioned`` is true when a group message
    names the bot. ``quoted`` is the text of the message this one answers, where the messenger tells it. Where the
    messenger keeps formatting beside the text, ``marked`` is the text with it, as Markdown and tags would be typed ("":
    there is none); ``quoted`` has it always.
    """

    message: MessageRef
    text: str
    command: str | None = None
    reply_to: MessageRef | None = None
    files: tuple[File, ...] = ()
    mentioned: bool = False
    quoted: str = ""
    marked: str = ""


@dataclass(frozen=True, slots=True)
class Pressed(Happened):
    """Somebody chose: the ``position`` (from 0) of a choice under one of the bot's messages, -1 if it is none.

    ``revision`` tells which version of the message's choices was on the screen, ``None`` when the messenger
    cannot tell. ``query`` is what ``Adapter.acknowledge`` needs to answer the press. ``mark`` names a press that
    stays to be seen and can be taken back, as a reaction can: that comes as ``Retracted`` with this id.
    """

    message: MessageRef
    position: int
    revision: int | None = None
    query: str | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Voted(Happened):
    """Somebody answered in the messenger's own poll that one of the bot's messages is (see ``Message.poll``).

    ``positions`` (from 0) are what they chose, in their order and as often as they said it; none takes back what they
    chose before, and ``None`` is an answer that makes no sense. ``at`` is when it was sent: of several answers the
    latest counts. It can be taken back: that comes as ``Retracted`` with the id ``mark``.
    """

    message: MessageRef
    positions: tuple[int, ...] | None
    mark: str


@dataclass(frozen=True, slots=True)
class Ended(Happened):
    """Somebody who may has ended the messenger's own poll that one of the bot's messages is."""

    message: MessageRef


@dataclass(frozen=True, slots=True)
class Edited(Happened):
    """Somebody changed a message they had written; ``text`` is the whole new text."""

    message: MessageRef
    text: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Retracted(Happened):
    """Somebody took back a message they had written."""

    message: MessageRef


@dataclass(frozen=True, slots=True)
class Garbled(Happened):
    """Somebody wrote something that cannot be read yet: the key is missing. It comes again when it is there."""


@dataclass(frozen=True, slots=True)
class Joined(Happened):
    """The bot can write in this chat from now on: added to a group, or unblocked by a person."""


@dataclass(frozen=True, slots=True)
class Left(Happened):
    """The bot cannot write in this chat any more: removed, blocked, or the chat is gone."""


@dataclass(frozen=True, slots=True)
class Moved(Happened):
    """The chat continues under another id; ``chat`` is the old one."""

    to: ChatRef


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An update the adapter could not understand: kept as it came, and passed over."""

    key: str
    raw: str
    error: str


Update = Said | Pressed | Voted | Ended | Edited | Retracted | Garbled | Joined | Left | Moved


@dataclass(frozen=True, slots=True)
class Batch:
    """Updates in the order they happened, and the cursor that is true once all of them are stored.

    ``raw`` holds each update as it came, by its key, so that one that fails can be kept. ``cursor`` is
    ``None`` where the messenger needs none (webhooks).
    """

    updates: Sequence[Update | Unreadable]
    cursor: str | None
    raw: Mapping[str, str] = field(default_factory=dict)


class Text:
    """Words whose language is not chosen yet; ``bot.text`` turns them into words. See its subclasses."""

    __slots__ = ()


class T(Text):
    """A translatable sentence with named places: ``T("Idea {number} is saved.", number="42")``.

    The sentence may use the small HTML of ``Rendered``; arguments are escaped. A ``str`` argument is shown as
    it is, an ``int`` or ``float`` as a number, a ``datetime`` as date and time and a ``date`` as a
    date in the reader's language, another ``Text`` in its translation.
    """

    __slots__ = ("args", "msgid")

    def __init__(self, msgid: str, /, **args: "Argument") -> None:
        self.msgid = msgid
        self.args = args


class N(Text):
    """A translatable sentence that depends on a count: ``N("{n} vote", "{n} votes", n=3)``."""

    __slots__ = ("args", "n", "plural", "singular")

    def __init__(self, singular: str, plural: str, /, *, n: int, **args: "Argument") -> None:
        self.singular = singular
        self.plural = plural
        self.n = n
        self.args: dict[str, Argument] = {"n": n, **args}


class Span(Text):
    """From one moment (UTC) to another, with the weekday: “Saturday, 5 December 2026, 18:00–21:00” on a zone's clock.

    From midnight to midnight it is days, without hours. ``short`` leaves out the year, and the end.
    """

    __slots__ = ("ends_at", "short", "starts_at", "zone")

    def __init__(self, starts_at: datetime, ends_at: datetime, zone: tzinfo, *, short: bool = False) -> None:
        self.starts_at = starts_at
        self.ends_at = ends_at
        self.zone = zone
        self.short = short


class Language(Text):
    """A language, by its BCP 47 tag, called as its reader's language calls it."""

    __slots__ = ("tag",)

    def __init__(self, tag: str) -> None:
        self.tag = tag


class Verbatim(Text):
    """Somebody's own words: never translated, always escaped."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words


class Formatted(Text):
    """Somebody's words that are the small HTML of ``Rendered`` already: shown as they are, never translated."""

    __slots__ = ("html",)

    def __init__(self, html: str) -> None:
        self.html = html


class Lines(Text):
    """Several texts one after the other."""

    __slots__ = ("between", "parts")

    def __init__(self, parts: "Sequence[Text]", between: str = "\n") -> None:
        self.parts = tuple(parts)
        self.between = between


Argument = str | int | float | date | Text


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing a person can choose under a message, by button or by typing its number.

    ``action`` and ``args`` say what happens then; they stay in the database and never travel. Instead of an
    action a choice can open a page (``url``) or the private chat with the bot (``start``, the payload of its
    start command).
    """

    label: Text
    action: str = ""
    args: tuple[str, ...] = ()
    url: str | None = None
    start: str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file on its way out: ``maker`` names a registered function that makes its bytes from ``args``.

    Without a maker it is a file that somebody sent: ``args`` are the messenger it was sent on and its id there.
    """

    name: str
    media_type: str
    maker: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mentions:
    """People whom a message in a group names, so that it rings for them.

    ``who`` names a registered function that tells their ids from ``args`` when the message is delivered. So nobody's
    account stands in what waits, and whoever does not want it any more by then is not named.
    """

    who: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What we say: a text, the choices under it, and a file if there is one.

    ``subject`` names the thing a message shows ("idea:42"), so that its copies can be found and kept true. The text
    is whole without the ``mentions``: a messenger adds those of them who are in the group. ``poll`` makes it the
    messenger's own poll (``Limits.polls``) with the text as its question: so many of the choices can be made in it,
    and without choices it is over. ``listed`` is how many of the first choices stand in the text with their numbers
    already: a messenger without buttons does not say them twice.
    """

    text: Text
    choices: tuple[Choice, ...] = ()
    subject: str | None = None
    attachment: Attachment | None = None
    mentions: Mentions | None = None
    poll: int | None = None
    listed: int = 0
