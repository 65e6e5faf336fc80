"""Objects to a folder, with two workers against one process of everybody else's, and against the bare writing."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import data, stack
from bench.measure import Place, Side, fresh_folder, take_turns, timed_process
from bench.scale import Scale
from bench.stack import Results, Stack
from bench.table import Row, compared

WORKERS = 2  # each writes its files itself, so it is as many threads too

OURS = "ours"
ONE_WORKER = "ours, one worker"
DOCUMENTATION = "the documentation's loop (google-genai)"
STREAMING = "streaming loop (httpx, orjson)"
SPLIT = "split -l 1 of the downloaded file"
BARE = "bare Python writes, as many threads"
BARE_PROCESSES = "bare Python writes, as many processes"
C_LOOP = "C writes, as many processes"

_DISK_LEAST = {DOCUMENTATION: 2.5, BARE: 0.8, ONE_WORKER: 1.0}
_RAM_LEAST = {DOCUMENTATION: 4.0, BARE: 0.8, ONE_WORKER: 1.0}
_LIMITS = {
    ONE_WORKER: "the same CPU and file creation: there must be no loss",
    DOCUMENTATION: "one core: json.loads and json.dump of every line",
    STREAMING: "one core: dicts of every line, and one file at a time",
    SPLIT: "file creation, by one process",
    BARE: "file creation, and the interpreter's lock around it",
    BARE_PROCESSES: "file creation; ours also downloads, hashes, parses and syncs",
    C_LOOP: "the kernel's file creation alone: the limit",
}


def rows(scale: Scale) -> Iterator[Row]:
    for where, parent, least in (
        ("disk", scale.disk, _DISK_LEAST),
        ("RAM disk", scale.ram, _RAM_LEAST),
    ):
        if parent is None:
            continue
        with fresh_folder(parent) as folder:
            taken = measure(Place(folder, keeps=parent is scale.disk), scale.folder_keys, scale.rounds)
        what = f"{scale.folder_keys:,} objects to a folder, {where}"
        for rival, theirs in taken.items():
            if rival != OURS:
                yield compared(what, taken[OURS], rival, theirs, limit=_LIMITS[rival], least=least.get(rival))


def measure(place: Place, keys: int, rounds: int) -> dict[str, list[float]]:
    """The seconds of each side."""
    source, pack = place.root / "source.jsonl", place.root / "documents"
    data.write_file(source, data.result_lines(keys))
    data.write_pack(pack, data.result_lines(keys))
    with stack.running(place.root) as run:
        results = run.store(data.result_lines(keys), keys)
        sides: dict[str, Side] = {
            OURS: partial(ours, run, results, place, WORKERS),
            ONE_WORKER: partial(ours, run, results, place, 1),
            **rivals(run, results, place, source, pack),
        }
        return take_turns(sides, rounds)


def ours(run: Stack, results: Results, place: Place, workers: int, **settings: str) -> float:
    """From the announcement to `batch.json`, by workers that are idle."""
    batch = run.new_batch(results)
    with place.folder() as bucket, run.work(workers, bucket.as_uri(), **settings):
        seconds = run.seconds_to_commit(bucket.as_uri(), batch)
        stack.wait_until_tidy(bucket.as_uri(), batch)
    return seconds


def rivals(run: Stack, results: Results, place: Place, source: Path, pack: Path) -> dict[str, Side]:
    """Those that this machine has the tools for."""
    loop = partial(in_fresh_folder, place, run.gemini.env, "bench.rivals")
    sides: dict[str, Side] = {
        DOCUMENTATION: partial(loop, "documentation_loop", results.file),
        STREAMING: partial(loop, "streaming_loop", results.file),
        BARE: partial(loop, "bare_writes", pack, after=("1", str(WORKERS))),
        BARE_PROCESSES: partial(loop, "bare_writes", pack, after=(str(WORKERS), "1")),
    }
    if shutil.which("split"):
        sides[SPLIT] = partial(split, place, source)
    if shutil.which("gcc"):
        program = compiled(place.root)
        sides[C_LOOP] = partial(in_fresh_folder, place, {}, program, pack, after=(str(WORKERS),))
    return sides


def compiled(scratch: Path) -> Path:
    """The C loop."""
    program = scratch / "writer"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name("writer.c")], check=True)
    return program


def in_fresh_folder(
    place: Place, env: dict[str, str], *command: str | Path, after: tuple[str, ...] = ()
) -> float:
    """Run a program that is told a new folder after its `command` words and says what it took."""
    with place.folder() as folder:
        return timed_process(*command, folder, *after, env=env)


def split(place: Place, source: Path) -> float:
    """GNU split says nothing, so its start of about a millisecond counts."""
    with place.folder() as folder:
        return timed_process("bench.timed", "split", "-l", "1", "-a", "7", "-d", source, f"{folder}/")
