"""One HTTP client of Gemini: its address, the key in its header, timeouts, and what went wrong as an error of ours.

The only module that reveals the API key. Redirects are not followed, so the key goes to one host.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from workers.errors import GeminiUnavailable, WorkerError
from workers.gemini.access import Access
from workers.gemini.statuses import About, error_of, quotable


@dataclass(frozen=True, slots=True)
class Limits:
    """How long Gemini may take, in seconds: to connect, and between two pieces of an answer."""

    connect: float = 10.0
    read: float = 60.0


class Http:
    """A client for one API key. Build it before forking: its TLS context costs 15 to 28 ms."""

    def __init__(self, access: Access, limits: Limits) -> None:
        self._key = access.api_key
        self._client = httpx.Client(
            base_url=access.base_url,
            headers={"x-goog-api-key": access.api_key.reveal(), "accept-encoding": "identity"},
            timeout=httpx.Timeout(limits.read, connect=limits.connect),
            follow_redirects=False,
            # The environment's proxies are for the network, not for an emulator on this machine.
            trust_env=access.base_url.startswith("https:"),
        )

    def close(self) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        about: About,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> bytearray:
        """The whole answer to a call.

        Raises:
            WorkerError: as `workers.gemini.statuses` says; `GeminiUnavailable` where there is no answer.
        """
        content = bytearray()
        try:
            with self._client.stream(method, path, params=params, json=body) as answer:
                # Not `answer.read()`, which holds the pieces and their sum: an inline answer may be large.
                for chunk in answer.iter_bytes():
                    content += chunk
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        if not answer.is_success or (method == "GET" and answer.status_code != 200):
            raise self._error(answer, content, about)
        return content

    def open(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> httpx.Response:
        """An answer to be streamed, whatever its status; it has to be closed. Raises `GeminiUnavailable`."""
        request = self._client.build_request("GET", path, params=params, headers=headers)
        try:
            answer = self._client.send(request, stream=True)
            if answer.status_code not in {200, 206}:
                answer.read()
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        return answer

    def check(self, answer: httpx.Response, about: About) -> None:
        """Raises what an opened answer without content stands for."""
        if answer.status_code not in {200, 206}:
            raise self._error(answer, answer.content, about)

    def unreachable(self, error: httpx.HTTPError) -> GeminiUnavailable:
        name = type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            return GeminiUnavailable(f"Gemini did not answer in time ({name}): try again.")
        reason = quotable(str(error), self._key) or name
        return GeminiUnavailable(f"Gemini could not be reached: {reason}.")

    def _error(self, answer: httpx.Response, content: bytes | bytearray, about: About) -> WorkerError:
        return error_of(answer.status_code, answer.headers, content, about, self._key)
