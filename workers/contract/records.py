"""RQ's record of a job: what ours are like, and the one respect in which they differ."""

import json
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rq import Queue
from rq.exceptions import InvalidJobOperation
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.utils import now, utcformat

# An expected retry is returned by the job itself; these are for what nobody foresaw: a work-horse that was
# killed, a bug. The first two are immediate, so that a crash does not wait for RQ's scheduler.
CRASH_RETRIES = (0, 0, 10, 60, 300, 900, 3600)

JOB_TIMEOUT_SECONDS = 6 * 3600
FAILURE_TTL_SECONDS = 30 * 86400

BLOCKING = frozenset(
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
"""A job in one of these states waits or runs: another one of its id would be one too many."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be enqueued in `queue`."""

    queue: str
    function: str
    args: tuple[Any, ...]
    job_id: str
    meta: dict[str, str] | None = None
    at_front: bool = False


def put(pipe: Any, jobs: Sequence[tuple[NewJob, Job | None]]) -> None:
    """Enqueue jobs in a pipeline, each in place of the record of an old one that blocks nothing.

    RQ's own `enqueue_call` takes three times as long, and three commands a job that can be said for all in one.
    """
    at = utcformat(now())
    queues = defaultdict[tuple[str, bool], list[str]](list)
    keys = [Job.key_for(new.job_id) for new, _ in jobs]
    pipe.delete(*keys)
    for key, (new, old) in zip(keys, jobs, strict=True):
        if old is not None:
            # RQ looks at its status once more. Where it is gone, what is watched has changed, and all is done again.
            with suppress(InvalidJobOperation):
                old.delete(pipeline=pipe, remove_from_queue=False)
        pipe.execute_command("HSET", key, *_record(new, at))
        queues[Queue.redis_queue_namespace_prefix + new.queue, new.at_front].append(new.job_id)
    pipe.sadd(Queue.redis_queues_keys, *{name for name, _ in queues})
    for (name, at_front), job_ids in queues.items():
        # Each is put before those that are there already, so the first of them comes last.
        pipe.lpush(name, *reversed(job_ids)) if at_front else pipe.rpush(name, *job_ids)


_OF_ALL = (
    *("status", JobStatus.QUEUED.value, "timeout", JOB_TIMEOUT_SECONDS),
    *("result_ttl", 0, "failure_ttl", FAILURE_TTL_SECONDS),
    *("retries_left", len(CRASH_RETRIES), "retry_intervals", json.dumps(CRASH_RETRIES)),
)


def _record(new: NewJob, at: str) -> list[str | int | bytes]:
    """Its fields, as RQ writes them; those that it writes empty are left out. `at`: now, in RQ's words."""
    call = json.dumps([new.function, None, new.args, {}]).encode()
    # zlib.compress fetches and clears a quarter of a megabyte for these hundred bytes, which takes it 10 to 100 us.
    small = zlib.compressobj(1, zlib.DEFLATED, 9, 1)
    record: list[str | int | bytes] = [*_OF_ALL, "origin", new.queue, "description", new.job_id]
    record += ["created_at", at, "enqueued_at", at, "data", small.compress(call) + small.flush()]
    if new.meta:
        record += ["meta", json.dumps(new.meta)]
    return record


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
