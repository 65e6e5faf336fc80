"""`python -m bench.growth` (`make bench-growth`): does a key of a large batch cost what one of a small batch does?

One batch after the other, each ten times the last; prints a table for `docs/scale.md`. CPU time is that of the pool and
all its processes, so that it says something on a machine that has other things to do as well.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import data, stack
from bench.folder import WORKERS
from bench.machine import describe
from bench.measure import fresh_folder
from bench.memory import sampled
from bench.stack import Stack

KEYS = (10_000, 100_000, 1_000_000)
_COMMIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Grown:
    """What a batch cost: seconds by the clock and of CPU, and the bytes of the largest process."""

    keys: int
    seconds: float
    cpu: float
    largest: int

    def row(self, outputs: str) -> str:
        a_key = f"{self.seconds / self.keys * 1e6:.1f} | {self.cpu / self.keys * 1e6:.1f}"
        return f"| {self.keys:,} | {outputs} | {self.seconds:.1f} | {a_key} | {self.largest / 1e6:.0f} |"


def measure(run: Stack, folder: Path, keys: int, outputs: str) -> Grown:
    """One batch from its announcement to `batch.json`."""
    results = run.store(data.result_lines(keys), keys)
    batch = run.new_batch(results)
    with fresh_folder(folder) as bucket, run.work(WORKERS, bucket.as_uri(), OUTPUTS=outputs) as pool:
        with sampled(pool.pid) as peak:
            before = _cpu(pool.pid)
            began = time.perf_counter()
            run.announce(batch)
            stack.wait((bucket / batch / "batch.json").exists, "batch.json", _COMMIT_SECONDS)
            seconds = time.perf_counter() - began
        cpu = _cpu(pool.pid) - before
        stack.wait_until_tidy(bucket.as_uri(), batch)
    run.gemini.expire_output(results.file.removeprefix("files/batch-"))
    return Grown(keys, seconds, cpu, peak.bytes)


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process, its descendants, and those of them that have ended."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def table(folder: Path, sizes: tuple[int, ...], outputs: str) -> Iterator[str]:
    with fresh_folder(folder) as scratch, stack.running(scratch) as run:
        for keys in sizes:
            yield measure(run, scratch, keys, outputs).row(outputs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--keys", type=int, nargs="*", default=KEYS, help="the sizes")
    parser.add_argument("--outputs", default="parquet", choices=("parquet", "objects"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to")
    options = parser.parse_args()
    print(f"{describe()}, load {os.getloadavg()[0]:.0f}\n")
    print("| keys | outputs | s | µs a key | µs of CPU a key | largest process, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in table(options.folder, tuple(options.keys), options.outputs):
        print(row, flush=True)


if __name__ == "__main__":
    main()
