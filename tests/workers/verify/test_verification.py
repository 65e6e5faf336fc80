"""Verify: an intact bucket passes, and each kind of damage is named as what it is, once."""

import base64
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyarrow import parquet

from tests.support.deployment import result_line
from tests.support.s3 import S3
from tests.support.story import finish
from workers import commit, parts
from workers.bucket import layout
from workers.bucket.folder import Folder
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.contract import Trigger
from workers.errors import SettingsError
from workers.fanout import fan_out
from workers.gemini.batches import State
from workers.plan import Plan, write_plan
from workers.sources import InlineSource
from workers.summary import Counts
from workers.verify import contents
from workers.verify.findings import SHOWN, Findings, Kind
from workers.verify.ledger import Call, Ledger
from workers.verify.requests import judge
from workers.verify.verification import Report, verify

BATCH = "abc"
KIND = layout.BYTES
IMAGE = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {
                        "inlineData": {
                            "mimeType": "image/png",
                            "data": base64.b64encode(b"\x89PNG\r\n\x1a\nx").decode(),
                        }
                    }
                ],
            },
            "finishReason": "STOP",
        }
    ]
}
LINES = [
    result_line("first", "one"),
    result_line("a/b", "two"),
    result_line("twice", "three"),
    b'{"key": "image", "response": %b}\n' % json.dumps(IMAGE).encode(),
    b'{"key": "failed", "error": {"code": 400, "message": "no"}}\n',
    b'{"key": "neither"}\n',
    result_line("twice", "four"),
    b'{"response": {"promptFeedback": {"blockReason": "SAFETY"}}}\n',
]
PART = "raw/part-00001.jsonl"
FOREIGN_PARTS = [{"object": "../other/raw/part-00000.jsonl", "lines": 1, "bytes": 1, "sha256": "0"}]
OTHER_COUNTS = {"total": 9, "succeeded": 7, "failed": 1, "invalid": 1}


def begin(
    bucket: Bucket, lines: list[bytes], state: State = State.SUCCEEDED, batch: str = BATCH
) -> list[parts.Part]:
    """A batch that is split into small parts, and not yet fanned out."""
    plan = Plan(batch, state, "my batch", "models/m", None, None, None, None, Trigger.PROCESS, None)
    write_plan(bucket, plan)
    source = InlineSource([msgspec.Raw(line.strip()) for line in lines])
    return [part for part, _ in parts.split(bucket, batch, source, 400)]


def store(
    bucket: Bucket,
    lines: list[bytes],
    outputs: str = "objects",
    state: State = State.SUCCEEDED,
    batch: str = BATCH,
) -> None:
    """A committed batch of several small parts."""
    for part in begin(bucket, lines, state, batch):
        fan_out(bucket, batch, part, frozenset(outputs.split(",")))
    assert finish(bucket, batch)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """One that holds an intact batch."""
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, LINES)
    return bucket


def problems(report: Report) -> list[tuple[str, str, str]]:
    return [
        (str(kind), problem.subject, problem.reason)
        for kind in Kind
        for problem in report.findings.first(kind)
    ]


def edit(bucket: Bucket, name: str, change: Callable[[bytes], bytes]) -> None:
    data = bucket.get(name)
    assert data is not None
    assert change(data) != data
    bucket.put(name, change(data), KIND)


def exchange(bucket: Bucket, one: str, other: str) -> None:
    first, second = bucket.get(one), bucket.get(other)
    assert first
    assert second
    assert first != second
    bucket.put(one, second, KIND)
    bucket.put(other, first, KIND)


def edit_summary(bucket: Bucket, **changes: Any) -> None:
    """Change `batch.json` and its copy alike."""
    document = json.loads(bucket.get(layout.summary(BATCH)) or b"")
    data = json.dumps(document | changes).encode()
    for name in (layout.summary(BATCH), index_of()):
        bucket.put(name, data, layout.JSON)


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


