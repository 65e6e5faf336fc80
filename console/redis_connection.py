"""The console's connection to Redis: one that gives up soon, since a person waits for it."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.contract.redis_client import open_client

_SECONDS = 3.0


def connect(url: str) -> Redis:
    """A connection that has not been used yet. Raises `ValueError` where the address is none."""
    retry = Retry(NoBackoff(), 1)
    return open_client(url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS, retry=retry)
