"""Is there anybody who works? Cheap enough for a health check: a dozen questions to Redis, one to the bucket."""

from datetime import datetime

from redis.exceptions import RedisError
from rq.scheduler import RQScheduler

from workers.bucket.protocol import Bucket
from workers.contract import Queues, text
from workers.contract.redis_words import in_words
from workers.errors import WorkerError

# RQ's workers and its scheduler give a sign every few seconds; each lets its own lapse after about a minute more.
SILENT_SECONDS = 60.0
OVERDUE_SECONDS = 120.0
_POOL_SECONDS = 90


def note_pool(queues: Queues, pool: str, workers: int) -> None:
    """A pool is alive, and has so many workers. To be said again within a minute."""
    queues.connection.set(_pool_key(queues, pool), workers, ex=_POOL_SECONDS)
    queues.connection.sadd(queues.key("pools"), pool)


def forget_pool(queues: Queues, pool: str) -> None:
    """A pool has ended as it should."""
    queues.connection.delete(_pool_key(queues, pool))
    queues.connection.srem(queues.key("pools"), pool)


def trouble(queues: Queues, bucket: Bucket, now: float | None = None) -> str | None:
    """A sentence that names what is dead, or None.

    Args:
        queues: ours.
        bucket: asked for the size of an object that need not be there.
        now: seconds since 1970; Redis's own clock unless given.
    """
    try:
        now = queues.now() if now is None else now
        found = _of_pools(queues, now) or _of_scheduler(queues, now)
    except RedisError as error:
        return f"Redis does not answer: {in_words(error)}."
    if found is not None:
        return found
    try:
        bucket.size("_work/_health")
    except WorkerError as error:
        return f"The bucket does not answer: {error}"
    return None


def _of_pools(queues: Queues, now: float) -> str | None:
    pools = [text(name) for name in queues.connection.smembers(queues.key("pools"))]
    noted = [queues.connection.get(_pool_key(queues, pool)) for pool in pools]
    wanted = sum(int(count) for count in noted if count is not None)
    if not wanted:
        return "No pool of workers is alive: start `batch-receiver work`."
    signs = [
        _last_sign(queues, text(key)) for key in queues.connection.smembers(f"rq:workers:{queues.names[0]}")
    ]
    alive = sum(now - sign < SILENT_SECONDS for sign in signs)
    if alive < wanted:
        return (
            f"{wanted - alive} of {wanted} workers gave no sign for a minute: restart `batch-receiver work`."
        )
    return None


def _of_scheduler(queues: Queues, now: float) -> str | None:
    for name in queues.names:
        due = queues.connection.zrange(queues.queue(name).scheduled_job_registry.key, 0, 0, withscores=True)
        late = now - float(due[0][1]) if due else 0.0
        if late > OVERDUE_SECONDS:
            return f"A retry is overdue by {late:.0f} s, RQ's scheduler does not work: restart `batch-receiver work`."
        if not queues.connection.exists(RQScheduler.get_locking_key(name)):
            return f"RQ's scheduler is dead for {name}: restart `batch-receiver work`."
    return None


def _last_sign(queues: Queues, worker: str) -> float:
    said = queues.connection.hget(worker, "last_heartbeat")
    return datetime.fromisoformat(text(said)).timestamp() if said else float("-inf")


def _pool_key(queues: Queues, pool: str) -> str:
    return queues.key(f"pool:{pool}")
