"""The commands that subscribe a URL to Gemini's batch events and look after the subscription.

`register` may run at every deployment: it never makes a second webhook for a URL. Given a file for it, it
keeps the signing secret, which Gemini shows only once, out of every terminal.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver import settings
from receiver.command_line import CannotStart
from receiver.errors import ReceiverError, SettingsError
from receiver.registration.secret_file import ReservedFile, SecretFileError, reserve
from receiver.registration.subscription import Wanted, still_valid, subscribe, wrong_with_event
from workers.contract.setting.kinds import is_https_or_loopback
from workers.contract.settings import WEBHOOK_PATH
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini, KeyRefused, WorkerError
from workers.gemini.webhooks import BATCH_EVENTS, Webhook, Webhooks

_WEBHOOK_ID = re.compile(r"(?:webhooks/)?([A-Za-z0-9][A-Za-z0-9._~-]{0,199})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Registration(msgspec.Struct, frozen=True):
    """What `register` says. `action`: created, updated, rotated or unchanged.

    `secret` is shown only once, and only where it is not written to a file.
    """

    action: str
    webhook: Webhook
    secret_file: str | None
    secret: str | None


class Listed(msgspec.Struct, frozen=True):
    """What `webhooks list` says."""

    webhooks: list[Webhook]


def _check_url(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    if not is_https_or_loopback(url):
        raise click.BadParameter("it must begin with https:// (http:// only for this machine).")
    if httpx.URL(url).path in {"", "/"} or "#" in url:
        raise click.BadParameter("it must have a path, such as https://example.com/webhooks/gemini.")
    return url


def _check_events(
    _context: click.Context, _parameter: click.Parameter, events: tuple[str, ...]
) -> tuple[str, ...]:
    for event in events:
        if problem := wrong_with_event(event):
            raise click.BadParameter(_plain(problem))
    return tuple(dict.fromkeys(events))


def _check_id(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    found = _WEBHOOK_ID.fullmatch(text)
    if not found:
        raise click.BadParameter("it is no webhook id: `batch-receiver webhooks list` shows them.")
    return found[1]


def _compare_path(url: str) -> None:
    """Warn where the receiver would answer 404, as far as can be told from here: a proxy may change the path."""
    named = os.environ.get(WEBHOOK_PATH.name, "").strip()
    served, asked = named or WEBHOOK_PATH.default or "", httpx.URL(url).path
    if asked != served:
        known = (
            f"WEBHOOK_PATH is {served}"
            if named
            else f"the receiver's is {served} unless it is told otherwise"
        )
        click.echo(
            f"Warning: the path of the URL is {_plain(asked)}, and {_plain(known)}: set WEBHOOK_PATH={_plain(asked)}"
            " where `serve` runs, unless a proxy before it changes the path.",
            err=True,
        )


_Function = TypeVar("_Function", bound=Callable[..., Any])
_SECRET_FILE = click.Path(path_type=Path)


def _with_json(function: _Function) -> _Function:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def _with_id(function: _Function) -> _Function:
    return click.argument("webhook_id", metavar="ID", callback=_check_id)(function)


@contextmanager
def _gemini() -> Iterator[Webhooks]:
    """The webhooks of the environment's project; what goes wrong meanwhile becomes a sentence and an exit code."""
    try:
        base_url, key = settings.gemini(os.environ)
        with closing(Gemini(Access(base_url, Secret(key)))) as gemini:
            yield gemini.webhooks
    except (SettingsError, KeyRefused) as error:
        raise CannotStart(str(error)) from error
    except (ReceiverError, WorkerError) as error:
        raise click.ClickException(str(error)) from error


def _reserve(path: Path | None) -> AbstractContextManager[ReservedFile | None]:
    return reserve(path) if path else nullcontext()


@click.command()
@click.option("--url", required=True, callback=_check_url, help="Where Gemini reaches the receiver.")
@click.option(
    "--event",
    "events",
    multiple=True,
    default=BATCH_EVENTS,
    show_default=True,
    callback=_check_events,
    help="An event to subscribe to; may be repeated.",
)
@click.option("--name", help="A name to recognise the webhook by.")
@click.option("--secret-file", type=_SECRET_FILE, help="Write the signing secret there and don't print it.")
@click.option("--rotate", is_flag=True, help="Get a new secret for a webhook whose secret is lost.")
@_with_json
def register(
    *,
    url: str,
    events: tuple[str, ...],
    name: str | None,
    secret_file: Path | None,
    rotate: bool,
    as_json: bool,
) -> None:
    """Subscribe a URL to Gemini's batch events, or bring its subscription up to date.

    May be repeated: there is never a second webhook for a URL. The API key is read from GEMINI_API_KEY.

    Example: batch-receiver register --url https://example.com/webhooks/gemini --secret-file secrets/whsec
    """
    with _gemini() as gemini, _reserve(secret_file) as file:
        _compare_path(url)
        done = subscribe(gemini, Wanted(url, events, name), file.secrets if file else None, rotate=rotate)
        if file:
            _keep(file, done.webhook.id, done.secret, done.held, as_json=as_json)
    for double in done.doubles:
        click.echo(f"Warning: webhook {double} has the same URL: delete it, unless you know why.", err=True)
    if done.secret and not file:
        click.echo("Warning: this secret is shown only once: set it as WEBHOOK_SIGNING_SECRET.", err=True)
    shown = done.secret.reveal() if done.secret and not file else None
    if as_json:
        _print_json(Registration(done.action, done.webhook, str(secret_file) if secret_file else None, shown))
        return
    said = {"created": "Created", "updated": "Updated", "rotated": "Rotated", "unchanged": "Up to date:"}
    subscribed = ", ".join(done.webhook.subscribed_events)
    click.echo(_plain(f"{said[done.action]} {done.webhook.id} for {done.webhook.uri} ({subscribed})."))
    if file:
        click.echo(f"Its secret is in {secret_file}.")
    elif shown:
        click.echo(shown)


