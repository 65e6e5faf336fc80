"""What happened, read a page at a time: one range query and one pipeline, whatever the number of batches.

No page and no count walks RQ's registries or the bucket.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from workers.contract.history import searching
from workers.contract.history.states import (
    ANY,
    WARNED,
    BatchState,
    Delivered,
    Names,
    ref_of,
    text,
    texts,
)

_NUMBERS = ("announced_at", "changed_at", "committed_at", "ended_at", "created_at", "next_try", "expires_at")
_COUNTS = ("expected", "pending", "keys", "parts", "parts_done", "raw_bytes", "revision", "warnings")
_DOCUMENTS = ("counts", "usage", "cost", "finish_reasons", "model_versions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a batch. Times are seconds since 1970; what is not known is None.

    `expected` is how many requests Gemini counts, `pending` how many of them it has not answered. `keys`, `parts` and
    `raw_bytes` are what was fetched so far, `parts_done` the parts that are written. `counts`, `usage`, `cost`,
    `finish_reasons` and `model_versions` are those of `batch.json`, `warnings` is how many it has. `reason`: of the
    last failure. `expires_at`: until then its results are sure to be there.
    """

    project: str
    batch: str
    state: str
    display_name: str | None = None
    model: str | None = None
    trigger: str | None = None
    gemini_state: str | None = None
    reason: str | None = None
    announced_at: float | None = None
    changed_at: float | None = None
    created_at: float | None = None
    ended_at: float | None = None
    committed_at: float | None = None
    next_try: float | None = None
    expires_at: float | None = None
    expected: int | None = None
    pending: int | None = None
    keys: int | None = None
    parts: int | None = None
    parts_done: int | None = None
    raw_bytes: int | None = None
    revision: int | None = None
    warnings: int | None = None
    counts: Mapping[str, int] | None = None
    usage: Mapping[str, int] | None = None
    cost: Mapping[str, Any] | None = None
    finish_reasons: Mapping[str, int] | None = None
    model_versions: Mapping[str, int] | None = None

    @property
    def ref(self) -> str:
        return ref_of(self.batch, self.project)


@dataclass(frozen=True, slots=True)
class Step:
    """`at`: seconds since 1970. `fields` are the event's own: strings and numbers."""

    at: float
    event: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery or an action. `id` names it to the next page. `fields` are texts; a delivery has `outcome` among them.

    Refused and ignored deliveries are summed up: `count` of them within a second, for the same `reason`.
    """

    id: str
    at: float
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """`total` is how many there are on all pages; with `more` there are more than that."""

    records: list[Record]
    total: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Newest:
    """Batches, newest first: when each was first told of, and its ref. `total` and `more` as of a `Page`."""

    rows: list[tuple[float, str]]
    total: int
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which batches. `text` is looked for in ids and display names. Times are seconds since 1970, by announcement."""

    state: str | None = None
    project: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    warnings: bool = False

    @property
    def is_empty(self) -> bool:
        return self == Filter()


