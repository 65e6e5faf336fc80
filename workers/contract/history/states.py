"""What the history of batches is made of: their states, what becomes of deliveries, and the keys in Redis.

<prefix>:batch:<project>/<batch>     a hash, the record
<prefix>:steps:<project>/<batch>     a list of JSON, oldest first, but the very first, which is `first` in the record
<prefix>:done:<project>/<batch>      bits: the parts that are fanned out
<prefix>:batches:<project>:<state>   sorted sets of <project>/<batch> by when it was first told of; `-`: any, and the
                                     prefix's own project, whose batches are all there are under it
<prefix>:expiring                    a sorted set of those that are not committed, by when results may be gone
<prefix>:names                       a hash: <project>/<batch> to its display name in small letters, for searches
<prefix>:deliveries:<outcome>        streams
<prefix>:actions                     a stream: who did what
<prefix>:metrics                     a hash, see `workers.contract.history.metrics`
<prefix>:reconciled                  JSON: when `reconcile` last ran, its report, and the webhooks that Gemini lists
<prefix>:rebuilt                     there since the list of commits was last made of the bucket's `_index/`
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

DEFAULT_PROJECT = "default"
ANY = "-"
"""In place of a project or a state. No project is called so."""


class BatchState(StrEnum):
    """Where a batch is. The last five are how it ended; `given-up` alone is no commit."""

    PENDING = "pending"
    """Gemini lists it and has not finished it; nobody announced it."""
    ANNOUNCED = "announced"
    RUNNING = "running"
    IN_PARTS = "in-parts"
    WAITING = "waiting"
    """For its next try: the record has `reason` and `next_try`."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    GIVEN_UP = "given-up"
    """It failed for good, and was not committed: somebody has to replay or to forget it."""


COMMITTED = frozenset({BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED, BatchState.EXPIRED})
UNFINISHED = frozenset(BatchState) - COMMITTED

WARNED = "warned"
"""In place of a state: commits with warnings, whatever their state."""


class Delivered(StrEnum):
    """What became of a delivery."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


MOST_DELIVERIES = {
    Delivered.ACCEPTED: 30_000,
    Delivered.DUPLICATE: 10_000,
    Delivered.IGNORED: 4_000,
    Delivered.REFUSED: 4_000,
    Delivered.UNAVAILABLE: 2_000,
}
"""50,000 in all; each outcome has its own, so that a flood of one leaves the others."""


class Names:
    """The keys of the history of a project, which its queues' prefix names where there are several."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.project = prefix.rpartition("-project-")[2] if "-project-" in prefix else DEFAULT_PROJECT
        self.display_names = f"{prefix}:names"
        self.actions = f"{prefix}:actions"
        self.projects = f"{prefix}:projects"
        self.rebuilt = f"{prefix}:rebuilt"
        self.expiring = f"{prefix}:expiring"
        self.metrics = f"{prefix}:metrics"
        self.reconciled = f"{prefix}:reconciled"

    def ref(self, batch: str) -> str:
        """What a batch of this project is called in here."""
        return ref_of(batch, self.project)

    def record(self, ref: str) -> str:
        return f"{self._prefix}:batch:{ref}"

    def steps(self, ref: str) -> str:
        return f"{self._prefix}:steps:{ref}"

    def done(self, ref: str) -> str:
        return f"{self._prefix}:done:{ref}"

    def index(self, state: str = ANY, project: str = ANY) -> str:
        return f"{self._prefix}:batches:{ANY if project == self.project else project}:{state}"

    def indexes(self, state: str, project: str) -> set[str]:
        """Where a batch of this project and state is listed."""
        return {self.index(state), self.index(state, project)}

    def deliveries(self, outcome: Delivered) -> str:
        return f"{self._prefix}:deliveries:{outcome.value}"


def ref_of(batch: str, project: str = DEFAULT_PROJECT) -> str:
    """What a batch is called in here; a batch id has no slash."""
    return f"{project}/{batch}"


def texts(reply: Mapping[Any, Any]) -> dict[str, str]:
    """A hash, as Redis gives it, as text."""
    return {text(name): text(value) for name, value in reply.items()}


def text(value: str | bytes) -> str:
    """A reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else value
