"""What the bot can do. Each module here is one feature with a ``router`` of its own."""

import importlib
import pkgutil

from bot.router import Router


def assemble() -> Router:
    """Every feature's functions in one router. Raises ``Duplicate`` when two claim the same name."""
    router = Router()
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        router.include(importlib.import_module(f"{__name__}.{module.name}").router)
    return router
