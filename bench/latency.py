"""A small batch from webhook to `batch.json`, through the receiver, workers idle."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import httpx

from bench import data, folder, stack
from bench.measure import Place, fresh_folder
from bench.scale import Scale
from bench.stack import SECRET, post, signed, wait
from bench.table import Row
from emulator.signing import sign_v1

KEYS = 10
MOST_SECONDS = 0.150


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as scratch:
        ours, theirs = measure(scratch, scale.latency_batches, scale.rounds)
    taken, their = median(ours), median(theirs)
    yield Row(
        what=f"{KEYS} keys, from webhook to batch.json, median of {len(ours)}",
        ours=f"{taken * 1000:.0f} ms",
        rival=f"{folder.DOCUMENTATION}, once it knows",
        theirs=f"{their * 1000:.0f} ms",
        ratio=their / taken,
        target=f"< {MOST_SECONDS * 1000:.0f} ms",
        met=taken < MOST_SECONDS,
        limit="two looks at Gemini, Redis, fsync of what proves something",
    )


def measure(scratch: Path, batches: int, rounds: int) -> tuple[list[float], list[float]]:
    root = scratch / "bucket"
    with (
        stack.running(scratch) as run,
        run.work(2, root.as_uri()),
        run.serve() as (url, _),
        httpx.Client(trust_env=False) as client,
    ):
        results = run.store(data.result_lines(KEYS), KEYS)
        loop = ("bench.rivals", "documentation_loop", results.file)
        theirs = [folder.in_fresh_folder(Place(scratch), run.gemini.env, *loop) for _ in range(rounds)]
        ours = []
        for _ in range(batches):
            batch = run.new_batch(results)
            event = signed(batch, partial(sign_v1, SECRET))
            summary = root / batch / "batch.json"
            began = time.perf_counter()
            post(client, url, event)
            wait(summary.exists, "batch.json")
            ours.append(time.perf_counter() - began)
            stack.wait_until_tidy(root.as_uri(), batch)
    return ours, theirs
