"""Matrix: matrix-nio's encryption with an own loop around it, so that nothing is lost and nobody goes unheard."""

from bot.adapters.matrix.account import Login
from bot.adapters.matrix.adapter import Matrix

__all__ = ["Login", "Matrix"]
