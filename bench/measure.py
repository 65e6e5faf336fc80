"""Sides that take turns, so that whatever else the machine does meets all of them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT

_SECONDS = 300

Side = Callable[[], float]


@contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """A new folder, gone afterwards: a file system is slower in one that was just emptied."""
    folder = Path(tempfile.mkdtemp(prefix="side-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def take_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """What each side says that it took, in seconds, one entry a round. Every disk is synced before each turn."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        # Every second round goes backwards, so that nobody always runs after the same neighbour.
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            os.sync()
            taken[name].append(sides[name]())
    return taken


def timed_process(*command: str | Path, env: Mapping[str, str] | None = None) -> float:
    """The seconds that a process says its work took, its start and imports left out.

    `bench.…` as the first word is a module of ours.
    """
    arguments = [str(each) for each in command]
    if arguments[0].startswith("bench."):
        arguments = [sys.executable, "-m", *arguments]
    ended = subprocess.run(
        arguments,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **(env or {})},
        stdout=subprocess.PIPE,
        timeout=_SECONDS,
        check=True,
    )
    return float(ended.stdout)
