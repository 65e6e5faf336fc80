"""Each kind of trouble, when it is asked for; those of downloads in parts and of deliveries have files of their own."""

import gzip
import json
import re

import httpx
import pytest

from emulator.errors import REFUSALS
from emulator.faults import KINDS
from tests.support.gemini import Gemini
from tests.support.processes import ROOT

LINES = b"".join(b'{"key": "%d", "response": {}}\n' % number for number in range(100))
JOB = {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": "Hello"}}]}}}}
CREATE = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"


def _download(gemini: Gemini, batch: str) -> httpx.Response:
    return gemini.http.get(f"/v1beta/files/batch-{batch}:download?alt=media")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_comes_in_the_words_of_google(gemini: Gemini, name: str) -> None:
    gemini.fault("status", "/batches", text=name)
    answer = gemini.http.get("/v1beta/batches")
    assert answer.status_code in {403, 429, 499}
    assert answer.json()["error"]["code"] == answer.status_code


def test_a_refusal_that_there_is_not_is_refused_with_those_there_are(gemini: Gemini) -> None:
    answer = gemini.http.post("/_emulator/faults", json={"kind": "status", "text": "nope"})
    assert (answer.status_code, "leaked" in answer.text) == (400, True)


def test_a_creation_can_happen_and_its_answer_get_lost(gemini: Gemini) -> None:
    gemini.fault("lost", "POST /v1beta/models/", value=504)
    assert gemini.http.post(CREATE, json=JOB).status_code == 504
    assert len(gemini.http.get("/v1beta/batches").json()["operations"]) == 1


def test_there_may_be_a_limit_to_unfinished_batches(gemini: Gemini) -> None:
    gemini.set(batch_seconds=60, batch_limit=1)
    assert gemini.http.post(CREATE, json=JOB).status_code == 200
    refused = gemini.http.post(CREATE, json=JOB)
    assert (refused.status_code, refused.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")


def test_a_download_can_be_anothers_page_or_nothing(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES)
    gemini.fault("page", ":download")
    gemini.fault("empty", ":download")
    page, empty, real = (_download(gemini, batch) for _ in range(3))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (empty.status_code, empty.content) == (200, b"")
    assert real.content == LINES


def test_a_download_can_end_early_as_if_that_were_all(gemini: Gemini) -> None:
    gemini.fault("short", ":download", value=10)
    answer = _download(gemini, gemini.put_batch(LINES))
    assert answer.content == LINES[:-10]
    assert "content-length" not in answer.headers


def test_a_download_can_be_compressed_with_and_without_saying_so(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES)
    gemini.fault("gzip", ":download")
    gemini.fault("gzip", ":download", value=1)
    said, silent = _download(gemini, batch), _download(gemini, batch)
    assert said.headers["content-encoding"] == "gzip"
    assert said.content == LINES
    assert "content-encoding" not in silent.headers
    assert gzip.decompress(silent.content) == LINES


def test_a_batch_can_be_shown_at_the_top_or_in_another_state(gemini: Gemini) -> None:
    path = f"/v1beta/batches/{gemini.put_batch(LINES)}"
    gemini.fault("top_level", path)
    gemini.fault("state", path, text="PAUSED", times=2)
    top, paused, real = (gemini.http.get(path).json() for _ in range(3))
    assert (top["state"], "metadata" in top) == ("BATCH_STATE_PAUSED", False)
    assert (paused["metadata"]["state"], "done" in paused, "response" in paused) == (
        "BATCH_STATE_PAUSED",
        False,
        False,
    )
    assert (real["metadata"]["state"], real["done"]) == ("BATCH_STATE_SUCCEEDED", True)


def test_a_list_can_be_shown_with_fields_at_the_top(gemini: Gemini) -> None:
    gemini.put_batch(LINES)
    gemini.fault("top_level", "GET /v1beta/batches")
    assert gemini.http.get("/v1beta/batches").json()["operations"][0]["state"] == "BATCH_STATE_SUCCEEDED"


def test_every_kind_of_fault_and_refusal_is_documented() -> None:
    text = (ROOT / "docs/emulator.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert [row for row in rows if row in KINDS] == list(KINDS)
    assert [row for row in rows if row in REFUSALS] == list(REFUSALS)


def test_what_the_documentation_shows_can_be_asked_for(gemini: Gemini) -> None:
    text = (ROOT / "docs/emulator.md").read_text()
    shown = [json.loads(found) for found in re.findall(r"^ *-d '(\{.*\})'$", text, re.MULTILINE)]
    assert shown
    for body in shown:
        assert gemini.http.post("/_emulator/faults", json=body).status_code == 200, body
