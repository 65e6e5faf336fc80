"""Two lists too long for memory, held against each other: SQLite's sorter in a temporary file does the work.

Rows are appended as they come, without an index, and sorted once when they are compared: an external merge, in
memory that does not grow with them. The file has no name, so nothing of it can outlive the process.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

from workers.bucket.protocol import DiskFull

_CACHE_KIB = 16 * 1024
_ROWS_AT_ONCE = 2000

_SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE objects (name TEXT, is_expected INTEGER, size INTEGER, digest BLOB);
CREATE TABLE calls (key TEXT, line INTEGER, status TEXT);
CREATE TABLE chosen (line INTEGER);
BEGIN;
"""
_HELD = """
SELECT name,
       sum(is_expected),
       max(CASE WHEN is_expected THEN size END) AS size_expected,
       max(CASE WHEN NOT is_expected THEN size END) AS size_found,
       max(digest) AS digest
FROM objects
GROUP BY name
HAVING sum(is_expected) != 1 OR size_found IS NULL OR size_expected != size_found OR digest IS NOT NULL
"""


class Held(NamedTuple):
    """What should be of an object, held against what is: how often it is expected, its size so, and the size found.

    In bytes. `size_expected` is None where any size will do, `size_found` where there is no such object, `digest`
    where its content is not known or not asked for.
    """

    name: str
    times_expected: int
    size_expected: int | None
    size_found: int | None
    digest: bytes | None

    @property
    def may_be_right(self) -> bool:
        """Whether it is as expected but for its content."""
        return (
            self.times_expected == 1 and self.size_found is not None and self.size_found == self.size_expected
        )


class Call(NamedTuple):
    """A request of the user, with its line from 1; or an answer, with line 0 and its status."""

    key: str
    line: int
    status: str | None


class Ledger:
    """Takes what should be and what is, gives back what differs.

    Raises:
        DiskFull: from any method, when there is no room for the temporary file.
    """

    def __init__(self) -> None:
        with _translated():
            # The empty name is a file of SQLite's own, unlinked as soon as it is open.
            self._connection = sqlite3.connect("", isolation_level=None)
            self._connection.executescript(_SCHEMA)
        self._objects = _Rows(self._connection, "INSERT INTO objects VALUES (?, ?, ?, ?)")
        self._calls = _Rows(self._connection, "INSERT INTO calls VALUES (?, ?, ?)")
        self._chosen = _Rows(self._connection, "INSERT INTO chosen VALUES (?)")

    def expect(self, name: str, size: int | None = None, digest: bytes | None = None) -> None:
        """An object that must be there, of this many bytes and with this digest unless None."""
        self._objects.add((name, 1, size, digest))

    def find(self, name: str, size: int) -> None:
        """An object that is there."""
        self._objects.add((name, 0, size, None))

    def held(self) -> Iterator[Held]:
        """By name, every object that is missing, stray, of another size or expected more than once; or has a digest."""
        self._objects.flush()
        return map(Held._make, self._rows(_HELD))

    def answer(self, key: str, status: str) -> None:
        self._calls.add((key, 0, status))

    def ask(self, key: str, line: int) -> None:
        """A request for `key` in this line of the input, counted from 1."""
        self._calls.add((key, line, None))

    def calls(self) -> Iterator[Call]:
        """All answers and requests, by key; those of one key together, its answers first."""
        self._calls.flush()
        return map(Call._make, self._rows("SELECT key, line, status FROM calls ORDER BY key, line"))

    def choose(self, line: int) -> None:
        """Remember a line of the input."""
        self._chosen.add((line,))

    def chosen(self) -> Iterator[int]:
        """The lines that were chosen, in ascending order."""
        self._chosen.flush()
        return (line for (line,) in self._rows("SELECT line FROM chosen ORDER BY line"))

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        with _translated():
            yield from self._connection.execute(query)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


class _Rows:
    """Rows on their way into a table, some thousand at a time."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection = connection
        self._statement = statement
        self._waiting: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        with _translated():
            self._connection.executemany(self._statement, self._waiting)
        self._waiting.clear()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DiskFull(
            f"No room to compare what is in the bucket ({error}): "
            "let TMPDIR name a folder with more, then run the command again."
        ) from error
