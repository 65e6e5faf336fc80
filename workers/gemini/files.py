"""Result files: streamed from any byte on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from workers.errors import GeminiUnavailable, Permanent
from workers.gemini.http import Http
from workers.gemini.statuses import About

_FILE_NAME = re.compile(r"(?:files/)?([A-Za-z0-9][A-Za-z0-9_-]{0,127})")
_CHUNK = 256 << 10


@dataclass(frozen=True, slots=True)
class Download:
    """An open result file: `chunks` starts at byte `start`; `length` (bytes) and `etag` where the server told them."""

    start: int
    length: int | None
    etag: str | None
    chunks: Iterator[bytes]


@contextmanager
def download(http: Http, file: str, start: int, etag: str | None) -> Iterator[Download]:
    """Stream a result file from byte `start`, as `workers.gemini.client.Gemini.download` says."""
    found = _FILE_NAME.fullmatch(file)
    if not found:
        raise Permanent(
            "Gemini named a result file that is not of the form files/<id>; the batch can't be fetched."
        )
    headers = {}
    if start:
        headers["range"] = f"bytes={start}-"
        if etag:
            headers["if-range"] = etag
    answer = _open(http, found[1], headers)
    try:
        if answer.status_code == 416:
            length = re.fullmatch(r"bytes \*/([0-9]+)", answer.headers.get("content-range", ""))
            yield Download(start, int(length[1]) if length else None, answer.headers.get("etag"), iter(()))
            return
        http.check(answer, About.FILE)
        yield _download(http, answer)
    finally:
        answer.close()


def _open(http: Http, name: str, headers: dict[str, str]) -> httpx.Response:
    """The file at the address of the guide, or else at that of the SDK.

    Only `:download` works for result files: their ids are over the Files API's 40 characters, so `files.get` answers
    400 (python-genai #1759).
    """
    answer = http.open(f"/download/v1beta/files/{name}:download", {"alt": "media"}, headers)
    if answer.status_code not in {400, 404}:
        return answer
    answer.close()
    return http.open(f"/v1beta/files/{name}:download", {"alt": "media"}, headers)


def _download(http: Http, answer: httpx.Response) -> Download:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise GeminiUnavailable("Gemini sent the result file compressed although plain bytes were asked for.")
    start, length = 0, _length(answer.headers.get("content-length"))
    if answer.status_code == 206:
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", answer.headers.get("content-range", ""))
        if not found:
            raise GeminiUnavailable("Gemini answered a range request without saying which range it sent.")
        start, length = int(found[1]), _length(found[2])
    return Download(start, length, answer.headers.get("etag"), _chunks(http, answer))


def _length(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _chunks(http: Http, answer: httpx.Response) -> Iterator[bytes]:
    """What came before a connection broke is given too, so that the next one goes on behind it."""
    held, broken = bytearray(), None
    try:
        for piece in answer.iter_raw():
            held += piece
            if len(held) >= _CHUNK:
                yield bytes(held)
                held.clear()
    except httpx.HTTPError as error:
        broken = http.unreachable(error)
    if held:
        yield bytes(held)
    if broken:
        raise broken
