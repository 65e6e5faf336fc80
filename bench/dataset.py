"""A dataset alone: one Parquet file a part instead of an object a key, against the documentation's loop."""

import importlib.util
from collections.abc import Iterator
from functools import partial

from bench import data, folder, stack
from bench.measure import Place, Side, fresh_folder, take_turns
from bench.scale import Scale
from bench.table import Row, compared

DUCKDB = "one COPY of DuckDB, from the downloaded file"


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as scratch:
        taken = measure(Place(scratch, keeps=True), scale.folder_keys, scale.rounds)
    for rival, least, limit in (
        (folder.DOCUMENTATION, 8.0, "CPU: parsing twice, hashing, zstd; they: json and file creation"),
        (DUCKDB, 1.3, "CPU: both of ours; they parse once and hash nothing"),
    ):
        if rival in taken:
            yield compared(
                f"{scale.folder_keys:,} results as parquet, disk",
                taken[folder.OURS],
                rival,
                taken[rival],
                limit=limit,
                least=least,
            )


def measure(place: Place, keys: int, rounds: int) -> dict[str, list[float]]:
    with stack.running(place.root) as run:
        results = run.store(data.result_lines(keys), keys)
        loop = ("bench.rivals", "documentation_loop", results.file)
        sides: dict[str, Side] = {
            folder.OURS: partial(folder.ours, run, results, place, folder.WORKERS, OUTPUTS="parquet"),
            folder.DOCUMENTATION: partial(folder.in_fresh_folder, place, run.gemini.env, *loop),
        }
        if importlib.util.find_spec("duckdb"):
            copy = ("bench.rivals", "duckdb_copy", results.file)
            sides[DUCKDB] = partial(folder.in_fresh_folder, place, run.gemini.env, *copy)
        return take_turns(sides, rounds)
