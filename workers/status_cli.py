"""The command `status`: one batch, or all that waits, runs, failed and was committed lately, in every project."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import click

from workers import health as health_of
from workers import status as status_of
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.command_line import batch_id, fail, told
from workers.contract import Queues
from workers.redis_connection import connect, in_one_sentence
from workers.settings import projects_of, queue_prefix, redis_url, storage_url
from workers.showing import show_batch, show_overview
from workers.showing import watch as watching

Known = Mapping[str, tuple[Queues, Callable[[], Bucket]]]
"""Queues of each project, and how its bucket is opened."""


@click.command(epilog="Example: batch-receiver status batches/abc123 --json")
@click.argument("batch", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--health", is_flag=True, help="Only say whether the workers are alive; 1 where something is dead."
)
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
def status(batch: str | None, *, as_json: bool, health: bool, watch: bool) -> None:
    """Show one batch, or what waits, runs, failed and was committed lately."""
    if health and (batch or as_json or watch):
        raise click.UsageError("--health stands alone.")
    batch = batch_id(batch) if batch else None
    with told(), in_one_sentence(), closing(connect(redis_url(os.environ))) as connection:
        known = {
            each.name: (
                Queues(connection, queue_prefix(each.environment)),
                partial(open_bucket, storage_url(each.environment), each.environment),
            )
            for each in projects_of(os.environ)
        }
        if health:
            _tell_health(known)
            return

        def look() -> dict[str, Any]:
            return _batch_status(known, batch) if batch else _overview(known)

        def show(found: dict[str, Any]) -> None:
            if as_json:
                click.echo(json.dumps(found, ensure_ascii=False))
            else:
                (show_batch if batch else show_overview)(found)

        if watch:
            watching(look, show)
            return
        found = look()
    show(found)
    if batch and found["state"] == "unknown":
        fail(
            f"Nothing is known of {batch}: it was neither announced nor committed. It may not have ended yet, or be"
            " misspelt."
        )


def _tell_health(known: Known) -> None:
    for name, (queues, bucket) in known.items():
        trouble = health_of.trouble(queues, bucket())
        if trouble:
            fail(f"Project {name}: {trouble}" if len(known) > 1 else trouble)
    click.echo("Workers, their scheduler, Redis and the bucket are alive.")


def _overview(known: Known) -> dict[str, Any]:
    if len(known) > 1:
        return status_of.overview_of_all(known)
    ((queues, bucket),) = known.values()
    return status_of.overview(queues, bucket())


def _batch_status(known: Known, batch: str) -> dict[str, Any]:
    """Of the one project that knows the batch. Raises `UsageError` where several do."""
    found = {
        name: status_of.batch_status(queues, bucket(), batch) for name, (queues, bucket) in known.items()
    }
    knowing = [name for name, each in found.items() if each["state"] != "unknown"]
    if len(knowing) > 1:
        names = ", ".join(sorted(knowing))
        raise click.UsageError(f"{batch} is a batch of several projects: say --project with one of {names}.")
    return found[knowing[0]] if knowing else next(iter(found.values()))
