"""What models are and say at once, asked by the official SDK."""

import pytest
from google import genai
from google.genai import errors

from tests.support.gemini import Gemini

MODEL = "gemini-2.5-flash"


def test_a_model_says_what_it_can_be_asked_for(client: genai.Client) -> None:
    offered = {
        name: set(client.models.get(model=name).supported_actions or [])
        for name in (MODEL, "gemini-embedding-2", "gemini-live-2.5-flash")
    }
    assert "batchGenerateContent" in offered[MODEL]
    assert "asyncBatchEmbedContent" in offered["gemini-embedding-2"]
    assert not any("atch" in method for method in offered["gemini-live-2.5-flash"])


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-retired-1.0"])
def test_a_model_that_is_not_there_is_404(client: genai.Client, model: str) -> None:
    with pytest.raises(errors.ClientError, match="is not found for API version") as caught:
        client.models.get(model=model)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_every_model_of_the_list_can_be_asked_for(client: genai.Client) -> None:
    listed = [str(model.name) for model in client.models.list(config={"page_size": 2})]
    assert len(listed) == len(set(listed)) > 2
    assert [client.models.get(model=name).name for name in listed] == listed


def test_an_answer_at_once_is_the_one_that_a_batch_gives(client: genai.Client) -> None:
    said = client.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    again = client.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert said.text == again.text
    assert "Why is the sky blue?" in str(said.text)
    assert said.usage_metadata
    assert said.usage_metadata.prompt_token_count == 5


def test_an_answer_can_be_streamed(client: genai.Client) -> None:
    chunks = client.models.generate_content_stream(model=MODEL, contents="Hello")
    assert "Hello" in "".join(chunk.text or "" for chunk in chunks)


def test_a_request_that_asks_for_an_error_is_refused(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="asked for an error"):
        client.models.generate_content(model=MODEL, contents="[error]")


def test_a_model_for_embeddings_generates_nothing(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="not supported for generateContent"):
        client.models.generate_content(model="gemini-embedding-2", contents="Hello")


def test_tokens_are_counted_as_an_answer_counts_them(client: genai.Client) -> None:
    said = client.models.generate_content(model=MODEL, contents=["one two", "three"])
    counted = client.models.count_tokens(model=MODEL, contents=["one two", "three"])
    assert said.usage_metadata
    assert counted.total_tokens == said.usage_metadata.prompt_token_count == 3


def test_tokens_of_a_whole_request_include_its_instruction(gemini: Gemini) -> None:
    request = {
        "model": f"models/{MODEL}",
        "contents": [{"parts": [{"text": "one two"}]}],
        "systemInstruction": {"parts": [{"text": "three"}]},
    }
    path = f"/v1beta/models/{MODEL}:countTokens"
    assert gemini.http.post(path, json={"generateContentRequest": request}).json()["totalTokens"] == 3


def test_embeddings_at_once_are_always_alike(client: genai.Client) -> None:
    first, second = (
        client.models.embed_content(model="gemini-embedding-2", contents="Hello").embeddings for _ in range(2)
    )
    assert first
    assert second
    assert first[0].values == second[0].values
    assert len(first[0].values or []) == 768
