"""What Gemini delivered, newest first, and what became of it."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from console import site
from console.render import page, trouble
from console.words import utc
from workers.contract.history.pages import Entry
from workers.contract.history.states import Delivered

PER_PAGE = 100
ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}(-[a-z]{1,20})?(@[a-z0-9]{1,32})?", re.ASCII)


def show(request: Request) -> Response:
    here, query = site.of(request), request.query_params
    outcome = query.get("outcome", "")
    outcome = outcome if outcome in set(Delivered) else ""
    before = query.get("before", "")
    before = before if ID.fullmatch(before) else ""
    project = site.project_filter(request)
    try:
        found = here.pages.deliveries(outcome or None, project=project, before=before or None, limit=PER_PAGE)
    except ValueError:
        return trouble(request, 404, "There is no such page of deliveries.")
    shown = {
        "deliveries": [entry_document(entry) for entry in found],
        "counts": here.pages.delivered(project),
        "next": found[-1].id if len(found) == PER_PAGE else None,
    }
    return page(request, "deliveries.html", shown, outcome=outcome, before=before, chosen=project)


def entry_document(entry: Entry) -> dict[str, Any]:
    """A delivery or an action as a document."""
    return {"id": entry.id, "at": utc(entry.at), **entry.fields}
