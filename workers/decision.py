"""What comes next for a batch: one pure decision over facts. Read this first, then `process` and `jobs`.

    what stands in the bucket                          what comes next
    ─────────────────────────────────────────────────  ─────────────────────────────────
    a commit that nothing may replace                  Nothing (tidy up)
    plan and split: everything is in raw/
        some parts are not fanned out                  FanOut, of these
        all are                                        Finish
    neither; Gemini has not been asked                 Look
    Gemini has been asked, and the batch is
        of a display name that is not ours             Leave
        not final, or final without its output         Wait
        no reason to replace the commit there is       Nothing
        final, and has no results                      Close
        final, and names its results                   Fetch

Every job ends by acting on it, and `batch-receiver process` is a loop over it. Facts that can't be read count as
absent, but for `batch.json` itself, which is told of and left alone.
"""

import time
from dataclasses import dataclass

from workers.gemini.batches import State, timestamp
from workers.parts import Split
from workers.plan import Plan
from workers.summary import Summary, gives_way

# Gemini shows an output some time after the state. A cancelled batch may also have none at all, for ever.
LATE_OUTPUT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Seen:
    """What Gemini says of a batch: its state, also in its own words.

    `is_ours`: its display name is one of those that this deployment processes. `counts_results`: some succeeded.
    """

    state: State
    said: str
    is_final: bool
    is_ours: bool
    has_output: bool
    ended_at: str | None = None
    counts_results: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a batch. `lacking`: parts of the split that are not fanned out, all of them or the first few.

    `seen` is None while Gemini has not been asked. `refetch`: somebody wants a commit with results fetched once more.
    """

    summary: Summary | None = None
    plan: Plan | None = None
    split: Split | None = None
    lacking: tuple[int, ...] = ()
    seen: Seen | None = None
    refetch: bool = False

    @property
    def replaces(self) -> bool:
        """Whether work has begun on what is to take the place of the commit there is."""
        if self.plan is None:
            return False
        return gives_way(self.summary, self.plan.state, has_results=True, refetches=self.plan.refetches)


@dataclass(frozen=True, slots=True)
class Nothing:
    """What is committed is final as far as anybody knows: what may be left in `_work/` goes."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask Gemini."""


@dataclass(frozen=True, slots=True)
class Leave:
    """It is not ours to process."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """Commit it as a batch without results."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the results into `raw/`."""


@dataclass(frozen=True, slots=True)
class FanOut:
    """Fan these parts out."""

    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Join what the parts became, and commit."""


Step = Nothing | Look | Leave | Wait | Close | Fetch | FanOut | Finish


def next_step(facts: Facts, now: float | None = None) -> Step:
    """The next step for a batch, from whatever is known of it. `now`: seconds since 1970."""
    if facts.replaces and facts.split is not None:  # All of it is in raw/: nobody need be asked.
        return FanOut(facts.lacking) if facts.lacking else Finish()
    if facts.summary and facts.summary.state is State.SUCCEEDED and not _is_refetched(facts):
        return Nothing()
    if facts.seen is None:
        return Look()
    return _after_look(facts, facts.seen, time.time() if now is None else now)


def _is_refetched(facts: Facts) -> bool:
    """Whether somebody wants the standing commit fetched once more, or that has begun."""
    begun = (
        facts.plan is not None
        and facts.summary is not None
        and facts.plan.refetches == facts.summary.revision
    )
    return facts.refetch or begun


def _after_look(facts: Facts, seen: Seen, now: float) -> Step:
    if not seen.is_ours:
        return Leave()
    if not seen.is_final:
        return Wait(f"Gemini says that the batch is {seen.said}.")
    if seen.state is State.SUCCEEDED and not seen.has_output:
        return Wait("Gemini says that the batch succeeded, but has no output of it yet.")
    refetches = facts.summary.revision if facts.summary and _is_refetched(facts) else None
    if not seen.has_output and facts.summary is None and _output_may_come(seen, now):
        return Wait(f"Gemini counts results of the {seen.said} batch, but has no output of it yet.")
    if not gives_way(facts.summary, seen.state, has_results=seen.has_output, refetches=refetches):
        return Nothing()
    return Fetch() if seen.has_output else Close()


def _output_may_come(seen: Seen, now: float) -> bool:
    """Whether a batch without output is too young to be taken for one that has none."""
    ended = timestamp(seen.ended_at)
    return (
        seen.state is State.CANCELLED
        and seen.counts_results
        and ended is not None
        and now - ended < LATE_OUTPUT_SECONDS
    )
