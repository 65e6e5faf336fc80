"""Waiting for a condition with a limit, instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 90.0
"""Costs nothing where all is well, and a busy machine is not an error."""


def wait_until(
    condition: Callable[[], T], *, seconds: float = PATIENCE_SECONDS, what: str = "the condition"
) -> T:
    """The first true value of `condition()`, asked every 10 ms; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.01)
