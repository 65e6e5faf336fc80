"""Acknowledgements: distinct signed events through the receiver into Redis, against routes that do less.

Redis keeps its append-only file, with its default of an fsync every second.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from urllib.parse import urlsplit

import httpx
from redis import Redis

from bench import stack
from bench.measure import fresh_folder
from bench.scale import Scale
from bench.stack import SECRET, Stack, wait
from bench.table import Row
from emulator.demo.local_redis import free_port
from tests.support.processes import ROOT
from tests.support.queues import BATCHES, queue

CONNECTIONS = (16, 64)
STEADY_PER_SECOND = 500
LEAST_PER_SECOND = 2_500
MOST_P99_SECONDS = 0.003
WAITING = 10_000
LEAST_OF_EMPTY = 0.9

BARE = "bare Starlette route"
VERIFIED = "the same with standardwebhooks"
ENQUEUED = "the same with RQ's enqueue in a thread"

_AT_ONCE = 500

_KINDS = {BARE: "bare", VERIFIED: "verified", ENQUEUED: "enqueued"}
_LIMITS = {
    BARE: "one core: HTTP, HMAC and RQ's records; the load client shares the other with Redis",
    VERIFIED: "the same, without Redis",
    ENQUEUED: "a round trip to Redis for each event",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the client saw in one run."""

    per_second: float
    p50: float
    p99: float
    answers: int
    not_200: int
    exhausted: bool


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as scratch, stack.running(scratch) as run:
        for connections in CONNECTIONS:
            taken = measure(run, connections, scale.load_seconds, scale.rounds)
            ours = taken.pop("ours")
            for rival, theirs in taken.items():
                yield _compared(connections, ours, rival, theirs)
        steady = measure(run, CONNECTIONS[0], scale.load_seconds, scale.rounds, STEADY_PER_SECOND)
        yield _beside_a_backlog(run, scale)
    mine, bare = (median(each.p99 for each in steady[side]) for side in ("ours", BARE))
    yield Row(
        what=f"p99 at a steady {STEADY_PER_SECOND} signed events a second",
        ours=f"{mine * 1000:.1f} ms",
        rival=BARE,
        theirs=f"{bare * 1000:.1f} ms",
        ratio=bare / mine,
        target=f"< {MOST_P99_SECONDS * 1000:g} ms",
        met=mine < MOST_P99_SECONDS,
        limit="a thread and a round trip to Redis",
    )


def measure(
    run: Stack, connections: int, seconds: float, rounds: int, per_second: int = 0
) -> dict[str, list[Loaded]]:
    """Each side's runs, in turns. Every answer must be a 200, and every event of ours a job."""
    sides: dict[str, Callable[[], AbstractContextManager[int]]] = {
        "ours": partial(_receiver, run),
        **{name: partial(_bare_route, run, kind) for name, kind in _KINDS.items()},
    }
    taken: dict[str, list[Loaded]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            os.sync()
            with side() as port, Redis.from_url(run.redis_url) as connection:
                loaded = load(port, connections, seconds, per_second)
                jobs = queue(connection, BATCHES).count
                connection.flushall()
            if loaded.not_200 or loaded.exhausted or (name == "ours" and jobs != loaded.answers):
                raise RuntimeError(f"{name}: {loaded}, {jobs} jobs")
            taken[name].append(loaded)
    return taken


def _beside_a_backlog(run: Stack, scale: Scale) -> Row:
    taken: dict[int, list[Loaded]] = {WAITING: [], 0: []}
    for _ in range(scale.rounds):
        for waiting, loads in taken.items():
            with _receiver(run) as port, Redis.from_url(run.redis_url) as connection:
                for first in range(0, waiting, _AT_ONCE):
                    run.announce(*(f"waiting-{number}" for number in range(first, first + _AT_ONCE)))
                loads.append(load(port, CONNECTIONS[0], scale.load_seconds, 0))
                connection.flushall()
    ratio = median(
        full.per_second / empty.per_second for full, empty in zip(taken[WAITING], taken[0], strict=True)
    )
    return Row(
        what=f"acknowledgements, {CONNECTIONS[0]} connections, {WAITING:,} batches waiting",
        ours=_shown(taken[WAITING]),
        rival="none waiting",
        theirs=_shown(taken[0]),
        ratio=ratio,
        target=f"≥ {LEAST_OF_EMPTY}",
        met=ratio >= LEAST_OF_EMPTY,
        limit="as without",
    )


def _compared(connections: int, ours: list[Loaded], rival: str, theirs: list[Loaded]) -> Row:
    rate = median(each.per_second for each in ours)
    ratios = (our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True))
    return Row(
        what=f"acknowledgements, {connections} connections, one process",
        ours=_shown(ours),
        rival=rival,
        theirs=_shown(theirs),
        ratio=median(ratios),
        target=f"≥ {LEAST_PER_SECOND:,}/s",
        met=rate >= LEAST_PER_SECOND,
        limit=_LIMITS[rival],
    )


def _shown(loads: list[Loaded]) -> str:
    rate = median(each.per_second for each in loads)
    return f"{rate:,.0f}/s, p99 {median(each.p99 for each in loads) * 1000:.1f} ms"


@contextmanager
def _receiver(run: Stack) -> Iterator[int]:
    with run.serve() as (url, _):
        port = urlsplit(url).port
        assert port
        yield port


@contextmanager
def _bare_route(run: Stack, kind: str) -> Iterator[int]:
    port = free_port()
    process = _module("bench.bare_route", str(port), kind, redis_url=run.redis_url)
    try:
        wait(partial(_answers, port), "the bare route", 20)
        yield port
    finally:
        process.kill()
        process.wait()


def load(port: int, connections: int, seconds: float, per_second: int) -> Loaded:
    words = [str(each) for each in (port, connections, seconds, per_second)]
    client = _module("bench.load", *words, stdout=subprocess.PIPE)
    output, _ = client.communicate(timeout=60 + 2 * seconds)
    if client.returncode:
        raise RuntimeError(f"the load client ended with {client.returncode}")
    return Loaded(**json.loads(output))


def _module(
    name: str, *words: str, redis_url: str = "", stdout: int | None = None
) -> "subprocess.Popen[bytes]":
    env = {"PATH": os.environ["PATH"], "WEBHOOK_SIGNING_SECRET": SECRET, "REDIS_URL": redis_url}
    return subprocess.Popen([sys.executable, "-m", name, *words], cwd=ROOT, env=env, stdout=stdout)


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.HTTPError:
        return False
    return True
