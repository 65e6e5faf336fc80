"""An address of Redis: what it says, and what can be none."""

import pytest

from workers.contract.redis_client import Replicas, open_client, replicas_wanted
from workers.contract.setting.kinds import Followed, shown
from workers.contract.setting.kinds import parse_redis as parse


def test_sentinels_stand_where_a_server_would() -> None:
    url = "redis+sentinel://me:p%40ss@one:1,[::1]:2,three/jobs/4?socket_timeout=2&sentinel_password=s&replicas=2"

    assert parse(url) == Followed(
        sentinels=(("one", 1), ("::1", 2), ("three", 26379)),
        service="jobs",
        url="redis://me:p%40ss@sentinel/4?socket_timeout=2",
        options={"password": "s"},
        replicas=2,
    )


def test_the_database_is_the_first_and_one_replica_is_enough_unless_more_is_said() -> None:
    followed = parse("redis+sentinel://one/jobs")
    assert followed
    assert (followed.url, followed.replicas) == ("redis://sentinel/0?", None)


@pytest.mark.parametrize("url", ["redis://one:1/2", "rediss://one", "unix:///run/redis.sock?db=1"])
def test_any_other_address_names_its_server_itself(url: str) -> None:
    assert parse(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://one",
        "redis://one:port/0",
        "sentinel://one/jobs",
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel:///jobs",
        "redis+sentinel://one,/jobs",
        "redis+sentinel://one:port/jobs",
        "redis+sentinel://one/jobs/first",
        "redis+sentinel://one/jobs?replicas=-1",
        "redis+sentinel://one/jobs?replicas=all",
        "redis+sentinel://one/jobs?nothing",
    ],
)
def test_what_can_be_no_address_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - nothing else is meant: it quotes no secret.
        parse(url)


@pytest.mark.parametrize("url", ["redis://one/0?nonsense=1", "redis+sentinel://one/jobs/0?nonsense=1"])
def test_an_option_that_redis_py_does_not_know_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        open_client(url)


def test_a_client_knows_how_many_replicas_have_to_have_what_is_acknowledged() -> None:
    assert replicas_wanted(open_client("redis://one/0")).least == 0
    assert replicas_wanted(open_client("redis+sentinel://one/jobs")) == Replicas(1, is_strict=False)


@pytest.mark.parametrize("start", ["redis://", "rediss://", "redis+sentinel://"])
def test_it_is_shown_without_a_secret(start: str) -> None:
    assert shown(f"{start}me:hunter2@one:1/jobs/0?sentinel_password=hunter2") == f"{start}one:1/jobs/0"
