"""What a batch cost: an estimate at the prices of batches, that says what it does not know."""

import json
import subprocess
import sys
from decimal import Decimal

import pytest

from tests.support.deployment import Deployment, result_line
from tests.support.processes import ROOT
from workers import prices
from workers.cost import estimate
from workers.results.result import parse, render
from workers.results.tally import Tally, tally_of
from workers.summary import Cost

WHEN = "2026-11-20T12:00:00Z"
USAGE = {"prompt_tokens": 1_000_000, "output_tokens": 600_000, "thoughts_tokens": 400_000, "answers": 1000}


def of(billed: dict[str, dict[str, int]], model: str | None = None, moment: str = WHEN) -> Cost:
    found = estimate(billed, model, moment)
    assert found
    return found


def answer(model: str, prompt: int, output: int = 10) -> bytes:
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
    return result_line("k", usageMetadata=usage, modelVersion=model)


def billed(*lines: bytes) -> dict[str, dict[str, int]]:
    return tally_of([render(parse(line), 0, 1) for line in lines]).billed


def test_thinking_is_paid_as_output_at_half_the_price_of_single_requests() -> None:
    found = of({"gemini-2.5-flash|0": USAGE})

    # 1M in at 0.30 $, 1M out at 2.50 $, half of it in a batch (ai.google.dev/gemini-api/docs/pricing).
    assert Decimal(found.amount or "") == Decimal("1.40")
    assert (found.currency, found.estimate, found.rates_date) == ("USD", True, "2026-11-20")
    assert found.rates.startswith("genai-prices ")
    assert found.unknown_models == found.standard_rate_models == []


def test_cached_tokens_are_cheaper_than_others() -> None:
    plain, cached = (
        of({"gemini-2.5-flash|0": USAGE}),
        of({"gemini-2.5-flash|0": {**USAGE, "cached_tokens": 500_000}}),
    )

    # Half a million at 0.03 $ instead of 0.15 $: caching costs in a batch what it costs otherwise.
    assert Decimal(plain.amount or "") - Decimal(cached.amount or "") == Decimal("0.06")


def test_long_prompts_are_dearer_by_request_and_many_short_ones_are_not() -> None:
    many = {f"{'gemini-2.5-pro'}|0": {"prompt_tokens": 1_000_000, "output_tokens": 0, "answers": 1000}}
    long = {f"{'gemini-2.5-pro'}|2": {"prompt_tokens": 1_000_000, "output_tokens": 0, "answers": 4}}

    assert Decimal(of(many).amount or "") == Decimal("0.625")
    assert Decimal(of(long).amount or "") == Decimal("1.25")


def test_the_model_that_answered_is_paid_and_the_one_that_was_asked_for_where_none_is_named() -> None:
    assert of({"gemini-2.5-flash|0": USAGE}, "models/gemini-2.5-pro") == of({"gemini-2.5-flash|0": USAGE})
    assert of({"|0": USAGE}, "models/gemini-2.5-pro") == of({"gemini-2.5-pro|0": USAGE})
    assert of({"gemini-2.5-flash-001|0": USAGE}).amount == of({"gemini-2.5-flash|0": USAGE}).amount


def test_a_model_without_a_price_is_named_and_is_no_0() -> None:
    unknown = of({"gemini-99-ultra|0": USAGE})
    assert (unknown.amount, unknown.unknown_models) == (None, ["gemini-99-ultra"])

    mixed = of({"gemini-99-ultra|0": USAGE, "gemini-2.5-flash|0": USAGE})
    assert (mixed.amount, mixed.unknown_models) == ("1.400000", ["gemini-99-ultra"])


def test_a_model_whose_images_cost_more_than_its_words_is_not_guessed() -> None:
    assert of({"gemini-3-pro-image|0": USAGE}).unknown_models == ["gemini-3-pro-image"]


def test_a_price_that_is_none_of_batches_is_said_to_be_so() -> None:
    before = of({"gemini-2.5-flash|0": USAGE}, moment="2026-01-01T00:00:00Z")

    assert (before.amount, before.standard_rate_models) == ("2.800000", ["gemini-2.5-flash"])


def test_nothing_that_was_billed_costs_nothing() -> None:
    assert estimate({}, "gemini-2.5-flash", WHEN) is None


def test_answers_are_billed_by_model_and_length_of_prompt() -> None:
    same = billed(*[answer("gemini-2.5-pro", 1000)] * 3)
    assert {bill: (usage["prompt_tokens"], usage["answers"]) for bill, usage in same.items()} == {
        "gemini-2.5-pro|0": (3000, 3)
    }

    mixed = billed(
        answer("a", 1000), answer("a", 150_000), answer("a", 250_000), answer("b", 5), answer("a", 1)
    )
    assert {bill: (usage["prompt_tokens"], usage["answers"]) for bill, usage in mixed.items()} == {
        "a|0": (1001, 2),
        "a|1": (150_000, 1),
        "a|2": (250_000, 1),
        "b|0": (5, 1),
    }


def test_bills_of_parts_add_up_to_that_of_the_whole() -> None:
    lines = [answer("a", 1000), answer("b", 300_000), answer("a", 2000)]
    total = Tally()
    for line in lines:
        total.add(tally_of([render(parse(line), 0, 1)]))

    whole = billed(*lines).items()
    assert total.billed == {bill: {name: n for name, n in usage.items() if n} for bill, usage in whole}


def test_without_the_extra_there_is_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    prices.is_there.cache_clear()
    try:
        assert estimate({"gemini-2.5-flash|0": USAGE}, None, WHEN) is None
    finally:
        prices.is_there.cache_clear()


def test_a_worker_loads_the_prices_only_when_it_begins() -> None:
    code = "import sys, workers.jobs; print('genai_prices' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_batch_json_and_status_have_it(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    assert deployment.run("process", batch).returncode == 0

    summary = json.loads((deployment.batch_folder(batch) / "batch.json").read_bytes())
    assert summary["cost"]["estimate"] is True
    assert summary["cost"]["unknown_models"] == []
    assert float(summary["cost"]["amount"]) > 0
