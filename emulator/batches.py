"""Batches: created, worked on over an adjustable time, listed, cancelled, deleted; shown as operations."""

import asyncio
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import answers, wire
from emulator.errors import ApiError, bad_request, not_found
from emulator.faults import Faults
from emulator.files import Files, Spool, StoredFile
from emulator.settings import Settings

FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")

_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_ID_LENGTH = 36
_PAGE_SIZE = 100
_PENDING_SHARE = 0.3
_RPC_INVALID_ARGUMENT = 3
_EVERYWHERE = ("response", "metadata")


@dataclass(slots=True)
class Batch:
    """A job and what became of it.

    `state` is without prefix. `said_at`: where the operation shows the output. `verbatim`: the whole operation,
    instead of one made from the other fields.
    """

    id: str
    order: int = 0
    model: str = "models/gemini-2.5-flash"
    display_name: str | None = None
    embeddings: bool = False
    state: str = "PENDING"
    created: datetime = field(default_factory=wire.now)
    updated: datetime = field(default_factory=wire.now)
    ended: datetime | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    uris: list[str] = field(default_factory=list)
    user_metadata: dict[str, Any] | None = None
    said_at: tuple[str, ...] = _EVERYWHERE
    state_prefix: str = "BATCH_STATE_"
    verbatim: bytes | None = None

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def output_file_id(self) -> str:
        """Over the 40 characters that the Files API takes (python-genai #1759)."""
        return f"batch-{self.id}"


def operation(batch: Batch, *, with_output: bool = True) -> bytes:
    """The long-running operation that a batch is shown as, in JSON."""
    if batch.verbatim is not None:
        return batch.verbatim
    kind = "EmbedContentBatch" if batch.embeddings else "GenerateContentBatch"
    metadata: dict[str, Any] = {
        "@type": _TYPE + kind,
        "model": batch.model,
        "name": batch.name,
        "createTime": wire.timestamp(batch.created),
        "updateTime": wire.timestamp(batch.updated),
        "batchStats": batch.stats,
        "state": batch.state_prefix + batch.state,
    }
    if batch.display_name is not None:
        metadata["displayName"] = batch.display_name
    if batch.ended:
        metadata["endTime"] = wire.timestamp(batch.ended)
    document: dict[str, Any] = {"name": batch.name, "metadata": metadata}
    output = batch.output if with_output else None
    if output and "metadata" in batch.said_at:
        metadata["output"] = output
    if batch.state in FINAL:
        document["done"] = True
    if batch.error:
        document["error"] = batch.error
    elif output and "response" in batch.said_at:
        document["response"] = {"@type": f"{_TYPE}{kind}Output", **output}
    return json.dumps(document).encode()


def counted(total: int, succeeded: int) -> dict[str, str]:
    """A finished batch's `batchStats`: int64 come as strings, and what is zero is left out."""
    counts = {
        "requestCount": total,
        "successfulRequestCount": succeeded,
        "failedRequestCount": total - succeeded,
    }
    return {name: str(count) for name, count in counts.items() if count}


