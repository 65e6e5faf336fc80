"""Numbers and times as people read them."""

import time

import pytest

from console import words


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (290_000_000, "277 MiB")],
)
def test_sizes_are_in_powers_of_1024(count: int | None, shown: str) -> None:
    assert words.size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (999, "999"), (1000, "1k"), (1234, "1.2k"), (36_499, "36k"), (2_500_000, "2.5M")],
)
def test_large_counts_are_shortened(count: int | None, shown: str) -> None:
    assert words.short(count) == shown


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (None, ""),
        ({}, ""),
        ({"amount": "none"}, ""),
        ({"amount": 1.239, "currency": "USD"}, "≈ $1.24"),
        ({"amount": "0.0031"}, "≈ $0.0031"),
        ({"amount": 2, "currency": "EUR"}, "≈ 2.00 EUR"),
    ],
)
def test_money_is_marked_as_an_estimate(cost: dict[str, object] | None, shown: str) -> None:
    assert words.money(cost) == shown


def test_what_is_no_time_is_not_shown() -> None:
    for said in (None, "", "yesterday", "9999-99-99"):
        assert (words.minute(said), words.ago(said), words.left(said), words.between(said, said)) == ("",) * 4
    assert words.utc(1e30) is None
    assert words.utc(0) == "1970-01-01T00:00:00Z"
    assert words.minute("2020-01-02T03:04:05Z") == "2 Jan 2020 03:04"
    assert words.ago(words.utc(time.time() + 601)) == "in 10 min"
    assert words.left(words.utc(time.time() - 1)) == "over"
