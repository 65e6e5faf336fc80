"""`doctor` as a page: what looks is shown when the page is opened, what acts only when somebody asks for it."""

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from console import site
from console.render import back_to, page
from console.words import utc


def show(request: Request) -> Response:
    here, project = site.of(request), site.project_filter(request)
    diagnoses = here.diagnoses
    diagnoses.refresh()
    last = diagnoses.last()
    shown = {
        "ok": last.ok and not last.running,
        "running": last.running,
        "whole": last.whole,
        "ran_at": utc(last.ran_at),
        "checks": [
            msgspec.to_builtins(check)
            for check in last.checks
            if project is None or check.name.startswith(f"{project}: ")
        ],
    }
    return page(request, "checks.html", shown, expected=last.expected, done=len(last.checks), chosen=project)


async def run(request: Request) -> Response:
    here = site.of(request)
    here.diagnoses.start(whole=True)
    for project in here.projects.values():
        await run_in_threadpool(project.history.act, site.who(request), "checks")
    return back_to("/checks")
