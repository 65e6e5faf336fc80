"""Every batch call of the Batch API's page, made by the official SDK."""

import base64
import io
import json
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.emulator.listener import Listener
from tests.support.gemini import Gemini
from tests.support.waiting import wait_until

MODEL = "gemini-3.5-flash"
IMAGE_MODEL = "gemini-3-pro-image-preview"
EMBEDDING_MODEL = "gemini-embedding-2"

_EXPERIMENTAL = pytest.mark.filterwarnings("ignore:batches.create_embeddings")


def _asking(text: str, **config: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"contents": [{"parts": [{"text": text}], "role": "user"}]}
    return {**request, "config": config} if config else request


def _upload(client: genai.Client, *lines: dict[str, Any]) -> str:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return str(client.files.upload(file=io.BytesIO(content), config={"mime_type": "jsonl"}).name)


def _ended(client: genai.Client, batch: types.BatchJob) -> types.BatchJob:
    wait_until(lambda: client.batches.get(name=str(batch.name)).done, what=f"the end of {batch.name}")
    return client.batches.get(name=str(batch.name))


def _results(client: genai.Client, batch: types.BatchJob) -> list[dict[str, Any]]:
    ended = _ended(client, batch)
    assert ended.state == types.JobState.JOB_STATE_SUCCEEDED
    assert ended.dest
    assert ended.dest.file_name
    content = client.files.download(file=ended.dest.file_name)
    return [json.loads(line) for line in content.splitlines()]


def _inlined(client: genai.Client, batch: types.BatchJob) -> list[types.InlinedResponse]:
    ended = _ended(client, batch)
    assert ended.dest
    return list(ended.dest.inlined_responses or [])


def test_a_batch_from_a_file_goes_from_pending_to_a_result_for_every_key(client: genai.Client) -> None:
    requests = {f"request-{number}": f"What is {number}?" for number in range(20)}
    source = _upload(
        client,
        *(
            {"key": key, "request": {"contents": [{"parts": [{"text": text}]}]}}
            for key, text in requests.items()
        ),
    )
    batch = client.batches.create(model=MODEL, src=source, config={"display_name": "file-upload-job-1"})
    assert batch.state == types.JobState.JOB_STATE_PENDING
    assert (batch.display_name, batch.model) == ("file-upload-job-1", f"models/{MODEL}")

    results = _results(client, batch)
    texts = {
        each["key"]: each["response"]["candidates"][0]["content"]["parts"][0]["text"] for each in results
    }
    assert texts.keys() == requests.keys()
    assert all(requests[key] in text for key, text in texts.items())
    assert [each["key"] for each in results] != list(requests), "the order is not that of the requests"


def test_the_same_file_is_always_answered_alike(client: genai.Client) -> None:
    lines = [{"key": str(number), "request": _asking(f"Number {number}")} for number in range(5)]
    first, second = (
        _results(client, client.batches.create(model=MODEL, src=_upload(client, *lines))) for _ in range(2)
    )
    assert first == second


def test_lines_keep_their_extra_fields_and_may_be_bare_requests(client: genai.Client) -> None:
    bare = {"contents": [{"parts": [{"text": "Bare"}]}], "generationConfig": {"temperature": 0.7}}
    source = _upload(client, bare, {"key": "k", "mine": [1], "request": _asking("Wrapped")})
    results = _results(client, client.batches.create(model=MODEL, src=source))
    assert sorted(sorted(result.keys() - {"response"}) for result in results) == [[], ["key", "mine"]]


def test_inline_requests_are_answered_in_order_with_their_metadata(client: genai.Client) -> None:
    requests = [
        _asking("Tell me a one-sentence joke."),
        {**_asking("Why is the sky blue?"), "metadata": {"key": "sky"}},
    ]
    batch = client.batches.create(
        model=MODEL, src=requests, config={"display_name": "inlined-requests-job-1"}
    )
    joke, sky = _inlined(client, batch)
    assert joke.response
    assert "one-sentence joke" in str(joke.response.text)
    assert joke.metadata is None
    assert sky.response
    assert "sky blue" in str(sky.response.text)
    assert sky.metadata == {"key": "sky"}


def test_system_instructions_and_tools_are_accepted(client: genai.Client) -> None:
    requests = [
        _asking("Write a poem.", system_instruction={"parts": [{"text": "You are a cat."}]}),
        _asking("Who won the euro 2025?", tools=[{"google_search": {}}]),
    ]
    assert len(_inlined(client, client.batches.create(model=MODEL, src=requests))) == 2


class Recipe(BaseModel):
    recipe_name: str
    ingredients: list[str]
    minutes: int


def test_structured_output_fits_its_schema(client: genai.Client) -> None:
    request = _asking("List cookies.", response_mime_type="application/json", response_schema=list[Recipe])
    (answer,) = _inlined(client, client.batches.create(model=MODEL, src=[request]))
    assert answer.response
    recipes = [Recipe.model_validate(each) for each in json.loads(str(answer.response.text))]
    assert recipes[0].recipe_name == "List cookies."


