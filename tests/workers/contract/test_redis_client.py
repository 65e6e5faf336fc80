"""Questions to Redis that share a round trip."""

import pytest
from redis import Redis
from redis.exceptions import ResponseError, WatchError

from workers.contract.redis_client import ask


def test_what_was_watched_and_asked_in_one_go_is_watched(redis_client: Redis) -> None:
    redis_client.set("a", "1")
    with redis_client.pipeline() as pipe:
        assert ask(pipe, ("WATCH", "a", "b"), ("EXISTS", "a", "b"), ("ZMSCORE", "c", "x")) == [
            True,
            1,
            [None],
        ]
        redis_client.set("b", "2")
        pipe.multi()
        pipe.set("a", "3")

        with pytest.raises(WatchError):
            pipe.execute()

    assert redis_client.get("a") == b"1"


def test_a_question_that_redis_refuses_leaves_no_answer_for_the_next_one(redis_client: Redis) -> None:
    redis_client.set("a", "1")

    with redis_client.pipeline() as pipe:
        with pytest.raises(ResponseError):
            ask(pipe, ("WATCH", "a"), ("HGET", "a", "b"), ("GET", "a"))

        assert ask(pipe, ("WATCH", "a"), ("EXISTS", "a", "b")) == [True, 1]
    assert redis_client.get("a") == b"1"


def test_a_connection_that_has_died_meanwhile_is_made_anew(redis_client: Redis) -> None:
    with redis_client.pipeline() as pipe:
        ask(pipe, ("WATCH", "a"), ("EXISTS", "a"))
    redis_client.client_kill_filter(_type="normal", skipme=True)

    with redis_client.pipeline() as pipe:
        assert ask(pipe, ("WATCH", "a"), ("EXISTS", "a")) == [True, 0]
