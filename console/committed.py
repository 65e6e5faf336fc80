"""`batch.json` as the console reads it: fields that it does not know pass through, what is missing is not shown."""

from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import WorkerError

_SHOWN_KINDS: dict[str, type | tuple[type, ...]] = {
    "counts": dict,
    "finish_reasons": dict,
    "model_versions": dict,
    "usage": dict,
    "parts": list,
    "warnings": list,
    "cost": dict,
}


def read(bucket: Bucket, batch: str) -> tuple[dict[str, Any] | None, str | None]:
    """The commit of a batch, or None; and a sentence where it can't be read."""
    try:
        blob = bucket.get(layout.summary(batch))
    except WorkerError as error:
        return None, str(error)
    if blob is None:
        return None, None
    try:
        summary = msgspec.json.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        summary = None
    if not isinstance(summary, dict) or summary.get("batch") != batch:
        return None, f"{layout.summary(batch)} is not readable; move it away and replay the batch."
    for name, kind in _SHOWN_KINDS.items():
        if not isinstance(summary.get(name), kind):
            summary.pop(name, None)
    return summary, None
