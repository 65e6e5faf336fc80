"""The story of one batch: gather the facts, decide, act, until there is nothing more to do here.

`decision` says what comes next. This module knows how each step is done, and nothing of queues: `Dispatch` says how
parts are brought on.
"""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from workers import commit, parts
from workers.bucket.protocol import Bucket
from workers.chronicle import Chronicle
from workers.contract import Announced, Trigger
from workers.decision import Close, Facts, FanOut, Fetch, Finish, Leave, Look, Nothing, Seen, Wait, next_step
from workers.errors import NotReady, Transient, WorkerError
from workers.fanout import fan_out
from workers.gemini.batches import Batch, State
from workers.gemini.client import Gemini
from workers.notices import Downstream
from workers.parts import first_lacking, forget_split, lacking, read_part, read_split
from workers.plan import Plan, plan_of, read_plan, write_plan
from workers.second_look import Verdict, differs
from workers.sources import Source, source_of
from workers.summary import Summary, read_summary


@dataclass(frozen=True, slots=True)
class Tools:
    """What every step works with."""

    gemini: Gemini
    bucket: Bucket
    outputs: frozenset[str]
    part_bytes: int
    display_name: str = "*"
    reenable_webhooks: bool = False
    downstream: Downstream | None = None
    chronicle: Chronicle = field(default_factory=Chronicle, compare=False)
    project: str | None = None

    def wants(self, batch: Batch) -> bool:
        """Whether a batch of this display name is ours to process."""
        return fnmatch.fnmatchcase(batch.display_name or "", self.display_name)


class Dispatch(Protocol):
    """How other steps are brought on: as jobs, or here and now."""

    def part(self, batch: str, number: int) -> None:
        """A part is stored, and more are to come: it may be fanned out already."""

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        """Have parts fanned out, those that are on their way already too; whether they are done when this returns."""

    def look(self, batch: str) -> None:
        """Have the batch looked at once more."""


class Result(StrEnum):
    """How a look at a batch ended."""

    COMMITTED = "committed"
    ALREADY_COMMITTED = "already committed"
    IN_PARTS = "in parts"
    LEFT_ALONE = "left alone"


def process(tools: Tools, dispatch: Dispatch, batch: str, said: Announced) -> Result:
    """Look at one batch and do what is left to do for it here.

    Raises:
        NotReady: not final yet, or final without its output.
        Unreadable: this key can't read it.
        Transient, Permanent: from Gemini or the bucket.
    """
    try:
        return _Look(tools, dispatch, batch, said).run()
    except WorkerError:
        # Another worker may have committed it, and tidied away what this one was working on.
        if said.refetch or not _is_done(tools, batch):
            raise
        return Result.ALREADY_COMMITTED


def fan_out_part(tools: Tools, dispatch: Dispatch, batch: str, number: int) -> Summary | None:
    """Fan one part out, and bring on what comes next; the commit where this part was the last.

    Raises:
        Transient, Permanent: from the bucket.
    """
    part = read_part(tools.bucket, batch, number)
    try:
        if part is not None:
            fan_out(tools.bucket, batch, part, tools.outputs)
            tools.chronicle.written(number)
        facts = gather(tools.bucket, batch, start=number)
        match next_step(facts):
            case Finish():
                return _finish(tools, facts)
            case FanOut((lost,)) if lost == number:
                # Its note is lost, or contradicts the split: they come of two runs, and neither is believed.
                forget_split(tools.bucket, batch, number)
                dispatch.look(batch)
            case FanOut(numbers):
                dispatch.parts(batch, numbers)
            case Nothing():
                _tidy(tools, facts)
    except WorkerError:
        if not _is_done(tools, batch):
            raise
    return None


def gather(bucket: Bucket, batch: str, *, refetch: bool = False, start: int | None = None) -> Facts:
    """What the bucket knows of a batch.

    With `start`, the number of a part that has just been done, only the first lacking part behind it is looked for.

    Raises:
        Incomplete: its `batch.json` is none of ours.
        Transient, Permanent: from the bucket.
    """
    summary = read_summary(bucket, batch)
    plan = read_plan(bucket, batch)
    split = read_split(bucket, batch) if plan else None
    missing: tuple[int, ...] = ()
    if split is not None:
        missing = (
            lacking(bucket, batch, split) if start is None else first_lacking(bucket, batch, split, start)
        )
    return Facts(summary, plan, split, missing, refetch=refetch)


