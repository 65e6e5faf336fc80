"""The splitter: streams a source into `raw/`, cut at line ends, and numbers lines and occurrences of keys.

A part is stored when its `part-…json` stands in `_work/`; a restart continues after the last one.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import Incomplete, Transient
from workers.results.json_text import is_utf8
from workers.results.keys import NO_KEY, KeyCounter, digest
from workers.results.lines import LineCutter, RawLine
from workers.results.result import key_of
from workers.sources import Identity, Source, skip


class Piece(msgspec.Struct, frozen=True):
    """A stored raw part. `lines` counts those that are not blank."""

    number: int
    lines: int
    bytes: int
    sha256: str


class Part(Piece, frozen=True):
    """What the fan-out needs to know of a raw part. `first_index` is the index of its first line.

    `occurrences` names the lines, by their place among those of the part, that repeat a key of an earlier line.
    `utf8`: all of it is.
    """

    first_index: int
    utf8: bool = False
    occurrences: dict[int, int] = {}


class Split(msgspec.Struct, frozen=True):
    """A source that is wholly in `raw/`."""

    parts: list[Piece]
    lines: int
    raw_bytes: int
    raw_sha256: str


class _Begun(msgspec.Struct, frozen=True):
    identity: Identity
    part_bytes: int


_part = msgspec.json.Decoder(Part)
_split = msgspec.json.Decoder(Split)
_begun = msgspec.json.Decoder(_Begun)


def read_split(bucket: Bucket, batch: str) -> Split | None:
    """The finished split of a batch, or None."""
    blob = bucket.get(layout.split(batch))
    return _split.decode(blob) if blob is not None else None


def read_part(bucket: Bucket, batch: str, number: int) -> Part | None:
    """What is known of a stored part, or None."""
    blob = bucket.get(layout.part(batch, number))
    return _part.decode(blob) if blob is not None else None


def all_done(bucket: Bucket, batch: str) -> bool:
    """Whether the source is wholly split and the outputs and manifests of all its parts are stored."""
    whole = read_split(bucket, batch)
    if whole is None:
        return False
    done = {name for name, _ in bucket.list(layout.done_parts(batch))}
    return all(layout.done(batch, piece.number, piece.sha256) in done for piece in whole.parts)


def split(bucket: Bucket, batch: str, source: Source, part_bytes: int) -> Iterator[tuple[Part, bool]]:
    """Store a source as raw parts, giving each one as soon as it is stored, those of an earlier run first.

    A part ends at the first line end at or after `part_bytes`, so the cut is the same on every run. Where the source
    is no longer the one that an earlier run began with, everything of that run is removed first.

    Yields:
        The part, and whether it is the whole source.

    Raises:
        Transient, Permanent: from the source or the bucket.
    """
    begun, parts = _begun_earlier(bucket, batch)
    part_bytes = begun.part_bytes if begun else part_bytes
    stored = sum(part.bytes for part in parts)
    # From the last byte that is stored, so that a range which begins at the very end is never asked for.
    with source.open(max(0, stored - 1), begun.identity if begun else None) as opened:
        if begun is None or not begun.identity.may_be(opened.identity):
            if begun is not None or parts:
                _start_over(bucket, batch)
            parts, stored = [], 0
            begun = _Begun(opened.identity, part_bytes)
            bucket.put(layout.source(batch), msgspec.json.encode(begun), layout.JSON)
        if opened.start > stored:
            raise Transient("The result file is not the one that was begun with; it is fetched anew.")
        chunks = skip(opened.chunks, stored - opened.start)
        splitter = _Splitter(bucket, batch, part_bytes, chunks)
        for part in parts:
            splitter.resume(part)
            yield part, len(parts) == 1 and not splitter.has_more()
        while splitter.has_more():
            part = splitter.store_part()
            yield part, part.number == 0 and not splitter.has_more()
    bucket.put(layout.split(batch), msgspec.json.encode(splitter.result()), layout.JSON)


def _begun_earlier(bucket: Bucket, batch: str) -> tuple[_Begun | None, list[Part]]:
    blob = bucket.get(layout.source(batch))
    if blob is None:
        return None, []
    parts: list[Part] = []
    while part := read_part(bucket, batch, len(parts)):
        parts.append(part)
    return _begun.decode(blob), parts


def _start_over(bucket: Bucket, batch: str) -> None:
    """Remove an earlier run, source.json last: while it stands, the removal is known to be unfinished."""
    bucket.delete_tree(layout.inside(batch, "raw"))
    names = [name for name, _ in bucket.list(layout.work(batch)) if name != layout.plan(batch)]
    bucket.delete(name for name in names if name != layout.source(batch))
    bucket.delete([layout.source(batch)])


class _Splitter:
    def __init__(self, bucket: Bucket, batch: str, part_bytes: int, chunks: Iterator[bytes]) -> None:
        self._bucket = bucket
        self._batch = batch
        self._part_bytes = part_bytes
        self._chunks = chunks
        self._rest = b""
        self._counter = KeyCounter()
        self._content = hashlib.sha256()
        self._pieces: list[Piece] = []
        self._lines = self._bytes = 0

    def result(self) -> Split:
        return Split(self._pieces, self._lines, self._bytes, self._content.hexdigest())

    def resume(self, part: Part) -> None:
        """Take over a part of an earlier run: its keys from `_work/`, its bytes for the hash of the whole."""
        keys = self._bucket.get(layout.part_keys(self._batch, part.number))
        if keys is None:
            # Forgotten, so that a replay fetches it again.
            self._bucket.delete([layout.part(self._batch, part.number)])
            raise Incomplete(f"{layout.part_keys(self._batch, part.number)} is missing; replay the batch.")
        self._counter.number(keys)
        for chunk in self._bucket.read(layout.inside(self._batch, layout.raw_part(part.number))):
            self._content.update(chunk)
        self._passed(part)

    def has_more(self) -> bool:
        """Whether the source goes on behind the last part."""
        return bool(self._refill())

    def store_part(self) -> Part:
        number, size = len(self._pieces), 0
        content = hashlib.sha256()
        keys = _Keys(ignores_case=self._bucket.ignores_case)
        raw = layout.inside(self._batch, layout.raw_part(number))
        with self._bucket.writer(raw, layout.JSON_LINES) as writer:
            while chunk := self._refill():
                end = chunk.find(b"\n", max(0, self._part_bytes - 1 - size)) + 1
                chunk, self._rest = (chunk[:end], chunk[end:]) if end else (chunk, b"")
                size += len(chunk)
                writer.write(chunk)
                content.update(chunk)
                if number:
                    self._content.update(chunk)
                keys.feed(chunk)
                if end:
                    break
        if not number:
            self._content = content.copy()
        digests = keys.end()
        part = Part(
            number=number,
            first_index=self._lines,
            lines=len(digests) // len(NO_KEY),
            bytes=size,
            sha256=content.hexdigest(),
            utf8=keys.utf8,
            occurrences=self._counter.number(digests),
        )
        self._bucket.put(layout.part_keys(self._batch, number), digests, layout.BYTES)
        self._bucket.put(layout.part(self._batch, number), msgspec.json.encode(part), layout.JSON)
        self._passed(part)
        return part

    def _passed(self, part: Part) -> None:
        self._pieces.append(Piece(part.number, part.lines, part.bytes, part.sha256))
        self._lines += part.lines
        self._bytes += part.bytes

    def _refill(self) -> bytes:
        """The bytes that come next, empty only at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest = chunk
        return self._rest


class _Keys:
    """The key digests of one part's lines, `NO_KEY` for a line without a key, nothing for a blank one."""

    def __init__(self, *, ignores_case: bool) -> None:
        self.utf8 = True
        self._ignores_case = ignores_case
        self._cutter = LineCutter()
        self._digests: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        self._take(self._cutter.feed(chunk))

    def end(self) -> bytes:
        self._take(self._cutter.end())
        return b"".join(self._digests)

    def _take(self, lines: Iterable[RawLine]) -> None:
        for line in lines:
            if line.blank:
                continue
            key = None
            if line.data is None or not is_utf8(line.data):
                self.utf8 = False
            else:
                key = key_of(line.data)
            self._digests.append(digest(key, ignores_case=self._ignores_case) if key else NO_KEY)
