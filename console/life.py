"""Who works, and what waits: a few dozen questions to Redis, whatever the number of batches."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from rq.job import Job

from workers.contract import Queues, text

SILENT_SECONDS = 60.0
OVERDUE_SECONDS = 120.0
_MOST_WORKERS = 500


class Worker(msgspec.Struct, frozen=True):
    """One of RQ's workers. Times are seconds since 1970; `alive`: it gave a sign within a minute."""

    name: str
    state: str
    alive: bool
    last_sign: float | None
    since: float | None
    job: str | None
    batch: str | None
    host: str | None
    pid: str | None
    done: int


class QueueState(msgspec.Struct, frozen=True):
    """One queue. `oldest_seconds`: how long the job that waits longest does so, 0 where none does."""

    name: str
    waiting: int
    oldest_seconds: float
    scheduled: int
    overdue_seconds: float
    running: int
    failed: int


class FailedJob(msgspec.Struct, frozen=True):
    """A job that failed for good, as far as its record says."""

    job: str
    batch: str | None
    failed_at: float | None
    reason: str | None


class Life(msgspec.Struct, frozen=True):
    """Who works for a project. `pools`: how many workers each `work` process wants that has said so lately.

    `complaint` is what the workers themselves have said lately of the project: that they can't work for it.
    """

    pools: dict[str, int]
    workers: list[Worker]
    queues: list[QueueState]
    complaint: str | None = None

    @property
    def alive(self) -> int:
        return sum(worker.alive for worker in self.workers)

    @property
    def wanted(self) -> int:
        return sum(self.pools.values())

    @property
    def trouble(self) -> str | None:
        """What is dead, in a sentence."""
        if not self.wanted:
            return "No pool of workers is alive: start `batch-receiver work`."
        if self.alive < self.wanted:
            silent = self.wanted - self.alive
            return (
                f"{silent} of {self.wanted} workers gave no sign for a minute: restart `batch-receiver work`."
            )
        late = max((queue.overdue_seconds for queue in self.queues), default=0.0)
        if late > OVERDUE_SECONDS:
            return f"A retry is overdue by {late:.0f} s, RQ's scheduler does not work: restart `batch-receiver work`."
        return None


def look(queues: Queues) -> Life:
    """Raises `redis.exceptions.RedisError`."""
    now = queues.now()
    left_out, trouble = (
        text(said) if said else None for said in queues.connection.mget(queues.left_out, queues.trouble)
    )
    states = [_queue(queues, name, now) for name in queues.names]
    return Life(_pools(queues), _workers(queues, now), states, left_out or trouble)


def of_all(lives: Iterable[Life]) -> Life:
    """Of several projects: a worker, and a `work` process, may work for all of them."""
    pools: dict[str, int] = {}
    workers: dict[str, Worker] = {}
    found = [*lives]
    for each in found:
        pools |= each.pools
        for worker in each.workers:
            known = workers.get(worker.name)
            workers[worker.name] = worker if known is None or known.batch is None else known
    return Life(pools, [*workers.values()], [queue for each in found for queue in each.queues])


def failed_jobs(queues: Queues, limit: int = 50) -> list[FailedJob]:
    """The newest of those that failed for good. Raises `redis.exceptions.RedisError`."""
    connection: Any = queues.connection
    found: list[tuple[str, float]] = []
    for name in queues.names:
        key = queues.queue(name).failed_job_registry.key
        found += [
            (text(job), float(until))
            for job, until in connection.zrevrange(key, 0, limit - 1, withscores=True)
        ]
    # They are kept equally long, so whoever is kept longest failed last.
    found.sort(key=lambda each: each[1], reverse=True)
    with connection.pipeline(transaction=False) as pipe:
        for job, _ in found[:limit]:
            pipe.hmget(Job.key_for(job), "ended_at", "meta")
        replies = pipe.execute()
    return [
        FailedJob(job, queues.batch_of(job), _moment(ended), _reason(meta))
        for (job, _), (ended, meta) in zip(found[:limit], replies, strict=True)
    ]


def _pools(queues: Queues) -> dict[str, int]:
    connection: Any = queues.connection
    names = [text(name) for name in connection.smembers(queues.key("pools"))]
    noted = connection.mget([queues.key(f"pool:{name}") for name in names]) if names else []
    return {name: int(count) for name, count in zip(names, noted, strict=True) if count is not None}


def _workers(queues: Queues, now: float) -> list[Worker]:
    connection: Any = queues.connection
    keys = sorted(text(key) for key in connection.smembers(f"rq:workers:{queues.batches}"))[:_MOST_WORKERS]
    with connection.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        replies = pipe.execute()
    return [_worker(queues, key, reply, now) for key, reply in zip(keys, replies, strict=True) if reply]


def _worker(queues: Queues, key: str, reply: Mapping[Any, Any], now: float) -> Worker:
    known = {text(name): text(value) for name, value in reply.items()}
    sign = _moment(known.get("last_heartbeat"))
    job = known.get("current_job") or None
    return Worker(
        name=key.removeprefix("rq:worker:"),
        state=known.get("state", "unknown"),
        alive=sign is not None and now - sign < SILENT_SECONDS,
        last_sign=sign,
        since=_moment(known.get("birth")),
        job=job,
        batch=queues.batch_of(job) if job else None,
        host=known.get("hostname"),
        pid=known.get("pid"),
        done=int(known.get("successful_job_count") or 0),
    )


def _queue(queues: Queues, name: str, now: float) -> QueueState:
    connection: Any = queues.connection
    queue = queues.queue(name)
    scheduled = queue.scheduled_job_registry.key
    with connection.pipeline(transaction=False) as pipe:
        pipe.llen(queue.key)
        pipe.lindex(queue.key, 0)
        pipe.zcard(scheduled)
        pipe.zrange(scheduled, 0, 0, withscores=True)
        pipe.zcard(queue.started_job_registry.key)
        pipe.zcard(queue.failed_job_registry.key)
        waiting, first, later, due, running, failed = pipe.execute()
    oldest = 0.0
    if first is not None:
        said = connection.hget(Job.key_for(text(first)), "enqueued_at")
        oldest = max(0.0, now - (_moment(said) or now))
    overdue = max(0.0, now - float(due[0][1])) if due else 0.0
    return QueueState(name, waiting, oldest, later, overdue, running, failed)


def _moment(said: str | bytes | None) -> float | None:
    try:
        return datetime.fromisoformat(text(said)).timestamp() if said else None
    except ValueError:
        return None


def _reason(meta: bytes | None) -> str | None:
    try:
        reason = msgspec.json.decode(meta or b"{}").get("reason")
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        return None
    return str(reason) if reason else None
