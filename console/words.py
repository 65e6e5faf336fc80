"""Numbers and times as people read them. Pure; what is not known is an empty text."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workers.contract.terminal import duration

_SCALE = ("B", "KiB", "MiB", "GiB", "TiB")


def utc(moment: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339, the form of `status --json`."""
    if moment is None:
        return None
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def seconds(said: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; None where it is none."""
    try:
        return datetime.fromisoformat(said).timestamp() if said else None
    except ValueError:
        return None


def minute(said: str | None) -> str:
    """A time on a page, in UTC: `25 Nov 08:20`, with the year where it is another."""
    at = seconds(said)
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC)
    year = "" if moment.year == datetime.now(UTC).year else f" {moment.year}"
    return f"{moment.day} {moment:%b}{year} {moment:%H:%M}"


def between(start: str | None, end: str | None) -> str:
    """How long it took from one time to another."""
    first, last = seconds(start), seconds(end)
    return "" if first is None or last is None else duration(last - first)


def ago(said: str | None) -> str:
    """`3 min ago`, or `in 2 h` for what is still to come."""
    at = seconds(said)
    if at is None:
        return ""
    since = datetime.now(UTC).timestamp() - at
    return f"in {duration(-since)}" if since < -1 else f"{duration(since)} ago"


def left(said: str | None) -> str:
    """How long until then, and `over` for what is past."""
    at = seconds(said)
    if at is None:
        return ""
    ahead = at - datetime.now(UTC).timestamp()
    return duration(ahead) if ahead > 0 else "over"


def size(count: int | None) -> str:
    if count is None:
        return ""
    amount = float(count)
    for unit in _SCALE:
        if amount < 1024 or unit == _SCALE[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return ""


def number(count: float | None) -> str:
    """With thin spaces between thousands, which do not break a line."""
    if count is None:
        return ""
    return f"{count:,}".replace(",", "\u202f") if isinstance(count, int) else f"{count:g}"


def short(count: int | None) -> str:
    """`950`, `12k`, `3.4M`."""
    if count is None:
        return ""
    for least, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(count) >= least:
            amount = count / least
            return f"{amount:.1f}".removesuffix(".0") + unit if amount < 10 else f"{amount:.0f}{unit}"
    return str(count)


def money(cost: Mapping[str, Any] | None) -> str:
    """An estimate: `≈ $1.24`."""
    amount = (cost or {}).get("amount")
    try:
        value = float(amount) if amount is not None else None
    except (TypeError, ValueError):
        value = None
    if value is None:
        return ""
    currency = str((cost or {}).get("currency") or "USD")
    shown = f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.4f}"
    return f"≈ ${shown}" if currency == "USD" else f"≈ {shown} {currency}"


def clipped(text: str | None, most: int = 120) -> str:
    """The beginning of a text that may be of any length."""
    if text is None:
        return ""
    return text if len(text) <= most else f"{text[:most]}…"
