"""`verify` of a batch, run as the command in a process of its own, with its progress as it tells it."""

import json
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any

import msgspec

from console.merged import Ref

Environment = Mapping[str, str]

_AT_ONCE = 2
_KEPT = 100


class Verification(msgspec.Struct):
    """One run. `state`: running, done or broken; `report` is what `verify --json` printed."""

    ref: Ref
    state: str
    started_at: float
    stage: str = ""
    done: int = 0
    total: int | None = None
    report: dict[str, Any] | None = None
    trouble: str | None = None


class Busy(Exception):
    """As many run as may; the message is a sentence."""


class Verifications:
    """The runs of this process, the last of each batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[Ref, Verification] = OrderedDict()
        self._processes: dict[Ref, subprocess.Popen[bytes]] = {}

    def of(self, ref: Ref) -> Verification | None:
        with self._lock:
            return self._runs.get(ref)

    def start(self, ref: Ref, environment: Environment) -> None:
        """Begin, in the environment of its project, unless one of this batch runs already. Raises `Busy`."""
        with self._lock:
            running = [run for run in self._runs.values() if run.state == "running"]
            if any(run.ref == ref for run in running):
                return
            if len(running) >= _AT_ONCE:
                raise Busy(f"{len(running)} batches are being verified already: wait for one of them.")
            run = self._begun(ref)
        name = f"verify-{ref.batch}"
        threading.Thread(target=self._run, args=(run, environment), name=name, daemon=True).start()

    def verify(self, ref: Ref, environment: Environment) -> Verification:
        """Do it here and now; what became of it."""
        with self._lock:
            run = self._begun(ref)
        self._run(run, environment)
        return run

    def stop(self, ref: Ref) -> None:
        """End the one that runs, if there is one."""
        with self._lock:
            process = self._processes.get(ref)
        if process is not None:
            process.terminate()

    def close(self) -> None:
        with self._lock:
            processes = [*self._processes.values()]
        for process in processes:
            process.terminate()

    def _begun(self, ref: Ref) -> Verification:
        run = self._runs[ref] = Verification(ref, "running", time.time())
        self._runs.move_to_end(ref)
        if len(self._runs) > _KEPT:
            self._runs.popitem(last=False)
        return run

    def _run(self, run: Verification, environment: Environment) -> None:
        # -P: no module of the working directory. By name: a room hands over to one that it does not know.
        arguments = ["-P", "-m", "receiver.cli", "verify", run.ref.batch, "--json", "--progress"]
        try:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            run.trouble, run.state = f"It can't be run: {error.strerror}.", "broken"
            return
        with self._lock:
            self._processes[run.ref] = process
        said: list[bytes] = []
        reader = threading.Thread(target=_collect, args=(process.stdout, said), daemon=True)
        reader.start()
        last = _follow(process.stderr, run)
        process.wait()
        reader.join()
        with self._lock:
            self._processes.pop(run.ref, None)
        try:
            run.report = json.loads(b"".join(said))
            run.state = "done"
        except ValueError:
            run.trouble = last.removeprefix("Error: ") or "It ended before it was done."
            run.state = "broken"


def _collect(pipe: IO[bytes] | None, said: list[bytes]) -> None:
    if pipe is not None:
        with pipe:
            said.append(pipe.read())


def _follow(pipe: IO[bytes] | None, run: Verification) -> str:
    """Note the progress as it is told; the last line that is none."""
    last = ""
    if pipe is None:
        return last
    with pipe:
        for line in pipe:
            try:
                told = json.loads(line)
                run.stage, run.done, run.total = str(told["stage"]), int(told["done"]), told["total"]
            except (ValueError, LookupError, TypeError):
                last = line.decode(errors="replace").strip() or last
    return last
