"""Two workers against one where the CPU is not the limit. Where it is, see the folder's rows."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import data, s3, stack
from bench.measure import Side, fresh_folder, take_turns
from bench.scale import Scale
from bench.slow_bucket import delayed
from bench.stack import Results, Stack
from bench.table import Row, compared
from tests.support.s3 import s3_server

BYTES_PER_SECOND = 5_000_000
DELAY_SECONDS = 0.03
# Fewer puts at once and smaller parts than by default: a larger batch than there is time for, in small.
CONCURRENCY = 8
PART_BYTES = "512KiB"

_LEAST = 1.6
_RIVAL = "one worker"


def rows(scale: Scale) -> Iterator[Row]:
    for measured in (slow_source, slow_bucket):
        with fresh_folder(scale.ram or scale.disk) as scratch:
            yield measured(scratch, scale)


def slow_source(scratch: Path, scale: Scale) -> Row:
    """Two batches at once, each connection to Gemini throttled."""
    bucket = (scratch / "bucket").as_uri()
    with stack.running(scratch) as run:
        results = run.store(data.result_lines(scale.scaling_keys), scale.scaling_keys)
        run.gemini.fault("throttle", times=0, value=BYTES_PER_SECOND)

        sides: dict[str, Side] = {
            str(workers): partial(_two_batches, run, results, bucket, workers) for workers in (1, 2)
        }
        taken = take_turns(sides, scale.rounds)
    return compared(
        f"2 workers, 2 batches of {scale.scaling_keys:,} keys, source throttled to "
        f"{BYTES_PER_SECOND // 1_000_000} MB/s a connection",
        taken["2"],
        _RIVAL,
        taken["1"],
        limit="the source: each download has a worker",
        least=_LEAST,
    )


def slow_bucket(scratch: Path, scale: Scale) -> Row:
    """One batch of several parts, to an S3 whose every answer comes later."""
    folder = scratch / "s3"
    folder.mkdir()
    with s3_server(folder) as server, stack.running(scratch) as run:
        port = int(server.endpoint.rpartition(":")[2])
        results = run.store(data.result_lines(scale.slow_keys), scale.slow_keys)
        with delayed(port, DELAY_SECONDS) as relay:
            far = replace(server, endpoint=f"http://127.0.0.1:{relay}")
            sides: dict[str, Side] = {
                str(workers): partial(
                    s3.ours,
                    run,
                    far,
                    results,
                    workers,
                    PART_BYTES=PART_BYTES,
                    FANOUT_CONCURRENCY=str(CONCURRENCY),
                )
                for workers in (1, 2)
            }
            taken = take_turns(sides, scale.rounds)
    return compared(
        f"2 workers, {scale.slow_keys:,} objects to S3 with {DELAY_SECONDS * 1000:g} ms added to every answer",
        taken["2"],
        _RIVAL,
        taken["1"],
        limit=f"the bucket's latency: {CONCURRENCY} puts at once a worker; splitting and commit are not shared",
        least=_LEAST,
    )


def _two_batches(run: Stack, results: Results, bucket: str, workers: int) -> float:
    batches = [run.new_batch(results) for _ in range(2)]
    with run.work(workers, bucket):
        seconds = run.seconds_to_commit(bucket, *batches)
        stack.remove_batch(bucket, *batches)
    return seconds
