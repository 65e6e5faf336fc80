"""What can be done to many batches at once: whom each action leaves alone, and what becomes of the others."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from console.merged import Ref
from console.project import Project
from console.verifications import Verifications
from workers.contract import Announcement, Outcome, Trigger
from workers.contract.forgetting import forget_all
from workers.contract.history.states import COMMITTED, UNFINISHED, BatchState

_RUNNING = frozenset({BatchState.RUNNING, BatchState.IN_PARTS})


class Action(NamedTuple):
    """`leaves`: batches in these states are left alone, since they are what `because` says.

    `outcomes` are in the words of the page; so many batches `at_once` are done without a look whether to stop.
    """

    name: str
    leaves: frozenset[BatchState]
    because: str
    about: str
    outcomes: dict[str, str]
    at_once: int = 50


_ENQUEUED = {"accepted": "enqueued", "duplicate": "waited or ran already"}

ACTIONS = {
    "replay": Action(
        "Replay",
        _RUNNING | {BatchState.ANNOUNCED},
        "wait or run already",
        "Each is enqueued again; of what is committed, nothing is done twice.",
        _ENQUEUED,
    ),
    "refetch": Action(
        "Refetch",
        _RUNNING | {BatchState.ANNOUNCED},
        "wait or run already",
        "Each is fetched from Gemini once more, and gets a new revision where something differs.",
        _ENQUEUED,
    ),
    "verify": Action(
        "Verify",
        UNFINISHED,
        "are not committed",
        "Everything of each in the bucket is read again, one batch after the other; nothing is changed.",
        {"good": "as they should be", "bad": "not as they should be", "broken": "could not be verified"},
        at_once=1,
    ),
    "forget": Action(
        "Forget",
        COMMITTED | _RUNNING | {BatchState.PENDING},
        "are committed, run, or are not finished by Gemini",
        "Jobs of each that wait or failed are removed, and what was announced of it. The bucket stays, and Gemini keeps"
        " the results as long as it does.",
        {"forgotten": "forgotten", "kept": "run by now, and were kept"},
    ),
}


def done_to(
    refs: Sequence[Ref], action: str, project: Project, verifications: Verifications
) -> Iterator[tuple[Ref, str]]:
    """Do it to batches of one project; what became of each. Raises `redis.exceptions.RedisError`."""
    match action:
        case "verify":
            for ref in refs:
                yield ref, _verified(ref, project, verifications)
        case "forget":
            running = forget_all(project.queues, [ref.batch for ref in refs])
            for ref in refs:
                yield ref, "kept" if ref.batch in running else "forgotten"
        case _:
            is_refetch = action == "refetch"
            told = [Announcement(ref.batch, Trigger.REPLAY, refetch=is_refetch) for ref in refs]
            for ref, outcome in zip(refs, project.queues.announce(told), strict=True):
                yield ref, "accepted" if outcome is Outcome.ACCEPTED else "duplicate"


def _verified(ref: Ref, project: Project, verifications: Verifications) -> str:
    run = verifications.verify(ref, project.settings.environment)
    if run.report is None:
        return "broken"
    return "good" if run.report.get("good") else "bad"
