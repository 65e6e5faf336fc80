"""`batch-receiver demo` as its user runs it, and what it says where something is missing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from emulator.demo.jobs import EXAMPLES
from emulator.demo.results import look
from tests.support.processes import ROOT, Process

_USERS_OWN_SETTINGS = {
    "GEMINI_API_KEY": "the-users-real-key",
    "GOOGLE_API_KEY": "the-users-other-key",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STORAGE_URL": "s3://the-users-bucket",
    "WEBHOOK_SIGNING_SECRET": "whsec_wrong",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


@dataclass(frozen=True)
class _Ended:
    """A demo that is over; `home` is the working folder it was started in."""

    home: Path
    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> Path:
        return self.home / "demo-output"

    @property
    def leftovers(self) -> list[str]:
        return sorted(path.name for path in (self.home / "tmp").iterdir())


def _run(home: Path, *options: str, **settings: str) -> _Ended:
    (home / "tmp").mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(home / "tmp"), **settings}
    done = subprocess.run(
        [sys.executable, "-m", "receiver.cli", "demo", *options],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return _Ended(home, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> _Ended:
    """A demo among settings that are none of its business."""
    home = tmp_path_factory.mktemp("demo")
    lines = [f"{name}={value}\n" for name, value in _USERS_OWN_SETTINGS.items()]
    (home / ".env").write_text("".join(lines))
    return _run(home, **_USERS_OWN_SETTINGS)


def _batches(shown: _Ended) -> dict[str, Path]:
    summaries = shown.output.glob("*/batch.json")
    return {str(json.loads(path.read_bytes())["display_name"]): path.parent for path in summaries}


def _document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_it_succeeds_whatever_the_user_has_set(shown: _Ended) -> None:
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.leftovers == []
    assert not (shown.output / "_work").exists()


def test_every_key_of_every_batch_has_its_output(shown: _Ended) -> None:
    batches = _batches(shown)
    assert {
        name: sorted(path.stem for path in folder.glob("outputs/*")) for name, folder in batches.items()
    } == {example.display_name: sorted(example.requests) for example in EXAMPLES}


def test_the_kinds_of_result_are_what_they_should_be(shown: _Ended) -> None:
    batches = _batches(shown)
    texts = batches["file-upload-job-1"]
    assert "photosynthesis" in _document(texts / "outputs/request-1.json")["text"]
    assert _document(texts / "outputs/request-3.json")["error"]["code"] == 400
    recipes = json.loads(_document(batches["structured-output-job-1"] / "outputs/cookies.json")["text"])
    assert recipes[0].keys() == {"recipe_name", "ingredients"}
    image = batches["inlined-image-requests-job-1"] / "media/letter-a/0.png"
    assert image.read_bytes().startswith(b"\x89PNG")
    embedding = _document(batches["Input embeddings batch"] / "outputs/request_1.json")
    assert len(embedding["response"]["embedding"]["values"]) == 512


def test_the_batch_that_submit_made_is_a_table_in_the_order_of_its_requests(shown: _Ended) -> None:
    with (shown.output / "file-upload-job-1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert [row["key"] for row in rows] == ["request-1", "request-2", "request-3"]
    assert [row["status"] for row in rows] == ["succeeded", "succeeded", "failed"]
    assert rows[0]["prompt"] == "Describe the process of photosynthesis."


def test_the_tour_names_only_paths_that_exist(shown: _Ended) -> None:
    paths = [line.strip() for line in shown.stdout.splitlines() if line.startswith("demo-output/")]
    assert len(paths) == len(EXAMPLES) + 6
    assert all((shown.home / path).exists() for path in paths)
    assert "400 INVALID_ARGUMENT: The prompt asked for an error." in shown.stdout
    assert "Use it for real" in shown.stdout.splitlines()[-1]


def test_plain_output_has_no_control_codes_and_fits_80_columns_until_the_results(shown: _Ended) -> None:
    assert "\x1b" not in shown.stdout
    story = shown.stdout.partition("\nA text\n")[0]
    assert max(map(len, story.splitlines())) <= 80


def test_it_replaces_an_earlier_demos_results_and_prints_one_json_document(tmp_path: Path) -> None:
    folder = tmp_path / "of mine" / "üñ[x]%20"
    folder.mkdir(parents=True)
    (folder / ".batch-receiver-demo").touch()
    (folder / "old.json").touch()
    (folder / "old").mkdir()
    (folder / "old" / "batch.json").touch()
    done = _run(tmp_path, "--folder", str(folder), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["missing"]) == (0, [])
    assert [batch["name"] for batch in found["batches"]] == [example.display_name for example in EXAMPLES]
    assert all(Path(path).is_file() for batch in found["batches"] for path in batch["outputs"])
    assert not list(folder.glob("old*"))


def test_a_folder_that_is_not_a_demos_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "thesis.tex").touch()
    done = _run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: demo-output holds something else than an earlier demo's results: choose another --folder.\n"
    )
    assert [path.name for path in done.output.iterdir()] == ["thesis.tex"]
    assert done.leftovers == []


def test_a_folder_that_cannot_be_made_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _run(tmp_path, "--folder", "file/demo-output")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: file/demo-output can't be used for the results: Not a directory.\n"


def test_a_missing_sdk_is_named_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").touch()
    done = _run(tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 1
    assert done.stderr == "Error: The official SDK is missing: pip install 'batch-receiver[demo]'.\n"


def test_a_redis_that_does_not_start_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = tmp_path / "bin" / "redis-server"
    server.parent.mkdir()
    server.write_text("#!/bin/sh\necho no luck\nexit 3\n")
    server.chmod(0o755)
    done = _run(tmp_path, PATH=f"{server.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    (logs,) = (tmp_path / "tmp").glob("batch-receiver-demo-*")
    assert done.stderr == (
        f"Error: The Redis server ended before it was ready.\n  no luck\nThe logs are in {logs}.\n"
    )
    assert (logs / "Redis-server.log").read_text() == "no luck\n"


@contextmanager
def _half_way(home: Path) -> Iterator[tuple[Process, list[psutil.Process]]]:
    """A demo that has everything running, and all its descendants."""
    (home / "tmp").mkdir()
    settings: Mapping[str, str] = {"TMPDIR": str(home / "tmp")}
    demo = Process(["demo", "--folder", str(home / "demo-output")], settings, home / "demo.log")
    try:
        demo.wait_for_output("Submitted")
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 6, "Redis, the local Gemini, the receiver, the pool and its two workers"
        yield demo, children
    finally:
        if demo.returncode is None:
            demo.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_demo_leaves_no_process_and_no_file_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _half_way(tmp_path) as (demo, children):
        demo.signal(number)
        assert demo.wait() == 130
        assert not any(child.is_running() for child in children)
        assert demo.output.endswith("Interrupted: all that the demo had started is stopped.\n")
        assert "Traceback" not in demo.output
        assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_even_a_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    with _half_way(tmp_path) as (demo, children):
        demo.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive


def test_a_piece_that_dies_on_the_way_is_named_at_once(tmp_path: Path) -> None:
    with _half_way(tmp_path) as (demo, children):
        next(child for child in children if "serve" in child.cmdline()).kill()
        assert demo.wait() == 1
        assert "Error: The receiver ended unexpectedly.\n" in demo.output
        assert not any(child.is_running() for child in children)


def test_each_missing_or_wrong_object_is_one_sentence(shown: _Ended, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    shutil.copytree(shown.output, bucket)
    batches = _batches(shown)
    text, inline, structured, embeddings, images = (
        bucket / batches[example.display_name].name for example in EXAMPLES
    )
    (text / "outputs" / "request-1.json").unlink()
    failed = _document(text / "outputs" / "request-3.json")
    (text / "outputs" / "request-3.json").write_text(json.dumps({**failed, "error": None}))
    (inline / "batch.json").unlink()
    (structured / "manifest.jsonl").unlink()
    (embeddings / "outputs" / "request_1.json").write_text("{")
    (images / "media" / "letter-b" / "0.png").write_bytes(b"GIF89a")

    folders = (text, inline, structured, embeddings, images)
    landed = [look(bucket, example, folder.name) for example, folder in zip(EXAMPLES, folders, strict=True)]
    assert [sentence for each in landed for sentence in each.missing] == [
        "file-upload-job-1: outputs/request-1.json is missing or unreadable.",
        "file-upload-job-1: outputs/request-3.json does not say what went wrong.",
        "inlined-requests-job-1 was not committed: it has no readable batch.json.",
        "structured-output-job-1: its number of manifest lines is 0, not 2.",
        "Input embeddings batch: outputs/request_1.json is missing or unreadable.",
        "inlined-image-requests-job-1: outputs/letter-b.json does not lead to an image.",
    ]
