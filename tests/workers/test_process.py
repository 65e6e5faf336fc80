"""The story of one batch, told by a local Gemini and a folder: what is done, what is left, what is done anew."""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import contents, result_line
from tests.support.gemini import API_KEY
from tests.support.gemini import Gemini as Emulator
from tests.support.waiting import wait_until
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Trigger
from workers.decision import LATE_OUTPUT_SECONDS
from workers.errors import (
    GeminiUnavailable,
    Incomplete,
    KeyRefused,
    NotReady,
    ResultsGone,
    Transient,
    Unreadable,
)
from workers.gemini.access import Access, Secret
from workers.gemini.batches import State
from workers.gemini.client import Gemini
from workers.process import Result, Tools, fan_out_part, process
from workers.summary import read_summary

PART_BYTES = 50_000
MANY = b"".join(result_line(f"k{n % 370}", "x" * 500) for n in range(400))


class Here:
    """Runs the parts in this process, as late as it can."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.handed_out: list[int] = []

    def part(self, batch: str, number: int) -> None:
        del batch
        if number not in self.handed_out:
            self.handed_out.append(number)

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        for number in numbers:
            self.part(batch, number)
        return False

    def look(self, batch: str) -> None:
        process(self.tools, self, batch, said())

    def run_parts(self, batch: str) -> None:
        while self.handed_out:
            fan_out_part(self.tools, self, batch, self.handed_out.pop(0))


def build(url: str, folder: str, **changes: Any) -> Tools:
    client = Gemini(Access(url, Secret(API_KEY)))
    tools = Tools(client, open_bucket(folder, {}), frozenset({"objects"}), PART_BYTES)
    return replace(tools, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def tools(gemini: Emulator, folder: Path) -> Iterator[Tools]:
    tools = build(gemini.url, folder.as_uri())
    yield tools
    tools.gemini.close()


def said(*triggers: Trigger, user_metadata: str | None = None) -> Announced:
    return Announced(frozenset(triggers or (Trigger.WEBHOOK,)), 1, user_metadata)


def look(tools: Tools, batch: str, announced: Announced | None = None) -> Result:
    """Process a batch to its end."""
    here = Here(tools)
    result = process(tools, here, batch, announced or said())
    here.run_parts(batch)
    return result


def document(folder: Path, batch: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / batch / "batch.json").read_bytes())
    return found


def files(folder: Path, batch: str) -> list[str]:
    return list(contents(folder / batch))


def test_a_batch_of_one_part_is_committed_at_once(gemini: Emulator, tools: Tools, folder: Path) -> None:
    batch = gemini.put_batch(result_line("a"))
    here = Here(tools)

    assert process(tools, here, batch, said()) is Result.COMMITTED

    assert here.handed_out == []
    assert files(folder, batch) == [
        *("batch.json", "manifest.jsonl", "outputs/a.json", "raw/part-00000.jsonl")
    ]


def test_each_part_of_a_larger_batch_is_handed_out_once_and_the_last_brings_the_commit(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)

    assert process(tools, here, batch, said()) is Result.IN_PARTS

    count = len(list((folder / batch / "raw").iterdir()))
    assert here.handed_out == list(range(count))
    assert count > 5
    for number in reversed(here.handed_out):
        assert not (folder / batch / "batch.json").exists()
        assert bool(fan_out_part(tools, Here(tools), batch, number)) is (number == 0)
    assert document(folder, batch)["counts"]["total"] == 400
    assert not (folder / "_work").exists()


def test_only_parts_that_are_not_done_are_handed_out_again(gemini: Emulator, tools: Tools) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    everything = list(here.handed_out)
    for number in everything[::2]:
        fan_out_part(tools, Here(tools), batch, number)
    again = Here(tools)

    process(tools, again, batch, said())

    assert again.handed_out == everything[1::2]


def test_a_batch_whose_parts_are_all_done_is_finished_at_the_next_look(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    for number in here.handed_out:
        fan_out_part(tools, Here(tools), batch, number)
    again = Here(tools)

    process(tools, again, batch, said())

    assert again.handed_out == []
    assert document(folder, batch)["state"] == "succeeded"


def test_a_part_of_a_batch_that_is_committed_by_now_is_no_work(gemini: Emulator, tools: Tools) -> None:
    batch = gemini.put_batch(MANY)
    look(tools, batch)

    assert fan_out_part(tools, Here(tools), batch, 0) is None


def test_a_committed_batch_is_not_even_asked_for(gemini: Emulator, tools: Tools, folder: Path) -> None:
    batch = gemini.put_batch(result_line("a"))
    look(tools, batch)
    before, asked = contents(folder, but_times=False), len(gemini.requests())

    assert look(tools, batch, said(Trigger.REPLAY)) is Result.ALREADY_COMMITTED

    assert contents(folder, but_times=False) == before
    assert len(gemini.requests()) == asked


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_batch_that_is_not_final_is_looked_at_later(
    gemini: Emulator, tools: Tools, folder: Path, state: str
) -> None:
    gemini.put_operation({"name": "batches/abc", "metadata": {"state": f"BATCH_STATE_{state}"}}, state=state)

    with pytest.raises(NotReady, match=state.lower()):
        look(tools, "abc")

    assert contents(folder) == {}


@pytest.mark.parametrize("response", [None, {}, {"inlinedResponses": {"inlinedResponses": []}}])
def test_a_batch_that_succeeded_without_its_output_is_looked_at_later(
    gemini: Emulator, tools: Tools, folder: Path, response: object
) -> None:
    metadata = {"state": "BATCH_STATE_SUCCEEDED", "batchStats": {"requestCount": "3"}}
    gemini.put_operation({"name": "batches/abc", "metadata": metadata, "done": True, "response": response})

    with pytest.raises(NotReady, match="no output"):
        look(tools, "abc")

    assert contents(folder) == {}


def test_a_batch_that_nobody_lets_us_read_leaves_nothing(tools: Tools, folder: Path) -> None:
    with pytest.raises(Unreadable):
        look(tools, "somebody-elses")

    assert contents(folder) == {}


def test_a_file_that_is_gone_is_an_end_and_no_commit(gemini: Emulator, tools: Tools, folder: Path) -> None:
    batch = gemini.put_batch(result_line("a"))
    gemini.expire_output(batch)

    with pytest.raises(ResultsGone):
        look(tools, batch)

    assert not (folder / batch).exists()


@pytest.mark.parametrize(("status", "error"), [(401, KeyRefused), (503, GeminiUnavailable)])
def test_trouble_at_gemini_is_told_and_healed_by_another_look(
    gemini: Emulator, tools: Tools, folder: Path, status: int, error: type[Exception]
) -> None:
    batch = gemini.put_batch(MANY)
    for path in (f"batches/{batch}", ":download"):
        gemini.fault("status", path, value=status)
        with pytest.raises(error):
            look(tools, batch)
        assert not (folder / batch / "batch.json").exists()

    look(tools, batch)

    assert document(folder, batch)["counts"]["total"] == 400


def test_an_empty_result_file_is_a_batch_without_results(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(b"", stats={"requestCount": "2"})

    assert look(tools, batch) is Result.COMMITTED

    found = document(folder, batch)
    assert (found["state"], found["counts"]["total"], found["raw_bytes"]) == ("succeeded", 0, 0)
    (warning,) = found["warnings"]
    assert warning.startswith(
        "Gemini counts 2 requests, the results hold 0. `batch-receiver replay --refetch`"
    )
    assert files(folder, batch) == ["batch.json", "manifest.jsonl"]


def test_a_file_of_blank_lines_is_kept_and_has_no_results(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(b"\n\n \n")

    look(tools, batch)

    assert document(folder, batch)["counts"]["total"] == 0
    assert (folder / batch / "raw/part-00000.jsonl").read_bytes() == b"\n\n \n"


def test_an_inline_answer_is_processed_like_a_file(gemini: Emulator, tools: Tools, folder: Path) -> None:
    answers = [{"metadata": {"key": "a"}, "response": {"candidates": []}}, {"error": {"code": 3}}]
    gemini.put_operation(
        {
            "name": "batches/abc",
            "metadata": {"state": "BATCH_STATE_SUCCEEDED"},
            "done": True,
            "response": {"inlinedResponses": {"inlinedResponses": answers}},
        }
    )

    look(tools, "abc")

    assert document(folder, "abc")["counts"] == {"total": 2, "succeeded": 1, "failed": 1, "invalid": 0}
    assert files(folder, "abc")[2:4] == ["outputs/@1.json", "outputs/a.json"]
    raw = (folder / "abc/raw/part-00000.jsonl").read_bytes().splitlines()
    assert [json.loads(line) for line in raw] == answers


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED"])
def test_a_batch_that_ended_badly_is_its_summary_and_keeps_the_results_that_it_names(
    gemini: Emulator, tools: Tools, folder: Path, state: str
) -> None:
    with_output = gemini.put_batch(result_line("a"), state=state)
    without = gemini.put_batch(b"", state=state)

    for batch in (with_output, without):
        assert look(tools, batch) is Result.COMMITTED
        assert look(tools, batch) is Result.ALREADY_COMMITTED
        assert document(folder, batch)["state"] == state.lower()

    assert files(folder, without) == ["batch.json"]
    assert "outputs/a.json" in files(folder, with_output)


def test_a_cancelled_batch_keeps_the_results_that_it_has(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    with_output = gemini.put_batch(result_line("a"), state="CANCELLED")
    without = gemini.put_batch(b"", state="CANCELLED")

    assert look(tools, with_output) is Result.COMMITTED
    assert look(tools, without) is Result.COMMITTED

    assert (folder / with_output / "outputs/a.json").exists()
    assert document(folder, with_output)["state"] == document(folder, without)["state"] == "cancelled"
    assert files(folder, without) == ["batch.json"]


def test_a_cancelled_batch_whose_output_is_late_is_waited_for(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(result_line("a"), state="CANCELLED")
    gemini.fault("late_output", batch)

    with pytest.raises(NotReady, match="has no output of it yet"):
        look(tools, batch)

    assert not folder.exists() or not files(folder, batch)
    assert look(tools, batch) is Result.COMMITTED
    assert document(folder, batch)["counts"]["succeeded"] == 1


def test_a_cancelled_batch_whose_output_does_not_come_is_committed_without(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    ended = (datetime.now(UTC) - timedelta(seconds=LATE_OUTPUT_SECONDS + 60)).isoformat()
    batch = gemini.put_batch(b"", state="CANCELLED", stats={"successfulRequestCount": "1"}, ended=ended)

    assert look(tools, batch) is Result.COMMITTED

    assert document(folder, batch)["warnings"] == ["Gemini counts 1 successful requests, the results hold 0."]


def test_a_cancelled_batch_that_then_succeeded_with_fewer_keys_is_done_anew(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    batch = gemini.put_batch(MANY, state="CANCELLED")
    look(tools, batch)
    assert document(folder, batch)["parts"][1:]
    gemini.put_batch(result_line("k1") + result_line("new"), batch_id=batch)

    look(tools, batch)

    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    assert document(folder, batch)["revision"] == 2
    undisturbed.gemini.close()


def test_until_a_batch_is_done_anew_its_first_commit_stands(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY, state="FAILED")
    look(tools, batch)
    gemini.change(batch, "SUCCEEDED")
    here = Here(tools)

    process(tools, here, batch, said())
    for number in here.handed_out[:-1]:
        fan_out_part(tools, Here(tools), batch, number)

    assert document(folder, batch)["state"] == "failed"
    assert fan_out_part(tools, Here(tools), batch, here.handed_out[-1])
    assert (document(folder, batch)["state"], document(folder, batch)["revision"]) == ("succeeded", 2)


@pytest.mark.parametrize(
    ("pattern", "wanted", "unwanted"),
    [
        ("*", ["", "anything", None], []),
        ("prod-*", ["prod-1", "prod-"], ["test-1", "Prod-1", "", None]),
        ("job-[0-9]", ["job-7"], ["job-x", "job-77"]),
        ("exact", ["exact"], ["exactly"]),
    ],
)
def test_batches_are_ours_where_the_glob_matches_their_display_name(
    gemini: Emulator, tools: Tools, pattern: str, wanted: list[str | None], unwanted: list[str | None]
) -> None:
    ours = replace(tools, display_name=pattern)
    batch = tools.gemini.batch(gemini.put_batch(result_line("a")))

    assert all(ours.wants(replace(batch, display_name=name)) for name in wanted)
    assert not any(ours.wants(replace(batch, display_name=name)) for name in unwanted)


def test_a_batch_of_another_display_name_is_left_alone(gemini: Emulator, tools: Tools, folder: Path) -> None:
    ours = replace(tools, display_name="prod-*")
    theirs = gemini.put_batch(result_line("a"), display_name="test-1")
    mine = gemini.put_batch(result_line("a"), display_name="prod-1")

    assert look(ours, theirs) is Result.LEFT_ALONE
    assert look(ours, mine) is Result.COMMITTED

    assert not (folder / theirs).exists()
    assert not (folder / "_work").exists()


def test_the_strongest_trigger_and_the_users_metadata_outlive_a_failed_attempt(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("status", ":download", value=503)
    with pytest.raises(GeminiUnavailable):
        look(tools, batch, said(Trigger.DYNAMIC, Trigger.WEBHOOK, user_metadata='{"n":1}'))

    look(tools, batch, said(Trigger.RECONCILE))

    found = document(folder, batch)
    assert (found["trigger"], found["user_metadata"]) == ("webhook", {"n": 1})


def test_newer_metadata_of_the_user_replaces_older(gemini: Emulator, tools: Tools, folder: Path) -> None:
    batch = gemini.put_batch(result_line("a"))
    gemini.fault("status", ":download", value=503)
    with pytest.raises(GeminiUnavailable):
        look(tools, batch, said(Trigger.DYNAMIC, user_metadata='{"n":1}'))

    look(tools, batch, said(Trigger.DYNAMIC, user_metadata='{"n":2}'))

    assert document(folder, batch)["user_metadata"] == {"n": 2}


@pytest.mark.parametrize("metadata", ["", "{", "nonsense", "[" * 100_000])
def test_metadata_of_the_user_that_is_no_json_is_dropped(
    gemini: Emulator, tools: Tools, folder: Path, metadata: str
) -> None:
    batch = gemini.put_batch(result_line("a"))

    look(tools, batch, said(Trigger.DYNAMIC, user_metadata=metadata))

    assert document(folder, batch)["user_metadata"] is None


def test_a_file_that_changes_while_it_is_split_is_never_mixed(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    fan_out_part(tools, Here(tools), batch, 0)
    fan_out_part(tools, Here(tools), batch, 3)
    (folder / layout.split(batch)).unlink()
    gemini.put_batch(MANY.replace(b"x", b"y"), batch_id=batch)

    look(tools, batch)

    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    undisturbed.gemini.close()


def test_a_raw_part_that_was_altered_is_said_and_made_good_by_a_replay(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    raw = folder / batch / "raw/part-00002.jsonl"
    raw.write_bytes(raw.read_bytes().replace(b"x", b"y"))
    with pytest.raises(Incomplete, match="replay the batch"):
        here.run_parts(batch)

    look(tools, batch, said(Trigger.REPLAY))

    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    undisturbed.gemini.close()


def _look_in_a_process(url: str, folder: str, batch: str, kill_after: int | None) -> None:
    tools = build(url, folder)
    here = Here(tools)
    process(tools, here, batch, said())
    for count, number in enumerate(here.handed_out):
        if count == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        fan_out_part(tools, Here(tools), batch, number)


def test_two_processes_that_process_a_batch_at_once_end_in_the_same_bucket(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    batch = gemini.put_batch(MANY)
    spawn = multiprocessing.get_context("spawn")
    arguments = (gemini.url, folder.as_uri(), batch, None)

    processes = [spawn.Process(target=_look_in_a_process, args=arguments) for _ in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(30)

    wait_until((folder / batch / "batch.json").exists, what="the commit")
    look(tools, batch)
    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    undisturbed.gemini.close()


def test_a_process_killed_between_two_parts_is_followed_by_one_that_completes_its_work(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    batch = gemini.put_batch(MANY)
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=_look_in_a_process, args=(gemini.url, folder.as_uri(), batch, 3))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL
    here = Here(tools)

    process(tools, here, batch, said())

    assert here.handed_out[0] == 3
    here.run_parts(batch)
    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    undisturbed.gemini.close()


def test_a_crash_right_after_the_commit_is_tidied_by_the_next_look(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(result_line("a"))
    look(tools, batch)
    whole = contents(folder, but_times=False)
    (folder / layout.work(batch)).mkdir(parents=True)
    (folder / layout.plan(batch)).write_bytes(b"{")
    next((folder / "_index").rglob("*.json")).unlink()

    assert look(tools, batch) is Result.ALREADY_COMMITTED

    assert contents(folder, but_times=False) == whole


def test_what_gemini_says_of_a_batch_stands_in_its_summary(gemini: Emulator, tools: Tools) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="ünï", model="models/gemini-2.5-pro")

    look(tools, batch)

    summary = read_summary(tools.bucket, batch)
    assert summary
    assert (summary.batch, summary.state) == (batch, State.SUCCEEDED)
    assert (summary.display_name, summary.model) == ("ünï", "models/gemini-2.5-pro")


def test_a_part_that_is_done_once_more_after_the_commit_leaves_nothing_behind(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    late = {path.name: path.read_bytes() for path in (folder / "_work" / batch / "parts").iterdir()}
    here.run_parts(batch)
    before = contents(folder, but_times=False)
    for name, data in late.items():
        tools.bucket.put(f"_work/{batch}/parts/{name}", data, layout.JSON)

    assert not fan_out_part(tools, Here(tools), batch, 0)

    assert contents(folder, but_times=False) == before


def test_a_cancelled_batch_with_results_that_turns_out_to_have_failed_keeps_all_of_them(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(result_line("a"), state="CANCELLED")
    look(tools, batch)
    before = contents(folder, but_times=False)
    assert "outputs/a.json" in files(folder, batch)

    gemini.put_operation(
        {
            "name": f"batches/{batch}",
            "metadata": {"state": "BATCH_STATE_FAILED"},
            "done": True,
            "error": {"code": 13},
        }
    )

    assert look(tools, batch) is Result.ALREADY_COMMITTED
    assert contents(folder, but_times=False) == before


def test_a_cancelled_batch_committed_without_results_is_done_anew_when_its_output_shows_up(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    ended = (datetime.now(UTC) - timedelta(seconds=LATE_OUTPUT_SECONDS + 60)).isoformat()
    batch = gemini.put_batch(b"", state="CANCELLED", stats={"successfulRequestCount": "1"}, ended=ended)
    look(tools, batch)
    gemini.put_batch(result_line("a"), batch_id=batch, state="CANCELLED", ended=ended)

    assert look(tools, batch) is Result.COMMITTED

    found = document(folder, batch)
    assert (found["state"], found["revision"], found["counts"]["total"]) == ("cancelled", 2, 1)


def test_what_is_whole_in_raw_is_finished_although_gemini_has_forgotten_file_and_batch(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    process(tools, Here(tools), batch, said())
    gemini.expire_output(batch)
    gemini.http.delete(f"/v1beta/batches/{batch}")
    asked = len(gemini.requests())

    look(tools, batch, said(Trigger.REPLAY))

    assert document(folder, batch)["counts"]["total"] == 400
    assert len(gemini.requests()) == asked


def test_a_further_look_at_a_batch_in_parts_reads_no_raw_part_and_asks_gemini_nothing(
    gemini: Emulator, tools: Tools
) -> None:
    batch = gemini.put_batch(MANY)
    process(tools, Here(tools), batch, said())
    asked = len(gemini.requests())
    for path in (Path(tools.bucket.url.removeprefix("file://")) / batch / "raw").iterdir():
        path.unlink()

    assert process(tools, Here(tools), batch, said()) is Result.IN_PARTS

    assert len(gemini.requests()) == asked


@pytest.mark.parametrize(
    "note", list(product(["plan", "source", "split"], [b"", b"{", b'{"batch": 7}', b"[" * 100_000]))
)
def test_a_note_that_can_not_be_read_is_not_there(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path, note: tuple[str, bytes]
) -> None:
    batch = gemini.put_batch(MANY)
    process(tools, Here(tools), batch, said())
    (folder / "_work" / batch / f"{note[0]}.json").write_bytes(note[1])

    look(tools, batch)

    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    assert not (folder / "_work").exists()
    undisturbed.gemini.close()


@pytest.mark.parametrize("name", ["parts/00002.json", "keys/00002.bin"])
def test_a_part_whose_note_is_lost_is_fetched_again(
    gemini: Emulator, tools: Tools, folder: Path, tmp_path: Path, name: str
) -> None:
    batch = gemini.put_batch(MANY)
    process(tools, Here(tools), batch, said())
    (folder / "_work" / batch / name).unlink()

    look(tools, batch)

    undisturbed = build(gemini.url, (tmp_path / "undisturbed").as_uri())
    look(undisturbed, batch)
    assert contents(folder / batch) == contents(tmp_path / "undisturbed" / batch)
    undisturbed.gemini.close()


@pytest.mark.parametrize("content", [b"", b"{}", b"not ours"])
def test_a_batch_json_that_is_none_of_ours_is_told_of_and_left_alone(
    gemini: Emulator, tools: Tools, folder: Path, content: bytes
) -> None:
    batch = gemini.put_batch(result_line("a"))
    (folder / batch).mkdir(parents=True)
    (folder / batch / "batch.json").write_bytes(content)

    with pytest.raises(Incomplete, match="move it away"):
        look(tools, batch)

    assert (folder / batch / "batch.json").read_bytes() == content


def test_outputs_of_a_source_that_was_replaced_do_not_stay(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    here = Here(tools)
    process(tools, here, batch, said())
    for number in here.handed_out[:3]:
        fan_out_part(tools, here, batch, number)
    (folder / "_work" / batch / "split.json").unlink()
    gemini.put_batch(b"".join(result_line(f"new{n}") for n in range(5)), batch_id=batch)

    look(tools, batch)

    assert len(list((folder / batch / "outputs").iterdir())) == 5


def test_outputs_do_not_stay_where_others_were_asked_for_meanwhile(
    gemini: Emulator, tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = gemini.put_batch(MANY[:5_000])
    monkeypatch.setattr("workers.process.fan_out", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        look(tools, batch)
    monkeypatch.undo()
    (folder / batch / "outputs").mkdir()
    (folder / batch / "outputs/k0.json").write_bytes(b"{}")

    look(replace(tools, outputs=frozenset({"parquet"})), batch)

    assert not list((folder / batch).glob("outputs/*"))
    assert (folder / batch / "dataset/part-00000.parquet").exists()


@pytest.mark.parametrize("cut", [-30, -1_000, 700])
def test_a_result_file_that_came_cut_is_fetched_once_more(
    gemini: Emulator, tools: Tools, folder: Path, cut: int
) -> None:
    stats = {"requestCount": "400"}
    batch = gemini.put_batch(MANY[:cut], stats=stats)
    real = tools.gemini.download
    healed = []

    def download(*args: Any, **kwargs: Any) -> Any:
        if len(gemini.requests(":download")) == 1:  # From the second one on, all of it.
            gemini.put_batch(MANY, batch_id=batch, stats=stats)
            healed.append(True)
        return real(*args, **kwargs)

    tools.gemini.download = download  # type: ignore[method-assign]
    with pytest.raises(Transient, match="not the whole"):
        look(tools, batch)
    look(tools, batch)

    assert healed
    assert document(folder, batch)["counts"]["total"] == 400
    assert document(folder, batch)["warnings"][0].startswith("30 results repeat")


def test_a_committed_batch_is_fetched_once_more_on_request_and_replaced_only_where_it_differs(
    gemini: Emulator, tools: Tools, folder: Path
) -> None:
    batch = gemini.put_batch(MANY)
    look(tools, batch)
    before = contents(folder, but_times=False)
    again = Announced(frozenset({Trigger.REPLAY}), 1, None, refetch=True)

    assert look(tools, batch, again) is Result.ALREADY_COMMITTED
    assert contents(folder, but_times=False) == before

    gemini.put_batch(result_line("other"), batch_id=batch)
    assert look(tools, batch, again) is Result.COMMITTED
    assert (document(folder, batch)["revision"], document(folder, batch)["counts"]["total"]) == (2, 1)
    assert files(folder, batch) == [
        *("batch.json", "manifest.jsonl", "outputs/other.json", "raw/part-00000.jsonl")
    ]
