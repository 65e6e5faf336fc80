"""RQ's worker with the settings that RQ leaves to its users. A lost job is taken up within a minute: RQ's are seven."""

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.utils import now

from workers import contract, one_clock, turns
from workers.chronicle import Kept
from workers.contract import Queues, logs
from workers.forks import signals_blocked
from workers.horse import Horse
from workers.orphans import requeue_orphans
from workers.own_jobs import HEARTBEAT_SECONDS, OwnJob, OwnQueue

logger = logs.named("workers")

MONITORING_SECONDS = 5
MAINTENANCE_SECONDS = 5
WORKER_TTL_SECONDS = 20  # RQ blocks on the queues for this minus 15.

# Below what supervisors wait after SIGTERM (Docker 10 s unless told otherwise, Kubernetes 30 s).
GRACE_SECONDS = 8.0

_BURST_PAUSE_SECONDS = 0.05


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
