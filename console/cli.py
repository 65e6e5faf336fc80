"""`batch-receiver console`: settings in, a private page out."""

import logging
import os
import signal
import socket
import sys

import click
import uvicorn

from console import app
from console.settings import Settings
from workers.contract import logs
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import LOG_FORMAT, PORT
from workers.errors import WorkerError

_BACKLOG = 128


class _Wrong(click.ClickException):
    """A setting is missing or wrong."""

    exit_code = 2


@click.command(epilog="Example: batch-receiver console --port 8090")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8090,
    envvar=PORT.name,
    show_default=True,
    show_envvar=True,
    type=click.IntRange(0, 65_535),
    help="0 takes a free one.",
)
def console(host: str, port: int) -> None:
    """Show batches, results, deliveries, workers and checks as a private page, and mend what failed.

    Whoever reaches it reads prompts and answers. So it listens on this machine alone, unless there is a password
    (CONSOLE_PASSWORD, user admin) or a proxy that signs people in (CONSOLE_TRUST_USER_HEADER).
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It tells of every call of the checks.
    try:
        logs.configure(LOG_FORMAT.read(os.environ))
        settings = Settings.load(os.environ, host)
        application = app.build(settings, host)
    except (WrongSetting, WorkerError) as error:
        raise _Wrong(str(error)) from None
    except (ValueError, TypeError):
        raise _Wrong("REDIS_URL is not an address that the Redis client understands.") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends gracefully at these, and raises them once more: to be stopped is no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    listener = _listen(host, port)
    name = listener.getsockname()
    shown = f"[{name[0]}]" if ":" in name[0] else name[0]
    click.echo(f"listening on http://{shown}:{name[1]}", err=True)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # Who reads that it listens may ask at once.
    except OSError as error:
        raise click.ClickException(f"Can't listen on {host} port {port}: {error.strerror}.") from None
    except UnicodeError:
        raise click.BadParameter("it is no address.", param_hint="--host") from None
    return listener
