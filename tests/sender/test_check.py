"""`batch-receiver check`: every known mistake is named with its line, and what is certain is corrected."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from sender.check import Check, check_file
from sender.rules import RULES

CONTENTS = [{"parts": [{"text": "Hello?"}], "role": "user"}]
GOOD = {"key": "good", "request": {"contents": CONTENTS}}
LIKES = {"type": "object", "properties": {"name": {"type": "string"}}}


def asking(**more: Any) -> dict[str, Any]:
    return {"contents": CONTENTS, **more}


# (the rule, or "" for none; the line; it corrected, None where that is not certain)
MISTAKES: list[tuple[str, Any, Any]] = [
    ("", GOOD, GOOD),
    ("not-utf8", b'{"key": "a\xff", "request": {}}', None),
    ("not-json", b'{"key": "b", "request": {"contents": [}', None),
    ("not-an-object", b'["c"]', None),
    ("no-key", {"request": asking()}, None),
    ("key-not-a-string", {"key": 7, "request": asking()}, None),
    ("key-empty", {"key": "", "request": asking()}, None),
    ("key-repeated", GOOD, None),
    ("custom-id", {"custom_id": "d", "request": asking()}, {"key": "d", "request": asking()}),
    ("key-in-metadata", {"metadata": {"key": "e"}, "request": asking()}, {"key": "e", "request": asking()}),
    ("no-request", {"key": "f"}, None),
    ("bare-request", {"key": "g", "contents": CONTENTS}, {"key": "g", "request": asking()}),
    ("request-not-an-object", {"key": "h", "request": [CONTENTS]}, None),
    ("openai-line", {"custom_id": "i", "body": {"messages": []}}, None),
    (
        "model",
        {"key": "j", "model": "gemini-3.5-flash", "request": asking()},
        {"key": "j", "request": asking()},
    ),
    (
        "flattened",
        {"key": "k", "request": asking(maxOutputTokens=9)},
        {"key": "k", "request": asking(generationConfig={"maxOutputTokens": 9})},
    ),
    (
        "config",
        {"key": "l", "request": asking(config={"seed": 4, "tools": [{"google_search": {}}]})},
        {"key": "l", "request": asking(generationConfig={"seed": 4}, tools=[{"google_search": {}}])},
    ),
    (
        "system-instructions",
        {"key": "m", "request": asking(system_instructions="Purr.")},
        {"key": "m", "request": asking(systemInstruction={"parts": [{"text": "Purr."}]})},
    ),
    (
        "system-instruction-text",
        {"key": "n", "request": asking(system_instruction="Purr.")},
        {"key": "n", "request": asking(system_instruction={"parts": [{"text": "Purr."}]})},
    ),
    (
        "cached-content",
        {"key": "o", "request": asking(generationConfig={"cachedContent": "cachedContents/x"})},
        {"key": "o", "request": asking(generationConfig={}, cachedContent="cachedContents/x")},
    ),
    (
        "in-generation-config",
        {"key": "p", "request": asking(generationConfig={"tools": [], "seed": 1})},
        {"key": "p", "request": asking(generationConfig={"seed": 1}, tools=[])},
    ),
    (
        "json-schema",
        {"key": "q", "request": asking(generation_config={"responseJsonSchema": LIKES})},
        {
            "key": "q",
            "request": asking(
                generation_config={
                    "responseSchema": {"type": "OBJECT", "properties": {"name": {"type": "STRING"}}}
                }
            ),
        },
    ),
    ("no-contents", {"key": "r", "request": {}}, None),
    (
        "contents-text",
        {"key": "s", "request": {"contents": "Hello?"}},
        {"key": "s", "request": {"contents": CONTENTS}},
    ),
    ("contents-wrong", {"key": "t", "request": {"contents": [{"text": "Hello?"}]}}, None),
    ("role", {"key": "u", "request": {"contents": [{**CONTENTS[0], "role": "assistant"}]}}, None),
    ("messages", {"key": "v", "request": {"messages": []}}, None),
    ("not-embeddings", {"key": "w", "request": {"content": CONTENTS[0]}}, None),
    ("deprecated", {"key": "x", "request": asking(generationConfig={"temperature": 0.7})}, None),
    ("unknown", {"key": "y", "request": asking(colour="red")}, None),
    ("system-instruction-wrong", {"key": "z", "request": asking(systemInstruction={"text": "Purr."})}, None),
    ("generation-config-wrong", {"key": "0", "request": asking(generation_config="warm")}, None),
    (
        "inline-data",
        {"key": "1", "request": {"contents": [{"parts": [{"inlineData": {"data": "AA=="}}]}]}},
        None,
    ),
]
EMBEDDING = {"parts": [{"text": "Explain GenAI"}]}
OF_EMBEDDINGS: list[tuple[str, Any, Any]] = [
    ("", {"key": "a", "request": {"content": EMBEDDING, "output_dimensionality": 512}}, None),
    (
        "embed-contents",
        {"key": "b", "request": {"contents": [EMBEDDING]}},
        {"key": "b", "request": {"content": EMBEDDING}},
    ),
    ("embed-generation", {"key": "c", "request": {"content": EMBEDDING, "generationConfig": {}}}, None),
    (
        "content-wrong",
        {"key": "d", "request": {"content": [EMBEDDING]}},
        {"key": "d", "request": {"content": EMBEDDING}},
    ),
]
MESSAGES = [{"role": "user", "content": "Hello?"}]
OF_OPENAI: list[tuple[str, Any, Any]] = [
    (
        "",
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": MESSAGES}},
        None,
    ),
    ("native-line", GOOD, None),
    ("no-body", {"custom_id": "b"}, None),
    ("openai-url", {"custom_id": "c", "url": "/v1/responses", "body": {"messages": MESSAGES}}, None),
    ("no-messages", {"custom_id": "d", "body": {"model": "gemini-3.5-flash"}}, None),
    ("key-repeated", {"custom_id": "a", "body": {"messages": MESSAGES}}, None),
    ("messages-wrong", {"custom_id": "e", "body": {"messages": ["Hello?"]}}, None),
]
OPENAI_EMBEDDINGS: list[tuple[str, Any, Any]] = [
    ("", {"custom_id": "a", "body": {"input": "Hello?"}}, None),
    ("no-input", {"custom_id": "b", "body": {}}, None),
]
ELSEWHERE = {"file-empty", "line-too-long", "file-too-large", "byte-order-mark", "json-array"}


def written(path: Path, mistakes: list[tuple[str, Any, Any]]) -> Path:
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for _, line, _ in mistakes]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def found(*arguments: str | Path) -> list[tuple[int, str]]:
    report = json.loads(check(*arguments, "--json").stdout)
    return [(each["line"], each["rule"]) for each in report["findings"]]


@pytest.mark.parametrize(
    ("mistakes", "options"),
    [
        (MISTAKES, []),
        (OF_EMBEDDINGS, ["--embeddings"]),
        (OF_OPENAI, ["--openai"]),
        (OPENAI_EMBEDDINGS, ["--openai", "--embeddings"]),
    ],
    ids=["native", "embeddings", "openai", "openai-embeddings"],
)
def test_every_known_mistake_is_named_with_its_line_and_nothing_else(
    mistakes: list[tuple[str, Any, Any]], options: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path / "requests.jsonl", mistakes)

    expected = [(number, rule) for number, (rule, _, _) in enumerate(mistakes, start=1) if rule]
    assert found(path, *options) == expected


def test_every_rule_has_its_instance_and_says_who_says_so() -> None:
    shown = {rule for each in (MISTAKES, OF_EMBEDDINGS, OF_OPENAI, OPENAI_EMBEDDINGS) for rule, _, _ in each}

    assert RULES.keys() == shown - {""} | ELSEWHERE
    assert all(rule.source and rule.right and rule.reason for rule in RULES.values())


def test_a_mistake_is_told_with_its_line_the_reason_and_the_right_form(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", [("", GOOD, None), MISTAKES[8]])

    result = check(path)

    assert result.exit_code == 1
    assert result.stdout == (
        'line 2: error: "custom_id" is the OpenAI layer\'s name; right is "key" [custom-id]\n'
        f"{path} is not good: 2 requests, {path.stat().st_size} bytes, about 3 tokens; 1 errors, 0 warnings.\n"
    )


@pytest.mark.parametrize(
    ("mistakes", "options"), [(MISTAKES, []), (OF_EMBEDDINGS, ["--embeddings"])], ids=["native", "embeddings"]
)
def test_what_is_certain_is_corrected_and_the_rest_stays_as_it_came(
    mistakes: list[tuple[str, Any, Any]], options: list[str], tmp_path: Path
) -> None:
    path, target = written(tmp_path / "requests.jsonl", mistakes), tmp_path / "fixed.jsonl"

    check(path, "--fix", target, "--model", "gemini-3.5-flash", *options)

    for source, line, (_, _, corrected) in zip(
        path.read_bytes().splitlines(), target.read_bytes().splitlines(), mistakes, strict=True
    ):
        if corrected is None:
            assert line == source
        else:
            assert json.loads(line) == corrected
    left = [(at, rule) for at, (rule, _, right) in enumerate(mistakes, start=1) if rule and right is None]
    assert found(target, *options) == left


def test_a_model_other_than_the_batchs_is_not_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", [("", {**GOOD, "model": "gemini-2.5-pro"}, None)])

    for options in ([], ["--model", "gemini-3.5-flash"]):
        assert check(path, "--fix", tmp_path / "fixed.jsonl", *options).exit_code == 1
        assert (tmp_path / "fixed.jsonl").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "findings"),
    [
        (b"", [(0, "file-empty")]),
        (b"\n \n", [(0, "file-empty")]),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), [(1, "byte-order-mark")]),
        (b"[" + json.dumps(GOOD).encode() + b"]", [(1, "json-array")]),
        (json.dumps(GOOD, indent=1).encode(), [(at, "not-json") for at in range(1, 15)]),
    ],
    ids=["empty", "blank", "mark", "array", "indented"],
)
def test_a_file_that_is_none_of_lines_is_told(
    content: bytes, findings: list[tuple[int, str]], tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)

    if b'\n "' in content:
        assert {rule for _, rule in found(path)} >= {"not-json"}
    else:
        assert found(path) == findings


def test_a_mark_is_left_out_and_an_array_writes_no_file(tmp_path: Path) -> None:
    path, target = tmp_path / "r.jsonl", tmp_path / "fixed.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert check(path, "--fix", target).exit_code == 0
    assert json.loads(target.read_bytes()) == GOOD

    target.unlink()
    path.write_bytes(b"[]")
    assert check(path, "--fix", target).exit_code == 1
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_file_over_the_limit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(GOOD).encode() + b"\n")
        file.truncate(2 * 1000**3 + 1)
    look = Check()

    next(check_file(path, look))

    assert look.findings.counts == {"file-too-large": 1}


def test_a_line_without_an_end_is_not_held_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(GOOD).encode() + b"\n")
        file.truncate(600 << 20)
    look = Check()

    list(check_file(path, look))

    assert look.findings.counts == {"line-too-long": 1}


def test_blank_lines_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    other = {**GOOD, "key": "other"}
    path.write_bytes(b"\r\n" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps(other).encode())

    assert check(path).exit_code == 0


def test_a_key_repeated_across_blocks_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    wide = {"contents": [{"parts": [{"text": "x" * 1000}]}]}
    with path.open("w") as file:
        for number in range(3000):
            file.write(json.dumps({"key": f"k{number % 2900}", "request": wide}) + "\n")

    report = json.loads(check(path, "--json").stdout)

    assert report["counts"] == {"key-repeated": 100}
    assert [each["line"] for each in report["findings"]] == [*range(2901, 2921)]
    assert "… and 80 more" in check(path).stdout


def test_a_line_longer_than_a_block_is_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    image = {"parts": [{"inlineData": {"mimeType": "image/png", "data": "A" * (3 << 20)}}]}
    lines = [GOOD, {"key": "wide", "request": {"contents": [image]}}, {**GOOD, "key": "after"}]
    path.write_text("\n".join(map(json.dumps, lines)))

    report = json.loads(check(path, "--json").stdout)

    assert (report["ok"], report["requests"]) == (True, 3)
    assert 258 <= report["tokens"] < 300


@pytest.mark.parametrize("data", ["AAEC" * 20, "AAEC_-8=" * 10_000], ids=["small", "large"])
def test_a_text_beside_an_image_counts_too(data: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    image = {"inlineData": {"data": data, "mimeType": "image/png"}}
    parts = [{"text": "x" * 4000}, image, {"text": '"data": "' + "A" * 4000}]
    lines = [{"key": key, "request": {"contents": [{"parts": parts}]}} for key in "abc"]
    path.write_text("\n".join(map(json.dumps, lines)))

    report = json.loads(check(path, "--json").stdout)

    assert report["tokens"] == pytest.approx(3 * (258 + 1000 + 1000), rel=0.02)
