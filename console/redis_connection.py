"""The console's connection to Redis: one that gives up soon, since a person waits for it."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

_SECONDS = 3.0


def connect(url: str) -> Redis:
    """A connection that has not been used yet. Raises `ValueError` where the address is none."""
    return Redis.from_url(
        url,
        socket_connect_timeout=_SECONDS,
        socket_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 1),
        driver_info=None,
        # Else redis-py asks for what only Redis Enterprise has, and what the ACL of deploy/ refuses.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
