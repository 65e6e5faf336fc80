"""What HTTP asks of a server and uvicorn leaves to the application: odd addresses, and answers that come early."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.bodies import read_body
from receiver.deadlines import LINGER_SECONDS
from receiver.errors import Refusal

# Thrown away after an answer that came first.
MAX_LINGER_BYTES = 1024 * 1024

_CLOSE = (b"connection", b"close")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Edge:
    """Ends the connection after an answer that came before the body's end, and after what is no plain request.

    The answer is sent whole, then what is under way is thrown away for a moment: closing at once would reset the
    connection, and a reset can overtake the answer (RFC 9112, section 9.6).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        is_unread = not names.isdisjoint(_FRAMING)
        # With both framings somebody before us may have read another body (RFC 9112, section 6.1).
        is_last = b"upgrade" in names or names >= _FRAMING

        async def listen() -> Message:
            nonlocal is_unread
            message = await receive()
            is_unread = message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and (is_unread or is_last):
                message = {**message, "headers": [*message["headers"], _CLOSE]}
            elif is_unread and message["type"] == "http.response.body" and not message.get("more_body"):
                await send({**message, "more_body": True})
                with suppress(Refusal, asyncio.CancelledError):
                    await read_body({"headers": []}, listen, MAX_LINGER_BYTES, LINGER_SECONDS)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(_in_origin_form(scope), listen, answer)


def _in_origin_form(scope: Scope) -> Scope:
    """A request for `http://host/path` is one for `/path` (RFC 9112, section 3.2.2)."""
    if not scope["path"].lower().startswith(("http://", "https://")):
        return scope
    with suppress(ValueError):
        return {**scope, "path": urlsplit(scope["path"]).path}
    return scope
