"""Deliveries to another path than the receiver's: answered 404, and noted for whoever asks."""

import pytest
import redis

from tests.receiver.conftest import PATH, OwnRedis, Receiver, StartReceiver
from tests.receiver.signing import OTHER_KEY, event, signed
from tests.support.waiting import wait_until
from workers.contract.history.elsewhere import MAX_PATH_CHARACTERS, Elsewhere, read


def _noted(client: redis.Redis, count: int) -> Elsewhere:
    def look() -> Elsewhere | None:
        found = read(client, "batch-receiver")
        return found if found and found.count >= count else None

    found = wait_until(look, what=f"{count} noted deliveries")
    assert found
    return found


def _deliver_to(receiver: Receiver, path: str, *, key: bytes | None = None) -> int:
    body = event()
    return receiver.send("POST", path, body, signed(body, key=key) if key else signed(body)).status


def test_a_genuine_delivery_to_another_path_is_404_and_noted(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    assert [_deliver_to(receiver, path) for path in ("/elsewhere", f"{PATH}/")] == [404, 404]
    assert _noted(redis_client, 2).path == f"{PATH}/"
    assert 0 < redis_client.ttl("batch-receiver:elsewhere") <= 2 * 86400
    assert redis_client.keys() == [b"batch-receiver:elsewhere"]


def test_what_strangers_send_leaves_no_note(receiver: Receiver, redis_client: redis.Redis) -> None:
    statuses = [
        _deliver_to(receiver, "/forged", key=OTHER_KEY),
        receiver.send("POST", "/unsigned", b"x").status,
        receiver.send("GET", "/robots.txt").status,
        _deliver_to(receiver, "/genuine"),
    ]
    assert statuses == [404, 404, 404, 404]
    assert _noted(redis_client, 1) == Elsewhere(1, "/genuine", _noted(redis_client, 1).last_at)


def test_the_path_is_bounded_and_holds_nothing_that_a_terminal_obeys(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    _deliver_to(receiver, "/%1b[2J" + "x" * 5000)
    path = _noted(redis_client, 1).path
    assert path.startswith("/\\u001b[2Jxxx")
    assert len(path) <= MAX_PATH_CHARACTERS


def test_many_of_them_are_counted_and_written_at_most_once_a_second(
    receiver: Receiver, redis_client: redis.Redis
) -> None:
    before = redis_client.info("commandstats").get("cmdstat_hincrby", {"calls": 0})["calls"]
    for _ in range(30):
        _deliver_to(receiver, "/elsewhere")
    _noted(redis_client, 30)
    assert redis_client.info("commandstats")["cmdstat_hincrby"]["calls"] - before < 30


@pytest.mark.parametrize("is_away", [False, True])
def test_without_redis_or_the_right_to_note_it_the_answer_is_the_same(
    start_receiver: StartReceiver, own_redis: OwnRedis, *, is_away: bool
) -> None:
    keys = ("announced:*", "jobs", "strangers", "batch:*", "steps:*", "batches:*", "deliveries:*")
    rules = ["~rq:*", *(f"~batch-receiver:{key}" for key in keys), "+@all"]
    receiver = start_receiver(own_redis.url if is_away else own_redis.url_of("narrow", *rules))
    if is_away:
        own_redis.kill()
    assert _deliver_to(receiver, "/elsewhere") == 404
    receiver.process.wait_for_output("event=not_noted")
    assert receiver.send("GET", "/healthz").status == 200
