"""Gemini's Batch API as the workers need it: one batch, its result file, the list of batches.

The only module that holds the API key. Redirects are not followed, so the key goes to one host.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from workers.errors import GeminiUnavailable, KeyRefused, Permanent, ResultsGone, Unreadable
from workers.gemini.batches import Batch, integer, parse_batch
from workers.settings import Secret

logger = logging.getLogger("workers")

_FILE_NAME = re.compile(r"(?:files/)?([A-Za-z0-9][A-Za-z0-9_-]{0,127})")
_HEALS = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 256 << 10


@dataclass(frozen=True, slots=True)
class Download:
    """An open result file: `chunks` starts at byte `start`; `length` (bytes) and `etag` where the server told them."""

    start: int
    length: int | None
    etag: str | None
    chunks: Iterator[bytes]


class Webhook(msgspec.Struct, frozen=True):
    """A subscription, as far as the workers care: whether Gemini still delivers to it."""

    id: str = ""
    name: str = ""
    state: str = ""
    subscribed_events: list[str] = []


class _Webhooks(msgspec.Struct):
    webhooks: list[Webhook] = []
    next_page_token: str = ""


class _Page(msgspec.Struct, rename="camel"):
    operations: list[msgspec.Raw] = []
    next_page_token: str = ""


_page = msgspec.json.Decoder(_Page)
_webhooks = msgspec.json.Decoder(_Webhooks)


@dataclass(frozen=True, slots=True)
class _Answer:
    status_code: int
    headers: httpx.Headers
    content: bytes | bytearray


class Gemini:
    """A client for one API key. Build it before forking: its TLS context costs 15 to 28 ms."""

    def __init__(self, base_url: str, api_key: Secret) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"x-goog-api-key": api_key.reveal(), "accept-encoding": "identity"},
            timeout=httpx.Timeout(60, connect=10),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    def batch(self, batch: str) -> Batch:
        """Ask for one batch.

        Raises:
            Unreadable: 404 or 403.
            KeyRefused: the API key is not accepted.
            GeminiUnavailable: anything that can heal.
            Permanent: an answer that is no batch.
        """
        answer = self._get(f"/v1beta/batches/{batch}")
        if answer.status_code in {403, 404} and not _key_is_refused(answer):
            raise Unreadable("This key can't read the batch: it is another project's, revoked or deleted.")
        _check(answer)
        return parse_batch(answer.content, batch)

    def batches(self, page_size: int = 100) -> Iterator[Batch]:
        """All batches, newest first as Gemini lists them, page by page. Raises as `batch` does."""
        token = ""
        while True:
            answer = self._get(
                "/v1beta/batches",
                {"pageSize": page_size, "pageToken": token} if token else {"pageSize": page_size},
            )
            _check(answer)
            try:
                page = _page.decode(answer.content)
            except (msgspec.MsgspecError, RecursionError):
                raise GeminiUnavailable(
                    "Gemini's list of batches could not be read; it is asked for again."
                ) from None
            for operation in page.operations:
                try:
                    yield parse_batch(memoryview(operation), "")
                except Permanent:
                    logger.warning("event=unreadable_batch_listed")
            token = page.next_page_token
            if not token:
                return

    def webhooks(self) -> Iterator[Webhook]:
        """The project's webhooks, page by page. Raises as `batch` does."""
        token = ""
        while True:
            answer = self._get(
                "/v1beta/webhooks", {"page_size": 100, **({"page_token": token} if token else {})}
            )
            _check(answer)
            try:
                page = _webhooks.decode(answer.content)
            except (msgspec.MsgspecError, RecursionError):
                raise GeminiUnavailable("Gemini's list of webhooks could not be read.") from None
            for webhook in page.webhooks:
                yield webhook if webhook.id else msgspec.structs.replace(webhook, id=webhook.name)
            token = page.next_page_token
            if not token:
                return

    def enable_webhook(self, webhook: str) -> None:
        """Have Gemini deliver to a webhook again. Raises as `batch` does."""
        path = f"/v1beta/webhooks/{quote(webhook.removeprefix('webhooks/'), safe='')}"
        try:
            answer = self._http.patch(path, params={"update_mask": "state"}, json={"state": "enabled"})
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        _check(answer)

    @contextmanager
    def download(self, file: str, start: int = 0, etag: str | None = None) -> Iterator[Download]:
        """Stream a result file from byte `start`.

        The answer may begin earlier than asked for (`Download.start`) where the server ignores `Range` or the file
        is no longer the one of `etag`. Only `:download` works for result files: their ids are over the Files API's
        40 characters, so `files.get` answers 400 (python-genai #1759).

        Raises:
            ResultsGone: 404 or 403, the file's 48 hours are over.
            GeminiUnavailable: anything that can heal, a cut connection included.
        """
        found = _FILE_NAME.fullmatch(file)
        if not found:
            raise Permanent(
                "Gemini named a result file that is not of the form files/<id>; the batch can't be fetched."
            )
        name = found[1]
        headers = {}
        if start:
            headers["range"] = f"bytes={start}-"
            if etag:
                headers["if-range"] = etag
        answer = self._open(f"/download/v1beta/files/{name}:download", headers)
        if answer.status_code in {400, 404}:
            answer.close()
            answer = self._open(f"/v1beta/files/{name}:download", headers)
        try:
            if answer.status_code == 416:
                length = re.fullmatch(r"bytes \*/([0-9]+)", answer.headers.get("content-range", ""))
                yield Download(
                    start, int(length[1]) if length else None, answer.headers.get("etag"), iter(())
                )
                return
            if answer.status_code in {403, 404} and not _key_is_refused(answer):
                raise ResultsGone("The result file is gone: Gemini keeps results for 48 hours only.")
            _check(answer)
            yield _download(answer)
        finally:
            answer.close()

    def _get(self, path: str, params: dict[str, Any] | None = None) -> "_Answer":
        content = bytearray()
        try:
            with self._http.stream("GET", path, params=params) as answer:
                # Not `answer.read()`, which holds the pieces and their sum: an inline answer may be large.
                for chunk in answer.iter_bytes():
                    content += chunk
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        return _Answer(answer.status_code, answer.headers, content)

    def _open(self, path: str, headers: dict[str, str]) -> httpx.Response:
        request = self._http.build_request("GET", path, params={"alt": "media"}, headers=headers)
        try:
            answer = self._http.send(request, stream=True)
            if answer.status_code not in {200, 206}:
                answer.read()
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        return answer


