"""The whole product as processes: a local Gemini, Redis, the receiver, workers, and a bucket in a folder."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.gemini import Gemini
from tests.support.processes import Process
from tests.support.waiting import PATIENCE_SECONDS, wait_until

TIMES = re.compile(rb'"(committed_at|trigger|revision)": [^,\n]+')


def result_line(key: object, text: str = "An answer.", **response: Any) -> bytes:
    """A line of a result file, as Gemini writes it for a text answer."""
    answer = {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 11, "totalTokenCount": 19},
        "modelVersion": "gemini-2.5-flash",
        **response,
    }
    return json.dumps({"key": key, "response": answer}).encode() + b"\n"


def contents(folder: Path, *, but_times: bool = True) -> dict[str, bytes]:
    """Every file below a folder; the fields that differ from run to run are left out of `batch.json`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found[str(path.relative_to(folder))] = (
                TIMES.sub(b"", data) if but_times and path.name == "batch.json" else data
            )
    return found


class Deployment:
    """`env` is what workers and commands run with; the receiver gets its secret and Redis only."""

    def __init__(
        self,
        start: Callable[..., Process],
        gemini: Gemini,
        redis_url: str,
        folder: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._start = start
        self.gemini = gemini
        self.folder = folder
        self.env = {
            **gemini.env,
            "REDIS_URL": redis_url,
            "STORAGE_URL": folder.as_uri(),
            **(settings or {}),
        }
        self.secret = ""
        self.url = ""

    def serve(self, **settings: str) -> Process:
        """Start the receiver and subscribe it at the local Gemini."""
        process = self._start(
            "serve",
            "--port",
            "0",
            env={
                "REDIS_URL": self.env["REDIS_URL"],
                "WEBHOOK_SIGNING_SECRET": self.secret or "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
                **settings,
            },
        )
        self.url = process.wait_for_output(r"listening on (http://\S+)")[1]
        return process

    def subscribe(self, **settings: str) -> Process:
        """A receiver whose secret is the one that the local Gemini signs with."""
        first = self.serve(**settings)
        webhook = self.gemini.create_webhook(self.url)
        self.secret = webhook["new_signing_secret"]
        port = re.search(r":(\d+)/", self.url)
        assert port
        first.stop()
        process = self._start(
            "serve",
            "--port",
            port[1],
            env={"REDIS_URL": self.env["REDIS_URL"], **settings, "WEBHOOK_SIGNING_SECRET": self.secret},
        )
        process.wait_for_output(r"listening on (http://\S+)")
        return process

    def work(self, *options: str, **settings: str) -> Process:
        process = self._start("work", *options, env={**self.env, **settings})
        process.wait_for_output("event=started")
        return process

    def run(self, *args: str, **settings: str) -> Process:
        """A command that has ended; look at its `output` and `returncode`."""
        process = self._start(*args, env={**self.env, **settings})
        process.wait()
        return process

    def batch_folder(self, batch: str) -> Path:
        return self.folder / batch

    def wait_for_commit(self, batch: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """`batch.json`, once it is there."""
        path = self.batch_folder(batch) / "batch.json"
        wait_until(path.exists, seconds=seconds, what=f"the commit of {batch}")
        summary: dict[str, Any] = json.loads(path.read_bytes())
        return summary

    def wait_until_tidy(self, batch: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Until `_work/` of a batch is gone."""
        wait_until(lambda: not (self.folder / "_work" / batch).exists(), seconds=seconds, what="tidying up")

    def manifest(self, batch: str) -> list[dict[str, Any]]:
        text = (self.batch_folder(batch) / "manifest.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def output(self, batch: str, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.batch_folder(batch) / "outputs" / f"{name}.json").read_bytes()
        )
        return document


def tell_the_whole_story(
    deployment: Deployment, *, receiver_url: str | None = None
) -> tuple[Process, Process]:
    """A delivery, a retry after one 503, and a reconcile, all by the processes that a user runs; those that ran.

    `receiver_url`: where the receiver finds Redis, if not where the workers do.
    """
    gemini = deployment.gemini
    serve = deployment.subscribe(REDIS_URL=receiver_url or deployment.env["REDIS_URL"])
    told, untold = gemini.put_batch(result_line("a")), gemini.put_batch(result_line("b"))
    gemini.fault("status", f"GET /v1beta/batches/{told}", value=503)
    gemini.wait_for_deliveries(gemini.announce(told))

    work = deployment.work("--workers", "2", RECONCILE_INTERVAL_SECONDS="1")

    assert deployment.wait_for_commit(told)["trigger"] == "webhook", work.output
    assert deployment.wait_for_commit(untold)["trigger"] == "reconcile", work.output
    assert gemini.requests(f"batches/{told}")[0]["status"] == 503
    for command in (
        ["status", "--json"],
        ["status", "--health"],
        ["reconcile"],
        ["replay", told],
        ["forget", told],
    ):
        ended = deployment.run(*command)
        assert ended.returncode == 0 or command[0] == "forget", ended.output
        assert "Traceback" not in ended.output
    assert serve.stop() == 0
    assert work.stop() == 0
    assert "Traceback" not in serve.output + work.output
    return serve, work


@pytest.fixture
def deployment(
    start_process: Callable[..., Process], gemini: Gemini, redis_url: str, tmp_path: Path
) -> Deployment:
    """Nothing of it runs yet but Gemini and Redis."""
    return Deployment(start_process, gemini, redis_url, tmp_path / "bucket")
