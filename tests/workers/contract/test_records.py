"""A job of ours is one of RQ's, though RQ did not write it."""

import pytest
from redis import Redis
from redis.exceptions import WatchError
from rq import Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer

from workers.contract import CRASH_RETRIES, DeletableJob
from workers.contract.records import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS, NewJob, put
from workers.contract.redis_client import ask

QUEUE = "t-batches"


def kept(redis: Redis, job_id: str) -> dict[str, object]:
    """All that RQ knows of a job, but when that was."""
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    known = {**job.to_dict(), "status": job.get_status(), "args": job.args, "meta": job.meta}
    return known | {"created_at": job.created_at.tzinfo, "enqueued_at": job.enqueued_at is not None}


def put_all(redis: Redis, *jobs: NewJob) -> None:
    with redis.pipeline() as pipe:
        put(pipe, [(job, None) for job in jobs])
        pipe.execute()


def test_a_job_is_kept_and_queued_as_rq_would(redis_client: Redis) -> None:
    put_all(
        redis_client, NewJob(QUEUE, "workers.jobs.process_batch", ("abc",), "t-abc", {"trigger": "webhook"})
    )
    ours = kept(redis_client, "t-abc")
    queues, waiting = redis_client.smembers("rq:queues"), redis_client.lrange(f"rq:queue:{QUEUE}", 0, -1)
    redis_client.flushdb()

    Queue(QUEUE, connection=redis_client, serializer=JSONSerializer).enqueue_call(
        "workers.jobs.process_batch",
        args=("abc",),
        job_id="t-abc",
        timeout=JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=FAILURE_TTL_SECONDS,
        description="t-abc",
        meta={"trigger": "webhook"},
        retry=Retry(max=len(CRASH_RETRIES), interval=list(CRASH_RETRIES)),
    )

    assert ours == kept(redis_client, "t-abc")
    assert queues == redis_client.smembers("rq:queues")
    assert waiting == redis_client.lrange(f"rq:queue:{QUEUE}", 0, -1)


def test_jobs_come_in_their_order_and_those_at_the_front_before_what_waits(redis_client: Redis) -> None:
    put_all(redis_client, *(NewJob(QUEUE, "f", (), name) for name in "ab"))
    put_all(redis_client, *(NewJob(QUEUE, "f", (), name, at_front=name in "xy") for name in "xcyd"))

    assert redis_client.lrange(f"rq:queue:{QUEUE}", 0, -1) == [b"x", b"y", b"a", b"b", b"c", b"d"]


def test_what_a_beat_left_of_a_job_that_is_gone_is_no_part_of_the_new_one(redis_client: Redis) -> None:
    redis_client.hset(
        Job.key_for("t-abc"), mapping={"last_heartbeat": "2026-01-01T00:00:00.000000Z", "ttl": 1}
    )

    put_all(redis_client, NewJob(QUEUE, "f", (), "t-abc"))

    job = Job.fetch("t-abc", connection=redis_client, serializer=JSONSerializer)
    assert (job.last_heartbeat, job.ttl) == (None, None)


def test_an_old_record_that_goes_while_it_is_replaced_is_no_error_but_a_change_of_what_is_watched(
    redis_client: Redis,
) -> None:
    new = NewJob(QUEUE, "f", (), "t-abc")
    put_all(redis_client, new)
    old = DeletableJob.fetch("t-abc", connection=redis_client, serializer=JSONSerializer)

    with redis_client.pipeline() as pipe:
        ask(pipe, ("WATCH", Job.key_for("t-abc")))
        pipe.multi()
        redis_client.delete(Job.key_for("t-abc"))
        put(pipe, [(new, old)])

        with pytest.raises(WatchError):
            pipe.execute()
