"""A commit is told downstream: at least once, never before it is durable, and whatever crashes right after it.

That it has to be told is written into `_work/_notify/` before `batch.json` is, and removed when somebody has taken it.
A note without its commit tells of nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import msgspec

from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import Queues, parse_batch_id
from workers.contract.history import DEFAULT_PROJECT
from workers.gemini.batches import timestamp
from workers.outside.posts import NotTaken, post_signed
from workers.summary import Summary, read_summary

TRIED_FOR_SECONDS = 48 * 3600
_REVISION = "r"


@dataclass(frozen=True, slots=True)
class Downstream:
    """Where commits are told, and what that is signed with."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    project: str = DEFAULT_PROJECT


class Told(StrEnum):
    """What became of a notice."""

    DELIVERED = "delivered"
    GIVEN_UP = "given up"
    SUPERSEDED = "superseded"
    NOT_COMMITTED = "not committed"


def owe(bucket: Bucket, batch: str, revision: int) -> None:
    """Remember that a commit, which is about to be written, has to be told."""
    bucket.put(layout.notice(batch, revision), b"{}\n", layout.JSON)


def owed(bucket: Bucket, batch: str | None = None) -> Iterator[tuple[str, int]]:
    """Batch and revision of what has not been told, of one batch or of all."""
    for name, _ in bucket.list(layout.notices(batch)):
        path = PurePosixPath(name)
        revision = path.stem.removeprefix(_REVISION)
        if parse_batch_id(path.parent.name) == path.parent.name and revision.isdigit():
            yield path.parent.name, int(revision)


def bring(downstream: Downstream | None, bucket: Bucket, queues: Queues, batch: str | None = None) -> None:
    """Enqueue what has to be told, of one batch or of all; a job for each that has none."""
    if downstream is not None:
        for of, revision in owed(bucket, batch):
            queues.enqueue_notice(of, revision)


def tell(downstream: Downstream, bucket: Bucket, batch: str, revision: int, now: float | None = None) -> Told:
    """Tell of a commit, if it is there and nothing has taken its place.

    Raises:
        NotTaken: it has to be tried again.
        Transient, Permanent: from the bucket.
    """
    summary = read_summary(bucket, batch)
    if summary is None or summary.revision < revision:
        return Told.NOT_COMMITTED
    told = Told.SUPERSEDED
    if summary.revision == revision:
        told = _tell(downstream, bucket, summary, time.time() if now is None else now)
    bucket.delete([layout.notice(batch, revision)])
    return told


def _tell(downstream: Downstream, bucket: Bucket, summary: Summary, now: float) -> Told:
    body = msgspec.json.encode(event(summary, bucket.url, downstream.project)).decode()
    try:
        post_signed(downstream.url, downstream.secret, f"{summary.batch}-r{summary.revision}", body)
    except NotTaken:
        if now - (timestamp(summary.committed_at) or now) > TRIED_FOR_SECONDS:
            return Told.GIVEN_UP
        raise
    return Told.DELIVERED


def event(summary: Summary, bucket_url: str, project: str = DEFAULT_PROJECT) -> dict[str, Any]:
    """What is sent."""
    return {
        "type": "batch.committed",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "batch": summary.batch,
            "project": project,
            "state": summary.state,
            "revision": summary.revision,
            "display_name": summary.display_name,
            "url": f"{bucket_url.rstrip('/')}/{summary.batch}/",
            "counts": summary.counts,
            "warnings": summary.warnings,
            "user_metadata": summary.user_metadata,
        },
    }
