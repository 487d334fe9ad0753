"""Logs: one line per event, readable at a terminal, JSON everywhere else. Secrets are taken out before anything is
written, also from messages and tracebacks of libraries."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[hidden]"

#: A field whose name contains one of these never shows its value.
_SECRET_NAMES = ("token", "secret", "password", "authorization", "cookie", "stream_key", "streamkey", "sdp", "bearer")
#: What secrets look like inside a text: JWTs, bearer values, `token=` in a query, the password in a database URL.
_SECRET_TEXTS = (
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"(?i)\b(bearer\s+)[^\s\"',]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b((?:access_?|refresh_?|setup_?)?token|password|secret)=[^\s&\"']+"), rf"\1={HIDDEN}"),
    (re.compile(r"(://[^\s:/@]+:)[^\s/@]+@"), rf"\1{HIDDEN}@"),
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MANY_LINES = frozenset({"exception", "stack"})
#: Libraries whose INFO is about themselves.
_QUIET = ("alembic", "asyncio", "boto3", "botocore", "hypercorn", "httpx", "PIL", "quart.serving", "sqlalchemy")


def configure_logging(*, json: bool | None = None, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's loggers to `stream` (stderr). `json=None`: JSON unless it is a
    terminal. Calling it again replaces the set-up. Raises `ValueError` for an unknown level."""
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        hide_secrets,
        escape_controls,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.setLevel(level.upper())
    for old in tuple(root.handlers):
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor."""
    return {key: _hidden(key, value) for key, value in event.items()}


def escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor. What strangers choose (an address, a name) begins no line of its own and gives a terminal
    no orders. Tracebacks keep their lines."""
    return {key: value if key in _MANY_LINES else _escaped(value) for key, value in event.items()}


def _escaped(value: object) -> object:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", value) if isinstance(value, str) else value


def _hidden(key: object, value: object) -> object:
    name = str(key).lower()
    if any(secret in name for secret in _SECRET_NAMES) and not isinstance(value, bool | int | float | None):
        return HIDDEN
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXTS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {inner: _hidden(inner, entry) for inner, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", entry) for entry in value]
    return value
