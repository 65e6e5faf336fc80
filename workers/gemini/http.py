"""One HTTP client of Gemini: its address, the key in its header, timeouts, and what went wrong as an error of ours.

The only module that reveals the API key. Redirects are followed where they stay at Gemini's scheme, host and port, so
the key goes nowhere else.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from workers.errors import GeminiUnavailable, Permanent, TooSlow, WorkerError
from workers.gemini.access import Access, same_host
from workers.gemini.spool import Body, Spool
from workers.gemini.statuses import About, Answer, error_of, quotable

_ERROR_BYTES = 64 << 10
_ERROR_SECONDS = 5.0
_REDIRECTS = 3
_KEPT_SECONDS = 3.0  # Less than what servers wait for a next request; many take five.
_SERVER_AHEAD_SECONDS = 10.0  # so that what it says arrives before we hang up


@dataclass(frozen=True, slots=True)
class Limits:
    """How long Gemini may take, in seconds.

    `connect`; `read`, between two pieces of an answer; `total`, for a whole answer; `batch_read` and `batch_total`, the
    same for that of a batch, which may hold all its results. A download has to come with at least `least_rate` bytes a
    second, measured over `rate_seconds` of waiting for it.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float = 120.0
    batch_read: float = 310.0
    batch_total: float = 1800.0
    least_rate: float = 1024.0
    rate_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer to be streamed. `said` is what an error's body begins with."""

    response: httpx.Response
    said: bytes


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An answer, whatever its status. `error` is what it stands for; None for a success."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: WorkerError | None


class Http:
    """A client for one API key. Build it before forking: its TLS context costs 15 to 28 ms."""

    def __init__(self, access: Access, limits: Limits) -> None:
        self.base_url = access.base_url
        self.limits = limits
        self.requests: Counter[tuple[str, str]] = Counter()
        """How many requests there were: what was asked for, and the status, or `none`."""
        self._key = access.api_key
        self._client = httpx.Client(
            base_url=access.base_url,
            headers={"x-goog-api-key": access.api_key.reveal(), "accept-encoding": "identity"},
            timeout=httpx.Timeout(limits.read, connect=limits.connect),
            follow_redirects=False,
            limits=httpx.Limits(keepalive_expiry=_KEPT_SECONDS),
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
    ) -> Body:
        """The whole answer to a call.

        Raises:
            WorkerError: as `workers.gemini.statuses` says; `GeminiUnavailable` where there is no answer.
        """
        request = self._client.build_request(method, path, params=params, json=body)
        return self._whole(request, about, self.limits.total)

    def exchange(
        self,
        method: str,
        url: str,
        about: About,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content: bytes | Iterator[bytes] | None = None,
    ) -> Exchanged:
        """One call, sent once. `url` is a path, or an address that Gemini gave.

        Raises:
            GeminiUnavailable: there was no answer, or none to its end: the call may have had its effect all the same.
            Permanent: the address is at another host, which must not see the key.
        """
        if not url.startswith("/") and not same_host(url, self.base_url):
            raise Permanent("Gemini named an address at another host; it is not called.")
        request = self._client.build_request(method, url, headers=headers, json=body, content=content)
        try:
            with closing(self._client.send(request, stream=True)) as answer:
                if not answer.is_success:
                    said = self._beginning(answer)
                    return Exchanged(
                        answer.status_code, answer.headers, said, self._error(answer, said, about)
                    )
                return Exchanged(answer.status_code, answer.headers, answer.read(), None)
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None

    def batch(self, path: str) -> Body:
        """The whole answer about one batch, which may hold its results, so that it may take long. Raises as `call`."""
        read = self.limits.batch_read
        # Without it, Gemini gives up after a minute, which is too little for some hundred images (503).
        headers = {"x-server-timeout": str(max(1, int(read - _SERVER_AHEAD_SECONDS)))}
        timeout = httpx.Timeout(read, connect=self.limits.connect)
        request = self._client.build_request("GET", path, headers=headers, timeout=timeout)
        return self._whole(request, About.BATCH, self.limits.batch_total)

    def _whole(self, request: httpx.Request, about: About, seconds: float) -> Body:
        begun = time.monotonic()
        spool = Spool()
        try:
            with closing(self._send(request)) as answer:
                if not answer.is_success or (request.method == "GET" and answer.status_code != 200):
                    raise self._error(answer, self._beginning(answer), about, time.monotonic() - begun)
                for piece in answer.iter_bytes():
                    spool.write(piece)
                    if time.monotonic() - begun > seconds:
                        raise TooSlow(
                            f"Gemini's answer did not come to its end within {seconds:.0f} seconds."
                        )
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        return spool.body()

    @contextmanager
    def open(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[Opened]:
        """An answer to be streamed, whatever its status. Raises `GeminiUnavailable`."""
        request = self._client.build_request("GET", path, params=params, headers=headers)
        try:
            answer = self._send(request)
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        with closing(answer):
            yield Opened(answer, b"" if answer.status_code in {200, 206} else self._beginning(answer))

    def check(self, opened: Opened, about: About) -> None:
        """Raises what an opened answer without content stands for."""
        if opened.response.status_code not in {200, 206}:
            raise self._error(opened.response, opened.said, about)

    def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, or to where it is redirected: a download's address is said to be (bifrost #5579)."""
        for _ in range(_REDIRECTS):
            answer = self._sent(request)
            following = answer.next_request
            if (
                following is None
                or request.method != "GET"
                or not same_host(str(request.url), str(following.url))
            ):
                return answer
            answer.close()
            request = following
        return self._sent(request)

    def _sent(self, request: httpx.Request) -> httpx.Response:
        code = "none"
        try:
            answer = self._client.send(request, stream=True)
            code = str(answer.status_code)
        finally:
            self.requests[_call_of(request.url.path), code] += 1
        return answer

    def unreachable(self, error: httpx.HTTPError) -> GeminiUnavailable:
        name = type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            return GeminiUnavailable(f"Gemini did not answer in time ({name}): try again.")
        reason = quotable(str(error), self._key) or name
        return GeminiUnavailable(f"Gemini could not be reached: {reason}.")

    def _error(self, answer: httpx.Response, said: bytes, about: About, seconds: float = 0.0) -> WorkerError:
        return error_of(Answer(answer.status_code, answer.headers, said, seconds), about, self._key)

    def _beginning(self, answer: httpx.Response) -> bytes:
        """What an error's body begins with: enough for its sentence, and no reason to wait for more."""
        content, deadline = b"", time.monotonic() + min(_ERROR_SECONDS, self.limits.total)
        with suppress(httpx.HTTPError):
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) >= _ERROR_BYTES or time.monotonic() > deadline:
                    break
        return content


def _call_of(path: str) -> str:
    """What a request asks for, in one of a few words."""
    if "download" in path:
        return "download"
    if path.startswith("/v1beta/batches/"):
        return "batch"
    words = {"/v1beta/batches": "list", "/v1beta/webhooks": "webhooks", "/v1beta/files": "files"}
    return next((word for beginning, word in words.items() if path.startswith(beginning)), "other")
