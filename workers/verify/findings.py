"""What is wrong with a batch: every problem counted, the first of each kind kept to be shown."""

from collections import Counter
from enum import StrEnum

import msgspec

SHOWN = 20
"""How many problems of a kind are kept: a million of them must not cost memory."""


class Kind(StrEnum):
    """Kinds of problems: first those of the bucket, then those of the requests it is compared with."""

    MISSING = "missing"
    DAMAGED = "damaged"
    STRAY = "stray"
    LEFT_OVER = "left_over"
    UNANSWERED = "unanswered"
    FAILED = "failed"
    INVALID = "invalid"
    SURPLUS = "surplus"
    WITHOUT_KEY = "without_key"
    UNREADABLE = "unreadable"


OF_THE_BUCKET = (Kind.MISSING, Kind.DAMAGED, Kind.STRAY, Kind.LEFT_OVER)
NOT_KNOWN_TO_BE_GOOD = (Kind.UNANSWERED, Kind.FAILED, Kind.INVALID, Kind.WITHOUT_KEY, Kind.UNREADABLE)


class Problem(msgspec.Struct, frozen=True):
    """`subject` is an object's name, a request's key or a line of the input; `reason` may be empty."""

    subject: str
    reason: str


class Findings:
    """All problems so far."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._first: dict[Kind, list[Problem]] = {kind: [] for kind in Kind}

    def note(self, kind: Kind, subject: str, reason: str = "") -> None:
        self.counts[kind] += 1
        first = self._first[kind]
        if len(first) < SHOWN:
            first.append(Problem(subject, reason))

    def first(self, kind: Kind) -> list[Problem]:
        """The first problems of a kind, at most `SHOWN`."""
        return self._first[kind]

    def any(self, *kinds: Kind) -> bool:
        return any(self.counts[kind] for kind in kinds)
