"""Which requests of a batch are worth another try: those without a good result in any of its attempts."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sender import requests
from sender.columns import MISSING
from sender.export import Batches, Source, answered, batches_of
from sender.ledger import Ledger, Row
from sender.record import of_batch
from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import Refused
from workers.results.result import Status


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests are submitted again: all without a good result where nothing is chosen.

    `finish_reasons` are of answers that ended too early to be of use, such as MAX_TOKENS. `attempts` is in how many
    batches a request may be at most.
    """

    failed: bool = False
    missing: bool = False
    finish_reasons: frozenset[str] = frozenset()
    attempts: int = 3

    def takes(self, row: Row) -> bool:
        chosen = self.failed or self.missing or bool(self.finish_reasons)
        status = row.status or MISSING
        if status == Status.SUCCEEDED:
            return row.finish in self.finish_reasons
        return not chosen or (self.missing if status == MISSING else self.failed)


class Chosen(msgspec.Struct, frozen=True):
    """How many requests were chosen, and how many more would have been but for their attempts."""

    requests: int
    exhausted: int


def choose(bucket: Bucket, batch: str, given: Path | None, wanted: Wanted, target: Path) -> Chosen:
    """Write the lines of the requests that are submitted again, byte for byte, in their order.

    Raises:
        Refused: the requests are not known.
        NotReady: the batch, or what it was submitted again as, is not in the bucket.
        Transient, Permanent: from the bucket.
        OSError: a file can't be read or written.
    """
    batches = batches_of(bucket, [batch])
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger())
        source = Source(ledger, bucket, stack)
        source.ask(batches, given)
        if not source.paths:
            raise Refused(
                f"The requests of batches/{batch} are not known: give them with --input, "
                "or submit with --keep-input next time."
            )
        for number, each in enumerate(batches.attempts):
            ledger.answer((found for _, found in answered(bucket, each)), number)
        _count_attempts(ledger, bucket, batches)
        return _write(source, ledger, wanted, target)


def _count_attempts(ledger: Ledger, bucket: Bucket, batches: Batches) -> None:
    for number, each in enumerate(batches.attempts):
        found = of_batch(bucket, each)
        if found is None:
            continue
        try:
            ledger.attempt(requests.in_digests(bucket, found[0]), number)
        except MissingObject:
            continue


def _write(source: Source, ledger: Ledger, wanted: Wanted, target: Path) -> Chosen:
    chosen = exhausted = 0
    (path,) = source.paths.values()
    with path.open("rb") as file, target.open("wb") as out:
        for row in _asked(ledger):
            if not wanted.takes(row):
                continue
            if max(row.asked, row.results or 0, 1) >= wanted.attempts:
                exhausted += 1
                continue
            file.seek(row.start or 0)
            out.write(file.read(row.length or 0).rstrip(b"\r\n") + b"\n")
            chosen += 1
    return Chosen(chosen, exhausted)


def _asked(ledger: Ledger) -> Iterator[Row]:
    return (row for row in ledger.rows() if row.start is not None)
