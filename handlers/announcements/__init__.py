"""Announcements: written once, previewed, sent to everybody or to those who want it, and answered for."""

from bot.router import Router
from handlers.announcements import asking, audiences, correcting, sending, topics, writing

router = Router()
for part in (writing, audiences, sending, correcting, topics, asking):
    router.include(part.router)
