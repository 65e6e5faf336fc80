"""Bulk actions on all that match a filter: a dry run, a confirmation, progress; and the log of who did what."""

import re
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from console import site
from console.bulk import ACTIONS, Bulk, Busy
from console.deliveries import entry_document
from console.forms import form
from console.listing import told, wanted
from console.render import back_to, document, page, trouble, wants_json
from console.words import utc
from workers.contract.history.pages import Filter
from workers.contract.history.states import DEFAULT_PROJECT, BatchState

PER_PAGE = 50
EMPTY = "Say which batches: an action on all there are is refused. Filter the list first."
_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}", re.ASCII)
_AT_WORK = frozenset({BatchState.ANNOUNCED, BatchState.RUNNING, BatchState.IN_PARTS})


def show(request: Request) -> Response:
    here = site.of(request)
    before = request.query_params.get("before", "")
    before = before if _ID.fullmatch(before) else ""
    found = here.pages.actions(before=before or None, limit=PER_PAGE)
    shown = {
        "actions": [entry_document(entry) for entry in found],
        "bulks": [bulk_document(run) for run in here.bulks.newest()],
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
    pages = site.of(request).pages
    refs = _ours(pages.matching(wanted(said)))
    busy = {batch for state in _AT_WORK for batch in _ours(pages.matching(Filter(state=state)))}
    at_work = len(busy.intersection(refs))
    shown = {
        "action": action,
        "filter": said,
        "matching": len(refs),
        "at_work": at_work,
        "eligible": len(refs) - at_work,
        "first": refs[:10],
    }
    return page(request, "rehearsal.html", shown, name=ACTIONS[action])


async def begin(request: Request) -> Response:
    fields = await form(request)
    action, said = fields.get("action", ""), told(fields)
    if action not in ACTIONS:
        return trouble(request, 404, "There is no such action.")
    if not said:
        return trouble(request, 422, EMPTY)
    here = site.of(request)
    refs = await run_in_threadpool(here.pages.matching, wanted(said))
    if not refs:
        return trouble(request, 409, "Nothing matches any more: look at the list again.")
    try:
        run = await run_in_threadpool(here.bulks.start, action, site.who(request), said, _ours(refs))
    except Busy as error:
        return trouble(request, 409, str(error))
    if wants_json(request):
        return document(bulk_document(run), 202)
    return back_to(f"/actions/bulk/{run.id}")


def progress(request: Request) -> Response:
    run = site.of(request).bulks.get(request.path_params["id"])
    if run is None:
        return trouble(
            request,
            404,
            "There is no such bulk action here; the log of actions has what was begun before a restart.",
        )
    return page(request, "bulk.html", bulk_document(run), name=ACTIONS[run.action])


async def stop(request: Request) -> Response:
    here, name = site.of(request), request.path_params["id"]
    run = here.bulks.get(name)
    if run is None:
        return trouble(request, 404, "There is no such bulk action here.")
    here.bulks.stop(name)
    await run_in_threadpool(here.history.act, site.who(request), f"stop-{run.action}", bulk=name)
    return document(bulk_document(run)) if wants_json(request) else back_to(f"/actions/bulk/{name}")


def bulk_document(run: Bulk) -> dict[str, Any]:
    return {
        "id": run.id,
        "action": run.action,
        "who": run.who,
        "filter": run.filter,
        "state": run.state,
        "total": run.total,
        "done": run.done,
        "accepted": run.accepted,
        "duplicate": run.duplicate,
        "started_at": utc(run.started_at),
        "ended_at": utc(run.ended_at),
        "trouble": run.trouble,
    }


def _ours(refs: list[str]) -> list[str]:
    """The batches of the one project that is told of here."""
    return [batch for project, _, batch in (ref.partition("/") for ref in refs) if project == DEFAULT_PROJECT]
