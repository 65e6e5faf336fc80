"""The OpenAI-compatible layer, as plain HTTP; its own SDK is used in `tests/clients`."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gemini import Gemini
from tests.support.waiting import wait_until

MODEL = "gemini-2.5-flash"
_MESSAGES: dict[str, Any] = {
    "good": [{"role": "user", "content": "Hello"}],
    "bad": [{"role": "user", "content": "[error]"}],
    "odd": "Hello",
}
ROWS = [
    {
        "custom_id": key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": MODEL, "messages": messages},
    }
    for key, messages in _MESSAGES.items()
]


@pytest.fixture
def bearer(gemini: Gemini) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {gemini.api_key}"}
    with httpx.Client(base_url=f"{gemini.url}/v1beta/openai", headers=headers, trust_env=False) as client:
        yield client


def _upload(gemini: Gemini, rows: list[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    url = gemini.http.post("/upload/v1beta/files", headers=headers).headers["x-goog-upload-url"]
    headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
    return str(gemini.http.post(url, content=content, headers=headers).json()["file"]["name"])


def _create(bearer: httpx.Client, source: str) -> dict[str, Any]:
    body = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return dict(bearer.post("/batches", json=body).raise_for_status().json())


def _lines(gemini: Gemini, name: str) -> dict[str, dict[str, Any]]:
    answer = gemini.http.get(f"/download/v1beta/{name}:download?alt=media")
    return {line["custom_id"]: line for line in map(json.loads, answer.text.splitlines())}


def test_a_key_comes_as_a_bearer_and_only_here(gemini: Gemini, bearer: httpx.Client) -> None:
    assert bearer.get("/models").status_code == 200
    assert bearer.get("/models", headers={"Authorization": "Bearer other"}).status_code == 400
    assert bearer.get(f"{gemini.url}/v1beta/models").status_code == 403


def test_a_batch_of_rows_is_answered_in_rows(gemini: Gemini, bearer: httpx.Client) -> None:
    created = _create(bearer, _upload(gemini, ROWS))
    assert (created["status"], created["object"]) == ("validating", "batch")
    ended = wait_until(
        lambda: (found := bearer.get(f"/batches/{created['id']}").json())["status"] == "completed" and found,
        what="the batch's end",
    )
    assert ended["request_counts"] == {"total": 3, "completed": 1, "failed": 2}

    lines = _lines(gemini, ended["output_file_id"])
    assert {key: line["response"]["status_code"] for key, line in lines.items()} == {
        "good": 200,
        "bad": 400,
        "odd": 400,
    }
    body = lines["good"]["response"]["body"]
    assert "Hello" in body["choices"][0]["message"]["content"]
    assert body["usage"]["totalTokens"] == body["usage"]["promptTokens"] + body["usage"]["completionTokens"]
    native = gemini.http.get(f"/v1beta/{created['id']}").json()["metadata"]
    assert (native["model"], native["state"]) == (f"models/{MODEL}", "BATCH_STATE_SUCCEEDED")


def test_rows_in_a_native_job_are_answered_in_rows_too(gemini: Gemini) -> None:
    body = {"batch": {"inputConfig": {"fileName": _upload(gemini, ROWS[:1])}}}
    made = gemini.http.post(f"/v1beta/models/{MODEL}:batchGenerateContent", json=body).json()
    ended = wait_until(
        lambda: (found := gemini.http.get(f"/v1beta/{made['name']}").json()).get("done") and found,
        what="the batch's end",
    )
    assert _lines(gemini, ended["response"]["responsesFile"]).keys() == {"good"}


def test_batches_are_listed_after_each_other_and_can_be_cancelled(
    gemini: Gemini, bearer: httpx.Client
) -> None:
    gemini.set(batch_seconds=60)
    source = _upload(gemini, ROWS)
    ids = [_create(bearer, source)["id"] for _ in range(3)]
    first = bearer.get("/batches", params={"limit": 2}).json()
    rest = bearer.get("/batches", params={"limit": 2, "after": first["last_id"]}).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert bearer.post(f"/batches/{ids[0]}/cancel").json()["status"] == "cancelled"


def test_files_do_not_go_through_this_layer(bearer: httpx.Client) -> None:
    assert bearer.get("/files").status_code == 404


def test_embeddings_and_completions_come_at_once(bearer: httpx.Client) -> None:
    said = bearer.post("/embeddings", json={"model": "gemini-embedding-2", "input": ["a", "b"]}).json()
    assert [each["index"] for each in said["data"]] == [0, 1]
    body = {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi you"}]}]}
    said = bearer.post("/chat/completions", json=body).json()
    assert said["usage"]["prompt_tokens"] == 2
    assert bearer.post("/chat/completions", json={**body, "model": "gpt-4o"}).status_code == 404
