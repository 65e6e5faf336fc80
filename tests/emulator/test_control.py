"""The control API: batches exactly as a test wants them, and faults."""

import json
from typing import Any

import pytest

from tests.support.gemini import Gemini

LINES = b'{"key": "a", "response": {}}\n\n{"key": "b", "error": {}}\nno json'


def _get(gemini: Gemini, batch: str) -> dict[str, Any]:
    document: dict[str, Any] = gemini.http.get(f"/v1beta/batches/{batch}").json()
    return document


def test_a_batch_put_by_hand_looks_like_one_that_ran(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES, display_name="mine", model="models/other", ended="2026-01-02T03:04:05Z")
    operation = _get(gemini, batch)
    assert operation["name"] == f"batches/{batch}"
    assert operation["done"] is True
    assert operation["response"]["responsesFile"] == f"files/batch-{batch}"
    assert (
        operation["metadata"].items()
        >= {
            "model": "models/other",
            "displayName": "mine",
            "endTime": "2026-01-02T03:04:05.000000000Z",
            "state": "BATCH_STATE_SUCCEEDED",
            "batchStats": {"requestCount": "3", "successfulRequestCount": "1", "failedRequestCount": "2"},
            "output": {"responsesFile": f"files/batch-{batch}"},
        }.items()
    )
    assert len(f"batch-{batch}") == 42


@pytest.mark.parametrize("spelling", ["responsesFile", "responses_file", "fileName", "file_name"])
@pytest.mark.parametrize("said_at", ["response", "metadata"])
def test_the_output_stands_where_and_as_it_was_asked_for(gemini: Gemini, spelling: str, said_at: str) -> None:
    operation = _get(gemini, gemini.put_batch(LINES, spelling=spelling, said_at=said_at))
    places = {"response": operation.get("response"), "metadata": operation["metadata"].get("output")}
    assert spelling in places.pop(said_at)
    assert list(places.values()) == [None]


@pytest.mark.parametrize("state", ["SUCCEEDED", "PAUSED"])
def test_all_that_is_told_of_a_batch_can_stand_at_the_top(gemini: Gemini, state: str) -> None:
    batch = gemini.put_batch(LINES, said_at="top", state=state)
    answer = _get(gemini, batch)
    assert (answer["name"], answer["state"]) == (f"batches/{batch}", f"BATCH_STATE_{state}")
    assert answer["output"] == {"responsesFile": f"files/batch-{batch}"}
    assert not answer.keys() & {"metadata", "response", "done"}


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED", "CANCELLED"])
def test_a_batch_without_output_shows_none(gemini: Gemini, state: str) -> None:
    error = {"code": 13, "message": "Internal"} if state == "FAILED" else None
    operation = _get(gemini, gemini.put_batch(b"", state=state, state_prefix="JOB_STATE_", error=error))
    assert operation["metadata"]["state"] == f"JOB_STATE_{state}"
    assert "response" not in operation
    assert operation.get("error") == error


def test_an_operation_is_shown_byte_for_byte(gemini: Gemini) -> None:
    operation = b'{ "name":"batches/own", "metadata":{"n":1e999} }'
    gemini.put_operation(operation, batch_id="own")
    assert gemini.http.get("/v1/batches/own").content == operation
    assert operation in gemini.http.get("/v1/batches").content


def test_a_failed_batch_can_succeed_later(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES, state="FAILED", error={"code": 13, "message": "Internal"})
    assert "response" not in _get(gemini, batch)
    gemini.change(batch, "SUCCEEDED")
    operation = _get(gemini, batch)
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert operation["response"]["responsesFile"]
    assert "error" not in operation


def test_an_output_can_come_later_than_the_state(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES)
    gemini.fault("late_output", times=2)
    assert ["response" in _get(gemini, batch) for _ in range(3)] == [False, False, True]


def test_requests_can_be_refused_for_a_while(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES)
    gemini.fault("status", f"GET /v1beta/batches/{batch}", times=2, value=429, retry_after="7")
    answers = [gemini.http.get(f"/v1beta/batches/{batch}") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert [seen["status"] for seen in gemini.requests(batch)] == [429, 429, 200]


def test_a_fault_without_end_lasts_until_it_is_cleared(gemini: Gemini) -> None:
    gemini.fault("status", "jwks.json", times=0, value=503)
    assert [gemini.http.get("/.well-known/jwks.json").status_code for _ in range(3)] == [503] * 3
    gemini.clear_faults()
    assert gemini.http.get("/.well-known/jwks.json").status_code == 200


@pytest.mark.parametrize("body", [{"kind": "earthquake"}, {"kind": "cut", "hardness": 3}])
def test_a_fault_that_does_not_exist_is_refused(gemini: Gemini, body: dict[str, Any]) -> None:
    assert gemini.http.post("/_emulator/faults", json=body).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1beta/nothing", 404), ("/v1beta/batches/none", 404), ("/v1beta/batches?pageToken=x", 400)],
)
def test_errors_have_googles_shape(gemini: Gemini, path: str, status: int) -> None:
    answer = gemini.http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == {"code", "message", "status"}
    assert answer.json()["error"]["code"] == status


def test_a_request_without_a_key_is_refused(gemini: Gemini) -> None:
    answer = gemini.http.get("/v1beta/batches", headers={"x-goog-api-key": ""})
    assert answer.json()["error"]["status"] == "PERMISSION_DENIED"
    assert gemini.http.get(f"/v1beta/batches?key={gemini.api_key}", headers={"x-goog-api-key": ""}).is_success


def test_a_reset_forgets_everything(gemini: Gemini) -> None:
    gemini.put_batch(LINES)
    gemini.create_webhook("http://127.0.0.1:9/")
    gemini.announce("b")
    gemini.reset()
    assert gemini.deliveries() == []
    assert gemini.requests() == []
    assert gemini.http.get("/v1/batches").json() == {"operations": []}
    assert json.loads(gemini.http.get("/v1/webhooks").text) == {"webhooks": []}
