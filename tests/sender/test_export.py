"""`batch-receiver export` and `resubmit`: one table in the order of the requests, whatever was tried how often."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.sender.conftest import Sender, request_line, write_lines
from tests.support.deployment import result_line
from tests.support.processes import ROOT

KEYS = ["one", "two", "three", "four", "five"]


def made(sender: Sender, path: Path, *options: str) -> str:
    """A batch of this file that has ended and is in the bucket."""
    batch = str(sender.submit(path, *options, "--json").json["batches"][0]["batch"])
    sender.ended(batch)
    sender.run("process", batch)
    return batch


def rows(sender: Sender, *arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sender.run("export", *arguments).out.splitlines()]


def answered(sender: Sender, path: Path, lines: list[bytes], *options: str) -> str:
    """A batch of this file whose results are exactly these."""
    batch = str(sender.submit(path, *options, "--json").json["batches"][0]["batch"])
    sender.ended(batch)
    sender.gemini.put_batch(b"".join(lines), batch_id=batch, model="models/gemini-3.5-flash")
    sender.run("process", batch)
    return batch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "requests.jsonl", (request_line(key, f"Say {key}.") for key in KEYS))


def failed(key: str) -> bytes:
    return json.dumps({"key": key, "error": {"code": 400, "message": "no"}}).encode() + b"\n"


def test_rows_are_in_the_order_of_the_requests_with_the_prompt_beside_the_answer(
    sender: Sender, path: Path
) -> None:
    batch = made(sender, path)

    found = rows(sender, batch, "--input", path)

    assert [row["key"] for row in found] == KEYS
    for row in found:
        assert row["prompt"] == f"Say {row['key']}."
        assert row["prompt"] in row["text"]
        assert (row["status"], row["finish_reason"], row["batch"]) == ("succeeded", "STOP", batch)


@pytest.mark.parametrize("kept", [[], ["--keep-input"]], ids=["digests", "kept"])
def test_without_the_file_what_submit_knows_gives_the_order(
    kept: list[str], sender: Sender, path: Path
) -> None:
    found = rows(sender, made(sender, path, *kept))

    assert [row["key"] for row in found] == KEYS
    assert [row["prompt"] for row in found] == ([f"Say {key}." for key in KEYS] if kept else [None] * 5)


def test_of_another_sender_rows_come_as_the_results_did(sender: Sender) -> None:
    batch = sender.gemini.put_batch(result_line("b") + result_line("a") + b'{"response": {}}\n')
    sender.run("process", batch)

    assert [row["key"] for row in rows(sender, batch)] == ["b", "a", None]


def test_results_are_matched_by_key_and_what_lacks_or_is_too_much_is_told(sender: Sender, path: Path) -> None:
    lines = [result_line("five", "5"), result_line("one", "1"), failed("three"), result_line("x", "?")]
    batch = answered(sender, path, lines, "--keep-input")

    found = rows(sender, batch)

    assert [(row["key"], row["status"], row["text"]) for row in found] == [
        ("one", "succeeded", "1"),
        ("two", "missing", None),
        ("three", "failed", None),
        ("four", "missing", None),
        ("five", "succeeded", "5"),
        ("x", "succeeded", "?"),
    ]
    assert found[2]["error"] == {"code": 400, "message": "no"}
    assert [row["key"] for row in rows(sender, batch, "--status", "failed", "--status", "missing")] == [
        *("two", "three", "four")
    ]


def test_a_key_that_stands_twice_has_two_rows(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [request_line(key) for key in ("a", "b", "a")])
    lines = [result_line("a", "first"), result_line("b"), result_line("a", "second")]
    batch = answered(sender, path, lines, "--no-check")

    assert [row["text"] for row in rows(sender, batch)] == ["first", "An answer.", "second"]


def test_what_has_no_good_result_is_submitted_again_and_the_table_is_one(sender: Sender, path: Path) -> None:
    lines = [result_line("five", "5"), result_line("one", "1"), failed("three")]
    first = answered(sender, path, lines, "--keep-input", "--display-name", "nightly")

    again = sender.run("resubmit", first, "--json").json
    assert (again["requests"], again["resubmission_of"]) == (3, first)
    second = again["batches"][0]["batch"]
    assert again["batches"][0]["display_name"] == "nightly-attempt2"
    records = {record["batch"]: record for record in sender.records()}
    assert records[first]["resubmitted_as"] == [second]
    assert (records[second]["resubmission_of"], records[second]["attempt"]) == (first, 2)

    assert "not in the bucket yet" in sender.run("export", first, code=1).err
    sender.ended(second)
    sender.gemini.put_batch(result_line("two", "2") + failed("three") + failed("four"), batch_id=second)
    sender.run("process", second)
    found = rows(sender, first)
    assert [row["text"] for row in found] == ["1", "2", None, None, "5"]
    assert [row["batch"] for row in found] == [first, second, second, second, first]
    assert [row["attempts"] for row in found] == [1, 1, 2, 1, 1]

    third = sender.run("resubmit", first, "--json").json
    assert third["requests"] == 2
    assert third["batches"][0]["display_name"] == "nightly-attempt3"
    third_batch = third["batches"][0]["batch"]
    sender.ended(third_batch)
    sender.gemini.put_batch(failed("three") + result_line("four", "4"), batch_id=third_batch)
    sender.run("process", third_batch)
    assert [row["text"] for row in rows(sender, first)] == ["1", "2", None, "4", "5"]

    ended = sender.run("resubmit", first)
    assert "Nothing of" in ended.out
    assert "1 requests were in as many batches as --attempts allows" in ended.err
    assert sender.run("resubmit", first, "--attempts", "4", "--json").json["requests"] == 1


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], ["two", "three"]),
        (["--failed"], ["three"]),
        (["--missing"], ["two"]),
        (["--finish-reason", "MAX_TOKENS"], ["four"]),
        (["--failed", "--finish-reason", "MAX_TOKENS"], ["three", "four"]),
    ],
    ids=" ".join,
)
def test_what_is_submitted_again_can_be_chosen(
    options: list[str], keys: list[str], sender: Sender, path: Path
) -> None:
    cut: dict[str, Any] = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}]}
    lines = [result_line("five"), result_line("one"), failed("three"), result_line("four", **cut)]
    first = answered(sender, path, lines)
    assert "are not known: give them with --input" in sender.run("resubmit", first, code=1).err

    second = sender.run("resubmit", first, "--input", path, *options, "--json").json["batches"][0]["batch"]

    sender.ended(second)
    sender.run("process", second)
    assert [row["key"] for row in rows(sender, second)] == keys


def test_the_same_resubmission_is_refused(sender: Sender, path: Path) -> None:
    first = answered(sender, path, [result_line("one")], "--keep-input")
    second = sender.run("resubmit", first, "--json").json["batches"][0]["batch"]
    assert "not in the bucket yet" in sender.run("resubmit", first, code=1).err
    assert len(sender.batches()) == 2
    assert second


def test_a_table_as_csv(sender: Sender, path: Path, tmp_path: Path) -> None:
    batch = answered(sender, path, [result_line("one", 'He said "1",\nthen left.'), failed("two")])
    target = tmp_path / "table.csv"

    ended = sender.run(
        *("export", batch, "--format", "csv", "--columns", "key,text,error,output_tokens"),
        *("--input", path, "-o", target),
    )

    assert f"5 rows of batches/{batch} are in {target}" in ended.err
    table = list(csv.reader(io.StringIO(target.read_bytes().decode(), newline="")))
    assert table == [
        ["key", "text", "error", "output_tokens"],
        ["one", 'He said "1",\nthen left.', "", "11"],
        ["two", "", '{"code":400,"message":"no"}', ""],
        *([key, "", "", ""] for key in ("three", "four", "five")),
    ]


def test_a_table_as_parquet_with_structured_answers_as_columns(
    sender: Sender, path: Path, tmp_path: Path
) -> None:
    lines = [
        result_line("two", '{"name": "Ann", "age": 4}'),
        result_line("one", '{"name": "Bo", "key": [1]}'),
    ]
    batch = answered(sender, path, lines)
    target = tmp_path / "table.parquet"

    sender.run(
        "export", batch, "--format", "parquet", "--json-columns", "--columns", "key,attempts", "-o", target
    )

    table = pq.read_table(target)
    assert table.column_names == ["key", "attempts", "name", "age", "text.key"]
    assert table.slice(0, 3).to_pylist() == [
        {"key": "one", "attempts": 1, "name": "Bo", "age": None, "text.key": "[1]"},
        {"key": "two", "attempts": 1, "name": "Ann", "age": "4", "text.key": None},
        {"key": None, "attempts": 0, "name": None, "age": None, "text.key": None},
    ]
    assert sender.run("export", batch, "--format", "parquet", code=2).err


def test_the_texts_alone(sender: Sender, path: Path) -> None:
    batch = answered(sender, path, [result_line("two", "2"), failed("one"), result_line("three", "3")])

    assert sender.run("export", batch, "--format", "text").out == "2\n3\n"


def test_pieces_of_a_split_file_are_one_table(sender: Sender, path: Path) -> None:
    made_of = sender.submit(path, "--split-requests", "2", "--json").json["batches"]
    for each in made_of:
        sender.ended(each["batch"])
        sender.run("process", each["batch"])

    names = [each["batch"] for each in made_of]
    assert [row["key"] for row in rows(sender, *names)] == KEYS
    assert [row["key"] for row in rows(sender, *reversed(names), "--input", path)] == KEYS


def test_what_is_no_column_is_wrong_usage(sender: Sender) -> None:
    assert "colour is no column" in sender.run("export", "abc", "--columns", "key,colour", code=2).err
    assert "not in the bucket yet" in sender.run("export", "abc", code=1).err


def test_who_reads_only_the_beginning_is_not_told_of_an_error(sender: Sender, path: Path) -> None:
    batch = made(sender, path)
    command = [sys.executable, "-m", "receiver.cli", "export", batch]
    with subprocess.Popen(
        command, env={"PYTHONPATH": str(ROOT), **sender.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_what_is_submitted_again_is_called_so_that_the_workers_take_it(sender: Sender, path: Path) -> None:
    first = answered(sender, path, [result_line("one")], "--keep-input")

    sender.run("resubmit", first, BATCH_DISPLAY_NAME="requests")

    assert sender.batches()[0]["displayName"] == "requests"
