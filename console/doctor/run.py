"""All checks at once, each within its deadline; what breaks or never ends stops no other."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from time import monotonic
from typing import NamedTuple

from console.doctor.check import Check, Finding, Status, failed
from console.doctor.fact import CannotTell
from console.doctor.place import Place

DEADLINE_SECONDS = 25.0


class Examination(NamedTuple):
    """`look` is called in a thread of its own; `acts`: it puts something down, or has something sent.

    `of_all`: it is the same for all projects.
    """

    name: str
    look: Callable[[Place], Finding]
    acts: bool = False
    of_all: bool = False


def planned(
    examinations: Iterable[Examination], places: Sequence[Place]
) -> list[tuple[str, Examination, Place]]:
    """What is looked at, and where: with several projects first what they share, then each with its name."""
    examinations = [*examinations]
    if len(places) == 1:
        return [(each.name, each, places[0]) for each in examinations]
    return [(each.name, each, places[0]) for each in examinations if each.of_all] + [
        (f"{place.project}: {each.name}", each, place)
        for place in places
        for each in examinations
        if not each.of_all
    ]


def run(
    examinations: Iterable[Examination], places: Sequence[Place], seconds: float = DEADLINE_SECONDS
) -> Iterator[Check]:
    """Every check in the order given, each as soon as it and those before it are done; one place for each project."""
    deadline = monotonic() + seconds
    begun = [(name, place, _begin(each, place)) for name, each, place in planned(examinations, places)]
    for name, place, future in begun:
        try:
            finding = future.result(max(0.0, deadline - monotonic()))
        except NotInTime:
            finding = failed(f"No answer within {seconds:g} seconds.")
        yield Check(name, finding.status, place.masked(finding.message), place.masked(finding.fix))


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
