"""A part of Redis's memory is left to the workers: they register and work in it, and so make room for all."""

from redis import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError

_FOR_ANNOUNCEMENTS = 0.9


def check_room(connection: Redis) -> None:
    """Return where there is room for announcements.

    Raises:
        redis.exceptions.OutOfMemoryError: what is left is for the workers.
    """
    try:
        memory = connection.info("memory")
    except NoPermissionError:
        return  # Who may not know finds out when Redis refuses.
    most = int(memory.get("maxmemory", 0))
    if most and int(memory.get("used_memory", 0)) > _FOR_ANNOUNCEMENTS * most:
        raise OutOfMemoryError("nearly full")
