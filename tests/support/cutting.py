"""A relay of bytes before a real server, that breaks connections off after so many bytes of a request or its answer."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a connection breaks: `asked` bytes of the request pass, or all of it and `answered` bytes of the answer."""

    asked: int | None = None
    answered: int | None = None


class Cutting:
    """`cut` is asked about each request's first line, once; None lets it pass.

    `sizes` holds how long each request and its answer were, by that line.
    """

    def __init__(self, url: str, upstream: str) -> None:
        self.url = url
        self.cut: Callable[[str, bytes], Cut | None] = lambda _line, _request: None
        self.sizes: dict[str, tuple[int, int]] = {}
        self.lock = Lock()
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)

    def serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while request := _message(client):
                line = request.partition(b"\r\n")[0].decode()
                with self.lock:
                    cut = self.cut(line, request) or Cut()
                with socket.create_connection(self._upstream) as server:
                    server.sendall(request[: cut.asked])
                    if cut.asked is not None and cut.asked < len(request):
                        return
                    answer = _message(server)
                self.sizes[line] = (len(request), len(answer))
                client.sendall(answer[: cut.answered])
                if cut.answered is not None and cut.answered < len(answer):
                    return


def _message(connection: socket.socket) -> bytes:
    """A whole request or answer, or what came of it; empty at the end."""
    held = bytearray()
    while b"\r\n\r\n" not in held:
        chunk = connection.recv(1 << 16)
        if not chunk:
            return bytes(held)
        held += chunk
    head, _, _ = bytes(held).partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    whole = len(head) + 4 + int(found[1] if found else 0)
    while len(held) < whole and (chunk := connection.recv(1 << 16)):
        held += chunk
    return bytes(held)


@contextmanager
def cutting(upstream: str) -> Iterator[Cutting]:
    """A relay on a free port of the loopback interface; ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    between = Cutting(f"http://127.0.0.1:{listener.getsockname()[1]}", upstream)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                Thread(target=between.serve, args=(client,), daemon=True).start()

    thread = Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield between
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
