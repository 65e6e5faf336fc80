"""The workers' commands: work, process, replay, forget, status, reconcile."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Literal

import click
import msgspec
from redis.exceptions import RedisError

from workers import notices
from workers.bucket.probe import try_bucket
from workers.command_line import batch_id, fail, told
from workers.contract import Announced, Announcement, Outcome, Queues, Trigger, forgetting, logs
from workers.contract.history import History
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import LOG_FORMAT
from workers.contract.terminal import printable
from workers.doubt import is_unheard_of
from workers.errors import SettingsError, WorkerError
from workers.fanout import fan_out
from workers.jobs import prepare
from workers.outside.posts import NotTaken
from workers.parts import forget_split, read_part
from workers.process import Result, Tools
from workers.process import process as process_one
from workers.reconcile import beat, reconcile
from workers.redis_connection import connect, in_one_sentence, wait_for
from workers.settings import Settings, queue_prefix, redis_url
from workers.showing import Bar
from workers.summary import read_summary
from workers.unannounced import Report


class Replayed(msgspec.Struct, frozen=True):
    """What `replay` says: `accepted`, or `duplicate` where the batch waits or runs already."""

    batch: str
    status: Literal["accepted", "duplicate"]


class Forgotten(msgspec.Struct, frozen=True):
    """What `forget` says: how many jobs it removed."""

    batch: str
    forgotten: int


@click.command(epilog="Example: batch-receiver work --workers 4")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Worker processes."
)
@click.option("--burst", is_flag=True, help="End when nothing is left to do.")
@click.option("--wait", is_flag=True, help="Begin without trying the bucket and the API key first.")
def work(workers: int, *, burst: bool, wait: bool) -> None:
    """Run workers that fetch finished batches, fan them out to the bucket and commit them."""
    # RQ's worker is not needed by the other commands.
    from workers.admission import Admission  # noqa: PLC0415
    from workers.pool import run_pool  # noqa: PLC0415

    with told(), in_one_sentence():
        Settings.load_all(os.environ)
        _log_lines()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # A terminal may close.
        connection = wait_for(redis_url(os.environ))
        projects = Admission(os.environ, connection, untried=wait)
        signal.signal(signal.SIGHUP, lambda *_: projects.look_now())
        run_pool(projects, connection, workers, burst=burst)


@click.command(epilog="Example: batch-receiver process batches/abc123")
@click.argument("batch")
@click.option("--json", "as_json", is_flag=True, help="Print batch.json.")
def process(batch: str, *, as_json: bool) -> None:
    """Process one batch here and now, in the foreground, without Redis or workers."""
    batch = batch_id(batch)
    with told():
        settings = Settings.load(os.environ)
        for remark in try_bucket(settings.storage_url, os.environ):
            click.echo(f"Warning: {printable(remark)}", err=True)
        tools = prepare(settings)
        bar = Bar()
        tools = replace(tools, chronicle=bar)
        with closing(tools.gemini), bar.progress:
            said = Announced(frozenset({Trigger.PROCESS}), 1, None)
            result = process_one(tools, _Here(tools, bar), batch, said)
        if result is Result.LEFT_ALONE:
            fail(f"{batch} is left alone: its display name does not match BATCH_DISPLAY_NAME.")
        summary = read_summary(tools.bucket, batch)
        if summary is None:
            fail(f"{batch} was not committed; run the command again.")
        _tell(tools, batch)
        if as_json:
            click.echo(summary.encoded().decode(), nl=False)
            return
        counts = summary.counts
        click.echo(
            f"{batch} {result}: {summary.state}, {counts.total} results "
            f"({counts.succeeded} succeeded, {counts.failed} failed, {counts.invalid} invalid)."
        )
        for warning in summary.warnings:
            click.echo(f"Warning: {printable(warning)}")


@click.command(epilog="Example: batch-receiver replay batches/abc123")
@click.argument("batch")
@click.option(
    "--refetch", is_flag=True, help="Fetch a committed batch once more; a new revision if it differs."
)
@click.option("--force", is_flag=True, help="Don't ask Gemini first whether there is such a batch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay(batch: str, *, refetch: bool, force: bool, as_json: bool) -> None:
    """Enqueue a batch again, also after it failed for good. Only what is missing is done."""
    batch = batch_id(batch)
    with told(), in_one_sentence():
        queues = _queues()
        if not force and is_unheard_of(queues, batch, os.environ):
            fail(
                f"Nobody knows {batch}: neither Redis nor Gemini with this key. It may be misspelt, deleted or another"
                " project's; --force enqueues it all the same."
            )
        announcement = Announcement(batch, Trigger.REPLAY, refetch=refetch)
        outcome = queues.announce([announcement])[0]
        _acted(queues, "replay", batch=batch, refetch=int(refetch), outcome=outcome.value)
        if as_json:
            status: Literal["accepted", "duplicate"] = (
                "accepted" if outcome is Outcome.ACCEPTED else "duplicate"
            )
            click.echo(msgspec.json.encode(Replayed(batch, status)).decode())
        elif outcome is Outcome.ACCEPTED:
            click.echo(f"{batch} is enqueued.")
        else:
            click.echo(f"{batch} waits or runs already.")


@click.command(epilog="Example: batch-receiver forget batches/abc123")
@click.argument("batch")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def forget(batch: str, *, as_json: bool) -> None:
    """Remove the jobs of a batch that wait or failed for good, and what was announced of it. The bucket stays."""
    batch = batch_id(batch)
    with told(), in_one_sentence():
        queues = _queues()
        forgotten = forgetting.forget(queues, batch)
        if forgotten:
            History(queues.connection, queues.prefix).act(
                "command line", "forget", batch=batch, jobs=forgotten
            )
    if as_json:
        click.echo(msgspec.json.encode(Forgotten(batch, forgotten)).decode())
    elif forgotten:
        click.echo(f"{forgotten} job{'s' if forgotten > 1 else ''} of {batch} removed.")
    if not forgotten:
        fail(f"There is no job of {batch} that waits or failed.")


@click.command(name="reconcile", epilog="Example: batch-receiver reconcile")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reconcile_now(*, as_json: bool) -> None:
    """Ask Gemini for batches that ended without our being told, and enqueue those that are not in the bucket."""
    reports: dict[str, Report] = {}
    with told(), in_one_sentence():
        known = Settings.load_all(os.environ)
        connection = connect(redis_url(os.environ))
        for settings in known:
            try:
                tools = prepare(settings)
                with closing(tools.gemini):
                    queues = Queues(connection, settings.queue_prefix)
                    report = reconcile(tools, queues, reenable=settings.reconcile_reenable)
                beat(report, settings.heartbeat_url)
            except WorkerError as error:
                if len(known) == 1:
                    raise
                report = Report(troubles=[str(error)])
            reports[settings.project or ""] = report
    if as_json:
        document = reports if len(known) > 1 else next(iter(reports.values()))
        click.echo(json.dumps(msgspec.to_builtins(document)))
    else:
        for project, report in reports.items():
            if len(known) > 1:
                click.echo(f"{project}:")
            _show_report(report)
    if any(report.troubles for report in reports.values()):
        sys.exit(2 if all(report.key_refused for report in reports.values()) else 1)


def _show_report(report: Report) -> None:
    click.echo(
        f"{report.listed} batches listed, {report.final} of them ended lately: {report.committed} committed, "
        f"{report.enqueued} enqueued now, {report.already_waiting} waiting or running, "
        f"{report.failed_for_good} failed for good, {report.other_names} with another display name."
    )
    if report.webhooks_disabled:
        done = "enabled again" if report.webhooks_reenabled else "run `batch-receiver register` to enable it"
        click.echo(
            f"Gemini had disabled {report.webhooks_disabled} webhook(s) after failed deliveries: {done}."
        )
    for sentence in report.troubles:
        click.echo(f"Error: {printable(sentence)}", err=True)


class _Here:
    """Parts in this process, with progress: not while they are still being fetched, but then."""

    def __init__(self, tools: Tools, bar: Bar) -> None:
        self._tools = tools
        self._bar = bar

    def part(self, batch: str, number: int) -> None:
        """Not now: `parts` writes all of them."""

    def parts(self, batch: str, numbers: Iterable[int]) -> bool:
        self._bar.writing()
        for number in numbers:
            part = read_part(self._tools.bucket, batch, number)
            if part is None:
                forget_split(self._tools.bucket, batch, number)
                break
            fan_out(self._tools.bucket, batch, part, self._tools.outputs)
            self._bar.written(number)
        return True

    def look(self, batch: str) -> None:
        """Nothing: `process` looks again by itself."""


def _tell(tools: Tools, batch: str) -> None:
    """Tell of a commit once; what is not taken stays noted in the bucket."""
    if tools.downstream is None:
        return
    try:
        for of, revision in [*notices.owed(tools.bucket, batch)]:
            notices.tell(tools.downstream, tools.bucket, of, revision)
    except NotTaken as error:
        click.echo(f"Warning: {error} A `work` or `reconcile` of this bucket tells it later.", err=True)


def _acted(queues: Queues, action: str, **fields: str | int) -> None:
    """Write down what was done; it is done in any case."""
    with suppress(RedisError):
        History(queues.connection, queues.prefix).act("command line", action, **fields)


def _queues() -> Queues:
    return Queues(connect(redis_url(os.environ)), queue_prefix(os.environ))


def _log_lines() -> None:
    try:
        logs.configure(LOG_FORMAT.read(os.environ))
    except WrongSetting as error:
        raise SettingsError(str(error)) from None
    for noisy in ("rq", "rq.worker", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
