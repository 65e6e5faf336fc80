"""What commands have in common: the environment that they read, and the exit code where it is wrong."""

import copy
import os
from pathlib import Path

import click

from workers.contract import environment
from workers.contract.settings import WrongSetting, used_by

_HELP_WIDTH = 78


class CannotStart(click.ClickException):
    """A setting is missing or wrong: one sentence, and the exit code of wrong usage."""

    exit_code = 2


def prepare(command: str) -> None:
    """Bring `.env` into the environment, and say what in there is likely a slip. Raises `CannotStart`."""
    try:
        os.environ.update(environment.read(Path.cwd()))
    except WrongSetting as error:
        raise CannotStart(str(error)) from None
    for slip in environment.slips(os.environ, command):
        click.echo(f"Warning: {slip}", err=True)


def with_environment(command: click.Command, name: str) -> click.Command:
    """The command, with the settings that it reads at the end of its help."""
    settings = used_by(name)
    if not settings:
        return command
    formatter = click.HelpFormatter(width=_HELP_WIDTH)
    with formatter.section("Environment"):
        formatter.write_dl([(each.name, each.in_short) for each in settings])
    explained = copy.copy(command)
    # The mark keeps click from wrapping the table anew.
    explained.epilog = f"{command.epilog or ''}\n\n\b\n{formatter.getvalue()}"
    return explained
