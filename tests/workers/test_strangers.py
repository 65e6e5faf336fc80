"""Others' batches use up only so many look-ups with our key."""

import pytest
import redis

from workers import strangers
from workers.contract import Queues
from workers.strangers import LOOK_UPS_A_MINUTE, TooManyStrangers


def test_look_ups_go_on_until_the_minutes_limit_and_again_in_the_next(redis_client: "redis.Redis") -> None:
    for _ in range(LOOK_UPS_A_MINUTE):
        strangers.check(Queues(redis_client), now=600.0)
        strangers.note(Queues(redis_client), now=600.0)

    with pytest.raises(TooManyStrangers) as raised:
        strangers.check(Queues(redis_client), now=645.0)
    assert raised.value.retry_after is not None
    assert 15.0 <= raised.value.retry_after <= 75.0  # spread, so that they do not all come back in one second

    strangers.check(Queues(redis_client), now=660.0)


def test_the_counts_do_not_stay_in_redis(redis_client: "redis.Redis") -> None:
    strangers.note(Queues(redis_client))
    (key,) = redis_client.keys("batch-receiver:strangers:*")
    assert 0 < redis_client.ttl(key) <= 120
