"""What the sender's tests share: a local Gemini, a bucket in a folder, request files, and the real command."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket

MODEL = "gemini-3.5-flash"


def request_line(key: str, text: str = "Why is the sky blue?", **more: Any) -> dict[str, Any]:
    return {"key": key, "request": {"contents": [{"parts": [{"text": text}], "role": "user"}], **more}}


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Sender:
    """Commands that are run where the bucket is `folder` and Gemini a local one."""

    def __init__(self, gemini: Gemini, folder: Path, start: Callable[..., Process]) -> None:
        self.gemini = gemini
        self.folder = folder
        self.env = {**gemini.env, "STORAGE_URL": folder.as_uri()}
        self._start = start

    def run(self, *arguments: str | Path, code: int = 0, given: str = "", **env: str) -> Ended:
        """Run a command to its end, which must be with this exit code."""
        ended = subprocess.run(
            [sys.executable, "-m", "receiver.cli", *map(str, arguments)],
            env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **self.env, **env},
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def submit(self, *arguments: str | Path, code: int = 0, **env: str) -> Ended:
        return self.run("submit", "--model", MODEL, *arguments, code=code, **env)

    def start(self, *arguments: str | Path, **env: str) -> Process:
        return self._start(*map(str, arguments), env={**self.env, **env})

    @property
    def bucket(self) -> Bucket:
        return open_bucket(self.folder.as_uri(), {})

    def records(self) -> list[dict[str, Any]]:
        found = (self.folder / "_submitted").glob("*.json")
        return [json.loads(path.read_bytes()) for path in sorted(found)]

    def record(self) -> dict[str, Any]:
        (record,) = self.records()
        return record

    def batches(self) -> list[dict[str, Any]]:
        """What Gemini lists, newest first."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"nextPageToken": ""}
        while "nextPageToken" in page:
            asked = {"pageSize": 1000, "pageToken": page["nextPageToken"]}
            page = self.gemini.http.get("/v1beta/batches", params=asked).raise_for_status().json()
            found += page.get("operations", [])
        return [each["metadata"] for each in found]

    def ended(self, batch: str) -> dict[str, Any]:
        """The operation of a batch, once it has ended."""

        def look() -> dict[str, Any]:
            found: dict[str, Any] = self.gemini.http.get(f"/v1beta/batches/{batch}").raise_for_status().json()
            return found if found.get("done") else {}

        return wait_until(look, what=f"the end of {batch}")

    def files(self) -> list[dict[str, Any]]:
        """Those that were uploaded."""
        answer = self.gemini.http.get("/v1beta/files", params={"pageSize": 100})
        found: list[dict[str, Any]] = answer.raise_for_status().json().get("files", [])
        return [each for each in found if each["source"] == "UPLOADED"]


@pytest.fixture
def sender(gemini: Gemini, tmp_path: Path, start_process: Callable[..., Process]) -> Sender:
    return Sender(gemini, tmp_path / "bucket", start_process)


@pytest.fixture
def requests_file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "requests.jsonl", (request_line(f"k{number}") for number in range(5)))
