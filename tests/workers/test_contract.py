"""Announcing batches in a real Redis: one job each, atomically, with nothing lost that is said meanwhile."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
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

from tests.support.queues import BATCHES, PARTS, queue
from workers import contract
from workers.contract import Announced, Announcement, Outcome, Queues, Trigger
from workers.contract.forgetting import forget
from workers.contract.queues import ANNOUNCEMENT_TTL_SECONDS
from workers.contract.records import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS

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
    queue(redis, job.origin).remove(job_id)
    FailedJobRegistry(job.origin, redis, serializer=JSONSerializer).add(job, ttl=1000, exc_string="it broke")
    set_status(redis, job_id, JobStatus.FAILED)


def queued(redis: Redis, name: str = BATCHES) -> list[str]:
    return queue(redis, name).get_job_ids()


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
    assert Queues(redis_client).announce([]) == []
    assert not redis_client.keys()


def test_an_announced_batch_is_one_job_of_ours_in_json(redis_client: Redis) -> None:
    assert Queues(redis_client).announce([told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    job = fetch(redis_client, "batch-receiver-batch-abc")
    assert (job.func_name, list(job.args), job.kwargs) == (contract.PROCESS_BATCH, ["abc"], {})
    assert job.result_ttl == 0
    assert job.failure_ttl == FAILURE_TTL_SECONDS
    assert job.timeout == JOB_TIMEOUT_SECONDS
    assert job.retries_left == len(contract.CRASH_RETRIES)
    assert job.meta == {"trigger": "webhook"}
    assert json.loads(job.data) == [contract.PROCESS_BATCH, None, ["abc"], {}]


def test_duplicates_within_one_group_are_told_from_the_first(redis_client: Redis) -> None:
    group = [told("a"), told("b"), told("a"), told("a", Trigger.DYNAMIC), told("b")]

    outcomes = Queues(redis_client).announce(group)

    assert outcomes == [
        *(Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.DUPLICATE)
    ]
    assert queued(redis_client) == ["batch-receiver-batch-a", "batch-receiver-batch-b"]
    assert fetch(redis_client, "batch-receiver-batch-a").meta == {"trigger": "webhook"}
    assert Queues(redis_client).announced("a").count == 3
    assert Queues(redis_client).announced("a").triggers == {Trigger.WEBHOOK, Trigger.DYNAMIC}


@pytest.mark.parametrize(
    "status",
    [
        *(JobStatus.CREATED, JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED),
        *(JobStatus.RATE_LIMITED, JobStatus.READY_TO_ENQUEUE),
    ],
)
def test_a_job_that_waits_or_runs_makes_an_announcement_a_duplicate(
    redis_client: Redis, status: JobStatus
) -> None:
    Queues(redis_client).announce([told("abc")])
    set_status(redis_client, "batch-receiver-batch-abc", status)

    assert Queues(redis_client).announce([told("abc")]) == [Outcome.DUPLICATE]

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    assert Queues(redis_client).announced("abc").count == 2


@pytest.mark.parametrize("status", [JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.CANCELED])
def test_a_job_that_has_ended_blocks_nothing(redis_client: Redis, status: JobStatus) -> None:
    Queues(redis_client).announce([told("abc")])
    queue(redis_client, BATCHES).remove("batch-receiver-batch-abc")
    set_status(redis_client, "batch-receiver-batch-abc", status)

    assert Queues(redis_client).announce([told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    assert fetch(redis_client, "batch-receiver-batch-abc").get_status() is JobStatus.QUEUED


def test_the_record_of_a_failed_job_is_replaced_and_leaves_no_trace(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc", Trigger.DYNAMIC)])
    job = fetch(redis_client, "batch-receiver-batch-abc")
    job.meta["reason"] = "It broke."
    job.number_of_retries = 5
    job.save()
    fail(redis_client, "batch-receiver-batch-abc")

    assert Queues(redis_client).announce([told("abc", Trigger.REPLAY)]) == [Outcome.ACCEPTED]

    assert queue(redis_client, BATCHES).failed_job_registry.get_job_ids() == []
    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    job = fetch(redis_client, "batch-receiver-batch-abc")
    assert job.meta == {"trigger": "replay"}
    assert not job.number_of_retries
    assert job.retries_left == len(contract.CRASH_RETRIES)


def test_a_failed_record_without_its_data_does_not_stand_in_the_way(redis_client: Redis) -> None:
    redis_client.hset(Job.key_for("batch-receiver-batch-abc"), "status", "failed")

    assert Queues(redis_client).announce([told("abc")]) == [Outcome.ACCEPTED]

    assert fetch(redis_client, "batch-receiver-batch-abc").get_status() is JobStatus.QUEUED


def test_one_group_mixes_new_waiting_and_failed_batches(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("waits"), told("failed")])
    fail(redis_client, "batch-receiver-batch-failed")

    outcomes = Queues(redis_client).announce([told("new"), told("waits"), told("failed")])

    assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert sorted(queued(redis_client)) == [
        "batch-receiver-batch-failed",
        "batch-receiver-batch-new",
        "batch-receiver-batch-waits",
    ]


def test_announcements_of_one_batch_from_many_threads_are_one_job(redis_url: str) -> None:
    threads = 8
    together = Barrier(threads)

    def announce(_: int) -> Outcome:
        with Redis.from_url(redis_url) as redis:
            together.wait(10)
            return Queues(redis).announce([told("abc")])[0]

    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(announce, range(threads)))

    assert sorted(outcomes) == [Outcome.ACCEPTED] + [Outcome.DUPLICATE] * (threads - 1)
    with Redis.from_url(redis_url) as redis:
        assert queued(redis) == ["batch-receiver-batch-abc"]
        assert Queues(redis).announced("abc").count == threads


def test_a_failed_job_that_two_announce_at_once_is_replaced_once(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        for _ in range(10):
            redis.flushall()
            Queues(redis).announce([told("abc")])
            fail(redis, "batch-receiver-batch-abc")
            together = Barrier(2)

            def announce(together: Barrier) -> Outcome:
                with Redis.from_url(redis_url) as own:
                    together.wait(10)
                    return Queues(own).announce([told("abc")])[0]

            with ThreadPoolExecutor(2) as pool:
                outcomes = list(pool.map(announce, [together, together]))

            assert sorted(outcomes) == [Outcome.ACCEPTED, Outcome.DUPLICATE]
            assert queued(redis) == ["batch-receiver-batch-abc"]
            assert queue(redis, BATCHES).failed_job_registry.get_job_ids() == []


def test_a_redis_that_is_away_is_an_error_and_no_outcome() -> None:
    with (
        Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0)) as redis,
        pytest.raises(RedisConnectionError),
    ):
        Queues(redis).announce([told("abc")])


def test_the_users_metadata_of_the_latest_announcement_that_has_some_is_kept(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc", Trigger.DYNAMIC, '{"n":1}')])
    Queues(redis_client).announce([told("abc", Trigger.DYNAMIC, '{"n":2}'), told("abc")])

    said = Queues(redis_client).announced("abc")

    assert said == Announced(frozenset({Trigger.DYNAMIC, Trigger.WEBHOOK}), 3, '{"n":2}')
    assert said.strongest is Trigger.WEBHOOK


def test_what_was_announced_is_forgotten_after_longer_than_results_live(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc")])

    assert 0 < redis_client.ttl(Queues(redis_client).announcement("abc")) <= ANNOUNCEMENT_TTL_SECONDS


def test_settling_forgets_what_was_seen(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc", Trigger.DYNAMIC, "{}")])

    assert Queues(redis_client).settle("abc", Queues(redis_client).announced("abc"))

    assert Queues(redis_client).announced("abc") == Announced(frozenset(), 0, None)


def test_settling_is_refused_while_there_is_news(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc")])
    seen = Queues(redis_client).announced("abc")
    set_status(redis_client, "batch-receiver-batch-abc", JobStatus.STARTED)
    Queues(redis_client).announce([told("abc", Trigger.REPLAY)])

    assert not Queues(redis_client).settle("abc", seen)

    assert Queues(redis_client).announced("abc").strongest is Trigger.REPLAY
    assert Queues(redis_client).settle("abc", Queues(redis_client).announced("abc"))


def test_no_announcement_is_lost_between_announcing_and_settling(redis_url: str) -> None:
    rounds = 200

    def announce() -> None:
        with Redis.from_url(redis_url) as redis:
            for _ in range(rounds):
                Queues(redis).announce([told("abc")])

    with Redis.from_url(redis_url) as redis, ThreadPoolExecutor(1) as pool:
        announcing = pool.submit(announce)
        seen = 0
        while not announcing.done() or Queues(redis).announced("abc").triggers:
            said = Queues(redis).announced("abc")
            if Queues(redis).settle("abc", said):
                seen += said.count
        announcing.result()

    assert seen == rounds


def test_a_job_is_enqueued_once_and_again_after_it_failed(redis_client: Redis) -> None:
    def enqueue() -> bool:
        return Queues(redis_client).enqueue_part("abc", 3)

    assert enqueue()
    assert not enqueue()
    fail(redis_client, "batch-receiver-part-abc-00003")
    assert enqueue()

    assert queued(redis_client, PARTS) == ["batch-receiver-part-abc-00003"]
    assert list(fetch(redis_client, "batch-receiver-part-abc-00003").args) == ["abc", 3]
    assert queue(redis_client, PARTS).failed_job_registry.get_job_ids() == []


def test_many_threads_that_enqueue_the_same_job_enqueue_it_once(redis_url: str) -> None:
    together = Barrier(6)

    def enqueue(_: int) -> bool:
        with Redis.from_url(redis_url) as redis:
            together.wait(10)
            return Queues(redis).enqueue_part("abc", 3)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(enqueue, range(6))) == 1


def test_an_urgent_batch_goes_before_the_others(redis_client: Redis) -> None:
    queues = Queues(redis_client)
    queues.announce([told("a"), told("b")])

    queues.announce([Announcement("c", Trigger.RECONCILE, urgent=True)])

    queues.announce([Announcement(batch, Trigger.RECONCILE, urgent=True) for batch in "de"])
    assert queued(redis_client) == [f"batch-receiver-batch-{batch}" for batch in "decab"]


@pytest.mark.parametrize(
    ("trigger", "is_hurried"),
    [
        (Trigger.REPLAY, True),
        (Trigger.WEBHOOK, True),
        (Trigger.DYNAMIC, True),
        (Trigger.RECONCILE, False),
    ],
)
def test_who_waits_for_a_batch_hurries_its_next_try_and_a_timer_does_not(
    redis_client: Redis, trigger: Trigger, *, is_hurried: bool
) -> None:
    queues = Queues(redis_client)
    queues.announce([told("abc")])
    home, job = queue(redis_client, BATCHES), fetch(redis_client, "batch-receiver-batch-abc")
    home.remove(job.id)
    home.scheduled_job_registry.schedule(job, datetime.now(UTC) + timedelta(hours=1))
    set_status(redis_client, job.id, JobStatus.SCHEDULED)

    outcome = queues.announce([told("abc", trigger)])

    assert outcome == [Outcome.ACCEPTED if is_hurried else Outcome.DUPLICATE]
    assert bool(queued(redis_client)) is is_hurried
    assert bool(home.scheduled_job_registry.get_job_ids()) is not is_hurried


def test_what_was_announced_after_the_last_look_is_looked_at_again(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc")])
    fetch(redis_client, "batch-receiver-batch-abc").delete()

    assert not Queues(redis_client).look_again("abc", seen=1)
    assert Queues(redis_client).look_again("abc")

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    assert not Queues(redis_client).look_again("abc")


def test_a_settled_batch_is_not_looked_at_again(redis_client: Redis) -> None:
    assert not Queues(redis_client).look_again("abc")
    assert queued(redis_client) == []
    assert StartedJobRegistry(BATCHES, redis_client).count == 0


def test_few_batches_wait_that_nothing_but_dynamic_webhooks_told_of(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.contract.queues.MAX_WAITING_STRANGERS", 3)
    queues = Queues(redis_client)
    queues.announce([told("ours", Trigger.DYNAMIC), told("ours", Trigger.WEBHOOK)])

    outcomes = queues.announce([told(f"s{n}", Trigger.DYNAMIC) for n in range(5)])

    assert outcomes == [Outcome.ACCEPTED] * 3 + [Outcome.FULL] * 2
    assert queues.announce([told("s1", Trigger.DYNAMIC)]) == [Outcome.DUPLICATE]
    assert queues.announce([told("s4", Trigger.DYNAMIC)]) == [Outcome.FULL]
    assert not redis_client.exists(queues.announcement("s4"), Job.key_for(queues.batch_job_id("s4")))
    assert queues.announce([told("s4", Trigger.WEBHOOK)]) == [Outcome.ACCEPTED]
    assert queues.settle("s0", queues.announced("s0"))
    assert queues.announce([told("s5", Trigger.DYNAMIC)]) == [Outcome.ACCEPTED]


def test_two_prefixes_share_a_database_and_nothing_else(redis_client: Redis) -> None:
    ours, theirs = Queues(redis_client), Queues(redis_client, "other")
    ours.announce([told("abc")])
    theirs.announce([told("abc")])
    theirs.enqueue_part("abc", 1)

    assert forget(ours, "abc") == 1

    assert redis_client.lrange("rq:queue:other-batches", 0, -1) == [b"other-batch-abc"]
    assert theirs.jobs_of("abc") == ["other-batch-abc", "other-part-abc-00001"]
    assert theirs.announced("abc").count == 1
    assert ours.jobs_of("abc") == []
    assert not ours.announced("abc").count


def test_a_job_whose_worker_died_with_it_is_deleted_like_any_other(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc")])
    job = contract.DeletableJob.fetch(
        "batch-receiver-batch-abc", connection=redis_client, serializer=JSONSerializer
    )
    with redis_client.pipeline() as pipe:
        lost = Execution.create(job, ttl=20, pipeline=pipe)
        pipe.execute()
    set_status(redis_client, "batch-receiver-batch-abc", JobStatus.STARTED)
    redis_client.delete(lost.key)  # as time does, a minute before the id goes

    with pytest.raises(ValueError, match="not found"):
        fetch(redis_client, "batch-receiver-batch-abc").delete()
    job.delete()

    assert not redis_client.exists(job.key, job.execution_registry.key)
    assert StartedJobRegistry(BATCHES, redis_client).get_job_count(cleanup=False) == 0


def test_a_failed_job_that_was_lost_before_is_replaced_by_an_announcement(redis_client: Redis) -> None:
    Queues(redis_client).announce([told("abc")])
    with redis_client.pipeline() as pipe:
        lost = Execution.create(fetch(redis_client, "batch-receiver-batch-abc"), ttl=20, pipeline=pipe)
        pipe.execute()
    fail(redis_client, "batch-receiver-batch-abc")
    redis_client.delete(lost.key)

    assert Queues(redis_client).announce([told("abc")]) == [Outcome.ACCEPTED]

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
