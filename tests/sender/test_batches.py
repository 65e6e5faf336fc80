"""`batch-receiver batches`: what there is, waited for, cancelled and deleted, without a result being lost."""

import re
import signal
from pathlib import Path

import pytest
from rich.text import Text

from tests.sender.conftest import Sender
from tests.support.deployment import result_line
from tests.workers.test_showing import terminal


def test_the_list_says_state_counts_and_what_is_in_the_bucket(sender: Sender, requests_file: Path) -> None:
    old = sender.gemini.put_batch(result_line("a"), display_name="old", created="2026-11-20T00:00:00Z")
    sender.run("process", old)
    sender.gemini.set(batch_seconds=600)
    sender.submit(requests_file)

    new, first = sender.run("batches", "list", "--json").json["batches"]
    assert (new["display_name"], new["state"], new["pending"]) == ("requests", "pending", 5)
    assert (new["committed"], first["committed"]) == (False, True)
    assert (first["batch"], first["requests"], first["succeeded"]) == (old, 1, 1)
    assert first["age_seconds"] > 86_400
    table = sender.run("batches", "list").out
    assert old in table
    assert "yes     old" in table

    limited = sender.run("batches", "list", "--limit", "1", "--json").json
    assert (len(limited["batches"]), limited["more"]) == (1, True)
    assert [
        each["batch"]
        for each in sender.run("batches", "list", "--state", "succeeded", "--json").json["batches"]
    ] == [old]


@pytest.mark.parametrize("columns", [50, 80, 140])
def test_the_list_fits_the_terminal_and_cuts_no_batch_id(sender: Sender, columns: int) -> None:
    batch = sender.gemini.put_batch(
        result_line("a"), display_name="[b]nightly[/b] " * 20, created="2026-11-20T00:00:00Z"
    )

    with terminal(["batches", "list"], sender.env, columns) as shown:
        lines = [Text.from_ansi(line).plain.rstrip() for line in shown.end().splitlines()]

    assert max(map(len, lines)) <= columns
    assert "".join(line.split(" ")[0] for line in lines[1:]) == batch
    assert ("[b]nightly" in "".join(lines)) == (columns == 140)
    assert bool(re.search(r"\d d", "".join(lines))) == (columns >= 80)


def test_get_says_where_a_batch_came_from(sender: Sender, requests_file: Path) -> None:
    batch = sender.submit(requests_file, "--json").json["batches"][0]["batch"]

    found = sender.run("batches", "get", f"batches/{batch}", "--json").json

    assert sender.folder.joinpath("_submitted", f"{found['submission']}.json").exists()
    assert found["input_file"] == f"files/{sender.record()['upload_file']}"
    said = sender.run("batches", "get", batch).out
    assert re.search(rf"^{batch}: \w+\n  name: requests\n  model: .*\n  created: \d+ (s|min) ago, 20", said)
    assert "  requests: 5: " in said
    assert "  bucket: it is not in the bucket\n" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "input file: files/sub-" in sender.run("batches", "get", batch).out
    assert "can't read the batch" in sender.run("batches", "get", "nobodys", code=1).err


def test_watch_ends_when_all_is_in_the_bucket(sender: Sender, requests_file: Path) -> None:
    batch = sender.submit(requests_file, "--json").json["batches"][0]["batch"]
    watching = sender.start("batches", "watch", batch)
    sender.ended(batch)
    sender.run("process", batch)

    assert watching.wait() == 0
    assert f"batches/{batch} is in the bucket: succeeded, 5 results" in watching.output


def test_watch_fails_where_a_batch_did(sender: Sender) -> None:
    batch = sender.gemini.put_batch(b"", state="FAILED", said_at="", error={"code": 3, "message": "no"})
    sender.run("process", batch)

    assert "is in the bucket: failed" in sender.run("batches", "watch", batch, code=1).err


def test_watching_can_be_ended(sender: Sender, requests_file: Path) -> None:
    batch = sender.submit(requests_file, "--json").json["batches"][0]["batch"]
    watching = sender.start("batches", "watch", batch)
    watching.wait_for_output("has ended")
    watching.signal(signal.SIGINT)

    assert watching.wait() == 130
    assert "Interrupted; the batches go on." in watching.output


def test_cancelling_asks_first_and_says_what_becomes_of_results(sender: Sender, requests_file: Path) -> None:
    sender.gemini.set(batch_seconds=600)
    batch = sender.submit(requests_file, "--json").json["batches"][0]["batch"]

    asked = sender.run("batches", "cancel", batch, given="n\n", code=1)
    assert "What has no answer yet gets none" in asked.err
    assert sender.batches()[0]["state"] == "BATCH_STATE_PENDING"

    sender.run("batches", "cancel", batch, given="y\n")
    assert sender.batches()[0]["state"] == "BATCH_STATE_CANCELLED"
    assert "has ended already" in sender.run("batches", "cancel", batch, "--yes", code=1).err


def test_what_is_not_in_the_bucket_is_not_deleted(sender: Sender, requests_file: Path) -> None:
    sender.gemini.set(batch_seconds=600)
    running = sender.submit(requests_file, "--json").json["batches"][0]["batch"]
    ended = sender.gemini.put_batch(result_line("a"))

    assert "cancel it first" in sender.run("batches", "delete", running, "--yes", code=1).err
    assert "not in the bucket yet" in sender.run("batches", "delete", ended, "--yes", code=1).err
    assert len(sender.batches()) == 2

    sender.run("process", ended)
    assert sender.run("batches", "delete", ended, given="n\n", code=1).out == ""
    assert "its results stay in the bucket" in sender.run("batches", "delete", ended, "--yes").out
    assert [each["name"] for each in sender.batches()] == [f"batches/{running}"]


def test_a_batch_without_results_can_be_deleted(sender: Sender) -> None:
    batch = sender.gemini.put_batch(b"", state="EXPIRED", said_at="")

    assert "it has no results" in sender.run("batches", "delete", batch, "--yes").out
    assert sender.batches() == []


@pytest.mark.parametrize(
    "command",
    [
        ["batches", "list"],
        ["batches", "get", "abc123"],
        ["batches", "watch", "abc123"],
        ["batches", "cancel", "abc123"],
        ["batches", "delete", "abc123"],
        ["submit", "--model", "gemini-3.5-flash"],
    ],
    ids=" ".join,
)
def test_a_key_that_is_refused_is_wrong_usage_for_every_command(
    sender: Sender, requests_file: Path, command: list[str]
) -> None:
    files = [requests_file] if command[0] == "submit" else []

    ended = sender.run(*command, *files, code=2, GEMINI_API_KEY="another")

    assert ended.err.startswith("Error: ")
    assert len(ended.err.splitlines()) == 1
