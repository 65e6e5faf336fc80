"""The whole product as processes: signed webhooks in, files in a bucket out."""

import hashlib
import json
import signal
import time

import pytest
import redis

from tests.support.deployment import Deployment, contents, result_line
from tests.support.waiting import wait_until


def test_a_signed_webhook_becomes_files_in_the_bucket(deployment: Deployment) -> None:
    deployment.subscribe()
    deployment.work()
    raw = (
        result_line("request-1", "Hello.")
        + b'{"key": "request-2", "error": {"code": 400, "message": "no"}}\n'
    )
    batch = deployment.gemini.put_batch(raw, stats={"requestCount": "2"}, display_name="my batch")

    deployment.gemini.announce(batch)

    summary = deployment.wait_for_commit(batch)
    assert summary["schema"] == 1
    assert summary["state"] == "succeeded"
    assert summary["trigger"] == "webhook"
    assert summary["revision"] == 1
    assert summary["display_name"] == "my batch"
    assert summary["counts"] == {"total": 2, "succeeded": 1, "failed": 1, "invalid": 0}
    assert summary["finish_reasons"] == {"STOP": 1}
    assert summary["raw_sha256"] == hashlib.sha256(raw).hexdigest()
    assert summary["warnings"] == []
    assert (deployment.batch_folder(batch) / "raw/part-00000.jsonl").read_bytes() == raw
    assert deployment.output(batch, "request-1")["text"] == "Hello."
    assert deployment.output(batch, "request-1")["response"] == json.loads(raw.splitlines()[0])["response"]
    assert deployment.output(batch, "request-2")["error"] == {"code": 400, "message": "no"}
    assert [line["key"] for line in deployment.manifest(batch)] == ["request-1", "request-2"]
    deployment.wait_until_tidy(batch)
    day = summary["committed_at"][:10]
    index = deployment.folder / "_index" / day / f"{batch}.json"
    assert index.read_bytes() == (deployment.batch_folder(batch) / "batch.json").read_bytes()


def test_two_thousand_keys_are_committed_within_ten_seconds_by_one_worker(deployment: Deployment) -> None:
    deployment.subscribe()
    deployment.work()
    raw = b"".join(result_line(f"request-{n}", f"Answer {n}") for n in range(2000))
    batch = deployment.gemini.put_batch(raw, stats={"requestCount": "2000"})

    deployment.gemini.announce(batch)

    summary = deployment.wait_for_commit(batch, seconds=30)
    assert summary["counts"]["succeeded"] == 2000
    assert len(list((deployment.batch_folder(batch) / "outputs").iterdir())) == 2000


def test_a_batch_of_many_parts_is_committed_once_by_many_workers(deployment: Deployment) -> None:
    raw = b"".join(result_line(f"request-{n}", "x" * 1000) for n in range(3000))
    batch = deployment.gemini.put_batch(raw)
    deployment.work("--workers", "2", PART_BYTES="200000")

    deployment.run("replay", batch)

    summary = deployment.wait_for_commit(batch)
    assert summary["trigger"] == "replay"
    assert len(summary["parts"]) > 10
    assert sum(part["bytes"] for part in summary["parts"]) == len(raw)
    assert all(part["bytes"] >= 200_000 for part in summary["parts"][:-1])
    joined = b"".join(
        (deployment.batch_folder(batch) / part["object"]).read_bytes() for part in summary["parts"]
    )
    assert joined == raw
    assert [line["index"] for line in deployment.manifest(batch)] == list(range(3000))
    for line in deployment.manifest(batch)[::500]:
        where = line["raw"]
        part = (deployment.batch_folder(batch) / where["part"]).read_bytes()
        assert json.loads(part[where["offset"] : where["offset"] + where["length"]])["key"] == line["key"]


def test_workers_killed_halfway_leave_a_bucket_that_others_complete(deployment: Deployment) -> None:
    raw = b"".join(result_line(f"request-{n % 2900}", "x" * 1000) for n in range(3000))
    batch = deployment.gemini.put_batch(raw)
    undisturbed = deployment.folder.with_name("undisturbed")
    deployment.run("process", batch, STORAGE_URL=undisturbed.as_uri(), PART_BYTES="100000")
    workers = deployment.work("--workers", "2", PART_BYTES="100000")
    deployment.run("replay", batch)
    wait_until(
        lambda: len(list(deployment.folder.glob(f"_work/{batch}/done/*"))) >= 3, what="three done parts"
    )

    workers.kill()
    assert not (deployment.batch_folder(batch) / "batch.json").exists()
    deployment.work("--workers", "2")

    deployment.wait_for_commit(batch, seconds=110)
    deployment.wait_until_tidy(batch)
    assert contents(deployment.batch_folder(batch)) == contents(undisturbed / batch)
    assert not list(deployment.folder.glob("_work/*"))


