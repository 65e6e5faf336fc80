"""The dataset: every batch the same columns, every result a row, and nothing of it to be seen before the commit."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tests.support.deployment import Deployment, contents, result_line
from tests.support.processes import ROOT
from tests.support.story import finish
from workers import fanout
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, DiskFull, Writer
from workers.contract import Trigger
from workers.dataset import SCHEMA
from workers.gemini.batches import State
from workers.parts import Part, Piece, Split
from workers.plan import Plan, write_plan
from workers.summary import Summary

PARQUET = frozenset({"parquet"})
OBJECTS = frozenset({"objects"})
BOTH = PARQUET | OBJECTS
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


def embedding_line(key: str, values: str) -> bytes:
    return f'{{"key":"{key}","response":{{"embedding":{{"values":{values}}}}}}}\n'.encode()


def image_line(key: str, *data: str) -> bytes:
    parts: list[Any] = [{"text": "See: "}]
    parts += [{"inlineData": {"mimeType": "image/png", "data": one}} for one in data]
    answer = {"candidates": [{"content": {"parts": parts}}]}
    return json.dumps({"key": key, "response": answer}).encode() + b"\n"


FAILED = b'{"key":"failed","error":{"code":429,"message":"too many"}}\n'
BLOCKED = b'{"key":"blocked","response":{"promptFeedback":{"blockReason":"SAFETY"}}}\n'
KINDS = {
    "text": result_line("a") + result_line("b"),
    "embeddings": embedding_line("a", "[0.5,-1,2e3]") + embedding_line("b", "[1]"),
    "failures": FAILED + FAILED,
    "invalid lines": b"junk\n\xff\n",
    "media": image_line("a", PNG, PNG) + image_line("b", "?"),
    "blank lines": b"\n \n",
    "nothing": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def bucket(folder: Path) -> Bucket:
    return open_bucket(folder.as_uri(), {})


def prepare(
    bucket: Bucket, *raws: bytes, batch: str = "abc", state: State = State.SUCCEEDED, **told: Any
) -> list[Part]:
    """A batch as the splitter leaves it: each argument a raw part."""
    write_plan(
        bucket,
        Plan(
            **{
                "batch": batch,
                "state": state,
                "display_name": "my batch",
                "model": "models/gemini-2.5-flash",
                "created_at": None,
                "ended_at": None,
                "batch_stats": None,
                "error": None,
                "trigger": Trigger.PROCESS,
                "user_metadata": None,
            }
            | told
        ),
    )
    parts: list[Part] = []
    first = 0
    for number, raw in enumerate(raws):
        bucket.put(f"{batch}/{layout.raw_part(number)}", raw, layout.JSON_LINES)
        count = sum(1 for line in raw.split(b"\n") if line.strip())
        parts.append(Part(number, count, len(raw), hashlib.sha256(raw).hexdigest(), first))
        first += count
    whole = b"".join(raws)
    pieces = [Piece(part.number, part.lines, part.bytes, part.sha256) for part in parts]
    split = Split(pieces, first, len(whole), hashlib.sha256(whole).hexdigest())
    bucket.put(layout.split(batch), msgspec.json.encode(split), layout.JSON)
    return parts


def commit_batch(
    bucket: Bucket, *raws: bytes, outputs: frozenset[str] = PARQUET, batch: str = "abc", **told: Any
) -> Summary:
    for part in prepare(bucket, *raws, batch=batch, **told):
        fanout.fan_out(bucket, batch, part, outputs)
    summary = finish(bucket, batch)
    assert summary
    return summary


def read(folder: Path) -> pa.Table:
    """Every batch's dataset, as one table."""
    return pyarrow.dataset.dataset(sorted(map(str, folder.glob("*/dataset/*.parquet")))).to_table()


def column(bucket: Bucket, folder: Path, raw: bytes, name: str) -> list[Any]:
    commit_batch(bucket, raw)
    values: list[Any] = read(folder).column(name).to_pylist()
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_are_the_same_whatever_the_batch(bucket: Bucket, folder: Path, kind: str) -> None:
    commit_batch(bucket, KINDS[kind], display_name=None, model=None)

    file = folder / "abc/dataset/part-00000.parquet"
    assert pq.read_schema(file).equals(SCHEMA, check_metadata=False)
    assert pq.read_schema(file).field("embedding").type == pa.list_(pa.field("element", pa.float32()))
    assert all(field.nullable for field in pq.read_schema(file))


