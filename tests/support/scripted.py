"""A real HTTP server that answers what a test tells it, for what the emulator never would."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass(frozen=True, slots=True)
class Answer:
    """`cut`: the connection is closed after so many bytes of the body, although all of it was promised.

    `drip`: the body comes byte by byte, with so many seconds before each.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False
    drip: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


class Scripted:
    """`answer` is called for each request; `asked` holds those so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Answer] = lambda _: Answer(404)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A server on a free port of the loopback interface; ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            server.asked.append(asked)
            with suppress(ConnectionError):  # Nobody has to listen to the end.
                self._send(server.answer(asked))

        do_POST = do_GET  # noqa: N815

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Connection", "close")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            body = answer.body[: answer.cut]
            if answer.drip:
                self._drip(body, answer.drip)
                return
            if not answer.chunked:
                self.wfile.write(body)
                return
            if body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            if answer.cut is None:
                self.wfile.write(b"0\r\n\r\n")

        def _drip(self, body: bytes, seconds: float) -> None:
            for byte in body:
                if stopped.wait(seconds):
                    return
                self.wfile.write(bytes([byte]))

        def log_message(self, *_: object) -> None:
            pass

    stopped = Event()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Scripted(f"http://127.0.0.1:{http.server_address[1]}")
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        stopped.set()
        http.shutdown()
        http.server_close()
        thread.join()
