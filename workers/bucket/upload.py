"""An object in pieces, for a store that takes it whole or from an iterator."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Full, Queue

_LOOK_SECONDS = 0.1


class Upload:
    """`Writer` that stores one piece while it fits into `part` bytes, and beyond that streams from a thread.

    obstore's own writer cannot be aborted, but a `put` whose iterator raises aborts its multipart upload.

    Args:
        store: stores its argument, bytes or an iterator of pieces, and returns when that is durable.
        part: bytes.
    """

    def __init__(self, store: Callable[[bytes | Iterator[bytes]], None], part: int) -> None:
        self._store = store
        self._part = part
        self._buffer = bytearray()
        self._pieces: Queue[bytes | None] = Queue(maxsize=1)
        self._stored: Future[None] | None = None
        self._aborted = False

    def write(self, data: bytes, /) -> None:
        self._buffer += data
        while len(self._buffer) > self._part:
            with memoryview(self._buffer) as view:
                piece = bytes(view[: self._part])
            del self._buffer[: self._part]
            self._hand_over(piece)

    def finish(self) -> None:
        """Store the rest; returns when the whole object is durable, and raises what `store` raised."""
        if self._stored is None:
            self._store(bytes(self._buffer))
            return
        self._hand_over(bytes(self._buffer))
        self._hand_over(None)
        self._stored.result()

    def abort(self) -> None:
        """Leave nothing behind; raises nothing."""
        if self._stored is None:
            return
        self._aborted = True
        with suppress(Exception):
            self._hand_over(None)
            self._stored.result()

    def _hand_over(self, piece: bytes | None) -> None:
        if self._stored is None:
            self._stored = Future()
            threading.Thread(target=self._run, args=(self._stored,), name="upload", daemon=True).start()
        while True:
            try:
                self._pieces.put(piece, timeout=_LOOK_SECONDS)
            except Full:
                if self._stored.done():  # Nobody takes pieces any more: it failed.
                    self._stored.result()
            else:
                return

    def _run(self, stored: "Future[None]") -> None:
        try:
            self._store(self._take())
        except BaseException as error:  # noqa: BLE001 - the writing thread raises it.
            stored.set_exception(error)
        else:
            stored.set_result(None)

    def _take(self) -> Iterator[bytes]:
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self._aborted:
            raise _Aborted


class _Aborted(Exception):
    pass
