"""Clients of a server that says what a test tells it, and of the emulator."""

from collections.abc import Iterator

import pytest

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.scripted import Scripted, scripted
from tests.workers.gemini.asking import KEY
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def client(server: Scripted) -> Iterator[Gemini]:
    client = Gemini(Access(server.url, Secret(KEY)))
    yield client
    client.close()


@pytest.fixture
def emulated(gemini: Emulator) -> Iterator[Gemini]:
    """A client of the emulator."""
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    yield client
    client.close()


@pytest.fixture
def file(gemini: Emulator, emulated: Gemini) -> tuple[str, bytes]:
    """A result file of the emulator."""
    content = b"".join(result_line(n) for n in range(100))
    found = emulated.batch(gemini.put_batch(content)).result_file
    assert found
    return found, content
