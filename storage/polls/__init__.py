"""Polls: one question in every group, one count, one vote each."""

from storage.polls import asking, counting, mirroring, tables, voting

__all__ = ["asking", "counting", "mirroring", "tables", "voting"]
