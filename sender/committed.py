"""What the bucket says of a batch that is committed: as much of `batch.json` as is needed here."""

from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import Incomplete


class Counts(msgspec.Struct, frozen=True):
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    invalid: int = 0
    missing: int | None = None
    unasked: int | None = None


class Part(msgspec.Struct, frozen=True):
    object: str
    lines: int = 0
    bytes: int = 0


class Committed(msgspec.Struct, frozen=True):
    """Of a `batch.json`."""

    batch: str
    state: str
    committed_at: str = ""
    model: str | None = None
    counts: Counts = Counts()
    parts: list[Part] = []
    error: Any = None


_decode = msgspec.json.Decoder(Committed).decode


def committed(bucket: Bucket, batch: str) -> Committed | None:
    """The commit of a batch, or None. Raises `Incomplete` where it is not readable."""
    blob = bucket.get(layout.summary(batch))
    try:
        return _decode(blob) if blob is not None else None
    except (msgspec.MsgspecError, RecursionError):
        raise Incomplete(f"{layout.summary(batch)} is not readable.") from None
