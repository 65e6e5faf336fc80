"""Does what came look like results, all of them? And if not: what comes when it is asked for once more.

A gateway's page, an empty body, or one that was cut without saying so, comes with a 200 as results do.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from workers.errors import ResultsGone
from workers.results.lines import LineCutter, RawLine
from workers.results.result import Status, parse
from workers.sources import Source

# What may stand before the first result: JSON's white space, and a byte order mark.
_MARK_AND_SPACE = b" \t\r\n\xef\xbb\xbf"


class Looks:
    """What lines look like that come one after the other."""

    def __init__(self) -> None:
        self.lines = 0
        self.like_results = True
        self.is_cut = False

    def take(self, line: RawLine) -> None:
        """A line that is not blank."""
        if not self.lines and line.data is not None:
            self.like_results = line.data.lstrip(_MARK_AND_SPACE).startswith(b"{")
        self.lines += 1

    def end(self, last: Iterable[RawLine]) -> None:
        """`last`: what came after the last line end."""
        self.is_cut = any(
            line.data is not None and parse(line.data).status is Status.INVALID for line in last
        )


class Verdict(Enum):
    """What a second look says of what came first."""

    STAYS = "the same came again, or nothing does"
    CHANGED = "something else came"
    ELSEWHERE = "the other address has what looks whole"


@dataclass(frozen=True, slots=True)
class _Seen:
    sha256: str
    looks_whole: bool


def second_look(source: Source, sha256: str, expected: int | None) -> Verdict:
    """Read a source once more: at its other address if it has one, and where that does not decide it, at the same.

    Args:
        source: as it was read first.
        sha256: of what came then.
        expected: how many lines there should be, where that is known.

    Raises:
        Transient, Permanent: from the source, unless its file is gone.
    """
    other = _seen(source.elsewhere(), expected)
    if other is not None:
        if other.sha256 == sha256:
            return Verdict.STAYS
        if other.looks_whole:
            return Verdict.ELSEWHERE
    again = _seen(source, expected)
    return Verdict.STAYS if again is None or again.sha256 == sha256 else Verdict.CHANGED


def differs(source: Source, sha256: str, expected: int | None) -> Verdict:
    """Read a source that was committed long ago: the same address first, the other where that looks as wrong."""
    again = _seen(source, expected)
    if again is None:
        return Verdict.STAYS
    if again.sha256 != sha256:
        return Verdict.CHANGED
    if again.looks_whole:
        return Verdict.STAYS
    other = _seen(source.elsewhere(), expected)
    is_better = other is not None and other.sha256 != sha256 and other.looks_whole
    return Verdict.ELSEWHERE if is_better else Verdict.STAYS


def _seen(source: Source, expected: int | None) -> _Seen | None:
    """What comes now; None where the file is gone."""
    content, cutter, looks = hashlib.sha256(), LineCutter(), Looks()
    try:
        with source.open(0, None) as opened:
            for chunk in opened.chunks:
                content.update(chunk)
                for line in cutter.feed(chunk):
                    if not line.blank:
                        looks.take(line)
    except ResultsGone:
        return None
    last = [line for line in cutter.end() if not line.blank]
    for line in last:
        looks.take(line)
    looks.end(last)
    is_whole = looks.like_results and not looks.is_cut and looks.lines >= (expected or 1)
    return _Seen(content.hexdigest(), is_whole)
