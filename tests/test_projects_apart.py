"""A project in trouble, with hundreds of batches waiting, costs its neighbour next to nothing."""

import statistics
import time

import pytest
import redis

from tests.support.deployment import result_line
from tests.support.projects import Projects
from tests.support.relay import error, relay
from tests.support.waiting import wait_until
from workers.contract import Announcement, Queues, Trigger

WAITING = 500
MEASURED = 25


def median_latency(projects: Projects, kind: str) -> float:
    """Seconds from a webhook to the commit, of batches of `search` that come one by one."""
    gemini, taken = projects.geminis["search"], []
    for number in range(MEASURED):
        batch = gemini.put_batch(result_line("a"), batch_id=f"{kind}-{number}")
        began = time.monotonic()
        gemini.announce(batch)
        projects.wait_for_commit("search", batch)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["key", "bucket", "hanging bucket"])
def test_a_revoked_key_or_a_broken_bucket_and_500_batches_hold_up_nobody_else(
    projects: Projects, redis_client: redis.Redis, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ads = projects.geminis["ads"]

    def broken(_: object) -> object:
        if trouble == "hanging bucket":
            time.sleep(5)
        return error(503, "ServiceUnavailable")

    with relay() as between:
        between.answer = broken  # type: ignore[assignment]
        if trouble != "key":
            projects.tables["ads"]["storage"] = "s3://bucket/ads"
            projects.write()
        else:
            ads.fault("status", "/v1beta/batches", value=401, times=0)
        projects.serve()
        env = {
            "AWS_ENDPOINT_URL": between.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        work = projects.work("--workers", "2", "--wait", **env)
        median_latency(projects, "warming-up")
        alone = median_latency(projects, "alone")

        queues = Queues(redis_client, "batch-receiver-project-ads")
        queues.announce([Announcement(f"ads-{number}", Trigger.WEBHOOK) for number in range(WAITING)])
        wait_until(lambda: redis_client.get(queues.key("trouble")), seconds=200, what="trouble that is noted")
        beside = median_latency(projects, "beside")

        left = queues.queue(queues.batches).count
        with capsys.disabled():
            print(f"\n{trouble}: alone {alone * 1000:.0f} ms, beside {beside * 1000:.0f} ms, {left} untried")  # noqa: T201
        assert left > WAITING / 2, "the trouble was over before it was measured"
        assert beside < 1.2 * alone + 0.5
        assert work.stop() == 0
