"""Machines whose clocks differ."""

from pathlib import Path

import pytest

from tests.support.clock import ahead
from tests.support.deployment import Deployment, result_line
from tests.support.waiting import wait_until

APART_SECONDS = 120


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["who works", "who looks on"])
def test_a_job_at_work_is_not_taken_for_lost_by_a_machine_with_another_clock(
    deployment: Deployment, tmp_path: Path, wrong: str
) -> None:
    batch = deployment.gemini.put_batch(b"".join(result_line(n, "x" * 1000) for n in range(200)))
    deployment.gemini.fault("throttle", value=12_000)
    clock = ahead(APART_SECONDS, tmp_path)
    deployment.work("--workers", "1", **(clock if wrong == "who works" else {}))
    deployment.run("replay", batch)
    wait_until(lambda: deployment.gemini.requests(":download"), what="the download")

    onlooker = deployment.work("--workers", "1", **(clock if wrong == "who looks on" else {}))

    summary = deployment.wait_for_commit(batch)
    assert (summary["counts"]["succeeded"], summary["revision"]) == (200, 1)
    assert len(deployment.gemini.requests(":download")) == 1
    assert onlooker.stop() == 0
    assert batch not in onlooker.output


@pytest.mark.slow
def test_the_next_try_comes_when_it_was_meant_to_on_a_machine_whose_clock_is_ahead(
    deployment: Deployment, tmp_path: Path
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.gemini.fault("status", f"GET /v1beta/batches/{batch}", value=503)
    deployment.work("--workers", "1", **ahead(APART_SECONDS, tmp_path))

    deployment.run("replay", "--force", batch)

    deployment.wait_for_commit(batch, seconds=APART_SECONDS / 2)
