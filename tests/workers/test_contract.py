"""Announcing batches in a real Redis: one job each, atomically, with nothing lost that is said meanwhile."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from workers import contract
from workers.contract import Announced, Announcement, Outcome, Trigger

ID_CHARACTERS = "ABCXYZabcxyz0189_-"
LIKE_IDS = st.text(st.sampled_from(ID_CHARACTERS + "/ .\n\0é"), max_size=140)


def told(batch: str, trigger: Trigger = Trigger.WEBHOOK, user_metadata: str | None = None) -> Announcement:
    return Announcement(batch, trigger, user_metadata)


def fetch(redis: Redis, job_id: str) -> Job:
    return Job.fetch(job_id, connection=redis, serializer=JSONSerializer)


def set_status(redis: Redis, job_id: str, status: JobStatus) -> None:
    redis.hset(Job.key_for(job_id), "status", status.value)


def fail(redis: Redis, job_id: str) -> None:
    """As a worker leaves a job that failed: out of the queue, in the registry of failed ones."""
    job = fetch(redis, job_id)
    contract.queue(job.origin, redis).remove(job_id)
    FailedJobRegistry(job.origin, redis, serializer=JSONSerializer).add(job, ttl=1000, exc_string="it broke")
    set_status(redis, job_id, JobStatus.FAILED)


def queued(redis: Redis, name: str = contract.BATCHES) -> list[str]:
    return contract.queue(name, redis).get_job_ids()


@pytest.mark.parametrize("batch", ["a", "0", "abc-123_X", "a" * 128, "a-", "a_"])
def test_a_batch_is_named_with_or_without_its_collection(batch: str) -> None:
    assert contract.parse_batch_id(batch) == batch
    assert contract.parse_batch_id(f"batches/{batch}") == batch


@pytest.mark.parametrize(
    "text",
    [
        *("", "batches/", "-a", "_a", ".", "..", "a/b", "a.b", "a b", "a\n", "\na", "a\0", "é", "a" * 129),
        *("batches/batches/a", "Batches/a", "/batches/a", "a" * 128 + "\n", "٣", "a:b", "a*", "batches/../a"),
        *(None, 1, 1.0, True, b"abc", ["a"], {"id": "a"}),
    ],
)
def test_what_is_no_batch_id_is_none(text: object) -> None:
    assert contract.parse_batch_id(text) is None


@given(st.text() | LIKE_IDS | LIKE_IDS.map("batches/".__add__))
def test_a_parsed_id_is_made_of_letters_digits_dashes_and_underscores_only(text: str) -> None:
    found = contract.parse_batch_id(text)

    if found is None:
        assert not re.fullmatch(r"(batches/)?[A-Za-z0-9][A-Za-z0-9_-]{0,127}", text)
    else:
        assert text in {found, f"batches/{found}"}
        assert 1 <= len(found) <= 128
        assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
        assert contract.parse_batch_id(found) == found


def test_the_strongest_of_several_triggers_is_the_last_in_their_order() -> None:
    order = [Trigger.DYNAMIC, Trigger.RECONCILE, Trigger.WEBHOOK, Trigger.REPLAY, Trigger.PROCESS]

    for place, trigger in enumerate(order, start=1):
        assert Announced(frozenset(order[:place]), place, None).strongest is trigger
    assert Announced(frozenset(), 0, None).strongest is Trigger.DYNAMIC


def test_nothing_to_announce_is_no_work_for_redis(redis_client: Redis) -> None:
    assert contract.announce(redis_client, []) == []
    assert not redis_client.keys()


def test_an_announced_batch_is_one_job_of_ours_in_json(redis_client: Redis) -> None:
    assert contract.announce(redis_client, [told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-abc"]
    job = fetch(redis_client, "batch-abc")
    assert (job.func_name, list(job.args), job.kwargs) == (contract.PROCESS_BATCH, ["abc"], {})
    assert job.result_ttl == 0
    assert job.failure_ttl == contract.FAILURE_TTL_SECONDS
    assert job.timeout == contract.JOB_TIMEOUT_SECONDS
    assert job.retries_left == len(contract.CRASH_RETRIES)
    assert job.meta == {"trigger": "webhook"}
    assert json.loads(job.data) == [contract.PROCESS_BATCH, None, ["abc"], {}]


def test_duplicates_within_one_group_are_told_from_the_first(redis_client: Redis) -> None:
    group = [told("a"), told("b"), told("a"), told("a", Trigger.DYNAMIC), told("b")]

    outcomes = contract.announce(redis_client, group)

    assert outcomes == [
        *(Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.DUPLICATE)
    ]
    assert queued(redis_client) == ["batch-a", "batch-b"]
    assert fetch(redis_client, "batch-a").meta == {"trigger": "webhook"}
    assert contract.announced(redis_client, "a").count == 3
    assert contract.announced(redis_client, "a").triggers == {Trigger.WEBHOOK, Trigger.DYNAMIC}


@pytest.mark.parametrize(
    "status",
    [
        *(JobStatus.CREATED, JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED),
        *(JobStatus.RATE_LIMITED, JobStatus.READY_TO_ENQUEUE),
    ],
)
def test_a_job_that_waits_or_runs_makes_an_announcement_a_duplicate(
    redis_client: Redis, status: JobStatus
) -> None:
    contract.announce(redis_client, [told("abc")])
    set_status(redis_client, "batch-abc", status)

    assert contract.announce(redis_client, [told("abc")]) == [Outcome.DUPLICATE]

    assert queued(redis_client) == ["batch-abc"]
    assert contract.announced(redis_client, "abc").count == 2


@pytest.mark.parametrize("status", [JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.CANCELED])
def test_a_job_that_has_ended_blocks_nothing(redis_client: Redis, status: JobStatus) -> None:
    contract.announce(redis_client, [told("abc")])
    contract.queue(contract.BATCHES, redis_client).remove("batch-abc")
    set_status(redis_client, "batch-abc", status)

    assert contract.announce(redis_client, [told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-abc"]
    assert fetch(redis_client, "batch-abc").get_status() is JobStatus.QUEUED


def test_the_record_of_a_failed_job_is_replaced_and_leaves_no_trace(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc", Trigger.DYNAMIC)])
    job = fetch(redis_client, "batch-abc")
    job.meta["reason"] = "It broke."
    job.number_of_retries = 5
    job.save()
    fail(redis_client, "batch-abc")

    assert contract.announce(redis_client, [told("abc", Trigger.REPLAY)]) == [Outcome.ACCEPTED]

    assert contract.queue(contract.BATCHES, redis_client).failed_job_registry.get_job_ids() == []
    assert queued(redis_client) == ["batch-abc"]
    job = fetch(redis_client, "batch-abc")
    assert job.meta == {"trigger": "replay"}
    assert not job.number_of_retries
    assert job.retries_left == len(contract.CRASH_RETRIES)


def test_a_failed_record_without_its_data_does_not_stand_in_the_way(redis_client: Redis) -> None:
    redis_client.hset(Job.key_for("batch-abc"), "status", "failed")

    assert contract.announce(redis_client, [told("abc")]) == [Outcome.ACCEPTED]

    assert fetch(redis_client, "batch-abc").get_status() is JobStatus.QUEUED


def test_one_group_mixes_new_waiting_and_failed_batches(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("waits"), told("failed")])
    fail(redis_client, "batch-failed")

    outcomes = contract.announce(redis_client, [told("new"), told("waits"), told("failed")])

    assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert sorted(queued(redis_client)) == ["batch-failed", "batch-new", "batch-waits"]


def test_announcements_of_one_batch_from_many_threads_are_one_job(redis_url: str) -> None:
    threads = 8
    together = Barrier(threads)

    def announce(_: int) -> Outcome:
        with Redis.from_url(redis_url) as redis:
            together.wait(10)
            return contract.announce(redis, [told("abc")])[0]

    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(announce, range(threads)))

    assert sorted(outcomes) == [Outcome.ACCEPTED] + [Outcome.DUPLICATE] * (threads - 1)
    with Redis.from_url(redis_url) as redis:
        assert queued(redis) == ["batch-abc"]
        assert contract.announced(redis, "abc").count == threads


def test_a_failed_job_that_two_announce_at_once_is_replaced_once(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        for _ in range(10):
            redis.flushall()
            contract.announce(redis, [told("abc")])
            fail(redis, "batch-abc")
            together = Barrier(2)

            def announce(together: Barrier) -> Outcome:
                with Redis.from_url(redis_url) as own:
                    together.wait(10)
                    return contract.announce(own, [told("abc")])[0]

            with ThreadPoolExecutor(2) as pool:
                outcomes = list(pool.map(announce, [together, together]))

            assert sorted(outcomes) == [Outcome.ACCEPTED, Outcome.DUPLICATE]
            assert queued(redis) == ["batch-abc"]
            assert contract.queue(contract.BATCHES, redis).failed_job_registry.get_job_ids() == []


def test_a_redis_that_is_away_is_an_error_and_no_outcome() -> None:
    with (
        Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0)) as redis,
        pytest.raises(RedisConnectionError),
    ):
        contract.announce(redis, [told("abc")])


def test_the_users_metadata_of_the_latest_announcement_that_has_some_is_kept(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc", Trigger.DYNAMIC, '{"n":1}')])
    contract.announce(redis_client, [told("abc", Trigger.DYNAMIC, '{"n":2}'), told("abc")])

    said = contract.announced(redis_client, "abc")

    assert said == Announced(frozenset({Trigger.DYNAMIC, Trigger.WEBHOOK}), 3, '{"n":2}')
    assert said.strongest is Trigger.WEBHOOK


def test_what_was_announced_is_forgotten_within_a_week(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc")])

    assert 0 < redis_client.ttl(contract.announcement_key("abc")) <= contract.ANNOUNCEMENT_TTL_SECONDS


def test_settling_forgets_what_was_seen(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc", Trigger.DYNAMIC, "{}")])

    assert contract.settle(redis_client, "abc", contract.announced(redis_client, "abc"))

    assert contract.announced(redis_client, "abc") == Announced(frozenset(), 0, None)


def test_settling_is_refused_while_there_is_news(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc")])
    seen = contract.announced(redis_client, "abc")
    set_status(redis_client, "batch-abc", JobStatus.STARTED)
    contract.announce(redis_client, [told("abc", Trigger.REPLAY)])

    assert not contract.settle(redis_client, "abc", seen)

    assert contract.announced(redis_client, "abc").strongest is Trigger.REPLAY
    assert contract.settle(redis_client, "abc", contract.announced(redis_client, "abc"))


def test_no_announcement_is_lost_between_announcing_and_settling(redis_url: str) -> None:
    rounds = 200

    def announce() -> None:
        with Redis.from_url(redis_url) as redis:
            for _ in range(rounds):
                contract.announce(redis, [told("abc")])

    with Redis.from_url(redis_url) as redis, ThreadPoolExecutor(1) as pool:
        announcing = pool.submit(announce)
        seen = 0
        while not announcing.done() or contract.announced(redis, "abc").triggers:
            said = contract.announced(redis, "abc")
            if contract.settle(redis, "abc", said):
                seen += said.count
        announcing.result()

    assert seen == rounds


def test_a_job_is_enqueued_once_and_again_after_it_failed(redis_client: Redis) -> None:
    def enqueue() -> bool:
        return contract.enqueue_once(
            redis_client, contract.PARTS, contract.FAN_OUT_PART, ["abc", 3], contract.part_job_id("abc", 3)
        )

    assert enqueue()
    assert not enqueue()
    fail(redis_client, "part-abc-00003")
    assert enqueue()

    assert queued(redis_client, contract.PARTS) == ["part-abc-00003"]
    assert list(fetch(redis_client, "part-abc-00003").args) == ["abc", 3]
    assert contract.queue(contract.PARTS, redis_client).failed_job_registry.get_job_ids() == []


def test_many_threads_that_enqueue_the_same_job_enqueue_it_once(redis_url: str) -> None:
    together = Barrier(6)

    def enqueue(_: int) -> bool:
        with Redis.from_url(redis_url) as redis:
            together.wait(10)
            return contract.enqueue_once(
                redis, contract.BATCHES, contract.FINISH_BATCH, ["abc"], contract.finish_job_id("abc")
            )

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(enqueue, range(6))) == 1


def test_a_job_can_be_put_at_the_front(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("a"), told("b")])

    contract.enqueue_once(
        redis_client, contract.BATCHES, contract.FINISH_BATCH, ["c"], "finish-c", at_front=True
    )

    assert queued(redis_client) == ["finish-c", "batch-a", "batch-b"]


def test_what_was_announced_after_the_last_look_is_enqueued_again(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc")])
    fetch(redis_client, "batch-abc").delete()

    assert contract.requeue_announced(redis_client, "abc")

    assert queued(redis_client) == ["batch-abc"]
    assert not contract.requeue_announced(redis_client, "abc")


def test_a_settled_batch_is_not_enqueued_again(redis_client: Redis) -> None:
    assert not contract.requeue_announced(redis_client, "abc")
    assert queued(redis_client) == []
    assert StartedJobRegistry(contract.BATCHES, redis_client).count == 0


def test_a_job_whose_worker_died_with_it_is_deleted_like_any_other(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc")])
    job = contract.DeletableJob.fetch("batch-abc", connection=redis_client, serializer=JSONSerializer)
    with redis_client.pipeline() as pipe:
        lost = Execution.create(job, ttl=20, pipeline=pipe)
        pipe.execute()
    set_status(redis_client, "batch-abc", JobStatus.STARTED)
    redis_client.delete(lost.key)  # as time does, a minute before the id goes

    with pytest.raises(ValueError, match="not found"):
        fetch(redis_client, "batch-abc").delete()
    job.delete()

    assert not redis_client.exists(job.key, job.execution_registry.key)
    assert StartedJobRegistry(contract.BATCHES, redis_client).get_job_count(cleanup=False) == 0


def test_a_failed_job_that_was_lost_before_is_replaced_by_an_announcement(redis_client: Redis) -> None:
    contract.announce(redis_client, [told("abc")])
    with redis_client.pipeline() as pipe:
        lost = Execution.create(fetch(redis_client, "batch-abc"), ttl=20, pipeline=pipe)
        pipe.execute()
    fail(redis_client, "batch-abc")
    redis_client.delete(lost.key)

    assert contract.announce(redis_client, [told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-abc"]