def relined(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


def index_of() -> str:
    return layout.index(datetime.now(UTC).date().isoformat(), BATCH)


def test_an_intact_batch_is_good(bucket: Bucket) -> None:
    report = verify(bucket, BATCH)

    assert problems(report) == []
    assert report.is_good
    assert report.summary
    assert report.summary.counts == Counts(8, 6, 1, 1)
    assert len(report.summary.parts) == 3
    assert report.objects == 1 + 1 + 3 + 8 + 1


def test_an_intact_batch_is_good_on_an_object_store_and_damage_is_seen_there(s3: S3) -> None:
    bucket = open_bucket(s3.fresh_url(), s3.env)
    store(bucket, LINES)
    assert problems(verify(bucket, BATCH)) == []

    bucket.delete([f"{BATCH}/outputs/first.json"])
    bucket.put(f"{BATCH}/outputs/first", b"{}", KIND)

    assert problems(verify(bucket, BATCH)) == [
        ("missing", "outputs/first.json", ""),
        ("stray", "outputs/first", ""),
    ]


@pytest.mark.parametrize("outputs", ["parquet", "objects,parquet"])
def test_an_intact_batch_with_a_dataset_is_good(tmp_path: Path, outputs: str) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, LINES, outputs)
    assert problems(verify(bucket, BATCH)) == []

    bucket.delete([f"{BATCH}/{layout.dataset_part(0)}"])
    edit(bucket, f"{BATCH}/{layout.dataset_part(1)}", lambda data: data[:-1])

    assert problems(verify(bucket, BATCH)) == [
        ("missing", "dataset/part-00000.parquet", ""),
        ("damaged", "dataset/part-00001.parquet", "is no whole Parquet file"),
    ]


def stored_table(tmp_path: Path, lines: list[bytes], batch: str = BATCH) -> bytes:
    """The first table of a batch of these lines."""
    bucket = open_bucket((tmp_path / "another").as_uri(), {})
    store(bucket, lines, "parquet", batch=batch)
    return bucket.get(f"{batch}/{layout.dataset_part(0)}") or b""


def test_tables_that_changed_places_are_damaged(tmp_path: Path) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    # Two parts of the same lines, and so of the same number of rows.
    store(bucket, [result_line("a"), result_line("b")] * 2, "parquet")
    one, other = (f"{BATCH}/{layout.dataset_part(number)}" for number in range(2))
    exchange(bucket, one, other)

    assert problems(verify(bucket, BATCH)) == [
        ("damaged", layout.dataset_part(0), "holds rows of another raw_part than raw/part-00000.jsonl"),
        ("damaged", layout.dataset_part(1), "holds rows of another raw_part than raw/part-00001.jsonl"),
    ]
    assert problems(verify(bucket, BATCH, quick=True)) == []


@pytest.mark.parametrize(
    ("lines", "batch", "reason"),
    [
        ([result_line("a")], BATCH, "has 1 rows instead of 2"),
        ([result_line("a"), result_line("b")], "other", "holds rows of another batch than abc"),
    ],
)
def test_a_table_of_other_rows_is_damaged(
    tmp_path: Path, lines: list[bytes], batch: str, reason: str
) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, [result_line("a"), result_line("b")], "parquet")
    bucket.put(f"{BATCH}/{layout.dataset_part(0)}", stored_table(tmp_path, lines, batch), KIND)

    assert problems(verify(bucket, BATCH)) == [("damaged", layout.dataset_part(0), reason)]


def test_a_table_with_a_flipped_bit_is_damaged(tmp_path: Path) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, LINES[:2], "parquet")
    name = f"{BATCH}/{layout.dataset_part(0)}"
    told = parquet.read_metadata(tmp_path / "bucket" / name).row_group(0)

    for column in (told.column(number) for number in range(told.num_columns)):
        last = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1
        flip = lambda data, at=last: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]  # noqa: E731
        edit(bucket, name, flip)
        [(kind, subject, reason)] = problems(verify(bucket, BATCH))
        assert (kind, subject) == ("damaged", layout.dataset_part(0)), column.path_in_schema
        assert reason.startswith("can't be read: ")
        edit(bucket, name, flip)


def test_tables_are_not_read_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, LINES, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(SettingsError, match=r"batch-receiver\[parquet\].*--quick"):
        verify(bucket, BATCH)
    assert problems(verify(bucket, BATCH, quick=True)) == []


