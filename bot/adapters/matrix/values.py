"""Values of JSON that somebody else has made, each as what it should be: nothing they hold may surprise us."""

from typing import Any

LONGEST_ID = 255
"""Characters of an event's or a room's id (spec, size limits)."""


def text(value: Any) -> str:
    """What should be text; "" when it is none."""
    return value if isinstance(value, str) else ""


def fields(value: Any, *path: str) -> dict[str, Any]:
    """What should be an object, or the one at this path in it; an empty one when there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """What should be an array; an empty one when it is none."""
    return value if isinstance(value, list) else []


def is_id(value: Any) -> bool:
    """Whether this can be an id at all: every database and every path takes it."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable()


def room_id(value: Any) -> str | None:
    """What should be a room's id."""
    return value if isinstance(value, str) and value.startswith("!") and is_id(value) else None
