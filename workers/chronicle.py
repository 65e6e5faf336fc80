"""What the story of a batch leaves behind for whoever looks. Nothing that is done for a batch depends on it.

`process` tells a `Chronicle` of each step. The plain one tells nobody; `Kept` writes into the history in Redis, and
counts what is counted, once a commit.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from redis.exceptions import RedisError

from workers.bucket.protocol import Bucket
from workers.contract import Queues, logs
from workers.contract.history import BatchState, History, Names, Value, metrics, step
from workers.contract.redis_words import in_words
from workers.gemini.batches import FILE_LIFE_SECONDS, Batch, integer, timestamp
from workers.gemini.client import Gemini
from workers.parts import Part
from workers.summary import Summary

logger = logs.named("workers")


class Chronicle:
    """Hears of each step, and tells nobody."""

    def looked(self, batch: Batch) -> None:
        """Gemini has answered what a batch is."""

    def stored(self, part: Part) -> None:
        """A part, and all before it, are in `raw/`."""

    def split(self, parts: int, lacking: Collection[int]) -> None:
        """All is in `raw/`; `lacking` are the parts that are not fanned out."""

    def written(self, number: int) -> None:
        """A part is fanned out."""

    def committed(self, summary: Summary) -> None:
        """This is what stands as `batch.json`, from now on or since earlier."""


class Kept(Chronicle):
    """Writes into the history of one batch."""

    def __init__(self, queues: Queues, batch: str) -> None:
        self._connection = queues.connection
        self._history = History(queues.connection, queues.prefix)
        self._ref = self._history.names.ref(batch)

    def running(self, trigger: str) -> None:
        """A job looks at the batch."""
        self._note(BatchState.RUNNING, fields={"trigger": trigger, "next_try": None})

    def looked(self, batch: Batch) -> None:
        self.noted("looked", state=batch.state_name)
        self._note(fields=fields_of_look(batch), display_name=batch.display_name)

    def stored(self, part: Part) -> None:
        self._note(fields={"parts": part.number + 1, "keys": part.first_index + part.lines})

    def split(self, parts: int, lacking: Collection[int]) -> None:
        self._safely(lambda _: self._history.parts_are(self._ref, parts, lacking))

    def written(self, number: int) -> None:
        self._safely(lambda _: self._history.part_done(self._ref, number))

    def in_parts(self) -> None:
        """What is left is done by jobs of its parts."""
        self._note(BatchState.IN_PARTS)
        self.noted("in parts")

    def retried(self, reason: str, seconds: int, part: int | None = None) -> None:
        """It is tried again in so many seconds."""

        def write(at: float) -> None:
            self._history.repeat(self._ref, "retry", at, reason=reason, part=part)
            state = BatchState.WAITING if part is None else None
            self._history.note(self._ref, state, at=at, fields={"reason": reason, "next_try": at + seconds})

        self._safely(write)

    def given_up(self, reason: str, part: int | None = None) -> None:
        """It failed for good."""
        self._note(BatchState.GIVEN_UP, fields={"reason": reason, "next_try": None})
        self.noted("given up", reason=reason, part=part)

    def left_alone(self) -> None:
        """It was not ours, or is not any more; what was committed stays listed."""
        self._safely(lambda _: self._history.drop_unfinished(self._ref))

    def notified(self, outcome: str, revision: int) -> None:
        """Somebody downstream has taken word of a commit, or never did."""
        self.noted("notified" if outcome == "delivered" else f"notification {outcome}", revision=revision)
        self._safely(
            lambda _: metrics.count(self._connection, self._history.names, "notifications_total", outcome)
        )

    def noted(self, event: str, **fields: Value | None) -> None:
        """A step that changes no state."""
        self._safely(lambda at: self._history.repeat(self._ref, event, at, **fields))

    def committed(self, summary: Summary) -> None:
        committed_at = timestamp(summary.committed_at) or time.time()

        def count(pipe: Any, known: Mapping[str, str]) -> None:
            _count(pipe, self._history, summary, known, committed_at)

        def write(_: float) -> None:
            told = step(
                "committed",
                committed_at,
                state=summary.state.value,
                revision=summary.revision,
                total=summary.counts.total,
            )
            record(self._history, summary, steps=[told], counted=count)

        self._safely(write)

    def _note(
        self,
        state: BatchState | None = None,
        *,
        fields: Mapping[str, Value | None] | None = None,
        display_name: str | None = None,
    ) -> None:
        self._safely(
            lambda at: self._history.note(self._ref, state, at=at, fields=fields, display_name=display_name)
        )

    def _safely(self, write: Callable[[float], object]) -> None:
        try:
            write(time.time())
        except RedisError as error:
            logger.warning("history_unwritten", reason=in_words(error))


def count_requests(queues: Queues, gemini: Gemini, bucket: Bucket) -> None:
    """Count what this process has asked of others since it was last counted."""
    names = Names(queues.prefix)
    # A folder is asked for nothing over a network.
    calls: Any = getattr(bucket, "calls", {})
    with suppress(RedisError), queues.connection.pipeline(transaction=False) as pipe:
        for name, counted in (("gemini_requests_total", gemini.requests), ("bucket_requests_total", calls)):
            for labels, number in counted.items():
                metrics.count(pipe, names, name, *labels, amount=number)
            counted.clear()
        pipe.execute()


def fields_of_look(batch: Batch) -> dict[str, Value | None]:
    """What a record says after a look at Gemini."""
    stats = batch.stats if isinstance(batch.stats, dict) else {}
    ended = timestamp(batch.ended_at) if batch.final else None
    return {
        "display_name": batch.display_name,
        "model": batch.model,
        "gemini_state": batch.state_name,
        "created_at": timestamp(batch.created_at),
        "ended_at": ended,
        "expires_at": ended + FILE_LIFE_SECONDS if ended else None,
        "expected": batch.expected,
        "pending": integer(stats.get("pendingRequestCount")),
    }


def record(
    history: History,
    summary: Summary,
    *,
    steps: Collection[str] = (),
    counted: Callable[[Any, Mapping[str, str]], None] | None = None,
) -> bool:
    """Write a commit into the history; whether that was news."""
    committed_at = timestamp(summary.committed_at) or time.time()
    fields: dict[str, Value | None] = {
        "display_name": summary.display_name,
        "model": summary.model,
        "trigger": summary.trigger,
        "created_at": timestamp(summary.created_at),
        "ended_at": timestamp(summary.ended_at),
        "committed_at": committed_at,
        "revision": summary.revision,
        "warnings": len(summary.warnings),
        "raw_bytes": summary.raw_bytes,
        "keys": summary.counts.total,
        "parts": len(summary.parts),
        "parts_done": len(summary.parts),
        "counts": _json(msgspec.to_builtins(summary.counts)),
        "usage": _json(summary.usage),
        "cost": _json(msgspec.to_builtins(summary.cost)) if summary.cost is not msgspec.UNSET else None,
        "finish_reasons": _json(summary.finish_reasons),
        "model_versions": _json(summary.model_versions),
        "reason": None,
        "next_try": None,
        "expires_at": None,
        "pending": None,
    }
    return history.note(
        history.names.ref(summary.batch),
        BatchState(summary.state.value),
        at=committed_at,
        steps=[*steps],
        fields=fields,
        warned=bool(summary.warnings),
        display_name=summary.display_name,
        counted=counted or (lambda _pipe, _known: None),
    )


def _count(
    pipe: Any, history: History, summary: Summary, known: Mapping[str, str], committed_at: float
) -> None:
    """A commit that takes the place of another counts what it has more."""
    names = history.names
    metrics.count(pipe, names, "batches_total", summary.state.value, names.project)
    seconds = committed_at - float(known.get("announced_at", "inf"))
    if "committed_at" not in known and seconds >= 0:
        metrics.took(pipe, names, seconds)
    spent = _amount(json.loads(known.get("cost", "null")))
    now = _amount(msgspec.to_builtins(summary.cost)) if summary.cost is not msgspec.UNSET else 0.0
    if now > spent:
        metrics.count(pipe, names, "cost_estimate_total", "USD", amount=now - spent)
    for name, label, amount in _amounts(summary, known):
        if amount > 0:
            metrics.count(pipe, names, name, *label, amount=amount)


def _amounts(summary: Summary, known: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], int]]:
    counts = {name: number for name, number in msgspec.to_builtins(summary.counts).items() if name != "total"}
    for name, now, kept in (
        ("results_total", counts, "counts"),
        ("tokens_total", summary.usage, "usage"),
        ("finish_reasons_total", summary.finish_reasons, "finish_reasons"),
    ):
        before = json.loads(known.get(kept, "{}"))
        for label, number in now.items():
            shown = label.removesuffix("_tokens")
            if name == "finish_reasons_total" and label not in metrics.FINISH_REASONS:
                shown = "OTHER"
            yield name, (shown,), number - before.get(label, 0)
    yield "raw_bytes_total", (), summary.raw_bytes - int(known.get("raw_bytes", 0))


def _amount(cost: Any) -> float:
    return float(cost["amount"] or 0) if isinstance(cost, dict) else 0.0


def _json(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
