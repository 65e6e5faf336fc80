"""Resumable uploads: started, sent in chunks, asked how far they are, gone on with, finalized."""

import secrets
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import wire
from emulator.errors import ApiError, bad_request, not_found
from emulator.faults import Faults
from emulator.files import Files, Spool, StoredFile

GRANULARITY = 262_144
"""A chunk that is not the last has a multiple of so many bytes."""

_LIMIT_BYTES = 2 * 1024**3


@dataclass(slots=True)
class _Upload:
    spool: Spool
    size: int | None
    wanted: dict[str, Any]
    mime_type: str
    stored: StoredFile | None = None


class Uploads:
    def __init__(self, files: Files, faults: Faults) -> None:
        self._files = files
        self._faults = faults
        self._uploads: dict[str, _Upload] = {}

    def start(self, wanted: dict[str, Any], size: int | None, mime_type: str) -> str:
        """Id of a new upload.

        Raises:
            ApiError: 400 for a name that can't be or over 2 GB, 409 for a name in use.
        """
        name = self._files.free_id(str(wanted.get("name") or f"files/{wire.new_id(12)}"))
        if size is not None and size > _LIMIT_BYTES:
            raise bad_request("A file must not be larger than 2 GB.")
        upload_id = secrets.token_urlsafe(24)
        self._uploads[upload_id] = _Upload(self._files.spool(), size, {**wanted, "name": name}, mime_type)
        return upload_id

    async def go_on(self, upload_id: str, request: Request) -> StoredFile | int:
        """Do what the request commands: the file once it is finished, else how many bytes have come so far.

        What came of a chunk before its connection broke is kept, and `query` counts it.

        Raises:
            ApiError: 404, or 400 for bytes that don't continue the ones before.
        """
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise not_found()
        commands = {word.strip() for word in request.headers.get("x-goog-upload-command", "").split(",")}
        if "cancel" in commands:
            del self._uploads[upload_id]
            return upload.spool.size
        if upload.stored:
            if "query" in commands:
                return upload.stored
            raise bad_request("The upload is finished.")
        if "upload" in commands:
            await self._take(upload, request, is_last="finalize" in commands)
        if "finalize" not in commands:
            return upload.spool.size
        if upload.size not in {None, upload.spool.size}:
            raise bad_request(f"{upload.size} bytes were announced and {upload.spool.size} came.")
        upload.stored = self._files.add(
            upload.spool,
            upload.wanted["name"],
            generated=False,
            display_name=wire.field(upload.wanted, "displayName"),
            mime_type=wire.field(upload.wanted, "mimeType") or upload.mime_type,
        )
        return upload.stored

    async def _take(self, upload: _Upload, request: Request, *, is_last: bool) -> None:
        before = upload.spool.size
        if request.headers.get("x-goog-upload-offset", "0") != str(before):
            raise bad_request(f"The upload continues at byte {before}.")
        cut = self._faults.take("cut", f"{request.method} {request.url.path}")
        async for chunk in request.stream():
            kept = chunk if cut is None else chunk[: max(int(cut.value) - (upload.spool.size - before), 0)]
            upload.spool.write(kept)
            if len(kept) < len(chunk):
                raise ApiError(503, "The emulator was asked for this.")
        if not is_last and (upload.spool.size - before) % GRANULARITY:
            raise bad_request(f"A chunk that is not the last has a multiple of {GRANULARITY} bytes.")

    def clear(self) -> None:
        self._uploads.clear()


def upload_routes(uploads: Uploads) -> list[Route]:
    """`POST /files` below `/upload/<version>`: the start of an upload, and all that follows."""

    async def start(request: Request) -> Response:
        headers = request.headers
        if headers.get("x-goog-upload-protocol") != "resumable":
            raise bad_request("Only resumable uploads are offered here.")
        length = headers.get("x-goog-upload-header-content-length", "")
        upload_id = uploads.start(
            wire.submessage(await wire.read_object(request), "file"),
            int(length) if length.isdecimal() else None,
            headers.get("x-goog-upload-header-content-type", "application/octet-stream"),
        )
        url = request.url.include_query_params(upload_id=upload_id, upload_protocol="resumable")
        return Response(
            headers={
                "X-Goog-Upload-URL": str(url),
                "X-Goog-Upload-Status": "active",
                "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY),
            }
        )

    async def upload(request: Request) -> Response:
        upload_id = request.query_params.get("upload_id")
        if upload_id is None:
            return await start(request)
        progress = await uploads.go_on(upload_id, request)
        if isinstance(progress, int):
            headers = {"X-Goog-Upload-Status": "active", "X-Goog-Upload-Size-Received": str(progress)}
            return Response(headers=headers)
        headers = {"X-Goog-Upload-Status": "final", "X-Goog-Upload-Size-Received": str(progress.size)}
        return JSONResponse({"file": progress.to_json(str(request.base_url))}, headers=headers)

    return [Route("/files", upload, methods=["POST"])]
