"""The Telegram messenger: python-telegram-bot reads, aiohttp carries."""

from bot.adapters.telegram.adapter import Telegram

__all__ = ["Telegram"]
