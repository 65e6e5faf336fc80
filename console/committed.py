"""`batch.json` as the console reads it: fields that it does not know pass through, what is missing is not shown."""

from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import WorkerError

_TEXTS = ("state", "display_name", "model", "trigger", "created_at", "ended_at", "committed_at")
_WHOLE = ("revision", "raw_bytes")
_NUMBERS = ("counts", "finish_reasons", "model_versions", "usage")
_LISTS = ("parts", "warnings")


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
    return _shown(summary), None


def look(bucket: Bucket, batch: str) -> None:
    """Before it is said that something of a batch is missing: a wrong address and a missing bucket say so, too.

    Raises:
        WorkerError: the bucket can't be listed.
    """
    next(iter(bucket.list(batch)), None)


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    """Less what is not of the kind that a page can show: it was damaged, or written by a version to come."""
    kinds: dict[str, type] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_WHOLE, int)
    kinds |= dict.fromkeys(_NUMBERS, dict) | dict.fromkeys(_LISTS, list) | {"cost": dict}
    shown = {
        name: value
        for name, value in summary.items()
        if name not in kinds or value is None or isinstance(value, kinds[name])
    }
    for name in _NUMBERS:
        if shown.get(name):
            shown[name] = {label: count for label, count in shown[name].items() if isinstance(count, int)}
    return shown
