"""A receiver as a process of its own, and a small HTTP client that sees exactly what is on the wire."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from emulator.demo.local_redis import free_port, start_redis
from tests.conftest import StartProcess
from tests.receiver.jwks_server import JwksServer
from tests.receiver.signing import SECRET, event, signed
from tests.support.processes import Process

PATH = "/webhooks/gemini"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def word(self) -> Any:
        return json.loads(self.body)["status"]


@dataclass(frozen=True)
class Receiver:
    process: Process
    port: int

    @contextmanager
    def connection(self, seconds: float = 15.0) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            yield connection

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "host: receiver", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        with self.connection() as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            return read_answer(connection)

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("POST", PATH, body, headers)

    def deliver(self, batch: str = "abc", **fields: Any) -> Answer:
        """A genuine event about a batch."""
        body = event(batch, **fields)
        return self.post(body, signed(body))


def read_answer(connection: socket.socket) -> Answer:
    """One answer, its body by content-length. An early end of the connection is a ConnectionError."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    while len(body) < int(headers["content-length"]):
        body += _some(connection)
    return Answer(int(status.split()[1]), headers, body)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, waiting for it as long as the socket's own timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed before the answer's end")
    return data


StartReceiver = Callable[..., Receiver]


@pytest.fixture
def start_receiver(start_process: StartProcess) -> StartReceiver:
    """`start_receiver(redis_url, WEBHOOK_…="…")`: listening, with one static secret unless told otherwise.

    `before` is shell text that runs first in its process, such as `ulimit -n 256`.
    """

    def start(redis_url: str, *, before: str = "", **env: str) -> Receiver:
        settings = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET, **env}
        process = start_process("serve", "--port", "0", env=settings, before=before)
        found = process.wait_for_output(rf"listening on http://127\.0\.0\.1:(\d+){re.escape(PATH)}")
        return Receiver(process, int(found[1]))

    return start


@pytest.fixture
def receiver(start_receiver: StartReceiver, redis_url: str) -> Receiver:
    return start_receiver(redis_url)


@pytest.fixture
def jwks_server() -> Iterator[JwksServer]:
    server = JwksServer()
    yield server
    server.stop()


class OwnRedis:
    """A redis-server of one test, to be hurt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self, *options: str) -> None:
        self.process: subprocess.Popen[bytes] = start_redis(self.folder, self.port, *options)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port)

    def url_of(self, user: str, *rules: str) -> str:
        """A new user with these rules of an ACL, and the address that it takes."""
        with self.client() as client:
            client.execute_command("ACL", "SETUSER", user, "on", "resetkeys", ">word", *rules)
        return self.url.replace("redis://", f"redis://{user}:word@")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path / "own-redis")
    yield server
    server.kill()
