"""Processes of the previous version beside those of this one, on one Redis and one bucket, and back again.

The previous version is the commit that `PREVIOUS_COMMIT` names.
"""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, result_line
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

LINES = [result_line(f"k{number}", "x" * 300) for number in range(120)]


@pytest.fixture
def previous(tmp_path: Path) -> dict[str, str]:
    """What a process needs to be one of the previous version."""
    commit = os.environ.get("PREVIOUS_COMMIT")
    if not commit:
        pytest.skip("PREVIOUS_COMMIT names no commit to upgrade from")
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"{commit} is not in this repository's history")
    folder = tmp_path / "previous"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
        file.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("comes_first", ["previous", "this"])
def test_batches_that_are_half_done_at_a_switch_are_committed_whole(
    deployment: Deployment, previous: dict[str, str], comes_first: str
) -> None:
    """`this` first is the way back."""
    gemini, first, second = deployment.gemini, previous, dict[str, str]()
    if comes_first == "this":
        first, second = second, first
    deployment.env["PART_BYTES"] = "6000"
    serve = deployment.subscribe(**first)
    batches = [gemini.put_batch(LINES) for _ in range(8)]
    for batch in batches[:2]:
        gemini.fault("delay", f"GET /v1beta/batches/{batch}", value=2)
    work = deployment.work("--workers", "2", **first)
    for batch in batches[:4]:
        gemini.wait_for_deliveries(gemini.announce(batch))
    wait_until(
        lambda: any((deployment.folder / batch / "raw").exists() for batch in batches),
        what="something half done",
    )

    beside = deployment.work("--workers", "2", **second)
    for batch in batches[4:6]:
        gemini.wait_for_deliveries(gemini.announce(batch))
    work.kill()
    serve.stop()
    deployment.run("reconcile", **second)

    for batch in batches:
        assert deployment.wait_for_commit(batch, seconds=120)["counts"]["succeeded"] == len(LINES), (
            beside.output
        )
        deployment.wait_until_tidy(batch)
    for batch in batches:
        verified = deployment.run("verify", batch, **first)
        assert verified.returncode == 0, verified.output
    assert beside.stop() == 0
