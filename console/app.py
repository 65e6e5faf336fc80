"""The console's pages and where they are: read this first."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from console import acting, assets, batch, checking, deliveries, listing, results, working
from console.guard import Guard
from console.render import trouble
from console.settings import Settings
from console.site import Site
from workers.contract.redis_words import in_words
from workers.errors import WorkerError

logger = logging.getLogger("console")

Page = Callable[[Request], Response]


def build(settings: Settings, host: str) -> ASGIApp:
    """The application that listens on `host`. Raises `ValueError` where REDIS_URL is no address."""
    site = Site.of(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        site.close()

    app = Starlette(
        routes=_routes(has_several=site.has_several),
        exception_handlers={
            HTTPException: _not_found,
            RedisError: _without_redis,
            WorkerError: _without_bucket,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    app.state.site = site
    return Guard(app, settings, host)  # Around everything, so that an error is an answer like others.


def _routes(*, has_several: bool) -> list[Route]:
    # A batch may be called like a page of one: `/batches/NAME/results` is one or the other.
    alone = _both("/batches/{batch}", batch.show) if has_several else _of_a_batch("/batches/{batch}")
    return [
        Route("/", listing.show),
        *_both("/batches", listing.show),
        *alone,
        *_of_a_batch("/batches/{project}/{batch}"),
        *_both("/deliveries", deliveries.show),
        *_both("/workers", working.show),
        Route("/badges.json", working.badges),
        *_both("/checks", checking.show),
        Route("/checks", checking.run, methods=["POST"]),
        *_both("/actions", acting.show),
        *_both("/actions/new", acting.rehearse),
        Route("/actions/bulk", acting.begin, methods=["POST"]),
        *_both("/actions/bulk/{id}", acting.progress),
        Route("/actions/bulk/{id}/stop", acting.stop, methods=["POST"]),
        Route("/assets/{name}", assets.serve),
        Route("/metrics", working.metrics),
        Route("/healthz", _alive),
    ]


def _of_a_batch(base: str) -> list[Route]:
    return [
        *_both(f"{base}/results", results.show),
        *_both(f"{base}/results/{{at}}", results.answer),
        Route(f"{base}/results/{{at}}/media/{{number}}", results.medium),
        Route(f"{base}/replay", batch.replay, methods=["POST"]),
        Route(f"{base}/verify", batch.verify, methods=["POST"]),
        *_both(base, batch.show),
    ]


def _both(path: str, shown: Page) -> list[Route]:
    """A page, and its twin for scripts."""

    def twin(request: Request) -> Response:
        request.scope["as_json"] = True
        return shown(request)

    return [Route(f"{path}.json", twin, methods=["GET"]), Route(path, shown, methods=["GET"])]


async def _alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _not_found(request: Request, error: Any) -> Response:
    sentence = "There is no such page." if error.status_code == 404 else f"{error.detail}."
    return trouble(request, error.status_code, sentence)


def _without_redis(request: Request, error: Any) -> Response:
    return trouble(
        request, 503, f"Redis does not answer, {in_words(error)}: the console shows what is kept there."
    )


def _without_bucket(request: Request, error: Any) -> Response:
    return trouble(request, 503, str(error))


def _broken(request: Request, error: Exception) -> Response:
    logger.error("event=page_broken path=%r", request.url.path, exc_info=error)
    return trouble(request, 500, "This page broke: please report it, with the line in the log.")
