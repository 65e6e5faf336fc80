"""Inline results found in an answer by its brackets and strings alone: as a decoder finds them, and however deep."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.gemini.scan import inline_results, pairs, take_apart

STRINGS = st.sampled_from(['"', "\\", "]", "}", "[", "{", ",", ":", " ", '\\"', "", "é", "a b"]) | st.text(
    max_size=4
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)
INLINE = st.sampled_from(["inlinedResponses", "inlined_responses", "inlinedEmbedContentResponses"])


def taken(body: bytes) -> tuple[Any, dict[tuple[str, ...], list[Any]]]:
    scanned = take_apart(body, inline_results)
    return json.loads(scanned.outline), {
        place: [json.loads(body[start:end]) for start, end in pairs(bounds)]
        for place, bounds in scanned.elements.items()
    }


@given(st.lists(JSON, max_size=4), JSON, INLINE, INLINE | st.none(), st.booleans())
def test_the_elements_are_those_that_a_decoder_finds(
    elements: list[Any], other: Any, outer: str, inner: str | None, in_metadata: bool
) -> None:
    def answer(results: list[Any]) -> dict[str, Any]:
        output = {"before": other, outer: {"x": other, inner: results} if inner else results, "after": other}
        return (
            {"a": other, "metadata": {"output": output}} if in_metadata else {"response": output, "b": other}
        )

    outline, found = taken(
        json.dumps(answer(elements), indent=1 if in_metadata else None, ensure_ascii=False).encode()
    )

    assert outline == answer([])
    assert found == {("metadata", "output") if in_metadata else ("response",): elements}


@given(JSON)
def test_an_answer_without_inline_results_stays_as_it_is(other: Any) -> None:
    body = json.dumps({"response": {"responsesFile": other}, "inlinedResponses": [other]}).encode()

    scanned = take_apart(body, inline_results)

    assert (scanned.outline, scanned.elements) == (body, {})


def test_depth_is_no_limit() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000

    scanned = take_apart(b'{"response":{"inlinedResponses":[' + deep + b", 1 ]}}", inline_results)

    assert scanned.outline == b'{"response":{"inlinedResponses":[]}}'
    assert [end - start for start, end in pairs(scanned.elements["response",])] == [200_000, 1]


@pytest.mark.parametrize("elements", [b"[]", b"[ \n]"])
def test_no_elements_are_none(elements: bytes) -> None:
    scanned = take_apart(b'{"response":{"inlinedResponses":' + elements + b"}}", inline_results)

    assert {place: list(bounds) for place, bounds in scanned.elements.items()} == {("response",): []}


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b'{"a', b'{"a\\"}', b"[[]", b"]", b'{"response":{"inlinedResponses":[', b'{"a":"\\'),
        *(b'{"response":{"inlinedResponses":[1,', b'{"response":{"inlinedResponses":[{"a":"}]}}'),
        *(b'{"response":{"inlinedResponses":[1,,2]}}', b'{"response":{"inlinedResponses":[1,]}}'),
        b'{"response":{"inlinedResponses":["a\\"]}}',
    ],
)
def test_what_is_cut_or_does_not_fit_together_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"closed|missing"):
        take_apart(body, inline_results)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "body",
    [
        *(b'"' + b'\\"' * 2_000_000, b'{"a":"' + b"[" * 4_000_000, b'"' * 2_000_000),
        *(b"[" * 1_000_000, b'{"a":' * 1_000_000, b"[" * 1_000_000 + b"]" * 1_000_000),
    ],
)
def test_no_bytes_make_it_slow(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        take_apart(body, inline_results)
