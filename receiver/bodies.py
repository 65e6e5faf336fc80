"""Reading a request's body within a size and a time."""

import asyncio

from starlette.types import Receive, Scope

from receiver.errors import BodyTooLarge, BodyTooSlow, ClientGone


async def read_body(scope: Scope, receive: Receive, max_bytes: int, seconds: float) -> bytes:
    """The raw body, never more than `max_bytes` of it in memory beyond one network read.

    Raises:
        BodyTooLarge: announced or sent more than `max_bytes`; the rest is not read.
        BodyTooSlow: not complete after `seconds`.
        ClientGone: the connection was closed halfway.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
            raise BodyTooLarge("announced too large a body")
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, max_bytes)
    except TimeoutError:
        raise BodyTooSlow("body not complete in time") from None


async def _read(receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("connection closed before the body's end")
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise BodyTooLarge("sent too large a body")
        more = message.get("more_body", False)
    return bytes(body)