def test_a_request_can_fail_be_blocked_or_end_early_while_the_others_succeed(
    client: genai.Client, gemini: Gemini
) -> None:
    prompts = ["[error] please", "[blocked] please", "[max_tokens] please", "Fine"]
    batch = client.batches.create(model=MODEL, src=[_asking(prompt) for prompt in prompts])
    failed, blocked, short, fine = _inlined(client, batch)
    assert failed.error
    assert failed.response is None
    assert blocked.response
    assert blocked.response.candidates is None
    assert blocked.response.prompt_feedback
    assert blocked.response.prompt_feedback.block_reason == types.BlockedReason.SAFETY
    assert short.response
    assert short.response.candidates
    assert short.response.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert short.response.text is None
    assert fine.response
    stats = gemini.http.get(f"/v1beta/{batch.name}").json()["metadata"]["batchStats"]
    assert stats == {"requestCount": "4", "successfulRequestCount": "3", "failedRequestCount": "1"}


def test_a_failing_line_of_a_file_has_an_error(client: genai.Client) -> None:
    source = _upload(client, {"key": "bad", "request": _asking("[error]")})
    (result,) = _results(client, client.batches.create(model=MODEL, src=source))
    assert result["key"] == "bad"
    assert result["error"]["status"] == "INVALID_ARGUMENT"
    assert "response" not in result


def test_images_come_inline_beside_their_text(client: genai.Client) -> None:
    request = _asking("A big letter A", response_modalities=["TEXT", "IMAGE"])
    (answer,) = _inlined(client, client.batches.create(model=IMAGE_MODEL, src=[request]))
    assert answer.response
    assert answer.response.parts
    text, image = answer.response.parts
    assert text.text
    assert image.inline_data
    assert image.inline_data.mime_type == "image/png"
    assert str(image.inline_data.data)[:12].find("PNG") > 0


def test_images_come_in_files_too(client: genai.Client) -> None:
    request = {
        "contents": [{"parts": [{"text": "A big letter B"}]}],
        "generation_config": {"responseModalities": ["TEXT", "IMAGE"]},
    }
    source = _upload(client, {"key": "b", "request": request})
    (result,) = _results(client, client.batches.create(model=IMAGE_MODEL, src=source))
    _, image = result["response"]["candidates"][0]["content"]["parts"]
    assert base64.b64decode(image["inlineData"]["data"]).startswith(b"\x89PNG\r\n")


@_EXPERIMENTAL
def test_embeddings_come_from_a_file(client: genai.Client) -> None:
    source = _upload(
        client,
        {"key": "one", "request": {"output_dimensionality": 8, "content": {"parts": [{"text": "Explain"}]}}},
    )
    batch = client.batches.create_embeddings(
        model=EMBEDDING_MODEL, src={"file_name": source}, config={"display_name": "Input embeddings batch"}
    )
    (result,) = _results(client, batch)
    assert result["key"] == "one"
    assert len(result["response"]["embedding"]["values"]) == 8


@_EXPERIMENTAL
def test_embeddings_come_inline(client: genai.Client) -> None:
    batch = client.batches.create_embeddings(
        model=EMBEDDING_MODEL,
        src={
            "inlined_requests": {
                "contents": ["What is this?", "And that?"],
                "config": {"output_dimensionality": 5},
            }
        },
        config={"display_name": "Inlined embeddings batch"},
    )
    ended = _ended(client, batch)
    assert ended.dest
    assert ended.dest.inlined_embed_content_responses
    vectors = [
        each.response.embedding.values
        for each in ended.dest.inlined_embed_content_responses
        if each.response and each.response.embedding
    ]
    assert [len(vector or []) for vector in vectors] == [5, 5]
    assert vectors[0] != vectors[1]


def test_batches_are_listed_newest_first_over_pages(client: genai.Client, gemini: Gemini) -> None:
    old = gemini.put_batch(b"", created="2026-01-01T00:00:00Z")
    names = [client.batches.create(model=MODEL, src=[_asking("?")]).name for _ in range(4)]
    listed = [batch.name for batch in client.batches.list(config={"page_size": 2})]
    assert listed == [*reversed(names), f"batches/{old}"]


def test_a_running_batch_can_be_cancelled(client: genai.Client, gemini: Gemini) -> None:
    gemini.set(batch_seconds=60)
    name = str(client.batches.create(model=MODEL, src=[_asking("?")]).name)
    client.batches.cancel(name=name)
    cancelled = client.batches.get(name=name)
    assert cancelled.state == types.JobState.JOB_STATE_CANCELLED
    assert cancelled.end_time
    with pytest.raises(errors.ClientError, match="already ended"):
        client.batches.cancel(name=name)


@pytest.mark.parametrize("older_page", [False, True])
def test_a_deleted_batch_is_gone(client: genai.Client, gemini: Gemini, *, older_page: bool) -> None:
    name = str(client.batches.create(model=MODEL, src=[_asking("?")]).name)
    if older_page:
        assert gemini.http.post(f"/v1beta/{name}:delete").status_code == 200
    else:
        client.batches.delete(name=name)
    with pytest.raises(errors.ClientError) as caught:
        client.batches.get(name=name)
    assert caught.value.code == 404
    assert list(client.batches.list()) == []


