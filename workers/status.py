"""What is known of one batch, or of all that waits, runs, failed and was committed lately."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import msgspec
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from workers import admission, contract, parts, turns
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.contract import Queues
from workers.contract.history import elsewhere
from workers.errors import Incomplete, WorkerError
from workers.gemini.batches import State
from workers.summary import Counts, Summary, decode_summary, read_summary

_LOOKS_AT_ONCE = 8
_STATES = _WAITING, _RUNNING, _FAILED = "waiting", "running", "failed"


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job as a person wants to see it. `since` is RFC 3339; `reason` says why it failed or is tried again.

    `project` is there where a file names projects.
    """

    job: str
    state: str
    since: str | None
    next_try: str | None
    reason: str | None
    trigger: str | None
    project: str | None = None


class Totals(msgspec.Struct, frozen=True):
    """How many jobs there are, also of those that are not listed."""

    waiting: int
    running: int
    failed: int


class Committed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit of today or yesterday. `project` is there where a file names projects."""

    batch: str
    state: State
    display_name: str | None
    committed_at: str
    revision: int
    counts: Counts
    warnings: list[str]
    project: str | None = None


class OtherPath(msgspec.Struct, frozen=True):
    """Genuine deliveries of the last two days to another path than the receiver's, and the last one of them."""

    count: int
    path: str
    last_at: str


class Overview(msgspec.Struct, frozen=True):
    """What `status` says of all batches. `counters` are numbers since Redis was set up.

    `committed` are the newest of today and yesterday, `committed_total` is how many there are; `unreadable` are those
    whose `batch.json` can't be read. `other_path`: what Gemini delivers and nobody takes.

    Where a file names projects, all of it is of all of them, and `projects` has a sentence for each one in trouble:
    nobody works for it, or its jobs fail for a reason of its own; null for the others.
    """

    totals: Totals
    waiting: list[JobStatus]
    running: list[JobStatus]
    failed: list[JobStatus]
    counters: dict[str, int]
    committed: list[Committed]
    committed_total: int
    unreadable: list[str]
    other_path: OtherPath | None = None
    projects: dict[str, str | None] | None = None


class PartsStatus(msgspec.Struct, frozen=True):
    """How many parts the result file became, and how many of them are written."""

    split: int
    done: int


class BatchStatus(msgspec.Struct, frozen=True):
    """What `status BATCH` says. `state`: committed, running, waiting, failed or unknown; `summary`: its batch.json.

    `trouble` is a sentence where its `batch.json` can't be read.
    """

    batch: str
    state: str
    jobs: list[JobStatus]
    parts: PartsStatus | None
    summary: Summary | None
    trouble: str | None


def overview(queues: Queues, bucket: Bucket, limit: int = 50) -> dict[str, Any]:
    """Everything at a glance, at most `limit` of a kind, with how many there are."""
    return _plain(_overview(queues, bucket, limit))


def overview_of_all(
    projects: Mapping[str, tuple[Queues, Callable[[], Bucket]]], limit: int = 50
) -> dict[str, Any]:
    """The same of several projects in one. A bucket that can't be opened or read is its own project's trouble."""
    found, troubles = [], dict[str, str | None]()
    for name, (queues, open_bucket) in projects.items():
        troubles[name] = admission.left_out(queues) or turns.trouble(queues)
        try:
            found.append(_overview(queues, open_bucket(), limit, name))
        except WorkerError as error:
            troubles[name] = troubles[name] or str(error)
            found.append(_overview(queues, None, limit, name))
    jobs: dict[str, Any] = {
        state: sorted(
            (job for each in found for job in getattr(each, state)), key=lambda job: job.since or ""
        )
        for state in _STATES
    }
    committed = [entry for each in found for entry in each.committed]
    return _plain(
        Overview(
            Totals(*(sum(getattr(each.totals, name) for each in found) for name in Totals.__struct_fields__)),
            **{state: entries[:limit] for state, entries in jobs.items()},
            counters=dict(sum((Counter(each.counters) for each in found), Counter())),
            committed=sorted(committed, key=lambda entry: entry.committed_at, reverse=True)[:limit],
            committed_total=sum(each.committed_total for each in found),
            unreadable=[name for each in found for name in each.unreadable],
            other_path=next((each.other_path for each in found if each.other_path), None),
            projects=troubles,
        )
    )


