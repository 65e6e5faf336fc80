"""`batch-receiver verify`: what it prints and writes, how it ends, and requests submitted again until all are good."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from google import genai

from receiver.cli import main
from tests.support.deployment import Deployment, result_line
from tests.support.story import finish
from tests.support.waiting import wait_until
from workers import parts
from workers.bucket.opening import open_bucket
from workers.contract import Trigger
from workers.fanout import fan_out
from workers.gemini.batches import State
from workers.plan import Plan, write_plan
from workers.sources import InlineSource

BATCH = "abc"
REFUSED = b'{"code":400,"message":"no"}'
ANSWERS = [
    result_line("good"),
    b'{"key": "failed", "error": %b}' % REFUSED,
    b'{"key": "invalid"}',
    result_line("twice"),
    result_line("more"),
    result_line("more"),
    result_line("unasked"),
]


def request_line(key: Any, text: str = "Hello?") -> bytes:
    request = {"contents": [{"parts": [{"text": text}], "role": "user"}]}
    return json.dumps({"key": key, "request": request}).encode() + b"\n"


def inline_line(key: str) -> bytes:
    return b'{"request": {"contents": []},  "metadata": {"key": %b}}\r\n' % json.dumps(key).encode()


def store(folder: Path, answers: list[bytes]) -> None:
    bucket = open_bucket(folder.as_uri(), {})
    write_plan(
        bucket, Plan(BATCH, State.SUCCEEDED, None, None, None, None, None, None, Trigger.PROCESS, None)
    )
    for part, _ in parts.split(bucket, BATCH, InlineSource([msgspec.Raw(line) for line in answers]), 1 << 20):
        fan_out(bucket, BATCH, part, frozenset({"objects"}))
    assert finish(bucket, BATCH)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bucket with an intact batch in it."""
    folder = tmp_path / "bucket"
    store(folder, ANSWERS)
    return folder


def run(folder: Path, *args: str | Path) -> Result:
    return CliRunner().invoke(
        main, ["verify", BATCH, *map(str, args)], env={"STORAGE_URL": folder.as_uri()}, catch_exceptions=False
    )


def requests_file(folder: Path, *lines: bytes) -> Path:
    path = folder.parent / "requests.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_an_intact_bucket_is_told_in_one_line_and_exits_0(folder: Path) -> None:
    result = run(folder)

    assert result.exit_code == 0
    assert result.stdout == (
        "abc is intact: succeeded, 7 results (5 succeeded, 1 failed, 1 invalid), 10 objects.\n"
    )


def test_damage_is_listed_by_kind_and_exits_1(folder: Path) -> None:
    (folder / BATCH / "outputs/good.json").unlink()
    for number in range(25):
        (folder / BATCH / f"stray-{number:02d}").touch()
    (folder / BATCH / "a\x1b[31m").touch()

    result = run(folder)

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("abc is not intact: succeeded, 7 results")
    assert lines[1:5] == [
        "Objects that should be there: 1",
        "  outputs/good.json",
        "Objects that should not be there: 26",
        r'  "a\u001b[31m"',
    ]
    assert lines[-2:] == ["  stray-18", "  … and 6 more"]


def test_json_is_one_document_with_the_counts_and_first_of_all_problems(folder: Path) -> None:
    (folder / BATCH / "outputs/good.json").unlink()
    requests = requests_file(folder, request_line("good"), request_line("never"))

    result = run(folder, "--input", requests, "--json")

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["problems"]["missing"] == {
        "count": 1,
        "first": [{"subject": "outputs/good.json", "reason": ""}],
    }
    assert document["problems"]["unanswered"] == {
        "count": 1,
        "first": [{"subject": "never", "reason": "line 2"}],
    }
    assert document["problems"]["surplus"]["count"] == 5
    assert (document["good"], document["intact"]) == (False, False)
    assert document["requests"] == {"requests": 2, "answered": 1}
    assert document["counts"] == {"total": 7, "succeeded": 5, "failed": 1, "invalid": 1}


def test_progress_is_told_to_programs_line_by_line_beside_the_document(folder: Path) -> None:
    done = run(folder, "--json", "--progress")
    told = [json.loads(line) for line in done.stderr.splitlines()]

    assert json.loads(done.stdout)["good"] is True
    assert told
    assert all(each.keys() == {"stage", "done", "total"} for each in told)


