"""Requests and their results put together by key, whatever their order: SQLite in a temporary file, in flat memory.

A key that was asked several times wants several results: the first is the first's, and so on. Of the results of several
attempts the last good one counts or, where none is good, the last. The file has no name: nothing outlives the process.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self, TypeVar

from sender.requests import Asked
from workers.results.keys import NO_KEY, KeyCounter

_CACHE_KIB = 32 * 1024
_ROWS_AT_ONCE = 4096
# What has no key is numbered by where it is from, so that it is never matched by its place.
_ASKED = 1 << 20

_SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE asked (
    position INTEGER PRIMARY KEY, digest BLOB, occurrence INTEGER, start INTEGER, length INTEGER, source INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX by_key ON asked (digest, occurrence);
CREATE TABLE results (
    digest BLOB, occurrence INTEGER, good INTEGER, status TEXT, finish TEXT, at INTEGER, length INTEGER,
    attempts INTEGER NOT NULL DEFAULT 1, sequence INTEGER,
    PRIMARY KEY (digest, occurrence)
) WITHOUT ROWID;
BEGIN;
"""
_ASK = "INSERT OR IGNORE INTO asked (digest, occurrence, start, length, source) VALUES (?, ?, ?, ?, ?)"
_ATTEMPT = "UPDATE asked SET attempts = attempts + 1 WHERE digest = ? AND occurrence = ?"
_ANSWER = """
INSERT INTO results (digest, occurrence, good, status, finish, at, length, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest, occurrence) DO UPDATE SET
    attempts = attempts + 1,
    at = CASE WHEN excluded.good >= good THEN excluded.at ELSE at END,
    length = CASE WHEN excluded.good >= good THEN excluded.length ELSE length END,
    status = CASE WHEN excluded.good >= good THEN excluded.status ELSE status END,
    finish = CASE WHEN excluded.good >= good THEN excluded.finish ELSE finish END,
    good = max(good, excluded.good)
"""
_ROWS = """
SELECT a.start, a.length, a.source, a.attempts, r.status, r.finish, r.at, r.length, r.attempts
FROM asked a LEFT JOIN results r ON a.digest = r.digest AND a.occurrence = r.occurrence
ORDER BY a.position
"""
_UNASKED = """
SELECT NULL, NULL, NULL, 0, r.status, r.finish, r.at, r.length, r.attempts
FROM results r
WHERE NOT EXISTS (SELECT 1 FROM asked a WHERE a.digest = r.digest AND a.occurrence = r.occurrence)
ORDER BY r.sequence
"""


class Answered(NamedTuple):
    """A result by the digest of its key. `at` and `length` say where the caller keeps what belongs to it."""

    digest: bytes
    good: bool
    status: str
    finish: str | None = None
    at: int = 0
    length: int = 0


class Row(NamedTuple):
    """A request with what became of it; of a result that nobody asked for, the second half alone.

    `source` says which file of requests `start` and `length` are of. `asked` counts the batches that it was in, as far
    as they were noted, `results` those that gave it a result.
    """

    start: int | None
    length: int | None
    source: int | None
    asked: int
    status: str | None
    finish: str | None
    at: int | None
    size: int | None
    results: int | None


class Ledger:
    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def ask(self, requests: Iterable[Asked], source: int) -> None:
        """Take requests in their order. What was asked before, as often, is not another request."""
        rows = (
            (each.digest, number, each.start, each.length, source)
            for each, number in _numbered(requests, _ASKED + source)
        )
        self._database.executemany(_ASK, rows)

    def attempt(self, requests: Iterable[Asked], source: int) -> None:
        """Note that these were in one more batch."""
        rows = ((each.digest, number) for each, number in _numbered(requests, _ASKED + source))
        self._database.executemany(_ATTEMPT, rows)

    def answer(self, results: Iterable[Answered], source: int) -> None:
        """Take the results of one batch; of several, the oldest first."""
        self._database.executemany(_ANSWER, self._answers(results, source))

    def _answers(self, results: Iterable[Answered], source: int) -> Iterator[tuple[object, ...]]:
        for each, number in _numbered(results, source):
            self._sequence += 1
            yield (
                each.digest,
                number,
                each.good,
                each.status,
                each.finish,
                each.at,
                each.length,
                self._sequence,
            )

    def rows(self) -> Iterator[Row]:
        """Every request, in the order in which they were asked; behind them, results that nobody asked for."""
        for query in (_ROWS, _UNASKED):
            yield from map(Row._make, self._database.execute(query))


_Digested = TypeVar("_Digested", Asked, Answered)


def _numbered(items: Iterable[_Digested], source: int) -> Iterator[tuple[_Digested, int]]:
    """Each with which one it is, from 1, of those with its key; without a key, with a number that nothing shares."""
    counter, without = KeyCounter(), 0
    held: list[_Digested] = []

    def told() -> Iterator[tuple[_Digested, int]]:
        nonlocal without
        repeats = counter.number(b"".join([each.digest for each in held]))
        for at, each in enumerate(held):
            if each.digest == NO_KEY:
                without += 1
                yield each, -(source << 40) - without
            else:
                yield each, repeats.get(at, 1)

    for item in items:
        held.append(item)
        if len(held) == _ROWS_AT_ONCE:
            yield from told()
            held.clear()
    yield from told()
