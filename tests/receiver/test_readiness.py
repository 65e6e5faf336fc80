"""`readyz` is 503 where an announcement would be refused, and asking leaves nothing behind."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise

import pytest
import redis

from emulator.demo.local_redis import free_port
from receiver.errors import SettingsError
from receiver.intake import connect
from receiver.readiness import Readiness
from tests.receiver.conftest import OwnRedis, Receiver, StartReceiver
from tests.support.waiting import wait_until


@pytest.fixture
def client(own_redis: OwnRedis) -> Iterator["redis.Redis"]:
    with own_redis.client() as client:
        yield client


@contextmanager
def watching(url: str, **seconds: float) -> Iterator[None]:
    """A thread whose event loop watches a Redis."""
    readiness = Readiness(connect(url), **seconds)  # type: ignore[arg-type]
    readiness.begin()
    stop: list[Callable[[], object]] = []

    async def watch() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task
        stop.append(partial(loop.call_soon_threadsafe, task.cancel))
        await readiness.watch()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(watch())

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: stop, what="an event loop")
    try:
        yield
        assert thread.is_alive()
    finally:
        stop[0]()
        thread.join()
        readiness.close()


def agrees(receiver: Receiver, batch: str) -> int:
    """The status of `readyz`, once it is that of a delivery."""

    def look() -> int:
        status = receiver.send("GET", "/readyz").status
        return status if status == receiver.deliver(batch).status else 0

    return wait_until(look, what="readyz and a delivery of one opinion")


def test_a_full_redis_is_not_ready_until_there_is_room(
    start_receiver: StartReceiver, own_redis: OwnRedis, client: "redis.Redis"
) -> None:
    receiver = start_receiver(own_redis.url)
    client.config_set("maxmemory", 1)
    assert agrees(receiver, "one") == 503
    client.config_set("maxmemory", 0)
    assert agrees(receiver, "two") == 200


def test_a_replica_is_not_ready_until_it_is_a_master(
    start_receiver: StartReceiver, own_redis: OwnRedis, client: "redis.Redis"
) -> None:
    receiver = start_receiver(own_redis.url)
    client.replicaof("127.0.0.1", str(free_port()))
    assert agrees(receiver, "one") == 503
    client.replicaof("NO", "ONE")
    assert agrees(receiver, "two") == 200


def test_a_redis_that_can_not_write_to_its_disk_is_not_ready(
    start_receiver: StartReceiver, own_redis: OwnRedis, client: "redis.Redis"
) -> None:
    receiver = start_receiver(own_redis.url)
    shutil.rmtree(own_redis.folder)
    client.config_set("save", "1 1")
    client.set("changed", "so that there is something to save")

    wait_until(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok", what="a snapshot that fails"
    )
    assert agrees(receiver, "one") == 503


def test_a_redis_that_loads_is_not_ready(
    start_receiver: StartReceiver, own_redis: OwnRedis, client: "redis.Redis"
) -> None:
    receiver = start_receiver(own_redis.url)
    client.config_set("rdbcompression", "no")
    for number in range(16):  # It answers only between every two megabytes.
        client.set(f"large-{number}", b"x" * 3_000_000)
    client.save()
    own_redis.kill()
    # Microseconds for each key.
    restart = threading.Thread(target=own_redis.start, args=("--key-load-delay", "300000"))
    restart.start()

    def is_loading() -> bool:
        with connect(own_redis.url) as other:  # Without retries.
            try:
                other.ping()
            except redis.exceptions.BusyLoadingError:
                return True
            except redis.RedisError:
                return False
        return False

    wait_until(is_loading, what="loading")
    assert receiver.send("GET", "/readyz").status == 503
    restart.join()
    assert agrees(receiver, "two") == 200


def test_a_right_that_is_taken_away_makes_it_not_ready(
    start_receiver: StartReceiver, own_redis: OwnRedis, client: "redis.Redis"
) -> None:
    receiver = start_receiver(own_redis.url_of("receiver", "~*", "+@all"))
    assert receiver.send("GET", "/readyz").status == 200
    client.acl_setuser("receiver", enabled=True, commands=["-rpush"])
    assert agrees(receiver, "one") == 503


def test_asking_writes_nothing(receiver: Receiver, redis_client: redis.Redis) -> None:
    redis_client.config_resetstat()
    changes = redis_client.info("persistence")["rdb_changes_since_last_save"]
    for _ in range(3):
        assert receiver.send("GET", "/readyz").status == 200
    assert redis_client.info("commandstats")["cmdstat_discard"]["calls"] == 3
    assert redis_client.info("persistence")["rdb_changes_since_last_save"] == changes
    assert redis_client.dbsize() == 0


def test_many_who_ask_at_once_share_one_question(own_redis: OwnRedis, client: "redis.Redis") -> None:
    async def ask() -> list[bool]:
        readiness = Readiness(connect(own_redis.url))
        answers = await asyncio.gather(*(readiness.is_ready() for _ in range(100)))
        readiness.close()
        return answers

    assert asyncio.run(ask()) == [True] * 100
    assert client.info("commandstats")["cmdstat_discard"]["calls"] == 1


def test_while_redis_is_away_there_is_a_line_now_and_then_and_one_when_it_is_back(
    own_redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "receiver")
    own_redis.kill()
    with watching(own_redis.url, look_seconds=0.01, line_seconds=0.3):
        wait_until(lambda: caplog.text.count("redis_unavailable") >= 3, what="three lines")
        own_redis.start()
        wait_until(lambda: "event=redis_available" in caplog.text, what="a line that it is back")
    away = [record for record in caplog.records if "redis_unavailable" in record.message]
    assert "no connection (Connection refused)" in away[0].message
    # Looked at every 10 ms, written every 300.
    assert all(later.created - earlier.created > 0.29 for earlier, later in pairwise(away))


def test_a_redis_that_has_become_unfit_is_said_and_stops_nothing(
    own_redis: OwnRedis, client: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    url = own_redis.url_of("receiver", "~*", "+@all")
    with watching(url, line_seconds=0.05):
        client.acl_setuser("receiver", enabled=True, commands=["-rpush"])
        wait_until(lambda: "RPUSH" in caplog.text, what="the missing right")
        client.acl_setuser("receiver", enabled=True, commands=["+rpush"])
        caplog.set_level(logging.INFO, "receiver")
        wait_until(lambda: "event=redis_available" in caplog.text, what="a line that it is back")


def test_what_can_never_work_stops_it_at_the_start(own_redis: OwnRedis) -> None:
    readiness = Readiness(connect(own_redis.url_of("receiver", "~*", "+@all", "-rpush")))
    with pytest.raises(SettingsError, match="RPUSH"):
        readiness.begin()
    readiness.close()
