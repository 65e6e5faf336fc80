"""The command `submit`."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import Progress

from sender.check import Check
from sender.check_cli import EXISTING_FILE, model_name, told_lines
from sender.command_line import INTERRUPTED, bytes_bar, said
from sender.expectation import Expected
from sender.pieces import Piece, prepared, spans
from sender.quantities import seconds, size
from sender.record import Options, Record
from sender.remote import Remote
from sender.settings import Settings
from sender.submission import (
    SETTLE_SECONDS,
    AlreadySubmitted,
    Said,
    Submission,
    batch_name,
    check_model,
    piece_name,
)
from sender.watching import watch
from workers.bucket.protocol import Bucket
from workers.command_line import fail, told
from workers.gemini.client import Gemini

_MODEL = "The model, such as gemini-3.5-flash."


class Submitted(msgspec.Struct, frozen=True):
    """One batch that was made of a file, or of a piece of it. `new` is false where an earlier run had made it."""

    file: str
    piece: int
    pieces: int
    batch: str
    model: str
    display_name: str
    requests: int
    new: bool


class Checked(msgspec.Struct, frozen=True):
    """A file before it was submitted: `tokens` is an estimate, `cost` is null without the extra `[cost]`."""

    file: str
    requests: int
    tokens: int
    cost: Expected | None


class SubmittedAll(msgspec.Struct, frozen=True):
    """What `submit` says."""

    batches: list[Submitted]
    checked: list[Checked] = []


def pair(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, several times. Raises `click.BadParameter`."""
    del context, parameter
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE.")
        found[name] = text
    return found


