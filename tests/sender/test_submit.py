"""`batch-receiver submit`: one batch of a file, whatever it is asked for and however often."""

import base64
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.sender.conftest import Sender, request_line, write_lines
from tests.support.waiting import wait_until
from workers.results.keys import digest


def test_a_file_becomes_one_batch_and_the_record_names_it(sender: Sender, requests_file: Path) -> None:
    ended = sender.submit(requests_file)

    (batch,) = sender.batches()
    record = sender.record()
    assert ended.out == f"requests.jsonl: 5 requests are {batch['name']}.\n"
    assert record["state"] == "created"
    assert f"batches/{record['batch']}" == batch["name"]
    assert (record["requests"], record["file"]) == (5, "requests.jsonl")
    assert batch["displayName"] == "requests"
    assert batch["model"] == "models/gemini-3.5-flash"
    assert batch["inputConfig"] == {"fileName": f"files/{record['upload_file']}"}
    assert record["holder"] is None
    assert record["upload"] is None


def test_what_arrives_is_what_was_read(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", (request_line(f"k{n}", "x" * 1000) for n in range(20_000)))

    sender.submit(path)

    (file,) = sender.files()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert file["sizeBytes"] == str(path.stat().st_size)
    assert base64.b64decode(file["sha256Hash"]).decode() == sha256 == sender.record()["sha256"]
    assert len(sender.gemini.requests("upload_id")) == 3


def test_the_digests_of_the_keys_stand_beside_the_record(sender: Sender, requests_file: Path) -> None:
    sender.submit(requests_file)

    (name,) = [path.stem for path in (sender.folder / "_submitted").glob("*.json")]
    stored = (sender.folder / "_submitted" / f"{name}.keys").read_bytes()
    assert stored == b"".join(digest(f"k{number}") for number in range(5))
    pointer = sender.folder / "_submitted/by-batch" / f"{sender.record()['batch']}.json"
    assert json.loads(pointer.read_bytes()) == {"submission": name, "has_requests": False}


def test_the_same_again_is_refused_naming_the_batch_unless_again(sender: Sender, requests_file: Path) -> None:
    sender.submit(requests_file)
    (batch,) = sender.batches()

    refused = sender.submit(requests_file, code=1)
    assert f"was submitted already, as {batch['name']}: --again" in refused.err
    assert len(sender.batches()) == 1

    sender.submit(requests_file, "--again")
    assert len(sender.batches()) == 2
    newest = sender.batches()[0]["name"]
    assert newest in sender.submit(requests_file, code=1).err


def test_other_content_another_model_or_other_options_are_another_batch(
    sender: Sender, requests_file: Path
) -> None:
    sender.submit(requests_file)
    sender.submit(requests_file, "--priority", "3")
    sender.run("submit", "--model", "gemini-2.5-flash", requests_file)
    write_lines(requests_file, [request_line("another")])
    sender.submit(requests_file)

    assert len(sender.batches()) == len(sender.records()) == 4


def test_options_reach_gemini(sender: Sender, requests_file: Path) -> None:
    sender.submit(requests_file, "--display-name", "nightly", "--priority", "-5")

    (batch,) = sender.batches()
    assert (batch["displayName"], batch["priority"]) == ("nightly", "-5")


def test_a_bad_file_is_not_submitted_unless_it_must_be(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [{**request_line("a"), "custom_id": "b"}])

    refused = sender.submit(path, code=1)
    assert 'line 1: error: "custom_id" is the OpenAI layer\'s name' in refused.err
    assert sender.batches() == []
    assert sender.gemini.requests("/upload/") == []

    sender.submit(path, "--no-check")
    assert len(sender.batches()) == 1


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        ("gemini-retired-1", [], "is not found for API version"),
        ("gemini-live-2.5-flash", [], "has no batches of this kind (batchGenerateContent): it can do"),
        ("gemini-embedding-2", [], "try --embeddings"),
        ("gemini-3.5-flash", ["--embeddings"], "leave out --embeddings"),
    ],
)
def test_a_model_that_can_not_do_it_is_refused_before_anything_is_uploaded(
    model: str, options: list[str], sentence: str, sender: Sender, requests_file: Path
) -> None:
    ended = sender.run("submit", "--model", model, requests_file, *options, code=1)

    assert sentence in ended.err
    assert sender.gemini.requests("/upload/") == []
    assert sender.records() == []


