"""The keys of many lines at once are those of each line, or it is said that they have to be asked for one by one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mixed_lines import mixed_line
from workers.results.json_text import MAX_DEPTH, is_utf8
from workers.results.result import key_of, keys_of

GOOD = [
    b'{"key":"a"}',
    b' {"key": "b", "response": {"x": [1, {"y": "\\n\\u00e9"}]}} ',
    b'{"key":"\xc3\xa9","key":"last"}\r',
    b'{"response":{"key":"inner"},"key":"outer"}',
    b'{"key":"k","response":' + b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b"}",
]
ODD = [
    *(b"", b" ", b"\r", b"{", b"}", b'{"key":', b'"a"}', b'{"key":"a"}{"key":"b"}', b'{"key":"a"} x'),
    *(
        b'{"key":"',
        b'half"}',
        b'{"key":""}',
        b'{"key":7}',
        b'{"key":null}',
        b'{"custom_id":"c"}',
        b"[]",
        b"1",
    ),
    *(
        b'{"key":"a","response":"\xff"}',
        b'{"key":"\\ud800"}',
        b'\xef\xbb\xbf{"key":"a"}',
        b'{"key":"a","x":NaN}',
    ),
    b'{"key":"k","response":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    b'{"key":"k","response":"' + b"[" * MAX_DEPTH + b'"}',
]


def one_by_one(lines: list[bytes]) -> list[str | None]:
    return [key_of(line) if is_utf8(line) else None for line in lines]


def together(lines: list[bytes]) -> list[str] | None:
    return keys_of(b"".join(line + b"\n" for line in lines))


def test_plain_lines_are_read_at_once() -> None:
    assert together(GOOD) == one_by_one(GOOD)


@pytest.mark.parametrize("odd", [line for line in ODD if not line.startswith(b'{"key":"k","response":"[')])
@pytest.mark.parametrize("place", [0, 2, len(GOOD)])
def test_a_line_that_does_not_stand_for_itself_has_all_looked_at_one_by_one(odd: bytes, place: int) -> None:
    assert together([*GOOD[:place], odd, *GOOD[place:]]) is None


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"key":"a"}{"key":"b"}', b'{"key":""}'],
        [b'{"key":"a"}{"key":"b"', b"}"],
        [b'{"key":"a"}{"response":{"x":{}', b'},"key":"b"}'],
        [b'{"key":"a"} {"key":"b","response":[{}', b",{}]}"],
        [b'{"key":"a"}{"key":"b"}', b""],
    ],
)
def test_as_many_objects_as_lines_are_not_yet_one_in_each(lines: list[bytes]) -> None:
    assert together(lines) is None


@given(st.lists(st.sampled_from([*GOOD, *ODD]), min_size=1, max_size=6))
def test_whatever_stands_side_by_side_the_keys_are_the_same(lines: list[bytes]) -> None:
    assert together(lines) in (None, one_by_one(lines))


@given(st.integers(), st.integers(1, 4))
def test_lines_of_all_layers_have_the_same_keys_together(seed: int, count: int) -> None:
    rng = random.Random(seed)
    lines = [mixed_line(rng) for _ in range(count)]

    assert together(lines) in (None, one_by_one(lines))
