"""One result line: what it is, and the documents it becomes. Pure: nothing here reads or writes anything.

`parse` is the only place that decides what a line is, and `key_of` a shorter way to the same key. Whoever numbers
lines and keys and whoever writes outputs both ask here, so they agree.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from workers.results import answers, openai
from workers.results.answers import Answer, Usage
from workers.results.failures import failure_of, response_of
from workers.results.json_text import (
    MAX_DEPTH,
    are_lines,
    compact,
    has_lone_surrogate,
    is_too_deep,
    is_utf8,
    mended,
)
from workers.results.lenient import first_byte
from workers.results.media import MediaEntry, Medium, extract, keep
from workers.results.naming import output_name

LINE_LIMIT_BYTES = 256 * 2**20
"""A longer line, its end not counted, is invalid; whoever reads lines need not hold it: see `oversized`."""

BLOCKED = "BLOCKED"


class Status(StrEnum):
    """What became of a request."""

    __hash__ = str.__hash__  # an Enum's own is written in Python, and each line is counted by its status

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INVALID = "invalid"


class Line(Struct, frozen=True, gc=False):
    """A parsed line. `response` and `error` are JSON text as it came; `response` is a view into `source`.

    `answer` is what the response says, where there is one.
    """

    status: Status
    key: str | None = None
    response: Raw | None = None
    error: bytes | None = None
    source: bytes = b""
    answer: Answer | None = None


class Rendered(Struct, frozen=True, gc=False):
    """What is written of one line. Documents are put together when asked for; ask once."""

    key: str | None
    index: int
    name: str
    status: Status
    finish_reason: str | None
    block_reason: str | None
    usage: Usage | None
    model_version: str | None
    media: list[Medium]
    entries: list[MediaEntry]
    error: bytes | None
    embedding: Raw | None
    head: bytes
    facts: bytes
    texts: list[Raw]
    pieces: list[memoryview | bytes]

    @property
    def object_name(self) -> str:
        """`outputs/<name>.json`, relative to the batch's folder."""
        return f"outputs/{self.name}.json"

    @property
    def document(self) -> bytes:
        """The bytes of that object."""
        label, pieces = (b',"response":', self.pieces) if self.error is None else (b',"error":', [self.error])
        return b"".join((self.head, b',"text":', *_joined(self.texts), self.facts, label, *pieces, b"}"))

    @property
    def text(self) -> str | None:
        """The first candidate's text parts joined, thoughts left out."""
        return _decode_text(self.texts[0] if len(self.texts) == 1 else b"".join(_joined(self.texts)))

    @property
    def response(self) -> bytes | None:
        """JSON text of the response, its media replaced; None unless it succeeded."""
        return b"".join(self.pieces) if self.status is Status.SUCCEEDED else None

    @property
    def finish_label(self) -> str | None:
        """What it counts as in `finish_reasons` of `batch.json`; None where nothing was generated."""
        return finish_label(self.finish_reason, self.block_reason)

    @property
    def error_code(self) -> int | None:
        return _field(self.error, _Code).code

    @property
    def error_message(self) -> str | None:
        return _field(self.error, _Message).message


_NOTHING = Raw()


class _Wire(Struct, gc=False):
    key: Raw = _NOTHING
    custom_id: Raw = _NOTHING
    metadata: Raw = _NOTHING
    response: Raw = _NOTHING
    error: Raw = _NOTHING
    status: Raw = _NOTHING


class _Metadata(Struct, gc=False):
    key: Raw = Raw()


class _PlainKey(Struct, gc=False):
    key: str | None = None
    custom_id: str | None = None


class _Code(Struct, gc=False):
    code: int | None = None


class _Message(Struct, gc=False):
    message: str | None = None


_Known = TypeVar("_Known", _Code, _Message)


_decode = msgspec.json.Decoder(_Wire).decode
_decode_plain_key = msgspec.json.Decoder(_PlainKey).decode
_decode_plain_keys = msgspec.json.Decoder(_PlainKey).decode_lines
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_string = msgspec.json.Decoder(str).decode
_decode_text: Callable[[bytes], str | None] = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.Encoder().encode


def is_blank(line: bytes) -> bool:
    """Whether a line holds nothing but JSON's white space: it stays in `raw/` and is not counted."""
    return not line.lstrip(b" \t\r\n")


def parse(line: bytes, *, known_utf8: bool = False, is_mended: bool = False) -> Line:
    """Decide what a line is: one of a result file, or one element of an inline answer.

    White space around the object, and so a line end, does not matter. Never raises.

    Args:
        line: any bytes.
        known_utf8: somebody has looked already, and it is.
        is_mended: nothing in it is left to be mended.
    """
    if len(line) > LINE_LIMIT_BYTES:
        return oversized()
    if not known_utf8 and not is_utf8(line):
        return _invalid("the line is not UTF-8")
    if is_too_deep(line):
        return _invalid(f"the line is nested more than {MAX_DEPTH} deep")
    try:
        wire = _decode(line)
    except msgspec.ValidationError:
        return _invalid("the line is not a JSON object")
    except (msgspec.DecodeError, RecursionError) as error:
        if not is_mended and (text := mended(line)) is not None:
            return parse(text, known_utf8=True, is_mended=True)
        # Of a lone surrogate msgspec says that the line is truncated.
        reason = "it holds a lone surrogate" if has_lone_surrogate(line) else str(error)
        return _invalid(f"the line is not JSON: {reason}")
    try:
        key: str | None = _decode_string(wire.key)
    except msgspec.DecodeError:
        key = _other_key(wire)
    response = wire.response
    kind = first_byte(response)
    answer, inner = None, _NOTHING
    if kind == ord("{"):
        answer = answers.read(response)
        if answer.envelope is not None:
            inner = openai.failure(answer.envelope, response)
            answer = openai.read(answer.envelope) or answer
    if wire.error is not _NOTHING or wire.status is not _NOTHING or inner is not _NOTHING:
        failure = failure_of(wire.error, wire.status, inner, response_of(response))
        if failure is not None:
            # Line ends between tokens would cut the manifest's line in two.
            return Line(Status.FAILED, key, None, bytes(failure).translate(None, b"\r\n"))
    if answer is not None:
        return Line(Status.SUCCEEDED, key, response, None, line, answer)
    if kind:
        return _invalid("response is not an object", key)
    return _invalid("the line has neither response nor error", key)


