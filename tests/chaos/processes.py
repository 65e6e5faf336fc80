"""The processes of a run: Redis, the local Gemini, the receiver and a pool of workers, started and ended by id."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from emulator.demo.local_redis import free_port, start_redis
from tests.support.processes import Process


class RedisServer:
    """A redis-server that keeps its append-only file, and its port, when it is killed.

    With `appendfsync always` what was acknowledged is on the disk, so a run can ask that nothing is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers."""
        self._process = start_redis(
            self._folder, self._port, "--appendonly", "yes", "--appendfsync", "always"
        )

    def end(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works in a pool at a moment, by process id."""

    workers: list[int]
    horses: list[int]
    schedulers: list[int]
    busy: list[int]


def crew(pool: Process, redis_url: str | None = None) -> Crew:
    """A work-horse leads a process group of its own; RQ's scheduler stays in that of its worker.

    A horse that is free waits for the next job: with `redis_url` only those count whose workers say that they are busy.
    """
    found = Crew([], [], [], [])
    busy = None if redis_url is None else _busy(redis_url)
    for worker in _children(pool.pid):
        found.workers.append(worker.pid)
        for child in _children(worker.pid):
            try:
                leads = os.getpgid(child.pid) == child.pid
            except ProcessLookupError:
                continue
            if not leads:
                found.schedulers.append(child.pid)
            elif busy is None or worker.pid in busy:
                found.horses.append(child.pid)
                found.busy.append(worker.pid)
    return found


def _busy(redis_url: str) -> set[int]:
    """The process ids of workers with a job, as far as Redis can be asked."""
    found = set()
    with redis.Redis.from_url(redis_url) as connection, suppress(redis.RedisError):
        for key in connection.smembers("rq:workers"):
            pid, state = connection.hmget(key, "pid", "state")
            if pid and state == b"busy":
                found.add(int(pid))
    return found


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 for one that has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def kill(pid: int) -> bool:
    """SIGKILL for a process of ours; whether it was still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def still_running(mark: str) -> list[int]:
    """The processes whose environment has `mark` in it, such as the name of a test's folder."""
    return sorted(_marked(mark))


def _marked(mark: str) -> Iterator[int]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and mark in str(process.environ()):
                yield process.pid
        except psutil.Error:
            continue


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children())
    except psutil.Error:
        return []
