"""Gemini's answers as they were documented, as they were seen, and as nobody should send them."""

import json
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support.deployment import result_line
from tests.support.gemini import Gemini as Emulator
from tests.support.processes import ROOT
from tests.support.scripted import Answer, Asked, Scripted, scripted
from workers.errors import (
    GeminiUnavailable,
    KeyRefused,
    Permanent,
    Refused,
    ResultsGone,
    TooSlow,
    Unreadable,
    WorkerError,
)
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.gemini.http import Limits
from workers.sources import FileSource

KEY = "AIza-very-secret"
FILE = "files/batch-abc"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def client(server: Scripted) -> Iterator[Gemini]:
    client = Gemini(Access(server.url, Secret(KEY)))
    yield client
    client.close()


@pytest.fixture
def emulated(gemini: Emulator) -> Iterator[Gemini]:
    """A client of the emulator."""
    client = Gemini(Access(gemini.url, Secret(gemini.api_key)))
    yield client
    client.close()


@contextmanager
def traced() -> Iterator[Callable[[], tuple[int, int]]]:
    """Gives how many bytes were allocated since the start, and are still held, and the most there ever were."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def memory() -> tuple[int, int]:
        held, peak = tracemalloc.get_traced_memory()
        return held - before, peak - before

    try:
        yield memory
    finally:
        tracemalloc.stop()


def read(client: Gemini, file: str = FILE, start: int = 0, etag: str | None = None) -> bytes:
    with client.download(file, start, etag) as download:
        return b"".join(download.chunks)


def test_a_batch_of_the_emulator_is_read(gemini: Emulator, emulated: Gemini) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="mine", stats={"requestCount": "1"})

    found = emulated.batch(batch)

    assert (found.id, found.state, found.display_name, found.expected) == (batch, "succeeded", "mine", 1)
    assert found.result_file
    assert read(emulated, found.result_file) == result_line("a")


@pytest.mark.parametrize("state", ["SUCCEEDED", "EXPIRED", "PAUSED"])
def test_a_batch_of_the_emulator_is_read_in_the_other_shape_too(
    gemini: Emulator, emulated: Gemini, state: str
) -> None:
    batch = gemini.put_batch(result_line("a"), display_name="mine", said_at="top", state=state)

    found = emulated.batch(batch)

    assert (found.state_name, found.final, found.display_name) == (state.lower(), state != "PAUSED", "mine")
    assert found.result_file
    assert read(emulated, found.result_file) == result_line("a")
    assert [listed.state_name for listed in emulated.batches()] == [state.lower()]


def test_gemini_is_given_time_for_a_batch_that_may_hold_its_results(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b"{}")

    client.batch("abc")
    list(client.batches())

    assert [asked.headers.get("x-server-timeout") for asked in server.asked] == ["300", None]


def test_a_large_inline_answer_is_read_whole(server: Scripted, client: Gemini) -> None:
    element = json.dumps({"metadata": {"key": "é"}, "response": {"text": "x" * 100_000}}).encode()
    inline = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % b",\n".join([element] * 200)
    server.answer = lambda _: Answer(body=b'{"done":true,"response":%b}' % inline)

    batch = client.batch("abc")

    assert (batch.id, batch.state) == ("abc", "succeeded")
    assert batch.inline is not None
    assert [bytes(each) for each in batch.inline] == [element] * 200


def test_a_large_page_of_a_list_is_read_like_a_small_one(server: Scripted, client: Gemini) -> None:
    operation = b'{"name":"batches/abc","done":true,"response":{"inlinedResponses":["%b"]}}' % (
        b"x" * 1_000_000
    )
    body = b'{"operations":[%b],"nextPageToken":%%b}' % b",".join([operation] * 20)
    server.answer = lambda _: Answer(body=body % (b'"2"' if len(server.asked) == 1 else b'""'))

    assert [(batch.id, batch.state, batch.inline) for batch in client.batches()] == [
        ("abc", "succeeded", None)
    ] * 40


def test_an_answer_larger_than_any_webhook_is_not_understood(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b'{"id":"a","uri":"b"}' + b" " * (10 << 20))

    with pytest.raises(GeminiUnavailable, match="not understood"):
        client.webhooks.get("a")


READ_AND_MEASURE = """
import sys
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.sources import source_of

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

