"""A line of the manifest: the bytes that are put together by hand are those of the one description of it."""

import json

import msgspec
import pytest

from workers.results.documents import manifest_line, objects_of, read
from workers.results.result import Rendered, parse, render

PART = "raw/part-00000.jsonl"
PIXEL = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
BROKEN = {"inline_data": {"mime_type": "image/png", "data": "%"}}


def rendered(line: object, index: int = 3, occurrence: int = 2) -> Rendered:
    return render(parse(json.dumps(line).encode()), index, occurrence)


def answer(*parts: object, **fields: object) -> dict[str, object]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP"}], **fields}


def test_it_locates_the_raw_line_and_the_object() -> None:
    line = manifest_line(
        rendered({"key": "a/b", "response": answer({"text": "hi"})}), PART, 10, 20, has_object=True
    )

    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "key": "a/b",
        "index": 3,
        "status": "succeeded",
        "finish_reason": "STOP",
        "block_reason": None,
        "usage": None,
        "media": [],
        "object": "outputs/a%2Fb@2.json",
        "raw": {"part": PART, "offset": 10, "length": 20},
    }


def test_without_objects_it_names_none() -> None:
    line = manifest_line(rendered({"error": {}}), PART, 0, 12, has_object=False)

    assert json.loads(line)["object"] is None
    assert json.loads(line)["error"] == {}


@pytest.mark.parametrize(
    "line",
    [
        {"key": "a", "response": answer({"text": "hi"})},
        {"key": "é/😀\n", "response": answer(PIXEL, BROKEN, usageMetadata={"promptTokenCount": 1})},
        {"key": "b", "response": {"promptFeedback": {"blockReason": "SAFETY"}}},
        {"key": "f", "error": {"code": 400, "details": [1, {"a": "é"}]}},
        {"key": "f", "error": "a word"},
        {"neither": 1},
    ],
)
@pytest.mark.parametrize("has_object", [True, False])
def test_its_bytes_are_those_of_the_entry(line: object, *, has_object: bool) -> None:
    told = manifest_line(rendered(line), PART, 10, 20, has_object=has_object)

    assert told == msgspec.json.encode(read(told)) + b"\n"


def test_the_objects_of_a_line_are_its_output_and_its_media() -> None:
    result = rendered({"key": "a", "response": answer(PIXEL, BROKEN, PIXEL)})

    media = ["media/a@2/0.png", "media/a@2/2.png"]
    assert list(objects_of(manifest_line(result, PART, 0, 1, has_object=True))) == [
        "outputs/a@2.json",
        *media,
    ]
    assert list(objects_of(manifest_line(result, PART, 0, 1, has_object=False))) == media
    assert list(objects_of(manifest_line(rendered({"error": 1}), PART, 0, 1, has_object=False))) == []
