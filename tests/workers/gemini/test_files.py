"""Result files: from any byte on, at each of their addresses, and by each of their names."""

import json
import time
from contextlib import closing

import pytest

from tests.support.gemini import Gemini as Emulator
from tests.support.scripted import Answer, Asked, Scripted
from tests.workers.gemini.asking import ERRORS, FILE, KEY, read
from workers.errors import (
    GeminiUnavailable,
    KeyRefused,
    Permanent,
    Refused,
    ResultsGone,
    TooSlow,
    Unreadable,
)
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.gemini.http import Limits


def test_a_file_is_downloaded_with_its_length_and_etag(emulated: Gemini, file: tuple[str, bytes]) -> None:
    name, content = file

    with emulated.download(name) as download:
        assert (download.start, download.length) == (0, len(content))
        assert download.etag
        assert b"".join(download.chunks) == content


@pytest.mark.parametrize("start", [1, 1000, -1])
def test_a_file_is_downloaded_from_any_byte_on(emulated: Gemini, file: tuple[str, bytes], start: int) -> None:
    name, content = file
    start %= len(content)

    with emulated.download(name, start) as download:
        assert (download.start, download.length) == (start, len(content))
        assert b"".join(download.chunks) == content[start:]


def test_a_start_behind_the_end_is_no_bytes_and_tells_the_length(
    emulated: Gemini, file: tuple[str, bytes]
) -> None:
    name, content = file

    with emulated.download(name, len(content)) as download:
        assert (download.start, download.length) == (len(content), len(content))
        assert list(download.chunks) == []


def test_a_server_that_ignores_a_range_says_where_it_begins(
    gemini: Emulator, emulated: Gemini, file: tuple[str, bytes]
) -> None:
    name, content = file
    gemini.fault("ignore_range")

    with emulated.download(name, 1000) as download:
        assert (download.start, download.length) == (0, len(content))
        assert b"".join(download.chunks) == content


def test_a_range_is_asked_for_only_of_the_file_that_is_known(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b"abc")

    read(client, start=5, etag='"v1"')
    read(client, start=5)
    read(client)

    asked = [(a.headers.get("range"), a.headers.get("if-range")) for a in server.asked]
    assert asked == [("bytes=5-", '"v1"'), ("bytes=5-", None), (None, None)]
    assert {a.headers["accept-encoding"] for a in server.asked} == {"identity"}


@pytest.mark.parametrize("status", [400, 404])
def test_a_file_that_is_missing_at_one_path_is_looked_for_at_the_other(
    server: Scripted, client: Gemini, status: int
) -> None:
    server.answer = lambda asked: Answer(body=b"x") if asked.path.startswith("/v1beta") else Answer(status)

    assert read(client) == b"x"
    assert [asked.path for asked in server.asked] == [
        "/download/v1beta/files/batch-abc:download?alt=media",
        "/v1beta/files/batch-abc:download?alt=media",
    ]


def test_an_expired_file_is_gone_for_good(
    gemini: Emulator, emulated: Gemini, file: tuple[str, bytes]
) -> None:
    name, _ = file
    gemini.expire_output(name.removeprefix("files/batch-"))

    with pytest.raises(ResultsGone, match="is gone"):
        read(emulated, name)


@pytest.mark.parametrize("answer", [Answer(404), Answer(403, json.dumps(ERRORS["file_gone"]).encode())])
def test_a_file_that_is_not_there_or_not_ours_is_gone_for_good(
    server: Scripted, client: Gemini, answer: Answer
) -> None:
    server.answer = lambda _: answer

    with pytest.raises(ResultsGone):
        read(client)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"error":{"message":"The caller may not."}}'])
def test_a_file_that_is_refused_without_saying_why_is_not_known_to_be_gone(
    server: Scripted, client: Gemini, body: bytes
) -> None:
    server.answer = lambda _: Answer(403, body)

    with pytest.raises(Refused) as caught:
        read(client)

    assert not isinstance(caught.value, Unreadable | KeyRefused)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_cut_connection_can_heal_and_what_came_is_kept(
    server: Scripted, client: Gemini, chunked: bool
) -> None:
    server.answer = lambda _: Answer(body=b"x" * 1000, cut=600, chunked=chunked)

    got = b""
    with client.download(FILE) as download, pytest.raises(GeminiUnavailable):  # noqa: PT012
        for chunk in download.chunks:
            got += chunk

    assert got == b"x" * 600


def test_a_file_without_a_length_is_read_to_its_end(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b"x" * 1000, chunked=True)

    with client.download(FILE) as download:
        assert (download.length, download.etag) == (None, None)
        assert b"".join(download.chunks) == b"x" * 1000


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_a_file_that_is_not_compressed_as_it_says_or_in_a_way_that_is_not_known_can_heal(
    server: Scripted, client: Gemini, encoding: str
) -> None:
    server.answer = lambda _: Answer(body=b"x", headers={"Content-Encoding": encoding})

    with pytest.raises(GeminiUnavailable, match="compressed"):
        read(client)


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [("bytes 5-9/10", 5, 10), ("bytes 5-9/*", 5, None), ("bytes 0-9/10", 0, 10)],
)
def test_a_partial_answer_says_which_part_it_is(
    server: Scripted, client: Gemini, header: str, start: int, length: int | None
) -> None:
    server.answer = lambda _: Answer(206, b"56789", {"Content-Range": header})

    with client.download(FILE, 5) as download:
        assert (download.start, download.length) == (start, length)


