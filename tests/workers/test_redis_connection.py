"""What `work` makes of a Redis that is away, or can never do."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.demo.local_redis import free_port, start_redis
from tests.support.deployment import Deployment
from tests.support.processes import Process
from tests.support.waiting import wait_until

Work = Callable[..., Process]


@pytest.fixture
def work(start_process: Callable[..., Process], deployment: Deployment) -> Work:
    def start(redis_url: str, **settings: str) -> Process:
        return start_process("work", env={**deployment.env, "REDIS_URL": redis_url, **settings})

    return start


def test_work_waits_for_a_redis_that_is_not_up_yet(work: Work, tmp_path: Path) -> None:
    port = free_port()
    process = work(f"redis://127.0.0.1:{port}/0")
    process.wait_for_output('event=redis_awaited reason="no connection')

    redis = start_redis(tmp_path / "late", port)
    try:
        process.wait_for_output("event=started")
        assert process.output.count("event=redis_awaited") == 1
        assert process.stop() == 0
    finally:
        redis.kill()
        redis.wait()


def test_work_says_what_a_redis_may_lose(work: Work, tmp_path: Path) -> None:
    port = free_port()
    redis = start_redis(tmp_path / "lossy", port, "--maxmemory-policy", "allkeys-lru")
    try:
        process = work(f"redis://127.0.0.1:{port}/0")
        process.wait_for_output("maxmemory-policy to noeviction instead of allkeys-lru")
        process.wait_for_output("set appendonly to yes")
        process.wait_for_output("event=started")
    finally:
        redis.kill()
        redis.wait()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0?nonsense=1", "redis://127.0.0.1:port/0"])
def test_an_address_that_can_never_do_is_one_sentence(work: Work, url: str) -> None:
    process = work(url)

    assert process.wait() == 2
    (line,) = process.output.splitlines()
    assert line.startswith("Error: REDIS_URL")


def test_a_cluster_is_one_sentence(work: Work, tmp_path: Path) -> None:
    # The nodes of a cluster talk to each other on a second port, 10,000 above.
    port = next(port for port in iter(free_port, None) if port < 55_000)
    redis = start_redis(tmp_path / "cluster", port, "--cluster-enabled", "yes")
    try:
        process = work(f"redis://127.0.0.1:{port}/0")
        assert process.wait() == 2
        assert "Error: REDIS_URL leads to a Redis Cluster" in process.output
        assert "Traceback" not in process.output
    finally:
        redis.kill()
        redis.wait()


def test_work_tells_its_manager_and_survives_a_hangup(work: Work, redis_url: str, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        process = work(redis_url, NOTIFY_SOCKET=str(address))
        assert manager.recv(100) == b"READY=1"
        process.signal(signal.SIGHUP)
        assert manager.recv(100) == b"WATCHDOG=1"
        wait_until(lambda: manager.recv(100) == b"WATCHDOG=1")

    assert process.stop() == 0
