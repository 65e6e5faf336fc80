"""The style sheet, the script and the icon: in the package, under paths that carry their hash and never change."""

import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_YEAR = "public, max-age=31536000, immutable"


@cache
def _all() -> dict[str, tuple[str, bytes]]:
    """By name: its path and its bytes."""
    found = {}
    for file in resources.files("console").joinpath("static").iterdir():
        stem, dot, ending = file.name.rpartition(".")
        if f"{dot}{ending}" in _TYPES:
            data = file.read_bytes()
            found[file.name] = (f"/assets/{stem}.{hashlib.sha256(data).hexdigest()[:12]}.{ending}", data)
    return found


def path(name: str) -> str:
    """Where a file of `static/` is served."""
    return _all()[name][0]


async def serve(request: Request) -> Response:
    for name, (where, data) in _all().items():
        if where == request.url.path:
            kind = _TYPES[f".{name.rpartition('.')[2]}"]
            return Response(data, media_type=kind, headers={"cache-control": _YEAR})
    return PlainTextResponse("There is no such file.\n", 404)
