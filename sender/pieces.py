"""A request file as what is submitted of it: one batch, or pieces of whole lines, each hashed as it is checked."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sender.check import FILE_LIMIT_BYTES, Check
from sender.examine import Fault
from sender.lines import blocks
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import submissions
from workers.results.keys import DIGEST_BYTES

_CHUNK = 1 << 20
_DIGESTS_IN_MEMORY = 4 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Lines of a file: between two bytes, the first of them being line `first`."""

    start: int
    end: int
    first: int = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes one batch. `digests` holds those of its keys."""

    path: Path
    span: Span
    requests: int
    sha256: str
    digests: IO[bytes]

    @property
    def size(self) -> int:
        return self.span.end - self.span.start

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start` on. Raises `OSError`."""
        with self.path.open("rb") as file:
            file.seek(self.span.start + start)
            left = self.size - start
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk


def spans(path: Path, requests: int | None, size: int | None) -> Iterator[Span]:
    """A file cut after so many requests, and before a piece would be larger than `size` bytes; a line stays whole.

    Raises:
        OSError: it can't be read.
    """
    whole = path.stat().st_size
    if requests is None and (size is None or whole <= size):
        yield Span(0, whole)
        return
    start, first, at, number, count = 0, 1, 0, 1, 0
    with path.open("rb") as file:
        for block in blocks(file):
            for line in block.data.splitlines(keepends=True):
                full = count == requests or (size is not None and count and at + len(line) - start > size)
                if full and line.strip():
                    yield Span(start, at, first)
                    start, first, count = at, number, 0
                at += len(line)
                number += 1
                count += bool(line.strip())
    yield Span(start, at, first)


@contextmanager
def prepared(
    path: Path, cuts: list[Span], check: Check, passed: Callable[[int], object]
) -> Iterator[list[Piece]]:
    """Read a file once: check it, and hash each of its pieces and their keys. `passed` is told bytes.

    The pieces are of use within the block. Raises `OSError`.
    """
    with ExitStack() as stack, path.open("rb") as file:
        pieces = []
        for span in cuts:
            if span.end - span.start > FILE_LIMIT_BYTES:
                check.findings.note(0, Fault("file-too-large"))
            content, begun = hashlib.sha256(), check.requests
            digests = stack.enter_context(tempfile.SpooledTemporaryFile(_DIGESTS_IN_MEMORY))
            check.digests = digests.write
            for block in check.read(file, span.start, span.end, span.first):
                content.update(block.data)
                passed(len(block.data))
            pieces.append(Piece(path, span, check.requests - begun, content.hexdigest(), digests))
        yield pieces


def keep(bucket: Bucket, name: str, piece: Piece, *, with_requests: bool) -> None:
    """Store the digests of a piece's keys beside its record and, if wanted, its requests."""
    piece.digests.seek(0)
    with bucket.writer(submissions.keys(name), layout.BYTES) as writer:
        while chunk := piece.digests.read(DIGEST_BYTES << 16):
            writer.write(chunk)
    if with_requests:
        with bucket.writer(submissions.requests(name), layout.JSON_LINES) as writer:
            for chunk in piece.chunks():
                writer.write(chunk)