def _overview(queues: Queues, bucket: Bucket | None, limit: int, project: str | None = None) -> Overview:
    found: dict[str, Any] = {state: [] for state in _STATES}
    totals = dict.fromkeys(found, 0)
    for name in queues.names:
        queue = queues.queue(name)
        for state, ids in (
            (_WAITING, queue.get_job_ids(0, limit)),
            (_WAITING, queue.scheduled_job_registry.get_job_ids(0, limit - 1)),
            (_RUNNING, queue.started_job_registry.get_job_ids(0, limit - 1, cleanup=False)),
            (_FAILED, queue.failed_job_registry.get_job_ids(0, limit - 1, cleanup=False)),
        ):
            jobs = (_job(queues, job_id, state) for job_id in ids)
            found[state] += [msgspec.structs.replace(job, project=project) for job in jobs if job]
        totals[_WAITING] += queue.count + queue.scheduled_job_registry.get_job_count(cleanup=False)
        totals[_RUNNING] += queue.started_job_registry.get_job_count(cleanup=False)
        totals[_FAILED] += queue.failed_job_registry.get_job_count(cleanup=False)
    committed, committed_total, unreadable = committed_lately(bucket, limit) if bucket else ([], 0, [])
    counters = queues.connection.hgetall(queues.counters)
    return Overview(
        Totals(**totals),
        **{state: entries[:limit] for state, entries in found.items()},
        counters={contract.text(name): int(value) for name, value in counters.items()},
        committed=[msgspec.structs.replace(each, project=project) for each in committed],
        committed_total=committed_total,
        unreadable=[f"{project}/{name}" if project else name for name in unreadable],
        other_path=_other_path(queues),
    )


def _other_path(queues: Queues) -> OtherPath | None:
    noted = elsewhere.read(queues.connection, queues.prefix)
    if noted is None:
        return None
    return OtherPath(noted.count, noted.path, _utc(datetime.fromtimestamp(noted.last_at, UTC)))


def batch_status(queues: Queues | None, bucket: Bucket, batch: str) -> dict[str, Any]:
    """One batch: `state` is committed, running, waiting, failed or unknown, with its jobs and its `batch.json`.

    `trouble` is a sentence where its `batch.json` can't be read, else None.
    """
    summary, trouble = None, None
    try:
        summary = read_summary(bucket, batch)
    except Incomplete as error:
        trouble = str(error)
    found = _jobs_of(queues, batch) if queues is not None else []
    states = {job.state for job in found}
    state = next((s for s in (_RUNNING, _WAITING, _FAILED) if s in states), _FAILED if trouble else "unknown")
    split = parts.read_split(bucket, batch)
    done = len(split.parts) - len(parts.lacking(bucket, batch, split)) if split else 0
    return _plain(
        BatchStatus(
            batch,
            "committed" if summary and not states - {_FAILED} else state,
            found,
            PartsStatus(len(split.parts), done) if split else None,
            summary,
            trouble,
        )
    )


def committed_lately(bucket: Bucket, limit: int) -> tuple[list[Committed], int, list[str]]:
    """The newest commits of today and yesterday (UTC), from `_index/`; how many there are; those that can't be read."""
    today = datetime.now(UTC).date()
    names: list[str] = []
    total = 0
    for day in (today, today - timedelta(days=1)):
        of_day, count = bucket.newest(f"_index/{day.isoformat()}", limit - len(names))
        names += of_day
        total += count
    batches = [PurePosixPath(name).stem for name in names]
    found: list[Summary] = []
    unreadable = []
    with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as threads:
        blobs = threads.map(lambda batch: bucket.get(layout.summary(batch)), batches)
        for batch, blob in zip(batches, blobs, strict=True):
            try:
                if blob is not None:
                    found.append(decode_summary(blob, batch))
            except Incomplete:
                unreadable.append(batch)
    found.sort(key=lambda summary: summary.committed_at, reverse=True)
    shown = [
        Committed(
            **{name: getattr(summary, name) for name in Committed.__struct_fields__ if name != "project"}
        )
        for summary in found
    ]
    return shown, total, unreadable


def _jobs_of(queues: Queues, batch: str) -> list[JobStatus]:
    states = {"queued": _WAITING, "scheduled": _WAITING, "deferred": _WAITING, "started": _RUNNING}
    found = []
    for job_id in queues.jobs_of(batch):
        status = queues.connection.hget(Job.key_for(job_id), "status")
        if status is not None:
            found.append(_job(queues, job_id, states.get(contract.text(status), _FAILED)))
    return [job for job in found if job]


def _job(queues: Queues, job_id: str, state: str) -> JobStatus | None:
    try:
        job = Job.fetch(job_id, connection=queues.connection, serializer=JSONSerializer)
    except NoSuchJobError:
        return None
    next_try = None
    if state == _WAITING and job.origin:
        registry = queues.queue(job.origin).scheduled_job_registry
        score = queues.connection.zscore(registry.key, job_id)
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
