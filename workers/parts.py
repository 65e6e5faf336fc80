"""The splitter: streams a source into `raw/`, cut at line ends, and numbers lines and occurrences of keys.

A part is stored when its `part-…json` stands in `_work/`; a restart continues after the last one.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from workers import notes
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import Transient
from workers.results.json_text import is_utf8
from workers.results.keys import NO_KEY, KeyCounter, digest
from workers.results.lines import LineCutter, RawLine
from workers.results.result import key_of, keys_of
from workers.second_look import Looks, Verdict, second_look
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
    `utf8`: all of it is. `outputs`: what it is to become, empty where nobody said.
    """

    first_index: int
    utf8: bool = False
    occurrences: dict[int, int] = {}
    outputs: list[str] = []


class Split(msgspec.Struct, frozen=True):
    """A source that is wholly in `raw/`."""

    parts: list[Piece]
    lines: int
    raw_bytes: int
    raw_sha256: str


class _Begun(msgspec.Struct, frozen=True):
    identity: Identity
    part_bytes: int


class _Strays(msgspec.Struct, frozen=True):
    """Why there may be some. `at_second`: the source's first address has sent what is none."""

    reason: str
    at_second: bool = False


_part = msgspec.json.Decoder(Part)
_split = msgspec.json.Decoder(Split)
_begun = msgspec.json.Decoder(_Begun)
_strays = msgspec.json.Decoder(_Strays)


def read_split(bucket: Bucket, batch: str) -> Split | None:
    """The finished split of a batch, or None."""
    return notes.read(bucket, layout.split(batch), _split)


def read_part(bucket: Bucket, batch: str, number: int) -> Part | None:
    """What is known of a stored part, or None."""
    return notes.read(bucket, layout.part(batch, number), _part)


def forget_split(bucket: Bucket, batch: str, number: int) -> None:
    """Have part `number`, and what comes behind it, fetched again."""
    bucket.delete([layout.split(batch)])
    bucket.delete([layout.part(batch, number)])


def note_strays(bucket: Bucket, batch: str, reason: str, *, at_second: bool = False) -> None:
    """Remember that the batch's folder may hold objects that its results will not name, and where to ask first."""
    bucket.put(layout.strays(batch), msgspec.json.encode(_Strays(reason, at_second)), layout.JSON)


def lacking(bucket: Bucket, batch: str, whole: Split) -> tuple[int, ...]:
    """The parts of a split that are not fanned out."""
    done = {name for name, _ in bucket.list(layout.done_parts(batch))}
    return tuple(
        piece.number for piece in whole.parts if layout.done(batch, piece.number, piece.sha256) not in done
    )


def first_lacking(bucket: Bucket, batch: str, whole: Split, start: int) -> tuple[int, ...]:
    """The first part from `start` on, and around, that is not fanned out, if there is one.

    Parts are mostly done in their order, so that few of them are looked at, where a list would hold them all.
    """
    for piece in whole.parts[start:] + whole.parts[:start]:
        if bucket.size(layout.done(batch, piece.number, piece.sha256)) is None:
            return (piece.number,)
    return ()


def split(
    bucket: Bucket,
    batch: str,
    source: Source,
    part_bytes: int,
    *,
    outputs: Iterable[str] = (),
    expected: int | None = None,
) -> Iterator[tuple[Part, bool]]:
    """Store a source as raw parts, giving each one as soon as it is stored, those of an earlier run first.

    A part ends at the first line end at or after `part_bytes`, so the cut is the same on every run. Where the source
    is no longer the one that an earlier run began with, everything of that run is removed first. Where what came does
    not look whole, the source is read once more, and the split is begun anew if that gives something else.

    Args:
        bucket: where to.
        batch: the bare id.
        source: what is split.
        part_bytes: bytes.
        outputs: what each part is to become, noted with it.
        expected: how many lines there should be, where that is known.

    Yields:
        The part, and whether it is the whole source.

    Raises:
        Transient, Permanent: from the source or the bucket.
    """
    source = _at_address(bucket, batch, source)
    is_begun, begun, parts = _begun_earlier(bucket, batch)
    part_bytes = begun.part_bytes if begun else part_bytes
    stored = sum(part.bytes for part in parts)
    # From the last byte that is stored, so that a range which begins at the very end is never asked for.
    with source.open(max(0, stored - 1), begun.identity if begun else None) as opened:
        if begun is None or not begun.identity.may_be(opened.identity):
            if is_begun:
                _start_over(bucket, batch)
            parts, stored = [], 0
            begun = _Begun(opened.identity, part_bytes)
            notes.write(bucket, layout.source(batch), begun)
        if opened.start > stored:
            raise Transient("The result file is not the one that was begun with; it is fetched anew.")
        chunks = skip(opened.chunks, stored - opened.start)
        splitter = _Splitter(bucket, batch, part_bytes, chunks, sorted(outputs))
        for part in parts:
            splitter.resume(part)
            yield part, len(parts) == 1 and not splitter.has_more()
        while splitter.has_more():
            part = splitter.store_part()
            yield part, part.number == 0 and not splitter.has_more()
    whole = splitter.result()
    if splitter.looks_cut(expected):
        verdict = second_look(source, whole.raw_sha256, expected)
        if verdict is not Verdict.STAYS:
            _start_over(bucket, batch, elsewhere=verdict is Verdict.ELSEWHERE)
            raise Transient("What came as the result file was not the whole of it; it is fetched anew.")
    notes.write(bucket, layout.split(batch), whole)


