"""Lines of the OpenAI-compatible layer, and others that clients are known to write."""

import base64
import json
import tracemalloc
from typing import Any

import pytest

from workers.results.answers import Usage
from workers.results.result import Rendered, Status, parse, render

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PIXEL = base64.b64encode(PNG).decode()


def line_of(body: Any, status_code: Any = 200, **fields: Any) -> bytes:
    response = {"status_code": status_code, "request_id": "q0", "body": body}
    return json.dumps(
        {"id": "batch_req_0", "custom_id": "c", "response": response, "error": None, **fields}
    ).encode()


def rendered(line: bytes) -> Rendered:
    return render(parse(line), 0, 1)


def document_of(line: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(rendered(line).document)
    return document


def completion(content: Any, **message: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": content, **message},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "gemini-3.8-flash",
        "choices": [choice],
        "usage": usage,
    }


def test_a_completion_has_key_text_reason_usage_and_its_response_as_it_came() -> None:
    line = line_of(completion("hello"))

    result, document = rendered(line), document_of(line)

    assert (result.key, result.name, result.status) == ("c", "c", Status.SUCCEEDED)
    assert (document["text"], document["finish_reason"]) == ("hello", "stop")
    assert result.usage == Usage(prompt_tokens=3, output_tokens=5, total_tokens=8)
    assert result.model_version == "gemini-3.8-flash"
    assert result.document.endswith(
        b',"response":' + line.partition(b'"response": ')[2].partition(b', "error"')[0] + b"}"
    )


def test_content_in_parts_is_joined_and_the_first_choice_counts() -> None:
    parts = [{"type": "text", "text": "a\n"}, {"type": "image_url"}, {"type": "text", "text": "b"}, 5]
    body = completion(parts)
    body["choices"].append({"message": {"content": "other"}, "finish_reason": "length"})

    assert (document_of(line_of(body))["text"], rendered(line_of(body)).finish_reason) == ("a\nb", "stop")


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"promptTokens": 8, "completionTokens": 11, "totalTokens": 30}, Usage(8, None, None, 11, None, 30)),
        ({"prompt_tokens": "8", "total_tokens": 2**70}, Usage(8)),
        (
            {"prompt_tokens": 8, "completion_tokens": 11, "total_tokens": 19,
             "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 9}},
            Usage(8, 4, None, 2, 9, 19),
        ),
        (
            {"promptTokens": 8, "completionTokens": 11, "totalTokens": 28,
             "completionTokensDetails": {"reasoningTokens": 9}},
            Usage(8, None, None, 11, 9, 28),
        ),
        ({"completion_tokens": None, "total_tokens": -1}, Usage()),
        ({}, None),
        ("x", None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_is_read_in_both_spellings_and_thoughts_stand_beside_the_output(
    counts: Any, usage: Usage | None
) -> None:
    assert rendered(line_of(completion("hi") | {"usage": counts})).usage == usage


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (line_of({"error": {"code": 400, "message": "no"}}, 400), {"code": 400, "message": "no"}),
        (line_of({"error": {"code": 400, "message": "no"}}), {"code": 400, "message": "no"}),
        (line_of({"detail": "no"}, 422), {"detail": "no"}),
        (line_of("no", 500), "no"),
        (line_of(None, 500), {"status_code": 500, "request_id": "q0", "body": None}),
        (line_of(completion("hi"), 500, error={"code": "x"}), {"code": "x"}),
        (line_of(completion("hi"), error="late"), "late"),
        (line_of(completion("hi"), "429"), completion("hi")),
        (line_of(None, response=None, error={"code": "batch_expired"}), {"code": "batch_expired"}),
    ],
)
def test_a_status_of_400_and_more_or_an_error_is_failed(line: bytes, error: Any) -> None:
    document = document_of(line)

    assert (document["status"], document["key"], document["error"]) == (Status.FAILED, "c", error)


@pytest.mark.parametrize("status_code", [200, 201, 399, None, "x", "", [], {}, True])
def test_any_other_status_is_none(status_code: Any) -> None:
    assert document_of(line_of(completion("hi"), status_code))["text"] == "hi"


@pytest.mark.parametrize(
    "body",
    [
        *(
            None,
            "text",
            5,
            [],
            {},
            {"choices": None},
            {"choices": "x"},
            {"choices": [None]},
            {"choices": [{}]},
        ),
        *(
            {"choices": [{"message": "x"}]},
            {"choices": [{"message": {"content": 5}}]},
            {"data": [{"embedding": "AAAA"}]},
        ),
    ],
)
def test_a_body_of_another_shape_is_an_answer_without_text(body: Any) -> None:
    document = document_of(line_of(body))

    assert (document["status"], document["text"], document["media"]) == (Status.SUCCEEDED, None, [])
    assert document["response"]["body"] == body


