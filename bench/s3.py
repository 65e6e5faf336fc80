"""Objects to S3, against the same puts with nothing around them, and against boto3.

The server is SeaweedFS on the same two cores, so it is what limits whoever is not slower himself. Therefore the puts
alone are measured too, also to a stub that answers after some milliseconds and costs the cores next to nothing.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path

import obstore

from bench import data, stack
from bench.measure import Side, fresh_folder, take_turns, timed_process
from bench.scale import Scale
from bench.stack import Results, Stack
from bench.table import Row, compared
from tests.support.s3 import S3, s3_server

WORKERS = 2
THREADS = 64  # of each worker, where the bucket is an object store
BOTO3_THREADS = 32
PART_BYTES = "4MiB"  # so that a file this small has parts for both workers

PUTS = "the same puts through obstore, as many processes and threads"
BARE = "obstore alone, the same bytes and connections"
SEQUENTIAL = "boto3, one after the other"
THREADED = "boto3, 32 threads"

_LOOK_SECONDS = 0.05  # Each look costs the server as much as a put.
_COMMIT_SECONDS = 240.0
_DELAYS = (5, 30)  # milliseconds
_LEAST = {PUTS: 0.9, BARE: 0.95, SEQUENTIAL: 5.0, THREADED: 5.0}
_LIMITS = {
    PUTS: "the server; ours also stores raw parts and manifests",
    BARE: "the server, or its delay",
    SEQUENTIAL: "one request at a time, signed and sent in Python",
    THREADED: "the interpreter's lock: one core signs and sends",
}


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as folder:
        yield from _compared(
            f"{scale.s3_keys:,} objects to S3",
            measure(folder, scale.s3_keys, scale.boto3_keys, scale.rounds),
            scale.s3_keys,
        )
        for place, taken in measure_puts(folder, scale.s3_keys, scale.boto3_keys, scale.rounds):
            yield from _compared(f"{scale.s3_keys:,} puts alone, {place}", taken, scale.s3_keys)


def _compared(what: str, taken: dict[str, list[float]], keys: int) -> Iterator[Row]:
    ours = taken.pop("ours")
    for rival, theirs in taken.items():
        yield compared(what, ours, rival, theirs, limit=_LIMITS[rival], least=_LEAST[rival], amount=keys)


def measure(scratch: Path, keys: int, boto3_keys: int, rounds: int) -> dict[str, list[float]]:
    """The seconds that each side takes for `keys` objects; boto3's are extrapolated from fewer."""
    pack, small_pack = scratch / "documents", scratch / "fewer-documents"
    data.write_pack(pack, data.result_lines(keys))
    data.write_pack(small_pack, islice(data.result_lines(keys), boto3_keys))
    folder = scratch / "s3"
    folder.mkdir()
    with s3_server(folder) as server, stack.running(scratch) as run:
        results = run.store(data.result_lines(keys), keys)
        prefixes = count()

        def puts(name: str, of: Path, processes: int, threads: int, times: float) -> float:
            url = f"{server.url}/rival-{next(prefixes)}/batch/outputs"  # as deep as ours
            words = ("bench.rivals_s3", name, of, url, str(processes), str(threads))
            return times * timed_process(*words, env=server.env)

        sides: dict[str, Side] = {
            "ours": partial(ours, run, server, results, WORKERS),
            PUTS: partial(puts, "obstore_puts", pack, WORKERS, THREADS, 1),
            SEQUENTIAL: partial(puts, "boto3_puts", small_pack, 1, 1, keys / boto3_keys),
            THREADED: partial(puts, "boto3_puts", small_pack, 1, BOTO3_THREADS, keys / boto3_keys),
        }
        return take_turns(sides, rounds)


def measure_puts(
    scratch: Path, keys: int, boto3_keys: int, rounds: int
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Where to, and the seconds that each side takes for `keys` puts and nothing else."""
    pack, small_pack = scratch / "puts", scratch / "fewer-puts"
    data.write_pack(pack, data.result_lines(keys))
    data.write_pack(small_pack, islice(data.result_lines(keys), boto3_keys))
    folder = scratch / "s3-of-puts"
    folder.mkdir()

    def taken(server: S3) -> dict[str, list[float]]:
        prefixes = count()

        def puts(name: str, of: Path, processes: int, threads: int, times: float) -> float:
            url = f"{server.url}/puts-{next(prefixes)}/batch/outputs"
            words = ("bench.rivals_s3", name, of, url, str(processes), str(threads))
            return times * timed_process(*words, env=server.env)

        sides: dict[str, Side] = {
            "ours": partial(puts, "our_puts", pack, WORKERS, THREADS, 1),
            BARE: partial(puts, "obstore_puts", pack, WORKERS, THREADS, 1),
            THREADED: partial(puts, "boto3_puts", small_pack, 1, BOTO3_THREADS, keys / boto3_keys),
        }
        return take_turns(sides, rounds)

    with s3_server(folder) as server:
        yield "SeaweedFS", taken(server)
    for milliseconds in _DELAYS if shutil.which("gcc") else ():
        with stub(scratch, milliseconds) as server:
            yield f"a stub that answers in {milliseconds} ms", taken(server)


@contextmanager
def stub(scratch: Path, milliseconds: float) -> Iterator[S3]:
    """A store that takes every PUT, answers after so many milliseconds, and forgets it. Needs gcc."""
    program, source = scratch / "stub", Path(__file__).with_name("stub.c")
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-o", program, source], check=True)
    with subprocess.Popen([program, str(milliseconds)], stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise AssertionError
            yield S3(endpoint=f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()


def ours(run: Stack, server: S3, results: Results, workers: int, **settings: str) -> float:
    """From the announcement to `batch.json`, by workers that are idle."""
    url = server.fresh_url()
    batch = run.new_batch(results)
    summary = f"{url.removeprefix(server.url + '/')}/{batch}/batch.json"
    store = server.raw_store()
    with run.work(workers, url, **{**server.env, "PART_BYTES": PART_BYTES, **settings}):
        began = time.perf_counter()
        run.announce(batch)
        while not _exists(store, summary):
            if time.perf_counter() - began > _COMMIT_SECONDS:
                raise TimeoutError("batch.json did not come")
            time.sleep(_LOOK_SECONDS)
        return time.perf_counter() - began


def _exists(store: obstore.store.S3Store, name: str) -> bool:
    try:
        obstore.head(store, name)
    except FileNotFoundError:
        return False
    return True
