"""The pages of one batch: what happened to it, what became of it, and what may be done."""

from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from console import committed, site
from console.forms import form
from console.listing import document as record_document
from console.merged import Ref
from console.project import Project
from console.render import back_to, document, page, trouble, wants_json
from console.verifications import Busy, Verification
from console.words import utc
from workers.bucket import layout
from workers.contract import Announcement, Outcome, Trigger, parse_batch_id
from workers.contract.history.states import UNFINISHED
from workers.errors import WorkerError

NO_BATCH = "There is no such batch here: it was neither announced nor committed."


def asked(request: Request) -> tuple[Project, str] | None:
    """Project and batch that a path names; None where it names none."""
    here = site.of(request)
    batch: str = request.path_params.get("batch", "")
    name: str | None = request.path_params.get("project")
    chosen = here.chosen(name)
    return (chosen[0], batch) if len(chosen) == 1 and parse_batch_id(batch) == batch else None


def no_batch(request: Request) -> Response:
    """For a path that names none."""
    here = site.of(request)
    batch: str = request.path_params.get("batch", "")
    if here.has_several and "project" not in request.path_params and parse_batch_id(batch) == batch:
        paths = " or ".join(here.batch_path(batch, name) for name in here.projects)
        return trouble(request, 404, f"There are several projects: ask for {paths}.")
    return trouble(request, 404, "That is no batch of a project here: an id has letters, digits, - and _.")


def show(request: Request) -> Response:
    named = asked(request)
    if named is None:
        return no_batch(request)
    project, batch = named
    here = site.of(request)
    record = project.pages.record(batch)
    steps = project.pages.steps(batch) if record else []
    summary, problem, url = _committed(project, batch)
    if record is None and summary is None and problem is None:
        committed.look(project.bucket, batch)
        return trouble(request, 404, NO_BATCH)
    verification = here.verifications.of(Ref(project.name, batch))
    shown = {
        "batch": batch,
        "project": project.name,
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
    if named is None:
        return no_batch(request)
    project, batch = named
    refetch = (await form(request)).get("refetch", "") in {"1", "on", "true"}
    outcome = await run_in_threadpool(_announce, request, project, batch, refetch=refetch)
    status = "accepted" if outcome is Outcome.ACCEPTED else "duplicate"
    if wants_json(request):
        return document({"batch": batch, "status": status})
    return back_to(f"{site.of(request).batch_path(batch, project.name)}?done={status}")


async def verify(request: Request) -> Response:
    named = asked(request)
    if named is None:
        return no_batch(request)
    project, batch = named
    here = site.of(request)
    try:
        here.verifications.start(Ref(project.name, batch), project.settings.environment)
    except Busy as error:
        return trouble(request, 409, str(error))
    await run_in_threadpool(project.history.act, site.who(request), "verify", batch=batch)
    if wants_json(request):
        return document({"batch": batch, "status": "running"}, 202)
    return back_to(f"{here.batch_path(batch, project.name)}?done=verifying#verification")


def _announce(request: Request, project: Project, batch: str, *, refetch: bool) -> Outcome:
    outcome = project.queues.announce([Announcement(batch, Trigger.REPLAY, refetch=refetch)])[0]
    action = "refetch" if refetch else "replay"
    # It is enqueued all the same, and its own step says by whom it was announced.
    with suppress(RedisError):
        project.history.act(site.who(request), action, batch=batch, outcome=outcome.value)
    return outcome


def _committed(project: Project, batch: str) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """`batch.json`, a sentence where it can't be read, and where the batch's folder is."""
    try:
        bucket = project.bucket
    except WorkerError as error:
        return None, str(error), None
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
