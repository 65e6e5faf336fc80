"""The command `doctor`."""

import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import click
import msgspec

from console.doctor.check import Check, Diagnosis, Status
from console.doctor.examinations import EXAMINATIONS
from console.doctor.place import Place
from console.doctor.report import line, markdown, verdict
from console.doctor.run import planned, run
from workers.contract import projects
from workers.contract.setting.kinds import is_https_or_loopback
from workers.contract.setting.reading import WrongSetting


def _check_url(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    if url is not None and not is_https_or_loopback(url):
        raise click.BadParameter("it must begin with https:// (http:// only for this machine).")
    return url


@click.command(
    epilog="Example: batch-receiver doctor --url https://hooks.example.com/webhooks/gemini",
    short_help="Look.",
)
@click.option(
    "--url",
    callback=_check_url,
    help="Where Gemini reaches the receiver. Without it, that of the webhook that looks like ours.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table to paste into an issue.")
def doctor(*, url: str | None, as_json: bool, as_markdown: bool) -> None:
    """Look at everything that makes a deployment fail, and say how to mend it.

    Run it in the environment of `serve`, of `work`, or of both: what can't be told from there is skipped. It puts
    objects below _work/_probe/ into the bucket and takes them away again, and has Gemini send one test event. Nothing
    that it prints holds a secret.

    With several projects, each is looked at; --project has it look at one.

    Exits 0 when nothing failed, also with warnings; 1 when something did.
    """
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other.")
    try:
        known = projects.load(os.environ)
    except WrongSetting as error:
        raise click.UsageError(str(error)) from None
    if url and len(known) > 1:
        raise click.UsageError("--url is the address of one project: say --project NAME, too.")
    checks: list[Check] = []
    with ExitStack() as stack:
        places = [stack.enter_context(closing(Place(each.environment, Path.cwd(), url))) for each in known]
        width = max(len(name) for name, _, _ in planned(EXAMINATIONS, places))
        for check in run(EXAMINATIONS, places):
            checks.append(check)
            if not (as_json or as_markdown):
                click.echo(line(check, width))
    is_ok = all(check.status is not Status.FAILED for check in checks)
    if as_json:
        click.echo(msgspec.json.encode(Diagnosis(is_ok, checks)).decode())
    elif as_markdown:
        click.echo(markdown(checks))
    else:
        click.echo(f"\n{verdict(checks)}")
    sys.exit(0 if is_ok else 1)
