"""Reading a request's body within a size and a time."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from receiver.errors import BodyTooLarge, BodyTooSlow, ClientGone


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The raw body, never more than `max_bytes` of it in memory beyond one network read.

    Raises:
        BodyTooLarge: announced or sent more than `max_bytes`; the rest is not read.
        BodyTooSlow: not complete after `seconds`.
        ClientGone: the connection was closed halfway.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise BodyTooLarge("announced too large a body")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise BodyTooLarge("sent too large a body")
    except TimeoutError:
        raise BodyTooSlow("body not complete in time") from None
    except ClientDisconnect:
        raise ClientGone("connection closed before the body's end") from None
    return bytes(body)
