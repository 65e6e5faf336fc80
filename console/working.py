"""Workers and queues, what failed for good, and what reconcile found."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from console import life, site
from console.project import Project
from console.render import document, page
from console.words import utc
from workers.contract import text
from workers.contract.history import metrics as measured
from workers.contract.history.states import WARNED, BatchState, texts

MOST_FAILED = 50
_RECONCILE = "reconcile_"
_LAST_GOOD = "reconcile_last_success_timestamp_seconds"


def show(request: Request) -> Response:
    here = site.of(request)
    chosen = here.chosen(site.project_filter(request))
    lives = {project.name: life.look(project.queues) for project in chosen}
    seen = life.of_all(lives.values())
    failed = [job for project in chosen for job in _failed_jobs(here, project)]
    reconciled = {project.name: _reconciled(project) for project in chosen}
    shown = {
        "trouble": next(filter(None, map(_trouble, lives.values())), None),
        "alive": seen.alive,
        "wanted": seen.wanted,
        "workers": [_worker(here, lives, worker) for worker in seen.workers],
        "queues": [
            msgspec.to_builtins(queue) | _of(here, name)
            for name, each in lives.items()
            for queue in each.queues
        ],
        "failed": sorted(failed, key=lambda job: job["failed_at"] or "", reverse=True)[:MOST_FAILED],
        "reconcile": next(iter(reconciled.values()), None),
    }
    if here.has_several:
        shown["reconcile"] = None
        shown["projects"] = {
            name: {"trouble": _trouble(each), "reconcile": reconciled[name]} for name, each in lives.items()
        }
    return page(request, "workers.html", shown, reconciled=reconciled, chosen=site.project_filter(request))


def metrics(request: Request) -> Response:
    """For Prometheus."""
    here = site.of(request)
    prefixes = [each.queues.prefix for each in here.projects.values()]
    body = measured.render(here.connection, prefixes, version("batch-receiver"))
    return Response(body, headers={"content-type": measured.CONTENT_TYPE})


def badges(request: Request) -> Response:
    """The numbers in the navigation, asked for after the page."""
    here = site.of(request)
    counts = here.pages.counts()
    lives = {name: life.look(project.queues) for name, project in here.projects.items()}
    seen = life.of_all(lives.values())
    troubles = [
        f"{name}: {trouble}" if here.has_several else trouble
        for name, each in lives.items()
        if (trouble := _trouble(each))
    ]
    return document(
        {
            "failed": counts[BatchState.GIVEN_UP],
            "warned": counts[WARNED],
            "waiting": sum(queue.waiting for queue in seen.queues),
            "workers": seen.alive,
            "trouble": " ".join(troubles) or None,
            "checks": sum(check.status == "failed" for check in here.diagnoses.last().checks),
        }
    )


def _trouble(seen: life.Life) -> str | None:
    """What is wrong with the work for a project, in a sentence: who left it out said why."""
    return seen.complaint or seen.trouble


def _reconciled(project: Project) -> dict[str, Any]:
    """What the last run found, and all runs together."""
    connection: Any = project.queues.connection
    good = connection.hget(project.history.names.metrics, _LAST_GOOD)
    last = project.pages.reconciled() or {}
    counters = texts(connection.hgetall(project.queues.counters))
    return {
        "last": utc(last.get("at")),
        "last_good": utc(float(text(good))) if good else None,
        "report": last.get("report", {}),
        "webhooks": last.get("webhooks", []),
        "counters": {
            name.removeprefix(_RECONCILE): int(count)
            for name, count in sorted(counters.items())
            if name.startswith(_RECONCILE)
        },
    }


def _of(here: site.Site, project: str | None) -> dict[str, str | None]:
    """What a document says more where there are several projects."""
    return {"project": project} if here.has_several else {}


def _worker(here: site.Site, lives: Mapping[str, life.Life], worker: life.Worker) -> dict[str, Any]:
    """`project`: whose batch it works on."""
    shown: dict[str, Any] = msgspec.to_builtins(worker)
    project = next((name for name, each in lives.items() if worker in each.workers), None)
    more = _of(here, project if worker.batch else None)
    return shown | {"last_sign": utc(worker.last_sign), "since": utc(worker.since)} | more


def _failed_jobs(here: site.Site, project: Project) -> list[dict[str, Any]]:
    return [
        {"job": job.job, "batch": job.batch, "failed_at": utc(job.failed_at), "reason": job.reason}
        | _of(here, project.name)
        for job in life.failed_jobs(project.queues, MOST_FAILED)
    ]
