"""What tokens of a model cost in a batch, on a day. A leaf.

The prices are those of genai-prices, which comes with the extra `[cost]`. It knows what cached tokens cost, and which
models are dearer beyond a length of prompt. Thinking is paid as output.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

CURRENCY = "USD"

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


def rates() -> str:
    """What the list of prices is called, with its version."""
    return f"genai-prices {metadata.version('genai-prices')}"


def price(model: str, usage: Mapping[str, int], at: datetime) -> tuple[Decimal, bool] | None:
    """What this usage costs, and whether the price is one of batches; None where it is not known.

    Args:
        model: its bare name.
        usage: `prompt_tokens`, `tool_use_tokens`, `cached_tokens`, `output_tokens`, `thoughts_tokens`, summed over so
            many `answers`.
        at: the moment whose prices count.
    """
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
