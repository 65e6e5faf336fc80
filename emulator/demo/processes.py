"""The demo's processes: real ones, each with a log of its own, that end with it however it ends."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
_PACKAGES = Path(__file__).resolve().parents[1]
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Broken(RuntimeError):
    """Something is not as it should be, in one sentence or several. `log`: where a process said why."""

    def __init__(self, *sentences: str, log: Path | None = None) -> None:
        super().__init__(*sentences)
        self.log = log


class Child:
    """A running process that is called `name` in sentences."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def said(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace"))


class Processes:
    """Starts processes in `folder`, with nothing of the user's own settings; `tick` is called while it waits."""

    def __init__(self, folder: Path, tick: Callable[[], None]) -> None:
        self._folder = folder
        self._tick = tick
        self._children: list[Child] = []

    def start(self, name: str, command: list[str], settings: Mapping[str, str] | None = None) -> Child:
        """Start a command; its output goes to `<name>.log`."""
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        log = self._folder / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self._folder,  # and so out of reach of a .env file.
                env={**inherited, "PYTHONPATH": str(_PACKAGES), "LOG_FORMAT": "text", **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is for the demo, which ends the others in order.
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # there are no threads yet.
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def start_product(self, name: str, *arguments: str, settings: Mapping[str, str] | None = None) -> Child:
        """Start `batch-receiver <arguments>`."""
        return self.start(name, [sys.executable, "-m", "receiver.cli", *arguments], settings)

    def wait_until_said(self, child: Child, pattern: str) -> re.Match[str]:
        """The first match in the child's output.

        Raises:
            Broken: it ended before, or took too long.
        """
        for _ in self.polls(_START_SECONDS):
            found = child.said(pattern)
            if found:
                return found
            if child.process.poll() is not None:
                raise Broken(f"The {child.name} ended before it was ready.", log=child.log)
        raise Broken(f"The {child.name} was not ready within {_START_SECONDS:.0f} seconds.", log=child.log)

    def wait_for_success(self, child: Child) -> None:
        """Until the child has ended well.

        Raises:
            Broken: it ended otherwise, or took too long.
        """
        for _ in self.polls(_START_SECONDS):
            if child.process.poll() == 0:
                self._children.remove(child)
                return
            if child.process.returncode is not None:
                raise Broken(f"The {child.name} failed.", log=child.log)
        raise Broken(f"The {child.name} took longer than {_START_SECONDS:.0f} seconds.", log=child.log)

    def polls(self, seconds: float) -> Iterator[None]:
        """Turns of a loop that waits for something, until the seconds are over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield
            self._tick()
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raises Broken if one of them has ended."""
        for child in self._children:
            if child.process.poll() is not None:
                raise Broken(f"The {child.name} ended unexpectedly.", log=child.log)

    def stop(self) -> None:
        """End them, the last started first: who needs another is gone before it."""
        while self._children:
            process = self._children.pop().process
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end_with_parent() -> None:
    """Even a killed demo leaves nothing behind (on Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
