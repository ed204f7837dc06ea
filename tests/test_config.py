"""Settings: read from the environment, and wrong ones named in one line."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.config import BadSettings, prepare_data, read_settings

TOKEN = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
CANARY = "canary-in-a-setting"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those of the test."""
    import os

    for name in [name for name in os.environ if name.startswith("LABBOT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


WRONG = {
    "LABBOT_DATABASE_URL": [
        "nonsense",
        "mysql://x/y",
        "postgresql+asyncpg://x/y",
        "sqlite+aiosqlite:///x.db",
        "postgresql://x:port/y",
        "sqlite://",
        "sqlite:///:memory:",
    ],
    "LABBOT_TIMEZONE": ["Berlin", "Europe/Nowhere", "../etc/passwd"],
    "LABBOT_NAME": [" ", "x" * 61],
    "LABBOT_TOPICS": ["a,b,a", ",".join(str(number) for number in range(21)), "x" * 41],
    "LABBOT_ADAPTERS": ["telegramm", "telegram,icq"],
    "LABBOT_HTTP": ["8080", "127.0.0.1", "127.0.0.1:http", ":8080", "127.0.0.1:65536", "127.0.0.1:²"],
    "LABBOT_LOG": ["xml", "text:loud", "json:info:x"],
    "LABBOT_MIGRATE": ["perhaps"],
    "LABBOT_TELEGRAM_TOKEN": [CANARY, f"123456{CANARY}", "123456:short", ":"],
    "LABBOT_TELEGRAM_API": ["api.telegram.org", "ftp://x"],
    "LABBOT_TELEGRAM_WEBHOOK": ["lab.example/telegram"],
    "LABBOT_TELEGRAM_RATE": ["0", "-1", "fast", "nan"],
    "LABBOT_TELEGRAM_CHAT_RATE": ["0"],
    "LABBOT_TELEGRAM_GROUP_RATE": ["0"],
    "LABBOT_TELEGRAM_IN_FLIGHT": ["0", "1001", "1.5"],
    "LABBOT_TELEGRAM_BULK_IN_FLIGHT": ["0", "many"],
    "LABBOT_MATRIX_USER": ["labbot", "@labbot"],
    "LABBOT_MATRIX_INVITES": ["nobody", "all,homeserver"],
    "LABBOT_MATRIX_RATE": ["0", "-1", "nan"],
    "LABBOT_MATRIX_BURST": ["0", "10001", "many"],
    "LABBOT_MATRIX_REACTIONS": ["perhaps"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        read_settings()
    said = str(caught.value)
    assert said.startswith(f"{name}: ")
    assert "\n" not in said
    assert len(said) > len(name) + 10
    assert CANARY not in said


def test_a_messenger_that_is_asked_for_needs_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABBOT_ADAPTERS", "telegram")
    with pytest.raises(BadSettings, match=r"^LABBOT_TELEGRAM_TOKEN is missing, but LABBOT_ADAPTERS names telegram$"):
        read_settings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": "@labbot:lab.example"}, "LABBOT_MATRIX_HOMESERVER is missing; "),
        ({"homeserver": "lab.example"}, "LABBOT_MATRIX_PASSWORD is missing: no login is stored in data/matrix, and "),
        ({"homeserver": "lab.example", "password": CANARY}, "LABBOT_MATRIX_USER is missing; "),
        (
            {"homeserver": "lab.example", "user": "@labbot:lab.example", "password": CANARY, "token": CANARY},
            "LABBOT_MATRIX_PASSWORD and LABBOT_MATRIX_TOKEN are both set; ",
        ),
    ],
)
def test_a_matrix_account_needs_a_homeserver_and_one_way_to_log_in(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"LABBOT_MATRIX_{name.upper()}", value)
    with pytest.raises(BadSettings) as caught:
        read_settings()
    assert str(caught.value).startswith(said)
    assert CANARY not in str(caught.value)


def test_after_the_first_login_the_password_may_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABBOT_MATRIX_HOMESERVER", "lab.example")
    (tmp_path / "data" / "matrix").mkdir(parents=True)
    assert read_settings().messengers == ("matrix",)
    monkeypatch.setenv("LABBOT_ADAPTERS", "telegram")
    monkeypatch.setenv("LABBOT_TELEGRAM_TOKEN", TOKEN)
    (tmp_path / "data" / "matrix").rmdir()
    assert read_settings().messengers == ("telegram",)  # what is not run needs no account


def test_without_any_setting_there_is_a_lab_in_dortmund_without_a_messenger(tmp_path: Path) -> None:
    settings = read_settings()
    assert (settings.name, settings.locale, settings.zone) == ("Lab", "de", ZoneInfo("Europe/Berlin"))
    assert settings.database == f"sqlite:///{tmp_path / 'data' / 'labbot.db'}"
    assert settings.http_address == ("127.0.0.1", 8080)
    assert settings.messengers == ()
    assert settings.migrate


def test_settings_are_read_from_the_environment_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        f"LABBOT_NAME=From the file\nLABBOT_LOCALE=en\nLABBOT_TELEGRAM_TOKEN={TOKEN}\nLABBOT_HTTP=\nUNKNOWN=x\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("LABBOT_NAME", " From the environment ")
    monkeypatch.setenv("LABBOT_TOPICS", "parks, roads,,")
    monkeypatch.setenv("LABBOT_HTTP", "[::1]:80")
    settings = read_settings()
    assert (settings.name, settings.locale) == ("From the environment", "en")
    assert settings.topics == ("parks", "roads")
    assert settings.http_address == ("::1", 80)
    assert settings.messengers == ("telegram",)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("url", ["postgresql://x/y", "postgres://x/y", "postgresql+psycopg://x/y", "sqlite:///y.db"])
def test_a_database_of_either_kind_may_be_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LABBOT_DATABASE_URL", url)
    assert read_settings().database == url


def test_a_file_of_settings_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LABBOT_NAME=\xff\xfe\n")
    with pytest.raises(BadSettings, match=r"^\.env: it cannot be read: it is not UTF-8$"):
        read_settings()


def test_the_data_folder_is_made_for_its_user_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABBOT_DATA", str(tmp_path / "new" / "data"))
    settings = read_settings()
    prepare_data(settings)
    prepare_data(settings)  # once more changes nothing
    assert settings.data.stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABBOT_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(BadSettings, match=r"^LABBOT_DATA: .*/file/data: Not a directory$"):
        prepare_data(read_settings())
