"""Writes the history: in pipelines that exist where there are any, else in transactions of its own."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import WatchError

from workers.contract.announcements import Announcement, Outcome, Trigger
from workers.contract.history.states import (
    ANY,
    COMMITTED,
    MOST_DELIVERIES,
    WARNED,
    BatchState,
    Delivered,
    Names,
    text,
    texts,
)

KEPT_SECONDS = 90 * 86400
MOST_STEPS = 200
MOST_ACTIONS = 10_000

Value = str | int | float

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_BY_DELIVERY = frozenset({Trigger.WEBHOOK.value, Trigger.DYNAMIC.value})
_UNTOUCHED = frozenset({BatchState.PENDING, BatchState.GIVEN_UP})
"""No job of these waits or runs."""


@dataclass(frozen=True, slots=True)
class _News:
    """As `History.note` is given it."""

    at: float
    state: BatchState | None
    steps: Sequence[str]
    fields: Mapping[str, Value | None]
    warned: bool | None
    display_name: str | None


def step(event: str, at: float, **fields: Value | None) -> str:
    """One step as it is kept. `at`: seconds since 1970."""
    told = {name: value for name, value in fields.items() if value is not None}
    return _encode({"at": round(at, 3), "event": event, **told})


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


def announced(pipe: Any, names: Names, all_told: Sequence[Told]) -> None:
    """Put what announcements leave behind into the pipeline that enqueues their jobs.

    What was pending or given up is at work now. Any other batch stays what it is until a job looks at it. The receiver
    acknowledges thousands a second through here: what can be said for all in one command is.
    """
    new: dict[str, float] = {}
    for told in all_told:
        said, ref = told.announcement, names.ref(told.announcement.batch)
        if said.trigger.value in _BY_DELIVERY:
            about: dict[str, Value | None] = {"batch": said.batch, "trigger": said.trigger.value}
            about |= {"type": said.event, "webhook_id": said.delivery}
            deliver(pipe, names, Delivered(told.outcome.value), about)
        happened = step(
            "announced",
            told.at,
            by=said.trigger.value,
            outcome=told.outcome.value,
            webhook_id=said.delivery,
        )
        if told.known is None:
            new[ref] = told.at
            # As little as can be said: what is not there is as it is for every batch that was just announced.
            pipe.hset(names.record(ref), mapping={"announced_at": told.at, "first": happened})
        else:
            _again(pipe, names, ref, told, happened)
    if new:
        for state in (ANY, BatchState.ANNOUNCED):
            pipe.zadd(names.index(state), new)


def _again(pipe: Any, names: Names, ref: str, told: Told, happened: str) -> None:
    pipe.rpush(names.steps(ref), happened)
    pipe.ltrim(names.steps(ref), -MOST_STEPS, -1)
    if told.known not in _UNTOUCHED or told.outcome is not Outcome.ACCEPTED:
        return
    state, trigger = BatchState.ANNOUNCED.value, told.announcement.trigger.value
    fields: dict[str, Value] = {"state": state, "changed_at": told.at, "trigger": trigger}
    if told.known == BatchState.PENDING:
        fields["announced_at"] = told.at
    pipe.hset(names.record(ref), mapping=fields)
    pipe.zrem(names.index(told.known), ref)
    pipe.zadd(names.index(state), {ref: told.at})


def _enter(pipe: Any, names: Names, ref: str, state: str, at: float) -> None:
    project, _, _ = ref.partition("/")
    for index in names.indexes(state, project) | names.indexes(ANY, project):
        pipe.zadd(index, {ref: at})


def _next(known: Mapping[str, str], state: BatchState | None) -> BatchState | None:
    """The state that is written, if any."""
    if state is None and "state" not in known:
        return BatchState.ANNOUNCED
    return None if known.get("state") in COMMITTED and state not in COMMITTED else state


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
        steps: Sequence[str] = (),
        fields: Mapping[str, Value | None] | None = None,
        warned: bool | None = None,
        display_name: str | None = None,
        counted: Callable[[Any, Mapping[str, str]], None] | None = None,
    ) -> bool:
        """Write what is new of a batch, in one transaction; the record is begun where there is none.

        A commit only gives way to a commit: any other `state` of a committed batch is left out.

        Args:
            ref: from `ref_of`.
            state: its new state; None leaves it.
            at: seconds since 1970.
            steps: from `step`.
            fields: of the record; None removes one.
            warned: whether its commit has warnings, where that is known now.
            display_name: for searches.
            counted: given the pipeline and what the record holds, puts more into the pipeline. With it, nothing is
                written where the record has the same `committed_at` already.

        Returns:
            Whether anything was written.
        """
        record = self.names.record(ref)
        news = _News(at, state, steps, fields or {}, warned, display_name)
        with self._connection.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(record)
                    known = texts(pipe.hgetall(record))
                    if counted and known.get("committed_at") == str(news.fields["committed_at"]):
                        return False
                    pipe.multi()
                    self._write(pipe, ref, news, known)
                    if counted:
                        counted(pipe, known)
                    pipe.execute()
                except WatchError:
                    continue
                return True

    def _write(self, pipe: Any, ref: str, news: _News, known: Mapping[str, str]) -> None:
        names, record, state = self.names, self.names.record(ref), _next(known, news.state)
        project, _, _ = ref.partition("/")
        since = float(known.get("announced_at", news.fields.get("announced_at") or news.at))
        told = {name: value for name, value in news.fields.items() if value is not None}
        told |= {"announced_at": since, "changed_at": news.at}
        if state is not None:
            told["state"] = state.value
            # A record without a state was only announced; one that is gone may have left its entry anywhere.
            left = [known.get("state", BatchState.ANNOUNCED)] if known else list(BatchState)
            self._move(pipe, ref, left, state, since)
        if state in COMMITTED or state is BatchState.GIVEN_UP:
            pipe.zrem(names.expiring, ref)
        elif "expires_at" in told and known.get("state") not in COMMITTED:
            pipe.zadd(names.expiring, {ref: told["expires_at"]})
        if gone := [name for name, value in news.fields.items() if value is None]:
            pipe.hdel(record, *gone)
        pipe.hset(record, mapping=told)
        pipe.expire(record, KEPT_SECONDS)
        for index in names.indexes(WARNED, project) if news.warned is not None else ():
            pipe.zadd(index, {ref: since}) if news.warned else pipe.zrem(index, ref)
        if news.display_name:
            pipe.hset(names.display_names, ref, news.display_name.casefold())
        if news.steps:
            pipe.rpush(names.steps(ref), *news.steps)
            pipe.ltrim(names.steps(ref), -MOST_STEPS, -1)
            pipe.expire(names.steps(ref), KEPT_SECONDS)

    def _move(self, pipe: Any, ref: str, left: Collection[str], state: BatchState, since: float) -> None:
        names, (project, _, _) = self.names, ref.partition("/")
        for other in left:
            if other != state:
                for index in names.indexes(other, project):
                    pipe.zrem(index, ref)
        _enter(pipe, names, ref, state, since)
        pipe.sadd(names.projects, project)

    def repeat(self, ref: str, event: str, at: float, **fields: Value | None) -> None:
        """A step that may be the same as the last one: then it is one, with `times`, and `first` when it began."""
        steps = self.names.steps(ref)
        last = json.loads(self._connection.lindex(steps, -1) or "{}")
        same = json.loads(step(event, at, **fields))
        old = {name: value for name, value in last.items() if name not in {"at", "times", "first"}}
        if old == {name: value for name, value in same.items() if name != "at"}:
            first, times = last.get("first", last["at"]), last.get("times", 1) + 1
            self._connection.lset(steps, -1, step(event, at, **fields, times=times, first=first))
            return
        self.note(ref, at=at, steps=[step(event, at, **fields)])

    def part_done(self, ref: str, number: int) -> None:
        """A part is fanned out, perhaps once more."""
        done = self.names.done(ref)
        with self._connection.pipeline() as pipe:
            pipe.setbit(done, number, 1)
            pipe.bitcount(done)
            pipe.expire(done, KEPT_SECONDS)
            count = pipe.execute()[1]
        self._connection.hset(self.names.record(ref), "parts_done", count)

    def parts_are(self, ref: str, total: int, lacking: Collection[int]) -> None:
        """All parts there are, and those of them that are not fanned out."""
        bits = bytearray(total // 8 + 1)
        for number in set(range(total)).difference(lacking):
            bits[number // 8] |= 0x80 >> number % 8
        with self._connection.pipeline() as pipe:
            pipe.set(self.names.done(ref), bytes(bits), ex=KEPT_SECONDS)
            pipe.hset(self.names.record(ref), mapping={"parts": total, "parts_done": total - len(lacking)})
            pipe.execute()

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
        self.drop([text(each) for each in old])
        return len(old)

    def drop_unfinished(self, ref: str) -> None:
        """Forget a batch, unless it is committed."""
        state = self._connection.hget(self.names.record(ref), "state")
        if state is None or text(state) not in COMMITTED:
            self.drop([ref])

    def pending(self, seen: Mapping[str, Mapping[str, Value | None]], at: float) -> None:
        """These batches, and no others, are at work at Gemini: refs, each with fields of its record."""
        index = self.names.index(BatchState.PENDING)
        before = {text(ref) for ref in self._connection.zrange(index, 0, -1)}
        self.drop(sorted(before - seen.keys()))
        for ref, fields in seen.items():
            if ref in before or not self._connection.exists(self.names.record(ref)):
                name = fields.get("display_name")
                self.note(
                    ref, BatchState.PENDING, at=at, fields=fields, display_name=str(name) if name else None
                )

    def drop(self, refs: list[str]) -> None:
        if not refs:
            return
        names = self.names
        with self._connection.pipeline() as pipe:
            projects = {ref.partition("/")[0] for ref in refs}
            for state in (ANY, WARNED, *BatchState):
                for index in {each for project in projects for each in names.indexes(state, project)}:
                    pipe.zrem(index, *refs)
            pipe.hdel(names.display_names, *refs)
            pipe.zrem(names.expiring, *refs)
            for ref in refs:
                pipe.delete(names.record(ref), names.steps(ref), names.done(ref))
            pipe.execute()
