"""Logs: one event a line, as text or JSON, with no message text, no names and no tokens."""

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

TOKENS = re.compile(r"\b\d{6,}:[A-Za-z0-9_-]{20,}|\bsyt_[A-Za-z0-9_=-]{8,}")
"""What a Telegram bot token and a Matrix access token look like, wherever they turn up."""

QUIET = ("httpx", "httpcore", "telegram", "aiohttp", "apscheduler", "uvicorn", "sqlalchemy", "alembic", "asyncio")
"""Libraries that log addresses (Telegram's hold the token), statements or routine."""


def configure(form: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Send all logs, ours and the libraries', through one redacting pipe to standard error."""
    known = [secret for secret in secrets if secret]

    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = _without(value, known)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _without(value: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        value = value.replace(secret, "[token]")
    return TOKENS.sub("[token]", value)
