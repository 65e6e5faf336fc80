"""A relay that makes a server on loopback as far away as a cloud's: what it answers arrives later."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port of a relay to `port` on loopback that holds every answer back for `seconds`."""
    relay = _Relay(port, seconds)
    thread = threading.Thread(target=relay.run, name="relay")
    thread.start()
    relay.ready.wait()
    try:
        yield relay.port
    finally:
        relay.stop()
        thread.join()


class _Relay:
    def __init__(self, target: int, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self.ready = threading.Event()
        self.port = 0

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self._stopped.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled when the relay ends; nobody asks for the outcome, and asyncio would report a cancelled one.
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pass(reader, far_writer, 0), _pass(far_reader, writer, self._seconds))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """What comes goes on after `seconds`, in its order; later bytes do not wait for earlier ones' delay."""
    loop = asyncio.get_running_loop()
    try:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if seconds:
                    loop.call_later(seconds, _write, writer, data)
                else:
                    writer.write(data)
                    await writer.drain()
    finally:
        if seconds:
            await asyncio.sleep(seconds)
        writer.close()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