def _at_address(bucket: Bucket, batch: str, source: Source) -> Source:
    """The source at the address that sent results, as far as that is known."""
    noted = notes.read(bucket, layout.strays(batch), _strays)
    return source.elsewhere() if noted and noted.at_second else source


def _begun_earlier(bucket: Bucket, batch: str) -> tuple[bool, _Begun | None, list[Part]]:
    """Whether there was an earlier run, and what is known of it."""
    blob = bucket.get(layout.source(batch))
    begun = notes.decoded(blob, _begun)
    parts: list[Part] = []
    while begun and (part := read_part(bucket, batch, len(parts))):
        parts.append(part)
    return blob is not None, begun, parts


def _start_over(bucket: Bucket, batch: str, *, elsewhere: bool = False) -> None:
    """Remove an earlier run, source.json last: while it stands, the removal is known to be unfinished.

    `elsewhere`: the next one is to ask at the source's other address.
    """
    noted = notes.read(bucket, layout.strays(batch), _strays)
    at_second = (noted is not None and noted.at_second) is not elsewhere
    note_strays(bucket, batch, "the source changed", at_second=at_second)
    kept = {layout.plan(batch), layout.strays(batch), layout.source(batch)}
    bucket.delete([layout.split(batch)])
    bucket.delete_tree(layout.inside(batch, "raw"))
    names = [name for name, _ in bucket.list(layout.work(batch))]
    bucket.delete(name for name in names if name not in kept)
    bucket.delete([layout.source(batch)])


class _Splitter:
    def __init__(
        self, bucket: Bucket, batch: str, part_bytes: int, chunks: Iterator[bytes], outputs: list[str]
    ) -> None:
        self._outputs = outputs
        self._is_cut = False
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

    def looks_cut(self, expected: int | None) -> bool:
        """Whether what was stored in this run can hardly be all: too few lines, half a line, or no results at all."""
        return self._is_cut or (expected is not None and self._lines < expected)

    def resume(self, part: Part) -> None:
        """Take over a part of an earlier run: its keys from `_work/`, its bytes for the hash of the whole."""
        keys = self._bucket.get(layout.part_keys(self._batch, part.number))
        if keys is None:
            forget_split(self._bucket, self._batch, part.number)
            raise Transient(f"{layout.part_keys(self._batch, part.number)} is missing; it is fetched again.")
        self._counter.number(keys)
        for chunk in self._bucket.read(layout.inside(self._batch, layout.raw_part(part.number))):
            self._content.update(chunk)
        self._passed(part)

    def has_more(self) -> bool:
        """Whether the source goes on behind the last part."""
        return bool(self._refill())

    def store_part(self) -> Part:
        """Store the next raw part and its keys, and note it once they are durable."""
        with self._bucket.group() as bucket:
            part = self._stored(bucket)
        notes.write(bucket, layout.part(self._batch, part.number), part)
        self._passed(part)
        return part

    def _stored(self, bucket: Bucket) -> Part:
        number, size = len(self._pieces), 0
        content = hashlib.sha256()
        keys = _Keys(ignores_case=self._bucket.ignores_case)
        raw = layout.inside(self._batch, layout.raw_part(number))
        with bucket.writer(raw, layout.JSON_LINES) as writer:
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
        self._is_cut |= keys.looks.is_cut or (not number and not keys.looks.like_results)
        bucket.put(layout.part_keys(self._batch, number), digests, layout.BYTES)
        return Part(
            number=number,
            first_index=self._lines,
            lines=len(digests) // len(NO_KEY),
            bytes=size,
            sha256=content.hexdigest(),
            utf8=keys.utf8,
            occurrences=self._counter.number(digests),
            outputs=self._outputs,
        )

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
        self.looks = Looks()
        self._ignores_case = ignores_case
        self._cutter = LineCutter()
        self._digests: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        begun, block = self._cutter.cut(chunk)
        if begun:
            self._take([begun])
        if block:
            keys = keys_of(block.data)
            if keys is None:
                self._take(block.lines())
            else:
                self.looks.lines += len(keys)
                self._digests += [digest(key, ignores_case=self._ignores_case) for key in keys]

    def end(self) -> bytes:
        last = list(self._cutter.end())
        self._take(last)
        self.looks.end(last)
        return b"".join(self._digests)

    def _take(self, lines: Iterable[RawLine]) -> None:
        for line in lines:
            if line.blank:
                continue
            key = None
            self.looks.take(line)
            if line.data is None or not is_utf8(line.data):
                self.utf8 = False
            else:
                key = key_of(line.data)
            self._digests.append(digest(key, ignores_case=self._ignores_case) if key else NO_KEY)
