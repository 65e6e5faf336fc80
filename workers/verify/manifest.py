"""`manifest.jsonl` as it stands in the bucket, held line by line against what the raw lines say."""

from collections.abc import Iterator

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.results.documents import Entry, read
from workers.results.lines import RawLine, lines
from workers.verify.findings import Findings, Kind

NAME = "manifest.jsonl"


class Manifest:
    """The stored lines, asked for in the order of the results. What is wrong with them goes to `findings`.

    A manifest that is missing has no lines and nothing wrong with them.
    """

    def __init__(self, bucket: Bucket, batch: str, findings: Findings) -> None:
        self._lines = _stored(bucket, batch)
        self._findings = findings
        self._number = 0
        self._head = next(self._lines, None)
        self._is_missing = self._head is None and bucket.size(layout.manifest(batch)) is None

    @property
    def is_empty(self) -> bool:
        """Whether it is there and has no line left."""
        return self._head is None and not self._is_missing

    @property
    def names_objects(self) -> bool:
        """Whether the next line says that its result has an output of its own; True where it says nothing."""
        entry = self._entry()
        return entry is None or entry.object is not None

    def check(self, expected: bytes, index: int) -> None:
        """Take the line of result `index`, which should read `expected`.

        Only what the fields mean is compared: order, white space and fields of later versions may differ.
        """
        while self._head is not None:
            if self._head.data == expected:
                self._take()
                return
            entry = self._entry()
            if entry is not None and entry.index > index:
                break
            if entry is None:
                self._damaged("can't be read")
            elif entry.index < index:
                self._damaged(f"stands for result {entry.index}, which had its line before")
            else:
                self._compare(read(expected), entry)
            self._take()
            if entry is None or entry.index == index:
                return
        if not self._is_missing:
            self._findings.note(Kind.DAMAGED, NAME, f"result {index} has no line")

    def entries(self, end: int) -> Iterator[Entry]:
        """Take the readable lines of the results before `end`: where the raw lines are lost, they must do."""
        while self._head is not None:
            entry = self._entry()
            if entry is not None and entry.index >= end:
                return
            if entry is None:
                self._damaged("can't be read")
            self._take()
            if entry is not None:
                yield entry

    def end(self) -> None:
        """After the last result: whatever line is left is one too many."""
        while self._head is not None:
            self._damaged("stands for no result")
            self._take()

    def _take(self) -> None:
        self._head = next(self._lines, None)
        self._number += 1

    def _entry(self) -> Entry | None:
        if self._head is None or self._head.data is None:
            return None
        try:
            return read(self._head.data)
        except (msgspec.MsgspecError, RecursionError):
            return None

    def _compare(self, expected: Entry, entry: Entry) -> None:
        differing = [
            field
            for field in Entry.__struct_fields__
            if _comparable(getattr(expected, field)) != _comparable(getattr(entry, field))
        ]
        if differing:
            self._damaged(f"differs from the raw line in {', '.join(differing)}")

    def _damaged(self, what: str) -> None:
        self._findings.note(Kind.DAMAGED, NAME, f"line {self._number + 1} {what}")


def _comparable(value: object) -> object:
    """JSON text without the white space that means nothing; other values as they are."""
    return msgspec.json.format(value, indent=-1) if isinstance(value, msgspec.Raw) and value else value


def _stored(bucket: Bucket, batch: str) -> Iterator[RawLine]:
    try:
        yield from lines(bucket.read(layout.manifest(batch)))
    except MissingObject:
        return
