"""What requests will cost: said before they are sent, as the estimate that it is, and never as nothing."""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from receiver.cli import main
from sender.check import Check, check_file
from sender.expectation import expected
from tests.sender.conftest import Sender, request_line, write_lines
from workers import prices

MODEL = "gemini-2.5-flash"  # 1M in at 0.30 $, 1M out at 2.50 $, half of it in a batch.


def limited(key: str, **config: Any) -> dict[str, Any]:
    line = request_line(key)
    line["request"]["generationConfig"] = config
    return line


def looked_at(tmp_path: Path, lines: list[dict[str, Any]], **options: Any) -> Check:
    look = Check(**options)
    list(check_file(write_lines(tmp_path / "r.jsonl", lines), look))
    return look


def checked(path: Path, *options: str) -> Any:
    return json.loads(CliRunner().invoke(main, ["check", str(path), "--json", *options]).stdout)


def test_input_and_the_most_output_are_priced_at_the_rates_of_batches(tmp_path: Path) -> None:
    look = looked_at(tmp_path, [limited(f"k{n}", maxOutputTokens=1000) for n in range(100)])
    cost = look.cost(f"models/{MODEL}")

    assert cost
    assert (cost.model, cost.unlimited, cost.most_output_tokens) == (MODEL, 0, 100_000)
    assert Decimal(cost.most_output_amount or "") == Decimal("0.125")
    assert cost.input_amount == f"{look.tokens.estimate * Decimal('0.15e-6'):.6f}"
    assert (cost.estimate, cost.standard_rate, cost.currency) == (True, False, "USD")
    assert cost.told() == (
        "Its input costs about 0.000075 USD, its output at most 0.12 by "
        f"maxOutputTokens (an estimate at the batch rates of {cost.rates_date}, {cost.rates})."
    )


@pytest.mark.parametrize(
    ("lines", "tokens", "unlimited"),
    [
        ([limited("a", maxOutputTokens=7), limited("b", max_output_tokens=8)], 15, 0),
        ([limited("a", maxOutputTokens=7, candidateCount=3), limited("b", maxOutputTokens="9")], 30, 0),
        ([limited("a", maxOutputTokens=7, temperature=1), limited("b", maxOutputTokens=1)], 8, 0),
        ([limited("a", maxOutputTokens=7), request_line("b"), limited("c", seed=1)], 7, 2),
        ([limited("a", maxOutputTokens=7), {"key": "b", "request": 3}], 7, 1),
    ],
    ids=["spellings", "candidates", "deprecated", "none", "wrong"],
)
@pytest.mark.parametrize("mends", [False, True])
def test_limits_of_output_are_added_up_whatever_else_is_in_the_lines(
    lines: list[dict[str, Any]], tokens: int, unlimited: int, mends: bool, tmp_path: Path
) -> None:
    mend = (lambda _number, _line, examined: examined.faults) if mends else None
    look = looked_at(tmp_path, lines, mend=mend)

    assert (look.limits.tokens, look.limits.unlimited) == (tokens, unlimited)


def test_rows_of_the_openai_layer_have_their_own_names_for_it(tmp_path: Path) -> None:
    bodies = [{"max_tokens": 5}, {"max_completion_tokens": 6, "n": 2}, {}]
    lines = [{"custom_id": f"k{n}", "body": {"messages": [{}], **body}} for n, body in enumerate(bodies)]
    look = looked_at(tmp_path, lines, openai=True)

    assert (look.limits.tokens, look.limits.unlimited) == (17, 1)


def test_embeddings_have_no_output_to_be_paid(tmp_path: Path) -> None:
    lines = [{"key": "a", "request": {"content": {"parts": [{"text": "x" * 4000}]}}}]
    cost = looked_at(tmp_path, lines, embeddings=True).cost("gemini-embedding-001")

    assert cost
    assert cost.most_output_tokens == 0
    assert Decimal(cost.most_output_amount or "1") == 0
    assert Decimal(cost.input_amount or "") > 0
    assert "output" not in cost.told()


def test_output_without_a_limit_is_said_not_to_be_known(tmp_path: Path) -> None:
    look = looked_at(tmp_path, [limited("a", maxOutputTokens=5), request_line("b")])
    cost = look.cost(MODEL)

    assert cost
    assert cost.most_output_amount is None
    assert cost.most_output_tokens is None
    assert "its output can't be known: 1 of its requests set no maxOutputTokens" in cost.told()


def test_a_model_without_a_price_is_said_to_have_none_and_never_costs_nothing(tmp_path: Path) -> None:
    look = looked_at(tmp_path, [request_line("a")])
    cost = look.cost("gemini-none-1")

    assert cost
    assert cost.input_amount is cost.most_output_amount is None
    assert cost.told().startswith("What it costs is not known: genai-prices ")
    assert cost.told().endswith(" has no price for gemini-none-1.")


def test_check_tells_it_for_people_and_for_programs(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [request_line("a")])

    assert checked(path)["cost"] is None
    report = checked(path, "--model", MODEL)
    assert report["cost"]["input_amount"] == "0.000001"
    said = CliRunner().invoke(main, ["check", str(path), "--model", MODEL]).stdout.splitlines()
    assert said[-1].startswith("Its input costs about 0.000001 USD, and its output can't be known")


def test_without_the_extra_only_tokens_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    prices.is_there.cache_clear()
    try:
        path = write_lines(tmp_path / "r.jsonl", [request_line("a")])
        report = checked(path, "--model", MODEL)
        assert (report["tokens"], report["cost"]) == (5, None)
        assert expected(MODEL, 1, 5, None) is None
    finally:
        prices.is_there.cache_clear()


def test_submit_tells_it_before_anything_is_sent(sender: Sender, requests_file: Path) -> None:
    ended = sender.submit(requests_file, "--json")

    assert ended.err.startswith("requests.jsonl: 5 requests, about 25 tokens. Its input costs about ")
    (found,) = ended.json["checked"]
    assert (found["file"], found["requests"], found["tokens"]) == ("requests.jsonl", 5, 25)
    assert found["cost"]["model"] == "gemini-3.5-flash"
