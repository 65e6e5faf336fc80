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

from workers import commit, contract, status
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Announcement, Trigger
from workers.gemini.batches import State
from workers.parts import Piece, Split
from workers.plan import Plan


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


def commit_failed(bucket: Bucket, batch: str, days_ago: int = 0) -> commit.Summary:
    """A commit without results, as if some days ago."""
    plan = Plan(batch, State.FAILED, "name", None, None, None, None, None, Trigger.WEBHOOK, None)
    summary = commit.commit_without_results(bucket, plan)
    if not days_ago:
        return summary
    bucket.delete([layout.index(summary.committed_at[:10], batch)])
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    older = msgspec.structs.replace(summary, committed_at=moment.isoformat().replace("+00:00", "Z"))
    bucket.put(layout.summary(batch), commit.encoded(older), layout.JSON)
    return commit.tidy(bucket, older)


def announce(redis: Redis, *batches: str) -> None:
    contract.announce(redis, [Announcement(batch, Trigger.WEBHOOK) for batch in batches])


def take(redis: Redis, job_id: str, state: JobStatus) -> Job:
    """Out of the queue and into another state."""
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    contract.queue(job.origin, redis).remove(job_id)
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
    contract.queue(job.origin, redis).scheduled_job_registry.schedule(job, moment)
    redis.hset(Job.key_for(job_id), mapping={"status": "scheduled"})


def test_of_a_batch_that_nobody_announced_nothing_is_known(redis_client: Redis, bucket: Bucket) -> None:
    assert status.batch_status(redis_client, bucket, "abc") == {
        "batch": "abc",
        "state": "unknown",
        "jobs": [],
        "parts": None,
        "summary": None,
    }


