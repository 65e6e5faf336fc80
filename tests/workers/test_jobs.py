"""What a job does in a worker: look, look again while there is news, and decide what becomes of an error."""

import json
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis
from rq import Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.queues import PARTS
from workers import contract, jobs, process
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Announcement, Queues, Trigger
from workers.errors import Permanent, Unreadable
from workers.own_jobs import OwnJob, OwnQueue
from workers.settings import Settings
from workers.summary import read_summary

MANY = b"".join(result_line(f"k{n}", "x" * 500) for n in range(200))


@pytest.fixture
def bucket(
    gemini: Emulator, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """The bucket of the tools that the jobs of a test work with."""
    monkeypatch.setattr(jobs, "_prepared", {})
    url = (tmp_path / "bucket").as_uri()
    environment = {**gemini.env, "REDIS_URL": redis_url, "STORAGE_URL": url, "PART_BYTES": "30000"}
    tools = jobs.prepare(Settings.load(environment))
    yield open_bucket(url, {})
    tools.gemini.close()


def announce(
    redis: Redis, batch: str, trigger: Trigger = Trigger.WEBHOOK, metadata: str | None = None
) -> None:
    Queues(redis).announce([Announcement(batch, trigger, metadata)])


def fetch(redis: Redis, job_id: str) -> Job:
    return OwnJob.fetch(job_id, connection=redis, serializer=JSONSerializer)


def run(redis: Redis, job_id: str) -> Retry | None:
    """As a work-horse does: the job's own function, with its record at hand."""
    job = fetch(redis, job_id)
    job.set_status(JobStatus.STARTED)
    found = job.perform()
    assert found is None or isinstance(found, Retry)
    return found


def queued(redis: Redis, name: str) -> list[str]:
    return OwnQueue(name, connection=redis).get_job_ids()


def test_a_small_batch_is_committed_by_its_one_job(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(result_line("a"))
    announce(redis_client, batch, Trigger.DYNAMIC, '{"n":1}')

    assert run(redis_client, f"batch-receiver-batch-{batch}") is None

    summary = read_summary(bucket, batch)
    assert summary
    assert (summary.trigger, summary.user_metadata) == ("dynamic", {"n": 1})
    assert not Queues(redis_client).announced(batch).triggers
    assert queued(redis_client, PARTS) == []


def test_a_large_batch_is_handed_out_part_by_part_and_committed_by_the_last_of_them(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(MANY)
    announce(redis_client, batch)
    run(redis_client, f"batch-receiver-batch-{batch}")
    handed_out = queued(redis_client, PARTS)
    assert handed_out == [f"batch-receiver-part-{batch}-{number:05d}" for number in range(len(handed_out))]
    assert len(handed_out) > 3

    for job_id in handed_out:
        assert read_summary(bucket, batch) is None
        assert run(redis_client, job_id) is None

    summary = read_summary(bucket, batch)
    assert summary
    assert summary.counts.total == 200
    assert not list(bucket.list("_work"))


def test_a_part_whose_job_was_lost_is_brought_back_by_another(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(MANY)
    announce(redis_client, batch)
    run(redis_client, f"batch-receiver-batch-{batch}")
    first, lost, *others = queued(redis_client, PARTS)
    fetch(redis_client, lost).delete()

    run(redis_client, first)

    assert queued(redis_client, PARTS)[-1] == lost
    for job_id in (*others, lost):
        run(redis_client, job_id)
    assert read_summary(bucket, batch)


def test_a_replay_hurries_the_parts_that_wait_for_their_next_try(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(MANY)
    announce(redis_client, batch)
    run(redis_client, f"batch-receiver-batch-{batch}")
    fetch(redis_client, f"batch-receiver-batch-{batch}").delete()
    waits = queued(redis_client, PARTS)[2]
    home = OwnQueue(PARTS, connection=redis_client)
    home.remove(waits)
    job = fetch(redis_client, waits)
    home.scheduled_job_registry.schedule(job, datetime.now(UTC) + timedelta(hours=1))
    job.set_status(JobStatus.SCHEDULED)

    announce(redis_client, batch, Trigger.RECONCILE)
    run(redis_client, f"batch-receiver-batch-{batch}")
    assert waits not in queued(redis_client, PARTS)

    fetch(redis_client, f"batch-receiver-batch-{batch}").delete()
    announce(redis_client, batch, Trigger.REPLAY)
    run(redis_client, f"batch-receiver-batch-{batch}")
    assert waits in queued(redis_client, PARTS)
    assert not home.scheduled_job_registry.get_job_ids()
    assert not bucket.get(f"{batch}/batch.json")


@pytest.mark.parametrize("batch", ["../..", "a/b", "", "x" * 200])
def test_a_record_that_names_no_batch_is_not_run(redis_client: Redis, bucket: Bucket, batch: str) -> None:
    announce(redis_client, "abc")
    data = json.dumps(["workers.jobs.process_batch", None, [batch], {}]).encode()
    redis_client.hset(Job.key_for("batch-receiver-batch-abc"), "data", zlib.compress(data))

    with pytest.raises(RuntimeError, match="no batch"):
        fetch(redis_client, "batch-receiver-batch-abc").perform()

    assert not list(bucket.list(""))


def test_a_part_of_a_batch_that_is_committed_by_now_is_no_work_and_no_error(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(result_line("a"))
    announce(redis_client, batch)
    run(redis_client, f"batch-receiver-batch-{batch}")
    jobs.Jobs(Queues(redis_client)).part(batch, 7)

    assert run(redis_client, f"batch-receiver-part-{batch}-00007") is None
    assert read_summary(bucket, batch)


def test_an_announcement_during_a_run_makes_it_look_again(
    gemini: Emulator, redis_client: Redis, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = gemini.put_batch(result_line("a"), state="FAILED")
    announce(redis_client, batch, Trigger.WEBHOOK)
    looks = []

    def look(tools: process.Tools, dispatch: process.Dispatch, name: str, said: contract.Announced) -> object:
        looks.append(said)
        found = process.process(tools, dispatch, name, said)
        if len(looks) == 1:
            gemini.change(batch, "SUCCEEDED")
            announce(redis_client, batch, Trigger.REPLAY)
        return found

    monkeypatch.setattr(jobs, "process", look)

    assert run(redis_client, f"batch-receiver-batch-{batch}") is None

    assert [said.strongest for said in looks] == [Trigger.WEBHOOK, Trigger.REPLAY]
    summary = read_summary(bucket, batch)
    assert summary
    assert (summary.state, summary.revision, summary.trigger) == ("succeeded", 2, "replay")


def test_an_announcement_during_a_run_that_fails_for_good_makes_it_look_again(
    gemini: Emulator, redis_client: Redis, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = gemini.put_batch(result_line("a"))
    announce(redis_client, batch)
    gemini.fault("status", f"batches/{batch}", value=400)
    looks = []

    def look(tools: process.Tools, dispatch: process.Dispatch, name: str, said: contract.Announced) -> object:
        looks.append(said)
        if len(looks) == 1:
            announce(redis_client, batch, Trigger.REPLAY)
        return process.process(tools, dispatch, name, said)

    monkeypatch.setattr(jobs, "process", look)

    assert run(redis_client, f"batch-receiver-batch-{batch}") is None

    assert len(looks) == 2
    assert read_summary(bucket, batch)


def test_a_job_whose_announcement_has_been_forgotten_knows_who_made_it(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(result_line("a"))
    announce(redis_client, batch, Trigger.REPLAY)
    redis_client.delete(f"batch-receiver:announced:{batch}")

    run(redis_client, f"batch-receiver-batch-{batch}")

    summary = read_summary(bucket, batch)
    assert summary
    assert summary.trigger == "replay"


def test_what_can_heal_is_tried_again_later_and_says_why(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("status", f"batches/{batch}", value=429, retry_after="77")
    announce(redis_client, batch)

    retry = run(redis_client, f"batch-receiver-batch-{batch}")

    assert retry
    assert retry.intervals == [78]  # RQ drops the fraction of the second at which it is tried again
    assert retry.max > 100_000
    reason = fetch(redis_client, f"batch-receiver-batch-{batch}").meta["reason"]
    assert reason.startswith("Gemini's rate limit is reached (429)")
    assert Queues(redis_client).announced(batch).triggers == {Trigger.WEBHOOK}
    assert run(redis_client, f"batch-receiver-batch-{batch}") is None
    assert read_summary(bucket, batch)


def test_waits_grow_with_the_number_of_tries(gemini: Emulator, redis_client: Redis, bucket: Bucket) -> None:
    gemini.put_operation({"name": "batches/abc", "metadata": {"state": "BATCH_STATE_RUNNING"}})
    announce(redis_client, "abc")
    job = fetch(redis_client, "batch-receiver-batch-abc")
    job.number_of_retries = 9
    job.save()

    retry = run(redis_client, "batch-receiver-batch-abc")

    assert retry
    assert 256 <= retry.intervals[0] <= 512
    assert not list(bucket.list(""))


def test_a_refused_key_is_tried_again_slowly_and_said_in_geminis_words(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("status", f"batches/{batch}", value=401)
    announce(redis_client, batch, Trigger.DYNAMIC)

    retry = run(redis_client, f"batch-receiver-batch-{batch}")

    assert retry
    assert 30 <= retry.intervals[0] <= 60
    reason = fetch(redis_client, f"batch-receiver-batch-{batch}").meta["reason"]
    assert (
        reason == "Gemini refused the API key (401), check GEMINI_API_KEY: The emulator was asked for this."
    )
    assert not list(bucket.list(""))


@pytest.mark.parametrize("trouble", ["request", "gone"])
def test_what_can_not_heal_fails_at_once_with_its_reason_and_no_retry(
    gemini: Emulator, redis_client: Redis, bucket: Bucket, trouble: str
) -> None:
    batch = gemini.put_batch(result_line("a"))
    if trouble == "request":
        gemini.fault("status", f"batches/{batch}", value=400)
    else:
        gemini.expire_output(batch)
    announce(redis_client, batch)
    job = fetch(redis_client, f"batch-receiver-batch-{batch}")

    with pytest.raises(Permanent) as caught:
        job.perform()

    assert job.retries_left == 0
    assert fetch(redis_client, f"batch-receiver-batch-{batch}").meta["reason"] == str(caught.value)
    assert read_summary(bucket, batch) is None


def test_what_still_does_not_heal_after_six_weeks_is_given_up(
    gemini: Emulator, redis_client: Redis, bucket: Bucket
) -> None:
    announce(redis_client, "not-ours")
    job = fetch(redis_client, "batch-receiver-batch-not-ours")
    job.created_at = datetime.now(UTC) - timedelta(days=43)
    job.save()

    with pytest.raises(Unreadable):
        fetch(redis_client, "batch-receiver-batch-not-ours").perform()

    assert gemini.requests("not-ours")
    assert not list(bucket.list(""))


def test_a_batch_that_only_google_vouches_for_is_dropped_and_counted(
    redis_client: Redis, bucket: Bucket
) -> None:
    announce(redis_client, "somebody-elses", Trigger.DYNAMIC)

    assert run(redis_client, "batch-receiver-batch-somebody-elses") is None

    assert redis_client.hget("batch-receiver:counters", "left_alone") == b"1"
    assert not Queues(redis_client).announced("somebody-elses").triggers
    assert not list(bucket.list(""))


@pytest.mark.parametrize("trigger", [Trigger.WEBHOOK, Trigger.RECONCILE, Trigger.REPLAY])
def test_a_batch_that_somebody_else_announced_too_is_shown_and_tried_slowly(
    redis_client: Redis, bucket: Bucket, trigger: Trigger
) -> None:
    announce(redis_client, "not-ours", Trigger.DYNAMIC)
    announce(redis_client, "not-ours", trigger)

    retry = run(redis_client, "batch-receiver-batch-not-ours")

    assert retry
    assert 30 <= retry.intervals[0] <= 60
    assert "can't read the batch" in fetch(redis_client, "batch-receiver-batch-not-ours").meta["reason"]
    assert not list(bucket.list(""))


def test_what_nobody_foresaw_is_left_to_the_retries_for_crashes(
    redis_client: Redis, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "process", lambda *_: 1 // 0)
    announce(redis_client, "abc")
    job = fetch(redis_client, "batch-receiver-batch-abc")

    with pytest.raises(ZeroDivisionError):
        job.perform()

    assert job.retries_left == len(contract.CRASH_RETRIES)
    assert not list(bucket.list(""))


def test_parts_are_enqueued_once(redis_client: Redis) -> None:
    dispatch = jobs.Jobs(Queues(redis_client))

    for _ in range(3):
        dispatch.part("abc", 3)
        assert not dispatch.parts("abc", [3, 4])

    assert queued(redis_client, PARTS) == ["batch-receiver-part-abc-00003", "batch-receiver-part-abc-00004"]


def test_outside_of_a_worker_jobs_point_to_the_foreground_command() -> None:
    begun = time.monotonic()

    with pytest.raises(RuntimeError, match="batch-receiver process"):
        jobs.process_batch("abc")

    assert time.monotonic() - begun < 1
