"""What is counted in Redis where it happens, and `/metrics` made of it when somebody asks.

A process that forks for each job can't count for itself: prometheus-client would leave files for every job. So there
is one hash of counters, `<prefix>:metrics`, whose fields are a name and its labels, and what can be seen is looked at.
No label is a batch, a key or a worker.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from redis import Redis

from workers.contract.history.pages import Pages
from workers.contract.history.states import UNFINISHED, BatchState, Names, text, texts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COMMIT_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 48 * 3600)
"""Seconds from announced to committed."""

FINISH_REASONS = frozenset(
    {
        "STOP",
        "MAX_TOKENS",
        "BLOCKED",
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
    }
)
"""Those that have a series of their own; all others are OTHER."""

_PREFIX = "batch_receiver_"
_OLDEST = 10
_SILENT_SECONDS = 60.0

_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "batches_total": ("Commits.", ("state", "project")),
    "results_total": ("Results in commits.", ("status",)),
    "finish_reasons_total": ("Results in commits, by why they ended.", ("reason",)),
    "raw_bytes_total": ("Bytes of result files in commits.", ()),
    "tokens_total": ("Tokens in commits.", ("kind",)),
    "cost_estimate_total": ("What commits cost, an estimate.", ("currency",)),
    "gemini_requests_total": ("Requests to Gemini.", ("call", "code")),
    "bucket_requests_total": ("Calls to the bucket.", ("call", "outcome")),
    "reconcile_found_total": ("Ended batches that nobody had told us of.", ()),
    "notifications_total": ("Commits told downstream.", ("outcome",)),
}
_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "reconcile_last_success_timestamp_seconds": ("When reconcile last ended without trouble.", ()),
    "webhook_enabled": ("Whether a webhook with batch events is enabled at Gemini.", ("project",)),
}
# Shown from the start: a counter that appears with its first event has no increase to be alarmed by.
_ALWAYS = ("raw_bytes_total", "reconcile_found_total")
_HISTOGRAM = "batch_commit_seconds"


def count(pipe: Any, names: Names, name: str, *labels: str, amount: float = 1) -> None:
    """Put into a pipeline that something happened."""
    field = "|".join([name, *(label.replace("|", "_") for label in labels)])
    if isinstance(amount, int):
        pipe.hincrby(names.metrics, field, amount)
    else:
        pipe.hincrbyfloat(names.metrics, field, amount)


def set_to(pipe: Any, names: Names, name: str, *labels: str, value: float) -> None:
    """Put into a pipeline what something is now."""
    pipe.hset(names.metrics, "|".join([name, *labels]), value)


def took(pipe: Any, names: Names, seconds: float) -> None:
    """Put into a pipeline how long a batch took from announced to committed."""
    bucket = next((str(most) for most in COMMIT_BUCKETS if seconds <= most), "+Inf")
    count(pipe, names, _HISTOGRAM, bucket)
    count(pipe, names, f"{_HISTOGRAM}_sum", amount=float(seconds))


def render(connection: Redis, prefixes: Sequence[str], version: str) -> bytes:
    """The body of `/metrics`, of all projects together: one prefix each.

    What has no label for a project is added up, or that of the one that is worst off. Raises
    `redis.exceptions.RedisError` where Redis does not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Looked(connection, prefixes, version))
    return generate_latest(registry)


