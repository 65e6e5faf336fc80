"""The commands `batches list|get|watch|cancel|delete`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sender.command_line import INTERRUPTED, said
from sender.committed import Committed, committed
from sender.record import of_batch
from sender.remote import Remote
from sender.settings import Settings
from sender.watching import watch
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.command_line import batch_id, fail, told
from workers.contract import parse_batch_id
from workers.contract.terminal import duration, printable
from workers.gemini.batches import Batch, integer, timestamp
from workers.gemini.client import Gemini

_WIDEST = 1000  # Off a terminal.
_WIDE = 120  # Columns of a terminal.
_COLUMNS = ("batch", "state", "age", "requests", "done", "failed", "pending", "bucket", "name")
_NARROW = ("batch", "state", "age", "done", "bucket")
_NARROWEST = ("batch", "state", "bucket")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of the project, as `batches` shows it; numbers are null where Gemini does not say them.

    `committed` is whether its `batch.json` is in the bucket.
    """

    batch: str
    state: str
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    age_seconds: float | None
    requests: int | None
    succeeded: int | None
    failed: int | None
    pending: int | None
    input_file: str | None
    committed: bool


class ShownAll(msgspec.Struct, frozen=True):
    """What `batches list` says, newest first. `more`: there are more than were asked for."""

    batches: list[Shown]
    more: bool


class Details(Shown, frozen=True, kw_only=True):
    """What `batches get` says: also why it failed, and the submission that it came of."""

    error: Any
    submission: str | None
    resubmission_of: str | None
    resubmitted_as: list[str]


@click.group()
def batches() -> None:
    """The project's batches: list, get, watch, cancel and delete them.

    Example: batch-receiver batches list --state running
    """


