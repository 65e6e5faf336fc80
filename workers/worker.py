"""RQ's worker, job and queue classes with the settings that RQ leaves to its users.

- Jobs run our own functions only, whatever a record in Redis says.
- A lost job is taken up within a minute: RQ's defaults are seven.
"""

import contextlib
import datetime as dt
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import WatchError
from rq import Queue, Worker
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import now

from workers import contract, jobs, one_clock, turns
from workers.chronicle import Kept
from workers.contract import Queues, logs
from workers.forks import signals_blocked
from workers.horse import Horse

logger = logs.named("workers")

MONITORING_SECONDS = 5
HEARTBEAT_SECONDS = 20
MAINTENANCE_SECONDS = 5
WORKER_TTL_SECONDS = 20  # RQ blocks on the queues for this minus 15.

# Below what supervisors wait after SIGTERM (Docker 10 s unless told otherwise, Kubernetes 30 s).
GRACE_SECONDS = 8.0

# Less than the pause between two looks, so that the second one decides.
ORPHAN_SECONDS = 15.0
_FOUND_AT_ONCE = 1000

_BURST_PAUSE_SECONDS = 0.05
_LEAST_WAIT_SECONDS = 0.1
_ALLOWED: dict[str, Callable[..., Any]] = {
    contract.PROCESS_BATCH: jobs.process_batch,
    contract.FAN_OUT_PART: jobs.fan_out_part,
    contract.TELL: jobs.tell_downstream,
}
_LOST_WITHOUT_A_PLACE = frozenset(
    status.encode() for status in (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED)
)


class ForbiddenJob(RuntimeError):
    """A record in Redis names a function that is none of ours."""


class OwnJob(contract.DeletableJob):
    """A job that runs one of our three functions or nothing: no callbacks, no webhooks of RQ's, no repeats."""

    def restore(self, raw_data: Any) -> Any:
        super().restore(raw_data)
        self._success_callback_name = None
        self._failure_callback_name = None
        self._stopped_callback_name = None
        self.webhooks = []
        self.repeats_left = None
        self.group_id = None

    @property
    def func(self) -> Callable[..., Any]:
        function = _ALLOWED.get(str(self.func_name))
        if function is None or self.instance is not None:
            self.retries_left = 0
            raise ForbiddenJob("The job names a function that workers do not run.")
        return function


class OwnQueue(Queue):
    """A queue that reads jobs as JSON, and whose maintenance lock does not outlive a killed cleaner by 15 minutes."""

    job_class = OwnJob

    def __init__(self, name: str = "default", **kwargs: Any) -> None:
        kwargs["serializer"] = JSONSerializer
        kwargs["job_class"] = OwnJob
        super().__init__(name, **kwargs)

    @classmethod
    def dequeue_any(
        cls, queues: Iterable[Queue], timeout: float | None, connection: Redis, *args: Any, **more: Any
    ) -> tuple[Job, Queue] | None:
        """As RQ does, but of projects that rest nothing is taken."""
        open_to_us, seconds = turns.open_to(list(queues), connection)
        if timeout is not None:
            timeout = min(timeout, max(seconds, _LEAST_WAIT_SECONDS))
        if open_to_us:
            # A fraction of a second is fine for Redis, if not for RQ's types.
            return super().dequeue_any(open_to_us, timeout, connection, *args, **more)  # type: ignore[arg-type]
        if timeout is None:
            return None
        time.sleep(timeout)
        raise DequeueTimeout

    def schedule_job(self, job: Job, datetime: dt.datetime, *args: Any, **more: Any) -> Job:
        """At a moment by this machine's clock, which is not the one that it waits by."""
        return super().schedule_job(job, datetime + one_clock.ahead(), *args, **more)

    def acquire_maintenance_lock(self) -> bool:
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=HEARTBEAT_SECONDS))


