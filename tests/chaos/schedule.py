"""When which batch comes and which fault strikes. The same seed gives the same schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.chaos.batches import Planned, Telling, plan_batches

# More often than a supervisor would like, and rarely enough that something gets done in between.
FAULTS_PER_SECOND = 0.8


class Fault(StrEnum):
    """What is done to the product, or what Gemini does to it."""

    HORSE_KILLED = "work-horse killed"
    WORKER_KILLED = "worker killed"
    SCHEDULER_KILLED = "scheduler killed"
    POOL_KILLED = "pool killed"
    POOL_RESTARTED = "pool restarted (SIGTERM)"
    RECEIVER_KILLED = "receiver killed"
    RECEIVER_RESTARTED = "receiver restarted (SIGTERM)"
    REDIS_KILLED = "Redis killed"
    REDIS_RESTARTED = "Redis restarted (SIGTERM)"
    CUT = "download cut"
    RANGE_IGNORED = "Range ignored"
    STORM = "429 with Retry-After"
    UNAVAILABLE = "503"
    DELAY = "request delayed"
    THROTTLE = "download throttled"
    LATE_OUTPUT = "output late"
    DUPLICATE = "delivery duplicated"
    SLOW_DELIVERY = "delivery slow"
    STORE_KILLED = "store killed"
    STORE_FULL = "store's disk full"
    STORE_CUT = "store's connections cut"


# These may take RQ's scheduler with them, whose lock outlives it by a minute: so long a pause between two tries may be.
SLOW_TO_HEAL = frozenset(
    {
        Fault.WORKER_KILLED,
        Fault.SCHEDULER_KILLED,
        Fault.POOL_KILLED,
        Fault.REDIS_KILLED,
        Fault.REDIS_RESTARTED,
    }
)
OF_STORES = frozenset({Fault.STORE_KILLED, Fault.STORE_FULL, Fault.STORE_CUT})
OF_PROCESSES = frozenset(list(Fault)[: list(Fault).index(Fault.CUT)])

_WEIGHTS = {
    Fault.HORSE_KILLED: 9,
    Fault.WORKER_KILLED: 5,
    Fault.SCHEDULER_KILLED: 1,
    Fault.POOL_KILLED: 3,
    Fault.POOL_RESTARTED: 3,
    Fault.RECEIVER_KILLED: 4,
    Fault.RECEIVER_RESTARTED: 2,
    Fault.REDIS_KILLED: 4,
    Fault.REDIS_RESTARTED: 1,
    Fault.CUT: 10,
    Fault.RANGE_IGNORED: 5,
    Fault.STORM: 3,
    Fault.UNAVAILABLE: 5,
    Fault.DELAY: 5,
    Fault.THROTTLE: 9,
    Fault.LATE_OUTPUT: 5,
    Fault.DUPLICATE: 6,
    Fault.SLOW_DELIVERY: 4,
    Fault.STORE_KILLED: 2,
    Fault.STORE_FULL: 2,
    Fault.STORE_CUT: 8,
}


@dataclass(frozen=True, slots=True)
class Submit:
    """A batch appears at Gemini, and is announced as its telling says."""

    at: float
    batch: Planned


@dataclass(frozen=True, slots=True)
class End:
    """A batch that ran, or had failed, succeeds and is announced."""

    at: float
    batch: Planned


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault. `force`, from 0 to 1, decides how long, how much or how often."""

    at: float
    fault: Fault
    force: float


Event = Submit | End | Strike


@dataclass(frozen=True, slots=True)
class Schedule:
    batches: list[Planned]
    events: list[Event]

    @property
    def strikes(self) -> list[Strike]:
        return [event for event in self.events if isinstance(event, Strike)]


def plan(seed: int, batches: int, seconds: float, *, kinds: Sequence[Fault] = tuple(Fault)) -> Schedule:
    """A schedule over `seconds`, with faults of these kinds, each of them at least once."""
    rng = Random(seed)
    planned = plan_batches(rng, batches)
    events: list[Event] = []
    for batch in planned:
        at = rng.uniform(0, seconds * 0.9)
        events.append(Submit(at, batch))
        if batch.telling in {Telling.EARLY, Telling.HEALED}:
            events.append(End(rng.uniform(at, seconds), batch))
    faults = _faults(rng, kinds, round(seconds * FAULTS_PER_SECOND))
    events += [Strike(rng.uniform(0, seconds), fault, rng.random()) for fault in faults]
    return Schedule(planned, sorted(events, key=lambda event: event.at))


def _faults(rng: Random, kinds: Sequence[Fault], count: int) -> list[Fault]:
    weights = [_WEIGHTS[kind] for kind in kinds]
    return [*kinds, *rng.choices(kinds, weights=weights, k=max(0, count - len(kinds)))]
