"""`doctor` as a page: its last run in this process, check by check."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from console.doctor.check import Check, Status
from console.doctor.examinations import EXAMINATIONS
from console.doctor.place import Place
from console.doctor.run import Examination, planned, run

STALE_SECONDS = 300.0


class Diagnosed(msgspec.Struct, frozen=True):
    """`whole`: also what acts was checked: the probe of the bucket, the test event, the public address."""

    running: bool
    ran_at: float | None
    whole: bool
    checks: list[Check]
    expected: int

    @property
    def ok(self) -> bool:
        return all(check.status is not Status.FAILED for check in self.checks)


class Diagnoses:
    """One run at a time."""

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self._environments = [dict(each) for each in environments]
        self._lock = threading.Lock()
        self._checks: list[Check] = []
        self._running = False
        self._whole = False
        self._ran_at: float | None = None

    def last(self) -> Diagnosed:
        with self._lock:
            expected = len(planned(_chosen(whole=self._whole), self._new_places()))
            return Diagnosed(self._running, self._ran_at, self._whole, [*self._checks], expected)

    def refresh(self) -> None:
        """Look once more where the last run is old; nothing acts."""
        last = self.last()
        if not last.running and (last.ran_at is None or time.time() - last.ran_at > STALE_SECONDS):
            self.start(whole=False)

    def start(self, *, whole: bool) -> None:
        """Begin a run, unless one is under way. `whole`: with the checks that act."""
        with self._lock:
            if self._running:
                return
            self._running, self._whole, self._ran_at, self._checks = True, whole, time.time(), []
        threading.Thread(target=self._run, args=(whole,), name="checks", daemon=True).start()

    def _new_places(self) -> list[Place]:
        return [Place(each, Path.cwd()) for each in self._environments]

    def _run(self, whole: bool) -> None:
        try:
            with ExitStack() as stack:
                places = [stack.enter_context(closing(place)) for place in self._new_places()]
                for check in run(_chosen(whole=whole), places):
                    with self._lock:
                        self._checks.append(check)
        finally:
            with self._lock:
                self._running = False


def _chosen(*, whole: bool) -> list[Examination]:
    return [each for each in EXAMINATIONS if whole or not each.acts]
