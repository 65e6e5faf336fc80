"""A dataset alone: one Parquet file a part instead of an object a key, against the documentation's loop."""

from collections.abc import Iterator
from functools import partial

from bench import data, folder, stack
from bench.measure import Place, Side, fresh_folder, take_turns
from bench.scale import Scale
from bench.table import Row, compared


def rows(scale: Scale) -> Iterator[Row]:
    with fresh_folder(scale.disk) as scratch:
        taken = measure(Place(scratch, keeps=True), scale.folder_keys, scale.rounds)
    yield compared(
        f"{scale.folder_keys:,} results as parquet, disk",
        taken["ours"],
        folder.DOCUMENTATION,
        taken[folder.DOCUMENTATION],
        limit="CPU: parsing twice, hashing, zstd; they: json and file creation",
        least=8.0,
    )


def measure(place: Place, keys: int, rounds: int) -> dict[str, list[float]]:
    with stack.running(place.root) as run:
        results = run.store(data.result_lines(keys), keys)
        loop = ("bench.rivals", "documentation_loop", results.file)
        sides: dict[str, Side] = {
            "ours": partial(folder.ours, run, results, place, folder.WORKERS, OUTPUTS="parquet"),
            folder.DOCUMENTATION: partial(folder.in_fresh_folder, place, run.gemini.env, *loop),
        }
        return take_turns(sides, rounds)
