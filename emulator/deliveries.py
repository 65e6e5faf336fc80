"""The courier: carries events to webhooks until they are taken, and remembers every attempt.

At least once, in any order, with the same `webhook-id` and body on every attempt and a fresh timestamp. It
goes to loopback addresses only: a local Gemini must not be able to call the world.
"""

import asyncio
import ipaddress
import json
import logging
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from emulator import wire
from emulator.events import ping_event
from emulator.faults import Faults
from emulator.settings import Settings
from emulator.signing import Keys, sign_v1
from emulator.webhooks import DISABLED_FOR_FAILURES, ENABLED, Webhook, Webhooks

logger = logging.getLogger("emulator")

STATIC = "v1"
ED25519 = "v1a"
JWT = "jwt"

_AT_ONCE = 64

PENDING = "pending"
DELIVERED = "delivered"
GIVEN_UP = "given_up"
REFUSED = "refused"


@dataclass(slots=True)
class Attempt:
    """`status` is None when no answer came, and `error` says why; `seconds` is how long it took."""

    at: str
    headers: dict[str, str]
    seconds: float = 0
    status: int | None = None
    answer: str = ""
    error: str | None = None

    def was_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Delivery:
    id: str
    url: str
    signature: str
    event: dict[str, Any]
    webhook: str | None = None
    audience: str | None = None
    state: str = PENDING
    attempts: list[Attempt] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Courier:
    def __init__(self, settings: Settings, webhooks: Webhooks, faults: Faults) -> None:
        self.keys = Keys()
        self.deliveries: list[Delivery] = []
        self._settings = settings
        self._webhooks = webhooks
        self._faults = faults
        # No proxy's way, but a certificate that SSL_CERT_FILE vouches for: a receiver may be tried with its own TLS.
        trusted = ssl.create_default_context()
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=trusted)
        # httpx's own queue for connections takes quadratic time: 2,000 deliveries at once stood still in it.
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def announce(self, event: Mapping[str, Any]) -> list[Delivery]:
        """Send an event to every enabled webhook that subscribed to it."""
        return [
            self._send(webhook.uri, STATIC, event, webhook=webhook)
            for webhook in self._webhooks
            if webhook.wants(str(event.get("type")))
        ]

    def announce_to(
        self,
        uris: Iterable[str],
        event: Mapping[str, Any],
        *,
        signature: str | None = None,
        audience: str | None = None,
    ) -> list[Delivery]:
        """Send an event to the addresses that a job named, signed as `v1a` or `jwt`."""
        signature = signature or self._settings.dynamic_signature
        return [self._send(uri, signature, event, audience=audience) for uri in uris]

    def ping(self, webhook: Webhook) -> Delivery:
        """Send a test event, whatever the webhook's state and events are."""
        return self._send(webhook.uri, STATIC, ping_event(webhook.id), webhook=webhook)

    def rotate_keys(self) -> None:
        """New keys in the JWKS, and none of the old ones."""
        self.keys = Keys()

    async def clear(self) -> None:
        """Forget every delivery and stop carrying any."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.deliveries.clear()

    async def close(self) -> None:
        await self.clear()
        await self._client.aclose()

    def _send(
        self,
        url: str,
        signature: str,
        event: Mapping[str, Any],
        *,
        webhook: Webhook | None = None,
        audience: str | None = None,
    ) -> Delivery:
        delivery = Delivery(
            f"evt_{wire.new_id(24)}", url, signature, dict(event), webhook.id if webhook else None, audience
        )
        self.deliveries.append(delivery)
        if not _is_loopback(url):
            delivery.state = REFUSED
            logger.warning(
                "emulator: %s is told nothing, as deliveries go to this machine only", json.dumps(url[:200])
            )
            return delivery
        extra = self._faults.take("duplicate", f"DELIVER {url}")
        for _ in range(1 + int(extra.value if extra else 0)):
            task = asyncio.create_task(self._carry(delivery, webhook))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return delivery

    async def _carry(self, delivery: Delivery, webhook: Webhook | None) -> None:
        began = time.monotonic()
        pause = self._settings.retry_first_seconds
        body = json.dumps(delivery.event).encode()
        while not (await self._attempt(delivery, webhook, body)).was_taken():
            if time.monotonic() + pause - began > self._settings.give_up_seconds:
                delivery.state = GIVEN_UP
                if webhook and webhook.state == ENABLED:
                    webhook.state = DISABLED_FOR_FAILURES
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.retry_max_seconds)
        delivery.state = DELIVERED

    async def _attempt(self, delivery: Delivery, webhook: Webhook | None, body: bytes) -> Attempt:
        delay = self._faults.take("delay", f"DELIVER {delivery.url}")
        if delay:
            await asyncio.sleep(delay.value)
        async with self._slots:
            attempt = await self._post(delivery, webhook, body)
        delivery.attempts.append(attempt)
        return attempt

    async def _post(self, delivery: Delivery, webhook: Webhook | None, body: bytes) -> Attempt:
        seconds = int(time.time())
        attempt = Attempt(
            wire.timestamp(wire.now()),
            {
                "content-type": "application/json",
                "webhook-id": delivery.id,
                "webhook-timestamp": str(seconds),
                "webhook-signature": self._signature(delivery, webhook, seconds, body),
            },
        )
        began = time.monotonic()
        try:
            response = await self._client.post(
                delivery.url,
                content=body,
                headers=attempt.headers,
                timeout=self._settings.delivery_timeout_seconds,
            )
        except httpx.HTTPError as error:
            attempt.error = f"{type(error).__name__}: {error}"
        else:
            attempt.status = response.status_code
            attempt.answer = response.text[:1000]
        attempt.seconds = time.monotonic() - began
        return attempt

    def _signature(self, delivery: Delivery, webhook: Webhook | None, seconds: int, body: bytes) -> str:
        if webhook:
            return " ".join(sign_v1(secret, delivery.id, seconds, body) for secret in webhook.live_secrets())
        if delivery.signature == JWT:
            audience = delivery.audience or self._settings.audience or delivery.url
            return self.keys.sign_jwt(delivery.event, audience, delivery.id, seconds)
        return self.keys.sign_v1a(delivery.id, seconds, body)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
