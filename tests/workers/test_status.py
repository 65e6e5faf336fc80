"""What is known of batches: from Redis what waits, runs and failed, from the bucket what was committed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from tests.support.queues import queue
from workers import commit, status
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Announcement, Queues, Trigger
from workers.contract.history import elsewhere
from workers.gemini.batches import State
from workers.parts import Piece, Split
from workers.plan import Plan
from workers.summary import Summary


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


def commit_failed(bucket: Bucket, batch: str, days_ago: int = 0) -> Summary:
    """A commit without results, as if some days ago."""
    plan = Plan(batch, State.FAILED, "name", None, None, None, None, None, Trigger.WEBHOOK, None)
    summary = commit.close(bucket, plan)
    if not days_ago:
        return summary
    bucket.delete([layout.index(summary.committed_at[:10], batch)])
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    older = msgspec.structs.replace(summary, committed_at=moment.isoformat().replace("+00:00", "Z"))
    bucket.put(layout.summary(batch), older.encoded(), layout.JSON)
    return commit.tidy(bucket, older)


def announce(redis: Redis, *batches: str) -> None:
    Queues(redis).announce([Announcement(batch, Trigger.WEBHOOK) for batch in batches])


def take(redis: Redis, job_id: str, state: JobStatus) -> Job:
    """Out of the queue and into another state."""
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    queue(redis, job.origin).remove(job_id)
    redis.hset(Job.key_for(job_id), "status", state.value)
    return job


def fail(redis: Redis, job_id: str, reason: str | None = None, exc_string: str = "") -> None:
    job = take(redis, job_id, JobStatus.FAILED)
    if reason:
        job.meta["reason"] = reason
        job.save_meta()  # type: ignore[no-untyped-call]
    FailedJobRegistry(job.origin, redis, serializer=JSONSerializer).add(job, ttl=1000)
    if exc_string:
        Result.create_failure(job, 1000, exc_string)
    redis.hset(Job.key_for(job_id), mapping={"status": "failed"})


def schedule(redis: Redis, job_id: str, moment: datetime) -> None:
    job = take(redis, job_id, JobStatus.SCHEDULED)
    queue(redis, job.origin).scheduled_job_registry.schedule(job, moment)
    redis.hset(Job.key_for(job_id), mapping={"status": "scheduled"})


def test_of_a_batch_that_nobody_announced_nothing_is_known(redis_client: Redis, bucket: Bucket) -> None:
    assert status.batch_status(Queues(redis_client), bucket, "abc") == {
        "batch": "abc",
        "state": "unknown",
        "jobs": [],
        "parts": None,
        "summary": None,
        "trouble": None,
    }


def test_an_announced_batch_waits(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")

    found = status.batch_status(Queues(redis_client), bucket, "abc")

    assert found["state"] == "waiting"
    (job,) = found["jobs"]
    since = datetime.fromisoformat(job.pop("since"))
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60
    assert job == {
        "job": "batch-receiver-batch-abc",
        "state": "waiting",
        "next_try": None,
        "reason": None,
        "trigger": "webhook",
    }


def test_a_batch_that_is_tried_again_says_when(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")
    schedule(redis_client, "batch-receiver-batch-abc", datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC))

    found = status.batch_status(Queues(redis_client), bucket, "abc")

    assert found["state"] == "waiting"
    assert found["jobs"][0]["next_try"] == "2100-01-02T03:04:05Z"


def test_a_batch_of_which_any_job_runs_is_running(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")
    for number in range(3):
        Queues(redis_client).enqueue_part("abc", number)
    take(redis_client, "batch-receiver-part-abc-00001", JobStatus.STARTED)
    fail(redis_client, "batch-receiver-part-abc-00002", "It broke.")

    found = status.batch_status(Queues(redis_client), bucket, "abc")

    assert found["state"] == "running"
    assert [(job["job"], job["state"]) for job in found["jobs"]] == [
        ("batch-receiver-batch-abc", "waiting"),
        ("batch-receiver-part-abc-00000", "waiting"),
        ("batch-receiver-part-abc-00001", "running"),
        ("batch-receiver-part-abc-00002", "failed"),
    ]


@pytest.mark.parametrize("other", ["abc-1", "abc-00001", "abc-b", "xabc"])
def test_jobs_of_a_batch_with_a_longer_name_are_not_this_ones(
    redis_client: Redis, bucket: Bucket, other: str
) -> None:
    Queues(redis_client).enqueue_part(other, 2)

    assert status.batch_status(Queues(redis_client), bucket, "abc")["state"] == "unknown"
    assert status.batch_status(Queues(redis_client), bucket, other)["state"] == "waiting"


def test_a_failed_batch_says_why(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "a", "b", "c")
    fail(redis_client, "batch-receiver-batch-a", "The result file is gone.")
    fail(redis_client, "batch-receiver-batch-b", exc_string="Traceback …\nValueError: it broke\n")
    fail(redis_client, "batch-receiver-batch-c")

    found = [status.batch_status(Queues(redis_client), bucket, batch) for batch in "abc"]

    assert [each["state"] for each in found] == ["failed"] * 3
    reasons = [each["jobs"][0]["reason"] for each in found]
    assert reasons == ["The result file is gone.", "ValueError: it broke", "no reason was kept"]


def test_a_committed_batch_shows_its_summary(redis_client: Redis, bucket: Bucket) -> None:
    summary = commit_failed(bucket, "abc")

    found = status.batch_status(Queues(redis_client), bucket, "abc")

    assert found["state"] == "committed"
    assert found["summary"] == msgspec.to_builtins(summary)


def test_a_commit_outweighs_a_failed_job_but_not_one_that_waits(redis_client: Redis, bucket: Bucket) -> None:
    commit_failed(bucket, "abc")
    announce(redis_client, "abc")
    assert status.batch_status(Queues(redis_client), bucket, "abc")["state"] == "waiting"

    fail(redis_client, "batch-receiver-batch-abc")

    assert status.batch_status(Queues(redis_client), bucket, "abc")["state"] == "committed"


def test_without_redis_the_bucket_alone_is_asked(bucket: Bucket) -> None:
    commit_failed(bucket, "abc")

    assert status.batch_status(None, bucket, "abc")["state"] == "committed"
    assert status.batch_status(None, bucket, "other")["state"] == "unknown"


def test_a_batch_in_parts_says_how_many_are_done(redis_client: Redis, bucket: Bucket) -> None:
    pieces = [Piece(number, 1, 1, "0" * 64) for number in range(3)]
    bucket.put(layout.split("abc"), msgspec.json.encode(Split(pieces, 3, 3, "0" * 64)), layout.JSON)
    bucket.put(layout.done("abc", 1, "0" * 64), b"{}", layout.JSON)

    assert status.batch_status(Queues(redis_client), bucket, "abc")["parts"] == {"split": 3, "done": 1}


def test_at_a_glance_everything_is_counted(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "waits", "later", "failed")
    schedule(redis_client, "batch-receiver-batch-later", datetime(2100, 1, 1, tzinfo=UTC))
    fail(redis_client, "batch-receiver-batch-failed", "It broke.")
    redis_client.hincrby("batch-receiver:counters", "left_alone", 3)
    commit_failed(bucket, "done")

    found = status.overview(Queues(redis_client), bucket)

    assert found["totals"] == {"waiting": 2, "running": 0, "failed": 1}
    assert [job["job"] for job in found["waiting"]] == [
        "batch-receiver-batch-waits",
        "batch-receiver-batch-later",
    ]
    assert [(job["job"], job["reason"]) for job in found["failed"]] == [
        ("batch-receiver-batch-failed", "It broke.")
    ]
    assert found["running"] == []
    assert found["counters"] == {"left_alone": 3}
    assert [entry["batch"] for entry in found["committed"]] == ["done"]


def test_at_a_glance_nothing_is_no_error(redis_client: Redis, bucket: Bucket) -> None:
    found = status.overview(Queues(redis_client), bucket)

    assert found["totals"] == {"waiting": 0, "running": 0, "failed": 0}
    assert found["committed"] == []


def test_at_a_glance_only_some_of_many_are_shown_but_all_are_counted(
    redis_client: Redis, bucket: Bucket
) -> None:
    announce(redis_client, *(f"b{number}" for number in range(20)))

    found = status.overview(Queues(redis_client), bucket, limit=5)

    assert found["totals"]["waiting"] == 20
    assert len(found["waiting"]) == 5


def test_a_job_without_a_readable_record_is_counted_but_not_shown(
    redis_client: Redis, bucket: Bucket
) -> None:
    redis_client.rpush("rq:queue:batch-receiver-batches", "batch-gone")

    found = status.overview(Queues(redis_client), bucket)

    assert found["totals"]["waiting"] == 1
    assert found["waiting"] == []


def test_commits_of_today_and_yesterday_are_listed_newest_first(bucket: Bucket) -> None:
    for batch, days in (("old", 3), ("yesterday", 1), ("today", 0)):
        commit_failed(bucket, batch, days)

    assert [entry.batch for entry in status.committed_lately(bucket, 50)[0]] == ["today", "yesterday"]
    assert [entry.batch for entry in status.committed_lately(bucket, 1)[0]] == ["today"]


def test_as_many_commits_are_counted_as_there_are_and_only_the_newest_are_read(bucket: Bucket) -> None:
    for number in range(12):
        commit_failed(bucket, f"b{number}")
    read = []
    real = bucket.get
    bucket.get = lambda name: read.append(name) or real(name)  # type: ignore[method-assign,func-returns-value]

    shown, total, unreadable = status.committed_lately(bucket, 5)

    assert ([entry.batch for entry in shown], total) == ([f"b{n}" for n in (11, 10, 9, 8, 7)], 12)
    assert (len(read), unreadable) == (5, [])


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_one_batch_json_that_can_not_be_read_is_named_and_does_not_stop_the_rest(
    redis_client: Redis, bucket: Bucket, content: bytes
) -> None:
    for batch in ("good", "bad"):
        commit_failed(bucket, batch)
    bucket.put(layout.summary("bad"), content, layout.JSON)

    found = status.overview(Queues(redis_client), bucket)

    assert [entry["batch"] for entry in found["committed"]] == ["good"]
    assert found["unreadable"] == ["bad"]
    assert "move it away" in status.batch_status(Queues(redis_client), bucket, "bad")["trouble"]


def test_deliveries_to_another_path_are_told(redis_client: Redis, bucket: Bucket) -> None:
    queues = Queues(redis_client)
    assert status.overview(queues, bucket)["other_path"] is None
    elsewhere.note(redis_client, queues.prefix, 3, "/hook")
    elsewhere.note(redis_client, queues.prefix, 1, "/hook/")
    found = status.overview(queues, bucket)["other_path"]
    assert (found["count"], found["path"]) == (4, "/hook/")
    assert found["last_at"].endswith("Z")
