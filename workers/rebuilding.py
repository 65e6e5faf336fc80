"""What `reconcile` does for the history: made anew where Redis lost it, bounded, with what Gemini works on."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from workers import chronicle
from workers.bucket.protocol import Bucket
from workers.contract import Queues
from workers.contract.history import KEPT_SECONDS, History, Names, Value, metrics
from workers.errors import Incomplete
from workers.gemini.batches import Batch, timestamp
from workers.gemini.webhooks import Webhook
from workers.summary import Summary, decode_summary

_INDEX = "_index"
_LOOKS_AT_ONCE = 8
_MOST_PENDING = 1000


def rebuild(queues: Queues, bucket: Bucket, now: float) -> int:
    """List the commits of the last 90 days again, if Redis has lost its list; how many were missing.

    Raises:
        WorkerError: from the bucket. It is begun anew next time.
    """
    history = History(queues.connection, queues.prefix)
    if queues.connection.exists(history.names.rebuilt):
        return 0
    first = datetime.fromtimestamp(now - KEPT_SECONDS, UTC).date().isoformat()
    names = [name for name, _ in bucket.list(_INDEX) if PurePosixPath(name).parent.name >= first]
    missing = 0
    with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as threads:
        for name, blob in zip(names, threads.map(bucket.get, names), strict=True):
            summary = _summary(name, blob)
            if summary is not None:
                missing += chronicle.record(history, summary)
    queues.connection.set(history.names.rebuilt, int(now))
    return missing


def note_pending(queues: Queues, batches: list[Batch], now: float) -> None:
    """Gemini works on these, and on no others that are ours."""
    seen: dict[str, dict[str, Value | None]] = {}
    for batch in batches[:_MOST_PENDING]:
        fields = chronicle.fields_of_look(batch)
        seen[Names(queues.prefix).ref(batch.id)] = {**fields, "announced_at": timestamp(batch.created_at)}
    History(queues.connection, queues.prefix).pending(seen, now)


def _summary(name: str, blob: bytes | None) -> Summary | None:
    try:
        return decode_summary(blob, PurePosixPath(name).stem) if blob is not None else None
    except Incomplete:
        return None


def keep(queues: Queues, bucket: Bucket, now: float) -> None:
    """Forget what is older than 90 days, and list again what Redis has lost. Raises as `rebuild` does."""
    History(queues.connection, queues.prefix).prune(now)
    rebuild(queues, bucket, now)


def note_run(
    queues: Queues, now: float, found: int, report: Mapping[str, Any], webhooks: Sequence[Webhook]
) -> None:
    """What a run found, for `/metrics` and for whoever looks."""
    names = History(queues.connection, queues.prefix).names
    of_batches = [
        each for each in webhooks if any(event.startswith("batch.") for event in each.subscribed_events)
    ]
    told = {
        "at": now,
        "report": report,
        "webhooks": [
            {"id": each.id, "uri": each.uri, "state": each.state, "events": each.subscribed_events}
            for each in of_batches
        ],
    }
    with queues.connection.pipeline() as pipe:
        pipe.set(names.reconciled, json.dumps(told))
        metrics.count(pipe, names, "reconcile_found_total", amount=found)
        if of_batches:
            is_enabled = any(each.enabled for each in of_batches)
            metrics.set_to(pipe, names, "webhook_enabled", names.project, value=int(is_enabled))
        if not report["troubles"]:
            metrics.set_to(pipe, names, "reconcile_last_success_timestamp_seconds", value=now)
        pipe.execute()
