"""Redis holds each user of `deploy/redis-users.acl` to what it must do, and lets it do all of that."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from emulator.demo.local_redis import free_port
from receiver.intake import connect
from tests.deploy.conftest import Guarded, started
from tests.support.deployment import Deployment, result_line, tell_the_whole_story
from tests.support.processes import Process
from tests.support.waiting import wait_until
from workers.contract import Announcement, Outcome, Queues, Trigger
from workers.contract.forgetting import forget
from workers.turns import note_trouble, trouble


def refused(command: str) -> "pytest.RaisesExc[ResponseError]":
    """From 7.0 on DEBUG is refused to everybody, before anybody's rights are looked at."""
    if command.startswith("DEBUG"):
        return pytest.raises(ResponseError, match=r"no permissions|DEBUG command not allowed")
    return pytest.raises(NoPermissionError)


def test_the_receiver_announces_new_waiting_and_failed_batches(
    receiver: "redis.Redis", admin: "redis.Redis"
) -> None:
    announcements = [Announcement("abc", Trigger.WEBHOOK, '{"a": 1}'), Announcement("xyz", Trigger.DYNAMIC)]

    assert receiver.ping()
    assert Queues(receiver).announce(announcements) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert Queues(receiver).announce(announcements) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    for status in ("failed", "stopped", "finished", "canceled"):
        admin.hset("rq:job:batch-receiver-batch-abc", "status", status)
        admin.zadd("rq:failed:batches", {"batch-receiver-batch-abc": time.time() + 60})
        assert Queues(receiver).announce(announcements) == [Outcome.ACCEPTED, Outcome.DUPLICATE], status
    assert Queues(receiver).announced("abc").count == 6


def test_the_receiver_announces_in_every_project_and_the_workers_take_it(
    receiver: "redis.Redis", guarded: Guarded
) -> None:
    prefix = "batch-receiver-project-search"
    announcements = [Announcement("abc", Trigger.WEBHOOK, '{"a": 1}'), Announcement("xyz", Trigger.DYNAMIC)]

    assert Queues(receiver, prefix).announce(announcements) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert Queues(receiver, prefix).announce(announcements) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    with redis.Redis.from_url(guarded.url("workers")) as workers:
        queues = Queues(workers, prefix)
        note_trouble(queues, "The bucket is away.", 1.0)
        assert trouble(queues) == "The bucket is away."
        assert forget(queues, "abc") == 1


@pytest.mark.parametrize(
    "command",
    [
        "HGETALL rq:job:batch-receiver-project-search-part-abc-00000",
        "LRANGE rq:queue:batch-receiver-project-search-batches 0 -1",
        "GET batch-receiver-project-search:trouble",
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET *",
        "ACL LIST",
        "SHUTDOWN",
        "DEBUG SLEEP 0",
        "MONITOR",
        "CLIENT LIST",
        "EVAL return{} 0",
        "SCRIPT FLUSH",
        "SELECT 1",
        "SUBSCRIBE rq:pubsub",
        "PUBLISH rq:pubsub x",
        "GET secret",
        "HGETALL rq:worker:one",
        "HGETALL rq:job:batch-receiver-part-abc-00000",
        "RPUSH rq:queue:parts batch-abc",
        "DEL rq:workers",
        "LRANGE rq:queue:batches 0 -1",
        "HGETALL batch-receiver:orphans",
    ],
)
def test_the_receiver_can_do_nothing_else(
    command: str, receiver: "redis.Redis", admin: "redis.Redis"
) -> None:
    admin.set("secret", "1")
    with refused(command):
        receiver.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "DEBUG SLEEP 0", "GET secret", "MONITOR"],
)
def test_the_workers_own_the_queue_but_not_the_server(
    command: str, guarded: Guarded, admin: "redis.Redis"
) -> None:
    admin.set("secret", "1")
    with redis.Redis.from_url(guarded.url("workers")) as workers, refused(command):
        workers.execute_command(*command.split())


