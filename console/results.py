"""The results of a batch in pages, and one answer when it is asked for: prompts and answers are personal data."""

import json
import re
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from console import committed, manifest
from console.batch import asked, no_batch
from console.manifest import Found, Wanted
from console.render import page, trouble
from workers.bucket import layout
from workers.bucket.protocol import Bucket
from workers.errors import WorkerError
from workers.results.naming import output_name

STATUSES = ("succeeded", "failed", "invalid")
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
"""What a browser shows and does not run."""

MOST_SHOWN = 200_000
"""Characters of a text, and bytes of a raw line, that a page shows."""

_MOST_DOCUMENT = 8 << 20
_MOST_MEDIUM = 64 << 20
_MOST_FILTER = 2000


def show(request: Request) -> Response:
    opened = _opened(request)
    if isinstance(opened, Response):
        return opened
    bucket, batch, project = opened
    query = request.query_params
    wanted = Wanted(
        query.get("key", "")[:_MOST_FILTER],
        query.get("status", "") if query.get("status") in STATUSES else "",
        query.get("finish", "")[:100],
    )
    start = _offset(query.get("page", "0")) or 0
    exact = _exact(bucket, batch, wanted) if "page" not in query else None
    # Whoever asks for exactly this key need not wait for a look through all of them; they can go on to it.
    found = Found([exact], 0, 0) if exact else manifest.page(bucket, batch, wanted, start)
    if found is None:
        committed.look(bucket, batch)
        return trouble(request, 404, "There are no results: the batch has no manifest, or not as many.")
    shown = {
        "batch": batch,
        "project": project,
        "results": [{**entry, "at": at} for at, entry in found.entries],
        "next": found.after,
        "exact": exact is not None,
    }
    said = {"key": wanted.key, "status": wanted.status, "finish": wanted.finish}
    size = _size(bucket, layout.manifest(batch)) or 0
    return page(
        request,
        "results.html",
        shown,
        query={name: value for name, value in said.items() if value},
        start=start,
        statuses=STATUSES,
        searched=found.searched * 100 // size if size else 100,
    )


def answer(request: Request) -> Response:
    """One answer: its text, thoughts, media, JSON and raw line."""
    opened = _opened(request)
    if isinstance(opened, Response):
        return opened
    bucket, batch, project = opened
    at = _offset(request.path_params["at"])
    entry = manifest.entry_at(bucket, batch, at) if at is not None else None
    if entry is None:
        return trouble(request, 404, "There is no result at this place: open one from the list.")
    shown = {
        "batch": batch,
        "project": project,
        "at": at,
        "entry": entry,
        "document": None,
        "thoughts": None,
        "raw": None,
        "raw_bytes": None,
        "trouble": None,
    }
    try:
        shown |= _document(bucket, batch, entry)
        shown |= _raw(bucket, batch, entry)
    except WorkerError as error:
        shown["trouble"] = str(error)
    found = shown["document"]
    pretty = json.dumps(found, indent=2, ensure_ascii=False) if found else ""
    return page(request, "answer.html", shown, pretty=pretty, images=IMAGES, most=MOST_SHOWN)


def medium(request: Request) -> Response:
    """An image of an answer, and nothing that a browser would run."""
    opened = _opened(request)
    if isinstance(opened, Response):
        return opened
    bucket, batch, _ = opened
    at, number = _offset(request.path_params["at"]), _offset(request.path_params["number"])
    entry = manifest.entry_at(bucket, batch, at) if at is not None else None
    media = entry["media"] if entry else []
    if number is None or number >= len(media):
        return trouble(request, 404, "There is no such medium.")
    name, kind = media[number].get("object"), media[number].get("mime_type")
    if kind not in IMAGES or not isinstance(name, str) or not name.startswith("media/"):
        return trouble(request, 404, "That is no image that can be shown here.")
    data = _small(bucket, layout.inside(batch, name), _MOST_MEDIUM)
    if data is None:
        return trouble(request, 404, "The image is not in the bucket, or too large to be shown here.")
    return Response(data, media_type=kind, headers={"cache-control": "private, max-age=3600"})


def _opened(request: Request) -> tuple[Bucket, str, str] | Response:
    """The bucket, the batch, and the name of its project. Raises `WorkerError`."""
    named = asked(request)
    if named is None:
        return no_batch(request)
    project, batch = named
    return project.bucket, batch, project.name


def _exact(bucket: Bucket, batch: str, wanted: Wanted) -> tuple[int, dict[str, Any]] | None:
    """The entry of exactly this key, and its offset, found by its output's name instead of a look through all."""
    if not wanted.key:
        return None
    blob = _small(bucket, layout.inside(batch, f"outputs/{output_name(wanted.key, 0, 1)}.json"))
    output = _object(blob) if blob else None
    index = output.get("index") if output and output.get("key") == wanted.key else None
    found = manifest.entry_of(bucket, batch, index) if isinstance(index, int) else None
    return found if found and found[1].get("key") == wanted.key and wanted.matches(found[1]) else None


def _document(bucket: Bucket, batch: str, entry: dict[str, Any]) -> dict[str, Any]:
    name = entry.get("object")
    if not isinstance(name, str):
        return {}
    blob = _small(bucket, layout.inside(batch, name))
    if blob is None:
        return {"trouble": f"{name} is not in the bucket, or too large to be shown here."}
    found = _object(blob)
    return {"document": found, "thoughts": _thoughts(found) if found else None}


def _raw(bucket: Bucket, batch: str, entry: dict[str, Any]) -> dict[str, Any]:
    match entry.get("raw"):
        case {"part": str(part), "offset": int(offset), "length": int(length)} if offset >= 0 and length >= 0:
            data, name = b"", layout.inside(batch, part)
            if offset >= (_size(bucket, name) or 0):
                return {"trouble": f"{part} is not in the bucket, or shorter than it was."}
            for piece in bucket.read(name, 64 << 10, offset):
                data += bytes(piece)
                if len(data) >= min(length, MOST_SHOWN):
                    break
            shown = data[: min(length, MOST_SHOWN)]
            return {"raw": shown.decode("utf-8", "replace"), "raw_bytes": length}
        case _:
            return {}


def _size(bucket: Bucket, name: str) -> int | None:
    try:
        return bucket.size(name)
    except ValueError:  # A name that the manifest should not hold.
        return None


def _small(bucket: Bucket, name: str, most: int = _MOST_DOCUMENT) -> bytes | None:
    size = _size(bucket, name)
    return bucket.get(name) if size is not None and size <= most else None


def _object(blob: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _thoughts(found: dict[str, Any]) -> str | None:
    """The text of the parts that are thinking."""
    try:
        parts = found["response"]["candidates"][0]["content"]["parts"]
        texts = [part["text"] for part in parts if part.get("thought") and isinstance(part.get("text"), str)]
    except (LookupError, TypeError, AttributeError):
        return None
    return "\n".join(texts) or None


def _offset(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) else None
