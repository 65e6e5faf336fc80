"""Many small batches at once, against the rate of empty jobs in RQ's own pool on the same Redis."""

from collections.abc import Iterator
from functools import partial

from bench import data, folder, stack
from bench.measure import Place, Side, fresh_folder, take_turns, timed_process
from bench.scale import Scale
from bench.stack import Results, Stack
from bench.table import Row, compared

KEYS = 10
EMPTY_JOBS = "RQ's own pool, as many empty jobs"

_LIMIT = "CPU: Redis, HTTP and files for each batch; they: a fork for each job"


def rows(scale: Scale) -> Iterator[Row]:
    for where, parent in (("disk", scale.disk), ("RAM disk", scale.ram)):
        if parent is None:
            continue
        with fresh_folder(parent) as scratch:
            taken = measure(Place(scratch, keeps=parent is scale.disk), scale.small_batches, scale.rounds)
        yield compared(
            f"{scale.small_batches} batches of {KEYS} keys, {where}",
            taken[folder.OURS],
            EMPTY_JOBS,
            taken[EMPTY_JOBS],
            limit=_LIMIT,
            least=1.0,
            amount=scale.small_batches,
        )


def measure(place: Place, batches: int, rounds: int) -> dict[str, list[float]]:
    """The seconds of each side."""
    with stack.running(place.root) as run:
        results = run.store(data.result_lines(KEYS), KEYS)
        sides: dict[str, Side] = {
            folder.OURS: partial(ours, run, results, place, batches),
            EMPTY_JOBS: partial(empty_jobs, run, batches),
        }
        return take_turns(sides, rounds)


def ours(run: Stack, results: Results, place: Place, amount: int, **settings: str) -> float:
    """From the announcement of all of them to the last one's `batch.json`."""
    batches = [run.new_batch(results) for _ in range(amount)]
    with place.folder() as bucket, run.work(folder.WORKERS, bucket.as_uri(), **settings):
        seconds = run.seconds_to_commit(bucket.as_uri(), *batches)
        stack.wait_until_tidy(bucket.as_uri(), *batches)
    return seconds


def empty_jobs(run: Stack, amount: int) -> float:
    """From enqueueing all of them to the end of the last, by idle workers."""
    return timed_process("bench.rq_pool", run.redis_url, str(folder.WORKERS), str(amount))
