"""What the sender's commands have in common besides: a word about what goes on, and a bar."""

import sys

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from workers.contract.terminal import printable

INTERRUPTED = 130


def said(sentence: str) -> None:
    """Tell people what is going on, on standard error, so that standard output is for programs."""
    click.echo(printable(sentence), err=True)


def bytes_bar() -> Progress:
    """A bar with bytes, rate and time left, on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