def test_an_embedding_is_reachable() -> None:
    body = {
        "object": "list",
        "data": [{"embedding": [0.5, -1], "index": 0}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    result = rendered(line_of(body))

    assert json.loads(bytes(result.embedding or b"")) == [0.5, -1]
    assert result.usage == Usage(prompt_tokens=3, total_tokens=3)


def test_images_and_sounds_become_media_and_stay_in_the_response() -> None:
    url = f"data:image/png;base64,{PIXEL}"
    body = completion(
        [{"type": "image_url", "image_url": {"url": url}}],
        images=[{"image_url": url}, {"image_url": {"url": "https://example.com/x.png"}}],
        audio={"data": base64.b64encode(b"OggS\x00").decode()},
    )
    body["data"] = [{"b64_json": PIXEL}, {"b64_json": "%"}]
    line = line_of(body)

    assert [(medium.object_name, medium.data) for medium in rendered(line).media] == [
        *((f"media/c/{number}.png", PNG) for number in (0, 1)),
        ("media/c/2.ogg", b"OggS\x00"),
        ("media/c/3.png", PNG),
    ]
    document = document_of(line)
    assert [entry["mime_type"] for entry in document["media"]] == [
        "image/png",
        "image/png",
        "audio/ogg",
        "image/png",
        None,
    ]
    assert document["media"][4]["error"].startswith("data is not base64")
    assert document["response"]["body"] == body


def test_an_image_is_found_however_its_address_is_escaped() -> None:
    line = line_of(completion([{"image_url": {"url": f"DATA:image/png;base64,{PIXEL}"}}]))

    [medium] = rendered(line.replace(b"/", b"\\/").replace(b"=", b"\\u003d")).media

    assert (medium.object_name, medium.data) == ("media/c/0.png", PNG)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"b64_json":"%b"}]}',
        b'{"choices":[{"message":{"content":[{"image_url":"data:image/png;base64,%b"}]}}]}',
    ],
)
def test_an_image_of_60_mb_costs_at_most_four_times_that_in_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        line = b'{"custom_id":"k","response":{"body":%b}}' % (body % (b"QUJD" * 15_000_000))
        tracemalloc.reset_peak()
        assert len(rendered(line).media[0].data) == 45_000_000
        assert tracemalloc.get_traced_memory()[1] < 4 * len(line)
    finally:
        tracemalloc.stop()


def test_a_native_line_with_a_custom_id_is_native() -> None:
    native = {
        "candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
        "modelVersion": "m",
    }
    document = document_of(json.dumps({"custom_id": "ticket_001", "response": native}).encode())

    assert (document["key"], document["text"], document["finish_reason"]) == ("ticket_001", "hi", "STOP")


def test_a_native_answer_with_a_body_that_is_none_of_theirs_is_read_as_it_is() -> None:
    native = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}], "body": {"x": 1}}

    assert document_of(json.dumps({"key": "k", "response": native}).encode())["text"] == "hi"
    assert (
        document_of(b'{"key":"k","response":{"body":{"choices":[]},"candidates":1}}')["status"] == "succeeded"
    )


@pytest.mark.parametrize(
    ("number", "said"), [(b"NaN", "NaN"), (b"-Infinity", "-Infinity"), (b'"NaN"', "NaN"), (b"-0.2", -0.2)]
)
def test_a_number_that_json_has_not_is_told_as_a_string_as_protobuf_does(number: bytes, said: object) -> None:
    line = (
        b'{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"hi NaN"}]},"finishReason":"STOP",'
        b'"avgLogprobs":%b}],"usageMetadata":{"promptTokenCount":3}}}' % number
    )
    document = json.loads(rendered(line).document, parse_constant=pytest.fail)

    assert (document["key"], document["text"], document["usage"]["prompt_tokens"]) == ("a", "hi NaN", 3)
    assert document["response"]["candidates"][0]["avgLogprobs"] == said


def test_media_of_a_line_that_was_mended_are_cut_out_at_their_place() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    candidate = {"score": float("nan"), "content": {"parts": [part]}}
    result = rendered(
        b"\xef\xbb\xbf" + json.dumps({"key": "k", "response": {"candidates": [candidate]}}).encode()
    )

    assert [medium.data for medium in result.media] == [PNG]
    response = json.loads(result.document)["response"]["candidates"][0]
    assert response["score"] == "NaN"
    assert list(response["content"]["parts"][0]) == ["fileData"]