def test_ten_announcements_at_once_are_one_job(deployment: Deployment, redis_client: "redis.Redis") -> None:
    deployment.subscribe()
    batch = deployment.gemini.put_batch(result_line("a"))

    ids = deployment.gemini.announce(batch, times=10)

    deliveries = deployment.gemini.wait_for_deliveries(ids)
    answers = [attempt["answer"] for delivery in deliveries for attempt in delivery["attempts"]]
    assert len(answers) == 10
    assert sorted(json.loads(answer)["status"] for answer in answers) == ["accepted"] + ["duplicate"] * 9
    assert redis_client.lrange("rq:queue:batch-receiver-batches", 0, -1) == [
        f"batch-receiver-batch-{batch}".encode()
    ]


def test_an_announcement_after_the_commit_changes_nothing(
    deployment: Deployment, redis_client: "redis.Redis"
) -> None:
    deployment.subscribe()
    deployment.work()
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.announce(batch)
    deployment.wait_for_commit(batch)
    deployment.wait_until_tidy(batch)
    wait_until(
        lambda: not redis_client.exists(f"rq:job:batch-receiver-batch-{batch}"),
        what="the end of the job's record",
    )
    before = contents(deployment.folder, but_times=False)

    ids = deployment.gemini.announce(batch)

    deployment.gemini.wait_for_deliveries(ids)
    wait_until(
        lambda: not redis_client.exists(f"rq:job:batch-receiver-batch-{batch}"),
        what="the end of the job's record",
    )
    assert contents(deployment.folder, but_times=False) == before


def test_an_announcement_after_a_failure_is_tried_again(
    deployment: Deployment, redis_client: "redis.Redis"
) -> None:
    deployment.subscribe()
    deployment.work()
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("status", f"batches/{batch}", value=400)
    deployment.gemini.announce(batch)
    wait_until(
        lambda: redis_client.hget(f"rq:job:batch-receiver-batch-{batch}", "status") == b"failed",
        what="the failure",
    )
    shown = json.loads(deployment.run("status", batch, "--json").output)
    assert shown["state"] == "failed"
    assert "Gemini refused the call (400)" in shown["jobs"][0]["reason"]

    deployment.gemini.announce(batch)

    assert deployment.wait_for_commit(batch)["counts"]["succeeded"] == 1


@pytest.mark.parametrize(
    ("state", "error"),
    [("FAILED", {"code": 13, "message": "internal"}), ("EXPIRED", None), ("CANCELLED", None)],
)
def test_a_batch_without_results_has_only_its_summary(
    deployment: Deployment, state: str, error: dict[str, object] | None
) -> None:
    operation = {
        "name": "batches/without-results",
        "metadata": {
            "state": f"BATCH_STATE_{state}",
            "displayName": "none",
            "model": "models/gemini-2.5-flash",
        },
        "done": True,
        **({"error": error} if error else {}),
    }
    batch = deployment.gemini.put_operation(operation, state=state)

    deployment.run("process", batch)

    summary = deployment.wait_for_commit(batch)
    assert summary["state"] == state.lower()
    assert summary["error"] == error
    assert summary["counts"]["total"] == 0
    assert list(contents(deployment.batch_folder(batch))) == ["batch.json"]


