"""What is known of one batch, or of all that waits, runs, failed and was committed lately."""

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import msgspec
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from workers import commit, contract, parts
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.gemini.batches import State

_WAITING, _RUNNING, _FAILED = "waiting", "running", "failed"


class JobStatus(msgspec.Struct, frozen=True):
    """One job as a person wants to see it. `since` is RFC 3339; `reason` says why it failed or is tried again."""

    job: str
    state: str
    since: str | None
    next_try: str | None
    reason: str | None
    trigger: str | None


class Totals(msgspec.Struct, frozen=True):
    """How many jobs there are, also of those that are not listed."""

    waiting: int
    running: int
    failed: int


class Committed(msgspec.Struct, frozen=True):
    """A commit of today or yesterday."""

    batch: str
    state: State
    display_name: str | None
    committed_at: str
    revision: int
    counts: commit.Counts
    warnings: list[str]


class Overview(msgspec.Struct, frozen=True):
    """What `status` says of all batches. `counters` are numbers since Redis was set up."""

    totals: Totals
    waiting: list[JobStatus]
    running: list[JobStatus]
    failed: list[JobStatus]
    counters: dict[str, int]
    committed: list[Committed]


class PartsStatus(msgspec.Struct, frozen=True):
    """How many parts the result file became, and how many of them are written."""

    split: int
    done: int


class BatchStatus(msgspec.Struct, frozen=True):
    """What `status BATCH` says. `state`: committed, running, waiting, failed or unknown; `summary`: its batch.json."""

    batch: str
    state: str
    jobs: list[JobStatus]
    parts: PartsStatus | None
    summary: commit.Summary | None


def overview(connection: Redis, bucket: Bucket, limit: int = 50) -> dict[str, Any]:
    """Everything at a glance, at most `limit` of a kind, with how many there are."""
    found: dict[str, list[JobStatus]] = {_WAITING: [], _RUNNING: [], _FAILED: []}
    totals = dict.fromkeys(found, 0)
    for name in (contract.BATCHES, contract.PARTS):
        queue = contract.queue(name, connection)
        for state, ids in (
            (_WAITING, queue.get_job_ids(0, limit)),
            (_WAITING, queue.scheduled_job_registry.get_job_ids(0, limit - 1)),
            (_RUNNING, queue.started_job_registry.get_job_ids(0, limit - 1, cleanup=False)),
            (_FAILED, queue.failed_job_registry.get_job_ids(0, limit - 1, cleanup=False)),
        ):
            found[state] += [job for job in (_job(connection, job_id, state) for job_id in ids) if job]
        totals[_WAITING] += queue.count + queue.scheduled_job_registry.get_job_count(cleanup=False)
        totals[_RUNNING] += queue.started_job_registry.get_job_count(cleanup=False)
        totals[_FAILED] += queue.failed_job_registry.get_job_count(cleanup=False)
    found = {state: entries[:limit] for state, entries in found.items()}
    counters = {
        contract.text(name): int(value) for name, value in connection.hgetall(contract.COUNTERS).items()
    }
    return _plain(
        Overview(Totals(**totals), **found, counters=counters, committed=committed_lately(bucket, limit))
    )


def batch_status(connection: Redis | None, bucket: Bucket, batch: str) -> dict[str, Any]:
    """One batch: `state` is committed, running, waiting, failed or unknown, with its jobs and its `batch.json`."""
    summary = commit.read_summary(bucket, batch)
    found = _jobs_of(connection, batch) if connection is not None else []
    states = {job.state for job in found}
    state = next((s for s in (_RUNNING, _WAITING, _FAILED) if s in states), "unknown")
    split = parts.read_split(bucket, batch)
    return _plain(
        BatchStatus(
            batch,
            "committed" if summary and not states - {_FAILED} else state,
            found,
            PartsStatus(len(split.parts), len(list(bucket.list(layout.done_parts(batch)))))
            if split
            else None,
            summary,
        )
    )


def committed_lately(bucket: Bucket, limit: int) -> list[Committed]:
    """The newest commits of today and yesterday (UTC), from `_index/`."""
    found: list[commit.Summary] = []
    today = datetime.now(UTC).date()
    for day in (today, today - timedelta(days=1)):
        names = [name for name, _ in bucket.list(f"_index/{day.isoformat()}")]
        for name in names:
            summary = commit.read_summary(bucket, PurePosixPath(name).stem)
            if summary:
                found.append(summary)
        if len(found) >= limit:
            break
    found.sort(key=lambda summary: summary.committed_at, reverse=True)
    return [
        Committed(**{name: getattr(summary, name) for name in Committed.__struct_fields__})
        for summary in found[:limit]
    ]


def _jobs_of(connection: Redis, batch: str) -> list[JobStatus]:
    ids = [contract.batch_job_id(batch), contract.finish_job_id(batch)]
    prefix = Job.redis_job_namespace_prefix
    keys = (contract.text(key) for key in connection.scan_iter(f"{prefix}part-{batch}-*"))
    # Batch `a` has no part of batch `a-b`.
    ids += sorted(
        key.removeprefix(prefix) for key in keys if key.removeprefix(f"{prefix}part-{batch}-").isdecimal()
    )
    states = {"queued": _WAITING, "scheduled": _WAITING, "deferred": _WAITING, "started": _RUNNING}
    found = []
    for job_id in ids:
        status = connection.hget(Job.key_for(job_id), "status")
        if status is not None:
            found.append(_job(connection, job_id, states.get(contract.text(status), _FAILED)))
    return [job for job in found if job]


def _job(connection: Redis, job_id: str, state: str) -> JobStatus | None:
    try:
        job = Job.fetch(job_id, connection=connection, serializer=JSONSerializer)
    except NoSuchJobError:
        return None
    next_try = None
    if state == _WAITING and job.origin:
        registry = contract.queue(job.origin, connection).scheduled_job_registry
        score = connection.zscore(registry.key, job_id)
        next_try = _utc(datetime.fromtimestamp(float(score), UTC)) if score else None
    reason = job.meta.get("reason")
    if reason is None and state == _FAILED:
        result = job.latest_result()
        told = ((result.exc_string if result else None) or "no reason was kept").strip()
        reason = told.splitlines()[-1]
    return JobStatus(job_id, state, _utc(job.created_at), next_try, reason, job.meta.get("trigger"))


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(document: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain
