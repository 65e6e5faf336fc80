"""What is found at Gemini without having been announced, and what is left alone."""

import json
import logging
import random
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.queues import BATCHES, queue
from workers import contract, reconcile, timetable
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Announcement, Queues, Trigger
from workers.gemini.access import Access, Secret
from workers.gemini.batches import Batch, parse_batch
from workers.gemini.client import Gemini
from workers.process import Result, Tools, process
from workers.unannounced import Report

HERE = Announced(frozenset({Trigger.PROCESS}), 1, None)


class Nowhere:
    """Batches of one part need no dispatch."""

    def part(self, batch: str, number: int) -> None:
        raise AssertionError(f"{batch} has a part {number}")

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        raise AssertionError(f"{batch} has parts {numbers}")

    def look(self, batch: str) -> None:
        raise AssertionError(batch)


@pytest.fixture
def tools(gemini: Emulator, tmp_path: Path) -> Iterator[Tools]:
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    yield Tools(client, bucket, frozenset({"objects"}), 1 << 20, display_name="*")
    client.close()


def run(tools: Tools, client: "redis.Redis", *, reenable: bool = False) -> Report:
    return reconcile.reconcile(tools, Queues(client), reenable=reenable)


def waiting(client: "redis.Redis") -> list[str]:
    return [contract.text(entry) for entry in client.lrange("rq:queue:batch-receiver-batches", 0, -1)]


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

    assert waiting(redis_client) == [f"batch-receiver-batch-{batch}" for batch in (old, failed, young)]
    assert (report.listed, report.final, report.enqueued) == (4, 3, 3)
    assert Queues(redis_client).announced(old).triggers == {Trigger.RECONCILE}


@pytest.mark.parametrize("name", ["batches/../abc", "batches/batches/abc", "batches/", "", "x/abc"])
def test_a_listed_batch_whose_name_holds_no_batch_id_is_counted_and_in_nobodys_way(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", name: str
) -> None:
    gemini.put_operation({"name": name, "metadata": {"state": "BATCH_STATE_FAILED"}}, batch_id="odd")
    batch = gemini.put_batch(result_line("a"))

    report = run(tools, redis_client)

    assert waiting(redis_client) == [f"batch-receiver-batch-{batch}"]
    assert (report.listed, report.final, report.enqueued, report.unreadable) == (2, 1, 1, 1)
    assert "can't be asked for" in report.troubles[0]


def test_all_batches_whose_results_can_live_are_looked_at_once_a_day_else_those_of_five_days(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_batch(result_line("a"), created=ago(days=60), ended=ago(days=59))
    old = gemini.put_batch(result_line("a"), created=ago(days=30), ended=ago(days=29))
    young = gemini.put_batch(result_line("a"), created=ago(days=4), ended=ago(hours=49))

    report = run(tools, redis_client)

    assert (report.listed, report.final, report.enqueued) == (2, 2, 2)
    assert set(waiting(redis_client)) == {f"batch-receiver-batch-{batch}" for batch in (old, young)}
    report = run(tools, redis_client)
    assert (report.listed, report.final, report.already_waiting) == (1, 1, 1)


@pytest.mark.parametrize("order", ["newest first", "oldest first", "mixed"])
def test_the_order_of_the_list_does_not_matter(tools: Tools, redis_client: "redis.Redis", order: str) -> None:
    days = [0.1 * n for n in range(45)] + [10 + 0.1 * n for n in range(120)]
    listed = [
        parse_batch(
            json.dumps(
                {
                    "name": f"batches/b{n}",
                    "metadata": {"state": "BATCH_STATE_FAILED", "createTime": ago(days=age)},
                    "done": True,
                    "error": {"code": 13},
                }
            ).encode(),
            "",
        )
        for n, age in enumerate(days)
    ]
    if order == "oldest first":
        listed.reverse()
    elif order == "mixed":
        random.Random(1).shuffle(listed)
    taken: list[Batch] = []

    def batches() -> Iterator[Batch]:
        for batch in listed:
            taken.append(batch)
            yield batch

    tools.gemini.batches = batches  # type: ignore[method-assign,assignment]
    redis_client.set("batch-receiver:reconcile:long", 1)

    assert run(tools, redis_client).enqueued == 45

    assert (len(taken) < len(listed)) is (order == "newest first")


def test_all_pages_are_read(gemini: Emulator, tools: Tools, redis_client: "redis.Redis") -> None:
    batches = {gemini.put_batch(result_line("a")) for _ in range(130)}

    report = run(tools, redis_client)

    assert report.enqueued == 130
    assert set(waiting(redis_client)) == {f"batch-receiver-batch-{batch}" for batch in batches}


def test_the_bucket_is_believed_whatever_was_seen_in_it_before(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", tmp_path: Path
) -> None:
    batch = gemini.put_batch(result_line("a"))
    assert process(tools, Nowhere(), batch, HERE) is Result.COMMITTED
    assert run(tools, redis_client).committed == 1
    shutil.rmtree(tmp_path / "bucket")
    (tmp_path / "bucket").mkdir()

    report = run(tools, redis_client)

    assert (report.committed, report.enqueued) == (0, 1)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 1}'])