gemini = Gemini(Access(sys.argv[1], Secret("key")))
before = peak()
batch = gemini.batch("abc")
with source_of(batch, gemini).open(0, None) as opened:
    length = sum(len(chunk) for chunk in opened.chunks)
print(length, peak() - before)
"""


def test_a_large_inline_answer_takes_no_more_memory_than_a_small_one(server: Scripted) -> None:
    element = json.dumps(
        {"response": {"parts": [{"text": "x" * 500}] * 4, "image": "A" * 1_000_000}}
    ).encode()
    output = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % b",".join([element] * 50)
    body = b'{"done":true,"metadata":{"output":%b},"response":%b}' % (output, output)
    server.answer = lambda _: Answer(body=body)

    ended = subprocess.run(
        [sys.executable, "-c", READ_AND_MEASURE, server.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    length, peak = map(int, ended.stdout.split())
    assert length > 50_000_000
    assert peak < 45_000_000


def test_the_key_is_sent_in_its_header_and_never_in_the_address(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b"{}")

    client.batch("abc")

    assert [asked.path for asked in server.asked] == ["/v1beta/batches/abc"]
    assert server.asked[0].headers["x-goog-api-key"] == KEY
    assert server.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [403, 404])
def test_a_batch_that_is_not_ours_is_unreadable(server: Scripted, client: Gemini, status: int) -> None:
    server.answer = lambda _: Answer(status, b'{"error":{"code":404}}')

    with pytest.raises(Unreadable, match="can't read the batch"):
        client.batch("abc")


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, b""), (400, b'{"reason":"API_KEY_INVALID"}'), (403, b'{"reason": "API_KEY_INVALID"}')],
)
def test_a_refused_key_is_told_from_a_batch_that_is_not_ours(
    server: Scripted, client: Gemini, status: int, body: bytes
) -> None:
    server.answer = lambda _: Answer(status, body)

    with pytest.raises(KeyRefused, match="GEMINI_API_KEY"):
        client.batch("abc")
    with pytest.raises(KeyRefused):
        list(client.batches())
    with pytest.raises(KeyRefused):
        read(client)


@pytest.mark.parametrize(
    "status",
    [
        *(408, 425, 429, 500, 502, 503, 504, 402, 406, 409, 411, 412, 418, 421, 423, 428, 431, 451, 499),
        *(501, 505, 507, 508, 509, 511, *range(520, 531), 598, 599, 999),
    ],
)
def test_trouble_that_passes_can_heal(server: Scripted, client: Gemini, status: int) -> None:
    server.answer = lambda _: Answer(status, b"busy", {"Retry-After": "17"})

    for call in (lambda: client.batch("abc"), lambda: list(client.batches()), lambda: read(client)):
        with pytest.raises(GeminiUnavailable, match=str(status)) as caught:
            call()
        assert caught.value.retry_after == 17


@pytest.mark.parametrize("status", [201, 204, 206, 300, 301, 302, 304, 307, 308])
def test_what_is_no_answer_to_the_call_can_heal(server: Scripted, client: Gemini, status: int) -> None:
    server.answer = lambda _: Answer(status, b"")

    for call in (lambda: client.batch("abc"), lambda: list(client.batches())):
        with pytest.raises(GeminiUnavailable, match=str(status)):
            call()


@pytest.mark.parametrize("status", [400, 405, 410])
def test_what_is_known_not_to_heal_is_final(server: Scripted, client: Gemini, status: int) -> None:
    server.answer = lambda _: Answer(status, b"")

    for call in (lambda: client.batch("abc"), lambda: list(client.batches()), lambda: read(client)):
        with pytest.raises(Permanent, match=str(status)):
            call()


def test_a_precondition_that_fails_is_none_of_the_requests_faults(server: Scripted, client: Gemini) -> None:
    error = {"code": 400, "message": "User location is not supported.", "status": "FAILED_PRECONDITION"}
    server.answer = lambda _: Answer(400, json.dumps({"error": error}).encode())

    with pytest.raises(GeminiUnavailable, match="User location is not supported"):
        client.batch("abc")


ERRORS = json.loads((Path(__file__).parent / "errors.json").read_text())
ABOUT_THE_KEY = {name: error for name, error in ERRORS.items() if name not in {"file_gone", "cancelled_499"}}


@pytest.mark.parametrize("name", ABOUT_THE_KEY)
@pytest.mark.parametrize("details", [True, False])
def test_a_403_about_the_key_says_so_in_geminis_words_whatever_was_asked_for(
    server: Scripted, client: Gemini, name: str, details: bool
) -> None:
    error = dict(ABOUT_THE_KEY[name]["error"])
    if not details:
        error.pop("details", None)
    server.answer = lambda _: Answer(403, json.dumps({"error": error}).encode())

    for call in (lambda: client.batch("abc"), lambda: list(client.batches()), lambda: read(client)):
        with pytest.raises(KeyRefused) as caught:
            call()
        assert error["message"].rstrip(".") in str(caught.value)
        assert not isinstance(caught.value, Permanent | Unreadable)


@pytest.mark.parametrize(
    "reason",
    ["API_KEY_HTTP_REFERRER_BLOCKED", "API_KEY_NEW_OF_ITS_KIND", "BILLING_DISABLED", "CONSUMER_INVALID"],
)
def test_a_reason_about_the_key_needs_no_words(server: Scripted, client: Gemini, reason: str) -> None:
    error = {"error": {"code": 403, "message": "No.", "details": [{"x": 1}, 2, {"reason": reason}]}}
    server.answer = lambda _: Answer(403, json.dumps(error).encode())

    for call in (lambda: client.batch("abc"), lambda: read(client)):
        with pytest.raises(KeyRefused):
            call()


def test_a_key_that_dies_in_mid_download_does_not_make_its_results_gone(
    server: Scripted, client: Gemini
) -> None:
    leaked = json.dumps(ERRORS["leaked"]).encode()
    server.answer = lambda _: Answer(body=b"abc", cut=1) if len(server.asked) == 1 else Answer(403, leaked)

    with FileSource(client, FILE).open(0, None) as opened, pytest.raises(KeyRefused, match="leaked"):
        list(opened.chunks)


def test_an_error_of_geminis_in_a_list_is_read_too(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(403, json.dumps([ERRORS["leaked"]]).encode())

    with pytest.raises(KeyRefused, match="leaked"):
        client.batch("abc")


def test_what_gemini_says_is_quoted_printable_bounded_and_without_the_key(
    server: Scripted, client: Gemini
) -> None:
    message = f"API key {KEY} was\x1b]0;x\x07 \u202e refused.\n" + "x" * 10_000
    server.answer = lambda _: Answer(403, json.dumps({"error": {"message": message}}).encode())

    with pytest.raises(KeyRefused) as caught:
        client.batch("abc")

    said = str(caught.value)
    assert "API key *** was" in said
    assert said.isprintable()
    assert len(said) < 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(
            ("0", 0),
            ("120", 120),
            ("999999", 999_999),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ),
        *(("9999999", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 99 Oct 2015 07:28:00 GMT", None)),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
    ],
)
def test_how_long_to_wait_is_read_where_it_can_be(
    server: Scripted, client: Gemini, header: str, seconds: float | None
) -> None:
    server.answer = lambda _: Answer(429, headers={"Retry-After": header})

    with pytest.raises(GeminiUnavailable) as caught:
        client.batch("abc")

    assert caught.value.retry_after == seconds


def test_how_long_to_wait_may_be_a_date(server: Scripted, client: Gemini) -> None:
    until = datetime.now(UTC) + timedelta(seconds=300)
    server.answer = lambda _: Answer(503, headers={"Retry-After": format_datetime(until, usegmt=True)})

    with pytest.raises(GeminiUnavailable) as caught:
        client.batch("abc")

    assert caught.value.retry_after is not None
    assert 290 < caught.value.retry_after <= 300


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:{port}", "//localhost:{port}", "https://127.0.0.1:{port}"]
)
def test_a_redirect_to_another_host_port_or_scheme_is_not_followed(
    server: Scripted, client: Gemini, status: int, host: str
) -> None:
    with scripted() as other:
        elsewhere = other if host.startswith("http:") else server
        location = host.format(port=elsewhere.url.rsplit(":", 1)[1]) + "/elsewhere"
        server.answer = lambda _: Answer(status, headers={"Location": location})

        for call in (lambda: client.batch("abc"), lambda: read(client)):
            with pytest.raises(GeminiUnavailable, match="redirects"):
                call()

        assert not other.asked
        assert "/elsewhere" not in {asked.path for asked in server.asked}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["", "{url}"])
def test_a_redirect_that_stays_where_it_is_is_followed_for_the_answer_behind_it(
    server: Scripted, client: Gemini, status: int, host: str
) -> None:
    def answer(asked: Asked) -> Answer:
        if "elsewhere" in asked.path:
            return Answer(body=b'{"name":"batches/abc"}')
        return Answer(status, headers={"Location": host.format(url=server.url) + "/elsewhere?alt=media"})

    server.answer = answer

    assert client.batch("abc").id == "abc"
    assert read(client, start=5, etag='"v1"') == b'{"name":"batches/abc"}'
    assert server.asked[-1].path == "/elsewhere?alt=media"
    assert server.asked[-1].headers["x-goog-api-key"] == KEY
    assert server.asked[-1].headers["range"] == "bytes=5-"


def test_a_download_that_the_emulator_redirects_is_the_file(
    gemini: Emulator, emulated: Gemini, file: tuple[str, bytes]
) -> None:
    name, content = file
    gemini.fault("redirect", value=302)

    assert read(emulated, name, 1000) == content[1000:]
    assert [asked["status"] for asked in gemini.requests(":download")] == [302, 206]


def test_a_redirect_behind_which_a_file_is_gone_says_so(server: Scripted, client: Gemini) -> None:
    server.answer = lambda asked: (
        Answer(404) if asked.path == "/gone" else Answer(302, headers={"Location": "/gone"})
    )

    with pytest.raises(ResultsGone):
        read(client)


def test_redirects_in_a_circle_end(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(302, headers={"Location": "/again"})

    with pytest.raises(GeminiUnavailable, match="redirects"):
        client.batch("abc")

    assert len(server.asked) < 6


def test_a_call_that_changes_something_is_not_redirected(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(307, headers={"Location": "/again"})

    with pytest.raises(GeminiUnavailable, match="redirects"):
        client.webhooks.ping("hook")

    assert [asked.path for asked in server.asked] == ["/v1beta/webhooks/hook:ping"]


@pytest.mark.parametrize(
    "location", ["", "http://[", "\\\\", "http://:0/x", "file:///etc/passwd", "x" * 3000]
)
def test_a_redirect_to_nowhere_can_heal(server: Scripted, client: Gemini, location: str) -> None:
    server.answer = lambda _: Answer(302, headers={"Location": location})

    for call in (lambda: client.batch("abc"), lambda: read(client)):
        with pytest.raises(GeminiUnavailable):
            call()


def test_nobody_at_the_address_can_heal() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Gemini(Access(f"http://127.0.0.1:{unused.getsockname()[1]}", Secret(KEY)))

        with pytest.raises(GeminiUnavailable, match="could not be reached"):
            client.batch("abc")
        with pytest.raises(GeminiUnavailable, match="could not be reached"):
            read(client)
        client.close()


def test_silence_can_heal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = Access(f"http://127.0.0.1:{silent.getsockname()[1]}", Secret(KEY))
        client = Gemini(access, Limits(read=0.1, batch_read=0.1))

        for call in (lambda: client.batch("abc"), lambda: read(client)):
            with pytest.raises(GeminiUnavailable, match="ReadTimeout"):
                call()
        client.close()


def test_an_answer_that_trickles_is_given_up(server: Scripted) -> None:
    server.answer = lambda _: Answer(body=b"{" + b" " * 1000 + b"}", drip=0.02)

    with closing(Gemini(Access(server.url, Secret(KEY)), Limits(total=0.3, batch_total=0.3))) as client:
        for call in (
            lambda: client.batch("abc"),
            lambda: list(client.batches()),
            lambda: list(client.webhooks.list()),
        ):
            begun = time.monotonic()
            with pytest.raises(GeminiUnavailable, match="did not come to its end"):
                call()
            assert time.monotonic() - begun < 3


def test_an_error_that_trickles_or_does_not_end_is_one_all_the_same(server: Scripted) -> None:
    with closing(Gemini(Access(server.url, Secret(KEY)), Limits(total=0.3, batch_total=0.3))) as client:
        for answer in (
            Answer(503, b"x" * 1000, drip=0.02),
            Answer(503, b"x" * 50_000_000, cut=40_000_000),
        ):
            server.answer = lambda _, answer=answer: answer  # type: ignore[misc]
            for call in (lambda: client.batch("abc"), lambda: read(client)):
                with traced() as memory, pytest.raises(GeminiUnavailable, match="503"):
                    call()
                assert memory()[1] < 5_000_000


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_a_body_that_can_not_be_unpacked_can_heal(server: Scripted, client: Gemini, encoding: str) -> None:
    server.answer = lambda _: Answer(body=b"not packed", headers={"Content-Encoding": encoding})

    with pytest.raises(WorkerError):
        client.batch("abc")


def test_no_error_says_the_key_not_even_where_it_came_from(server: Scripted, client: Gemini) -> None:
    assert KEY not in repr(client)
    for status in (200, 301, 400, 401, 403, 404, 429, 500):
        server.answer = lambda _, status=status: Answer(status, KEY.encode())  # type: ignore[misc]
        for call in (lambda: client.batch("abc"), lambda: list(client.batches())):
            with pytest.raises(WorkerError) as caught:
                call()
            assert KEY not in str(caught.value) + repr(caught.value)
            assert caught.value.__cause__ is None


# The list of batches.


def test_all_pages_are_listed(gemini: Emulator, emulated: Gemini) -> None:
    put = {gemini.put_batch(result_line("a")) for _ in range(5)}

    assert {batch.id for batch in emulated.batches(page_size=2)} == put
    assert len([asked for asked in gemini.requests("/batches") if asked["method"] == "GET"]) == 3


def test_no_batches_are_an_empty_list(gemini: Emulator, emulated: Gemini) -> None:
    assert list(emulated.batches()) == []
    assert len(gemini.requests("/batches")) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"operations":{}}', b"[" * 100_000])
def test_a_list_that_can_not_be_read_can_heal(server: Scripted, client: Gemini, body: bytes) -> None:
    server.answer = lambda _: Answer(body=body)

    with pytest.raises(GeminiUnavailable, match="list of batches"):
        list(client.batches())


def test_a_list_whose_token_repeats_ends_with_an_error(server: Scripted, client: Gemini) -> None:
    server.answer = lambda _: Answer(body=b'{"operations":[{"name":"batches/abc"}],"nextPageToken":"again"}')

    found = client.batches()

    assert [next(found).id, next(found).id] == ["abc", "abc"]
    with pytest.raises(GeminiUnavailable, match="does not end"):
        next(found)
    assert len(server.asked) == 2


@pytest.mark.parametrize("output", ["response", "metadata"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_listed_batch_keeps_no_inline_results(
    server: Scripted, client: Gemini, output: str, deep: bool
) -> None:
    element = b"[" * 10_000 + b"]" * 10_000 if deep else b'{"response":{}}'
    inline = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % element
    told = b'"metadata":{"output":%b}' % inline if output == "metadata" else b'"response":' + inline
    server.answer = lambda _: Answer(body=b'{"operations":[{"name":"batches/abc","done":true,%b}]}' % told)

    (batch,) = client.batches()

    assert (batch.id, batch.state, batch.inline) == ("abc", "succeeded", None)


def test_listing_holds_no_more_than_a_page_and_what_was_listed_next_to_nothing(
    server: Scripted, client: Gemini
) -> None:
    element = json.dumps({"response": {"text": "x" * 1_000_000}}).encode()
    operation = b'{"name":"batches/abc","response":{"inlinedResponses":{"inlinedResponses":[%b]}}}' % element

    def answer(_: Asked) -> Answer:
        page = len(server.asked)
        token = b'"%d"' % page if page < 4 else b'""'
        return Answer(body=b'{"operations":[%b],"nextPageToken":%b}' % (b",".join([operation] * 10), token))

    server.answer = answer

    with traced() as memory:
        listed = list(client.batches())
        held, peak = memory()

    assert len(listed) == 40
    assert held < 1_000_000
    assert peak < 35_000_000


# The result file.


@pytest.fixture
def file(gemini: Emulator, emulated: Gemini) -> tuple[str, bytes]:
    """A result file of the emulator."""
    content = b"".join(result_line(n) for n in range(100))
    found = emulated.batch(gemini.put_batch(content)).result_file
    assert found
    return found, content


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
