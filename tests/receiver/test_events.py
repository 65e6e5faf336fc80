import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.events import MAX_USER_METADATA_BYTES, Event, Ignored, parse_event

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def event(**fields: object) -> bytes:
    return json.dumps({"type": "batch.succeeded", "data": {"id": "abc-1"}, **fields}).encode()


@pytest.mark.parametrize("name", ["abc-1", "batches/abc-1"])
def test_a_batch_is_named_bare_or_with_its_folder(name: str) -> None:
    assert parse_event(event(data={"id": name})) == Event("batch.succeeded", "abc-1")


@pytest.mark.parametrize("kind", ["batch.failed", "batch.expired", "batch.cancelled", "batch.completed"])
def test_every_type_of_batch_event_counts(kind: str) -> None:
    assert parse_event(event(type=kind)) == Event(kind, "abc-1")


@pytest.mark.parametrize("kind", ["interaction.completed", "video.generated", "ping", "batches", "batch"])
def test_other_types_are_ignored_without_an_error(kind: str) -> None:
    assert parse_event(event(type=kind)) == Ignored(f"type {kind}", is_error=False)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'{"type":"batch.succeeded"}',
        b'{"type":7,"data":{"id":"abc"}}',
        b'{"type":"","data":{"id":"abc"}}',
        b'{"data":{"id":"abc"}}',
        b'{"type":"batch.succeeded","data":null}',
        b'{"type":"batch.succeeded","data":{"id":7}}',
        b'{"type":"batch.succeeded","data":{"id":"../up"}}',
        b'{"type":"batch.succeeded","data":{"id":"batches/batches/a"}}',
        b'{"type":"batch.succeeded","data":{"id":"a\\n"}}',
        b'{"type":"batch.succeeded","data":{"id":"' + b"a" * 129 + b'"}}',
        b'{"type":"batch.succeeded","data":{"id":"abc"},"x":"\xff"}',
        b'{"type":"batch.succeeded","data":{"id":"abc"}}trailing',
        b'{"type":"batch.succeeded","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_should_have_been_usable_is_ignored_as_an_error(payload: bytes) -> None:
    assert isinstance(ignored := parse_event(payload), Ignored)
    assert ignored.is_error


def test_user_metadata_is_kept_as_the_json_it_came_as() -> None:
    payload = (
        b'{"type":"batch.succeeded","data":{"id":"abc"},"user_metadata": {"job": 1e999, "n":"\xc3\xa9"}}'
    )
    assert parse_event(payload) == Event("batch.succeeded", "abc", '{"job": 1e999, "n":"é"}')


def test_user_metadata_beyond_its_limit_is_dropped_and_the_event_kept() -> None:
    assert parse_event(event(user_metadata="x" * MAX_USER_METADATA_BYTES)) == Event(
        "batch.succeeded", "abc-1", None, metadata_dropped=True
    )


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_event_or_ignored(payload: bytes) -> None:
    assert isinstance(parse_event(payload), Event | Ignored)


@given(JSON, JSON, JSON)
def test_any_fields_are_an_event_or_ignored(kind: object, data: object, metadata: object) -> None:
    payload = json.dumps({"type": kind, "data": data, "user_metadata": metadata}).encode()
    assert isinstance(parse_event(payload), Event | Ignored)
    assert isinstance(parse_event(event(data={"id": data}, user_metadata=metadata)), Event | Ignored)
