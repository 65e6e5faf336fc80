"""Every kind of batch that Gemini's own guide shows, from a file of requests to a table of answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sender.conftest import Sender, write_lines

TEXT_MODEL, IMAGE_MODEL, EMBEDDING_MODEL = (
    "gemini-3.5-flash",
    "gemini-3-pro-image-preview",
    "gemini-embedding-2",
)
Line = dict[str, Any]


def asking(key: str, text: str, **more: Any) -> Line:
    return {"key": key, "request": {"contents": [{"parts": [{"text": text}]}], **more}}


def embedding(key: str, text: str, **more: Any) -> Line:
    return {"key": key, "request": {"content": {"parts": [{"text": text}]}, **more}}


TEXTS = [
    asking("request-1", "Describe the process of photosynthesis.", generation_config={"temperature": 0.7}),
    asking("request-2", "What are the main ingredients in a Margherita pizza?"),
]
EMBEDDINGS = [
    embedding("request_1", "Explain GenAI", output_dimensionality=8),
    embedding("request_2", "Why is the sky blue?", outputDimensionality=8),
]
IMAGES = [
    asking(
        f"request-{number}",
        f"A big letter {letter} surrounded by animals starting with the {letter} letter",
        generation_config={"responseModalities": ["TEXT", "IMAGE"]},
    )
    for number, letter in enumerate("AB", start=1)
]
RECIPE = {
    "type": "OBJECT",
    "properties": {
        "recipe_name": {"type": "STRING"},
        "ingredients": {"type": "ARRAY", "items": {"type": "STRING"}},
    },
}
RECIPES = [
    asking(
        key,
        f"List a popular {key} recipe, and include the amounts of ingredients.",
        generationConfig={"responseMimeType": "application/json", "responseSchema": RECIPE},
    )
    for key in ("cookie", "gluten-free")
]
CAT = [
    asking("cloud", "Write a short poem about a cloud."),
    asking(
        "cat",
        "Write a short poem about a cat.",
        system_instruction={"parts": [{"text": "You are a cat. Your name is Neko."}]},
    ),
]
SEARCH = [
    asking("1998", "Who won the euro 1998?"),
    asking("2025", "Who won the euro 2025?", tools=[{"google_search": {}}]),
]


def table(sender: Sender, path: Path, lines: list[Line], model: str, *options: str) -> list[Line]:
    """What becomes of these requests, from `check` to `export`."""
    write_lines(path, lines)
    kind = [option for option in options if option in {"--embeddings", "--openai"}]
    assert sender.run("check", path, "--model", model, *kind)
    submitted = sender.run("submit", "--model", model, path, "--json", *options).json
    (batch,) = (each["batch"] for each in submitted["batches"])
    sender.ended(batch)
    sender.run("process", batch)
    columns = "key,status,prompt,text,embedding,media,finish_reason"
    out = sender.run("export", batch, "--input", path, "--columns", columns).out
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["status"] for row in rows] == ["succeeded"] * len(lines)
    assert [row["key"] for row in rows] == [line.get("key", line.get("custom_id")) for line in lines]
    return rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my-batch-requests.jsonl"


@pytest.mark.parametrize("inline", [[], ["--inline"]], ids=["file", "inline"])
def test_texts(inline: list[str], sender: Sender, path: Path) -> None:
    for row in table(sender, path, TEXTS, TEXT_MODEL, *inline):
        assert row["prompt"] in row["text"]
        assert row["finish_reason"] == "STOP"


@pytest.mark.parametrize("inline", [[], ["--inline"]], ids=["file", "inline"])
def test_embeddings(inline: list[str], sender: Sender, path: Path) -> None:
    rows = table(sender, path, EMBEDDINGS, EMBEDDING_MODEL, "--embeddings", *inline)

    assert [len(row["embedding"]) for row in rows] == [8, 8]
    assert rows[0]["prompt"] == "Explain GenAI"


@pytest.mark.parametrize("inline", [[], ["--inline"]], ids=["file", "inline"])
def test_images(inline: list[str], sender: Sender, path: Path) -> None:
    for row in table(sender, path, IMAGES, IMAGE_MODEL, *inline):
        (image,) = row["media"]
        assert (sender.folder / image).read_bytes().startswith(b"\x89PNG")


def test_structured_output_becomes_columns(sender: Sender, path: Path) -> None:
    table(sender, path, RECIPES, TEXT_MODEL, "--keep-input")
    batch = sender.record()["batch"]

    out = sender.run("export", batch, "--json-columns", "--columns", "key").out

    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["key"] for row in rows] == ["cookie", "gluten-free"]
    assert all(row["recipe_name"] and len(row["ingredients"]) == 2 for row in rows)


def test_system_instructions(sender: Sender, path: Path) -> None:
    assert all("poem" in row["text"] for row in table(sender, path, CAT, TEXT_MODEL))


def test_tools(sender: Sender, path: Path) -> None:
    assert all("euro" in row["text"] for row in table(sender, path, SEARCH, TEXT_MODEL))


def test_cached_content(sender: Sender, path: Path) -> None:
    wanted = {"model": f"models/{TEXT_MODEL}", "contents": [{"parts": [{"text": "A long story."}]}]}
    cache = sender.gemini.http.post("/v1beta/cachedContents", json=wanted).raise_for_status().json()["name"]
    lines = [asking("summary", "What is it about?", cachedContent=cache), asking("none", "And without?")]

    table(sender, path, lines, TEXT_MODEL)

    batch = sender.record()["batch"]
    out = sender.run("export", batch, "--columns", "cached_tokens,key").out
    assert [bool(json.loads(line)["cached_tokens"]) for line in out.splitlines()] == [True, False]


def test_rows_of_the_openai_layer(sender: Sender, path: Path) -> None:
    lines = [
        {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": TEXT_MODEL, "messages": [{"role": "user", "content": f"Count to {number}."}]},
        }
        for number in (1, 2)
    ]

    for row in table(sender, path, lines, TEXT_MODEL, "--openai"):
        assert row["prompt"] in row["text"]


def test_requests_as_the_sdk_takes_them_are_corrected_first(sender: Sender, path: Path) -> None:
    config = {"response_mime_type": "application/json", "response_schema": RECIPE}
    lines = [asking(key, f"A {key} recipe.", config=config) for key in ("cookie", "gluten-free")]
    write_lines(path, lines)
    fixed = path.with_name("fixed.jsonl")
    sender.run("check", path, code=1)

    sender.run("check", path, "--fix", fixed)

    again = [json.loads(line) for line in fixed.read_bytes().splitlines()]
    rows = table(sender, path, again, TEXT_MODEL)
    assert all(json.loads(row["text"])["ingredients"] for row in rows)
