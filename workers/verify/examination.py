"""The checks of one committed batch: what its raw lines promise against what the bucket holds.

A raw part is brought here whole, in a temporary file, before a line of it is believed. Where it is lost or damaged
the manifest is believed instead, so that one bad byte is one problem, and the outputs of that part are no strays.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from msgspec import UNSET
from msgspec.structs import replace

from workers.bucket import layout
from workers.bucket.protocol import Bucket, MissingObject
from workers.results.answers import USAGE_FIELDS
from workers.results.documents import manifest_line
from workers.results.keys import KeyCounter, digest
from workers.results.lines import lines
from workers.results.result import Rendered, oversized, parse, render
from workers.results.tally import Counted, Tally, tally_of
from workers.summary import Counts, PartSummary, Summary
from workers.verify import contents, manifest
from workers.verify.findings import Findings, Kind
from workers.verify.ledger import Held, Ledger
from workers.verify.manifest import Manifest
from workers.verify.tables import Table, is_whole, wrong_in

SUMMARY = "batch.json"

Advance = Callable[[int], None]
Stage = Callable[[str, int | None], Advance]
"""Begins a stage of the work, of a total in bytes or objects where it is known; what it returns tells of progress."""

_CHUNK_BYTES = 1 << 20
_COUNTED_AT_ONCE = 1000
_OF_RESULTS = (f"{layout.OUTPUTS}/", f"{layout.MEDIA}/")
"""Whose objects nobody may call strays, and delete, while some results are unknown."""


class Examination:
    """The checks of one batch, in the order in which they read."""

    def __init__(
        self,
        bucket: Bucket,
        batch: str,
        findings: Findings,
        ledger: Ledger,
        stage: Stage,
        *,
        with_answers: bool,
        reads_contents: bool,
    ) -> None:
        self.objects = 0
        self.all_results_known = True
        self._bucket = bucket
        self._batch = batch
        self._findings = findings
        self._ledger = ledger
        self._stage = stage
        self._with_answers = with_answers
        self._reads_contents = reads_contents
        self._ignores_case = False
        self._counter = KeyCounter()
        self._tally = Tally()
        self._uncounted: list[Counted] = []

    def run(self, summary: Summary) -> None:
        self._ledger.expect(SUMMARY)
        # `Bucket.ignores_case` would write to find out, and this bucket may be one that is only read.
        other_case = layout.inside(self._batch, SUMMARY.upper())
        self._ignores_case = self._bucket.size(other_case) is not None
        without_objects = self._examine_results(summary)
        self._examine_dataset(summary, without_objects)
        self._examine_objects()
        self._examine_work()
        self._examine_index(summary)

    def _examine_results(self, summary: Summary) -> set[int]:
        """Raw parts and manifest against `batch.json` and each other; the parts without outputs of their own."""
        advance = self._stage("reading results", summary.raw_bytes)
        stored = Manifest(self._bucket, self._batch, self._findings)
        if summary.parts or summary.state == "succeeded" or stored.is_empty:
            self._ledger.expect(manifest.NAME)
        whole = hashlib.sha256()
        without_objects: set[int] = set()
        size = first = 0
        are_intact = True
        for number, part in enumerate(summary.parts):
            has_objects = stored.names_objects
            if not has_objects:
                without_objects.add(number)
            with tempfile.TemporaryFile() as file:
                if self._fetch(part, file, whole, advance):
                    count = self._believe_raw(file, number, first, stored, has_objects=has_objects)
                    if count != part.lines:
                        self._note_summary(f"says {part.lines} lines of {part.object}, and it has {count}")
                    first += count
                else:
                    are_intact = False
                    first += part.lines
                    self.all_results_known &= self._believe_manifest(stored, first) == part.lines
            size += part.bytes
        stored.end()
        if are_intact and (size, whole.hexdigest()) != (summary.raw_bytes, summary.raw_sha256):
            self._note_summary("has another raw_bytes or raw_sha256 than its parts together")
        if self.all_results_known:
            self._count()
            for name in _differing(self._tally, summary):
                # The manifest, where it had to do, does not tell the versions.
                if are_intact or name != "model_versions":
                    self._note_summary(f"has other {name} than the results add up to")
        return without_objects

    def _fetch(self, part: PartSummary, file: IO[bytes], whole: "hashlib._Hash", advance: Advance) -> bool:
        """Bring a raw part here; whether it is what `batch.json` says, so that its lines can be believed."""
        self._ledger.expect(part.object)
        content = hashlib.sha256()
        size = 0
        try:
            for chunk in self._bucket.read(layout.inside(self._batch, part.object)):
                size += len(chunk)
                content.update(chunk)
                whole.update(chunk)
                file.write(chunk)
                advance(len(chunk))
        except MissingObject:
            return False
        file.seek(0)
        if size != part.bytes:
            self._findings.note(
                Kind.DAMAGED, part.object, f"has {size} bytes, and {SUMMARY} says {part.bytes}"
            )
            return False
        if content.hexdigest() != part.sha256:
            self._findings.note(Kind.DAMAGED, part.object, f"has another SHA-256 than {SUMMARY} says")
            return False
        return True

    def _believe_raw(
        self, file: IO[bytes], number: int, first: int, stored: Manifest, *, has_objects: bool
    ) -> int:
        """Render a part's lines again and hold the manifest against them; how many lines there were."""
        part = layout.raw_part(number)
        index = first
        for line in lines(iter(lambda: file.read(_CHUNK_BYTES), b"")):
            if line.blank:
                continue
            parsed = parse(line.data) if line.data is not None else oversized()
            rendered = render(parsed, index, self._occurrence(parsed.key))
            expected = manifest_line(rendered, part, line.offset, line.length, has_object=has_objects)[:-1]
            stored.check(expected, index)
            self._take(rendered, rendered.key)
            self._expect_objects(rendered, has_objects=has_objects)
            index += 1
        return index - first

    def _believe_manifest(self, stored: Manifest, end: int) -> int:
        """Where the raw lines are lost: take the manifest's word for the results before `end`; how many it has."""
        count = 0
        for entry in stored.entries(end):
            self._occurrence(entry.key)
            self._take(entry, entry.key)
            if entry.object:
                self._ledger.expect(entry.object)
            for medium in entry.media:
                if medium.object:
                    self._ledger.expect(medium.object, medium.bytes)
            count += 1
        return count

    def _occurrence(self, key: str | None) -> int:
        return self._counter.number(digest(key, ignores_case=self._ignores_case)).get(0, 1) if key else 1

    def _expect_objects(self, rendered: Rendered, *, has_objects: bool) -> None:
        objects = [(medium.object_name, medium.data) for medium in rendered.media]
        if has_objects:
            objects.append((rendered.object_name, rendered.document))
        for name, data in objects:
            self._ledger.expect(name, len(data), contents.digest(data) if self._reads_contents else None)

    def _take(self, result: Counted, key: str | None) -> None:
        """What one result adds to the counts, and to the answers."""
        self._uncounted.append(result)
        if len(self._uncounted) >= _COUNTED_AT_ONCE:
            self._count()
        if self._with_answers and key:
            self._ledger.answer(key, result.status)

    def _count(self) -> None:
        self._tally.add(tally_of(self._uncounted))
        self._uncounted.clear()

    def _examine_dataset(self, summary: Summary, without_objects: set[int]) -> None:
        """A Parquet file for each raw part that has nothing else; and for all, if any has one.

        Unless `batch.json` itself says that no more than these came to be.
        """
        there = dict(self._bucket.list(layout.inside(self._batch, "dataset")))
        known = f"dataset/ holds {len(there)} of {len(summary.parts)} parts"
        is_partial = any(warning.startswith(known) for warning in summary.warnings)
        found: list[Table] = []
        first = 0
        for number, part in enumerate(summary.parts):
            table = Table(self._batch, layout.dataset_part(number), part.object, first, part.lines)
            first += part.lines
            size = there.get(table.name)
            if size is not None or number in without_objects or (there and not is_partial):
                self._ledger.expect(table.object)
            if size is not None and not is_whole(self._bucket, table, size):
                self._findings.note(Kind.DAMAGED, table.object, "is no whole Parquet file")
            elif size is not None and self._reads_contents:
                found.append(table)
        if found:
            advance = self._stage("reading tables", len(found))
            for table, wrong in wrong_in(self._bucket, found):
                advance(1)
                if wrong:
                    self._findings.note(Kind.DAMAGED, table.object, wrong)

    def _examine_objects(self) -> None:
        """What is in the batch's folder against all that is expected by now."""
        advance = self._stage("looking for objects", None)
        skipped = len(layout.inside(self._batch, ""))
        for name, size in self._bucket.list(self._batch):
            self._ledger.find(name[skipped:], size)
            self.objects += 1
            advance(1)
        advance = self._stage("reading objects", None)
        for held, is_same in contents.compared(self._bucket, self._batch, self._ledger.held()):
            advance(1)
            self._judge(held, is_same=is_same)

    def _judge(self, held: Held, *, is_same: bool) -> None:
        name, times, expected, found, _ = held
        if not times:
            if self.all_results_known or not name.startswith(_OF_RESULTS):
                self._findings.note(Kind.STRAY, name)
        elif found is None:
            self._findings.note(Kind.MISSING, name)
        elif expected not in {None, found}:
            self._findings.note(Kind.DAMAGED, name, f"has {found} bytes instead of {expected}")
        elif times > 1:
            self._findings.note(Kind.DAMAGED, name, f"is claimed by {times} results")
        elif not is_same:
            self._findings.note(Kind.DAMAGED, name, "differs from what its raw line becomes")

    def _examine_work(self) -> None:
        for name, _ in self._bucket.list(layout.work(self._batch)):
            self._findings.note(Kind.LEFT_OVER, name)

    def _examine_index(self, summary: Summary) -> None:
        name = layout.index(summary.committed_at[:10], self._batch)
        copy = self._bucket.get(name)
        if copy is None:
            self._findings.note(Kind.MISSING, name)
        elif copy != self._bucket.get(layout.summary(self._batch)):
            self._findings.note(Kind.DAMAGED, name, f"differs from {SUMMARY}")

    def _note_summary(self, what: str) -> None:
        self._findings.note(Kind.DAMAGED, SUMMARY, what)


def _of_results(counts: Counts) -> Counts:
    """What the results alone tell: not how many are missing."""
    return replace(counts, missing=UNSET, unasked=UNSET)


def _differing(tally: Tally, summary: Summary) -> Iterator[str]:
    """The fields of `batch.json` that say something else than the results add up to."""
    for name, here, there in (
        ("counts", Counts(total=tally.lines, **tally.counts), _of_results(summary.counts)),
        ("finish_reasons", tally.finish_reasons, summary.finish_reasons),
        ("model_versions", tally.model_versions, summary.model_versions),
        ("usage", {field: tally.usage.get(field, 0) for field in USAGE_FIELDS}, summary.usage),
    ):
        if here != there:
            yield name
