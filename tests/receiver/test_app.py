"""The design's HTTP table, against a real process and a real Redis."""

import threading
import time

import pytest
import redis

from tests.receiver import signing
from tests.receiver.conftest import PATH, Answer, Receiver, is_closed, read_answer
from tests.receiver.signing import OTHER_KEY, event, signed
from tests.support.waiting import wait_until
from workers.contract import Queues, Trigger


def only_history(redis_client: redis.Redis) -> bool:
    """Whether no job and no announcement is there."""
    return all(str(key, "ascii").startswith("batch-receiver:deliveries:") for key in redis_client.scan_iter())


def test_a_verified_event_is_accepted_once_its_job_is_in_redis(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    answer = receiver.deliver("batches/abc")
    assert (answer.status, answer.body) == (200, b'{"status":"accepted"}')
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers
    assert redis_client.exists("rq:job:batch-receiver-batch-abc")
    assert redis_client.lrange("rq:queue:batch-receiver-batches", 0, -1) == [b"batch-receiver-batch-abc"]
    assert Queues(redis_client).announced("abc").triggers == {Trigger.WEBHOOK}


def test_the_same_batch_again_is_a_duplicate(receiver: Receiver) -> None:
    receiver.deliver()
    answer = receiver.deliver()
    assert (answer.status, answer.body) == (200, b'{"status":"duplicate"}')


def test_the_same_batch_ten_times_at_once_is_one_job(receiver: Receiver, redis_client: redis.Redis) -> None:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(receiver.deliver())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.word for answer in answers) == ["accepted"] + ["duplicate"] * 9
    assert redis_client.llen("rq:queue:batch-receiver-batches") == 1
    assert Queues(redis_client).announced("abc").count == 10


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"interaction.completed","data":{"id":"abc"}}',
        b'{"type":"ping"}',
        b"no json",
        b"\xff\xfe",
        b"",
        b'{"type":"batch.succeeded"}',
        event("../up"),
        b"[" * 200_000,
    ],
)
def test_verified_but_nothing_for_us_is_ignored(
    receiver: Receiver, redis_client: redis.Redis, body: bytes
) -> None:
    answer = receiver.post(body, signed(body))
    assert (answer.status, answer.body) == (200, b'{"status":"ignored"}')
    assert only_history(redis_client)


def test_what_should_have_been_usable_is_logged_as_an_error(receiver: Receiver) -> None:
    receiver.post(b"no json", signed(b"no json"))
    receiver.process.wait_for_output(r'ERROR receiver: event=unusable count=1 reason="no JSON"')


def test_every_refused_signature_gets_the_same_answer(receiver: Receiver, redis_client: redis.Redis) -> None:
    body = event()
    good = signed(body)
    refused = [
        receiver.post(body),
        receiver.post(body, signed(body, key=OTHER_KEY)),
        receiver.post(body, signed(body, at=time.time() - 400)),
        receiver.post(body, signed(body, at=time.time() + 400)),
        receiver.post(body, {**good, "webhook-signature": "v1,%%%"}),
        receiver.post(
            body, {**good, "webhook-signature": signing.v1a(body, key=signing.ed25519_key(), at=time.time())}
        ),
        receiver.post(b"\xff", good),
    ]
    assert {(answer.status, answer.body) for answer in refused} == {(401, b'{"status":"refused"}')}
    assert only_history(redis_client)


def test_a_flood_of_forgeries_writes_one_line_a_second(receiver: Receiver) -> None:
    body = event()
    forged = signed(body, key=OTHER_KEY)
    started = time.monotonic()
    for _ in range(200):
        receiver.post(body, forged)

    def counted() -> bool:
        lines = [line for line in receiver.process.output.splitlines() if "event=refused" in line]
        assert len(lines) <= time.monotonic() - started + 2
        return sum(int(line.split("count=")[1].split()[0]) for line in lines) == 200

    wait_until(counted, seconds=10, what="a count of all 200 refusals")


def test_every_reason_for_a_refusal_is_logged_and_none_is_told(receiver: Receiver) -> None:
    body = event()
    answers = {
        receiver.post(body).body,
        receiver.post(body, signed(body, at=time.time() - 400)).body,
        receiver.post(body, signed(body, key=OTHER_KEY)).body,
    }
    assert answers == {b'{"status":"refused"}'}
    for reason in (
        "no webhook-signature",
        "stale webhook-timestamp, 6 minutes behind",
        "no signature matches",
    ):
        receiver.process.wait_for_output(f"event=refused .*{reason}")


def test_a_delivery_to_another_path_is_logged(receiver: Receiver) -> None:
    body = event()
    for path in (PATH + "/?key=AIza", "/%1b%5b2J%0a", "/" + "x" * 5000):
        receiver.send("POST", path, body, signed(body))
    receiver.process.wait_for_output(rf"event=not_found .*POST {PATH}/[\":]")
    receiver.process.wait_for_output(r"event=not_found .*POST /\\u001b\[2J\\n")
    receiver.process.wait_for_output(r"event=not_found .*POST /x{70}")
    assert "x" * 100 not in receiver.process.output
    assert "AIza" not in receiver.process.output


def test_a_body_announced_over_the_limit_is_refused_unread(receiver: Receiver) -> None:
    with receiver.connection() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n".encode())
        assert read_answer(connection).status == 413
        assert is_closed(connection)


def test_a_body_over_the_limit_is_refused_before_its_end(receiver: Receiver) -> None:
    with receiver.connection() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        for _ in range(4):
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        assert read_answer(connection).status == 413


def test_a_body_of_just_the_limit_is_read(receiver: Receiver) -> None:
    body = event(padding="")
    body = body[:-2] + b"x" * (262_144 - len(body)) + body[-2:]
    assert receiver.post(body, signed(body)).word == "accepted"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_other_methods_are_refused(receiver: Receiver, method: str) -> None:
    with receiver.connection() as connection:
        connection.sendall(f"{method} {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    "path", ["/", PATH + "/", PATH + "/x", "/docs", "//healthz", "/healthz/", "/%2e%2e/"]
)
def test_nothing_else_is_reachable(receiver: Receiver, path: str) -> None:
    body = event()
    assert receiver.send("POST", path, body, signed(body)).status == 404


def test_health_and_readiness_are_said(receiver: Receiver) -> None:
    assert receiver.send("GET", "/healthz").status == 200
    assert receiver.send("GET", "/readyz").status == 200


def test_no_secret_body_or_signature_is_logged(receiver: Receiver) -> None:
    body = event(marker="a-marker-in-the-body")
    headers = signed(body)
    receiver.post(body, headers)
    receiver.post(body + b" ", headers)
    receiver.process.wait_for_output("event=refused")
    for word in (signing.SECRET, headers["webhook-signature"], "a-marker-in-the-body"):
        assert word not in receiver.process.output


def test_a_body_that_stalls_at_sigterm_is_told_to_come_back(receiver: Receiver) -> None:
    with receiver.connection() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf".encode())
        assert receiver.send("GET", "/healthz").status == 200
        assert receiver.process.stop() == 0
        assert read_answer(connection).status == 503
    assert "Traceback" not in receiver.process.output


def test_it_ends_at_sigterm_with_success(receiver: Receiver) -> None:
    receiver.deliver()
    assert receiver.process.stop() == 0
