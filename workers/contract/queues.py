"""What the receiver and the workers agree on: queues, job ids, function paths, and how a batch is announced.

A leaf: it imports neither of the two, no bucket and no HTTP client, so the public edge stays small.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.exceptions import WatchError
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

BATCHES = "batches"
PARTS = "parts"

PROCESS_BATCH = "workers.jobs.process_batch"
FAN_OUT_PART = "workers.jobs.fan_out_part"
FINISH_BATCH = "workers.jobs.finish_batch"
RECONCILE = "workers.jobs.reconcile_batches"

RECONCILE_JOB_ID = "reconcile"

BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

_JOB_ID = re.compile(r"(?:batch|finish)-(?P<whole>.+)|part-(?P<cut>.+)-[0-9]{5,}", re.DOTALL)

# An expected retry is returned by the job itself; these are for what nobody foresaw: a work-horse that was
# killed, a bug. The first two are immediate, so that a crash does not wait for RQ's scheduler.
CRASH_RETRIES = (0, 0, 10, 60, 300, 900, 3600)

JOB_TIMEOUT_SECONDS = 6 * 3600
COUNTERS = "batch-receiver:counters"  # a Redis hash: name, how often

FAILURE_TTL_SECONDS = 30 * 86400
ANNOUNCEMENT_TTL_SECONDS = 7 * 86400

# A running job's record changes every few seconds, so a second attempt is rare already.
_ATTEMPTS = 20

_BLOCKING = frozenset(
    {
        JobStatus.CREATED,
        JobStatus.QUEUED,
        JobStatus.STARTED,
        JobStatus.DEFERRED,
        JobStatus.SCHEDULED,
        JobStatus.RATE_LIMITED,
        JobStatus.READY_TO_ENQUEUE,
    }
)


class DeletableJob(Job):
    """A job whose record can be deleted although an execution of it died with its worker.

    RQ keeps the id of such an execution for a minute longer than the execution itself, and raises when it looks it
    up: in a job that was taken up again and has succeeded, and in whoever replaces a failed one.
    """

    @property
    def execution_registry(self) -> ExecutionRegistry:
        return _Executions(self.id, connection=self.connection)


class _Executions(ExecutionRegistry):
    def get_executions(self, start: int = 0, end: int = -1) -> list[Execution]:
        found = []
        for execution_id in self.get_execution_ids(start, end):
            execution = Execution(execution_id, self.job_id, self.connection)
            # Without its hash, the id alone is enough to be removed by.
            with suppress(ValueError):
                execution.refresh()  # type: ignore[no-untyped-call]
            found.append(execution)
        return found


class Trigger(StrEnum):
    """Who announced a batch, weakest first: a dynamic webhook proves only that Google sent it."""

    DYNAMIC = "dynamic"
    RECONCILE = "reconcile"
    WEBHOOK = "webhook"
    REPLAY = "replay"
    PROCESS = "process"


class Outcome(StrEnum):
    """What became of an announcement."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Somebody says that a batch has ended.

    `user_metadata` is JSON text as it came with a dynamic event, bounded by the sender's body limit.
    """

    batch: str
    trigger: Trigger
    user_metadata: str | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """All that has been announced about one batch so far. `count` grows with every announcement."""

    triggers: frozenset[Trigger]
    count: int
    user_metadata: str | None

    @property
    def strongest(self) -> Trigger:
        return max(self.triggers, key=list(Trigger).index, default=Trigger.DYNAMIC)


def parse_batch_id(text: object) -> str | None:
    """The bare id of `batches/<id>` or `<id>`; None where it is not a batch id."""
    if not isinstance(text, str):
        return None
    bare = text.removeprefix("batches/")
    return bare if BATCH_ID.fullmatch(bare) else None


def batch_job_id(batch: str) -> str:
    return f"batch-{batch}"


def part_job_id(batch: str, part: int) -> str:
    return f"part-{batch}-{part:05d}"


def finish_job_id(batch: str) -> str:
    return f"finish-{batch}"


def batch_of_job(job_id: str) -> str | None:
    """The batch that a job id belongs to; None where it is not one of a batch's three kinds."""
    found = _JOB_ID.fullmatch(job_id)
    return (found["whole"] or found["cut"]) if found else None


def announcement_key(batch: str) -> str:
    """The Redis hash that outlives the job's record: one counter a trigger, and `user_metadata`."""
    return f"batch-receiver:announced:{batch}"


def queue(name: str, connection: Redis) -> Queue:
    """One of the two queues, with the JSON serializer (a pickle would run code of whoever can write to Redis)."""
    return Queue(name, connection=connection, serializer=JSONSerializer)


