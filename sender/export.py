"""Batches as one table: a row a request, in the order of the requests, with the result that counts of all attempts."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from sender import requests
from sender.columns import MISSING, OF_REQUESTS, Taken, json_object
from sender.ledger import Answered, Ledger, Row
from sender.record import chain, of_batch
from sender.results import Result, commit_of, results
from workers.bucket.protocol import Bucket
from workers.results.json_text import is_utf8
from workers.results.keys import NO_KEY, digest
from workers.results.result import key_of

_SPOOL_IN_MEMORY = 8 << 20


@dataclass(frozen=True, slots=True)
class Batches:
    """What is exported together: `roots` as they were asked for, `attempts` all that they became, oldest first."""

    roots: list[str]
    attempts: list[str]


def batches_of(bucket: Bucket, asked: list[str]) -> Batches:
    """The batches that are asked for, each followed by what it was submitted again as."""
    attempts: dict[str, None] = {}
    roots: list[str] = []
    for batch in asked:
        if batch not in attempts:
            roots.append(batch)
        attempts |= dict.fromkeys(each for each, _ in chain(bucket, batch))
    return Batches(roots, list(attempts))


@dataclass(slots=True)
class Source:
    """Where requests are known from: a file, or digests alone."""

    ledger: Ledger
    bucket: Bucket
    stack: ExitStack
    paths: dict[int, Path] = field(default_factory=dict)

    def ask(self, batches: Batches, given: Path | None) -> bool:
        """Have the ledger know all requests; whether any are known.

        Raises:
            Transient, Permanent: from the bucket.
            OSError: a file can't be read.
        """
        if given is not None:
            self._file(given, 0)
            return True
        known = False
        for number, root in enumerate(batches.roots):
            found = of_batch(self.bucket, root)
            if found is None:
                continue
            known = True
            path = self.stack.enter_context(requests.kept(self.bucket, found[0]))
            if path is not None:
                self._file(path, number)
            else:
                self.ledger.ask(requests.in_digests(self.bucket, found[0]), number)
        return known

    def _file(self, path: Path, number: int) -> None:
        self.paths[number] = path
        self.ledger.ask(requests.in_file(path, ignores_case=self.bucket.ignores_case), number)


def answered(bucket: Bucket, batch: str, *, with_lines: bool = False) -> Iterator[tuple[Result, Answered]]:
    """The results of a committed batch, as the ledger takes them. Raises `NotReady` where it is not committed."""
    for each in results(bucket, batch, commit_of(bucket, batch), with_lines=with_lines):
        entry = each.entry
        key = digest(entry.key, ignores_case=bucket.ignores_case) if entry.key else NO_KEY
        yield each, Answered(key, each.is_good, str(entry.status), entry.finish_reason)


class Export:
    """Use it as a context manager: what it gathers stands in temporary files."""

    def __init__(self, bucket: Bucket, columns: list[str], *, json_columns: bool = False) -> None:
        self._bucket = bucket
        self._columns = columns
        self._json_columns = json_columns
        self._taken = Taken(columns, json_columns=json_columns)
        self._stack = ExitStack()
        self._ledger = self._stack.enter_context(Ledger())
        self._spool = self._stack.enter_context(_spool())
        self._source = Source(self._ledger, bucket, self._stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def columns(self) -> list[str]:
        """The names of all columns, once everything is gathered."""
        return [*self._columns, *self._named().values()]

    def gather(self, batches: Batches, given: Path | None) -> None:
        """Read requests and results.

        Raises:
            NotReady: one of the batches is not in the bucket.
            Transient, Permanent: from the bucket.
            OSError: a file can't be read, or there is no room in the temporary folder.
        """
        self._source.ask(batches, given)
        for number, batch in enumerate(batches.attempts):
            self._ledger.answer(self._kept(batch), number)

    def _kept(self, batch: str) -> Iterator[Answered]:
        at = self._spool.tell()
        for result, each in answered(self._bucket, batch, with_lines=self._taken.needs_lines):
            blob = self._taken.encoded(result, batch)
            self._spool.write(blob)
            yield each._replace(at=at, length=len(blob))
            at += len(blob)

    def rows(self, statuses: frozenset[str] = frozenset()) -> Iterator[dict[str, Any]]:
        """A row for each request, and for each result that nobody asked for; of these statuses, if any are given."""
        wants_requests = not OF_REQUESTS.isdisjoint(self._columns) or "key" in self._columns
        files = {
            number: self._stack.enter_context(path.open("rb")) for number, path in self._source.paths.items()
        }
        names = self._named()
        for row in self._ledger.rows():
            status = row.status or MISSING
            if statuses and status not in statuses:
                continue
            line = _line(files, row) if wants_requests else None
            yield self._row(row, status, line, names)

    def _row(self, row: Row, status: str, line: bytes | None, names: dict[str, str]) -> dict[str, Any]:
        if row.at is not None and row.size is not None:
            self._spool.seek(row.at)
            values = self._taken.decoded(self._spool.read(row.size))
        else:
            values = {"key": key_of(line) if line and is_utf8(line) else None, "status": status}
        values["attempts"] = row.results or 0
        if line is not None and "prompt" in self._columns:
            values["prompt"] = requests.prompt_of(line)
        if line is not None and "request" in self._columns:
            values["request"] = requests.request_of(line)
        told = {name: values.get(name) for name in self._columns}
        if self._json_columns:
            found = json_object(values.get("text"))
            told |= {column: found.get(name) for name, column in names.items()}
        return told

    def _named(self) -> dict[str, str]:
        """Which column each field of structured answers is: its own name, unless there is such a column already."""
        names = self._taken.json_names if self._json_columns else {}
        return {name: f"text.{name}" if name in self._columns else name for name in names}


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY)


def _line(files: Mapping[int, IO[bytes]], row: Row) -> bytes | None:
    file = files.get(row.source) if row.source is not None else None
    if file is None or row.start is None or row.length is None:
        return None
    file.seek(row.start)
    return file.read(row.length)