@pytest.mark.parametrize("header", [None, "", "bytes */10", "lines 1-2/3", "bytes 5-9/ten", "bytes -9/10"])
def test_a_partial_answer_that_does_not_say_which_part_it_is_can_heal(
    server: Scripted, client: Gemini, header: str | None
) -> None:
    headers = {} if header is None else {"Content-Range": header}
    server.answer = lambda _: Answer(206, b"56789", headers)

    with pytest.raises(GeminiUnavailable, match="which range"):
        read(client, start=5)


@pytest.mark.parametrize("header", [None, "bytes */junk", "junk"])
def test_a_range_that_is_refused_without_a_length_is_the_end(
    server: Scripted, client: Gemini, header: str | None
) -> None:
    server.answer = lambda _: Answer(416, headers={} if header is None else {"Content-Range": header})

    with client.download(FILE, 5) as download:
        assert (download.start, download.length, list(download.chunks)) == (5, None, [])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "files/",
            "files/..",
            "files/a/b",
            "../files/a",
            "files/a?x=1",
            "files/a#b",
            "files/a:download",
        ),
        *("https://example.com/x", "gs://bucket/object", "//example.com/x", "files/a\n", "files/%2e%2e", "é"),
        *("files/files/a", "Files/a", "files/" + "a" * 129, "files/-a", "files/a b"),
    ],
)
def test_what_is_no_file_name_is_never_asked_for(server: Scripted, client: Gemini, name: str) -> None:
    with pytest.raises(Permanent, match="result file"):
        read(client, name)

    assert not server.asked


@pytest.mark.parametrize("name", [FILE, "batch-abc"])
def test_a_file_may_be_named_with_or_without_its_collection(
    server: Scripted, client: Gemini, name: str
) -> None:
    server.answer = lambda _: Answer(body=b"x")

    assert read(client, name) == b"x"
    assert server.asked[0].path == "/download/v1beta/files/batch-abc:download?alt=media"


def test_a_download_that_trickles_is_given_up_and_what_came_is_kept(server: Scripted) -> None:
    server.answer = lambda _: Answer(body=b"x" * 10_000, drip=0.02)
    limits = Limits(least_rate=500, rate_seconds=0.5)

    got, begun = b"", time.monotonic()
    with (  # noqa: PT012
        closing(Gemini(Access(server.url, Secret(KEY)), limits)) as client,
        client.download(FILE) as download,
        pytest.raises(TooSlow, match="too slowly"),
    ):
        for chunk in download.chunks:
            got += chunk

    assert set(got) == {ord("x")}
    assert time.monotonic() - begun < 5


def test_who_takes_the_chunks_may_be_slower_than_the_least_rate(server: Scripted) -> None:
    server.answer = lambda _: Answer(body=b"x" * 3_000_000)
    limits = Limits(least_rate=100_000_000, rate_seconds=0.3)

    with (
        closing(Gemini(Access(server.url, Secret(KEY)), limits)) as client,
        client.download(FILE) as download,
    ):
        next(download.chunks)
        time.sleep(0.4)
        assert sum(len(chunk) for chunk in download.chunks) > 2_000_000


@pytest.mark.parametrize(
    "name",
    [
        "{url}/v1beta/files/batch-abc",
        "{url}/v1/files/batch-abc:download?alt=media",
        "{url}/download/v1beta/files/batch-abc:download?alt=media",
        "https://generativelanguage.googleapis.com/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com/v1beta/files/batch-abc:download?alt=media",
        "https://GenerativeLanguage.googleapis.com:443/v1beta/files/batch-abc",
    ],
)
def test_a_file_may_be_named_by_its_address_at_gemini_and_is_asked_for_where_gemini_is(
    server: Scripted, client: Gemini, name: str
) -> None:
    server.answer = lambda _: Answer(body=b"x")

    assert read(client, name.format(url=server.url)) == b"x"
    assert server.asked[0].path == "/download/v1beta/files/batch-abc:download?alt=media"


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com.example.com/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com@example.com/v1beta/files/batch-abc",
        "https://x@generativelanguage.googleapis.com/v1beta/files/batch-abc",
        "http://generativelanguage.googleapis.com/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com:8443/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com/v1beta/batches/batch-abc",
        "https://generativelanguage.googleapis.com/v1beta/files/batch-abc/x",
        "https://generativelanguage.googleapis.com/v1beta/files/",
        "https://generativelanguage.googleapis.com/v1beta/files/../x",
        "https://[generativelanguage.googleapis.com/v1beta/files/batch-abc",
        "//generativelanguage.googleapis.com/v1beta/files/batch-abc",
        "https://generativelanguage.googleapis.com/v1beta/files/batch-abc\n",
        "https://generativelanguage.googleapis.com/v1beta/files/batch\t-abc",
        "https://generativelanguage.googleapis.com\n/v1beta/files/batch-abc",
        "http://127.0.0.1/v1beta/files/batch-abc",
    ],
)
def test_an_address_elsewhere_or_of_something_else_names_no_file(
    server: Scripted, client: Gemini, name: str
) -> None:
    with pytest.raises(Permanent, match="result file"):
        read(client, name)

    assert not server.asked


def test_a_download_that_is_left_early_leaves_the_client_usable(server: Scripted, client: Gemini) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(body=b"x" * 5_000_000 if "download" in asked.path else b"{}")

    server.answer = answer
    begun = time.monotonic()

    with client.download(FILE) as download:
        next(download.chunks)
    client.batch("abc")

    assert time.monotonic() - begun < 5
