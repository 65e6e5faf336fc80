"""Real workers in real processes: they run our functions only, lose no job, and end when all is done."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis
from rq import Retry
from rq.callbacks import Callback
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.webhook import Webhook

from tests.support.deployment import Deployment, result_line
from tests.support.queues import BATCHES
from tests.support.scripted import Answer, scripted
from tests.support.waiting import wait_until
from workers import contract
from workers.contract import Announcement, Queues, Trigger
from workers.contract.records import FAILURE_TTL_SECONDS
from workers.orphans import ORPHAN_SECONDS, requeue_orphans
from workers.own_jobs import ForbiddenJob, OwnJob, OwnQueue
from workers.worker import BatchWorker

NOW = 1_000_000.0


def announce(redis: Redis, *batches: str) -> None:
    Queues(redis).announce([Announcement(batch, Trigger.WEBHOOK) for batch in batches])


def status_of(redis: Redis, job_id: str) -> str | None:
    status = redis.hget(Job.key_for(job_id), "status")
    return contract.text(status) if status else None


def queued(redis: Redis, name: str = BATCHES) -> list[str]:
    return OwnQueue(name, connection=redis).get_job_ids()


def lose(redis: Redis, job_id: str, status: JobStatus = JobStatus.QUEUED) -> None:
    """As a worker does that is killed between taking a job and noting it."""
    OwnQueue(BATCHES, connection=redis).remove(job_id)
    redis.hset(Job.key_for(job_id), "status", status.value)


def forge(redis: Redis, job_id: str, function: object, *args: object, instance: str | None = None) -> None:
    """Enqueue a record as somebody with access to Redis could write it."""
    job = OwnQueue(BATCHES, connection=redis).create_job(contract.PROCESS_BATCH, job_id=job_id)
    job.data = json.dumps([function, instance, list(args), {}]).encode()
    OwnQueue(BATCHES, connection=redis).enqueue_job(job)


@pytest.mark.parametrize(
    "function",
    [
        *(
            "os.system",
            "subprocess.check_output",
            "builtins.eval",
            "workers.jobs.prepare",
            "workers.jobs.os.system",
        ),
        *(
            "rq.job.Job.fetch",
            "process_batch",
            "",
            "workers.jobs.process_batch ",
            "WORKERS.JOBS.PROCESS_BATCH",
        ),
        *("workers.contract.announce", "tests.conftest.anything"),
    ],
)
def test_a_record_that_names_another_function_is_not_even_imported(
    redis_client: Redis, function: str
) -> None:
    forge(redis_client, "batch-evil", function, "touch /nonexistent/x")
    job = OwnJob.fetch("batch-evil", connection=redis_client, serializer=JSONSerializer)

    with pytest.raises(ForbiddenJob):
        job.perform()

    assert job.retries_left == 0


@pytest.mark.parametrize("instance", ["batch", "x", ""])
def test_a_record_with_an_instance_is_not_run(redis_client: Redis, instance: str) -> None:
    forge(redis_client, "batch-evil", contract.PROCESS_BATCH, "abc", instance=instance)
    job = OwnJob.fetch("batch-evil", connection=redis_client, serializer=JSONSerializer)

    with pytest.raises(ForbiddenJob):
        job.perform()


def test_our_own_functions_are_found_by_their_names(redis_client: Redis) -> None:
    for name in (contract.PROCESS_BATCH, contract.FAN_OUT_PART):
        forge(redis_client, "batch-receiver-batch-abc", name, "abc")
        job = OwnJob.fetch("batch-receiver-batch-abc", connection=redis_client, serializer=JSONSerializer)
        assert f"{job.func.__module__}.{job.func.__name__}" == name


def test_a_worker_runs_no_forged_record_no_callback_and_calls_no_webhook(
    deployment: Deployment, redis_client: Redis, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    batch = deployment.gemini.put_batch(result_line("a"))
    queue = OwnQueue(BATCHES, connection=redis_client)
    forge(redis_client, "batch-evil", "os.system", f"touch {witness}")
    with scripted() as server:
        server.answer = lambda _: Answer()
        for name, args in (
            (f"batch-receiver-batch-{batch}", [batch]),
            ("batch-receiver-batch-bad", ["../.."]),
        ):
            job = Job.create(
                contract.PROCESS_BATCH,
                args=args,
                id=name,
                connection=redis_client,
                serializer=JSONSerializer,
                origin=BATCHES,
                on_success=Callback("os.getpid"),
                on_failure=Callback("os.getpid"),
                on_stopped=Callback("os.getpid"),
                webhooks=[Webhook(server.url, "finished"), Webhook(server.url, "failed")],
            )
            for event in ("success", "failure", "stopped"):
                setattr(job, f"_{event}_callback_name", "tests.forged.callback")
            queue.enqueue_job(job)

        process = deployment.run("work", "--burst")

        assert process.returncode == 0, process.output
        assert server.asked == []
    assert not witness.exists()
    assert status_of(redis_client, "batch-evil") == "failed"
    assert (deployment.batch_folder(batch) / "batch.json").exists()
    assert "tests.forged" not in process.output


def test_a_pickle_is_never_read(deployment: Deployment, redis_client: Redis, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    forge(redis_client, "batch-evil", contract.PROCESS_BATCH, "abc")
    redis_client.hset(Job.key_for("batch-evil"), "data", f"cos\nsystem\n(S'touch {witness}'\ntR.".encode())

    process = deployment.run("work", "--burst")

    assert process.returncode == 0, process.output
    assert not witness.exists()
    assert queued(redis_client) == []


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED])
def test_a_lost_job_is_put_back_at_the_second_look(redis_client: Redis, status: JobStatus) -> None:
    announce(redis_client, "abc")
    lose(redis_client, "batch-receiver-batch-abc", status)

    assert requeue_orphans(Queues(redis_client), NOW) == []
    assert requeue_orphans(Queues(redis_client), NOW + ORPHAN_SECONDS - 1) == []
    assert requeue_orphans(Queues(redis_client), NOW + ORPHAN_SECONDS) == ["batch-receiver-batch-abc"]

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    assert status_of(redis_client, "batch-receiver-batch-abc") == "queued"
    assert requeue_orphans(Queues(redis_client), NOW + 2 * ORPHAN_SECONDS) == []
    assert not redis_client.exists("batch-receiver:orphans")


def test_two_that_look_at_once_put_a_lost_job_back_once(redis_client: Redis) -> None:
    announce(redis_client, "abc")
    lose(redis_client, "batch-receiver-batch-abc")
    requeue_orphans(Queues(redis_client), NOW)

    first = requeue_orphans(Queues(redis_client), NOW + 60)
    second = requeue_orphans(Queues(redis_client), NOW + 60)

    assert first + second == ["batch-receiver-batch-abc"]
    assert queued(redis_client) == ["batch-receiver-batch-abc"]


def test_a_job_that_turned_up_again_is_no_orphan_anymore(redis_client: Redis) -> None:
    announce(redis_client, "abc")
    lose(redis_client, "batch-receiver-batch-abc")
    requeue_orphans(Queues(redis_client), NOW)
    redis_client.rpush("rq:queue:batch-receiver-batches", "batch-receiver-batch-abc")
    assert requeue_orphans(Queues(redis_client), NOW + 60) == []
    lose(redis_client, "batch-receiver-batch-abc")

    assert requeue_orphans(Queues(redis_client), NOW + 70) == []
    assert requeue_orphans(Queues(redis_client), NOW + 70 + ORPHAN_SECONDS) == ["batch-receiver-batch-abc"]


def test_jobs_that_wait_run_are_scheduled_or_failed_are_no_orphans(redis_client: Redis) -> None:
    announce(redis_client, "waits", "runs", "scheduled", "failed", "finished")
    queue = OwnQueue(BATCHES, connection=redis_client)
    for name in ("runs", "scheduled", "failed", "finished"):
        queue.remove(f"batch-receiver-batch-{name}")
    redis_client.zadd(queue.started_job_registry.key, {"batch-receiver-batch-runs:execution": NOW * 10_000})
    redis_client.zadd(queue.scheduled_job_registry.key, {"batch-receiver-batch-scheduled": NOW * 10_000})
    for name, status in (
        ("runs", JobStatus.STARTED),
        ("scheduled", JobStatus.SCHEDULED),
        ("failed", JobStatus.FAILED),
        ("finished", JobStatus.FINISHED),
    ):
        redis_client.hset(Job.key_for(f"batch-receiver-batch-{name}"), "status", status.value)

    for look in range(3):
        requeue_orphans(Queues(redis_client), NOW + 60 * look)

    assert queued(redis_client) == ["batch-receiver-batch-waits"]


def test_jobs_of_others_in_the_same_redis_are_left_alone(redis_client: Redis) -> None:
    redis_client.hset(Job.key_for("their-job"), mapping={"status": "queued", "origin": "batches"})
    redis_client.hset(Job.key_for("batch-theirs"), mapping={"status": "queued", "origin": "default"})

    for look in range(3):
        assert requeue_orphans(Queues(redis_client), NOW + 60 * look) == []


def test_a_burst_ends_only_when_everything_that_was_handed_out_is_done(
    deployment: Deployment, redis_client: Redis
) -> None:
    raw = b"".join(result_line(f"k{n}", "x" * 500) for n in range(300))
    batches = [deployment.gemini.put_batch(raw) for _ in range(2)]
    announce(redis_client, *batches)

    process = deployment.run("work", "--burst", "--workers", "2", PART_BYTES="40000")

    assert process.returncode == 0, process.output
    for batch in batches:
        assert deployment.wait_for_commit(batch, seconds=0)["counts"]["total"] == 300
    assert not list(deployment.folder.glob("_work/*"))
    assert not redis_client.keys("rq:job:*")


def test_a_burst_without_work_ends_at_once(deployment: Deployment) -> None:
    assert deployment.run("work", "--burst").returncode == 0


def test_what_can_not_heal_fails_at_once_and_what_can_is_scheduled(
    deployment: Deployment, redis_client: Redis
) -> None:
    gone = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.expire_output(gone)
    announce(redis_client, gone, "not-ours")

    deployment.run("work", "--burst")

    queue = OwnQueue(BATCHES, connection=redis_client)
    assert status_of(redis_client, f"batch-receiver-batch-{gone}") == "failed"
    assert queue.failed_job_registry.get_job_ids() == [f"batch-receiver-batch-{gone}"]
    assert status_of(redis_client, "batch-receiver-batch-not-ours") == "scheduled"
    assert queue.scheduled_job_registry.get_job_ids() == ["batch-receiver-batch-not-ours"]
    kept = OwnJob.fetch(f"batch-receiver-batch-{gone}", connection=redis_client, serializer=JSONSerializer)
    assert "The result file is gone" in kept.meta["reason"]
    assert 0 < redis_client.ttl(Job.key_for(f"batch-receiver-batch-{gone}")) <= FAILURE_TTL_SECONDS


def test_an_announcement_while_the_batch_is_processed_is_not_lost(
    deployment: Deployment, redis_client: Redis
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"), state="FAILED")
    deployment.gemini.fault("delay", f"batches/{batch}", value=0.5)
    announce(redis_client, batch)
    deployment.work()
    wait_until(
        lambda: status_of(redis_client, f"batch-receiver-batch-{batch}") == "started", what="the start"
    )

    deployment.gemini.change(batch, "FAILED", error={"code": 13})
    announce(redis_client, batch)

    wait_until(
        lambda: not redis_client.exists(Job.key_for(f"batch-receiver-batch-{batch}")),
        what="the end of the job",
    )
    assert not Queues(redis_client).announced(batch).triggers
    assert len(deployment.gemini.requests(f"batches/{batch}")) == 2
    assert deployment.wait_for_commit(batch)["state"] == "failed"


def test_the_lock_of_a_killed_cleaner_does_not_outlive_it_for_long(redis_client: Redis) -> None:
    queue = OwnQueue(BATCHES, connection=redis_client)

    assert queue.acquire_maintenance_lock()
    assert not queue.acquire_maintenance_lock()
    assert 0 < redis_client.ttl(queue.registry_cleaning_key) <= 30


@pytest.mark.parametrize("ends", ["failed", "tried again later", "done"])
def test_what_is_announced_in_the_moment_a_look_ends_is_looked_at_however_it_ends(
    redis_client: Redis, ends: str
) -> None:
    queues = Queues(redis_client)
    home = OwnQueue(BATCHES, connection=redis_client)
    worker = BatchWorker([home], connection=redis_client, serializer=JSONSerializer)
    announce(redis_client, "abc")
    popped = home.pop_job_id()
    assert popped
    job = OwnJob.fetch(popped, connection=redis_client, serializer=JSONSerializer)
    execution = worker.prepare_execution(job)
    job.meta["seen"] = queues.announced("abc").count
    job.retries_left = 0
    job.ended_at = job.started_at = datetime.now(UTC)

    queues.announce(
        [Announcement("abc", Trigger.WEBHOOK)]
    )  # A duplicate: the look has asked for the last time.
    assert queued(redis_client) == []
    if ends == "failed":
        worker.handle_job_failure(job, home, exc_string="it broke", execution=execution)
    elif ends == "done":
        worker.handle_job_success(job, home, home.started_job_registry, execution)
    else:
        retry = Retry(max=1_000_000, interval=900)
        worker.handle_job_retry(job, home, retry, home.started_job_registry, execution)

    assert queued(redis_client) == ["batch-receiver-batch-abc"]
    assert home.failed_job_registry.get_job_ids() == []
    assert home.scheduled_job_registry.get_job_ids() == []


def test_a_look_that_ends_without_news_is_not_looked_at_again(redis_client: Redis) -> None:
    home = OwnQueue(BATCHES, connection=redis_client)
    worker = BatchWorker([home], connection=redis_client, serializer=JSONSerializer)
    announce(redis_client, "abc")
    popped = home.pop_job_id()
    assert popped
    job = OwnJob.fetch(popped, connection=redis_client, serializer=JSONSerializer)
    execution = worker.prepare_execution(job)
    job.meta["seen"] = Queues(redis_client).announced("abc").count
    job.retries_left = 0
    job.ended_at = job.started_at = datetime.now(UTC)

    worker.handle_job_failure(job, home, exc_string="it broke", execution=execution)

    assert queued(redis_client) == []
    assert home.failed_job_registry.get_job_ids() == ["batch-receiver-batch-abc"]


def test_batches_and_parts_take_turns(redis_client: Redis) -> None:
    homes = [OwnQueue(name, connection=redis_client) for name in Queues(redis_client).names]
    worker = BatchWorker(homes, connection=redis_client, serializer=JSONSerializer)
    announce(redis_client, "a", "b", "c")
    for number in range(3):
        Queues(redis_client).enqueue_part("long", number)

    taken = []
    for _ in range(6):
        found = worker.dequeue_job_and_maintain_ttl(None)
        assert found
        taken.append(found[1].name)

    assert taken == ["batch-receiver-batches", "batch-receiver-parts"] * 3


def test_a_job_that_succeeded_leaves_nothing_behind_not_even_of_one_that_took_it_for_lost(
    redis_client: Redis,
) -> None:
    home = OwnQueue(BATCHES, connection=redis_client)
    workers = [BatchWorker([home], connection=redis_client, serializer=JSONSerializer) for _ in range(2)]
    announce(redis_client, "abc")
    popped = home.pop_job_id()
    assert popped
    job = OwnJob.fetch(popped, connection=redis_client, serializer=JSONSerializer)
    executions = [worker.prepare_execution(job) for worker in workers]
    queues = Queues(redis_client)
    queues.settle("abc", queues.announced("abc"))
    job.ended_at = job.started_at = datetime.now(UTC)

    workers[0].handle_job_success(job, home, home.started_job_registry, executions[0])

    assert redis_client.keys("rq:*abc*") == []
    assert home.started_job_registry.count == 0
