"""Announcements: what the lab writes to many, whom it reaches, who wants to hear what, and what they ask back."""

from storage.announcements import asking, audience, ledger, merging, subscribing, writing

__all__ = ["asking", "audience", "ledger", "merging", "subscribing", "writing"]
