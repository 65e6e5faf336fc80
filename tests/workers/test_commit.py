"""The commit: only of what adds up, last of all, once, and replaced only where a batch turned out better."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.deployment import contents, result_line
from tests.support.story import finish
from workers import commit, parts
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, MissingObject
from workers.contract import Trigger
from workers.errors import Incomplete
from workers.fanout import fan_out
from workers.gemini.batches import State
from workers.plan import Plan, read_plan, write_plan
from workers.results.tally import Tally
from workers.sources import InlineSource
from workers.summary import Counts, Summary, read_summary

BATCH = "abc"
OBJECTS = frozenset({"objects"})


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


def plan(state: State = State.SUCCEEDED, **changes: Any) -> Plan:
    told: dict[str, Any] = {
        "batch": BATCH,
        "state": state,
        "display_name": "my batch",
        "model": "models/gemini-2.5-flash",
        "created_at": "2026-07-01T20:29:19.123456789Z",
        "ended_at": "2026-07-01T21:00:00Z",
        "batch_stats": None,
        "error": None,
        "trigger": Trigger.WEBHOOK,
        "user_metadata": None,
    }
    return Plan(**(told | changes))


def prepare(bucket: Bucket, lines: list[bytes], planned: Plan | None = None, part_bytes: int = 300) -> None:
    """Everything up to the commit."""
    write_plan(bucket, planned or plan())
    source = InlineSource([msgspec.Raw(line) for line in lines])
    for part, _ in parts.split(bucket, BATCH, source, part_bytes):
        fan_out(bucket, BATCH, part, OBJECTS)


def commit_lines(bucket: Bucket, lines: list[bytes], planned: Plan | None = None) -> Summary:
    prepare(bucket, lines, planned)
    summary = finish(bucket, BATCH)
    assert summary
    return summary


def names(bucket: Bucket, folder: str = "") -> list[str]:
    return sorted(name for name, _ in bucket.list(folder))


def document(bucket: Bucket) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bucket.get(layout.summary(BATCH)) or b"")
    return found


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_a_committed_batch_holds_what_the_design_says_and_nothing_else(bucket: Bucket) -> None:
    summary = commit_lines(bucket, [result_line("a"), result_line("b"), result_line("c")])

    assert names(bucket, BATCH) == [
        "abc/batch.json",
        "abc/manifest.jsonl",
        "abc/outputs/a.json",
        "abc/outputs/b.json",
        "abc/outputs/c.json",
        "abc/raw/part-00000.jsonl",
        "abc/raw/part-00001.jsonl",
    ]
    assert names(bucket, "_work") == []
    (index,) = names(bucket, "_index")
    assert index == f"_index/{summary.committed_at[:10]}/abc.json"
    assert bucket.get(index) == bucket.get(layout.summary(BATCH))


def test_the_summary_says_everything_of_the_batch(bucket: Bucket) -> None:
    stats = {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"}
    lines = [result_line("a"), b'{"key":"b","error":{"code":3}}']
    planned = plan(batch_stats=stats, user_metadata={"n": [1]}, trigger=Trigger.DYNAMIC)

    commit_lines(bucket, lines, planned)

    raw = b"".join(bucket.get(f"{BATCH}/{part['object']}") or b"" for part in document(bucket)["parts"])
    found = document(bucket)
    assert found.pop("cost")["estimate"] is True
    committed_at = datetime.fromisoformat(found.pop("committed_at"))
    assert abs((datetime.now(UTC) - committed_at).total_seconds()) < 60
    usage = found.pop("usage")
    assert (usage["prompt_tokens"], usage["output_tokens"], usage["total_tokens"]) == (8, 11, 19)
    told = found.pop("parts")
    assert [part["lines"] for part in told] == [2]
    assert [part["bytes"] for part in told] == [len(raw)]
    assert [part["sha256"] for part in told] == [hashlib.sha256(raw).hexdigest()]
    assert found.pop("model_versions") == {"gemini-2.5-flash": 1}
    assert found == {
        "schema": 1,
        "batch": BATCH,
        "state": "succeeded",
        "display_name": "my batch",
        "model": "models/gemini-2.5-flash",
        "created_at": "2026-07-01T20:29:19.123456789Z",
        "ended_at": "2026-07-01T21:00:00Z",
        "revision": 1,
        "trigger": "dynamic",
        "counts": {"total": 2, "succeeded": 1, "failed": 1, "invalid": 0},
        "finish_reasons": {"STOP": 1},
        "batch_stats": stats,
        "raw_bytes": len(raw),
        "raw_sha256": hashlib.sha256(raw).hexdigest(),
        "error": None,
        "user_metadata": {"n": [1]},
        "warnings": [],
    }


def test_the_manifest_joins_those_of_the_parts_in_their_order(bucket: Bucket) -> None:
    commit_lines(bucket, [result_line(f"k{n}") for n in range(20)])

    entries = [json.loads(line) for line in (bucket.get(layout.manifest(BATCH)) or b"").splitlines()]
    assert [entry["index"] for entry in entries] == list(range(20))
    assert len({entry["raw"]["part"] for entry in entries}) > 5


@pytest.mark.parametrize(
    ("lines", "stats", "warning"),
    [
        ([b'{"key":"a","error":{}}'], {"requestCount": "2"}, "Gemini counts 2 requests, the results hold 1."),
        ([b'{"key":"a","error":{}}'], {"successfulRequestCount": 1}, "Gemini counts 1 successful requests"),
        ([b'{"key":"a","response":{}}'], {"failedRequestCount": "1"}, "Gemini counts 1 failed requests"),
        ([b'{"key":"a","error":{}}'] * 3, None, "2 results repeat the key of an earlier one"),
        ([b"7"], {}, "1 lines are invalid"),
        ([], {"requestCount": "5"}, "Gemini counts 5 requests, the results hold 0."),
    ],
)
def test_what_looks_wrong_is_a_warning(
    bucket: Bucket, lines: list[bytes], stats: Mapping[str, object] | None, warning: str
) -> None:
    (found,) = commit_lines(bucket, lines, plan(batch_stats=stats)).warnings

    assert found.startswith(warning)


@pytest.mark.parametrize(
    "stats",
    [
        None,
        {},
        [],
        "many",
        {"requestCount": "1"},
        {"requestCount": 1},
        {"requestCount": None},
        {"other": "7"},
    ],
)
def test_counts_that_agree_or_are_not_told_are_no_warning(bucket: Bucket, stats: object) -> None:
    assert commit_lines(bucket, [b'{"key":"a","error":{}}'], plan(batch_stats=stats)).warnings == []


def test_a_batch_without_results_has_an_empty_manifest(bucket: Bucket) -> None:
    summary = commit_lines(bucket, [])

    assert names(bucket, BATCH) == ["abc/batch.json", "abc/manifest.jsonl"]
    assert bucket.size(layout.manifest(BATCH)) == 0
    assert summary.counts == Counts()
    assert summary.raw_sha256 == hashlib.sha256(b"").hexdigest()


def test_nothing_is_committed_while_a_part_is_missing(bucket: Bucket) -> None:
    prepare(bucket, [result_line(f"k{n}") for n in range(9)])
    done = names(bucket, layout.done_parts(BATCH))
    assert len(done) > 2

    for name in done:
        marker = bucket.get(name) or b""
        bucket.delete([name])
        assert finish(bucket, BATCH) is None
        assert bucket.size(layout.summary(BATCH)) is None
        bucket.put(name, marker, layout.JSON)

    assert finish(bucket, BATCH)


@pytest.mark.parametrize("missing", [layout.plan(BATCH), layout.split(BATCH)])
def test_nothing_is_committed_before_the_source_is_wholly_split(bucket: Bucket, missing: str) -> None:
    prepare(bucket, [result_line("a")])
    bucket.delete([missing])

    assert finish(bucket, BATCH) is None
    assert names(bucket, BATCH + "/batch.json") == []


def test_nothing_is_committed_whose_manifest_is_missing(bucket: Bucket) -> None:
    prepare(bucket, [result_line("a")])
    bucket.delete(names(bucket, f"_work/{BATCH}/manifests"))

    with pytest.raises(MissingObject):
        finish(bucket, BATCH)
    assert bucket.size(layout.summary(BATCH)) is None
    assert bucket.size(layout.manifest(BATCH)) is None


def test_parts_that_do_not_add_up_are_never_committed(bucket: Bucket) -> None:
    prepare(bucket, [result_line("a")])
    (done,) = names(bucket, layout.done_parts(BATCH))
    bucket.put(done, msgspec.json.encode(Tally(lines=2)), layout.JSON)

    with pytest.raises(Incomplete, match="1 lines came, 2 were fanned out"):
        finish(bucket, BATCH)

    assert bucket.size(layout.summary(BATCH)) is None


def test_finishing_twice_commits_once(bucket: Bucket, tmp_path: Path) -> None:
    first = commit_lines(bucket, [result_line("a")])
    before = contents(tmp_path, but_times=False)

    assert finish(bucket, BATCH) == first

    assert contents(tmp_path, but_times=False) == before


def test_many_that_finish_at_once_leave_one_whole_commit(bucket: Bucket) -> None:
    for _ in range(5):
        prepare(bucket, [result_line(f"k{n}") for n in range(9)])
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: finish(bucket, BATCH), range(4)))

        assert any(found)
        finish(bucket, BATCH)
        assert names(bucket, "_work") == []
        (index,) = names(bucket, "_index")
        assert bucket.get(index) == bucket.get(layout.summary(BATCH))
        assert document(bucket)["counts"]["total"] == 9
        bucket.delete_tree(BATCH)
        bucket.delete_tree("_index")


@pytest.mark.parametrize("index", ["missing", "old"])
def test_a_crash_between_commit_and_tidying_is_made_good(bucket: Bucket, tmp_path: Path, index: str) -> None:
    prepare(bucket, [result_line("a")])
    work = {name: bucket.get(name) or b"" for name in names(bucket, "_work")}
    summary = finish(bucket, BATCH)
    whole = contents(tmp_path, but_times=False)
    for name, blob in work.items():
        bucket.put(name, blob, layout.JSON)
    copy = layout.index(today(), BATCH)
    bucket.delete([copy]) if index == "missing" else bucket.put(copy, b"{}", layout.JSON)

    assert finish(bucket, BATCH) == summary

    assert contents(tmp_path, but_times=False) == whole


def test_what_a_late_worker_leaves_after_the_commit_is_tidied_by_the_next_look(bucket: Bucket) -> None:
    summary = commit_lines(bucket, [result_line("a")])
    bucket.put(layout.done(BATCH, 0, "0" * 64), b"{}", layout.JSON)

    assert finish(bucket, BATCH) == summary

    assert names(bucket, "_work") == []


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED, State.CANCELLED])
def test_a_batch_that_has_no_results_is_its_summary_alone(bucket: Bucket, state: State) -> None:
    summary = commit.close(bucket, plan(state, error={"code": 13, "message": "internal"}))

    assert names(bucket, BATCH) == ["abc/batch.json"]
    assert (summary.state, summary.revision, summary.counts.total) == (state, 1, 0)
    assert document(bucket)["error"] == {"code": 13, "message": "internal"}
    assert len(names(bucket, "_index")) == 1


def test_the_same_end_without_results_is_committed_once(bucket: Bucket, tmp_path: Path) -> None:
    commit.close(bucket, plan(State.FAILED))
    before = contents(tmp_path, but_times=False)

    commit.close(bucket, plan(State.FAILED, trigger=Trigger.REPLAY))

    assert contents(tmp_path, but_times=False) == before


def test_another_end_without_results_is_the_next_revision(bucket: Bucket) -> None:
    commit.close(bucket, plan(State.FAILED))

    summary = commit.close(bucket, plan(State.EXPIRED))

    assert (summary.state, summary.revision) == (State.EXPIRED, 2)
    assert len(names(bucket, "_index")) == 1


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED, State.CANCELLED])
def test_a_batch_that_succeeded_never_changes_again(bucket: Bucket, tmp_path: Path, state: State) -> None:
    commit_lines(bucket, [result_line("a")])
    before = contents(tmp_path, but_times=False)

    commit.close(bucket, plan(state))
    prepare(bucket, [result_line("b")], plan(state))
    finish(bucket, BATCH)

    assert document(bucket)["revision"] == 1
    assert bucket.get(layout.manifest(BATCH)) == before["bucket/abc/manifest.jsonl"]


def test_a_failed_batch_that_succeeded_is_replaced_with_its_index(bucket: Bucket) -> None:
    failed = commit.close(bucket, plan(State.FAILED))
    yesterday = msgspec.structs.replace(failed, committed_at="2026-07-01T10:00:00.000Z")
    bucket.put(layout.summary(BATCH), yesterday.encoded(), layout.JSON)
    bucket.delete(names(bucket, "_index"))
    bucket.put(layout.index("2026-07-01", BATCH), yesterday.encoded(), layout.JSON)

    summary = commit_lines(bucket, [result_line("a")])

    assert (summary.state, summary.revision) == (State.SUCCEEDED, 2)
    assert names(bucket, "_index") == [layout.index(today(), BATCH)]


def test_a_replaced_batch_keeps_nothing_of_the_revision_before(bucket: Bucket, tmp_path: Path) -> None:
    image = b'{"inlineData":{"mimeType":"image/png","data":"aGVsbG8="}}'
    picture = b'{"key":"p","response":{"candidates":[{"content":{"parts":[%s]}}]}}' % image
    commit_lines(
        bucket,
        [*(result_line(f"k{n}") for n in range(9)), picture, result_line("kept")],
        plan(State.CANCELLED),
    )
    assert names(bucket, f"{BATCH}/media")

    commit_lines(bucket, [result_line("kept"), result_line("new")])

    undisturbed = open_bucket((tmp_path / "undisturbed").as_uri(), {})
    commit_lines(undisturbed, [result_line("kept"), result_line("new")])
    assert names(bucket, BATCH) == names(undisturbed, BATCH)
    assert all(
        bucket.get(name) == undisturbed.get(name) for name in names(bucket, BATCH) if "batch" not in name
    )
    assert document(bucket)["revision"] == 2


def test_a_summary_that_is_none_of_ours_is_left_and_said(bucket: Bucket) -> None:
    for blob in (b"", b"{}", b"[]", b"\xff", b'{"schema":1,"batch":"abc","state":"unheard of"}'):
        bucket.put(layout.summary(BATCH), blob, layout.JSON)

        with pytest.raises(Incomplete, match=r"abc/batch\.json is not readable"):
            finish(bucket, BATCH)
        assert bucket.get(layout.summary(BATCH)) == blob


def test_fields_of_later_versions_are_ignored(bucket: Bucket) -> None:
    summary = commit_lines(bucket, [])
    later = document(bucket) | {"added_later": 1}
    bucket.put(layout.summary(BATCH), json.dumps(later).encode(), layout.JSON)

    assert read_summary(bucket, BATCH) == summary


def test_a_batch_that_nobody_committed_has_no_summary(bucket: Bucket) -> None:
    assert read_summary(bucket, BATCH) is None
    assert finish(bucket, BATCH) is None
    assert read_plan(bucket, BATCH) is None


def test_the_summary_is_written_for_people_and_ends_with_a_line_end(bucket: Bucket) -> None:
    commit_lines(bucket, [])
    blob = bucket.get(layout.summary(BATCH)) or b""

    assert blob.startswith(b'{\n  "schema": 1,\n')
    assert blob.endswith(b"}\n")
