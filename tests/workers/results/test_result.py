import json
import time
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.results import json_text
from workers.results import result as results
from workers.results.documents import manifest_line, read
from workers.results.json_text import is_utf8
from workers.results.result import Status, is_blank, key_of, oversized, parse, render

PART = "raw/part-00000.jsonl"


def of(value: object) -> bytes:
    return json.dumps(value).encode()


def candidate(*parts: object, **fields: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **fields}]}


def document_of(line: bytes, index: int = 0, occurrence: int = 1) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render(parse(line), index, occurrence).document)
    return document


# What a line is.


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"key":"a","response":{}}', "a"),
        (b'{"response":{},"key":"a"}', "a"),
        (b'{"metadata":{"key":"a"},"response":{}}', "a"),
        (b'{"metadata":{"key":"m"},"key":"a","response":{}}', "a"),
        (b'{"metadata":{"key":"m"},"key":null,"response":{}}', "null"),
        (b'{"response":{}}', None),
        (b'{"metadata":{},"response":{}}', None),
        (b'{"metadata":"key","response":{}}', None),
        (b'{"metadata":null,"response":{}}', None),
        (b'{"key":"","response":{}}', ""),
        (b'{"key":"\\u0061\\ud83d\\ude00\\/","response":{}}', "a😀/"),
        (b'{"\\u006bey":"a","response":{}}', "a"),
        (b'{"key":7,"response":{}}', "7"),
        (b'{"key":1e999,"response":{}}', "1e999"),
        (b'{"key":1.50,"response":{}}', "1.50"),
        (b'{"key":true,"response":{}}', "true"),
        (b'{"key": {"b" : 1, "a": [ 1 , "x  y\\u00e9" ] },"response":{}}', '{"b":1,"a":[1,"x  y\\u00e9"]}'),
        (b'{"metadata":{"key":[ 1, null ]},"response":{}}', "[1,null]"),
        (b'{"key":"a","key":"b","response":{}}', "b"),
        (b'{"metadata":{"key":"a"},"metadata":{"key":"b"},"response":{}}', "b"),
        (b'{"metadata":{"key":"a"},"metadata":{},"response":{}}', None),
    ],
)
def test_the_key_is_the_top_level_one_else_the_metadata_one(line: bytes, key: str | None) -> None:
    parsed = parse(line)
    assert parsed.key == key
    assert parsed.status is Status.SUCCEEDED
    assert document_of(line)["key"] == key


@pytest.mark.parametrize("key", ["a/b", "..", "x" * 10_000, "\x00\t\x1f\x7f", "@1", "ключ", "\u2028"])
def test_any_string_is_a_key(key: str) -> None:
    line = of({"key": key, "response": {}})
    assert parse(line).key == key
    assert document_of(line)["key"] == key


@pytest.mark.parametrize("around", [b"", b"\r", b"\n", b"\r\n", b" \t"])
def test_white_space_around_a_line_does_not_matter(around: bytes) -> None:
    line = around + b'{"key":"a","response":{"a": 1}}' + around
    assert parse(line).key == "a"
    assert render(parse(line), 0, 1).document.endswith(b',"response":{"a": 1}}')


@pytest.mark.parametrize("line", [b"", b"\r", b" \t \r\n"])
def test_a_line_of_white_space_is_blank(line: bytes) -> None:
    assert is_blank(line)


@pytest.mark.parametrize("line", [b"{}", b" x", b"\x0b", b"\x00", b"\xc2\xa0"])
def test_a_line_of_anything_else_is_not_blank(line: bytes) -> None:
    assert not is_blank(line)


@pytest.mark.parametrize("field", ["error", "status"])
def test_a_failing_line_gives_its_error_as_it_came(field: str) -> None:
    error = b'{ "code" : 13, "message" : "m\\u0021", "details":[1e999] }'
    line = b'{"key":"k","%b":%b}' % (field.encode(), error)
    result = render(parse(line), 0, 1)
    assert result.status is Status.FAILED
    assert result.document.endswith(b',"error":' + error + b"}")
    assert (result.error_code, result.error_message) == (13, "m!")


def test_an_error_counts_before_a_status() -> None:
    line = of({"key": "k", "status": {"code": 1}, "error": {"code": 2}})
    assert document_of(line)["error"] == {"code": 2}


def test_a_response_counts_before_an_echoed_status() -> None:
    line = of({"key": "k", "status": "mine", "response": {}})
    assert document_of(line)["status"] == "succeeded"


@pytest.mark.parametrize("error", ["quota", 5, ["x"], False, {"code": "x", "message": 1}, {}])
def test_an_error_of_any_shape_is_a_failure_without_code(error: object) -> None:
    result = render(parse(of({"key": "k", "error": error})), 0, 1)
    assert result.status is Status.FAILED
    assert json.loads(result.document)["error"] == error
    assert (result.error_code, result.error_message) == (None, None)


