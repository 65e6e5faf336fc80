"""The retry policy: which errors, how long, until when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.bucket.protocol import BucketRefused, DiskFull, MissingObject, NameTooLong
from workers.errors import (
    BucketUnavailable,
    GeminiUnavailable,
    Incomplete,
    KeyRefused,
    NotReady,
    Permanent,
    Refused,
    ResultsGone,
    SettingsError,
    Transient,
    Unreadable,
    WorkerError,
)
from workers.retry import decide

HOUR = 3600.0
LIFE = 48 * HOUR
REFUSED = [Refused, KeyRefused, Unreadable, BucketRefused]
HEALS = [Transient, GeminiUnavailable, BucketUnavailable, NotReady, MissingObject]
FINAL = [Permanent, ResultsGone, Incomplete, SettingsError, DiskFull, NameTooLong]


@pytest.mark.parametrize("kind", HEALS)
@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [
        *[(0, 1, 1), (1, 1, 2), (2, 2, 4), (3, 4, 8), (6, 32, 64), (9, 256, 512), (10, 450, 900)],
        *[(11, 450, 900), (100, 450, 900), (100_000, 450, 900)],
    ],
)
def test_what_can_heal_waits_twice_as_long_each_time_up_to_a_quarter_of_an_hour(
    kind: type[WorkerError], attempt: int, least: int, most: int
) -> None:
    for _ in range(50):
        seconds = decide(kind("It did not work."), attempt, since=0, now=HOUR)
        assert seconds is not None
        assert least <= seconds <= most


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(0, 30, 60), (1, 60, 120), (5, 960, 1920), (6, 1800, 3600), (7, 1800, 3600), (1000, 1800, 3600)],
)
def test_what_is_refused_is_asked_for_slowly(
    kind: type[WorkerError], attempt: int, least: int, most: int
) -> None:
    for _ in range(50):
        seconds = decide(kind("Not ours."), attempt, since=0, now=HOUR)
        assert seconds is not None
        assert least <= seconds <= most


@pytest.mark.parametrize("kind", FINAL)
@pytest.mark.parametrize("attempt", [0, 1, 50])
@pytest.mark.parametrize("age", [0, HOUR, 2 * LIFE])
def test_what_can_not_heal_is_given_up_at_once(kind: type[WorkerError], attempt: int, age: float) -> None:
    assert decide(kind("It can't be."), attempt, since=0, now=age) is None


@pytest.mark.parametrize("kind", [*HEALS, *REFUSED])
@pytest.mark.parametrize(
    ("age", "tried"),
    [
        *[(0, True), (47 * HOUR, True), (LIFE, True), (9 * LIFE, True), (41 * 24 * HOUR, True)],
        *[(42 * 24 * HOUR + 1, False), (100 * 24 * HOUR, False)],
    ],
)
def test_everything_is_given_up_when_no_results_can_live_any_more_and_not_before(
    kind: type[WorkerError], age: float, tried: bool
) -> None:
    assert (decide(kind("Not yet."), 9, since=1e9, now=1e9 + age) is not None) is tried


def test_after_48_hours_it_is_tried_on_more_slowly() -> None:
    seconds = [decide(GeminiUnavailable("Busy."), 50, since=0, now=age) for age in (LIFE - 1, LIFE + 1)]

    assert seconds[0] is not None
    assert seconds[1] is not None
    assert seconds[0] <= 900
    assert 1800 <= seconds[1] <= 3600


@pytest.mark.parametrize("attempt", [0, 5, 30])
@pytest.mark.parametrize("retry_after", [901.0, 1800.0, 3600.0])
def test_a_longer_wait_that_was_asked_for_is_kept_and_a_second_added_that_rq_may_cut(
    attempt: int, retry_after: float
) -> None:
    error = GeminiUnavailable("Too many requests.", retry_after)

    assert decide(error, attempt, since=0, now=0) == retry_after + 1


def test_a_shorter_wait_that_was_asked_for_does_not_hurry_the_backoff() -> None:
    seconds = decide(GeminiUnavailable("Busy.", 0.0), 10, since=0, now=0)

    assert seconds is not None
    assert seconds >= 450


@pytest.mark.parametrize("asked", [7200.0, 200_000.0, LIFE + 1, 1e12])
def test_what_a_server_asks_to_wait_is_capped_at_an_hour_and_never_decides_about_giving_up(
    asked: float,
) -> None:
    assert decide(GeminiUnavailable("Busy.", asked), 0, since=0, now=0) == 3601


def test_waits_are_spread_so_that_many_batches_do_not_come_back_at_once() -> None:
    assert len({decide(NotReady("Not yet."), 10, since=0, now=0) for _ in range(100)}) > 20


@given(st.integers(0, 10**9), st.floats(0, 40 * 24 * HOUR), st.none() | st.floats(0, 10**6))
def test_a_wait_is_whole_seconds_at_least_one_and_about_an_hour_at_most(
    attempt: int, age: float, retry_after: float | None
) -> None:
    seconds = decide(Transient("Not now.", retry_after), attempt, since=0, now=age)

    assert isinstance(seconds, int)
    assert 1 <= seconds <= 3601


def test_the_present_is_the_clocks_unless_told_otherwise() -> None:
    assert decide(NotReady("Not yet."), 0, since=0) is None