def test_inline_requests_need_no_file_and_keep_their_keys(sender: Sender, requests_file: Path) -> None:
    sender.submit(requests_file, "--inline")

    (batch,) = sender.batches()
    assert sender.files() == []
    assert batch["displayName"].startswith("requests-")
    answers = wait_until(
        lambda: (
            sender.gemini.http.get(f"/v1beta/{batch['name']}")
            .json()
            .get("response", {})
            .get("inlinedResponses", {})
        )
    )
    assert [each["metadata"]["key"] for each in answers["inlinedResponses"]] == [f"k{n}" for n in range(5)]


def test_a_split_file_becomes_several_batches_that_hold_each_line_once(
    sender: Sender, requests_file: Path
) -> None:
    ended = sender.submit(requests_file, "--split-requests", "2", "--json").json

    assert [each["requests"] for each in ended["batches"]] == [2, 2, 1]
    names = [each["display_name"] for each in ended["batches"]]
    assert names == ["requests-1", "requests-2", "requests-3"]
    assert len(sender.batches()) == 3
    sizes = sorted(int(each["sizeBytes"]) for each in sender.files())
    assert sum(sizes) == requests_file.stat().st_size

    refused = sender.submit(requests_file, "--split-requests", "2", code=1)
    assert all(f"batches/{each['batch']}" in refused.err for each in ended["batches"])


def test_pieces_are_no_larger_than_asked_for(sender: Sender, requests_file: Path) -> None:
    line = requests_file.read_bytes().index(b"\n") + 1

    ended = sender.submit(requests_file, "--split-bytes", str(2 * line), "--json").json

    assert [each["requests"] for each in ended["batches"]] == [2, 2, 1]


def test_a_key_that_repeats_in_another_piece_is_found(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [request_line("a"), request_line("b"), request_line("a")])

    ended = sender.submit(path, "--split-requests", "1", code=1)

    assert "line 3: error: the key stands in an earlier line already" in ended.err


