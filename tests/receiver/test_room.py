"""Room in Redis: announcements stop before the workers have none."""

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from receiver.intake import announce_with
from receiver.room import check_room
from workers.contract import Announcement, Trigger


def test_a_redis_without_a_limit_has_room(redis_client: Redis) -> None:
    check_room(redis_client)


def fill(redis: Redis) -> None:
    for start in range(0, 20_000, 20):
        announcements = [Announcement(f"b{start + n}", Trigger.WEBHOOK, "x" * 10_000) for n in range(20)]
        announce_with("batch-receiver")(redis, announcements)


def test_announcements_stop_while_the_workers_still_have_room(redis_client: Redis) -> None:
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] + (3 << 20))
    try:
        with pytest.raises(OutOfMemoryError, match="nearly full"):
            fill(redis_client)
        assert redis_client.llen("rq:queue:batch-receiver-batches") >= 20
        redis_client.set("a worker registers", "x" * 1000)
    finally:
        redis_client.config_set("maxmemory", 0)
    check_room(redis_client)
