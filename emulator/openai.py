"""The OpenAI-compatible layer below `/<version>/openai`: models, answers at once, and batches.

Files are the Files API's here too: `input_file_id` and `output_file_id` are names like `files/abc`.
"""

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from emulator import chat, models, wire
from emulator.batches import Batches
from emulator.errors import bad_request
from emulator.files import Files, StoredFile
from emulator.operations import Batch

_STATUSES = {
    "PENDING": "validating",
    "RUNNING": "in_progress",
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
_PAGE_SIZE = 20


def openai_routes(batches: Batches, files: Files) -> Mount:
    async def list_models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(name) for name in models.LISTED]})

    async def get_model(request: Request) -> Response:
        name = request.path_params["model"].removeprefix("models/")
        models.described(name)
        return JSONResponse(_model(name))

    async def complete(request: Request) -> Response:
        body = await wire.read_object(request)
        models.offering(_model_of(body), "generateContent")
        return JSONResponse(chat.completion(body))

    async def embed(request: Request) -> Response:
        body = await wire.read_object(request)
        models.offering(_model_of(body), "embedContent")
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return JSONResponse({**chat.embeddings(body), "usage": usage})

    async def create(request: Request) -> Response:
        body = await wire.read_object(request)
        if not str(body.get("endpoint", "")).startswith("/v1/"):
            raise bad_request("endpoint must be /v1/chat/completions or /v1/embeddings.")
        source = str(body.get("input_file_id") or "")
        job = {"inputConfig": {"fileName": source}, "displayName": (body.get("metadata") or {}).get("name")}
        model = await asyncio.to_thread(_first_model, files.get(source.removeprefix("files/")))
        batch = batches.create(model, {"batch": job}, embeddings=False)
        return JSONResponse(_shown(batch))

    async def get(request: Request) -> Response:
        return JSONResponse(_shown(batches.get(_id(request))))

    async def cancel(request: Request) -> Response:
        batches.cancel(_id(request))
        return JSONResponse(_shown(batches.get(_id(request))))

    async def list_(request: Request) -> Response:
        query = request.query_params
        after = query.get("after")
        shown = sorted(batches, key=lambda batch: batch.order, reverse=True)
        names = [batch.name for batch in shown]
        if after:
            if after not in names:
                raise bad_request("after names no batch.")
            shown = shown[names.index(after) + 1 :]
        limit = query.get("limit", "")
        size = int(limit) if limit.isdecimal() else _PAGE_SIZE
        page = [_shown(batch) for batch in shown[:size]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return JSONResponse({"object": "list", "data": page, **ends, "has_more": len(shown) > size})

    return Mount(
        "/openai",
        routes=[
            Route("/models", list_models, methods=["GET"]),
            Route("/models/{model:path}", get_model, methods=["GET"]),
            Route("/chat/completions", complete, methods=["POST"]),
            Route("/embeddings", embed, methods=["POST"]),
            Route("/batches", list_, methods=["GET"]),
            Route("/batches", create, methods=["POST"]),
            # The id is `batches/abc`, and clients write its slash as they like.
            Route("/batches/{id:path}/cancel", cancel, methods=["POST"]),
            Route("/batches/{id:path}", get, methods=["GET"]),
        ],
    )


def _first_model(source: StoredFile) -> str:
    """That the first row names; a batch's own model here."""
    with source.path.open("rb") as lines:
        first = lines.readline()
    try:
        return _model_of(json.loads(first)["body"])
    except (ValueError, TypeError, LookupError, AttributeError):
        raise bad_request("The input file has a line that is no request with a body.") from None


def _id(request: Request) -> str:
    return str(request.path_params["id"]).removeprefix("batches/")


def _model(name: str) -> dict[str, Any]:
    return {"id": f"models/{name}", "object": "model", "owned_by": "google", "created": 1_767_225_600}


def _model_of(body: dict[str, Any]) -> str:
    return str(body.get("model") or "").removeprefix("models/")


def _shown(batch: Batch) -> dict[str, Any]:
    stats = batch.stats
    document: dict[str, Any] = {
        "id": batch.name,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": _STATUSES.get(batch.state, batch.state.lower()),
        "created_at": int(batch.created.timestamp()),
        "output_file_id": (batch.output or {}).get("responsesFile"),
        "request_counts": {
            "total": int(stats.get("requestCount", 0)),
            "completed": int(stats.get("successfulRequestCount", 0)),
            "failed": int(stats.get("failedRequestCount", 0)),
        },
    }
    if batch.ended:
        document[f"{_STATUSES.get(batch.state, 'completed')}_at"] = int(batch.ended.timestamp())
    if batch.error:
        document["errors"] = {"object": "list", "data": [{"message": batch.error.get("message")}]}
    return document
