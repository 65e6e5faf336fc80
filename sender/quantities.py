"""Amounts as people write them on a command line: 500MB, 24h. For click's `callback`."""

import re

import click

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Raises `click.BadParameter`."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smhd]?)", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no time like 90s, 15m or 24h.")
    return float(found[1]) * _SECONDS[found[2]]


def size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Bytes, at least one. Raises `click.BadParameter`."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,12})((?:[kmg]i?)?)b?", value.lower())
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is no size like 500MB or 1GiB.")
    return int(found[1]) * _BYTES[found[2]]
