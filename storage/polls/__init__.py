"""Polls: one question in every group, one count, one vote each."""

from storage.polls import asking, counting, due, electing, leaving, mirroring, tables, voting

__all__ = ["asking", "counting", "due", "electing", "leaving", "mirroring", "tables", "voting"]
