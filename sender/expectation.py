"""What requests will cost, before they are sent: input as it is estimated, output at most as much as they ask for.

Pure, but for the clock. The prices come with the extra `[cost]`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from sender.rules import plain
from workers.prices import CURRENCY, is_there, price, rates

_LIMITS = ("maxOutputTokens", "max_output_tokens", "max_completion_tokens", "max_tokens")
_CANDIDATES = ("candidateCount", "candidate_count", "n")


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of requests is expected to cost: an estimate, from `tokens` that are one.

    `input_amount` and `most_output_amount` are decimal numbers, null where no price is known; the second one is what
    the `most_output_tokens` cost that the requests allow, and null too where one of them, of which there are
    `unlimited`, allows any number. `rates` names the list of prices, `rates_date` the day whose prices were taken. With
    `standard_rate` no price of batches is known, and the amounts have the full one.
    """

    model: str
    input_amount: str | None
    most_output_amount: str | None
    most_output_tokens: int | None
    unlimited: int
    currency: str
    rates: str
    rates_date: str
    standard_rate: bool = False
    estimate: bool = True

    def told(self) -> str:
        """One sentence."""
        if self.input_amount is None:
            return f"What it costs is not known: {self.rates} has no price for {self.model}."
        rates = "full rates, as no batch rates are known," if self.standard_rate else "batch rates"
        sentence = f"Its input costs about {_rounded(self.input_amount)} {self.currency}"
        if self.most_output_amount is None:
            sentence += (
                f", and its output can't be known: {self.unlimited} of its requests set no maxOutputTokens"
            )
        elif self.most_output_tokens:
            sentence += f", its output at most {_rounded(self.most_output_amount)} by maxOutputTokens"
        return f"{sentence} (an estimate at the {rates} of {self.rates_date}, {self.rates})."


class OutputLimits:
    """How many tokens answers may have, added up: the sum, and how many requests set no limit."""

    def __init__(self) -> None:
        self.tokens = self.unlimited = 0

    def add(self, config: Mapping[str, Any] | None, times: int = 1) -> None:
        """Of so many requests; values are as they were decoded, or still JSON."""
        limit = _number(config, _LIMITS) if config else None
        if config is None or limit is None:
            self.unlimited += times
        else:
            self.tokens += limit * (_number(config, _CANDIDATES) or 1) * times


def config_of(line: Any) -> Mapping[str, Any] | None:
    """Where a decoded line of any kind sets limits."""
    if not isinstance(line, dict):
        return None
    body = line.get("body")
    if isinstance(body, dict):
        return body
    request = line.get("request")
    inner = request.items() if isinstance(request, dict) else ()
    return next((value for name, value in inner if plain(name) == "generationconfig" and value), None)


def expected(model: str, requests: int, tokens: int, limits: OutputLimits | None) -> Expected | None:
    """What so many requests with so many tokens of input cost today; None without the extra.

    `limits` is None where no output is paid, as of embeddings.
    """
    if not is_there():
        return None
    bare, at = model.removeprefix("models/"), datetime.now(UTC)
    unlimited = limits.unlimited if limits else 0
    most = None if unlimited else limits.tokens if limits else 0

    def cost_of(**usage: int) -> tuple[Decimal, bool] | None:
        return price(bare, {"answers": max(1, requests), **usage}, at)

    of_input = cost_of(prompt_tokens=tokens)
    with_output = cost_of(prompt_tokens=tokens, output_tokens=most) if most is not None else None
    return Expected(
        model=bare,
        input_amount=f"{of_input[0]:.6f}" if of_input else None,
        most_output_amount=f"{with_output[0] - of_input[0]:.6f}" if of_input and with_output else None,
        most_output_tokens=most,
        unlimited=unlimited,
        currency=CURRENCY,
        rates=rates(),
        rates_date=at.date().isoformat(),
        standard_rate=of_input is not None and not of_input[1],
    )


def _number(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        if name in config:
            value = config[name]
            try:
                return int(bytes(value).strip(b'"') if isinstance(value, msgspec.Raw) else value)
            except (TypeError, ValueError):
                return None
    return None


def _rounded(amount: str) -> str:
    """To cents or, below ten of them, to two digits that count."""
    number = Decimal(amount)
    return f"{number:.2f}" if number >= Decimal("0.1") or not number else f"{number.normalize():.2g}"
