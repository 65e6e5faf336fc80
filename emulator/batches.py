"""Batches: created, worked on over an adjustable time, listed, cancelled, deleted."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import wire
from emulator.caches import Caches
from emulator.errors import ApiError, bad_request, not_found, quota_exceeded
from emulator.faults import Faults
from emulator.files import Files, StoredFile
from emulator.operations import FINAL, Batch, new_batch_id, operation
from emulator.settings import Settings
from emulator.work import RPC_INVALID_ARGUMENT, answer_file, answer_inline, count_lines

_PAGE_SIZE = 100
_PENDING_SHARE = 0.3


class Batches:
    def __init__(
        self, settings: Settings, files: Files, caches: Caches, on_end: Callable[[Batch], None]
    ) -> None:
        self._settings = settings
        self._files = files
        self._caches = caches
        self._on_end = on_end
        self._batches: dict[str, Batch] = {}
        self._order = itertools.count()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Batch]:
        return iter(list(self._batches.values()))

    def create(self, model: str, body: Mapping[str, Any], *, embeddings: bool) -> Batch:
        """Take a job and start to work on it.

        Raises:
            ApiError: 400 for a job without input, 404 for an input file that does not exist, 429 for more batches
                at once than there may be.
        """
        job = wire.submessage(body, "batch")
        source = wire.submessage(job, "inputConfig")
        config = wire.submessage(job, "webhookConfig")
        file_name = wire.field(source, "fileName")
        requests = wire.submessage(source, "requests").get("requests")
        if bool(file_name) == bool(requests):
            raise bad_request("input_config must have either file_name or requests.")
        if requests and not (isinstance(requests, list) and all(isinstance(each, dict) for each in requests)):
            raise bad_request("requests must be a list of objects.")
        stored = self._files.get(str(file_name).removeprefix("files/")) if file_name else None
        limit = self._settings.batch_limit
        if limit is not None and sum(batch.state not in FINAL for batch in self) >= limit:
            raise quota_exceeded()
        batch = Batch(
            id=new_batch_id(),
            model=f"models/{model}",
            display_name=wire.field(job, "displayName"),
            embeddings=embeddings,
            input_file=stored.name if stored else None,
            priority=_priority(job.get("priority")),
            uris=list(config.get("uris") or []),
            user_metadata=wire.field(config, "userMetadata"),
        )
        if requests:
            batch.stats = _pending(len(requests))
        self.put(batch)
        self._tasks[batch.id] = asyncio.create_task(self._live(batch, stored, requests or []))
        return batch

    def put(self, batch: Batch) -> None:
        """Keep a batch, in place of an earlier one of its id."""
        self._stop(batch.id)
        batch.order = next(self._order)
        self._batches[batch.id] = batch

    def find(self, batch_id: str) -> Batch | None:
        return self._batches.get(batch_id)

    def get(self, batch_id: str) -> Batch:
        """Raises ApiError (404) when there is none."""
        batch = self.find(batch_id)
        if batch is None:
            raise not_found()
        return batch

    def cancel(self, batch_id: str) -> None:
        """Raises ApiError: 404, or 400 for a batch that has ended."""
        batch = self.get(batch_id)
        if batch.state in FINAL:
            raise bad_request(f"{batch.name} has already ended.")
        self._stop(batch_id)
        self.end(batch, "CANCELLED")

    def delete(self, batch_id: str) -> None:
        """The batch is gone at once; its output file lives on. Raises ApiError (404)."""
        self.get(batch_id)
        self._stop(batch_id)
        del self._batches[batch_id]

    def end(
        self, batch: Batch, state: str, *, error: dict[str, Any] | None = None, tell: bool = True
    ) -> None:
        """Bring a batch to a final state, also from another one, and tell the webhooks."""
        batch.state = state
        batch.error = error
        batch.updated = batch.ended = wire.now()
        if tell:
            self._on_end(batch)

    async def clear(self) -> None:
        """Forget every batch and stop working on any."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._batches.clear()

    def _stop(self, batch_id: str) -> None:
        task = self._tasks.pop(batch_id, None)
        if task:
            task.cancel()

    async def _live(self, batch: Batch, source: StoredFile | None, requests: list[Any]) -> None:
        seconds = self._settings.batch_seconds
        try:
            if source:
                batch.stats = _pending(await asyncio.to_thread(count_lines, source))
            await asyncio.sleep(seconds * _PENDING_SHARE)
            batch.state = "RUNNING"
            batch.updated = wire.now()
            batch.output, batch.stats = await self._work(
                batch, source, requests, seconds * (1 - _PENDING_SHARE)
            )
        except (ApiError, OSError) as error:
            self.end(batch, "FAILED", error={"code": RPC_INVALID_ARGUMENT, "message": str(error)})
        else:
            self.end(batch, "SUCCEEDED")

    async def _work(
        self, batch: Batch, source: StoredFile | None, requests: list[Any], seconds: float
    ) -> tuple[dict[str, Any], dict[str, str]]:
        if source is None:
            output, stats = answer_inline(batch, requests, self._caches)
            await asyncio.sleep(seconds)
            return output, stats
        spool = self._files.spool()
        stats = await asyncio.to_thread(answer_file, batch, source, spool, self._caches)
        await asyncio.sleep(seconds)
        stored = self._files.add(spool, batch.output_file_id, generated=True)
        return {"responsesFile": stored.name}, stats


