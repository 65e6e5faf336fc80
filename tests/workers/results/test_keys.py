"""Numbering repeated keys: what a plain counter would say, in a fraction of its memory."""

from collections import Counter
from hashlib import blake2b
from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.results.keys import DIGEST_BYTES, NO_KEY, KeyCounter, digest

# Few different ones, among them some that stand between two others when those lie side by side.
AWKWARD = [
    NO_KEY,
    bytes(8) + b"\1" + bytes(7),
    b"\1" + bytes(15),
    b"\1" + bytes(7) + b"\1" + bytes(7),
    bytes(15) + b"\1",
    b"\xff" * 16,
    *(bytes([7, n]) + bytes(14) for n in range(40)),
]
DIGESTS = st.lists(st.sampled_from(AWKWARD) | st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))


def naive(digests: list[bytes], seen: Counter[bytes]) -> dict[int, int]:
    numbered = {}
    for position, each in enumerate(digests):
        if each != NO_KEY:
            seen[each] += 1
            if seen[each] > 1:
                numbered[position] = seen[each]
    return numbered


@given(st.lists(DIGESTS))
def test_occurrences_are_numbered_as_a_plain_counter_would(groups: list[list[bytes]]) -> None:
    counter, seen = KeyCounter(), Counter[bytes]()

    for group in groups:
        assert counter.number(b"".join(group)) == naive(group, seen)


@given(st.lists(st.sampled_from(["a", "b", "", "A", "a ", "é", "e\u0301"])), st.integers(0, 20))
def test_it_does_not_matter_how_keys_are_grouped(keys: list[str], cut: int) -> None:
    whole = KeyCounter().number(b"".join(map(digest, keys)))
    counter = KeyCounter()
    first = counter.number(b"".join(map(digest, keys[:cut])))
    second = counter.number(b"".join(map(digest, keys[cut:])))

    assert whole == first | {position + len(keys[:cut]): number for position, number in second.items()}


@given(st.lists(DIGESTS))
def test_of_a_digest_only_the_bytes_that_are_kept_count(groups: list[list[bytes]]) -> None:
    counter, seen = KeyCounter(10), Counter[bytes]()

    for group in groups:
        cut = [each[:10] + bytes(6) for each in group]
        assert counter.number(b"".join(group)) == naive(cut, seen)


def test_many_keys_are_kept_apart_while_the_tables_grow() -> None:
    count = 30_000
    keys = b"".join(digest(f"request-{n}") for n in range(count))
    counter = KeyCounter()

    assert counter.number(keys) == {}
    assert counter.number(keys) == dict.fromkeys(range(count), 2)
    assert counter.number(keys)[count - 1] == 3


def test_a_digest_that_stands_between_two_others_is_not_one_of_them() -> None:
    first, second = bytes(range(16)), bytes(range(16, 32))
    between = (first + second)[8:24]

    assert KeyCounter().number(first + second + between) == {}
    assert KeyCounter().number(first + second + between + second + between) == {3: 2, 4: 2}


def test_lines_without_a_key_never_repeat() -> None:
    assert KeyCounter().number(NO_KEY * 1000) == {}


def test_a_digest_is_sixteen_bytes_of_any_key_and_none_is_that_of_no_key() -> None:
    keys = ["", "a", "\0", "a" * 100_000, "日本", "\U0001f600"]

    assert [len(digest(key)) for key in keys] == [DIGEST_BYTES] * len(keys)
    assert len({digest(key) for key in keys} | {NO_KEY}) == len(keys) + 1
    assert digest("a") == blake2b(b"a", digest_size=16).digest()


@pytest.mark.parametrize("size", [1, 15, 17])
def test_half_a_digest_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="whole number"):
        KeyCounter().number(bytes(size))


def test_a_key_costs_at_most_32_bytes() -> None:
    counter = KeyCounter()
    count = 50_000
    counter.number(b"".join(digest(str(n)) for n in range(count)))

    buckets = counter._buckets

    assert getsizeof(buckets) + sum(map(getsizeof, buckets)) <= count * 32
