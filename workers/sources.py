"""Where a batch's raw lines come from: a result file that is streamed, or an inline answer that is in memory."""

import hashlib
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import msgspec

from workers.errors import GeminiUnavailable, TooSlow
from workers.gemini.batches import Batch
from workers.gemini.client import Gemini
from workers.gemini.files import Download
from workers.results import json_text

_RECONNECTS = 5
_RECONNECT_SECONDS = 0.5


class Identity(msgspec.Struct, frozen=True):
    """What tells whether a source is still the one that a half-done split began with."""

    file: str | None
    length: int | None
    etag: str | None

    def may_be(self, other: "Identity") -> bool:
        """Whether both can be the same: a server that streams tells the length only with a range."""
        lengths = {self.length, other.length} - {None}
        return (self.file, self.etag) == (other.file, other.etag) and len(lengths) < 2


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is open: `chunks` starts at byte `start` of what `identity` names."""

    identity: Identity
    start: int
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class FileSource:
    """A result file at Gemini, which has two addresses. `at_second`: the one of the SDK is asked first."""

    gemini: Gemini
    file: str
    at_second: bool = False

    def elsewhere(self) -> "FileSource":
        """The same file at the other address."""
        return replace(self, at_second=not self.at_second)

    @contextmanager
    def open(self, start: int, known: Identity | None) -> Iterator[Opened]:
        """Open at byte `start` of the file that was `known`; it may begin earlier, or be another file by now."""
        with ExitStack() as stack:
            etag = known.etag if known else None
            first = stack.enter_context(
                self.gemini.download(self.file, start, etag, at_second=self.at_second)
            )
            identity = Identity(self.file, first.length, first.etag)
            yield Opened(identity, first.start, self._follow(first, stack))

    def _follow(self, download: Download, stack: ExitStack) -> Iterator[bytes]:
        """The bytes of a download; where the connection breaks, it goes on at the same byte."""
        at, etag, length, failures = download.start, download.etag, download.length, 0
        while True:
            try:
                for chunk in download.chunks:
                    at += len(chunk)
                    failures = 0
                    yield chunk
                if length is None or at >= length:
                    return
                raise GeminiUnavailable("The download ended before its end.")  # noqa: TRY301
            except TooSlow:
                raise
            except GeminiUnavailable:
                failures += 1
                if failures > _RECONNECTS:
                    raise
            stack.close()
            time.sleep(_RECONNECT_SECONDS * failures)
            download.pace.waited(_RECONNECT_SECONDS * failures)
            start = 0 if download.compressed else at
            download = stack.enter_context(
                self.gemini.download(self.file, start, etag, download.pace, at_second=self.at_second)
            )
            same = Identity(None, length, etag).may_be(Identity(None, download.length, download.etag))
            if not same or download.start > at:
                raise GeminiUnavailable("The result file changed while it was downloaded.")
            length = download.length if length is None else length
            download = _skip_to(download, at)


@dataclass(frozen=True, slots=True)
class InlineSource:
    """The responses inside the batch's own answer, each made one line: white space between tokens removed."""

    elements: Collection[msgspec.Raw]

    def elsewhere(self) -> "InlineSource":
        """Itself: it came with the batch."""
        return self

    @contextmanager
    def open(self, start: int, known: Identity | None) -> Iterator[Opened]:
        del start, known
        length, content = 0, hashlib.sha256()
        for line in self._lines():
            length += len(line)
            content.update(line)
        yield Opened(Identity(None, length, content.hexdigest()), 0, self._lines())

    def _lines(self) -> Iterator[bytes]:
        for element in self.elements:
            yield json_text.compact(memoryview(element)) + b"\n"


Source = FileSource | InlineSource


def source_of(batch: Batch, gemini: Gemini) -> Source | None:
    """Where this batch's results are; None where there are none (yet).

    An inline answer without elements counts as an output only of a batch that Gemini itself says is empty.
    """
    if batch.result_file:
        return FileSource(gemini, batch.result_file)
    if batch.inline or (batch.inline is not None and batch.expected == 0):
        return InlineSource(batch.inline)
    return None


def _skip_to(download: Download, at: int) -> Download:
    """The same download from byte `at` on, for a server that ignores `Range`."""
    return replace(download, start=at, chunks=skip(download.chunks, at - download.start))


def skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The chunks without their first `count` bytes."""
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
        else:
            yield chunk[count:] if count else chunk
            count = 0
