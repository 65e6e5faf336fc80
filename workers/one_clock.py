"""One clock for all machines: Redis's.

RQ asks each machine's own whether another's job still lives and when the next try of one is due. Where they are two
minutes apart, whoever is ahead takes all that others do for lost.
"""

import math
import time
from datetime import timedelta

from redis import Redis
from rq import executions, registry, scheduler

from workers.contract.redis_client import clock_of

_MODULES = (registry, executions, scheduler)
_zero = time.time() - time.monotonic()


def follow(connection: Redis) -> None:
    """From now on RQ's registries go by Redis's clock, in this process and those that it forks.

    Raises `redis.exceptions.RedisError`.
    """
    global _zero  # noqa: PLW0603 - a process has one clock.
    _zero = clock_of(connection) - time.monotonic()
    for module in _MODULES:
        module.current_timestamp = _timestamp  # type: ignore[attr-defined]  # RQ has no option for it.


def ahead() -> timedelta:
    """How far Redis's clock is ahead of this machine's."""
    return timedelta(seconds=time.monotonic() + _zero - time.time())


def _timestamp() -> int:
    return math.floor(time.monotonic() + _zero)