def test_a_batch_whose_outputs_were_changed_on_the_way_holds_what_it_says(tmp_path: Path) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    begun = begin(bucket, LINES)
    for part, outputs in zip(begun, ["objects", "objects,parquet", "parquet"], strict=True):
        fan_out(bucket, BATCH, part, frozenset(outputs.split(",")))
    assert finish(bucket, BATCH)

    assert problems(verify(bucket, BATCH)) == []


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED, State.CANCELLED])
def test_a_batch_without_results_is_intact(tmp_path: Path, state: State) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    plan = Plan(BATCH, state, None, None, None, None, None, None, Trigger.PROCESS, None)
    commit.close(bucket, plan)

    assert problems(verify(bucket, BATCH)) == []


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED])
def test_a_batch_with_an_empty_result_file_is_intact(tmp_path: Path, state: State) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, [], state=state)

    assert problems(verify(bucket, BATCH)) == []


def test_nothing_in_the_bucket_is_touched(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    store(open_bucket(root.as_uri(), {}), LINES)
    before = {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}

    verify(open_bucket(root.as_uri(), {}), BATCH)

    assert {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))} == before


class _IgnoringCase(Folder):
    """A folder on a file system that ignores case, as far as a look-up tells."""

    ignores_case = True

    def size(self, name: str) -> int | None:
        found = super().size(name)
        return found if found is not None else super().size(name.replace("BATCH.JSON", "batch.json"))


def test_keys_that_differ_in_case_are_numbered_as_one_where_the_folder_takes_them_for_one(
    tmp_path: Path,
) -> None:
    bucket = _IgnoringCase((tmp_path / "bucket").as_uri())
    store(bucket, [result_line("Key"), result_line("key")])

    assert bucket.size(f"{BATCH}/outputs/key@2.json")
    assert problems(verify(bucket, BATCH)) == []


def test_a_truncated_output_is_damaged(bucket: Bucket) -> None:
    edit(bucket, f"{BATCH}/outputs/a%2Fb.json", lambda data: data[:100])

    [(kind, subject, reason)] = problems(verify(bucket, BATCH))

    assert (kind, subject) == ("damaged", "outputs/a%2Fb.json")
    assert reason.startswith("has 100 bytes instead of ")


def test_content_that_changed_and_kept_its_size_is_damaged(bucket: Bucket) -> None:
    for name in ("outputs/a%2Fb.json", "media/image/0.png"):
        edit(bucket, f"{BATCH}/{name}", lambda data: bytes(len(data)))

    assert problems(verify(bucket, BATCH)) == [
        ("damaged", "media/image/0.png", "differs from what its raw line becomes"),
        ("damaged", "outputs/a%2Fb.json", "differs from what its raw line becomes"),
    ]
    assert problems(verify(bucket, BATCH, quick=True)) == []


def test_outputs_that_changed_places_are_damaged(tmp_path: Path) -> None:
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {})
    store(bucket, [result_line("one"), result_line("two")])
    exchange(bucket, f"{BATCH}/outputs/one.json", f"{BATCH}/outputs/two.json")

    assert [subject for _, subject, _ in problems(verify(bucket, BATCH))] == [
        "outputs/one.json",
        "outputs/two.json",
    ]


def test_changed_content_is_seen_on_an_object_store_too(s3: S3) -> None:
    bucket = open_bucket(s3.fresh_url(), s3.env)
    store(bucket, LINES, "objects,parquet")
    assert problems(verify(bucket, BATCH)) == []

    edit(bucket, f"{BATCH}/outputs/first.json", lambda data: data.replace(b"one", b"two"))

    assert problems(verify(bucket, BATCH)) == [
        ("damaged", "outputs/first.json", "differs from what its raw line becomes")
    ]


def test_many_objects_and_large_ones_are_read_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_GROUP_OBJECTS", 3)
    monkeypatch.setattr(contents, "_GROUP_BYTES", 500)
    monkeypatch.setattr(contents, "_WHOLE_BYTES", 100)
    bucket = open_bucket((tmp_path / "bucket").as_uri(), {}, concurrency=4)
    store(bucket, LINES)
    assert problems(verify(bucket, BATCH)) == []

    edit(bucket, f"{BATCH}/outputs/first.json", lambda data: data[:-2] + b" }")

    assert problems(verify(bucket, BATCH)) == [
        ("damaged", "outputs/first.json", "differs from what its raw line becomes")
    ]