class Pages:
    """Reads a deployment's history. Everything raises `redis.exceptions.RedisError` where Redis does not answer."""

    def __init__(self, connection: Redis, prefix: str) -> None:
        self._connection: Any = connection  # redis-py's own types are unions of all that may come
        self.names = Names(prefix)

    def page(self, wanted: Filter, *, offset: int = 0, limit: int = 50) -> Page:
        """Batches that match, newest first."""
        if wanted.text or (wanted.warnings and wanted.state):
            found = self.newest(wanted, offset + limit)
            records = self.records([ref for _, ref in found.rows[offset:]])
            return Page(records, found.total, found.more)
        index, (least, most) = self._index(wanted), _bounds(wanted)
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.zcount(index, least, most)
            pipe.zrevrangebyscore(index, most, least, start=offset, num=limit)
            total, refs = pipe.execute()
        return Page(self.records([text(ref) for ref in refs]), total)

    def newest(self, wanted: Filter, most: int) -> Newest:
        """The newest that match, at most so many. Of a text that thousands have, not all are counted."""
        if wanted.text and not (wanted.warnings and wanted.state):
            counted = max(most, searching.MOST_COUNTED)
            index, between = self._index(wanted), _bounds(wanted)
            rows = searching.newest_with(
                self._connection, self.names, index, between, wanted.text, most=counted
            )
            if rows is not None:
                return Newest(rows[:most], min(len(rows), counted), len(rows) > counted)
        if wanted.text or (wanted.warnings and wanted.state):
            found = self._ranked(wanted)
            return Newest(found[:most], len(found))
        index, (least, highest) = self._index(wanted), _bounds(wanted)
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.zcount(index, least, highest)
            pipe.zrevrangebyscore(index, highest, least, start=0, num=most, withscores=True)
            total, rows = pipe.execute()
        return Newest([(float(moment), text(ref)) for ref, moment in rows], total)

    def matching(self, wanted: Filter) -> list[str]:
        """The refs of all batches that match, newest first; for `records`, and for what is done to all of them."""
        return [ref for _, ref in self._ranked(wanted)]

    def _ranked(self, wanted: Filter) -> list[tuple[float, str]]:
        """All that match, newest first."""
        index, (least, highest) = self._index(wanted), _bounds(wanted)
        if wanted.text:
            refs = searching.refs_with(self._connection, self.names, index, wanted.text)
            found = [
                (moment, ref)
                for moment, ref in searching.ranked(self._connection, index, [*refs])
                if float(least) <= moment <= float(highest)
            ]
            found.sort(reverse=True)
        else:
            rows = self._connection.zrevrangebyscore(index, highest, least, withscores=True)
            found = [(float(moment), text(ref)) for ref, moment in rows]
        if wanted.warnings and wanted.state:
            in_state = self.names.index(wanted.state, wanted.project or ANY)
            also = {ref for _, ref in searching.ranked(self._connection, in_state, [ref for _, ref in found])}
            found = [each for each in found if each[1] in also]
        return found

    def records(self, refs: Sequence[str]) -> list[Record]:
        """What is known of these batches, in their order; those that nothing is known of are left out."""
        with self._connection.pipeline(transaction=False) as pipe:
            for ref in refs:
                pipe.hgetall(self.names.record(ref))
            found = zip(refs, pipe.execute(), strict=True)
        return [_record(ref, fields) for ref, fields in found if fields]

    def record(self, batch: str, project: str | None = None) -> Record | None:
        found = self.records([ref_of(batch, project or self.names.project)])
        return found[0] if found else None

    def steps(self, batch: str, project: str | None = None) -> list[Step]:
        """What happened to a batch, oldest first."""
        ref = ref_of(batch, project or self.names.project)
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.hget(self.names.record(ref), "first")
            pipe.lrange(self.names.steps(ref), 0, -1)
            first, rest = pipe.execute()
        return [*_steps([first, *rest] if first else rest)]

    def counts(self, project: str | None = None) -> dict[str, int]:
        """How many batches are in each state, and under `warned` how many commits have warnings."""
        states = (*BatchState, WARNED)
        with self._connection.pipeline(transaction=False) as pipe:
            for state in states:
                pipe.zcard(self.names.index(state, project or ANY))
            return {str(state): count for state, count in zip(states, pipe.execute(), strict=True)}

    def oldest(self, states: Sequence[str], project: str | None = None) -> Record | None:
        """Of the batches in these states, the one that was announced first."""
        with self._connection.pipeline(transaction=False) as pipe:
            for state in states:
                pipe.zrange(self.names.index(state, project or ANY), 0, 0, withscores=True)
            firsts = [first[0] for first in pipe.execute() if first]
        if not firsts:
            return None
        ref, _ = min(firsts, key=lambda first: first[1])
        found = self.records([text(ref)])
        return found[0] if found else None

    def deliveries(
        self, outcome: str | None = None, *, before: str | None = None, limit: int = 50
    ) -> list[Entry]:
        """Deliveries, newest first. `before` is the `id` of the last one of the page before.

        Raises `ValueError` for an outcome that there is not, or a `before` that is no id.
        """
        outcomes = [Delivered(outcome)] if outcome else [*Delivered]
        with self._connection.pipeline(transaction=False) as pipe:
            for each in outcomes:
                pipe.xrevrange(self.names.deliveries(each), _newest(before, each.value), "-", count=limit)
            found = pipe.execute()
        entries = [
            _entry(reply, {"outcome": each.value})
            for each, replies in zip(outcomes, found, strict=True)
            for reply in replies
        ]
        return sorted(entries, key=_order, reverse=True)[:limit]

    def delivered(self) -> dict[str, int]:
        """How many entries of each outcome are kept."""
        with self._connection.pipeline(transaction=False) as pipe:
            for outcome in Delivered:
                pipe.xlen(self.names.deliveries(outcome))
            return {str(each): count for each, count in zip(Delivered, pipe.execute(), strict=True)}

    def actions(self, *, before: str | None = None, limit: int = 50) -> list[Entry]:
        """What people did, newest first: `who`, `action`, and what it was about. As `deliveries`."""
        found = self._connection.xrevrange(self.names.actions, _newest(before), "-", count=limit)
        return [_entry(reply, {}) for reply in found]

    def reconciled(self) -> dict[str, Any] | None:
        """When `reconcile` last ran (`at`), its `report`, and `webhooks`: `id`, `uri`, `state`, `events` of each."""
        told = self._connection.get(self.names.reconciled)
        found: dict[str, Any] | None = json.loads(told) if told else None
        return found

    def _index(self, wanted: Filter) -> str:
        state = WARNED if wanted.warnings else wanted.state or ANY
        return self.names.index(state, wanted.project or ANY)


