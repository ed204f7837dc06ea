"""Logs: one event a line, as text or JSON, with no message text, no names and no tokens."""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog

TOKENS = re.compile(r"\d{6,}:[A-Za-z0-9_-]{20,}|(?:syt|mat|mct)_[A-Za-z0-9_=-]{8,}")
"""What a Telegram bot token and a Matrix access token look like, also within a word ("/bot123456:…")."""

QUIET = (
    "httpx",
    "httpcore",
    "telegram",
    "aiohttp",
    "nio",
    "peewee",
    "apscheduler",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "asyncio",
)
"""Libraries that log addresses (Telegram's hold the token), statements (peewee's hold Matrix keys) or routine."""


def configure(form: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Send all logs, ours and the libraries', through one redacting pipe to standard error."""
    known = [secret for secret in secrets if secret]

    def redact(_logger: Any, _method: str, line: Any) -> str:
        """The last step, on the finished line: whatever a token was hidden in, it is text by now."""
        return _without(str(line), known)

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, redact],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("nio").setLevel(logging.CRITICAL)  # its warnings name people and rooms


def _without(value: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        value = value.replace(secret, "[token]")
    return TOKENS.sub("[token]", value)
