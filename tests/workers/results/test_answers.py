import json
from typing import Any

import pytest

from workers.results.answers import Usage
from workers.results.result import Rendered, Status, parse, render


def of(value: object) -> bytes:
    return json.dumps(value).encode()


def answer(response: object) -> Rendered:
    return render(parse(of({"key": "k", "response": response})), 0, 1)


def candidate(*parts: object, **fields: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **fields}]}


def test_text_parts_are_joined_and_thoughts_left_out() -> None:
    result = answer(
        candidate(
            {"text": "hm", "thought": True},
            {"text": 'a"\\'},
            {"executableCode": {"code": "1"}},
            {"codeExecutionResult": {"output": "2"}},
            {"functionCall": {"name": "f"}},
            {"text": "é\n", "thought": False},
        )
    )
    assert result.text == 'a"\\é\n'
    document = json.loads(result.document)
    assert document["text"] == result.text
    assert len(document["response"]["candidates"][0]["content"]["parts"]) == 6


def test_structured_output_stays_a_string() -> None:
    assert answer(candidate({"text": '{"a": 1}'})).text == '{"a": 1}'


def test_an_empty_text_part_is_a_text() -> None:
    assert answer(candidate({"text": ""})).text == ""


def test_text_and_finish_reason_are_the_first_candidates() -> None:
    response = candidate({"text": "one"}, finishReason="STOP")
    response["candidates"] += candidate({"text": "two"}, finishReason="SAFETY")["candidates"]
    assert (answer(response).text, answer(response).finish_reason) == ("one", "STOP")


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "SAFETY", "RECITATION"])
def test_a_candidate_without_content_is_an_answer(reason: str) -> None:
    result = answer({"candidates": [{"finishReason": reason, "index": 0}]})
    assert (result.status, result.text, result.finish_label) == (Status.SUCCEEDED, None, reason)


@pytest.mark.parametrize(
    "response",
    [{"promptFeedback": {"blockReason": "SAFETY"}}, {"prompt_feedback": {"block_reason": "SAFETY"}}],
)
def test_a_blocked_prompt_has_a_block_reason_and_counts_as_blocked(response: object) -> None:
    result = answer(response)
    assert (result.block_reason, result.finish_reason, result.finish_label) == ("SAFETY", None, "BLOCKED")


@pytest.mark.parametrize("response", [{}, {"candidates": []}, {"candidates": None}])
def test_no_candidates_is_an_answer_without_text_or_reason(response: object) -> None:
    result = answer(response)
    assert (result.status, result.text, result.finish_label) == (Status.SUCCEEDED, None, None)


COUNTS = {
    "promptTokenCount": 8,
    "cachedContentTokenCount": "1",
    "toolUsePromptTokenCount": 12504,
    "candidatesTokenCount": 11,
    "thoughtsTokenCount": 829,
    "totalTokenCount": str(2**40),
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}],
}


def test_token_counts_may_be_numbers_or_strings() -> None:
    assert answer({"usageMetadata": COUNTS}).usage == Usage(8, 1, 12504, 11, 829, 2**40)


def test_snake_case_fields_are_read_too() -> None:
    counts = {
        "prompt_token_count": 1,
        "cached_content_token_count": 2,
        "tool_use_prompt_token_count": 3,
        "candidates_token_count": 4,
        "thoughts_token_count": 5,
        "total_token_count": 6,
    }
    result = answer({**candidate({"text": "x"}, finish_reason="STOP"), "usage_metadata": counts})
    assert result.usage == Usage(1, 2, 3, 4, 5, 6)
    assert result.finish_reason == "STOP"


def test_usage_is_null_where_it_is_absent() -> None:
    assert json.loads(answer({}).document)["usage"] is None


@pytest.mark.parametrize("count", [1.5, "x", "-1", -1, True, [], {}, "9" * 5_000, 2**63, "²", None])
def test_a_count_that_is_no_count_is_null_and_the_others_are_kept(count: object) -> None:
    usage = {"promptTokenCount": count, "totalTokenCount": 5}
    result = answer({**candidate({"text": "x"}), "usageMetadata": usage})
    assert result.usage == Usage(total_tokens=5)
    assert result.text == "x"