class BatchWorker(Worker):
    """A worker on all queues in turn, so that nothing is delayed by anything else by more than their number."""

    job_class = OwnJob
    queue_class: type[Queue] = OwnQueue
    max_connection_wait_time = 5.0
    prefixes: Sequence[str] = (contract.PREFIX,)
    """One a project."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(
            worker_ttl=WORKER_TTL_SECONDS,
            job_monitoring_interval=MONITORING_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            log_job_description=False,
        )
        super().__init__(*args, **kwargs)
        self._handed_back = False
        self._horse: Horse | None = None
        self._projects = [Queues(self.connection, prefix) for prefix in self.prefixes]

    def reorder_queues(self, reference_queue: Queue) -> None:
        turns.after(self._ordered_queues, reference_queue)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """RQ adds a minute to its monitoring interval; steps are safe to run twice, so we need not wait for it."""
        del job, working_time
        return HEARTBEAT_SECONDS

    def fork_work_horse(self, job: Job, queue: Queue) -> None:  # noqa: ARG002 - the horse knows it by its name.
        """Give the job to the horse that there is; to a new one where there is none."""
        execution = self.execution
        if execution is None:
            raise AssertionError("RQ notes an execution before it asks for a work-horse")
        task = f"{execution.id} {job.id}"
        if self._horse is None or not self._horse.take(task):
            self._dismiss_horse()
            self._horse = Horse.fork(self._perform)
            self._horse.take(task)
        self._horse_pid = self._horse.pid

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        """Until the job has ended, as RQ does, for whom that is the horse's end."""
        if self._horse and self._horse.is_done():
            return self._horse.pid, os.EX_OK, None
        self._horse = None
        return super().wait_for_horse()

    def _perform(self, tasks: Iterator[str]) -> None:
        """In the horse: one job after the other, for as long as they end well."""
        random.seed()
        self.setup_work_horse_signals()  # type: ignore[no-untyped-call]
        self._is_horse = True
        homes = {queue.name: queue for queue in self.queues}
        for task in tasks:
            execution_id, job_id = task.split(" ", 1)
            job = self.job_class.fetch(job_id, self.connection, self.serializer)
            execution = Execution(execution_id, job_id, self.connection, self.name)
            self.executions = {execution_id: execution}
            if not self.perform_job(job, homes.get(job.origin, self.queues[0]), execution):
                return

    def _dismiss_horse(self) -> None:
        if self._horse:
            self._horse.end()
            self._horse = None

    def run_maintenance_tasks(self) -> None:
        if self._horse and self._horse.is_bored():
            self._dismiss_horse()
        # It may begin a scheduler. One that is told to end in that moment would miss it, and be waited for without end.
        with signals_blocked():
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def _start_scheduler(self, *args: Any, **kwargs: Any) -> None:
        with signals_blocked():
            super()._start_scheduler(*args, **kwargs)

    def teardown(self) -> None:
        self._dismiss_horse()
        super().teardown()  # type: ignore[no-untyped-call]

    def handle_warm_shutdown_request(self) -> None:
        """Let the job finish; what takes longer than the grace period is handed back."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        timer = threading.Timer(GRACE_SECONDS, self._hand_back)
        timer.daemon = True
        timer.start()

    def _hand_back(self) -> None:
        if self.horse_pid:
            logger.warning("handed_back", job=self.get_current_job_id())
            self._handed_back = True
            self.kill_horse()

    def handle_job_failure(self, job: Job, *args: Any, **kwargs: Any) -> None:
        if self._handed_back:
            # Not a crash of the job's: it waits for the next worker as if it had not been started.
            job.retries_left = (job.retries_left or 0) + 1
        super().handle_job_failure(job, *args, **kwargs)
        self._note_failure(job, str(kwargs.get("exc_string", "")))
        self._look_again(job, job.meta.get("seen"))

    def handle_job_retry(self, job: Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_retry(job, *args, **kwargs)
        self._look_again(job, job.meta.get("seen"))

    def handle_job_success(
        self,
        job: Job,
        queue: Queue,  # noqa: ARG002
        started_job_registry: StartedJobRegistry,  # noqa: ARG002
        execution: Execution,
    ) -> None:
        """Leave nothing of it. RQ asks nine times, for dependents, repeats and limits that our jobs never have."""
        executions = job.execution_registry
        others: list[Any] = self.connection.zrange(executions.key, 0, -1)
        with self.connection.pipeline() as pipe:
            self.increment_successful_job_count(pipe)
            if job.started_at and job.ended_at:
                self.increment_total_working_time(job.ended_at - job.started_at, pipe)
            self.cleanup_execution(job, pipe, execution)
            for other in map(contract.text, others):
                Execution(other, job.id, self.connection).delete(job, pipe)
            pipe.delete(job.key, job.dependents_key, job.dependencies_key, executions.key)
            pipe.execute()
        self._look_again(job, 0)  # Settled: whatever is announced now is news.

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:  # noqa: ARG002
        """RQ adds a heartbeat for callbacks, which our jobs do not have."""
        job.ended_at = now()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """One a second is enough; RQ sends six for each job."""
        last = self.last_heartbeat
        if pipeline is not None or last is None or (now() - last).total_seconds() > 1:
            super().heartbeat(timeout, pipeline)

    def _note_failure(self, job: Job, told: str) -> None:
        """What a job could not tell itself: it was killed, or met what nobody foresaw."""
        queues, batch = self._of(job)
        said = job.meta.get("reason")
        if queues is None or batch is None or self._handed_back or (said and said in told):
            return
        reason = (told.strip().splitlines() or ["no reason was kept"])[-1]
        kept = Kept(queues, batch)
        if job.get_status(refresh=False) == JobStatus.FAILED:
            kept.given_up(reason)
        else:
            kept.noted("crashed", reason=reason)

    def _look_again(self, job: Job, seen: int | None) -> None:
        """However a look ended: once more, where the batch was announced since. A crash leaves that to its retry."""
        queues, batch = self._of(job)
        if queues and batch and seen is not None and queues.is_batch_job(job.id):
            queues.look_again(batch, seen)

    def _of(self, job: Job) -> tuple[Queues | None, str | None]:
        """The queues of its project, and its batch."""
        for queues in self._projects:
            if batch := queues.batch_of(job.id):
                return queues, batch
        return None, None

    def clean_registries(self) -> None:
        one_clock.follow(self.connection)
        super().clean_registries()  # type: ignore[no-untyped-call]
        for queues in self._projects:
            if self.connection.set(queues.key("orphans:lock"), 1, nx=True, ex=HEARTBEAT_SECONDS):
                requeue_orphans(queues)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """In burst mode stay while a job runs anywhere: it may hand out parts, or be lost and come back."""
        while True:
            result = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            if result or timeout is not None or not self._others_work():
                return result
            time.sleep(_BURST_PAUSE_SECONDS)

    def _others_work(self) -> bool:
        with self.connection.pipeline(transaction=False) as pipe:
            for queue in self.queues:
                pipe.zcard(queue.started_job_registry.key)
                pipe.llen(queue.key)
            return any(pipe.execute())


def requeue_orphans(queues: Queues, now: float | None = None) -> list[str]:
    """Put back jobs that are in no queue and no registry although their record says that they wait or run.

    A worker on several queues pops with BLPOP; killed before it notes what it popped, it takes the job with it.
    A job is put back when it was seen so at two looks at least 15 seconds apart. Returns the ids put back.
    """
    now = queues.now() if now is None else now
    connection, marks = queues.connection, queues.key("orphans")
    homes = {name: OwnQueue(name, connection=connection) for name in queues.names}
    lost = {contract.text(job_id) for job_id in connection.sscan_iter(queues.jobs, count=_FOUND_AT_ONCE)}
    for home in homes.values():
        lost.difference_update(home.get_job_ids())
        for registry in (home.started_job_registry, home.scheduled_job_registry, home.failed_job_registry):
            lost.difference_update(registry.get_job_ids(cleanup=False))
    orphans = _without_a_place(queues, sorted(lost))
    seen = {contract.text(name): float(at) for name, at in connection.hgetall(marks).items()}
    gone = set(seen) - set(orphans)
    if gone:
        connection.hdel(marks, *gone)
    put_back = []
    for job_id, origin in orphans.items():
        if job_id not in seen:
            connection.hset(marks, job_id, str(now))
        elif abs(now - seen[job_id]) >= ORPHAN_SECONDS and connection.hdel(marks, job_id):
            homes[origin].enqueue_job(OwnJob.fetch(job_id, connection=connection, serializer=JSONSerializer))
            logger.warning("orphan_requeued", job=job_id)
            put_back.append(job_id)
    return put_back


def _without_a_place(queues: Queues, job_ids: list[str]) -> dict[str, str]:
    """Those that claim to wait or run, each with its queue. What has no record any more is forgotten."""
    found: dict[str, str] = {}
    for first in range(0, len(job_ids), _FOUND_AT_ONCE):
        some = job_ids[first : first + _FOUND_AT_ONCE]
        with queues.connection.pipeline() as pipe:
            # Watched: one that is enqueued at this moment must not be forgotten.
            pipe.watch(*map(Job.key_for, some))  # type: ignore[no-untyped-call]
            with queues.connection.pipeline(transaction=False) as reader:
                for job_id in some:
                    reader.hmget(Job.key_for(job_id), "status", "origin")
                records = dict(zip(some, reader.execute(), strict=True))
            ended = [job_id for job_id, (status, _) in records.items() if status is None]
            pipe.multi()
            if ended:
                pipe.srem(queues.jobs, *ended)
            with contextlib.suppress(WatchError):
                pipe.execute()
        for job_id, (status, origin) in records.items():
            if status in _LOST_WITHOUT_A_PLACE and contract.text(origin or "") in queues.names:
                found[job_id] = contract.text(origin)
    return found
