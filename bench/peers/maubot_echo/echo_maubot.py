"""An echo plugin for maubot."""

from maubot import MessageEvent, Plugin
from maubot.handlers import command


class Echo(Plugin):
    @command.passive("^.+$")
    async def echo(self, event: MessageEvent, _match: str) -> None:
        await event.respond(event.content.body)
