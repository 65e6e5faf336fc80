"""Where the submit side keeps what it knows of a batch, and what the workers read of that. Pure.

No batch's id begins with `_`, so nothing here stands in a batch's folder.
"""

import json
from dataclasses import asdict, dataclass
from typing import Self

SUBMITTED = "_submitted"


def record(name: str) -> str:
    """What became of a submission: created only once."""
    return f"{SUBMITTED}/{name}.json"


def keys(name: str) -> str:
    """The 16-byte digests of the requests' keys, in the order of the requests."""
    return f"{SUBMITTED}/{name}.keys"


def requests(name: str) -> str:
    """The requests themselves, where they were kept."""
    return f"{SUBMITTED}/{name}.requests.jsonl"


def pointer(batch: str) -> str:
    """Which submission a batch came of."""
    return f"{SUBMITTED}/by-batch/{batch}.json"


@dataclass(frozen=True, slots=True)
class Pointer:
    """`submission` is the record's name, `has_requests` whether the requests were kept beside it."""

    submission: str
    has_requests: bool

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decoded(cls, blob: bytes | None) -> Self | None:
        """None where there is nothing, or nothing that this version understands."""
        try:
            found = json.loads(blob or b"null")
            return cls(str(found["submission"]), bool(found["has_requests"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
