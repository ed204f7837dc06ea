"""The echo bot of aiogram's examples, against a Bot API server of one's choice."""

import argparse
import asyncio

from aiogram import Bot, Dispatcher
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.enums import ParseMode
from aiogram.types import Message

# Logging is left off: the example's INFO line per update would only slow it down.
dispatcher = Dispatcher()


@dispatcher.message()
async def echo(message: Message) -> None:
    await message.send_copy(chat_id=message.chat.id)


async def poll(api: str, token: str) -> None:
    session = AiohttpSession(api=TelegramAPIServer.from_base(api))
    bot = Bot(token=token, session=session, default=DefaultBotProperties(parse_mode=ParseMode.HTML))
    await dispatcher.start_polling(bot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("api", help="root of the Bot API server")
    parser.add_argument("token")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop, which the example does not ask for")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        uvloop.run(poll(options.api, options.token))
    else:
        asyncio.run(poll(options.api, options.token))


if __name__ == "__main__":
    main()
