"""`batch-receiver serve`: settings in, a listening server out."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Sequence
from importlib import metadata

import click
import uvicorn
from starlette.applications import Starlette

from receiver import app, logs, metrics, systemd
from receiver.backlog import accept_the_last
from receiver.command_line import CannotStart
from receiver.deadlines import GRACE_SECONDS, KEEP_ALIVE_SECONDS
from receiver.elsewhere import NoSuchThing
from receiver.errors import SettingsError
from receiver.intake import connect
from receiver.projects import Projects
from receiver.protocol import MAX_INCOMPLETE_BYTES, limited_to
from receiver.readiness import Readiness
from workers.contract.environment import READY, STOPPING, notify
from workers.contract.setting.kinds import shown
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import PORT

_BACKLOG = 1024
_MAX_CONNECTIONS = 4096
_OTHER_FILES = 64
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
    try:
        logs.configure()
    except WrongSetting as error:
        raise CannotStart(str(error)) from None
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # There is nothing to read anew yet.
    try:
        served = Projects(os.environ)
        application = _assemble(served)
        handed = systemd.listeners()
        listeners = handed or [_listen(host, port)]
    except SettingsError as error:
        raise CannotStart(str(error)) from None
    connections = _max_connections()
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=limited_to(connections),
        h11_max_incomplete_event_size=MAX_INCOMPLETE_BYTES,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # One that comes before uvicorn listens for it waits until then. uvicorn ends gracefully at these, and raises
    # them once more for whoever handled them before.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    logs.info("started", **_shown(served), max_connections=connections)
    urls = [_url(listener, path) for listener in listeners for path in served.webhooks]
    _Server(config, urls, served, [] if handed else listeners).run(sockets=listeners)


class _Server(uvicorn.Server):
    """uvicorn's, with the manners of a service. `own`: sockets that end with it, unlike those handed over."""

    def __init__(
        self, config: uvicorn.Config, urls: Sequence[str], projects: Projects, own: Sequence[socket.socket]
    ) -> None:
        super().__init__(config)
        self._own = own
        self._urls = urls
        self._projects = projects

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._projects.reload)
        self._watch = asyncio.create_task(self._projects.watch())
        self._watchdog = asyncio.create_task(systemd.keep_watchdog_quiet())
        for url in self._urls:
            logs.logger.info("listening on %s", url)
        notify(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify(STOPPING)
        # In every answer from now on: whoever hears it sends the next request to somebody else.
        self.server_state.default_headers.append((b"connection", b"close"))
        await accept_the_last(self._own)
        await super().shutdown(sockets)


def _shown(served: Projects) -> dict[str, object]:
    """What is in force, without a secret."""
    configured, *others = served.settings
    of_one = {
        "queue_prefix": configured.queue_prefix,
        "path": configured.path,
        "secrets": len(configured.secrets),
        "secret_file": configured.secret_file or "none",
    }
    return {
        "version": metadata.version("batch-receiver"),
        "redis": shown(configured.redis_url),
        **({"projects": served.names} if configured.project or others else of_one),
        "jwks": configured.jwks_url or "none",
        "audience": configured.audience or "none",
        "tolerance_seconds": configured.tolerance_seconds,
        "max_body_bytes": configured.max_body_bytes,
    }


def _assemble(served: Projects) -> Starlette:
    first, *others = served.settings
    readiness = Readiness(connect(first.redis_url), prefix=first.queue_prefix)
    readiness.also = [each.queue_prefix for each in others]
    readiness.begin()
    if first.metrics_address:
        logs.info("metrics_listening", port=metrics.listen(first.metrics_address, served.registry))

    def close() -> None:
        readiness.close()
        served.close()

    nothing = NoSuchThing(served.noted, first.max_body_bytes)
    application = app.build(webhooks=served.webhooks, nothing=nothing, readiness=readiness, close=close)

    def changed() -> None:
        app.serve_instead(application, served.webhooks)
        readiness.also = [each.queue_prefix for each in served.settings]

    served.when_changed = changed
    return application


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


def _url(listener: socket.socket, path: str) -> str:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}{path}"


def _max_connections() -> int:
    """As many as the process may have files, after asking for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, soft - _OTHER_FILES)
