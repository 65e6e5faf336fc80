"""What `work` is: RQ's pool of workers, and `reconcile` beside it.

A child ends with its parent, so that a killed worker leaves no work-horse behind.
"""

import contextlib
import gc
import os
import time
from multiprocessing import Process
from multiprocessing.process import BaseProcess
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError
from rq.serializers import JSONSerializer
from rq.worker_pool import WorkerPool

from workers import health, jobs, one_clock, reconcile, timetable
from workers.admission import Admission
from workers.contract import Queues, logs
from workers.contract.environment import ALIVE, READY, notify
from workers.contract.redis_words import in_words
from workers.forks import end_with_parent, signals_blocked
from workers.own_jobs import HEARTBEAT_SECONDS, OwnJob, OwnQueue
from workers.redis_connection import connect
from workers.settings import Settings
from workers.worker import BatchWorker

logger = logs.named("workers")

LOGGING_LEVEL = "WARNING"
COMPLAINT_SECONDS = 60
RECONCILE_MOST_SECONDS = 3600
RECONCILES_AT_ONCE = 8


class Pool(WorkerPool):
    """RQ's pool, which also runs `reconcile` when it is due over all pools.

    In a process of its own for each project, so that no long job and no other project keeps it waiting.
    """

    projects: Admission
    _noted_at = float("-inf")
    _complained_at = float("-inf")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reconciling: dict[str, tuple[Process, float]] = {}

    def check_workers(self, respawn: bool = True) -> None:
        if respawn and self.projects.has_changed():
            self._queue_names = _serve(self.projects, self.connection)
            # Each ends with its job, and another one takes its place.
            for worker in list(self.worker_dict.values()):
                self.stop_worker(worker)
        super().check_workers(respawn)
        notify(ALIVE)
        if time.monotonic() - self._noted_at > HEARTBEAT_SECONDS:
            with contextlib.suppress(RedisError):  # The workers say so themselves.
                for queues in self.queues_of_ours():
                    health.note_pool(queues, self.name, self.num_workers)
                self._noted_at = time.monotonic()
        if respawn:
            for settings in self.projects.working:
                self._reconcile_if_due(settings)

    def queues_of_ours(self) -> list[Queues]:
        """Of each project that is worked for."""
        return [Queues(self.connection, each.queue_prefix) for each in self.projects.working]

    def end_reconciling(self) -> None:
        """At the end of the pool; what was enqueued stays so, and the next run looks for the rest."""
        for process, _ in self._reconciling.values():
            process.kill()
            process.join()

    def _reconcile_if_due(self, settings: Settings) -> None:
        prefix, seconds = settings.queue_prefix, settings.reconcile_interval_seconds
        if not seconds or self._is_reconciling(prefix) or len(self._reconciling) >= RECONCILES_AT_ONCE:
            return
        try:
            queues = Queues(self.connection, prefix)
            is_due = timetable.due(queues, seconds)
            is_glance = not is_due and timetable.glance_due(queues, seconds)
        except NoPermissionError as error:
            self._complain(in_words(error))
            return
        except RedisError:
            # The workers say so themselves, and wait for Redis to come back.
            return
        if is_due or is_glance:
            with signals_blocked():
                process = Process(
                    target=_reconcile, args=(settings, is_glance), name="reconcile", daemon=True
                )
                process.start()
            self._reconciling[prefix] = process, time.monotonic()

    def _is_reconciling(self, prefix: str) -> bool:
        process, began_at = self._reconciling.get(prefix, (None, 0.0))
        if process is None or not process.is_alive():
            self._reconciling.pop(prefix, None)
            return False
        if time.monotonic() - began_at > RECONCILE_MOST_SECONDS:
            logger.error("reconcile_failed", reason="it did not end within an hour")
            process.kill()
        return True

    def _complain(self, reason: str) -> None:
        if time.monotonic() - self._complained_at > COMPLAINT_SECONDS:
            logger.error("reconcile_failed", reason=reason)
            self._complained_at = time.monotonic()

    def start_workers(self, *args: Any, **kwargs: Any) -> None:
        # RQ installs them only afterwards, and a signal in between would end the pool at once.
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        logger.info("started", workers=self.num_workers, **self.projects.shown())
        super().start_workers(*args, **kwargs)
        notify(READY)
        if self.status == self.Status.STOPPED:
            self.stop_workers()  # type: ignore[no-untyped-call]

    def get_worker_process(
        self, name: str, burst: bool, _sleep: float = 0, *_: Any, **__: Any
    ) -> BaseProcess:
        """RQ logs more of those that take another's place, and lets them end with a traceback where Redis is away."""
        process = super().get_worker_process(name, burst, _sleep, logging_level=LOGGING_LEVEL)
        work = process.run

        def told() -> None:
            try:
                work()
            except RedisError as error:
                logger.error("worker_ended", reason=in_words(error))  # noqa: TRY400 - a sentence says it.
                raise SystemExit(1) from None

        process.run = told  # type: ignore[method-assign]
        return process

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        with signals_blocked():
            super().start_worker(*args, **kwargs)


def _reconcile(settings: Settings, is_glance: bool) -> None:
    """In a process of its own, with a connection of its own."""
    queues = Queues(connect(settings.redis_url), settings.queue_prefix)
    reconcile.run(jobs.prepare(settings), queues, settings.heartbeat_url, is_glance=is_glance)


def run_pool(projects: Admission, connection: Redis, workers: int, *, burst: bool) -> None:
    """Run workers until SIGTERM or SIGINT, or until nothing is left to do where `burst`.

    Raises `SettingsError` where it can never work.
    """
    os.register_at_fork(after_in_child=end_with_parent)
    try:
        projects.begin()
        one_clock.follow(connection)
        # Else the first collection of every work-horse would copy all that it inherited.
        gc.collect()
        gc.freeze()
        pool = Pool(
            _serve(projects, connection),
            connection=connection,
            num_workers=workers,
            worker_class=BatchWorker,
            job_class=OwnJob,
            queue_class=OwnQueue,
            serializer=JSONSerializer,
        )
        pool.projects = projects
        try:
            pool.start(burst=burst, logging_level=LOGGING_LEVEL)
        finally:
            pool.end_reconciling()
        with contextlib.suppress(RedisError):
            for queues in pool.queues_of_ours():
                health.forget_pool(queues, pool.name)
    finally:
        projects.end()


def _serve(projects: Admission, connection: Redis) -> list[str]:
    """Have workers that start from now on take jobs of these projects; the names of their queues."""
    BatchWorker.prefixes = [each.queue_prefix for each in projects.working]
    return [name for prefix in BatchWorker.prefixes for name in Queues(connection, prefix).names]
