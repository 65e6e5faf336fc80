"""Gemini's webhooks of one project: created, listed, changed, tested, given new secrets.

Paths, fields and values are those of the official `google-genai` SDK 3.4 (`client.webhooks`), the version in
the path is the API reference's. Fields are snake_case here and camelCase in the rest of the API: answers are
understood in both.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from workers.errors import GeminiUnavailable, Permanent
from workers.gemini.access import Secret
from workers.gemini.http import Http
from workers.gemini.paging import listed
from workers.gemini.spool import Mapped
from workers.gemini.statuses import About

BATCH_EVENTS = ("batch.succeeded", "batch.failed", "batch.expired")
ENABLED = "enabled"
DISABLED_FOR_FAILURES = "disabled_due_to_failed_deliveries"

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_ALL = "/v1beta/webhooks"
_PAGE_SIZE = 50


class SigningSecret(msgspec.Struct, frozen=True):
    """A secret as Gemini lists it. `expire_time` is set once a rotation has replaced it."""

    truncated_secret: str = ""
    expire_time: datetime | None = None

    @property
    def expiry(self) -> datetime:
        expiry = self.expire_time or _NEVER
        return expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as Gemini lists it.

    `state` is `enabled`, `disabled` or `disabled_due_to_failed_deliveries`.
    """

    id: str
    uri: str
    name: str = ""
    subscribed_events: list[str] = []
    state: str = ENABLED
    signing_secrets: list[SigningSecret] = []
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def enabled(self) -> bool:
        return self.state.lower() == ENABLED

    @property
    def disabled_for_failures(self) -> bool:
        return self.state.lower() == DISABLED_FOR_FAILURES


class _CreatedWebhook(Webhook, frozen=True, kw_only=True):
    new_signing_secret: str = ""


class _Page(msgspec.Struct, frozen=True):
    webhooks: list[Webhook] = []
    next_page_token: str = ""


class _Rotated(msgspec.Struct, frozen=True):
    secret: str = ""


class _Empty(msgspec.Struct, frozen=True):
    pass


Answer = TypeVar("Answer", bound=msgspec.Struct)


class Webhooks:
    """The calls. Every one raises `WorkerError`, whose message is one sentence for a person."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, uri: str, events: Sequence[str], name: str | None) -> tuple[Webhook, Secret]:
        """A new webhook and its secret, which Gemini never shows again."""
        body = {"uri": uri, "subscribed_events": list(events)} | ({"name": name} if name else {})
        created = self._call("POST", _ALL, _CreatedWebhook, body=body)
        if not created.new_signing_secret:
            raise Permanent(f"Gemini created {created.id} but sent no secret: rotate it.")
        shown = {field: getattr(created, field) for field in Webhook.__struct_fields__}
        return Webhook(**shown), Secret(created.new_signing_secret)

    def list(self) -> Iterator[Webhook]:
        """All webhooks of the project, page by page."""

        def fetch(token: str) -> tuple[Iterator[Webhook], str]:
            params = {"page_size": str(_PAGE_SIZE)} | ({"page_token": token} if token else {})
            page = self._call("GET", _ALL, _Page, params=params, about=About.LIST)
            return iter(page.webhooks), page.next_page_token

        return listed("webhooks", fetch)

    def get(self, webhook_id: str) -> Webhook:
        return self._call("GET", _path(webhook_id), Webhook)

    def update(self, webhook_id: str, changes: Mapping[str, Any]) -> Webhook:
        """Change the fields named in `changes` (`subscribed_events`, `state`, `name`) and no others."""
        params = {"update_mask": ",".join(changes)}
        return self._call("PATCH", _path(webhook_id), Webhook, params=params, body=dict(changes))

    def enable(self, webhook_id: str) -> None:
        """Have Gemini deliver to it again."""
        params = {"update_mask": "state"}
        self._call("PATCH", _path(webhook_id), _Empty, params=params, body={"state": ENABLED})

    def delete(self, webhook_id: str) -> None:
        self._call("DELETE", _path(webhook_id), _Empty)

    def ping(self, webhook_id: str) -> None:
        """Have Gemini send a test event to the webhook's URL."""
        self._call("POST", f"{_path(webhook_id)}:ping", _Empty, body={})

    def rotate(self, webhook_id: str, *, revoke_now: bool) -> Secret:
        """A new secret; the ones before it stay valid for 24 hours unless they are revoked now."""
        behavior = "revoke_previous_secrets_" + ("immediately" if revoke_now else "after_h24")
        path = f"{_path(webhook_id)}:rotateSigningSecret"
        rotated = self._call("POST", path, _Rotated, body={"revocation_behavior": behavior})
        if not rotated.secret:
            raise Permanent("Gemini rotated the secret but sent none: rotate again.")
        return Secret(rotated.secret)

    def _call(
        self,
        method: str,
        path: str,
        answer: type[Answer],
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        about: About = About.WEBHOOK,
    ) -> Answer:
        content = self._http.call(method, path, about, params=params, body=body)
        try:
            if isinstance(content, Mapped):
                raise msgspec.DecodeError("larger than any webhook")
            return msgspec.convert(_snake_case(msgspec.json.decode(content or b"{}")), answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # The original error may quote a secret out of the answer.
            raise GeminiUnavailable("Gemini's answer was not understood.") from None


def same_url(one: str, other: str) -> bool:
    """Whether two addresses are one, whatever the case of the host and whether the usual port is written."""
    try:
        return httpx.URL(one) == httpx.URL(other)
    except httpx.InvalidURL:
        return one == other


def signs_with(webhook: Webhook, secrets: Iterable[Secret]) -> bool:
    """Whether `secrets` hold what Gemini goes on signing with: of those listed, the last to expire."""
    latest = max((each.expiry for each in webhook.signing_secrets), default=None)
    current = [each.truncated_secret for each in webhook.signing_secrets if each.expiry == latest]
    return any(secret.is_shown_as(shortened) for secret in secrets for shortened in current)


def _path(webhook_id: str) -> str:
    return f"{_ALL}/{quote(webhook_id.removeprefix('webhooks/'), safe='')}"


def _snake_case(value: Any) -> Any:
    """JSON with its field names in snake_case; fields that are null count as missing."""
    if isinstance(value, dict):
        return {
            re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower(): _snake_case(field)
            for name, field in value.items()
            if field is not None
        }
    if isinstance(value, list):
        return [_snake_case(element) for element in value]
    return value
