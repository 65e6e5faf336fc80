"""Google's XML API as obstore uses it, in memory: the emulators that can be installed speak another one.

It shows that our side and obstore's understand each other. It does not show what Google itself does: its limit of a
write a second to the same name, its permissions, its consistency.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.relay import Relay, Request, error, relay
from tests.support.scripted import Answer

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PAGE = 500


@dataclass(slots=True)
class _Object:
    data: bytes = field(repr=False)
    kind: str
    generation: int

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": self.kind,
            "ETag": f'"{self.generation}"',
            "x-goog-generation": str(self.generation),
            "Last-Modified": format_datetime(_NOW, usegmt=True),
        }


class Gcs:
    """One bucket; whoever asks must bring the token."""

    def __init__(self, bucket: str, token: str) -> None:
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self._bucket = bucket
        self._token = token
        self._numbers = itertools.count(1)
        self._lock = Lock()

    def __call__(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if headers.get("authorization") != f"Bearer {self._token}":
            return error(401, "AuthenticationRequired")
        parts = urlsplit(request.path)
        bucket, _, name = parts.path.removeprefix("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if bucket != self._bucket:
            return error(404, "NoSuchBucket")
        with self._lock:
            if not name:
                return self._list(query)
            return self._object(request, unquote(name), headers, query)

    def _object(
        self, request: Request, name: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> Answer:
        if "uploads" in query or "uploadId" in query:
            return self._upload(request, name, headers, query)
        if request.method == "PUT":
            data = request.body
            kind = headers.get("content-type", "")
            if "x-goog-copy-source" in headers:
                source = self.objects.get(unquote(headers["x-goog-copy-source"]).partition("/")[2])
                if source is None:
                    return error(404, "NoSuchKey")
                data, kind = source.data, source.kind
            return self._put(name, data, kind, headers.get("x-goog-if-generation-match"))
        found = self.objects.get(name)
        if found is None:
            return error(404, "NoSuchKey")
        if request.method == "DELETE":
            del self.objects[name]
            return Answer(204)
        if headers.get("if-match", found.headers["ETag"]) != found.headers["ETag"]:
            return error(412, "PreconditionFailed")
        if request.method == "HEAD":
            return Answer(200, b"", {**found.headers, "Content-Length": str(len(found.data))})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if not wanted:
            return Answer(200, found.data, found.headers)
        piece = found.data[int(wanted[1]) : int(wanted[2]) + 1]
        place = f"bytes {wanted[1]}-{int(wanted[1]) + len(piece) - 1}/{len(found.data)}"
        return Answer(206, piece, {**found.headers, "Content-Range": place})

    def _put(self, name: str, data: bytes, kind: str, generation: str | None = None) -> Answer:
        there = self.objects.get(name)
        if generation is not None and int(generation) != (there.generation if there else 0):
            return error(412, "PreconditionFailed")
        self.objects[name] = _Object(data, kind, next(self._numbers))
        return Answer(200, b"<CopyObjectResult/>", self.objects[name].headers)

    def _upload(
        self, request: Request, name: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> Answer:
        if "uploads" in query:
            upload = f"{next(self._numbers)} {headers.get('content-type', '')}"
            self.uploads[upload] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
        pieces = self.uploads.get(query["uploadId"])
        if pieces is None:
            return error(404, "NoSuchUpload")
        if request.method == "PUT":
            pieces[int(query["partNumber"])] = request.body
            return Answer(200, b"", {"ETag": f'"{query["partNumber"]}"'})
        del self.uploads[query["uploadId"]]
        if request.method == "DELETE":
            return Answer(204)
        made = self._put(
            name, b"".join(pieces[n] for n in sorted(pieces)), query["uploadId"].partition(" ")[2]
        )
        etag = made.headers["ETag"]
        body = f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
        return Answer(200, body.encode(), {**made.headers, "Content-Type": "application/xml"})

    def _list(self, query: Mapping[str, str]) -> Answer:
        after = query.get("continuation-token", "")
        names = sorted(
            name for name in self.objects if name.startswith(query.get("prefix", "")) and name > after
        )
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name].data)}</Size>"
            f"<ETag>{escape(self.objects[name].headers['ETag'])}</ETag>"
            f"<LastModified>{_NOW.isoformat().replace('+00:00', 'Z')}</LastModified></Contents>"
            for name in names[:_PAGE]
        )
        more = (
            f"<NextContinuationToken>{escape(names[_PAGE - 1])}</NextContinuationToken>"
            if names[_PAGE:]
            else ""
        )
        return _xml(f"<ListBucketResult>{contents}{more}</ListBucketResult>")


def _xml(text: str) -> Answer:
    return Answer(200, f"<?xml version='1.0'?>{text}".encode(), {"Content-Type": "application/xml"})


@contextmanager
def gcs_server(bucket: str, token: str) -> Iterator[Relay]:
    """The server on a free port; `answer` of the relay may be wrapped to put faults in between."""
    with relay() as server:
        server.answer = Gcs(bucket, token)
        yield server
