"""A batch as Gemini answers it, in every spelling that was seen. Pure."""

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from mmap import mmap
from typing import Any

import msgspec

from workers.errors import GeminiUnavailable
from workers.gemini.scan import (
    INLINE_FIELDS,
    Bounds,
    Place,
    inline_results,
    operations,
    pairs,
    plain,
    take_apart,
    with_numbers,
)
from workers.gemini.spool import Body, Elements, Mapped

# Result files live 48 hours from the end of their batch (Files API).
FILE_LIFE_SECONDS = 48 * 3600

_FILE_FIELDS = {"responsesfile", "filename"}
_STATE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class State(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


_FINAL = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as Gemini answers it.

    `state_name` is Gemini's own word for the state, in lower case, also where it is none of ours. `inline` holds the
    elements as they came; `error` and `stats` are JSON values. An output that Gemini names is here whatever the state.
    `input_file` is named as files/<id>.
    """

    id: str
    state: State
    state_name: str
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    stats: Any
    error: Any
    result_file: str | None
    inline: Collection[msgspec.Raw] | None
    input_file: str | None = None

    @property
    def final(self) -> bool:
        return self.state in _FINAL

    @property
    def expected(self) -> int | None:
        """How many results Gemini itself counts, where it says so."""
        return self._counted("requestCount")

    @property
    def succeeded_results(self) -> int | None:
        """How many good answers Gemini itself counts, where it says so."""
        return self._counted("successfulRequestCount")

    @property
    def pending(self) -> int | None:
        """How many requests have no answer yet, where Gemini says so."""
        return self._counted("pendingRequestCount")

    def _counted(self, name: str) -> int | None:
        return integer(self.stats.get(name)) if isinstance(self.stats, dict) else None


class _Told(msgspec.Struct, rename="camel"):
    """What an operation tells of a batch in its metadata. An answer that is no operation has it at the top."""

    model: str | None = None
    display_name: str | None = None
    create_time: str | None = None
    end_time: str | None = None
    update_time: str | None = None
    batch_stats: Any = None
    state: str | None = None
    output: msgspec.Raw = msgspec.Raw()
    input_config: msgspec.Raw = msgspec.Raw()


class _Operation(_Told):
    name: str = ""
    metadata: _Told | None = None
    done: bool = False
    error: Any = None
    response: msgspec.Raw = msgspec.Raw()


class _Page(msgspec.Struct, rename="camel"):
    operations: list[msgspec.Raw] = []
    next_page_token: str = ""


# Its place, the name of its file, or its inline results.
_Output = tuple[Place, str | None, Collection[msgspec.Raw] | None]

_operation = msgspec.json.Decoder(_Operation)
_page = msgspec.json.Decoder(_Page)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder(msgspec.Raw)
_elements = msgspec.json.Decoder(list[msgspec.Raw])


def parse_batch(body: Body, asked: str = "") -> Batch:
    """A batch from the JSON of its operation. Its id is `asked`, or else what the answer names, which may be anything.

    Every spelling that was seen is accepted: the fields in `metadata` or at the top, BATCH_STATE_* and JOB_STATE_*, the
    output at `response` and at `output`, file names as responsesFile, responses_file, fileName and file_name.

    Raises:
        GeminiUnavailable: the answer is no batch. Something between Gemini and us may have given it.
    """
    operation, (_, file, inline) = _read(body)
    inner = operation.metadata or _Told()
    name = _state_name(inner.state or operation.state)
    return Batch(
        id=asked or operation.name.removeprefix("batches/"),
        state=_state(name, operation, has_output=file is not None or inline is not None),
        state_name=name,
        display_name=operation.display_name if inner.display_name is None else inner.display_name,
        model=inner.model or operation.model,
        created_at=inner.create_time or operation.create_time,
        ended_at=inner.end_time or operation.end_time or inner.update_time or operation.update_time,
        stats=operation.batch_stats if inner.batch_stats is None else inner.batch_stats,
        error=operation.error,
        result_file=file,
        inline=inline,
        input_file=_input_file(inner.input_config or operation.input_config),
    )


def parse_page(body: Body) -> tuple[Iterable[Body], str]:
    """The JSON of each operation on a page of the list of batches, and the token of the next page.

    Raises:
        ValueError: the answer is no such page.
    """
    if isinstance(body, Mapped):
        text: bytes | mmap = body.view
    else:
        try:
            page = _page.decode(body)
            return map(memoryview, page.operations), page.next_page_token
        except msgspec.ValidationError:
            raise
        except (RecursionError, msgspec.DecodeError):
            text = bytes(body)
    scanned = take_apart(text, operations)
    token = _page.decode(scanned.outline).next_page_token
    return (text[start:end] for bounds in scanned.elements.values() for start, end in pairs(bounds)), token


def parse_listed(body: Body) -> Batch:
    """A batch from its operation in a list: without its inline results, of which only one batch's at a time are held.

    Raises:
        GeminiUnavailable: it is no batch.
    """
    return replace(parse_batch(body), inline=None)


def timestamp(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time with up to nine decimals; None where it is none."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _read(body: Body) -> tuple[_Operation, _Output]:
    try:
        if isinstance(body, Mapped):
            mapped = body
            return _read_around(mapped.view, lambda bounds: Elements(mapped, bounds), mapped.passing())
        try:
            operation = _operation.decode(body)
            return operation, _output(operation)
        except msgspec.ValidationError:
            raise
        except (RecursionError, msgspec.DecodeError):
            text = bytes(body)
            return _read_around(text, lambda bounds: [msgspec.Raw(text[i:j]) for i, j in pairs(bounds)])
    # A wrong value, a wrong type, bytes that are no UTF-8: all are ValueErrors.
    except (ValueError, RecursionError):
        raise GeminiUnavailable("Gemini's answer is no batch: it could not be read.") from None


def _read_around(
    body: bytes | mmap,
    elements_of: Callable[[Bounds], Collection[msgspec.Raw]],
    passed: Callable[[int], None] = lambda _: None,
) -> tuple[_Operation, _Output]:
    """An operation whose inline results are too many to hold, nest too deep for the decoder, or have odd numbers."""
    scanned = take_apart(body, inline_results, passed)
    operation = _operation.decode(scanned.outline)
    place, file, inline = _output(operation)
    if inline is not None and place in scanned.elements:
        inline = elements_of(scanned.elements[place])
        for element in inline:
            with suppress(RecursionError):
                _check(element)
    return operation, (place, file, inline)


def _check(element: msgspec.Raw) -> None:
    """Raises ValueError for what is no JSON, but for numbers that JSON has not; those are seen to line by line."""
    try:
        _value.decode(element)
    except msgspec.DecodeError:
        _value.decode(with_numbers(bytes(element)))


def _output(operation: _Operation) -> _Output:
    """The first output that names a file or holds results."""
    inner = operation.metadata or _Told()
    places: list[tuple[Place, msgspec.Raw]] = [
        (("response",), operation.response),
        (("metadata", "output"), inner.output),
        (("output",), operation.output),
    ]
    for place, raw in places:
        file, inline = _named(raw)
        if file is not None or inline is not None:
            return place, file, inline
    return (), None, None


def _state_name(text: str | None) -> str:
    name = (text or "unspecified").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower()
    return name if _STATE_NAME.fullmatch(name) else "unreadable"


def _state(name: str, operation: _Operation, *, has_output: bool) -> State:
    if name == "partially_succeeded":
        return State.SUCCEEDED
    if name in set(State):
        return State(name)
    if operation.done and operation.error:
        return State.FAILED
    if operation.done and has_output:
        return State.SUCCEEDED
    return State.RUNNING if name == "unspecified" else State.UNKNOWN


def _named(raw: msgspec.Raw) -> tuple[str | None, list[msgspec.Raw] | None]:
    members = _object(raw)
    for name, value in members.items():
        if plain(name) in _FILE_FIELDS:
            file = msgspec.json.decode(value)
            if isinstance(file, str) and file:
                return file, None
    for name, value in members.items():
        if plain(name) in INLINE_FIELDS:
            return None, _inlined(value)
    return None, None


def _input_file(raw: msgspec.Raw) -> str | None:
    """The file of requests that a batch was made from: `inputConfig` echoes its name (gemini-rust #13)."""
    for name, value in _object(raw).items():
        if plain(name) == "filename":
            file = msgspec.json.decode(value)
            return file if isinstance(file, str) and file else None
    return None


def _inlined(raw: msgspec.Raw) -> list[msgspec.Raw]:
    if bytes(memoryview(raw)[:1]) == b"[":
        return _elements.decode(raw)
    for name, value in _object(raw).items():
        if plain(name) in INLINE_FIELDS:
            return _elements.decode(value)
    return []


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return _members.decode(raw) if bytes(memoryview(raw)[:1]) == b"{" else {}


def integer(value: Any) -> int | None:
    """A whole number from what may be one: int64 comes as a string in JSON."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