def test_a_carriage_return_inside_an_error_never_cuts_the_manifest_line() -> None:
    result = render(parse(b'{"error":{"code":\r3}}'), 0, 1)
    line = manifest_line(result, PART, 0, 1, has_object=True)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["error"] == {"code": 3}


NESTED = b'{"key":"k","response":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no json", "not JSON"),
        (b'{"key":"k","response":{}', "not JSON"),
        (b'{"key":"k","response":{}} x', "not JSON"),
        (b'{"key":"k","response":{"a":01}}', "not JSON"),
        (b'{"key":"k","response":{"a":NaN}}', "not JSON"),
        (b'{"key":"k\x01","response":{}}', "not JSON"),
        (b'\xef\xbb\xbf{"key":"k","response":{}}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"5", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"key":"\xff","response":{}}', "not UTF-8"),
        (b'{"key":"k","response":{"a":"\xff"}}', "not UTF-8"),
        (b'{"key":"k","response":{"a":"\xed\xa0\x80"}}', "not UTF-8"),
        (b'{"key":"k","response":{},"x\xc3":1}', "not UTF-8"),
        (b'{"key":"\\ud800","response":{}}', "lone surrogate"),
        (b'{"key":"k","response":{"a":"\\ud800 and then text"}}', "lone surrogate"),
        (b'{"key":"k","response":{"a":"\\uDC00 and then text"}}', "lone surrogate"),
        (b'{"key":"k","response":{"a":"\\ud800\\ud800\\udc00"}}', "lone surrogate"),
        (b'{"key":"k","response":{"a":"\\ud800\\n\\udc00"}}', "lone surrogate"),
        (b'{"key":"k","response":{"a":"\\\\\\ud83d\\ude00\\udc00"}}', "lone surrogate"),
        (b'{"key":"k","response":{"\\udc00":1}}', "lone surrogate"),
        (NESTED, "nested"),
        (NESTED.replace(b"[", b'{"a":').replace(b"]", b"}").replace(b":}", b":0}"), "nested"),
        (b"[" * 10_000, "nested"),
    ],
)
def test_what_the_decoder_refuses_is_invalid_and_has_no_key(line: bytes, reason: str) -> None:
    result = render(parse(line), 4, 1)
    document = json.loads(result.document)
    assert (document["status"], document["key"], result.name) == ("invalid", None, "@4")
    assert reason in document["error"]["message"]


@pytest.mark.parametrize(
    "line",
    [
        b'"' + b'\\"' * 500_000 + b"[" * 1_000,
        b'{"a":"' + b"\\ud83d\\ude00" * 100_000 + b"[" * 1_000,
        b'{"a":"' + b"\\" * 1_000_001,
        b'"' * 1_000_001 + b"[" * 1_000,
    ],
)
def test_a_hostile_line_takes_no_more_time_than_its_length(line: bytes) -> None:
    started = time.perf_counter()
    assert parse(line).status is Status.INVALID
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"k"}',
        b'{"key":"k","response":null,"error":null,"status":null}',
        b'{"key":"k","response":{},"response":null}',
        b'{"key":"k","response":"text"}',
        b'{"key":"k","response":[]}',
        b'{"key":"k","response":5}',
    ],
)
def test_a_line_with_neither_response_nor_error_is_invalid_and_keeps_its_key(line: bytes) -> None:
    document = document_of(line)
    assert (document["status"], document["key"]) == ("invalid", "k")
    assert document["error"]["message"]


def test_of_repeated_fields_the_last_one_counts() -> None:
    assert document_of(b'{"response":{"a":1},"response":{"a":2}}')["response"] == {"a": 2}
    assert document_of(b'{"error":{"code":1},"error":{"code":2}}')["error"] == {"code": 2}


def test_escaped_backslashes_before_a_u_are_no_surrogate() -> None:
    assert parse(b'{"response":{"a":"\\\\ud800"}}').status is Status.SUCCEEDED


@pytest.mark.parametrize("depth", [json_text.MAX_DEPTH - 2, json_text.MAX_DEPTH - 1])
def test_the_depth_that_is_accepted_does_not_depend_on_the_caller(depth: int) -> None:
    line = b'{"a":{"]":' + b"[" * depth + b'"["' + b"]" * depth + b'},"response":{}}'
    expected = depth + 2 <= json_text.MAX_DEPTH

    def deeper(frames: int) -> Status:
        return deeper(frames - 1) if frames else parse(line).status

    assert {deeper(0) is Status.SUCCEEDED, deeper(100) is Status.SUCCEEDED} == {expected}


def test_brackets_inside_strings_are_no_nesting() -> None:
    line = of({"key": "k", "response": {"a": '[{"' * 5_000, "b": [[]] * 5_000}})
    assert parse(line).status is Status.SUCCEEDED


