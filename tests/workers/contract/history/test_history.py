"""What happened is kept in Redis, bounded, and read a page at a time."""

import time
from dataclasses import replace

import pytest
import redis

from workers.contract import Announcement, Outcome, Queues, Trigger
from workers.contract.forgetting import forget
from workers.contract.history import (
    COMMITTED,
    KEPT_SECONDS,
    MOST_DELIVERIES,
    MOST_STEPS,
    BatchState,
    Delivered,
    History,
    deliver,
    ref_of,
    step,
)
from workers.contract.history.pages import Filter, Pages

NOW = 1_800_000_000.0


@pytest.fixture
def history(redis_client: "redis.Redis") -> History:
    return History(redis_client, "t")


@pytest.fixture
def pages(redis_client: "redis.Redis") -> Pages:
    return Pages(redis_client, "t")


def batches(pages: Pages, wanted: Filter, **more: int) -> list[str]:
    return [record.batch for record in pages.page(wanted, **more).records]


def test_a_batch_has_one_record_and_its_steps(history: History, pages: Pages) -> None:
    ref = ref_of("abc")
    history.note(ref, BatchState.RUNNING, at=NOW, steps=(step("looked", NOW, state="succeeded"),))
    history.note(
        ref,
        BatchState.SUCCEEDED,
        at=NOW + 5,
        steps=(step("committed", NOW + 5, total=3),),
        fields={"counts": '{"total": 3}', "revision": 1, "reason": None, "committed_at": NOW + 5},
        display_name="Nightly",
    )

    record = pages.record("abc")
    assert record
    assert (record.state, record.announced_at, record.committed_at) == ("succeeded", NOW, NOW + 5)
    assert (record.counts, record.revision, record.reason) == ({"total": 3}, 1, None)
    assert [(each.event, each.at, dict(each.fields)) for each in pages.steps("abc")] == [
        ("looked", NOW, {"state": "succeeded"}),
        ("committed", NOW + 5, {"total": 3}),
    ]
    assert pages.record("other") is None


def test_a_batch_is_in_one_state_at_a_time(history: History, pages: Pages) -> None:
    for at, state in enumerate(sorted(BatchState, key=COMMITTED.__contains__)):
        history.note(ref_of("abc"), state, at=NOW + at)

        assert {name: count for name, count in pages.counts().items() if count} == {state.value: 1}
    assert pages.page(Filter()).total == 1


def test_a_page_is_of_one_state_project_and_time_newest_first(history: History, pages: Pages) -> None:
    for number in range(10):
        state = BatchState.SUCCEEDED if number % 2 else BatchState.GIVEN_UP
        project = "search" if number >= 6 else "default"
        history.note(ref_of(f"b{number}", project), state, at=NOW + number, warned=number in {3, 4})

    assert batches(pages, Filter(), limit=3) == ["b9", "b8", "b7"]
    assert batches(pages, Filter(), offset=3, limit=3) == ["b6", "b5", "b4"]
    assert batches(pages, Filter(state="succeeded")) == ["b9", "b7", "b5", "b3", "b1"]
    assert batches(pages, Filter(state="succeeded", project="search")) == ["b9", "b7"]
    assert batches(pages, Filter(project="default", since=NOW + 2, until=NOW + 3)) == ["b3", "b2"]
    assert batches(pages, Filter(warnings=True)) == ["b4", "b3"]
    assert batches(pages, Filter(warnings=True, state="given-up")) == ["b4"]
    assert pages.page(Filter(state="succeeded"), limit=1).total == 5
    assert pages.page(Filter(warnings=True, state="given-up"), offset=1).total == 1
    assert pages.counts("search")["succeeded"] == 2


def test_text_is_found_in_ids_and_display_names_whatever_its_case(history: History, pages: Pages) -> None:
    history.note(ref_of("abc"), BatchState.RUNNING, at=NOW, display_name="Straße nightly")
    history.note(ref_of("xyz"), BatchState.RUNNING, at=NOW + 1)
    wanted = Filter(text="STRASSE")

    assert batches(pages, wanted) == ["abc"]
    assert batches(pages, replace(wanted, text="XY")) == ["xyz"]
    assert batches(pages, replace(wanted, text="default")) == []
    assert batches(pages, replace(wanted, text="nightly", since=NOW + 1)) == []


