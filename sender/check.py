"""A request file of any size, read once: what is wrong with it, how many requests it holds, and about how many tokens.

Memory grows by some 14 bytes a request, for its key: what tells that a key repeats.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import msgspec

from sender.examine import Examined, Fault, examine
from sender.expectation import Expected, OutputLimits, config_of, expected
from sender.lines import Block, Configs, LineTooLong, blocks, deprecated_in, good_lines, numbered
from sender.rules import RULES, Level
from sender.tokens import Tokens
from workers.results.json_text import are_lines, is_utf8
from workers.results.keys import DIGEST_BYTES, NO_KEY, KeyCounter

FILE_LIMIT_BYTES = 2 * 1000**3  # "2 GB"; which of the two it means is not said, so the smaller.
_SHOWN = 20
_KEPT_BYTES = 10  # of a key's digest: fewer bytes a key, and still no two that look alike
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Finding(msgspec.Struct, frozen=True):
    """What is wrong in a line (from 1; 0 is the file): why, and the right form. `rule` is its name in the table."""

    line: int
    rule: str
    level: Level
    reason: str
    right: str


class Report(msgspec.Struct, frozen=True):
    """What `check` says. Of each rule the first findings are named, and all are counted.

    `tokens` is an estimate, at four characters each. `fixed` is how many lines were corrected, where
    that was asked for. `cost` is null without a model, and without the extra `[cost]`.
    """

    file: str
    ok: bool
    bytes: int
    requests: int
    tokens: int
    errors: int
    warnings: int
    counts: dict[str, int]
    findings: list[Finding]
    fixed: int | None = None
    cost: Expected | None = None


class Findings:
    """Counts what is found, and keeps the first of each rule."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._kept: list[Finding] = []

    def note(self, line: int, fault: Fault) -> None:
        self.counts[fault.rule] += 1
        if self.counts[fault.rule] <= _SHOWN:
            self._kept.append(finding(line, fault))

    def of(self, level: Level) -> int:
        return sum(count for rule, count in self.counts.items() if RULES[rule].level is level)

    @property
    def first(self) -> list[Finding]:
        return sorted(self._kept, key=lambda each: each.line)


def finding(line: int, fault: Fault) -> Finding:
    rule = RULES[fault.rule]
    named = [text.replace("{field}", fault.field) for text in (rule.reason, rule.right)]
    return Finding(line, fault.rule, rule.level, *named)


Mend = Callable[[int, bytes, Examined], list[Fault]]
"""Is given every line that is not good, and returns the faults that it leaves."""


