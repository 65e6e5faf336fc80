"""A relay before a real server: each request passes through, unless a test has an answer of its own for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from tests.support.scripted import Answer

SILENCE = Answer(0)  # The connection is closed without an answer.
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Relay:
    """`answer` is called for each request, from threads: None lets it pass. `asked` holds those so far."""

    def __init__(self, url: str, upstream: str) -> None:
        self.url = url
        self.asked: list[Request] = []
        self.answer: Callable[[Request], Answer | None] = lambda _: None
        self._upstream = urlsplit(upstream).netloc

    def forward(self, request: Request) -> Answer:
        """What the server behind says. The Host header stays as it was: the signature covers it."""
        connection = HTTPConnection(self._upstream)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            found = connection.getresponse()
            headers = {name: value for name, value in found.getheaders() if name.lower() not in _HOP_BY_HOP}
            if request.method == "HEAD":
                headers["Content-Length"] = found.getheader("Content-Length") or "0"
            return Answer(found.status, found.read(), headers)
        finally:
            connection.close()


def error(status: int, code: str) -> Answer:
    """As S3, GCS and Azure say that something went wrong."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>As a test wants.</Message></Error>"
    return Answer(status, body.encode(), {"Content-Type": "application/xml"})


@contextmanager
def relay(upstream: str = "") -> Iterator[Relay]:
    """A relay on a free port of the loopback interface; without `upstream`, `answer` has to answer everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            between.asked.append(request)
            answer = between.answer(request) or between.forward(request)
            if answer is SILENCE:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers and answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            self.close_connection = self.close_connection or answer.cut is not None

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A client that gave up in the middle is no news."""

    http = Server(("127.0.0.1", 0), Handler)
    between = Relay(f"http://127.0.0.1:{http.server_address[1]}", upstream)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield between
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
