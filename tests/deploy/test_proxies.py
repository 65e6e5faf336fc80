"""The proxies of `deploy/`, as Debian packages them, over TLS: nothing is lost, nothing acknowledged without a job."""

import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from receiver import deadlines
from tests.deploy import rolling
from tests.deploy.conftest import DEPLOY
from tests.receiver.signing import event, signed
from tests.support.processes import Process
from tests.support.proxies import PATH, Nothing, Proxy, Receivers, program_of, status_of
from workers.contract import Queues

_ONE_AT_A_TIME = threading.Lock()


@pytest.fixture
def receivers(start_process: Callable[..., Process], redis_url: str) -> Receivers:
    return Receivers(start_process, redis_url)


@contextmanager
def proxied(kind: str, receivers: Receivers, tmp_path: Path) -> Iterator[Proxy]:
    if program_of(kind) is None:
        pytest.skip(f"{kind} is not installed")
    (tmp_path / "proxy").mkdir()
    with closing(Proxy(kind, tmp_path / "proxy", receivers.port)) as proxy:
        proxy.wait_until_up()
        yield proxy


@pytest.fixture(params=["caddy", "nginx"])
def proxy(request: pytest.FixtureRequest, receivers: Receivers, tmp_path: Path) -> Iterator[Proxy]:
    with proxied(request.param, receivers, tmp_path) as proxy:
        yield proxy


@pytest.fixture(params=["caddy", "nginx", "nothing"])
def way_in(request: pytest.FixtureRequest, receivers: Receivers, tmp_path: Path) -> Iterator[Proxy | Nothing]:
    if request.param == "nothing":
        yield Nothing(receivers.port)
        return
    with proxied(request.param, receivers, tmp_path) as proxy:
        yield proxy


def partial_delivery(proxy: Proxy | Nothing, batch: str, sent: int, *, cut: bool) -> bytes:
    """The first line of what comes for a delivery of which only `sent` bytes of the body follow."""
    head, body = delivery(batch)
    # A hundred handshakes at once would take a busy machine longer than proxies wait for a head.
    with _ONE_AT_A_TIME:
        connection = proxy.connect()
        connection.sendall(head + body[:sent])
    with closing(connection):
        if cut:
            connection.close()
            return b""
        return first_line(connection)


def delivery(batch: str) -> tuple[bytes, bytes]:
    """Its head and its body, as they are on the wire."""
    body = event(batch)
    fields = {**signed(body, at=time.time()), "content-length": str(len(body)), "host": "localhost"}
    head = f"POST {PATH} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n", body


def first_line(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096).partition(b"\r\n")[0]
    except OSError:
        return b""


def test_a_body_that_stalls_or_is_cut_after_any_byte_is_acknowledged_only_where_there_is_a_job(
    way_in: Proxy | Nothing, redis_client: "redis.Redis"
) -> None:
    length = len(event("s000"))
    wanted = [(f"s{place:03d}", place, False) for place in range(length + 1)]
    wanted += [(f"c{place:03d}", place, True) for place in range(length)]

    with ThreadPoolExecutor(len(wanted)) as threads:
        answers = dict(threads.map(lambda w: (w[0], partial_delivery(way_in, w[0], w[1], cut=w[2])), wanted))

    queues = Queues(redis_client)
    told = {batch for batch, _, _ in wanted if redis_client.exists(f"rq:job:{queues.batch_job_id(batch)}")}
    assert told == {f"s{length:03d}"}
    assert {batch for batch, line in answers.items() if b" 2" in line} == told, answers


def test_a_body_that_drips_ends_when_the_receiver_has_waited_long_enough(
    way_in: Proxy | Nothing, redis_client: "redis.Redis"
) -> None:
    head, body = delivery("drips")
    began = time.monotonic()
    with closing(way_in.connect()) as connection:
        connection.sendall(head)
        ended = b""
        for byte in body:
            with suppress(OSError):  # It has been ended.
                connection.sendall(bytes([byte]))
            if select.select([connection], [], [], 0.5)[0]:
                ended = first_line(connection)
                break
        else:
            pytest.fail("the body's end was waited for")

    # Caddy reads on until its own limit of 20 s before it passes the receiver's answer on.
    assert time.monotonic() - began < 2 * deadlines.BODY_SECONDS + 5
    assert b" 2" not in ended
    assert not redis_client.exists(f"rq:job:{Queues(redis_client).batch_job_id('drips')}")


@pytest.mark.slow
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_receivers_restart_in_turn_and_no_delivery_is_lost(
    proxy: Proxy, receivers: Receivers, redis_client: "redis.Redis", *, http2: bool
) -> None:
    counts = rolling.restart_all(proxy, receivers, redis_client, http2=http2, times=2, per_second=100)

    assert set(counts.statuses) == {200}, counts
    assert counts.statuses[200] > 100
    assert counts.without_a_job == 0
    assert counts.exits == {0}


@pytest.mark.parametrize("extra", [1, 100_000])
def test_too_large_a_body_is_413(proxy: Proxy, extra: int) -> None:
    body = b"x" * (262_144 + extra)
    assert status_of(proxy, "POST", PATH, body, signed(body, at=time.time())) == 413


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/_emulator/batches", f"{PATH}/", f"{PATH}/x", "//healthz/x", "/%2e%2e/config"]
)
def test_nothing_else_is_reachable(proxy: Proxy, path: str) -> None:
    assert status_of(proxy, "GET", path) in {400, 404}


def test_every_proxy_waits_longer_for_a_body_than_the_receiver() -> None:
    caddy, nginx = (DEPLOY / "Caddyfile").read_text(), (DEPLOY / "nginx.conf").read_text()

    def seconds(pattern: str, text: str) -> int:
        found = re.search(pattern, text)
        assert found, pattern
        return int(found[1])

    for limit in (seconds(r"read_body (\d+)s", caddy), seconds(r"client_body_timeout (\d+)s;", nginx)):
        assert limit > deadlines.BODY_SECONDS
    whole = deadlines.BODY_SECONDS + deadlines.ANSWER_SECONDS + deadlines.LINGER_SECONDS
    assert seconds(r"write (\d+)s", caddy) > whole
    assert seconds(r"response_header_timeout (\d+)s", caddy) > whole
    assert seconds(r"proxy_read_timeout (\d+)s;", nginx) > whole
    assert "keepalive off" in caddy
    assert seconds(r"keepalive_timeout (\d+)s", nginx) < deadlines.KEEP_ALIVE_SECONDS
