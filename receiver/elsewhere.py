"""Requests for what nobody asked us to serve. A genuine delivery among them has been sent to another path than ours."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus

from redis import Redis
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver import logs
from receiver.bodies import read_body
from receiver.deadlines import BODY_SECONDS
from receiver.errors import Refusal
from receiver.signatures import Verify
from workers.contract.history import elsewhere
from workers.contract.redis_words import in_words

_MAX_SHOWN_CHARACTERS = 80
_PAUSE_SECONDS = 1.0


class Notes:
    """Writes into Redis what came elsewhere, at most once a second, and never keeps anybody waiting."""

    def __init__(self, connection: Redis, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._unsaid = 0
        self._path = ""
        self._task: asyncio.Task[None] | None = None

    def add(self, path: str) -> None:
        self._unsaid += 1
        self._path = path
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._unsaid:
            count, self._unsaid = self._unsaid, 0
            try:
                await asyncio.to_thread(elsewhere.note, self._connection, self._prefix, count, self._path)
            except (RedisError, OSError) as error:
                logs.warning("not_noted", reason=in_words(error))
            await asyncio.sleep(_PAUSE_SECONDS)


class NoSuchThing:
    """Answers what is not served. Other paths are logged, and noted where the delivery proves to be Gemini's."""

    def __init__(self, known: Callable[[], Iterable[tuple[Verify, Notes]]], max_body_bytes: int) -> None:
        """`known`: how each project's deliveries are known, and where they are noted."""
        self._known = known
        self._max_body_bytes = max_body_bytes
        self._elsewhere = logs.Flood("not_found")

    async def __call__(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 404:
            path = str(request.scope["path"])
            self._elsewhere.note(f"{request.method} {path}"[:_MAX_SHOWN_CHARACTERS])
            for notes in await self._of_whom(request):
                notes.add(path)
        word = HTTPStatus(error.status_code).phrase.lower()
        return Response(
            f'{{"status":"{word}"}}', error.status_code, error.headers, media_type="application/json"
        )

    async def _of_whom(self, request: Request) -> list[Notes]:
        """Of the first project whose Gemini signed it; empty where none did."""
        if request.method != "POST" or "webhook-signature" not in request.headers:
            return []
        try:
            body = await read_body(request.scope, request.receive, self._max_body_bytes, BODY_SECONDS)
        except Refusal:
            return []
        for verify, notes in self._known():
            with suppress(Refusal):
                await verify(request.scope["headers"], body, time.time())
                return [notes]
        return []
