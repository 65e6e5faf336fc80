"""The Files API: what is kept, its metadata, and downloads that are streamed from disk."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import wire
from emulator.download import Download, byte_range, wrong_answer
from emulator.errors import ApiError, bad_request, not_found
from emulator.faults import Faults

_LIFETIME = timedelta(hours=48)
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file and its bytes at `path`. Only generated files can be downloaded."""

    id: str
    path: Path
    size: int
    sha256: bytes
    generated: bool
    display_name: str | None = None
    mime_type: str = "application/jsonl"
    created: datetime = field(default_factory=wire.now)

    @property
    def name(self) -> str:
        return f"files/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.sha256.hex()[:32]}"'

    def to_json(self, base_url: str) -> dict[str, Any]:
        uri = f"{base_url}v1beta/{self.name}"
        document = {
            "name": self.name,
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size),
            "createTime": wire.timestamp(self.created),
            "updateTime": wire.timestamp(self.created),
            "expirationTime": wire.timestamp(self.created + _LIFETIME),
            "sha256Hash": base64.b64encode(self.sha256.hex().encode()).decode(),
            "uri": uri,
            "state": "ACTIVE",
            "source": "GENERATED" if self.generated else "UPLOADED",
        }
        if self.display_name:
            document["displayName"] = self.display_name
        if self.generated:
            document["downloadUri"] = f"{uri}:download?alt=media"
        return document


class Spool:
    """Bytes on their way to disk, counted and hashed as they pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    def close(self) -> bytes:
        """Raw SHA-256 of all that was written."""
        self._file.close()
        return self._sha256.digest()


class Files:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, StoredFile] = {}

    def __iter__(self) -> Iterator[StoredFile]:
        return iter(list(self._files.values()))

    def spool(self) -> Spool:
        return Spool(self._folder / secrets.token_hex(16))

    def add(self, spool: Spool, file_id: str, *, generated: bool, **details: Any) -> StoredFile:
        """Close the spool and keep it as `files/<file_id>`, in place of an earlier one of that name."""
        sha256 = spool.close()
        self.discard(file_id)
        stored = StoredFile(file_id, spool.path, spool.size, sha256, generated, **details)
        self._files[file_id] = stored
        return stored

    def get(self, file_id: str) -> StoredFile:
        """Raises ApiError (404) when there is none."""
        try:
            return self._files[file_id]
        except KeyError:
            raise not_found() from None

    def described(self, file_id: str) -> StoredFile:
        """A file by an id that the metadata calls accept.

        Raises:
            ApiError: 404, or 400 for an id over 40 characters, which every output file's is
                (python-genai #1759, js-genai #1227).
        """
        if not _ID.fullmatch(file_id):
            raise bad_request(
                f"The file id {file_id} must have at most 40 characters, lowercase letters, digits or dashes,"
                " and must not begin or end with a dash."
            )
        return self.get(file_id)

    def discard(self, file_id: str) -> None:
        stored = self._files.pop(file_id, None)
        if stored:
            stored.path.unlink(missing_ok=True)

    def clear(self) -> None:
        for file_id in list(self._files):
            self.discard(file_id)

    def free_id(self, name: str) -> str:
        """The id in a name like `files/abc` that is wanted for a new file.

        Raises:
            ApiError: 400 for a name that can't be, 409 for one in use.
        """
        file_id = name.removeprefix("files/")
        if not _ID.fullmatch(file_id):
            raise bad_request(f"files/{file_id} is not a valid file name.")
        if file_id in self._files:
            raise ApiError(409, f"The file files/{file_id} already exists.")
        return file_id


def download_routes(files: Files, faults: Faults) -> list[Route]:
    """`GET /files/<id>:download`, for below `/<version>` and below `/download/<version>`."""

    async def download(request: Request) -> Response | Download:
        stored = files.get(request.path_params["id"])
        if not stored.generated:
            raise bad_request(f"File {stored.name} was uploaded: only generated files can be downloaded.")
        subject = f"{request.method} {request.url.path}"
        asked = request.headers.get("range")
        if request.headers.get("if-range") not in {None, stored.etag}:
            asked = None
        if asked and faults.take("ignore_range", subject):
            asked = None
        wrong = wrong_answer(stored.path, faults, subject)
        if wrong is not None:
            return wrong
        cut = faults.take("cut", subject)
        short = faults.take("short", subject)
        throttle = faults.take("throttle", subject)
        return Download(
            stored.path,
            stored.size,
            byte_range(asked, stored.size),
            etag=stored.etag,
            media_type=stored.mime_type,
            cut=int(cut.value) if cut else None,
            short=int(short.value) if short else None,
            bytes_per_second=throttle.value if throttle else None,
        )

    return [Route("/files/{id}:download", download, methods=["GET"])]


def file_routes(files: Files) -> list[Route]:
    """The metadata calls below the version."""

    async def list_(request: Request) -> Response:
        query = request.query_params
        shown, token = wire.page(
            files,
            lambda stored: [wire.timestamp(stored.created), stored.id],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=10,
        )
        document: dict[str, Any] = {"files": [stored.to_json(str(request.base_url)) for stored in shown]}
        return JSONResponse({**document, "nextPageToken": token} if token else document)

    async def get(request: Request) -> Response:
        return JSONResponse(files.described(request.path_params["id"]).to_json(str(request.base_url)))

    async def delete(request: Request) -> Response:
        stored = files.described(request.path_params["id"])
        await asyncio.to_thread(files.discard, stored.id)
        return JSONResponse({})

    return [
        Route("/files", list_, methods=["GET"]),
        Route("/files/{id}", get, methods=["GET"]),
        Route("/files/{id}", delete, methods=["DELETE"]),
    ]
