"""Workers and queues, what failed for good, and what reconcile found."""

from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from console import life, site
from console.render import document, page
from console.words import utc
from workers.contract import text
from workers.contract.history import metrics as measured
from workers.contract.history.states import WARNED, BatchState

_RECONCILE = "reconcile_"
_LAST_GOOD = "reconcile_last_success_timestamp_seconds"


def show(request: Request) -> Response:
    here = site.of(request)
    seen = life.look(here.queues)
    connection: Any = here.connection
    names = here.history.names
    good = connection.hget(names.metrics, _LAST_GOOD)
    last = here.pages.reconciled() or {}
    counters = {text(name): int(count) for name, count in connection.hgetall(here.queues.counters).items()}
    shown = {
        "trouble": seen.trouble,
        "alive": seen.alive,
        "wanted": seen.wanted,
        "workers": [_worker(worker) for worker in seen.workers],
        "queues": [msgspec.to_builtins(queue) for queue in seen.queues],
        "failed": [_failed(job) for job in life.failed_jobs(here.queues)],
        "reconcile": {
            "last": utc(last.get("at")),
            "last_good": utc(float(text(good))) if good else None,
            "report": last.get("report", {}),
            "webhooks": last.get("webhooks", []),
            "counters": {
                name.removeprefix(_RECONCILE): count
                for name, count in sorted(counters.items())
                if name.startswith(_RECONCILE)
            },
        },
    }
    return page(request, "workers.html", shown)


def metrics(request: Request) -> Response:
    """For Prometheus."""
    settings = site.of(request).settings
    body = measured.render(site.of(request).connection, settings.queue_prefix, version("batch-receiver"))
    return Response(body, headers={"content-type": measured.CONTENT_TYPE})


def badges(request: Request) -> Response:
    """The numbers in the navigation, asked for after the page."""
    here = site.of(request)
    counts = here.pages.counts()
    seen = life.look(here.queues)
    return document(
        {
            "failed": counts[BatchState.GIVEN_UP],
            "warned": counts[WARNED],
            "waiting": sum(queue.waiting for queue in seen.queues),
            "workers": seen.alive,
            "trouble": seen.trouble,
            "checks": sum(check.status == "failed" for check in here.diagnoses.last().checks),
        }
    )


def _worker(worker: life.Worker) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(worker)
    return shown | {"last_sign": utc(worker.last_sign), "since": utc(worker.since)}


def _failed(job: life.FailedJob) -> dict[str, Any]:
    return {"job": job.job, "batch": job.batch, "failed_at": utc(job.failed_at), "reason": job.reason}