def test_a_batch_that_failed_and_then_succeeded_is_done_anew(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(
        result_line("a"), state="FAILED", error={"code": 13, "message": "internal"}
    )
    deployment.run("process", batch)
    assert deployment.wait_for_commit(batch)["state"] == "failed"

    deployment.gemini.change(batch, "SUCCEEDED")
    deployment.run("process", batch)

    summary = deployment.wait_for_commit(batch)
    assert (summary["state"], summary["revision"]) == ("succeeded", 2)
    assert deployment.output(batch, "a")["text"] == "An answer."
    indexed = list((deployment.folder / "_index").rglob("*.json"))
    assert [json.loads(path.read_bytes())["revision"] for path in indexed] == [2]


def test_a_batch_that_nobody_can_read_is_dropped_where_only_a_dynamic_webhook_told_of_it(
    deployment: Deployment, redis_client: "redis.Redis"
) -> None:
    deployment.serve(WEBHOOK_DYNAMIC="on", WEBHOOK_JWKS_URL=deployment.gemini.jwks_url)
    deployment.work()

    ids = deployment.gemini.announce("somebody-elses", kind="v1a", uris=[deployment.url])

    deliveries = deployment.gemini.wait_for_deliveries(ids)
    assert [attempt["status"] for delivery in deliveries for attempt in delivery["attempts"]] == [200]
    wait_until(lambda: redis_client.hget("batch-receiver:counters", "left_alone") == b"1", what="the count")
    wait_until(
        lambda: not redis_client.exists("rq:job:batch-receiver-batch-somebody-elses"),
        what="the end of the record",
    )
    assert not list(deployment.folder.rglob("*.json"))


def test_a_batch_that_our_key_can_not_read_is_shown_and_tried_again_slowly(deployment: Deployment) -> None:
    deployment.subscribe()
    deployment.work()

    deployment.gemini.announce("not-ours")

    def shown() -> dict[str, object] | None:
        found = json.loads(deployment.run("status", "not-ours", "--json").output)
        job = found["jobs"][0] if found["jobs"] else {}
        return job if job.get("reason") else None

    job = wait_until(shown)
    assert job
    assert job["state"] == "waiting"
    assert "This key can't read the batch" in str(job["reason"])
    assert job["next_try"]
    assert not list(deployment.folder.rglob("*.json"))


def test_late_output_is_waited_for(deployment: Deployment) -> None:
    deployment.subscribe()
    deployment.work()
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("late_output", batch, times=2)

    deployment.gemini.announce(batch)

    assert deployment.wait_for_commit(batch)["counts"]["total"] == 1


def test_a_download_that_is_cut_goes_on_where_it_was(deployment: Deployment) -> None:
    raw = b"".join(result_line(f"request-{n}", "x" * 1000) for n in range(2000))
    batch = deployment.gemini.put_batch(raw)
    deployment.gemini.fault("cut", times=2, value=700_000)

    deployment.run("process", batch)

    assert deployment.wait_for_commit(batch)["raw_sha256"] == hashlib.sha256(raw).hexdigest()


def test_no_secret_is_in_any_log_job_or_object(deployment: Deployment, redis_client: "redis.Redis") -> None:
    receiver = deployment.subscribe()
    workers = deployment.work()
    good = deployment.gemini.put_batch(result_line("a"))
    bad = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("status", f"batches/{bad}", value=401)
    deployment.gemini.announce(good)
    deployment.gemini.announce(bad)
    deployment.wait_for_commit(good)
    wait_until(
        lambda: redis_client.hget(f"rq:job:batch-receiver-batch-{bad}", "status") == b"scheduled",
        what="the refusal",
    )

    key, secret = deployment.gemini.api_key, deployment.secret.removeprefix("whsec_")

    stored = b"".join(contents(deployment.folder).values())
    records = str([redis_client.dump(name) for name in redis_client.scan_iter()])
    shown = deployment.run("status", bad).output
    for text in (receiver.output, workers.output, stored.decode(), records, shown):
        assert key not in text
        assert secret not in text


@pytest.mark.parametrize("idle", [False, True])
def test_workers_end_when_asked_to(
    deployment: Deployment, redis_client: "redis.Redis", *, idle: bool
) -> None:
    workers = deployment.work("--workers", "2")
    if idle:
        wait_until(lambda: redis_client.scard("rq:workers") == 2, what="two workers")

    begun = time.monotonic()
    workers.signal(signal.SIGTERM)

    assert workers.wait() == 0
    assert time.monotonic() - begun < 15


def test_a_job_that_outlasts_the_grace_period_is_handed_back(
    deployment: Deployment, redis_client: "redis.Redis"
) -> None:
    raw = b"".join(result_line(f"request-{n}", "x" * 1000) for n in range(2000))
    batch = deployment.gemini.put_batch(raw)
    deployment.gemini.fault("throttle", value=100_000)
    workers = deployment.work()
    deployment.run("replay", batch)
    wait_until(
        lambda: redis_client.hget(f"rq:job:batch-receiver-batch-{batch}", "status") == b"started",
        what="the start",
    )

    workers.signal(signal.SIGTERM)

    assert workers.wait() == 0
    assert "event=handed_back" in workers.output
    assert redis_client.lrange("rq:queue:batch-receiver-batches", 0, -1) == [
        f"batch-receiver-batch-{batch}".encode()
    ]
    deployment.gemini.clear_faults()
    deployment.work("--burst")
    assert deployment.wait_for_commit(batch)["counts"]["succeeded"] == 2000


def test_what_the_submitter_said_reaches_the_summary_whoever_announced_the_batch_first(
    deployment: Deployment,
) -> None:
    deployment.subscribe(WEBHOOK_DYNAMIC="on", WEBHOOK_JWKS_URL=deployment.gemini.jwks_url)
    batch = deployment.gemini.put_batch(result_line("a"))
    static = deployment.gemini.announce(batch)
    dynamic = deployment.gemini.announce(
        batch, kind="v1a", uris=[deployment.url], user_metadata={"tenant": "t-7", "tags": [1, 2]}
    )
    deployment.gemini.wait_for_deliveries([*static, *dynamic])

    deployment.work()

    summary = deployment.wait_for_commit(batch)
    assert summary["user_metadata"] == {"tenant": "t-7", "tags": [1, 2]}
    assert summary["trigger"] == "webhook"


def test_a_signed_token_is_accepted_where_its_audience_is_ours(deployment: Deployment) -> None:
    deployment.serve(
        WEBHOOK_DYNAMIC="on", WEBHOOK_JWKS_URL=deployment.gemini.jwks_url, WEBHOOK_AUDIENCE="our-project"
    )
    deployment.work()
    batch = deployment.gemini.put_batch(result_line("a"))

    deployment.gemini.announce(batch, kind="jwt", uris=[deployment.url], audience="our-project")

    assert deployment.wait_for_commit(batch)["trigger"] == "dynamic"


def test_a_batch_that_nobody_announced_is_found_by_the_workers_themselves(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))

    deployment.work(RECONCILE_INTERVAL_SECONDS="1")

    assert deployment.wait_for_commit(batch)["trigger"] == "reconcile"