@pytest.mark.parametrize(
    "name",
    ["outputs/twice@2.json", "outputs/@7.json", "media/image/0.png", "manifest.jsonl", PART],
)
def test_what_is_missing_is_named_and_nothing_else(bucket: Bucket, name: str) -> None:
    bucket.delete([f"{BATCH}/{name}"])

    report = verify(bucket, BATCH)

    assert problems(report) == [("missing", name, "")]
    assert not report.is_intact


@pytest.mark.parametrize(
    "name", ["notes.txt", "outputs/first.json.tmp", "raw/part-00003.jsonl", "media/x/0.png"]
)
def test_what_does_not_belong_there_is_stray(bucket: Bucket, name: str) -> None:
    bucket.put(f"{BATCH}/{name}", b"x", KIND)

    assert problems(verify(bucket, BATCH)) == [("stray", name, "")]


def test_a_cut_medium_is_damaged(bucket: Bucket) -> None:
    edit(bucket, f"{BATCH}/media/image/0.png", lambda data: data[:-1])

    assert problems(verify(bucket, BATCH)) == [
        ("damaged", "media/image/0.png", "has 8 bytes instead of 9"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b'"twice"', b'"other"'), "has another SHA-256 than batch.json says"),
        (lambda data: data[:-1] + b" ", "has another SHA-256 than batch.json says"),
        (lambda data: data[:-1], "has {less} bytes, and batch.json says {size}"),
    ],
    ids=["a key", "the last byte", "cut"],
)
def test_a_changed_raw_part_is_one_problem(
    bucket: Bucket, change: Callable[[bytes], bytes], reason: str
) -> None:
    size = bucket.size(f"{BATCH}/{PART}")
    assert size
    edit(bucket, f"{BATCH}/{PART}", change)

    assert problems(verify(bucket, BATCH)) == [("damaged", PART, reason.format(size=size, less=size - 1))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace(b'"key":"a/b"', b'"key":"a-b"'), "line 2 differs from the raw line in key"),
        (replace(b'"status":"failed"', b'"status":"invalid"'), "line 5 differs from the raw line in status"),
        (replace(b"twice@2.json", b"twice@3.json"), "line 7 differs from the raw line in object"),
        (replace(b'"bytes":9', b'"bytes":8'), "line 4 differs from the raw line in media"),
        (replace(b'"offset":0', b'"offset":1'), "line 1 differs from the raw line in raw"),
        (replace(b'"code":400', b'"code":500'), "line 5 differs from the raw line in error"),
        (replace(b'{"key":"a/b"', b'["key":"a/b"'), "line 2 can't be read"),
        (relined(lambda lines: [*lines, lines[-1]]), "line 9 stands for no result"),
        (relined(lambda lines: lines[:-1]), "result 7 has no line"),
        (relined(lambda lines: lines[:2] + lines[3:]), "result 2 has no line"),
        (relined(lambda lines: lines[:1] + lines), "line 2 stands for result 0, which had its line before"),
    ],
)
def test_a_changed_manifest_line_is_named(
    bucket: Bucket, change: Callable[[bytes], bytes], reason: str
) -> None:
    edit(bucket, layout.manifest(BATCH), change)

    assert problems(verify(bucket, BATCH)) == [("damaged", "manifest.jsonl", reason)]


def test_a_manifest_of_a_later_version_may_say_more_and_in_another_order(bucket: Bucket) -> None:
    def later(data: bytes) -> bytes:
        entries = [{"new": 1} | json.loads(line) for line in data.splitlines()]
        return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)

    edit(bucket, layout.manifest(BATCH), later)

    assert problems(verify(bucket, BATCH)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch": "other"}, "is that of batch other"),
        ({"schema": 2}, "has schema 2, which this version does not know"),
        ({"committed_at": "../../.."}, "does not say when it was committed"),
        ({"parts": FOREIGN_PARTS}, "names other raw parts than those there can be"),
        ({"counts": OTHER_COUNTS}, "has other counts than the results add up to"),
        ({"finish_reasons": {"STOP": 6}}, "has other finish_reasons than the results add up to"),
        ({"usage": {}}, "has other usage than the results add up to"),
        ({"raw_sha256": "0"}, "has another raw_bytes or raw_sha256 than its parts together"),
        ({"raw_bytes": 1}, "has another raw_bytes or raw_sha256 than its parts together"),
    ],
)
def test_a_batch_json_that_is_not_this_batchs_is_damaged(
    bucket: Bucket, changes: dict[str, Any], reason: str
) -> None:
    edit_summary(bucket, **changes)

    assert problems(verify(bucket, BATCH)) == [("damaged", "batch.json", reason)]


