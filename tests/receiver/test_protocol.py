"""Hostile bytes on the public port: bounded, answered or closed, and nobody else's trouble."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest
import uvicorn

from receiver.protocol import MAX_HEAD_BYTES, BoundedProtocol, limited_to
from tests.receiver.conftest import PATH, Answer, Receiver, StartReceiver, is_closed, read_answer
from tests.receiver.signing import event, signed

HEAD = f"POST {PATH} HTTP/1.1\r\nhost: receiver\r\n".encode()


def exchange(receiver: Receiver, data: bytes) -> Answer:
    with receiver.connection() as connection:
        connection.sendall(data)
        answer = read_answer(connection)
        assert is_closed(connection)
        return answer


def whole(body: bytes, *more: str) -> bytes:
    lines = [f"{name}: {value}" for name, value in signed(body).items()]
    return HEAD + "\r\n".join([*lines, *more, "", ""]).encode()


@pytest.mark.parametrize(
    "head",
    [
        b"x: " + b"a" * MAX_HEAD_BYTES,
        b"x" * MAX_HEAD_BYTES + b": a",
        b"x: y\r\n" * MAX_HEAD_BYTES,
    ],
)
def test_a_head_over_the_limit_is_431_and_closed(receiver: Receiver, head: bytes) -> None:
    assert exchange(receiver, HEAD + head + b"\r\n\r\n").status == 431


def test_an_address_over_the_limit_is_431_and_closed(receiver: Receiver) -> None:
    assert exchange(receiver, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n").status == 431


def test_200_mb_of_headers_cost_nothing(receiver: Receiver) -> None:
    process = psutil.Process(receiver.process.pid)
    before = process.memory_info().rss
    sent = 0
    with receiver.connection() as connection:
        connection.sendall(HEAD + b"x: ")
        try:
            for _ in range(200):
                sent += connection.send(b"a" * 1024 * 1024)
        except ConnectionError:
            pass
    assert sent < 50 * 1024 * 1024
    assert process.memory_info().rss - before < 10 * 1024 * 1024


def test_endless_chunk_extensions_and_trailers_end_the_connection(receiver: Receiver) -> None:
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    for endless in (chunked + b"1;" + b"e" * 100_000, chunked + b"0\r\n" + b"t: " + b"x" * 100_000):
        with receiver.connection() as connection:
            connection.sendall(endless)
            assert connection.recv(64).startswith(b"HTTP/1.1 4")


def test_a_trailer_does_not_pass_for_a_header(receiver: Receiver) -> None:
    body = event()
    trailers = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items()).encode()
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n"
    with receiver.connection() as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk + trailers + b"\r\n")
        assert read_answer(connection).status == 401


def test_a_chunked_event_is_accepted(receiver: Receiver) -> None:
    body = event()
    chunks = b"".join(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body)))
    with receiver.connection() as connection:
        connection.sendall(whole(body, "transfer-encoding: chunked") + chunks + b"0\r\n\r\n")
        assert read_answer(connection).word == "accepted"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 0x5\r\n\r\nhello",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
        HEAD + b" folded: header\r\n\r\n",
        HEAD + b"nul: a\x00b\r\n\r\n",
        b"POST \xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT receiver:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_closed(receiver: Receiver, data: bytes) -> None:
    with receiver.connection() as connection:
        connection.sendall(data)
        received = connection.recv(65536)
        assert received[:10] == b"HTTP/1.1 4"
    assert receiver.send("GET", "/healthz").status == 200


def test_a_second_request_in_the_same_breath_is_not_answered(receiver: Receiver) -> None:
    body = event()
    request = whole(body, f"content-length: {len(body)}") + body
    with receiver.connection() as connection:
        connection.sendall(request + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_answer(connection).word == "accepted"
        assert is_closed(connection)


def test_a_connection_serves_one_request_after_another(receiver: Receiver) -> None:
    body = event()
    with receiver.connection() as connection:
        words = []
        for _ in range(3):
            connection.sendall(whole(body, f"content-length: {len(body)}") + body)
            words.append(read_answer(connection).word)
    assert words == ["accepted", "duplicate", "duplicate"]


def test_a_large_body_does_not_count_as_head_of_the_next_request(receiver: Receiver) -> None:
    body = b"x" * 200_000
    with receiver.connection() as connection:
        answers = []
        for _ in range(3):
            connection.sendall(whole(body, f"content-length: {len(body)}") + body)
            answers.append(read_answer(connection).status)
    assert len(set(answers)) == 1
    assert answers[0] in {200, 401}


def test_an_upgrade_is_answered_like_any_request(receiver: Receiver) -> None:
    answer = exchange(
        receiver, HEAD + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
    )
    assert answer.status == 401


def test_a_signed_event_that_also_offers_http_2_is_accepted(receiver: Receiver) -> None:
    body = event()
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAA")
    answer = exchange(receiver, whole(body, *offer, f"content-length: {len(body)}") + body)
    assert (answer.status, answer.word) == (200, "accepted")


def test_an_address_in_absolute_form_is_the_same_address(receiver: Receiver) -> None:
    body = event()
    request = whole(body, f"content-length: {len(body)}").replace(b"POST /", b"POST http://receiver:80/", 1)
    with receiver.connection() as connection:
        connection.sendall(request + body)
        assert read_answer(connection).word == "accepted"


def test_a_body_of_two_framings_is_the_last_on_its_connection(receiver: Receiver) -> None:
    framings = b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    assert 400 <= exchange(receiver, HEAD + framings).status < 500


def test_a_body_in_crumbs_is_refused_before_it_costs_much(receiver: Receiver) -> None:
    crumbs = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000
    assert exchange(receiver, crumbs).status == 431


def test_an_answer_before_the_bodys_end_arrives_and_the_rest_is_not_read(receiver: Receiver) -> None:
    with receiver.connection() as connection:
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 500_000
        )
        assert read_answer(connection).status == 404
        assert is_closed(connection)


def test_500_stalled_connections_delay_nobody(receiver: Receiver) -> None:
    receiver.deliver("warm")
    with ExitStack() as stack:
        for number in range(500):
            connection = stack.enter_context(receiver.connection())
            connection.sendall((b"", b"POST / HT", HEAD + b"content-length: 100\r\n\r\nx")[number % 3])
        took = []
        for number in range(20):
            started = time.monotonic()
            assert receiver.deliver(f"b{number}").status == 200
            took.append(time.monotonic() - started)
    # The middle one: a machine that tests something else at the same time delays some of them.
    assert sorted(took)[10] < 0.1


@pytest.mark.parametrize(
    "unfinished", [b"", b"POST / HT", HEAD + b"content-length: 100\r\n\r\nx"], ids=["silent", "head", "body"]
)
def test_more_stalled_connections_than_files_keep_nobody_out(
    start_receiver: StartReceiver, redis_url: str, unfinished: bytes
) -> None:
    receiver = start_receiver(redis_url, before="ulimit -n 256")
    receiver.deliver("warm")
    with ExitStack() as stack:
        stalled = [stack.enter_context(receiver.connection()) for _ in range(300)]
        for connection in stalled:
            with suppress(ConnectionError):  # put out already
                connection.sendall(unfinished)
        for number in range(20):
            assert receiver.deliver(f"b{number}").status == 200
        # Whoever came first makes room.
        assert is_closed(stalled[0])


def test_random_bytes_never_make_it_fail(receiver: Receiver) -> None:
    for _ in range(200):
        with receiver.connection() as connection:
            connection.sendall(HEAD[: os.urandom(1)[0]] + os.urandom(300) + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert not connection.recv(64).startswith(b"HTTP/1.1 5")
    assert receiver.deliver().status == 200
    assert "unexpected" not in receiver.process.output


async def _no_request_is_complete(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("a request came through")


class Impatient(BoundedProtocol):
    head_seconds = 0.2


@contextmanager
def serving(protocol: type[BoundedProtocol]) -> Iterator[Callable[[], socket.socket]]:
    """A server in a thread with a protocol of its own limits; yields what connects to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(_no_request_is_complete, http=protocol, lifespan="off", log_config=None, ws="none")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        yield lambda: socket.create_connection(listener.getsockname(), timeout=5)
    finally:
        server.should_exit = True
        thread.join(20)


def test_a_connection_that_stays_silent_is_closed() -> None:
    with serving(Impatient) as connect, connect() as connection:
        assert connection.recv(1) == b""


def test_a_head_that_drips_is_408_and_closed() -> None:
    with serving(Impatient) as connect, connect() as connection:
        connection.sendall(HEAD)
        assert read_answer(connection).status == 408
        assert is_closed(connection)


def test_above_the_limit_the_connection_idle_for_longest_makes_room() -> None:
    with serving(limited_to(2)) as connect, connect() as first, connect() as second, connect() as third:
        assert is_closed(first)
        for connection in (second, third):
            connection.sendall(b"nonsense\r\n\r\n")
            assert read_answer(connection).status == 400