class _Look:
    """One look at a batch."""

    def __init__(self, tools: Tools, dispatch: Dispatch, batch: str, said: Announced) -> None:
        self._tools = tools
        self._bucket = tools.bucket
        self._dispatch = dispatch
        self._batch = batch
        self._said = said
        self._answer: Batch | None = None

    def run(self) -> Result:
        facts = gather(self._bucket, self._batch, refetch=self._said.refetch)
        while True:
            match next_step(facts):
                case Nothing():
                    _tidy(self._tools, facts)
                    return Result.ALREADY_COMMITTED
                case Leave():
                    return Result.LEFT_ALONE
                case Wait(reason):
                    raise NotReady(reason)
                case Look():
                    facts = replace(facts, seen=self._look())
                case Close():
                    is_told = self._tools.downstream is not None
                    closed = commit.close(self._bucket, self._plan(facts), is_told=is_told)
                    self._tools.chronicle.committed(closed)
                    return Result.COMMITTED
                case Fetch():
                    if not self._fetch(facts):
                        return Result.ALREADY_COMMITTED
                    facts = gather(self._bucket, self._batch)
                    if not facts.split:
                        raise Transient("The batch changed while it was fetched; it is looked at again.")
                case FanOut(numbers):
                    if not self._fan_out(facts, numbers):
                        return Result.IN_PARTS
                    facts = gather(self._bucket, self._batch)
                case Finish():
                    _finish(self._tools, facts)
                    return Result.COMMITTED

    def _look(self) -> Seen:
        answer = self._answer = self._tools.gemini.batch(self._batch)
        self._tools.chronicle.looked(answer)
        return Seen(
            state=answer.state,
            said=answer.state_name,
            is_final=answer.final,
            is_ours=self._tools.wants(answer),
            has_output=self._source(answer) is not None,
            ended_at=answer.ended_at,
            counts_results=bool(answer.succeeded_results),
        )

    def _source(self, answer: Batch) -> Source | None:
        return source_of(answer, self._tools.gemini)

    def _fetch(self, facts: Facts) -> bool:
        """Store the source and hand its parts out as they come; False where a commit has just the same already."""
        answer = self._answer
        source = self._source(answer) if answer else None
        if answer is None or source is None:
            raise AssertionError("nothing is fetched before a look that found it")
        plan = self._plan(facts)
        if plan.refetches is not None and facts.summary:
            verdict = differs(source, facts.summary.raw_sha256, answer.expected)
            if verdict is Verdict.STAYS:
                return False
            at_second = verdict is Verdict.ELSEWHERE
            parts.note_strays(self._bucket, self._batch, "fetched once more", at_second=at_second)
        write_plan(self._bucket, plan)
        expected = answer.expected if answer.state is State.SUCCEEDED else None
        tools = self._tools
        for part, is_whole in parts.split(
            self._bucket, self._batch, source, tools.part_bytes, outputs=tools.outputs, expected=expected
        ):
            tools.chronicle.stored(part)
            if not is_whole:
                self._dispatch.part(self._batch, part.number)
        return True

    def _fan_out(self, facts: Facts, numbers: tuple[int, ...]) -> bool:
        """Whether these parts are done; a batch of one part is fanned out by whoever looks at it."""
        if facts.split is not None:
            self._tools.chronicle.split(len(facts.split.parts), numbers)
        if facts.split is None or len(facts.split.parts) > 1:
            return self._dispatch.parts(self._batch, numbers)
        part = read_part(self._bucket, self._batch, 0)
        if part is None or part.sha256 != facts.split.parts[0].sha256:
            forget_split(self._bucket, self._batch, 0)
            raise Transient("What is known of part 0 is lost or of another run; it is fetched again.")
        fan_out(self._bucket, self._batch, part, self._tools.outputs)
        return True

    def _plan(self, facts: Facts) -> Plan:
        """What will stand in `batch.json`; what an earlier announcement brought is kept."""
        if self._answer is None:
            raise AssertionError("nothing is planned before a look")
        trigger, metadata = self._said.strongest, _json(self._said.user_metadata)
        refetches = facts.summary.revision if facts.refetch and facts.summary else None
        if facts.plan is not None:
            trigger = max(trigger, facts.plan.trigger, key=list(Trigger).index)
            metadata = facts.plan.user_metadata if metadata is None else metadata
            refetches = facts.plan.refetches if refetches is None else refetches
        return plan_of(self._answer, trigger, metadata, refetches)


def _finish(tools: Tools, facts: Facts) -> Summary:
    if facts.plan is None or facts.split is None:
        raise AssertionError("nothing is finished before it is whole")
    is_told = tools.downstream is not None
    summary = commit.finish(tools.bucket, facts.plan, facts.split, is_told=is_told)
    tools.chronicle.committed(summary)
    return summary


def _tidy(tools: Tools, facts: Facts) -> None:
    if facts.summary is not None:
        commit.tidy(tools.bucket, facts.summary)
        tools.chronicle.committed(facts.summary)


def _is_done(tools: Tools, batch: str) -> bool:
    """Whether nothing is left to do for a batch; if so, nothing of it stays in `_work/`."""
    facts = gather(tools.bucket, batch)
    if not isinstance(next_step(facts), Nothing):
        return False
    _tidy(tools, facts)
    return True


def _json(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text) if text is not None else None
    except (msgspec.MsgspecError, RecursionError):
        return None
