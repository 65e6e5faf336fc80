"""Numbering repeated keys: what a plain counter would say, in a fraction of its memory."""

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.keys import DIGEST_BYTES, NO_KEY, KeyCounter, digest

# Few different ones, with halves that are zero and some that fall into the same shard and slot.
AWKWARD = [
    NO_KEY,
    bytes(8) + b"\1" + bytes(7),
    b"\1" + bytes(15),
    b"\1" + bytes(7) + b"\1" + bytes(7),
    bytes(15) + b"\1",
    b"\xff" * 16,
    *(bytes([7, n]) + bytes(6) + bytes([16 * n % 256]) + bytes(7) for n in range(40)),
]
DIGESTS = st.lists(st.sampled_from(AWKWARD) | st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))


def naive(digests: list[bytes], seen: Counter[bytes]) -> dict[int, int]:
    numbered = {}
    for position, each in enumerate(digests):
        if each != NO_KEY:
            # A half of zero is the mark of an empty slot, so it counts as one.
            same = each if any(each[8:]) else each[:8] + b"\1" + bytes(7)
            seen[same] += 1
            if seen[same] > 1:
                numbered[position] = seen[same]
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


def test_many_keys_are_kept_apart_while_the_tables_grow() -> None:
    count = 30_000
    keys = b"".join(digest(f"request-{n}") for n in range(count))
    counter = KeyCounter()

    assert counter.number(keys) == {}
    assert counter.number(keys) == dict.fromkeys(range(count), 2)
    assert counter.number(keys)[count - 1] == 3


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

    slots = sum(shard.size for shard in counter._shards)

    assert slots * 16 <= count * 32