def test_a_batch_whose_input_is_no_json_fails_with_an_error(client: genai.Client, gemini: Gemini) -> None:
    source = client.files.upload(file=io.BytesIO(b"no json\n"), config={"mime_type": "jsonl"})
    batch = _ended(client, client.batches.create(model=MODEL, src=source.name))
    assert batch.state == types.JobState.JOB_STATE_FAILED
    operation = gemini.http.get(f"/v1beta/{batch.name}").json()
    assert operation["error"]["code"] == 3
    assert "response" not in operation


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"batch": []},
        {"batch": {"input_config": {"requests": {"requests": ["no object"]}}}},
        {"batch": {"input_config": {"file_name": "files/a", "requests": {"requests": [{}]}}}},
    ],
)
def test_a_job_that_makes_no_sense_is_refused(gemini: Gemini, body: dict[str, Any]) -> None:
    answer = gemini.http.post(f"/v1beta/models/{MODEL}:batchGenerateContent", json=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_request_that_makes_no_sense_fails_its_batch(client: genai.Client, gemini: Gemini) -> None:
    request = {"content": {"parts": []}, "outputDimensionality": "many"}
    body = {"batch": {"inputConfig": {"requests": {"requests": [{"request": request}]}}}}
    path = f"/v1beta/models/{EMBEDDING_MODEL}:asyncBatchEmbedContent"
    name = gemini.http.post(path, json=body).json()["name"]
    assert _ended(client, types.BatchJob(name=name)).state == types.JobState.JOB_STATE_FAILED


def test_a_batch_from_a_file_that_does_not_exist_is_refused(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as caught:
        client.batches.create(model=MODEL, src="files/nowhere")
    assert caught.value.code == 404


def test_the_requests_of_the_pages_curl_examples_are_understood(gemini: Gemini) -> None:
    start = gemini.http.post(
        "/upload/v1beta/files",
        headers={"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"},
        content="{'file': {'display_name': 'BatchInput'}}",
    )
    finished = gemini.http.post(
        start.headers["x-goog-upload-url"],
        headers={"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"},
        content=b'{"contents": [{"parts": [{"text": "Hello"}]}]}\n',
    )
    name = finished.json()["file"]["name"]
    created = gemini.http.post(
        f"/v1beta/models/{MODEL}:batchGenerateContent",
        content=f"{{'batch': {{'display_name': 'mine', 'input_config': {{'file_name': '{name}'}}}}}}",
    )
    assert created.json()["metadata"]["displayName"] == "mine"

    def responses_file() -> str | None:
        operation = gemini.http.get(f"/v1beta/{created.json()['name']}").json()
        file_name: str | None = operation.get("response", {}).get("responsesFile")
        return file_name

    result_file = wait_until(responses_file)
    content = gemini.http.get(f"/download/v1beta/{result_file}:download?alt=media")
    assert '\\"Hello\\"' in content.text


def test_a_job_with_its_own_webhook_is_told_there_with_its_metadata(
    client: genai.Client, gemini: Gemini, listener: Listener
) -> None:
    gemini.create_webhook("http://127.0.0.1:9/registered")
    config = types.CreateBatchJobConfig(
        webhook_config=types.WebhookConfig(uris=[listener.url], user_metadata={"team": "blue"})
    )
    batch = client.batches.create(model=MODEL, src=[_asking("?")], config=config)
    wait_until(lambda: listener.received)
    headers, body = listener.received[0]
    event = json.loads(body)
    assert event["type"] == "batch.succeeded"
    assert f"batches/{event['data']['id']}" == batch.name
    assert event["user_metadata"] == {"team": "blue"}
    assert headers["webhook-signature"].startswith("v1a,")
    assert [each["url"] for each in gemini.deliveries()] == [listener.url]


def test_a_batch_says_what_it_was_made_from_and_how_much_is_still_to_do(
    client: genai.Client, gemini: Gemini
) -> None:
    gemini.set(batch_seconds=60)
    source = _upload(client, *({"key": str(number), "request": _asking("Hi")} for number in range(3)))
    body = {"batch": {"displayName": "mine", "priority": "-5", "inputConfig": {"fileName": source}}}
    made = gemini.http.post(f"/v1beta/models/{MODEL}:batchGenerateContent", json=body).json()
    metadata = made["metadata"]
    assert (metadata["inputConfig"], metadata["priority"]) == ({"fileName": source}, "-5")

    def counted() -> Any:
        return gemini.http.get(f"/v1beta/{made['name']}").json()["metadata"]["batchStats"]

    assert wait_until(counted, what="the counts") == {"requestCount": "3", "pendingRequestCount": "3"}


def test_the_list_shows_no_inline_results(client: genai.Client, gemini: Gemini) -> None:
    _ended(client, client.batches.create(model=MODEL, src=[_asking("Hi")]))
    (listed,) = gemini.http.get("/v1beta/batches").json()["operations"]
    assert listed["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert "response" not in listed
