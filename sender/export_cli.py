"""The command `export`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sender.check_cli import EXISTING_FILE, written_aside
from sender.columns import COLUMNS, DEFAULT
from sender.command_line import said
from sender.export import Batches, Export, batches_of
from sender.formats import FORMATS, write
from sender.settings import bucket_of
from workers.command_line import batch_id, told

_STATUSES = click.Choice(["succeeded", "failed", "invalid", "missing"])


def column_names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Names of columns, separated by commas. Raises `click.BadParameter`."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is no column: there are {', '.join(COLUMNS)}."
        )
    return list(dict.fromkeys(names))


@click.command(
    epilog="Example: batch-receiver export batches/abc123 --input requests.jsonl --format csv -o answers.csv"
)
@click.argument("batch_ids", nargs=-1, required=True, metavar="BATCH...")
@click.option(
    "--input", "given", type=EXISTING_FILE, help="The requests: for their order, and prompts beside answers."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="jsonl", show_default=True, help="What to write."
)
@click.option(
    "--columns",
    callback=column_names,
    metavar="NAMES",
    help=f"Which, separated by commas: {', '.join(COLUMNS)}.",
)
@click.option(
    "--status", "statuses", multiple=True, type=_STATUSES, help="Only those of this status; repeatable."
)
@click.option(
    "--json-columns", is_flag=True, help="Give each field of answers that are JSON objects a column."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to; without it, standard output.",
)
def export(  # noqa: PLR0917 - click passes them by name
    batch_ids: tuple[str, ...],
    given: Path | None,
    form: str,
    columns: list[str] | None,
    statuses: tuple[str, ...],
    output: Path | None,
    *,
    json_columns: bool,
) -> None:
    """Write batches that are in the bucket as one table: a row a request, in the order of the requests.

    The order is that of --input or else of what `submit` knows, never the results' own; results are matched by key.
    What was submitted again is one row, with the last good result, or the last one where none is good; `resubmit` links
    batches, and several can be named. Flat memory, whatever the size. Needs STORAGE_URL alone.
    """
    if output is None and form == "parquet":
        raise click.UsageError("--format parquet needs --output: it is no text.")
    if output is not None and given is not None and output.exists() and output.samefile(given):
        raise click.BadParameter("would overwrite the requests of --input.", param_hint="--output")
    identifiers = [batch_id(each) for each in batch_ids]
    chosen = columns or [name for name in DEFAULT if form != "csv" or name != "embedding"]
    if form == "text" and "text" not in chosen:
        chosen = [*chosen, "text"]
    with told():
        bucket = bucket_of(os.environ)
        batches = batches_of(bucket, identifiers)
        with Export(bucket, chosen, json_columns=json_columns) as table:
            table.gather(batches, given)
            count = _written(table, form, frozenset(statuses), output)
    if output is not None:
        said(f"{count} rows of {_named(batches)} are in {output}.")


def _written(table: Export, form: str, statuses: frozenset[str], output: Path | None) -> int:
    count = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in table.rows(statuses):
            count += 1
            yield row

    if output is None:
        write(form, rows(), table.columns, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        with written_aside(output) as aside:
            write(form, rows(), table.columns, aside.out)
    return count


def _named(batches: Batches) -> str:
    more = len(batches.attempts) - len(batches.roots)
    names = ", ".join(f"batches/{root}" for root in batches.roots)
    return f"{names} and {more} submitted again" if more else names
