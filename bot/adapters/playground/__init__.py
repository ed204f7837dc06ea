"""The playground: the memory messenger in a web page, where a small invented community tries the bot out."""

from bot.adapters.playground.messenger import Person, Playground
from bot.adapters.playground.site import Dial, create
from bot.adapters.playground.words import WORDS

__all__ = ["WORDS", "Dial", "Person", "Playground", "create"]
