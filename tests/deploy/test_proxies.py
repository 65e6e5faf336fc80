"""The proxies of `deploy/`, as Debian packages them, over TLS: nothing is lost, nothing acknowledged without a job."""

import http.client
import itertools
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import redis

from emulator.demo.local_redis import free_port
from receiver import deadlines
from tests.deploy.conftest import DEPLOY
from tests.receiver.signing import SECRET, event, signed
from tests.support.processes import Process
from tests.support.waiting import wait_until
from workers.contract import Queues

PATH = "/webhooks/gemini"
HOSTS = ("127.0.0.2", "127.0.0.3")
"""Where the two receivers are; `receiver.test` is the one name for both."""


class Names:
    """A name server that knows one name with two addresses, whatever it is asked for (RFC 1035, section 4)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            addresses = HOSTS if query[end - 4 : end - 2] == b"\0\1" else ()
            head = query[:2] + b"\x85\x80\0\1" + len(addresses).to_bytes(2, "big") + bytes(4)
            found = [b"\xc0\x0c\0\1\0\1" + bytes(4) + b"\0\4" + socket.inet_aton(each) for each in addresses]
            self._socket.sendto(head + query[12:end] + b"".join(found), sender)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


class Proxy:
    """In front of receivers at `port` of both addresses."""

    def __init__(self, kind: str, folder: Path, port: int) -> None:
        program = shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip(f"{kind} is not installed")
        self.port = free_port()
        self._certify(folder)
        self._names = Names()
        port_of_names = self._names.port
        command = _caddy(folder, port_of_names) if kind == "caddy" else _nginx(folder, self.port, port)
        domain = f"https://localhost:{self.port}"
        env = {"HOME": str(folder), "DOMAIN": domain, "RECEIVER": f"receiver.test:{port}"}
        with (folder / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen([program, *command], env=env, stdout=log, stderr=log)

    @staticmethod
    def _certify(folder: Path) -> None:
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files],
            check=True,
            capture_output=True,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._names.close()

    def connect(self, seconds: float = 40) -> socket.socket:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=seconds)
        return context.wrap_socket(plain, server_hostname="localhost")


def _caddy(folder: Path, names: int) -> list[str]:
    text = (DEPLOY / "Caddyfile").read_text()
    text = text.replace("{\n\tservers", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers", 1)
    text = text.replace("{$DOMAIN} {", f"{{$DOMAIN}} {{\n\ttls {folder}/cert.pem {folder}/key.pem", 1)
    text = text.replace("transport http {", f"transport http {{\n\t\t\t\tresolvers udp/127.0.0.1:{names}", 1)
    (folder / "Caddyfile").write_text(text)
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _nginx(folder: Path, port: int, receivers: int) -> list[str]:
    text = (DEPLOY / "nginx.conf").read_text()
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8081", f"{HOSTS[0]}:{receivers}")
    text = text.replace("127.0.0.1:8082", f"{HOSTS[1]}:{receivers}")
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {folder}/cert.pem;", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {folder}/key.pem;", text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return ["-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


class Receivers:
    """Two of them at one port, each to be restarted."""

    def __init__(self, start: Callable[..., Process], redis_url: str) -> None:
        self._start = start
        self._env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET}
        self.port = free_port()
        self._running = {host: self._serve(host) for host in HOSTS}

    def restart(self, host: str) -> int:
        code = self._running[host].stop()
        self._running[host] = self._serve(host)
        return code

    def _serve(self, host: str) -> Process:
        process = self._start("serve", "--host", host, "--port", str(self.port), env=self._env)
        process.wait_for_output("listening on")
        return process


@pytest.fixture
def receivers(start_process: Callable[..., Process], redis_url: str) -> Receivers:
    return Receivers(start_process, redis_url)


@pytest.fixture(params=["caddy", "nginx"])
def proxy(request: pytest.FixtureRequest, receivers: Receivers, tmp_path: Path) -> Iterator[Proxy]:
    (tmp_path / "proxy").mkdir()
    with closing(Proxy(request.param, tmp_path / "proxy", receivers.port)) as started:

        def is_up() -> bool:
            try:
                return status_of(started, "GET", "/healthz") == 200
            except OSError:
                return False

        wait_until(is_up, what=f"{request.param} in front of the receivers")
        yield started


def status_of(
    proxy: Proxy, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> int:
    with closing(http.client.HTTPConnection("localhost", timeout=40)) as connection:
        connection.sock = proxy.connect()
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status


def partial_delivery(proxy: Proxy, batch: str, sent: int, *, cut: bool) -> bytes:
    """The first line of what comes for a delivery of which only `sent` bytes of the body follow."""
    body = event(batch)
    fields = {**signed(body, at=time.time()), "content-length": str(len(body)), "host": "localhost"}
    head = f"POST {PATH} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with closing(proxy.connect()) as connection:
        connection.sendall(head.encode() + b"\r\n" + body[:sent])
        if cut:
            connection.close()
            return b""
        try:
            return connection.recv(4096).partition(b"\r\n")[0]
        except OSError:
            return b""


def test_a_body_that_stalls_or_is_cut_is_acknowledged_only_where_there_is_a_job(
    proxy: Proxy, redis_client: "redis.Redis"
) -> None:
    length = len(event("s000"))
    places = sorted({0, 1, 20, length // 2, length - 2, length - 1, length})
    wanted = [(f"s{place:03d}", place, False) for place in places]
    wanted += [(f"c{place:03d}", place, True) for place in places if place < length]

    with ThreadPoolExecutor(len(wanted)) as threads:
        answers = dict(threads.map(lambda w: (w[0], partial_delivery(proxy, w[0], w[1], cut=w[2])), wanted))

    queues = Queues(redis_client)
    told = {batch for batch, _, _ in wanted if redis_client.exists(f"rq:job:{queues.batch_job_id(batch)}")}
    assert told == {f"s{length:03d}"}
    assert {batch for batch, line in answers.items() if b" 2" in line} == told, answers


def test_receivers_restart_in_turn_and_no_delivery_is_lost(proxy: Proxy, receivers: Receivers) -> None:
    counter, done = itertools.count(), threading.Event()

    def deliver_until_done(_: int) -> "Counter[int]":
        statuses: Counter[int] = Counter()
        with closing(http.client.HTTPConnection("localhost", timeout=40)) as connection:
            while not done.wait(0.1):
                connection.sock = connection.sock or proxy.connect()
                body = event(f"r{next(counter)}")
                connection.request("POST", PATH, body, signed(body, at=time.time()))
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] += 1
        return statuses

    with ThreadPoolExecutor(10) as threads:
        counts = [threads.submit(deliver_until_done, number) for number in range(10)]
        try:
            codes = [receivers.restart(host) for _ in range(2) for host in HOSTS]
        finally:
            done.set()
        statuses = sum((count.result() for count in counts), Counter())

    assert codes == [0] * 4
    assert set(statuses) == {200}, statuses
    assert statuses[200] > 100


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
    for idle in (seconds(r"keepalive (\d+)s", caddy), seconds(r"keepalive_timeout (\d+)s", nginx)):
        assert idle < deadlines.KEEP_ALIVE_SECONDS
