"""The two documents of a result: its output, and its line of `manifest.jsonl`.

They are described here for whoever reads them, and for `docs/schemas/`. What processing writes is put together from
bytes, in `workers.results.result` and here, and is the same as these would be encoded.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from workers.results.answers import Usage
from workers.results.media import MediaEntry
from workers.results.result import Rendered, Status, finish_label

_Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class Document(Struct, frozen=True, gc=False, kw_only=True):
    """`outputs/<name>.json`: what became of one request.

    `response` is what Gemini answered, its media replaced by their names, where it succeeded; else there is `error`.
    """

    key: str | None
    index: int
    status: Status
    text: str | None
    finish_reason: str | None
    block_reason: str | None
    usage: Usage | None
    media: list[MediaEntry]
    response: _Object | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class Location(Struct, frozen=True, gc=False):
    """Where a raw line starts in its part and how long it is without its end, in bytes."""

    part: str
    offset: int
    length: int


class Entry(Struct, frozen=True, gc=False, kw_only=True):
    """A line of `manifest.jsonl`. `object` is the output's name, null without `objects` in `OUTPUTS`."""

    key: str | None
    index: int
    status: Status
    finish_reason: str | None
    block_reason: str | None
    usage: Usage | None
    media: list[MediaEntry]
    error: Raw | UnsetType = UNSET
    object: str | None
    raw: Location

    @property
    def finish_label(self) -> str | None:
        """What it counts as in `finish_reasons` of `batch.json`."""
        return finish_label(self.finish_reason, self.block_reason)


read = msgspec.json.Decoder(Entry).decode
"""An entry from its line. Raises `msgspec.MsgspecError`, or `RecursionError` for what nests too deep."""

_encode = msgspec.json.Encoder().encode


def objects_of(line: bytes) -> Iterator[str]:
    """The names, relative to the batch's folder, of the objects that a line of the manifest stands for.

    Raises:
        msgspec.MsgspecError, RecursionError: it is no such line.
    """
    entry = read(line)
    if entry.object:
        yield entry.object
    yield from (medium.object for medium in entry.media if medium.object)


def manifest_line(rendered: Rendered, part: str, offset: int, length: int, *, has_object: bool) -> bytes:
    """The bytes of a result's `Entry`, with a newline. The pieces are encoded once, for document and manifest.

    Args:
        rendered: the result.
        part: the raw part's name, relative to the batch's folder.
        offset: where in that part the line starts, in bytes.
        length: of the line without its end, in bytes.
        has_object: whether `document` is written to `outputs/`.
    """
    return b'%b%b%b,"object":%b,"raw":{"part":%b,"offset":%d,"length":%d}}\n' % (
        rendered.head,
        rendered.facts,
        b"" if rendered.error is None else b',"error":' + rendered.error,
        b'"%b"' % rendered.object_name.encode() if has_object else b"null",
        _encode(part),
        offset,
        length,
    )
