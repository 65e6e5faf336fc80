"""RQ's job and queue classes with what RQ leaves to its users: our own functions only, whatever a record says."""

import datetime as dt
import time
from collections.abc import Callable, Iterable
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer

from workers import contract, jobs, one_clock, turns

# How long a sign of life counts; and a cleaner's lock.
HEARTBEAT_SECONDS = 20

_LEAST_WAIT_SECONDS = 0.1
_ALLOWED: dict[str, Callable[..., Any]] = {
    contract.PROCESS_BATCH: jobs.process_batch,
    contract.FAN_OUT_PART: jobs.fan_out_part,
    contract.TELL: jobs.tell_downstream,
}


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
