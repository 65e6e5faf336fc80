"""The WebhookService: subscriptions, their secrets, and the rotation of these.

Its JSON is snake_case, other than the rest of the API.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import wire
from emulator.errors import ApiError, bad_request, not_found
from emulator.signing import new_secret, truncated

ENABLED = "enabled"
DISABLED = "disabled"
DISABLED_FOR_FAILURES = "disabled_due_to_failed_deliveries"

_STATES = (ENABLED, DISABLED, DISABLED_FOR_FAILURES)
_UPDATABLE = ("name", "uri", "subscribed_events", "state")
_OVERLAP = timedelta(hours=24)
_PAGE_SIZE = 50
_EVENT = re.compile(r"batch\.(?:succeeded|failed|expired)|interaction\.[a-z_]+|video\.generated")


@dataclass(slots=True)
class Secret:
    value: str
    expire_time: datetime | None = None

    def is_live(self) -> bool:
        return self.expire_time is None or self.expire_time > wire.now()


@dataclass(slots=True)
class Webhook:
    id: str
    order: int
    uri: str
    subscribed_events: list[str]
    name: str | None
    secrets: list[Secret]
    state: str = ENABLED
    create_time: datetime = field(default_factory=wire.now)
    update_time: datetime = field(default_factory=wire.now)

    def wants(self, event: str) -> bool:
        return self.state == ENABLED and event in self.subscribed_events

    def live_secrets(self) -> list[str]:
        """Newest first: two during a rotation."""
        return [secret.value for secret in self.secrets if secret.is_live()]

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": self.id,
            "uri": self.uri,
            "subscribed_events": self.subscribed_events,
            "state": self.state,
            "signing_secrets": [_secret_json(secret) for secret in self.secrets if secret.is_live()],
            "create_time": wire.timestamp(self.create_time),
            "update_time": wire.timestamp(self.update_time),
        }
        return {**document, "name": self.name} if self.name is not None else document


def _secret_json(secret: Secret) -> dict[str, str]:
    document = {"truncated_secret": truncated(secret.value)}
    if secret.expire_time is not None:
        document["expire_time"] = wire.timestamp(secret.expire_time)
    return document


class Webhooks:
    def __init__(self) -> None:
        self._webhooks: dict[str, Webhook] = {}
        self._order = itertools.count()

    def __iter__(self) -> Iterator[Webhook]:
        return iter(list(self._webhooks.values()))

    def create(self, body: Mapping[str, Any], webhook_id: str | None = None) -> Webhook:
        """Raises ApiError: 400 for a body that lacks something, 409 for an id in use."""
        if webhook_id in self._webhooks:
            raise ApiError(409, f"Webhook {webhook_id} already exists.")
        values = _checked({"uri": None, "subscribed_events": None, **_known(body)})
        webhook = Webhook(
            id=webhook_id or wire.new_id(24),
            order=next(self._order),
            uri=values["uri"],
            subscribed_events=values["subscribed_events"],
            name=values.get("name"),
            secrets=[Secret(new_secret())],
        )
        self._webhooks[webhook.id] = webhook
        return webhook

    def get(self, webhook_id: str) -> Webhook:
        """Raises ApiError (404) when there is none."""
        try:
            return self._webhooks[webhook_id]
        except KeyError:
            raise not_found() from None

    def update(self, webhook_id: str, body: Mapping[str, Any], mask: str | None) -> Webhook:
        """Change the fields that the mask names, or without a mask those that the body has.

        Raises:
            ApiError: 404, or 400 for a field or value that can't be.
        """
        webhook = self.get(webhook_id)
        values = _known(body)
        if mask:
            names = [name.strip() for name in mask.split(",")]
            unknown = set(names) - set(_UPDATABLE)
            if unknown:
                raise bad_request(f"Invalid update_mask: {', '.join(sorted(unknown))}.")
            values = {name: values.get(name) for name in names}
        for name, value in _checked(values).items():
            setattr(webhook, name, value)
        webhook.update_time = wire.now()
        return webhook

    def delete(self, webhook_id: str) -> None:
        self.get(webhook_id)
        del self._webhooks[webhook_id]

    def clear(self) -> None:
        self._webhooks.clear()

    def rotate(self, webhook_id: str, behavior: str) -> str:
        """A new secret, first in line. The old ones live on for 24 hours, or end at once.

        Raises:
            ApiError: 404, or 400 for a behaviour that does not exist.
        """
        webhook = self.get(webhook_id)
        match behavior.lower():
            case "revoke_previous_secrets_immediately":
                webhook.secrets = []
            case "revoke_previous_secrets_after_h24" | "":
                end = wire.now() + _OVERLAP
                for secret in webhook.secrets:
                    secret.expire_time = min(secret.expire_time or end, end)
            case _:
                raise bad_request(f"Invalid revocation_behavior: {behavior}.")
        webhook.secrets.insert(0, Secret(new_secret()))
        webhook.update_time = wire.now()
        return webhook.secrets[0].value


def _known(body: Mapping[str, Any]) -> dict[str, Any]:
    known = {"name": "name", "uri": "uri", "subscribed_events": "subscribedEvents", "state": "state"}
    values = {name: wire.field(body, camel) for name, camel in known.items()}
    return {name: value for name, value in values.items() if value is not None}


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    if "uri" in values and not str(values["uri"] or "").startswith(("https://", "http://")):
        raise bad_request("uri must be an http(s) address.")
    if "subscribed_events" in values:
        events = values["subscribed_events"]
        if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
            raise bad_request("subscribed_events must name at least one event.")
        unknown = [event for event in events if not _EVENT.fullmatch(event)]
        if unknown:
            raise bad_request(f"Invalid value at 'subscribed_events': {', '.join(unknown)}.")
    if "state" in values and values["state"] not in _STATES:
        raise bad_request(f"state must be one of {', '.join(_STATES)}.")
    return values


def webhook_routes(webhooks: Webhooks, ping: Callable[[Webhook], object]) -> list[Route]:
    """The service's routes below the version; `ping` sends a test event to a webhook."""

    async def create(request: Request) -> Response:
        webhook = webhooks.create(await wire.read_object(request), request.query_params.get("webhook_id"))
        return JSONResponse({**webhook.to_json(), "new_signing_secret": webhook.secrets[0].value})

    async def list_(request: Request) -> Response:
        query = request.query_params
        shown, token = wire.page(
            webhooks,
            lambda webhook: [webhook.order],
            size=wire.field(query, "pageSize"),
            token=wire.field(query, "pageToken"),
            default=_PAGE_SIZE,
        )
        document: dict[str, Any] = {"webhooks": [webhook.to_json() for webhook in shown]}
        return JSONResponse({**document, "next_page_token": token} if token else document)

    async def get(request: Request) -> Response:
        return JSONResponse(webhooks.get(request.path_params["id"]).to_json())

    async def update(request: Request) -> Response:
        mask = wire.field(request.query_params, "updateMask")
        body = await wire.read_object(request)
        return JSONResponse(webhooks.update(request.path_params["id"], body, mask).to_json())

    async def delete(request: Request) -> Response:
        webhooks.delete(request.path_params["id"])
        return JSONResponse({})

    async def test(request: Request) -> Response:
        ping(webhooks.get(request.path_params["id"]))
        return JSONResponse({})

    async def rotate(request: Request) -> Response:
        behavior = wire.field(await wire.read_object(request), "revocationBehavior", "")
        return JSONResponse({"secret": webhooks.rotate(request.path_params["id"], str(behavior))})

    return [
        Route("/webhooks", list_, methods=["GET"]),
        Route("/webhooks", create, methods=["POST"]),
        Route("/webhooks/{id}:ping", test, methods=["POST"]),
        Route("/webhooks/{id}:rotateSigningSecret", rotate, methods=["POST"]),
        Route("/webhooks/{id}", get, methods=["GET"]),
        Route("/webhooks/{id}", update, methods=["PATCH"]),
        Route("/webhooks/{id}", delete, methods=["DELETE"]),
    ]
