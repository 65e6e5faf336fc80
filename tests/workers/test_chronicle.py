"""What a batch goes through stands in the history: written where it happens, counted once, rebuilt where it is lost."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Retry
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.queues import PARTS
from workers import jobs, process, reconcile
from workers.chronicle import Kept
from workers.contract import Announcement, Queues, Trigger
from workers.contract.history import metrics
from workers.contract.history.pages import Filter, Pages, Record
from workers.errors import ResultsGone
from workers.own_jobs import OwnJob, OwnQueue
from workers.settings import Settings

MANY = b"".join(result_line(f"k{n}", "x" * 500) for n in range(200))


@pytest.fixture
def tools(
    gemini: Emulator, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[process.Tools]:
    monkeypatch.setattr(jobs, "_prepared", {})
    url = (tmp_path / "bucket").as_uri()
    environment = {**gemini.env, "REDIS_URL": redis_url, "STORAGE_URL": url, "PART_BYTES": "30000"}
    tools = jobs.prepare(Settings.load(environment))
    yield tools
    tools.gemini.close()


@pytest.fixture
def pages(redis_client: Redis) -> Pages:
    return Pages(redis_client, "batch-receiver")


def run(redis: Redis, job_id: str) -> Retry | None:
    job = OwnJob.fetch(job_id, connection=redis, serializer=JSONSerializer)
    job.set_status(JobStatus.STARTED)
    found = job.perform()
    assert found is None or isinstance(found, Retry)
    return found


def announced(redis: Redis, batch: str) -> str:
    Queues(redis).announce([Announcement(batch, Trigger.WEBHOOK)])
    return f"batch-receiver-batch-{batch}"


def record(pages: Pages, batch: str) -> Record:
    found = pages.record(batch)
    assert found
    return found


def events(pages: Pages, batch: str) -> list[str]:
    return [each.event for each in pages.steps(batch)]


def sample(redis: Redis, name: str) -> float:
    text = metrics.render(redis, ["batch-receiver"], "1").decode()
    found = re.search(rf"^batch_receiver_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def test_a_batch_of_many_parts_shows_its_progress_and_then_its_commit(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    assert tools
    batch = gemini.put_batch(MANY, display_name="Nightly")
    job = announced(redis_client, batch)
    run(redis_client, job)
    parts = OwnQueue(PARTS, connection=redis_client).get_job_ids()

    midway = record(pages, batch)
    assert (midway.state, midway.keys, midway.parts, midway.parts_done) == ("in-parts", 200, len(parts), 0)
    run(redis_client, parts[0])
    assert record(pages, batch).parts_done == 1
    for each in parts[1:]:
        run(redis_client, each)

    done = record(pages, batch)
    assert (done.state, done.parts_done, done.display_name) == ("succeeded", len(parts), "Nightly")
    assert done.counts == {"total": 200, "succeeded": 200, "failed": 0, "invalid": 0}
    assert done.usage
    assert done.usage["total_tokens"] == 3800
    assert events(pages, batch) == ["announced", "looked", "in parts", "committed"]
    assert pages.page(Filter(text="nightly", state="succeeded")).total == 1
    assert sample(redis_client, 'batches_total{project="default",state="succeeded"}') == 1
    assert sample(redis_client, 'results_total{status="succeeded"}') == 200
    assert sample(redis_client, 'tokens_total{kind="total"}') == 3800
    assert sample(redis_client, 'finish_reasons_total{reason="STOP"}') == 200
    assert sample(redis_client, "batch_commit_seconds_count") == 1
    assert sample(redis_client, 'batches{project="default",state="succeeded"}') == 1


def test_a_commit_is_counted_once_however_often_it_is_looked_at(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    assert tools
    batch = gemini.put_batch(result_line("a"))
    for _ in range(3):
        run(redis_client, announced(redis_client, batch))
        redis_client.delete("rq:queue:batch-receiver-batches")

    assert sample(redis_client, 'batches_total{project="default",state="succeeded"}') == 1
    assert events(pages, batch).count("committed") == 1
    assert record(pages, batch).state == "succeeded"


def test_what_a_worker_that_died_after_the_commit_did_not_write_is_written_by_the_next(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    pages: Pages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tools
    batch = gemini.put_batch(result_line("a"))
    job = announced(redis_client, batch)

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Kept, "committed", dies)
        with pytest.raises(SystemExit):
            run(redis_client, job)
    assert record(pages, batch).state == "running"

    run(redis_client, job)

    assert record(pages, batch).state == "succeeded"
    assert sample(redis_client, "batch_commit_seconds_count") == 1


def test_a_batch_that_is_not_ready_waits_with_its_reason_and_is_one_step_however_often_it_is_tried(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    assert tools
    batch = gemini.put_batch(
        result_line("a"), state="RUNNING", stats={"requestCount": "9", "pendingRequestCount": "4"}
    )
    job = announced(redis_client, batch)
    for _ in range(3):
        assert run(redis_client, job)

    waiting = record(pages, batch)
    assert (waiting.state, waiting.expected, waiting.pending) == ("waiting", 9, 4)
    assert waiting.reason == "Gemini says that the batch is running."
    assert waiting.next_try
    assert waiting.next_try > time.time()
    assert events(pages, batch)[0] == "announced"
    assert "retry" in events(pages, batch)


def test_what_failed_for_good_is_given_up_and_counted_until_somebody_replays_it(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    assert tools
    batch = gemini.put_batch(result_line("a"))
    gemini.expire_output(batch)
    with pytest.raises(ResultsGone):
        run(redis_client, announced(redis_client, batch))

    lost = record(pages, batch)
    assert lost.state == "given-up"
    assert lost.reason
    assert sample(redis_client, "failed_batches") == 1
    assert sample(redis_client, "nearest_expiry_seconds") == float("inf")

    redis_client.hset(f"rq:job:batch-receiver-batch-{batch}", "status", "failed")
    Queues(redis_client).announce([Announcement(batch, Trigger.REPLAY)])
    assert record(pages, batch).state == "announced"
    assert sample(redis_client, "failed_batches") == 0


def test_results_that_are_near_their_end_are_seen_while_they_are_not_committed(
    gemini: Emulator, redis_client: Redis, tools: process.Tools
) -> None:
    assert tools
    ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 47 * 3600))
    batch = gemini.put_batch(result_line("a"), ended=ended)
    gemini.fault("status", "/download/", value=503)
    assert run(redis_client, announced(redis_client, batch))
    assert 3000 < sample(redis_client, "nearest_expiry_seconds") <= 3600

    gemini.clear_faults()
    run(redis_client, announced(redis_client, batch))
    assert sample(redis_client, "nearest_expiry_seconds") == float("inf")


def test_what_is_not_ours_is_not_listed(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    assert tools
    Queues(redis_client).announce([Announcement("strangers", Trigger.DYNAMIC)])
    run(redis_client, "batch-receiver-batch-strangers")
    assert gemini

    assert pages.page(Filter()).total == 0
    assert pages.deliveries("accepted")[0].fields["batch"] == "strangers"


def test_a_list_that_redis_has_lost_is_made_anew_from_the_bucket(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    for number in range(3):
        batch = gemini.put_batch(result_line("a"), batch_id=f"b{number}")
        run(redis_client, announced(redis_client, batch))
    before = [(each.batch, each.state, each.committed_at) for each in pages.page(Filter()).records]
    redis_client.flushall()

    reconcile.reconcile(tools, Queues(redis_client), reenable=False)

    assert [(each.batch, each.state, each.committed_at) for each in pages.page(Filter()).records] == before
    assert len(before) == 3


def test_reconcile_shows_what_gemini_works_on_until_it_has_ended(
    gemini: Emulator, redis_client: Redis, tools: process.Tools, pages: Pages
) -> None:
    batch = gemini.put_batch(result_line("a"), state="RUNNING", stats={"pendingRequestCount": "7"})
    gone = gemini.put_batch(result_line("a"), state="PENDING")
    reconcile.reconcile(tools, Queues(redis_client), reenable=False)
    assert {each.batch: each.pending for each in pages.page(Filter(state="pending")).records} == {
        batch: 7,
        gone: None,
    }

    gemini.http.delete(f"/v1beta/batches/{gone}")
    gemini.put_batch(result_line("a"), batch_id=batch)
    reconcile.reconcile(tools, Queues(redis_client), reenable=False)

    assert [(each.batch, each.state) for each in pages.page(Filter()).records] == [(batch, "announced")]
    found = pages.reconciled()
    assert found
    assert found["report"]["enqueued"] == 1
    assert sample(redis_client, "reconcile_found_total") == 1
    assert sample(redis_client, "reconcile_last_success_timestamp_seconds") == pytest.approx(
        time.time(), abs=60
    )


def test_requests_are_counted_by_call_and_status_and_never_by_batch(
    gemini: Emulator, redis_client: Redis, tools: process.Tools
) -> None:
    assert tools
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("status", f"batches/{batch}", value=503)
    job = announced(redis_client, batch)
    run(redis_client, job)
    gemini.clear_faults()
    run(redis_client, job)

    assert sample(redis_client, 'gemini_requests_total{call="batch",code="503"}') == 1
    assert sample(redis_client, 'gemini_requests_total{call="batch",code="200"}') == 1
    assert sample(redis_client, 'gemini_requests_total{call="download",code="200"}') == 1
    assert batch not in metrics.render(redis_client, ["batch-receiver"], "1").decode()


def test_a_history_that_can_not_be_written_holds_up_nothing(
    gemini: Emulator,
    redis_client: Redis,
    tools: process.Tools,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert tools
    batch = gemini.put_batch(result_line("a"))
    job = announced(redis_client, batch)

    def away(*_: object, **__: object) -> None:
        raise RedisConnectionError

    for name in ("note", "repeat", "part_done", "parts_are"):
        monkeypatch.setattr(f"workers.contract.history.History.{name}", away)
    assert run(redis_client, job) is None

    assert "event=history_unwritten" in caplog.text