class _Looked(Collector):
    """What there is at this moment."""

    def __init__(self, connection: Redis, prefixes: Sequence[str], version: str) -> None:
        self._connection: Any = connection
        self._prefixes = prefixes
        self._version = version
        self._names = [Names(prefix) for prefix in prefixes]
        self._pages = [Pages(connection, prefix) for prefix in prefixes]

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering is no scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        begun = time.perf_counter()
        yield from self._counted(
            _together([texts(self._connection.hgetall(names.metrics)) for names in self._names])
        )
        yield from self._queues()
        yield from self._batches()
        yield self._workers()
        yield _gauge("redis_persisting", "Whether Redis writes to its disk.", self._persists())
        yield _gauge("build_info", "Always 1.", 1, version=self._version)
        yield _gauge("scrape_seconds", "What this answer took.", time.perf_counter() - begun)

    def _counted(self, fields: Mapping[str, str]) -> Iterator[Metric]:
        for name, (about, labels) in _COUNTERS.items():
            family = CounterMetricFamily(_PREFIX + name.removesuffix("_total"), about, labels=labels)
            for values, number in _of(fields, name, len(labels)):
                family.add_metric(values, number)
            if name in _ALWAYS and not family.samples:
                family.add_metric([], 0)
            yield family
        for name, (about, labels) in _GAUGES.items():
            gauge = GaugeMetricFamily(_PREFIX + name, about, labels=labels)
            for values, number in _of(fields, name, len(labels)):
                gauge.add_metric(values, number)
            yield gauge
        yield _histogram(fields)

    def _queues(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(_PREFIX + "queue_jobs", "Jobs that wait.", labels=["queue"])
        oldest = GaugeMetricFamily(
            _PREFIX + "queue_oldest_seconds", "How long the first of them has waited.", labels=["queue"]
        )
        for queue in ("batches", "parts"):
            found = [self._queue(f"{prefix}-{queue}") for prefix in self._prefixes]
            jobs.add_metric([queue], sum(count for count, _ in found))
            oldest.add_metric([queue], max(age for _, age in found))
        yield jobs
        yield oldest

    def _queue(self, name: str) -> tuple[int, float]:
        """How many jobs wait, and the age of the first."""
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.llen(f"rq:queue:{name}")
            pipe.zcard(f"rq:scheduled:{name}")
            # What is urgent is put before what is old.
            pipe.lrange(f"rq:queue:{name}", 0, _OLDEST - 1)
            waiting, scheduled, first = pipe.execute()
        return waiting + scheduled, self._age([text(job) for job in first])

    def _age(self, jobs: list[str]) -> float:
        with self._connection.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.hget(f"rq:job:{job}", "enqueued_at")
            since = [_moment(text(each)) for each in pipe.execute() if each]
        return max(0.0, time.time() - min(since)) if since else 0.0

    def _batches(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            _PREFIX + "batches", "Batches of the last 90 days.", labels=["state", "project"]
        )
        given_up = 0
        for pages in self._pages:
            counts = pages.counts()
            given_up += counts[BatchState.GIVEN_UP]
            for state in BatchState:
                states.add_metric([state.value, pages.names.project], counts[state])
        yield states
        yield _gauge("failed_batches", "Batches that failed for good and wait for somebody.", given_up)
        now = time.time()
        firsts = [self._connection.zrange(names.expiring, 0, 0, withscores=True) for names in self._names]
        nearest = min((float(first[0][1]) - now for first in firsts if first), default=float("inf"))
        yield _gauge(
            "nearest_expiry_seconds",
            "Until results that are not committed may be gone; +Inf for none.",
            nearest,
        )
        oldest = [pages.oldest([*(UNFINISHED - {BatchState.GIVEN_UP})]) for pages in self._pages]
        age = max((now - each.announced_at for each in oldest if each and each.announced_at), default=0.0)
        yield _gauge("unfinished_oldest_seconds", "Age of the oldest batch that is not committed.", age)

    def _workers(self) -> Metric:
        found = dict.fromkeys(("idle", "busy", "silent"), 0)
        # A worker works for all projects.
        keys = {
            text(key)
            for prefix in self._prefixes
            for key in self._connection.smembers(f"rq:workers:{prefix}-batches")
        }
        with self._connection.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, "state", "last_heartbeat")
            for state, sign in pipe.execute():
                if not sign or time.time() - _moment(text(sign)) > _SILENT_SECONDS:
                    found["silent"] += 1
                else:
                    found["busy" if state and text(state) == "busy" else "idle"] += 1
        family = GaugeMetricFamily(_PREFIX + "workers", "Worker processes.", labels=["state"])
        for state, number in found.items():
            family.add_metric([state], number)
        return family

    def _persists(self) -> bool:
        about = self._connection.info("persistence")
        if int(about.get("aof_enabled", 0)):
            return bool(about.get("aof_last_write_status", "ok") == "ok")
        return False


def _together(all_fields: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The fields of several projects as those of one."""
    merged: dict[str, str] = {}
    for field in sorted({field for fields in all_fields for field in fields}):
        numbers = [float(fields[field]) for fields in all_fields if field in fields]
        merged[field] = str(min(numbers) if field.partition("|")[0] in _GAUGES else sum(numbers))
    return merged


def _of(fields: Mapping[str, str], name: str, labels: int) -> Iterator[tuple[list[str], float]]:
    for field, number in sorted(fields.items()):
        told, *values = field.split("|")
        if told == name and len(values) == labels:
            yield values, float(number)


def _histogram(fields: Mapping[str, str]) -> Metric:
    counted = {values[0]: number for values, number in _of(fields, _HISTOGRAM, 1)}
    total, buckets = 0.0, []
    for most in (*map(str, COMMIT_BUCKETS), "+Inf"):
        total += counted.get(most, 0)
        buckets.append((most, total))
    family = HistogramMetricFamily(_PREFIX + _HISTOGRAM, "From announced to committed.")
    family.add_metric([], buckets=buckets, sum_value=float(fields.get(f"{_HISTOGRAM}_sum", 0)))
    return family


def _gauge(name: str, about: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, about, labels=[*labels])
    family.add_metric([*labels.values()], float(value))
    return family


def _moment(said: str) -> float:
    """Seconds since 1970 of a time as RQ writes it."""
    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        return time.time()
