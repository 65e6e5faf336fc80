"""The command `resubmit`."""

import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import click
import msgspec

from sender.check_cli import EXISTING_FILE, model_name
from sender.command_line import INTERRUPTED, said
from sender.quantities import seconds
from sender.record import Record, chain
from sender.remote import Remote
from sender.resubmission import Chosen, Wanted, choose
from sender.results import commit_of
from sender.settings import Settings
from sender.submission import SETTLE_SECONDS
from sender.submit_cli import Checked, Request, Submitted, submit_all
from sender.watching import watch
from workers.bucket.protocol import Bucket
from workers.command_line import batch_id, fail, told
from workers.gemini.client import Gemini


class Resubmitted(msgspec.Struct, frozen=True):
    """What `resubmit` says. `exhausted` counts the requests that were in as many batches as they may be."""

    resubmission_of: str
    requests: int
    exhausted: int
    batches: list[Submitted]
    checked: list[Checked] = []


@click.command(epilog="Example: batch-receiver resubmit batches/abc123 --failed --finish-reason MAX_TOKENS")
@click.argument("batch")
@click.option(
    "--input", "given", type=EXISTING_FILE, help="The requests, where --keep-input did not keep them."
)
@click.option("--failed", is_flag=True, help="Those that failed, or whose answer is invalid.")
@click.option("--missing", is_flag=True, help="Those without a result.")
@click.option(
    "--finish-reason",
    "reasons",
    multiple=True,
    metavar="REASON",
    help="Those whose answer ended so; repeatable.",
)
@click.option(
    "--attempts",
    default=3,
    show_default=True,
    type=click.IntRange(min=2),
    help="In how many batches a request may be.",
)
@click.option("--model", callback=model_name, help="Another model than before.")
@click.option(
    "--embeddings", is_flag=True, help="The requests are for embeddings; known of what `submit` made."
)
@click.option("--openai", is_flag=True, help="The lines are the OpenAI layer's; known of what `submit` made.")
@click.option(
    "--patience", default="24h", show_default=True, metavar="TIME", callback=seconds, help="As for `submit`."
)
@click.option(
    "--settle",
    default=f"{SETTLE_SECONDS:.0f}s",
    show_default=True,
    metavar="TIME",
    callback=seconds,
    help="As for `submit`.",
)
@click.option("--wait", is_flag=True, help="Wait until the results are in the bucket.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def resubmit(  # noqa: PLR0917 - click passes them by name
    batch: str,
    given: Path | None,
    reasons: tuple[str, ...],
    attempts: int,
    model: str | None,
    patience: float,
    settle: float,
    *,
    failed: bool,
    missing: bool,
    embeddings: bool,
    openai: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit the requests of a batch that have no good result as a batch of their own.

    Without a choice: those that failed, are invalid, or are missing. What a later attempt has answered is left out, and
    so is what was in --attempts batches already. The two batches are linked: `export` makes one table of them.
    """
    identifier = batch_id(batch)
    wanted = Wanted(failed, missing, frozenset(reasons), attempts)
    try:
        with told():
            settings = Settings.load(os.environ)
            bucket = settings.bucket()
            with tempfile.TemporaryDirectory(prefix="batch-receiver-resubmit-") as folder:
                record, attempt = _known(bucket, identifier)
                path = Path(folder, f"{_name(record, identifier)}-attempt{attempt}.jsonl")
                chosen = choose(bucket, identifier, given, wanted, path)
                if not chosen.requests:
                    _nothing(identifier, chosen, as_json=as_json)
                    return
                options = record.options if record else None
                request = Request(
                    model=model or _model(bucket, record, identifier),
                    embeddings=embeddings or bool(options and options.embeddings),
                    openai=openai or bool(options and options.openai),
                    display_name=path.stem if settings.takes(path.stem) else _name(record, identifier),
                    priority=options.priority if options else None,
                    dynamic=tuple(options.dynamic) if options else (),
                    metadata=options.metadata if options else {},
                    keep_input=bool(record and record.has_requests),
                    no_check=True,
                    patience=patience,
                    settle=settle,
                    as_json=as_json,
                    resubmission_of=identifier,
                    attempt=attempt,
                )
                with closing(Gemini(settings.access)) as gemini:
                    done, checked, refused = submit_all(Remote(gemini), bucket, settings, (path,), request)
                    if as_json:
                        found = Resubmitted(identifier, chosen.requests, chosen.exhausted, done, checked)
                        click.echo(msgspec.json.encode(found).decode())
                    _told_exhausted(chosen)
                    if wait:
                        refused |= not watch(gemini, bucket, [each.batch for each in done])
    except KeyboardInterrupt:
        said("Interrupted; the same command goes on from here.")
        sys.exit(INTERRUPTED)
    if refused:
        sys.exit(1)


def _known(bucket: Bucket, batch: str) -> tuple[Record | None, int]:
    """The batch's record, if there is one, and which attempt the next one is."""
    records = [record for _, record in chain(bucket, batch)]
    attempts = [record.attempt for record in records if record]
    return records[0], max(attempts, default=1) + 1


def _name(record: Record | None, batch: str) -> str:
    """As the batch was called, so that a pattern that takes it takes the new one too."""
    if record is None:
        return batch
    name = record.options.display_name or Path(record.file).stem
    return name.rpartition("-attempt")[0] or name if record.attempt > 1 else name


def _model(bucket: Bucket, record: Record | None, batch: str) -> str:
    model = record.model if record else commit_of(bucket, batch).model
    if not model:
        fail(f"The model of batches/{batch} is not known: give it with --model.")
    return model


def _nothing(batch: str, chosen: Chosen, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(Resubmitted(batch, 0, chosen.exhausted, [])).decode())
    else:
        click.echo(f"Nothing of batches/{batch} is left to be submitted again.")
    _told_exhausted(chosen)


def _told_exhausted(chosen: Chosen) -> None:
    if chosen.exhausted:
        said(f"{chosen.exhausted} requests were in as many batches as --attempts allows, and are left out.")
