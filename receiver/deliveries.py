"""What became of deliveries: counted in this process, and written down in Redis where no announcement does it.

What is accepted stands in Redis with its job. What is not can be anybody's, as often as they like: it is summed up by
reason, and written at most once a second.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as Counted
from redis import Redis
from redis.exceptions import RedisError

from workers.contract.history import DEFAULT_PROJECT, Delivered, Names, deliver

INTERVAL_SECONDS = 1.0
_MAX_REASONS = 16
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)

Sums = Mapping[tuple[Delivered, str], int]
Write = Callable[[Sums], None]


def write_with(connection: Redis, prefix: str) -> Write:
    """How sums get into the history of a prefix."""
    names = Names(prefix)

    def write(sums: Sums) -> None:
        with connection.pipeline(transaction=False) as pipe:
            for (outcome, reason), count in sums.items():
                deliver(pipe, names, outcome, {"reason": reason, "count": count})
            pipe.execute()

    return write


class Measures:
    """What `/metrics` shows of the deliveries to all projects."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.total = Counted(
            "batch_receiver_deliveries",
            "Deliveries by what became of them.",
            ["outcome", "project"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "batch_receiver_delivery_seconds",
            "From a delivery's head to our answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )


class Deliveries:
    """Those of one project. Belongs to one event loop. `registry` is what `/metrics` shows of them."""

    def __init__(
        self,
        write: Write | None = None,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        project: str = DEFAULT_PROJECT,
        measures: Measures | None = None,
    ) -> None:
        measures = measures or Measures()
        self.registry = measures.registry
        self._seconds = measures.seconds
        # Each is shown from the start: a counter that appears with its first event has no increase to be alarmed by.
        self._totals = {each: measures.total.labels(each.value, project) for each in Delivered}
        self._write = write
        self._interval_seconds = interval_seconds
        self._unwritten: Counter[tuple[Delivered, str]] = Counter()
        self._writing: asyncio.TimerHandle | asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="deliveries")

    def announced(self, outcome: Delivered) -> None:
        """It is in Redis already."""
        self._totals[outcome].inc()

    def unheard(self, outcome: Delivered, reason: str) -> None:
        """It left nothing in Redis. `reason` holds nothing secret."""
        self._totals[outcome].inc()
        if self._write is None:
            return
        if (outcome, reason) not in self._unwritten and len(self._unwritten) >= _MAX_REASONS:
            reason = "other"
        self._unwritten[outcome, reason] += 1
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(self._interval_seconds, self._set_off)

    def took(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def close(self) -> None:
        """Write what is left, if Redis takes it."""
        if self._writing is not None:
            self._writing.cancel()
        self._thread.shutdown(wait=True)
        self._write_down(self._taken())

    def _set_off(self) -> None:
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._thread, self._write_down, self._taken()
        )
        self._writing.add_done_callback(self._arrive)

    def _arrive(self, _written: asyncio.Future[None]) -> None:
        self._writing = None
        if self._unwritten:
            self._writing = asyncio.get_running_loop().call_later(self._interval_seconds, self._set_off)

    def _taken(self) -> Sums:
        taken = dict(self._unwritten)
        self._unwritten.clear()
        return taken

    def _write_down(self, sums: Sums) -> None:
        # A Redis that is away is in the log already, and what it misses here is only a line of history.
        if self._write is not None and sums:
            with suppress(RedisError, OSError):
                self._write(sums)
