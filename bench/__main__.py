"""`python -m bench`: one table, each row a ratio against a rival that was measured in the same run."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from bench import acknowledge, dataset, folder, latency, memory, s3, scaling, small
from bench.scale import Scale, quick
from bench.table import Row, save, show

SECTIONS: dict[str, Callable[[Scale], Iterator[Row]]] = {
    "folder": folder.rows,
    "s3": s3.rows,
    "dataset": dataset.rows,
    "scaling": scaling.rows,
    "memory": memory.rows,
    "latency": latency.rows,
    "small": small.rows,
    "acknowledge": acknowledge.rows,
}

_RAM = Path("/dev/shm")
_WIDEST = 200


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run under a minute, on little data")
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        metavar="NAME",
        help=f"of {', '.join(SECTIONS)}; repeatable",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args()
    console = Console(width=None if os.isatty(1) else _WIDEST)
    progress = Console(stderr=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as disk:
        ram = _RAM if os.access(_RAM, os.W_OK) else None
        scale = quick(Path(disk), ram) if options.quick else Scale(Path(disk), ram)
        try:
            for name in options.only or SECTIONS:
                began = time.monotonic()
                for row in SECTIONS[name](scale):
                    rows.append(row)  # noqa: PERF402 - what was measured before an error is shown
                progress.print(f"{name}: {time.monotonic() - began:.0f} s")
        finally:
            show(rows, console)
    if options.json:
        save(rows, options.json)


if __name__ == "__main__":
    main()
