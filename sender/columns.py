"""The columns of an export: what each holds, and where it comes from. Pure."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from sender.results import Result
from workers.results.result import Line, parse

MISSING = "missing"
MOST_JSON_COLUMNS = 500


class Kind(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    JSON = "JSON"
    NUMBERS = "numbers"


class Column(NamedTuple):
    kind: Kind
    about: str


_USAGE = ("prompt", "cached", "tool_use", "output", "thoughts", "total")

COLUMNS: dict[str, Column] = {
    "key": Column(Kind.TEXT, "the request's key"),
    "status": Column(Kind.TEXT, "succeeded, failed, invalid, or missing where there is no result"),
    "prompt": Column(Kind.TEXT, "the texts of the request, where the requests are known"),
    "text": Column(Kind.TEXT, "the answer's text"),
    "finish_reason": Column(Kind.TEXT, "why the answer ended"),
    "block_reason": Column(Kind.TEXT, "why the prompt was blocked"),
    "error": Column(Kind.JSON, "what went wrong, as Gemini said it"),
    "media": Column(Kind.JSON, "the names of the answer's media in the bucket"),
    "embedding": Column(Kind.NUMBERS, "the values of an embedding"),
    **{f"{name}_tokens": Column(Kind.NUMBER, f"{name.replace('_', ' ')} tokens") for name in _USAGE},
    "model_version": Column(Kind.TEXT, "the model that answered"),
    "response": Column(Kind.JSON, "the whole response as it came"),
    "request": Column(Kind.JSON, "the whole request, where the requests are known"),
    "batch": Column(Kind.TEXT, "the batch that the result is from"),
    "attempts": Column(Kind.NUMBER, "how many batches gave this request a result"),
}
DEFAULT = (
    "key",
    "status",
    "prompt",
    "text",
    "finish_reason",
    "error",
    "media",
    "embedding",
    "batch",
    "attempts",
)
OF_REQUESTS = frozenset({"prompt", "request"})
_OF_LINES = frozenset({"text", "embedding", "model_version", "response"})


def needs_lines(columns: Iterable[str]) -> bool:
    """Whether these columns want more than the manifest says."""
    return not _OF_LINES.isdisjoint(columns)


class Taken:
    """What is kept of each result until its turn comes: the values of the columns that it gives."""

    def __init__(self, columns: Iterable[str], *, json_columns: bool) -> None:
        given = [name for name in columns if name not in OF_REQUESTS and name != "attempts"]
        self.names = [*given, *(("text",) if json_columns and "text" not in given else ())]
        self.json_names: dict[str, None] = {}
        self._json_columns = json_columns
        self._needs_lines = needs_lines(self.names)

    @property
    def needs_lines(self) -> bool:
        return self._needs_lines

    def encoded(self, result: Result, batch: str) -> bytes:
        line = parse(result.line) if self._needs_lines and result.line is not None else None
        values = [_VALUES[name](result, line, batch) for name in self.names]
        if self._json_columns:
            for name in json_object(values[self.names.index("text")]):
                if len(self.json_names) < MOST_JSON_COLUMNS:
                    self.json_names.setdefault(name)
        return msgspec.json.encode(values)

    def decoded(self, blob: bytes) -> dict[str, Any]:
        return dict(zip(self.names, msgspec.json.decode(blob), strict=True))


def json_object(text: str | None) -> dict[str, Any]:
    """The object that a structured answer is; empty where it is none."""
    try:
        found = msgspec.json.decode(text) if text and text.lstrip()[:1] == "{" else None
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(_result: Result, line: Line | None, _batch: str) -> str | None:
    texts = line.answer.texts if line and line.answer else []
    return "".join(msgspec.json.decode(each, type=str) for each in texts) if texts else None


def _embedding(_result: Result, line: Line | None, _batch: str) -> Any:
    return line.answer.embedding if line and line.answer else None


def _media(result: Result, _line: Line | None, batch: str) -> list[str] | None:
    return [f"{batch}/{each.object}" for each in result.entry.media if each.object] or None


def _tokens(name: str) -> Callable[[Result, Line | None, str], Any]:
    def value(result: Result, _line: Line | None, _batch: str) -> Any:
        return getattr(result.entry.usage, name, None)

    return value


_VALUES: dict[str, Callable[[Result, Line | None, str], Any]] = {
    "key": lambda result, _line, _batch: result.entry.key,
    "status": lambda result, _line, _batch: result.entry.status,
    "text": _text,
    "finish_reason": lambda result, _line, _batch: result.entry.finish_reason,
    "block_reason": lambda result, _line, _batch: result.entry.block_reason,
    "error": lambda result, _line, _batch: result.entry.error or None,
    "media": _media,
    "embedding": _embedding,
    **{f"{name}_tokens": _tokens(f"{name}_tokens") for name in _USAGE},
    "model_version": lambda _result, line, _batch: (
        line.answer.model_version if line and line.answer else None
    ),
    "response": lambda _result, line, _batch: line.response if line else None,
    "batch": lambda _result, _line, batch: batch,
}
