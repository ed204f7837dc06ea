"""Announcements: written once, previewed, sent to everybody or to those who want it, and answered for."""

from bot.router import Router
from handlers.announcements import approving, asking, attaching, audiences, correcting, sending, timing, topics, writing

router = Router()
for part in (writing, attaching, audiences, timing, approving, sending, correcting, topics, asking):
    router.include(part.router)
