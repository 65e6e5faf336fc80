"""What is found at Gemini without having been announced, and what is left alone."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from workers import contract, reconcile
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Announcement, Trigger
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.process import Result, Tools, process
from workers.reconcile import Report

HERE = Announced(frozenset({Trigger.PROCESS}), 1, None)


class Nowhere:
    """Batches of one part need no dispatch."""

    def part(self, batch: str, number: int) -> None:
        raise AssertionError(f"{batch} has a part {number}")

    def finish(self, batch: str) -> None:
        raise AssertionError(batch)


@pytest.fixture
def tools(gemini: Emulator, tmp_path: Path) -> Iterator[Tools]:
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    yield Tools(client, bucket, frozenset({"objects"}), 1 << 20, display_name="*")
    client.close()


def run(tools: Tools, client: "redis.Redis", *, reenable: bool = False) -> Report:
    return reconcile.reconcile(tools, client, reenable=reenable)


def waiting(client: "redis.Redis") -> list[str]:
    return [contract.text(entry) for entry in client.lrange("rq:queue:batches", 0, -1)]


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat().replace("+00:00", "Z")


def test_every_final_batch_without_a_commit_is_enqueued_the_one_nearest_to_its_expiry_first(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    young = gemini.put_batch(result_line("a"), created=ago(hours=3), ended=ago(hours=1))
    old = gemini.put_batch(result_line("a"), created=ago(hours=50), ended=ago(hours=47))
    failed = gemini.put_batch(b"", state="FAILED", created=ago(hours=6), ended=ago(hours=5))
    gemini.put_batch(result_line("a"), state="RUNNING")

    report = run(tools, redis_client)

    assert waiting(redis_client) == [f"batch-{batch}" for batch in (old, failed, young)]
    assert (report.listed, report.final, report.enqueued) == (4, 3, 3)
    assert contract.announced(redis_client, old).triggers == {Trigger.RECONCILE}


@pytest.mark.parametrize("name", ["batches/../abc", "batches/batches/abc", "batches/", "", "x/abc"])
def test_a_listed_batch_whose_name_holds_no_batch_id_is_left_out_and_in_nobodys_way(
    gemini: Emulator,
    tools: Tools,
    redis_client: "redis.Redis",
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    gemini.put_operation({"name": name, "metadata": {"state": "BATCH_STATE_FAILED"}}, batch_id="odd")
    batch = gemini.put_batch(result_line("a"))

    report = run(tools, redis_client)

    assert waiting(redis_client) == [f"batch-{batch}"]
    assert (report.listed, report.final, report.enqueued) == (2, 1, 1)
    assert "event=unreadable_batch_listed" in caplog.text


def test_what_ended_more_than_48_hours_ago_is_left_alone_and_what_is_five_days_old_ends_the_paging(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_batch(result_line("a"), created=ago(days=6), ended=ago(days=5.5))
    gemini.put_batch(result_line("a"), created=ago(days=4), ended=ago(hours=49))

    report = run(tools, redis_client)

    assert (report.listed, report.final, report.enqueued) == (1, 0, 0)


def test_all_pages_are_read(gemini: Emulator, tools: Tools, redis_client: "redis.Redis") -> None:
    batches = {gemini.put_batch(result_line("a")) for _ in range(130)}

    report = run(tools, redis_client)

    assert report.enqueued == 130
    assert set(waiting(redis_client)) == {f"batch-{batch}" for batch in batches}


def test_what_is_committed_is_looked_up_in_the_bucket_once(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", tmp_path: Path
) -> None:
    batch = gemini.put_batch(result_line("a"))
    assert process(tools, Nowhere(), batch, HERE) is Result.COMMITTED
    assert run(tools, redis_client).committed == 1
    (tmp_path / "bucket" / batch / "batch.json").unlink()
    downloads = len(gemini.requests(":download"))

    report = run(tools, redis_client)

    assert (report.committed, report.enqueued) == (1, 0)
    assert len(gemini.requests(":download")) == downloads


def test_what_was_committed_as_failed_and_has_succeeded_since_is_enqueued(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    batch = gemini.put_batch(result_line("a"), state="FAILED", error={"code": 13, "message": "internal"})
    assert process(tools, Nowhere(), batch, HERE) is Result.COMMITTED
    assert run(tools, redis_client).enqueued == 0

    gemini.change(batch, "SUCCEEDED")

    assert run(tools, redis_client).enqueued == 1
    assert waiting(redis_client) == [f"batch-{batch}"]


def test_what_failed_for_good_or_waits_already_is_not_enqueued_again(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    given_up, waits = gemini.put_batch(result_line("a")), gemini.put_batch(result_line("a"))
    contract.announce(redis_client, [Announcement(given_up, Trigger.WEBHOOK)])
    job = contract.queue(contract.BATCHES, redis_client).fetch_job(contract.batch_job_id(given_up))
    assert job
    redis_client.delete("rq:queue:batches")
    job.set_status("failed")  # type: ignore[arg-type]
    job.failed_job_registry.add(job, exc_string="gone")
    contract.announce(redis_client, [Announcement(waits, Trigger.WEBHOOK)])

    report = run(tools, redis_client)

    assert (report.failed_for_good, report.already_waiting, report.enqueued) == (1, 1, 0)
    assert waiting(redis_client) == [f"batch-{waits}"]


def test_batches_of_another_display_name_are_left_alone(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_batch(result_line("a"), display_name="theirs")
    ours = gemini.put_batch(result_line("a"), display_name="ours-7")
    picky = Tools(tools.gemini, tools.bucket, tools.outputs, tools.part_bytes, display_name="ours-*")

    report = run(picky, redis_client)

    assert (report.other_names, report.enqueued) == (1, 1)
    assert waiting(redis_client) == [f"batch-{ours}"]


@pytest.mark.parametrize("reenable", [False, True])
def test_a_webhook_that_gemini_gave_up_on_is_said_and_enabled_again_where_that_is_wanted(
    gemini: Emulator,
    tools: Tools,
    redis_client: "redis.Redis",
    caplog: pytest.LogCaptureFixture,
    *,
    reenable: bool,
) -> None:
    webhook = gemini.create_webhook("http://127.0.0.1:9/webhooks/gemini")
    gemini.set(give_up_seconds=0)
    gemini.wait_for_deliveries(gemini.announce(gemini.put_batch(result_line("a"))))
    caplog.set_level(logging.WARNING, logger="workers")

    report = run(tools, redis_client, reenable=reenable)

    state = gemini.http.get(f"/v1beta/webhooks/{webhook['id']}").json()["state"]
    assert report.webhooks_disabled == 1
    assert report.webhooks_reenabled == int(reenable)
    assert state == ("enabled" if reenable else "disabled_due_to_failed_deliveries")
    assert ("webhook_reenabled" if reenable else "webhook_disabled") in caplog.text


def test_what_it_found_is_counted(gemini: Emulator, tools: Tools, redis_client: "redis.Redis") -> None:
    gemini.put_batch(result_line("a"))
    run(tools, redis_client)
    run(tools, redis_client)

    counters = {
        contract.text(name): int(value) for name, value in redis_client.hgetall(contract.COUNTERS).items()
    }

    assert counters["reconcile_runs"] == 2
    assert counters["reconcile_enqueued"] == 1
    assert counters["reconcile_already_waiting"] == 1


def test_the_first_run_of_a_new_redis_comes_after_an_interval_and_later_ones_when_they_are_due(
    redis_client: "redis.Redis",
) -> None:
    assert not reconcile.due(redis_client, 900, now=1000.0)
    assert not reconcile.due(redis_client, 900, now=1899.0)
    assert reconcile.due(redis_client, 900, now=1900.0)
    assert not reconcile.due(redis_client, 900, now=1901.0)
    assert reconcile.due(redis_client, 900, now=99_000.0)


def test_of_many_workers_one_brings_it_on(redis_client: "redis.Redis") -> None:
    assert not reconcile.due(redis_client, 900, now=0.0)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: reconcile.due(redis_client, 900, now=1000.0 + n / 100), range(64)))
    assert told.count(True) == 1


def test_a_listed_batch_that_can_not_be_read_does_not_hide_the_others(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_operation(
        json.dumps({"name": "batches/odd", "metadata": {"state": 7}}).encode(), batch_id="odd"
    )
    good = gemini.put_batch(result_line("a"))

    report = run(tools, redis_client)

    assert report.enqueued == 1
    assert waiting(redis_client) == [f"batch-{good}"]


def test_what_a_crash_left_of_a_committed_batch_is_swept_and_what_is_in_progress_is_not(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", tmp_path: Path
) -> None:
    batch = gemini.put_batch(result_line("a"))
    process(tools, Nowhere(), batch, HERE)
    for name in (batch, "in-progress"):
        tools.bucket.put(f"_work/{name}/plan.json", b"{}", "application/json")

    report = run(tools, redis_client)

    assert report.swept == 1
    assert [path.name for path in (tmp_path / "bucket" / "_work").iterdir()] == ["in-progress"]