def test_the_oldest_of_some_states_is_the_first_that_was_announced(history: History, pages: Pages) -> None:
    history.note(ref_of("old"), BatchState.SUCCEEDED, at=NOW)
    history.note(ref_of("mid"), BatchState.WAITING, at=NOW + 1)
    history.note(ref_of("new"), BatchState.RUNNING, at=NOW + 2)

    oldest = pages.oldest([BatchState.RUNNING, BatchState.WAITING])
    assert oldest
    assert oldest.batch == "mid"
    assert pages.oldest([BatchState.GIVEN_UP]) is None


def test_parts_are_counted_once_however_often_they_are_done(history: History, pages: Pages) -> None:
    history.note(ref_of("abc"), BatchState.IN_PARTS, at=NOW)
    for number in (0, 1, 1, 7):
        history.part_done(ref_of("abc"), number)

    record = pages.record("abc")
    assert record
    assert record.parts_done == 3

    history.parts_are(ref_of("abc"), 10, [3, 9])
    record = pages.record("abc")
    assert record
    assert (record.parts, record.parts_done) == (10, 8)

    history.part_done(ref_of("abc"), 9)
    history.part_done(ref_of("abc"), 8)
    record = pages.record("abc")
    assert record
    assert record.parts_done == 9


def test_the_same_step_again_is_one_step_that_says_how_often(history: History, pages: Pages) -> None:
    for at, reason in ((1, "away"), (2, "away"), (3, "away"), (4, "full"), (5, "away")):
        history.repeat(ref_of("abc"), "retry", NOW + at, reason=reason)

    assert [(each.at - NOW, dict(each.fields)) for each in pages.steps("abc")] == [
        (3, {"reason": "away", "times": 3, "first": NOW + 1}),
        (4, {"reason": "full"}),
        (5, {"reason": "away"}),
    ]


def test_a_commit_only_gives_way_to_a_commit(history: History, pages: Pages) -> None:
    for state in (BatchState.FAILED, BatchState.RUNNING, BatchState.GIVEN_UP):
        history.note(ref_of("abc"), state, at=NOW)
        assert pages.counts()["failed"] == 1

    history.note(ref_of("abc"), BatchState.SUCCEEDED, at=NOW)
    assert {name: count for name, count in pages.counts().items() if count} == {"succeeded": 1}


