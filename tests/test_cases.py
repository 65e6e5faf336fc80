"""Answers that others met, and some that nobody has reported yet: each goes all the way into a bucket.

`docs/answers.md` has the table. The inputs in `tests/cases/` are synthetic, in the shapes of the reports.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.gemini import API_KEY
from tests.support.gemini import Gemini as Emulator
from tests.support.processes import ROOT
from workers.bucket.opening import open_bucket
from workers.contract import Announced, Trigger
from workers.errors import GeminiUnavailable, KeyRefused, ResultsGone, SettingsError, Transient, WorkerError
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.gemini.statuses import About, Answer, error_of
from workers.process import Tools, process

CASES = ROOT / "tests" / "cases"


class Landed(NamedTuple):
    """What is in the bucket: `batch.json`, and each output by its key."""

    summary: dict[str, Any]
    outputs: dict[Any, dict[str, Any]]

    def only(self) -> dict[str, Any]:
        (output,) = self.outputs.values()
        return output


Land = Callable[..., Landed]


class _Nowhere:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.fixture
def land(gemini: Emulator, tmp_path: Path) -> Iterator[Land]:
    """`land(lines)`: a batch with this result file, processed; `land(batch=id)`: one that Gemini has already."""
    client = Gemini(Access(gemini.url, Secret(API_KEY)))
    tools = Tools(client, open_bucket((tmp_path / "bucket").as_uri(), {}), frozenset({"objects"}), 1 << 20)

    def run(lines: bytes = b"", *, batch: str | None = None, **options: Any) -> Landed:
        batch = batch or gemini.put_batch(lines, **options)
        process(tools, _Nowhere(), batch, Announced(frozenset({Trigger.PROCESS}), 1, None))
        folder = tmp_path / "bucket" / batch
        documents = [json.loads(path.read_bytes()) for path in (folder / "outputs").glob("*.json")]
        summary = json.loads((folder / "batch.json").read_bytes())
        assert summary["counts"]["total"] == len(documents), "each line is one output"
        return Landed(summary, {document["key"]: document for document in documents})

    yield run
    client.close()


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


def test_lines_of_the_openai_layer(land: Land) -> None:
    summary, outputs = land(case("openai-compat.jsonl"))

    assert {key: output["status"] for key, output in outputs.items()} == {
        "request-0": "succeeded",
        "request-1": "failed",
        "request-2": "failed",
    }
    assert (outputs["request-0"]["text"], outputs["request-0"]["usage"]["total_tokens"]) == ("hello", 8)
    assert "bad request" in json.dumps(outputs["request-1"]["error"])
    assert summary["usage"]["prompt_tokens"] == 3


def test_a_custom_id_in_the_place_of_the_key(land: Land) -> None:
    _, outputs = land(case("custom-id-in-place-of-key.jsonl"))

    assert (outputs["ticket_001"]["text"], outputs["ticket_002"]["status"]) == ("hi", "failed")


def test_images_of_thoughts(land: Land) -> None:
    first, second = land(case("thought-images.jsonl")).only()["media"]

    assert (first.get("thought", False), second["thought"]) == (False, True)


def test_tokens_of_tools(land: Land) -> None:
    summary, outputs = land(case("tool-use-tokens.jsonl"))

    usage = outputs["grounded"]["usage"]
    assert usage["tool_use_tokens"] == summary["usage"]["tool_use_tokens"] == 12_504
    assert usage["prompt_tokens"] + usage["tool_use_tokens"] + usage["output_tokens"] == usage["total_tokens"]


def test_numbers_that_json_has_not(land: Land) -> None:
    _, outputs = land(case("bare-nan.jsonl"))

    assert {key: output["text"] for key, output in outputs.items()} == dict.fromkeys("abc", "hi")


def test_embeddings_in_the_plural(land: Land) -> None:
    summary, outputs = land(case("embeddings-plural.jsonl"))

    assert {output["status"] for output in outputs.values()} == {"succeeded"}
    assert summary["usage"]["total_tokens"] == 6


def test_a_first_candidate_that_is_empty_or_not_the_first(land: Land) -> None:
    _, outputs = land(case("first-candidate-empty.jsonl"))

    assert (outputs["c"]["text"], outputs["d"]["text"], outputs["d"]["finish_reason"]) == (
        "second",
        None,
        "SAFETY",
    )


def test_a_gateways_error_in_the_place_of_results(land: Land) -> None:
    summary, outputs = land(case("gateway-200.jsonl"), stats={"requestCount": "1000"})

    assert [output["status"] for output in outputs.values()] == ["failed"]
    assert summary["warnings"][0].startswith("Gemini counts 1000 requests, the results hold 1.")
    assert "replay --refetch" in summary["warnings"][0]


def test_an_expired_batch_that_names_its_output(gemini: Emulator, land: Land) -> None:
    operation = json.loads(case("expired-with-output.json"))
    batch = str(operation["name"]).removeprefix("batches/")
    gemini.put_batch(b'{"key":"a","response":{"candidates":[]}}\n', batch_id=batch)
    gemini.put_operation(operation)

    summary, outputs = land(batch=batch)

    assert (summary["state"], list(outputs)) == ("expired", ["a"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[
            (name, KeyRefused)
            for name in ("leaked", "service_disabled", "suspended", "service_blocked", "ip_blocked")
        ],
        ("file_gone", ResultsGone),
        ("cancelled_499", GeminiUnavailable),
    ],
)
def test_answers_of_errors(name: str, kind: type[WorkerError]) -> None:
    answer = json.loads(case("error-answers.json"))[name]
    found = error_of(
        Answer(answer["error"]["code"], {}, json.dumps(answer).encode()), About.FILE, Secret("AIza")
    )

    assert type(found) is kind
    assert answer["error"]["message"].rstrip(".")[:60] in str(found)


def test_credentials_of_another_account() -> None:
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(CASES / "external-account.json")}
    with pytest.raises(SettingsError, match="external_account"):
        open_bucket("gs://bucket/prefix", environment).get("x")


def _completion(**choice: Any) -> dict[str, Any]:
    return {"custom_id": "k", "response": {"status_code": 200, "body": {"choices": [choice]}}}


def _native(*parts: dict[str, Any], **response: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts)}, "finishReason": "STOP"}
    return {"key": "k", "response": {"candidates": [candidate], **response}}


TEXT = {"text": "hi"}
GOOD = _native(TEXT)
GOOD_TEXT = json.dumps(GOOD)
OWN: dict[str, tuple[Any, dict[str, Any]]] = {
    # name: a line, or a value that is one in JSON; and fields of its output.
    "an empty key counts before a custom_id": ({**GOOD, "key": "", "custom_id": "c"}, {"key": ""}),
    "a custom_id that is a number": (
        {**_completion(message={"content": "hi"}), "custom_id": 7},
        {"key": "7", "text": "hi"},
    ),
    "keys that are null leave the one in metadata": (
        {**GOOD, "key": None, "custom_id": None, "metadata": {"key": "m"}},
        {"key": "m", "text": "hi"},
    ),
    "metadata that is no object": ({"response": {}, "metadata": "x"}, {"key": None, "status": "succeeded"}),
    "response and error both null": ({"key": "k", "response": None, "error": None}, {"status": "invalid"}),
    "error null beside an answer": ({**GOOD, "error": None}, {"status": "succeeded", "text": "hi"}),
    "an empty error beside an answer": ({**GOOD, "error": {}}, {"status": "succeeded", "text": "hi"}),
    "an error that is a list": ({"key": "k", "response": {}, "error": ["late"]}, {"status": "failed"}),
    "an error that is a sentence": ({"key": "k", "error": "It was late."}, {"status": "failed"}),
    "a status_code that is a string": (
        {"key": "k", "response": {"status_code": "503", "body": {}}},
        {"status": "failed"},
    ),
    "a status_code of 200.0": (
        {"key": "k", "response": {"status_code": 200.0, "body": {"choices": [{"text": "hi"}]}}},
        {"status": "succeeded", "text": "hi"},
    ),
    "a status_code of 400 beside a good body": (
        {"key": "k", "response": {"status_code": 400, "body": {"choices": [{"text": "hi"}]}}},
        {"status": "failed"},
    ),
    "an error in the body of a 200": (
        {"key": "k", "response": {"status_code": 200, "body": {"error": {"message": "no"}}}},
        {"status": "failed"},
    ),
    "an error inside a native response": (
        {"key": "k", "response": {"candidates": [], "error": {"code": 8}}},
        {"status": "failed"},
    ),
    "a body that is a sentence": (
        {"key": "k", "response": {"status_code": 200, "body": "hi"}},
        {"status": "succeeded", "text": None},
    ),
    "content that is null beside calls of tools": (
        _completion(message={"content": None, "tool_calls": [{}]}, finish_reason="tool_calls"),
        {"status": "succeeded", "text": None, "finish_reason": "tool_calls"},
    ),
    "a refusal in the place of content": (
        _completion(message={"refusal": "No."}, finish_reason="content_filter"),
        {"status": "succeeded", "text": None, "finish_reason": "content_filter"},
    ),
    "content in parts of which one is no text": (
        _completion(message={"content": [{"type": "x"}, {"text": "h"}, {"text": "i"}]}),
        {"text": "hi"},
    ),
    "Vertex's empty status beside an answer": (
        {**GOOD, "request": {}, "status": ""},
        {"status": "succeeded", "text": "hi"},
    ),
    "Vertex's sentence as the status": (
        {"key": "k", "request": {}, "response": {}, "status": "Bad Request: it is wrong."},
        {"status": "failed"},
    ),
    "a status with code 0 beside an answer": ({**GOOD, "status": {"code": 0}}, {"status": "succeeded"}),
    "thoughts alone": (_native({"text": "hm", "thought": True}), {"status": "succeeded", "text": None}),
    "a thought between two texts": (
        _native({"text": "h"}, {"text": "?", "thought": True}, {"text": "i"}),
        {"text": "hi"},
    ),
    "parts that are null": (
        {"key": "k", "response": {"candidates": [{"content": {"parts": None}, "finishReason": "STOP"}]}},
        {"status": "succeeded", "text": None, "finish_reason": "STOP"},
    ),
    "counts as strings and in snake_case": (
        _native(TEXT, usage_metadata={"prompt_token_count": "3", "total_token_count": 4}),
        {
            "usage": {
                "prompt_tokens": 3,
                "cached_tokens": None,
                "tool_use_tokens": None,
                "output_tokens": None,
                "thoughts_tokens": None,
                "total_tokens": 4,
            }
        },
    ),
    "a count that is none": (
        _native(TEXT, usageMetadata={"promptTokenCount": -1.5, "totalTokenCount": {}}),
        {"status": "succeeded", "text": "hi"},
    ),
    "a byte order mark, and white space around": (
        b"\xef\xbb\xbf \t" + GOOD_TEXT.encode() + b" \r",
        {"key": "k", "text": "hi"},
    ),
    "a number too large for a double": (
        GOOD_TEXT.replace('"STOP"', '"STOP", "avgLogprobs": 1e999').encode(),
        {"status": "succeeded", "text": "hi"},
    ),
    "NaN in words that are text": (_native({"text": "NaN, [NaN]"}), {"text": "NaN, [NaN]"}),
    "something behind the object": (GOOD_TEXT.encode() + b"}", {"status": "invalid", "key": None}),
    "a list": ([GOOD], {"status": "invalid", "key": None}),
    "half of a surrogate pair": (b'{"key":"k","response":{"a":"\\ud83d"}}', {"status": "invalid"}),
    "the same field twice": (b'{"key":"a","key":"b","response":{}}', {"key": "b"}),
    "an embedding that is empty": (
        {"key": "k", "response": {"embeddings": []}},
        {"status": "succeeded", "text": None},
    ),
    "a key with every kind of slash": ({**GOOD, "key": "../a\\b/\u2215"}, {"key": "../a\\b/\u2215"}),
}


@pytest.mark.parametrize(("line", "expected"), OWN.values(), ids=OWN)
def test_a_line_is_told_right(land: Land, line: Any, expected: dict[str, Any]) -> None:
    output = land(line if isinstance(line, bytes) else json.dumps(line).encode()).only()

    assert {name: output[name] for name in expected} == expected


@pytest.mark.parametrize("state", ["PAUSED", "QUEUED", "UPDATING", "CANCELLING", "SOMETHING_NEW"])
@pytest.mark.parametrize("top", [False, True])
def test_a_state_of_another_name_is_waited_for_by_its_name_and_then_done(
    gemini: Emulator, land: Land, state: str, *, top: bool
) -> None:
    batch = gemini.put_batch(GOOD_TEXT.encode(), said_at="top" if top else "response,metadata")
    gemini.fault("state", batch, text=state)

    with pytest.raises(Transient, match=f"the batch is {state.lower()}"):
        land(batch=batch)
    assert land(batch=batch).only()["text"] == "hi"


@pytest.mark.parametrize("refusal", ["leaked", "suspended", "service_blocked", "referrer_blocked", "quota"])
def test_a_key_that_is_refused_in_mid_way_costs_no_results(
    gemini: Emulator, land: Land, refusal: str
) -> None:
    batch = gemini.put_batch(GOOD_TEXT.encode())
    gemini.fault("status", ":download", text=refusal)

    with pytest.raises((KeyRefused, Transient)):
        land(batch=batch)
    assert land(batch=batch).only()["text"] == "hi"


@pytest.mark.parametrize("status", [408, 409, 412, 425, 499, 507, 509, 520, 522, 524, 529, 530])
@pytest.mark.parametrize("where", ["/batches/", ":download"])
def test_a_status_that_nobody_listed_passes(gemini: Emulator, land: Land, status: int, where: str) -> None:
    batch = gemini.put_batch(GOOD_TEXT.encode())
    gemini.fault("status", where, value=status)

    with pytest.raises(Transient):
        land(batch=batch)
    assert land(batch=batch).only()["text"] == "hi"


def test_a_page_in_the_place_of_a_batch_passes(gemini: Emulator, land: Land) -> None:
    batch = gemini.put_operation(b"<html>Sign in</html>", batch_id="abc")
    with pytest.raises(GeminiUnavailable, match="is no batch"):
        land(batch=batch)

    gemini.put_batch(GOOD_TEXT.encode(), batch_id=batch)
    assert land(batch=batch).only()["text"] == "hi"


def test_a_model_that_was_replaced_by_another_is_warned_of(land: Land) -> None:
    line = json.dumps(_native(TEXT, modelVersion="gemini-3.8-flash")).encode()

    summary = land(line, model="models/gemini-3.7-flash").summary

    assert summary["model_versions"] == {"gemini-3.8-flash": 1}
    assert "gemini-3.8-flash, and models/gemini-3.7-flash was asked for" in summary["warnings"][0]
