"""Sides that take turns, so that whatever else the machine does meets all of them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

_PROCESS_SECONDS = 300
_ROUNDS_SECONDS = 60

Side = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where sides write, each into a folder of its own.

    `keeps`: what they wrote stays until the last of them has ended. ext4 searches long for inodes where many were
    freed shortly before (44 s for 100,000 files instead of 4 s), which would hit whoever comes next.
    """

    root: Path
    keeps: bool = False

    @contextmanager
    def folder(self) -> Iterator[Path]:
        if self.keeps:
            yield Path(tempfile.mkdtemp(prefix="side-", dir=self.root))
        else:
            with fresh_folder(self.root) as new:
                yield new


@contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """A new folder, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="side-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def take_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """What each side says that it took, in seconds, one entry a round. Every disk is synced before each turn.

    On a slow machine there are fewer rounds: none begins after `_ROUNDS_SECONDS`.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    began = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - began > _ROUNDS_SECONDS:
            break
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
        timeout=_PROCESS_SECONDS,
        check=True,
    )
    return float(ended.stdout)