def test_a_part_of_another_number_of_lines_than_batch_json_says_is_one_problem(bucket: Bucket) -> None:
    told = json.loads(bucket.get(layout.summary(BATCH)) or b"")["parts"]
    lines = told[0]["lines"]
    edit_summary(bucket, parts=[told[0] | {"lines": lines + 1}, *told[1:]])

    reason = f"says {lines + 1} lines of raw/part-00000.jsonl, and it has {lines}"
    assert problems(verify(bucket, BATCH)) == [("damaged", "batch.json", reason)]


def test_a_batch_json_that_is_none_is_damaged(bucket: Bucket) -> None:
    edit(bucket, layout.summary(BATCH), lambda _: b'{"hello": 1}')

    report = verify(bucket, BATCH)

    assert problems(report) == [("damaged", "batch.json", "is not readable")]
    assert report.summary is None


def test_a_batch_that_is_not_committed_is_missing_its_batch_json(bucket: Bucket) -> None:
    bucket.delete([layout.summary(BATCH)])
    assert problems(verify(bucket, BATCH)) == [("missing", "batch.json", "the batch is not committed")]

    bucket.put(layout.plan(BATCH), b"{}", KIND)
    assert problems(verify(bucket, BATCH)) == [
        ("missing", "batch.json", "the batch is not committed, but work on it has begun")
    ]


def test_what_a_crash_left_in_work_is_left_over(bucket: Bucket) -> None:
    bucket.put(layout.part(BATCH, 0), b"{}", KIND)
    bucket.put(layout.part("other", 0), b"{}", KIND)

    assert problems(verify(bucket, BATCH)) == [("left_over", layout.part(BATCH, 0), "")]


def test_an_index_that_is_missing_or_differs_is_named(bucket: Bucket) -> None:
    edit(bucket, index_of(), lambda data: data + b" ")
    assert problems(verify(bucket, BATCH)) == [("damaged", index_of(), "differs from batch.json")]

    bucket.delete([index_of()])
    assert problems(verify(bucket, BATCH)) == [("missing", index_of(), "")]


def test_every_problem_is_counted_and_the_first_are_kept() -> None:
    findings = Findings()
    for number in range(1000):
        findings.note(Kind.STRAY, str(number))

    assert findings.counts[Kind.STRAY] == 1000
    assert [problem.subject for problem in findings.first(Kind.STRAY)] == [str(n) for n in range(SHOWN)]


def test_the_ledger_tells_missing_stray_other_sizes_and_shared_names() -> None:
    with Ledger() as ledger:
        for name, size in (("same", 1), ("any", None), ("gone", 2), ("cut", 3), ("shared", 4), ("shared", 4)):
            ledger.expect(name, size)
        for name, size in (("same", 1), ("any", 7), ("cut", 2), ("stray", 5), ("shared", 4)):
            ledger.find(name, size)

        assert [held[:4] for held in ledger.held()] == [
            ("cut", 1, 3, 2),
            ("gone", 1, 2, None),
            ("shared", 2, 4, 4),
            ("stray", 0, None, 5),
        ]


def test_answers_of_a_key_are_given_to_its_requests_by_count_the_good_ones_first() -> None:
    calls = [
        Call("k", 0, "invalid"),
        Call("k", 0, "succeeded"),
        Call("k", 0, "failed"),
        *(Call("k", line, None) for line in (3, 5, 8, 13)),
        Call("more", 0, "succeeded"),
        Call("more", 0, "succeeded"),
        Call("more", 4, None),
        Call("unasked", 0, "failed"),
    ]

    assert [(key, line, kind) for key, line, kind, _ in judge(calls)] == [
        ("k", 3, None),
        ("k", 5, Kind.FAILED),
        ("k", 8, Kind.INVALID),
        ("k", 13, Kind.UNANSWERED),
        ("more", 4, None),
        ("more", 0, Kind.SURPLUS),
        ("unasked", 0, Kind.SURPLUS),
    ]