@click.command(epilog="Example: batch-receiver submit requests.jsonl --model gemini-3.5-flash --wait")
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE, metavar="FILE...")
@click.option("--model", required=True, callback=model_name, help=_MODEL)
@click.option("--embeddings", is_flag=True, help="The requests are for embeddings.")
@click.option(
    "--openai", is_flag=True, help="The lines are the OpenAI layer's: custom_id, method, url, body."
)
@click.option("--display-name", help="What the batch is called; without it, as its file.")
@click.option("--priority", type=int, help="Batches with a higher one go first; may be negative.")
@click.option(
    "--dynamic", multiple=True, metavar="URL", help="Tell this address alone when it ends; repeatable."
)
@click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    callback=pair,
    help="What the address of --dynamic is told besides, and what batch.json then says; repeatable.",
)
@click.option(
    "--inline", is_flag=True, help="Send the requests in the call itself, without a file: 20 MB at most."
)
@click.option(
    "--split-requests", type=click.IntRange(min=1), help="Make batches of at most so many requests."
)
@click.option(
    "--split-bytes",
    metavar="SIZE",
    callback=size,
    help="Make batches of at most so many bytes, such as 500MB.",
)
@click.option("--again", is_flag=True, help="Submit it once more although it was submitted already.")
@click.option("--no-check", is_flag=True, help="Submit it whatever is wrong with it.")
@click.option(
    "--keep-input", is_flag=True, help="Keep the requests in the bucket: verify and export then need no file."
)
@click.option(
    "--patience",
    metavar="TIME",
    callback=seconds,
    default="24h",
    show_default=True,
    help="How long to wait for room in the quota.",
)
@click.option(
    "--settle",
    metavar="TIME",
    callback=seconds,
    default=f"{SETTLE_SECONDS:.0f}s",
    show_default=True,
    help="How long a batch is looked for whose creation was not answered, before it counts as not created.",
)
@click.option("--wait", is_flag=True, help="Wait until the results are in the bucket.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def submit(files: tuple[Path, ...], **given: Any) -> None:
    """Check request files, upload them, and make each a batch: exactly once, whatever breaks on the way.

    Interrupted or killed, the same command goes on where it stopped. A file that is a batch already is refused, with
    the batch's name, unless --again. Where the quota has no room it waits its turn. Needs STORAGE_URL for its records.

    Exits 0 when every file is a batch (with --wait: when all of them succeeded and are in the bucket), else 1.
    """
    request = Request(**given)
    if request.metadata and not request.dynamic:
        raise click.UsageError("--metadata goes with --dynamic: it is what that address is told.")
    try:
        with told():
            settings = Settings.load(os.environ)
            bucket = settings.bucket()
            with closing(Gemini(settings.access)) as gemini:
                done, checked, failed = submit_all(Remote(gemini), bucket, settings, files, request)
                if request.as_json:
                    click.echo(msgspec.json.encode(SubmittedAll(done, checked)).decode())
                if request.wait and done:
                    failed |= not watch(gemini, bucket, [each.batch for each in done])
    except KeyboardInterrupt:
        said("Interrupted; the same command goes on from here.")
        sys.exit(INTERRUPTED)
    if failed:
        sys.exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    model: str
    embeddings: bool = False
    openai: bool = False
    display_name: str | None = None
    priority: int | None = None
    dynamic: tuple[str, ...] = ()
    metadata: dict[str, str]
    inline: bool = False
    split_requests: int | None = None
    split_bytes: int | None = None
    again: bool = False
    no_check: bool = False
    keep_input: bool = False
    patience: float = 86_400.0
    settle: float = SETTLE_SECONDS
    wait: bool = False
    as_json: bool = False
    resubmission_of: str | None = None
    attempt: int = 1

    def options(self) -> Options:
        return Options(
            model=self.model.removeprefix("models/"),
            embeddings=self.embeddings,
            display_name=self.display_name,
            priority=self.priority,
            dynamic=list(self.dynamic),
            metadata=self.metadata,
            inline=self.inline,
            openai=self.openai,
            resubmission_of=self.resubmission_of,
        )


def submit_all(
    remote: Remote, bucket: Bucket, settings: Settings, files: tuple[Path, ...], request: Request
) -> tuple[list[Submitted], list[Checked], bool]:
    """Make each file its batches, one after the other; and whether one of them was refused.

    Raises:
        WorkerError: what can't go on; what was done until then stands in the bucket.
    """
    check_model(remote, request.model, embeddings=request.embeddings)
    done: list[Submitted] = []
    checked: list[Checked] = []
    refused = False
    for path in files:
        with bytes_bar() as bar, _checked(path, request, settings, bucket, bar) as (pieces, found):
            checked.append(found)
            of_file = [
                _submit(_submission(remote, bucket, piece, request, (number, len(pieces))), bar)
                for number, piece in enumerate(pieces, start=1)
            ]
        done += of_file
        for each in of_file:
            if each.new and not request.as_json:
                click.echo(f"{each.file}: {each.requests} requests are batches/{each.batch}.")
        if not any(each.new for each in of_file):
            refused = True
            batches = ", ".join(f"batches/{each.batch}" for each in of_file)
            said(f"Error: {path} was submitted already, as {batches}: --again submits it once more.")
    return done, checked, refused


@contextmanager
def _checked(
    path: Path, request: Request, settings: Settings, bucket: Bucket, bar: Progress
) -> Iterator[tuple[list[Piece], Checked]]:
    """A file in its pieces, unless something is wrong with it. Raises `OSError`."""
    task = bar.add_task(f"checking {path.name}", total=path.stat().st_size)
    check = Check(embeddings=request.embeddings, openai=request.openai, ignores_case=bucket.ignores_case)
    cuts = list(spans(path, request.split_requests, request.split_bytes))
    _refuse_other_names(path, request, settings, len(cuts))
    with prepared(path, cuts, check, lambda count: bar.advance(task, count)) as pieces:
        bar.remove_task(task)
        report = check.report(path, model=request.model)
        if not (report.ok or request.no_check):
            for line in told_lines(report):
                said(line)
            fail(f"{path} is not submitted: correct it, or see `check --fix`.")
        if report.ok and report.warnings:
            said(f"{path.name} has {report.warnings} warnings: `check` names them.")
        if report.cost:
            said(
                f"{path.name}: {report.requests} requests, about {report.tokens} tokens. {report.cost.told()}"
            )
        yield pieces, Checked(path.name, report.requests, report.tokens, report.cost)


def _refuse_other_names(path: Path, request: Request, settings: Settings, of: int) -> None:
    for number in range(1, of + 1):
        name = piece_name(request.display_name or path.stem, number, of)
        name = batch_name(name, "0" * 8 if request.inline else None)
        if not settings.takes(name):
            fail(
                f"{path.name} is not submitted: its batch would be called {name}, which BATCH_DISPLAY_NAME"
                f" ({settings.display_name}) has the workers leave alone; --display-name gives another name.",
                code=2,
            )


def _submit(submission: Submission, bar: Progress) -> Submitted:
    submission.said = _told(bar, submission.piece, submission.number, submission.of)
    try:
        return _submitted(submission.run(), new=True)
    except AlreadySubmitted as error:
        return _submitted(error.record, new=False)


def _submission(
    remote: Remote, bucket: Bucket, piece: Piece, request: Request, place: tuple[int, int]
) -> Submission:
    """`place`: which of how many pieces it is."""
    number, of = place
    return Submission(
        remote=remote,
        bucket=bucket,
        piece=piece,
        options=request.options(),
        display_name=piece_name(request.display_name or piece.path.stem, number, of),
        number=number,
        of=of,
        again=request.again,
        keep_requests=request.keep_input,
        attempt=request.attempt,
        patience=request.patience,
        settle=request.settle,
    )


def _told(bar: Progress, piece: Piece, number: int, of: int) -> Said:
    turn = f" (piece {number} of {of})" if of > 1 else ""
    task = bar.add_task(f"uploading {piece.path.name}{turn}", total=piece.size)
    return Said(lambda at: bar.update(task, completed=at), lambda sentence: said(f"{sentence}{turn}"))


def _submitted(record: Record, *, new: bool) -> Submitted:
    return Submitted(
        file=record.file,
        piece=record.piece,
        pieces=record.pieces,
        batch=record.batch or "",
        model=record.model,
        display_name=record.display_name,
        requests=record.requests,
        new=new,
    )
