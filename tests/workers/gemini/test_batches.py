"""A batch as it was documented, as it was seen, and as nobody should send it."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import GeminiUnavailable
from workers.gemini.batches import Batch, State, parse_batch, parse_page, timestamp
from workers.gemini.spool import Body, Spool
from workers.results.result import parse
from workers.sources import InlineSource

FILE = "files/batch-abc"
STATES = ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]
FILE_FIELDS = ["responsesFile", "responses_file", "fileName", "file_name"]


def parsed(asked: str = "abc", **operation: Any) -> Batch:
    return parse_batch(json.dumps(operation).encode(), asked)


def elements(batch: Batch) -> list[Any] | None:
    return None if batch.inline is None else [json.loads(bytes(element)) for element in batch.inline]


@pytest.mark.parametrize(("prefix", "state"), [*product(["BATCH_STATE_", "JOB_STATE_", ""], STATES)])
def test_a_state_is_read_with_each_prefix(prefix: str, state: str) -> None:
    batch = parsed(metadata={"state": prefix + state})

    assert batch.state == state.lower()
    assert batch.final == (state not in {"PENDING", "RUNNING"})


@pytest.mark.parametrize(
    ("operation", "state"),
    [
        ({}, State.RUNNING),
        ({"metadata": None}, State.RUNNING),
        ({"metadata": {"state": "BATCH_STATE_UNSPECIFIED"}}, State.RUNNING),
        ({"state": "BATCH_STATE_UNSPECIFIED"}, State.RUNNING),
        ({"metadata": {"state": "SOMETHING_NEW"}, "done": True}, State.UNKNOWN),
        ({"metadata": {"state": "SOMETHING_NEW"}, "done": True, "error": {"code": 13}}, State.FAILED),
        ({"done": True}, State.RUNNING),
        ({"done": True, "response": {"responsesFile": "files/x"}}, State.SUCCEEDED),
        ({"done": False, "response": {"responsesFile": "files/x"}}, State.RUNNING),
        ({"done": True, "error": {"code": 13}}, State.FAILED),
        ({"metadata": {"state": "BATCH_STATE_PENDING"}, "done": True}, State.PENDING),
        ({"metadata": {"state": "JOB_STATE_PARTIALLY_SUCCEEDED"}}, State.SUCCEEDED),
    ],
)
def test_a_batch_whose_state_is_not_told_is_final_only_with_an_output_or_an_error(
    operation: dict[str, Any], state: State
) -> None:
    assert parsed(**operation).state is state


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_", ""])
@pytest.mark.parametrize("name", ["QUEUED", "PAUSED", "UPDATING", "CANCELLING", "SOMETHING_NEW"])
@pytest.mark.parametrize("at_the_top", [False, True])
def test_a_state_that_is_not_known_keeps_its_own_name(prefix: str, name: str, at_the_top: bool) -> None:
    fields = {"state": prefix + name}

    batch = parsed(**fields) if at_the_top else parsed(metadata=fields)

    assert (batch.state, batch.state_name, batch.final) == (State.UNKNOWN, name.lower(), False)


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("BATCH_STATE_RUNNING", "running"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", "partially_succeeded"),
        ("BATCH_STATE_UNSPECIFIED", "unspecified"),
        ("", "unspecified"),
        (None, "unspecified"),
        ("\x1b]0;x\x07", "unreadable"),
        ("X" * 65, "unreadable"),
        ("PAUSED\n", "unreadable"),
    ],
)
def test_a_states_name_is_geminis_own_as_far_as_it_can_be_shown(state: str | None, name: str) -> None:
    assert parsed(metadata={"state": state}).state_name == name


@pytest.mark.parametrize("state", [*STATES, "PAUSED"])
@pytest.mark.parametrize("inline", [False, True])
def test_an_output_that_is_named_is_shown_whatever_the_state(state: str, inline: bool) -> None:
    output: dict[str, Any] = {"inlinedResponses": [{}]} if inline else {"responsesFile": FILE}

    batch = parsed(metadata={"state": state, "output": output}, error={"code": 13})

    assert (elements(batch), batch.result_file) == (([{}], None) if inline else (None, FILE))


def test_an_expired_batch_with_an_output_names_it() -> None:
    operation: dict[str, Any] = {
        "name": "batches/abc",
        "metadata": {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": "models/gemini-2.5-flash",
            "batchStats": {"requestCount": "2", "successfulRequestCount": "1"},
            "state": "BATCH_STATE_EXPIRED",
            "output": {"responsesFile": FILE},
        },
        "done": True,
        "response": {"responsesFile": FILE},
    }

    batch = parsed(**operation)

    assert (batch.state, batch.result_file, batch.succeeded_results) == (State.EXPIRED, FILE, 1)


TOLD: dict[str, Any] = {
    "model": "models/gemini-2.5-flash",
    "displayName": "my-batch",
    "createTime": "2026-07-01T20:29:19.123456789Z",
    "endTime": "2026-07-01T21:00:00Z",
    "updateTime": "2026-07-01T22:00:00Z",
    "batchStats": {"requestCount": "2", "successfulRequestCount": "1"},
    "state": "BATCH_STATE_SUCCEEDED",
}


@pytest.mark.parametrize(
    "output", [{"responsesFile": FILE}, {"inlinedResponses": {"inlinedResponses": [{"response": {}}]}}]
)
def test_a_batch_whose_fields_stand_at_the_top_is_the_same_batch(output: dict[str, Any]) -> None:
    nested = parsed(name="batches/abc", metadata={**TOLD, "output": output}, error={"code": 1})
    for flat in (
        parsed(name="batches/abc", **TOLD, output=output, error={"code": 1}),
        parsed(name="batches/abc", **TOLD, metadata=None, response=output, error={"code": 1}),
        parsed(name="batches/abc", **TOLD, metadata={"output": output}, error={"code": 1}),
    ):
        assert (replace(flat, inline=None), elements(flat)) == (
            replace(nested, inline=None),
            elements(nested),
        )


def test_what_stands_in_the_metadata_goes_before_what_stands_at_the_top() -> None:
    batch = parsed(
        state="BATCH_STATE_RUNNING", model="b", metadata={"state": "BATCH_STATE_FAILED", "model": "a"}
    )

    assert (batch.state, batch.model) == (State.FAILED, "a")


@pytest.mark.parametrize("field", FILE_FIELDS)
@pytest.mark.parametrize("place", ["response", "metadata", "both"])
def test_the_result_file_is_found_at_each_place_under_each_name(field: str, place: str) -> None:
    metadata: dict[str, Any] = {"state": "BATCH_STATE_SUCCEEDED"}
    operation: dict[str, Any] = {"metadata": metadata, "done": True}
    if place != "metadata":
        operation["response"] = {"@type": "…GenerateContentBatchOutput", field: FILE}
    if place != "response":
        metadata["output"] = {field: FILE}

    batch = parsed(**operation)

    assert (batch.result_file, batch.inline) == (FILE, None)


@pytest.mark.parametrize("output", [None, {}, {"responsesFile": ""}, {"responsesFile": None}, [], "", 1])
def test_an_output_that_names_nothing_is_none_yet(output: object) -> None:
    batch = parsed(metadata={"state": "BATCH_STATE_SUCCEEDED", "output": output}, done=True, response=output)

    assert (batch.state, batch.result_file, batch.inline) == (State.SUCCEEDED, None, None)


@pytest.mark.parametrize(
    "name",
    [
        *("inlinedResponses", "inlined_responses", "inlinedEmbedContentResponses"),
        "inlined_embed_content_responses",
    ],
)
@pytest.mark.parametrize("inner", ["inlinedResponses", "inlined_responses", None])
@pytest.mark.parametrize("place", ["response", "output"])
def test_an_inline_answer_is_found_in_each_shape(name: str, inner: str | None, place: str) -> None:
    answers = [{"metadata": {"key": "a"}, "response": {}}, {"error": {"code": 3}}, {"response": {}}]
    output = {name: {inner: answers} if inner else answers}
    operation = {"response": output} if place == "response" else {"metadata": {"output": output}}

    batch = parsed(**operation)

    assert batch.result_file is None
    assert elements(batch) == answers


@pytest.mark.parametrize("inline", [{}, [], {"inlinedResponses": []}, None])
def test_an_inline_answer_may_be_empty(inline: object) -> None:
    assert elements(parsed(response={"inlinedResponses": inline})) == []


def test_inline_elements_come_as_they_were_sent() -> None:
    element = b'{ "metadata" : {"key":1e999}, "response":{"n":0.10,"s":"\\u00e9"},"response":{} }'

    batch = parse_batch(b'{"response":{"inlinedResponses":{"inlinedResponses":[' + element + b"]}}}", "abc")

    assert batch.inline is not None
    assert [bytes(each) for each in batch.inline] == [element]


def test_everything_that_is_told_of_a_batch_is_kept() -> None:
    stats = {"requestCount": "2", "successfulRequestCount": "1", "futureCount": "9"}
    batch = parsed(
        name="batches/other",
        metadata={
            "@type": "type.googleapis.com/…",
            "model": "models/gemini-2.5-flash",
            "displayName": "my-batch",
            "createTime": "2026-07-01T20:29:19.123456789Z",
            "endTime": "2026-07-01T21:00:00Z",
            "updateTime": "2026-07-01T22:00:00Z",
            "batchStats": stats,
            "state": "BATCH_STATE_FAILED",
        },
        error={"code": 13, "message": "internal", "details": [{"x": 1}]},
    )

    assert batch == Batch(
        id="abc",
        state=State.FAILED,
        state_name="failed",
        display_name="my-batch",
        model="models/gemini-2.5-flash",
        created_at="2026-07-01T20:29:19.123456789Z",
        ended_at="2026-07-01T21:00:00Z",
        stats=stats,
        error={"code": 13, "message": "internal", "details": [{"x": 1}]},
        result_file=None,
        inline=None,
    )
    assert batch.expected == 2


def test_a_listed_batch_has_the_id_of_its_own_name_whatever_that_is() -> None:
    assert parsed("", name="batches/abc-1").id == "abc-1"
    assert parsed("", name="batches/../abc").id == "../abc"
    assert parsed("", done=True).id == ""


@pytest.mark.parametrize("stats", [None, {}, {"requestCount": "many"}, {"requestCount": None}, [], "2"])
def test_a_count_that_can_not_be_read_is_not_known(stats: object) -> None:
    assert parsed(metadata={"batchStats": stats}).expected is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b'"x"', b"<html>", b"\xff\xfe", b'{"metadata":[]}', b'{"done":"yes"}'),
        *(b'{"name":1}', b'{"metadata":{"state":7}}', b"{}{}", b'{"response":' + b"[" * 100_000),
        b'{"response":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"error":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"response":{"responsesFile":"\xff"}}',
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(GeminiUnavailable, match="no batch"):
        parse_batch(body, "abc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        *FILE_FIELDS,
        "inlinedResponses",
        "state",
        "output",
        "response",
        "metadata",
        "batchStats",
        "error",
        "name",
    ]
)


@given(st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON)))
def test_any_json_is_a_batch_or_an_error_of_ours(operation: dict[str, Any]) -> None:
    try:
        batch = parse_batch(msgspec.json.encode(operation), "abc")
    except GeminiUnavailable:
        return
    assert batch.id == "abc"
    assert batch.state in set(State)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01T00:00:10.123456789Z", 10.123456),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1970-01-01T00:00:10", 10.0),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("2026-13-01T00:00:00Z", None),
    ],
)
def test_a_time_is_read_to_the_microsecond(text: str | None, seconds: float | None) -> None:
    assert timestamp(text) == seconds


# Asking for a batch.


DEEP = b'{"metadata":{"key":"deep"},"response": ' + b"[" * 10_000 + b'" a "' + b"]" * 10_000 + b"}"


@pytest.mark.parametrize(
    "around",
    [
        b'{"done":true,"metadata":{"state":"BATCH_STATE_SUCCEEDED"},"response":{"inlinedResponses":%b}}',
        b'{"metadata":{"output":{"inlined_responses":{"inlinedResponses":%b}},"state":"JOB_STATE_SUCCEEDED"}}',
        b'{"output":{"inlinedResponses":{"inlinedResponses":%b}},"state":"JOB_STATE_SUCCEEDED"}',
    ],
)
def test_an_inline_result_that_nests_too_deep_spoils_only_itself(around: bytes) -> None:
    good = b'{"metadata":{"key":"good"},"response":{"a": 1}}'
    batch = parse_batch(around.replace(b"%b", b"[%b, %b]" % (good, DEEP)), "abc")

    assert batch.state is State.SUCCEEDED
    assert batch.inline
    with InlineSource(batch.inline).open(0, None) as opened:
        lines = b"".join(opened.chunks).splitlines()
    assert lines == [good.replace(b": ", b":"), DEEP.replace(b": ", b":")]
    assert [parse(line).status for line in lines] == ["succeeded", "invalid"]


def spooled(body: bytes) -> Body:
    spool = Spool()
    spool.write(body + b" " * (16 << 20))
    return spool.body()


@pytest.mark.parametrize("place", ["response", "metadata", "output"])
def test_a_large_answer_is_the_same_batch_with_the_same_results(place: str) -> None:
    results = b"[ %b ]" % b" , ".join(
        [b'{"metadata":{"key":"%d"},"response":{ "a": "\\u00e9 ]"}}' % n for n in range(9)]
    )
    output = b'{"inlinedResponses":{"inlinedResponses":%b}}' % results
    told = (
        b'"metadata":{"state":"JOB_STATE_FAILED","output":%b}' % output
        if place == "metadata"
        else (b'"state":"JOB_STATE_FAILED","%b":%b' % (place.encode(), output))
    )
    body = b'{"name":"batches/abc","error":{"code":13},"done":true,%b}' % told

    small, large = parse_batch(body), parse_batch(spooled(body))

    assert elements(large) == elements(small)
    assert large.inline is not None
    assert len(large.inline) == 9
    assert replace(large, inline=None) == replace(small, inline=None)


@pytest.mark.parametrize("deep", [False, True])
def test_a_large_answer_may_nest_too_deep_like_a_small_one(deep: bool) -> None:
    element = DEEP if deep else b"{}"
    body = b'{"done":true,"response":{"inlinedResponses":[{"response":{}},%b]}}' % element

    batch = parse_batch(spooled(body), "abc")

    assert batch.inline is not None
    assert [bytes(each) for each in batch.inline] == [b'{"response":{}}', element]


@pytest.mark.parametrize("of", [spooled, bytes])
@pytest.mark.parametrize("element", [b"[1 2]", b'{"a":1,}', b"tru", b"[}", b"1,,2", b'"a', b"1]2"])
def test_an_answer_with_an_element_that_is_no_json_is_refused_whatever_its_size_and_depth(
    of: Callable[[bytes], Body], element: bytes
) -> None:
    body = b'{"response":{"inlinedResponses":[%b,%b,{}]}}' % (DEEP, element)

    with pytest.raises(GeminiUnavailable, match="no batch"):
        parse_batch(of(body), "abc")


@pytest.mark.parametrize("cut", [1, 100, len(DEEP) - 2])
def test_deep_json_that_is_no_batch_is_refused(cut: int) -> None:
    body = b'{"response":{"inlinedResponses":[' + DEEP[:-cut]
    with pytest.raises(GeminiUnavailable):
        parse_batch(body, "abc")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "Infinity"])
@pytest.mark.parametrize("of", [spooled, bytes])
def test_an_inline_answer_with_a_number_that_json_has_not_is_read(
    of: Callable[[bytes], Body], number: str
) -> None:
    good = '{"metadata":{"key":"b"},"response":{"text":"NaN, \\"Infinity\\""}}'
    odd = '{"metadata":{"key":"a"},"response":{"avgLogprobs":[' + number + "," + number + "]}}"
    body = (
        '{"name":"batches/x","metadata":{"state":"BATCH_STATE_SUCCEEDED"},"done":true,'
        '"response":{"inlinedResponses":{"inlinedResponses":[' + odd + "," + good + "]}}}"
    ).encode()

    batch = parse_batch(of(body))

    assert batch.inline is not None
    assert [bytes(element).decode() for element in batch.inline] == [odd, good]
    (listed,), _ = parse_page(of(b'{"operations":[' + body + b"]}"))
    assert parse_batch(listed).state is State.SUCCEEDED
    lines = [*InlineSource(batch.inline)._lines()]
    assert [parse(line).status for line in lines] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("odd", ["nan", "NaNs", "--Infinity", "Infin", '{"a":NaN'])
def test_other_things_that_json_has_not_are_refused_still(odd: str) -> None:
    body = '{"done":true,"response":{"inlinedResponses":[{"a":' + odd + "}]}}"
    with pytest.raises(GeminiUnavailable):
        parse_batch(spooled(body.encode()))


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ({"fileName": "files/abc"}, "files/abc"),
        ({"file_name": "files/abc"}, "files/abc"),
        ({"requests": {"requests": []}}, None),
        ({"fileName": 7}, None),
        ([], None),
    ],
)
@pytest.mark.parametrize("at_the_top", [False, True])
def test_the_file_that_a_batch_was_made_from_is_known(
    config: object, file: str | None, at_the_top: bool
) -> None:
    fields: dict[str, Any] = {"state": "BATCH_STATE_RUNNING", "inputConfig": config}

    batch = parsed(**fields) if at_the_top else parsed(metadata=fields)

    assert batch.input_file == file


def test_how_many_requests_have_no_answer_yet_is_known() -> None:
    assert parsed(metadata={"batchStats": {"pendingRequestCount": "7"}}).pending == 7
    assert parsed(metadata={}).pending is None
