"""Polls: asking in one line or step by step, voting in groups and in private, closing, and what comes of it."""

from bot.router import Router
from handlers.polls import (
    asking,
    changing,
    closing,
    drafting,
    filling,
    finding,
    keeping,
    mirroring,
    opening,
    proposing,
    voting,
)

router = Router()
for part in (asking, drafting, changing, voting, filling, opening, finding, proposing, mirroring, closing, keeping):
    router.include(part.router)
