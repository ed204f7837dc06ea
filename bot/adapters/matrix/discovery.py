"""Where a homeserver is: by its address, or by the name of its people's ids."""

import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bot.adapters.matrix.values import fields
from bot.port import Refused, RetryLater

TIMEOUT = aiohttp.ClientTimeout(total=15)
LONGEST_ANSWER = 1024 * 1024
SETTING = "LABBOT_MATRIX_HOMESERVER"
EXAMPLES = "examples are lab.example and https://matrix.lab.example"


async def locate(homeserver: str, known: str | None = None, *, well_known: str | None = None) -> str:
    """The base URL of a homeserver, given as one (https://…) or as a server's name (lab.example).

    A name is looked up at its ``/.well-known/matrix/client`` (spec, Server discovery), or under ``well_known`` instead.
    ``known`` is what an earlier look-up has found; it serves while the name does not answer. That a homeserver
    answers there is tried. Raises ``Refused`` and ``RetryLater``.
    """
    name = homeserver.strip().rstrip("/")
    named = "://" not in homeserver
    base = _checked(f"https://{name}" if named else name, homeserver)
    if named:
        base = await _looked_up(base, well_known or f"https://{urlsplit(base).hostname}", known, homeserver)
    status, answer = await _get(f"{base}/_matrix/client/versions")
    if status == 429 or status >= 500:
        raise RetryLater(5, f"the homeserver answers HTTP {status}")
    if not isinstance(answer.get("versions"), list):
        raise Refused(f"{SETTING}: no Matrix homeserver answers at {base}; {EXAMPLES}.")
    return base


async def _looked_up(base: str, root: str, known: str | None, homeserver: str) -> str:
    try:
        status, answer = await _get(f"{root}/.well-known/matrix/client")
    except RetryLater:
        if known is None:
            raise
        return known
    if status == 404:
        return base
    entry = answer.get("m.homeserver")
    found = entry.get("base_url") if isinstance(entry, dict) else None
    if status == 200 and isinstance(found, str):
        return _checked(found.strip().rstrip("/"), homeserver)
    if known is not None:
        return known
    raise Refused(
        f"{SETTING}: {homeserver} does not say where its homeserver is (/.well-known/matrix/client, HTTP {status});"
        " give the homeserver's own address, like https://matrix.lab.example."
    )


def _checked(url: str, homeserver: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and parts.username is None and not parts.query and not parts.fragment and len(url.split()) == 1
    except ValueError:
        good = False
    if not good:
        raise Refused(f"{SETTING}: “{homeserver}” leads to no homeserver; {EXAMPLES}.")
    return url


async def _get(url: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON object (empty when there is none). Raises ``RetryLater`` when nobody answers."""
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url) as response:
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > LONGEST_ANSWER:
                    return response.status, {}
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RetryLater(5, f"{urlsplit(url).netloc} is not reached: {type(error).__name__}") from None
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    return response.status, fields(answer)
