"""Log lines: a constant event name and its fields, which docs/logs.md lists. JSON for machines, text for a terminal.

What is bound (`bound`) is in every line until the block ends: a job binds its ids once.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]+")
_MOST_CHARACTERS = 400

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
_bound = ContextVar[Mapping[str, object]]("bound", default={})  # noqa: B039 - nobody changes it


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Have these in every line, until the block ends."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


class Logger:
    """Its calls take an event's name and its fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self.log(logging.ERROR, event, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        if self._logger.isEnabledFor(level):
            told = _Told(event, {name: _short(value) for name, value in {**_bound.get(), **fields}.items()})
            # Not by way of the logger's own calls, which look for their caller's place in the source.
            self._logger.handle(self._logger.makeRecord(self._logger.name, level, "", 0, told, (), None))


class _Told:
    """What a line tells. Handlers that know nothing of it show it as text."""

    def __init__(self, event: str, fields: Mapping[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return line(self.event, **self.fields)


def named(name: str) -> Logger:
    return Logger(name)


def configure(asked: str) -> None:
    """Log to standard error, in the form that `LOG_FORMAT` asks for."""
    is_text = asked == "text" or (asked == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s") if is_text else _JsonLines()
    )
    # What no line shows need not be found out for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def line(event: str, **fields: object) -> str:
    """`event=accepted batch=abc trigger=webhook`. A value with anything unusual in it is quoted as JSON."""
    return " ".join([f"event={event}", *(f"{name}={_quoted(value)}" for name, value in fields.items())])


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = record.msg
        fields = (
            {"event": told.event, **told.fields}
            if isinstance(told, _Told)
            else {"event": "log", "message": _short(record.getMessage())}
        )
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **fields,
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return _encode(document)


def _short(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"


def _quoted(value: object) -> str:
    text = str(_short(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
