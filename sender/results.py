"""The results of a committed batch, one by one: its raw lines, read beside the lines of its manifest."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sender.committed import Committed, committed
from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import Incomplete, NotReady
from workers.results.documents import Entry, read
from workers.results.lines import RawLine, lines
from workers.results.result import Status


class Result(NamedTuple):
    """A line of the manifest and, where it was asked for, the raw line that it stands for."""

    entry: Entry
    line: bytes | None

    @property
    def is_good(self) -> bool:
        return self.entry.status is Status.SUCCEEDED


def commit_of(bucket: Bucket, batch: str) -> Committed:
    """Raises `NotReady` where the batch is not in the bucket."""
    found = committed(bucket, batch)
    if found is None:
        raise NotReady(
            f"batches/{batch} is not in the bucket yet: wait for it with `batches watch`, or bring it with `process`."
        )
    return found


def results(bucket: Bucket, batch: str, found: Committed, *, with_lines: bool) -> Iterator[Result]:
    """The results of a batch in the order of its raw lines.

    Raises:
        Incomplete: manifest and raw lines do not belong together.
        Transient, Permanent: from the bucket.
    """
    if not found.parts:
        return
    raw = _raw(bucket, batch, found) if with_lines else None
    for line in lines(bucket.read(layout.manifest(batch))):
        if line.blank or line.data is None:
            continue
        try:
            entry = read(line.data)
        except (msgspec.MsgspecError, RecursionError):
            raise _damaged(batch) from None
        if raw is None:
            yield Result(entry, None)
            continue
        part, its = next(raw, ("", None))
        if its is None or (part, its.offset) != (entry.raw.part, entry.raw.offset):
            raise _damaged(batch)
        yield Result(entry, its.data)


def _raw(bucket: Bucket, batch: str, found: Committed) -> Iterator[tuple[str, RawLine]]:
    for part in found.parts:
        try:
            for line in lines(bucket.read(layout.inside(batch, part.object))):
                if not line.blank:
                    yield part.object, line
        except MissingObject:
            raise _damaged(batch) from None


def _damaged(batch: str) -> Incomplete:
    return Incomplete(
        f"batches/{batch} is damaged in the bucket: `batch-receiver verify {batch}` says where."
    )
