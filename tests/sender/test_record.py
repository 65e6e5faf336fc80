"""Who works on a submission: one process at a time, and the next one when that is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sender import record as records
from sender.record import Holder, Options, Record, State, name_of, reserve
from tests.sender.conftest import Sender
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import submissions
from workers.errors import Incomplete, Refused

RECORD = Record(
    state=State.RESERVED,
    file="r.jsonl",
    bytes=1,
    sha256="",
    requests=1,
    options=Options(model="m"),
    model="m",
    display_name="r",
    created_at="2026-11-25T00:00:00Z",
)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket(tmp_path.as_uri(), {})


def held_by(bucket: Bucket, holder: Holder) -> None:
    bucket.put(
        submissions.record("name"),
        records.encode(msgspec.structs.replace(RECORD, holder=holder)),
        layout.JSON,
    )


def test_a_process_that_lives_keeps_others_out(bucket: Bucket) -> None:
    reserve(bucket, "name", RECORD)

    with pytest.raises(Refused, match="by another process"):
        reserve(bucket, "name", RECORD)


def test_a_process_that_has_ended_keeps_nobody_out(bucket: Bucket) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = Holder("t", records._host(), records._process(child.pid), time.time() + 900)
    held_by(bucket, holder)
    with pytest.raises(Refused):
        reserve(bucket, "name", RECORD)

    child.communicate(b"\n")

    assert reserve(bucket, "name", RECORD).record.holder != holder


def test_a_process_whose_number_another_one_has_now_keeps_nobody_out(bucket: Bucket) -> None:
    held_by(bucket, Holder("t", records._host(), f"{os.getpid()}:1", time.time() + 900))

    assert reserve(bucket, "name", RECORD)


def test_a_process_on_another_machine_is_waited_for_until_its_time_is_over(bucket: Bucket) -> None:
    held_by(bucket, Holder("t", "elsewhere", "1:1", time.time() + 900))
    with pytest.raises(Refused, match="on elsewhere"):
        reserve(bucket, "name", RECORD)

    held_by(bucket, Holder("t", "elsewhere", "1:1", time.time() - 1))
    assert reserve(bucket, "name", RECORD)


def test_whoever_lost_the_record_changes_nothing_any_more(bucket: Bucket) -> None:
    first = reserve(bucket, "name", RECORD)
    held_by(bucket, Holder("t", "elsewhere", "1:1", 0.0))
    second = reserve(bucket, "name", RECORD)

    with pytest.raises(Refused, match="Another process"):
        first.change(batch="abc")
    second.change(batch="xyz")
    assert records.read(bucket, "name") == second.record


def test_the_name_covers_content_model_and_options() -> None:
    names = {
        name_of("content", Options(model="m"), 0),
        name_of("other", Options(model="m"), 0),
        name_of("content", Options(model="n"), 0),
        name_of("content", Options(model="m", priority=1), 0),
        name_of("content", Options(model="m"), 1),
    }
    assert len(names) == 5
    assert all(len(f"sub-{name}-99") <= 40 for name in names)


def test_a_record_that_is_none_of_ours_is_told(bucket: Bucket) -> None:
    bucket.put(submissions.record("name"), b"{}", layout.JSON)

    with pytest.raises(Incomplete, match="not readable"):
        reserve(bucket, "name", RECORD)


def test_of_several_processes_at_once_one_makes_the_batch(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("delay", ":batchGenerateContent", times=0, value=0.3)
    processes = [sender.start("submit", "--model", "gemini-3.5-flash", requests_file) for _ in range(4)]

    ended = sorted(process.wait(60) for process in processes)

    assert ended == [0, 1, 1, 1]
    assert len(sender.batches()) == 1
    assert f"batches/{sender.record()['batch']}" == sender.batches()[0]["name"]


def test_an_upload_that_is_too_old_is_made_anew(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", value=400)
    sender.submit(requests_file, code=1)
    (path,) = (sender.folder / "_submitted").glob("*.json")
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    old = msgspec.structs.replace(record, uploaded_at=time.time() - 48 * 3600)
    path.write_bytes(records.encode(old))

    sender.submit(requests_file)

    assert len(sender.files()) == 2
    assert sender.record()["uploads"] == 2
    assert len(sender.batches()) == 1


def test_a_file_that_is_gone_is_uploaded_again(sender: Sender, requests_file: Path) -> None:
    sender.gemini.fault("status", ":batchGenerateContent", times=0, text="quota")
    sender.submit(requests_file, "--patience", "0s", code=1)
    (file,) = sender.files()
    sender.gemini.http.delete(f"/v1beta/{file['name']}").raise_for_status()
    sender.gemini.clear_faults()

    sender.submit(requests_file, code=1)
    assert sender.record()["state"] == "failed"

    sender.submit(requests_file)
    assert len(sender.batches()) == 1
