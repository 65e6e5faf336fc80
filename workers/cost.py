"""What a batch cost, an estimate: tokens of each model that answered, at the prices of batches on the batch's day."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from workers.gemini.batches import timestamp
from workers.prices import CURRENCY, is_there, price, rates
from workers.summary import Cost


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
        found = price(shown, usage, at)
        if found is None:
            unknown.add(shown)
            continue
        amount, is_of_batches = found
        total = amount if total is None else total + amount
        if not is_of_batches:
            standard.add(shown)
    return Cost(
        amount=f"{total:.6f}" if total is not None else None,
        currency=CURRENCY,
        rates=rates(),
        rates_date=at.date().isoformat(),
        unknown_models=sorted(unknown),
        standard_rate_models=sorted(standard),
    )
