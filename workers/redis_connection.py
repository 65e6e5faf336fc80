"""The workers' connection to Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from workers.contract import logs
from workers.contract.redis_client import open_client
from workers.contract.redis_words import CLUSTER, in_words, warnings
from workers.errors import SettingsError, Transient

logger = logs.named("workers")

_PAUSE_SECONDS = 1.0
_SAY_SECONDS = 60.0


def connect(url: str) -> Redis:
    """A connection that has answered.

    Raises:
        SettingsError: Redis does not answer, or the address is none.
    """
    connection = _client(url)
    try:
        connection.ping()
    except RedisError as error:
        raise SettingsError(f"Redis does not answer, {in_words(error)}: check REDIS_URL.") from None
    return connection


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Raises `Transient` where Redis fails after it has answered once."""
    try:
        yield
    except RedisError as error:
        raise Transient(f"Redis did not answer as it should, {in_words(error)}: try again.") from None


def wait_for(url: str) -> Redis:
    """A connection to a Redis that holds jobs. While it is away a line a minute says so.

    Raises:
        SettingsError: the address is none, or what is there can never do.
    """
    connection = _client(url)
    said_at = float("-inf")
    while True:
        try:
            for warning in _look(connection):
                logger.warning("redis_setup", advice=warning)
        except RedisError as error:
            if time.monotonic() - said_at >= _SAY_SECONDS:
                said_at = time.monotonic()
                logger.warning("redis_awaited", reason=in_words(error))
            time.sleep(_PAUSE_SECONDS)
        else:
            return connection


def _client(url: str) -> Redis:
    try:
        return open_client(url, socket_connect_timeout=5, health_check_interval=30)
    except ValueError:
        raise SettingsError("REDIS_URL is not an address that the Redis client understands.") from None


def _look(connection: Redis) -> list[str]:
    connection.ping()
    try:
        about: dict[str, Any] = connection.info()
    except NoPermissionError:
        return []
    if about.get("cluster_enabled"):
        raise SettingsError(CLUSTER)
    return warnings(about)
