"""A diagnosis for a terminal, and as Markdown to paste into an issue. Everything in it is already without secrets."""

from collections.abc import Sequence

import click

from console.doctor.check import Check, Status
from workers.contract.terminal import printable

_MARKS = {Status.OK: "✓", Status.WARNING: "!", Status.FAILED: "✗", Status.SKIPPED: "-"}
_COLOURS = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FAILED: "red",
    Status.SKIPPED: "bright_black",
}
WIDTH = 16


def line(check: Check, width: int = WIDTH) -> str:
    """One check for a terminal: its mark, its sentence and, below, the command that mends it. `width`: of the names."""
    mark = click.style(_MARKS[check.status], fg=_COLOURS[check.status])
    shown = f"{mark} {check.name:{width}}  {printable(check.message)}"
    if check.fix:
        shown += f"\n  {'':{width}}  $ {click.style(printable(check.fix), bold=True)}"
    return shown


def verdict(checks: Sequence[Check]) -> str:
    """The last line."""
    failures, warnings = (
        sum(check.status is status for check in checks) for status in (Status.FAILED, Status.WARNING)
    )
    if failures:
        more = f", and {_counted(warnings, 'warning')}" if warnings else ""
        return f"{_counted(failures, 'failure')}{more}: mend the first one first, and run it again."
    if warnings:
        return f"It works, with {_counted(warnings, 'warning')}."
    return "All is well."


def markdown(checks: Sequence[Check]) -> str:
    """A table."""
    rows = ["| check | status | |", "| --- | --- | --- |"]
    for check in checks:
        fix = f" `{_cell(check.fix)}`" if check.fix else ""
        rows.append(f"| {check.name} | {check.status} | {_cell(check.message)}{fix} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
