"""What the sender's commands have in common: a batch as an argument, errors as one sentence, a bar, a way to ask."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

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

from workers.contract import parse_batch_id
from workers.contract.setting.reading import WrongSetting
from workers.contract.terminal import printable
from workers.errors import SettingsError, WorkerError

INTERRUPTED = 130


def batch_id(text: str) -> str:
    """The bare id of `batches/<id>` or `<id>`. Raises `click.BadParameter`."""
    batch = parse_batch_id(text)
    if batch is None:
        raise click.BadParameter("a batch is batches/<id> or the bare id.", param_hint="BATCH")
    return batch


@contextmanager
def told() -> Iterator[None]:
    """Errors as one sentence on standard error, and the exit code: 2 for a wrong setting, 1 for the rest."""
    try:
        yield
    except (SettingsError, WrongSetting) as error:
        fail(str(error), code=2)
    except WorkerError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror}.")


def fail(sentence: str, *, code: int = 1) -> NoReturn:
    click.echo(f"Error: {printable(sentence)}", err=True)
    sys.exit(code)


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
