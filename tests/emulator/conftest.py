"""The official SDK as a client of the emulator, and a listener for its deliveries."""

from collections.abc import Iterator

import pytest
from google import genai
from google.genai import types

from tests.emulator.listener import Listener
from tests.support.gemini import Gemini


@pytest.fixture
def client(gemini: Gemini) -> Iterator[genai.Client]:
    with genai.Client(api_key=gemini.api_key, http_options=types.HttpOptions(base_url=gemini.url)) as sdk:
        yield sdk


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()
