"""Resumable uploads that break off, and go on where they were."""

from typing import Any

import httpx
import pytest

from emulator.uploads import GRANULARITY
from tests.support.gemini import Gemini

CONTENT = bytes(range(256)) * 2048  # two chunks


def _start(gemini: Gemini, size: int = len(CONTENT), **wanted: Any) -> str:
    headers = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": str(size),
        "X-Goog-Upload-Header-Content-Type": "application/jsonl",
    }
    answer = gemini.http.post("/upload/v1beta/files", json={"file": wanted}, headers=headers)
    return answer.raise_for_status().headers["x-goog-upload-url"]


def _command(gemini: Gemini, url: str, command: str, content: bytes = b"", offset: int = 0) -> httpx.Response:
    headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
    return gemini.http.post(url, content=content, headers=headers)


def _progress(answer: httpx.Response) -> tuple[str, int]:
    return answer.headers["x-goog-upload-status"], int(answer.headers["x-goog-upload-size-received"])


def test_a_file_comes_in_chunks_and_says_at_any_time_how_far_it_is(gemini: Gemini) -> None:
    url = _start(gemini)
    assert _progress(_command(gemini, url, "query")) == ("active", 0)
    half = len(CONTENT) // 2
    assert _progress(_command(gemini, url, "upload", CONTENT[:half])) == ("active", half)
    assert _progress(_command(gemini, url, "query")) == ("active", half)
    finished = _command(gemini, url, "upload, finalize", CONTENT[half:], half)
    assert _progress(finished) == ("final", len(CONTENT))
    assert finished.json()["file"]["sizeBytes"] == str(len(CONTENT))


def test_an_upload_whose_end_got_lost_says_so_when_it_is_asked(gemini: Gemini) -> None:
    url = _start(gemini)
    gemini.fault("lost", "POST /upload/", value=503)
    assert _command(gemini, url, "upload, finalize", CONTENT).status_code == 503
    found = _command(gemini, url, "query")
    assert _progress(found) == ("final", len(CONTENT))
    name = found.json()["file"]["name"]
    assert gemini.http.get(f"/v1beta/{name}").json()["sizeBytes"] == str(len(CONTENT))


def test_an_upload_that_broke_off_goes_on_where_it_was(gemini: Gemini) -> None:
    url = _start(gemini)
    gemini.fault("cut", "POST /upload/", value=1000)
    assert _command(gemini, url, "upload, finalize", CONTENT).status_code == 503
    status, received = _progress(_command(gemini, url, "query"))
    assert (status, received) == ("active", 1000)
    finished = _command(gemini, url, "upload, finalize", CONTENT[received:], received)
    assert finished.json()["file"]["sizeBytes"] == str(len(CONTENT))


def test_bytes_that_do_not_continue_those_before_are_refused(gemini: Gemini) -> None:
    url = _start(gemini)
    _command(gemini, url, "upload", CONTENT[:GRANULARITY])
    answer = _command(gemini, url, "upload, finalize", CONTENT)
    assert (answer.status_code, f"continues at byte {GRANULARITY}." in answer.text) == (400, True)


def test_a_chunk_that_is_not_the_last_has_a_multiple_of_the_granularity(gemini: Gemini) -> None:
    assert _command(gemini, _start(gemini), "upload", CONTENT[:1000]).status_code == 400


@pytest.mark.parametrize("command", ["query", "upload, finalize"])
def test_a_cancelled_upload_is_gone(gemini: Gemini, command: str) -> None:
    url = _start(gemini)
    _command(gemini, url, "cancel")
    assert _command(gemini, url, command, CONTENT).status_code == 404


def test_less_than_was_announced_is_refused(gemini: Gemini) -> None:
    answer = _command(gemini, _start(gemini, 10), "upload, finalize", b"123456789")
    assert "10 bytes were announced and 9 came." in answer.text