def test_requests_are_held_against_the_answers_by_key_and_count(folder: Path) -> None:
    requests = requests_file(
        folder,
        request_line("good"),
        request_line("failed"),
        b"\n",
        inline_line("invalid"),
        request_line("twice"),
        request_line("twice"),
        request_line("more"),
        request_line(""),
        b'{"request": {}}\n',
        b'{"key": "cut", "request": {\n',
        b'{"key": "no request"}\n',
        request_line(17),
    )

    result = run(folder, "--input", requests)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        "3 of 11 requests have a good answer.",
        "Requests without an answer: 2",
        "  17: line 12",
        "  twice: line 6",
        "Requests that failed: 1",
        "  failed: line 2",
        "Requests whose answer is invalid: 1",
        "  invalid: line 4",
        "Keys answered more often than asked (how many times): 2",
        "  more: asked 1, answered 2",
        "  unasked: asked 0, answered 1",
        "Requests without a key, which nothing can be matched with: 2",
        "  line 8: has no key to know its answer by",
        "  line 9: has no key to know its answer by",
        "Lines that are no request: 2",
        "  line 10: is no request",
        "  line 11: is no request",
    ]


def openai_request(key: str) -> bytes:
    body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello?"}]}
    row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row).encode() + b"\n"


def openai_answer(key: str, status_code: int = 200) -> bytes:
    body = {"choices": [{"message": {"content": "Hello!"}, "finish_reason": "stop"}]}
    response = {"status_code": status_code, "body": body}
    return json.dumps({"custom_id": key, "response": response, "error": None}).encode()


def test_requests_of_the_openai_layer_are_matched_and_submitted_again_alike(tmp_path: Path) -> None:
    folder = tmp_path / "bucket"
    store(folder, [openai_answer("good"), openai_answer("failed", 500)])
    requests = requests_file(
        folder, openai_request("good"), openai_request("failed"), openai_request("never")
    )
    again = tmp_path / "again.jsonl"

    result = run(folder, "--input", requests, "--resubmit", again)

    assert result.stdout.splitlines()[1:6] == [
        "1 of 3 requests have a good answer.",
        "Requests without an answer: 1",
        "  never: line 3",
        "Requests that failed: 1",
        "  failed: line 2",
    ]
    assert again.read_bytes() == openai_request("failed") + openai_request("never")


def test_a_byte_order_mark_before_the_requests_is_none_of_them(folder: Path) -> None:
    requests = requests_file(folder, b"\xef\xbb\xbf", request_line("good"), request_line("never"))
    again = folder.parent / "again.jsonl"

    result = run(folder, "--input", requests, "--resubmit", again)

    assert "1 of 2 requests have a good answer." in result.stdout
    assert again.read_bytes() == request_line("never")


@pytest.mark.parametrize(
    "line", [b'{"custom_id":"k","body":null}', b'{"custom_id":"k","body":"x"}', b'{"custom_id":"k"}']
)
def test_a_row_without_a_body_is_no_request(folder: Path, line: bytes) -> None:
    assert "  line 1: is no request" in run(folder, "--input", requests_file(folder, line)).stdout


def test_requests_that_all_have_good_answers_exit_0_though_more_was_answered(folder: Path) -> None:
    requests = requests_file(folder, request_line("good"), inline_line("twice"))

    result = run(folder, "--input", requests)

    assert result.exit_code == 0
    assert "2 of 2 requests have a good answer." in result.stdout


def test_what_has_no_good_answer_is_written_byte_for_byte(folder: Path) -> None:
    wanted = [
        request_line("failed"),
        inline_line("invalid"),
        request_line("twice", "again"),
        request_line("z"),
    ]
    wanted[3] = wanted[3].removesuffix(b"\n")
    unusable = b'{"request": {}}\n'
    requests = requests_file(
        folder, wanted[0], unusable, request_line("good"), wanted[1], request_line("twice"), *wanted[2:]
    )
    out = folder.parent / "again.jsonl"
    out.write_bytes(b"of an earlier run")

    result = run(folder, "--input", requests, "--resubmit", out)

    assert result.exit_code == 1
    assert out.read_bytes() == b"".join(wanted) + b"\n"
    assert result.stdout.splitlines()[-2:] == [
        f"4 requests written to {out}, to be submitted again.",
        "Not among them are lines without a key or that are no request: 1",
    ]
    assert {path.name for path in folder.parent.iterdir()} == {"again.jsonl", "bucket", "requests.jsonl"}


