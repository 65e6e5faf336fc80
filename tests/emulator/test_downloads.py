"""Downloads in parts, and the ways in which they go wrong when asked to."""

import time

import httpx
import pytest

from tests.support.gemini import Gemini

LINES = b"".join(b'{"key": "%d", "response": {}}\n' % number for number in range(100))


def _paths(batch: str) -> list[str]:
    return [
        f"{prefix}/files/batch-{batch}:download?alt=media"
        for prefix in ("/v1", "/v1beta", "/download/v1", "/download/v1beta")
    ]


def test_every_path_serves_the_bytes_with_their_length_and_etag(gemini: Gemini) -> None:
    answers = [gemini.http.get(path) for path in _paths(gemini.put_batch(LINES))]
    assert {answer.content for answer in answers} == {LINES}
    assert {answer.headers["content-length"] for answer in answers} == {str(len(LINES))}
    assert len({answer.headers["etag"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=10-", 10, None), ("bytes=10-19", 10, 20), ("bytes=-5", -5, None), ("bytes=0-99999", 0, None)],
)
def test_a_range_is_served_alone(gemini: Gemini, asked: str, start: int, end: int | None) -> None:
    answer = gemini.http.get(_paths(gemini.put_batch(LINES))[0], headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, LINES[start:end])
    first = start % len(LINES)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(LINES)}"


def test_a_range_beyond_the_end_is_refused_with_the_length(gemini: Gemini) -> None:
    answer = gemini.http.get(_paths(gemini.put_batch(LINES))[0], headers={"Range": f"bytes={len(LINES)}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(LINES)}")


def test_a_range_of_an_earlier_version_gets_everything(gemini: Gemini) -> None:
    batch = gemini.put_batch(b"old")
    etag = gemini.http.get(_paths(batch)[0]).headers["etag"]
    gemini.put_batch(LINES, batch_id=batch)
    answer = gemini.http.get(_paths(batch)[0], headers={"Range": "bytes=1-", "If-Range": etag})
    assert (answer.status_code, answer.content) == (200, LINES)
    assert answer.headers["etag"] != etag


def test_a_download_can_be_cut_and_then_continued(gemini: Gemini) -> None:
    path = _paths(gemini.put_batch(LINES))[0]
    gemini.fault("cut", ":download", value=40)
    with gemini.http.stream("GET", path) as answer:
        chunks = answer.iter_bytes()
        came = next(chunks)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert came == LINES[:40]
    assert came + gemini.http.get(path, headers={"Range": "bytes=40-"}).content == LINES


def test_a_range_can_be_ignored(gemini: Gemini) -> None:
    path = _paths(gemini.put_batch(LINES))[0]
    gemini.fault("ignore_range")
    answers = [gemini.http.get(path, headers={"Range": "bytes=40-"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 206]
    assert answers[0].content == LINES


def test_a_download_can_be_slow(gemini: Gemini) -> None:
    path = _paths(gemini.put_batch(b"x" * 10_000))[0]
    gemini.fault("throttle", value=50_000)
    began = time.monotonic()
    assert len(gemini.http.get(path).content) == 10_000
    assert time.monotonic() - began >= 0.2


def test_an_expired_output_is_not_found_while_its_batch_stays(gemini: Gemini) -> None:
    batch = gemini.put_batch(LINES)
    gemini.expire_output(batch)
    assert gemini.http.get(_paths(batch)[0]).json()["error"]["status"] == "NOT_FOUND"
    assert gemini.http.get(f"/v1beta/batches/{batch}").status_code == 200


def test_a_large_file_is_streamed_both_ways(gemini: Gemini) -> None:
    piece = b'{"key": "k", "response": {"text": "' + b"x" * 1_000_000 + b'"}}\n'
    batch = gemini.put_batch(piece for _ in range(100))
    with gemini.http.stream("GET", _paths(batch)[0]) as answer:
        assert sum(map(len, answer.iter_raw())) == 100 * len(piece)
    assert gemini.peak_memory_bytes() < 300_000_000
