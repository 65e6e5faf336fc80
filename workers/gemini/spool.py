"""The body of an answer: in memory while it is small, beyond that in a file without a name, of which a part is mapped.

Where that file is says `TMPDIR`. It is gone with the last use of it, however the process ends.
"""

import mmap
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import IO

import msgspec

from workers.errors import Transient
from workers.gemini.scan import Bounds, pairs

_IN_MEMORY = 8 << 20
_LET_GO = 16 << 20


class Mapped:
    """Bytes of a file. `view` looks like bytes to whoever reads it, and takes no memory that others could not have."""

    def __init__(self, file: IO[bytes]) -> None:
        self.view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def __len__(self) -> int:
        return len(self.view)

    def passing(self) -> Callable[[int], None]:
        """For one pass from the first byte to the last: told how far it came, it lets go of what is behind."""
        behind = 0

        def passed(at: int) -> None:
            nonlocal behind
            until = at - at % mmap.PAGESIZE
            if until - behind >= _LET_GO:
                self.view.madvise(mmap.MADV_DONTNEED, behind, until - behind)
                behind = until

        return passed


Body = bytes | bytearray | memoryview | Mapped


class Elements(Collection[msgspec.Raw]):
    """Values that stand in a file. `bounds` say where; one at a time is read."""

    def __init__(self, body: Mapped, bounds: Bounds) -> None:
        self._body = body
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._bounds) // 2

    def __iter__(self) -> Iterator[msgspec.Raw]:
        passed = self._body.passing()
        for start, end in pairs(self._bounds):
            yield msgspec.Raw(self._body.view[start:end])
            passed(end)

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


class Spool:
    """Takes a body piece by piece."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, piece: bytes) -> None:
        """Raises `Transient` where there is no room for it."""
        self._held += piece
        if len(self._held) > _IN_MEMORY:
            self._put_down()

    def body(self) -> Body:
        """All of it; nothing may be written after that. Raises `Transient` where there is no room for it."""
        if self._file is None:
            return self._held
        self._put_down()
        with self._file as file:
            return Mapped(file)

    def _put_down(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this
            with memoryview(self._held) as left:
                written = 0
                while written < len(left):
                    written += self._file.write(left[written:])
        except OSError as error:
            raise Transient(
                f"No room for a large answer of Gemini in {tempfile.gettempdir()} ({error.strerror}): "
                "free space there, or set TMPDIR."
            ) from None
        self._held.clear()
