"""`batch-receiver serve`: settings in, a listening server out."""

import os
import resource
import signal
import socket

import click
import uvicorn
from starlette.applications import Starlette

from receiver import app, logs, settings
from receiver.command_line import CannotStart
from receiver.errors import SettingsError
from receiver.intake import Intake, connect
from receiver.keyring import Keyring
from receiver.protocol import limited_to
from workers.contract.settings import PORT

_BACKLOG = 1024
_MAX_CONNECTIONS = 4096
_OTHER_FILES = 64
# Longer than a proxy keeps its idle connections: who closes first must not be the one who is sent a request.
_KEEP_ALIVE_SECONDS = 130
_GRACE_SECONDS = 5


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=PORT.default,
    envvar=PORT.name,
    show_default=True,
    show_envvar=True,
    type=click.IntRange(0, 65_535),
    help="0 takes a free one.",
)
def serve(host: str, port: int) -> None:
    """Run the webhook endpoint.

    Example: WEBHOOK_SIGNING_SECRET=whsec_… batch-receiver serve --host 0.0.0.0 --port 8080
    """
    logs.configure()
    try:
        configured = settings.load(os.environ)
        application = _assemble(configured)
    except SettingsError as error:
        raise CannotStart(str(error)) from None
    listener = _listen(host, port)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=limited_to(_max_connections()),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn ends gracefully at these signals, then raises them once more for whoever handled them before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _Server(config, _url(listener, host, configured.path)).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logs.logger.info("listening on %s", self._url)


def _assemble(configured: settings.Settings) -> Starlette:
    keyring = Keyring(configured)
    intake = Intake(connect(configured.redis_url))

    def close() -> None:
        keyring.close()
        intake.close()

    return app.build(
        path=configured.path,
        max_body_bytes=configured.max_body_bytes,
        verify=keyring.verify,
        intake=intake,
        close=close,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise click.ClickException(f"Can't listen on {host} port {port}: {error.strerror}.") from None
    except UnicodeError:
        raise click.BadParameter("it is no address.", param_hint="--host") from None
    return listener


def _url(listener: socket.socket, host: str, path: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}{path}"


def _max_connections() -> int:
    """As many as the process may have files, after asking for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, soft - _OTHER_FILES)