@pytest.mark.parametrize("command", ["GET x", "INFO", "FLUSHALL", "CLIENT LIST"])
def test_the_health_check_learns_nothing(command: str, guarded: Guarded) -> None:
    client = redis.Redis(port=guarded.port, username="health", password="none")
    with client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("default", "wrong"), ("default", ""), ("receiver", "wrong"), ("workers", "")],
)
def test_nobody_gets_in_without_a_password(user: str | None, password: str | None, guarded: Guarded) -> None:
    no_retry = Retry(NoBackoff(), 0)
    client = redis.Redis(port=guarded.port, username=user, password=password, retry=no_retry)
    with client, pytest.raises(RedisError, match=r"(?i)auth|pass"):
        client.ping()


def test_what_was_announced_is_still_there_when_redis_starts_again(redis_server: str, tmp_path: Path) -> None:
    port = free_port()
    with started(redis_server, tmp_path, port) as before, connect(before.url("receiver")) as receiver:
        announcements = [Announcement("abc", Trigger.WEBHOOK), Announcement("xyz", Trigger.WEBHOOK)]
        assert Queues(receiver).announce(announcements) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
        with redis.Redis.from_url(before.admin_url) as admin:
            kept = set(admin.scan_iter())
    assert kept

    with started(redis_server, tmp_path, port) as after, redis.Redis.from_url(after.admin_url) as admin:
        assert set(admin.scan_iter()) == kept
        with connect(after.url("receiver")) as receiver:
            assert Queues(receiver).announce(announcements) == [Outcome.DUPLICATE, Outcome.DUPLICATE]


@pytest.fixture
def guarded_deployment(deployment: Deployment, guarded: Guarded) -> Deployment:
    """The whole product, each process as its own user of Redis."""
    deployment.env["REDIS_URL"] = guarded.url("workers")
    return deployment


def assert_nothing_was_refused(admin: "redis.Redis", *processes: Process) -> None:
    log: list[dict[str, Any]] = admin.acl_log()
    # RQ's own connections ask for CLIENT MAINT_NOTIFICATIONS, which is Redis Enterprise's, and go on without: 6.2 knows
    # no subcommands and takes it for CLIENT.
    found = {(entry["username"], entry["object"]) for entry in log} - {("workers", "client")}
    assert not found, [process.output for process in processes]


def test_a_delivery_a_retry_and_a_reconcile_need_no_more_than_they_may(
    guarded_deployment: Deployment, guarded: Guarded, admin: "redis.Redis"
) -> None:
    processes = tell_the_whole_story(guarded_deployment, receiver_url=guarded.url("receiver"))

    assert_nothing_was_refused(admin, *processes)


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_is_taken_up_by_another(
    guarded_deployment: Deployment, admin: "redis.Redis"
) -> None:
    deployment, gemini = guarded_deployment, guarded_deployment.gemini
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("delay", f"GET /v1beta/batches/{batch}", value=60)
    work = deployment.work("--workers", "2")
    Queues(admin).announce([Announcement(batch, Trigger.WEBHOOK)])
    record = f"rq:job:{Queues(admin).batch_job_id(batch)}"
    wait_until(lambda: admin.hget(record, "status") == b"started", what="a job that runs")

    for worker in psutil.Process(work.pid).children():
        worker.send_signal(signal.SIGKILL)
    gemini.clear_faults()

    deployment.wait_for_commit(batch, seconds=75)
    assert work.stop() == 0
    assert_nothing_was_refused(admin, work)


def test_what_was_refused_would_be_seen(guarded: Guarded, admin: "redis.Redis") -> None:
    with redis.Redis.from_url(guarded.url("workers")) as workers, pytest.raises(NoPermissionError):
        workers.flushall()

    assert ("workers", "flushall") in [(entry["username"], entry["object"]) for entry in admin.acl_log()]
