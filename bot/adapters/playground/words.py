"""The words of the page itself; the core renders them in the reader's language."""

from collections.abc import Mapping

from bot.types import T, Text

WORDS: Mapping[str, Text] = {
    "title": T("labbot: the playground"),
    "intro": T(
        "The whole bot, for real, in an invented community. Write as one of them and see what the others see. "
        "No account, and nothing leaves this machine."
    ),
    "skip": T("To the conversations"),
    "look": T("Looks like"),
    "telegram": T("Telegram: buttons"),
    "matrix": T("Matrix: numbers and reactions"),
    "clock": T("Clock"),
    "now": T("Now"),
    "hour": T("+1 hour"),
    "day": T("+1 day"),
    "ahead": T("The clock is ahead."),
    "window": T("Window"),
    "eyes": T("Through whose eyes"),
    "organiser": T("organiser"),
    "chats": T("Conversations"),
    "private": T("labbot, private"),
    "thread": T("Messages"),
    "older": T("Older messages"),
    "newest": T("To the newest messages"),
    "unread": T("unread"),
    "new": T("New"),
    "edited": T("edited"),
    "gone": T("This message was taken back."),
    "empty": T("Nothing here yet. Write /start, or simply what your town lacks."),
    "message": T("Message as {name}", name="{name}"),
    "write": T("To the message field"),
    "send": T("Send message"),
    "reply": T("Reply"),
    "replying": T("In reply to:"),
    "edit": T("Edit"),
    "editing": T("Editing your message"),
    "retract": T("Take back"),
    "leave": T("Cancel"),
    "commands": T("Commands"),
    "react": T("Choose {number}: {label}", number="{number}", label="{label}"),
    "file": T("File: {name}", name="{name}"),
    "lost": T("The bot does not answer. Is it still running? Trying again …"),
    "refused": T("That did not work. Please reload the page."),
}
