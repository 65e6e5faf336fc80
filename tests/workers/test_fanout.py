"""The fan-out of a part: an output for each line, the same on every run, done only when all of it is stored."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.deployment import contents, result_line
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import Incomplete
from workers.fanout import fan_out, read_tally
from workers.parts import Part

BATCH = "abc"
OBJECTS = frozenset({"objects"})
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
IMAGE = json.dumps(
    {
        "key": "image",
        "response": {
            "candidates": [
                {
                    "content": {
                        "parts": [{"text": "See: "}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]
                    },
                    "finishReason": "STOP",
                }
            ]
        },
    }
).encode()
BLOCKED = b'{"key":"b","response":{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}}'
MIXED = b"\n".join(
    [
        result_line("a")[:-1],
        b"",
        b'{"key":"a","error":{"code":400,"message":"no"}}\r',
        BLOCKED,
        b" ",
        IMAGE,
        b"junk",
        b'{"response":{}}',
    ]
)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return open_bucket((tmp_path / "bucket").as_uri(), {})


def store(bucket: Bucket, raw: bytes, number: int = 0, **fields: Any) -> Part:
    """A raw part as the splitter leaves it."""
    bucket.put(f"{BATCH}/{layout.raw_part(number)}", raw, layout.JSON_LINES)
    count = sum(1 for line in raw.split(b"\n") if line.strip())
    told: dict[str, Any] = {"lines": count, "first_index": 0, "occurrences": {}} | fields
    return Part(number=number, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest(), **told)


def manifest(bucket: Bucket, part: Part) -> list[dict[str, Any]]:
    blob = bucket.get(layout.part_manifest(BATCH, part.number, part.sha256)) or b""
    return [json.loads(line) for line in blob.splitlines()]


def outputs(bucket: Bucket) -> list[str]:
    return sorted(name.removeprefix(f"{BATCH}/outputs/") for name, _ in bucket.list(f"{BATCH}/outputs"))


def test_each_line_becomes_an_output_and_a_line_of_the_manifest(bucket: Bucket) -> None:
    part = store(bucket, MIXED, first_index=100, occurrences={1: 2})

    tally = fan_out(bucket, BATCH, part, OBJECTS)

    assert outputs(bucket) == ["@104.json", "@105.json", "a.json", "a@2.json", "b.json", "image.json"]
    entries = manifest(bucket, part)
    assert [entry["index"] for entry in entries] == [100, 101, 102, 103, 104, 105]
    assert [entry["status"] for entry in entries] == [
        *("succeeded", "failed", "succeeded", "succeeded", "invalid", "succeeded")
    ]
    assert [entry["object"] for entry in entries][:2] == ["outputs/a.json", "outputs/a@2.json"]
    assert tally.lines == 6
    assert tally.repeated == 1
    assert tally.counts == {"succeeded": 4, "failed": 1, "invalid": 1}
    assert tally.finish_reasons == {"STOP": 2, "BLOCKED": 1}
    assert tally.usage["prompt_tokens"] == 11
    assert tally.usage["total_tokens"] == 19


def test_every_manifest_line_locates_its_raw_line(bucket: Bucket) -> None:
    part = store(bucket, MIXED)
    fan_out(bucket, BATCH, part, OBJECTS)

    found = []
    for entry in manifest(bucket, part):
        where = entry["raw"]
        assert where["part"] == "raw/part-00000.jsonl"
        found.append(MIXED[where["offset"] : where["offset"] + where["length"]])

    assert found == [line for line in MIXED.split(b"\n") if line.strip()]


def test_media_stand_beside_the_output_that_names_them(bucket: Bucket) -> None:
    part = store(bucket, IMAGE)

    fan_out(bucket, BATCH, part, OBJECTS)

    (medium,) = manifest(bucket, part)[0]["media"]
    assert medium["object"] == "media/image/0.png"
    assert bucket.get(f"{BATCH}/media/image/0.png") == base64.b64decode(PIXEL)
    document = json.loads(bucket.get(f"{BATCH}/outputs/image.json") or b"")
    assert document["media"] == [medium]
    assert PIXEL not in json.dumps(document)


def test_without_objects_only_media_and_the_manifest_are_written(bucket: Bucket) -> None:
    part = store(bucket, result_line("a") + IMAGE)

    fan_out(bucket, BATCH, part, frozenset())

    assert outputs(bucket) == []
    assert bucket.size(f"{BATCH}/media/image/0.png")
    assert [entry["object"] for entry in manifest(bucket, part)] == [None, None]


def test_run_twice_it_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("once", "twice"):
        bucket = open_bucket((tmp_path / name).as_uri(), {})
        part = store(bucket, MIXED, occurrences={1: 2})
        first = fan_out(bucket, BATCH, part, OBJECTS)
        if name == "twice":
            bucket.delete([layout.done(BATCH, 0, part.sha256)])
            assert fan_out(bucket, BATCH, part, OBJECTS) == first

    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def test_half_written_outputs_of_a_crash_are_made_whole(bucket: Bucket, tmp_path: Path) -> None:
    part = store(bucket, MIXED, occurrences={1: 2})
    fan_out(bucket, BATCH, part, OBJECTS)
    whole = contents(tmp_path / "bucket")
    bucket.delete([layout.done(BATCH, 0, part.sha256), f"{BATCH}/outputs/b.json"])
    (tmp_path / "bucket/abc/outputs/a.json").write_bytes(b'{"key":')
    (tmp_path / "bucket/abc/media/image/0.png").write_bytes(b"")

    fan_out(bucket, BATCH, part, OBJECTS)

    assert contents(tmp_path / "bucket") == whole


def test_a_done_part_is_not_looked_at_again(bucket: Bucket) -> None:
    part = store(bucket, MIXED)
    tally = fan_out(bucket, BATCH, part, OBJECTS)
    bucket.delete([f"{BATCH}/{layout.raw_part(0)}", f"{BATCH}/outputs/a.json"])

    assert fan_out(bucket, BATCH, part, OBJECTS) == tally
    assert read_tally(bucket, BATCH, part) == tally
    assert bucket.get(f"{BATCH}/outputs/a.json") is None


@pytest.mark.parametrize(
    "altered",
    [
        result_line("a"),  # a line is missing
        result_line("a") + result_line("B"),  # the same size
        result_line("a") + result_line("b") + b"\n",
        result_line("a") + result_line("b")[:-1],
        b"",
    ],
)
def test_a_raw_part_that_was_altered_is_never_done(bucket: Bucket, altered: bytes) -> None:
    part = store(bucket, result_line("a") + result_line("b"))
    bucket.put(f"{BATCH}/{layout.raw_part(0)}", altered, layout.JSON_LINES)

    with pytest.raises(Incomplete, match=r"raw/part-00000\.jsonl is not what was downloaded"):
        fan_out(bucket, BATCH, part, OBJECTS)

    assert read_tally(bucket, BATCH, part) is None
    assert manifest(bucket, part) == []


def test_a_count_of_lines_that_does_not_agree_is_never_done(bucket: Bucket) -> None:
    part = msgspec.structs.replace(store(bucket, result_line("a")), lines=2)

    with pytest.raises(Incomplete):
        fan_out(bucket, BATCH, part, OBJECTS)


def test_a_raw_part_that_is_gone_may_be_looked_for_again(bucket: Bucket) -> None:
    part = store(bucket, result_line("a"))
    bucket.delete([f"{BATCH}/{layout.raw_part(0)}"])

    with pytest.raises(MissingObject):
        fan_out(bucket, BATCH, part, OBJECTS)


def test_a_part_of_blank_lines_is_done_without_outputs(bucket: Bucket) -> None:
    part = store(bucket, b"\n \n\r\n")

    tally = fan_out(bucket, BATCH, part, OBJECTS)

    assert (tally.lines, tally.counts, outputs(bucket)) == (0, {}, [])
    assert bucket.size(layout.part_manifest(BATCH, 0, part.sha256)) == 0


def test_a_line_above_the_limit_is_invalid_and_its_neighbours_are_not(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.results.lines.lines.__defaults__", (200,))
    long = b'{"key":"long","error":{}}' + b" " * 300
    part = store(bucket, b'{"key":"a","error":{}}\n' + long + b'\n{"key":"b","error":{}}')

    fan_out(bucket, BATCH, part, OBJECTS)

    entries = manifest(bucket, part)
    assert [entry["status"] for entry in entries] == ["failed", "invalid", "failed"]
    assert entries[1]["raw"] == {"part": "raw/part-00000.jsonl", "offset": 23, "length": len(long)}
