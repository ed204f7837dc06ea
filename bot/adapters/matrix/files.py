"""Secrets on disk: small JSON files for this user only, written whole or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from bot.port import Refused

LARGEST = 65_536
"""Bytes that such a file may have; ours have less than one thousand."""


class Damaged(Exception):
    """The file is there, but not what was written."""


def prepare(folder: Path) -> None:
    """Make the folder, for this user only. Raises ``Refused``."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise Refused(f"LABBOT_DATA: {folder} cannot be used: {error.strerror}.") from None


def read(path: Path) -> dict[str, str] | None:
    """The strings kept in ``path``, None when there is no such file. Raises ``Damaged``, ``Refused``."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"LABBOT_DATA: {path} cannot be read: {error.strerror}.") from None
    try:
        content = json.loads(raw)
    except ValueError:
        raise Damaged from None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise Damaged
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path``; when this returns, the new content outlives a power cut. Raises ``Refused``."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network disks cannot
                os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Refused(f"LABBOT_DATA: {path} cannot be written: {error.strerror}.") from None