def test_a_count_beyond_doubles_is_null_and_passes_in_the_response() -> None:
    response = b'{"usageMetadata":{"promptTokenCount":1e999,"totalTokenCount":5}}'
    result = render(parse(b'{"response":' + response + b"}"), 0, 1)
    assert result.usage == Usage(total_tokens=5)
    assert result.response == response


@pytest.mark.parametrize("count", [1, "1"])
def test_an_embedding_is_reachable_and_its_tokens_are_prompt_and_total(count: object) -> None:
    result = answer({"tokenCount": count, "embedding": {"values": [-0.034, 1e-5]}})
    assert result.usage == Usage(prompt_tokens=1, total_tokens=1)
    assert json.loads(bytes(result.embedding or b"")) == [-0.034, 1e-5]
    assert (result.text, result.finish_label) == (None, None)


def test_of_several_embeddings_the_first_one_counts() -> None:
    result = answer(
        {"embeddings": [{"values": [0.1]}, {"values": [0.2]}], "usageMetadata": {"promptTokenCount": 3}}
    )
    assert json.loads(bytes(result.embedding or b"")) == [0.1]
    assert result.usage == Usage(prompt_tokens=3, total_tokens=3)


@pytest.mark.parametrize("embeddings", [None, "x", [], {}, [None], [{}], [{"values": None}]])
def test_embeddings_of_another_shape_are_none(embeddings: object) -> None:
    assert answer({"embeddings": embeddings}).embedding is None


def test_tokens_of_an_embedding_that_counts_the_prompt_alone_are_all() -> None:
    counts = {"promptTokenCount": 3, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}]}
    assert answer({"embedding": {"values": [1]}, "usageMetadata": counts}).usage == Usage(3, total_tokens=3)
    assert answer({"usageMetadata": counts}).usage == Usage(3)


@pytest.mark.parametrize("field", ["modelVersion", "model_version"])
def test_the_model_that_answered_is_told(field: str) -> None:
    assert answer({field: "gemini-3.8-flash"}).model_version == "gemini-3.8-flash"
    assert answer({field: 5}).model_version is None


@pytest.mark.parametrize("embedding", [None, "x", {}, {"values": None}, {"values": "x"}])
def test_an_embedding_of_another_shape_is_none(embedding: object) -> None:
    assert answer({"embedding": embedding}).embedding is None


@pytest.mark.parametrize(
    "odd",
    [
        {"candidates": "text"},
        {"candidates": {"content": 1}},
        {"candidates": [None, 5, "x", [], {}]},
        {"candidates": [{"content": "x", "finishReason": 5}]},
        {"candidates": [{"content": {"parts": "x"}}]},
        {"candidates": [{"content": {"parts": [None, 1, {"text": 5}, {"text": None}, {"text": {}}]}}]},
        {"candidates": [{"content": {"parts": [{"inlineData": "x"}, {"inline_data": {"data": []}}]}}]},
        {"promptFeedback": "x"},
        {"promptFeedback": {"blockReason": 5}},
    ],
)
def test_fields_of_unexpected_types_count_as_absent(odd: dict[str, Any]) -> None:
    result = answer({**odd, "usageMetadata": {"totalTokenCount": 5}})
    assert result.status is Status.SUCCEEDED
    assert (result.text, result.finish_reason, result.block_reason) == (None, None, None)
    assert result.usage == Usage(total_tokens=5)
    assert json.loads(result.document)["response"] == {**odd, "usageMetadata": {"totalTokenCount": 5}}


def test_a_part_of_an_unexpected_type_costs_only_itself() -> None:
    result = answer(candidate({"text": "a"}, {"text": 5}, {"text": "b", "thought": "x"}, 7, {"text": "c"}))
    assert result.text == "abc"
