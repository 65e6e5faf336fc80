"""Requests held against results at the commit: what is missing and what nobody asked for is counted, and named."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workers import completeness as module
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.completeness import Completeness, completeness, sentences
from workers.contract import submissions
from workers.contract.submissions import Pointer
from workers.parts import Piece
from workers.results.keys import NO_KEY, digest


def compared(folder: Path, asked: list[str], answered: list[list[str]]) -> Completeness | None:
    bucket = open_bucket(folder.as_uri(), {})
    bucket.put(submissions.pointer("abc"), Pointer("name", has_requests=False).encoded(), layout.JSON)
    bucket.put(
        submissions.keys("name"), b"".join(digest(key) if key else NO_KEY for key in asked), layout.BYTES
    )
    parts = []
    manifest = bytearray()
    for number, keys in enumerate(answered):
        digests = b"".join(digest(key) if key else NO_KEY for key in keys)
        bucket.put(layout.part_keys("abc", number), digests, layout.BYTES)
        parts.append(Piece(number, len(keys), 0, ""))
        for key in keys:
            line = {"key": key or None, "index": 0, "status": "succeeded", "finish_reason": None}
            rest: dict[str, Any] = {"block_reason": None, "usage": None, "media": [], "object": None}
            raw = {"part": "raw/part-00000.jsonl", "offset": 0, "length": 0}
            manifest += json.dumps({**line, **rest, "raw": raw}).encode() + b"\n"
    bucket.put(layout.manifest("abc"), bytes(manifest), layout.JSON_LINES)
    return completeness(bucket, "abc", parts)


@pytest.mark.parametrize(
    ("asked", "answered", "missing", "unasked"),
    [
        (["a", "b"], [["b"], ["a"]], 0, 0),
        (["a", "b", "c"], [["b"]], 2, 0),
        (["a"], [["a", "x"], ["y"]], 0, 2),
        (["a", "a", "b"], [["a"]], 2, 0),
        (["a"], [["a"], ["a"]], 0, 1),
        (["", "a"], [["", ""]], 1, 1),
        (["a"], [], 1, 0),
    ],
)
def test_missing_and_unasked_are_counted(
    asked: list[str], answered: list[list[str]], missing: int, unasked: int, tmp_path: Path
) -> None:
    found = compared(tmp_path, asked, answered)

    assert found is not None
    assert (found.missing, found.unasked) == (missing, unasked)


def test_what_is_too_long_for_memory_is_counted_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 50)
    chosen = random.Random(7)
    asked = [f"k{chosen.randrange(900)}" for _ in range(1000)]
    answered = [f"k{chosen.randrange(950)}" for _ in range(1000)]

    found = compared(tmp_path, asked, [answered[:400], answered[400:]])

    assert found is not None
    assert found.missing == sum((Counter(asked) - Counter(answered)).values())
    assert found.unasked == sum((Counter(answered) - Counter(asked)).values())
    assert len(found.unasked_keys) == module.SHOWN


def test_without_a_submission_nothing_is_said(tmp_path: Path) -> None:
    assert completeness(open_bucket(tmp_path.as_uri(), {}), "abc", []) is None


def test_the_first_are_named_and_the_rest_counted() -> None:
    found = Completeness(22, 1, tuple("abc"), ("x",))

    assert list(sentences(found)) == [
        "22 requests have no result: a, b, c, … and 19 more.",
        "1 results were not asked for: x.",
    ]
    assert list(sentences(Completeness(1, 0))) == ["1 requests have no result; `verify --input` says which."]