def test_without_room_in_the_quota_it_waits_its_turn(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", times=2, text="quota")

    ended = sender.submit(requests_file)

    assert ended.err.count("waits for room in the quota") == 2
    assert len(sender.batches()) == 1


def test_patience_ends_and_the_same_command_goes_on(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", times=0, text="quota")

    ended = sender.submit(requests_file, "--patience", "1s", code=1)
    assert "still waits for room in the quota" in ended.err
    assert (sender.record()["state"], sender.record()["creating_at"]) == ("uploaded", None)
    sender.gemini.clear_faults()

    sender.submit(requests_file)
    assert len(sender.batches()) == len(sender.files()) == 1


def test_pieces_go_in_as_room_appears(sender: Sender, requests_file: Path) -> None:
    sender.gemini.set(batch_limit=2)

    sender.submit(requests_file, "--split-requests", "1")

    assert len(sender.batches()) == 5


def test_interrupted_it_leaves_a_record_from_which_the_same_command_goes_on(
    sender: Sender, requests_file: Path
) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", times=0, text="quota")
    process = sender.start("submit", "--model", "gemini-3.5-flash", requests_file)
    process.wait_for_output("waits for room")
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    assert "Interrupted; the same command goes on from here." in process.output
    assert sender.record()["holder"] is None
    sender.gemini.clear_faults()

    sender.submit(requests_file)
    assert len(sender.batches()) == len(sender.files()) == 1


def test_while_another_process_is_at_it_the_same_is_refused(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", times=0, text="quota")
    process = sender.start("submit", "--model", "gemini-3.5-flash", requests_file)
    process.wait_for_output("waits for room")

    assert "is being submitted by another process" in sender.submit(requests_file, code=1).err

    process.kill()
    sender.gemini.clear_faults()
    sender.submit(requests_file)
    assert len(sender.batches()) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_is_certainly_not_created_frees_the_reservation(
    status: int, sender: Sender, requests_file: Path
) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", value=status)

    sender.submit(requests_file, code=2 if status == 401 else 1)
    record = sender.record()
    assert record["state"] == "failed"
    assert str(status) in record["error"]
    assert record["creating_at"] is None

    sender.submit(requests_file)
    assert len(sender.batches()) == 1
    assert sender.record()["error"] is None


@pytest.mark.parametrize("status", [409, 499, 500, 503, 504, 529])
@pytest.mark.parametrize("inline", [[], ["--inline"]], ids=["file", "inline"])
def test_a_creation_whose_answer_is_lost_is_found_in_the_list(
    inline: list[str], status: int, sender: Sender, requests_file: Path
) -> None:
    sender.gemini.fault("lost", ":batchGenerateContent", value=status)

    sender.submit(requests_file, *inline)

    (batch,) = sender.batches()
    assert f"batches/{sender.record()['batch']}" == batch["name"]


@pytest.mark.parametrize("inline", [[], ["--inline"]], ids=["file", "inline"])
def test_a_creation_that_did_not_happen_is_made_once_it_is_known_not_to_have(
    inline: list[str], sender: Sender, requests_file: Path
) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", value=503)

    sender.submit(requests_file, "--settle", "1s", *inline)

    assert len(sender.batches()) == 1
    asked = [each["path"] for each in sender.gemini.requests() if "atch" in each["path"]]
    first, last = (at for at, path in enumerate(asked) if ":batchGenerateContent" in path)
    assert any("/batches?" in path for path in asked[first:last])


def test_a_dynamic_webhook_is_told_with_its_metadata(sender: Sender, requests_file: Path) -> None:
    url = "http://127.0.0.1:9/nobody"
    sender.submit(requests_file, "--dynamic", url, "--metadata", "team=search")

    (delivery,) = wait_until(sender.gemini.deliveries)
    assert delivery["url"] == url
    assert delivery["event"]["user_metadata"] == {"team": "search"}
    assert sender.submit(requests_file, "--metadata", "a=b", code=2).err


def test_no_key_is_in_the_bucket(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", value=400)
    sender.submit(requests_file, code=1)

    for path in sender.folder.rglob("*"):
        assert not path.is_file() or sender.gemini.api_key.encode() not in path.read_bytes()


def test_a_refused_key_is_not_taken_for_a_file_that_is_gone(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", "GET /v1beta/files/", times=1, text="leaked")

    assert "refused the API key" in sender.submit(requests_file, code=2).err

    sender.submit(requests_file)
    assert len(sender.batches()) == len(sender.files()) == 1


def test_a_name_that_is_no_models_is_wrong_usage(sender: Sender, requests_file: Path) -> None:
    ended = sender.run("submit", "--model", "../files/abc", requests_file, code=2)

    assert "is no model's name" in ended.err


def test_each_of_several_projects_has_its_own_records(
    sender: Sender, requests_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(sender.gemini.api_key)
    tables = [
        f'[projects.{name}]\npath = "/{name}"\napi_key_file = "key"\nstorage = "{(tmp_path / name).as_uri()}"\n'
        for name in ("search", "ads")
    ]
    (tmp_path / "projects.toml").write_text("\n".join(tables))
    env: dict[str, Any] = {
        "PROJECTS_FILE": str(tmp_path / "projects.toml"),
        "GEMINI_API_KEY": "",
        "STORAGE_URL": "",
    }

    assert "Say --project NAME" in sender.submit(requests_file, code=2, **env).err
    for name in ("search", "ads"):
        sender.submit(requests_file, "--project", name, **env)
        assert len(list((tmp_path / name / "_submitted").glob("*.json"))) == 1
    assert len(sender.batches()) == 2
    shown = sender.run("batches", "list", "--project", "ads", "--json", **env).json["batches"]
    assert len(shown) == 2


def test_it_needs_a_bucket_and_a_key(sender: Sender, requests_file: Path) -> None:
    assert "STORAGE_URL is not set" in sender.submit(requests_file, code=2, STORAGE_URL="").err
    assert "GEMINI_API_KEY is not set" in sender.submit(requests_file, code=2, GEMINI_API_KEY="").err


@pytest.mark.parametrize("options", [[], ["--inline"], ["--split-requests", "2"]], ids=" ".join)
def test_a_name_that_the_workers_leave_alone_is_refused_before_anything_is_sent(
    sender: Sender, requests_file: Path, options: list[str]
) -> None:
    refused = sender.submit(requests_file, *options, code=2, BATCH_DISPLAY_NAME="search-*")

    assert "which BATCH_DISPLAY_NAME (search-*) has the workers leave alone; --display-name" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert sender.gemini.requests("/upload/") == sender.records() == sender.batches() == []

    sender.submit(requests_file, *options, "--display-name", "search-1", BATCH_DISPLAY_NAME="search-*")
    assert all(each["displayName"].startswith("search-1") for each in sender.batches())


def test_warnings_do_not_hold_a_file_back_and_are_not_hushed_up(sender: Sender, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [{**request_line("a"), "colour": "red"}])

    ended = sender.submit(path)

    assert "r.jsonl has 1 warnings: `check` names them.\n" in ended.err
    assert len(sender.batches()) == 1
