"""How long is waited before a call is made again; only calls that change nothing twice are."""

import time
from collections.abc import Callable
from typing import TypeVar

from workers.errors import GeminiUnavailable

T = TypeVar("T")

TRIES = 8
_FIRST, _LONGEST = 0.5, 30.0


def pause(failures: int, asked: float | None = None) -> float:
    """Seconds to wait after so many failures in a row, from 1; what the other side asks for counts, to an hour."""
    return min(asked, 3600.0) if asked is not None else min(_LONGEST, _FIRST * 2 ** (failures - 1))


def patiently(call: Callable[[], T], sleep: Callable[[float], object] = time.sleep) -> T:
    """The result of a call that may be repeated. Raises what it raises, after several tries of what can heal."""
    for failures in range(1, TRIES):
        try:
            return call()
        except GeminiUnavailable as error:
            sleep(pause(failures, error.retry_after))
    return call()
