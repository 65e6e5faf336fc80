"""The page of batches: what is in the URL is the view, so that it can be bookmarked."""

import re
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from console import site
from console.render import page
from console.words import utc
from workers.contract.history.pages import Filter, Record
from workers.contract.history.states import UNFINISHED, WARNED, BatchState

PER_PAGE = 50
_MOST_PAGES = 100_000
_MOST_TEXT = 200
_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_NAMES = ("state", "project", "q", "since", "until", "warnings")


def told(query: Any) -> dict[str, str]:
    """What the URL says of the filter, less what means nothing."""
    found = {name: str(query.get(name, "")).strip()[:_MOST_TEXT] for name in _NAMES}
    if found["state"] not in set(BatchState):
        found["state"] = ""
    if not re.fullmatch(r"[a-z0-9]{0,32}", found["project"]):
        found["project"] = ""
    for name in ("since", "until"):
        if moment(found[name]) is None:
            found[name] = ""
    found["warnings"] = "1" if found["warnings"] in {"1", "on", "true"} else ""
    return {name: value for name, value in found.items() if value}


def wanted(said: dict[str, str]) -> Filter:
    """The filter that `told` stands for."""
    return Filter(
        state=said.get("state"),
        project=said.get("project"),
        text=said.get("q", "").removeprefix("batches/") or None,
        since=moment(said.get("since", "")),
        until=moment(said.get("until", "")),
        warnings="warnings" in said,
    )


def moment(text: str) -> float | None:
    """Seconds since 1970 of `24h`, `7d`, a date, a time, or a number; None for anything else."""
    relative = _AGO.fullmatch(text)
    now = datetime.now(UTC).timestamp()
    if relative:
        return now - int(relative[1]) * _SECONDS[relative[2]]
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,6})?", text, re.ASCII):
        return float(text)
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def show(request: Request) -> Response:
    here, said = site.of(request), told(request.query_params)
    number = page_number(request.query_params.get("page", "1"))
    found = here.pages.page(wanted(said), offset=(number - 1) * PER_PAGE, limit=PER_PAGE)
    counts = here.pages.counts(said.get("project"))
    pages = max(1, -(-found.total // PER_PAGE))
    shown = {
        "batches": [document(record) for record in found.records],
        "total": found.total,
        "more": found.more,
        "page": number,
        "pages": pages,
        "counts": counts,
    }
    every = sum(count for state, count in counts.items() if state != WARNED)
    return page(
        request,
        "batches.html",
        shown,
        query=said,
        every=every,
        states=[str(state) for state in BatchState],
        is_live=any(record.state in UNFINISHED for record in found.records),
    )


def page_number(text: str) -> int:
    return min(_MOST_PAGES, max(1, int(text))) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 1


def document(record: Record) -> dict[str, Any]:
    """A record in the words of `status --json`: times in RFC 3339, what is not known null."""
    times = ("announced_at", "changed_at", "created_at", "ended_at", "committed_at", "next_try", "expires_at")
    shown: dict[str, Any] = {name: getattr(record, name) for name in Record.__slots__}
    return shown | {name: utc(shown[name]) for name in times} | {"progress": progress(record)}


def progress(record: Record) -> float | None:
    """From 0 to 1, as far as it can be told; None for what is not under way."""
    if record.state not in UNFINISHED or record.state == BatchState.GIVEN_UP:
        return None
    if record.parts:
        return min(1.0, (record.parts_done or 0) / record.parts)
    if record.expected and record.keys:
        return min(1.0, record.keys / record.expected)
    if record.expected and record.pending is not None:
        return max(0.0, 1 - record.pending / record.expected)
    return None
