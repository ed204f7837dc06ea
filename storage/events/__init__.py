"""Events: when and where people meet, who comes, who waits for a place, and who is to be told when."""

from storage.events import calendars, importing, listing, moments, places, planning, reminding, tables

__all__ = ["calendars", "importing", "listing", "moments", "places", "planning", "reminding", "tables"]
