"""What tests of Gemini's client ask, and how they measure what it takes."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.gemini.client import Gemini

KEY = "AIza-very-secret"
FILE = "files/batch-abc"
ERRORS = json.loads((Path(__file__).parent / "errors.json").read_text())


@contextmanager
def traced() -> Iterator[Callable[[], tuple[int, int]]]:
    """Gives how many bytes were allocated since the start, and are still held, and the most there ever were."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def memory() -> tuple[int, int]:
        held, peak = tracemalloc.get_traced_memory()
        return held - before, peak - before

    try:
        yield memory
    finally:
        tracemalloc.stop()


def read(client: Gemini, file: str = FILE, start: int = 0, etag: str | None = None) -> bytes:
    with client.download(file, start, etag) as download:
        return b"".join(download.chunks)
