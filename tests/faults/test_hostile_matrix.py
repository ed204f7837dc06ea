"""What hostile events on Matrix are made of: most of it gets as far as whoever sends it can bring it."""

import json
from typing import Any

import vodozemac

from tests.adapters.olm import MEGOLM, OLM, Device
from tests.faults.hostile_matrix import MALLORY, HostileMatrix

ROOM = "!1:lab.test"


def test_hostile_events_are_the_same_for_a_seed_but_for_their_keys() -> None:
    bot = Device("@labbot:lab.test", "LABBOT")
    first, second = (list(HostileMatrix(7, bot.user_id, bot.keys).timeline(500, ROOM)) for _ in range(2))
    kinds = [[event.get("type") for event in events if isinstance(event, dict)] for events in (first, second)]
    assert kinds[0] == kinds[1]
    assert len({str(kind) for kind in kinds[0]}) > 20


def test_well_encrypted_nonsense_is_opened_by_a_device_that_follows_the_specification() -> None:
    bot = Device("@labbot:lab.test", "LABBOT")
    hostile = HostileMatrix(7, bot.user_id, bot.keys)
    hostile.befriends(next(iter(bot.new_one_time_keys(1).values()))["key"])
    key = bot.opened(hostile.room_key(ROOM)["content"])
    assert key is not None
    session = vodozemac.InboundGroupSession(vodozemac.SessionKey(key["content"]["session_key"]))
    opened = sum(_opens(bot, event) for event in hostile.to_device(2000))
    assert 600 < opened < 1400
    events = list(hostile.timeline(2000, ROOM))
    assert 200 < sum(_reads(session, event) for event in events) < 600
    states = [event for event in events if isinstance(event, dict) and "state_key" in event]
    assert 300 < len(states) < 700


def _opens(bot: Device, event: Any) -> bool:
    """Whether an Olm message of Mallory's could be decrypted, whatever was inside."""
    try:
        assert (event["sender"], event["content"]["algorithm"]) == (MALLORY, OLM)
        return bot.opened(event["content"]) is not None
    except json.JSONDecodeError:
        return True
    except Exception:
        return False


def _reads(session: vodozemac.InboundGroupSession, event: Any) -> bool:
    try:
        assert event["content"]["algorithm"] == MEGOLM
        session.decrypt(vodozemac.MegolmMessage.from_base64(event["content"]["ciphertext"]))
    except Exception:
        return False
    return True
