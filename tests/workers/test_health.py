"""Health: green while everybody works, red within two minutes of anybody's death, with a sentence that says whose."""

import signal
import time
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.scheduler import RQScheduler

from tests.support.deployment import Deployment
from tests.support.waiting import wait_until
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Queues
from workers.health import trouble


@pytest.fixture
def queues(redis_client: "redis.Redis") -> Queues:
    return Queues(redis_client)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


def wait_until_green(queues: Queues, bucket: Bucket) -> None:
    wait_until(lambda: trouble(queues, bucket) is None, what="health")


def test_nobody_at_work_is_red(queues: Queues, bucket: Bucket) -> None:
    assert "No pool of workers" in (trouble(queues, bucket) or "")


def test_a_pool_at_work_is_green_and_red_once_it_ended(
    deployment: Deployment, queues: Queues, bucket: Bucket
) -> None:
    work = deployment.work("--workers", "2")
    wait_until_green(queues, bucket)
    healthy = deployment.run("status", "--health")
    assert (healthy.returncode, healthy.output.count("\n")) == (0, 1)

    assert work.stop() == 0

    ended = deployment.run("status", "--health")
    assert ended.returncode == 1
    assert ended.output.startswith("Error: No pool of workers")


def test_a_pool_that_was_killed_is_red_within_two_minutes(
    deployment: Deployment, queues: Queues, bucket: Bucket
) -> None:
    work = deployment.work()
    wait_until_green(queues, bucket)

    work.kill()

    assert "gave no sign" in (trouble(queues, bucket, now=time.time() + 90) or "")


def test_one_worker_that_is_stopped_is_red_although_another_works(
    deployment: Deployment, queues: Queues, bucket: Bucket, redis_client: "redis.Redis"
) -> None:
    work = deployment.work("--workers", "2")
    wait_until_green(queues, bucket)
    worker = psutil.Process(work.pid).children()[0]

    worker.send_signal(signal.SIGSTOP)
    try:
        keys = sorted(redis_client.smembers(f"rq:workers:{queues.names[0]}"))
        # As its last sign looks a minute later, while the other one's is fresh.
        redis_client.hset(keys[0], "last_heartbeat", "2026-01-01T00:00:00.000000Z")
        redis_client.hset(
            keys[1], "last_heartbeat", time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        )
        assert "1 of 2 workers gave no sign" in (trouble(queues, bucket) or "")
    finally:
        worker.send_signal(signal.SIGCONT)


def test_a_scheduler_whose_lock_lapsed_is_red(
    deployment: Deployment, queues: Queues, bucket: Bucket, redis_client: "redis.Redis"
) -> None:
    work = deployment.work()
    wait_until_green(queues, bucket)
    (worker,) = psutil.Process(work.pid).children()
    for scheduler in worker.children():
        scheduler.kill()
    redis_client.expire(RQScheduler.get_locking_key(queues.names[1]), 0)

    assert "scheduler is dead" in (trouble(queues, bucket) or "")


def test_a_retry_overdue_by_two_minutes_is_red(
    deployment: Deployment, queues: Queues, bucket: Bucket, redis_client: "redis.Redis"
) -> None:
    deployment.work()
    wait_until_green(queues, bucket)
    registry = queues.queue(queues.names[0]).scheduled_job_registry.key
    redis_client.zadd(registry, {queues.batch_job_id("late"): time.time() + 3600})

    assert trouble(queues, bucket) is None
    redis_client.zadd(registry, {queues.batch_job_id("late"): time.time() - 130})
    assert "overdue by 13" in (trouble(queues, bucket) or "")


def test_a_redis_that_is_away_is_red(bucket: Bucket) -> None:
    with redis.Redis(port=1, retry=Retry(NoBackoff(), 0)) as away:
        assert (trouble(Queues(away), bucket) or "").startswith("Redis does not answer")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_death_is_seen_within_two_minutes_as_it_happens_and_nothing_else_is(
    deployment: Deployment, redis_client: "redis.Redis", bucket: Bucket
) -> None:
    """Nothing here is set back or forward: four pools side by side, one of them well."""
    names = ("well", "pool", "scheduler", "workers")
    pools = {name: psutil.Process(deployment.work(QUEUE_PREFIX=name).pid) for name in names}
    queues = {name: Queues(redis_client, name) for name in names}
    for each in queues.values():
        wait_until_green(each, bucket)
    worker_of = {name: pool.children()[0] for name, pool in pools.items()}

    pools["pool"].kill()
    (scheduler,) = worker_of["scheduler"].children()
    scheduler.suspend()
    worker_of["workers"].suspend()
    seen: dict[str, str] = {}
    began = time.monotonic()

    def look() -> bool:
        for name, each in queues.items():
            if found := trouble(each, bucket):
                seen.setdefault(name, found)
        return len(seen) == 3

    wait_until(look, seconds=120, what=f"three in trouble, {seen} so far")
    assert set(seen) == {"pool", "scheduler", "workers"}
    assert "1 of 1 workers gave no sign" in seen["pool"]
    assert "scheduler is dead for scheduler-batches" in seen["scheduler"]
    assert "1 of 1 workers gave no sign" in seen["workers"]
    assert time.monotonic() - began < 120
    assert trouble(queues["well"], bucket) is None
