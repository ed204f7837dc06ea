"""Ideas: suggesting one in a message or step by step, finding, supporting, discussing and following them."""

from bot.router import Router
from handlers.ideas import authoring, deciding, discussing, finding, showing, suggesting

router = Router()
for part in (suggesting, finding, showing, discussing, authoring, deciding):
    router.include(part.router)
