"""Fixtures that every room's tests share: a real Redis, and processes that end with their test."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings

from emulator.demo.local_redis import local_redis
from tests.support.deployment import deployment  # noqa: F401
from tests.support.gemini import gemini  # noqa: F401
from tests.support.http_server import http_server  # noqa: F401
from tests.support.processes import Process
from tests.support.projects import projects  # noqa: F401
from tests.support.s3 import s3  # noqa: F401
from tests.support.stores import stores  # noqa: F401

# How long an example takes is a finding about the machine, and the first ones build tables of all characters.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_url(shared_redis_url: str) -> str:
    """URL of a Redis that is empty."""
    with redis.Redis.from_url(shared_redis_url) as client:
        client.flushall()
    return shared_redis_url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


StartProcess = Callable[..., Process]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """`start_process("serve", "--port", "0", env={...})`: a product process that is killed after the test."""
    with ExitStack() as stack:
        count = 0

        def start(*args: str, env: Mapping[str, str], **more: Any) -> Process:
            nonlocal count
            count += 1
            process = Process(list(args), env, tmp_path / "logs" / f"{count:02d}-{args[0]}.log", **more)
            stack.callback(process.kill)
            return process

        yield start