class Check:
    """Reads request files, or pieces of one; what it finds adds up."""

    def __init__(
        self,
        *,
        embeddings: bool = False,
        openai: bool = False,
        ignores_case: bool = False,
        mend: Mend | None = None,
        passed: Callable[[bytes], object] | None = None,
    ) -> None:
        """`passed` is given every block that is all good. Keys that differ in case alone may count as one.

        The attribute `digests` is given those of the keys, in the order of the lines.
        """
        self.digests: Callable[[bytes], object] | None = None
        self.findings = Findings()
        self.requests = self.bytes = 0
        self.tokens = Tokens()
        self.limits = OutputLimits()
        self._embeddings, self._openai = embeddings, openai
        self._decode = good_lines(embeddings=embeddings).decode_lines
        self._configs = Configs()
        self._keys = KeyCounter(_KEPT_BYTES)
        self._ignores_case = ignores_case
        self._mend = mend
        self._passed = passed

    def read(
        self, file: IO[bytes], start: int = 0, end: int | None = None, first: int = 1
    ) -> Iterator[Block]:
        """Take the lines between two bytes of a file; gives each block once it is looked at. Raises `OSError`."""
        begun = self.requests
        try:
            yield from self._read(file, start, end, first)
        except LineTooLong as error:
            self.findings.note(error.number, Fault("line-too-long"))
        else:
            if self.requests == begun and not self.findings.counts:
                self.findings.note(0, Fault("file-empty"))

    def _read(self, file: IO[bytes], start: int, end: int | None, first: int) -> Iterator[Block]:
        for block in blocks(file, start, end, first):
            self.bytes += len(block.data)
            looked_at = block if block.start else self._beginning(block)
            if looked_at is None:
                return
            self._look(looked_at)
            yield block

    def cost(self, model: str) -> Expected | None:
        """What was read so far will cost, if prices are installed."""
        limits = None if self._embeddings else self.limits
        return expected(model, self.requests, self.tokens.estimate, limits)

    def report(self, path: Path, fixed: int | None = None, model: str | None = None) -> Report:
        errors, warnings = self.findings.of(Level.ERROR), self.findings.of(Level.WARNING)
        return Report(
            file=str(path),
            ok=not errors,
            bytes=self.bytes,
            requests=self.requests,
            tokens=self.tokens.estimate,
            errors=errors,
            warnings=warnings,
            counts=dict(self.findings.counts),
            findings=self.findings.first,
            fixed=fixed,
            cost=self.cost(model) if model else None,
        )

    def _beginning(self, block: Block) -> Block | None:
        """A file's first block without its mark; None where the file is not one object a line at all."""
        if block.data.startswith(_BYTE_ORDER_MARK):
            if not self._mend:
                self.findings.note(1, Fault("byte-order-mark"))
            block = block._replace(data=block.data.removeprefix(_BYTE_ORDER_MARK))
        if block.data.lstrip().startswith(b"["):
            self.findings.note(1, Fault("json-array"))
            return None
        return block

    def _look(self, block: Block) -> None:
        lines, configs = self._good(block.data)
        if not are_lines(block.data, len(lines)):
            self._one_by_one(block)
            return
        self.tokens.sample(block.data, len(lines))
        self._count([line.key for line in lines], lambda at: block.first + at)
        self._limit(configs)
        deprecated = {
            each: names for each in set(configs) if (names := deprecated_in(self._configs.decoded(each)))
        }
        for number, config in enumerate(configs if deprecated else (), start=block.first):
            for name in deprecated.get(config, ()):
                self.findings.note(number, Fault("deprecated", name))
        if self._passed:
            self._passed(block.data)

    def _good(self, data: bytes) -> tuple[list[Any], list[bytes]]:
        """The requests in a block and, of those for text, their generationConfigs; none if one of them is not good."""
        if self._openai or not is_utf8(data):
            return [], []
        try:
            lines: list[Any] = self._decode(data)
            configs = [] if self._embeddings else list(map(self._configs.of, lines))
            for config in set(configs):
                self._configs.decoded(config)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return [], []
        return lines, configs

    def _limit(self, configs: list[bytes]) -> None:
        for config, times in Counter(configs).items():
            self.limits.add(self._configs.decoded(config), times)

    def _one_by_one(self, block: Block) -> None:
        keys: list[str | None] = []
        numbers: list[int] = []
        for number, line in numbered(block):
            lines, configs = self._good(line)
            if len(lines) == 1 and not any(deprecated_in(self._configs.decoded(each)) for each in configs):
                keys.append(lines[0].key)
                self._limit(configs)
                if self._passed:
                    self._passed(line + b"\n")
            else:
                examined = examine(line, embeddings=self._embeddings, openai=self._openai)
                faults = self._mend(number, line, examined) if self._mend else examined.faults
                for fault in faults:
                    self.findings.note(number, fault)
                keys.append(examined.key)
                self.limits.add(config_of(examined.value))
            numbers.append(number)
        self.tokens.sample(block.data, len(keys))
        self._count(keys, numbers.__getitem__)

    def _count(self, keys: list[str] | list[str | None], number_of: Callable[[int], int]) -> None:
        self.requests += len(keys)
        if self._ignores_case:
            keys = [key and key.lower() for key in keys]
        hashed = b"".join(
            [blake2b(key.encode(), digest_size=DIGEST_BYTES).digest() if key else NO_KEY for key in keys]
        )
        for at in self._keys.number(hashed):
            self.findings.note(number_of(at), Fault("key-repeated"))
        if self.digests:
            self.digests(hashed)


def check_file(path: Path, check: Check) -> Iterator[int]:
    """Look at a whole file, as one that is to be uploaded; gives how many bytes of it were read, now and then.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            check.findings.note(0, Fault("file-too-large"))
        for block in check.read(file):
            yield len(block.data)
