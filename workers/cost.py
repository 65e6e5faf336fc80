"""What a batch cost, as an estimate: tokens of each model that answered, at the prices of batches on the batch's day.

The prices are those of genai-prices, which comes with the extra `[cost]`. It knows what cached tokens cost, and which
models are dearer beyond a length of prompt. Thinking is paid as output.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from workers.gemini.batches import timestamp
from workers.summary import Cost

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_BATCH = {"processing": "batch"}
_VERSION = re.compile(r"-\d{3}$")


@cache
def is_there() -> bool:
    """Whether prices are installed; once true, they are loaded, so that no job has to."""
    try:
        import genai_prices  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def estimate(billed: Mapping[str, Mapping[str, int]], model: str | None, moment: str | None) -> Cost | None:
    """What these bills come to; None without the extra, or where nothing was billed.

    Args:
        billed: as in `Tally`.
        model: that was asked for; answers that name none are taken to be of it.
        moment: RFC 3339, when the batch ended. Without it the prices are today's.
    """
    if not billed or not is_there():
        return None
    at = datetime.fromtimestamp(timestamp(moment) or datetime.now(UTC).timestamp(), UTC)
    total: Decimal | None = None
    unknown, standard = set(), set()
    for bill, usage in billed.items():
        name = bill.rpartition("|")[0] or model or ""
        shown = name.removeprefix("models/") or "unknown"
        price = _price(shown, usage, at)
        if price is None:
            unknown.add(shown)
            continue
        amount, is_of_batches = price
        total = amount if total is None else total + amount
        if not is_of_batches:
            standard.add(shown)
    return Cost(
        amount=f"{total:.6f}" if total is not None else None,
        currency="USD",
        rates=f"genai-prices {metadata.version('genai-prices')}",
        rates_date=at.date().isoformat(),
        unknown_models=sorted(unknown),
        standard_rate_models=sorted(standard),
    )


def _price(model: str, usage: Mapping[str, int], at: datetime) -> tuple[Decimal, bool] | None:
    """What this usage cost, and whether the price is one of batches; None where it is not known."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - an extra

    answers = max(1, usage["answers"])
    output = usage.get("output_tokens", 0) + usage.get("thoughts_tokens", 0)
    # Where long prompts are dearer, that is so a request: one of the mean size is asked for.
    one = Usage(
        input_tokens=(usage.get("prompt_tokens", 0) + usage.get("tool_use_tokens", 0)) / answers,
        cache_read_tokens=usage.get("cached_tokens", 0) / answers,
        output_tokens=output / answers,
    )
    for name in _names(model):
        try:
            found = [
                calc_price(one, name, provider_id="google", genai_request_timestamp=at, price_context=context)
                for context in (_BATCH, None)
            ]
        except LookupError:
            continue
        of_batches, full = found
        if _depends_on_the_medium(full.model_price):
            return None
        return of_batches.total_price * answers, of_batches.model_price != full.model_price
    return None


def _names(model: str) -> Iterator[str]:
    """A model may be listed without its version."""
    yield model
    yield _VERSION.sub("", model)


def _depends_on_the_medium(price: "ModelPrice") -> bool:
    """Whether a token of an image or of speech costs another price than one of text: results don't tell them apart."""
    return any(getattr(price, name, None) is not None for name in ("output_image_mtok", "output_audio_mtok"))
