"""The one retry policy: what can heal is tried again, ever more slowly, for as long as results can live."""

import random
import time

from workers.errors import Refused, Transient, WorkerError
from workers.gemini.batches import FILE_LIFE_SECONDS

LONGEST_LIFE_SECONDS = 42 * 86400
"""Six weeks: no page of Gemini's names a longer life of results (batch guide, September 2026)."""

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 900.0
# What is refused rarely heals by itself: somebody has to change the key, or what it may do.
_SLOW_FIRST_SECONDS = 60.0
_SLOW_LONGEST_SECONDS = 3600.0
_LONGEST_ASKED_SECONDS = 3600.0


def decide(error: WorkerError, attempt: int, since: float, now: float | None = None) -> int | None:
    """In how many seconds to try again after an error; None to give up.

    What a server asks to wait is heeded up to an hour, and never decides about giving up. After the 48 hours in which
    results are sure to live it is tried on slowly: whether they are gone, only the download itself can say.

    Args:
        error: what a step raised.
        attempt: how many times it was tried again before, from 0.
        since: when the batch was first announced, or ended if that is known, in seconds since 1970.
        now: the present, in seconds since 1970.
    """
    now = time.time() if now is None else now
    asked = 0.0
    if isinstance(error, Transient):
        asked = min(error.retry_after or 0.0, _LONGEST_ASKED_SECONDS)
        is_urgent = now < since + FILE_LIFE_SECONDS
        longest = _LONGEST_SECONDS if is_urgent else _SLOW_LONGEST_SECONDS
        wait = max(asked, _backoff(attempt, _FIRST_SECONDS, longest))
    elif isinstance(error, Refused):
        wait = _backoff(attempt, _SLOW_FIRST_SECONDS, _SLOW_LONGEST_SECONDS)
    else:
        return None
    if now > since + LONGEST_LIFE_SECONDS:
        return None
    # RQ cuts the fraction off the moment of the next try, which may so come before the one that was asked for.
    return max(1, round(wait)) + (1 if asked else 0)


def _backoff(attempt: int, first: float, longest: float) -> float:
    ceiling = min(longest, first * 2.0 ** min(attempt, 30))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
