"""The workers' connection to Redis."""

from redis import Redis
from redis.exceptions import RedisError

from workers.errors import SettingsError


def connect(url: str) -> Redis:
    """A connection that has answered.

    Raises:
        SettingsError: Redis does not answer, or the address is none.
    """
    try:
        # Without `driver_info`, redis-py looks its own version up on the disk for every connection: 2 ms in a fork.
        connection = Redis.from_url(url, socket_connect_timeout=5, health_check_interval=30, driver_info=None)
        connection.ping()
    except (RedisError, ValueError, TypeError) as error:
        raise SettingsError(f"Redis does not answer ({type(error).__name__}): check REDIS_URL.") from None
    return connection
