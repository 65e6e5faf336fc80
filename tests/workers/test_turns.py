"""Whose turn it is among projects."""

import time
from itertools import islice

import pytest
import redis
from rq import Queue

from tests.support.waiting import wait_until
from workers import turns
from workers.contract import Announcement, Queues, Trigger
from workers.errors import GeminiUnavailable, Incomplete, KeyRefused, NotReady, WorkerError
from workers.own_jobs import OwnQueue

PREFIXES = ("batch-receiver-project-search", "batch-receiver-project-ads")


@pytest.fixture
def queues(redis_client: "redis.Redis") -> list[OwnQueue]:
    names = (name for prefix in PREFIXES for name in Queues(redis_client, prefix).names)
    return [OwnQueue(name, connection=redis_client) for name in names]


def names(queues: object) -> list[str]:
    assert isinstance(queues, list)
    return [each.name.removeprefix("batch-receiver-project-") for each in queues]


def raising(error: WorkerError) -> None:
    raise error


def test_projects_follow_each_other_and_in_each_of_them_its_queues(queues: list[OwnQueue]) -> None:
    order: list[Queue] = [*queues]
    taken: list[Queue] = []
    for _ in range(8):
        taken.append(order[0])
        turns.after(order, order[0])

    assert names(taken[:4]) == ["search-batches", "ads-batches", "search-parts", "ads-parts"]
    assert taken[4:] == taken[:4]


def test_a_project_with_two_full_queues_gets_no_more_turns_than_one_with_one(queues: list[OwnQueue]) -> None:
    order: list[Queue] = [*queues]
    taken: list[str] = []
    for _ in range(10):
        # Nothing is in the queue of ads' parts.
        first = next(each for each in order if not each.name.endswith("ads-parts"))
        taken.append(turns.project_of(first.name))
        turns.after(order, first)

    assert [taken.count(prefix) for prefix in PREFIXES] == [5, 5]


def test_one_project_alone_never_rests(redis_client: "redis.Redis", queues: list[OwnQueue]) -> None:
    turns.note_trouble(Queues(redis_client, PREFIXES[0]), "The bucket is away.", 1.0)

    found, seconds = turns.open_to(queues[:2], redis_client)

    assert (found, seconds) == (queues[:2], float("inf"))


def test_a_project_in_trouble_rests_nine_times_as_long_as_it_lost(
    redis_client: "redis.Redis", queues: list[OwnQueue]
) -> None:
    turns.note_trouble(Queues(redis_client, PREFIXES[1]), "The bucket is away.", 0.1)

    found, seconds = turns.open_to(queues, redis_client)

    assert names(found) == ["search-batches", "search-parts"]
    assert 0 < seconds <= 0.9
    wait_until(lambda: len(turns.open_to(queues, redis_client)[0]) == 4, what="the end of the rest")
    turns.note_trouble(Queues(redis_client, PREFIXES[1]), "The bucket is away.", 3600)
    assert turns.open_to(queues, redis_client)[1] <= 60


def test_no_second_worker_serves_a_project_in_trouble(
    redis_client: "redis.Redis", queues: list[OwnQueue]
) -> None:
    turns.note_trouble(Queues(redis_client, PREFIXES[1]), "The bucket is away.", 0.001)
    wait_until(lambda: len(turns.open_to(queues, redis_client)[0]) == 4, what="the end of the rest")

    redis_client.zadd(queues[3].started_job_registry.key, {"a part": time.time() + 60})

    assert names(turns.open_to(queues, redis_client)[0]) == ["search-batches", "search-parts"]
    assert len(turns.open_to(queues[:2], redis_client)[0]) == 2


@pytest.mark.parametrize(
    ("error", "is_the_projects"),
    [
        (KeyRefused("Gemini refused the API key."), True),
        (GeminiUnavailable("Gemini does not answer."), True),
        (NotReady("It is not final."), False),
        (Incomplete("It does not add up."), False),
    ],
)
def test_what_is_wrong_with_a_single_batch_is_not_its_projects_trouble(
    redis_client: "redis.Redis", error: WorkerError, *, is_the_projects: bool
) -> None:
    of_ads = Queues(redis_client, PREFIXES[1])

    with pytest.raises(type(error)):
        turns.counted(of_ads, lambda: raising(error))()

    assert turns.trouble(of_ads) == (str(error) if is_the_projects else None)
    turns.counted(of_ads, lambda: None)()
    assert turns.trouble(of_ads) is None
    assert redis_client.exists(of_ads.key("rest")) == 0


def test_a_worker_takes_nothing_of_a_project_that_rests_and_all_of_it_afterwards(
    redis_client: "redis.Redis", queues: list[OwnQueue]
) -> None:
    for prefix in PREFIXES:
        Queues(redis_client, prefix).announce([Announcement("abc", Trigger.WEBHOOK)])
    turns.note_trouble(Queues(redis_client, PREFIXES[1]), "The bucket is away.", 0.05)

    def take() -> str | None:
        found = OwnQueue.dequeue_any(queues, None, redis_client)
        return found[0].id if found else None

    first = [*islice(iter(take, None), 2)]
    assert first == ["batch-receiver-project-search-batch-abc"]
    assert wait_until(take, what="the rest's end") == "batch-receiver-project-ads-batch-abc"
