"""What `status` and `process` show a person: tables that fit the terminal, and a bar while work goes on."""

import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from workers.chronicle import Chronicle
from workers.contract.terminal import printable
from workers.gemini.batches import Batch
from workers.parts import Part
from workers.summary import Cost

_WIDEST = 1000  # Off a terminal nothing is cut, and batch ids never are.
_WIDE, _NARROW = 110, 80  # columns of a terminal
_WORDS = ("batch", "name", "state", "committed")
_COLUMNS = [*_WORDS, "total", "succeeded", "failed", "invalid"]
_NEEDED = {*_WORDS, "total"}
WATCH_SECONDS = 2.0


def console() -> Console:
    """Standard output; colours and the terminal's width only where it is one."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDEST, no_color=True)


def show_batch(found: dict[str, Any]) -> None:
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
        click.echo(f"  {summary['usage'].get('total_tokens', 0):,} tokens{_spent(summary.get('cost'))}")
        for warning in summary["warnings"]:
            click.echo(f"  warning: {printable(warning)}")


def show_overview(found: dict[str, Any]) -> None:
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
    out = console()
    columns = _COLUMNS if out.width >= _WIDE else [name for name in _COLUMNS if name in _NEEDED]
    if out.width < _NARROW:
        columns = ["batch", "state", "total"]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        if name == "batch":
            table.add_column(name, overflow="fold", no_wrap=not out.is_terminal)
        else:
            justify: Literal["left", "right"] = "left" if name in _WORDS else "right"
            table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=24, justify=justify)
    for entry in found["committed"]:
        cells = {name: f"{count:,}" for name, count in entry["counts"].items()}
        batch = f"{entry['project']}/{entry['batch']}" if entry.get("project") else entry["batch"]
        cells |= {"batch": batch, "state": entry["state"]}
        cells["name"] = printable(entry["display_name"] or "")
        moment = entry["committed_at"]
        cells["committed"] = moment if out.width >= _WIDE else moment[5:16].replace("T", " ")
        # Plain texts: a display name may hold what rich would take for markup.
        table.add_row(*(Text(cells[name]) for name in columns))
    out.print(table)


def watch(look: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None]) -> None:
    """Show what there is again and again until Ctrl-C, on a cleared terminal."""
    # A shell that starts a command in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            found = look()
            if sys.stdout.isatty():
                click.clear()
            show(found)
            sys.stdout.flush()
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        click.echo(err=True)


class Bar(Chronicle):
    """Bytes and keys of one batch while it is processed here, on standard error where that is a terminal."""

    def __init__(self) -> None:
        columns = (_Doing(), BarColumn(), _Keys(), TimeRemainingColumn(elapsed_when_finished=True))
        self.progress = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        self._task = self.progress.add_task("fetching", total=None, bytes=0)
        self._bytes = 0
        self._lines: list[int] = []

    def looked(self, batch: Batch) -> None:
        self.progress.update(self._task, total=batch.expected)

    def stored(self, part: Part) -> None:
        self._lines.append(part.lines)
        self._bytes += part.bytes
        keys = part.first_index + part.lines
        self.progress.update(self._task, completed=keys, bytes=self._bytes)

    def writing(self) -> None:
        """All is fetched."""
        self.progress.reset(self._task, description="writing", total=sum(self._lines) or None, completed=0)

    def written(self, number: int) -> None:
        keys = self._lines[number] if number < len(self._lines) else 0
        self.progress.advance(self._task, keys)


class _Doing(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.description} {decimal(task.fields['bytes'])}")


class _Keys(ProgressColumn):
    def render(self, task: Task) -> Text:
        of = f" of {task.total:,.0f}" if task.total else ""
        pace = f", {task.speed:,.0f} keys/s" if task.speed else ""
        return Text(f"{task.completed:,.0f}{of} keys{pace}")


def _spent(cost: dict[str, Any] | Cost | None) -> str:
    """What it cost, as the end of a sentence."""
    if not isinstance(cost, dict):
        return ""
    unknown = f", not counting {', '.join(cost['unknown_models'])}" if cost["unknown_models"] else ""
    if cost["amount"] is None:
        return f", no price is known of {', '.join(cost['unknown_models'])}"
    return f", about {cost['amount']} {cost['currency']} ({cost['rates']}, {cost['rates_date']}{unknown})"


def _job_line(job: dict[str, Any]) -> str:
    words = [job["job"], job["state"], f"since {job['since']}"]
    if job["next_try"]:
        words.append(f"next try {job['next_try']}")
    if job["reason"]:
        words.append(f"because: {printable(job['reason'])}")
    return "  ".join(words)
