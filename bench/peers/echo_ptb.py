"""The echo bot of python-telegram-bot's tutorial, against a Bot API server of one's choice."""

import argparse

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters

# Logging is left off: the tutorial's INFO line per request would only slow it down.


async def echo(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    if update.message and update.message.text:
        await update.message.reply_text(update.message.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("api", help="root of the Bot API server")
    parser.add_argument("token")
    parser.add_argument("--concurrent", type=int, help="concurrent_updates; the library's default is one at a time")
    options = parser.parse_args()
    builder = Application.builder().token(options.token).base_url(f"{options.api}/bot")
    if options.concurrent:
        builder = builder.concurrent_updates(options.concurrent)
    application = builder.build()
    application.add_handler(MessageHandler(filters.TEXT & ~filters.COMMAND, echo))
    application.run_polling(allowed_updates=Update.ALL_TYPES)


if __name__ == "__main__":
    main()
