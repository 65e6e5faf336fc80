"""Official SDKs and what people put before them: a batch that each submits is right in the bucket.

Each runs as its own user would run it, in a process of its own, with its own way of waiting.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.rooms import node_folder_with, python_with
from tests.support.deployment import Deployment
from tests.support.processes import ROOT

HERE = ROOT / "tests" / "clients"
REQUESTS = {
    "good": "Why is the sky blue?",
    "other": "Why is grass green?",
    "bad": "[error] No.",
    "ü/..": "Hi",
}

Client = Callable[[], list[str]]


def _python() -> list[str]:
    return [sys.executable, str(HERE / "with_genai.py")]


def _javascript() -> list[str]:
    room = node_folder_with("@google/genai@2.32.0")
    script = room / "with_genai.mjs"  # Node looks for packages beside a module, not beside its caller.
    shutil.copy(HERE / script.name, script)
    return ["node", str(script)]


def _openai() -> list[str]:
    return [python_with("openai==3.57.0"), str(HERE / "with_openai.py")]


def _litellm() -> list[str]:
    return [python_with("litellm==1.110.2"), str(HERE / "with_litellm.py")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "client",
    [_python, _javascript, _openai, _litellm],
    ids=["google-genai", "@google/genai", "openai", "litellm"],
)
def test_a_batch_that_a_client_submits_is_right_in_the_bucket(
    client: Client, deployment: Deployment, tmp_path: Path
) -> None:
    command = client()
    deployment.subscribe()
    deployment.work()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
        **deployment.gemini.env,
    }
    ended = subprocess.run(
        [*command, json.dumps(REQUESTS)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    batch = ended.stdout.splitlines()[-1].removeprefix("batches/")

    summary = deployment.wait_for_commit(batch)
    assert (summary["state"], summary["trigger"], summary["warnings"]) == ("succeeded", "webhook", [])
    assert summary["counts"] == {"total": 4, "succeeded": 3, "failed": 1, "invalid": 0}
    assert summary["model"] == "models/gemini-2.5-flash"
    entries = {entry["key"]: entry for entry in deployment.manifest(batch)}
    assert entries.keys() == REQUESTS.keys()
    assert [key for key, entry in entries.items() if entry["status"] == "failed"] == ["bad"]
    for key in entries.keys() - {"bad"}:
        path = deployment.batch_folder(batch) / entries[key]["object"]
        document = json.loads(path.read_bytes())
        assert REQUESTS[key] in document["text"]
        assert document["finish_reason"].lower() == "stop"
        assert document["usage"]["total_tokens"] > 0
