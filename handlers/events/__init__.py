"""Events: announcing one, saying whether one comes, waiting lists, reminders, calendars."""

from bot.router import Router
from handlers.events import calendar, coming, finding, importing, organising, picture, telling, writing

router = Router()
for part in (writing, importing, finding, coming, organising, telling, calendar, picture):
    router.include(part.router)