def announce(connection: Redis, announcements: Sequence[Announcement]) -> list[Outcome]:
    """Record announcements and enqueue a job for each batch that has none waiting or running.

    All of them are written in one transaction, so a returned outcome is in Redis and nothing is half done.
    A replay also takes the place of a job that waits for its next try: an operator does not wait for a backoff.

    Raises:
        redis.exceptions.RedisError: nothing was recorded; the caller must not acknowledge.
    """
    if not announcements:
        return []
    batches = queue(BATCHES, connection)
    ids = list(dict.fromkeys(announcement.batch for announcement in announcements))
    triggers = {a.batch: a.trigger for a in reversed(announcements)}
    impatient = {batch_job_id(a.batch) for a in announcements if a.trigger is Trigger.REPLAY}
    with connection.pipeline() as pipe:
        for attempt in range(_ATTEMPTS):
            try:
                job_ids = [batch_job_id(batch) for batch in ids]
                free = _watch_free(connection, pipe, batches, job_ids, impatient)
                pipe.multi()
                for batch, job_id in zip(ids, job_ids, strict=True):
                    if job_id in free:
                        _replace(batches, pipe, PROCESS_BATCH, [batch], job_id, free[job_id], triggers[batch])
                for announcement in announcements:
                    _note(pipe, announcement)
                pipe.execute()
                break
            except WatchError:
                if attempt + 1 == _ATTEMPTS:
                    raise
    outcomes = []
    unseen = {batch for batch in ids if batch_job_id(batch) in free}
    for announcement in announcements:
        outcomes.append(Outcome.ACCEPTED if announcement.batch in unseen else Outcome.DUPLICATE)
        unseen.discard(announcement.batch)
    return outcomes


def enqueue_once(
    connection: Redis,
    queue_name: str,
    function: str,
    args: Sequence[Any],
    job_id: str,
    *,
    at_front: bool = False,
) -> bool:
    """Enqueue a job unless one of that id waits or runs; the record of a failed one is replaced.

    Returns whether it was enqueued. Raises `redis.exceptions.RedisError`.
    """
    target = queue(queue_name, connection)
    with connection.pipeline() as pipe:
        for _ in range(_ATTEMPTS):
            try:
                free = _watch_free(connection, pipe, target, [job_id])
                if job_id not in free:
                    return False
                pipe.multi()
                _replace(target, pipe, function, args, job_id, free[job_id], None, at_front=at_front)
                pipe.execute()
            except WatchError:
                continue
            return True
    raise WatchError("the job changed at every attempt to enqueue it")


def announced(connection: Redis, batch: str) -> Announced:
    """What has been announced about a batch and not yet been settled."""
    fields = {text(name): text(value) for name, value in connection.hgetall(announcement_key(batch)).items()}
    counts = {trigger: int(fields[trigger]) for trigger in Trigger if trigger in fields}
    return Announced(frozenset(counts), sum(counts.values()), fields.get("user_metadata"))


def settle(connection: Redis, batch: str, seen: Announced) -> bool:
    """Forget what was announced, unless there is news since `seen`. Returns whether it was forgotten."""
    key = announcement_key(batch)
    with connection.pipeline() as pipe:
        while True:
            try:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                if announced(connection, batch).count > seen.count:
                    return False
                pipe.multi()
                pipe.delete(key)
                pipe.execute()
            except WatchError:
                continue
            return True


def requeue_announced(connection: Redis, batch: str) -> bool:
    """Enqueue a batch that was announced between its job's last look and the end of the job's record."""
    if not announced(connection, batch).triggers:
        return False
    return enqueue_once(connection, BATCHES, PROCESS_BATCH, [batch], batch_job_id(batch))


def _watch_free(
    connection: Redis, pipe: Any, target: Queue, job_ids: Iterable[str], impatient: Iterable[str] = ()
) -> dict[str, Job | None]:
    """Watch jobs; those that block nothing, each with its old record (failed, stopped) or None.

    A job that is scheduled for another try blocks nothing for the `impatient`.
    """
    job_ids = list(job_ids)
    keys = [Job.key_for(job_id) for job_id in job_ids]
    pipe.watch(*keys)
    with connection.pipeline(transaction=False) as reader:
        for key in keys:
            reader.hget(key, "status")
        statuses = reader.execute()
    free: dict[str, Job | None] = {}
    for job_id, status in zip(job_ids, statuses, strict=True):
        if status is None:
            free[job_id] = None
        elif text(status) not in _BLOCKING or (text(status) == JobStatus.SCHEDULED and job_id in impatient):
            try:
                free[job_id] = DeletableJob.fetch(job_id, connection=connection, serializer=target.serializer)
            except NoSuchJobError:
                free[job_id] = None
    return free


def _replace(  # noqa: PLR0917
    target: Queue,
    pipe: Any,
    function: str,
    args: Sequence[Any],
    job_id: str,
    old: Job | None,
    trigger: Trigger | None,
    *,
    at_front: bool = False,
) -> None:
    if old is not None:
        old.delete(pipeline=pipe, remove_from_queue=False)
    target.enqueue_call(
        function,
        args=tuple(args),
        job_id=job_id,
        timeout=JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=FAILURE_TTL_SECONDS,
        description=job_id,
        meta={"trigger": trigger.value} if trigger else None,
        retry=Retry(max=len(CRASH_RETRIES), interval=list(CRASH_RETRIES)),
        at_front=at_front,
        pipeline=pipe,
    )


def _note(pipe: Any, announcement: Announcement) -> None:
    key = announcement_key(announcement.batch)
    pipe.hincrby(key, announcement.trigger.value, 1)
    if announcement.user_metadata is not None:
        pipe.hset(key, "user_metadata", announcement.user_metadata)
    pipe.expire(key, ANNOUNCEMENT_TTL_SECONDS)


def text(value: str | bytes) -> str:
    """A reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else value
