"""All checks at once, each within its deadline; what breaks or never ends stops no other."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from time import monotonic
from typing import NamedTuple

from console.doctor.check import Check, Finding, Status, failed
from console.doctor.fact import CannotTell
from console.doctor.place import Place

DEADLINE_SECONDS = 25.0


class Examination(NamedTuple):
    """`look` is called in a thread of its own; `acts`: it puts something down, or has something sent."""

    name: str
    look: Callable[[Place], Finding]
    acts: bool = False


def run(
    examinations: Iterable[Examination], place: Place, seconds: float = DEADLINE_SECONDS
) -> Iterator[Check]:
    """Every check in the order given, each as soon as it and those before it are done."""
    deadline = monotonic() + seconds
    begun = [(each, _begin(each, place)) for each in examinations]
    for examination, future in begun:
        try:
            finding = future.result(max(0.0, deadline - monotonic()))
        except NotInTime:
            finding = failed(f"No answer within {seconds:g} seconds.")
        yield Check(
            examination.name, finding.status, place.masked(finding.message), place.masked(finding.fix)
        )


def _begin(examination: Examination, place: Place) -> "Future[Finding]":
    future: Future[Finding] = Future()

    def look() -> None:
        try:
            future.set_result(examination.look(place))
        except CannotTell as reason:
            future.set_result(Finding(Status.SKIPPED, str(reason)))
        # A panic inside a library is no Exception, and no more than a failed check either. Its text may hold a secret.
        except BaseException as error:  # noqa: BLE001
            future.set_result(failed(f"The check itself broke ({type(error).__name__}): please report it."))

    # A daemon: one that never ends must not keep the process.
    threading.Thread(target=look, name=examination.name, daemon=True).start()
    return future
