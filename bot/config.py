"""Settings: what the operator chooses, from the environment and from a file ``.env``."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ADAPTERS = ("telegram", "matrix")
"""The messengers there are adapters for."""

DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg", "postgres")
"""How a database's URL may begin."""

LEVELS = ("debug", "info", "warning", "error")


class BadSettings(Exception):
    """A setting is missing or wrong; the text is one line that names it."""


class Settings(BaseSettings):
    """Each field is read from ``LABBOT_`` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="LABBOT_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data: Path = Path("data")
    database_url: str = ""
    migrate: bool = True
    name: str = "Lab"
    locale: str = "de"
    timezone: str = "Europe/Berlin"
    topics: Annotated[tuple[str, ...], NoDecode] = ()
    adapters: Annotated[tuple[str, ...], NoDecode] = ()
    http: str = "127.0.0.1:8080"
    public_url: str = ""
    log: str = "text:info"
    telegram_token: SecretStr | None = None
    telegram_api: str | None = None
    telegram_webhook: str | None = None
    telegram_rate: Annotated[float, Field(gt=0)] = 30.0
    telegram_chat_rate: Annotated[float, Field(gt=0)] = 1.0
    telegram_group_rate: Annotated[float, Field(gt=0)] = 0.33
    telegram_in_flight: Annotated[int, Field(ge=1, le=1000)] = 64
    telegram_bulk_in_flight: Annotated[int, Field(ge=1, le=1000)] = 8
    matrix_homeserver: str | None = None
    matrix_user: str = ""
    matrix_password: SecretStr | None = None
    matrix_token: SecretStr | None = None
    matrix_invites: str = "all"
    matrix_rate: Annotated[float, Field(gt=0)] = 0.2
    matrix_burst: Annotated[int, Field(ge=1, le=10_000)] = 10
    matrix_reactions: bool | None = None

    @field_validator("topics", "adapters", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("adapters")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in ADAPTERS:
                raise ValueError(f"there is no messenger “{name}”; there are: {', '.join(ADAPTERS)}")
        return value

    @field_validator("topics")
    @classmethod
    def _short(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(topic) > 40 for topic in value) or len(value) > 20 or len(set(value)) < len(value):
            raise ValueError("at most 20 different topics of at most 40 characters each")
        return value

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if not 1 <= len(value.strip()) <= 60:
            raise ValueError("a name of 1 to 60 characters")
        return value.strip()

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"“{value}” is no time zone; an example is Europe/Berlin")
        return value

    @field_validator("http")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("host:port is expected, for example 127.0.0.1:8080")
        return value

    @field_validator("log")
    @classmethod
    def _log(cls, value: str) -> str:
        form, _, level = value.partition(":")
        if form not in ("text", "json") or (level or "info") not in LEVELS:
            raise ValueError("text or json, then a level, for example json:info")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        if value:
            try:
                url = make_url(value)
            except (ArgumentError, ValueError):
                raise ValueError("an SQLAlchemy URL is expected, for example sqlite:////data/labbot.db") from None
            if url.drivername not in DRIVERS:
                raise ValueError(f"{url.drivername} is not supported; sqlite and postgresql are")
            if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
                raise ValueError("a file is expected, for example sqlite:////data/labbot.db")
        return value

    @field_validator("telegram_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            number, colon, secret = value.get_secret_value().partition(":")
            if not (number.isdigit() and colon and len(secret) >= 10):
                raise ValueError("this is no bot token; @BotFather gives one like 123456:ABC-DEF…")
        return value

    @field_validator("telegram_api", "telegram_webhook")
    @classmethod
    def _web(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("an address that begins with https:// is expected")
        return value

    @field_validator("matrix_user")
    @classmethod
    def _user(cls, value: str) -> str:
        if value and not (value.startswith("@") and ":" in value):
            raise ValueError("a whole user id is expected, for example @labbot:lab.example")
        return value

    @field_validator("matrix_invites")
    @classmethod
    def _inviters(cls, value: str) -> str:
        listed = [part.strip() for part in value.split(",") if part.strip()]
        if value not in ("all", "homeserver") and not all("." in part or ":" in part for part in listed):
            raise ValueError("all, homeserver, or a list of people (@anna:lab.example) and servers (lab.example)")
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc):
            raise ValueError("an address that begins with https:// is expected")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        if self.matrix_homeserver is None and ("matrix" in self.adapters or self.matrix_user):
            raise ValueError("LABBOT_MATRIX_HOMESERVER is missing; an example is https://matrix.lab.example")
        if "telegram" in self.adapters and self.telegram_token is None:
            raise ValueError("LABBOT_TELEGRAM_TOKEN is missing, but LABBOT_ADAPTERS names telegram")
        if "matrix" in self.messengers:
            self._can_log_in()
        return self

    def _can_log_in(self) -> None:
        if self.matrix_password is not None and self.matrix_token is not None:
            raise ValueError("LABBOT_MATRIX_PASSWORD and LABBOT_MATRIX_TOKEN are both set; labbot uses one of them")
        if self.matrix_password is not None and not self.matrix_user:
            raise ValueError("LABBOT_MATRIX_USER is missing; an example is @labbot:lab.example")
        if self.matrix_password is None and self.matrix_token is None and not self.matrix_folder.is_dir():
            raise ValueError(
                f"LABBOT_MATRIX_PASSWORD is missing: no login is stored in {self.matrix_folder}, and"
                " LABBOT_MATRIX_TOKEN is not set either"
            )

    @property
    def database(self) -> str:
        """The database's URL, SQLite in the data folder if none is set."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'labbot.db'}"

    @property
    def matrix_folder(self) -> Path:
        """Where the Matrix account's login and keys are kept; made at the first login."""
        return self.data / "matrix"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def messengers(self) -> tuple[str, ...]:
        """The messengers to run: those asked for, else those whose settings are there."""
        present = {"telegram": self.telegram_token, "matrix": self.matrix_homeserver}
        return self.adapters or tuple(name for name, setting in present.items() if setting is not None)

    @property
    def http_address(self) -> tuple[str, int]:
        host, _, port = self.http.rpartition(":")
        return host.strip("[]"), int(port)


def read_settings(**given: Any) -> Settings:
    """The settings as they are now, but what is ``given``. Raises ``BadSettings``."""
    try:
        return Settings(**given)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f".env: it cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise BadSettings(reason) from None
        raise BadSettings(f"LABBOT_{str(first['loc'][0]).upper()}: {reason}") from None


def prepare_data(settings: Settings) -> None:
    """Make the data folder, for this user only. Raises ``BadSettings``."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(settings.data, os.W_OK | os.X_OK):
            raise PermissionError("it cannot be written to")
    except OSError as error:
        raise BadSettings(f"LABBOT_DATA: {settings.data}: {error.strerror or error}") from None
