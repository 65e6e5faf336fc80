"""Cutting a stream of bytes into lines, in memory that does not grow with the stream."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from workers.results.result import LINE_LIMIT_BYTES, is_blank


class RawLine(Struct, frozen=True, gc=False):
    """One line: where it starts, its bytes without the line end, and those bytes unless they are over the limit."""

    offset: int
    length: int
    data: bytes | None

    @property
    def blank(self) -> bool:
        return self.data is not None and is_blank(self.data)


class Block(Struct, frozen=True, gc=False):
    """Whole lines side by side, each with its end, and where the first one starts."""

    offset: int
    data: bytes

    def lines(self, limit: int = LINE_LIMIT_BYTES) -> Iterator[RawLine]:
        offset = self.offset
        for piece in self.data.removesuffix(b"\n").split(b"\n"):
            size = len(piece)
            yield RawLine(offset, size, piece if size <= limit else None)
            offset += size + 1


class LineCutter:
    """Takes chunks as they come and gives lines as they are complete. Offsets count from 0."""

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit
        self._offset = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[RawLine]:
        begun, block = self.cut(chunk)
        if begun:
            yield begun
        if block:
            yield from block.lines(self._limit)

    def cut(self, chunk: bytes) -> tuple[RawLine | None, Block | None]:
        """The line that an earlier chunk began, where it ends in this one, and those that stand wholly in it."""
        begun, start = None, 0
        if self._size and (start := chunk.find(b"\n") + 1):
            self._hold(chunk[: start - 1])
            begun = self._release()
        end = max(start, chunk.rfind(b"\n") + 1)
        block = Block(self._offset, chunk[start:end]) if start < end else None
        self._offset += end - start
        self._hold(chunk[end:])
        return begun, block

    def end(self) -> Iterator[RawLine]:
        """The last line, where it has no line end."""
        if self._size:
            yield self._release()

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._held.clear()
        elif piece:
            self._held.append(piece)

    def _release(self) -> RawLine:
        line = RawLine(self._offset, self._size, b"".join(self._held) if self._size <= self._limit else None)
        self._offset += self._size + 1
        self._held.clear()
        self._size = 0
        return line


def lines(chunks: Iterable[bytes], limit: int = LINE_LIMIT_BYTES) -> Iterator[RawLine]:
    """The lines of a whole stream, a last one without a line end included."""
    cutter = LineCutter(limit)
    for chunk in chunks:
        yield from cutter.feed(chunk)
    yield from cutter.end()
