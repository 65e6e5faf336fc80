"""What the results of a batch add up to, counted anew to be held against `batch.json`."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from workers.results.answers import USAGE_FIELDS
from workers.summary import Summary
from workers.verify.manifest import Entry


class Recount:
    """What the results add up to."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._usage = dict.fromkeys(USAGE_FIELDS, 0)

    def add(self, entry: Entry) -> None:
        self._statuses[entry.status] += 1
        if entry.finish_label:
            self._reasons[entry.finish_label] += 1
        if entry.usage:
            for field in USAGE_FIELDS:
                self._usage[field] += getattr(entry.usage, field) or 0

    def differences(self, summary: Summary) -> Iterator[str]:
        """Where `batch.json` says something else."""
        said = msgspec.structs.asdict(summary.counts)
        counted = {"total": self._statuses.total(), **self._statuses}
        for name, here, there in (
            ("counts", {status: counted.get(status, 0) for status in said}, said),
            ("finish_reasons", dict(self._reasons), summary.finish_reasons),
            ("usage", self._usage, summary.usage),
        ):
            if here != there:
                yield f"has other {name} than the results add up to"
