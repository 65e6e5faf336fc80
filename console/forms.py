"""What a form sends: names and values, each name once."""

from urllib.parse import parse_qsl

from starlette.requests import Request

_MOST_BYTES = 64 << 10


async def form(request: Request) -> dict[str, str]:
    """The fields of a form; what is too long, or is none, counts as empty."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode("utf-8"), max_num_fields=50))
    except ValueError:
        return {}