def key_of(line: bytes) -> str | None:
    """The key that `parse` finds in a line of UTF-8 within the limit: nearly always it is a string of its own."""
    if not is_too_deep(line):
        try:
            plain = _decode_plain_key(line)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            if plain.key:
                return plain.key
            if plain.key is None and plain.custom_id:
                return plain.custom_id
    return parse(line, known_utf8=True).key


def keys_of(lines: bytes) -> list[str] | None:
    """What `key_of` finds in each of several lines, at once; None where they have to be looked at one by one.

    At once where they stand for themselves: each with its line end, of UTF-8, an object with a key, not too deep.
    """
    if len(lines) > LINE_LIMIT_BYTES or not is_utf8(lines):
        return None
    # Of few brackets none can be too deep.
    if lines.count(b"[") + lines.count(b"{") > MAX_DEPTH and any(map(is_too_deep, lines.split(b"\n"))):
        return None
    try:
        plain = _decode_plain_keys(lines)
    except (msgspec.DecodeError, RecursionError):
        return None
    keys = [each.key for each in plain if each.key]
    return keys if len(keys) == len(plain) and are_lines(lines, len(plain)) else None


def finish_label(finish_reason: str | None, block_reason: str | None) -> str | None:
    """What a result counts as in `finish_reasons` of `batch.json`; None where nothing was generated."""
    return BLOCKED if block_reason else finish_reason


def oversized() -> Line:
    """What `parse` says of a line above the limit, for callers that never held it."""
    return _invalid(f"the line is longer than {LINE_LIMIT_BYTES} bytes")


def render(line: Line, index: int, occurrence: int) -> Rendered:
    """What is to be written of a line.

    Args:
        line: as `parse` returned it.
        index: the place among the lines that are not blank, from 0.
        occurrence: which one it is, from 1, of the lines with the same key.
    """
    name = output_name(line.key, index, occurrence)
    head = b'{"key":%b,"index":%d,"status":%b' % (_encode(line.key), index, _encode(line.status))
    answer = _NO_ANSWER
    media: list[Medium] = []
    entries: list[MediaEntry] = []
    pieces: list[memoryview | bytes] = []
    if line.response is not None and line.answer is not None:
        answer = line.answer
        pieces = [line.response]
    if answer.has_media:
        if answer.body is not None:
            media, entries, _ = keep(openai.media(answer.body), name)
        else:
            extracted = extract(line.source, name)
            media, entries, pieces = extracted.media, extracted.entries, extracted.pieces
    facts = b',"finish_reason":%b,"block_reason":%b,"usage":%b,"media":%b' % (
        _encode(answer.finish_reason),
        _encode(answer.block_reason),
        _encode(answer.usage),
        _encode(entries),
    )
    # By position, in the order of the fields: names would take five times as long.
    return Rendered(
        line.key,
        index,
        name,
        line.status,
        answer.finish_reason,
        answer.block_reason,
        answer.usage,
        answer.model_version,
        media,
        entries,
        line.error,
        answer.embedding,
        head,
        facts,
        answer.texts,
        pieces,
    )


_NO_ANSWER = Answer([])


def _invalid(reason: str, key: str | None = None) -> Line:
    return Line(Status.INVALID, key, None, _encode({"message": reason}))


def _other_key(wire: _Wire) -> str | None:
    """The key of a line that has no string there."""
    for raw in (wire.key, wire.custom_id):
        key = _key_in(raw)
        if key is not None:
            return key
    if not wire.metadata:
        return None
    try:
        return _key_in(_decode_metadata(wire.metadata).key)
    except msgspec.ValidationError:
        return None


def _key_in(raw: Raw) -> str | None:
    """A key that is no string counts as its JSON; null is none."""
    if not raw:
        return None
    try:
        return _decode_string(raw)
    except msgspec.ValidationError:
        return compact(raw).decode() if first_byte(raw) else None


def _joined(texts: list[Raw]) -> Sequence[bytes | memoryview]:
    """The pieces of one JSON string that holds all the texts. Their escapes stay as they came."""
    if not texts:
        return (b"null",)
    if len(texts) == 1:
        return texts
    return (b'"', *(memoryview(text)[1:-1] for text in texts), b'"')


def _field(error: bytes | None, kind: type[_Known]) -> _Known:
    try:
        return msgspec.json.decode(error or b"{}", type=kind)
    except ValueError:
        return kind()
