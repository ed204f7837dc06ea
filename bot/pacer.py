"""The pacer: how fast a messenger may be written to, and replies before broadcasts."""

from collections import deque

from bot.clock import Time
from bot.port import Limits

CHAT_WINDOW = 3.0
"""Seconds over which a private chat's rate is kept: a few messages may follow each other closely."""

GROUP_WINDOW = 60.0
"""Seconds over which a group's rate is kept; Telegram counts 20 a minute."""

BULK_SHARE = 0.8
"""The part of the rate that broadcasts may use; the rest stays free for replies."""


class Pacer:
    """Says when the next message may go.

    Over all chats messages are spaced evenly, but for the burst a messenger allows after a silence. In one chat a
    window of time holds a number of them. Nothing is remembered of a chat that has been quiet for that long.
    """

    def __init__(self, limits: Limits, time: Time) -> None:
        self._time = time
        self._spacing = 1 / limits.rate
        self._saved = (limits.burst - 1) * self._spacing
        self._windows = {
            True: (max(1, round(limits.chat_rate * CHAT_WINDOW)), CHAT_WINDOW),
            False: (max(1, round(limits.group_rate * GROUP_WINDOW)), GROUP_WINDOW),
        }
        self._next = {False: 0.0, True: 0.0}
        self._paused_until = 0.0
        self._chats: dict[int, deque[float]] = {}
        self._forget_at = 0.0

    def pause(self, seconds: float) -> None:
        """The messenger asks for silence everywhere."""
        self._paused_until = max(self._paused_until, self._time.monotonic() + seconds)

    def ready_at(self, bulk: bool) -> float:
        """The moment (monotonic seconds) from which a message of this class may go."""
        return max(self._paused_until, self._next[False] - self._saved, self._next[True] if bulk else 0.0)

    def chat_ready_at(self, chat: int, private: bool) -> float:
        """The moment from which this chat takes another message."""
        sent = self._chats.get(chat)
        most, window = self._windows[private]
        return 0.0 if sent is None or len(sent) < most else sent[0] + window

    def take(self, chat: int, private: bool, bulk: bool) -> None:
        """A message goes now."""
        now = self._time.monotonic()
        self._next[False] = max(self._next[False], now - self._spacing) + self._spacing
        if bulk:
            self._next[True] = max(self._next[True], now) + self._spacing / BULK_SHARE
        most, _ = self._windows[private]
        self._chats.setdefault(chat, deque(maxlen=most)).append(now)
        if now >= self._forget_at:
            quiet = [known for known, sent in self._chats.items() if sent[-1] + GROUP_WINDOW < now]
            for known in quiet:
                del self._chats[known]
            self._forget_at = now + GROUP_WINDOW
