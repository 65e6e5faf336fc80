"""The schemas of `docs/schemas/`: real documents of every kind keep them, and they lose nothing unnoticed."""

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs import json_schemas as schemas
from tests.support.deployment import Deployment, result_line
from tests.support.gemini import Gemini
from tests.support.processes import ROOT

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
MEDIA: list[dict[str, Any]] = [
    {"text": "See: "},
    {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    {"inlineData": {"mimeType": "image/jpeg", "data": PIXEL}},
    {"inlineData": {"mimeType": "image/png", "data": "%"}},
    {"inline_data": {"data": PIXEL}},
]
LINES = [
    result_line("text"),
    result_line("text", "again"),
    result_line(7),
    result_line(None),
    result_line("media", candidates=[{"content": {"parts": MEDIA}, "finishReason": "STOP"}]),
    b'{"key":"blocked","response":{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}}\n',
    b'{"key":"cut","response":{"candidates":[{"finishReason":"MAX_TOKENS"}]}}\n',
    b'{"response":{"tokenCount":"1","embedding":{"values":[-0.034,0.0025]}},"key":"embedding"}\n',
    b'{"key":"failed","error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}\n',
    b'{"key":"failed","status":{"code":13}}\n',
    b'{"key":"said","error":"a word"}\n',
    b'{"key":"neither"}\n',
    b'{"custom_id":"chat","response":{"status_code":200,"body":{"choices":[{"message":{"content":"hi"}}]}},"error":null}\n',
    b'{"custom_id":"late","response":{"status_code":408,"body":null},"error":null}\n',
    b'{"request":{},"status":"It did not work.","response":{}}\n',
    result_line("thought", candidates=[{"content": {"parts": [{**MEDIA[1], "thought": True}, MEDIA[1]]}}]),
    result_line("tools", usageMetadata={"promptTokenCount": 26, "toolUsePromptTokenCount": 12504}),
    b"no json\n",
    b"\xff\n",
]


def closed(node: Any) -> Any:
    """A schema by which an object has no property that is not told."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    more = {"additionalProperties": False} if "properties" in node else {}
    return more | {name: closed(value) for name, value in node.items()}


def keeps(name: str, *documents: str | bytes) -> None:
    validator = Draft202012Validator(closed(json.loads(schemas.path(name).read_text())))
    assert documents
    for document in documents:
        problems = [error.message for error in validator.iter_errors(json.loads(document))]
        assert problems == [], document


def say(env: Mapping[str, str], *args: str) -> str:
    """What a command prints with `--json`."""
    command = [sys.executable, "-m", "receiver.cli", *args, "--json"]
    ended = subprocess.run(
        command, check=False, env={"PATH": os.environ["PATH"], **env}, cwd=ROOT, stdout=subprocess.PIPE
    )
    return ended.stdout.decode()


def test_the_files_are_what_the_code_says() -> None:
    assert schemas.check() == []


@pytest.mark.parametrize("name", schemas.TYPES)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schemas.schema(name))


@pytest.mark.parametrize("outputs", ["objects", "parquet", "objects,parquet"])
def test_a_batch_of_every_kind_of_line_keeps_them(deployment: Deployment, outputs: str) -> None:
    stats = {"requestCount": "15", "successfulRequestCount": "9"}
    batch = deployment.gemini.put_batch(b"".join(LINES), stats=stats, display_name="mine")
    env = {**deployment.env, "OUTPUTS": outputs, "PART_BYTES": "500"}

    keeps("process", say(env, "process", batch))

    folder = deployment.batch_folder(batch)
    keeps("batch", (folder / "batch.json").read_bytes())
    entries = (folder / "manifest.jsonl").read_bytes().splitlines()
    assert len(entries) == len(LINES)
    keeps("manifest-line", *entries)
    if "objects" in outputs:
        keeps("output", *(path.read_bytes() for path in (folder / "outputs").iterdir()))


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED", "CANCELLED"])
def test_a_batch_without_results_keeps_them(deployment: Deployment, state: str) -> None:
    batch = deployment.gemini.put_batch(b"", state=state, error={"code": 3, "message": "no"})

    keeps("process", say(deployment.env, "process", batch))

    keeps("batch", (deployment.batch_folder(batch) / "batch.json").read_bytes())


def test_what_status_replay_and_reconcile_say_keeps_them(deployment: Deployment) -> None:
    env = deployment.env
    keeps("status", say(env, "status"))
    keeps("status-batch", say(env, "status", "unknown"))
    batch = deployment.gemini.put_batch(b"".join(LINES), user_metadata={"a": [1]})
    replayed = [say(env, "replay", *more) for more in ([batch], [batch], ["nobodys", "--force"])]
    keeps("replay", *replayed)
    keeps("status-batch", say(env, "status", batch))

    deployment.run("work", "--burst", PART_BYTES="500")

    deployment.wait_for_commit(batch)
    keeps("status", say(env, "status"))
    keeps("status-batch", say(env, "status", batch), say(env, "status", "nobodys"))
    keeps("reconcile", say(env, "reconcile"))


def test_what_verify_says_keeps_it(deployment: Deployment, tmp_path: Path) -> None:
    env = deployment.env
    batch = deployment.gemini.put_batch(b"".join(LINES))
    say(env, "process", batch)
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"key":"text","request":{}}\n{"key":"never","request":{}}\nno request\n')
    options = ("--input", str(requests), "--resubmit", str(tmp_path / "again.jsonl"))

    keeps("verify", say(env, "verify", batch), say(env, "verify", batch, *options))
    (deployment.batch_folder(batch) / "outputs/text.json").unlink()
    (deployment.batch_folder(batch) / "stray").touch()
    keeps("verify", say(env, "verify", batch, *options), say(env, "verify", "unknown"))


def test_what_the_registration_says_keeps_it(gemini: Gemini, tmp_path: Path) -> None:
    url = ("--url", "https://example.com/webhooks/gemini")
    secret = ("--secret-file", str(tmp_path / "whsec"))

    registered = [
        say(gemini.env, "register", *url, *secret),
        say(gemini.env, "register", *url, *secret),
        say(gemini.env, "register", *url, *secret, "--rotate"),
        say(gemini.env, "register", "--url", "https://example.com/other"),
    ]

    keeps("register", *registered)
    keeps("webhooks-list", say(gemini.env, "webhooks", "list"))
    keeps("webhooks-get", say(gemini.env, "webhooks", "get", json.loads(registered[0])["webhook"]["id"]))


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
    """What is lost by a change to the definitions of a schema."""
    old = schemas.schema(name)
    new = copy.deepcopy(old)
    change(new["$defs"])
    return list(schemas.lost(old, new))


@pytest.mark.parametrize("name", schemas.TYPES)
def test_nothing_is_lost_where_nothing_changes(name: str) -> None:
    assert changed(name, lambda definitions: definitions) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda definitions: definitions["Summary"]["properties"].update(new={"type": "string"}),
        lambda definitions: definitions["Counts"]["properties"].update(new={"type": "integer"}),
        lambda definitions: definitions["Counts"]["required"].append("total"),
        lambda definitions: definitions["Summary"].update(description="Said better."),
    ],
)
def test_an_addition_is_no_loss(change: Callable[[dict[str, Any]], object]) -> None:
    assert changed("batch", change) == []


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        (lambda defs: defs["Summary"]["properties"].pop("model"), "model is gone"),
        (lambda defs: defs["Counts"]["properties"].pop("failed"), "counts.failed is gone"),
        (lambda defs: defs["PartSummary"]["properties"].pop("sha256"), "parts[].sha256 is gone"),
        (lambda defs: defs["Summary"]["required"].remove("model"), "model may be absent now"),
        (
            lambda defs: defs["PartSummary"]["properties"].update(lines={"type": "string"}),
            "parts[].lines was integer and is string",
        ),
        (
            lambda defs: defs["Summary"]["properties"].update(batch={}),
            "batch was string and is anything",
        ),
        (
            lambda defs: defs["Summary"]["properties"]["usage"].update(additionalProperties={}),
            "usage.* was integer and is anything",
        ),
        (
            lambda defs: defs["Summary"]["properties"].update(model={"type": "string"}),
            "model was null or string and is string",
        ),
        (
            lambda defs: defs["State"].update(enum=["failed", "paused"]),
            'state was {"enum": ["cancelled", "expired", "failed", "succeeded"]} and is {"enum": ["failed", "paused"]}',
        ),
    ],
)
def test_a_loss_is_told_with_its_place(change: Callable[[dict[str, Any]], object], loss: str) -> None:
    assert changed("batch", change) == [loss]


def test_files_are_never_written_over_by_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    assert schemas.generate() == []
    path = schemas.path("replay")
    more = json.loads(path.read_text())
    more["$defs"]["Replayed"]["properties"]["since"] = {"type": "string"}
    path.write_text(json.dumps(more))

    assert schemas.generate() == [
        "replay.schema.json: since is gone. If that is meant, delete the file, and tell in CHANGELOG.md."
    ]
    assert json.loads(path.read_text()) == more

    path.unlink()
    assert schemas.generate() == []
    assert schemas.check() == []


def test_a_stale_file_and_one_too_many_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    schemas.generate()
    path = schemas.path("replay")
    path.write_text(path.read_text() + "\n")
    (tmp_path / "gone.schema.json").touch()

    assert schemas.check() == [
        "replay.schema.json is stale: run `make docs`.",
        "gone.schema.json is the schema of nothing: delete it.",
    ]
