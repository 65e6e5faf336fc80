"""Redis in trouble of every kind: 503 within two seconds, never a hang, never a 200 that Redis does not hold."""

import asyncio
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from emulator.demo.local_redis import free_port, start_redis
from receiver.errors import QueueUnavailable
from receiver.intake import Intake, connect
from tests.receiver.conftest import Answer, OwnRedis, Receiver, StartReceiver
from tests.support.waiting import wait_until
from workers.contract import Announcement, Outcome, Trigger


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.body) == (503, b'{"status":"unavailable"}')
    assert int(answer.headers["retry-after"]) > 0


def deliver_in_time(receiver: Receiver, batch: str = "abc") -> Answer:
    started = time.monotonic()
    answer = receiver.deliver(batch)
    assert time.monotonic() - started < 2.2
    return answer


def recovers(receiver: Receiver, server: OwnRedis, batch: str) -> None:
    wait_until(lambda: receiver.deliver(batch).status == 200, what="a delivery accepted again")
    with server.client() as client:
        assert client.exists(f"rq:job:batch-receiver-batch-{batch}")


def test_a_redis_that_is_away_is_503_until_it_is_back(
    start_receiver: StartReceiver, own_redis: OwnRedis
) -> None:
    receiver = start_receiver(own_redis.url)
    assert receiver.deliver("one").status == 200
    own_redis.kill()
    assert_unavailable(deliver_in_time(receiver))
    assert receiver.send("GET", "/readyz").status == 503
    assert receiver.send("GET", "/healthz").status == 200
    own_redis.start()
    recovers(receiver, own_redis, "two")
    assert receiver.send("GET", "/readyz").status == 200


def test_a_frozen_redis_is_503_in_time_for_everybody_until_it_thaws(
    start_receiver: StartReceiver, own_redis: OwnRedis
) -> None:
    receiver = start_receiver(own_redis.url)
    assert receiver.deliver("one").status == 200
    own_redis.process.send_signal(signal.SIGSTOP)
    answers: list[Answer] = []

    def deliver(number: int) -> None:
        answers.append(deliver_in_time(receiver, f"b{number}"))

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    ready = receiver.send("GET", "/readyz")
    for thread in threads:
        thread.join()
    own_redis.process.send_signal(signal.SIGCONT)
    assert len(answers) == 30
    for answer in answers:
        assert_unavailable(answer)
    assert ready.status == 503
    recovers(receiver, own_redis, "two")


def test_a_full_redis_is_503(start_receiver: StartReceiver, own_redis: OwnRedis) -> None:
    receiver = start_receiver(own_redis.url)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        assert_unavailable(deliver_in_time(receiver))
        client.config_set("maxmemory", 0)
        assert client.dbsize() == 0
    recovers(receiver, own_redis, "two")


def test_a_read_only_redis_is_503(start_receiver: StartReceiver, own_redis: OwnRedis) -> None:
    receiver = start_receiver(own_redis.url)
    with own_redis.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
        assert_unavailable(deliver_in_time(receiver))
        client.replicaof("NO", "ONE")
        assert client.dbsize() == 0
    recovers(receiver, own_redis, "two")


def test_a_redis_that_refuses_our_password_is_503(start_receiver: StartReceiver, own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        client.config_set("requirepass", "another")
    receiver = start_receiver(own_redis.url.replace("redis://", "redis://:not-the-password@"))
    assert_unavailable(deliver_in_time(receiver))
    assert "not-the-password" not in receiver.process.output


def test_a_broken_record_is_503_for_its_own_batch_alone(
    start_receiver: StartReceiver, own_redis: OwnRedis
) -> None:
    receiver = start_receiver(own_redis.url)
    with own_redis.client() as client:
        client.set("rq:job:batch-receiver-batch-broken", "not a hash")
    assert_unavailable(deliver_in_time(receiver, "broken"))
    assert receiver.deliver("sound").word == "accepted"


def test_a_redis_behind_a_unix_socket_is_used(start_receiver: StartReceiver, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    process = start_redis(tmp_path / "own", free_port(), "--unixsocket", str(path))
    try:
        assert start_receiver(f"unix://{path}?db=0").deliver().word == "accepted"
    finally:
        process.kill()
        process.wait()


def accepted(_connection: "redis.Redis", announcements: Sequence[Announcement]) -> list[Outcome]:
    return [Outcome.ACCEPTED] * len(announcements)


def announcement(batch: str) -> Announcement:
    return Announcement(batch, Trigger.WEBHOOK)


def test_whoever_waits_at_the_moment_shares_one_call() -> None:
    sizes: list[int] = []
    first_may_end = threading.Event()

    def announce(_connection: "redis.Redis", announcements: Sequence[Announcement]) -> list[Outcome]:
        sizes.append(len(announcements))
        first_may_end.wait(5)
        return accepted(_connection, announcements)

    async def deliver() -> None:
        intake = Intake(connect("redis://127.0.0.1:1/0"), announce)
        calls = [asyncio.create_task(intake.announce(announcement(f"b{n}"))) for n in range(21)]
        await asyncio.sleep(0)
        first_may_end.set()
        assert await asyncio.gather(*calls) == [Outcome.ACCEPTED] * 21
        intake.close()

    asyncio.run(deliver())
    assert sizes == [1, 20]


def test_a_call_that_is_stuck_does_not_hold_up_the_next() -> None:
    stuck = threading.Event()

    def announce(connection: "redis.Redis", announcements: Sequence[Announcement]) -> list[Outcome]:
        if announcements[0].batch == "stuck":
            stuck.wait(10)
        return accepted(connection, announcements)

    async def deliver() -> None:
        intake = Intake(connect("redis://127.0.0.1:1/0"), announce)
        first = asyncio.create_task(intake.announce(announcement("stuck")))
        await asyncio.sleep(0)
        started = time.monotonic()
        assert await intake.announce(announcement("next")) is Outcome.ACCEPTED
        assert time.monotonic() - started < 1
        with pytest.raises(QueueUnavailable, match="in time"):
            await first
        stuck.set()
        intake.close()

    asyncio.run(deliver())


def test_one_that_fails_is_told_so_and_its_neighbours_are_not() -> None:
    def announce(connection: "redis.Redis", announcements: Sequence[Announcement]) -> list[Outcome]:
        if any(one.batch == "bad" for one in announcements):
            raise RuntimeError("a record that nobody can read")
        return accepted(connection, announcements)

    async def deliver() -> list[Outcome | BaseException]:
        intake = Intake(connect("redis://127.0.0.1:1/0"), announce)
        calls = [intake.announce(announcement(batch)) for batch in ("first", "bad", "good")]
        try:
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            intake.close()

    first, bad, good = asyncio.run(deliver())
    assert (first, good) == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert isinstance(bad, QueueUnavailable)
