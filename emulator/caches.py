"""Cached contents: created once, then named by requests, which count its tokens as cached."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import wire
from emulator.answers import count_tokens
from emulator.errors import ApiError, bad_request

_LIFETIME = timedelta(hours=1)
_PAGE_SIZE = 50
_TTL = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(slots=True)
class Cached:
    id: str
    order: int
    model: str
    tokens: int
    display_name: str | None
    expires: datetime
    created: datetime = field(default_factory=wire.now)
    updated: datetime = field(default_factory=wire.now)

    @property
    def name(self) -> str:
        return f"cachedContents/{self.id}"

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": self.name,
            "model": self.model,
            "createTime": wire.timestamp(self.created),
            "updateTime": wire.timestamp(self.updated),
            "expireTime": wire.timestamp(self.expires),
            "usageMetadata": {"totalTokenCount": self.tokens},
        }
        return {**document, "displayName": self.display_name} if self.display_name else document


class Caches:
    def __init__(self) -> None:
        self._caches: dict[str, Cached] = {}
        self._order = itertools.count()

    def __iter__(self) -> Iterator[Cached]:
        return (each for each in list(self._caches.values()) if each.expires > wire.now())

    def create(self, body: Mapping[str, Any]) -> Cached:
        """Raises ApiError (400) for a body without a model or content, or with a lifetime that can't be read."""
        model = str(body.get("model") or "")
        tokens = count_tokens(body)
        if not model.startswith("models/"):
            raise bad_request("model is required, in the form of models/{model}.")
        if not tokens:
            raise bad_request("Cached content is empty: contents or system_instruction is required.")
        cached = Cached(
            wire.new_id(20),
            next(self._order),
            model,
            tokens,
            wire.field(body, "displayName"),
            _expiry(body) or wire.now() + _LIFETIME,
        )
        self._caches[cached.id] = cached
        return cached

    def get(self, cache_id: str) -> Cached:
        """Raises ApiError: 403, as Gemini says of one that is not there or has expired."""
        found = self._caches.get(cache_id)
        if found is None or found.expires <= wire.now():
            raise ApiError(403, "CachedContent not found (or permission denied)")
        return found

    def tokens(self, request: Mapping[str, Any]) -> int:
        """Of the cached content that a GenerateContentRequest names, 0 if it names none. Raises ApiError: see `get`."""
        name = wire.field(request, "cachedContent")
        return self.get(str(name).removeprefix("cachedContents/")).tokens if name else 0

    def prolong(self, cache_id: str, body: Mapping[str, Any]) -> Cached:
        """Raises ApiError: see `get`, and 400 for anything but a new lifetime."""
        cached = self.get(cache_id)
        expires = _expiry(body)
        if expires is None:
            raise bad_request("Only ttl or expire_time can be updated.")
        cached.expires, cached.updated = expires, wire.now()
        return cached

    def delete(self, cache_id: str) -> None:
        """Raises ApiError: see `get`."""
        del self._caches[self.get(cache_id).id]

    def clear(self) -> None:
        self._caches.clear()


def _expiry(body: Mapping[str, Any]) -> datetime | None:
    ttl, moment = body.get("ttl"), wire.field(body, "expireTime")
    try:
        if ttl is not None and (found := _TTL.fullmatch(str(ttl))):
            return wire.now() + timedelta(seconds=float(found[1]))
        if ttl is None:
            return wire.moment(str(moment)) if moment else None
    except (ValueError, OverflowError):
        pass
    raise bad_request('A lifetime is a ttl like "300s" or an RFC 3339 expire_time.')


def cache_routes(caches: Caches) -> list[Route]:
    """The calls below the version."""

    async def create(request: Request) -> Response:
        return JSONResponse(caches.create(await wire.read_object(request)).to_json())

    async def list_(request: Request) -> Response:
        query = request.query_params
        shown, token = wire.page(
            caches,
            lambda cached: [cached.order],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=_PAGE_SIZE,
        )
        document: dict[str, Any] = {"cachedContents": [each.to_json() for each in shown]}
        return JSONResponse({**document, "nextPageToken": token} if token else document)

    async def get(request: Request) -> Response:
        return JSONResponse(caches.get(request.path_params["id"]).to_json())

    async def update(request: Request) -> Response:
        body = await wire.read_object(request)
        return JSONResponse(caches.prolong(request.path_params["id"], body).to_json())

    async def delete(request: Request) -> Response:
        caches.delete(request.path_params["id"])
        return JSONResponse({})

    return [
        Route("/cachedContents", list_, methods=["GET"]),
        Route("/cachedContents", create, methods=["POST"]),
        Route("/cachedContents/{id}", get, methods=["GET"]),
        Route("/cachedContents/{id}", update, methods=["PATCH"]),
        Route("/cachedContents/{id}", delete, methods=["DELETE"]),
    ]