def test_a_line_above_the_limit_is_invalid_held_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LINE_LIMIT_BYTES", 100)
    line = of({"key": "k", "response": {"a": "x" * 100}})
    assert parse(line) == oversized()
    assert document_of(line)["error"] == {"message": "the line is longer than 100 bytes"}


def test_text_beyond_ascii_is_checked_in_pieces_that_may_cut_a_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_text, "_UTF8_PIECE", 3)
    assert parse('{"key":"é🙂中","response":{}}'.encode()).key == "é🙂中"
    assert parse('{"key":"é🙂中'.encode()[:-1]).key is None


# What an answer says.


def test_the_document_has_the_fields_of_the_design_in_their_order() -> None:
    line = of({"key": "request-1", "response": candidate({"text": "hi"}, finishReason="STOP")})
    assert render(parse(line), 3, 2).document == (
        b'{"key":"request-1","index":3,"status":"succeeded","text":"hi","finish_reason":"STOP",'
        b'"block_reason":null,"usage":null,"media":[],"response":' + line.partition(b'"response": ')[2]
    )


def test_the_response_passes_byte_for_byte() -> None:
    response = b'{ "n": [1e999, 12345678901234567890123, 1.10],\t"n":-0.0, "s":"\\u00e9\\/" }'
    result = render(parse(b'{"response":' + response + b"}"), 0, 1)
    assert result.document.endswith(b',"response":' + response + b"}")
    assert result.response == response


@pytest.mark.parametrize("parts", [1, 3])
def test_a_text_of_60_mb_costs_at_most_four_times_that_in_memory(parts: int) -> None:
    tracemalloc.start()
    try:
        texts = b",".join([b'{"text":"%b"}' % (b"ab\\n " * (12_000_000 // parts))] * parts)
        line = b'{"key":"k","response":{"candidates":[{"content":{"parts":[%b]}}]}}' % texts
        del texts
        tracemalloc.reset_peak()
        assert len(render(parse(line), 0, 1).document) > 2 * len(line) - 1_000
        assert tracemalloc.get_traced_memory()[1] < 4 * len(line)
    finally:
        tracemalloc.stop()


# Anything at all.

TEXT = st.text(max_size=6)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    *("candidates", "content", "parts", "text", "thought", "inlineData", "inline_data", "mimeType", "data"),
    *("finishReason", "promptFeedback", "blockReason", "usageMetadata", "usage_metadata", "promptTokenCount"),
    *("tokenCount", "embedding", "values"),
]
# The fields that are read, in places where they belong and in places where they don't.
SHAPES = st.recursive(
    JSON | st.sampled_from(["STOP", "QUJD", "QUJ", "image/png", True, 8, "8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=15,
)
LINES = st.fixed_dictionaries(
    {},
    optional={
        "key": JSON,
        "metadata": st.just({"key": "m"}) | JSON,
        "response": SHAPES,
        "error": JSON,
        "status": JSON,
    },
)
VALID = of(
    {
        "key": "request-1",
        "response": {
            **candidate(
                {"text": "é😀\n", "thought": True},
                {"text": "answer"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                {"inline_data": {"mime_type": "image/png", "data": "%"}},
                finishReason="STOP",
            ),
            "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": "848"},
        },
    }
)


def check(line: bytes) -> None:
    parsed = parse(line)
    if is_utf8(line):
        assert parse(line, known_utf8=True) == parsed
        assert key_of(line) == parsed.key
    result = render(parsed, 3, 2)
    document = json.loads(result.document)
    told = manifest_line(result, PART, 0, len(line), has_object=True)
    manifest = json.loads(told)
    assert told == msgspec.json.encode(read(told[:-1])) + b"\n"
    assert document["status"] == manifest["status"] == parsed.status
    assert document["key"] == manifest["key"] == parsed.key
    assert document["text"] == result.text
    assert document["media"] == manifest["media"]
    assert ("response" in document, "error" in document) == (
        parsed.status is Status.SUCCEEDED,
        parsed.status is not Status.SUCCEEDED,
    )
    if parsed.status is Status.SUCCEEDED and not result.media:
        assert document["response"] == json.loads(line)["response"]


@given(LINES)
def test_any_json_is_rendered_and_its_response_kept(value: dict[str, Any]) -> None:
    check(of(value))
    check(json.dumps(value, ensure_ascii=False, indent=1).encode(errors="surrogatepass"))


@given(st.binary(max_size=300))
@example(b"")
@example(b"{}")
def test_any_bytes_are_rendered(line: bytes) -> None:
    check(line)


@settings(max_examples=300)
@given(st.data())
def test_any_change_to_a_valid_line_is_rendered(data: st.DataObject) -> None:
    line = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line)))
        cut = data.draw(st.integers(0, 8))
        piece = data.draw(st.binary(max_size=3) | st.sampled_from(PIECES))
        line[at : at + cut] = piece
    check(bytes(line))


PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"1e999",
    b"\\ud800",
    b"\\u0022",
    b" ",
    b"\r",
]
