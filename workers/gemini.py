"""Gemini's Batch API as the workers need it: one batch, its result file, the list of batches.

The only module that holds the API key. Redirects are not followed, so the key goes to one host.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from workers.contract import parse_batch_id
from workers.errors import GeminiUnavailable, KeyRefused, Permanent, ResultsGone, Unreadable
from workers.settings import Secret

logger = logging.getLogger("workers")

# Result files live 48 hours from the end of their batch (Files API).
FILE_LIFE_SECONDS = 48 * 3600

_FILE_NAME = re.compile(r"(?:files/)?([A-Za-z0-9][A-Za-z0-9_-]{0,127})")
_FILE_FIELDS = {"responsesfile", "filename"}
_INLINE_FIELDS = {"inlinedresponses", "inlinedembedcontentresponses"}
_HEALS = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 1 << 20


class State(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_FINAL = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as Gemini answers it. `inline` holds the elements as they came; `error` and `stats` are JSON values."""

    id: str
    state: State
    display_name: str | None
    model: str | None
    created_at: str | None
    ended_at: str | None
    stats: Any
    error: Any
    result_file: str | None
    inline: list[msgspec.Raw] | None

    @property
    def final(self) -> bool:
        return self.state in _FINAL

    @property
    def expected(self) -> int | None:
        """How many results Gemini itself counts, where it says so."""
        return self._counted("requestCount")

    @property
    def succeeded_results(self) -> int | None:
        """How many good answers Gemini itself counts, where it says so."""
        return self._counted("successfulRequestCount")

    def _counted(self, name: str) -> int | None:
        return _integer(self.stats.get(name)) if isinstance(self.stats, dict) else None


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


class _Metadata(msgspec.Struct, rename="camel"):
    model: str | None = None
    display_name: str | None = None
    create_time: str | None = None
    end_time: str | None = None
    update_time: str | None = None
    batch_stats: Any = None
    state: str | None = None
    output: msgspec.Raw = msgspec.Raw()


class _Operation(msgspec.Struct):
    name: str = ""
    metadata: _Metadata | None = None
    done: bool = False
    error: Any = None
    response: msgspec.Raw = msgspec.Raw()


class _Page(msgspec.Struct, rename="camel"):
    operations: list[msgspec.Raw] = []
    next_page_token: str = ""


_operation = msgspec.json.Decoder(_Operation)
_page = msgspec.json.Decoder(_Page)
_webhooks = msgspec.json.Decoder(_Webhooks)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


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


def parse_batch(body: bytes | bytearray | memoryview, asked: str) -> Batch:
    """A batch from the JSON of its operation; `asked` is its id where the answer does not name it.

    Every spelling that was seen is accepted: BATCH_STATE_* and JOB_STATE_*, the output at `response` and at
    `metadata.output`, file names as responsesFile, responses_file, fileName and file_name.

    Raises:
        Permanent: the answer is no batch.
    """
    try:
        operation = _operation.decode(body)
        file, inline = _output(operation.response)
        metadata = operation.metadata or _Metadata()
        if file is None and inline is None:
            file, inline = _output(metadata.output)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise Permanent("Gemini's answer is no batch: it could not be read.") from None
    return Batch(
        id=asked or parse_batch_id(operation.name) or "",
        state=_state(metadata.state, operation, has_output=file is not None or inline is not None),
        display_name=metadata.display_name,
        model=metadata.model,
        created_at=metadata.create_time,
        ended_at=metadata.end_time or metadata.update_time,
        stats=metadata.batch_stats,
        error=operation.error,
        result_file=file,
        inline=inline,
    )


def timestamp(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time with up to nine decimals; None where it is none."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _state(text: str | None, operation: _Operation, *, has_output: bool) -> State:
    name = (text or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower()
    if name == "partially_succeeded":
        return State.SUCCEEDED
    if name in set(State):
        return State(name)
    if operation.done and operation.error:
        return State.FAILED
    return State.SUCCEEDED if operation.done and has_output else State.RUNNING


def _output(raw: msgspec.Raw) -> tuple[str | None, list[msgspec.Raw] | None]:
    members = _object(raw)
    for name, value in members.items():
        if _plain(name) in _FILE_FIELDS:
            file = msgspec.json.decode(value)
            if isinstance(file, str) and file:
                return file, None
    for name, value in members.items():
        if _plain(name) in _INLINE_FIELDS:
            return None, _inlined(value)
    return None, None


def _inlined(raw: msgspec.Raw) -> list[msgspec.Raw]:
    if bytes(memoryview(raw)[:1]) == b"[":
        return _elements.decode(raw)
    for name, value in _object(raw).items():
        if _plain(name) in _INLINE_FIELDS:
            return _elements.decode(value)
    return []


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return _members.decode(raw) if bytes(memoryview(raw)[:1]) == b"{" else {}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _download(answer: httpx.Response) -> Download:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise GeminiUnavailable("Gemini sent the result file compressed although plain bytes were asked for.")
    start, length = 0, _integer(answer.headers.get("content-length"))
    if answer.status_code == 206:
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", answer.headers.get("content-range", ""))
        if not found:
            raise GeminiUnavailable("Gemini answered a range request without saying which range it sent.")
        start, length = int(found[1]), _integer(found[2])
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
