"""The decision over all combinations of facts: a table, and what must hold whatever the facts are."""

from dataclasses import replace
from itertools import product

import pytest

from workers.contract import Trigger
from workers.decision import (
    LATE_OUTPUT_SECONDS,
    Close,
    Facts,
    FanOut,
    Fetch,
    Finish,
    Leave,
    Look,
    Nothing,
    Seen,
    Step,
    Wait,
    next_step,
)
from workers.gemini.batches import State
from workers.parts import Piece, Split
from workers.plan import Plan
from workers.summary import Counts, PartSummary, Summary, gives_way

NOW = 1_800_000_000.0
LATELY, LONG_AGO = "2027-01-15T07:59:00Z", "2020-01-01T00:00:00Z"
FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)


def summary(state: State, *, results: bool, revision: int = 1) -> Summary:
    parts = [PartSummary("raw/part-00000.jsonl", 1, 9, "0" * 64)] if results else []
    return Summary(
        batch="abc",
        state=state,
        display_name=None,
        model=None,
        created_at=None,
        ended_at=None,
        committed_at="2026-01-01T00:00:00Z",
        revision=revision,
        trigger="webhook",
        counts=Counts(),
        finish_reasons={},
        usage={},
        batch_stats=None,
        parts=parts,
        raw_bytes=0,
        raw_sha256="",
        error=None,
        user_metadata=None,
        warnings=[],
    )


def plan(state: State, refetches: int | None = None) -> Plan:
    return Plan("abc", state, None, None, None, None, None, None, Trigger.WEBHOOK, None, refetches)


def seen(state: State, *, output: bool, **changes: bool | str | None) -> Seen:
    found = Seen(state, state, state in FINAL, is_ours=True, has_output=output, ended_at=LONG_AGO)
    return replace(found, **changes)  # type: ignore[arg-type]


SPLIT = Split([Piece(0, 1, 9, "0" * 64), Piece(1, 1, 9, "1" * 64)], 2, 18, "2" * 64)
S, F, C, E, R, P = (
    State[name] for name in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "RUNNING", "PENDING")
)
YES, NO = True, False

# What stands in batch.json (its state, whether it has results), what Gemini says (state, whether it names an output).
AFTER_A_LOOK: list[tuple[tuple[State, bool] | None, tuple[State, bool], type[Step]]] = [
    (None, (P, NO), Wait),
    (None, (R, NO), Wait),
    (None, (R, YES), Wait),
    (None, (S, NO), Wait),
    (None, (S, YES), Fetch),
    (None, (F, NO), Close),
    (None, (F, YES), Fetch),
    (None, (C, NO), Close),
    (None, (C, YES), Fetch),
    (None, (E, NO), Close),
    (None, (E, YES), Fetch),
    ((F, NO), (F, NO), Nothing),
    ((F, NO), (C, NO), Close),
    ((F, NO), (S, NO), Wait),
    ((F, NO), (S, YES), Fetch),
    ((F, NO), (F, YES), Fetch),
    ((F, NO), (R, NO), Wait),
    ((C, NO), (C, NO), Nothing),
    ((C, NO), (C, YES), Fetch),
    ((C, NO), (F, NO), Close),
    ((C, NO), (S, YES), Fetch),
    ((E, NO), (S, YES), Fetch),
    ((E, NO), (E, YES), Fetch),
    ((C, YES), (C, NO), Nothing),
    ((C, YES), (C, YES), Nothing),
    ((C, YES), (F, NO), Nothing),
    ((C, YES), (E, NO), Nothing),
    ((C, YES), (F, YES), Fetch),
    ((C, YES), (S, YES), Fetch),
    ((C, YES), (S, NO), Wait),
    ((F, YES), (S, YES), Fetch),
]


@pytest.mark.parametrize(("committed", "said", "step"), AFTER_A_LOOK)
def test_after_a_look(
    committed: tuple[State, bool] | None, said: tuple[State, bool], step: type[Step]
) -> None:
    there = summary(committed[0], results=committed[1]) if committed else None
    facts = Facts(summary=there, seen=seen(said[0], output=said[1]))

    assert type(next_step(facts, NOW)) is step
    assert isinstance(next_step(replace(facts, seen=None), NOW), Look)
    assert isinstance(next_step(replace(facts, split=SPLIT), NOW), step), "a split without a plan is no fact"


@pytest.mark.parametrize("lacking", [(), (0,), (0, 1)])
@pytest.mark.parametrize("state", FINAL)
def test_what_is_whole_in_raw_is_fanned_out_and_finished_and_nobody_is_asked(
    state: State, lacking: tuple[int, ...]
) -> None:
    facts = Facts(plan=plan(state), split=SPLIT, lacking=lacking)

    assert next_step(facts, NOW) == (FanOut(lacking) if lacking else Finish())
    for answer in (seen(F, output=NO), seen(R, output=NO), seen(S, output=YES)):
        assert next_step(replace(facts, seen=answer), NOW) == next_step(facts, NOW)


