"""The pacer: how fast a messenger may be written to, and replies before broadcasts."""

from bot.clock import Time
from bot.port import Limits

CHAT_WINDOW = 3.0
"""Seconds over which a private chat's rate is kept: a few messages may follow each other closely."""

GROUP_WINDOW = 60.0
"""Seconds over which a group's rate is kept; Telegram counts 20 a minute."""

SLOWER = 0.95
"""What remains of the pace when the messenger says that it was too fast."""

SLOWEST = 0.1
"""The least that remains of it."""

REFUSED = 3
"""So many chats refused, almost one after the other, are not their own limits any more but the bot's."""

RELIEF = 0.05
"""What each message that is taken counts against that: below one refusal in twenty the bot's limit is not reached."""

CREEP = 0.005
"""How much of the full rate the pace wins back in a second."""


class Pacer:
    """Says when the next message may go.

    Over all chats messages are spaced evenly, and the pace learns: slower when the messenger complains, then up again
    little by little. Broadcasts have what replies leave over; the burst a messenger allows after a silence is for
    replies alone. In one chat a window of time holds a number of messages. Nothing is remembered of a chat that has
    been quiet for the length of its window.
    """

    def __init__(self, limits: Limits, time: Time) -> None:
        self._time = time
        self._spacing = 1 / limits.rate
        self._saved = (limits.burst - 1) * self._spacing
        self._windows = {
            True: (max(1, round(limits.chat_rate * CHAT_WINDOW)), CHAT_WINDOW),
            False: (max(1, round(limits.group_rate * GROUP_WINDOW)), GROUP_WINDOW),
        }
        self._next = 0.0
        self._pace = 1.0
        self._learned_at = time.monotonic()
        self._paused_until = 0.0
        self._refused: set[int] = set()
        self._doubt = 0.0
        self._chats: dict[bool, dict[int, list[float]]] = {True: {}, False: {}}
        self._forget_at = {True: 0.0, False: 0.0}

    def pause(self, seconds: float) -> None:
        """The messenger asks for silence everywhere."""
        self._paused_until = max(self._paused_until, self._time.monotonic() + seconds)

    def too_fast(self) -> None:
        """The messenger has refused something for its rate. What was under way at once counts once."""
        if self._time.monotonic() >= self._paused_until:
            self._pace = max(SLOWEST, self.pace * SLOWER)
            self._learned_at = self._time.monotonic()

    def refused(self, chat: int, seconds: float) -> None:
        """A message to this chat was refused for its rate; the messenger does not say whether the chat's or the bot's.

        A limit of the bot refuses chat after chat, so several of them tell: then everything pauses, the pace learns.
        """
        if self._time.monotonic() < self._paused_until:
            self.pause(seconds)
        elif chat not in self._refused:
            self._refused.add(chat)
            self._doubt += 1
            if self._doubt >= REFUSED:
                self._settle_doubt()
                self.too_fast()
                self.pause(seconds)

    def accepted(self) -> None:
        """A message was taken without complaint."""
        if self._doubt:
            self._doubt -= RELIEF
            if self._doubt <= 0:
                self._settle_doubt()

    def _settle_doubt(self) -> None:
        self._refused.clear()
        self._doubt = 0.0

    @property
    def pace(self) -> float:
        """The part of the full rate that is used now."""
        return min(1.0, self._pace + CREEP * (self._time.monotonic() - self._learned_at))

    def ready_at(self, bulk: bool = False) -> float:
        """The moment (monotonic seconds) from which a message of this class may go."""
        return max(self._paused_until, self._next - (0.0 if bulk else self._saved))

    def chat_ready_at(self, chat: int, private: bool) -> float:
        """The moment from which this chat takes another message."""
        sent = self._chats[private].get(chat)
        most, window = self._windows[private]
        return 0.0 if sent is None or len(sent) < most else sent[0] + window

    def take(self, chat: int, private: bool) -> None:
        """A message goes now."""
        now = self._time.monotonic()
        spacing = self._spacing / self.pace
        self._next = max(self._next, now - spacing) + spacing
        most, window = self._windows[private]
        chats = self._chats[private]
        sent = chats.setdefault(chat, [])
        sent.append(now)
        del sent[:-most]
        if now >= self._forget_at[private]:
            for known in [known for known, sent in chats.items() if sent[-1] + window < now]:
                del chats[known]
            self._forget_at[private] = now + window