@click.group()
def webhooks() -> None:
    """List, get, ping, rotate or delete the webhooks of the API key's project.

    Example: batch-receiver webhooks list
    """


@webhooks.command("list")
@_with_json
def list_webhooks(*, as_json: bool) -> None:
    """List all webhooks of the project.

    Example: batch-receiver webhooks list --json
    """
    with _gemini() as gemini:
        found = list(gemini.list())
    if as_json:
        _print_json(Listed(found))
    elif not found:
        click.echo("No webhook is registered: `batch-receiver register --url URL` does it.", err=True)
    else:
        rows = [
            [each.id, each.state, each.uri, ", ".join(each.subscribed_events), each.name] for each in found
        ]
        _print_rows(["id", "state", "url", "events", "name"], rows)


@webhooks.command()
@_with_id
@_with_json
def get(*, webhook_id: str, as_json: bool) -> None:
    """Show one webhook and the ends of its valid secrets.

    Example: batch-receiver webhooks get 1a2b3c
    """
    with _gemini() as gemini:
        webhook = gemini.get(webhook_id)
    if as_json:
        _print_json(webhook)
        return
    rows = [
        ["id", webhook.id],
        ["name", webhook.name],
        ["url", webhook.uri],
        ["state", webhook.state],
        ["events", ", ".join(webhook.subscribed_events)],
    ]
    for secret in webhook.signing_secrets:
        until = f" until {secret.expire_time:%Y-%m-%d %H:%M %Z}" if secret.expire_time else ""
        rows.append(["secret", f"{secret.truncated_secret}{until}"])
    _print_rows(["field", "value"], rows)


@webhooks.command()
@_with_id
@_with_json
def ping(*, webhook_id: str, as_json: bool) -> None:
    """Have Gemini send a test event; the receiver answers it and ignores it.

    Example: batch-receiver webhooks ping 1a2b3c
    """
    with _gemini() as gemini:
        gemini.ping(webhook_id)
    _report({"id": webhook_id, "pinged": True}, f"Asked Gemini to ping {webhook_id}.", as_json=as_json)


@webhooks.command()
@_with_id
@click.option(
    "--secret-file", type=_SECRET_FILE, required=True, help="Gets the new secret as its first line."
)
@click.option(
    "--revoke-now", is_flag=True, help="Revoke the old ones: the file then holds the new one alone."
)
@_with_json
def rotate(*, webhook_id: str, secret_file: Path, revoke_now: bool, as_json: bool) -> None:
    """Replace the signing secret. The old one stays valid for 24 hours, for deliveries on their way.

    Example: batch-receiver webhooks rotate 1a2b3c --secret-file secrets/whsec
    """
    with _gemini() as gemini, reserve(secret_file) as file:
        old = [] if revoke_now else still_valid(file.secrets, list(gemini.list()), datetime.now(UTC))
        new = gemini.rotate(webhook_id, revoke_now=revoke_now)
        _keep(file, webhook_id, new, old, as_json=as_json)
    document = {"id": webhook_id, "secret_file": str(secret_file), "revoked_now": revoke_now}
    until = "revoked" if revoke_now else "valid for 24 hours"
    sentence = f"Rotated {webhook_id}: the new secret is in {secret_file}, the old one is {until}."
    _report(document, sentence, as_json=as_json)


@webhooks.command()
@_with_id
@click.option("--yes", is_flag=True, help="Don't ask.")
@_with_json
def delete(*, webhook_id: str, yes: bool, as_json: bool) -> None:
    """Delete a webhook: its URL is told nothing any more.

    Example: batch-receiver webhooks delete 1a2b3c --yes
    """
    if not yes:
        click.confirm(f"Delete webhook {webhook_id}?", abort=True, err=True)
    with _gemini() as gemini:
        gemini.delete(webhook_id)
    _report({"id": webhook_id, "deleted": True}, f"Deleted {webhook_id}.", as_json=as_json)


def _keep(
    file: ReservedFile, webhook_id: str, new: Secret | None, old: Sequence[Secret], *, as_json: bool
) -> None:
    """Write the file anew, the `new` secret first; rather than lose it, print it."""
    secrets = [new, *old] if new else list(old)
    if secrets == file.secrets:
        return
    try:
        file.replace(secrets)
    except SecretFileError as error:
        if new is None:
            raise
        _report({"id": webhook_id, "secret": new.reveal()}, new.reveal(), as_json=as_json)
        raise click.ClickException(f"{error} It is printed instead, this once.") from error


def _report(document: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(document)
    else:
        click.echo(sentence)


def _print_json(document: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, lines with tabs for other programs."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(map(_plain, row)))
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    Console().print(table)


def _plain(text: str) -> str:
    """`text` without what could move a terminal's cursor."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
