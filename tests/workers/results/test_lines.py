"""Cutting bytes into lines: the same lines wherever the chunks are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.results.lines import LineCutter, RawLine, lines

LIMIT = 8
CONTENT = st.lists(st.sampled_from([b"\n", b"\r", b" ", b"a", b"bc", b"\x85", b"\0", b"0123456789"])).map(
    b"".join
)


def naive(content: bytes, limit: int) -> list[RawLine]:
    """The same, held in memory."""
    pieces = content.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    found, offset = [], 0
    for piece in pieces:
        found.append(RawLine(offset, len(piece), piece if len(piece) <= limit else None))
        offset += len(piece) + 1
    return found


def chunks(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [content[start:end] for start, end in pairwise(edges)]


@given(CONTENT, st.lists(st.integers(min_value=0)))
def test_lines_are_those_of_the_whole_wherever_it_is_cut_into_chunks(content: bytes, cuts: list[int]) -> None:
    assert list(lines(chunks(content, cuts), LIMIT)) == naive(content, LIMIT)


@given(CONTENT)
def test_lines_are_the_same_when_bytes_come_one_by_one(content: bytes) -> None:
    assert list(lines((content[n : n + 1] for n in range(len(content))), LIMIT)) == naive(content, LIMIT)


@given(CONTENT, st.lists(st.integers(min_value=0)))
def test_offset_and_length_locate_each_line_in_the_whole(content: bytes, cuts: list[int]) -> None:
    for line in lines(chunks(content, cuts), LIMIT):
        located = content[line.offset : line.offset + line.length]
        assert line.data in {located, None}
        assert (line.data is None) == (len(located) > LIMIT)
        assert b"\n" not in located


def test_empty_chunks_change_nothing() -> None:
    assert list(lines([b"", b"a", b"", b"\n", b"", b"b", b""])) == [RawLine(0, 1, b"a"), RawLine(2, 1, b"b")]


def test_no_bytes_are_no_line() -> None:
    assert list(lines([])) == []
    assert list(lines([b""])) == []


def test_a_last_line_without_a_line_end_counts() -> None:
    assert [line.data for line in lines([b'{"a":1}\n{"b"', b":2}"])] == [b'{"a":1}', b'{"b":2}']


def test_a_line_end_at_the_end_begins_no_further_line() -> None:
    assert [line.data for line in lines([b"a\n", b"b\n"])] == [b"a", b"b"]


def test_a_carriage_return_belongs_to_its_line() -> None:
    assert list(lines([b"a\r", b"\nb\r\n"])) == [RawLine(0, 2, b"a\r"), RawLine(3, 2, b"b\r")]


@pytest.mark.parametrize("data", [b"", b" ", b"\t", b"\r", b" \r"])
def test_a_line_of_white_space_is_blank(data: bytes) -> None:
    assert RawLine(0, len(data), data).blank


@pytest.mark.parametrize("data", [b"{}", b" x", b"\0", b"\x0c", b"\x0b", b"\xc2\xa0"])
def test_a_line_with_anything_but_the_white_space_of_json_is_not_blank(data: bytes) -> None:
    assert not RawLine(0, len(data), data).blank


def test_a_line_above_the_limit_is_located_but_not_held() -> None:
    found = list(lines([b"ok\n", b"012345", b"6789", b"\n", b"12345678\n", b"123456789"], LIMIT))

    assert found == [
        RawLine(0, 2, b"ok"),
        RawLine(3, 10, None),
        RawLine(14, 8, b"12345678"),
        RawLine(23, 9, None),
    ]
    assert not found[1].blank


def test_memory_stays_flat_while_a_line_above_the_limit_passes() -> None:
    cutter = LineCutter(LIMIT)

    for _ in range(1000):
        assert not list(cutter.feed(b"x" * 100))
        assert sum(map(len, cutter._held)) <= LIMIT

    assert list(cutter.feed(b"\n")) == [RawLine(0, 100_000, None)]
