"""What Redis is, before the first delivery: can it ever take an announcement, and will it keep it?"""

from typing import Any

from redis import Redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoPermissionError

from receiver.errors import SettingsError
from receiver.redis_words import in_words
from receiver.rehearsal import rehearse
from workers.contract import PREFIX

_CLUSTER = (
    "REDIS_URL leads to a Redis Cluster, which can't hold a job and its queue in one transaction: give a single Redis,"
    " with replicas if you like."
)


def look(connection: Redis, prefix: str = PREFIX) -> list[str]:
    """Sentences about what can be lived with, for a log.

    Raises:
        SettingsError: an announcement can never be taken here.
        redis.exceptions.RedisError: none can be taken at the moment.
    """
    about = _about(connection)
    if about.get("cluster_enabled"):
        raise SettingsError(_CLUSTER)
    try:
        rehearse(connection, prefix)
    except (ClusterCrossSlotError, MovedError):
        raise SettingsError(_CLUSTER) from None
    except NoPermissionError as error:
        raise SettingsError(
            f"Redis does not let us announce a batch, {in_words(error)}: give it what deploy/redis-users.acl lists for"
            " the receiver."
        ) from None
    return _warnings(about)


def _about(connection: Redis) -> dict[str, Any]:
    try:
        about: dict[str, Any] = connection.info()
    except NoPermissionError:
        return {}
    return about


def _warnings(about: dict[str, Any]) -> list[str]:
    warnings = []
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            "Redis may throw acknowledged jobs away when it is full: set its maxmemory-policy to noeviction"
            f" instead of {policy}."
        )
    if about.get("aof_enabled", 1) == 0:
        warnings.append(
            "Redis keeps no append-only file, so a crash of it loses what was acknowledged since its last snapshot:"
            " set appendonly to yes."
        )
    return warnings
