"""A commit is told downstream: signed, at least once, after it is durable, and whatever crashes right after it."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq import Retry
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from standardwebhooks.webhooks import Webhook

from tests.support.deployment import Deployment, result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.http_server import Server
from tests.support.waiting import wait_until
from workers import jobs, notices, process, reconcile
from workers.contract import Announcement, Queues, Trigger, text
from workers.contract.history.pages import Pages
from workers.notices import Told
from workers.outside.posts import NotTaken, post_signed
from workers.own_jobs import OwnJob
from workers.settings import Settings
from workers.summary import read_summary

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def tools(
    gemini: Emulator,
    http_server: Server,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[process.Tools]:
    monkeypatch.setattr(jobs, "_prepared", {})
    environment = {
        **gemini.env,
        "REDIS_URL": redis_url,
        "STORAGE_URL": (tmp_path / "bucket").as_uri(),
        "PART_BYTES": "2000",
        "NOTIFY_URL": f"{http_server.url}/hook/?token=word",
        "NOTIFY_SECRET": SECRET,
    }
    tools = jobs.prepare(Settings.load(environment))
    yield tools
    tools.gemini.close()


def run(redis: Redis, job_id: str) -> Retry | None:
    job = OwnJob.fetch(job_id, connection=redis, serializer=JSONSerializer)
    job.set_status(JobStatus.STARTED)
    found = job.perform()
    assert found is None or isinstance(found, Retry)
    return found


def waiting(redis: Redis, queue: str = "batches") -> list[str]:
    return [text(job) for job in redis.lrange(f"rq:queue:batch-receiver-{queue}", 0, -1)]


def commit(redis: Redis, batch: str) -> None:
    Queues(redis).announce([Announcement(batch, Trigger.WEBHOOK)])
    redis.delete("rq:queue:batch-receiver-batches")
    run(redis, f"batch-receiver-batch-{batch}")


def owed(tools: process.Tools) -> list[tuple[str, int]]:
    return [*notices.owed(tools.bucket)]


def test_a_commit_is_told_once_it_is_there_signed_and_then_not_owed_any_more(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="Nightly")
    commit(redis_client, batch)
    assert owed(tools) == [(batch, 1)]
    assert http_server.requests == []

    assert waiting(redis_client) == [f"batch-receiver-notice-{batch}-r1"]
    assert run(redis_client, f"batch-receiver-notice-{batch}-r1") is None

    (request,) = http_server.requests
    assert (request.method, request.path) == ("POST", "/hook/?token=word")
    assert request.headers["webhook-id"] == f"{batch}-r1"
    told = Webhook(SECRET).verify(request.body, request.headers)
    timestamp = told.pop("timestamp")
    assert timestamp.endswith("Z")
    assert told == {
        "type": "batch.committed",
        "data": {
            "batch": batch,
            "project": "default",
            "state": "succeeded",
            "revision": 1,
            "display_name": "Nightly",
            "url": f"{tools.bucket.url}/{batch}/",
            "counts": {"total": 1, "succeeded": 1, "failed": 0, "invalid": 0},
            "warnings": [],
            "user_metadata": None,
        },
    }
    assert owed(tools) == []
    assert Pages(redis_client, "batch-receiver").steps(batch)[-1].event == "notified"
    assert not list(tools.bucket.list("_work"))


@pytest.mark.parametrize("status", [500, 404, 301, 410, 300])
def test_it_is_told_again_until_it_is_taken(
    status: int,
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
) -> None:
    batch = gemini.put_batch(result_line("a"))
    commit(redis_client, batch)
    http_server.answers = [status, status]
    job = f"batch-receiver-notice-{batch}-r1"

    for _ in range(2):
        assert run(redis_client, job)
        assert owed(tools) == [(batch, 1)]
    assert run(redis_client, job) is None

    assert [each.headers["webhook-id"] for each in http_server.requests] == [f"{batch}-r1"] * 3
    assert {each.path for each in http_server.requests} == {"/hook/?token=word"}  # No redirect is followed.
    steps = [each.fields for each in Pages(redis_client, "batch-receiver").steps(batch)]
    assert "word" not in json.dumps([dict(each) for each in steps])
    assert owed(tools) == []


def test_a_crash_right_after_the_commit_loses_no_notice(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = gemini.put_batch(result_line("a"))

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("workers.commit.tidy", dies)
        with pytest.raises(SystemExit):
            commit(redis_client, batch)
    assert read_summary(tools.bucket, batch)
    redis_client.flushall()

    reconcile.reconcile(tools, Queues(redis_client), reenable=False)
    reconcile.reconcile(tools, Queues(redis_client), reenable=False)

    assert waiting(redis_client) == [f"batch-receiver-notice-{batch}-r1"]
    run(redis_client, f"batch-receiver-notice-{batch}-r1")
    assert len(http_server.requests) == 1
    assert owed(tools) == []


def test_nothing_is_told_before_the_commit(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = gemini.put_batch(result_line("a"))

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(type(tools.bucket), "create", dies)
        with pytest.raises(SystemExit):
            commit(redis_client, batch)
    assert owed(tools) == [(batch, 1)]
    assert tools.downstream

    assert notices.tell(tools.downstream, tools.bucket, batch, 1) is Told.NOT_COMMITTED
    assert http_server.requests == []
    assert owed(tools) == [(batch, 1)]


def test_a_notice_is_given_up_after_two_days_and_not_before(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
) -> None:
    batch = gemini.put_batch(result_line("a"))
    commit(redis_client, batch)
    http_server.status = 503
    assert tools.downstream

    with pytest.raises(NotTaken, match="503"):
        notices.tell(tools.downstream, tools.bucket, batch, 1, time.time() + 47.9 * 3600)
    assert notices.tell(tools.downstream, tools.bucket, batch, 1, time.time() + 48.1 * 3600) is Told.GIVEN_UP
    assert owed(tools) == []


def test_a_revision_is_told_too_and_one_that_was_replaced_is_not(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    http_server: Server,
) -> None:
    batch = gemini.put_batch(b"", state="FAILED")
    commit(redis_client, batch)
    gemini.put_batch(result_line("a"), batch_id=batch)
    commit(redis_client, batch)
    assert sorted(owed(tools)) == [(batch, 1), (batch, 2)]

    for job in waiting(redis_client):
        run(redis_client, job)
    assert tools.downstream
    assert notices.tell(tools.downstream, tools.bucket, batch, 1) is Told.SUPERSEDED

    assert [each.headers["webhook-id"] for each in http_server.requests] == [f"{batch}-r2"]
    assert owed(tools) == []


def test_a_server_that_is_not_there_is_an_error_without_its_address() -> None:
    downstream = notices.Downstream("http://127.0.0.1:1/hook?token=word", SECRET)
    assert "word" not in repr(downstream)
    with pytest.raises(NotTaken) as raised:
        post_signed(downstream.url, downstream.secret, "abc-r1", "{}")
    assert "word" not in str(raised.value)


def test_workers_tell_of_large_and_small_batches(
    deployment: Deployment,
    http_server: Server,
) -> None:
    gemini = deployment.gemini
    batches = [
        gemini.put_batch(result_line("a")),
        gemini.put_batch(b"".join(result_line(f"k{n}", "x" * 500) for n in range(40))),
    ]
    http_server.answers = [500]
    settings = {
        "NOTIFY_URL": http_server.url,
        "NOTIFY_SECRET": SECRET,
        "PART_BYTES": "5000",
        "HEARTBEAT_URL": f"{http_server.url}/beat",
    }
    work = deployment.work("--workers", "2", RECONCILE_INTERVAL_SECONDS="1", **settings)

    def ids() -> set[str]:
        return {each.headers.get("webhook-id", each.path) for each in http_server.requests[1:]}

    wanted = {f"{batch}-r1" for batch in batches} | {"/beat"}
    wait_until(lambda: wanted <= ids(), seconds=60, what="both notices and a heartbeat")
    wait_until(lambda: not list(deployment.folder.glob("_work/_notify/*/*")), what="no notice that is owed")
    assert "event=notified" in work.output


def test_process_tells_in_the_foreground_and_says_where_it_was_not_taken(
    deployment: Deployment,
    http_server: Server,
) -> None:
    settings = {"NOTIFY_URL": http_server.url, "NOTIFY_SECRET": SECRET}
    deployment.env.update(settings)
    taken, refused = (deployment.gemini.put_batch(result_line("a")) for _ in range(2))

    assert deployment.run("process", taken).returncode == 0
    assert [each.headers["webhook-id"] for each in http_server.requests] == [f"{taken}-r1"]

    http_server.status = 500
    ended = deployment.run("process", refused)
    assert ended.returncode == 0
    assert "NOTIFY_URL answered with status 500." in ended.output
    assert list(deployment.folder.glob(f"_work/_notify/{refused}/r1.json"))
