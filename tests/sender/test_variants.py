"""The same mistakes as they are made elsewhere: other spellings, other places, several in a line, odd files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sender.test_check import CONTENTS, EMBEDDING, MESSAGES, asking, check, found

PARTS = [{"text": "Hello?"}]


def native(key: str = "a", /, **request: Any) -> dict[str, Any]:
    return {"key": key, "request": asking(**request)}


def saying(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"key": "a", "request": {"contents": [{"parts": [*parts], **more}]}}


def blob(**fields: Any) -> dict[str, Any]:
    return saying({"text": "What is it?"}, {"inlineData": fields})


# (the line, the rules that it breaks, in their order)
NATIVE: list[tuple[Any, list[str]]] = [
    (native(system_instruction={"parts": PARTS}, generation_config={"max_output_tokens": 5}), []),
    (native(generationConfig=None, systemInstruction=None, tools=None), []),
    (saying({"inline_data": {"mime_type": "image/png", "data": "AAEC_-8="}}), []),
    (saying({"inlineData": None, "text": "x"}, role=None), []),
    (saying({"fileData": {"mimeType": "image/png", "fileUri": "files/abc"}}), []),
    ({"customId": "a", "request": asking()}, ["custom-id"]),
    ({"id": "a", "request": asking()}, ["no-key", "unknown"]),
    ({"Key": "a", "request": asking()}, ["no-key"]),
    ({"key": None, "request": asking()}, ["key-not-a-string"]),
    ({"key": 1.5, "request": asking()}, ["key-not-a-string"]),
    ({"key": ["a"], "request": asking()}, ["key-not-a-string"]),
    ({"key": True, "request": asking()}, ["key-not-a-string"]),
    ({"key": "a", "metadata": {"key": "a"}, "request": asking()}, ["key-in-metadata"]),
    ({"key": "a" * 100_000, "request": asking()}, []),
    ({"key": "a", "request": None}, ["request-not-an-object"]),
    ({"key": "a", "request": "Hello?"}, ["request-not-an-object"]),
    ({"key": "a", "requests": [asking()]}, ["unknown", "no-request"]),
    ({"key": "a", "generation_config": {}, "request": asking()}, ["bare-request"]),
    (native(max_output_tokens=5), ["flattened"]),
    (native(thinkingConfig={"thinkingBudget": 0}, response_schema={}), ["flattened", "flattened"]),
    ({"key": "a", "temperature": 1, "request": asking()}, ["flattened"]),
    (native(generationConfig={"systemInstruction": {"parts": PARTS}}), ["in-generation-config"]),
    (native(generation_config={"safety_settings": []}), ["in-generation-config"]),
    (native(generation_config={"response_json_schema": {}}), ["json-schema"]),
    (native(generationConfig=[]), ["generation-config-wrong"]),
    (native(generationConfig={"top_k": 3}), ["deprecated"]),
    (native(cached_content_name="cachedContents/a"), ["cached-content"]),
    ({"key": "a", "cached_content": "cachedContents/a", "request": asking()}, ["cached-content"]),
    (native(model="models/gemini-3.5-flash"), ["model"]),
    (native(generationConfig={"model": "gemini-3.5-flash"}), ["model"]),
    (native(config={"temperature": 1}), ["config"]),
    ({"key": "a", "request": asking(), "generate_content_config": {}}, ["config"]),
    (native(systemPrompt="Purr."), ["system-instructions"]),
    (native(systemInstruction=["Purr."]), ["system-instruction-wrong"]),
    (native(system_instruction={"parts": ["Purr."]}), ["system-instruction-wrong"]),
    ({"key": "a", "request": {"contents": None}}, ["no-contents"]),
    ({"key": "a", "request": {"contents": []}}, ["no-contents"]),
    ({"key": "a", "request": {"contents": ["Hello?"]}}, ["contents-wrong"]),
    ({"key": "a", "request": {"contents": [CONTENTS]}}, ["contents-wrong"]),
    ({"key": "a", "request": {"contents": [{"parts": "Hello?"}]}}, ["contents-wrong"]),
    ({"key": "a", "request": {"contents": {"role": "user"}}}, ["contents-wrong"]),
    (saying("Hello?"), ["contents-wrong"]),
    (saying({"text": "x"}, role="system"), ["role"]),
    (saying({"text": "x"}, role=["user"]), ["role"]),
    (saying({"text": "x"}, content="x"), ["unknown"]),
    ({"key": "a", "request": {"messages": MESSAGES}}, ["messages"]),
    ({"key": "a", "request": {"prompt": "Hello?"}}, ["messages"]),
    ({"key": "a", "request": {"content": EMBEDDING, "task_type": "CLUSTERING"}}, ["not-embeddings"] * 2),
    (blob(data="AAEC"), ["inline-data"]),
    (blob(mimeType="png", data="AAEC"), ["inline-data"]),
    (blob(mime_type="image/png"), ["inline-data"]),
    (blob(mimeType="image/png", data=""), ["inline-data"]),
    (blob(mimeType="image/png", data="data:image/png;base64,AAEC"), ["inline-data"]),
    (blob(mimeType="image/png", data="AAEC\nAAEC"), ["inline-data"]),
    (saying({"inline_data": "AAEC"}), ["inline-data"]),
    (
        {"custom_id": "a", "model": "gemini-3.5-flash", "request": {"contents": "Hello?", "seed": 1}},
        ["custom-id", "model", "flattened", "contents-text"],
    ),
    ({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}, ["openai-line"]),
    (b'{"key": "a", "request": {"contents": [{"parts": [{"text": "cut', ["not-json"]),
    (b'{"key": "a", "request": {"contents": [{"parts": []}]}},', ["not-json"]),
    (b'{"key": "a", "request": {"contents": [{"parts": []}],}}', ["not-json"]),
    (b"{'key': 'a'}", ["not-json"]),
    (b'{"key": "a", "request": {"contents": [{"parts": [{"text": "\x00"}]}]}}', ["not-json"]),
    (b'{"key": "a", "request": NaN}', ["not-json"]),
    (b"\x00", ["not-json"]),
    (b'"text"', ["not-an-object"]),
    (b"null", ["not-an-object"]),
    ('{"key": "a"}'.encode("utf-16"), ["not-utf8"]),
]
EMBEDDINGS: list[tuple[Any, list[str]]] = [
    ({"key": "a", "request": {"content": EMBEDDING, "task_type": "CLUSTERING", "title": "x"}}, []),
    ({"key": "a", "request": {"content": "Hello?"}}, ["contents-text"]),
    ({"key": "a", "request": {"content": [EMBEDDING, EMBEDDING]}}, ["content-wrong"]),
    ({"key": "a", "request": {"content": {"text": "Hello?"}}}, ["content-wrong"]),
    ({"key": "a", "request": {"content": {"parts": ["Hello?"]}}}, ["content-wrong"]),
    ({"key": "a", "request": {"content": None}}, ["content-wrong"]),
    ({"key": "a", "request": {"contents": ["a", "b"]}}, ["embed-contents"]),
    ({"key": "a", "request": {}}, ["no-contents"]),
    ({"key": "a", "request": {"content": EMBEDDING, "model": "models/gemini-embedding-2"}}, ["model"]),
    ({"key": "a", "request": {"content": EMBEDDING, "config": {}}}, ["config"]),
    ({"key": "a", "request": {"content": EMBEDDING, "systemInstruction": {}}}, ["embed-generation"]),
    ({"key": "a", "content": EMBEDDING}, ["bare-request"]),
]
OPENAI: list[tuple[Any, list[str]]] = [
    ({"custom_id": 7, "body": {"messages": MESSAGES}}, ["key-not-a-string"]),
    ({"custom_id": "", "body": {"messages": MESSAGES}}, ["key-empty"]),
    ({"key": "a", "body": {"messages": MESSAGES}}, ["no-key", "unknown"]),
    ({"custom_id": "a", "body": "{}"}, ["no-body"]),
    ({"custom_id": "a", "messages": MESSAGES}, ["unknown", "no-body"]),
    ({"custom_id": "a", "url": "/v1/embeddings", "body": {"messages": MESSAGES}}, ["openai-url"]),
    ({"custom_id": "a", "url": ["x"], "body": {"messages": MESSAGES}}, ["openai-url"]),
    ({"custom_id": "a", "body": {"messages": []}}, ["no-messages"]),
    ({"custom_id": "a", "body": {"messages": "Hello?"}}, ["no-messages"]),
    ({"custom_id": "a", "body": {"input": "Hello?"}}, ["no-messages"]),
    ({"custom_id": "a", "body": {"messages": [{"content": "Hello?"}]}}, ["messages-wrong"]),
    ({"key": "a", "request": {}}, ["native-line"]),
]
ALL = [
    *((line, rules, []) for line, rules in NATIVE),
    *((line, rules, ["--embeddings"]) for line, rules in EMBEDDINGS),
    *((line, rules, ["--openai"]) for line, rules in OPENAI),
]


def text(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


@pytest.mark.parametrize(("line", "rules", "options"), ALL, ids=[str(number) for number in range(len(ALL))])
def test_each_mistake_is_named_with_its_line_and_nothing_else(
    line: Any, rules: list[str], options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\r\n" + text(line) + b"\r\n\n")

    assert sorted(found(path, *options)) == sorted((2, rule) for rule in rules)


@pytest.mark.parametrize(
    ("lines", "options"),
    [([line for line, _ in NATIVE], []), ([line for line, _ in EMBEDDINGS], ["--embeddings"])],
    ids=["native", "embeddings"],
)
def test_what_fix_writes_has_what_it_says_is_left_and_nothing_more(
    lines: list[Any], options: list[str], tmp_path: Path
) -> None:
    for number, line in enumerate(lines):
        path, target = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.fixed.jsonl"
        path.write_bytes(text(line))
        told = json.loads(check(path, "--fix", target, "--json", *options).stdout)
        again = json.loads(check(target, "--json", *options).stdout)
        assert [(each["line"], each["rule"]) for each in told["findings"]] == [
            (each["line"], each["rule"]) for each in again["findings"]
        ], line


def test_a_key_of_the_openai_layer_is_told_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"custom_id": 7, "body": {"messages": MESSAGES}}))

    assert 'error: "custom_id" is no string; right is "custom_id": "…" [key' in check(path, "--openai").stdout
