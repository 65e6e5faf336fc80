"""The pages of one batch: what happened to it, what became of it, and what may be done."""

from typing import Any

from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from console import committed, site
from console.forms import form
from console.listing import document as record_document
from console.render import back_to, batch_path, document, page, trouble, wants_json
from console.verifications import Busy, Verification
from console.words import utc
from workers.bucket import layout
from workers.contract import Announcement, Outcome, Trigger, parse_batch_id
from workers.contract.history.states import DEFAULT_PROJECT, UNFINISHED
from workers.errors import WorkerError

NO_BATCH = "There is no such batch here: it was neither announced nor committed."


def asked(request: Request) -> tuple[str, str] | None:
    """Project and batch that a path names; None where it names none."""
    batch: str = request.path_params.get("batch", "")
    project: str = request.path_params.get("project", DEFAULT_PROJECT)
    bare = parse_batch_id(batch)
    return (project, bare) if bare == batch and project.isascii() and project.isalnum() else None


def show(request: Request) -> Response:
    named = asked(request)
    if named is None:
        return trouble(request, 404, "That is no batch: an id has letters, digits, - and _.")
    project, batch = named
    here = site.of(request)
    record = here.pages.record(batch, project)
    steps = here.pages.steps(batch, project) if record else []
    summary, problem, url = _committed(here, project, batch)
    if record is None and summary is None and problem is None:
        return trouble(request, 404, NO_BATCH)
    verification = here.verifications.of(batch)
    shown = {
        "batch": batch,
        "project": project,
        "state": state(record.state if record else None, summary),
        "record": record_document(record) if record else None,
        "parts": {"split": record.parts, "done": record.parts_done or 0} if record and record.parts else None,
        "summary": summary,
        "trouble": problem,
        "steps": [{"at": utc(step.at), "event": step.event, **step.fields} for step in steps],
        "verification": _verified(verification),
        "url": url,
    }
    is_live = bool(record and record.state in UNFINISHED) or bool(
        verification and verification.state == "running"
    )
    return page(request, "batch.html", shown, is_live=is_live, objects=_objects(batch, summary, url))


def state(known: str | None, summary: dict[str, Any] | None) -> str:
    """In the words of `status --json`: committed, running, waiting, failed or unknown."""
    if known in {"running", "in-parts"}:
        return "running"
    if known in {"pending", "announced", "waiting"}:
        return "waiting"
    if summary is not None:
        return "committed"
    return "failed" if known == "given-up" else "committed" if known else "unknown"


async def replay(request: Request) -> Response:
    named = asked(request)
    if named is None or named[0] != DEFAULT_PROJECT:
        return trouble(request, 404, NO_BATCH)
    refetch = (await form(request)).get("refetch", "") in {"1", "on", "true"}
    outcome = await run_in_threadpool(_announce, request, named[1], refetch=refetch)
    status = "accepted" if outcome is Outcome.ACCEPTED else "duplicate"
    if wants_json(request):
        return document({"batch": named[1], "status": status})
    return back_to(f"{batch_path(named[1])}?done={status}")


async def verify(request: Request) -> Response:
    named = asked(request)
    if named is None or named[0] != DEFAULT_PROJECT:
        return trouble(request, 404, NO_BATCH)
    here = site.of(request)
    try:
        here.verifications.start(named[1])
    except Busy as error:
        return trouble(request, 409, str(error))
    await run_in_threadpool(here.history.act, site.who(request), "verify", batch=named[1])
    if wants_json(request):
        return document({"batch": named[1], "status": "running"}, 202)
    return back_to(f"{batch_path(named[1])}?done=verifying#verification")


def _announce(request: Request, batch: str, *, refetch: bool) -> Outcome:
    here = site.of(request)
    outcome = here.queues.announce([Announcement(batch, Trigger.REPLAY, refetch=refetch)])[0]
    try:
        here.history.act(
            site.who(request), "refetch" if refetch else "replay", batch=batch, outcome=outcome.value
        )
    except RedisError:
        return outcome  # It is enqueued all the same, and its own step says by whom it was announced.
    return outcome


def _committed(
    here: site.Site, project: str, batch: str
) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """`batch.json`, a sentence where it can't be read, and where the batch's folder is."""
    try:
        bucket = here.bucket(project)
    except WorkerError as error:
        return None, str(error), None
    if bucket is None:
        return None, f"Where the results of the project {project} are is not told here.", None
    summary, problem = committed.read(bucket, batch)
    return summary, problem, f"{bucket.url.rstrip('/')}/{batch}/"


def _objects(batch: str, summary: dict[str, Any] | None, url: str | None) -> list[str]:
    """The objects that somebody may want to fetch, in full."""
    if summary is None or url is None:
        return []
    base = url.removesuffix(f"{batch}/")
    return [
        f"{base}{layout.summary(batch)}",
        f"{base}{layout.manifest(batch)}",
        f"{url}outputs/",
        f"{url}raw/",
    ]


def _verified(run: Verification | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "state": run.state,
        "started_at": utc(run.started_at),
        "stage": run.stage,
        "done": run.done,
        "total": run.total,
        "report": run.report,
        "trouble": run.trouble,
    }
