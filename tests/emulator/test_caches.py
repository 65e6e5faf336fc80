"""Cached contents, made and named by the official SDK."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from google import genai
from google.genai import errors, types

from tests.support.gemini import Gemini
from tests.support.waiting import wait_until

MODEL = "gemini-2.5-flash"


def _create(client: genai.Client, text: str = "one two three", ttl: str = "300s") -> types.CachedContent:
    return client.caches.create(model=MODEL, config={"contents": text, "ttl": ttl, "display_name": "book"})


def test_a_cache_is_described_listed_prolonged_and_deleted(client: genai.Client) -> None:
    created = _create(client)
    name = str(created.name)
    assert created.usage_metadata
    assert (created.usage_metadata.total_token_count, created.display_name) == (3, "book")
    assert client.caches.get(name=name) == created
    assert [each.name for each in client.caches.list()] == [name]

    later = client.caches.update(name=name, config={"ttl": "7200s"})
    assert later.expire_time
    assert later.expire_time > datetime.now(UTC) + timedelta(minutes=110)

    client.caches.delete(name=name)
    with pytest.raises(errors.ClientError, match="CachedContent not found") as caught:
        client.caches.get(name=name)
    assert caught.value.code == 403


def test_what_has_expired_is_gone(client: genai.Client) -> None:
    name = str(_create(client, ttl="0s").name)
    with pytest.raises(errors.ClientError, match="CachedContent not found"):
        client.caches.get(name=name)
    assert list(client.caches.list()) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "gemini", "contents": [{"parts": [{"text": "x"}]}]},
        {"model": f"models/{MODEL}"},
        {"model": f"models/{MODEL}", "contents": [{"parts": [{"text": "x"}]}], "ttl": "soon"},
    ],
)
def test_what_can_not_be_cached_is_refused(gemini: Gemini, body: dict[str, object]) -> None:
    assert gemini.http.post("/v1beta/cachedContents", json=body).status_code == 400


def test_a_request_counts_the_tokens_of_the_cache_that_it_names(client: genai.Client) -> None:
    name = str(_create(client).name)
    said = client.models.generate_content(model=MODEL, contents="four", config={"cached_content": name})
    assert said.usage_metadata
    assert said.usage_metadata.cached_content_token_count == 3
    assert said.usage_metadata.prompt_token_count == 4


def test_a_batch_counts_cached_tokens_and_fails_a_line_whose_cache_is_not_there(
    client: genai.Client, gemini: Gemini
) -> None:
    contents = [{"parts": [{"text": "four"}]}]
    requests = [
        {"request": {"contents": contents, "cachedContent": name}, "metadata": {"key": name}}
        for name in (str(_create(client).name), "cachedContents/none")
    ]
    body = {"batch": {"inputConfig": {"requests": {"requests": requests}}}}
    made = gemini.http.post(f"/v1beta/models/{MODEL}:batchGenerateContent", json=body).json()
    ended = wait_until(
        lambda: (found := gemini.http.get(f"/v1beta/{made['name']}").json()).get("done") and found,
        what="the batch's end",
    )
    good, bad = ended["response"]["inlinedResponses"]["inlinedResponses"]
    assert good["response"]["usageMetadata"]["cachedContentTokenCount"] == 3
    assert "CachedContent not found" in json.dumps(bad["error"])
