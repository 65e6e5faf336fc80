"""The user's own requests: which of them have a good answer, and a file of those that have none.

A key that was asked for n times wants n answers; which answer belongs to which of its requests nobody can tell, so
good answers are given to the first of them.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from workers.results.json_text import is_too_deep, is_utf8, mended
from workers.results.lines import RawLine, lines
from workers.results.result import Status, parse
from workers.verify.findings import Findings, Kind
from workers.verify.ledger import Call, Ledger

_CHUNK_BYTES = 1 << 20
_WITHOUT_GOOD_ANSWER = (Kind.UNANSWERED, Kind.FAILED, Kind.INVALID)
_OUTCOMES: dict[str, Kind | None] = {
    Status.SUCCEEDED: None,
    Status.FAILED: Kind.FAILED,
    Status.INVALID: Kind.INVALID,
}
"""What an answer means for its request, the best first."""


class Matched(msgspec.Struct, frozen=True):
    """How many requests there are, and how many of them have a good answer."""

    requests: int
    answered: int


class Judged(NamedTuple):
    """What became of the request in this line (from 1); line 0 stands for answers that nobody asked for.

    `kind` is None for a good answer.
    """

    key: str
    line: int
    kind: Kind | None
    reason: str = ""


class _Request(msgspec.Struct):
    """Gemini's own has a `request`, one for the OpenAI-compatible layer a `body`."""

    request: dict[str, msgspec.Raw] | None = None
    body: dict[str, msgspec.Raw] | None = None


_request = msgspec.json.Decoder(_Request)


def match(path: Path, ledger: Ledger, findings: Findings) -> Matched:
    """Hold a file of requests against the answers in the ledger, and choose there the lines to submit again.

    Raises:
        OSError: the file can't be read.
    """
    requests = answered = 0
    with path.open("rb") as file:
        for number, line in _numbered(file):
            key = _key(line)
            requests += 1
            if key is None:
                findings.note(Kind.UNREADABLE, f"line {number}", "is no request")
            elif not key:
                findings.note(Kind.WITHOUT_KEY, f"line {number}", "has no key to know its answer by")
            else:
                ledger.ask(key, number)
    for key, number, kind, reason in judge(ledger.calls()):
        if kind is None:
            answered += 1
            continue
        findings.note(kind, key, reason)
        if kind in _WITHOUT_GOOD_ANSWER:
            ledger.choose(number)
    return Matched(requests, answered)


def judge(calls: Iterable[Call]) -> Iterator[Judged]:
    """What became of each request. `calls` come by key, the answers of one before its requests."""
    for key, group in groupby(calls, key=attrgetter("key")):
        left = dict.fromkeys(_OUTCOMES, 0)
        asked = answers = 0
        for _, line, status in group:
            if status is not None:
                left[status] += 1
                answers += 1
                continue
            asked += 1
            best = next((each for each in left if left[each]), None)
            if best is None:
                yield Judged(key, line, Kind.UNANSWERED, f"line {line}")
            else:
                left[best] -= 1
                yield Judged(key, line, _OUTCOMES[best], f"line {line}")
        if answers > asked:
            yield Judged(key, 0, Kind.SURPLUS, f"asked {asked}, answered {answers}")


def write_chosen(source: Path, chosen: Iterator[int], target: Path) -> int:
    """Write the chosen lines of `source`, byte for byte and each with its line end; how many there were.

    The file appears when it is whole, in place of one that was there.

    Raises:
        OSError: one of the files can't be read or written.
    """
    target = target.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with source.open("rb") as file, aside.open("xb") as out:
            count = _copy(file, chosen, out)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _copy(file: IO[bytes], chosen: Iterator[int], out: IO[bytes]) -> int:
    count, wanted = 0, next(chosen, None)
    for number, line in _numbered(file):
        if number == wanted and line.data is not None:
            out.write(line.data + b"\n")
            count += 1
            wanted = next(chosen, None)
    return count


def _numbered(file: IO[bytes]) -> Iterator[tuple[int, RawLine]]:
    """The lines that are not blank, numbered from 1 with the blank ones counted, as an editor does."""
    for number, line in enumerate(lines(iter(lambda: file.read(_CHUNK_BYTES), b"")), start=1):
        if not line.blank:
            yield number, line


def _key(line: RawLine) -> str | None:
    """The key of a request as answers to it carry it, empty where it has none; None where it is no request."""
    if line.data is None or not is_utf8(line.data) or is_too_deep(line.data):
        return None
    try:
        found = _request.decode(mended(line.data) or line.data)
    except msgspec.MsgspecError:
        return None
    if found.request is None and found.body is None:
        return None
    return parse(line.data).key or ""
