"""The command `verify`: what `workers.verify.verification` found, for people and for programs."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from workers.bucket.opening import open_bucket
from workers.bucket.probe import try_bucket
from workers.command_line import batch_id, told
from workers.contract.terminal import printable
from workers.settings import storage_url
from workers.summary import Counts
from workers.verify.examination import Advance
from workers.verify.findings import OF_THE_BUCKET, Kind, Problem
from workers.verify.kept import kept
from workers.verify.requests import Matched
from workers.verify.verification import Report, verify

_TITLES = {
    Kind.MISSING: "Objects that should be there",
    Kind.DAMAGED: "Objects that are not as they should be",
    Kind.STRAY: "Objects that should not be there",
    Kind.LEFT_OVER: "Left over from processing (replay the batch to have it removed)",
    Kind.UNANSWERED: "Requests without an answer",
    Kind.FAILED: "Requests that failed",
    Kind.INVALID: "Requests whose answer is invalid",
    Kind.SURPLUS: "Keys answered more often than asked (how many times)",
    Kind.WITHOUT_KEY: "Requests without a key, which nothing can be matched with",
    Kind.UNREADABLE: "Lines that are no request",
}
_FILE = click.Path(dir_okay=False, path_type=Path)
_EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="verify",
    epilog="Example: batch-receiver verify batches/abc123 --input requests.jsonl --resubmit again.jsonl",
)
@click.argument("batch")
@click.option(
    "--input", "given", type=_EXISTING_FILE, help="The requests you submitted, JSONL with a key each."
)
@click.option(
    "--resubmit",
    type=_FILE,
    help="Write the lines of --input that have no good answer here, ready to be submitted.",
)
@click.option("--quick", is_flag=True, help="Compare sizes of outputs, media and tables, not their contents.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--progress",
    is_flag=True,
    help="Say how far it is as JSON, a line at a time on standard error, for a program that waits.",
)
def verify_batch(
    batch: str, given: Path | None, resubmit: Path | None, *, quick: bool, as_json: bool, progress: bool
) -> None:
    """Check a batch in the bucket, object by object, and against your requests.

    Reads everything again: raw parts and their hashes, each line of the manifest and each output and medium
    against its raw line, each table. With --quick, outputs, media and tables are looked at from outside: a few
    requests in place of one for each. Needs STORAGE_URL only, and changes nothing in the bucket.

    With --input, or where `submit --keep-input` kept the requests in the bucket, says which of them are unanswered,
    failed, invalid, or answered more often than asked. A key that stands in several requests is matched by count, good
    answers to the first of them.

    Exits 0 when the bucket is intact and, with requests, every request is known to have a good answer; 1 when
    anything is missing, damaged, stray or left over, or a request has no good answer, no key, or can't be read.
    """
    identifier = batch_id(batch)
    _check_files(given, resubmit)
    with told():
        url = storage_url(os.environ)
        try_bucket(url, os.environ, reading=True)
        bucket = open_bucket(url, os.environ, make=False)
        with _Lines() if progress else _Bar() as bar, kept(bucket, identifier, given) as requests:
            _check_input(requests, resubmit)
            report = verify(
                bucket, identifier, requests=requests, resubmit=resubmit, stage=bar.stage, quick=quick
            )
    if as_json:
        click.echo(msgspec.json.encode(_document(report)).decode())
    else:
        for line in _told_lines(report, with_requests=requests is not None, resubmit=resubmit):
            click.echo(line)
    if not report.is_good:
        sys.exit(1)


def _check_files(requests: Path | None, resubmit: Path | None) -> None:
    if resubmit and requests and resubmit.exists() and resubmit.samefile(requests):
        raise click.BadParameter("would overwrite the requests of --input.", param_hint="--resubmit")


def _check_input(requests: Path | None, resubmit: Path | None) -> None:
    if resubmit is not None and requests is None:
        raise click.UsageError("--resubmit needs --input: the lines are taken from there.")


class Problems(msgspec.Struct, frozen=True):
    """How many problems of a kind there are, and the first of them."""

    count: int
    first: list[Problem]


class Verified(msgspec.Struct, frozen=True):
    """What `verify` says.

    `intact`: the bucket holds what it should, and nothing else. `good`: also, every request has a good answer.
    """

    batch: str
    good: bool
    intact: bool
    state: str | None
    counts: Counts | None
    objects: int
    requests: Matched | None
    resubmitted: int | None
    problems: dict[Kind, Problems]


def _document(report: Report) -> Verified:
    findings, summary = report.findings, report.summary
    return Verified(
        batch=report.batch,
        good=report.is_good,
        intact=report.is_intact,
        state=summary.state if summary else None,
        counts=summary.counts if summary else None,
        objects=report.objects,
        requests=report.matched,
        resubmitted=report.resubmitted,
        problems={
            kind: Problems(findings.counts[kind], findings.first(kind))
            for kind in Kind
            if findings.counts[kind]
        },
    )


def _told_lines(report: Report, *, with_requests: bool, resubmit: Path | None) -> Iterator[str]:
    findings, matched = report.findings, report.matched
    verdict = "intact" if report.is_intact else "not intact"
    if report.summary:
        counts = report.summary.counts
        verdict += (
            f": {report.summary.state}, {counts.total} results ({counts.succeeded} succeeded, "
            f"{counts.failed} failed, {counts.invalid} invalid), {report.objects} objects"
        )
    yield f"{report.batch} is {verdict}."
    yield from _problems(report, *OF_THE_BUCKET)
    if matched:
        yield f"{matched.answered} of {matched.requests} requests have a good answer."
        yield from _problems(report, *(kind for kind in Kind if kind not in OF_THE_BUCKET))
    elif with_requests:
        yield "The requests were not looked at: what the answers are can't be told from this bucket."
    if report.resubmitted is not None:
        yield f"{report.resubmitted} requests written to {resubmit}, to be submitted again."
        unsure = findings.counts[Kind.WITHOUT_KEY] + findings.counts[Kind.UNREADABLE]
        if unsure:
            yield f"Not among them are lines without a key or that are no request: {unsure}"


def _problems(report: Report, *kinds: Kind) -> Iterator[str]:
    for kind in kinds:
        count, first = report.findings.counts[kind], report.findings.first(kind)
        if not count:
            continue
        yield f"{_TITLES[kind]}: {count}"
        for problem in first:
            yield f"  {printable(problem.subject)}{': ' if problem.reason else ''}{printable(problem.reason)}"
        if count > len(first):
            yield f"  … and {count - len(first)} more"


class _Lines:
    """Progress as lines of JSON on standard error, a few a second."""

    _SECONDS = 0.3

    def stage(self, name: str, total: int | None) -> Advance:
        done, said_at = 0, float("-inf")

        def advance(count: int) -> None:
            nonlocal done, said_at
            done += count
            if time.monotonic() - said_at >= self._SECONDS:
                said_at = time.monotonic()
                click.echo(json.dumps({"stage": name, "done": done, "total": total}), err=True)

        advance(0)
        return advance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Bar:
    """Progress on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        self._task: TaskID | None = None

    def stage(self, name: str, total: int | None) -> Advance:
        if self._task is not None:
            self._progress.remove_task(self._task)
        task = self._task = self._progress.add_task(name, total=total)
        return lambda count: self._progress.advance(task, count)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
