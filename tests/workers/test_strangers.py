"""Others' batches use up only so many look-ups with our key."""

import pytest
import redis

from workers import strangers
from workers.strangers import LOOK_UPS_A_MINUTE, TooManyStrangers


def test_look_ups_go_on_until_the_minutes_limit_and_again_in_the_next(redis_client: "redis.Redis") -> None:
    for _ in range(LOOK_UPS_A_MINUTE):
        strangers.check(redis_client, now=600.0)
        strangers.note(redis_client, now=600.0)

    with pytest.raises(TooManyStrangers) as raised:
        strangers.check(redis_client, now=645.0)
    assert raised.value.retry_after == 15.0

    strangers.check(redis_client, now=660.0)


def test_the_counts_do_not_stay_in_redis(redis_client: "redis.Redis") -> None:
    strangers.note(redis_client)
    (key,) = redis_client.keys("batch-receiver:strangers:*")
    assert 0 < redis_client.ttl(key) <= 120
