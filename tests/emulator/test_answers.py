"""What the model says, without a server."""

import json
import struct
import zlib
from typing import Any

import pytest

from emulator.answers import embed, generate, png


def _request(text: str, **config: Any) -> dict[str, Any]:
    return {"contents": [{"parts": [{"text": text}]}], "generation_config": config}


def _text(result: dict[str, Any]) -> str:
    return str(result["response"]["candidates"][0]["content"]["parts"][0]["text"])


def test_a_text_answer_quotes_its_prompt_and_counts_tokens() -> None:
    result = generate("models/gemini", _request("Why is the sky blue?"))
    assert '"Why is the sky blue?"' in _text(result)
    usage = result["response"]["usageMetadata"]
    assert usage["totalTokenCount"] == sum(
        usage[name] for name in ("promptTokenCount", "thoughtsTokenCount", "candidatesTokenCount")
    )


def test_the_same_request_is_always_answered_alike() -> None:
    assert generate("m", _request("Hello")) == generate("m", _request("Hello"))
    assert generate("m", _request("Hello")) != generate("m", _request("Hullo"))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": "INTEGER"}}},
            {"a": "Hi", "b": 2},
        ),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 3}, [True, True, True]),
        ({"type": "string", "enum": ["red", "green"]}, "red"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "number"}}}, 2),
    ],
)
def test_structured_output_follows_the_schema(schema: dict[str, Any], expected: Any) -> None:
    request = _request("Hi", responseMimeType="application/json", responseJsonSchema=schema)
    assert json.loads(_text(generate("m", request))) == expected


def test_structured_output_without_a_schema_is_an_object() -> None:
    request = _request("Hi", response_mime_type="application/json")
    assert json.loads(_text(generate("m", request)))["prompt"] == "Hi"


def test_the_image_is_a_png_that_can_be_decoded() -> None:
    image = png("seed")
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    offset, chunks = 8, {}
    while offset < len(image):
        (length,) = struct.unpack(">I", image[offset : offset + 4])
        kind, data = image[offset + 4 : offset + 8], image[offset + 8 : offset + 8 + length]
        assert struct.unpack(">I", image[offset + 8 + length : offset + 12 + length]) == (
            zlib.crc32(kind + data),
        )
        chunks[kind] = data
        offset += 12 + length
    assert len(zlib.decompress(chunks[b"IDAT"])) == 16 * (1 + 16 * 3)
    assert png("seed") != png("other")


def test_an_embedding_has_as_many_numbers_as_asked_for_between_minus_one_and_one() -> None:
    request = {"content": {"parts": [{"text": "Explain"}]}, "output_dimensionality": 512}
    values = embed("m", request)["response"]["embedding"]["values"]
    assert len(values) == 512
    assert all(-1 <= value <= 1 for value in values)


def test_an_embedding_can_fail() -> None:
    assert "error" in embed("m", {"content": {"parts": [{"text": "[error]"}]}})


@pytest.mark.parametrize("request_", [{}, {"contents": "Hi"}, {"contents": {"parts": {"text": "Hi"}}}])
def test_loosely_written_requests_are_answered_too(request_: dict[str, Any]) -> None:
    assert _text(generate("m", request_))
