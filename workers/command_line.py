"""What commands have in common: a batch as an argument, errors as one sentence, and the exit code. A leaf."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from workers.contract import parse_batch_id
from workers.contract.setting.reading import WrongSetting
from workers.contract.terminal import printable
from workers.errors import KeyRefused, SettingsError, WorkerError


def batch_id(text: str) -> str:
    """The bare id of `batches/<id>` or `<id>`. Raises `click.BadParameter`."""
    batch = parse_batch_id(text)
    if batch is None:
        raise click.BadParameter("a batch is batches/<id> or the bare id.", param_hint="BATCH")
    return batch


@contextmanager
def told() -> Iterator[None]:
    """Errors as one sentence on standard error, and the exit code: 2 for a wrong setting or API key, 1 for the rest."""
    try:
        yield
    except (SettingsError, WrongSetting, KeyRefused) as error:
        fail(str(error), code=2)
    except WorkerError as error:
        fail(str(error))
    except BrokenPipeError:
        raise  # Nobody reads on, as with `| head`: click ends the command without a word.
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror}.")


def fail(sentence: str, *, code: int = 1) -> NoReturn:
    click.echo(f"Error: {printable(sentence)}", err=True)
    sys.exit(code)