class Batches:
    def __init__(
        self, settings: Settings, files: Files, faults: Faults, on_end: Callable[[Batch], None]
    ) -> None:
        self._settings = settings
        self._files = files
        self._faults = faults
        self._on_end = on_end
        self._batches: dict[str, Batch] = {}
        self._order = itertools.count()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Batch]:
        return iter(list(self._batches.values()))

    def create(self, model: str, body: Mapping[str, Any], *, embeddings: bool) -> Batch:
        """Take a job and start to work on it.

        Raises:
            ApiError: 400 for a job without input, 404 for an input file that does not exist.
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
        batch = Batch(
            id=wire.new_id(_ID_LENGTH),
            model=f"models/{model}",
            display_name=wire.field(job, "displayName"),
            embeddings=embeddings,
            uris=list(config.get("uris") or []),
            user_metadata=wire.field(config, "userMetadata"),
        )
        if requests:
            batch.stats = {"requestCount": str(len(requests)), "pendingRequestCount": str(len(requests))}
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
        await asyncio.sleep(seconds * _PENDING_SHARE)
        batch.state = "RUNNING"
        batch.updated = wire.now()
        try:
            batch.output, batch.stats = await self._work(
                batch, source, requests, seconds * (1 - _PENDING_SHARE)
            )
        except ApiError as error:
            self.end(batch, "FAILED", error={"code": _RPC_INVALID_ARGUMENT, "message": error.message})
        else:
            self.end(batch, "SUCCEEDED")

    async def _work(
        self, batch: Batch, source: StoredFile | None, requests: list[Any], seconds: float
    ) -> tuple[dict[str, Any], dict[str, str]]:
        if source is None:
            output, stats = _answer_inline(batch, requests)
            await asyncio.sleep(seconds)
            return output, stats
        spool = self._files.spool()
        stats = await asyncio.to_thread(_answer_file, batch, source, spool)
        await asyncio.sleep(seconds)
        stored = self._files.add(spool, batch.output_file_id, generated=True)
        return {"responsesFile": stored.name}, stats


def _answer(batch: Batch, request: Any) -> dict[str, Any]:
    if not isinstance(request, dict):
        raise bad_request("A request must be an object.")
    try:
        return (answers.embed if batch.embeddings else answers.generate)(batch.model, request)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise bad_request(f"A request can't be understood: {error}.") from error


def _answer_inline(batch: Batch, requests: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The output, in the order of the requests, and the counts."""
    results = []
    for each in requests:
        result = _answer(batch, each.get("request"))
        if "metadata" in each:
            result["metadata"] = each["metadata"]
        if "error" in result:
            result["error"] = {"code": _RPC_INVALID_ARGUMENT, "message": result["error"]["message"]}
        results.append(result)
    name = "inlinedEmbedContentResponses" if batch.embeddings else "inlinedResponses"
    succeeded = sum("response" in result for result in results)
    return {name: {"inlinedResponses": results}}, counted(len(results), succeeded)


def _answer_file(batch: Batch, source: StoredFile, spool: Spool) -> dict[str, str]:
    """Write a result for each line of the input, in an order of their own; the counts.

    Raises:
        ApiError: a line is no JSON object.
    """
    total = succeeded = 0
    with source.path.open("rb") as lines:
        for offset in _shuffled(lines):
            lines.seek(offset)
            result = _answer_line(batch, lines.readline())
            spool.write(json.dumps(result, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
            total += 1
            succeeded += "response" in result
    return counted(total, succeeded)


def _shuffled(lines: Iterable[bytes]) -> list[int]:
    """Where the lines that are not blank start, ordered by their content and so always alike."""
    starts = []
    offset = 0
    for line in lines:
        if line.strip():
            starts.append((hashlib.sha256(line).digest()[:8], offset))
        offset += len(line)
    return [offset for _, offset in sorted(starts)]


def _answer_line(batch: Batch, line: bytes) -> dict[str, Any]:
    """A result with the line's other fields echoed (go-genai #513), before or after it: the line's length decides.

    A line without `request` is a bare request, as the Batch page's curl example sends it.
    """
    try:
        given = json.loads(line)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise bad_request("The input file has a line that is no JSON object.")
    result = _answer(batch, given.pop("request")) if "request" in given else _answer(batch, given)
    echo = {} if "contents" in given or "content" in given else given
    return {**echo, **result} if len(line) % 2 else {**result, **echo}


class _ResultLine(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw()


def count_results(lines: Iterable[bytes]) -> dict[str, str]:
    """`batchStats` of a result file: a line that is not blank and has no `response` is a failed request."""
    decoder = msgspec.json.Decoder(_ResultLine)
    total = succeeded = 0
    for line in lines:
        if not line.strip():
            continue
        total += 1
        try:
            succeeded += bool(bytes(decoder.decode(line).response))
        except (msgspec.MsgspecError, RecursionError):
            continue
    return counted(total, succeeded)


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
        late = batch.output is not None and faults.take("late_output", f"{request.method} {request.url.path}")
        return Response(operation(batch, with_output=not late), media_type="application/json")

    async def list_(request: Request) -> Response:
        query = request.query_params
        page, token = wire.page(
            batches,
            lambda batch: [wire.timestamp(batch.created), batch.order],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=_PAGE_SIZE,
        )
        body = b'{"operations":[' + b",".join(map(operation, page)) + b"]"
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
