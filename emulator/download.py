"""A file as a streamed answer that can be asked for in parts, and that can go wrong on purpose."""

import asyncio
import gzip
import re
import time
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from emulator.errors import ApiError
from emulator.faults import Faults

_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please accept the terms.</body></html>\n"
)
_CHUNK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last-plus-one byte that a Range header asks for, None for all (RFC 9110, section 14).

    Raises:
        ApiError: 416, nothing of it lies within the `size` bytes.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise ApiError(
            416, "The requested range cannot be satisfied.", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, end


class Download:
    """An ASGI answer: `part` of the file at `path`, all of it without a part.

    `cut`: after so many bytes the connection is closed although more was promised. `short`: so many bytes before the
    end it is complete, with no length that says otherwise. `bytes_per_second` slows it down.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        part: tuple[int, int] | None,
        *,
        etag: str,
        media_type: str,
        cut: int | None = None,
        short: int | None = None,
        bytes_per_second: float | None = None,
    ) -> None:
        self._file = path.open("rb")
        self._start, self._end = part or (0, size)
        if short is not None:
            self._end = max(self._end - short, self._start)
        self._status = 206 if part else 200
        self._cut = cut
        self._bytes_per_second = bytes_per_second
        self._headers = {"content-type": media_type, "accept-ranges": "bytes", "etag": etag}
        if short is None:
            self._headers["content-length"] = str(self._end - self._start)
        if part:
            self._headers["content-range"] = f"bytes {self._start}-{self._end - 1}/{size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        try:
            with self._file as file:
                headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
                await send({"type": "http.response.start", "status": self._status, "headers": headers})
                if scope["method"] != "HEAD" and not await self._send_body(file, send, gone):
                    return
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()

    async def _send_body(self, file: BinaryIO, send: Send, gone: "asyncio.Task[None]") -> bool:
        """False where the body ends early; uvicorn closes a connection whose answer is not completed."""
        file.seek(self._start)
        length = self._end - self._start
        stop = length if self._cut is None else min(self._cut, length)
        rate = self._bytes_per_second
        step = _CHUNK_BYTES if rate is None else max(min(int(rate / 20), _CHUNK_BYTES), 1)
        began = time.monotonic()
        sent = 0
        while sent < stop and not gone.done():
            chunk = await asyncio.to_thread(file.read, min(step, stop - sent))
            sent += len(chunk)
            if rate is not None:
                await asyncio.sleep(max(began + sent / rate - time.monotonic(), 0))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        return sent == length


def wrong_answer(path: Path, faults: Faults, subject: str) -> Response | None:
    """What another than Gemini could answer with 200, if a fault asks for it."""
    if faults.take("page", subject):
        return Response(_PAGE, media_type="text/html; charset=utf-8")
    if faults.take("empty", subject):
        return Response(b"", media_type="application/jsonl")
    if compressed := faults.take("gzip", subject):
        headers = None if compressed.value else {"Content-Encoding": "gzip"}
        return Response(gzip.compress(path.read_bytes()), headers=headers, media_type="application/jsonl")
    return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
