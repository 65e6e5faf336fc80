"""A work-horse for many jobs, one after the other, so that a small one pays for no fork and no new connections.

RQ forks one for each job. Here, too, the worker takes every job out of Redis, watches over it and settles what a killed
horse leaves behind; but it tells the horse that there is already which job is next, and is told when it has ended.
A horse goes on only after jobs that ended well, and not for ever, so that nothing piles up.
"""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

MOST_JOBS = 1000
MOST_SECONDS = 600.0
MOST_BYTES = 256 << 20  # In memory at the worst moment so far.
IDLE_SECONDS = 60.0  # Networks forget connections that were silent for some minutes.

_DONE = b"+"
# Linux counts in KiB, macOS in bytes.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


class Horse:
    """A work-horse as its worker sees it: it has one job, or is free."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line
        self._freed = time.monotonic()
        self._has_worked = False

    @classmethod
    def fork(cls, work: Callable[[Iterator[str]], None]) -> Self:
        """A new one. There `work` is given its jobs, and asks for the next only where the last has ended well."""
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid:
            its.close()
            return cls(pid, ours)
        status = 1
        try:
            os.setpgrp()
            ours.close()
            work(_jobs(its))
            status = os.EX_OK
        finally:
            os._exit(status)

    def take(self, job: str) -> bool:
        """Give it its next job, a text without line ends; False where it is gone."""
        try:
            if self._has_worked:
                self._line.recv(len(_DONE))
            self._line.sendall(f"{job}\n".encode())
        except ConnectionError:
            return False
        self._has_worked = True
        return True

    def is_done(self) -> bool:
        """Wait for the end of its job: True where it is free again, False where it is gone.

        An exception out of a signal handler may interrupt it; then it can be asked again.
        """
        with suppress(OSError):
            if self._line.recv(len(_DONE), socket.MSG_PEEK) == _DONE:
                self._freed = time.monotonic()
                return True
        self._line.close()
        return False

    def is_bored(self) -> bool:
        """Whether it has been free for long."""
        return time.monotonic() - self._freed > IDLE_SECONDS

    def end(self) -> None:
        """At once, whatever it does."""
        self._line.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _jobs(line: socket.socket) -> Iterator[str]:
    """In the horse: what it is told, until its worker ends it or it has done enough."""
    began = time.monotonic()
    with line.makefile(encoding="utf-8") as told:
        for number, job in enumerate(told, 1):
            yield job.removesuffix("\n")
            if number >= MOST_JOBS or time.monotonic() - began > MOST_SECONDS or _peak() > MOST_BYTES:
                return
            line.sendall(_DONE)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
