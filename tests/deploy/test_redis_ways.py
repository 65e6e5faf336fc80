"""The whole product on each kind of Redis that this machine has, reached in each way that REDIS_URL can name."""

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.demo.local_redis import free_port
from tests.receiver.signing import SECRET
from tests.support import redis_servers
from tests.support.deployment import Deployment, tell_the_whole_story
from tests.support.processes import Process
from tests.support.tls import certificates


@dataclass(frozen=True)
class Way:
    """`url` is trusted, or needs nothing; `options` are the server's."""

    url: str
    options: tuple[str, ...]


def plain(_: Path) -> Way:
    port = free_port()
    return Way(f"redis://127.0.0.1:{port}/1", ("--port", str(port)))


def unix(folder: Path) -> Way:
    path = folder / "s"
    return Way(f"unix://{path}?db=1", ("--port", "0", "--unixsocket", str(path)))


def tls(folder: Path) -> Way:
    certificates(folder)
    port = free_port()
    files = ("cert-file", "server.pem", "key-file", "server.key", "ca-cert-file", "authority.pem")
    named = [
        word
        for option, file in zip(files[::2], files[1::2], strict=True)
        for word in (f"--tls-{option}", str(folder / file))
    ]
    return Way(
        f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={folder}/authority.pem",
        ("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *named),
    )


@pytest.fixture(params=redis_servers.KINDS)
def server(request: pytest.FixtureRequest) -> str:
    return redis_servers.find(request.param)


@pytest.fixture(params=[plain, unix, tls], ids=lambda way: way.__name__)
def redis_url(
    request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("r")
    way: Way = request.param(folder)
    with redis_servers.running(server, folder, way.url, "--bind", "127.0.0.1", *way.options):
        yield way.url


def test_a_delivery_a_retry_a_reconcile_and_every_command_work(deployment: Deployment) -> None:
    tell_the_whole_story(deployment)


@pytest.mark.parametrize("redis_url", [tls], indirect=True)
@pytest.mark.parametrize("doubt", ["", "?ssl_ca_certs={folder}/nobody.pem"])
def test_a_certificate_that_is_not_trusted_is_named_by_whoever_meets_it(
    deployment: Deployment, redis_url: str, start_process: Callable[..., Process], doubt: str
) -> None:
    address, _, trusted = redis_url.partition("?ssl_ca_certs=")
    url = address + doubt.format(folder=Path(trusted).parent)

    # OpenSSL's own words: which ones depends on what the server sends along.
    sentence = r"TLS: its certificate is not trusted \((self-signed certificate|unable to get local issuer)"
    for command in (["status"], ["reconcile"], ["replay", "abc"]):
        ended = deployment.run(*command, REDIS_URL=url)
        assert (ended.returncode, bool(re.search(sentence, ended.output))) == (2, True), ended.output
        assert ended.output.count("\n") == 1
    for name in ("serve", "work"):
        waiting = start_process(
            name, env={**deployment.env, "REDIS_URL": url, "WEBHOOK_SIGNING_SECRET": SECRET, "PORT": "0"}
        )
        waiting.wait_for_output(sentence)
        assert waiting.stop() in {0, -signal.SIGTERM}
