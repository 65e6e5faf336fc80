"""What happened, kept in Redis for whoever looks: a record and the steps of each batch, deliveries, what people did.

Nothing depends on it: the bucket says what a batch is, the queues what waits. It is written in pipelines that exist
where there are any, and read by `workers.contract.pages`. All of it is bounded.

    <prefix>:batch:<project>/<batch>     a hash, the record
    <prefix>:steps:<project>/<batch>     a list of JSON, oldest first
    <prefix>:done:<project>/<batch>      bits: the parts that are fanned out
    <prefix>:batches:<project>:<state>   sorted sets of <project>/<batch> by when it was first told of; `-`: any
    <prefix>:names                       a hash: <project>/<batch> to its display name in small letters, for searches
    <prefix>:deliveries:<outcome>        streams
    <prefix>:actions                     a stream: who did what
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis

from workers.contract.announcements import Announcement, Outcome, Trigger

DEFAULT_PROJECT = "default"
ANY = "-"
"""In place of a project or a state. No project is called so."""

KEPT_SECONDS = 90 * 86400
MOST_STEPS = 200
MOST_ACTIONS = 10_000

_BY_DELIVERY = frozenset({Trigger.WEBHOOK.value, Trigger.DYNAMIC.value})

Value = str | int | float


class BatchState(StrEnum):
    """Where a batch is. The last five are how it ended; `given-up` alone is no commit."""

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
    """The keys of a deployment's history."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.display_names = f"{prefix}:names"
        self.actions = f"{prefix}:actions"
        self.projects = f"{prefix}:projects"
        self.rebuilt = f"{prefix}:rebuilt"

    def record(self, ref: str) -> str:
        return f"{self._prefix}:batch:{ref}"

    def steps(self, ref: str) -> str:
        return f"{self._prefix}:steps:{ref}"

    def done(self, ref: str) -> str:
        return f"{self._prefix}:done:{ref}"

    def index(self, state: str = ANY, project: str = ANY) -> str:
        return f"{self._prefix}:batches:{project}:{state}"

    def deliveries(self, outcome: Delivered) -> str:
        return f"{self._prefix}:deliveries:{outcome.value}"


def ref_of(batch: str, project: str = DEFAULT_PROJECT) -> str:
    """What a batch is called in here; a batch id has no slash."""
    return f"{project}/{batch}"


def step(event: str, at: float, **fields: Value | None) -> str:
    """One step as it is kept. `at`: seconds since 1970."""
    told = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"at": round(at, 3), "event": event, **told}, ensure_ascii=False)


def deliver(pipe: Any, names: Names, outcome: Delivered, fields: Mapping[str, Value | None]) -> None:
    """Put a delivery into a pipeline. Neither its body nor its signature is among the fields."""
    told = {name: value for name, value in fields.items() if value is not None}
    pipe.xadd(names.deliveries(outcome), told, maxlen=MOST_DELIVERIES[outcome], approximate=True)


@dataclass(frozen=True, slots=True)
class Told:
    """An announcement, what becomes of it, and `known`: the state of its batch as it was read just before."""

    announcement: Announcement
    outcome: Outcome
    known: str | None
    at: float


def announced(pipe: Any, names: Names, told: Told) -> None:
    """Put what an announcement leaves behind into the pipeline that enqueues its job.

    What was given up is at work again. Any other batch that is known stays what it is until a job looks at it.
    """
    said, at = told.announcement, told.at
    ref, trigger = ref_of(said.batch), said.trigger.value
    steps = names.steps(ref)
    if trigger in _BY_DELIVERY:
        about = {"batch": said.batch, "trigger": trigger, "type": said.event, "webhook_id": said.delivery}
        deliver(pipe, names, Delivered(told.outcome.value), about)
    pipe.rpush(steps, step("announced", at, by=trigger, outcome=told.outcome.value, webhook_id=said.delivery))
    if told.known is None:
        _begin(pipe, names, ref, trigger, at)
        pipe.expire(steps, KEPT_SECONDS)
        return
    pipe.ltrim(steps, -MOST_STEPS, -1)
    if told.known == BatchState.GIVEN_UP and told.outcome is Outcome.ACCEPTED:
        pipe.hset(names.record(ref), mapping={"state": BatchState.ANNOUNCED.value, "changed_at": at})
        for each in (ANY, DEFAULT_PROJECT):
            pipe.zrem(names.index(told.known, each), ref)
            pipe.zadd(names.index(BatchState.ANNOUNCED, each), {ref: at})


def _begin(pipe: Any, names: Names, ref: str, trigger: str, at: float) -> None:
    project, _, batch = ref.partition("/")
    state = BatchState.ANNOUNCED.value
    known = {"project": project, "batch": batch, "state": state, "announced_at": at, "changed_at": at}
    pipe.hset(names.record(ref), mapping={**known, "trigger": trigger})
    pipe.expire(names.record(ref), KEPT_SECONDS)
    _enter(pipe, names, ref, state, at)


