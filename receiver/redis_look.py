"""What Redis is, before the first delivery: can it ever take an announcement, and will it keep it?"""

from typing import Any

from redis import Redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoPermissionError

from receiver.errors import SettingsError
from receiver.rehearsal import rehearse
from workers.contract import PREFIX
from workers.contract.redis_words import CLUSTER, in_words, warnings


def look(connection: Redis, prefix: str = PREFIX) -> list[str]:
    """Sentences about what can be lived with, for a log.

    Raises:
        SettingsError: an announcement can never be taken here.
        redis.exceptions.RedisError: none can be taken at the moment.
    """
    about = _about(connection)
    if about.get("cluster_enabled"):
        raise SettingsError(CLUSTER)
    try:
        rehearse(connection, prefix)
    except (ClusterCrossSlotError, MovedError):
        raise SettingsError(CLUSTER) from None
    except NoPermissionError as error:
        raise SettingsError(
            f"Redis does not let us announce a batch, {in_words(error)}: give it what deploy/redis-users.acl lists for"
            " the receiver."
        ) from None
    return warnings(about)


def _about(connection: Redis) -> dict[str, Any]:
    try:
        about: dict[str, Any] = connection.info()
    except NoPermissionError:
        return {}
    return about