def _pending(count: int) -> dict[str, str]:
    return {"requestCount": str(count), "pendingRequestCount": str(count)}


def _priority(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        raise bad_request("Invalid value at 'batch.priority' (TYPE_INT64).") from None


def batch_routes(batches: Batches, faults: Faults) -> list[Route]:
    """The batch calls below the version."""

    def shown(batch: Batch) -> Response:
        return Response(operation(batch), media_type="application/json")

    async def generate(request: Request) -> Response:
        body = await wire.read_object(request)
        return shown(batches.create(request.path_params["model"], body, embeddings=False))

    async def embed(request: Request) -> Response:
        body = await wire.read_object(request)
        return shown(batches.create(request.path_params["model"], body, embeddings=True))

    async def get(request: Request) -> Response:
        batch = batches.get(request.path_params["id"])
        subject = f"{request.method} {request.url.path}"
        late = batch.output is not None and faults.take("late_output", subject)
        state = faults.take("state", subject)
        top = faults.take("top_level", subject) is not None
        shown = operation(batch, with_output=not late, top=top, state=state.text if state else "")
        return Response(shown, media_type="application/json")

    async def list_(request: Request) -> Response:
        query = request.query_params
        subject = f"{request.method} {request.url.path}"
        late = faults.take("late_listed", subject)
        newest = wire.now() - timedelta(seconds=late.value if late else 0)
        page, token = wire.page(
            [batch for batch in batches if late is None or batch.created <= newest],
            lambda batch: [wire.timestamp(batch.created), batch.order],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=_PAGE_SIZE,
        )
        top = faults.take("top_level", subject) is not None
        # The list shows no results; where a result file is named, it is.
        shown = (
            operation(each, with_output="responsesFile" in (each.output or ()), top=top) for each in page
        )
        body = b'{"operations":[' + b",".join(shown) + b"]"
        if token:
            body += b',"nextPageToken":' + json.dumps(token).encode()
        return Response(body + b"}", media_type="application/json")

    async def cancel(request: Request) -> Response:
        batches.cancel(request.path_params["id"])
        return JSONResponse({})

    async def delete(request: Request) -> Response:
        batches.delete(request.path_params["id"])
        return JSONResponse({})

    return [
        Route("/models/{model}:batchGenerateContent", generate, methods=["POST"]),
        Route("/models/{model}:asyncBatchEmbedContent", embed, methods=["POST"]),
        Route("/batches", list_, methods=["GET"]),
        Route("/batches/{id}:cancel", cancel, methods=["POST"]),
        Route("/batches/{id}:delete", delete, methods=["POST"]),
        Route("/batches/{id}", get, methods=["GET"]),
        Route("/batches/{id}", delete, methods=["DELETE"]),
    ]
