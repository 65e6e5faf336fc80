"""The control API under `/_emulator/`, for tests and the demo. It needs no key and is never faulty.

`POST /batches?…`
    A finished batch whose result file is the request's body, byte for byte, streamed to disk. An id that exists
    is replaced, and its file gets another ETag. Answers `{"id", "name"}`. Options, in the query:
    `id`; `state` without prefix (`SUCCEEDED`); `model`; `display_name`; `said_at`, where the operation shows the
    output (`response,metadata`; empty: nowhere; `top`: all fields at the top of what is no operation);
    `spelling` of the output's field (`responsesFile`);
    `state_prefix` (`BATCH_STATE_`); `created` and `ended` (RFC 3339); and as JSON: `stats` (counted from the
    lines), `error` (a Status), `uris` and `user_metadata` (of a dynamic webhook).
`POST /operations?id=…&state=…`
    A batch whose operation is the request's body, byte for byte. `state` is what an announcement says.
`PATCH /batches/{id}` `{"state", "error", "announce"}`
    Another state, now. `announce`: also tell the webhooks.
`DELETE /batches/{id}/output`
    As if 48 hours had passed: the batch stays, its file is gone.
`POST /batches/{id}:announce` `{"times", "kind", "uris", "type", "data", "user_metadata", "audience", "event"}`
    Events about a batch, known or not. `kind`: `v1` to every subscribed webhook, `v1a` or `jwt` to `uris` (those
    of the batch, else of all webhooks). `data` is merged into the event's; `event` replaces the whole. Answers
    `{"deliveries": [id, …]}`.
`GET /deliveries`
    All deliveries, oldest first, with their attempts and the answers to these.
`GET /requests`
    The latest 10,000 requests to the API: `{"method", "path", "range", "status"}`.
`POST /faults`, `GET /faults`, `DELETE /faults`
    See `faults`: add one, list, remove all.
`PATCH /settings`
    See `settings`: change some.
`POST /keys:rotate`
    Other keys in the JWKS.
`POST /reset`
    As after the start, but for the keys.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from emulator import wire
from emulator.deliveries import ED25519, JWT, STATIC, Delivery
from emulator.errors import bad_request
from emulator.events import batch_event
from emulator.operations import FINAL, Batch, count_results, new_batch_id
from emulator.world import World, event_of

_JSON_OPTIONS = ("stats", "error", "uris", "user_metadata")


def announce(world: World, batch_id: str, options: Mapping[str, Any]) -> list[Delivery]:
    """Tell webhooks about a batch as `POST /batches/{id}:announce` says; the deliveries that this began.

    Raises:
        ApiError: 400 for a kind that does not exist.
    """
    batch = world.batches.find(batch_id)
    event = options.get("event") or _event(batch_id, batch, options)
    kind = options.get("kind") or STATIC
    if kind not in {STATIC, ED25519, JWT}:
        raise bad_request(f"kind is {STATIC}, {ED25519} or {JWT}.")
    uris = options.get("uris") or (batch.uris if batch else None) or [each.uri for each in world.webhooks]
    begun: list[Delivery] = []
    for _ in range(int(options.get("times", 1))):
        if kind == STATIC:
            begun += world.courier.announce(event)
        else:
            begun += world.courier.announce_to(uris, event, signature=kind, audience=options.get("audience"))
    return begun


def _event(batch_id: str, batch: Batch | None, options: Mapping[str, Any]) -> dict[str, Any]:
    event = event_of(batch) if batch else batch_event(batch_id, "SUCCEEDED")
    event["data"] |= options.get("data") or {}
    overrides = {"type": options.get("type"), "user_metadata": options.get("user_metadata")}
    return event | {name: value for name, value in overrides.items() if value is not None}


def _described_batch(query: Mapping[str, str]) -> Batch:
    """A finished batch from the query of `POST /batches`, still without output.

    Raises:
        ApiError: 400 for a value that can't be read.
    """
    try:
        created = datetime.fromisoformat(query["created"]) if "created" in query else wire.now()
        ended = datetime.fromisoformat(query["ended"]) if "ended" in query else wire.now()
        documents = {name: json.loads(query[name]) for name in _JSON_OPTIONS if name in query}
    except ValueError as error:
        raise bad_request(f"An option can't be read: {error}.") from None
    texts: dict[str, Any] = {
        name: query[name] for name in ("model", "display_name", "state_prefix") if name in query
    }
    state = query.get("state", "SUCCEEDED")
    return Batch(
        id=query.get("id") or new_batch_id(),
        state=state,
        created=created,
        updated=ended,
        ended=ended if state in FINAL else None,
        said_at=tuple(query.get("said_at", "response,metadata").split(",")),
        **texts,
        **documents,
    )


def control_routes(world: World) -> Mount:
    async def put_batch(request: Request) -> Response:
        batch = _described_batch(request.query_params)
        spool = world.files.spool()
        async for chunk in request.stream():
            spool.write(chunk)
        stored = world.files.add(spool, batch.output_file_id, generated=True)
        if stored.size or batch.state == "SUCCEEDED":
            batch.output = {request.query_params.get("spelling", "responsesFile"): stored.name}
        if not batch.stats:
            with stored.path.open("rb") as lines:
                batch.stats = await asyncio.to_thread(count_results, lines)
        world.batches.put(batch)
        return JSONResponse({"id": batch.id, "name": batch.name})

    async def put_operation(request: Request) -> Response:
        query = request.query_params
        batch = Batch(query.get("id") or new_batch_id(), state=query.get("state", "SUCCEEDED"))
        batch.verbatim = await request.body()
        world.batches.put(batch)
        return JSONResponse({"id": batch.id, "name": batch.name})

    async def change_batch(request: Request) -> Response:
        batch = world.batches.get(request.path_params["id"])
        change = await wire.read_object(request)
        state = str(change.get("state", batch.state))
        if state in FINAL:
            world.batches.end(batch, state, error=change.get("error"), tell=bool(change.get("announce")))
        else:
            batch.state, batch.ended, batch.error = state, None, None
        return JSONResponse({"id": batch.id, "name": batch.name})

    async def delete_output(request: Request) -> Response:
        world.files.discard(world.batches.get(request.path_params["id"]).output_file_id)
        return JSONResponse({})

    async def announce_batch(request: Request) -> Response:
        begun = announce(world, request.path_params["id"], await wire.read_object(request))
        return JSONResponse({"deliveries": [delivery.id for delivery in begun]})

    async def deliveries(_request: Request) -> Response:
        return JSONResponse({"deliveries": [each.to_json() for each in world.courier.deliveries]})

    async def requests(_request: Request) -> Response:
        return JSONResponse({"requests": [asdict(seen) for seen in world.requests]})

    async def faults(request: Request) -> Response:
        match request.method:
            case "POST":
                world.faults.add(await wire.read_object(request))
            case "DELETE":
                world.faults.clear()
        return JSONResponse({"faults": world.faults.describe()})

    async def settings(request: Request) -> Response:
        world.settings.change(await wire.read_object(request))
        return JSONResponse({})

    async def rotate_keys(_request: Request) -> Response:
        await asyncio.to_thread(world.courier.rotate_keys)
        return JSONResponse({})

    async def reset(_request: Request) -> Response:
        await world.reset()
        return JSONResponse({})

    return Mount(
        "/_emulator",
        routes=[
            Route("/batches", put_batch, methods=["POST"]),
            Route("/operations", put_operation, methods=["POST"]),
            Route("/batches/{id}/output", delete_output, methods=["DELETE"]),
            Route("/batches/{id}:announce", announce_batch, methods=["POST"]),
            Route("/batches/{id}", change_batch, methods=["PATCH"]),
            Route("/deliveries", deliveries, methods=["GET"]),
            Route("/requests", requests, methods=["GET"]),
            Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
            Route("/settings", settings, methods=["PATCH"]),
            Route("/reset", reset, methods=["POST"]),
            Route("/keys:rotate", rotate_keys, methods=["POST"]),
        ],
    )
