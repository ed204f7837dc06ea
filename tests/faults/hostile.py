"""Updates that nobody has ever seen: real ones, bent in a thousand ways, and plain nonsense."""

import json
import random
from collections.abc import Iterator
from typing import Any

CANARY = "KANARIENVOGEL"
"""Stands in every text of a hostile update: no log may show it."""

_PERSON = {"id": 5_000_000_777, "is_bot": False, "first_name": CANARY, "username": CANARY, "language_code": "en"}
_PRIVATE = {"id": 5_000_000_777, "type": "private", "first_name": CANARY}
_GROUP = {"id": -1_002_000_000_777, "type": "supergroup", "title": CANARY, "is_forum": True}
_BOT = {"id": 110_201_543, "is_bot": True, "first_name": "labbot", "username": "labbot_test_bot"}
_TEXT = f"{CANARY} 🚲 needs a garage"


def _message(**more: Any) -> dict[str, Any]:
    return {"message_id": 77, "date": 1_795_000_000, "chat": _PRIVATE, "from": _PERSON} | more


_FILE = {"file_id": f"AgAD{CANARY}", "file_unique_id": "AgAD", "file_size": 9}
_REPLIED = _message(text=_TEXT, **{"from": _BOT})

REAL: tuple[dict[str, Any], ...] = (
    {"message": _message(text=_TEXT)},
    {
        "message": _message(
            text=f"/idea@labbot_test_bot {_TEXT}\n{_TEXT}",
            entities=[{"type": "bot_command", "offset": 0, "length": 21}],
        )
    },
    {
        "message": _message(
            chat=_GROUP,
            message_thread_id=5,
            is_topic_message=True,
            text=f"@labbot_test_bot {_TEXT}",
            entities=[{"type": "mention", "offset": 0, "length": 16}, {"type": "bold", "offset": 17, "length": 4}],
            reply_to_message=_REPLIED,
        )
    },
    {"message": _message(chat=_GROUP, sender_chat=_GROUP, text=f"/idea {_TEXT}")},
    {"message": _message(photo=[{**_FILE, "width": 9, "height": 9}], caption=_TEXT)},
    {"message": _message(document={**_FILE, "file_name": CANARY, "mime_type": "text/plain"}, caption=_TEXT)},
    {"message": _message(voice={**_FILE, "duration": 3, "mime_type": "audio/ogg"})},
    {"message": _message(location={"latitude": 51.5, "longitude": 7.4})},
    {"message": _message(contact={"phone_number": CANARY, "first_name": CANARY, "user_id": 9})},
    {
        "message": _message(
            poll={
                "id": "9",
                "question": _TEXT,
                "options": [{"persistent_id": "1", "text": _TEXT, "voter_count": 0}],
                "total_voter_count": 0,
                "is_closed": False,
                "is_anonymous": True,
                "type": "regular",
                "allows_multiple_answers": False,
                "allows_revoting": False,
                "members_only": False,
            }
        )
    },
    {"message": _message(forward_origin={"type": "hidden_user", "sender_user_name": CANARY, "date": 9}, text=_TEXT)},
    {"message": _message(chat=_GROUP, new_chat_members=[_BOT, _PERSON])},
    {"message": _message(chat={**_GROUP, "id": -777, "type": "group"}, migrate_to_chat_id=-1_002_000_000_778)},
    {"edited_message": _message(edit_date=1_795_000_001, text=f"/idea {_TEXT}")},
    {
        "callback_query": {
            "id": "4382bfdwdsb323b2d9",
            "from": _PERSON,
            "message": _message(text=_TEXT, **{"from": _BOT}),
            "chat_instance": "-3123123123",
            "data": "0:0",
        }
    },
    {
        "my_chat_member": {
            "chat": _GROUP,
            "from": _PERSON,
            "date": 1_795_000_000,
            "old_chat_member": {"user": _BOT, "status": "left"},
            "new_chat_member": {"user": _BOT, "status": "member"},
        }
    },
)


class Hostile:
    """A stream of hostile updates, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def updates(self, number: int, *, honest_ids: bool = False) -> Iterator[Any]:
        """So many of them; with ``honest_ids`` each is an object whose id the messenger gives."""
        for count in range(number):
            update: Any = self._dice.choice(REAL)
            if not honest_ids:
                update = {"update_id": 700_000_000 + count, **update}
            update = self.bent(update)
            if honest_ids:
                if not isinstance(update, dict):
                    update = {"message": update}
                update.pop("update_id", None)
            yield update

    def bent(self, value: Any) -> Any:
        """A copy of any JSON with something in it put wrong, or with several things."""
        value = json.loads(json.dumps(value))
        for _ in range(self._dice.choice((1, 1, 1, 2, 3, 8))):
            value = self._bent(value)
        return value

    def _bent(self, update: Any) -> Any:
        """The update with something in it put wrong."""
        places = list(_places(update))
        if not places:
            return self._nonsense()
        holder, key = self._dice.choice(places)
        match self._dice.randrange(6):
            case 0:
                del holder[key]
            case 1:
                other, there = self._dice.choice(places)
                holder[key] = other[there]
            case 2:
                holder[key] = [holder[key]]
            case 3 if isinstance(holder, dict):
                holder[self._dice.choice(("text", "chat", "from", "date", "entities", "data", "photo"))] = holder[key]
            case _:
                holder[key] = self._nonsense()
        try:
            return json.loads(json.dumps(update))
        except (ValueError, RecursionError):  # it holds itself
            return self._nonsense()

    def _nonsense(self) -> Any:
        dice = self._dice
        nested: Any = CANARY
        for _ in range(dice.choice((1, 3, 250, 600))):
            nested = [nested] if dice.random() < 0.5 else {"message": nested}
        return dice.choice(
            (
                None,
                True,
                False,
                0,
                -1,
                10**30,
                -(10**18),
                1e308,
                float("nan"),
                float("inf"),
                "",
                CANARY,
                CANARY * 2000,
                f"\ud800{CANARY}\udfff",
                f"\0{CANARY}\x1b[31m\n\r",
                "'; DROP TABLE idea; --",
                "0:0",
                "99999999999999999999:0",
                [],
                {},
                [None],
                [[]],
                {"id": CANARY},
                {"id": f"\ud83d{CANARY}", "type": "private", "is_bot": False, "first_name": CANARY},
                {"id": {"id": 1}, "type": CANARY},
                [{"type": "bot_command", "offset": -5, "length": 10**9}],
                [{"type": "mention", "offset": 0, "length": 0}],
                nested,
            )
        )


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every place in it, as what holds it and the key there."""
    if depth > 20:
        return
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in inner:
        yield value, key
        yield from _places(item, depth + 1)
