"""Objects to S3, against the same puts with nothing around them, and against boto3.

The server is SeaweedFS on the same two cores, so it is what limits whoever is not slower himself.
"""

import time
from collections.abc import Iterator
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
THREADS = 32  # of each worker, where the bucket is an object store
PART_BYTES = "4MiB"  # so that a file this small has parts for both workers

PUTS = "the same puts through obstore, as many processes and threads"
SEQUENTIAL = "boto3, one after the other"
THREADED = "boto3, 32 threads"

_LOOK_SECONDS = 0.05  # Each look costs the server as much as a put.
_COMMIT_SECONDS = 240.0
_LEAST = {PUTS: 0.9, SEQUENTIAL: 5.0, THREADED: 5.0}
_LIMITS = {
    PUTS: "the server; ours also stores raw parts and manifests",
    SEQUENTIAL: "one request at a time, signed and sent in Python",
    THREADED: "the interpreter's lock: one core signs and sends",
}


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as folder:
        taken = measure(folder, scale.s3_keys, scale.boto3_keys, scale.rounds)
    what = f"{scale.s3_keys:,} objects to S3"
    ours = taken.pop("ours")
    for rival, theirs in taken.items():
        yield compared(
            what, ours, rival, theirs, limit=_LIMITS[rival], least=_LEAST[rival], amount=scale.s3_keys
        )


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
            THREADED: partial(puts, "boto3_puts", small_pack, 1, THREADS, keys / boto3_keys),
        }
        return take_turns(sides, rounds)


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