def test_an_announced_batch_waits(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")

    found = status.batch_status(redis_client, bucket, "abc")

    assert found["state"] == "waiting"
    (job,) = found["jobs"]
    since = datetime.fromisoformat(job.pop("since"))
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60
    assert job == {
        "job": "batch-abc",
        "state": "waiting",
        "next_try": None,
        "reason": None,
        "trigger": "webhook",
    }


def test_a_batch_that_is_tried_again_says_when(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")
    schedule(redis_client, "batch-abc", datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC))

    found = status.batch_status(redis_client, bucket, "abc")

    assert found["state"] == "waiting"
    assert found["jobs"][0]["next_try"] == "2100-01-02T03:04:05Z"


def test_a_batch_of_which_any_job_runs_is_running(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "abc")
    for number in range(3):
        contract.enqueue_once(
            redis_client, contract.PARTS, contract.FAN_OUT_PART, ["abc", number], f"part-abc-{number:05d}"
        )
    take(redis_client, "part-abc-00001", JobStatus.STARTED)
    fail(redis_client, "part-abc-00002", "It broke.")

    found = status.batch_status(redis_client, bucket, "abc")

    assert found["state"] == "running"
    assert [(job["job"], job["state"]) for job in found["jobs"]] == [
        ("batch-abc", "waiting"),
        ("part-abc-00000", "waiting"),
        ("part-abc-00001", "running"),
        ("part-abc-00002", "failed"),
    ]


@pytest.mark.parametrize("other", ["abc-1", "abc-00001", "abc-b", "xabc"])
def test_jobs_of_a_batch_with_a_longer_name_are_not_this_ones(
    redis_client: Redis, bucket: Bucket, other: str
) -> None:
    contract.enqueue_once(
        redis_client, contract.PARTS, contract.FAN_OUT_PART, [other, 2], contract.part_job_id(other, 2)
    )

    assert status.batch_status(redis_client, bucket, "abc")["state"] == "unknown"
    assert status.batch_status(redis_client, bucket, other)["state"] == "waiting"


def test_a_failed_batch_says_why(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "a", "b", "c")
    fail(redis_client, "batch-a", "The result file is gone.")
    fail(redis_client, "batch-b", exc_string="Traceback …\nValueError: it broke\n")
    fail(redis_client, "batch-c")

    found = [status.batch_status(redis_client, bucket, batch) for batch in "abc"]

    assert [each["state"] for each in found] == ["failed"] * 3
    reasons = [each["jobs"][0]["reason"] for each in found]
    assert reasons == ["The result file is gone.", "ValueError: it broke", "no reason was kept"]


def test_a_committed_batch_shows_its_summary(redis_client: Redis, bucket: Bucket) -> None:
    summary = commit_failed(bucket, "abc")

    found = status.batch_status(redis_client, bucket, "abc")

    assert found["state"] == "committed"
    assert found["summary"] == msgspec.to_builtins(summary)


def test_a_commit_outweighs_a_failed_job_but_not_one_that_waits(redis_client: Redis, bucket: Bucket) -> None:
    commit_failed(bucket, "abc")
    announce(redis_client, "abc")
    assert status.batch_status(redis_client, bucket, "abc")["state"] == "waiting"

    fail(redis_client, "batch-abc")

    assert status.batch_status(redis_client, bucket, "abc")["state"] == "committed"


def test_without_redis_the_bucket_alone_is_asked(bucket: Bucket) -> None:
    commit_failed(bucket, "abc")

    assert status.batch_status(None, bucket, "abc")["state"] == "committed"
    assert status.batch_status(None, bucket, "other")["state"] == "unknown"


def test_a_batch_in_parts_says_how_many_are_done(redis_client: Redis, bucket: Bucket) -> None:
    pieces = [Piece(number, 1, 1, "0" * 64) for number in range(3)]
    bucket.put(layout.split("abc"), msgspec.json.encode(Split(pieces, 3, 3, "0" * 64)), layout.JSON)
    bucket.put(layout.done("abc", 1, "0" * 64), b"{}", layout.JSON)

    assert status.batch_status(redis_client, bucket, "abc")["parts"] == {"split": 3, "done": 1}


def test_at_a_glance_everything_is_counted(redis_client: Redis, bucket: Bucket) -> None:
    announce(redis_client, "waits", "later", "failed")
    schedule(redis_client, "batch-later", datetime(2100, 1, 1, tzinfo=UTC))
    fail(redis_client, "batch-failed", "It broke.")
    redis_client.hincrby(contract.COUNTERS, "left_alone", 3)
    commit_failed(bucket, "done")

    found = status.overview(redis_client, bucket)

    assert found["totals"] == {"waiting": 2, "running": 0, "failed": 1}
    assert [job["job"] for job in found["waiting"]] == ["batch-waits", "batch-later"]
    assert [(job["job"], job["reason"]) for job in found["failed"]] == [("batch-failed", "It broke.")]
    assert found["running"] == []
    assert found["counters"] == {"left_alone": 3}
    assert [entry["batch"] for entry in found["committed"]] == ["done"]


def test_at_a_glance_nothing_is_no_error(redis_client: Redis, bucket: Bucket) -> None:
    found = status.overview(redis_client, bucket)

    assert found["totals"] == {"waiting": 0, "running": 0, "failed": 0}
    assert found["committed"] == []


def test_at_a_glance_only_some_of_many_are_shown_but_all_are_counted(
    redis_client: Redis, bucket: Bucket
) -> None:
    announce(redis_client, *(f"b{number}" for number in range(20)))

    found = status.overview(redis_client, bucket, limit=5)

    assert found["totals"]["waiting"] == 20
    assert len(found["waiting"]) == 5


def test_a_job_without_a_readable_record_is_counted_but_not_shown(
    redis_client: Redis, bucket: Bucket
) -> None:
    redis_client.rpush("rq:queue:batches", "batch-gone")

    found = status.overview(redis_client, bucket)

    assert found["totals"]["waiting"] == 1
    assert found["waiting"] == []


def test_commits_of_today_and_yesterday_are_listed_newest_first(bucket: Bucket) -> None:
    for batch, days in (("old", 3), ("yesterday", 1), ("today", 0)):
        commit_failed(bucket, batch, days)

    assert [entry.batch for entry in status.committed_lately(bucket, 50)] == ["today", "yesterday"]
    assert [entry.batch for entry in status.committed_lately(bucket, 1)] == ["today"]
