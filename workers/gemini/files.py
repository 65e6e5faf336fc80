"""Result files: streamed from any byte on."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from workers.errors import GeminiUnavailable, Permanent, TooSlow
from workers.gemini.access import DEFAULT_BASE_URL, same_host
from workers.gemini.encoding import decoded, is_plain
from workers.gemini.http import Http, Opened
from workers.gemini.statuses import About

_ID = r"([A-Za-z0-9][A-Za-z0-9_-]{0,127})"
_NAME = re.compile(rf"(?:files/)?{_ID}")
_ADDRESS = re.compile(
    rf"(?P<host>https?://[A-Za-z0-9.:\[\]-]+)(?:/[A-Za-z0-9._~-]+)*/files/{_ID}(?::download)?(?:\?[!-~]*)?"
)
_CHUNK = 256 << 10


class Pace:
    """How fast a file comes: bytes over the time that was spent waiting for them, whoever else is slow."""

    def __init__(self, least_rate: float, seconds: float) -> None:
        """At least `least_rate` bytes a second, looked at whenever `seconds` were waited."""
        self._least_rate = least_rate
        self._seconds = seconds
        self._waited = 0.0
        self._received = 0

    def waited(self, seconds: float, received: int = 0) -> None:
        """Note a wait, and how many bytes it brought.

        Raises:
            TooSlow: the rate is below the least one.
        """
        self._waited += seconds
        self._received += received
        if self._waited < self._seconds:
            return
        rate = self._received / self._waited
        self._waited, self._received = 0.0, 0
        if rate < self._least_rate:
            raise TooSlow(f"Gemini sends the result file too slowly: {rate:.0f} bytes a second.")


@dataclass(frozen=True, slots=True)
class Download:
    """An open result file: `chunks` starts at byte `start`; `length` (bytes) and `etag` where the server told them.

    `pace` goes on with the next download of the same file. Of a `compressed` one no range can be asked for.
    """

    start: int
    length: int | None
    etag: str | None
    chunks: Iterator[bytes]
    pace: Pace
    compressed: bool = False


@contextmanager
def download(
    http: Http, file: str, start: int, etag: str | None, pace: Pace | None, *, at_second: bool = False
) -> Iterator[Download]:
    """Stream a result file from byte `start`, as `workers.gemini.client.Gemini.download` says."""
    name = _name(file, http.base_url)
    if name is None:
        raise Permanent(
            "Gemini named a result file that is not of the form files/<id>; the batch can't be fetched."
        )
    pace = pace or Pace(http.limits.least_rate, http.limits.rate_seconds)
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(http, name, _range(start, etag), at_second))
        if start and _counts_otherwise(opened.response, start):
            stack.close()
            opened = stack.enter_context(_opened(http, name, {}, at_second))
        answer = opened.response
        if answer.status_code == 416:
            yield Download(start, _whole_length(answer), answer.headers.get("etag"), iter(()), pace)
            return
        http.check(opened, About.FILE)
        yield _download(http, answer, pace)


def _range(start: int, etag: str | None) -> dict[str, str]:
    """The headers that ask for everything from byte `start` on, of the file that is known."""
    if not start:
        return {}
    return {"range": f"bytes={start}-"} | ({"if-range": etag} if etag else {})


def _counts_otherwise(answer: httpx.Response, start: int) -> bool:
    """Whether a server counts other bytes than those that are known: compressed ones, or a shorter file's."""
    if answer.status_code == 206:
        return not is_plain(answer.headers.get("content-encoding"))
    length = _whole_length(answer)
    return answer.status_code == 416 and length is not None and length < start


def _whole_length(answer: httpx.Response) -> int | None:
    """How long a file is by the answer that a range lies behind its end."""
    found = re.fullmatch(r"bytes \*/([0-9]{1,18})", answer.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _name(file: str, base_url: str) -> str | None:
    """The id of a file that is named as files/<id>, or by its address at Gemini; None for anything else."""
    if found := _NAME.fullmatch(file):
        return found[1]
    found = _ADDRESS.fullmatch(file)
    if found and any(same_host(found["host"], gemini) for gemini in (base_url, DEFAULT_BASE_URL)):
        return found[2]
    return None


@contextmanager
def _opened(http: Http, name: str, headers: dict[str, str], at_second: bool) -> Iterator[Opened]:
    """The file at the address of the guide, or else at that of the SDK; the other way round where `at_second`.

    Only `:download` works for result files: their ids are over the Files API's 40 characters, so `files.get` answers
    400 (python-genai #1759).
    """
    first, second = f"/download/v1beta/files/{name}:download", f"/v1beta/files/{name}:download"
    if at_second:
        first, second = second, first
    with http.open(first, {"alt": "media"}, headers) as opened:
        if opened.response.status_code not in {400, 404}:
            yield opened
            return
    with http.open(second, {"alt": "media"}, headers) as opened:
        yield opened


def _download(http: Http, answer: httpx.Response, pace: Pace) -> Download:
    etag = answer.headers.get("etag")
    pieces = _paced(answer.iter_raw(), pace)
    encoding = answer.headers.get("content-encoding")
    if not is_plain(encoding):
        if answer.status_code != 200:
            raise GeminiUnavailable(
                "Gemini sent a part of a compressed file although all of it was asked for."
            )
        return Download(0, None, etag, _chunks(http, decoded(pieces, encoding)), pace, compressed=True)
    start, length = 0, _length(answer.headers.get("content-length"))
    if answer.status_code == 206:
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", answer.headers.get("content-range", ""))
        if not found:
            raise GeminiUnavailable("Gemini answered a range request without saying which range it sent.")
        start, length = int(found[1]), _length(found[2])
    return Download(start, length, etag, _chunks(http, pieces), pace)


def _length(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _chunks(http: Http, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What came before a connection broke or grew too slow is given too, so that the next one goes on behind it."""
    held, broken = bytearray(), None
    try:
        for piece in pieces:
            held += piece
            if len(held) >= _CHUNK:
                yield bytes(held)
                held.clear()
    except httpx.HTTPError as error:
        broken = http.unreachable(error)
    except GeminiUnavailable as error:
        broken = error
    if held:
        yield bytes(held)
    if broken:
        raise broken


def _paced(pieces: Iterator[bytes], pace: Pace) -> Iterator[bytes]:
    """Only the time spent here counts, not that of whoever takes the pieces."""
    while True:
        begun = time.monotonic()
        piece = next(pieces, None)
        if piece is None:
            return
        waited = time.monotonic() - begun
        yield piece
        pace.waited(waited, len(piece))