def _download(answer: httpx.Response) -> Download:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise GeminiUnavailable("Gemini sent the result file compressed although plain bytes were asked for.")
    start, length = 0, integer(answer.headers.get("content-length"))
    if answer.status_code == 206:
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", answer.headers.get("content-range", ""))
        if not found:
            raise GeminiUnavailable("Gemini answered a range request without saying which range it sent.")
        start, length = int(found[1]), integer(found[2])
    return Download(start, length, answer.headers.get("etag"), _chunks(answer))


def _chunks(answer: httpx.Response) -> Iterator[bytes]:
    """What came before a connection broke is given too, so that the next one goes on behind it."""
    held, broken = bytearray(), None
    try:
        for piece in answer.iter_raw():
            held += piece
            if len(held) >= _CHUNK:
                yield bytes(held)
                held.clear()
    except httpx.HTTPError as error:
        broken = _unreachable(error)
    if held:
        yield bytes(held)
    if broken:
        raise broken


def _unreachable(error: httpx.HTTPError) -> GeminiUnavailable:
    return GeminiUnavailable(f"Gemini could not be reached ({type(error).__name__}).")


def _check(answer: _Answer | httpx.Response) -> None:
    status = answer.status_code
    if status in {200, 206}:
        return
    if _key_is_refused(answer):
        raise KeyRefused("Gemini refused the API key: check GEMINI_API_KEY.")
    if status in _HEALS:
        raise GeminiUnavailable(f"Gemini answered {status}.", _retry_after(answer))
    raise Permanent(f"Gemini answered {status}, which trying again does not change.")


def _key_is_refused(answer: _Answer | httpx.Response) -> bool:
    """401, and the 400 that Gemini gives for a key it does not know (reason API_KEY_INVALID)."""
    return answer.status_code == 401 or (
        answer.status_code in {400, 403} and b"API_KEY_INVALID" in answer.content
    )


def _retry_after(answer: _Answer | httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,6}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
