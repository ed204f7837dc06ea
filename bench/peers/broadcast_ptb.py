"""A broadcast as python-telegram-bot's tutorials show it: AIORateLimiter, and a loop over the recipients."""

import argparse
import asyncio
import contextlib

from telegram.error import Forbidden, TelegramError
from telegram.ext import AIORateLimiter, Application


async def broadcast(options: argparse.Namespace) -> None:
    limiter = AIORateLimiter(overall_max_rate=options.rate, overall_time_period=1, max_retries=5)
    builder = Application.builder().token(options.token).base_url(f"{options.api}/bot").rate_limiter(limiter)
    application = builder.build()
    async with application:
        for person in range(options.first, options.first + options.people):
            with contextlib.suppress(Forbidden, TelegramError):
                await application.bot.send_message(person, options.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("api", help="root of the Bot API server")
    parser.add_argument("token")
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--text", default="Big news for everybody")
    asyncio.run(broadcast(parser.parse_args()))


if __name__ == "__main__":
    main()
