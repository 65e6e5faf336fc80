"""The part of Gemini's API that registers webhooks: a small client, and what it needs to know.

Paths, fields and values are those of the official `google-genai` SDK 3.4 (`client.webhooks`), the version in
the path is the API reference's. Fields are snake_case here and camelCase in the rest of the API: answers are
understood in both.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from receiver.errors import ReceiverError
from receiver.registration.gemini_access import Access
from receiver.registration.secret_file import Secret

ENABLED = "enabled"

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_VERSION = "v1beta"
_PAGE_SIZE = 50
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_MESSAGE_CHARACTERS = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class GeminiError(ReceiverError):
    """A call failed; the message is one sentence for a person, without the API key.

    `status` is the HTTP status of Gemini's answer, None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


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

    def signs_with(self, secrets: Iterable[Secret]) -> bool:
        """Whether `secrets` hold what Gemini goes on signing with: of those listed, the last to expire."""
        latest = max((each.expiry for each in self.signing_secrets), default=None)
        current = [each.truncated_secret for each in self.signing_secrets if each.expiry == latest]
        return any(secret.is_shown_as(shortened) for secret in secrets for shortened in current)


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


class GeminiWebhooks:
    """Gemini's webhooks of one project. Close it, or use it in a `with`.

    Every method raises `GeminiError`. Redirects are refused, since they would carry the key elsewhere.
    """

    def __init__(self, access: Access) -> None:
        self._api_key = access.api_key
        self._client = httpx.Client(
            base_url=f"{access.base_url}/{_VERSION}/",
            headers={"x-goog-api-key": access.api_key},
            timeout=_TIMEOUT,
            follow_redirects=False,
            # The environment's proxies are for the network, not for an emulator on this machine.
            trust_env=access.base_url.startswith("https:"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def create(self, uri: str, events: Sequence[str], name: str | None) -> tuple[Webhook, Secret]:
        """A new webhook and its secret, which Gemini never shows again."""
        body = {"uri": uri, "subscribed_events": list(events)} | ({"name": name} if name else {})
        created = self._call("POST", "webhooks", _CreatedWebhook, body=body)
        if not created.new_signing_secret:
            raise GeminiError(f"Gemini created {created.id} but sent no secret: rotate it.")
        shown = {field: getattr(created, field) for field in Webhook.__struct_fields__}
        return Webhook(**shown), Secret(created.new_signing_secret)

    def list(self) -> Iterator[Webhook]:
        """All webhooks of the project, page by page."""
        token, seen = "", set[str]()
        while True:
            params = {"page_size": str(_PAGE_SIZE)} | ({"page_token": token} if token else {})
            page = self._call("GET", "webhooks", _Page, params=params)
            yield from page.webhooks
            token = page.next_page_token
            if not token:
                return
            if token in seen:
                raise GeminiError("Gemini's list of webhooks does not end: it repeats a page.")
            seen.add(token)

    def get(self, webhook_id: str) -> Webhook:
        return self._call("GET", _path(webhook_id), Webhook)

    def update(self, webhook_id: str, changes: Mapping[str, Any]) -> Webhook:
        """Change the fields named in `changes` (`subscribed_events`, `state`, `name`) and no others."""
        params = {"update_mask": ",".join(changes)}
        return self._call("PATCH", _path(webhook_id), Webhook, params=params, body=dict(changes))

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
            raise GeminiError("Gemini rotated the secret but sent none: rotate again.")
        return Secret(rotated.secret)

    def _call(
        self,
        method: str,
        path: str,
        answer: type[Answer],
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        try:
            response = self._client.request(method, path, params=params, json=body)
        except httpx.TimeoutException as error:
            raise GeminiError("Gemini did not answer in time: try again.") from error
        except httpx.HTTPError as error:
            reason = self._printable(str(error)) or type(error).__name__
            raise GeminiError(f"Gemini could not be reached: {reason}.") from error
        if not response.is_success:
            raise GeminiError(self._sentence(response), response.status_code)
        try:
            content = msgspec.json.decode(response.content or b"{}")
            return msgspec.convert(_snake_case(content), answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # The original error may quote a secret out of the answer.
            raise GeminiError("Gemini's answer was not understood.", response.status_code) from None

    def _sentence(self, response: httpx.Response) -> str:
        status = response.status_code
        said = self._error_message(response)
        quoted = f": {said.rstrip('.')}." if said else "."
        # An unknown key is a 400 of this reason, one that lacks a permission a 403.
        if status == 400 and b"API_KEY_INVALID" in response.content:
            return f"Gemini refused the API key (400){quoted}"
        match status:
            case 401 | 403:
                return f"Gemini refused the API key ({status}){quoted}"
            case 404:
                return f"Gemini knows no such webhook (404){quoted}"
            case 409:
                return f"Gemini refused it as a conflict with what exists (409){quoted}"
            case 429:
                return f"Gemini's rate limit is reached (429): try again later{quoted}"
            case _ if status >= 500:
                return f"Gemini is in trouble ({status}): try again later{quoted}"
            case _ if status < 400:
                return f"Gemini's address redirects ({status}): check GOOGLE_GEMINI_BASE_URL."
            case _:
                return f"Gemini refused the call ({status}){quoted}"

    def _error_message(self, response: httpx.Response) -> str:
        try:
            return self._printable(str(response.json()["error"]["message"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""

    def _printable(self, text: str) -> str:
        return _UNPRINTABLE.sub(" ", text.replace(self._api_key, "***")).strip()[:_MESSAGE_CHARACTERS]


def _path(webhook_id: str) -> str:
    return f"webhooks/{quote(webhook_id.removeprefix('webhooks/'), safe='')}"


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
