"""A large result file against one a tenth of it: the memory of every worker-side process, and the first object."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil

from bench import data, stack
from bench.measure import fresh_folder
from bench.scale import Scale
from bench.stack import SECRET, Stack, post, signed, wait
from bench.table import Row
from emulator.signing import sign_v1

PART_BYTES = "16MiB"
MOST_BYTES = 200_000_000
MOST_GROWTH = 1.10
BYTES_A_KEY = 32
FIRST_OBJECT_SECONDS = 2.0

_SAMPLE_SECONDS = 0.05
# The result file, its raw parts and its outputs, and as much again so that nobody's disk is filled.
_ROOM = 6


@dataclass
class Peak:
    """The most that any one process of a tree held. `status` is Linux's own high-water mark."""

    sampled: int = 0
    status: int = 0
    processes: set[int] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        return max(self.sampled, self.status)


@dataclass(frozen=True, slots=True)
class Measured:
    keys: int
    peak: Peak
    first_object: float
    seconds: float


def rows(scale: Scale) -> Iterator[Row]:
    if scale.large_bytes is None or psutil.disk_usage(str(scale.disk)).free < _ROOM * scale.large_bytes:
        return
    with fresh_folder(scale.disk) as scratch, stack.running(scratch) as run:
        small, large = measure(run, scratch / "bucket", scale.large_bytes // 10, scale.large_bytes)
    size = f"{scale.large_bytes / 1e9:g} GB of {data.LARGE_LINE // 1000} KB lines"
    growth = (large.peak.bytes - BYTES_A_KEY * (large.keys - small.keys)) / small.peak.bytes
    yield Row(
        what=f"{size}: largest of {len(large.peak.processes)} worker processes, resident",
        ours=f"{large.peak.bytes / 1e6:.0f} MB",
        rival="ours, a tenth of the file",
        theirs=f"{small.peak.bytes / 1e6:.0f} MB",
        ratio=small.peak.bytes / large.peak.bytes,
        target=f"< {MOST_BYTES / 1e6:.0f} MB, growth < {MOST_GROWTH - 1:.0%}",
        met=large.peak.bytes < MOST_BYTES and growth < MOST_GROWTH,
        limit=f"objects on their way to the disk; {BYTES_A_KEY} bytes a key in the splitter",
    )
    yield Row(
        what=f"{size}: from webhook to the first object",
        ours=f"{large.first_object:.2f} s",
        rival="ours, to batch.json",
        theirs=f"{large.seconds:.1f} s",
        ratio=large.seconds / large.first_object,
        target=f"< {FIRST_OBJECT_SECONDS:g} s",
        met=large.first_object < FIRST_OBJECT_SECONDS,
        limit="the first part: downloaded, stored and synced",
    )


def measure(run: Stack, bucket: Path, *sizes: int) -> list[Measured]:
    with run.serve() as (url, _):
        return [_measure(run, bucket, url, size) for size in sizes]


def _measure(run: Stack, bucket: Path, url: str, size: int) -> Measured:
    keys = max(size // data.LARGE_LINE, 1)
    results = run.store(data.result_lines(keys, data.LARGE_LINE), keys)
    batch = run.new_batch(results)
    with (
        run.work(2, bucket.as_uri(), PART_BYTES=PART_BYTES) as pool,
        httpx.Client(trust_env=False) as client,
        sampled(pool.pid) as peak,
    ):
        os.sync()
        began = time.perf_counter()
        post(client, url, signed(batch, partial(sign_v1, SECRET)))
        wait(partial(_has_files, bucket / batch / "outputs"), "the first object")
        first_object = time.perf_counter() - began
        wait((bucket / batch / "batch.json").exists, "batch.json")
        seconds = time.perf_counter() - began
        stack.remove_batch(bucket.as_uri(), batch)
    run.gemini.expire_output(results.file.removeprefix("files/batch-"))
    return Measured(keys, peak, first_object, seconds)


@contextmanager
def sampled(pid: int) -> Iterator[Peak]:
    """Watch a process and all its descendants, whoever of them lives: every 50 ms, and once at the end."""
    peak, root, ended = Peak(), psutil.Process(pid), threading.Event()

    def look() -> None:
        family = [root]
        with suppress(psutil.Error, OSError):  # One of them may end while they are listed.
            family += root.children(recursive=True)
        for process in family:
            with suppress(psutil.Error, OSError):
                peak.sampled = max(peak.sampled, process.memory_info().rss)
                peak.status = max(peak.status, _high_water(process.pid))
                peak.processes.add(process.pid)

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            look()

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        look()


def _high_water(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 if "VmHWM:" in status else 0


def _has_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