@pytest.mark.parametrize("link", [False, True], ids=["by name", "by another name"])
def test_the_input_is_never_overwritten(folder: Path, *, link: bool) -> None:
    requests = requests_file(folder, request_line("never"))
    out = requests
    if link:
        out = folder.parent / "link.jsonl"
        out.symlink_to(requests)

    result = run(folder, "--input", requests, "--resubmit", out)

    assert result.exit_code == 2
    assert "would overwrite" in result.stderr
    assert requests.read_bytes() == request_line("never")


def test_resubmit_without_input_is_wrong_usage(folder: Path) -> None:
    result = run(folder, "--resubmit", folder.parent / "again.jsonl")

    assert result.exit_code == 2
    assert "--resubmit needs --input" in result.stderr


@pytest.mark.parametrize("lost", [["batch.json"], ["raw/part-00000.jsonl", "manifest.jsonl"]])
def test_nothing_is_submitted_again_while_the_answers_are_unknown(folder: Path, lost: list[str]) -> None:
    for name in lost:
        (folder / BATCH / name).unlink()
    requests = requests_file(folder, request_line("good"))
    out = folder.parent / "again.jsonl"

    result = run(folder, "--input", requests, "--resubmit", out)

    assert result.exit_code == 1
    assert "The requests were not looked at" in result.stdout
    assert not out.exists()


def test_a_lost_raw_part_leaves_the_manifest_to_tell_what_was_answered(folder: Path) -> None:
    (folder / BATCH / "raw/part-00000.jsonl").unlink()
    requests = requests_file(folder, request_line("good"), request_line("failed"))
    out = folder.parent / "again.jsonl"

    result = run(folder, "--input", requests, "--resubmit", out)

    assert result.exit_code == 1
    assert out.read_bytes() == request_line("failed")


@pytest.mark.parametrize(("batch", "url"), [("../x", "file:///tmp"), (BATCH, ""), (BATCH, "ftp://x")])
def test_wrong_usage_is_one_sentence_and_exits_2(batch: str, url: str) -> None:
    result = CliRunner().invoke(main, ["verify", batch], env={"STORAGE_URL": url})

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_help_has_an_example_and_the_exit_codes() -> None:
    text = CliRunner().invoke(main, ["verify", "--help"]).stdout

    assert "Example: batch-receiver verify" in text
    assert "Exits 0 when" in text


def test_requests_submitted_again_are_all_answered_in_the_end(deployment: Deployment) -> None:
    deployment.folder.mkdir()
    keys = [f"request-{number}" for number in range(40)]
    requests = requests_file(deployment.folder, *(request_line(key, f"Say {key}") for key in keys))
    answers = [result_line(key) for key in keys[:30]]
    answers[::7] = [b'{"key": "%b", "error": %b}\n' % (key.encode(), REFUSED) for key in keys[:30:7]]
    batch = deployment.gemini.put_batch(b"".join(reversed(answers)))
    deployment.run("process", batch)
    again = deployment.folder.parent / "again.jsonl"

    told = deployment.run("verify", batch, "--input", str(requests), "--resubmit", str(again))

    assert told.returncode == 1
    assert "15 requests written to" in told.output
    second = submit(deployment, again)
    deployment.run("process", second)
    assert deployment.run("verify", second, "--input", str(again)).returncode == 0
    good = {
        line["key"]
        for each in (batch, second)
        for line in deployment.manifest(each)
        if line["status"] == "succeeded"
    }
    assert good == set(keys)


def submit(deployment: Deployment, requests: Path) -> str:
    """A batch of these requests that has ended; its id."""
    gemini = deployment.gemini
    with genai.Client(api_key=gemini.api_key, http_options={"base_url": gemini.url}) as client:
        file = client.files.upload(file=requests, config={"mime_type": "jsonl"})
        batch = client.batches.create(model="gemini-2.5-flash", src=str(file.name))
        name = str(batch.name)
        wait_until(lambda: client.batches.get(name=name).done, what=f"the end of {name}")
    found = re.fullmatch(r"batches/(\S+)", name)
    assert found
    return found[1]