def test_all_batches_are_one_table(bucket: Bucket, folder: Path) -> None:
    for number, raw in enumerate(KINDS.values()):
        commit_batch(bucket, raw, batch=f"b{number}")

    table = read(folder)

    assert table.schema.equals(SCHEMA, check_metadata=False)
    assert table.column("batch").to_pylist() == [f"b{number}" for number in range(5) for _ in range(2)]
    assert table.column("key").to_pylist() == ["a", "b", "a", "b", "failed", "failed", None, None, "a", "b"]
    assert set(table.column("model").to_pylist()) == {"models/gemini-2.5-flash"}
    assert set(table.column("display_name").to_pylist()) == {"my batch"}


def test_a_row_says_what_the_output_document_says(bucket: Bucket, folder: Path) -> None:
    commit_batch(bucket, result_line("ä/1", "Two\nlines 😀"), outputs=BOTH)

    document = json.loads((folder / "abc/outputs/%C3%A4%2F1.json").read_bytes())
    (row,) = read(folder).to_pylist()
    assert json.loads(row["response"]) == document["response"]
    usage = {name: row[name] for name in document["usage"]}
    assert usage == document["usage"] == usage | {"prompt_tokens": 8, "cached_tokens": None}
    for name in ("key", "index", "status", "text", "finish_reason", "block_reason"):
        assert row[name] == document[name], name
    assert row["text"] == "Two\nlines 😀"
    assert (row["embedding"], row["media"], row["error_code"], row["error_message"]) == (None, [], None, None)


def test_failures_have_their_error_and_no_response(bucket: Bucket, folder: Path) -> None:
    commit_batch(bucket, FAILED + b"junk\n" + BLOCKED)

    failed, invalid, blocked = read(folder).to_pylist()
    assert [row["status"] for row in (failed, invalid, blocked)] == ["failed", "invalid", "succeeded"]
    assert (failed["error_code"], failed["error_message"], failed["response"]) == (429, "too many", None)
    assert (invalid["error_code"], invalid["response"]) == (None, None)
    assert invalid["error_message"].startswith("the line is not JSON")
    assert (blocked["block_reason"], blocked["text"], blocked["error_message"]) == ("SAFETY", None, None)


@pytest.mark.parametrize("code", ["2147483648", "-2147483649", "1" * 30, "1e3", '"7"', "null", "[]"])
def test_an_error_code_that_is_no_int32_is_null(bucket: Bucket, folder: Path, code: str) -> None:
    raw = f'{{"error":{{"code":{code},"message":"no"}}}}\n'.encode()

    assert column(bucket, folder, raw, "error_code") == [None]


def test_every_row_locates_its_raw_line(bucket: Bucket, folder: Path) -> None:
    raws = [b"\n" + result_line("a") + FAILED, b" \n" + b"junk\r\n" + result_line("b")[:-1]]
    commit_batch(bucket, *raws)

    rows = read(folder).to_pylist()

    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    found = []
    for row in rows:
        raw = (folder / "abc" / row["raw_part"]).read_bytes()
        found.append(raw[row["raw_offset"] : row["raw_offset"] + row["raw_length"]])
    assert found == [line for raw in raws for line in raw.split(b"\n") if line.strip()]


def test_embeddings_are_lists_of_float32(bucket: Bucket, folder: Path) -> None:
    raw = (
        embedding_line("a", "[0.5, -1, 2e3]")
        + FAILED
        + embedding_line("b", "[]")
        + embedding_line("c", "[0.1]")
    )

    found = column(bucket, folder, raw, "embedding")

    assert found == [[0.5, -1.0, 2000.0], None, [], [pytest.approx(0.1, rel=1e-7)]]


@pytest.mark.parametrize(
    "values",
    [
        *('["a"]', "[1,null]", '["NaN"]', "[true]", "[[1]]", "[1e39]", "[1e39,-1e39]", "[1e999]"),
        *("{}", '"x"', "null", f"[{'9' * 400}]", f"[{'0,' * (2 << 20)}0]"),
    ],
    ids=lambda values: values[:20],
)
def test_what_is_no_list_of_float32_is_a_null_embedding(bucket: Bucket, folder: Path, values: str) -> None:
    raw = embedding_line("a", "[1]") + embedding_line("b", values) + embedding_line("c", "[3.4e38,3.4e38,2]")

    first, second, third = column(bucket, folder, raw, "embedding")

    assert (first, second) == ([1.0], None)
    assert third[2] == 2.0


