"""What `work` is: RQ's pool of workers, and `reconcile` beside it.

A child ends with its parent, so that a killed worker leaves no work-horse behind.
"""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import Process
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError
from rq.serializers import JSONSerializer
from rq.worker_pool import WorkerPool

from workers import health, jobs, reconcile, start, timetable
from workers.contract import Queues
from workers.contract.manager import ALIVE, READY, notify
from workers.contract.redis_words import in_words
from workers.redis_connection import connect
from workers.settings import Settings
from workers.worker import HEARTBEAT_SECONDS, BatchWorker, OwnJob, OwnQueue

logger = logging.getLogger("workers")

COMPLAINT_SECONDS = 60
RECONCILE_MOST_SECONDS = 3600

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Pool(WorkerPool):
    """RQ's pool, which also runs `reconcile` when it is due over all pools.

    In a process of its own, so that no long job keeps it waiting.
    """

    reconcile_seconds = 0
    queues_of_ours: Queues
    settings: Settings
    _reconciling: Process | None = None
    _began_at = 0.0
    _noted_at = float("-inf")
    _complained_at = float("-inf")

    def check_workers(self, respawn: bool = True) -> None:
        super().check_workers(respawn)
        notify(ALIVE)
        if time.monotonic() - self._noted_at > HEARTBEAT_SECONDS:
            with contextlib.suppress(RedisError):  # The workers say so themselves.
                health.note_pool(self.queues_of_ours, self.name, self.num_workers)
                self._noted_at = time.monotonic()
        if not self.reconcile_seconds or self._is_reconciling():
            return
        try:
            is_due = timetable.due(self.queues_of_ours, self.reconcile_seconds)
            is_glance = not is_due and timetable.glance_due(self.queues_of_ours, self.reconcile_seconds)
        except NoPermissionError as error:
            self._complain(in_words(error))
            return
        except RedisError:
            # The workers say so themselves, and wait for Redis to come back.
            return
        if is_due or is_glance:
            self._began_at = time.monotonic()
            with _signals_blocked():
                self._reconciling = Process(
                    target=_reconcile, args=(self.settings, is_glance), name="reconcile", daemon=True
                )
                self._reconciling.start()

    def end_reconciling(self) -> None:
        """At the end of the pool; what was enqueued stays so, and the next run looks for the rest."""
        if self._reconciling is not None:
            self._reconciling.kill()
            self._reconciling.join()

    def _is_reconciling(self) -> bool:
        if self._reconciling is None or not self._reconciling.is_alive():
            return False
        if time.monotonic() - self._began_at > RECONCILE_MOST_SECONDS:
            logger.error("event=reconcile_failed reason=%r", "it did not end within an hour")
            self._reconciling.kill()
        return True

    def _complain(self, reason: str) -> None:
        if time.monotonic() - self._complained_at > COMPLAINT_SECONDS:
            logger.error("event=reconcile_failed reason=%r", reason)
            self._complained_at = time.monotonic()

    def start_workers(self, *args: Any, **kwargs: Any) -> None:
        # RQ installs them only afterwards, and a signal in between would end the pool at once.
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        settings = " ".join(f"{name}={value}" for name, value in self.settings.shown().items())
        logger.info("event=started workers=%d %s", self.num_workers, settings)
        super().start_workers(*args, **kwargs)
        notify(READY)
        if self.status == self.Status.STOPPED:
            self.stop_workers()  # type: ignore[no-untyped-call]

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        with _signals_blocked():
            super().start_worker(*args, **kwargs)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A signal that comes during a fork waits until the child has handlers of its own; else it would be lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _reconcile(settings: Settings, is_glance: bool) -> None:
    """In a process of its own, with a connection of its own."""
    queues = Queues(connect(settings.redis_url), settings.queue_prefix)
    reconcile.run(jobs.prepare(settings), queues, settings.heartbeat_url, is_glance=is_glance)


def run_pool(settings: Settings, connection: Redis, workers: int, *, burst: bool, wait: bool = False) -> None:
    """Run workers until SIGTERM or SIGINT, or until nothing is left to do where `burst`.

    With `wait` neither bucket nor Gemini is tried first. Raises `SettingsError` where it can never work.
    """
    if not wait:
        start.check(settings)
    jobs.prepare(settings)
    # Else the first collection of every work-horse would copy all that it inherited.
    gc.collect()
    gc.freeze()
    os.register_at_fork(after_in_child=_end_with_parent)
    queues = Queues(connection, settings.queue_prefix)
    BatchWorker.prefix = settings.queue_prefix
    pool = Pool(
        list(queues.names),
        connection=connection,
        num_workers=workers,
        worker_class=BatchWorker,
        job_class=OwnJob,
        queue_class=OwnQueue,
        serializer=JSONSerializer,
    )
    pool.queues_of_ours, pool.settings = queues, settings
    pool.reconcile_seconds = 0 if burst else settings.reconcile_interval_seconds
    try:
        pool.start(burst=burst, logging_level="WARNING")
    finally:
        pool.end_reconciling()
    with contextlib.suppress(RedisError):
        health.forget_pool(queues, pool.name)


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; elsewhere RQ's own timeouts have to do).

    The pool's signal handlers are not the child's; until it has its own, a signal simply ends it.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
