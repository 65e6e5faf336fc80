"""`python -m docs.generate`: what the documentation takes from the code, written between marks.

With `--check` nothing is written: it names what is stale, and exits 1.
"""

import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow as pa

from docs.columns import MEANINGS
from emulator.errors import REFUSALS, refusal
from emulator.faults import KINDS
from receiver.cli import main as command_line
from workers.contract.setting.reading import CREDENTIALS
from workers.contract.settings import SETTINGS
from workers.dataset import SCHEMA

ROOT = Path(__file__).resolve().parents[1]
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class Part:
    """What stands in a file between two lines, the marks, that name it."""

    file: str
    name: str
    written: Callable[[], str]

    def placed(self, text: str) -> str:
        """`text` with this part anew. Raises ClickException where a mark is missing."""
        opened, closed = ("# ", "") if self.file.endswith(".example") else ("<!-- ", " -->")
        first = f"{opened}begin {self.name}: written by `make docs`{closed}\n"
        last = f"{opened}end {self.name}{closed}\n"
        before, begun, rest = text.partition(first)
        _, ended, after = rest.partition(last)
        if not begun or not ended:
            raise click.ClickException(f"{self.file} lacks a line of the two around its {self.name}.")
        return f"{before}{first}{self.written()}{last}{after}"


def settings_table() -> str:
    """For the README."""
    rows = ["| name | used by | meaning |", "| --- | --- | --- |"]
    for setting in SETTINGS:
        default = f" Default: `{setting.default}`" if setting.default else ""
        rows.append(f"| `{setting.name}` | {', '.join(setting.used_by)} | {setting.about}.{default} |")
    *others, last = [f"`{setting.name}`" for setting in SETTINGS if setting.is_secret]
    secrets = (
        f"A secret `X` ({', '.join(others)} and {last}) may also stand in a file that `X_FILE` names, or that is"
        f" called `X` in systemd's `${CREDENTIALS}`."
    )
    return "\n".join([*rows, "", *textwrap.wrap(secrets, _WIDTH, break_on_hyphens=False), ""])


def example_settings() -> str:
    """For `deploy/.env.example`: each setting's sentence, and its default as a comment."""
    blocks = []
    for setting in SETTINGS:
        sentence = textwrap.wrap(f"{setting.about.replace('`', '')}.", _WIDTH - 2, break_on_hyphens=False)
        lines = [*(f"# {line}" for line in sentence), f"#{setting.name}={setting.default or ''}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def commands() -> str:
    """The help of every command, and of theirs."""
    settings = command_line.context_settings
    return "\n".join(
        _helps(
            command_line,
            click.Context(command_line, info_name="batch-receiver", terminal_width=80, **settings),
        )
    )


def _helps(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise click.ClickException(f"{name} is listed and does not exist.")
        inner = click.Context(command, parent=context, info_name=name, terminal_width=80)
        path = inner.command_path.removeprefix("batch-receiver ")
        yield f"{'#' * (1 + len(path.split()))} `{path}`\n\n```text\n{inner.get_help()}\n```\n"
        if isinstance(command, click.Group):
            yield from _helps(command, inner)


def dataset_columns() -> str:
    """For `docs/dataset.md`. Raises ClickException where a column is not explained."""
    if unknown := set(SCHEMA.names) ^ MEANINGS.keys():
        raise click.ClickException(f"docs/columns.py and the schema differ in {', '.join(sorted(unknown))}.")
    rows = ["| column | type | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{field.name}` | {_type(field.type)} | {MEANINGS[field.name]} |" for field in SCHEMA]
    return "\n".join(rows) + "\n"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return "float32" if pa.types.is_float32(kind) else str(kind)  # to Arrow itself it is "float"


def trouble() -> str:
    """For `docs/emulator.md`: the faults, and the refusals that one of them can be."""
    rows = ["| kind | what happens |", "| --- | --- |"]
    rows += [f"| `{kind}` | {meaning} |" for kind, meaning in KINDS.items()]
    rows += ["", "| refusal | status | Google's words |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | {(said := refusal(name)).code} | {said.message} |" for name in REFUSALS]
    return "\n".join(rows) + "\n"


PARTS = (
    Part("README.md", "settings", settings_table),
    Part("deploy/.env.example", "settings", example_settings),
    Part("docs/commands.md", "commands", commands),
    Part("docs/dataset.md", "columns", dataset_columns),
    Part("docs/emulator.md", "trouble", trouble),
)


def stale(root: Path) -> list[tuple[Path, str]]:
    """The files below `root` that are not what they should be, each with its right text."""
    found = []
    for part in PARTS:
        path = root / part.file
        text = path.read_text(encoding="utf-8")
        if part.placed(text) != text:
            found.append((path, part.placed(text)))
    return found


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where something is stale.")
@click.option("--root", type=click.Path(path_type=Path), default=ROOT, help="Another copy of the repository.")
def generate(*, check: bool, root: Path) -> None:
    """Write the parts of the documentation that come from the code.

    Example: python -m docs.generate --check
    """
    found = stale(root)
    for path, text in found:
        if check:
            click.echo(f"{path.relative_to(root)} is stale: run `make docs`.", err=True)
        else:
            path.write_text(text, encoding="utf-8")
            click.echo(f"Wrote {path.relative_to(root)}.")
    sys.exit(1 if check and found else 0)


if __name__ == "__main__":
    generate(prog_name="python -m docs.generate")
