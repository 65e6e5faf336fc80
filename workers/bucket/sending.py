"""What is on its way into a store: many small objects at once, or one in pieces; by threads, in bounded memory."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Full, Queue, SimpleQueue
from types import TracebackType
from typing import Self

from workers.bucket.protocol import check_name

_GROUP_BYTES = 1 << 20
_BYTES_UNDER_WAY = 64 << 20
_GROUPS_A_THREAD = 4
_LOOK_SECONDS = 0.1

_Item = tuple[str, bytes, str]


class Sink:
    """`OutputSink` that hands objects in groups to threads; its block ends when all are stored.

    A group's hand-over costs two switches of the interpreter's lock, which a file's creation is too cheap to
    pay alone. The first error ends it: nothing more is stored, and the next `put` or the block's end raises it.
    """

    def __init__(self, store: Callable[[str, bytes, str], None], *, threads: int, group: int) -> None:
        self._store = store
        self._most_threads = threads
        self._most_items = group
        self._most_groups = _GROUPS_A_THREAD * threads
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[list[_Item] | None] = SimpleQueue()
        self._group: list[_Item] = []
        self._group_bytes = 0
        self._changed = threading.Condition()
        self._groups_under_way = 0
        self._bytes_under_way = 0
        self._error: BaseException | None = None

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """See `OutputSink`. A name must not be put twice: which of them stays is open."""
        if self._error:
            raise self._error
        self._group.append((check_name(name), data, content_type))
        self._group_bytes += len(data)
        if len(self._group) >= self._most_items or self._group_bytes >= _GROUP_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        group, size = self._group, self._group_bytes
        self._group, self._group_bytes = [], 0
        with self._changed:
            if not self._has_room(size, self._most_groups):
                # Not before half is done: waking for each that ends would cost more than many a `store`.
                self._changed.wait_for(lambda: self._error or self._has_room(size, self._most_groups // 2))
            if self._error:
                raise self._error
            self._groups_under_way += 1
            self._bytes_under_way += size
        if len(self._threads) < self._most_threads:
            thread = threading.Thread(target=self._work, name=f"sink-{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._queue.put(group)

    def _has_room(self, size: int, groups: int) -> bool:
        if not self._groups_under_way:
            return True
        return self._groups_under_way < groups and self._bytes_under_way + size <= _BYTES_UNDER_WAY

    def _work(self) -> None:
        while True:
            group = self._queue.get()
            if group is None:
                return
            self._store_group(group)
            del group  # Else every waiting thread would keep its last one in memory.

    def _store_group(self, group: list[_Item]) -> None:
        try:
            for item in group:
                if self._error:
                    break
                self._store(*item)
        except BaseException as error:  # noqa: BLE001 - the thread that puts raises it.
            self._error = self._error or error
        with self._changed:
            self._groups_under_way -= 1
            self._bytes_under_way -= sum(len(data) for _, data, _ in group)
            if self._error or self._groups_under_way < self._most_groups // 2:
                self._changed.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._error = self._error or error
            elif self._group:
                self._hand_over()
        finally:
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join()
        if error is None and self._error:
            raise self._error


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