def test_deliveries_are_paged_newest_first_over_all_outcomes(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    for number in range(6):
        outcome = Delivered.REFUSED if number % 3 == 0 else Delivered.ACCEPTED
        deliver(redis_client, history.names, outcome, {"batch": f"b{number}", "reason": None})

    first = pages.deliveries(limit=4)
    rest = pages.deliveries(before=first[-1].id, limit=4)

    assert sorted(each.fields["batch"] for each in [*first, *rest]) == ["b0", "b1", "b2", "b3", "b4", "b5"]
    assert [each.at for each in first] == sorted((each.at for each in first), reverse=True)
    assert [each.fields["batch"] for each in pages.deliveries("refused")] == ["b3", "b0"]
    assert pages.deliveries("accepted")[0].fields == {"outcome": "accepted", "batch": "b5"}
    assert abs(first[0].at - time.time()) < 60
    assert pages.delivered() == {
        "accepted": 4,
        "duplicate": 0,
        "ignored": 0,
        "refused": 2,
        "unavailable": 0,
    }
    with pytest.raises(ValueError, match="nonsense"):
        pages.deliveries("nonsense")


def test_no_delivery_is_between_two_pages_where_two_came_in_the_same_moment(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    for outcome in Delivered:
        for moment in ("5-0", "5-1"):
            redis_client.xadd(history.names.deliveries(outcome), {"n": moment}, moment)

    found, before = [], None
    while page := pages.deliveries(before=before, limit=3):
        before = page[-1].id
        found += [each.id for each in page]

    assert len(found) == len(set(found)) == 10


def test_a_flood_of_one_outcome_leaves_the_others(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    deliver(redis_client, history.names, Delivered.ACCEPTED, {"batch": "abc"})
    with redis_client.pipeline(transaction=False) as pipe:
        for _ in range(6000):
            deliver(pipe, history.names, Delivered.REFUSED, {"reason": "bad"})
        pipe.execute()

    kept = pages.delivered()
    assert kept["accepted"] == 1
    assert kept["refused"] <= MOST_DELIVERIES[Delivered.REFUSED] + 100  # Redis drops whole nodes.
    assert sum(MOST_DELIVERIES.values()) == 50_000


def test_steps_are_bounded(history: History, pages: Pages) -> None:
    for number in range(MOST_STEPS + 5):
        history.note(ref_of("abc"), at=NOW, steps=(step("retry", NOW + number),))

    assert [pages.steps("abc")[at].at for at in (0, -1)] == [NOW + 5, NOW + MOST_STEPS + 4]


def test_batches_older_than_90_days_are_forgotten(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    now = time.time()
    for batch, age in (("old", KEPT_SECONDS + 60), ("young", KEPT_SECONDS - 60)):
        history.note(
            ref_of(batch), BatchState.SUCCEEDED, at=now - age, warned=True, display_name=batch, steps=("{}",)
        )

    assert history.prune(now) == 1
    assert history.prune(now) == 0
    assert batches(pages, Filter()) == ["young"]
    assert not list(redis_client.scan_iter("t:*old*"))
    assert redis_client.hkeys("t:names") == [b"default/young"]
    assert pages.counts()["warned"] == 1


def test_what_people_did_is_written_down(history: History, pages: Pages) -> None:
    history.act("admin", "replay", batch="abc", revision=None)
    history.act("ops@example.org", "verify", batch="xyz", findings=2)

    assert [dict(each.fields) for each in pages.actions()] == [
        {"who": "ops@example.org", "action": "verify", "batch": "xyz", "findings": "2"},
        {"who": "admin", "action": "replay", "batch": "abc"},
    ]
    assert pages.actions(before=pages.actions(limit=1)[0].id)[0].fields["who"] == "admin"


def events(pages: Pages, batch: str) -> list[tuple[str, str, str]]:
    return [(each.event, each.fields["by"], each.fields["outcome"]) for each in pages.steps(batch)]


def test_an_announcement_leaves_a_record_a_step_and_its_delivery(
    redis_client: "redis.Redis", pages: Pages
) -> None:
    queues = Queues(redis_client, "t")
    told = Announcement("abc", Trigger.WEBHOOK, event="batch.succeeded", delivery="msg_1")

    assert queues.announce([told, told, Announcement("xyz", Trigger.RECONCILE)]) == [
        Outcome.ACCEPTED,
        Outcome.DUPLICATE,
        Outcome.ACCEPTED,
    ]

    record = pages.record("abc")
    assert record
    assert (record.state, record.trigger, record.project) == ("announced", "webhook", "default")
    assert events(pages, "abc") == [
        ("announced", "webhook", "accepted"),
        ("announced", "webhook", "duplicate"),
    ]
    assert pages.steps("abc")[0].fields["webhook_id"] == "msg_1"
    assert pages.page(Filter(state="announced")).total == pages.page(Filter()).total == 2
    assert [each.fields for each in pages.deliveries("accepted")] == [
        {
            "outcome": "accepted",
            "batch": "abc",
            "trigger": "webhook",
            "type": "batch.succeeded",
            "webhook_id": "msg_1",
        }
    ]
    assert pages.delivered()["duplicate"] == 1


def test_only_what_was_given_up_is_at_work_again_when_it_is_announced(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    queues = Queues(redis_client, "t")
    for state in (BatchState.SUCCEEDED, BatchState.GIVEN_UP, BatchState.IN_PARTS):
        history.note(ref_of(state.value), state, at=NOW)

    queues.announce([Announcement(each, Trigger.REPLAY) for each in ("succeeded", "given-up", "in-parts")])

    assert {each.batch: (each.state, each.announced_at) for each in pages.page(Filter()).records} == {
        "succeeded": ("succeeded", NOW),
        "given-up": ("announced", NOW),
        "in-parts": ("in-parts", NOW),
    }
    assert pages.counts()["given-up"] == 0


def test_a_batch_that_is_forgotten_before_its_commit_is_not_listed(
    redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    queues = Queues(redis_client, "t")
    queues.announce([Announcement("abc", Trigger.WEBHOOK)])
    history.note(ref_of("done"), BatchState.SUCCEEDED, at=NOW)

    forget(queues, "abc")
    forget(queues, "done")

    assert batches(pages, Filter()) == ["done"]
    assert pages.steps("abc") == []


@pytest.mark.parametrize("sought", ["*", "?", "[a", "a]", "\\", "^", "a*b", "na\nme", "é", "É", "B1"])
def test_what_is_sought_is_literal_and_found_in_any_case(history: History, pages: Pages, sought: str) -> None:
    history.note(ref_of("b0"), BatchState.RUNNING, at=NOW, display_name=f"x {sought} y")
    history.note(ref_of("b2"), BatchState.RUNNING, at=NOW, display_name="nothing of it")

    for each in (sought, sought.upper(), sought.lower()):
        assert batches(pages, Filter(text=each)) == ["b0"]


def test_no_id_is_found_by_what_is_no_part_of_it(history: History, pages: Pages) -> None:
    history.note(ref_of("Abc_1-d"), BatchState.RUNNING, at=NOW)

    assert batches(pages, Filter(text="aBC_1-")) == ["Abc_1-d"]
    for sought in ("default", "default/abc", "abc?1", "*", "[a]bc"):
        assert batches(pages, Filter(text=sought)) == []


def test_names_that_an_earlier_version_wrote_are_found_too(
    history: History, pages: Pages, redis_client: "redis.Redis"
) -> None:
    history.note(ref_of("b1"), BatchState.RUNNING, at=NOW, display_name="Nightly")
    redis_client.delete(history.names.titles)

    assert batches(pages, Filter(text="night")) == ["b1"]
    history.drop([ref_of("b1")])
    assert redis_client.scard(history.names.titles) == 0


@pytest.mark.parametrize("has_it", ["all", "the newest", "some", "few", "none"])
@pytest.mark.parametrize("wanted", [Filter(), Filter(state="succeeded"), Filter(since=NOW + 500)])
def test_of_a_text_that_thousands_have_the_pages_are_right_and_the_count_says_where_it_stopped(
    has_it: str, wanted: Filter, redis_client: "redis.Redis", history: History, pages: Pages
) -> None:
    """Whichever way it is looked for: the pages are the same."""
    shares = {"all": 1, "the newest": 1, "some": 2, "few": 40, "none": 10_000}
    matching: list[str] = []
    with redis_client.pipeline() as pipe:
        for number in range(3000):
            ref, name = ref_of(f"b{number:04}"), f"{number} hourly"
            has = number % shares[has_it] == 1 % shares[has_it] and (has_it != "the newest" or number >= 2000)
            if has:
                name = "NightLY run"
            if has and number + NOW >= (wanted.since or 0):
                matching.insert(0, f"b{number:04}")
            pipe.zadd(history.names.index(), {ref: NOW + number})
            pipe.zadd(history.names.index("succeeded"), {ref: NOW + number})
            pipe.hset(history.names.display_names, ref, name.casefold())
            pipe.sadd(history.names.titles, f"{name.casefold()}\n{ref}")
            pipe.hset(history.names.record(ref), mapping={"announced_at": NOW + number})
        pipe.execute()
    wanted = replace(wanted, text="nightly")

    for offset in (0, 50, 950, 1000, len(matching) // 50 * 50, 5000):
        page = pages.page(wanted, offset=offset, limit=50)
        assert [each.batch for each in page.records] == matching[offset : offset + 50]
        assert page.total == len(matching) or (page.more and page.total == max(1000, offset + 50))
        assert not page.more or page.total < len(matching)
    assert batches(pages, replace(wanted, text="B000"), limit=9) == (
        [] if wanted.since else [f"b000{number}" for number in range(9, 0, -1)]
    )
