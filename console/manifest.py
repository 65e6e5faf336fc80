"""The manifest of a committed batch, read from where a page begins: nothing before that, and no more than it takes.

A page is named by the offset of its first line, so the last of a million results is as near as the first. A search
looks for the bytes of what it wants and decodes only the lines that hold them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject

PER_PAGE = 50
SEARCH_SECONDS = 2.0
_CHUNK = 1 << 20
_FIRST_CHUNK = 64 << 10
_PROBE = 4 << 10
_MOST_LINE = 4 << 20

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results: `key` is looked for anywhere in theirs; the other two have to be equal."""

    key: str = ""
    status: str = ""
    finish: str = ""

    @property
    def is_empty(self) -> bool:
        return self == Wanted()

    @property
    def needle(self) -> bytes:
        """Bytes that every line that matches holds, as rare ones as there are; empty where all do."""
        if self.key:
            return msgspec.json.encode(self.key)[1:-1]
        if self.finish:
            return b'"finish_reason":' + msgspec.json.encode(self.finish)
        return b'"status":' + msgspec.json.encode(self.status) if self.status else b""

    def matches(self, entry: dict[str, Any]) -> bool:
        return (
            self.key in str(entry.get("key") or "")
            and self.status in {"", entry.get("status")}
            and self.finish in {"", entry.get("finish_reason")}
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Entries with their offsets. `after`: where the next page begins, None at the end; `searched`: how far it got."""

    entries: list[tuple[int, dict[str, Any]]]
    after: int | None
    searched: int


def page(bucket: Bucket, batch: str, wanted: Wanted, start: int = 0, limit: int = PER_PAGE) -> Found | None:
    """The results from the offset `start` on that match; None where there is no manifest, or `start` is past its end.

    A search ends after two seconds, with fewer entries than it might have found and with where to go on.

    Raises:
        WorkerError: the bucket.
    """
    size = bucket.size(layout.manifest(batch))
    if size is None or (start and start >= size):
        return None
    deadline = monotonic() + SEARCH_SECONDS
    entries: list[tuple[int, dict[str, Any]]] = []
    at = start
    try:
        for offset, line in _candidates(bucket, batch, wanted.needle, start):
            at = offset + len(line) + 1
            if line:
                entry = _entry(line)
                if entry is None:
                    continue
                if wanted.matches(entry):
                    entries.append((offset, entry))
            if len(entries) == limit or monotonic() > deadline:
                return Found(entries, at, at)
    except MissingObject:
        return None
    return Found(entries, None, at)


def entry_at(bucket: Bucket, batch: str, offset: int) -> dict[str, Any] | None:
    """The entry whose line begins at `offset`; None where none does. Raises `WorkerError`."""
    size = bucket.size(layout.manifest(batch))
    if size is None or offset >= size or (offset and _byte_before(bucket, batch, offset) != b"\n"):
        return None
    try:
        for _, line in _lines(bucket, batch, offset):
            return _entry(line)
    except MissingObject:
        return None
    return None


def entry_of(bucket: Bucket, batch: str, index: int) -> tuple[int, dict[str, Any]] | None:
    """The entry with this index, and its offset: lines are in the order of their indexes, so it is halved down to.

    Raises:
        WorkerError: the bucket.
    """
    low, high = 0, bucket.size(layout.manifest(batch)) or 0
    while low < high:
        middle = (low + high) // 2
        start, line = _line_from(bucket, batch, middle)
        entry = _entry(line) if line and start < high else None
        if entry is None or entry["index"] > index:
            high = middle
        elif entry["index"] < index:
            low = start + len(line) + 1
        else:
            return start, entry
    return None


def _line_from(bucket: Bucket, batch: str, at: int) -> tuple[int, bytes]:
    """The first line that begins at `at` or after it, and where; an empty one where none does."""
    held, skipped = b"", at == 0
    start = max(0, at - 1)
    for piece in bucket.read(layout.manifest(batch), _PROBE, start):
        held += bytes(piece)
        if not skipped and (end := held.find(b"\n")) >= 0:
            held, start, skipped = held[end + 1 :], start + end + 1, True
        if skipped and (end := held.find(b"\n")) >= 0:
            return start, held[:end]
        if len(held) > _MOST_LINE:
            break
    return start, b""


def _byte_before(bucket: Bucket, batch: str, offset: int) -> bytes:
    try:
        return next(bucket.read(layout.manifest(batch), 1, offset - 1), b"")
    except MissingObject:
        return b""


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line as a page can show it; None for one that was damaged."""
    try:
        entry = _decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(entry.get("index"), int) or not isinstance(entry.get("status"), str):
        return None
    media, usage = entry.get("media"), entry.get("usage")
    entry["media"] = [each for each in media if isinstance(each, dict)] if isinstance(media, list) else []
    entry["usage"] = (
        {kind: count for kind, count in usage.items() if isinstance(count, int)}
        if isinstance(usage, dict)
        else None
    )
    return entry


def _candidates(bucket: Bucket, batch: str, needle: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line that holds `needle`; an empty one now and then, for whoever watches the time."""
    if not needle:
        yield from _lines(bucket, batch, start)
        return
    for offset, block in _blocks(bucket, batch, start, _CHUNK):
        at = 0
        while (found := block.find(needle, at)) >= 0:
            begin = block.rfind(b"\n", 0, found) + 1
            end = block.find(b"\n", found)
            end = len(block) if end < 0 else end
            yield offset + begin, block[begin:end]
            at = end + 1
        yield offset + len(block) - 1, b""


def _lines(bucket: Bucket, batch: str, start: int) -> Iterator[tuple[int, bytes]]:
    for offset, block in _blocks(bucket, batch, start, _FIRST_CHUNK):
        at = offset
        for line in block.split(b"\n"):
            if line:
                yield at, line
            at += len(line) + 1


def _blocks(bucket: Bucket, batch: str, start: int, chunk: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, many at a time, each block with its offset and its last line end."""
    rest, at = b"", start
    for piece in bucket.read(layout.manifest(batch), chunk, start):
        held = rest + bytes(piece)
        cut = held.rfind(b"\n") + 1
        if not cut and len(held) > _MOST_LINE:
            return
        if cut:
            yield at, held[:cut]
        rest, at = held[cut:], at + cut
    if rest:
        yield at, rest
