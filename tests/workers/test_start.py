"""What `work` looks at before it begins."""

from collections.abc import Callable

import psutil
import pytest

from tests.support.deployment import Deployment, result_line
from tests.support.processes import Process
from tests.support.relay import error, relay
from tests.support.s3 import S3
from tests.support.waiting import wait_until
from workers.bucket.opening import open_bucket


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_it_with_a_sentence_that_names_the_key(
    deployment: Deployment, status: int
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.run("replay", batch)
    deployment.gemini.fault("status", "/batches?", value=status, times=0)

    ended = deployment.run("work", "--burst")

    assert ended.returncode == 2
    assert "refused the API key" in ended.output
    assert "Traceback" not in ended.output
    assert deployment.run("work", "--burst", "--wait").returncode == 0
    assert (deployment.batch_folder(batch) / "batch.json").exists()


def test_a_gemini_that_is_away_for_now_is_no_reason_not_to_begin(deployment: Deployment) -> None:
    ended = deployment.run("work", "--burst", GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:9")

    assert ended.returncode == 0
    assert "event=gemini_unavailable" in ended.output


def test_a_bucket_that_can_never_work_ends_it_with_a_sentence(deployment: Deployment) -> None:
    ended = deployment.run("work", "--burst", STORAGE_URL="s3://bucket", AWS_ENDPOINT_URL="minio:9000")

    assert ended.returncode == 2
    assert "AWS_ENDPOINT_URL" in ended.output
    assert "Traceback" not in ended.output
    assert "panic" not in ended.output


def test_a_bucket_that_is_away_for_now_is_waited_for(
    deployment: Deployment, start_process: Callable[..., Process], s3: S3
) -> None:
    with relay(s3.endpoint) as between:
        between.answer = lambda _: error(503, "ServiceUnavailable")
        env = {**s3.env, "AWS_ENDPOINT_URL": between.url, "STORAGE_URL": s3.fresh_url()}
        work = start_process("work", env={**deployment.env, **env})
        work.wait_for_output('event=bucket_awaited reason="[^\n]*503 ServiceUnavailable')
        assert "event=started" not in work.output

        # What can be stored only is left behind by each try.
        between.answer = lambda request: None if request.method == "PUT" else error(503, "SlowDown")
        bucket = open_bucket(env["STORAGE_URL"], s3.env)
        wait_until(lambda: len(list(bucket.list("_work/_probe"))) > 1, seconds=60, what="a second try")
        between.answer = lambda _: None
        work.wait_for_output("event=started", seconds=60)
        assert work.output.count("event=bucket_awaited") == 1
        assert work.stop() == 0
        assert list(bucket.list("")) == []


def test_trying_the_bucket_leaves_nothing_in_it(deployment: Deployment) -> None:
    assert deployment.run("work", "--burst").returncode == 0

    assert not [path for path in deployment.folder.rglob("*") if path.is_file()]


def test_no_connection_to_gemini_is_left_to_be_shared_by_work_horses(deployment: Deployment) -> None:
    work = deployment.work("--workers", "2")
    wait_until(lambda: deployment.gemini.requests("/batches?"), what="the look at the key")
    wait_until(lambda: len(psutil.Process(work.pid).children()) >= 2, what="the workers")
    port = int(deployment.gemini.url.rpartition(":")[2])

    for process in (psutil.Process(work.pid), *psutil.Process(work.pid).children()):
        remote = [each.raddr.port for each in process.net_connections() if each.raddr]
        assert port not in remote


def test_one_line_says_what_was_started_with_which_settings_and_no_secret(deployment: Deployment) -> None:
    with_password = deployment.env["REDIS_URL"].replace("redis://", "redis://default:hunter2@")
    work = deployment.work("--workers", "2", REDIS_URL=with_password, PART_BYTES="1MiB", OUTPUTS="parquet")

    (line,) = [line for line in work.output.splitlines() if "event=started" in line]
    for field in (
        "workers=2 ",
        f"redis={deployment.env['REDIS_URL']} ",
        f"gemini={deployment.gemini.url} ",
        f"storage={deployment.env['STORAGE_URL']} ",
        "outputs=parquet ",
        "part_bytes=1048576 ",
        "reconcile_interval_seconds=900 ",
        "version=",
    ):
        assert field in line
    assert "hunter2" not in work.output
    assert deployment.gemini.api_key not in line
