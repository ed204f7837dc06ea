"""The terminal demo: two people and the bot on the memory messenger, with everything else real."""

import asyncio
import re
import sys
import tempfile
from html import unescape
from pathlib import Path

from bot.adapters.memory import Memory
from bot.app import App
from bot.config import read_settings
from bot.types import ChatRef
from storage.engine import migrate

HELLO = """Two people talk to the bot here: Anna (in German) and Ben (in English).
Write as one of them; a number chooses what stands in [brackets].
  @ben   go on as Ben          @anna  go on as Anna          @quit  end
"""

SCRIPT = (
    "/start",
    "/idee Fahrradgarage am Nordmarkt",
    "Viele haben im Altbau keinen Platz. Ein trockener, abschließbarer Ort fehlt.",
    "1",
    "1",
    "@ben",
    "/ideas",
    "1",
    "1",
)
"""What is played when nobody is at the keyboard."""


async def play() -> None:
    """Run the bot on a throw-away database until the input ends."""
    with tempfile.TemporaryDirectory(prefix="labbot-demo-") as folder:
        path = Path(folder)
        settings = read_settings(
            _env_file=None, data=path, database_url="", name="KoSI-Lab", adapters=(), telegram_token=None
        )
        migrate(settings.database)
        messenger = Memory()
        app = App(settings, [messenger])
        stop = asyncio.Event()
        running = asyncio.create_task(app.run(stop))
        chats = {"anna": messenger.private("anna", "de"), "ben": messenger.private("ben", "en")}
        try:
            await _converse(app, messenger, chats)
        finally:
            stop.set()
            await running


async def _converse(app: App, messenger: Memory, chats: dict[str, ChatRef]) -> None:
    print(HELLO)
    lines = None if sys.stdin.isatty() else iter(SCRIPT)
    who, shown = "anna", dict.fromkeys(chats, 0)
    while True:
        if lines is None:
            line = await asyncio.to_thread(_read, f"{who.title()}: ")
        else:
            line = next(lines, None)
            print(f"{who.title()}: {line or '@quit'}")
        if line is None or line.strip() == "@quit":
            return
        if line.strip().startswith("@"):
            who = next((name for name in chats if name == line.strip()[1:].lower()), who)
        elif line.strip():
            messenger.say(who, chats[who], line.strip())
            await messenger.caught_up()
            await app.outboxes[messenger.name].idle.wait()
        seen = messenger.sees(chats[who])
        for message in seen[shown[who] :]:
            choices = "  ".join(f"[{number} {button.label}]" for number, button in enumerate(message.buttons, 1))
            print(f"\nlabbot: {_plain(message.html)}" + (f"\n        {choices}" if choices else "") + "\n")
        shown[who] = len(seen)


def _read(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


def _plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).replace("\n", "\n        ")
