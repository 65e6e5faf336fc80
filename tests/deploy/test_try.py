"""`deploy/try.yaml` in podman, as its head says: everything, and no account. `make test-deploy`."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.containers import Compose, choose, podman
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

COMPOSE = os.environ.get("BATCH_RECEIVER_COMPOSE", "")
CONSOLE = "http://127.0.0.1:8090/batches.json"

pytestmark = [
    pytest.mark.skipif(not COMPOSE, reason="containers are tried by `make test-deploy`"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def tried() -> Iterator[Compose]:
    choose("next")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "deploy", Path(folder) / "deploy")
        compose = Compose(Path(folder) / "deploy", COMPOSE, "batch-receiver-try", "--file", "try.yaml")
        try:
            compose.run("up", "--detach", "--no-build")
            yield compose
        finally:
            compose.remove()


def committed(at_least: int) -> list[dict[str, Any]]:
    """What the console shows, once so many batches are in the bucket."""

    def look() -> list[dict[str, Any]] | None:
        with httpx.Client(trust_env=False, timeout=20) as http:
            try:
                answer = http.get(CONSOLE, params={"state": "succeeded"}, auth=("admin", "try"))
            except httpx.TransportError:
                return None
        if answer.status_code != 200:
            return None
        found: list[dict[str, Any]] = answer.json()["batches"]
        return found if len(found) >= at_least else None

    found = wait_until(look, seconds=180, what=f"{at_least} committed batches")
    assert found
    return found


def test_the_demo_batch_comes_into_the_s3_bucket_by_a_webhook(tried: Compose) -> None:
    (batch,) = committed(1)

    assert batch["trigger"] == "webhook"
    assert (batch["counts"]["total"], batch["counts"]["failed"]) == (3, 1)
    (workers,) = tried.of("workers")
    assert "s3://results" in podman("logs", workers)
    assert podman("exec", workers, "batch-receiver", "verify", batch["batch"])


def test_nobody_sees_the_console_without_its_password(tried: Compose) -> None:
    assert tried.of("console")
    with httpx.Client(trust_env=False, timeout=20) as http:
        wait_until(lambda: http.get(CONSOLE).status_code == 401, what="the console")
        assert http.get(CONSOLE, auth=("admin", "wrong")).status_code == 401


def test_stopped_and_started_it_goes_on(tried: Compose) -> None:
    tried.run("stop", "--timeout", "2")
    tried.run("start")

    assert len(committed(2)) == 2
