"""Which lines say that their request failed, and in which words of theirs that is told."""

import json
from typing import Any

import pytest

from workers.results.result import Status, parse, render

ANSWER = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
RPC = {"code": 13, "message": "Internal"}
NO_ERRORS: list[Any] = [None, "", " ", {}, [], False, 0, 0.0]
GOOD_STATUSES: list[Any] = [None, "", " ", "OK", "mine", {}, {"code": 0}, {"code": 200}, 200]
SENTENCE = "Bad Request: the model does not exist."


def told(**line: Any) -> tuple[str, Any]:
    """The status of a line, and its error."""
    document = json.loads(render(parse(json.dumps({"key": "k", **line}).encode()), 0, 1).document)
    assert document["key"] == "k"
    return document["status"], document.get("error")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        # As Gemini writes them.
        ({"error": RPC}, RPC),
        ({"status": RPC}, RPC),
        ({"status": {"message": "no code, no status"}}, {"message": "no code, no status"}),
        # In another form.
        ({"error": "quota"}, "quota"),
        ({"error": ["a", "b"]}, ["a", "b"]),
        ({"error": True}, True),
        ({"error": {}}, {}),
        ({"status": 7}, 7),
        # Beside an empty response, and beside none.
        ({"error": RPC, "response": {}}, RPC),
        ({"error": RPC, "response": None}, RPC),
        ({"error": "quota", "response": {}}, "quota"),
        ({"error": "quota", "response": ""}, "quota"),
        ({"error": RPC, "response": []}, RPC),
        ({"status": "INTERNAL", "response": {}}, "INTERNAL"),
        ({"status": {"state": "FAILED"}, "response": {}}, {"state": "FAILED"}),
        ({"status": 500, "response": {}}, 500),
        # Beside an answer.
        ({"error": RPC, "response": ANSWER}, RPC),
        ({"error": "quota", "response": ANSWER}, "quota"),
        ({"error": {"code": 0, "message": "odd"}, "response": ANSWER}, {"code": 0, "message": "odd"}),
        ({"status": RPC, "response": ANSWER}, RPC),
        ({"status": {"code": "INTERNAL"}, "response": ANSWER}, {"code": "INTERNAL"}),
        ({"status": {"message": "no code"}, "response": ANSWER}, {"message": "no code"}),
        ({"status": 503, "response": ANSWER}, 503),
        # Vertex.
        ({"request": {}, "status": SENTENCE, "response": {}}, SENTENCE),
        ({"request": {}, "status": SENTENCE}, SENTENCE),
        ({"request": {}, "status": SENTENCE, "response": ANSWER}, SENTENCE),
        # Inside the response.
        ({"response": {"error": RPC}}, RPC),
        ({"response": {"error": RPC, **ANSWER}}, RPC),
        ({"response": {"error": "quota"}, "status": ""}, "quota"),
        # What says more than the other.
        ({"error": {}, "status": RPC}, RPC),
        ({"error": "", "response": {"error": RPC}}, RPC),
        ({"error": {"code": 1}, "status": RPC, "response": {"error": "inner"}}, {"code": 1}),
    ],
)
def test_a_line_that_says_that_it_failed_is_failed(line: dict[str, Any], error: Any) -> None:
    assert told(**line) == (Status.FAILED, error)


@pytest.mark.parametrize(
    "line",
    [
        {"response": ANSWER},
        {"response": {}},
        *({"response": ANSWER, "error": error} for error in NO_ERRORS),
        *({"response": ANSWER, "status": status} for status in GOOD_STATUSES),
        # Fields of the request line come back: what is somebody's own is no failure.
        {"response": ANSWER, "status": {"draft": True}},
        {"response": ANSWER, "status": ["x"]},
        {"response": {}, "status": {"code": 0, "message": "fine"}},
        *({"response": {}, "status": status} for status in ("OK", "ok")),
        {"response": {**ANSWER, "error": None}},
        {"request": {}, "response": ANSWER, "status": ""},
    ],
)
def test_a_line_that_says_nothing_of_the_kind_succeeded(line: dict[str, Any]) -> None:
    assert told(**line) == (Status.SUCCEEDED, None)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"status": ""},
        {"status": " "},
        {"error": None},
        {"response": "text"},
        {"response": ["x"], "status": "mine"},
    ],
)
def test_a_line_that_has_neither_is_invalid(line: dict[str, Any]) -> None:
    status, error = told(**line)

    assert status == Status.INVALID
    assert error["message"]
