"""What an answer stands for, where it depends on more than a server can be made to say at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import GeminiUnavailable, Unreadable, WorkerError
from workers.gemini.access import Secret
from workers.gemini.statuses import About, Answer, error_of

KEY = Secret("AIza-secret")


@pytest.mark.parametrize(("status", "seconds"), [(503, 61.0), (504, 61.0), (504, 0.1)])
def test_a_batch_that_gemini_can_not_deliver_in_time_is_told_with_what_to_do(
    status: int, seconds: float
) -> None:
    body = json.dumps({"error": {"code": status, "message": "The deadline was exceeded."}}).encode()

    error = error_of(Answer(status, {"retry-after": "7"}, body, seconds), About.BATCH, KEY)

    assert isinstance(error, GeminiUnavailable)
    assert error.retry_after == 7
    assert "could not put the batch together" in str(error)
    assert "The deadline was exceeded. If its results are inline" in str(error)
    assert str(error).endswith("submit such jobs as a file.")


@pytest.mark.parametrize(
    ("headers", "delay", "seconds"),
    [
        ({}, "3.5s", 3.5),
        ({}, "2s", 2.0),
        ({"retry-after": "7"}, "2s", 7.0),
        ({}, "soon", None),
        ({}, 3, None),
    ],
)
def test_how_long_to_wait_may_stand_in_the_errors_details(
    headers: dict[str, str], delay: object, seconds: float | None
) -> None:
    details = [{"reason": "x"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    body = json.dumps({"error": {"code": 429, "message": "No room.", "details": details}}).encode()

    error = error_of(Answer(429, headers, body), About.MODEL, KEY)

    assert isinstance(error, GeminiUnavailable)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("about", "status", "seconds"),
    [(About.BATCH, 503, 0.1), (About.BATCH, 500, 61.0), (About.LIST, 503, 61.0), (About.FILE, 504, 61.0)],
)
def test_other_trouble_is_not_blamed_on_the_size_of_the_results(
    about: About, status: int, seconds: float
) -> None:
    assert "inline" not in str(error_of(Answer(status, {}, b"", seconds), about, KEY))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(f"{KEY.reveal()}\x1b[31m"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "status", "details", "reason"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(
    st.integers(100, 999),
    st.sampled_from(About),
    st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()),
    st.text(max_size=10),
)
def test_whatever_is_answered_is_one_printable_sentence_without_the_key(
    status: int, about: About, body: bytes, retry_after: str
) -> None:
    error = error_of(Answer(status, {"retry-after": retry_after}, body), about, KEY)

    assert isinstance(error, WorkerError)
    said = str(error)
    assert said.isprintable()
    assert said.endswith(".")
    assert len(said) < 500
    assert KEY.reveal() not in said + repr(error)
    assert not isinstance(error, Unreadable) or about is About.BATCH
