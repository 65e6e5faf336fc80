"""What is fit to be shown on a terminal."""

import pytest

from workers.contract.terminal import duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min"),
        (5400, "1.5 h"),
        (86400, "1 d"),
        (1e6, "12 d"),
    ],
)
def test_durations_have_one_unit(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
