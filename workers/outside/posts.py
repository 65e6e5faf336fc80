"""One request to an address that an operator has named. Addresses may hold a token: they are in no error."""

from datetime import UTC, datetime

import httpx
from standardwebhooks.webhooks import Webhook

from workers.errors import Transient

_LIMITS = httpx.Timeout(30.0, connect=10.0)


class NotTaken(Transient):
    """It did not answer, or not with a 2xx."""


def post_signed(url: str, secret: str, identity: str, body: str) -> None:
    """One POST of JSON, signed as Standard Webhooks says; no redirect is followed.

    Raises:
        NotTaken: with the status, or what kept us from one.
    """
    moment = datetime.now(UTC)  # `sign` takes any other zone's clock for UTC's
    headers = {
        "content-type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, moment, body),
    }
    _ask("POST", url, "NOTIFY_URL", headers=headers, content=body.encode())


def fetch(url: str) -> None:
    """One GET, for its effect. Raises `NotTaken`."""
    _ask("GET", url, "HEARTBEAT_URL", headers={}, content=None)


def _ask(method: str, url: str, setting: str, *, headers: dict[str, str], content: bytes | None) -> None:
    client = httpx.Client(timeout=_LIMITS, follow_redirects=False, trust_env=url.startswith("https:"))
    try:
        # What it says is not read: it may be endless.
        with client, client.stream(method, url, headers=headers, content=content) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotTaken(f"{setting} could not be reached ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        raise NotTaken(f"{setting} answered with status {status}.")
