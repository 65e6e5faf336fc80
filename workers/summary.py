"""`batch.json`, and the one rule of what may take its place."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import Incomplete
from workers.gemini.batches import State


class PartSummary(msgspec.Struct, frozen=True):
    object: str
    lines: int
    bytes: int
    sha256: str


class Counts(msgspec.Struct, frozen=True):
    """`missing`: requests without a result, `unasked`: results without a request, where the requests are known."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    invalid: int = 0
    missing: int | UnsetType = UNSET
    unasked: int | UnsetType = UNSET


class Cost(msgspec.Struct, frozen=True):
    """What a batch cost, an estimate; absent without the extra `[cost]`.

    `amount` is a decimal number, null where no price is known. `rates` names the list of prices, `rates_date` the day
    whose prices were taken. `unknown_models` are not in the amount; for `standard_rate_models` no price of batches is
    known, and the amount has the full one.
    """

    amount: str | None
    currency: str
    rates: str
    rates_date: str
    estimate: bool = True
    unknown_models: list[str] = []
    standard_rate_models: list[str] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`batch.json`."""

    schema: int = 1
    batch: str
    state: State
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    committed_at: str
    revision: int
    trigger: str
    counts: Counts
    finish_reasons: dict[str, int]
    model_versions: dict[str, int] = {}
    usage: dict[str, int]
    cost: Cost | msgspec.UnsetType = msgspec.UNSET
    batch_stats: Any
    parts: list[PartSummary]
    raw_bytes: int
    raw_sha256: str
    error: Any
    user_metadata: Any
    warnings: list[str]

    @property
    def has_results(self) -> bool:
        return bool(self.parts)

    def encoded(self) -> bytes:
        """As it stands in the bucket: indented for people, with a line end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def gives_way(
    summary: Summary | None, state: State, *, has_results: bool, refetches: int | None = None
) -> bool:
    """Whether a commit is to be replaced by one of this state. The only place that says what is final.

    A commit with results gives way to one with results alone, one without to any other state; the same twice makes
    no revision. What succeeded stays, unless somebody had exactly this revision fetched once more (`refetches`).
    """
    if summary is None:
        return True
    if refetches == summary.revision:
        return has_results
    if summary.state is State.SUCCEEDED:
        return False
    if summary.has_results:
        return has_results and summary.state is not state
    return has_results or summary.state is not state


def read_summary(bucket: Bucket, batch: str) -> Summary | None:
    """The commit of a batch, or None.

    Raises:
        Incomplete: there is a `batch.json` that is none of ours.
    """
    blob = bucket.get(layout.summary(batch))
    return decode_summary(blob, batch) if blob is not None else None


def decode_summary(blob: bytes, batch: str) -> Summary:
    """Raises `Incomplete` where it is not the `batch.json` of this batch."""
    try:
        summary = decode(blob)
    except (msgspec.MsgspecError, RecursionError):
        summary = None
    if summary is None or summary.batch != batch:
        raise Incomplete(f"{layout.summary(batch)} is not readable; move it away and replay the batch.")
    return summary


decode = msgspec.json.Decoder(Summary).decode
"""A `batch.json` from its bytes. Raises `msgspec.MsgspecError`, or `RecursionError` for what nests too deep."""
