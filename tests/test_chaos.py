"""A short run of `python -m tests.chaos`, and the promise that its seed decides everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.report import differences
from tests.chaos.schedule import Fault, Strike, plan
from tests.support.processes import ROOT


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert plan(7, 200, 200.0) == plan(7, 200, 200.0)
    assert plan(7, 200, 200.0) != plan(8, 200, 200.0)


def test_every_fault_is_in_a_schedule_however_short_it_is() -> None:
    events = plan(1, 1, 0.1).events

    assert {event.fault for event in events if isinstance(event, Strike)} == set(Fault)


def test_a_bucket_differs_by_what_is_missing_stray_or_changed_and_not_by_times(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, second, day in ((ours, 1, "2026-01-01"), (theirs, 2, "2026-01-02")):
        (folder / "b").mkdir(parents=True)
        (folder / "_index" / day).mkdir(parents=True)
        summary = f'{{\n  "committed_at": "{second}",\n  "revision": {second},\n  "batch": "b"\n}}\n'
        (folder / "b/batch.json").write_text(summary)
        (folder / "_index" / day / "b.json").write_text(summary)
    assert differences(ours, theirs) == []

    (ours / "b/stray").touch()
    (theirs / "b/missing").touch()
    (ours / "b/changed").write_text("1")
    (theirs / "b/changed").write_text("2")

    assert differences(ours, theirs) == [
        "differs: b/changed",
        "missing: b/missing",
        "not in a calm run: b/stray",
    ]


@pytest.mark.timeout(400)
@pytest.mark.slow
@pytest.mark.parametrize("storage", ["folder", pytest.param("s3", marks=pytest.mark.exhaustive)])
def test_a_short_run_leaves_the_bucket_of_a_calm_one(storage: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--seed", "1", "--batches", "14", "--seconds", "14", "--brief", "--json", str(report)]
    options += ["--storage", storage]

    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(report.read_text())
    assert found["wrong"] == []
    assert sum(counts["struck"] for counts in found["faults"].values()) >= 10
