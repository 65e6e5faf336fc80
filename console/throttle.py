"""Failed logins, slowed down: a few at once, then one every other second for each address."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

BURST = 5
SECONDS = 2.0
_MOST_ADDRESSES = 1000


class Throttle:
    """Counts what failed for each address. Only failures cost; a table that is full forgets who was quiet longest."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """How many seconds this address must wait before another try is looked at; 0 for none."""
        ahead = self._free_at.get(address, 0.0) - self._clock()
        return max(0.0, ahead - (BURST - 1) * SECONDS)

    def failed(self, address: str) -> None:
        now = self._clock()
        self._free_at[address] = max(now, self._free_at.get(address, now)) + SECONDS
        self._free_at.move_to_end(address)
        if len(self._free_at) > _MOST_ADDRESSES:
            self._free_at.popitem(last=False)
