"""The application: every version of the API, the JWKS, the control API, and the gate before them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.batches import batch_routes
from emulator.caches import cache_routes
from emulator.control import control_routes
from emulator.errors import ApiError, answer_api_error, error_response, refusal
from emulator.files import download_routes, file_routes
from emulator.models import model_routes
from emulator.openai import openai_routes
from emulator.uploads import upload_routes
from emulator.webhooks import webhook_routes
from emulator.world import Seen, World

_VERSIONS = ("v1", "v1beta", "v1alpha")
JWKS_PATH = "/.well-known/jwks.json"


def create_app(world: World) -> Starlette:
    """An ASGI application that is a Gemini with this world behind it, and closes it at its end."""
    downloads = download_routes(world.files, world.faults)
    api = [
        *batch_routes(world.batches, world.faults),
        *model_routes(world.caches),
        *cache_routes(world.caches),
        openai_routes(world.batches, world.files),
        *webhook_routes(world.webhooks, world.courier.ping),
        *downloads,
        *file_routes(world.files),
    ]

    async def jwks(_request: Request) -> Response:
        return JSONResponse(world.courier.keys.jwks(), headers={"Cache-Control": "public, max-age=3600"})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await world.close()

    return Starlette(
        routes=[
            control_routes(world),
            Route(JWKS_PATH, jwks),
            *(Mount(f"/upload/{version}", routes=upload_routes(world.uploads)) for version in _VERSIONS),
            *(Mount(f"/download/{version}", routes=downloads) for version in _VERSIONS),
            *(Mount(f"/{version}", routes=api) for version in _VERSIONS),
        ],
        middleware=[Middleware(Gate, world=world)],
        exception_handlers={ApiError: answer_api_error, HTTPException: answer_api_error},
        lifespan=lifespan,
    )


async def _nobody(_message: Message) -> None:
    """Takes an answer that gets lost."""


class Gate:
    """Before the endpoint, a request is noted down, struck by faults, and asked for its key."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_emulator/"):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        path = f"{scope['path']}?{query}" if query else str(scope["path"])
        headers = Headers(scope=scope)
        seen = Seen(scope["method"], path, headers.get("range"))
        self._world.requests.append(seen)

        async def note_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        subject = f"{seen.method} {path}"
        refused = await self._trouble(subject) or self._key_refusal(scope["path"], query, headers)
        answer = error_response(refused) if refused else self._redirect(subject, path)
        lost = None if answer else self._world.faults.take("lost", subject)
        if lost:
            await self._app(scope, receive, _nobody)
            answer = error_response(ApiError(int(lost.value), "The answer got lost, as asked for."))
        await (answer or self._app)(scope, receive, note_status)

    async def _trouble(self, subject: str) -> ApiError | None:
        delay = self._world.faults.take("delay", subject)
        if delay:
            await asyncio.sleep(delay.value)
        fault = self._world.faults.take("status", subject)
        if fault is None:
            return None
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else None
        if fault.text:
            return refusal(fault.text, headers)
        return ApiError(int(fault.value), "The emulator was asked for this.", headers=headers)

    def _redirect(self, subject: str, path: str) -> Response | None:
        fault = self._world.faults.take("redirect", subject) if path.startswith("/download/") else None
        return RedirectResponse(path.removeprefix("/download"), int(fault.value)) if fault else None

    def _key_refusal(self, path: str, query: str, headers: Headers) -> ApiError | None:
        """The JWKS is public, and an upload's address carries its own secret."""
        fields = parse_qs(query)
        if path == JWKS_PATH or (path.startswith("/upload/") and "upload_id" in fields):
            return None
        given = headers.get("x-goog-api-key") or fields.get("key", [""])[0]
        if not given and "/openai/" in path:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not given:
            return ApiError(
                403, "Method doesn't allow unregistered callers. Please use an API key or another identity."
            )
        if self._world.settings.api_key not in {None, given}:
            reason = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            }
            return ApiError(400, "API key not valid. Please pass a valid API key.", details=[reason])
        return None
