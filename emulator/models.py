"""Models: what they are, and what they say at once rather than in a batch.

A model is known by its name: any that begins as Google's do, so that nobody has to keep a list. Names with `live` in
them answer no batches, names with `retired` are not there any more.
"""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import answers, wire
from emulator.caches import Caches
from emulator.errors import ApiError

LISTED = (
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3.5-flash",
    "gemini-3-pro-image-preview",
    "gemini-embedding-2",
    "gemini-live-2.5-flash",
)
_KNOWN = re.compile(r"(?:gemini|gemma|text-embedding|embedding|imagen|veo)-[a-z0-9.-]+")
_PAGE_SIZE = 50


def is_known(model: str) -> bool:
    return _KNOWN.fullmatch(model) is not None and "retired" not in model


def methods(model: str) -> list[str]:
    """What a known model can be asked for."""
    if "embedding" in model:
        return ["embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent"]
    if "live" in model:
        return ["bidiGenerateContent", "countTokens"]
    return ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]


def described(model: str) -> dict[str, Any]:
    """A model as `models.get` shows it.

    Raises:
        ApiError: 404, it is not known.
    """
    if not is_known(model):
        raise ApiError(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call"
            " ListModels to see the list of available models and their supported methods.",
        )
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model.replace("-", " ").title(),
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods(model),
    }


def offering(model: str, method: str) -> str:
    """The name of a model that can be asked for this. Raises ApiError (404) otherwise."""
    if method not in described(model)["supportedGenerationMethods"]:
        raise ApiError(404, f"models/{model} is not supported for {method}.")
    return model


def model_routes(caches: Caches) -> list[Route]:
    """The calls below the version, but for those that make batches."""

    async def get(request: Request) -> Response:
        return JSONResponse(described(request.path_params["model"]))

    async def list_(request: Request) -> Response:
        query = request.query_params
        shown, token = wire.page(
            LISTED,
            lambda model: [-LISTED.index(model)],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=_PAGE_SIZE,
        )
        document: dict[str, Any] = {"models": [described(model) for model in shown]}
        return JSONResponse({**document, "nextPageToken": token} if token else document)

    async def generate(request: Request) -> Response:
        model = offering(request.path_params["model"], "generateContent")
        body = await wire.read_object(request)
        return JSONResponse(answered(answers.generate(model, body, cached=caches.tokens(body))))

    async def stream(request: Request) -> Response:
        model = offering(request.path_params["model"], "generateContent")
        body = await wire.read_object(request)
        answer = JSONResponse(answered(answers.generate(model, body, cached=caches.tokens(body)))).body
        if request.query_params.get("alt") == "sse":
            return Response(b"data: " + bytes(answer) + b"\r\n\r\n", media_type="text/event-stream")
        return Response(b"[" + bytes(answer) + b"]", media_type="application/json")

    async def embed(request: Request) -> Response:
        model = offering(request.path_params["model"], "embedContent")
        said = answered(answers.embed(model, await wire.read_object(request)))
        return JSONResponse({"embedding": said["embedding"]})

    async def embed_all(request: Request) -> Response:
        model = offering(request.path_params["model"], "embedContent")
        wanted = (await wire.read_object(request)).get("requests") or []
        said = [answered(answers.embed(model, each)) for each in wanted]
        return JSONResponse({"embeddings": [each["embedding"] for each in said]})

    async def count(request: Request) -> Response:
        offering(request.path_params["model"], "countTokens")
        body = await wire.read_object(request)
        asked = wire.submessage(body, "generateContentRequest") or body
        cached = caches.tokens(asked)
        total = answers.count_tokens(asked) + cached
        counts = {"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}
        return JSONResponse({**counts, "cachedContentTokenCount": cached} if cached else counts)

    return [
        Route("/models", list_, methods=["GET"]),
        Route("/models/{model}:generateContent", generate, methods=["POST"]),
        Route("/models/{model}:streamGenerateContent", stream, methods=["POST"]),
        Route("/models/{model}:countTokens", count, methods=["POST"]),
        Route("/models/{model}:embedContent", embed, methods=["POST"]),
        Route("/models/{model}:batchEmbedContents", embed_all, methods=["POST"]),
        Route("/models/{model}", get, methods=["GET"]),
    ]


def answered(result: dict[str, Any]) -> dict[str, Any]:
    """The response of an answer. Raises ApiError where it is a failure."""
    if "error" in result:
        raise ApiError(result["error"]["code"], result["error"]["message"])
    response: dict[str, Any] = result["response"]
    return response
