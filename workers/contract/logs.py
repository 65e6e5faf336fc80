"""Log lines: a constant event name and its fields, which docs/logs.md lists. JSON for machines, text for a terminal.

What is bound (`bound`) is in every line until the block ends: a job binds its ids once.
"""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.stdlib import BoundLogger

__all__ = ["BoundLogger", "bound", "configure", "line", "named"]

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]+")
_MOST_CHARACTERS = 400


def named(name: str) -> BoundLogger:
    """A logger whose calls take an event's name and its fields."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(asked: str) -> None:
    """Log to standard error, in the form that `LOG_FORMAT` asks for."""
    is_text = asked == "text" or (asked == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s") if is_text else _JsonLines()
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def line(event: str, **fields: object) -> str:
    """`event=accepted batch=abc trigger=webhook`. A value with anything unusual in it is quoted as JSON."""
    return " ".join([f"event={event}", *(f"{name}={_quoted(value)}" for name, value in fields.items())])


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None) or {"event": "log", "message": _short(record.getMessage())}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **fields,
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def _to_standard_library(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    """The line as text, which every handler can show, and its fields for whoever wants them."""
    event = str(fields.pop("event"))
    short = {name: _short(value) for name, value in fields.items()}
    return (line(event, **short),), {"extra": {"fields": {"event": event, **short}}}


def _short(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"


def _quoted(value: object) -> str:
    text = str(_short(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, _to_standard_library],
    wrapper_class=BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
