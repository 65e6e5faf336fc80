"""What is fit to be shown on a terminal."""

import json

_STEPS = ((60, "s"), (60, "min"), (24, "h"), (10**9, "d"))


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal obeys: much of what is shown is anybody's text."""
    return text if text.isprintable() else json.dumps(text)


def duration(length: float | None) -> str:
    """Seconds as `3 s`, `12 min`, `5 h`, `2 d`; below zero it counts as zero."""
    if length is None:
        return ""
    amount = max(0.0, float(length))
    for most, unit in _STEPS:
        if amount < most:
            shown = f"{amount:.1f}" if unit in {"h", "d"} and amount < 10 else f"{amount:.0f}"
            return f"{shown.removesuffix('.0')} {unit}"
        amount /= most
    return ""