def test_what_was_left_behind_by_a_commit_is_no_work() -> None:
    for state, refetch in product(FINAL, (False, True)):
        done = Facts(summary(state, results=True), plan(state), SPLIT, ())
        assert not done.replaces
        assert isinstance(
            next_step(replace(done, refetch=refetch), NOW), Nothing if state is S and not refetch else Look
        )


def test_a_succeeded_commit_never_changes_by_itself() -> None:
    there = summary(S, results=True)
    for state, output, planned in product(State, (False, True), (None, *map(plan, FINAL))):
        facts = Facts(there, planned, SPLIT, (0,), seen(state, output=output))
        assert isinstance(next_step(facts, NOW), Nothing)


def test_a_commit_with_results_is_never_replaced_by_one_without() -> None:
    for before, after, output, planned in product(FINAL, State, (False, True), (None, *map(plan, FINAL))):
        facts = Facts(summary(before, results=True), planned, None, (), seen(after, output=output))
        assert not isinstance(next_step(facts, NOW), Close)


def test_fetched_once_more_is_what_somebody_asks_for_and_only_that_revision() -> None:
    there = summary(S, results=True, revision=3)
    asked = Facts(there, refetch=True)

    assert isinstance(next_step(asked, NOW), Look)
    assert isinstance(next_step(replace(asked, seen=seen(S, output=YES)), NOW), Fetch)
    assert isinstance(next_step(replace(asked, seen=seen(F, output=NO)), NOW), Nothing)
    begun = Facts(there, plan(S, refetches=3))
    assert isinstance(next_step(begun, NOW), Look)
    assert isinstance(next_step(replace(begun, split=SPLIT), NOW), Finish)
    done = Facts(summary(S, results=True, revision=4), plan(S, refetches=3), SPLIT)
    assert isinstance(next_step(done, NOW), Nothing)


def test_a_batch_of_another_display_name_is_left_whatever_its_state() -> None:
    for state, output in product(State, (False, True)):
        facts = Facts(seen=seen(state, output=output, is_ours=False))
        assert isinstance(next_step(facts, NOW), Leave)


@pytest.mark.parametrize(
    ("state", "ended", "counted", "step"),
    [
        (C, LATELY, True, Wait),
        (C, LATELY, False, Close),
        (C, LONG_AGO, True, Close),
        (C, None, True, Close),
        (C, "nonsense", True, Close),
        (F, LATELY, True, Close),
    ],
)
def test_an_output_that_may_still_come_is_waited_for(
    state: State, ended: str | None, step: type[Step], *, counted: bool
) -> None:
    answer = seen(state, output=False, ended_at=ended, counts_results=counted)

    assert isinstance(next_step(Facts(seen=answer), NOW), step)


def test_every_combination_has_a_step_and_acting_on_it_comes_to_an_end() -> None:
    """Each step changes the facts in the direction of a commit; none is decided twice for the same facts."""
    summaries = (None, *(summary(state, results=results) for state, results in product(FINAL, (NO, YES))))
    plans = (None, *map(plan, FINAL), plan(S, 1))
    splits = ((None, ()), (SPLIT, ()), (SPLIT, (0,)), (SPLIT, (0, 1)))
    answers = [seen(state, output=output) for state, output in product(State, (NO, YES))]
    count = 0
    for there, planned, (split, lacking), answer, refetch in product(
        summaries, plans, splits, answers, (NO, YES)
    ):
        facts = Facts(there, planned, split, lacking, None, refetch)
        for _ in range(6):
            step = next_step(facts, NOW)
            match step:
                case Look():
                    assert facts.seen is None
                    facts = replace(facts, seen=answer)
                case Fetch():
                    assert answer.has_output
                    refetches = facts.summary.revision if facts.summary and facts.refetch else None
                    kept = planned.refetches if planned and refetches is None else refetches
                    facts = Facts(facts.summary, plan(answer.state, kept), SPLIT, (0, 1))
                case FanOut():
                    facts = replace(facts, lacking=())
                case Finish():
                    assert facts.plan
                    assert gives_way(
                        facts.summary, facts.plan.state, has_results=True, refetches=facts.plan.refetches
                    )
                    revision = facts.summary.revision + 1 if facts.summary else 1
                    facts = Facts(summary(facts.plan.state, results=True, revision=revision))
                    assert isinstance(next_step(facts, NOW), Nothing | Look)
                    break
                case _:
                    break
        else:
            pytest.fail(f"no end: {facts}")
        count += 1
    assert count == 9 * 7 * 4 * 12 * 2


def test_late_means_minutes() -> None:
    assert LATE_OUTPUT_SECONDS == 900
