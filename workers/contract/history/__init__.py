"""What happened, kept in Redis for whoever looks: `writing` writes it, `pages` and `metrics` read it.

Nothing depends on it: the bucket says what a batch is, the queues what waits. All of it is bounded. `states` has its
keys.
Must know: Redis, and what may be said about a batch. Must not know: what the rest of the contract must not.
"""

from workers.contract.history.states import (
    COMMITTED,
    DEFAULT_PROJECT,
    MOST_DELIVERIES,
    UNFINISHED,
    BatchState,
    Delivered,
    Names,
    ref_of,
)
from workers.contract.history.writing import (
    KEPT_SECONDS,
    MOST_STEPS,
    History,
    Told,
    Value,
    announced,
    deliver,
    step,
)

__all__ = [
    "COMMITTED",
    "DEFAULT_PROJECT",
    "KEPT_SECONDS",
    "MOST_DELIVERIES",
    "MOST_STEPS",
    "UNFINISHED",
    "BatchState",
    "Delivered",
    "History",
    "Names",
    "Told",
    "Value",
    "announced",
    "deliver",
    "ref_of",
    "step",
]
