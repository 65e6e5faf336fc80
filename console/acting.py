"""Bulk actions on all that match a filter: a dry run, a confirmation, progress; and the log of who did what."""

import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from console import site
from console.actions import ACTIONS
from console.bulk import Bulk, Busy
from console.deliveries import ID, entry_document
from console.forms import form
from console.listing import told, wanted
from console.merged import Ref
from console.render import back_to, document, page, trouble, wants_json
from console.words import utc
from workers.contract.history.pages import Filter

PER_PAGE = 50
EMPTY = "Say which batches: an action on all there are is refused. Filter the list first."


def show(request: Request) -> Response:
    here = site.of(request)
    before = request.query_params.get("before", "")
    before = before if ID.fullmatch(before) else ""
    found = here.pages.actions(before=before or None, limit=PER_PAGE)
    shown = {
        "actions": [entry_document(entry) for entry in found],
        "bulks": [bulk_document(here, run) for run in here.bulks.newest()],
        "next": found[-1].id if len(found) == PER_PAGE else None,
    }
    return page(request, "actions.html", shown, before=before)


def rehearse(request: Request) -> Response:
    """The dry run: how many match, and how many of them would be touched. Nothing is done."""
    action = request.query_params.get("action", "replay")
    said = told(request.query_params)
    if action not in ACTIONS:
        return trouble(request, 404, "There is no such action.")
    if not said:
        return trouble(request, 422, EMPTY)
    # What comes later is not meant; so that what was counted is what will be done.
    said.setdefault("until", f"{time.time():.3f}")
    here = site.of(request)
    matching, eligible = _eligible(here, action, said)
    shown = {
        "action": action,
        "filter": said,
        "matching": len(matching),
        "at_work": len(matching) - len(eligible),
        "eligible": len(eligible),
        "first": [_named(here, ref) for ref in eligible[:10]],
    }
    return page(request, "rehearsal.html", shown, does=ACTIONS[action], refs=eligible[:10])


async def begin(request: Request) -> Response:
    fields = await form(request)
    action, said = fields.get("action", ""), told(fields)
    if action not in ACTIONS:
        return trouble(request, 404, "There is no such action.")
    if not said:
        return trouble(request, 422, EMPTY)
    here = site.of(request)
    _, refs = await run_in_threadpool(_eligible, here, action, said)
    if not refs:
        return trouble(request, 409, "Nothing matches that this can be done to: look at the list again.")
    try:
        run = await run_in_threadpool(here.bulks.start, action, site.who(request), said, refs)
    except Busy as error:
        return trouble(request, 409, str(error))
    if wants_json(request):
        return document(bulk_document(here, run), 202)
    return back_to(f"/actions/bulk/{run.id}")


def progress(request: Request) -> Response:
    here = site.of(request)
    run = here.bulks.get(request.path_params["id"])
    if run is None:
        return trouble(
            request,
            404,
            "There is no such bulk action here; the log of actions has what was begun before a restart.",
        )
    return page(request, "bulk.html", bulk_document(here, run), does=ACTIONS[run.action], refs=run.bad)


async def stop(request: Request) -> Response:
    here, name = site.of(request), request.path_params["id"]
    run = here.bulks.get(name)
    if run is None:
        return trouble(request, 404, "There is no such bulk action here.")
    await run_in_threadpool(here.bulks.stop, run, site.who(request))
    return document(bulk_document(here, run)) if wants_json(request) else back_to(f"/actions/bulk/{name}")


def bulk_document(here: site.Site, run: Bulk) -> dict[str, Any]:
    return {
        "id": run.id,
        "action": run.action,
        "who": run.who,
        "filter": run.filter,
        "state": run.state,
        "total": run.total,
        "done": run.done,
        **run.outcomes,
        "outcomes": run.outcomes,
        "first_bad": [_named(here, ref) for ref in run.bad],
        "started_at": utc(run.started_at),
        "ended_at": utc(run.ended_at),
        "trouble": run.trouble,
    }


def _eligible(here: site.Site, action: str, said: dict[str, str]) -> tuple[list[Ref], list[Ref]]:
    """All that match, and those of them that the action does not leave alone."""
    filter_ = wanted(said)
    matching = here.pages.matching(filter_)
    left = {
        ref
        for state in ACTIONS[action].leaves
        for ref in here.pages.matching(Filter(state=state, project=filter_.project))
    }
    return matching, [ref for ref in matching if ref not in left]


def _named(here: site.Site, ref: Ref) -> str:
    return f"{ref.project}/{ref.batch}" if here.has_several else ref.batch
