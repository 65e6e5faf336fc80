"""What results add up to: the one sum, for a part, for a batch, and for whoever counts again."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import astuple

from workers.results.answers import USAGE_FIELDS, Usage
from workers.results.result import Status


class Counted(Protocol):
    """What of a result is counted."""

    @property
    def status(self) -> Status: ...
    @property
    def finish_label(self) -> str | None: ...
    @property
    def usage(self) -> Usage | None: ...


class Tally(Struct):
    """What the lines of a part, or of a batch, add up to. `dataset`: how many of the parts became a table."""

    lines: int = 0
    repeated: int = 0
    counts: dict[str, int] = {}
    finish_reasons: dict[str, int] = {}
    usage: dict[str, int] = {}
    dataset: int = 0

    def add(self, other: "Tally") -> None:
        self.lines += other.lines
        self.repeated += other.repeated
        self.counts = _sum(self.counts, other.counts)
        self.finish_reasons = _sum(self.finish_reasons, other.finish_reasons)
        self.usage = _sum(self.usage, other.usage)
        self.dataset += other.dataset


def tally_of(results: Sequence[Counted]) -> Tally:
    """The sum of some results: it costs as much for one as for many."""
    usages = [result.usage for result in results if result.usage]
    columns = zip(*map(astuple, usages), strict=True)
    return Tally(
        lines=len(results),
        counts=Counter(result.status for result in results),
        finish_reasons=Counter(label for result in results if (label := result.finish_label)),
        usage={
            field: sum(filter(None, column)) for field, column in zip(USAGE_FIELDS, columns, strict=False)
        },
    )


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))
