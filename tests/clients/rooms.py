"""Where a client is installed that is no dependency of ours: once a machine, in `.cache/`, each by itself."""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import ROOT

_SECONDS = 600
_ROOMS = ROOT / ".cache" / "clients"


def python_with(*requirements: str) -> str:
    """A Python that has these packages. Skips the test where they can't be had."""

    def build(room: Path) -> None:
        _run(sys.executable, "-m", "venv", str(room))
        _run(str(room / "bin" / "pip"), "install", "--quiet", *requirements)

    return str(_room(requirements, build) / "bin" / "python")


def node_folder_with(*packages: str) -> Path:
    """A folder in which Node finds these packages. Skips the test where they, or Node, can't be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")

    def build(room: Path) -> None:
        room.mkdir()
        (room / "package.json").write_text(json.dumps({"private": True}))
        _run(
            "npm", "install", "--prefix", str(room), "--ignore-scripts", "--no-audit", "--no-fund", *packages
        )

    return _room(packages, build)


def _room(contents: tuple[str, ...], build: Callable[[Path], None]) -> Path:
    """A folder that is whole once its mark is there; of several test processes one makes it."""
    room = _ROOMS / "-".join(contents).replace("/", "_").replace("=", "")
    _ROOMS.mkdir(parents=True, exist_ok=True)
    with (_ROOMS / f"{room.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (room / "whole").exists():
            shutil.rmtree(room, ignore_errors=True)
            try:
                build(room)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{', '.join(contents)} can't be installed here: {type(error).__name__}")
            (room / "whole").touch()
    return room


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True)
