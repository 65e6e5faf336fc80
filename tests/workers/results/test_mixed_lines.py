"""Whatever mixture of the layers' fields a line has: it is counted once, and never as good while it says it failed."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.mixed_lines import check, mixed_line
from workers.results.result import Status


@settings(max_examples=500)
@given(st.randoms(use_true_random=False))
def test_a_line_is_counted_once_and_never_as_good_while_it_says_that_it_failed(rng: random.Random) -> None:
    check(mixed_line(rng))


def test_the_mixture_has_lines_of_every_status() -> None:
    rng = random.Random(1)

    assert {check(mixed_line(rng)) for _ in range(3000)} == set(Status)
