"""What the stories on messengers share."""

import shutil
from pathlib import Path

import pytest

from bot.config import Settings


@pytest.fixture
def settings(tmp_path: Path, sqlite_template: Path, unused_tcp_port: int) -> Settings:
    """A lab on SQLite; the addresses are those of the story's own servers."""
    shutil.copy(sqlite_template, tmp_path / "labbot.db")
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'labbot.db'}",
        name="KoSI-Lab",
        locale="en",
        http=f"127.0.0.1:{unused_tcp_port}",
    )
