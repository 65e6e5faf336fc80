"""`batch-receiver emulator`."""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import click
import uvicorn

from emulator.app import JWKS_PATH, create_app
from emulator.settings import Settings
from emulator.world import World

_SHUTDOWN_SECONDS = 1
_SECONDS = click.FloatRange(min=0)


class _Server(uvicorn.Server):
    """Says where it listens, once it does, and what a client's environment needs for it."""

    any_key = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or []:
            host, port = each.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            click.echo(f"emulator: listening on {url}")
            click.echo(f"export GOOGLE_GEMINI_BASE_URL={url}")
            click.echo(f"export WEBHOOK_JWKS_URL={url}{JWKS_PATH}")
            if self.any_key:
                click.echo("export GEMINI_API_KEY=any")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8081, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one."
)
@click.option("--api-key", help="The only API key to accept. Default: any.")
@click.option("--seconds", default=1.0, type=_SECONDS, show_default=True, help="How long a batch takes.")
@click.option(
    "--retry-first",
    default=0.1,
    type=_SECONDS,
    show_default=True,
    help="Seconds before a delivery is repeated.",
)
@click.option(
    "--retry-max", default=5.0, type=_SECONDS, show_default=True, help="Longest pause between repetitions."
)
@click.option(
    "--give-up",
    default=86_400.0,
    type=_SECONDS,
    show_default=True,
    help="Seconds until a webhook is disabled.",
)
@click.option(
    "--dynamic-signature",
    type=click.Choice(["v1a", "jwt"]),
    default="v1a",
    show_default=True,
    help="How deliveries to a job's own webhooks are signed.",
)
@click.option("--audience", help="The JWT's audience. Default: the address that it is sent to.")
def emulator(  # noqa: PLR0917  # click passes them by name.
    host: str,
    port: int,
    api_key: str | None,
    seconds: float,
    retry_first: float,
    retry_max: float,
    give_up: float,
    dynamic_signature: str,
    audience: str | None,
) -> None:
    """Run a local Gemini: files, batches, webhooks and their deliveries, to develop and test against.

    Point a client at it with the lines that it prints. Everything is gone when it ends.

    Example: batch-receiver emulator --seconds 5
    """
    settings = Settings(
        api_key=api_key,
        batch_seconds=seconds,
        retry_first_seconds=retry_first,
        retry_max_seconds=retry_max,
        give_up_seconds=give_up,
        dynamic_signature=dynamic_signature,
        audience=audience,
    )
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        # Below 0 it is a resolver's, which the system has no words for.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "there is no such host"
        raise click.ClickException(f"Can't listen on {host}, port {port}: {reason}.") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has shut down; its default action would leave the folder behind.
        signal.signal(number, lambda *_: sys.exit(0))
    with listener, tempfile.TemporaryDirectory(prefix="gemini-emulator-") as folder:
        config = uvicorn.Config(
            create_app(World(settings, Path(folder))),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        server = _Server(config)
        server.any_key = api_key is None
        server.run(sockets=[listener])
