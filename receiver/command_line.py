"""What commands have in common: the environment that they read, whose project it is, and the exit code for slips."""

import copy
import os
from collections.abc import Callable
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import click

from workers.contract import environment, projects
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import PROJECTS_FILE, used_by

_HELP_WIDTH = 78

# These work for every project; the latter ones for a single one where it is named.
_OF_ALL = frozenset({"serve", "work"})
_OF_ALL_OR_ONE = frozenset({"status", "reconcile", "console", "doctor"})


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


def for_a_project(command: click.Command, name: str) -> click.Command:
    """The command with an option `--project`, run in the environment of the project that is meant."""
    if name in _OF_ALL or name not in PROJECTS_FILE.used_by:
        return command
    changed = copy.copy(command)
    if isinstance(changed, click.Group):
        changed.commands = {each: for_a_project(one, name) for each, one in changed.commands.items()}
    elif changed.callback is not None:
        takes_a_batch = any(parameter.name == "batch" for parameter in changed.params)
        about = "A project of PROJECTS_FILE" + ("; or write NAME/BATCH." if takes_a_batch else ".")
        changed.params = [*changed.params, click.Option(["--project"], metavar="NAME", help=about)]
        narrowed = partial(_in_a_project, changed.callback, name in _OF_ALL_OR_ONE)
        changed.callback = update_wrapper(narrowed, changed.callback)
    return changed


def _in_a_project(
    callback: Callable[..., Any], is_optional: bool, *args: Any, project: str | None, **given: Any
) -> Any:
    """Run a command with the settings of one project in place of those of all."""
    batch = given.get("batch")
    try:
        known = projects.load(os.environ)
        chosen, bare = projects.choose(known, project, batch)
    except projects.NotClear as error:
        if is_optional:
            return callback(*args, **given)
        raise click.UsageError(str(error)) from None
    except WrongSetting as error:
        raise CannotStart(str(error)) from None
    if batch is not None:
        given["batch"] = bare
    for name in os.environ.keys() - chosen.environment.keys():
        del os.environ[name]
    os.environ.update(chosen.environment)
    return callback(*args, **given)
