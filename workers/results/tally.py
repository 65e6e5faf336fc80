"""What results add up to: the one sum, for a part, for a batch, and for whoever counts again."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import astuple

from workers.results.answers import USAGE_FIELDS, Usage
from workers.results.result import Status, finish_label

LONG_PROMPTS = (128_000, 200_000)
"""Tokens of a prompt beyond which Gemini's prices have been others (1.5 and 2.5 Pro)."""


class Counted(Protocol):
    """What of a result is counted."""

    @property
    def status(self) -> Status: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def block_reason(self) -> str | None: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def model_version(self) -> str | None: ...


class Tally(Struct):
    """What the lines of a part, or of a batch, add up to.

    `dataset`: how many of the parts became a table. `model_versions`: how many answers say that they are of which
    model. `unexplained_tokens`: how many of `total_tokens` no other field tells; below 0 where they tell more.
    `billed`: usage and `answers` by model and length of prompt, as `bill_of` names them, since prices differ by both.
    """

    lines: int = 0
    repeated: int = 0
    counts: dict[str, int] = {}
    finish_reasons: dict[str, int] = {}
    usage: dict[str, int] = {}
    dataset: int = 0
    model_versions: dict[str, int] = {}
    unexplained_tokens: int = 0
    billed: dict[str, dict[str, int]] = {}

    def add(self, other: "Tally") -> None:
        self.lines += other.lines
        self.repeated += other.repeated
        self.counts = _sum(self.counts, other.counts)
        self.finish_reasons = _sum(self.finish_reasons, other.finish_reasons)
        self.usage = _sum(self.usage, other.usage)
        self.dataset += other.dataset
        self.model_versions = _sum(self.model_versions, other.model_versions)
        self.unexplained_tokens += other.unexplained_tokens
        bills = self.billed.keys() | other.billed.keys()
        self.billed = {bill: _sum(self.billed.get(bill, {}), other.billed.get(bill, {})) for bill in bills}


def tally_of(results: Sequence[Counted]) -> Tally:
    """The sum of some results: it costs as much for one as for many."""
    usages = [each for result in results if (each := result.usage)]
    labels = [finish_label(result.finish_reason, result.block_reason) for result in results]
    usage = _summed(usages)
    totals = [each for each in usages if each.total_tokens is not None]
    return Tally(
        lines=len(results),
        counts=Counter([result.status for result in results]),
        finish_reasons=_named(labels),
        usage=usage,
        model_versions=_named([result.model_version for result in results]),
        unexplained_tokens=_unexplained(usage if len(totals) == len(usages) else _summed(totals)),
        billed=_billed(results, usage),
    )


def bill_of(model: str | None, prompt_tokens: int) -> str:
    """Which answers cost the same a token: a model, and how many of Gemini's limits its prompt is beyond."""
    return f"{model or ''}|{sum(prompt_tokens > limit for limit in LONG_PROMPTS)}"


def _billed(results: Sequence[Counted], usage: dict[str, int]) -> dict[str, dict[str, int]]:
    longest, models, answers = 0, set(), 0
    for result in results:
        if result.usage:
            answers += 1
            models.add(result.model_version)
            longest = max(longest, result.usage.prompt_tokens or 0)
    if not answers:
        return {}
    if len(models) == 1 and longest <= LONG_PROMPTS[0]:
        return {bill_of(models.pop(), longest): {**usage, "answers": answers}}
    groups: dict[str, list[Usage]] = {}
    for result in results:
        if result.usage:
            bill = bill_of(result.model_version, result.usage.prompt_tokens or 0)
            groups.setdefault(bill, []).append(result.usage)
    return {bill: {**_summed(usages), "answers": len(usages)} for bill, usages in groups.items()}


def _summed(usages: Sequence[Usage]) -> dict[str, int]:
    columns = zip(*map(astuple, usages), strict=True)
    return {field: sum(filter(None, column)) for field, column in zip(USAGE_FIELDS, columns, strict=False)}


def _unexplained(usage: dict[str, int]) -> int:
    # Cached tokens are some of the prompt's.
    parts = ("prompt_tokens", "tool_use_tokens", "output_tokens", "thoughts_tokens")
    return usage.get("total_tokens", 0) - sum(usage.get(part, 0) for part in parts)


def _named(words: list[str | None]) -> dict[str, int]:
    """How often each word is there."""
    return {word: times for word, times in Counter(words).items() if word}


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))
