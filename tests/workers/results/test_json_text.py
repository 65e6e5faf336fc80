"""JSON that lenient writers take for it, made JSON."""

import json
import time

import pytest

from workers.results.json_text import mended


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
        (b'{"a":NaN}', b'{"a":"NaN"}'),
        (b"[NaN, Infinity ,-Infinity\t]", b'["NaN", "Infinity" ,"-Infinity"\t]'),
        (b'{"NaN":"Infinity","b":NaN}', b'{"NaN":"Infinity","b":"NaN"}'),
        (b'{"a":"\\"NaN","b":NaN}', b'{"a":"\\"NaN","b":"NaN"}'),
        (b'\xef\xbb\xbf{"a":-Infinity}', b'{"a":"-Infinity"}'),
    ],
)
def test_a_byte_order_mark_goes_and_what_is_no_number_becomes_a_string(text: bytes, result: bytes) -> None:
    assert mended(text) == result
    json.loads(result)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"a":"NaN"}', b'{"a":nan}', b'{"a":1e999}', b"{NaN :1}", b'{"a":"Infinity'[:5]]
)
def test_where_there_is_nothing_to_mend_it_says_so(text: bytes) -> None:
    assert mended(text) is None


@pytest.mark.parametrize(
    "text", [b'"' * 1_000_001 + b"NaN", b"NaN" * 300_000, b'"' + b'\\"' * 500_000 + b"NaN"]
)
def test_a_hostile_text_takes_no_more_time_than_its_length(text: bytes) -> None:
    started = time.perf_counter()
    mended(text)
    assert time.perf_counter() - started < 5
