"""Limits that uvicorn's h11 protocol does not have: on silence, on what is not body, on the number of connections.

Behind a proxy they are never reached. Without one, or against it, they keep a stranger's connection cheap.
"""

import asyncio
import select
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiver import logs
from receiver.deadlines import HEAD_SECONDS, LINGER_SECONDS
from receiver.edge import MAX_LINGER_BYTES

MAX_HEAD_BYTES = 32 * 1024

# h11 measures only what is still incomplete, and one network read may hold 256 KiB: it is fed in pieces.
_PIECE_BYTES = 4096
MAX_INCOMPLETE_BYTES = MAX_HEAD_BYTES - _PIECE_BYTES

_malformed = logs.Flood("malformed")


class BoundedProtocol(H11Protocol):
    """One request at a time, its head complete within `head_seconds` and at most `MAX_HEAD_BYTES` long.

    Everything that is not body counts as head: chunk sizes, their extensions and trailers too. The body's own
    limits are the application's. Above `max_connections` the connection that has been without a whole request
    for the longest makes room.
    """

    head_seconds: ClassVar[float] = HEAD_SECONDS
    max_connections: ClassVar[int] = 4096
    # Those without a whole request, in the order in which they began to be.
    incomplete: ClassVar[dict["BoundedProtocol", None]] = {}

    _head_bytes = 0
    _unheard_bytes = 0
    _is_deaf = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and self.incomplete:
            oldest = next(iter(self.incomplete))
            del self.incomplete[oldest]
            oldest.transport.abort()
        self.incomplete[self] = None
        self._set_deadline(self.head_seconds, self._be_too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self.incomplete.pop(self, None)
        self._unset_deadline()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            if self._is_deaf:
                self._unheard_bytes += len(piece)
            else:
                self._hear(piece)
        if self._unheard_bytes > MAX_LINGER_BYTES:
            self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._head_bytes = 0
        self.incomplete[self] = None

    def shutdown(self) -> None:
        if self.conn.their_state is h11.IDLE and not self._is_deaf:
            # A request may be on its way: it gets its answer, and with that hears that it is the last.
            self._set_deadline(LINGER_SECONDS, self._shut_down_unless_spoken_to)
        else:
            super().shutdown()

    def _shut_down_unless_spoken_to(self) -> None:
        """Timers come before what has arrived meanwhile: to close now would reset a request that is there already."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        if poll.poll(0):
            self._set_deadline(LINGER_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        del msg
        # uvicorn keeps the reason to itself. Of h11's statuses only this one is more than a 400 to us.
        self._refuse(431 if getattr(sys.exception(), "error_status_hint", 400) == 431 else 400)

    def _hear(self, piece: bytes) -> None:
        held = len(self.cycle.body) if self.cycle else 0
        super().data_received(piece)
        if self._is_deaf:
            return
        self._head_bytes += len(piece) + held - (len(self.cycle.body) if self.cycle else 0)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self.conn.their_state is h11.IDLE:
            if self._deadline is None:
                self._set_deadline(self.head_seconds, self._be_too_slow)
        else:
            self._unset_deadline()
            if self.conn.their_state is not h11.SEND_BODY:
                self.incomplete.pop(self, None)
                if self.conn.trailing_data[0]:
                    # Pipelined. Who may do that is also who smuggles requests past a proxy: it gets one answer.
                    self._is_deaf = True
                    self.cycle.keep_alive = False

    def _be_too_slow(self) -> None:
        if self._head_bytes:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer in the application's place, and listen for a moment to what was already under way."""
        _malformed.note(f"status {status}")
        self._is_deaf = True
        is_answered = False
        if self.cycle is not None and not self.cycle.response_complete:
            is_answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not is_answered:
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode())
        self.flow.resume_reading()
        self.transport.write_eof()
        self._set_deadline(LINGER_SECONDS, self.transport.abort)

    def _set_deadline(self, seconds: float, then: Callable[[], None]) -> None:
        self._unset_deadline()
        self._deadline = self.loop.call_later(seconds, then)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def limited_to(connections: int) -> type[BoundedProtocol]:
    """The protocol of one server that holds at most so many connections."""
    return type("LimitedProtocol", (BoundedProtocol,), {"max_connections": connections, "incomplete": {}})
