"""Pages of a manifest by offset, and searches that end."""

import json
from pathlib import Path
from typing import Any

import pytest

from console import manifest
from console.manifest import Wanted, entry_at, entry_of, page
from workers.bucket.folder import Folder
from workers.bucket.protocol import Bucket


def line(number: int, key: str | None = None, **more: Any) -> bytes:
    entry = {
        "key": f"k{number}" if key is None else key,
        "index": number,
        "status": "succeeded",
        "finish_reason": "STOP",
        "usage": None,
        "media": [],
        "object": None,
        **more,
    }
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Folder(tmp_path.as_uri())


def written(bucket: Bucket, lines: list[bytes]) -> list[bytes]:
    bucket.put("b/manifest.jsonl", b"".join(lines), "application/jsonl")
    return lines


def indexes(bucket: Bucket, wanted: Wanted, limit: int = 7) -> list[int]:
    """Of all pages."""
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        seen = page(bucket, "b", wanted, start, limit)
        if seen is None:
            break
        found += [entry["index"] for _, entry in seen.entries]
        start = seen.after
    return found


@pytest.mark.parametrize("chunk", [7, 100, 333, 1 << 20])
def test_every_line_is_on_one_page_whatever_the_chunks(
    bucket: Bucket, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_FIRST_CHUNK", chunk)
    monkeypatch.setattr(manifest, "_CHUNK", chunk)
    written(bucket, [line(n, "x" * (n % 50), status="failed" if n % 3 else "succeeded") for n in range(100)])

    assert indexes(bucket, Wanted()) == [*range(100)]
    assert indexes(bucket, Wanted(status="failed")) == [n for n in range(100) if n % 3]
    assert indexes(bucket, Wanted(key="xxxxx")) == [n for n in range(100) if n % 50 >= 5]


def test_a_key_is_looked_for_in_keys_alone_and_in_every_alphabet(bucket: Bucket) -> None:
    written(
        bucket,
        [
            line(0, "ключ/1"),
            line(1, 'a"quote\\'),
            line(2, "plain", object="outputs/ключ.json"),
            line(3, "tab\t"),
        ],
    )

    assert indexes(bucket, Wanted(key="ключ")) == [0]
    assert indexes(bucket, Wanted(key='"quote\\')) == [1]
    assert indexes(bucket, Wanted(key="tab\t")) == [3]
    assert indexes(bucket, Wanted(key="STOP")) == []


def test_an_entry_is_opened_at_its_own_offset_and_nowhere_else(bucket: Bucket) -> None:
    lines = written(bucket, [line(n) for n in range(3)])
    second = len(lines[0])

    assert entry_at(bucket, "b", second)["index"] == 1  # type: ignore[index]
    for offset in (1, second - 1, second + 1, sum(map(len, lines)), 10**14):
        assert entry_at(bucket, "b", offset) is None
    assert entry_at(bucket, "none", 0) is None


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_an_entry_is_found_by_its_index_wherever_it_stands(bucket: Bucket, count: int) -> None:
    lines = written(bucket, [line(n, "x" * (n * 37 % 9000)) for n in range(count)])

    for index in range(count):
        found = entry_of(bucket, "b", index)
        assert found
        assert (found[0], found[1]["index"]) == (sum(map(len, lines[:index])), index)
    assert entry_of(bucket, "b", count) is None
    assert entry_of(bucket, "none", 0) is None


def test_lines_that_were_damaged_are_passed_over(bucket: Bucket) -> None:
    written(bucket, [line(0), b"{\n", b"[]\n", b'{"index": "x"}\n', b"\xff\n", line(1, media=7, usage=[1])])

    assert indexes(bucket, Wanted()) == [0, 1]


def test_a_search_that_takes_long_ends_and_says_where_to_go_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SEARCH_SECONDS", -1.0)
    monkeypatch.setattr(manifest, "_CHUNK", 1000)
    written(bucket, [line(n) for n in range(200)])
    first = page(bucket, "b", Wanted(key="k199"))

    assert first
    assert first.entries == []
    assert first.after is not None
    assert indexes(bucket, Wanted(key="k199")) == [199]
