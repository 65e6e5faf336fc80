"""`python -m bench.pages` (`make bench-pages`): how long the console's pages take while deliveries arrive.

Many batches stand in the history, one of which has results in the bucket. Each page is asked for in turns, calm and
with 300 deliveries a second; prints a table of medians and 99th percentiles, each beside its limit.
"""

import argparse
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from redis import Redis

from bench import acknowledge, data, stack
from bench.machine import describe
from bench.stack import Stack
from tests.console.seeding import Seeds
from tests.support.processes import Process

PER_SECOND = 300
MEDIAN_MS, P99_MS = 200, 500
LARGE_MS, SEARCH_MS = 300, 1000
_CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class Page:
    """Milliseconds of each answer, and what the median may be."""

    path: str
    calm: list[float]
    loaded: list[float]
    limit: int

    def row(self) -> str:
        told = (f"{statistics.median(each):.0f} | {_p99(each):.0f}" for each in (self.calm, self.loaded))
        return f"| `{self.path}` | {' | '.join(told)} | {self.limit} |"


def measure(run: Stack, folder: Path, *, batches: int, keys: int, rounds: int, seconds: float) -> list[Page]:
    """Every page, so many times calm and as often as there is time for while deliveries arrive."""
    bucket = folder / "bucket"
    large = run.new_batch(run.store(data.result_lines(keys), keys))
    with run.work(2, bucket.as_uri()):
        run.announce(large)
        stack.wait((bucket / large / "batch.json").exists, "batch.json", 3600)
    with Redis.from_url(run.redis_url) as connection:
        seeds = Seeds(connection)
        for number in range(batches):
            seeds.committed(f"page{number:06d}", ago=5.0 + number, total=100)
    last = f"page{batches - 1:06d}"
    # Both the key that is there and the text that is in none of them: the latter is looked for to the end.
    limits = {
        **dict.fromkeys(
            ("/batches", f"/batches?page={batches // 50}", "/batches?state=succeeded", f"/batches/{last}"),
            MEDIAN_MS,
        ),
        **dict.fromkeys((f"/batches?q={last}", "/batches?q=nightly", "/deliveries", "/workers"), MEDIAN_MS),
        f"/batches/{large}": LARGE_MS,
        f"/batches/{large}/results": LARGE_MS,
        f"/batches/{large}/results?key=nothing-like-it": SEARCH_MS,
    }
    with _console(run, bucket) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        calm = _asked(http, [*limits], rounds)
        with run.serve() as (receiver, _):
            port = urlsplit(receiver).port or 0
            arriving = threading.Thread(
                target=acknowledge.load, args=(port, _CONNECTIONS, seconds, PER_SECOND)
            )
            arriving.start()
            loaded = _asked(http, [*limits], rounds, until=arriving)
            arriving.join()
    return [Page(path, calm[path], loaded[path], limit) for path, limit in limits.items()]


@contextmanager
def _console(run: Stack, bucket: Path) -> Iterator[str]:
    env = {"REDIS_URL": run.redis_url, "STORAGE_URL": bucket.as_uri()}
    process = Process(["console", "--port", "0"], env, run.scratch / "logs" / "console.log")
    try:
        yield process.wait_for_output(r"listening on (http://\S+)", 60)[1]
    finally:
        process.kill()


def _asked(
    http: httpx.Client, paths: Sequence[str], rounds: int, until: threading.Thread | None = None
) -> dict[str, list[float]]:
    """Milliseconds of each answer, page after page; at least one round, and none after `until` has ended."""
    taken: dict[str, list[float]] = {path: [] for path in paths}
    for number in range(rounds):
        if number and until is not None and not until.is_alive():
            break
        for path in paths:
            began = time.perf_counter()
            answer = http.get(path)
            taken[path].append((time.perf_counter() - began) * 1000)
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}")
    return taken


def _p99(milliseconds: Sequence[float]) -> float:
    return sorted(milliseconds)[int(len(milliseconds) * 0.99)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=1_000_000, help="of the one batch with results")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60, help="of deliveries")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, stack.running(Path(folder)) as run:
        found = measure(
            run,
            Path(folder),
            batches=options.batches,
            keys=options.keys,
            rounds=options.rounds,
            seconds=options.seconds,
        )
    print(re.sub(r"\s+", " ", describe()))
    print(
        f"{options.batches:,} batches, one of them with {options.keys:,} keys; ms, the limit is the median's."
    )
    print(f"Under load the 99th percentile of a page without a key search may be {P99_MS}.\n")
    print(f"| page | calm | p99 | {PER_SECOND} deliveries/s | p99 | limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for page in found:
        print(page.row())


if __name__ == "__main__":
    main()
