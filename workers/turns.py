"""Whose turn it is among several projects: they follow each other, and one in trouble holds up nobody else.

A project is in trouble while its jobs fail for what is the project's own: a key that is refused, a bucket or a Gemini
that does not answer. Each of its jobs may then take as long as a timeout, and hundreds may wait. So no more than one
worker serves it until a job succeeds, and rests afterwards for a multiple of the time that it lost.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue

from workers import contract
from workers.bucket.protocol import BucketRefused
from workers.contract import Queues
from workers.errors import BucketUnavailable, GeminiUnavailable, KeyRefused

TROUBLES = (KeyRefused, GeminiUnavailable, BucketRefused, BucketUnavailable)

# So that trouble takes a tenth of one worker. A job costs more than it can measure itself: a fork, Redis.
_REST = 9
_LEAST_SECONDS = 0.05
_MOST_REST_SECONDS = 60.0
_TROUBLE_SECONDS = 600
_BUSY_SECONDS = 0.5


def counted(queues: Queues, step: Callable[[], None]) -> Callable[[], None]:
    """A job's step, which also notes whether its project is in trouble."""

    def run() -> None:
        began = time.monotonic()
        try:
            step()
        except TROUBLES as error:
            with suppress(RedisError):
                note_trouble(queues, str(error), time.monotonic() - began)
            raise
        with suppress(RedisError):
            queues.connection.delete(queues.trouble, queues.key("rest"))

    return run


def note_trouble(queues: Queues, reason: str, lost_seconds: float) -> None:
    rest = min(_REST * max(lost_seconds, _LEAST_SECONDS), _MOST_REST_SECONDS)
    with queues.connection.pipeline() as pipe:
        pipe.set(queues.trouble, reason, ex=_TROUBLE_SECONDS)
        pipe.set(queues.key("rest"), "1", px=int(rest * 1000))
        pipe.execute()


def trouble(queues: Queues) -> str | None:
    """Why the last job of a project failed, where that was no single batch's fault, and none has succeeded since."""
    said = queues.connection.get(queues.trouble)
    return contract.text(said) if said is not None else None


def project_of(queue: str) -> str:
    """What the queues of a project have in common: the prefix."""
    return queue.rpartition("-")[0]


def open_to(queues: Sequence[Queue], connection: Redis) -> tuple[list[Queue], float]:
    """Those of the queues from which a job may be taken now, and for how many seconds that is so."""
    prefixes = list(dict.fromkeys(project_of(queue.name) for queue in queues))
    if len(prefixes) < 2:
        return list(queues), float("inf")
    said = connection.mget([f"{prefix}:trouble" for prefix in prefixes])
    troubled = {prefix for prefix, trouble in zip(prefixes, said, strict=True) if trouble is not None}
    closed: dict[str, float] = {}
    for prefix in troubled:
        with connection.pipeline(transaction=False) as pipe:
            pipe.pttl(f"{prefix}:rest")
            for queue in queues:
                if project_of(queue.name) == prefix:
                    pipe.zcard(queue.started_job_registry.key)
            rest, *running = pipe.execute()
        if rest > 0 or any(running):
            closed[prefix] = max(rest / 1000, _BUSY_SECONDS if any(running) else 0.0)
    found = [queue for queue in queues if project_of(queue.name) not in closed]
    return found, min(closed.values(), default=float("inf"))


def after(queues: list[Queue], last: Queue) -> None:
    """Put queues into the order of the next turns: the project that gave the last job comes last, and in it its queue.

    With one project, looks at batches and parts of batches take turns. New batches first would have all of them
    downloaded before the first is committed, parts first would have a short batch wait for a long one.
    """
    project = project_of(last.name)
    queues.sort(key=lambda queue: (project_of(queue.name) == project, queue.name == last.name))
