"""The command `check`."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import msgspec

from sender.check import Check, Finding, Report, check_file
from sender.command_line import bytes_bar
from sender.examine import Examined, Fault, examine
from sender.fix import fix
from sender.rules import RULES
from workers.command_line import told
from workers.contract.terminal import printable

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def model_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A model's name. Raises `click.BadParameter`."""
    if value is not None and not re.fullmatch(r"(?:models/)?[A-Za-z0-9._-]{1,128}", value):
        raise click.BadParameter(f"{value!r} is no model's name, such as gemini-3.5-flash.")
    return value


@click.command(epilog="Example: batch-receiver check requests.jsonl --model gemini-3.5-flash")
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--model",
    callback=model_name,
    help="The model that the batch is for: its price is known then, and a line that names it can be corrected.",
)
@click.option("--embeddings", is_flag=True, help="The requests are for embeddings.")
@click.option(
    "--openai", is_flag=True, help="The lines are the OpenAI layer's: custom_id, method, url, body."
)
@click.option(
    "--fix",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the file with all that is certain corrected.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(
    file: Path, model: str | None, *, embeddings: bool, openai: bool, target: Path | None, as_json: bool
) -> None:
    """Check a request file before it costs anything: every line, in flat memory, without a network.

    Says which lines Gemini would refuse or misread, why, and the right form; and about how many tokens they are. With
    --fix, writes the file corrected where the correction is certain; exits 0 where nothing but warnings is left.

    Exits 0 when nothing is wrong, warnings aside, and 1 when something is.
    """
    if target is not None and openai:
        raise click.UsageError("--fix corrects Gemini's own lines, not those of --openai.")
    if target is not None and target.exists() and target.samefile(file):
        raise click.BadParameter("would overwrite the file itself.", param_hint="--fix")
    with told():
        report = _checked(file, model, embeddings=embeddings, openai=openai, target=target)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        for line in told_lines(report, target):
            click.echo(line)
    if not report.ok:
        sys.exit(1)


def _checked(file: Path, model: str | None, *, embeddings: bool, openai: bool, target: Path | None) -> Report:
    with bytes_bar() as bar:
        task = bar.add_task("checking", total=file.stat().st_size)
        if target is None:
            look = Check(embeddings=embeddings, openai=openai)
            for count in check_file(file, look):
                bar.advance(task, count)
            return look.report(file, model=model)
        with written_aside(target) as aside:
            mender = Mender(aside.out, embeddings=embeddings, model=model)
            look = Check(embeddings=embeddings, mend=mender.mend, passed=aside.out.write)
            for count in check_file(file, look):
                bar.advance(task, count)
            aside.wanted = not look.findings.counts["json-array"]
        return look.report(file, mender.fixed, model)


class Mender:
    """Writes every line, corrected where that is certain."""

    def __init__(self, out: IO[bytes], *, embeddings: bool, model: str | None) -> None:
        self.fixed = 0
        self._out = out
        self._embeddings = embeddings
        self._model = model

    def mend(self, number: int, line: bytes, examined: Examined) -> list[Fault]:
        del number
        left = examined.faults
        if left and isinstance(examined.value, dict):
            left = fix(examined.value, left, embeddings=self._embeddings, model=self._model)
        if len(left) < len(examined.faults):
            self.fixed += 1
            line = msgspec.json.encode(examined.value)
            left = examine(line, embeddings=self._embeddings).faults
        self._out.write(line.rstrip(b"\r") + b"\n")
        return left


@dataclass(slots=True)
class Aside:
    """A file that is being written; it takes its place only if it is `wanted`."""

    out: IO[bytes]
    wanted: bool = True


@contextmanager
def written_aside(target: Path) -> Iterator[Aside]:
    """A file that appears when it is whole, in place of one that was there. Raises `OSError`."""
    target = target.resolve()
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with path.open("xb") as out:
            aside = Aside(out)
            yield aside
            out.flush()
            os.fsync(out.fileno())
        if aside.wanted:
            path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def told_lines(report: Report, target: Path | None = None) -> Iterator[str]:
    """A report for people."""
    for each in report.findings:
        yield told_finding(each)
    for rule, count in report.counts.items():
        named = sum(each.rule == rule for each in report.findings)
        if count > named:
            yield f"… and {count - named} more: {RULES[rule].reason.replace('{field}', '…')}."
    if target is not None and "json-array" not in report.counts:
        yield f"{report.fixed} lines corrected, in {target}."
    verdict = "is good" if report.ok else "is not good"
    yield (
        f"{report.file} {verdict}: {report.requests} requests, {report.bytes} bytes, "
        f"about {report.tokens} tokens; {report.errors} errors, {report.warnings} warnings."
    )
    if report.ok and report.cost:
        yield report.cost.told()


def told_finding(each: Finding) -> str:
    place = f"line {each.line}" if each.line else "the file"
    return printable(f"{place}: {each.level}: {each.reason}; right is {each.right} [{each.rule}]")
