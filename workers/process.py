"""The story of one batch: ask Gemini, decide, store its parts, have them fanned out, commit.

It knows nothing of queues: `Dispatch` says how parts and the last step are brought on.
"""

import fnmatch
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from workers import commit, parts
from workers.bucket.protocol import Bucket
from workers.contract import Announced, Trigger
from workers.errors import NotReady, Transient, WorkerError
from workers.fanout import fan_out, read_tally
from workers.gemini.batches import Batch, State, timestamp
from workers.gemini.client import Gemini
from workers.parts import Part
from workers.plan import Plan, plan_of, read_plan, write_plan
from workers.sources import Source, source_of

# Gemini shows an output some time after the state. A cancelled batch may also have none at all, for ever.
LATE_OUTPUT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Tools:
    """What every step works with."""

    gemini: Gemini
    bucket: Bucket
    outputs: frozenset[str]
    part_bytes: int
    display_name: str = "*"
    reenable_webhooks: bool = False

    def wants(self, batch: Batch) -> bool:
        """Whether a batch of this display name is ours to process."""
        return fnmatch.fnmatchcase(batch.display_name or "", self.display_name)


class Dispatch(Protocol):
    """How the steps after the splitter are brought on: as jobs, or here and now."""

    def part(self, batch: str, number: int) -> None: ...

    def finish(self, batch: str) -> None: ...


class Result(StrEnum):
    """How a look at a batch ended."""

    COMMITTED = "committed"
    ALREADY_COMMITTED = "already committed"
    IN_PARTS = "in parts"
    LEFT_ALONE = "left alone"


def process(tools: Tools, dispatch: Dispatch, batch: str, said: Announced) -> Result:
    """Look at one batch and do what is left to do for it.

    Raises:
        NotReady: not final yet, or final without its output.
        Unreadable: this key can't read it.
        Transient, Permanent: from Gemini or the bucket.
    """
    committed = commit.read_summary(tools.bucket, batch)
    if committed and committed.state is State.SUCCEEDED:
        commit.tidy(tools.bucket, committed)
        return Result.ALREADY_COMMITTED
    seen = tools.gemini.batch(batch)
    if not tools.wants(seen):
        return Result.LEFT_ALONE
    if not seen.final:
        raise NotReady(f"Gemini says that the batch is {seen.state_name}.")
    source = source_of(seen, tools.gemini) if seen.state in {State.SUCCEEDED, State.CANCELLED} else None
    if seen.state is State.SUCCEEDED and source is None:
        raise NotReady("Gemini says that the batch succeeded, but has no output of it yet.")
    if source is None and _output_may_come(seen):
        raise NotReady("Gemini counts results of the cancelled batch, but has no output of it yet.")
    if committed and committed.state is seen.state:
        commit.tidy(tools.bucket, committed)
        return Result.ALREADY_COMMITTED
    plan = _plan(tools.bucket, seen, said)
    if source is None:
        commit.commit_without_results(tools.bucket, plan)
        return Result.COMMITTED
    write_plan(tools.bucket, plan)
    try:
        return _bring_on(tools, dispatch, batch, source)
    except WorkerError:
        if _is_done(tools.bucket, batch):
            # By another worker, whose tidying up took away what this one was working on.
            return Result.ALREADY_COMMITTED
        raise


def _output_may_come(seen: Batch) -> bool:
    """Whether a cancelled batch without output is too young to be taken for one that has none."""
    ended = timestamp(seen.ended_at)
    return (
        seen.state is State.CANCELLED
        and bool(seen.succeeded_results)
        and ended is not None
        and time.time() - ended < LATE_OUTPUT_SECONDS
    )


def fan_out_part(tools: Tools, batch: str, number: int) -> bool:
    """Fan one part out; whether all parts of the batch are done now, so that the last step can be brought on."""
    part = parts.read_part(tools.bucket, batch, number)
    if part is None:
        # Committed and tidied up by now, or started over because the source changed.
        return False
    fan_out(tools.bucket, batch, part, tools.outputs)
    if parts.all_done(tools.bucket, batch):
        return True
    # Where another worker has committed the batch meanwhile, what was just written to `_work/` is in the way.
    _is_done(tools.bucket, batch)
    return False


def _is_done(bucket: Bucket, batch: str) -> bool:
    """Whether the batch is committed as succeeded; if so, nothing of it stays in `_work/`."""
    committed = commit.read_summary(bucket, batch)
    if committed is None or committed.state is not State.SUCCEEDED:
        return False
    commit.tidy(bucket, committed)
    return True


def _bring_on(tools: Tools, dispatch: Dispatch, batch: str, source: Source) -> Result:
    """Split the source and hand out its parts. A batch of one part is fanned out and committed here."""
    only: Part | None = None
    handed_out = False
    for part, is_whole in parts.split(tools.bucket, batch, source, tools.part_bytes):
        if is_whole:
            only = part
        else:
            _hand_out(tools, dispatch, batch, part)
            handed_out = True
    if handed_out:
        if parts.all_done(tools.bucket, batch):
            dispatch.finish(batch)
        return Result.IN_PARTS
    if only is not None:
        fan_out(tools.bucket, batch, only, tools.outputs)
    if commit.finish(tools.bucket, batch) is None:
        raise Transient("The batch changed while it was committed; it is looked at again.")
    return Result.COMMITTED


def _hand_out(tools: Tools, dispatch: Dispatch, batch: str, part: Part) -> None:
    if read_tally(tools.bucket, batch, part) is None:
        dispatch.part(batch, part.number)


def _plan(bucket: Bucket, seen: Batch, said: Announced) -> Plan:
    """What will stand in `batch.json`; what an earlier announcement brought is kept."""
    trigger, metadata = said.strongest, _json(said.user_metadata)
    earlier = read_plan(bucket, seen.id)
    if earlier is not None:
        trigger = max(trigger, earlier.trigger, key=list(Trigger).index)
        metadata = earlier.user_metadata if metadata is None else metadata
    return plan_of(seen, trigger, metadata)


def _json(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text) if text is not None else None
    except (msgspec.MsgspecError, RecursionError):
        return None
