"""The rows, and how they are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.machine import describe


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `ratio` says how many times better than the rival we are; `met` is None without a target."""

    what: str
    ours: str
    rival: str
    theirs: str
    ratio: float | None
    target: str
    met: bool | None
    limit: str


def compared(
    what: str,
    ours: Sequence[float],
    rival: str,
    theirs: Sequence[float],
    *,
    limit: str,
    least: float | None = None,
    amount: int | None = None,
) -> Row:
    """A row of times in seconds, those of the same round at the same place; the ratio is the median of the rounds'.

    `least`: the ratio that is aimed at. `amount`: show how many a second that is, not the seconds.
    """
    ratio = median(their / our for our, their in zip(ours, theirs, strict=True))
    return Row(
        what=what,
        ours=_shown(median(ours), amount),
        rival=rival,
        theirs=_shown(median(theirs), amount),
        ratio=ratio,
        target=f"≥ {least:g}" if least is not None else "",
        met=ratio >= least if least is not None else None,
        limit=limit,
    )


def show(rows: Iterable[Row], console: Console) -> None:
    table = Table(title=describe(), title_justify="left")
    for heading in ("what", "ours", "against", "theirs", "ratio", "target", "limited by"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {None: "", True: " ✓", False: " ✗"}[row.met]
        table.add_row(row.what, row.ours, row.rival, row.theirs, ratio, row.target + met, row.limit)
    console.print(table)


def save(rows: Iterable[Row], path: Path) -> None:
    document = {"machine": describe(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _shown(seconds: float, amount: int | None) -> str:
    if amount is not None:
        return f"{amount / seconds:,.0f}/s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