@batches.command(name="list", epilog="Example: batch-receiver batches list --limit 200 --json")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.option(
    "--state", "states", multiple=True, help="Only those in this state, such as running; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(limit: int, states: tuple[str, ...], *, as_json: bool) -> None:
    """List the project's batches, newest first: state, age, counts, and whether they are in the bucket."""
    with _tools() as (gemini, bucket):
        found: list[Shown] = []
        more = False
        for batch in gemini.batches():
            if states and batch.state_name not in {state.lower() for state in states}:
                continue
            if len(found) == limit:
                more = True
                break
            found.append(_shown(batch, bucket))
    if as_json:
        click.echo(msgspec.json.encode(ShownAll(found, more)).decode())
        return
    _show_all(found)
    if more:
        said("There are more: see --limit.")


@batches.command(epilog="Example: batch-receiver batches get batches/abc123")
@click.argument("batch")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def get(batch: str, *, as_json: bool) -> None:
    """Show one batch: what Gemini says of it, and where it came from."""
    identifier = batch_id(batch)
    with _tools() as (gemini, bucket):
        answer = gemini.batch(identifier)
        details = _details(answer, bucket)
    if as_json:
        click.echo(msgspec.json.encode(details).decode())
        return
    _show_one(details)


@batches.command(name="watch", epilog="Example: batch-receiver batches watch batches/abc123")
@click.argument("batch_ids", nargs=-1, required=True, metavar="BATCH...")
def watch_(batch_ids: tuple[str, ...]) -> None:
    """Wait until batches are in the bucket. Exits 0 when all of them succeeded, else 1."""
    identifiers = [batch_id(each) for each in batch_ids]
    try:
        with _tools() as (gemini, bucket):
            good = watch(gemini, bucket, identifiers)
    except KeyboardInterrupt:
        said("Interrupted; the batches go on.")
        sys.exit(INTERRUPTED)
    if not good:
        sys.exit(1)


@batches.command(epilog="Example: batch-receiver batches cancel batches/abc123")
@click.argument("batch_ids", nargs=-1, required=True, metavar="BATCH...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(batch_ids: tuple[str, ...], *, yes: bool) -> None:
    """Cancel batches that have not ended.

    That is final at once: what has no answer yet gets none. Answers that are there already may still come, and are
    committed then. Its tokens may stay in the quota for days.
    """
    identifiers = [batch_id(each) for each in batch_ids]
    with _tools() as (gemini, _):
        for identifier in identifiers:
            answer = gemini.batch(identifier)
            if answer.final:
                fail(f"batches/{identifier} has ended already ({answer.state_name}).")
            _ask(
                f"Cancel batches/{identifier} ({answer.state_name}{_left(answer)})? What has no answer yet gets none; "
                "answers that are there may still come.",
                yes=yes,
            )
            Remote(gemini).cancel(identifier)
            click.echo(f"batches/{identifier} is being cancelled.")


@batches.command(epilog="Example: batch-receiver batches delete batches/abc123")
@click.argument("batch_ids", nargs=-1, required=True, metavar="BATCH...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(batch_ids: tuple[str, ...], *, yes: bool) -> None:
    """Delete batches at Gemini. What is in the bucket stays.

    Refused while a batch runs, and while it has results that are not in the bucket: they would be gone for good.
    """
    identifiers = [batch_id(each) for each in batch_ids]
    with _tools() as (gemini, bucket):
        for identifier in identifiers:
            answer, stored = gemini.batch(identifier), committed(bucket, identifier)
            trouble = _why_not(answer, stored)
            if trouble:
                fail(f"batches/{identifier} is not deleted: {trouble}")
            kept = "its results stay in the bucket" if stored else "it has no results"
            _ask(f"Delete batches/{identifier} ({answer.state_name}) at Gemini; {kept}?", yes=yes)
            Remote(gemini).delete(identifier)
            click.echo(f"batches/{identifier} is deleted; {kept}.")


def _why_not(answer: Batch, stored: Committed | None) -> str:
    """Why a batch must not be deleted yet; empty where it may be."""
    if not answer.final:
        return f"it has not ended ({answer.state_name}); cancel it first."
    has_results = answer.result_file is not None or bool(answer.inline) or bool(answer.succeeded_results)
    if has_results and (stored is None or not stored.parts):
        return "its results are not in the bucket yet; `batch-receiver process` brings them."
    return ""


def _ask(question: str, *, yes: bool) -> None:
    if not yes and not click.confirm(question, err=True):
        fail("Nothing was done.")


def _left(answer: Batch) -> str:
    return "" if answer.pending is None else f", {answer.pending} requests pending"


@contextmanager
def _tools() -> Iterator[tuple[Gemini, Bucket]]:
    with told():
        settings = Settings.load(os.environ)
        bucket = settings.bucket()
        with closing(Gemini(settings.access)) as gemini:
            yield gemini, bucket


def _shown(batch: Batch, bucket: Bucket) -> Shown:
    return Shown(**_facts(batch, bucket))


def _facts(batch: Batch, bucket: Bucket) -> dict[str, Any]:
    created = timestamp(batch.created_at)
    stats = batch.stats if isinstance(batch.stats, dict) else {}
    # Of a list the ids are as Gemini names them: only one of ours can have a commit.
    known = parse_batch_id(batch.id)
    return {
        "batch": batch.id,
        "state": batch.state_name,
        "display_name": batch.display_name,
        "model": (batch.model or "").removeprefix("models/") or None,
        "created_at": batch.created_at,
        "ended_at": batch.ended_at if batch.final else None,
        "age_seconds": None if created is None else round(max(0.0, time.time() - created), 3),
        "requests": batch.expected,
        "succeeded": batch.succeeded_results,
        "failed": integer(stats.get("failedRequestCount")),
        "pending": batch.pending,
        "input_file": batch.input_file,
        "committed": known is not None and bucket.size(layout.summary(known)) is not None,
    }


def _details(batch: Batch, bucket: Bucket) -> Details:
    found = of_batch(bucket, batch.id)
    record = found[1] if found else None
    return Details(
        **_facts(batch, bucket),
        error=batch.error,
        submission=found[0] if found else None,
        resubmission_of=record.resubmission_of if record else None,
        resubmitted_as=record.resubmitted_as if record else [],
    )


def _show_all(found: list[Shown]) -> None:
    """A table that fits the terminal; off one nothing is cut, and batch ids never are."""
    out = Console() if sys.stdout.isatty() else Console(width=_WIDEST, no_color=True)
    columns = _COLUMNS if out.width >= _WIDE else _NARROW if out.width >= 80 else _NARROWEST
    table = Table(box=None, pad_edge=False)
    for name in columns:
        if name == "batch":
            table.add_column(name, overflow="fold", no_wrap=not out.is_terminal)
        else:
            most = 24 if name == "name" and out.is_terminal else None
            table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=most)
    for each in found:
        cells = {
            "batch": each.batch,
            "state": each.state,
            "age": duration(each.age_seconds),
            "requests": _count(each.requests),
            "done": _count(each.succeeded),
            "failed": _count(each.failed),
            "pending": _count(each.pending),
            "bucket": "yes" if each.committed else "",
            "name": printable(each.display_name or ""),
        }
        # Plain texts: a display name may hold what rich would take for markup.
        table.add_row(*(Text(cells[name]) for name in columns))
    out.print(table)


def _show_one(found: Details) -> None:
    counts = {"succeeded": found.succeeded, "failed": found.failed, "pending": found.pending}
    told = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count is not None)
    age = f"{duration(found.age_seconds)} ago, " if found.age_seconds is not None else ""
    facts = {
        "name": found.display_name,
        "model": found.model,
        "created": found.created_at and f"{age}{found.created_at}",
        "ended": found.ended_at,
        "requests": ": ".join(filter(None, (_count(found.requests), told))),
        "bucket": "it is in the bucket" if found.committed else "it is not in the bucket",
        "input file": found.input_file,
        "error": found.error and str(found.error),
        "submission": found.submission,
        "resubmission of": found.resubmission_of,
        "resubmitted as": ", ".join(found.resubmitted_as),
    }
    click.echo(f"{printable(found.batch)}: {printable(found.state)}")
    for name, value in facts.items():
        if value:
            click.echo(f"  {name}: {printable(value)}")


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
