"""RQ's record of a job: what ours are like, and the one respect in which they differ."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rq import Queue, Retry
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus

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


def put(pipe: Any, queue: Queue, new: NewJob, old: Job | None) -> None:
    """Enqueue a job in a pipeline, in place of the record of an `old` one that blocks nothing."""
    if old is not None:
        old.delete(pipeline=pipe, remove_from_queue=False)
    queue.enqueue_call(
        new.function,
        args=new.args,
        job_id=new.job_id,
        timeout=JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=FAILURE_TTL_SECONDS,
        description=new.job_id,
        meta=new.meta,
        retry=Retry(max=len(CRASH_RETRIES), interval=list(CRASH_RETRIES)),
        at_front=new.at_front,
        pipeline=pipe,
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
