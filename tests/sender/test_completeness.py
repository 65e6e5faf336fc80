"""From the keys that were submitted to what `batch.json` and `verify` say is missing."""

import json
from pathlib import Path

import pytest

from tests.sender.conftest import Sender, request_line, write_lines


@pytest.mark.parametrize("kept", [[], ["--keep-input"]], ids=["digests", "kept"])
def test_a_commit_says_what_is_missing_of_a_submission(
    kept: list[str], sender: Sender, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "r.jsonl", [request_line(key) for key in ("a", "b", "c", "d")])
    sender.submit(path, *kept)
    batch = sender.record()["batch"]
    sender.ended(batch)
    lines = [json.dumps({"key": key, "response": {"candidates": []}}).encode() for key in ("d", "x", "a")]
    sender.gemini.put_batch(b"\n".join(lines) + b"\n", batch_id=batch)

    sender.run("process", batch)

    summary = json.loads((sender.folder / batch / "batch.json").read_bytes())
    expected = {"total": 3, "succeeded": 3, "failed": 0, "invalid": 0, "missing": 2, "unasked": 1}
    assert summary["counts"] == expected
    names = (
        "requests have no result: b, c."
        if kept
        else "2 requests have no result; `verify --input` says which."
    )
    assert any(names in warning for warning in summary["warnings"])
    assert "1 results were not asked for: x." in summary["warnings"]

    verified = sender.run("verify", batch, "--json", code=1 if kept else 0).json
    assert verified["intact"]
    assert verified["requests"] == ({"requests": 4, "answered": 2} if kept else None)
    again = tmp_path / "again.jsonl"
    ended = sender.run("verify", batch, "--resubmit", again, code=1 if kept else 2)
    if kept:
        assert [json.loads(line)["key"] for line in again.read_bytes().splitlines()] == ["b", "c"]
    else:
        assert "--resubmit needs --input" in ended.err


def test_a_complete_batch_says_so_and_one_of_another_sender_nothing(
    sender: Sender, requests_file: Path
) -> None:
    batch = sender.submit(requests_file, "--json").json["batches"][0]["batch"]
    other = sender.gemini.put_batch(b'{"key": "a", "response": {}}\n')
    sender.ended(batch)

    for each in (batch, other):
        sender.run("process", each)

    counts = json.loads((sender.folder / batch / "batch.json").read_bytes())["counts"]
    assert (counts["total"], counts["missing"], counts["unasked"]) == (5, 0, 0)
    assert "missing" not in json.loads((sender.folder / other / "batch.json").read_bytes())["counts"]


def test_of_a_batch_that_failed_everything_is_missing(sender: Sender, requests_file: Path) -> None:
    batch = sender.submit(requests_file, "--keep-input", "--json").json["batches"][0]["batch"]
    sender.ended(batch)
    sender.gemini.put_batch(b"", batch_id=batch, state="EXPIRED", said_at="")

    sender.run("process", batch)

    summary = json.loads((sender.folder / batch / "batch.json").read_bytes())
    assert summary["counts"]["missing"] == 5
    assert "5 requests have no result: k0, k1, k2, k3, k4." in summary["warnings"]