def _record(ref: str, raw: Mapping[Any, Any]) -> Record:
    """What nobody wrote yet is as it is for a batch that was just announced."""
    project, _, batch = ref.partition("/")
    known: dict[str, Any] = {"project": project, "batch": batch, "state": BatchState.ANNOUNCED.value}
    for name, value in texts(raw).items():
        if name in _NUMBERS:
            known[name] = float(value)
        elif name in _COUNTS:
            known[name] = int(value)
        elif name in _DOCUMENTS:
            known[name] = json.loads(value)
        elif name in Record.__slots__:
            known[name] = value
        elif name == "first":
            known.setdefault("trigger", json.loads(value)["by"])
    known.setdefault("changed_at", known.get("announced_at"))
    return Record(**known)


def _steps(told: Sequence[Any]) -> Iterator[Step]:
    for each in told:
        fields = json.loads(each)
        yield Step(float(fields.pop("at")), str(fields.pop("event")), fields)


def _entry(reply: tuple[Any, Mapping[Any, Any]], more: Mapping[str, str]) -> Entry:
    name = text(reply[0])
    # Two streams may use the same id in the same millisecond.
    told = "-".join([name, *more.values()])
    return Entry(told, int(name.partition("-")[0]) / 1000, {**more, **texts(reply[1])})


def _order(entry: Entry) -> tuple[int, int, str]:
    moment, number, outcome = entry.id.split("-")
    return int(moment), int(number), outcome


def _newest(before: str | None, outcome: str = "") -> str:
    """Where a range over a stream begins, so that what it gives comes after `before` in the order of a page."""
    if before is None:
        return "+"
    moment, number, of = f"{before}-".split("-")[:3]
    last = f"{int(moment)}-{int(number)}"
    return last if outcome < of else f"({last}"


def _bounds(wanted: Filter) -> tuple[float | str, float | str]:
    least = "-inf" if wanted.since is None else wanted.since
    return least, "+inf" if wanted.until is None else wanted.until
