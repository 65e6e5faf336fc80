"""Answers as they were documented, as they were seen, and as nobody should send them: what they stand for."""

import json
import socket
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.support.gemini import Gemini as Emulator
from tests.support.scripted import Answer, Asked, Scripted, scripted
from tests.workers.gemini.asking import ERRORS, FILE, KEY, read, traced
from workers.errors import (
    GeminiUnavailable,
    KeyRefused,
    Permanent,
    ResultsGone,
    Unreadable,
    WorkerError,
)
from workers.gemini.access import Access, Secret
from workers.gemini.client import Gemini
from workers.gemini.http import Limits
from workers.gemini.statuses import About
from workers.sources import FileSource


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


def test_an_exchange_gives_any_answer_with_what_it_stands_for(server: Scripted, client: Gemini) -> None:
    server.answer = lambda asked: (
        Answer(429, b'{"error": {"message": "No room."}}')
        if "full" in asked.path
        else Answer(200, b"{}", {"X-A": "b"})
    )

    full = client.http.exchange("POST", "/full", About.MODEL, body={})
    good = client.http.exchange("POST", f"{server.url}/good", About.UPLOAD, content=b"bytes")

    assert (full.status, str(full.error)) == (
        429,
        "Gemini's rate limit is reached (429): try again later: No room.",
    )
    assert (good.status, good.error, good.body, good.headers["x-a"]) == (200, None, b"{}", "b")
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [200, 500])
def test_of_an_exchange_that_is_cut_nobody_knows_what_became(
    server: Scripted, client: Gemini, status: int
) -> None:
    server.answer = lambda _: Answer(status, b"0123456789", cut=5)

    if status == 200:
        with pytest.raises(GeminiUnavailable):
            client.http.exchange("POST", "/models/m:batchGenerateContent", About.MODEL, body={})
    else:
        assert client.http.exchange("POST", "/models/m", About.MODEL, body={}).status == 500
    assert len(server.asked) == 1


def test_an_address_at_another_host_gets_no_key(server: Scripted, client: Gemini) -> None:
    with scripted() as other, pytest.raises(Permanent, match="another host"):
        client.http.exchange("POST", f"{other.url}/upload", About.UPLOAD, content=b"")

    assert other.asked == server.asked == []