def _enter(pipe: Any, names: Names, ref: str, state: str, at: float) -> None:
    project, _, _ = ref.partition("/")
    for each in (ANY, project):
        pipe.zadd(names.index(state, each), {ref: at})
        pipe.zadd(names.index(ANY, each), {ref: at})


class History:
    """Writes what workers, `reconcile` and operators do. Each call is one round trip or two.

    Raises `redis.exceptions.RedisError` where Redis does not take it.
    """

    def __init__(self, connection: Redis, prefix: str) -> None:
        self._connection: Any = connection  # redis-py's own types are unions of all that may come
        self.names = Names(prefix)

    def note(
        self,
        ref: str,
        state: BatchState | None = None,
        *,
        at: float,
        steps: tuple[str, ...] = (),
        fields: Mapping[str, Value | None] | None = None,
        warned: bool | None = None,
        display_name: str | None = None,
    ) -> None:
        """Write what is new of a batch, in one transaction; the record is begun where there is none.

        Args:
            ref: from `ref_of`.
            state: its new state; None leaves it.
            at: seconds since 1970.
            steps: from `step`.
            fields: of the record; None removes one.
            warned: whether its commit has warnings, where that is known now.
            display_name: for searches.
        """
        names, record = self.names, self.names.record(ref)
        project, _, batch = ref.partition("/")
        first = self._connection.hget(record, "announced_at")
        since = float(first) if first is not None else at
        told = {name: value for name, value in (fields or {}).items() if value is not None}
        told |= {"project": project, "batch": batch, "announced_at": since, "changed_at": at}
        gone = [name for name, value in (fields or {}).items() if value is None]
        if state is None and first is None:
            state = BatchState.ANNOUNCED
        if state is not None:
            told["state"] = state.value
        with self._connection.pipeline() as pipe:
            if gone:
                pipe.hdel(record, *gone)
            pipe.hset(record, mapping=told)
            pipe.expire(record, KEPT_SECONDS)
            if state is not None:
                for other in BatchState:
                    if other is not state:
                        pipe.zrem(names.index(other), ref)
                        pipe.zrem(names.index(other, project), ref)
                _enter(pipe, names, ref, state, since)
                pipe.sadd(names.projects, project)
            if warned is not None:
                for index in (names.index(WARNED), names.index(WARNED, project)):
                    pipe.zadd(index, {ref: since}) if warned else pipe.zrem(index, ref)
            if display_name:
                pipe.hset(names.display_names, ref, display_name.casefold())
            if steps:
                pipe.rpush(names.steps(ref), *steps)
                pipe.ltrim(names.steps(ref), -MOST_STEPS, -1)
                pipe.expire(names.steps(ref), KEPT_SECONDS)
            pipe.execute()

    def part_done(self, ref: str, number: int) -> None:
        """A part is fanned out, perhaps once more."""
        done = self.names.done(ref)
        with self._connection.pipeline() as pipe:
            pipe.setbit(done, number, 1)
            pipe.bitcount(done)
            pipe.expire(done, KEPT_SECONDS)
            count = pipe.execute()[1]
        self._connection.hset(self.names.record(ref), "parts_done", count)

    def parts_begin(self, ref: str) -> None:
        """The source is fetched from its beginning: no part is done."""
        self._connection.delete(self.names.done(ref))

    def forget(self, ref: str) -> None:
        """Remove all that is known of a batch, which was not ours."""
        self.drop([ref])

    def act(self, who: str, action: str, **fields: Value | None) -> None:
        """Write down what somebody did."""
        told = {name: value for name, value in fields.items() if value is not None}
        entry: Any = {"who": who, "action": action, **told}
        self._connection.xadd(self.names.actions, entry, maxlen=MOST_ACTIONS, approximate=True)

    def prune(self, now: float) -> int:
        """Forget batches that are older than 90 days; how many there were."""
        old = self._connection.zrange(
            self.names.index(), "-inf", f"({now - KEPT_SECONDS}", byscore=True, offset=0, num=10_000
        )
        self.drop([each.decode() if isinstance(each, bytes) else each for each in old])
        return len(old)

    def drop(self, refs: list[str]) -> None:
        if not refs:
            return
        names = self.names
        with self._connection.pipeline() as pipe:
            for project in {ref.partition("/")[0] for ref in refs} | {ANY}:
                for state in (ANY, WARNED, *BatchState):
                    pipe.zrem(names.index(state, project), *refs)
            pipe.hdel(names.display_names, *refs)
            for ref in refs:
                pipe.delete(names.record(ref), names.steps(ref), names.done(ref))
            pipe.execute()
