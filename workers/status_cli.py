"""The command `status`: one batch, or all that waits, runs, failed and was committed lately, in every project."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from workers import health as health_of
from workers import status as status_of
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.command_line import batch_id, fail, printable, told
from workers.contract import Queues
from workers.redis_connection import connect
from workers.settings import projects_of, queue_prefix, redis_url, storage_url

_WIDEST = 1000  # Batch ids are shown whole, also in a pipe and in a narrow terminal.


@click.command(epilog="Example: batch-receiver status batches/abc123 --json")
@click.argument("batch", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--health", is_flag=True, help="Only say whether the workers are alive; 1 where something is dead."
)
def status(batch: str | None, *, as_json: bool, health: bool) -> None:
    """Show one batch, or what waits, runs, failed and was committed lately."""
    if health and (batch or as_json):
        raise click.UsageError("--health stands alone.")
    batch = batch_id(batch) if batch else None
    with told(), closing(connect(redis_url(os.environ))) as connection:
        known = {
            each.name: (
                Queues(connection, queue_prefix(each.environment)),
                partial(open_bucket, storage_url(each.environment), each.environment),
            )
            for each in projects_of(os.environ)
        }
        if health:
            for name, (queues, bucket) in known.items():
                trouble = health_of.trouble(queues, bucket())
                if trouble:
                    fail(f"Project {name}: {trouble}" if len(known) > 1 else trouble)
            click.echo("Workers, their scheduler, Redis and the bucket are alive.")
            return
        if batch:
            found = _batch_status(known, batch)
        elif len(known) > 1:
            found = status_of.overview_of_all(known)
        else:
            ((queues, bucket),) = known.values()
            found = status_of.overview(queues, bucket())
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif batch:
        _show_batch(found)
    else:
        _show_overview(found)
    if batch and found["state"] == "unknown":
        fail(f"Nothing is known of {batch}: it was neither announced nor committed.")


def _batch_status(known: Mapping[str, tuple[Queues, Callable[[], Bucket]]], batch: str) -> dict[str, Any]:
    """Of the one project that knows the batch. Raises `UsageError` where several do."""
    found = {
        name: status_of.batch_status(queues, bucket(), batch) for name, (queues, bucket) in known.items()
    }
    knowing = [name for name, each in found.items() if each["state"] != "unknown"]
    if len(knowing) > 1:
        names = ", ".join(sorted(knowing))
        raise click.UsageError(f"{batch} is a batch of several projects: say --project with one of {names}.")
    return found[knowing[0]] if knowing else next(iter(found.values()))


def _show_batch(found: dict[str, Any]) -> None:
    click.echo(f"{found['batch']}: {found['state']}")
    if found["parts"]:
        click.echo(f"  parts: {found['parts']['done']} of {found['parts']['split']} done")
    for job in found["jobs"]:
        click.echo(f"  {_job_line(job)}")
    if found["trouble"]:
        click.echo(f"  {printable(found['trouble'])}")
    summary = found["summary"]
    if summary:
        counts = summary["counts"]
        click.echo(
            f"  {summary['state']} at {summary['committed_at']}, revision {summary['revision']}: "
            f"{counts['total']} results, {counts['succeeded']} succeeded, "
            f"{counts['failed']} failed, {counts['invalid']} invalid"
        )
        for warning in summary["warnings"]:
            click.echo(f"  warning: {printable(warning)}")


def _show_overview(found: dict[str, Any]) -> None:
    for name, trouble in (found["projects"] or {}).items():
        click.echo(f"project {name}: {printable(trouble) if trouble else 'no trouble'}")
    for state in ("running", "waiting", "failed"):
        click.echo(f"{state}: {found['totals'][state]}")
        for job in found[state]:
            click.echo(f"  {_job_line(job)}")
    if other := found["other_path"]:
        click.echo(
            f"Deliveries arrive at another path than the receiver's, {other['count']} lately, the last at"
            f" {other['path']} on {other['last_at']}: the webhook's URL must end in WEBHOOK_PATH"
            " (see `batch-receiver webhooks list`)."
        )
    for name in found["unreadable"]:
        click.echo(f"unreadable: {printable(name)}")
    click.echo(f"committed today and yesterday: {found['committed_total']}")
    if not found["committed"]:
        return
    table = Table("batch", "state", "committed", "total", "succeeded", "failed", "invalid", box=None)
    for entry in found["committed"]:
        counts = entry["counts"]
        numbers = (str(counts[name]) for name in ("total", "succeeded", "failed", "invalid"))
        batch = f"{entry['project']}/{entry['batch']}" if entry.get("project") else entry["batch"]
        table.add_row(batch, entry["state"], entry["committed_at"], *numbers)
    Console(width=_WIDEST).print(table)


def _job_line(job: dict[str, Any]) -> str:
    words = [job["job"], job["state"], f"since {job['since']}"]
    if job["next_try"]:
        words.append(f"next try {job['next_try']}")
    if job["reason"]:
        words.append(f"because: {printable(job['reason'])}")
    return "  ".join(words)
