"""Limits that uvicorn's httptools protocol does not have: on the bytes around a body, and on silence.

Behind a proxy they are never reached. Without one, or against it, they keep a stranger's connection cheap.
"""

import asyncio
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from receiver import logs

MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0

# After a refusal the rest of what is under way is thrown away for a moment: closing at once would reset the
# connection, and a reset can overtake the answer (RFC 9112, section 9.6).
_LINGER_SECONDS = 1.0
_MAX_LINGER_BYTES = 1024 * 1024

_malformed = logs.Flood("malformed")


class _Refused(Exception):
    """Stops the parser from inside one of its callbacks."""


class BoundedProtocol(HttpToolsProtocol):
    """One request at a time, its head complete within `head_seconds` and at most `max_head_bytes` long.

    Everything that is not body counts as head: chunk sizes, their extensions and trailers too. The body's own
    limits are the application's. Above `max_connections` the connection that has been without a whole request
    for the longest makes room.
    """

    max_head_bytes: ClassVar[int] = MAX_HEAD_BYTES
    head_seconds: ClassVar[float] = HEAD_SECONDS
    max_connections: ClassVar[int] = 4096
    # In the order in which they became idle.
    idle: ClassVar[dict["BoundedProtocol", None]] = {}

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._head_bytes = 0
        self._overhead_bytes = 0
        self._fed_body_bytes = 0
        self._refusal = 0
        self._is_ending = False
        self._lingered_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and self.idle:
            next(iter(self.idle)).transport.abort()
        self.idle[self] = None
        self._start_timer(self.head_seconds, self._head_too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.pop(self, None)
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > _MAX_LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._fed_body_bytes = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end_after_answer()
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or 400)
            return
        self._overhead_bytes += len(data) - self._fed_body_bytes
        if self._overhead_bytes > self.max_head_bytes:
            self._refuse(431)
        elif self._is_answering():
            if self.cycle.more_body:
                self.cycle.transport = _Lingering(self, self.transport)
        elif self._timer is None:
            self._start_timer(self.head_seconds, self._head_too_slow)

    def on_message_begin(self) -> None:
        if self._is_answering():
            # Pipelined. Who may do that is also who smuggles requests past a proxy: it gets one answer.
            self._end_after_answer()
            raise _Refused
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._overhead_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:  # else a trailer, which must not pass for a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.idle.pop(self, None)
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._fed_body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:
            self.end()
        elif not self._is_ending:
            self.idle[self] = None

    def end(self) -> None:
        """Say goodbye, and listen for a moment to what was already under way."""
        if self._is_ending or self.transport.is_closing():
            return
        self._is_ending = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._start_timer(_LINGER_SECONDS, self.transport.abort)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self.max_head_bytes:
            self._refusal = 431
            raise _Refused

    def _end_after_answer(self) -> None:
        """Hear nothing more, but let the application answer what it has."""
        self._is_ending = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _head_too_slow(self) -> None:
        self._timer = None
        if self._overhead_bytes:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        if self._is_ending:  # pipelined: the first request's answer is still to come
            return
        _malformed.note(f"status {status}")
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.end()

    def _start_timer(self, seconds: float, then: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Lingering(asyncio.Transport):
    """What the response is written to where a body is still under way: its end is `BoundedProtocol.end`."""

    def __init__(self, protocol: BoundedProtocol, transport: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._protocol.end()


def limited_to(connections: int) -> type[BoundedProtocol]:
    """The protocol of one server that holds at most so many connections."""
    return type("LimitedProtocol", (BoundedProtocol,), {"max_connections": connections, "idle": {}})