def test_media_are_named_by_their_objects_and_written_beside_the_table(bucket: Bucket, folder: Path) -> None:
    raw = image_line("a", PNG, PNG) + image_line("b", "?") + result_line("c")

    media = column(bucket, folder, raw, "media")

    assert media == [["media/a/0.png", "media/a/1.png"], [], []]
    assert all((folder / "abc" / name).exists() for name in media[0])
    assert PNG not in read(folder).column("response").to_pylist()[0]


def test_parquet_alone_writes_no_outputs(bucket: Bucket, folder: Path) -> None:
    commit_batch(bucket, KINDS["text"], outputs=PARQUET)

    assert list(contents(folder / "abc")) == [
        "batch.json",
        "dataset/part-00000.parquet",
        "manifest.jsonl",
        "raw/part-00000.jsonl",
    ]
    lines = (folder / "abc/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["object"] for line in lines] == [None, None]


def test_objects_alone_write_no_dataset(bucket: Bucket, folder: Path) -> None:
    commit_batch(bucket, KINDS["text"], outputs=OBJECTS)

    assert not (folder / "abc/dataset").exists()
    assert (folder / "abc/outputs/a.json").exists()


def test_both_together_are_what_each_writes_alone(tmp_path: Path) -> None:
    written = {}
    for outputs in (OBJECTS, PARQUET, BOTH):
        folder = tmp_path / "-".join(sorted(outputs))
        commit_batch(open_bucket(folder.as_uri(), {}), KINDS["text"], KINDS["media"], outputs=outputs)
        written[outputs] = contents(folder / "abc")

    objects, parquet, both = written[OBJECTS], written[PARQUET], written[BOTH]
    assert {name: data for name, data in both.items() if "dataset/" not in name} == objects
    assert {n: d for n, d in both.items() if "dataset/" in n} == {
        n: d for n, d in parquet.items() if "dataset/" in n
    }


def test_a_large_part_is_written_in_row_groups_with_its_rows_in_order(bucket: Bucket, folder: Path) -> None:
    lines = [result_line(f"k{number}", f"{number:05d}" * 400) for number in range(6000)]
    commit_batch(bucket, b"".join(lines))

    file = pq.ParquetFile(folder / "abc/dataset/part-00000.parquet")

    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert len(groups) > 1
    assert file.read(["index"]).column("index").to_pylist() == list(range(6000))
    assert {groups[0].column(number).compression for number in range(len(SCHEMA))} == {"ZSTD"}


def test_run_twice_it_gives_the_same_bytes(tmp_path: Path) -> None:
    raw = b"".join(KINDS.values()) + result_line("x", "y" * 5000) * 3000
    written = []
    for name in ("once", "again"):
        folder = tmp_path / name
        commit_batch(open_bucket(folder.as_uri(), {}), raw)
        written.append((folder / "abc/dataset/part-00000.parquet").read_bytes())

    assert written[0] == written[1]


def test_nothing_of_it_is_seen_before_the_commit_nor_left_in_work_after_it(
    bucket: Bucket, folder: Path
) -> None:
    parts = prepare(bucket, KINDS["text"], KINDS["media"])
    for part in parts:
        fanout.fan_out(bucket, "abc", part, PARQUET)
        assert not (folder / "abc/dataset").exists()

    assert finish(bucket, "abc")

    assert read(folder).num_rows == 4
    assert not (folder / "_work").exists()


def test_a_part_that_was_killed_before_its_marker_is_done_again(bucket: Bucket, folder: Path) -> None:
    (part,) = prepare(bucket, KINDS["text"])
    fanout.fan_out(bucket, "abc", part, PARQUET)
    staged = layout.staged_dataset("abc", 0, part.sha256)
    whole = bucket.get(staged)
    bucket.delete([layout.done("abc", 0, part.sha256)])
    bucket.put(staged, b"half", layout.PARQUET)

    fanout.fan_out(bucket, "abc", part, PARQUET)

    assert bucket.get(staged) == whole
    assert finish(bucket, "abc")
    assert (folder / "abc/dataset/part-00000.parquet").read_bytes() == whole


def test_a_commit_that_was_killed_halfway_is_completed(bucket: Bucket, folder: Path) -> None:
    for part in prepare(bucket, KINDS["text"], KINDS["media"]):
        fanout.fan_out(bucket, "abc", part, PARQUET)
    bucket.put("abc/dataset/part-00000.parquet", b"of an earlier run", layout.PARQUET)

    assert finish(bucket, "abc")

    assert read(folder).column("key").to_pylist() == ["a", "b", "a", "b"]


def test_a_setting_changed_on_the_way_is_said_in_the_summary(bucket: Bucket, folder: Path) -> None:
    first, second = prepare(bucket, KINDS["text"], KINDS["media"])
    fanout.fan_out(bucket, "abc", first, OBJECTS)
    fanout.fan_out(bucket, "abc", second, BOTH)

    summary = finish(bucket, "abc")

    assert summary
    assert summary.warnings == [
        "dataset/ holds 1 of 2 parts: OUTPUTS was changed while the batch was processed."
    ]
    assert [path.name for path in (folder / "abc/dataset").iterdir()] == ["part-00001.parquet"]


def test_a_better_revision_without_a_dataset_takes_the_old_one_away(bucket: Bucket, folder: Path) -> None:
    commit_batch(bucket, KINDS["text"], state=State.CANCELLED)
    assert (folder / "abc/dataset").exists()

    summary = commit_batch(bucket, KINDS["text"] + FAILED, outputs=OBJECTS)

    assert summary.revision == 2
    assert not list(folder.glob("abc/dataset/*"))


class _Full:
    """A bucket with no room for more than so many writes of a table."""

    def __init__(self, bucket: Bucket, room: int) -> None:
        self._bucket = bucket
        self._room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    @contextmanager
    def group(self) -> Iterator["_Full"]:
        with self._bucket.group() as together:
            yield _Full(together, self._room)

    @contextmanager
    def writer(self, name: str, content_type: str) -> Iterator[Writer]:
        with self._bucket.writer(name, content_type) as writer:
            yield _Narrow(writer, self._room) if content_type == layout.PARQUET else writer


class _Narrow:
    def __init__(self, writer: Writer, room: int) -> None:
        self._writer = writer
        self._room = room

    def write(self, data: bytes, /) -> None:
        self._room -= 1
        if self._room < 0:
            raise DiskFull("No room left.")
        self._writer.write(data)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_is_told_as_such_and_leaves_no_table(bucket: Bucket, room: int) -> None:
    lines = (result_line(n, hashlib.shake_256(b"%d" % n).hexdigest(1500)) for n in range(3000))
    (part,) = prepare(bucket, b"".join(lines))
    full: Any = _Full(bucket, room)

    with pytest.raises(DiskFull, match="No room left"):
        fanout.fan_out(full, "abc", part, PARQUET)

    assert bucket.size(layout.staged_dataset("abc", 0, part.sha256)) is None
    assert fanout.read_tally(bucket, "abc", part) is None


def test_a_batch_processed_in_the_foreground_has_its_dataset(deployment: Deployment) -> None:
    raw = b"".join(result_line(f"k{number}", "x" * 500) for number in range(300)) + FAILED
    batch = deployment.gemini.put_batch(raw, display_name="from a process")

    done = deployment.run("process", batch, OUTPUTS="objects,parquet", PART_BYTES="50000")

    assert done.returncode == 0, done.output
    summary = deployment.wait_for_commit(batch)
    table = read(deployment.folder)
    assert len(summary["parts"]) > 2
    assert table.column("index").to_pylist() == list(range(301))
    assert set(table.column("display_name").to_pylist()) == {"from a process"}
    assert deployment.output(batch, "k7")["text"] == table.column("text")[7].as_py()


def test_workers_that_are_forked_write_datasets(deployment: Deployment) -> None:
    raw = b"".join(result_line(f"k{number}", "x" * 500) for number in range(1000))
    batch = deployment.gemini.put_batch(raw)
    deployment.work("--workers", "2", OUTPUTS="parquet", PART_BYTES="50000")

    deployment.run("replay", batch)

    deployment.wait_for_commit(batch)
    assert read(deployment.folder).column("index").to_pylist() == list(range(1000))
    assert not (deployment.batch_folder(batch) / "outputs").exists()


@pytest.mark.parametrize("command", ["process", "work"])
def test_without_pyarrow_the_command_says_at_the_start_what_to_install(
    deployment: Deployment, tmp_path: Path, command: str
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(__name__)")
    batch = deployment.gemini.put_batch(result_line("a"))
    arguments = [batch] if command == "process" else []

    ended = deployment.run(command, *arguments, OUTPUTS="parquet", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")

    assert ended.returncode == 2
    assert "pip install 'batch-receiver[parquet]'" in ended.output
    assert "Traceback" not in ended.output
    assert not (deployment.folder / "_work").exists()