def test_one_batch_json_that_can_not_be_read_is_named_and_hides_no_other_batch(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", content: bytes
) -> None:
    bad, good = gemini.put_batch(result_line("a")), gemini.put_batch(result_line("b"))
    tools.bucket.put(f"{bad}/batch.json", content, "application/json")

    report = run(tools, redis_client)

    assert (report.unreadable, report.enqueued) == (1, 1)
    assert bad in report.troubles[0]
    assert waiting(redis_client) == [f"batch-receiver-batch-{good}"]


def test_webhooks_that_can_not_be_listed_do_not_undo_what_was_done(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_batch(result_line("a"))
    gemini.fault("status", "/webhooks", value=404)

    report = run(tools, redis_client)

    assert report.enqueued == 1
    assert len(report.troubles) == 1
    assert redis_client.hget("batch-receiver:counters", "reconcile_enqueued") == b"1"


def test_a_batch_near_the_end_of_its_results_goes_before_those_that_wait(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    Queues(redis_client).announce([Announcement("waits", Trigger.WEBHOOK)])
    ended = (datetime.now(UTC) - timedelta(hours=40)).isoformat()
    urgent, young = gemini.put_batch(result_line("a"), ended=ended), gemini.put_batch(result_line("b"))

    run(tools, redis_client)

    ids = [f"batch-receiver-batch-{batch}" for batch in (urgent, "waits", young)]
    assert waiting(redis_client) == ids


def test_what_was_committed_as_failed_and_has_succeeded_since_is_enqueued(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    batch = gemini.put_batch(result_line("a"), state="FAILED", error={"code": 13, "message": "internal"})
    assert process(tools, Nowhere(), batch, HERE) is Result.COMMITTED
    assert run(tools, redis_client).enqueued == 0

    gemini.change(batch, "SUCCEEDED")

    assert run(tools, redis_client).enqueued == 1
    assert waiting(redis_client) == [f"batch-receiver-batch-{batch}"]


def test_what_failed_for_good_or_waits_already_is_not_enqueued_again(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    given_up, waits = gemini.put_batch(result_line("a")), gemini.put_batch(result_line("a"))
    Queues(redis_client).announce([Announcement(given_up, Trigger.WEBHOOK)])
    job = queue(redis_client, BATCHES).fetch_job(f"batch-receiver-batch-{given_up}")
    assert job
    redis_client.delete("rq:queue:batch-receiver-batches")
    job.set_status("failed")  # type: ignore[arg-type]
    job.failed_job_registry.add(job, exc_string="gone")
    Queues(redis_client).announce([Announcement(waits, Trigger.WEBHOOK)])

    report = run(tools, redis_client)

    assert (report.failed_for_good, report.already_waiting, report.enqueued) == (1, 1, 0)
    assert waiting(redis_client) == [f"batch-receiver-batch-{waits}"]


def test_batches_of_another_display_name_are_left_alone(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    gemini.put_batch(result_line("a"), display_name="theirs")
    ours = gemini.put_batch(result_line("a"), display_name="ours-7")
    picky = Tools(tools.gemini, tools.bucket, tools.outputs, tools.part_bytes, display_name="ours-*")

    report = run(picky, redis_client)

    assert (report.other_names, report.enqueued) == (1, 1)
    assert waiting(redis_client) == [f"batch-receiver-batch-{ours}"]


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
        contract.text(name): int(value)
        for name, value in redis_client.hgetall("batch-receiver:counters").items()
    }

    assert counters["reconcile_runs"] == 2
    assert counters["reconcile_enqueued"] == 1
    assert counters["reconcile_already_waiting"] == 1


def test_the_first_run_of_a_new_redis_comes_after_an_interval_and_later_ones_when_they_are_due(
    redis_client: "redis.Redis",
) -> None:
    queues = Queues(redis_client)
    assert not timetable.due(queues, 900)
    for ago, is_due in ((899, False), (901, True), (0, False), (99_000, True), (-0.5, False), (-2_000, True)):
        redis_client.set("batch-receiver:reconcile:last", queues.now() - ago)
        assert timetable.due(queues, 900) is is_due


def test_of_many_workers_one_brings_it_on(redis_client: "redis.Redis") -> None:
    queues = Queues(redis_client)
    assert not timetable.due(queues, 900)
    redis_client.set("batch-receiver:reconcile:last", queues.now() - 1000)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: timetable.due(queues, 900), range(64)))
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
    assert waiting(redis_client) == [f"batch-receiver-batch-{good}"]


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


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_what_a_crash_left_of_a_batch_that_did_not_succeed_is_swept_too(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis", tmp_path: Path, state: str
) -> None:
    batch = gemini.put_batch(b"" if state == "FAILED" else result_line("a"), state=state)
    process(tools, Nowhere(), batch, HERE)
    tools.bucket.put(f"_work/{batch}/parts/00000.json", b"{}", "application/json")

    assert run(tools, redis_client).swept == 1

    assert not (tmp_path / "bucket" / "_work").exists()


def test_what_killed_looks_at_the_bucket_left_is_swept_and_what_one_is_doing_is_not(
    tools: Tools, redis_client: "redis.Redis"
) -> None:
    now = Queues(redis_client).now()
    young, old = layout.trial(now), layout.trial(now - 2 * 3600)
    for folder in (young, old, "_work/_probe/0123456789abcdef", "_work/_try-0123456789ab"):
        tools.bucket.put(f"{folder}/once.json", b"{}", "application/json")

    assert run(tools, redis_client).swept == 3

    assert [name for name, _ in tools.bucket.list("")] == [f"{young}/once.json"]


def test_a_batch_that_was_running_and_is_cancelled_is_found_at_a_glance(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    queues = Queues(redis_client)
    batch = gemini.put_batch(result_line("a"), state="RUNNING", created=ago(hours=1))
    run(tools, redis_client)
    assert waiting(redis_client) == []

    gemini.change(batch, "CANCELLED")
    asked = len(gemini.requests("/batches"))
    report = reconcile.glance(tools, queues)

    assert waiting(redis_client) == [f"batch-receiver-batch-{batch}"]
    assert report.enqueued == 1
    assert len(gemini.requests("/batches")) == asked + 1
    assert reconcile.glance(tools, queues).enqueued == 0


def test_a_glance_asks_for_one_page_and_looks_at_nothing_that_ended_before(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    for number in range(101):
        gemini.put_batch(result_line("a"), created=ago(minutes=number))
    gemini.put_batch(result_line("a"), state="RUNNING", created=ago(minutes=0))

    report = reconcile.glance(tools, Queues(redis_client))

    assert (report.listed, report.enqueued, report.committed) == (100, 0, 0)
    assert len(gemini.requests("/batches")) == 1
    assert waiting(redis_client) == []


def test_glances_are_due_only_while_batches_run_and_not_more_often_than_the_runs(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    queues = Queues(redis_client)
    assert not timetable.glance_due(queues, 900)
    batch = gemini.put_batch(result_line("a"), state="RUNNING")
    run(tools, redis_client)
    assert not timetable.glance_due(queues, timetable.GLANCE_SECONDS)
    assert [timetable.glance_due(queues, 900) for _ in range(3)] == [True, False, False]
    redis_client.delete("batch-receiver:reconcile:glance")
    gemini.change(batch, "SUCCEEDED")
    reconcile.glance(tools, queues)
    assert not timetable.glance_due(queues, 900)


def test_a_glance_whose_list_does_not_come_forgets_nothing(
    gemini: Emulator, tools: Tools, redis_client: "redis.Redis"
) -> None:
    queues = Queues(redis_client)
    batch = gemini.put_batch(result_line("a"), state="RUNNING")
    run(tools, redis_client)
    gemini.change(batch, "CANCELLED")
    gemini.fault("status", "/batches", value=503)
    assert reconcile.glance(tools, queues).troubles
    assert reconcile.glance(tools, queues).enqueued == 1
